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
    """What one node takes. Reasons: security considerations in PROTOCOL.md.

    An address is one of IPv4, or a /64 of IPv6: the least that belongs to one customer.
    """

    rooms: int = 10_000
    rooms_per_address: int = 20
    former_rooms: int = 10_000  # of which it is known why they are over, ...
    former_rooms_per_network: int = 1_000  # ... so that no one network pushes out the others'
    former_seconds: float = 24 * 3600.0
    attempts_per_room: int = 2
    attempt_seconds: float = 30.0  # 20 s for the peers' handshake, and some for the way
    attempt_messages: int = 64
    attempt_bytes: int = 64 * 1024
    joins_per_minute: int = 30  # right ones, of one address into one room
    failed_joins_per_minute: int = 10  # of one address; a right one passes all the same
    away_seconds: float = 300.0  # a host that comes back creates its room anew anyway
    stray_messages: int = 256  # about attempts that are over, from one connection
    connections: int = 20_000  # or fewer, where the system has fewer descriptors
    connections_per_address: int = 100  # a hospital's: 20 hosts, their guests, some browsers
    opened_per_minute: int = 600  # connections, of one address
    frames_per_minute: int = 3_000  # control frames and HTTP requests included, of one address
    bytes_per_minute: int = 4 * 1024 * 1024  # that arrive from one address
    served_per_minute: int = 64 * 1024 * 1024  # bytes of the web client, for one address
    first_message_seconds: float = 8.0  # from accept to the first valid signaling message
    page_seconds: float = 60.0  # from accept, for a connection that asks for pages only
    write_seconds: float = 5.0  # for one message
    shutdown_seconds: float = 2.0  # to end one connection, and to stop
    unsent_messages: int = 256  # for one connection
    unsent_bytes: int = 256 * 1024
    addresses: int = 100_000  # remembered for a minute at most


SAME_TIME = 5.0  # seconds


class Refused(Exception):
    """A request that the rules refuse; `code` is one of `messages.ERRORS`, `reason` of
    `messages.REASONS` where there is one."""

    def __init__(self, code: str, reason: str | None = None) -> None:
        self.code, self.reason = code, reason
        super().__init__(code)


@dataclass
class Attempt:
    """A guest in a room. `messages` and `size` count what each side has sent."""

    ends: float
    messages: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    size: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})


@dataclass(frozen=True)
class Origin:
    """Where a request comes from, as keys that mean nothing tomorrow. `network` is the /24 or /48
    around `address`: whoever has one address there easily has them all."""

    address: bytes
    network: bytes


@dataclass
class Room:
    """A meeting place. Only hashes of the two tokens are kept."""

    join_hash: bytes
    owner_hash: bytes
    origin: Origin
    ends: float
    away: bool = False  # its host is, and that ends it
    attempts: dict[bytes, Attempt] = field(default_factory=dict)


@dataclass(frozen=True)
class FormerRoom:
    """A room that is over, for guests who come late."""

    join_hash: bytes
    reason: str  # of `messages.REASONS`
    ends: float  # when it is forgotten
    network: bytes


def _same(token: bytes, hashed: bytes) -> bool:
    return hmac.compare_digest(hashlib.sha256(token).digest(), hashed)


class _Waiting:
    """Rooms that nobody with the right token ever joined, by network: who has most gives way.

    Every operation takes the same time, however many rooms there are.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, dict[bytes, None]] = {}  # a network's rooms, the oldest first
        self._by_count: dict[int, dict[bytes, None]] = {}  # networks that have so many
        self._most = 0

    def add(self, network: bytes, room: bytes) -> None:
        rooms = self._of.setdefault(network, {})
        self._recount(network, len(rooms), len(rooms) + 1)
        rooms[room] = None

    def remove(self, network: bytes, room: bytes) -> None:
        rooms = self._of.get(network, {})
        if room not in rooms:
            return
        self._recount(network, len(rooms), len(rooms) - 1)
        del rooms[room]
        if not rooms:
            del self._of[network]

    def _recount(self, network: bytes, before: int, after: int) -> None:
        if before:
            del self._by_count[before][network]
            if not self._by_count[before]:
                del self._by_count[before]
        if after:
            self._by_count.setdefault(after, {})[network] = None
        self._most = max(self._most, after)
        if self._most not in self._by_count:  # it was the last that had so many
            self._most = after

    def oldest_of_most(self) -> bytes | None:
        """The oldest waiting room of the network that has most of them."""
        if not self._most:
            return None
        network = next(iter(self._by_count[self._most]))
        return next(iter(self._of[network]))


class Rooms:
    """All rooms of this node, in memory."""

    def __init__(self, limits: Limits, owner_hash: bytes | None = None) -> None:
        """With `owner_hash` there is room for the host of this owner token only."""
        self._limits, self._owner_hash = limits, owner_hash
        self._rooms: dict[bytes, Room] = {}
        self._former: dict[bytes, FormerRoom] = {}  # the oldest first
        self._former_of: dict[bytes, int] = {}  # network -> how many of them
        self._per_address: dict[bytes, int] = {}
        self._waiting = _Waiting()

    def __len__(self) -> int:
        return len(self._rooms)

    def create(
        self, room: bytes, join_hash: bytes, owner: bytes, ttl: int, origin: Origin, now: float
    ) -> bytes | None:
        """Take the host's seat; again with the same owner token.

        The room that gave way, if one had to. Raises `Refused`.
        """
        known = self._rooms.get(room)
        if known is not None and known.ends > now:
            if not _same(owner, known.owner_hash):
                raise Refused("room_taken")
            known.attempts.clear()
            known.ends, known.away = now + ttl, False
            return None
        if self._owner_hash is not None and not _same(owner, self._owner_hash):
            raise Refused("room_taken")  # the only one that there is
        self.close(room)
        if self._per_address.get(origin.address, 0) >= self._limits.rooms_per_address:
            raise Refused("rate_limited")
        gone = None
        if len(self._rooms) >= self._limits.rooms:
            gone = self._waiting.oldest_of_most()
            if gone is None:
                raise Refused("full")
            self.close(gone)
        owner_hash = hashlib.sha256(owner).digest()
        self._rooms[room] = Room(join_hash, owner_hash, origin, now + ttl)
        self._forget(room)
        self._per_address[origin.address] = self._per_address.get(origin.address, 0) + 1
        self._waiting.add(origin.network, room)
        return gone

    def join(self, room: bytes, token: bytes, attempt: bytes, now: float) -> None:
        """Begin an attempt. Raises `Refused`: not_found also for a wrong token; for the right one
        of a room that is over with the reason."""
        known = self._rooms.get(room)
        if known is None or known.ends <= now or not _same(token, known.join_hash):
            raise Refused("not_found", self._why_over(room, token, now))
        self._waiting.remove(known.origin.network, room)
        if len(known.attempts) >= self._limits.attempts_per_room:
            raise Refused("busy")
        known.attempts[attempt] = Attempt(now + self._limits.attempt_seconds)

    def _why_over(self, room: bytes, token: bytes, now: float) -> str | None:
        """Why there is no such room any more, for who has its token."""
        known, former = self._rooms.get(room), self._former.get(room)
        if known is not None:  # it is swept out soon
            over = known.ends <= now and not known.away and _same(token, known.join_hash)
            return "expired" if over else None
        if former is None or former.ends <= now or not _same(token, former.join_hash):
            return None
        return former.reason

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
            away = now + self._limits.away_seconds
            known.ends, known.away = min(known.ends, away), away < known.ends

    def finish(self, room: bytes, now: float) -> None:
        """Forget a room, but for the reason why it is over: its host says so, or its time is up."""
        known = self._rooms.get(room)
        if known is None:
            return
        # A host looks at a clock of its own, and says so when it sees that the time is up.
        reason = "closed" if known.ends > now + SAME_TIME else "expired"
        self.close(room)
        network = known.origin.network
        if self._former_of.get(network, 0) >= self._limits.former_rooms_per_network:
            return
        if len(self._former) >= self._limits.former_rooms:
            self._forget(next(iter(self._former)))
        ends = now + self._limits.former_seconds
        self._former[room] = FormerRoom(known.join_hash, reason, ends, network)
        self._former_of[network] = self._former_of.get(network, 0) + 1

    def _forget(self, room: bytes) -> None:
        former = self._former.pop(room, None)
        if former is not None:
            self._former_of[former.network] -= 1
            if not self._former_of[former.network]:
                del self._former_of[former.network]

    def close(self, room: bytes) -> None:
        """Forget a room."""
        known = self._rooms.pop(room, None)
        if known is None:
            return
        address = known.origin.address
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        self._waiting.remove(known.origin.network, room)

    def expire(self, now: float) -> list[bytes]:
        """Forget what is over; the rooms that were."""
        over = [name for name, room in self._rooms.items() if room.ends <= now]
        for name in over:
            if self._rooms[name].away:
                self.close(name)
            else:
                self.finish(name, now)
        while self._former:
            oldest = next(iter(self._former))
            if self._former[oldest].ends > now:
                break
            self._forget(oldest)
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
    """How much an address did in the last minute, without keeping addresses."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._minute = 0.0
        self._counts: dict[tuple[bytes, str], int] = {}

    def count(self, address: bytes, what: str, most: int, now: float, amount: int = 1) -> bool:
        """Count `amount` more; False when that is too much.

        When too many addresses are about, the one that came first is forgotten: whoever has that
        many is not held back by a count for each, and must not shut out the others.
        """
        if now - self._minute >= 60:
            self._minute = now
            self._counts.clear()
        key = (address, what)
        if key not in self._counts and len(self._counts) >= self._limits.addresses:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = self._counts.get(key, 0) + amount
        return self._counts[key] <= most
