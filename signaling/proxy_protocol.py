"""The PROXY protocol, versions 1 and 2: a proxy that passes connections on says whose they are,
before their first byte (HAProxy's specification, sections 2.1 and 2.2). It counts from trusted
proxies."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from .proxies import Address, parse_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_1, MAX_2 = 107, 16 + 520  # bytes of a header; of version 2, what we bear
AGAIN_SECONDS = 0.02  # until the rest of a header may be there
_FAMILIES = {0x11: (4, 12), 0x21: (16, 36)}  # TCP by IPv4, IPv6: bytes of an address, of all


class BadHeader(ValueError):
    """It begins as a header and is none."""


def parse(data: bytes) -> tuple[int, Address | None] | None:
    """What the first bytes of a connection say: the length of the header (0: there is none) and the
    client's address (None: the proxy speaks for itself). None while more has to come. Raises
    `BadHeader`."""
    if data.startswith(SIGNATURE):
        return _version_2(data)
    if SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None  # a few bytes of either
    if not data.startswith(b"PROXY "):
        return 0, None
    line, end, _ = data[:MAX_1].partition(b"\r\n")
    if not end:
        if len(data) >= MAX_1:
            raise BadHeader
        return None
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return len(line) + 2, None
    version = {b"TCP4": 4, b"TCP6": 6}.get(words[1])
    if version is None or len(words) != 6:
        raise BadHeader
    try:
        address = ipaddress.ip_address(words[2].decode("ascii"))
    except ValueError:
        raise BadHeader from None
    if address.version != version:
        raise BadHeader
    return len(line) + 2, parse_address(str(address))


def _version_2(data: bytes) -> tuple[int, Address | None] | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], 16 + int.from_bytes(data[14:16], "big")
    if command not in (0x20, 0x21) or length > MAX_2:
        raise BadHeader
    if len(data) < length:
        return None
    if command == 0x20 or family not in _FAMILIES:  # a check of the proxy's own, or no TCP
        return length, None
    size, least = _FAMILIES[family]
    if length < 16 + least:
        raise BadHeader
    return length, parse_address(str(ipaddress.ip_address(data[16 : 16 + size])))


async def read(plain: socket.socket) -> Address | None:
    """Take the header off a connection, if it has one; the client's address, if that says one.
    Whatever follows is left unread. Raises `BadHeader`, `OSError`; who calls it bounds its time."""
    while True:
        await _readable(plain)
        data = plain.recv(MAX_2, socket.MSG_PEEK)
        found = parse(data) if data else (0, None)
        if found is not None:
            length, client = found
            if length:
                plain.recv(length)
            return client
        await asyncio.sleep(AGAIN_SECONDS)


async def _readable(plain: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def found() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(plain, found)
    try:
        await ready
    finally:
        loop.remove_reader(plain)
