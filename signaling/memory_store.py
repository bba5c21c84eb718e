"""The store of a single node: in its memory, and gone with it."""

from __future__ import annotations

import asyncio
import time

from .rooms import Kind, Limits, Origin, Rates, Refused, Rooms, Seat, Told
from .store import Node, Word

SWEEP_SECONDS = 1.0


class MemoryStore:
    """A `Store`, which see."""

    def __init__(self, limits: Limits, owner_hash: bytes | None = None) -> None:
        """With `owner_hash` there is room for the host of this owner token only."""
        self.name = b""
        self._limits = limits
        self._rooms, self._rates = Rooms(limits, owner_hash), Rates(limits)

    async def start(self, node: Node) -> None:
        self._node = node
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        self._sweeping.cancel()
        await asyncio.wait([self._sweeping])

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._rooms.expire(time.monotonic())

    async def create(
        self,
        room: bytes,
        join_hash: bytes,
        owner_hash: bytes,
        ttl: int,
        origin: Origin,
        host: bytes,
        *,
        again: bool = False,
    ) -> Told:
        seat, now = Seat(self.name, host), time.monotonic()
        return self._rooms.create(room, join_hash, owner_hash, ttl, origin, seat, now, again=again)

    async def join(self, room: bytes, join_hash: bytes, origin: Origin, attempt: bytes) -> Seat:
        now, limits, address = time.monotonic(), self._limits, origin.address
        try:
            host = self._rooms.join(room, join_hash, Seat(self.name, attempt), now)
        except Refused as refusal:
            most = limits.failed_joins_per_minute
            if refusal.code == "not_found" and not self._rates.count(address, "failed", most, now):
                raise Refused("rate_limited") from None
            raise
        if not self._rates.count(address + room, "join", limits.joins_per_minute, now):
            self._rooms.leave(room, attempt)
            raise Refused("rate_limited")
        if host is None:  # the host's connection is down; it will be back
            raise Refused("not_found")
        return host

    async def leave(self, room: bytes, seat: Seat) -> None:
        self._rooms.leave(room, seat.id)

    async def away(self, room: bytes, host: bytes) -> Told:
        return self._rooms.away(room, Seat(self.name, host), time.monotonic())

    async def lost(self, room: bytes, host: Seat) -> Told:
        return self._rooms.away(room, host, time.monotonic())

    async def finish(self, room: bytes, host: bytes) -> Told:
        return self._rooms.finish(room, Seat(self.name, host), time.monotonic())

    async def send(self, to: Seat, kind: Kind, attempt: bytes, body: bytes = b"") -> bool:
        self._node.take(Word(kind, to.id, attempt, body, self.name))
        return True

    def ready(self) -> bool:
        return True
