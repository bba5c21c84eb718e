"""Binding requests (STUN, RFC 8489) answered by the signaling server itself, by UDP and TCP, for a
site that has no other STUN server. It learns what every STUN server does: that an address asked.

An answer is at most 44 bytes for a request of 20, so nobody gains much by asking in another's name;
how many there are in a second is bounded all the same.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Any, cast

import ifaddr
from aioice import stun

from .apart import listen
from .proxies import parse_address

PORT = 3478
COOKIE = stun.COOKIE.to_bytes(4, "big")
MAX_REQUEST = 548  # bytes (RFC 8489 6.1, for a path that is not known)
MAX_ANSWERS = 2000  # a second, whoever asks
MAX_CONNECTIONS = 64
ANSWER_SECONDS = 5.0  # for a request by TCP


def answer(request: bytes, address: tuple[Any, ...]) -> bytes | None:
    """What whoever asks from `address` (host, port, ...) is told; None for what is no binding
    request. Never raises."""
    if len(request) > MAX_REQUEST or request[4:8] != COOKIE:
        return None
    try:
        asked = stun.parse_message(request)
    except (ValueError, struct.error):
        return None
    if (asked.message_method, asked.message_class) != (stun.Method.BINDING, stun.Class.REQUEST):
        return None
    told = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, asked.transaction_id)
    told.attributes["XOR-MAPPED-ADDRESS"] = str(parse_address(str(address[0]))), address[1]
    return bytes(told)


class _Answers:
    """How many may still be given in this second."""

    def __init__(self, most: int = MAX_ANSWERS, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = most, clock
        self._second, self._left = 0, most

    def take(self) -> bool:
        """Whether there may be one more; if so, it is counted."""
        if (second := int(self._clock())) != self._second:
            self._second, self._left = second, self._most
        self._left -= 1
        return self._left >= 0


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answers: _Answers) -> None:
        self._answers, self._full = answers, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Before Python 3.12 the event loop's own is no `DatagramTransport`.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        if not self._full and self._answers.take():
            told = answer(data, address)
            if told is not None:
                self._transport.sendto(told, address)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False


class _Connections:
    """By TCP: one request, one answer."""

    def __init__(self, answers: _Answers) -> None:
        self._answers, self._open = answers, 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS and self._answers.take():
                async with asyncio.timeout(ANSWER_SECONDS):
                    head = await reader.readexactly(stun.HEADER_LENGTH)
                    length = int.from_bytes(head[2:4], "big")
                    if len(head) + length <= MAX_REQUEST:
                        request = head + await reader.readexactly(length)
                        if told := answer(request, writer.get_extra_info("peername")):
                            writer.write(told)
                            await reader.read(1)  # whoever asked closes, so that no port lingers
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open -= 1
            writer.close()


@asynccontextmanager
async def serve_stun(host: str, port: int = PORT) -> AsyncIterator[int]:
    """Answer for as long as the context lasts; gives the port. An empty host is every address that
    this machine has now. Raises `OSError` when the port is not to be had."""
    answers = _Answers()
    by_tcp = _Connections(answers)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        server = await asyncio.start_server(by_tcp.take, sock=listener, backlog=MAX_CONNECTIONS)
        stack.callback(server.close)
        port = listener.getsockname()[1]
        for family, address in _addresses(listener):
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(answers), sock=_bound(family, address, port)
            )
            stack.callback(transport.close)
        yield port


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except BaseException:
        made.close()
        raise
    return made


def _addresses(listener: socket.socket) -> list[tuple[socket.AddressFamily, str]]:
    """Where to take datagrams: a socket for each address, so that an answer leaves from the one
    that was asked."""
    family, own = socket.AddressFamily(listener.family), listener.getsockname()[0]
    if own not in ("", "0.0.0.0", "::"):
        return [(family, own)]
    found = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    v4 = [(socket.AF_INET, str(ip.ip)) for ip in found if ip.is_IPv4]
    if family is socket.AF_INET:
        return v4
    v6 = [str(ip.ip[0]) for ip in found if ip.is_IPv6]
    return [*v4, *((socket.AF_INET6, one) for one in v6 if not ip_address(one).is_link_local)]
