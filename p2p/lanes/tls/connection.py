"""A connection by TLS, for where no UDP comes through: two lanes, control and data."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Sequence
from typing import Self

from ...protocol.signal import may_connect
from ...tasks import race
from .. import LaneLost
from ..streams import CLOSE_SECONDS, HIGH_WATER, StreamLane
from .endpoint import Endpoint, hello
from .socket import TLS_SECONDS, tune

ALONE_SECONDS = 0.5  # that the one side may try alone, before the other connects too
AGAIN_SECONDS = 2.0  # before it is tried again
FEW_ADDRESSES, FEW_TRIES = 4, 3  # where nobody is proven yet
NAMES = (b"control", b"data")  # of a connection's lanes


class StreamLanes(Endpoint[StreamLane]):
    """This side's end of a connection's lanes."""

    async def _secure(self, plain: socket.socket, address: str, *, server: bool) -> StreamLane:
        assert self._contexts is not None
        loop, context = asyncio.get_running_loop(), self._contexts[server]
        reader = asyncio.StreamReader(HIGH_WATER)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            tune(plain)
        except OSError:
            plain.close()
            raise LaneLost from None
        try:  # from here on the socket is the event loop's to close: its number may be taken again
            if server:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    plain,
                    ssl=context,
                    ssl_handshake_timeout=TLS_SECONDS,
                    ssl_shutdown_timeout=CLOSE_SECONDS,
                )
            else:
                transport, _ = await loop.create_connection(
                    lambda: protocol,
                    sock=plain,
                    ssl=context,
                    server_hostname="",
                    ssl_handshake_timeout=TLS_SECONDS,
                    ssl_shutdown_timeout=CLOSE_SECONDS,
                )
        except OSError:
            raise LaneLost from None
        if transport.get_extra_info("ssl_object").getpeercert(True) != self._peer:
            transport.abort()
            raise LaneLost
        return StreamLane(reader, asyncio.StreamWriter(transport, protocol, reader, loop), address)

    async def keep_connecting(self, addresses: Sequence[str], port: int) -> None:
        """Make connections, two at a time, as if they had been accepted. Not for long, and not to
        many addresses: whoever has the link may have named them."""
        best = list(addresses)[:FEW_ADDRESSES]
        for _ in range(FEW_TRIES):
            with contextlib.suppress(LaneLost):
                for _ in NAMES:
                    lane = await self.connect(best, port)
                    best = [lane.address]
                    self._keep(lane)
            await asyncio.sleep(AGAIN_SECONDS)


class TlsConnection:
    """A connection for where no UDP comes through: its two lanes are TLS connections.

    Whoever can connect makes them; the host's first message on each says which lane it is.
    """

    control: StreamLane
    data: StreamLane

    def __init__(self, end: StreamLanes) -> None:
        self._end, self.port, self.certificate = end, end.port, end.certificate
        self._lanes: dict[bytes, StreamLane] = {}

    @classmethod
    async def open(cls, ports: Iterable[int] = (0,)) -> Self:
        """Listen on the first of the TCP ports that is free. Raises `OSError`."""
        return cls(await StreamLanes.open(ports))

    async def opened(
        self, addresses: Sequence[str], port: int, certificate: bytes, *, host: bool
    ) -> None:
        """Connect to the peer, or let it; then listen no more. Raises `ValueError`."""
        await asyncio.to_thread(self._end.trust, certificate)
        try:
            await race(
                self._name_lanes() if host else self._read_names(),
                self._end.serve(),
                self._connect(may_connect(addresses), port, 0 if host else ALONE_SECONDS),
            )
        finally:
            self._end.close()
        self.control, self.data = (self._lanes[name] for name in NAMES)

    async def _connect(self, addresses: Sequence[str], port: int, after: float) -> None:
        await asyncio.sleep(after)
        await self._end.keep_connecting(addresses, port)

    async def _name_lanes(self) -> None:
        """The host takes whatever is there first."""
        for name in NAMES:
            while name not in self._lanes:
                lane = await self._end.accept()
                with contextlib.suppress(LaneLost):
                    await lane.send(name)
                    self._lanes[name] = lane

    async def _read_names(self) -> None:
        while len(self._lanes) < len(NAMES):
            lane = await self._end.accept()
            name = await hello(lane)
            if name in NAMES and name not in self._lanes:
                self._lanes[name] = lane
            else:  # the host has enough
                lane.close()

    async def close(self, *, heard: bool = False) -> None:
        """Send what is queued (for two seconds at most), then close. Never raises."""
        self._end.close()
        await asyncio.gather(*(lane.finish() for lane in self._lanes.values()))
