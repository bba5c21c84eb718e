"""Flow control: how much may be under way, on a lane and of a stream, and what is sent twice.

*Congestion window*: what a lane may have unacknowledged. *Reinjection*: giving a range that one
lane holds up to another as well (Raiciu et al., "How Hard Can It Be? Designing and Implementing a
Deployable Multipath TCP", NSDI 2012). *Limit*: how far a recipient lets a stream come (RFC 9000
4.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ..errors import PeerError
from ..seal import Header, Message, Stream
from ..tape import Frontier
from .messages import MAX_LANE_NUMBER, MAX_LANES

WINDOW = 32 * 1024 * 1024  # bytes a recipient lets come beyond what it has written
INITIAL_LIMIT = 1024 * 1024  # of every stream, before the first ack
MIN_RANGE = 64 * 1024
MAX_UNACKNOWLEDGED = 512  # ranges; libdatachannel's queue drops its oldest above 1,024
STRETCH = 8  # ranges that one plan may hold
REINJECT_LANE_SECONDS = 3.0  # a lane that brings nothing for so long: all its ranges
REINJECT_RANGE_SECONDS = 1.0  # a single range that the other lanes wait for
# Ranks of lanes: those of a higher one rest while a lower one works.
DIRECT, WEBRTC, RELAYED = 0, 1, 2
FAST_SECONDS, SLOW_SECONDS = 0.5, 1.0  # see CongestionWindow

RangeKey = tuple[Stream, int]  # `Header.key`
Range = tuple[Header, Message]


class Flight(NamedTuple):
    """A range that was handed to a lane and is not acknowledged."""

    header: Header
    message: Message  # as it was sealed: another lane can carry it as it is
    when: float


class Plan(NamedTuple):
    """The next stretch to send, in ranges of `step`; a reader may stop early, or find a hole."""

    stream: Stream
    offset: int
    length: int
    step: int


class CongestionWindow:
    """Keeps what is unacknowledged on a lane to about one second of its rate.

    Data and control share one first-in first-out pipe, so what is queued delays every ping. Each
    range remembers when it was sent; an answer within half a second widens the window by what was
    answered (doubling per round trip, as TCP's slow start), one after more than a second narrows
    it. On a path of 0.05 MB/s this settles at one smallest range: it crawls, but lives.
    """

    def __init__(self, largest: int, rank: int = 0) -> None:
        self.largest, self.rank = largest, rank
        self.size = MIN_RANGE  # bytes that may be unacknowledged
        self.flights: deque[Flight] = deque()
        self.arrived = 0  # ranges that the recipient has taken in from this lane
        self.moved = float("inf")  # when that last grew; never while nothing is under way
        self.quickest = float("inf")  # seconds that an answer took
        self.stalled = False  # its ranges were given to other lanes
        self.retired = False  # it gets no more
        self._in_flight = 0
        self._narrowed = float("-inf")

    @property
    def works(self) -> bool:
        """Whether it may get ranges."""
        return not (self.stalled or self.retired)

    def headroom(self) -> int:
        """How much may be sent now, in whole ranges of `length`; one is allowed when idle."""
        length = self.length()
        ranges = min((self.size - self._in_flight) // length, STRETCH)
        ranges = min(ranges, MAX_UNACKNOWLEDGED - len(self.flights))
        return max(ranges, 0 if self.flights else 1) * length

    def length(self) -> int:
        """Length of a range that suits the rate: an eighth of the window, page-aligned."""
        return max(min(self.largest, MIN_RANGE), min(self.largest, self.size // 8 & ~4095))

    def sent(self, flight: Flight) -> None:
        """A range was handed to the lane."""
        if not self.flights:
            self.moved = flight.when
        self.flights.append(flight)
        self._in_flight += len(flight.message)

    def acknowledged(self, count: int, now: float) -> Iterator[Flight]:
        """The recipient has taken in `count` ranges in all; those that are new. They come in the
        order in which they were sent. Raises `PeerError`."""
        if not 0 <= count - self.arrived <= len(self.flights):
            raise PeerError("ack_of_unsent_range")
        while self.arrived < count:
            flight = self.flights.popleft()
            size, took = len(flight.message), now - flight.when
            self.arrived += 1
            self._in_flight -= size
            self.quickest = min(self.quickest, took)
            self.moved, self.stalled = now if self.flights else float("inf"), False
            if took < FAST_SECONDS:
                self.size = min(self.size + size, WINDOW)
            elif took > SLOW_SECONDS and now - self._narrowed > SLOW_SECONDS:
                self.size = max(self.size * 7 // 10, MIN_RANGE)
                self._narrowed = now
            yield flight


class Reinjection:
    """Ranges that wait for another lane, and which range is under way on how many.

    A range is given to a second lane once, and of each stream no more bytes than it has: a
    recipient counts what it gets twice, and bears so much.
    """

    def __init__(self) -> None:
        self._waiting: dict[RangeKey, Range] = {}
        self._copies: dict[RangeKey, int] = {}  # lanes that a range is under way on
        self._given: set[RangeKey] = set()  # those that were given to a second lane
        self._got: set[RangeKey] = set()  # that came by one lane, under way on another
        self._repeated: dict[Stream, int] = {}  # bytes that were given

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def waiting(self) -> list[Header]:
        """What waits, in order."""
        return [header for header, _ in self._waiting.values()]

    def take(self) -> Range | None:
        """The next range that waits, if there is one."""
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None

    def put(self, header: Header, message: Message) -> None:
        """A range whose lane went before it was sent."""
        self._waiting[header.key] = header, message

    def sent(self, key: RangeKey) -> None:
        """One more lane carries it."""
        self._copies[key] = self._copies.get(key, 0) + 1

    def arrived(self, key: RangeKey) -> None:
        """It came by one of its lanes."""
        self._waiting.pop(key, None)
        if self._landed(key):
            self._got.add(key)

    def dropped(self, flight: Flight) -> None:
        """The lane it was under way on is gone: another has to carry it, if none does."""
        key, arrived = flight.header.key, flight.header.key in self._got
        if not self._landed(key) and not arrived:
            self._waiting[key] = flight.header, flight.message

    def give(self, flight: Flight, total: int) -> bool:
        """Let another lane carry it too; whether it may. `total`: the length of its stream."""
        key, (stream, _) = flight.header.key, flight.header.key
        repeated = self._repeated.get(stream, 0) + flight.header.length
        if key in self._given or key in self._got or repeated > total:
            return False
        self._given.add(key)
        self._repeated[stream] = repeated
        self._waiting[key] = flight.header, flight.message
        return True

    def written(self, stream: Stream, offset: int) -> None:
        """What the recipient has written needs no other lane: it came by one that is gone."""
        for key, (header, _) in list(self._waiting.items()):
            if header.stream == stream and header.end <= offset:
                del self._waiting[key]

    def _landed(self, key: RangeKey) -> bool:
        """One copy of a range is not under way any more; whether another is."""
        self._copies[key] -= 1
        if self._copies[key]:
            return True
        del self._copies[key]
        self._given.discard(key)
        self._got.discard(key)
        return False


class OutgoingStream:
    """A stream as its sender sees it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.next = self.written = self.durable = self.verified = 0
        self.limit = INITIAL_LIMIT

    def begin(self, offset: int) -> None:
        """Everything before `offset` is there from an earlier session."""
        self.next = self.written = self.durable = offset
        self.limit = offset + INITIAL_LIMIT

    def acknowledge(self, ack: Mapping[str, int]) -> bool:
        """Take the numbers of an ack; whether any is new. Raises `PeerError`."""
        before = self.written, self.durable, self.verified
        written, limit = ack["written"], ack["limit"]
        if not ack["verified"] <= ack["durable"] <= written <= self.next:
            raise PeerError("ack_of_unsent_range")
        if written < self.written or limit < self.limit or ack["durable"] < self.durable:
            raise PeerError("ack_goes_back")
        self.written, self.limit = written, limit
        self.durable, self.verified = ack["durable"], ack["verified"]
        return (self.written, self.durable, self.verified) != before

    def stretch(self, stream: Stream, headroom: int, step: int) -> Plan | None:
        """What may be sent next, at most `headroom` bytes in ranges of `step`."""
        length = min(headroom, self.total - self.next)
        if length > self.limit - self.next:  # whole ranges only: no dribbling at the limit
            length = (self.limit - self.next) // step * step
        return Plan(stream, self.next, length, step) if length > 0 else None


class IncomingStream:
    """A stream as its recipient sees it."""

    def __init__(self, stream: Stream, total: int, offset: int) -> None:
        self.stream, self.total = stream, total
        self.frontier = Frontier(offset)  # of what is written
        self.admitted = Frontier(offset)  # of that and of what is being written
        self.limit = offset + INITIAL_LIMIT
        self.durable = self.acknowledged = offset
        self.verified = self.repeated = 0
        self.changed: float | None = None  # since when an ack is owed

    def admit(self, header: Header) -> bool:
        """Whether the range is new. Raises `PeerError` for one that may not come."""
        if header.end > self.total:
            raise PeerError("range_past_end")
        if header.offset >= self.limit or (not header.hole and header.end > self.limit):
            raise PeerError("range_beyond_limit")
        if self.admitted.holds(header.offset, header.end):
            self.repeated += header.length
            if self.repeated > 2 * self.total:
                raise PeerError("too_many_repeated_ranges")
            return False
        self.admitted.add(header.offset, header.end)
        return True


class SendingLanes:
    """The lanes of a sender by number, 0 being the connection's own, and what is under way on them.

    `largest` is the longest range in bytes that every lane takes, `streams` what they carry.
    """

    def __init__(self, largest: int, streams: Mapping[Stream, OutgoingStream]) -> None:
        self.largest, self._streams = largest, streams
        self.windows = {0: CongestionWindow(largest, WEBRTC)}
        self.reinjection = Reinjection()
        self.carried = 0  # bytes of messages that have arrived
        self.moved = float("inf")  # when anything last arrived; never while nothing is under way
        self._numbered = 1  # lanes there were so far

    def number(self) -> int:
        """A number for a lane that is to be opened. Raises `ValueError` when there are too many."""
        if len(self.windows) >= MAX_LANES or self._numbered > MAX_LANE_NUMBER:
            raise ValueError("too many lanes")
        self._numbered += 1
        return self._numbered - 1

    def add(self, number: int, rank: int) -> None:
        """A numbered lane is open. Those of a higher rank rest while one of a lower rank brings
        something."""
        self.windows[number] = CongestionWindow(self.largest, rank)

    def rank_own(self, rank: int) -> None:
        """The connection's own lane is of another kind than `WEBRTC`."""
        self.windows[0].rank = rank

    def retire(self, number: int) -> None:
        """A lane is wanted no more: it gets nothing new, and is to be dropped when it is empty."""
        self.windows[number].retired = True

    def drop(self, number: int) -> None:
        """A lane is gone, or not wanted any more; what is under way on it goes to the others."""
        for flight in self.windows.pop(number).flights:
            self.reinjection.dropped(flight)
        self._rest()

    def sent(self, number: int, header: Header, message: Message, now: float) -> None:
        """A range was handed to a lane."""
        window = self.windows.get(number)
        if window is None:  # it was dropped meanwhile
            self.reinjection.put(header, message)
            return
        self.moved = min(self.moved, now)
        window.sent(Flight(header, message, now))
        self.reinjection.sent(header.key)

    def acknowledged(self, counts: Iterable[tuple[int, int]], now: float) -> None:
        """What the recipient says it has taken in from each lane. Raises `PeerError`."""
        for number, count in counts:
            if number >= self._numbered:
                raise PeerError("ack_of_unknown_lane")
            window = self.windows.get(number)  # of a dropped one it may be late
            for flight in window.acknowledged(count, now) if window else ():
                self.reinjection.arrived(flight.header.key)
                self.moved = now
                self.carried += len(flight.message)
        self._rest()

    def rests(self, window: CongestionWindow) -> bool:
        """Whether a better lane does the work."""
        others = self.windows.values()
        return any(one.rank < window.rank and one.arrived and one.works for one in others)

    def stall(self, now: float) -> None:
        """Give what stalls on one lane to the others."""
        for window in self.windows.values() if len(self.windows) > 1 else ():
            if now - window.moved >= REINJECT_LANE_SECONDS and not window.stalled:
                window.stalled = True
                for flight in window.flights:
                    self._reinject(flight)

    def help(self, idle: CongestionWindow, now: float) -> None:
        """Let an idle lane carry one range for each lane that keeps others waiting."""
        for window in self.windows.values():
            if window is not idle:
                old = (f for f in window.flights if now - f.when >= REINJECT_RANGE_SECONDS)
                any(self._reinject(flight) for flight in old)  # the first that was not yet

    def deadline(self) -> float:
        """When `stall` finds something at the earliest."""
        windows = self.windows.values() if len(self.windows) > 1 else ()
        moments = [one.moved + REINJECT_LANE_SECONDS for one in windows if not one.stalled]
        return min(moments, default=float("inf"))

    def _reinject(self, flight: Flight) -> bool:
        return self.reinjection.give(flight, self._streams[flight.header.stream].total)

    def _rest(self) -> None:
        if not any(window.flights for window in self.windows.values()):
            self.moved = float("inf")
