"""What both roles share: frames in and out, liveness, the table, aborts, further lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from ..codec import Json, decode_json, read_as
from ..errors import FAILURES, LOST_CODES, Ending, Failure, PeerError
from ..handshake import Secured
from ..sentences import Detail, detail_of
from ..signal import DirectEndpoint, Signal, decode_signal, encode_signal
from .events import BottleneckReported, DirectAnnounced, Ended, Event, LaneSignalled, Suspected
from .messages import MAX_BODY, MAX_CONTROL, MESSAGES, Bottleneck, encode_body
from .table import LOST, Row, Table, in_turn

IDLE_SECONDS = 2.0  # then a ping
SUSPECT_SECONDS = 6.0  # silence after which people are told
LOST_SECONDS = 10.0  # silence after which the connection is given up
DONE_SECONDS = 10.0  # how long a side waits for the last word after the signatures
# A transfer that gets no further though the peer is heard, and one that a disk or a limit holds up.
STILL_SECONDS, LONGEST_STILL_SECONDS = 600.0, 86_400.0
SLOW: tuple[Bottleneck, ...] = ("disk", "limit")  # what a side knows of itself
AT_PEER = Detail("at_peer")  # detail of a failure that the peer told

Message = Mapping[str, Any]


class Session:
    """A role's machine. `frames`, `events`, `deadline`, `receive_frame`, `tick`, `lost` and `abort`
    are for every state, as are the messages `ping` and `abort`; all else is in `table`."""

    table: ClassVar[Table]
    settling_states: ClassVar[tuple[Enum, ...]]  # see `settling`

    def __init__(self, secured: Secured, identity: SigningKey, now: float) -> None:
        self.secured, self._identity = secured, identity
        self.state: Enum
        self.over = False
        self._frames: list[bytes] = []
        self._events: list[Event] = []
        self._heard = self._spoke = self._moved = now  # moved: the transfer, whichever way
        self._silent = False
        self._done_by: float | None = None
        self._direct_heard = False
        self._bottleneck: Bottleneck = ""
        self._peer_bottleneck: Bottleneck = ""
        self._told_bottleneck = float("-inf")
        self._gone = False  # the peer is, while this side finishes what it alone can

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
        moments.append(self._moved + self._patience())
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
            raise PeerError("message_unknown")
        message = read_as(MESSAGES[kind], value, kind)
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
            if self.settling or code in LOST_CODES:
                self.lost()
                return
            self.over = True
            if code == "cancelled":
                raise Failure("peer_cancelled")
            if code in FAILURES and FAILURES[code].shared:
                raise Failure(code, AT_PEER)
            said = detail_of(f"peer_{code}")
            if not isinstance(said, Detail):
                said = code if code in FAILURES else Detail("unknown")
            raise Failure("peer_failed", said)
        row = self.table.get((self.state, kind))
        if row is None:
            raise PeerError("message_out_of_turn", kind)
        row.handler(self, message, now)
        if row.follows is not None:
            self.state = row.follows

    def tick(self, now: float) -> None:
        """Time has passed. Raises `Failure` (connection_lost)."""
        if self.over:
            return
        if now - self._heard >= LOST_SECONDS or now - self._moved >= self._patience():
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

    def report_bottleneck(self, by: Bottleneck, now: float) -> None:
        """Tell the peer what now holds this side up (one of BOTTLENECKS), if that is new; not
        often, for what is said makes data wait."""
        if by != self._bottleneck and now - self._told_bottleneck >= IDLE_SECONDS and not self.over:
            self._bottleneck, self._told_bottleneck = by, now
            self._ping(now)

    def _patience(self) -> float:
        """Seconds that nothing may move for in this state; a person may think as long as they
        like."""
        return float("inf")

    @property
    def peer_is_slow(self) -> bool:
        """Whether the peer says that its disk or its limit holds it up, so that it is no wonder
        when nothing moves."""
        return self._peer_bottleneck in SLOW

    def _ping(self, now: float) -> None:
        self._say("ping", now, bottleneck=self._bottleneck)

    def lost(self) -> None:
        """The connection is gone. Raises `Failure`, unless only the last word is missing."""
        self.table[self.state, LOST].handler(self)

    @property
    def settling(self) -> bool:
        """The files are delivered and only signatures are under way: no time to stop."""
        return self.state in self.settling_states

    def abort(self, code: str, now: float) -> None:
        """End it, and tell the peer why (a key of FAILURES); a lost connection tells itself."""
        if not self.over:
            if code not in LOST_CODES:
                self._say("abort", now, code=code)
            self.over = True

    def _give_up_waiting(self) -> None:
        """The last word did not come."""
        raise NotImplementedError

    def _lost_early(self) -> None:
        raise Failure("connection_lost_early")

    def _lost_under_way(self) -> None:
        raise Failure("connection_lost")

    def _lost_while_finishing(self) -> None:
        self._gone = True  # the end is for the call to tell that finishes

    # -- further lanes

    @in_turn
    def announce_direct(self, endpoint: DirectEndpoint, now: float) -> None:
        """Say, once, where this side listens for direct lanes."""
        self._say("direct", now, **endpoint.fields())

    @in_turn
    def signal(self, number: int, signal: Signal, now: float) -> None:
        """Say how this side's end of the lane `number` is reached."""
        self._say("lane", now, lane=number, signal=encode_signal(signal).decode())

    def _on_direct(self, message: Message, now: float) -> None:
        if self._direct_heard:
            raise PeerError("direct_announced_twice")
        self._direct_heard = True
        self._events.append(DirectAnnounced(DirectEndpoint.read(message)))

    def _on_lane(self, message: Message, now: float) -> None:
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
            raise PeerError("signature_invalid", message["type"]) from None
        return read_as(shape, decode_json(body, MAX_BODY), message["type"])

    def _end(self, ending: Ending, code: str = "") -> None:
        self.over = True
        self._events.append(Ended(ending, code))


def about_lanes(states: Sequence[Enum]) -> dict[tuple[Enum, Any], Row]:
    """Rows of both tables: lanes come and go from the offer on."""
    found: dict[tuple[Enum, Any], Row] = {}
    for state in states:
        found[state, "direct"] = Row(Session._on_direct)
        found[state, "lane"] = Row(Session._on_lane)
        for call in (Session.announce_direct, Session.signal):
            found[state, call] = Row(call)
    return found
