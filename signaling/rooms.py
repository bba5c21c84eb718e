"""The rules of rooms, and their memory. No I/O and no clock: `now` is monotonic seconds.

A room has one host's seat and at most two attempts at once. It holds hashes and an expiry,
nothing else; what passes through is not kept.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """What one node takes. Reasons: security considerations in PROTOCOL.md."""

    rooms: int = 10_000
    rooms_per_address: int = 20
    attempts_per_room: int = 2
    attempt_seconds: float = 30.0  # 20 s for the peers' handshake, and some for the way
    attempt_messages: int = 64
    attempt_bytes: int = 64 * 1024
    joins_per_minute: int = 30
    failed_joins_per_minute: int = 10
    away_seconds: float = 300.0  # a host that comes back creates its room anew anyway
    stray_messages: int = 256  # about attempts that are over, from one connection
    connections: int = 20_000
    first_message_seconds: float = 4.0
    addresses: int = 100_000  # remembered for a minute at most


class Refused(Exception):
    """A request that the rules refuse; `code` is one of `messages.ERRORS`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass
class Attempt:
    """A guest in a room. `messages` and `size` count what each side has sent."""

    ends: float
    messages: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    size: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})


@dataclass
class Room:
    """A meeting place. Only hashes of the two tokens are kept."""

    join_hash: bytes
    owner_hash: bytes
    address: bytes
    ends: float
    attempts: dict[bytes, Attempt] = field(default_factory=dict)


def _same(token: bytes, hashed: bytes) -> bool:
    return hmac.compare_digest(hashlib.sha256(token).digest(), hashed)


class Rooms:
    """All rooms of this node, in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rooms: dict[bytes, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def create(
        self, room: bytes, join_hash: bytes, owner: bytes, ttl: int, address: bytes, now: float
    ) -> None:
        """Take the host's seat; again with the same owner token. Raises `Refused`."""
        known = self._rooms.get(room)
        if known is not None and known.ends > now:
            if not _same(owner, known.owner_hash):
                raise Refused("room_taken")
            known.attempts.clear()
            known.ends = now + ttl
            return
        self.expire(now)
        if len(self._rooms) >= self._limits.rooms:
            raise Refused("full")
        mine = sum(one.address == address for one in self._rooms.values())
        if mine >= self._limits.rooms_per_address:
            raise Refused("rate_limited")
        owner_hash = hashlib.sha256(owner).digest()
        self._rooms[room] = Room(join_hash, owner_hash, address, now + ttl)

    def join(self, room: bytes, token: bytes, attempt: bytes, now: float) -> None:
        """Begin an attempt. Raises `Refused`: not_found also for a wrong token."""
        known = self._rooms.get(room)
        if known is None or known.ends <= now or not _same(token, known.join_hash):
            raise Refused("not_found")
        if len(known.attempts) >= self._limits.attempts_per_room:
            raise Refused("busy")
        known.attempts[attempt] = Attempt(now + self._limits.attempt_seconds)

    def pass_on(self, room: bytes, attempt: bytes, size: int, *, from_host: bool) -> None:
        """Count an envelope. Raises `Refused`: the attempt is over or has had its share."""
        known = self._rooms.get(room)
        found = known.attempts.get(attempt) if known else None
        if found is None:
            raise Refused("not_found")
        found.messages[from_host] += 1
        found.size[from_host] += size
        if (
            found.messages[from_host] > self._limits.attempt_messages
            or found.size[from_host] > self._limits.attempt_bytes
        ):
            raise Refused("rate_limited")

    def leave(self, room: bytes, attempt: bytes) -> None:
        """End an attempt."""
        known = self._rooms.get(room)
        if known is not None:
            known.attempts.pop(attempt, None)

    def away(self, room: bytes, now: float) -> None:
        """The host's connection is gone: keep the room a while for it to come back."""
        known = self._rooms.get(room)
        if known is not None:
            known.ends = min(known.ends, now + self._limits.away_seconds)

    def close(self, room: bytes) -> None:
        """Forget a room."""
        self._rooms.pop(room, None)

    def expire(self, now: float) -> list[bytes]:
        """Forget what is over; the rooms that were."""
        over = [name for name, room in self._rooms.items() if room.ends <= now]
        for name in over:
            del self._rooms[name]
        return over

    def overdue(self, now: float) -> list[tuple[bytes, bytes]]:
        """(room, attempt) of attempts that have had their time."""
        return [
            (name, attempt)
            for name, room in self._rooms.items()
            for attempt, one in room.attempts.items()
            if one.ends <= now
        ]


class Rates:
    """How often an address did something in the last minute, without keeping addresses.

    Keys are HMACs under a random key that changes every day, of a /24 or /56.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._minute = 0.0
        self._counts: dict[tuple[bytes, str], int] = {}

    def count(self, address: bytes, what: str, most: int, now: float) -> bool:
        """Count one more; False when that is too many, or too many addresses are about."""
        if now - self._minute >= 60:
            self._minute = now
            self._counts.clear()
        key = (address, what)
        if key not in self._counts and len(self._counts) >= self._limits.addresses:
            return False
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._counts[key] <= most

    def exceeded(self, address: bytes, what: str, most: int, now: float) -> bool:
        """Whether it has happened too often already, without counting."""
        return now - self._minute < 60 and self._counts.get((address, what), 0) >= most
