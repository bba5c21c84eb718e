"""A transfer across sessions: what was promised, how far it came, cuts, resuming, its end.

`SenderTransfer` and `RecipientTransfer` each own the state that outlives a connection, and note it
in the journal before the other side is promised anything. They know nothing of links or rooms: a
peer that is proven is handed to them, and they say whether what broke can go on.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..connect.rendezvous import is_nobody_there
from ..events import StateChanged, StateName, Warned
from ..protocol import receipt as receipts
from ..protocol import session as sessions
from ..protocol.codec import sha256
from ..protocol.errors import Ending, Failure, HandoverError, Next, PeerError
from ..protocol.link import Link
from ..protocol.manifest import SALT, Manifest, Results, decode_manifest, encode_manifest
from ..protocol.paths import shown
from ..protocol.tape import Tape
from ..state.folder import now_text
from ..state.identity import Identity
from ..state.journal import MAX_CLOSINGS, Journal, Journals, RecipientRecord, SenderRecord
from ..storage.destination import FolderDestination
from ..storage.listing import Listing, SourceFile, Warn, find_again
from ..storage.ports import Destination, Marked, Source, Stopped
from ..storage.source import FolderSource
from ..tasks import uncancelled
from .options import Options
from .outcome import Outcome, Summary, may_go_on, unnoted

FIRST_BACKOFF, LAST_BACKOFF = 0.5, 6.0  # a server lets an address knock in vain ten times a minute
DISK_SECONDS = 2.0  # between two looks at a disk that took no more
CONFIRM_SECONDS = 15.0  # that a sender is gone for, before its signature is waited for no more
LONGEST_CONFIRM_SECONDS = 600.0  # for it, whatever the network says; `resume` asks again
GIVE_UP_SECONDS = 24 * 3600.0  # no link lives longer without its recipient

ListSources = Callable[[Warn, Stopped], Listing]
OpenSource = Callable[[Listing, Tape, int], Source]  # the last: headroom of each block, in bytes
OpenDestination = Callable[[Path, Manifest, Tape, bytes, Marked], Destination]


# --- the sender ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """What is sent. `data` is the manifest's encoding."""

    listing: Listing
    manifest: Manifest
    data: bytes
    tape: Tape


class SenderTransfer:
    """What a sender keeps while sessions come and go."""

    def __init__(
        self,
        options: Options,
        record: SenderRecord,
        list_sources: ListSources,
        *,
        journal: Journal | None = None,
        open_source: OpenSource = FolderSource,
    ) -> None:
        """`journal`: an earlier process's, whose record this is."""
        self.options = options
        self.identity: Identity  # once `identify` was called
        self.recalled = journal is not None
        self.open_source = open_source
        self.results: Results | None = None  # as far as earlier sessions came
        self.receipt: Path | None = None
        self.durable = record.durable  # how far the recipient's disk holds the tape for good
        # Why the recipient is not there any more, once a transfer was under way.
        self.cut: StateName | None = "lost" if record.peer else None
        self._record, self._journal = record, journal
        self._list_sources = list_sources
        self.met = b""  # the identity of the last recipient that was proven, let in or not
        self._prepared: Prepared | None = None
        self._preparing: asyncio.Task[Prepared] | None = None
        self._stopped = False

    @property
    def record(self) -> SenderRecord:
        """What is noted, or will be."""
        if self._journal is None:
            return self._record
        assert isinstance(self._journal.record, SenderRecord)
        return self._journal.record

    def identify(self) -> None:
        """Load this side's identity; first of all. Raises `Failure`."""
        self.identity = self.options.home.identity.load()
        if self.recalled and self.record.identity != self.identity.public:
            raise Failure("journal_foreign")
        self._record = replace(self._record, identity=self.identity.public)

    # -- what is sent

    def prepare(self) -> asyncio.Task[Prepared]:
        """List what is sent and note it, or recall both; begun once. Raises `HandoverError`."""
        if self._preparing is None:
            self._preparing = asyncio.create_task(self._prepare())
        return self._preparing

    async def _prepare(self) -> Prepared:
        if self._journal is not None:
            found, self.results = await asyncio.to_thread(_recall_sources, self._journal)
        else:
            loop, emit = asyncio.get_running_loop(), self.options.emit

            def warn(code: str, path: str, detail: str) -> None:
                loop.call_soon_threadsafe(emit, Warned(code, shown(path, 256), detail))

            listing = await asyncio.to_thread(self._list_sources, warn, lambda: self._stopped)
            begun = await asyncio.to_thread(self._begin, listing, self._record)
            self._journal, found = begun
        self._prepared = found
        return found

    def _begin(self, listing: Listing, record: SenderRecord) -> tuple[Journal, Prepared]:
        """In a thread: the manifest, and that it stands in a journal of its own."""
        manifest = Manifest(listing.entries, os.urandom(SALT))
        data, tape = encode_manifest(manifest), manifest.tape()
        journals = Journals(self.options.home)
        record = replace(record, manifest_sha256=sha256(data), total=tape.total)
        journal = Journal(journals.path(record), record)
        try:
            journals.begin(journal, data)
            journal.store_sources(listing.sources)
            journal.write()
        except OSError as error:
            raise unnoted(error) from None
        return journal, Prepared(listing, manifest, data, tape)

    def stop(self) -> None:
        """Nobody waits for what is prepared any more."""
        self._stopped = True
        if self._preparing is not None:
            self._preparing.cancel()

    # -- whom it is for

    def linked(self, link: str, port: int) -> None:
        """This link leads here. Before it is prepared."""
        self._record = replace(self._record, link=link, port=port)

    @property
    def peer(self) -> bytes:
        """The identity of the recipient that was let in, or b"": from then on it is theirs."""
        return self.record.peer

    async def admitted(self, identity: bytes, label: str, *, confirmed: bool) -> None:
        """From now on it is this recipient's alone; noted before anything is offered."""
        before = self.cut
        confirmed |= self.record.confirmed
        await self.note(peer=identity, label=shown(label), confirmed=confirmed)
        self.options.emit(StateChanged("resumed" if before else "admitted"))

    # -- how far it is

    async def note(self, **changes: Any) -> None:
        """Note changes of the record. Raises `OSError`."""
        assert self._journal is not None
        await asyncio.to_thread(partial(self._journal.write, **changes))

    async def note_closing(self, closed: dict[str, Any], results: Results) -> None:
        """What a receipt must say of a session that is being closed, and what became of each entry:
        noted before the closing is said. Raises `OSError`."""
        assert self._journal is not None
        await asyncio.to_thread(self._journal.store, "results", results.encode())
        await self.note(closings=[*self.record.closings, closed][-MAX_CLOSINGS:])

    async def keep_receipt(
        self, payload: bytes, recipient: tuple[bytes, bytes], sender: tuple[bytes, bytes]
    ) -> None:
        """Keep the receipt with both (key, signature), and the annex beside it."""
        assert self._prepared is not None
        assert self.results is not None
        home, transfer = self.options.home, self.record.transfer_id
        document = receipts.assemble(payload, [recipient, sender])
        self.receipt = await asyncio.to_thread(home.receipts.store, transfer, document)
        manifest, results = self._prepared.manifest, self.results
        await asyncio.to_thread(home.receipts.store_annex, transfer, manifest, results, {})

    def confirmed_before(self) -> bool:
        """Whether both had signed the receipt when an earlier process died."""
        path = self.options.home.receipts.path(self.record.transfer_id)
        with suppress(OSError, receipts.BadReceipt):
            if receipts.verify(path.read_bytes()).confirmed:
                self.receipt = path
                return True
        return False

    # -- how it ends

    def outlives(self, error: HandoverError, *, can_resume: bool) -> bool:
        """Whether it goes on, or stays open for others, after a session that ended so."""
        resumable = error.next >= Next.WAIT and can_resume
        lost = error.code == "connection_lost"
        if resumable:
            own = error.detail != sessions.AT_PEER
            self.cut = "lost" if lost else "sender_paused" if own else "paused"
            if own and not lost:
                self.warn(error)
        again = error.code == "connection_lost_early" or resumable
        loud = error.code in ("digits_rejected", "needs_answer")
        if not again and (self.peer or loud):
            return False
        if not self.cut:
            self.warn(error)
        return True

    def warn(self, error: HandoverError) -> None:
        """Say a failure that is not the end."""
        self.options.emit(Warned(error.code, detail=error.detail))

    def give_up(self) -> Outcome:
        """Nobody came, or came back, in time. Raises `Failure`, unless both have signed."""
        if self.receipt is None:
            raise Failure("connection_lost" if self.cut else "expired")
        return Outcome(Ending.COMPLETE, "receipt_unconfirmed", "", self.receipt)

    @property
    def summary(self) -> Summary:
        """What the audit log and the last event say of it."""
        prepared, record = self._prepared, self.record
        manifest = prepared.manifest if prepared and record.peer else None
        results = self.results if self.receipt is not None else None
        return Summary(
            transfer_id=record.transfer_id,
            peer=record.peer or self.met,
            manifest=manifest,
            manifest_sha256=record.manifest_sha256,
            results=results,
            receipt=self.receipt,
        )

    def conclude(self, code: str) -> None:
        """It has ended: forget the journal, unless it can still be taken up."""
        if self._journal is None:
            return
        if (self.peer or self.recalled) and may_go_on(code):
            self._journal.release()
        else:
            self._journal.remove()


def _recall_sources(journal: Journal) -> tuple[Prepared, Results | None]:
    """The listing of before the restart, and the results as far as they came. In a thread.

    Raises `Failure` when a source is not as it was.
    """
    results: Results | None = None
    try:
        data, sources = journal.read("manifest"), journal.sources()
        manifest = decode_manifest(data)
        if known := journal.read("results"):
            results = Results.recall(known, len(manifest.entries))
        same = sha256(data) == journal.record.manifest_sha256
        if not same or len(sources) != len(manifest.entries):
            raise Failure("journal_damaged", journal.short_id)
    except (OSError, HandoverError):
        raise Failure("journal_damaged", journal.short_id) from None
    found: list[SourceFile | None] = []
    for index, source in enumerate(sources):
        given_up = results is not None and results[index][0] != 0
        there = find_again(source) if source and not given_up else source
        if source is not None and there is None:
            raise Failure("source_changed", shown(source.path, 256))
        found.append(there)
    listing = Listing(manifest.entries, tuple(found))
    return Prepared(listing, manifest, data, manifest.tape()), results


# --- the recipient -------------------------------------------------------------------------------


@dataclass
class Underway:
    """A transfer that was accepted, over as many sessions and processes as it takes."""

    journal: Journal
    manifest: Manifest
    tape: Tape
    destination: Destination
    results: Results | None = None  # once everything has arrived
    checked: bool = True  # whether what lies on the disk is known to be what was noted
    begun: bool = False  # some session has got as far as the accept
    again: bool = False  # an earlier process may have begun to place files

    @property
    def record(self) -> RecipientRecord:
        """What is noted."""
        assert isinstance(self.journal.record, RecipientRecord)
        return self.journal.record

    @property
    def signed(self) -> bool:
        """Whether all is placed, and the receipt signed here."""
        return self.record.phase == "signed"

    def note(self, **changes: Any) -> None:
        """Note how far it is, from any thread. Raises `OSError`."""
        tail, mark = self.destination.tail
        gone = self.destination.gone
        self.journal.write(tail=tail, tail_mark=mark, gone=gone, **changes)

    def place(self, results: Results) -> None:
        """Give what is delivered its final names. In a thread. Raises `OSError`."""
        renamed = {str(name): str(placed) for name, placed in self.record.renamed}

        def note() -> None:
            self.journal.write(renamed=[[a, b] for a, b in renamed.items()])

        again, self.again = self.again, True
        self.destination.place(results, renamed, note, again=again)


class ReceivingSession(Protocol):
    """One session of a recipient, as the transfer sees it."""

    moved: bool  # whether it brought anything

    async def run(self) -> sessions.Ended:
        """Until it ends. Raises `HandoverError`."""


Connect = Callable[[bool], AbstractAsyncContextManager[ReceivingSession]]


class RecipientTransfer:
    """What a recipient keeps while sessions come and go."""

    def __init__(
        self,
        options: Options,
        output: Path,
        *,
        open_destination: OpenDestination = FolderDestination,
    ) -> None:
        self.options, self._output = options, output
        self.identity: Identity  # once `identify` was called
        self._open_destination = open_destination
        self._link = ""
        self.underway: Underway | None = None
        self.receipt: Path | None = None
        self.verify = options.verify
        self._journal: Journal | None = None
        self._summary = Summary()

    def identify(self) -> None:
        """Load this side's identity; first of all. Raises `Failure`."""
        self.identity = self.options.home.identity.load()

    # -- what an earlier process left

    async def recall(self, link: Link) -> None:
        """Take up what an earlier process left under this link, which is noted, so that a later one
        can do the same. Raises `Failure`."""
        self._link = str(link)
        await asyncio.to_thread(self._recall, link.secret)

    def _recall(self, secret: bytes) -> None:
        journal = Journals(self.options.home).of_secret(secret, "recipient")
        if journal is None:
            return
        record = journal.record
        assert isinstance(record, RecipientRecord)
        if not journal.hold():
            raise Failure("transfer_running", journal.short_id)
        self._journal = journal
        self._summary.transfer_id, self._summary.peer = record.transfer_id, record.peer
        if record.identity != self.identity.public:
            raise Failure("journal_foreign")
        try:
            data = journal.read("manifest")
            manifest = decode_manifest(data)
            results = None
            if record.phase != "receiving":
                results = Results.recall(journal.read("results"), len(manifest.entries))
        except (OSError, PeerError):
            data, manifest, results = b"", None, None
        if journal.damaged or manifest is None or sha256(data) != record.manifest_sha256:
            raise Failure("journal_damaged", journal.short_id)
        tape, output = manifest.tape(), Path(os.fsdecode(record.output))
        self.verify |= record.verify
        destination = self._open_destination(
            output, manifest, tape, record.transfer_id, journal.append_mark
        )
        there = destination.is_there()
        if record.phase == "receiving" and record.durable and not there:
            raise Failure("parts_missing", shown(destination.where, 256))
        if record.phase != "signed" or there:
            destination.prepare(again=True)
        for entry in record.gone:
            destination.withdraw(entry)
        self.underway = Underway(
            journal, manifest, tape, destination, results, checked=False, begun=True, again=True
        )
        if record.phase == "signed" and results is not None:
            self._recall_signed(record, destination, results, there)

    def _recall_signed(
        self, record: RecipientRecord, destination: Destination, results: Results, there: bool
    ) -> None:
        """All is placed and signed: tidy up, and see that the receipt is there."""
        if there:
            destination.finish(results)
        kept = self.options.home.receipts
        self.receipt = kept.path(record.transfer_id)
        if not self.receipt.exists():
            signed = [(self.identity.public, record.signature)]
            kept.store(record.transfer_id, receipts.assemble(record.payload.encode(), signed))

    # -- one session after the other

    async def run(self, connect: Connect) -> Outcome:
        """Until it has ended. `connect` opens one connection and hands over its session; it is told
        whether one was there before. Raises `HandoverError`."""
        code = "internal"
        try:
            ended = self._complete() or await self._sessions(connect)
            code = ended.code
            return self.summary.outcome(ended)
        except HandoverError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = "cancelled"
            task = asyncio.current_task()
            if self.underway is None or not self.underway.signed or task is None:
                raise
            task.uncancel()  # all is delivered: nothing is cancelled
            code = "unconfirmed"
            return self.summary.outcome(sessions.Ended(Ending.DELIVERED_UNCONFIRMED, code))
        finally:
            await uncancelled(asyncio.to_thread(self._put_away, code))

    def _complete(self) -> sessions.Ended | None:
        """The end, when an earlier process had come to it and only died before it could say so."""
        underway = self.underway
        if underway is None or self.receipt is None or underway.results is None:
            return None
        with suppress(OSError, receipts.BadReceipt):
            if receipts.verify(self.receipt.read_bytes()).confirmed:
                failed = any(True for _ in underway.results.failures())
                return sessions.Ended(Ending.INCOMPLETE if failed else Ending.COMPLETE)
        return None

    async def _sessions(self, connect: Connect) -> sessions.Ended:
        """One session after the other, until one has come to an end that is one."""
        backoff = FIRST_BACKOFF
        heard = there = time.monotonic()
        while True:
            session: ReceivingSession | None = None
            failure: HandoverError | None = None
            try:
                async with connect(self.underway is not None) as session:
                    ended = await session.run()
                if ended.code != "unconfirmed":
                    return ended
            except HandoverError as error:
                failure = error
            if session is not None:
                heard = time.monotonic()
                if session.moved:
                    backoff = FIRST_BACKOFF
            silence = time.monotonic() - heard
            if self.underway is None:
                assert failure is not None
                raise failure
            if failure and not _may_pass(failure, proven=session is not None):
                raise failure
            if failure is None or not is_nobody_there(failure):
                there = time.monotonic()
            if self.underway.signed:
                away = time.monotonic() - there
                if away > CONFIRM_SECONDS or silence > LONGEST_CONFIRM_SECONDS:
                    return sessions.Ended(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")
            elif failure and silence > GIVE_UP_SECONDS:
                raise failure
            await self._wait(self.underway, failure, backoff)
            backoff = min(2 * backoff, LAST_BACKOFF)

    async def _wait(
        self, underway: Underway, failure: HandoverError | None, backoff: float
    ) -> None:
        """Until the next try; for a disk of this side, until it takes data again."""
        state: StateName = "lost"
        if failure is not None and failure.code in ("disk_paused", "home_unwritable"):
            state = "sender_paused" if failure.detail == sessions.AT_PEER else "paused"
            if state == "paused":
                self.options.emit(Warned(failure.code, detail=failure.detail))
        elif failure is not None and failure.code.startswith("server_"):
            state = "server_lost"
        self.options.emit(StateChanged(state))
        await asyncio.sleep(backoff)
        while state == "paused" and not await asyncio.to_thread(self._takes_data, underway):
            await asyncio.sleep(DISK_SECONDS)

    def _takes_data(self, underway: Underway) -> bool:
        there = underway.signed or underway.destination.takes_data()
        return there and self.options.home.takes_files()

    # -- what a session finds out

    async def begin(
        self,
        transfer_id: bytes,
        manifest: Manifest,
        data: bytes,
        peer: tuple[bytes, str],
        accepts: Callable[[], Awaitable[bool]],
        *,
        confirmed: bool,
    ) -> Underway | None:
        """Ask whether to accept what a `peer` (identity, label) offers, and make space for it; None
        for no. Raises `HandoverError`."""
        home, tape = self.options.home, manifest.tape()
        if home.receipts.path(transfer_id).exists():
            raise PeerError("a transfer id that was used before")
        record = RecipientRecord(
            transfer_id=transfer_id,
            link=self._link,
            identity=self.identity.public,
            peer=peer[0],
            label=shown(peer[1]),
            manifest_sha256=sha256(data),
            began=now_text(),
            total=tape.total,
            confirmed=confirmed,
            verify=self.verify,
            output=os.fsencode(os.path.abspath(self._output)),
        )
        journals = Journals(home)
        journal = Journal(journals.path(record), record)
        if journal.begun:  # and yet not found by its link
            raise Failure("journal_damaged", journal.short_id)
        destination = self._open_destination(
            self._output, manifest, tape, transfer_id, journal.append_mark
        )
        await asyncio.to_thread(destination.check_space)
        if not await accepts():
            return None
        await asyncio.to_thread(destination.check_space)
        underway = Underway(journal, manifest, tape, destination)
        try:
            await asyncio.to_thread(journals.begin, journal, data)
            await asyncio.to_thread(underway.note)
        except OSError as error:
            await asyncio.to_thread(journal.remove)
            raise unnoted(error) from None
        self._journal, self.underway = journal, underway
        await asyncio.to_thread(destination.prepare)
        return underway

    def offered(self, transfer_id: bytes, peer: bytes, manifest: Manifest, data: bytes) -> None:
        """What a sender offers, for the summary. Raises `Failure` when it is not what was begun."""
        summary = self._summary
        summary.transfer_id, summary.peer = transfer_id, peer
        summary.manifest, summary.manifest_sha256 = manifest, sha256(data)
        if self.underway is None:
            return
        record = self.underway.record
        began = record.peer, record.transfer_id, record.manifest_sha256
        if began != (peer, transfer_id, summary.manifest_sha256):
            raise Failure("offer_changed", self.underway.journal.short_id)

    async def keep_receipt(self, payload: bytes, signatures: list[tuple[bytes, bytes]]) -> None:
        """Keep the receipt with these (key, signature). Raises `Failure`."""
        assert self.underway is not None
        transfer, document = (
            self.underway.record.transfer_id,
            receipts.assemble(payload, signatures),
        )
        store = self.options.home.receipts.store
        self.receipt = await asyncio.to_thread(store, transfer, document)

    # -- how it ends

    def _put_away(self, code: str) -> None:
        """At the end, whatever it was: keep what can go on, remove everything else."""
        if self.underway is None:
            return
        destination, results = self.underway.destination, self.underway.results
        if self.underway.signed and results is not None:
            destination.finish(results)
        elif may_go_on(code):
            destination.close()
        else:
            destination.discard()

    @property
    def summary(self) -> Summary:
        """What the audit log and the last event say of it."""
        found = replace(self._summary, receipt=self.receipt)
        if self.underway is not None:
            placed = self.underway.destination.placed.values()
            found.manifest = found.manifest or self.underway.manifest
            found.results = self.underway.results
            found.places = tuple(dict.fromkeys(path.split("/")[0] for path in placed))
        return found

    def conclude(self, code: str) -> None:
        """It has ended: forget the journal, unless it can still be taken up."""
        if self._journal is None:
            return
        if may_go_on(code):
            self._journal.release()
        else:
            self._journal.remove()


def _may_pass(failure: HandoverError, *, proven: bool) -> bool:
    """Whether trying again may help. What goes wrong before the sender is proven may be a server's
    or a stranger's doing: no reason to give up what is there."""
    wrong = failure.code == "passphrase_wrong"
    return (not proven and not wrong) or failure.next >= Next.RETRY
