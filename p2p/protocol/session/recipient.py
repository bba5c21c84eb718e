"""The recipient's machine: read, accept, take in, sign, confirm."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar

from nacl.signing import SigningKey

from ..codec import encode_base64url, sha256
from ..errors import Ending, PeerError
from ..handshake import Secured
from ..manifest import RESULT, WITHDRAWN, Manifest, Results
from ..receipt import BadReceipt, check_signature
from ..seal import Header, Payload, Stream
from ..tape import Tape
from .events import Countersigned, Delivered, ManifestArrived, Offered, Progressed, Withdrawn
from .flow import WINDOW, IncomingStream
from .machine import (
    DONE_SECONDS,
    LONGEST_STILL_SECONDS,
    SLOW,
    STILL_SECONDS,
    Message,
    Session,
    about_lanes,
)
from .messages import (
    BATCH,
    CLOSING_BODY,
    LABEL_ACCEPT,
    LABEL_CLOSING,
    LABEL_OFFER,
    MAX_LANE_NUMBER,
    MAX_LANES,
    OFFER_BODY,
    encode_body,
)
from .table import LOST, RANGE, Row, Table, in_turn, rows

ACK_SHARE = 8  # an ack at the latest after an eighth of what was written so far ...
MIN_ACK, MAX_ACK = 64 * 1024, 4 * 1024 * 1024  # ... within these: often at first, for the window ..
ACK_SECONDS = 0.05  # ... or after so long


class RecipientState(Enum):
    """Where a recipient stands."""

    WAITING = "waiting"
    READING = "reading"
    DECIDING = "deciding"
    RECEIVING = "receiving"
    FINISHING = "finishing"
    SIGNED = "signed"
    CONFIRMED = "confirmed"


class RecipientSession(Session):
    """The recipient. `read`, `accept` -> `admit`/`written`/`synced`/`verified` -> `finish`,
    `confirm`.
    """

    state: RecipientState
    settling_states = (RecipientState.FINISHING, RecipientState.SIGNED)

    def __init__(self, secured: Secured, identity: SigningKey, now: float, *, verify: bool) -> None:
        super().__init__(secured, identity, now)
        self.state = RecipientState.WAITING
        self.needs_confirmation = verify or secured.peer.verify
        self._streams: dict[Stream, IncomingStream] = {}
        self._bytes: dict[Stream, bytearray] = {}
        self._lanes = {0: 0}  # ranges taken in from each
        self._told = {0: 0}  # of these, what the sender was told of
        self._counted: set[int] = set()  # lanes whose number the sender does not know yet
        self._closing = b""
        self._whole = False  # all of the tape was read back
        self._countersigned = False

    def deadline(self) -> float:
        owed = [s.changed + ACK_SECONDS for s in self._streams.values() if s.changed is not None]
        return min([super().deadline(), *owed])

    def _patience(self) -> float:
        if self.state not in (RecipientState.READING, RecipientState.RECEIVING):
            return super()._patience()
        slow = self.peer_is_slow or self._bottleneck in SLOW
        return LONGEST_STILL_SECONDS if slow else STILL_SECONDS

    def tick(self, now: float) -> None:
        super().tick(now)
        for stream in self._streams.values():
            if stream.changed is not None and now - stream.changed >= ACK_SECONDS:
                self._acknowledge(stream, now)

    # -- decisions and answers

    @in_turn
    def confirmed(self, now: float) -> None:
        """A person said that the digits are the same."""
        self._say("confirmed", now)

    @in_turn
    def decline(self, now: float) -> None:
        """Say no, kindly."""
        self._say("decline", now)
        self._end(Ending.DECLINED, "declined")

    @in_turn
    def read(self, manifest: Manifest, tape: Tape) -> None:
        """The manifest, decoded. Raises `PeerError` when it is not what the offer said of it."""
        if (len(manifest.entries), tape.total) != (self._fields["entries"], self._fields["bytes"]):
            raise PeerError("manifest_mismatch")
        self._manifest, self._tape = manifest, tape

    @in_turn
    def accept(self, time: str, now: float, offset: int = 0) -> None:
        """Say yes to the manifest that was read; signed, before any byte of data.

        `offset` is how much of the tape is durable here from an earlier session.
        """
        tape, manifest = self._tape, self._manifest
        self._open(Stream.DATA, tape.total, offset)
        self._open(Stream.DIGESTS, len(manifest.entries) * RESULT)
        self._accepted, self._moved = time, now
        body = {
            "type": "accept",
            "transfer_id": self._fields["transfer_id"],
            "transcript": self.secured.transcript,
            "offer_sha256": sha256(self._offer),
            "offset": offset,
            "time": time,
        }
        self._say_signed("accept", LABEL_ACCEPT, encode_body(body), now)

    @in_turn
    def add_lane(self, number: int) -> None:
        """A further lane is open. Raises `PeerError` for a number that cannot be."""
        if number in self._lanes or len(self._lanes) > MAX_LANE_NUMBER:
            raise PeerError("lane_number_reused")
        self._lanes[number] = self._told[number] = 0

    def admit(self, header: Header, now: float, lane: int = 0) -> bool:
        """Whether to take in a range: True to write it, False for a repeated one.

        Raises `PeerError` for one that may not come.
        """
        self.heard(now)
        row = self.table.get((self.state, RANGE))
        if row is None:
            raise PeerError("range_out_of_turn")
        taken_in: bool = row.handler(self, header, now, lane)
        return taken_in

    def _on_range(self, header: Header, now: float, lane: int) -> bool:
        if header.transfer_id != self._fields["transfer_id"]:
            raise PeerError("range_of_another_transfer")
        stream = self._streams.get(header.stream)
        if stream is None:
            raise PeerError("range_out_of_turn")
        if stream.admit(header):
            return True
        self._count(stream, lane, now)
        self._tell_young(stream, lane, now)
        return False

    @in_turn
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
            self._manifest_arrived(stream, now)
        self._deliver_if_whole(now)

    @in_turn
    def partly_written(self, header: Header, offset: int, now: float) -> None:
        """A range of data is written up to `offset`. Where it holds very many files that takes
        long, and is not to be lost; nothing is said of a range behind a gap."""
        stream = self._streams[Stream.DATA]
        if header.offset <= stream.frontier.offset < offset:
            stream.frontier.advance(offset)
            self._advanced(stream, now)

    @property
    def transfer_id(self) -> bytes:
        """The transfer's id, from the offer (16 bytes)."""
        transfer_id: bytes = self._fields["transfer_id"]
        return transfer_id

    @property
    def frontier(self) -> int:
        """How far the tape is written without a gap."""
        return self._streams[Stream.DATA].frontier.offset

    @in_turn
    def synced(self, durable: int, now: float) -> None:
        """The tape is on the disk for good up to `durable`."""
        stream = self._streams[Stream.DATA]
        stream.durable = durable
        self._owe_ack(stream, now)
        self._events.append(Progressed(durable, stream.verified, stream.total))

    @in_turn
    def verified(self, offset: int, now: float) -> None:
        """The tape was read back from the disk and hashed up to `offset`."""
        stream = self._streams[Stream.DATA]
        stream.verified = offset
        self._whole = offset == stream.total  # to be said of an empty tape too
        self._owe_ack(stream, now)
        self._events.append(Progressed(stream.durable, offset, stream.total))
        self._deliver_if_whole(now)

    @in_turn
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
        self._done_by = now + DONE_SECONDS
        if self._gone:
            self._give_up_waiting()

    def receipt_members(self, results: Results, root: bytes, time: str) -> dict[str, Any]:
        """The members of the receipt that this session knows; binary ones as base64url."""
        failed = dict(results.failures())
        entries, total = self._manifest.entries, self._tape.total
        purpose = {"purpose": self._manifest.purpose} if self._manifest.purpose else {}
        return {
            "transfer_id": encode_base64url(self._fields["transfer_id"]),
            "outcome": "incomplete" if failed else "complete",
            **purpose,
            "offer_sha256": encode_base64url(sha256(self._offer)),
            "manifest_sha256": encode_base64url(self._fields["manifest_sha256"]),
            "closing_sha256": encode_base64url(sha256(self._closing)),
            "content": {
                "hash": self.secured.suite.hash,
                "tree": "rfc9162-salted",
                "root": encode_base64url(root),
                "entries": len(entries),
                "bytes": total,
                "delivered_entries": len(entries) - len(failed),
                "delivered_bytes": total - sum(entries[index].size for index in failed),
                "skipped": sum(self._manifest.skipped.values()),
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

    @in_turn
    def confirm(self, now: float) -> None:
        """The countersigned receipt is on this side's disk: the last word."""
        self._say("done", now)
        failed = any(True for _ in self._results.failures())
        self._end(Ending.INCOMPLETE if failed else Ending.COMPLETE)

    # -- messages

    def _on_offer(self, message: Message, now: float) -> None:
        fields = self._read_signed(message, LABEL_OFFER, OFFER_BODY)
        if (fields["sender"], fields["recipient"], fields["transcript"]) != (
            self.secured.peer.identity,
            bytes(self._identity.verify_key),
            self.secured.transcript,
        ):
            raise PeerError("offer_of_another_session")
        self._fields, self._offer = fields, message["body"].encode()
        self._open(Stream.MANIFEST, fields["manifest_bytes"])
        self._acknowledge(self._streams[Stream.MANIFEST], now)
        self._events.append(Offered(fields["entries"], fields["bytes"]))

    def _on_withdraw(self, message: Message, now: float) -> None:
        stream = self._streams[Stream.DATA]
        for entry, status, offset in message["entries"]:
            if entry >= len(self._manifest.entries) or status not in WITHDRAWN:
                raise PeerError("withdrawal_of_unknown_entry")
            end = self._tape.end(entry)
            if not self._tape.start(entry) <= offset <= end:
                raise PeerError("withdrawal_outside_entry")
            if offset < end:
                if stream.admitted.holds(offset, end):
                    raise PeerError("withdrawal_of_sent_range")
                stream.admitted.add(offset, end)
                stream.frontier.add(offset, end)
                self._advanced(stream, now)
        self._events.append(Withdrawn(tuple((e, s) for e, s, _ in message["entries"])))

    def _on_closing(self, message: Message, now: float) -> None:
        fields = self._read_signed(message, LABEL_CLOSING, CLOSING_BODY)
        if (fields["transfer_id"], fields["manifest_sha256"]) != (
            self._fields["transfer_id"],
            self._fields["manifest_sha256"],
        ):
            raise PeerError("closing_of_another_transfer")
        if self._closing:
            raise PeerError("closing_repeated")
        self._closing, self._closing_fields = message["body"].encode(), fields
        self._moved = now
        self._deliver_if_whole(now)

    def _on_countersignature(self, message: Message, now: float) -> None:
        try:
            check_signature(self.secured.peer.identity, self._payload, message["signature"])
        except BadReceipt:
            raise PeerError("countersignature_invalid") from None
        self._done_by, self._countersigned = None, True
        self._events.append(Countersigned(message["signature"]))

    def _give_up_waiting(self) -> None:
        self._end(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")

    def _lost_when_signed(self) -> None:
        if not self._countersigned:  # else the end is `confirm`'s to tell
            self._give_up_waiting()

    # -- streams

    def _open(self, stream: Stream, total: int, offset: int = 0) -> None:
        self._streams[stream] = IncomingStream(stream, total, offset)
        if stream != Stream.DATA:
            self._bytes[stream] = bytearray(total)

    def _advanced(self, stream: IncomingStream, now: float) -> None:
        offset = stream.frontier.offset
        stream.limit = max(stream.limit, offset + WINDOW)
        if stream.stream != Stream.DATA:
            stream.durable = stream.verified = offset
        self._owe_ack(stream, now)
        if offset - stream.acknowledged >= min(max(offset // ACK_SHARE, MIN_ACK), MAX_ACK):
            self._acknowledge(stream, now)

    def _count(self, stream: IncomingStream, lane: int, now: float) -> None:
        """One more range of a lane is dealt with."""
        self._lanes[lane] += 1
        self._counted.add(lane)
        self._owe_ack(stream, now)

    def _tell_young(self, stream: IncomingStream, lane: int, now: float) -> None:
        """What a lane has brought that opened lately is told at once: its window depends on it."""
        if self._lanes[lane] - self._told[lane] > self._lanes[lane] // ACK_SHARE:
            self._acknowledge(stream, now)

    def _owe_ack(self, stream: IncomingStream, now: float) -> None:
        self._moved = now
        if stream.changed is None:
            stream.changed = now

    def _acknowledge(self, stream: IncomingStream, now: float) -> None:
        stream.changed, stream.acknowledged = None, stream.frontier.offset
        self._moved = now
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

    @in_turn
    def _manifest_arrived(self, stream: IncomingStream, now: float) -> None:
        data = bytes(self._bytes.pop(Stream.MANIFEST))
        if sha256(data) != self._fields["manifest_sha256"]:
            raise PeerError("manifest_mismatch")
        self._acknowledge(stream, now)
        self._events.append(ManifestArrived(data))

    def _deliver_if_whole(self, now: float) -> None:
        if self.state != RecipientState.RECEIVING or not self._closing:
            return
        digests = self._streams[Stream.DIGESTS]
        if self._whole and digests.durable == digests.total:
            self._delivered(now)

    @in_turn
    def _delivered(self, now: float) -> None:
        content = bytes(self._bytes[Stream.DIGESTS])
        if sha256(content) != self._closing_fields["digests_sha256"]:
            raise PeerError("digests_mismatch")
        for stream in (Stream.DATA, Stream.DIGESTS):
            self._acknowledge(self._streams[stream], now)
        self._events.append(Delivered(content))

    # -- the table

    table: ClassVar[Table] = {
        (RecipientState.WAITING, "offer"): Row(_on_offer, RecipientState.READING),
        (RecipientState.WAITING, LOST): Row(Session._lost_early),
        (RecipientState.READING, _manifest_arrived): Row(
            _manifest_arrived, RecipientState.DECIDING
        ),
        (RecipientState.READING, LOST): Row(Session._lost_early),
        (RecipientState.DECIDING, read): Row(read),
        (RecipientState.DECIDING, accept): Row(accept, RecipientState.RECEIVING),
        (RecipientState.DECIDING, decline): Row(decline),
        (RecipientState.DECIDING, finish): Row(finish, RecipientState.SIGNED),  # signed before
        (RecipientState.DECIDING, LOST): Row(Session._lost_early),
        (RecipientState.RECEIVING, "withdraw"): Row(_on_withdraw),
        (RecipientState.RECEIVING, "closing"): Row(_on_closing),
        (RecipientState.RECEIVING, partly_written): Row(partly_written),
        (RecipientState.RECEIVING, synced): Row(synced),
        (RecipientState.RECEIVING, verified): Row(verified),
        (RecipientState.RECEIVING, _delivered): Row(_delivered, RecipientState.FINISHING),
        (RecipientState.RECEIVING, LOST): Row(Session._lost_under_way),
        (RecipientState.FINISHING, finish): Row(finish, RecipientState.SIGNED),
        (RecipientState.FINISHING, LOST): Row(Session._lost_while_finishing),
        (RecipientState.SIGNED, "countersignature"): Row(_on_countersignature),
        (RecipientState.SIGNED, confirm): Row(confirm, RecipientState.CONFIRMED),
        (RecipientState.SIGNED, LOST): Row(_lost_when_signed),
        (RecipientState.CONFIRMED, LOST): Row(Session._lost_under_way),
        # A person may confirm the digits before or after the offer came.
        **rows(list(RecipientState)[:3], confirmed),
        # Ranges may come twice, and late.
        **dict.fromkeys([(state, RANGE) for state in list(RecipientState)[1:]], Row(_on_range)),
        **rows(list(RecipientState)[1:], written, add_lane),
        **about_lanes(list(RecipientState)[1:]),
    }
