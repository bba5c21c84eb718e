"""The recipient's half of a byte's walk, within one session:

    lane -> Opener.open -> decompress -> Destination.write -> sync, journal -> read back -> place

woken by what the session lets happen; at the end the receipt, signed here first.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from ..compression import decompress
from ..events import Offered, PeerMet, Question, Warned
from ..lanes import Lane, LaneLost
from ..lanes.multipath import RecipientMultipath
from ..protocol import receipt as receipts
from ..protocol import session as sessions
from ..protocol.codec import encode_base64url, encode_json
from ..protocol.errors import Failure
from ..protocol.labels import shown_label
from ..protocol.manifest import (
    MAX_REASON,
    NOT_PLACED,
    PURPOSES,
    REFUSED,
    Manifest,
    Results,
    decode_manifest,
    results_root,
)
from ..protocol.paths import shown
from ..protocol.seal import Header, Message, Payload, Stream
from ..protocol.sentences import Detail
from ..protocol.session import RecipientSession
from ..protocol.tape import Tape
from ..state.folder import now_text
from ..storage.ports import Destination
from ..tasks import race
from ..version import SOFTWARE
from .driver import Connected, Driver
from .recipient import RecipientTransfer, Underway

SYNC_BYTES, SYNC_SECONDS = 64 * 1024 * 1024, 0.5  # whichever comes first
READ_BACK_STEP = 16 * 1024 * 1024  # what is read back is noted, and claimed after a restart
SHOWN_NAMES, SHOWN_HIDDEN, SHOWN_RENAMED = 5, 10, 10
PORTION = 64  # files that are written before it is looked at how long that takes
INBOX = 512  # ranges that wait in memory; the session's window is less, and an engine that drops
FURTHER_INBOX = 32  # messages nobody takes is never made to
TAKEN_IN = 16  # ranges opened and written in one go ...
GATHERED, GATHER_SECONDS = 4, 0.008  # ... once so many are there, or after so long

_HIDDEN = re.compile(rb"(?:^|/)\.[^/]*")

Range = tuple[Header, Payload]


class ReceiveDriver(Driver):
    """The recipient's session, from the sender's welcome on."""

    session: RecipientSession

    def __init__(self, transfer: RecipientTransfer, connected: Connected) -> None:
        super().__init__(transfer.options, transfer.identity, connected, transfer.targets)
        self._transfer = transfer
        transfer.met(self._secured.peer.identity)
        self._opener = self._secured.suite.opener(connected.session_private)
        self.session = RecipientSession(
            self._secured, transfer.identity.key, time.monotonic(), verify=transfer.verify
        )
        self.lanes = RecipientMultipath(
            self.session, connected.carrier.data, self._step, self._carry, self._lane_context
        )
        self._destination: Destination | None = None  # once ranges may come
        self._durable, self._verified = 0, -1
        self.moved = False
        self._tape: Tape | None = None  # once it is accepted
        self._loop = asyncio.get_running_loop()
        self._synced = asyncio.Event()
        self._writing = asyncio.Lock()  # one at a time, whatever lane it came by

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._conduct(), self._sync(), self._read_back()]

    def _on_withdrawn(self, event: sessions.Withdrawn) -> None:
        assert self._destination is not None
        for entry, _ in event.entries:
            self._destination.withdraw(entry)

    def _on_event(self, event: sessions.Event) -> None:
        if isinstance(event, sessions.Offered):
            self._tell("offered")

    # -- who, what, yes or no

    async def _conduct(self) -> None:
        """Who, what, yes or no; at the end verify, place, sign."""
        session, transfer, peer = self.session, self._transfer, self._secured.peer
        met = await self._introduce()
        self._tell("connected")
        if session.needs_confirmation:
            underway = transfer.underway
            if not (underway and underway.record.confirmed):
                await self._confirm_digits(met)
            self._step(session.confirmed, time.monotonic())
        data = (await self._next(sessions.ManifestArrived)).data
        manifest = await self._thread(decode_manifest, data)
        session.read(manifest, manifest.tape())
        transfer.offered(session.transfer_id, peer.identity, manifest, data)
        underway = transfer.underway or await transfer.begin(
            session.transfer_id,
            manifest,
            data,
            (peer.identity, peer.label),
            lambda: self._accepts(met, manifest),
            confirmed=session.needs_confirmation,
        )
        del data  # as much as 64 MiB, and on the disk now
        if underway is None:
            self._step(session.decline, time.monotonic())
            return
        if underway.signed:
            await self._present(underway)
        else:
            await self._take_up(underway)
            delivered = await self._next(sessions.Delivered)
            await self._finish(underway, delivered)
        await self._confirm(underway)

    async def _accepts(self, met: PeerMet, manifest: Manifest) -> bool:
        offer = await self._thread(describe, manifest)
        self._options.emit(offer)
        renamed = [entry for entry in manifest.entries if entry.original]
        for entry in renamed[:SHOWN_RENAMED]:
            before = shown(entry.original.decode(errors="backslashreplace"))
            self._options.emit(Warned("renamed_by_sender", shown(entry.path, 256), before))
        if rest := len(renamed[SHOWN_RENAMED:]):
            self._options.emit(Warned("renamed_more", detail=str(rest)))
        if self._options.auto:
            # Deeper ones lie in a folder that is made for them.
            tops = [name for name in offer.hidden_names if "/" not in name]
            if tops and not self._options.allow_hidden:
                raise Failure("hidden_names", ", ".join(tops))
            return True
        if self._options.ask is None:
            raise Failure("needs_answer", Detail("accept"))
        return await self._options.ask(Question("accept", met, self._secured.digits, offer))

    async def _take_up(self, underway: Underway) -> None:
        """Say yes, from where the disk stands. What an earlier process left is read back first."""
        if not underway.verified and (not underway.checked or underway.destination.doubtful):
            self._tell("checking")
            await self._thread(underway.check, self._is_over)
        again = await self._thread(underway.take_up)
        self._durable = durable = underway.record.durable
        self._tell("resumed" if again else "accepted")
        session, now = self.session, time.monotonic()
        self._step(session.accept, now_text(), now, durable)
        if underway.verified:
            self._verified = durable
            self._step(session.verified, durable, now)
        self._destination, self._tape = underway.destination, underway.tape
        self._step(session.synced, durable, now)
        self._synced.set()

    # -- bytes

    async def _carry(self, number: int, lane: Lane) -> None:
        """Lane -> memory -> disk, until the lane is lost and what came by it is written."""
        inbox: asyncio.Queue[Message] = asyncio.Queue(INBOX if number == 0 else FURTHER_INBOX)
        await race(self._listen(number, lane, inbox), self._take_in(number, inbox))

    async def _listen(self, number: int, lane: Lane, inbox: asyncio.Queue[Message]) -> None:
        """Lane -> memory."""
        with suppress(LaneLost):
            while True:
                message = await lane.recv()
                if self._options.limit:
                    with self._waits.on("limit"):
                        await self._limiter.take(len(message))
                await inbox.put(message)
        if number == 0:
            self._lose()
        await inbox.join()

    async def _take_in(self, number: int, inbox: asyncio.Queue[Message]) -> None:
        """Memory -> open -> write, as many ranges at a time as are there."""
        while self._ended is None:
            batch = [await inbox.get()]
            if inbox.qsize() + 1 < GATHERED:
                await asyncio.sleep(GATHER_SECONDS)
            while len(batch) < TAKEN_IN and not inbox.empty():
                batch.append(inbox.get_nowait())
            opened = await self._thread(self._open, batch)
            fresh = self._step(self._admitted, opened, time.monotonic(), number)
            async with self._writing:
                with self._waits.on("disk"):
                    await self._thread(self._write, fresh)
            self._step(self._written, fresh, time.monotonic(), number)
            for _ in batch:
                inbox.task_done()

    def _open(self, messages: list[Message]) -> list[Range]:
        opened = map(self._opener.open, messages)
        return [(head, decompress(head.flags, head.length, payload)) for head, payload in opened]

    def _admitted(self, opened: list[Range], now: float, lane: int) -> list[Range]:
        return [(head, data) for head, data in opened if self.session.admit(head, now, lane)]

    def _write(self, ranges: list[Range]) -> None:
        for header, payload in ranges:
            if header.stream == Stream.DATA:
                assert self._destination is not None
                if header.hole:
                    self._destination.hole(header.offset, header.length)
                else:
                    self._write_portions(self._destination, header, payload)

    def _write_portions(self, destination: Destination, header: Header, payload: Payload) -> None:
        """A range, a few files at a time: each may cost a sync, and what is there counts."""
        assert self._tape is not None
        told = time.monotonic()
        for start, end in self._tape.portions(header.offset, header.length, PORTION):
            destination.write(start, payload[start - header.offset : end - header.offset])
            now = time.monotonic()
            if self._over:  # nobody waits for the rest; it comes again
                return
            if now - told >= SYNC_SECONDS and end < header.end:
                told = now
                self._loop.call_soon_threadsafe(self._partly_written, header, end, now)

    def _partly_written(self, header: Header, offset: int, now: float) -> None:
        if self._ended is None and not self._over:
            self._step(self.session.partly_written, header, offset, now)

    def _written(self, fresh: list[Range], now: float, lane: int) -> None:
        for header, payload in fresh:
            self.session.written(header, payload, now, lane)

    async def _sync(self) -> None:
        """Written -> on the disk for good."""
        last = 0.0
        while self._ended is None:
            underway = self._transfer.underway if self._destination is not None else None
            frontier = self.session.frontier if self._tape is not None else 0
            owed = frontier - self._durable
            due = last + SYNC_SECONDS - time.monotonic()
            if underway is None or owed <= 0:
                await self._woken()
            elif due > 0 and owed < SYNC_BYTES and frontier < underway.tape.total:
                await asyncio.sleep(min(due, 0.05))
            else:
                with self._waits.on("disk"):
                    await self._thread(_sync_and_note, underway, frontier)
                last, self._durable, self.moved = time.monotonic(), frontier, True
                self._synced.set()
                self._step(self.session.synced, frontier, last)

    async def _read_back(self) -> None:
        """On the disk for good -> read back and hashed."""
        while self._ended is None:
            underway = self._transfer.underway
            if self._destination is None or underway is None or self._durable <= self._verified:
                self._synced.clear()
                await self._synced.wait()
                continue
            upto = min(self._durable, self._verified + READ_BACK_STEP)
            self._verified = await self._thread(self._destination.read_back, upto)
            await self._thread(underway.note)
            self._step(self.session.verified, self._verified, time.monotonic())
            if self._verified == underway.tape.total:
                self._tell("verifying")

    # -- the end

    async def _finish(self, underway: Underway, delivered: sessions.Delivered) -> None:
        """Compare, place, sign. The half-signed receipt is on the disk before it is sent."""
        manifest, kept = underway.manifest, self._options.home.receipts
        self._tell("verifying")
        results = await self._thread(underway.settle, delivered.digests)
        await self._thread(underway.place, results)
        if underway.destination.refused:
            self._options.emit(Warned("times_refused"))
        where = shown(underway.destination.where, 256)
        unplaced = any(status == NOT_PLACED for _, status in results.failures())
        if unplaced:
            self._options.emit(Warned("parts_kept", detail=where))
        root = await self._thread(results_root, manifest, results)
        self._tell("signing")
        payload = encode_json(await self._receipt(results, root))
        signature = receipts.sign(self._identity.key, payload)
        annex = self.session.transfer_id, manifest, results, underway.destination.placed
        await self._thread(kept.store_annex, *annex)
        await self._thread(underway.sign, results, payload, signature)
        if not unplaced and underway.destination.is_there():
            self._options.emit(Warned("parts_left", detail=where))
        await self._present(underway)

    async def _receipt(self, results: Results, root: bytes) -> dict[str, Any]:
        """The members of the receipt."""
        session, peer, own = self.session, self._secured.peer, self._identity
        head = await self._thread(self._options.home.audit.head)
        security = {"transcript": self._secured.transcript, **self._security()}
        return {
            "type": receipts.TYPE,
            "sender": receipts.party(
                peer.identity, peer.label, peer.software, session.sender_audit_head
            ),
            "recipient": receipts.party(own.public, own.label, SOFTWARE, head),
            "stored": "file",
            "security": {
                k: encode_base64url(v) if isinstance(v, bytes) else v for k, v in security.items()
            },
            **session.receipt_members(results, root, now_text()),
        }

    async def _present(self, underway: Underway) -> None:
        """Send the receipt, signed here; again in a later session, if the first time was lost."""
        record, results = underway.record, underway.results
        assert results is not None
        payload, signature = record.payload.encode(), record.signature
        await self._transfer.keep_receipt(payload, [(self._identity.public, signature)])
        refused = [(entry, status) for entry, status in results.failures() if status in REFUSED]
        now = time.monotonic()
        self._step(self.session.finish, results, refused, payload, signature, now)

    async def _confirm(self, underway: Underway) -> None:
        """The sender's signature completes the receipt."""
        countersigned = await self._next(sessions.Countersigned)
        own = self._identity.public, underway.record.signature
        theirs = self._secured.peer.identity, countersigned.signature
        await self._transfer.keep_receipt(underway.record.payload.encode(), [own, theirs])
        await self._pin()
        self._step(self.session.confirm, time.monotonic())


def describe(manifest: Manifest) -> Offered:
    """What a person is shown of an offer: never without what is hidden."""
    files = [entry for entry in manifest.entries if entry.kind == "file"]
    tops: dict[str, None] = {}
    for entry in manifest.entries:
        if len(tops) < SHOWN_NAMES:
            tops[entry.path.split("/")[0]] = None
    found = dict.fromkeys(filter(None, (_hidden(entry.encoded) for entry in manifest.entries)))
    hidden = sorted(found, key=lambda path: b"/" in path)  # at the top level first
    return Offered(
        len(files),
        len(manifest.entries) - len(files),
        sum(entry.size for entry in files),
        tuple(map(shown, tops)),
        len(hidden),
        tuple(shown(name.decode(), 128) for name in hidden[:SHOWN_HIDDEN]),
        manifest.skipped,
        PURPOSES.get(manifest.purpose, ""),
        shown_label(manifest.reason, MAX_REASON),
    )


def _hidden(path: bytes) -> bytes:
    """The topmost part of a path that is hidden, with what is above it; b"" where none is."""
    found = _HIDDEN.search(path)
    return path[: found.end()] if found else b""


def _sync_and_note(underway: Underway, frontier: int) -> None:
    underway.destination.sync(frontier)
    underway.note(durable=frontier)
