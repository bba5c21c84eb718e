"""WebRTC and TLS connections in memory, which find each other by what they tell of themselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import ClassVar, Literal

from p2p.lanes import LaneLost
from p2p.lanes.webrtc import SMALL_PACKET, Engine
from p2p.protocol.codec import sha256
from p2p.protocol.signal import Candidate, Description
from tests.transfer.memory import MemoryLane


class _Ends:
    """A connection's own two lanes, and the other end once it is known."""

    def __init__(self):
        self.control, self.data = MemoryLane(), MemoryLane()
        self.linked, self.closed = asyncio.Event(), asyncio.Event()
        self.heard = False  # `close` was told that the other side has it all

    def meet(self, other):
        """Both ends know each other: from now on what one sends the other gets."""
        for here, there in ((self.control, other.control), (self.data, other.data)):
            here.peer, there.peer = there, here
        self.linked.set()
        other.linked.set()

    def lose(self):
        self.control.lose()
        self.data.lose()

    async def close(self, *, heard=False):
        await asyncio.sleep(0)
        self.heard |= heard
        self.closed.set()
        self.lose()


class MemoryConnection(_Ends):
    """A WebRTC connection; see `lanes.webrtc.Connection`."""

    def __init__(self, network, offerer, packet, ice, relay_only):
        super().__init__()
        self.network, self.offerer, self.packet = network, offerer, packet
        self.ice, self.relay_only = ice, relay_only
        self.fingerprint = os.urandom(32)
        self.remote: Description | None = None
        self.candidates_taken: list[Candidate] = []
        carried, self.swallowed = network.carries, 0
        if packet > carried:
            self.control.swallow = self._is_too_large

    def _is_too_large(self, message):
        large = len(message) > self.network.carries
        self.swallowed += large
        return large

    @property
    def relayed(self) -> bool:
        """Whether one of the two uses a relay alone."""
        assert self.remote is not None
        other = self.network.connections.get(self.remote.fingerprint)
        return self.relay_only or (other is not None and other.relay_only)

    async def describe(self, nonce_guest, nonce_host):
        setup: Literal["actpass", "active"] = "actpass" if self.offerer else "active"
        size = MemoryLane.max_message_size
        return Description(
            nonce_guest, nonce_host, "ufrag", "p" * 22, self.fingerprint, setup, size
        )

    async def candidates(self):
        if self.relay_only:
            yield Candidate("1", 1, "192.0.2.9", 50000, "relay")
        else:
            yield Candidate("1", 1, "192.0.2.1", 40000, "host")

    async def set_remote(self, description):
        self.remote = description
        other = self.network.connections.get(description.fingerprint)
        if other is not None and other.remote and other.remote.fingerprint == self.fingerprint:
            self.meet(other)

    async def add_candidates(self, candidates):
        self.candidates_taken += candidates

    async def opened(self):
        if self.network.fails_after is not None and not self.relayed:
            await asyncio.sleep(self.network.fails_after)
            raise LaneLost
        closing = asyncio.create_task(self.closed.wait())
        linking = asyncio.create_task(self.linked.wait())
        try:
            await asyncio.wait({closing, linking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            linking.cancel()
        if self.closed.is_set():
            raise LaneLost


class Network:
    """What connections in memory go through. `make` is a `MakeConnection`."""

    def __init__(self):
        self.connections: dict[bytes, MemoryConnection] = {}
        self.carries = 1500  # bytes of the largest packet
        self.fails_after: float | None = None  # seconds, until WebRTC gives up
        self.on_made: Callable[[MemoryConnection], None] = lambda connection: None

    @property
    def engine(self) -> Engine:
        return Engine("libdatachannel", self.make)

    def make(self, *, offerer, packet=SMALL_PACKET, ice=(), relay_only=False):
        made = MemoryConnection(self, offerer, packet, tuple(ice), relay_only)
        self.on_made(made)
        self.connections[made.fingerprint] = made
        return made

    @property
    def made(self) -> list[MemoryConnection]:
        """All there were, the latest last."""
        return list(self.connections.values())


class MemoryTls(_Ends):
    """A connection by TLS; in place of `lanes.tls.connection.TlsConnection`."""

    listening: ClassVar[dict[int, MemoryTls]] = {}  # by port
    can_listen = True

    def __init__(self, port):
        super().__init__()
        self.port, self.certificate = port, b"certificate " + os.urandom(8)
        self.listening[port] = self
        self.trusted = b""

    @classmethod
    async def open(cls, ports):
        if not cls.can_listen:
            raise OSError("no port is free")
        free = (port for port in ports if port and port not in cls.listening)
        return cls(next(free, 40000 + len(cls.listening)))

    async def opened(self, addresses, port, certificate, *, host):
        if certificate == b"none":
            raise ValueError("not a certificate")
        self.trusted, other = certificate, self.listening[port]
        if other.trusted == self.certificate and certificate == other.certificate:
            self.meet(other)
        await self.linked.wait()

    @property
    def fingerprint(self):
        return sha256(self.certificate)
