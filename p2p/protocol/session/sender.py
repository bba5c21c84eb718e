"""The sender's machine: offer, send, close, countersign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar

from nacl.signing import SigningKey

from ..codec import Json, decode_json, sha256
from ..errors import Ending, PeerError
from ..handshake import Secured
from ..manifest import REFUSED, WITHDRAWN, Manifest, Results
from ..receipt import MAX_RECEIPT, BadReceipt, check_signature, read_payload, require_same, sign
from ..seal import Header, Stream
from ..seal import Message as SealedRange
from ..sentences import Detail
from ..tape import Tape
from .events import Accepted, Confirmed, Progressed, Receipted
from .flow import CongestionWindow, OutgoingStream, Plan, Range, SendingLanes
from .machine import DONE_SECONDS, LONGEST_STILL_SECONDS, Message, Session, about_lanes
from .messages import (
    ACCEPT_BODY,
    BATCH,
    LABEL_ACCEPT,
    LABEL_CLOSING,
    LABEL_OFFER,
    encode_body,
    plain,
)
from .table import LOST, Row, Table, in_turn, rows

# Ranges under way and none acknowledged, though the peer is heard: lost. Longer where it says that
# it is its disk.
STALL_SECONDS, LONGEST_STALL_SECONDS = 30.0, 600.0


class SenderState(Enum):
    """Where a sender stands."""

    ADMITTING = "admitting"
    OFFERING = "offering"
    SENDING = "sending"
    CLOSING = "closing"
    COUNTERSIGNING = "countersigning"
    SIGNED = "signed"


_STREAMS = {  # what a lane carries in which state
    SenderState.OFFERING: Stream.MANIFEST,
    SenderState.SENDING: Stream.DATA,
    SenderState.CLOSING: Stream.DIGESTS,
}


class SenderSession(Session):
    """The sender. `offer` -> `plan`/`taken`/`sent`/`withdraw` -> `draw_up`, `close` ->
    `countersign`, `countersigned`.

    `largest` is the longest range in bytes that every lane takes. `plan` is for every state, as
    `bytes_of` is; where nothing is to be sent there is no plan.
    """

    state: SenderState
    settling_states = (SenderState.COUNTERSIGNING, SenderState.SIGNED)

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
        self.begins = -1  # where the recipient wants the tape from, once it has accepted
        self.needs_confirmation = verify or secured.peer.verify
        self._confirmed_here = self._confirmed_there = not self.needs_confirmation
        self._streams: dict[Stream, OutgoingStream] = {}
        self.lanes = SendingLanes(largest, self._streams)
        # Whether something was said that data may hold up: control shares the lane 0's association,
        # and usrsctp lets a stream that always has data starve the others (measured).
        self._spoken = False
        self._accept: dict[str, Any] = {}
        self._reached = 0

    def deadline(self) -> float:
        moments = [super().deadline(), self.lanes.moved + self._stall_seconds]
        return min(moments if self.peer_is_slow else [*moments, self.lanes.deadline()])

    def _patience(self) -> float:
        # A recipient reads back and places all of it after the last range.
        waits = (SenderState.OFFERING, SenderState.SENDING, SenderState.CLOSING)
        return LONGEST_STILL_SECONDS if self.state in waits else super()._patience()

    def tick(self, now: float) -> None:
        if now - self.lanes.moved >= self._stall_seconds and not self.over:
            self.lost()
        else:
            if not self.peer_is_slow:
                self.lanes.stall(now)
            super().tick(now)

    @property
    def _stall_seconds(self) -> float:
        return LONGEST_STALL_SECONDS if self.peer_is_slow else STALL_SECONDS

    def _say(self, kind: str, now: float, **fields: Json | bytes) -> None:
        super()._say(kind, now, **fields)
        self._spoken = True

    # -- decisions and answers

    @in_turn
    def confirm_digits(self) -> None:
        """A person on this side said that the digits are the same."""
        self._confirmed_here = True

    @property
    def may_offer(self) -> bool:
        """Whether whoever has to confirm the digits has."""
        return self._confirmed_here and self._confirmed_there

    @in_turn
    def offer(
        self,
        manifest: Manifest,
        data: bytes,
        tape: Tape,
        time: str,
        now: float,
        results: Results,
        reached: int = 0,
    ) -> None:
        """The recipient is admitted: offer the manifest (`data` is its encoding).

        `reached` is how far the tape was handed to this recipient before: it cannot have more.
        `results` are the transfer's, as far as earlier sessions came; this one fills them in.
        """
        if not self.may_offer:
            raise ValueError("the digits are not confirmed")
        self._manifest, self._data, self._tape = manifest, data, tape
        self._results, self._reached = results, reached
        for entry, status in list(self._results.failures()):
            if status not in WITHDRAWN:  # the earlier recipient's word, for it to say again
                self._results.forget(entry)
        self._streams[Stream.MANIFEST] = OutgoingStream(len(data))
        # Lanes are not ordered against each other: nothing before the recipient has the offer.
        self._streams[Stream.MANIFEST].limit = 0
        self._streams[Stream.DATA] = OutgoingStream(tape.total)
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
        self._offered, self._moved = time, now
        self._say_signed("offer", LABEL_OFFER, self._offer, now)

    def plan(self, lane: int, now: float) -> Plan | Range | None:
        """What a lane should carry next: a stretch to read, or a range that another lane holds up.
        None until something changes."""
        window = self.lanes.windows.get(lane)
        if self.over or window is None or not window.works or not window.headroom():
            return None
        if self._is_to_speak_first(lane, window) or self.lanes.rests(window):
            return None
        if not self.lanes.reinjection:
            if stretch := self._stretch(window):
                return stretch
            if not window.flights:  # it idles: perhaps it can help
                self.lanes.help(window, now)
        return self.lanes.reinjection.take()

    def _is_to_speak_first(self, lane: int, window: CongestionWindow) -> bool:
        """Whether what was said is to get through before data goes by the same association."""
        if lane != 0 or not self._spoken:
            return False
        self._spoken = bool(window.flights)
        return self._spoken

    def _stretch(self, window: CongestionWindow) -> Plan | None:
        stream = _STREAMS.get(self.state)
        if stream is None:
            return None
        return self._streams[stream].stretch(stream, window.headroom(), window.length())

    def bytes_of(self, stream: Stream, offset: int, length: int) -> bytes:
        """The payload of a manifest's or digests' range."""
        data = self._data if stream == Stream.MANIFEST else self._digests
        return data[offset : offset + length]

    @in_turn
    def taken(self, header: Header) -> None:
        """A range of what `plan` asked for was read (or a shorter one, or a longer hole): the next
        plan begins behind it."""
        self._streams[header.stream].next = header.end

    @in_turn
    def offer_https(self, token: bytes, now: float) -> None:
        """Say to a page by what token (32 bytes) it may fetch a further lane, once."""
        self._say("https", now, token=token)

    @in_turn
    def sent(self, lane: int, header: Header, message: SealedRange, now: float) -> None:
        """A range was sealed and is handed to the lane now."""
        self.lanes.sent(lane, header, message, now)
        self._spoke = now

    @in_turn
    def hashed(self, entry: int, digest: bytes) -> None:
        """A whole file was read; this is its SHA-256."""
        self._results.delivered(entry, digest)

    @in_turn
    def withdraw(self, entries: Iterable[tuple[int, int]], now: float) -> None:
        """Give up entries, each with its status: the rest of their stretches will not come."""
        out, given_up = self._streams[Stream.DATA], []
        for entry, status in entries:
            offset = min(max(out.next, self._tape.start(entry)), self._tape.end(entry))
            self._results.failed(entry, status)
            given_up.append([entry, status, offset])
            out.next = max(out.next, self._tape.end(entry))
        self._say_withdrawn(given_up, now)

    def _say_withdrawn(self, entries: list[list[int]], now: float) -> None:
        for at in range(0, len(entries), BATCH):
            self._say("withdraw", now, entries=entries[at : at + BATCH])

    @property
    def at_limit(self) -> bool:
        """Whether the recipient lets nothing more come until it has written what it has."""
        data = self._streams.get(Stream.DATA)
        return (
            data is not None
            and data.limit - data.next < self.lanes.largest < data.total - data.next
        )

    @property
    def total(self) -> int:
        """Bytes of the tape, once it is offered."""
        return self._tape.total

    @property
    def reached(self) -> int:
        """How far the tape was ever handed to this recipient, in this session or before."""
        data = self._streams.get(Stream.DATA)
        return max(self._reached, data.next if data is not None and self.begins >= 0 else 0)

    @property
    def all_sent(self) -> bool:
        """Every byte of the tape was sent or withdrawn; time to `draw_up` and `close`."""
        out = self._streams.get(Stream.DATA)
        return self.state == SenderState.SENDING and out is not None and out.next == out.total

    @in_turn
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

    @in_turn
    def close(self, now: float) -> None:
        """Say the closing, signed. Keep on disk first what `closed` says of it."""
        self._streams[Stream.DIGESTS] = OutgoingStream(len(self._digests))
        self._say_signed("closing", LABEL_CLOSING, self._closing, now)

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
                "purpose": self._manifest.purpose or None,
                "manifest_sha256": sha256(self._data),
                "content": {
                    "root": root,
                    "entries": len(entries),
                    "bytes": self._tape.total,
                    "delivered_entries": len(entries) - len(failed),
                    "delivered_bytes": self._tape.total - lost,
                    "skipped": sum(self._manifest.skipped.values()),
                },
            }
        )

    @in_turn
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
            require_same(said, self._expected(root))
            at = said["security"]["transcript"]
            ours = [one for one in closings if one["security"]["transcript"] == at]
            if not ours:
                raise BadReceipt(Detail("member_differs", member="security.transcript"))
            require_same(said, ours[0])
        except BadReceipt as reason:
            raise PeerError("receipt_mismatch", str(reason)) from None
        return sign(self._identity, receipt.payload)

    @in_turn
    def countersigned(self, signature: bytes, now: float) -> None:
        """Send the signature; the recipient's `done` ends it, or its absence for 10 s."""
        self._say("countersignature", now, signature=signature)
        self._done_by = now + DONE_SECONDS
        if self._gone:
            self._give_up_waiting()

    # -- messages

    def _on_confirmed(self, message: Message, now: float) -> None:
        if not self._confirmed_there:  # once: nobody may be waiting for it yet
            self._confirmed_there = True
            self._events.append(Confirmed())

    def _on_ack(self, message: Message, now: float) -> None:
        self.lanes.acknowledged(message["lanes"], now)
        stream = Stream(message["stream"])
        out = self._streams.get(stream)
        if out is None:
            raise PeerError("ack_of_unsent_range")
        if (stream == Stream.MANIFEST) == (self.state == SenderState.OFFERING):
            if out.acknowledge(message):
                self._moved = now
            self.lanes.reinjection.written(stream, out.written)
            if stream == Stream.DATA:
                self._events.append(Progressed(out.durable, out.verified, out.total))

    def _on_late_ack(self, message: Message, now: float) -> None:
        """Acks cross the last messages on the wire; they say nothing new."""

    def _on_accept(self, message: Message, now: float) -> None:
        body = self._read_signed(message, LABEL_ACCEPT, ACCEPT_BODY)
        if (body["transfer_id"], body["transcript"], body["offer_sha256"]) != (
            self.transfer_id,
            self.secured.transcript,
            sha256(self._offer),
        ):
            raise PeerError("accept_of_another_offer")
        offset = body["offset"]
        if offset > min(self._reached, self._tape.total):
            raise PeerError("accept_of_unsent_range")
        self._accept, self.begins, self._moved = body, offset, now
        self._streams[Stream.DATA].begin(offset)
        if offset:  # what was given up before, this session's recipient may not know of
            end = self._tape.end
            known = [[e, s, end(e)] for e, s in self._results.failures() if end(e) <= offset]
            self._say_withdrawn(known, now)
        self._events.append(Accepted(offset))

    def _on_decline(self, message: Message, now: float) -> None:
        self._end(Ending.DECLINED, "declined")

    def _on_failed(self, message: Message, now: float) -> None:
        for entry, status in message["entries"]:
            if entry >= len(self._results) or status not in REFUSED:
                raise PeerError("failure_of_unknown_entry")
            self._results.failed(entry, status)

    def _on_receipt(self, message: Message, now: float) -> None:
        self._events.append(Receipted(message["payload"].encode(), message["signature"]))

    def _on_done(self, message: Message, now: float) -> None:
        self._done_by = None
        self._end(self._final())

    def _give_up_waiting(self) -> None:
        self._end(self._final(), "receipt_unconfirmed")

    def _final(self) -> Ending:
        return Ending.INCOMPLETE if any(True for _ in self._results.failures()) else Ending.COMPLETE

    # -- the table

    table: ClassVar[Table] = {
        (SenderState.ADMITTING, "confirmed"): Row(_on_confirmed),
        (SenderState.ADMITTING, confirm_digits): Row(confirm_digits),
        (SenderState.ADMITTING, offer): Row(offer, SenderState.OFFERING),
        (SenderState.ADMITTING, LOST): Row(Session._lost_early),
        (SenderState.OFFERING, "ack"): Row(_on_ack),
        (SenderState.OFFERING, "accept"): Row(_on_accept, SenderState.SENDING),
        (SenderState.OFFERING, "decline"): Row(_on_decline),
        (SenderState.OFFERING, "failed"): Row(_on_failed),  # of an earlier session, with ...
        (SenderState.OFFERING, "receipt"): Row(_on_receipt, SenderState.COUNTERSIGNING),  # ... its
        (SenderState.OFFERING, LOST): Row(Session._lost_early),
        (SenderState.SENDING, "ack"): Row(_on_ack),
        (SenderState.SENDING, withdraw): Row(withdraw),
        (SenderState.SENDING, draw_up): Row(draw_up),
        (SenderState.SENDING, close): Row(close, SenderState.CLOSING),
        (SenderState.SENDING, LOST): Row(Session._lost_under_way),
        (SenderState.CLOSING, "ack"): Row(_on_ack),
        (SenderState.CLOSING, "failed"): Row(_on_failed),
        (SenderState.CLOSING, "receipt"): Row(_on_receipt, SenderState.COUNTERSIGNING),
        (SenderState.CLOSING, LOST): Row(Session._lost_under_way),
        (SenderState.COUNTERSIGNING, "ack"): Row(_on_late_ack),
        (SenderState.COUNTERSIGNING, countersign): Row(countersign),
        (SenderState.COUNTERSIGNING, countersigned): Row(countersigned, SenderState.SIGNED),
        (SenderState.COUNTERSIGNING, LOST): Row(Session._lost_while_finishing),
        (SenderState.SIGNED, "ack"): Row(_on_late_ack),
        (SenderState.SIGNED, "done"): Row(_on_done),
        (SenderState.SIGNED, LOST): Row(_give_up_waiting),
        # What was planned may be read and handed over when the state is another already.
        **rows(list(SenderState)[1:], taken, sent, hashed, offer_https),
        **about_lanes(list(SenderState)[1:]),
    }
