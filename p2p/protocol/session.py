"""The session: two machines, one for each role, between a finished handshake and an ending.

In go control frames, headers of ranges, answers of the disk, decisions of people and the time; out
come control frames (`frames`), past-tense facts (`events`), the next range to read (`plan`) and the
next moment to call `tick` (`deadline`). Nothing here does I/O, draws randomness or reads a clock.

**The one invariant: after every call, send all `frames` and handle all `events` before the next.**

Which message may come in which state stands in one table per role; anything else is an error of the
peer's. A machine that raised is of no more use, except for `abort`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from .codec import (
    MAX_INTEGER,
    Json,
    base64url,
    decode_json,
    encode_base64url,
    encode_json,
    integer,
    members,
    one_of,
    read_as,
    sha256,
    text,
)
from .codec import list_of as _list_of
from .errors import FAILURES, Ending, Failure, PeerError
from .handshake import Secured
from .manifest import (
    MAX_ENTRIES,
    MAX_MANIFEST,
    RECORD,
    REFUSED,
    WITHDRAWN,
    Manifest,
    Results,
)
from .noise import MAX_MESSAGE, TAG
from .receipt import MAX_RECEIPT, BadReceipt, check_signature, read_payload, same_facts, sign
from .seal import Header, Message, Payload, Stream
from .signal import (
    DIRECT_SHAPE,
    MAX_PLAINTEXT,
    DirectOffer,
    Signal,
    decode_signal,
    encode_signal,
)
from .tape import Frontier, Tape

LABEL_OFFER = b"handover/1 offer"
LABEL_ACCEPT = b"handover/1 accept"
LABEL_CLOSING = b"handover/1 closing"

WINDOW = 32 * 1024 * 1024  # bytes a recipient lets come beyond what it has written
INITIAL_LIMIT = 1024 * 1024  # of every stream, before the first ack
MIN_RANGE = 64 * 1024
MAX_UNACKNOWLEDGED = 512  # ranges; libdatachannel's queue drops its oldest above 1,024
ACK_SHARE = 8  # an ack at the latest after an eighth of what was written so far ...
MIN_ACK, MAX_ACK = 64 * 1024, 4 * 1024 * 1024  # ... within these: often at first, for the pace ...
ACK_SECONDS = 0.05  # ... or after so long
STRETCH = 8  # ranges that one plan may hold
MAX_LANES = 32  # at once
MAX_LANE_NUMBER = 65_535  # a number is used once
LANE_SECONDS = 3.0  # a lane that brings nothing for so long lends its ranges to the others
DIRECT, WEBRTC = 0, 1  # ranks of lanes: those of a higher one rest while a lower one works
HEDGE_SECONDS = 1.0  # the same for a single range that the others wait for
IDLE_SECONDS = 2.0  # then a ping
# What holds a transfer up, as the side sees it that says so: its disk, its limit, the network, or
# the other side; "": nothing for long.
BOTTLENECKS = ("", "disk", "limit", "network", "other_side")
SUSPECT_SECONDS = 6.0  # silence after which people are told
LOST_SECONDS = 10.0  # silence after which the connection is given up
STALL_SECONDS = 30.0  # ranges under way and none acknowledged, though the peer is heard: the same
FAST_SECONDS, SLOW_SECONDS = 0.5, 1.0  # see Pace
DONE_SECONDS = 10.0  # how long a side waits for the last word after the signatures
BATCH = 256  # entries in one `withdraw` or `failed`
MAX_BODY = 4096
MAX_CONTROL = MAX_MESSAGE - TAG


# An abort with one of these reads the same on both sides; any other becomes `peer_failed`.
_SHARED_FAILURES = (
    "declined",
    "digits_rejected",
    "no_space",
    "not_writable",
    "disk_error",
    "disk_paused",
)
AT_PEER = "at the other side"  # detail of a failure that the peer told
_LOST = ("connection_lost", "connection_lost_early")  # nothing that a side ends: it may be resumed


# --- events: what happened, as facts -----------------------------------------------------------


@dataclass(frozen=True)
class Confirmed:
    """The peer said that the check digits are the same."""


@dataclass(frozen=True)
class Offered:
    """Recipient: the signed offer is there; its manifest is being fetched."""

    entries: int
    size: int


@dataclass(frozen=True)
class ManifestArrived:
    """Recipient: the manifest's bytes are whole and what the offer says; decode and decide."""

    data: bytes


@dataclass(frozen=True)
class Accepted:
    """Sender: the recipient's signed accept is there; it holds the tape up to `offset` already."""

    offset: int


@dataclass(frozen=True)
class Progressed:
    """True bytes on the recipient's disk for good (`durable`), and read back from it."""

    durable: int
    verified: int
    total: int


@dataclass(frozen=True)
class Withdrawn:
    """Recipient: the sender gave up these entries."""

    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Delivered:
    """Recipient: closing and digests are there and every byte is durable and read back."""

    digests: bytes


@dataclass(frozen=True)
class Receipted:
    """Sender: the recipient's signed receipt; check it with `countersign`."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True)
class Countersigned:
    """Recipient: the sender's signature of the receipt."""

    signature: bytes


@dataclass(frozen=True)
class LaneSignalled:
    """The peer says how a further WebRTC connection, the lane `number`, is to be reached."""

    number: int
    signal: Signal


@dataclass(frozen=True)
class BottleneckReported:
    """What the peer says of what holds it up (one of BOTTLENECKS)."""

    by: str


@dataclass(frozen=True)
class Suspected:
    """Nothing was heard for a while (True), or the peer is back (False)."""

    silent: bool


@dataclass(frozen=True)
class Ended:
    """The session is over as agreed by both. `code` is a key of FAILURES or ""."""

    ending: Ending
    code: str = ""


Event = (
    Confirmed
    | Offered
    | ManifestArrived
    | Accepted
    | Progressed
    | Withdrawn
    | Delivered
    | Receipted
    | Countersigned
    | DirectOffer
    | LaneSignalled
    | BottleneckReported
    | Suspected
    | Ended
)


# --- messages ----------------------------------------------------------------------------------

_type = text(32)
_body = text(MAX_BODY, empty=False)
_offset = integer(0, MAX_INTEGER)
_entry = integer(0, MAX_ENTRIES - 1)
_status = integer(0, 255)
_lane = integer(0, MAX_LANE_NUMBER)


def _tuple_of(*readers: Any) -> Any:
    def read(value: Json) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(readers):
            raise ValueError("not a tuple of this length")
        return tuple(reader(item) for reader, item in zip(readers, value, strict=True))

    return read


_signed = {"type": _type, "body": _body, "signature": base64url(64)}
MESSAGES = {
    "confirmed": members({"type": _type}),
    "offer": members(_signed),
    "accept": members(_signed),
    "decline": members({"type": _type}),
    "ack": members(
        {
            "type": _type,
            "stream": integer(0, 2),
            "written": _offset,
            "limit": _offset,
            "durable": _offset,
            "verified": _offset,
            "lanes": _list_of(_tuple_of(_lane, _offset), MAX_LANES),
        }
    ),
    "withdraw": members(
        {
            "type": _type,
            "entries": _list_of(_tuple_of(_entry, _status, _offset), BATCH, least=1),
        }
    ),
    "failed": members(
        {"type": _type, "entries": _list_of(_tuple_of(_entry, _status), BATCH, least=1)}
    ),
    "closing": members(_signed),
    "receipt": members(
        {"type": _type, "payload": text(MAX_RECEIPT, empty=False), "signature": base64url(64)}
    ),
    "countersignature": members({"type": _type, "signature": base64url(64)}),
    "done": members({"type": _type}),
    "direct": DIRECT_SHAPE,
    "lane": members(
        {"type": _type, "lane": integer(1, MAX_LANE_NUMBER), "signal": text(MAX_PLAINTEXT)}
    ),
    "ping": members({"type": _type, "bottleneck": one_of(*BOTTLENECKS)}),
    "abort": members({"type": _type, "code": text(32)}),
}
_id = base64url(32)
_time = text(40, empty=False)
OFFER_BODY = members(
    {
        "type": one_of("offer"),
        "transfer_id": base64url(16),
        "transcript": _id,
        "sender": _id,
        "recipient": _id,
        "manifest_sha256": _id,
        "manifest_bytes": integer(1, MAX_MANIFEST),
        "entries": integer(1, MAX_ENTRIES),
        "bytes": _offset,
        "time": _time,
    }
)
ACCEPT_BODY = members(
    {
        "type": one_of("accept"),
        "transfer_id": base64url(16),
        "transcript": _id,
        "offer_sha256": _id,
        "offset": _offset,
        "time": _time,
    }
)
CLOSING_BODY = members(
    {
        "type": one_of("closing"),
        "transfer_id": base64url(16),
        "manifest_sha256": _id,
        "digests_sha256": _id,
        "audit_head": text(64),
        "time": _time,
    }
)


def plain(fields: Mapping[str, Any]) -> dict[str, Json]:
    """JSON of members of any depth; bytes are written as base64url."""

    def one(value: Any) -> Json:
        if isinstance(value, bytes):
            return encode_base64url(value)
        return plain(value) if isinstance(value, Mapping) else value

    return {name: one(value) for name, value in fields.items()}


def encode_body(fields: Mapping[str, Json | bytes]) -> bytes:
    """A signed document; bytes are written as base64url."""
    return encode_json(plain(fields))


# --- lanes: what is under way on each, and how much may be ---------------------------------------


class Flight(NamedTuple):
    """A range that was handed to a lane and is not acknowledged."""

    header: Header
    message: Message  # as it was sealed: another lane can carry it as it is
    when: float


class Pace:
    """Keeps what is unacknowledged on a lane to about one second of its rate.

    Data and control share one first-in first-out pipe, so what is queued delays every ping. Each
    range remembers when it was sent; an answer within half a second widens the allowance by what
    was answered (doubling per round trip, as TCP's slow start), one after more than a second
    narrows it. On a path of 0.05 MB/s this settles at one smallest range: it crawls, but lives.
    """

    def __init__(self, largest: int, rank: int = 0) -> None:
        self.largest, self.rank = largest, rank
        self.allowed = MIN_RANGE
        self.flights: deque[Flight] = deque()
        self.arrived = 0  # ranges that the recipient has taken in from this lane
        self.moved = float("inf")  # when that last grew; never while nothing is under way
        self.lent = False  # its ranges were given to other lanes
        self.retired = False  # it gets no more
        self._in_flight = 0
        self._narrowed = float("-inf")

    def room(self) -> int:
        """How much may be sent now, in whole ranges of `length`; one is allowed when idle."""
        length = self.length()
        ranges = min((self.allowed - self._in_flight) // length, STRETCH)
        ranges = min(ranges, MAX_UNACKNOWLEDGED - len(self.flights))
        return max(ranges, 0 if self.flights else 1) * length

    def length(self) -> int:
        """Length of a range that suits the rate: an eighth of the allowance, page-aligned."""
        return max(min(self.largest, MIN_RANGE), min(self.largest, self.allowed // 8 & ~4095))

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
            raise PeerError("an acknowledgement of what was not sent")
        while self.arrived < count:
            flight = self.flights.popleft()
            size, took = len(flight.message), now - flight.when
            self.arrived += 1
            self._in_flight -= size
            self.moved, self.lent = now if self.flights else float("inf"), False
            if took < FAST_SECONDS:
                self.allowed = min(self.allowed + size, WINDOW)
            elif took > SLOW_SECONDS and now - self._narrowed > SLOW_SECONDS:
                self.allowed = max(self.allowed * 7 // 10, MIN_RANGE)
                self._narrowed = now
            yield flight


class Plan(NamedTuple):
    """The next stretch to send, in ranges of `step`; a reader may stop early, or find a hole."""

    stream: Stream
    offset: int
    length: int
    step: int


class _Outgoing:
    """A stream as its sender sees it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.next = self.written = self.durable = self.verified = 0
        self.limit = INITIAL_LIMIT

    def begin(self, offset: int) -> None:
        """Everything before `offset` is there from an earlier session."""
        self.next = self.written = self.durable = offset
        self.limit = offset + INITIAL_LIMIT

    def acknowledge(self, ack: Mapping[str, int]) -> None:
        written, limit = ack["written"], ack["limit"]
        if not ack["verified"] <= ack["durable"] <= written <= self.next:
            raise PeerError("an acknowledgement of what was not sent")
        if written < self.written or limit < self.limit or ack["durable"] < self.durable:
            raise PeerError("an acknowledgement goes back")
        self.written, self.limit = written, limit
        self.durable, self.verified = ack["durable"], ack["verified"]


class _Incoming:
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
            raise PeerError("a range past the end")
        if header.offset >= self.limit or (not header.hole and header.end > self.limit):
            raise PeerError("a range beyond the limit")
        if self.admitted.holds(header.offset, header.end):
            self.repeated += header.length
            if self.repeated > 2 * self.total:
                raise PeerError("too many repeated ranges")
            return False
        self.admitted.add(header.offset, header.end)
        return True


# --- the machines -------------------------------------------------------------------------------


class _Session:
    """What both roles share: frames in and out, liveness, the table, aborts."""

    _TABLE: ClassVar[dict[tuple[Any, str], str]] = {}

    def __init__(self, secured: Secured, identity: SigningKey, now: float) -> None:
        self.secured, self._identity = secured, identity
        self.state: Enum
        self.over = False
        self._frames: list[bytes] = []
        self._events: list[Event] = []
        self._heard = self._spoke = now
        self._silent = False
        self._done_by: float | None = None
        self._direct_heard = False
        self._bottleneck = self._peer_bottleneck = ""
        self._told_bottleneck = float("-inf")

    # -- outputs

    def frames(self) -> list[bytes]:
        """Control frames to send now, in order."""
        frames, self._frames = self._frames, []
        return frames

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def deadline(self) -> float:
        """When to call `tick` at the latest."""
        moments = [self._spoke + IDLE_SECONDS, self._heard + LOST_SECONDS]
        if not self._silent:
            moments.append(self._heard + SUSPECT_SECONDS)
        if self._done_by is not None:
            moments.append(self._done_by)
        return min(moments)

    # -- inputs

    def heard(self, now: float) -> None:
        """An authenticated message came (data counts as well)."""
        self._heard = now
        if self._silent:
            self._silent = False
            self._events.append(Suspected(False))

    def receive_frame(self, frame: bytes, now: float) -> None:
        """A control frame. Raises `PeerError`, or `Failure` when the peer aborted."""
        value = decode_json(self.secured.receive.decrypt(frame), MAX_CONTROL)
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in MESSAGES:
            raise PeerError("an unknown message")
        message = read_as(MESSAGES[kind], value, f"a message of type {kind}")
        self.heard(now)
        if self.over:
            return
        if kind == "ping":
            if message["bottleneck"] != self._peer_bottleneck:
                self._peer_bottleneck = message["bottleneck"]
                self._events.append(BottleneckReported(self._peer_bottleneck))
            return
        if kind == "abort":
            code = message["code"]
            # When the files are delivered, an abort is no more than a missing last word.
            if self.settling or code in _LOST:
                self.lost()
                return
            self.over = True
            if code == "cancelled":
                raise Failure("peer_cancelled")
            if code in _SHARED_FAILURES:
                raise Failure(code, AT_PEER)
            raise Failure("peer_failed", code.replace("_", " ") if code in FAILURES else "unknown")
        method = self._TABLE.get((self.state, kind))
        if method is None:
            raise PeerError(f"a message of type {kind} out of turn")
        getattr(self, method)(message, now)

    def tick(self, now: float) -> None:
        """Time has passed. Raises `Failure` (connection_lost)."""
        if self.over:
            return
        if now - self._heard >= LOST_SECONDS:
            self.lost()
            return
        if now - self._heard >= SUSPECT_SECONDS and not self._silent:
            self._silent = True
            self._events.append(Suspected(True))
        if self._done_by is not None and now >= self._done_by:
            self._done_by = None
            self._give_up_waiting()
        if now - self._spoke >= IDLE_SECONDS and not self.over:
            self._ping(now)

    def report_bottleneck(self, by: str, now: float) -> None:
        """Tell the peer what now holds this side up (one of BOTTLENECKS), if that is new; not
        often, for what is said makes data wait."""
        if by != self._bottleneck and now - self._told_bottleneck >= IDLE_SECONDS and not self.over:
            self._bottleneck, self._told_bottleneck = by, now
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._say("ping", now, bottleneck=self._bottleneck)

    def lost(self) -> None:
        """The connection is gone. Raises `Failure`, unless only the last word is missing."""
        raise NotImplementedError

    @property
    def settling(self) -> bool:
        """The files are delivered and only signatures are under way: no time to stop."""
        raise NotImplementedError

    def abort(self, code: str, now: float) -> None:
        """End it, and tell the peer why (a key of FAILURES); a lost connection tells itself."""
        if not self.over:
            if code not in _LOST:
                self._say("abort", now, code=code)
            self.over = True

    def _give_up_waiting(self) -> None:
        raise NotImplementedError

    # -- further lanes

    def offer_direct(self, offer: DirectOffer, now: float) -> None:
        """Say, once, where this side listens for direct lanes."""
        self._say("direct", now, **offer.fields())

    def signal(self, number: int, signal: Signal, now: float) -> None:
        """Say how this side's end of the lane `number` is reached."""
        self._say("lane", now, lane=number, signal=encode_signal(signal).decode())

    def _on_direct(self, message: Mapping[str, Any], now: float) -> None:
        if self._direct_heard:
            raise PeerError("a second offer of direct lanes")
        self._direct_heard = True
        self._events.append(DirectOffer.read(message))

    def _on_lane(self, message: Mapping[str, Any], now: float) -> None:
        signal = decode_signal(message["signal"].encode())
        self._events.append(LaneSignalled(message["lane"], signal))

    def _say(self, kind: str, now: float, **fields: Json | bytes) -> None:
        frame = encode_body({"type": kind, **fields})
        self._frames.append(self.secured.send.encrypt(frame))
        self._spoke = now

    def _say_signed(self, kind: str, label: bytes, body: bytes, now: float) -> None:
        signature = self._identity.sign(label + body).signature
        self._say(kind, now, body=body.decode(), signature=signature)

    def _read_signed(self, message: Mapping[str, Any], label: bytes, shape: Any) -> Any:
        body = message["body"].encode()
        try:
            VerifyKey(self.secured.peer.identity).verify(label + body, message["signature"])
        except (BadSignatureError, ValueError):
            raise PeerError(f"the signature of the {message['type']} is wrong") from None
        return read_as(shape, decode_json(body, MAX_BODY), f"the {message['type']}")

    def _end(self, ending: Ending, code: str = "") -> None:
        self.over = True
        self._events.append(Ended(ending, code))


def _about_lanes(*states: Enum) -> dict[tuple[Any, str], str]:
    """Rows of a table: lanes come and go from the offer on."""
    return {(state, kind): f"_on_{kind}" for state in states for kind in ("direct", "lane")}


class SenderState(Enum):
    """Where a sender stands."""

    ADMITTING = "admitting"
    OFFERING = "offering"
    SENDING = "sending"
    CLOSING = "closing"
    COUNTERSIGNING = "countersigning"
    SIGNED = "signed"


class SenderSession(_Session):
    """The sender. `offer` -> `plan`/`sent`/`withdraw` -> `draw_up`, `close` -> `countersign`."""

    state: SenderState
    _TABLE: ClassVar[dict[tuple[Any, str], str]] = {
        (SenderState.ADMITTING, "confirmed"): "_on_confirmed",
        (SenderState.OFFERING, "ack"): "_on_ack",
        (SenderState.OFFERING, "accept"): "_on_accept",
        (SenderState.OFFERING, "decline"): "_on_decline",
        (SenderState.OFFERING, "failed"): "_on_failed",  # of an earlier session, with ...
        (SenderState.OFFERING, "receipt"): "_on_receipt",  # ... its receipt
        (SenderState.SENDING, "ack"): "_on_ack",
        (SenderState.CLOSING, "ack"): "_on_ack",
        (SenderState.CLOSING, "failed"): "_on_failed",
        (SenderState.CLOSING, "receipt"): "_on_receipt",
        (SenderState.COUNTERSIGNING, "ack"): "_on_late_ack",
        (SenderState.SIGNED, "ack"): "_on_late_ack",
        (SenderState.SIGNED, "done"): "_on_done",
        **_about_lanes(*list(SenderState)[1:]),
    }

    def __init__(
        self,
        secured: Secured,
        identity: SigningKey,
        transfer_id: bytes,
        largest: int,
        now: float,
        *,
        verify: bool,
    ) -> None:
        super().__init__(secured, identity, now)
        self.transfer_id = transfer_id
        self.state = SenderState.ADMITTING
        self._largest = largest
        self.begins = -1  # where the recipient wants the tape from, once it has accepted
        self.needs_confirmation = verify or secured.peer.verify
        self._confirmed_here = self._confirmed_there = not self.needs_confirmation
        self._streams: dict[Stream, _Outgoing] = {}
        self._lanes = {0: Pace(largest, WEBRTC)}
        self._numbered = 1  # lanes there were so far
        # Ranges that another lane holds up, by stream and offset.
        self._again: dict[tuple[Stream, int], tuple[Header, Message]] = {}
        self.carried = 0  # bytes of messages that have arrived
        self._copies: dict[tuple[Stream, int], int] = {}  # lanes a range is under way on
        self._lent: set[tuple[Stream, int]] = set()  # ranges that were given to a second lane, once
        self._got: set[tuple[Stream, int]] = set()  # that came by one lane, under way on another
        self._repeated: dict[Stream, int] = {}  # bytes that were lent
        self._moved = float("inf")  # when anything last arrived; never while nothing is under way
        # Whether something was said that data may hold up: control shares the lane 0's association,
        # and usrsctp lets a stream that always has data starve the others (measured).
        self._spoken = False
        self._accept: dict[str, Any] = {}
        self._gone = False

    def deadline(self) -> float:
        moments = [super().deadline(), self._moved + STALL_SECONDS]
        if len(self._lanes) > 1:
            lanes = [pace for pace in self._lanes.values() if not pace.lent]
            moments += [pace.moved + LANE_SECONDS for pace in lanes]
        return min(moments)

    def tick(self, now: float) -> None:
        if now - self._moved >= STALL_SECONDS and not self.over:
            self.lost()
        else:
            self._lend_what_stalls(now)
            super().tick(now)

    def _say(self, kind: str, now: float, **fields: Json | bytes) -> None:
        super()._say(kind, now, **fields)
        self._spoken = True

    # -- lanes

    def number_lane(self) -> int:
        """A number for a lane that is to be opened. Raises `ValueError` when there are too many."""
        if len(self._lanes) >= MAX_LANES or self._numbered > MAX_LANE_NUMBER:
            raise ValueError("too many lanes")
        self._numbered += 1
        return self._numbered - 1

    def add_lane(self, number: int, rank: int) -> None:
        """A numbered lane is open. Those of a higher rank rest while one of a lower rank brings
        something."""
        self._lanes[number] = Pace(self._largest, rank)

    def drop_lane(self, number: int) -> None:
        """A lane is gone, or not wanted any more; what is under way on it goes to the others."""
        for header, message, _ in self._lanes.pop(number).flights:
            arrived = header.key in self._got
            if not self._landed(header.key) and not arrived:
                self._again[header.key] = header, message
        self._rest()

    def _landed(self, key: tuple[Stream, int]) -> bool:
        """One copy of a range is not under way any more; whether another is."""
        self._copies[key] -= 1
        if self._copies[key]:
            return True
        del self._copies[key]
        self._lent.discard(key)
        self._got.discard(key)
        return False

    def retire_lane(self, number: int) -> None:
        """A lane is wanted no more: it gets nothing new, and is to be dropped when it is empty."""
        self._lanes[number].retired = True

    @property
    def lanes(self) -> Mapping[int, Pace]:
        """What is under way on each lane, by number; 0 is the connection's own."""
        return self._lanes

    def _lend_what_stalls(self, now: float) -> None:
        for pace in self._lanes.values() if len(self._lanes) > 1 else ():
            if now - pace.moved >= LANE_SECONDS and not pace.lent:
                pace.lent = True
                for flight in pace.flights:
                    self._lend(flight)

    def _lend(self, flight: Flight) -> bool:
        """Let another lane carry a range too; whether it may: once, for recipients count."""
        header, message, _ = flight
        key, stream = header.key, header.stream
        repeated = self._repeated.get(stream, 0) + header.length
        if key in self._lent or key in self._got or repeated > self._streams[stream].total:
            return False
        self._lent.add(key)
        self._repeated[stream] = repeated
        self._again[key] = header, message
        return True

    def _rest(self) -> None:
        if not any(pace.flights for pace in self._lanes.values()):
            self._moved = float("inf")

    # -- decisions and answers

    def confirm_digits(self) -> None:
        """A person on this side said that the digits are the same."""
        self._confirmed_here = True

    @property
    def may_offer(self) -> bool:
        """Whether whoever has to confirm the digits has."""
        return self._confirmed_here and self._confirmed_there

    def offer(
        self,
        manifest: Manifest,
        data: bytes,
        tape: Tape,
        time: str,
        now: float,
        results: Results | None = None,
    ) -> None:
        """The recipient is admitted: offer the manifest (`data` is its encoding).

        `results` are those of an earlier session of the same transfer, as far as it came.
        """
        if not self.may_offer:
            raise ValueError("the digits are not confirmed")
        self._manifest, self._data, self._tape = manifest, data, tape
        self._results = results or Results(len(manifest.entries))
        for entry, status in list(self._results.failures()):
            if status not in WITHDRAWN:  # the earlier recipient's word, for it to say again
                self._results.forget(entry)
        self._streams[Stream.MANIFEST] = _Outgoing(len(data))
        # Lanes are not ordered against each other: nothing before the recipient has the offer.
        self._streams[Stream.MANIFEST].limit = 0
        self._streams[Stream.DATA] = _Outgoing(tape.total)
        self._offer = encode_body(
            {
                "type": "offer",
                "transfer_id": self.transfer_id,
                "transcript": self.secured.transcript,
                "sender": bytes(self._identity.verify_key),
                "recipient": self.secured.peer.identity,
                "manifest_sha256": sha256(data),
                "manifest_bytes": len(data),
                "entries": len(manifest.entries),
                "bytes": tape.total,
                "time": time,
            }
        )
        self._offered = time
        self._say_signed("offer", LABEL_OFFER, self._offer, now)
        self.state = SenderState.OFFERING

    def plan(self, lane: int, now: float) -> Plan | tuple[Header, Message] | None:
        """What a lane should carry next: a stretch to read, or a range that another lane holds up
        (its header and message). None until something changes."""
        pace = self._lanes.get(lane)
        if self.over or pace is None or pace.lent or pace.retired or not (room := pace.room()):
            return None
        if lane == 0 and self._spoken:  # first what was said is to get through
            if pace.flights:
                return None
            self._spoken = False
        others = [other for other in self._lanes.values() if other is not pace]
        better = [other for other in others if other.rank < pace.rank and other.arrived]
        if any(not (other.lent or other.retired) for other in better):
            return None
        if not self._again:
            if plan := self._stretch(pace, room):
                return plan
            if not pace.flights:  # it idles: perhaps it can help
                for other in others:
                    old = (f for f in other.flights if now - f.when >= HEDGE_SECONDS)
                    any(self._lend(flight) for flight in old)  # the first that was not yet
        return self._again.pop(next(iter(self._again))) if self._again else None

    def _stretch(self, pace: Pace, room: int) -> Plan | None:
        stream = {
            SenderState.OFFERING: Stream.MANIFEST,
            SenderState.SENDING: Stream.DATA,
            SenderState.CLOSING: Stream.DIGESTS,
        }.get(self.state)
        if stream is None:
            return None
        out = self._streams[stream]
        step, left = pace.length(), out.total - out.next
        length = min(room, left)
        if length > out.limit - out.next:  # whole ranges only: no dribbling at the limit
            length = (out.limit - out.next) // step * step
        if length <= 0:
            return None
        return Plan(stream, out.next, length, step)

    def bytes_of(self, stream: Stream, offset: int, length: int) -> bytes:
        """The payload of a manifest's or digests' range."""
        data = self._data if stream == Stream.MANIFEST else self._digests
        return data[offset : offset + length]

    def taken(self, header: Header) -> None:
        """A range of what `plan` asked for was read (or a shorter one, or a longer hole): the next
        plan begins behind it."""
        self._streams[header.stream].next = header.end

    def sent(self, lane: int, header: Header, message: Message, now: float) -> None:
        """A range was sealed and is handed to the lane now."""
        pace = self._lanes.get(lane)
        if pace is None:  # it was dropped meanwhile
            self._again[header.key] = header, message
            return
        self._moved = min(self._moved, now)
        pace.sent(Flight(header, message, now))
        self._copies[header.key] = self._copies.get(header.key, 0) + 1
        self._spoke = now

    def hashed(self, entry: int, digest: bytes) -> None:
        """A whole file was read; this is its SHA-256."""
        self._results.delivered(entry, digest)

    def withdraw(self, entry: int, status: int, now: float) -> None:
        """Give up an entry: the rest of its stretch will not come."""
        out = self._streams[Stream.DATA]
        offset = min(max(out.next, self._tape.start(entry)), self._tape.end(entry))
        self._results.failed(entry, status)
        self._say("withdraw", now, entries=[[entry, status, offset]])
        out.next = max(out.next, self._tape.end(entry))

    @property
    def at_limit(self) -> bool:
        """Whether the recipient lets nothing more come until it has written what it has."""
        data = self._streams.get(Stream.DATA)
        return data is not None and data.limit - data.next < self._largest < data.total - data.next

    @property
    def all_sent(self) -> bool:
        """Every byte of the tape was sent or withdrawn; time to `draw_up` and `close`."""
        out = self._streams.get(Stream.DATA)
        return self.state == SenderState.SENDING and out is not None and out.next == out.total

    def draw_up(self, time: str, audit_head: str) -> None:
        """The closing, for `close` to say. Raises `ValueError` unless every file's digest or
        failure is known."""
        for index, entry in enumerate(self._manifest.entries):
            if entry.kind == "file" and not self._results.known(index):
                raise ValueError("a file without a digest")
        self._digests = self._results.encode()
        self._closing = encode_body(
            {
                "type": "closing",
                "transfer_id": self.transfer_id,
                "manifest_sha256": sha256(self._data),
                "digests_sha256": sha256(self._digests),
                "audit_head": audit_head,
                "time": time,
            }
        )
        self._closed, self._audit_head = time, audit_head

    def close(self, now: float) -> None:
        """Say the closing, signed. Keep on disk first what `closed` says of it."""
        self._streams[Stream.DIGESTS] = _Outgoing(len(self._digests))
        self._say_signed("closing", LABEL_CLOSING, self._closing, now)
        self.state = SenderState.CLOSING

    @property
    def results(self) -> Results:
        """What became of each entry, as far as this side knows."""
        return self._results

    def closed(
        self, own: Mapping[str, Json], security: Mapping[str, Json | bytes]
    ) -> dict[str, Json]:
        """What a receipt must say of this session, which was closed; plain JSON, to be kept.

        `own` is this side's label and software, `security` what it knows of the connection. The
        receipt may come in a later session, when a recipient died between signing and sending it.
        """
        return plain(
            {
                "sender": {
                    "jwk": {"x": bytes(self._identity.verify_key)},
                    "audit_head": self._audit_head,
                    **own,
                },
                "recipient": {
                    "jwk": {"x": self.secured.peer.identity},
                    "label": self.secured.peer.label,
                    "software": self.secured.peer.software,
                },
                "offer_sha256": sha256(self._offer),
                "closing_sha256": sha256(self._closing),
                "security": {"transcript": self.secured.transcript, **security},
                "times": {
                    "offered": self._offered,
                    "accepted": self._accept["time"],
                    "closed": self._closed,
                },
            }
        )

    def _expected(self, root: bytes) -> dict[str, Json]:
        failed = dict(self._results.failures())
        entries = self._manifest.entries
        lost = sum(entries[index].size for index in failed)
        return plain(
            {
                "transfer_id": self.transfer_id,
                "outcome": "incomplete" if failed else "complete",
                "manifest_sha256": sha256(self._data),
                "content": {
                    "root": root,
                    "entries": len(entries),
                    "bytes": self._tape.total,
                    "delivered_entries": len(entries) - len(failed),
                    "delivered_bytes": self._tape.total - lost,
                },
            }
        )

    def countersign(
        self, receipt: Receipted, root: bytes, closings: Iterable[Mapping[str, Any]]
    ) -> bytes:
        """Check the recipient's receipt against what happened; this side's signature of it.

        `root` is `results_root` of the final results, `closings` what `closed` said of this and of
        earlier sessions. Keep it on disk before `countersigned` sends it. Raises `PeerError`.
        """
        try:
            check_signature(self.secured.peer.identity, receipt.payload, receipt.signature)
            read_payload(receipt.payload)
            said: Any = decode_json(receipt.payload, MAX_RECEIPT)
            same_facts(said, self._expected(root))
            at = said["security"]["transcript"]
            ours = [one for one in closings if one["security"]["transcript"] == at]
            if not ours:
                raise BadReceipt("security.transcript is not what happened")
            same_facts(said, ours[0])
        except BadReceipt as reason:
            raise PeerError(f"the receipt: {reason}") from None
        return sign(self._identity, receipt.payload)

    def countersigned(self, signature: bytes, now: float) -> None:
        """Send the signature; the recipient's `done` ends it, or its absence for 10 s."""
        self._say("countersignature", now, signature=signature)
        self.state = SenderState.SIGNED
        self._done_by = now + DONE_SECONDS
        if self._gone:
            self._give_up_waiting()

    # -- messages

    def _on_confirmed(self, message: Mapping[str, Any], now: float) -> None:
        self._confirmed_there = True
        self._events.append(Confirmed())

    def _on_ack(self, message: Mapping[str, Any], now: float) -> None:
        self._on_arrivals(message["lanes"], now)
        stream = Stream(message["stream"])
        out = self._streams.get(stream)
        if out is None:
            raise PeerError("an acknowledgement of what was not sent")
        if (stream == Stream.MANIFEST) == (self.state == SenderState.OFFERING):
            out.acknowledge(message)
            for key, (header, _) in list(self._again.items()):
                if header.stream == stream and header.end <= out.written:
                    del self._again[key]  # it came by a lane that is gone
            if stream == Stream.DATA:
                self._events.append(Progressed(out.durable, out.verified, out.total))

    def _on_arrivals(self, counts: Iterable[tuple[int, int]], now: float) -> None:
        for number, count in counts:
            if number >= self._numbered:
                raise PeerError("an acknowledgement of a lane that never was")
            pace = self._lanes.get(number)  # of a dropped one it may be late
            for flight in pace.acknowledged(count, now) if pace else ():
                key = flight.header.key
                self._again.pop(key, None)
                if self._landed(key):
                    self._got.add(key)
                self._moved = now
                self.carried += len(flight.message)
        self._rest()

    def _on_late_ack(self, message: Mapping[str, Any], now: float) -> None:
        """Acks cross the last messages on the wire; they say nothing new."""

    def _on_accept(self, message: Mapping[str, Any], now: float) -> None:
        body = self._read_signed(message, LABEL_ACCEPT, ACCEPT_BODY)
        if (body["transfer_id"], body["transcript"], body["offer_sha256"]) != (
            self.transfer_id,
            self.secured.transcript,
            sha256(self._offer),
        ):
            raise PeerError("the accept is of another offer")
        offset = body["offset"]
        if offset > self._tape.total:
            raise PeerError("an accept of more than there is")
        self._accept, self.begins = body, offset
        self._streams[Stream.DATA].begin(offset)
        self.state = SenderState.SENDING
        if offset:  # what was given up before, this session's recipient may not know of
            end = self._tape.end
            known = [[e, s, end(e)] for e, s in self._results.failures() if end(e) <= offset]
            for at in range(0, len(known), BATCH):
                self._say("withdraw", now, entries=known[at : at + BATCH])
        self._events.append(Accepted(offset))

    def _on_decline(self, message: Mapping[str, Any], now: float) -> None:
        self._end(Ending.DECLINED, "declined")

    def _on_failed(self, message: Mapping[str, Any], now: float) -> None:
        for entry, status in message["entries"]:
            if entry >= len(self._results) or status not in REFUSED:
                raise PeerError("a failure of an entry that does not exist")
            self._results.failed(entry, status)

    def _on_receipt(self, message: Mapping[str, Any], now: float) -> None:
        self.state = SenderState.COUNTERSIGNING
        self._events.append(Receipted(message["payload"].encode(), message["signature"]))

    def _on_done(self, message: Mapping[str, Any], now: float) -> None:
        self._done_by = None
        self._end(self._final())

    def _give_up_waiting(self) -> None:
        self._end(self._final(), "receipt_unconfirmed")

    def _final(self) -> Ending:
        return Ending.INCOMPLETE if any(True for _ in self._results.failures()) else Ending.COMPLETE

    @property
    def settling(self) -> bool:
        return self.state in (SenderState.COUNTERSIGNING, SenderState.SIGNED)

    def lost(self) -> None:
        if self.state == SenderState.SIGNED:
            self._give_up_waiting()
            return
        if self.state == SenderState.COUNTERSIGNING:
            self._gone = True  # the receipt is being checked; the end is `countersigned`'s to tell
            return
        early = self.state in (SenderState.ADMITTING, SenderState.OFFERING)
        raise Failure("connection_lost_early" if early else "connection_lost")


class RecipientState(Enum):
    """Where a recipient stands."""

    WAITING = "waiting"
    READING = "reading"
    DECIDING = "deciding"
    RECEIVING = "receiving"
    FINISHING = "finishing"
    SIGNED = "signed"
    CONFIRMED = "confirmed"


class RecipientSession(_Session):
    """The recipient. In order: `read`, `accept`, `admit` and `written`, `finish`, `confirm`."""

    state: RecipientState
    _TABLE: ClassVar[dict[tuple[Any, str], str]] = {
        (RecipientState.WAITING, "offer"): "_on_offer",
        (RecipientState.RECEIVING, "withdraw"): "_on_withdraw",
        (RecipientState.RECEIVING, "closing"): "_on_closing",
        (RecipientState.SIGNED, "countersignature"): "_on_countersignature",
        **_about_lanes(*list(RecipientState)[1:]),
    }

    def __init__(self, secured: Secured, identity: SigningKey, now: float, *, verify: bool) -> None:
        super().__init__(secured, identity, now)
        self.state = RecipientState.WAITING
        self.needs_confirmation = verify or secured.peer.verify
        self._streams: dict[Stream, _Incoming] = {}
        self._bytes: dict[Stream, bytearray] = {}
        self._lanes = {0: 0}  # ranges taken in from each
        self._told = {0: 0}  # of these, what the sender was told of
        self._counted: set[int] = set()  # lanes whose number the sender does not know yet
        self._closing = b""
        self._gone = self._countersigned = False

    def deadline(self) -> float:
        owed = [s.changed + ACK_SECONDS for s in self._streams.values() if s.changed is not None]
        return min([super().deadline(), *owed])

    def tick(self, now: float) -> None:
        super().tick(now)
        for stream in self._streams.values():
            if stream.changed is not None and now - stream.changed >= ACK_SECONDS:
                self._acknowledge(stream, now)

    # -- decisions and answers

    def confirmed(self, now: float) -> None:
        """A person said that the digits are the same."""
        self._say("confirmed", now)

    def decline(self, now: float) -> None:
        """Say no, kindly."""
        self._say("decline", now)
        self._end(Ending.DECLINED, "declined")

    def read(self, manifest: Manifest, tape: Tape) -> None:
        """The manifest, decoded. Raises `PeerError` when it is not what the offer said of it."""
        if (len(manifest.entries), tape.total) != (self._fields["entries"], self._fields["bytes"]):
            raise PeerError("the manifest is not what the offer says")
        self._manifest, self._tape = manifest, tape

    def accept(self, time: str, now: float, offset: int = 0) -> None:
        """Say yes to the manifest that was read; signed, before any byte of data.

        `offset` is how much of the tape is durable here from an earlier session.
        """
        tape, manifest = self._tape, self._manifest
        self._open(Stream.DATA, tape.total, offset)
        self._open(Stream.DIGESTS, len(manifest.entries) * RECORD)
        self._accepted = time
        body = {
            "type": "accept",
            "transfer_id": self._fields["transfer_id"],
            "transcript": self.secured.transcript,
            "offer_sha256": sha256(self._offer),
            "offset": offset,
            "time": time,
        }
        self._say_signed("accept", LABEL_ACCEPT, encode_body(body), now)
        self.state = RecipientState.RECEIVING

    def add_lane(self, number: int) -> None:
        """A further lane is open. Raises `PeerError` for a number that cannot be."""
        if number in self._lanes or len(self._lanes) > MAX_LANE_NUMBER:
            raise PeerError("a lane that was there before")
        self._lanes[number] = self._told[number] = 0

    def admit(self, header: Header, now: float, lane: int = 0) -> bool:
        """Whether to take in a range: True to write it, False for a repeated one.

        Raises `PeerError` for one that may not come.
        """
        self.heard(now)
        if self._streams and header.transfer_id != self._fields["transfer_id"]:
            raise PeerError("a range of another transfer")
        stream = self._streams.get(header.stream)
        if stream is None:
            raise PeerError("a range out of turn")
        if stream.admit(header):
            return True
        self._count(stream, lane, now)
        self._tell_young(stream, lane, now)
        return False

    def written(self, header: Header, payload: Payload, now: float, lane: int = 0) -> None:
        """A range was taken in (data: written to disk; other streams keep `payload` here)."""
        stream = self._streams[header.stream]
        self._count(stream, lane, now)
        if header.stream in self._bytes:
            self._bytes[header.stream][header.offset : header.end] = payload
        stream.frontier.add(header.offset, header.end)
        self._advanced(stream, now)
        self._tell_young(stream, lane, now)
        if header.stream == Stream.MANIFEST and stream.durable == stream.total:
            data = bytes(self._bytes.pop(Stream.MANIFEST))
            if sha256(data) != self._fields["manifest_sha256"]:
                raise PeerError("the manifest is not what the offer says")
            self._acknowledge(stream, now)
            self.state = RecipientState.DECIDING
            self._events.append(ManifestArrived(data))
        self._deliver_if_whole(now)

    @property
    def transfer_id(self) -> bytes:
        """The transfer's id, from the offer (16 bytes)."""
        transfer_id: bytes = self._fields["transfer_id"]
        return transfer_id

    @property
    def frontier(self) -> int:
        """How far the tape is written without a gap."""
        return self._streams[Stream.DATA].frontier.offset

    def synced(self, durable: int, now: float) -> None:
        """The tape is on the disk for good up to `durable`."""
        stream = self._streams[Stream.DATA]
        stream.durable = durable
        self._owe_ack(stream, now)
        self._events.append(Progressed(durable, stream.verified, stream.total))

    def verified(self, offset: int, now: float) -> None:
        """The tape was read back from the disk and hashed up to `offset`."""
        stream = self._streams[Stream.DATA]
        stream.verified = offset
        self._owe_ack(stream, now)
        self._events.append(Progressed(stream.durable, offset, stream.total))
        self._deliver_if_whole(now)

    def finish(
        self,
        results: Results,
        refused: Iterable[tuple[int, int]],
        payload: bytes,
        signature: bytes,
        now: float,
    ) -> None:
        """Everything that could be is in its place: say what failed here, send the receipt.

        `payload` was signed with `receipt.sign` and is on this side's disk already.
        """
        batch: list[list[int]] = []
        for entry, status in refused:
            batch.append([entry, status])
            if len(batch) == BATCH:
                self._say("failed", now, entries=batch)
                batch = []
        if batch:
            self._say("failed", now, entries=batch)
        self._results = results
        self._say("receipt", now, payload=payload.decode(), signature=signature)
        self._payload = payload
        self.state = RecipientState.SIGNED
        self._done_by = now + DONE_SECONDS
        if self._gone:
            self._give_up_waiting()

    def facts(self, results: Results, root: bytes, time: str) -> dict[str, Any]:
        """The members of the receipt that this session knows; binary ones as base64url."""
        failed = dict(results.failures())
        entries, total = self._manifest.entries, self._tape.total
        return {
            "transfer_id": encode_base64url(self._fields["transfer_id"]),
            "outcome": "incomplete" if failed else "complete",
            "offer_sha256": encode_base64url(sha256(self._offer)),
            "manifest_sha256": encode_base64url(self._fields["manifest_sha256"]),
            "closing_sha256": encode_base64url(sha256(self._closing)),
            "content": {
                "hash": "sha-256",
                "tree": "rfc9162-salted",
                "root": encode_base64url(root),
                "entries": len(entries),
                "bytes": total,
                "delivered_entries": len(entries) - len(failed),
                "delivered_bytes": total - sum(entries[index].size for index in failed),
            },
            "times": {
                "offered": self._fields["time"],
                "accepted": self._accepted,
                "closed": self._closing_fields["time"],
                "verified": time,
            },
        }

    @property
    def sender_audit_head(self) -> str:
        """The head of the sender's audit log, from the closing."""
        head: str = self._closing_fields["audit_head"]
        return head

    def confirm(self, now: float) -> None:
        """The countersigned receipt is on this side's disk: the last word."""
        self._say("done", now)
        self.state = RecipientState.CONFIRMED
        failed = any(True for _ in self._results.failures())
        self._end(Ending.INCOMPLETE if failed else Ending.COMPLETE)

    # -- messages

    def _on_offer(self, message: Mapping[str, Any], now: float) -> None:
        fields = self._read_signed(message, LABEL_OFFER, OFFER_BODY)
        if (fields["sender"], fields["recipient"], fields["transcript"]) != (
            self.secured.peer.identity,
            bytes(self._identity.verify_key),
            self.secured.transcript,
        ):
            raise PeerError("the offer is not for this session")
        self._fields, self._offer = fields, message["body"].encode()
        self._open(Stream.MANIFEST, fields["manifest_bytes"])
        self._acknowledge(self._streams[Stream.MANIFEST], now)
        self.state = RecipientState.READING
        self._events.append(Offered(fields["entries"], fields["bytes"]))

    def _on_withdraw(self, message: Mapping[str, Any], now: float) -> None:
        stream = self._streams[Stream.DATA]
        for entry, status, offset in message["entries"]:
            if entry >= len(self._manifest.entries) or status not in WITHDRAWN:
                raise PeerError("a withdrawal of what does not exist")
            end = self._tape.end(entry)
            if not self._tape.start(entry) <= offset <= end:
                raise PeerError("a withdrawal outside its entry")
            if offset < end:
                if stream.admitted.holds(offset, end):
                    raise PeerError("a withdrawal of what was sent")
                stream.admitted.add(offset, end)
                stream.frontier.add(offset, end)
                self._advanced(stream, now)
        self._events.append(Withdrawn(tuple((e, s) for e, s, _ in message["entries"])))

    def _on_closing(self, message: Mapping[str, Any], now: float) -> None:
        fields = self._read_signed(message, LABEL_CLOSING, CLOSING_BODY)
        if (fields["transfer_id"], fields["manifest_sha256"]) != (
            self._fields["transfer_id"],
            self._fields["manifest_sha256"],
        ):
            raise PeerError("the closing is of another transfer")
        if self._closing:
            raise PeerError("a second closing")
        self._closing, self._closing_fields = message["body"].encode(), fields
        self._deliver_if_whole(now)

    def _on_countersignature(self, message: Mapping[str, Any], now: float) -> None:
        try:
            check_signature(self.secured.peer.identity, self._payload, message["signature"])
        except BadReceipt:
            raise PeerError("the countersignature does not fit") from None
        self._done_by, self._countersigned = None, True
        self._events.append(Countersigned(message["signature"]))

    def _give_up_waiting(self) -> None:
        self._end(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")

    @property
    def settling(self) -> bool:
        return self.state in (RecipientState.FINISHING, RecipientState.SIGNED)

    def lost(self) -> None:
        if self.state == RecipientState.FINISHING:
            self._gone = True  # the files are being placed; the end is `finish`'s to tell
        elif self.state == RecipientState.SIGNED:
            if not self._countersigned:  # else the end is `confirm`'s to tell
                self._give_up_waiting()
        else:
            early = (RecipientState.WAITING, RecipientState.READING, RecipientState.DECIDING)
            code = "connection_lost_early" if self.state in early else "connection_lost"
            raise Failure(code)

    # -- streams

    def _open(self, stream: Stream, total: int, offset: int = 0) -> None:
        self._streams[stream] = _Incoming(stream, total, offset)
        if stream != Stream.DATA:
            self._bytes[stream] = bytearray(total)

    def _advanced(self, stream: _Incoming, now: float) -> None:
        offset = stream.frontier.offset
        stream.limit = max(stream.limit, offset + WINDOW)
        if stream.stream != Stream.DATA:
            stream.durable = stream.verified = offset
        self._owe_ack(stream, now)
        if offset - stream.acknowledged >= min(max(offset // ACK_SHARE, MIN_ACK), MAX_ACK):
            self._acknowledge(stream, now)

    def _count(self, stream: _Incoming, lane: int, now: float) -> None:
        """One more range of a lane is dealt with."""
        self._lanes[lane] += 1
        self._counted.add(lane)
        self._owe_ack(stream, now)

    def _tell_young(self, stream: _Incoming, lane: int, now: float) -> None:
        """What a lane has brought that opened lately is told at once: its pace depends on it."""
        if self._lanes[lane] - self._told[lane] > self._lanes[lane] // ACK_SHARE:
            self._acknowledge(stream, now)

    def _owe_ack(self, stream: _Incoming, now: float) -> None:
        if stream.changed is None:
            stream.changed = now

    def _acknowledge(self, stream: _Incoming, now: float) -> None:
        stream.changed, stream.acknowledged = None, stream.frontier.offset
        counted = sorted(self._counted)[:MAX_LANES]
        self._counted -= set(counted)
        self._told.update((lane, self._lanes[lane]) for lane in counted)
        self._say(
            "ack",
            now,
            stream=int(stream.stream),
            written=stream.frontier.offset,
            limit=stream.limit,
            durable=stream.durable,
            verified=stream.verified,
            lanes=[[lane, self._lanes[lane]] for lane in counted],
        )

    def _deliver_if_whole(self, now: float) -> None:
        if self.state != RecipientState.RECEIVING or not self._closing:
            return
        data, digests = self._streams[Stream.DATA], self._streams[Stream.DIGESTS]
        if data.verified < data.total or digests.durable < digests.total:
            return
        content = bytes(self._bytes[Stream.DIGESTS])
        if sha256(content) != self._closing_fields["digests_sha256"]:
            raise PeerError("the digests are not what the closing says")
        self.state = RecipientState.FINISHING
        for stream in (data, digests):
            self._acknowledge(stream, now)
        self._events.append(Delivered(content))
