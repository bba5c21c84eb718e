"""Connections as they come in: what an address may take of them, and when each must be over.

They are counted from accept on, before TLS and before any header, and each has one deadline at any
time until it has a seat. The counts are those of `rooms.Limits`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import math
import os
import socket
import ssl
import time
from typing import Any

from aiohttp import web

from . import proxy_protocol
from .proxies import Address, Proxies, Seen, parse_address
from .rooms import Limits, Origin, Rates

# Descriptors for everything but connections, or half of what there are: so accept() never fails.
RESERVED = 128
KEEP_ALIVE_SECONDS = 15.0
RETRY_SECONDS = 0.1  # after accept() failed in spite of that
KEY_SECONDS = 86_400.0

logger = logging.getLogger("handover.signaling")

# aiohttp's own would log addresses and requests, as often as anybody sends nonsense.
SILENT = logging.Logger("handover.signaling.http", logging.CRITICAL + 1)


def raise_descriptors() -> int | None:
    """Let this process have as many descriptors as it may; how many, None where none tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    with contextlib.suppress(OSError, ValueError):  # macOS: less than it says
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


class Connection(web.RequestHandler):
    """One connection: aiohttp's, counted and with a deadline."""

    def __init__(self, connections: Connections, manager: web.Server, origin: Origin | None):
        loop = asyncio.get_running_loop()
        super().__init__(
            manager,
            loop=loop,
            logger=SILENT,
            access_log=None,  # type: ignore[arg-type]  # its own annotation forgets None
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=0,
        )
        self.origin = origin  # None: a trusted proxy's, whose requests say whose they are
        self.client: Address | None = None  # whose it is, as a trusted proxy says (PROXY protocol)
        self.metered = True  # whether its bytes are counted
        self.accepted = loop.time()
        self.seen: Seen  # who makes the request that is at work
        self.opening: asyncio.Task[Any] | None = None
        self._connections, self._clock = connections, loop
        self._carrier: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._carrier = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._connections.take_bytes(self, len(data)):
            super().data_received(data)
        else:
            self.abort()

    def force_close(self) -> None:
        super().force_close()
        self.end_within(self._connections.limits.shutdown_seconds)  # whether or not it is read

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._connections.forget(self)

    def end_at(self, when: float) -> None:
        """Cut it off then (by the loop's clock), instead of when was said before."""
        self.never_end()
        self._timer = self._clock.call_at(when, self.abort)

    def end_within(self, seconds: float) -> None:
        """Cut it off so many seconds from now."""
        self.end_at(self._clock.time() + seconds)

    def never_end(self) -> None:
        """It has no deadline of its own any more."""
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        """Cut it off, at once."""
        if self._carrier is not None:
            self._carrier.abort()
        elif self.opening is not None:
            self.opening.cancel()


class Connections:
    """All connections of a server."""

    def __init__(self, limits: Limits, rates: Rates, proxies: Proxies) -> None:
        self.limits, self.rates = limits, rates
        self.tls: ssl.SSLContext | None = None  # of those that come from now on
        self._proxies = proxies
        self._all: set[Connection] = set()
        self._newcomers: dict[Connection, None] = {}  # without a seat, the oldest first
        self._per_address: dict[bytes, int] = {}
        self._most = limits.connections
        self._key, self._key_ends = b"", 0.0

    def __len__(self) -> int:
        return len(self._all)

    async def accept(self, listener: socket.socket, manager: web.Server) -> None:
        """Take connections until cancelled."""
        descriptors = raise_descriptors()
        if descriptors is not None:
            self._most = min(self.limits.connections, descriptors - min(RESERVED, descriptors // 2))
        loop = asyncio.get_running_loop()
        while True:
            try:
                plain, peer = await loop.sock_accept(listener)
            except OSError:  # a peer that is gone, or somebody else took the descriptors
                self._drop_oldest()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                self._take(plain, str(peer[0]), manager)
            except Exception as error:  # one connection must not end all
                logger.error("a connection was not taken: %s", type(error).__name__)
                plain.close()
            await asyncio.sleep(0)  # sock_accept does not yield while there are more

    def _take(self, plain: socket.socket, host: str, manager: web.Server) -> None:
        address = parse_address(host)
        trusted = self._proxies.trusts(address)
        origin = None if trusted else self.origin_of(address)
        if not self._admit(origin):
            plain.close()
            return
        connection = Connection(self, manager, origin)
        self._all.add(connection)
        self._newcomers[connection] = None
        connection.end_within(self.limits.first_message_seconds)
        self._open(connection, plain, trusted=trusted)

    def _open(self, connection: Connection, plain: socket.socket, *, trusted: bool) -> None:
        tls = self.tls
        options: dict[str, Any] = {}
        if tls is not None:
            options["ssl_handshake_timeout"] = self.limits.first_message_seconds
            options["ssl_shutdown_timeout"] = self.limits.shutdown_seconds
        loop = asyncio.get_running_loop()

        def opened(opening: asyncio.Task[Any]) -> None:
            if opening.cancelled() or opening.exception() is not None:
                plain.close()
                self.forget(connection)

        async def begin() -> None:
            if trusted:
                self._introduce(connection, await proxy_protocol.read(plain))
            await loop.connect_accepted_socket(lambda: connection, plain, ssl=tls, **options)

        connection.opening = loop.create_task(begin())
        connection.opening.add_done_callback(opened)

    def _introduce(self, connection: Connection, client: Address | None) -> None:
        """A trusted proxy has said whose a connection is. Raises `ConnectionRefusedError` where
        that one has had its share."""
        connection.client = client
        if client is None or self._proxies.trusts(client):
            return
        if not self.readdress(connection, self.origin_of(client)):
            raise ConnectionRefusedError

    async def end(self) -> None:
        """Cut off all that are left."""
        for connection in list(self._all):
            connection.abort()
        opening = [one.opening for one in self._all if one.opening is not None]
        await asyncio.gather(*opening, return_exceptions=True)

    # --- what an address may take

    def rekey(self, key: bytes) -> None:
        """Name addresses by this key from now on, as other nodes do."""
        self._key, self._key_ends = key, math.inf

    def origin_of(self, address: Address) -> Origin:
        """Keys for an address and its network that are never written and change every day."""
        now = time.monotonic()
        if now >= self._key_ends:
            self._key, self._key_ends = os.urandom(32), now + KEY_SECONDS
        packed = address.packed
        own, around = (4, 3) if isinstance(address, ipaddress.IPv4Address) else (7, 6)
        return Origin(
            hmac.digest(self._key, packed[:own], "sha256"),
            hmac.digest(self._key, packed[:around], "sha256"),
        )

    def _admit(self, origin: Origin | None) -> bool:
        """Whether there is room for one more; a newcomer of longer ago gives way to it."""
        if origin is not None and not self._count(origin):
            return False
        if len(self._all) >= self._most and not self._drop_oldest():
            if origin is not None:
                self._uncount(origin)
            return False
        return True

    def _count(self, origin: Origin) -> bool:
        if not self.take(origin, "opened", self.limits.opened_per_minute):
            return False
        count = self._per_address.get(origin.address, 0)
        if count >= self.limits.connections_per_address:
            return False
        self._per_address[origin.address] = count + 1
        return True

    def _uncount(self, origin: Origin) -> None:
        self._per_address[origin.address] -= 1
        if not self._per_address[origin.address]:
            del self._per_address[origin.address]

    def _drop_oldest(self) -> bool:
        oldest = next(iter(self._newcomers), None)
        if oldest is None:
            return False
        del self._newcomers[oldest]
        oldest.abort()
        return True

    def readdress(self, connection: Connection, origin: Origin) -> bool:
        """A trusted proxy's request is for somebody else now; False when that is too many."""
        if connection.origin == origin:
            return True
        if not self._count(origin):
            return False
        if connection.origin is not None:
            self._uncount(connection.origin)
        connection.origin = origin
        return True

    def take(self, origin: Origin, what: str, most: int, amount: int = 1) -> bool:
        """Count what an address takes; False when that is too much in this minute."""
        now = time.monotonic()
        return self.rates.count(origin.address, what, most, now, amount)

    def take_bytes(self, connection: Connection, amount: int) -> bool:
        """Count what has arrived."""
        origin = connection.origin
        if origin is None or not connection.metered or not amount:  # aiohttp asks itself by none
            return True
        return self.take(origin, "bytes", self.limits.bytes_per_minute, amount)

    def take_frame(self, connection: Connection) -> bool:
        """Count a WebSocket frame, whatever it is, or a request."""
        origin = connection.origin
        return origin is None or self.take(origin, "frame", self.limits.frames_per_minute)

    def seat(self, connection: Connection) -> None:
        """It has said something valid: it gives way to nobody, and has no deadline any more."""
        self._newcomers.pop(connection, None)
        connection.never_end()

    def forget(self, connection: Connection) -> None:
        """It is over."""
        connection.never_end()
        if connection in self._all:
            self._all.discard(connection)
            self._newcomers.pop(connection, None)
            if connection.origin is not None:
                self._uncount(connection.origin)
