"""The rules of rooms, and the memory of one node. No I/O and no clock: `now` is monotonic seconds.

A room has one host's seat and at most two attempts at once. It holds hashes, an expiry, and where
its peers sit, nothing else; what passes through is not kept.
"""

from __future__ import annotations

import enum
import heapq
import hmac
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Limits:
    """What one node takes. Reasons: security considerations in PROTOCOL.md.

    An address is one of IPv4, or a /56 of IPv6: what one customer is given (RFC 6177).
    """

    rooms: int = 10_000  # whose hosts are here
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


class Seat(NamedTuple):
    """Where a peer sits: at which node, and which of the seats there. A guest's seat has the id of
    its attempt."""

    node: bytes
    id: bytes


class Kind(enum.IntEnum):
    """What a seat is told on account of another one."""

    ATTEMPT = 1  # a guest has come
    ENVELOPE = 2
    LEFT = 3  # the attempt is over
    REPLACED = 4  # the host has come back, and sits elsewhere
    FULL = 5  # the room gave way to another


Told = list[tuple[Seat, Kind]]  # who is to be told what, as the room is another one now


@dataclass(frozen=True)
class Origin:
    """Where a request comes from, as keys that mean nothing tomorrow. `network` is the /24 or /48
    around `address`: whoever has one address there easily has them all."""

    address: bytes
    network: bytes


@dataclass(slots=True)
class Room:
    """A meeting place. Only hashes of the two tokens are kept."""

    join_hash: bytes
    owner_hash: bytes
    origin: Origin
    ends: float
    host: Seat | None
    until: float  # for which whoever may make rooms has made it
    away: bool = False  # its host is, and that ends it
    attempts: dict[bytes, tuple[Seat, float]] = field(default_factory=dict)  # until when

    def left(self) -> Told:
        """All attempts are over."""
        told: Told = [(seat, Kind.LEFT) for seat, _ in self.attempts.values()]
        self.attempts.clear()
        return told


@dataclass(frozen=True)
class FormerRoom:
    """A room that is over, for guests who come late."""

    join_hash: bytes
    reason: str  # of `messages.REASONS`
    ends: float  # when it is forgotten
    network: bytes


class Waiting:
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
    """All rooms of this node, in memory. Every operation takes the same time, however many there
    are."""

    def __init__(self, limits: Limits, owner_hash: bytes | None = None) -> None:
        """With `owner_hash` there is room for the host of this owner token only."""
        self._limits, self._owner_hash = limits, owner_hash
        self._rooms: dict[bytes, Room] = {}
        self._former: dict[bytes, FormerRoom] = {}  # the oldest first
        self._former_of: dict[bytes, int] = {}  # network -> how many of them
        self._per_address: dict[bytes, int] = {}
        self._waiting = Waiting()
        self._ends: list[tuple[float, bytes]] = []  # a heap; what has changed since is in it too

    def __len__(self) -> int:
        return len(self._rooms)

    def create(
        self,
        room: bytes,
        join_hash: bytes,
        owner_hash: bytes,
        ttl: int,
        origin: Origin,
        host: Seat,
        now: float,
        *,
        again: bool = False,
    ) -> Told:
        """Take the host's seat; again with the same owner token, and with `again` only so. Raises
        `Refused`."""
        known = self._rooms.get(room)
        if known is not None and known.ends > now:
            if not hmac.compare_digest(owner_hash, known.owner_hash):
                raise Refused("room_taken")
            told = known.left()  # they wait for somebody who is gone
            if known.host not in (None, host):
                told.append((known.host, Kind.REPLACED))
            known.ends, known.host, known.away = now + ttl, host, False
            if again:
                known.ends = min(known.ends, known.until)
            else:
                known.until = known.ends
            self._note_end(room, known)
            return told
        if again:
            raise Refused("token_required")
        if self._owner_hash is not None and not hmac.compare_digest(owner_hash, self._owner_hash):
            raise Refused("room_taken")  # the only one that there is
        self.close(room)
        if self._per_address.get(origin.address, 0) >= self._limits.rooms_per_address:
            raise Refused("rate_limited")
        told = self._make_room() if len(self._rooms) >= self._limits.rooms else []
        self._rooms[room] = made = Room(join_hash, owner_hash, origin, now + ttl, host, now + ttl)
        self._note_end(room, made)
        self._forget(room)
        self._per_address[origin.address] = self._per_address.get(origin.address, 0) + 1
        self._waiting.add(origin.network, room)
        return told

    def _make_room(self) -> Told:
        """One of them gives way. Raises `Refused` where none can."""
        name = self._waiting.oldest_of_most()
        if name is None:
            raise Refused("full")
        host = self._rooms[name].host
        self.close(name)
        return [] if host is None else [(host, Kind.FULL)]

    def join(self, room: bytes, join_hash: bytes, guest: Seat, now: float) -> Seat | None:
        """Begin an attempt; where the host sits, or None while it is away. Raises `Refused`:
        not_found also for a wrong token; for the right one of a room that is over with the
        reason."""
        known = self._rooms.get(room)
        same = known is not None and hmac.compare_digest(join_hash, known.join_hash)
        if known is None or known.ends <= now or not same:
            raise Refused("not_found", self._why_over(room, join_hash, now))
        self._waiting.remove(known.origin.network, room)
        for attempt, (_, ends) in list(known.attempts.items()):
            if ends <= now:
                del known.attempts[attempt]
        if known.host is None:
            return None
        if len(known.attempts) >= self._limits.attempts_per_room:
            raise Refused("busy")
        known.attempts[guest.id] = guest, now + self._limits.attempt_seconds
        return known.host

    def _why_over(self, room: bytes, join_hash: bytes, now: float) -> str | None:
        """Why there is no such room any more, for who has its token."""
        known, former = self._rooms.get(room), self._former.get(room)
        if known is not None:  # it is swept out soon
            same = hmac.compare_digest(join_hash, known.join_hash)
            return "expired" if known.ends <= now and not known.away and same else None
        if former is None or former.ends <= now:
            return None
        return former.reason if hmac.compare_digest(join_hash, former.join_hash) else None

    def leave(self, room: bytes, attempt: bytes) -> None:
        """End an attempt."""
        known = self._rooms.get(room)
        if known is not None:
            known.attempts.pop(attempt, None)

    def away(self, room: bytes, host: Seat, now: float) -> Told:
        """The host's connection is gone: keep the room a while for it to come back."""
        known = self._rooms.get(room)
        if known is None or known.host != host:
            return []
        away = now + self._limits.away_seconds
        known.host, known.away = None, away < known.ends
        known.ends = min(known.ends, away)
        self._note_end(room, known)
        return known.left()

    def finish(self, room: bytes, host: Seat, now: float) -> Told:
        """Forget a room, but for the reason why it is over: its host says so."""
        known = self._rooms.get(room)
        if known is None or known.host != host:
            return []
        self._end(room, known, now)
        return known.left()

    def _end(self, room: bytes, known: Room, now: float) -> None:
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
        over = []
        while self._ends and self._ends[0][0] <= now:
            name = heapq.heappop(self._ends)[1]
            room = self._rooms.get(name)
            if room is None or room.ends > now:  # closed, or its end was put off
                continue
            over.append(name)
            if room.away:
                self.close(name)
            else:
                self._end(name, room, now)
        while self._former:
            oldest = next(iter(self._former))
            if self._former[oldest].ends > now:
                break
            self._forget(oldest)
        return over

    def _note_end(self, name: bytes, room: Room) -> None:
        heapq.heappush(self._ends, (room.ends, name))
        if len(self._ends) > 2 * len(self._rooms) + 1000:  # mostly what has changed since
            self._ends = [(one.ends, name) for name, one in self._rooms.items()]
            heapq.heapify(self._ends)


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
