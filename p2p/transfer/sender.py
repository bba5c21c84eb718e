"""What a sender keeps while sessions come and go: what was promised to whom, how far it came.

It is noted in the journal before the other side is promised anything. It knows nothing of links or
rooms: a recipient that is proven is handed to it, and it says whether what broke can go on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..events import Listed, StateChanged, StateName, Warned
from ..lanes.tls.targets import Targets
from ..protocol import receipt as receipts
from ..protocol import session as sessions
from ..protocol.codec import sha256
from ..protocol.errors import Ending, Failure, HandoverError, Next
from ..protocol.manifest import SALT, Manifest, Results, decode_manifest, encode_manifest
from ..protocol.paths import shown
from ..protocol.sentences import Detail
from ..protocol.tape import Tape
from ..state.folder import unwritable
from ..state.identity import Identity
from ..state.journal import MAX_CLOSINGS, Journal, Journals, SenderRecord
from ..storage.listing import EntrySource, Listing, SourceFile, Warn, find_again
from ..storage.ports import Source, Stopped
from ..storage.source import FolderSource, is_away
from ..tasks import in_thread
from .options import Options
from .outcome import Outcome, Summary, may_go_on

REACH_AHEAD = 256 * 1024 * 1024  # bytes of tape that may be sent before it is noted again
ListSources = Callable[[Warn, Stopped], Listing]
OpenSource = Callable[[Listing, Tape, int], Source]  # the last: headroom of each block, in bytes


@dataclass(frozen=True)
class Prepared:
    """What is sent, and what became of it. `data` is the manifest's encoding."""

    listing: Listing
    manifest: Manifest
    data: bytes
    tape: Tape
    results: Results  # each session's in turn to fill in


class SenderTransfer:
    """What a sender keeps while sessions come and go."""

    def __init__(
        self,
        options: Options,
        record: SenderRecord,
        list_sources: ListSources,
        *,
        journal: Journal | None = None,
        verify: bool = False,
        open_source: OpenSource = FolderSource,
    ) -> None:
        """`journal`: an earlier process's, whose record this is. `verify`: the check digits are to
        be compared, whatever the record says."""
        self.options = options
        self.identity: Identity  # once `identify` was called
        self.recalled = journal is not None
        self.open_source = open_source
        self.receipt: Path | None = None
        self._reached = record.reached
        self.durable = record.durable  # how far the recipient's disk holds the tape for good
        # Whoever was let in and had not accepted when the process died was a visitor.
        if journal is not None and not record.accepted:
            record = replace(record, peer=b"", label="", confirmed=False)
            journal.record = record
        # Why the recipient is not there any more, once a transfer was under way.
        self.cut: StateName | None = "lost" if record.accepted else None
        self._record, self._journal = record, journal
        self._list_sources, self._verify = list_sources, verify
        self._accepted = False  # something was, in this process
        self.targets = Targets()
        self._met = b""  # the identity of the last recipient that was proven, let in or not
        self._prepared: Prepared | None = None
        self._preparing: asyncio.Task[Prepared] | None = None
        self._listed: Listed | None = None
        self._link_told = False
        self._stopped = False
        self._warned = ""  # why it waits, since something moved

    @property
    def record(self) -> SenderRecord:
        """What is noted, or will be."""
        if self._journal is None:
            return self._record
        assert isinstance(self._journal.record, SenderRecord)
        return self._journal.record

    @property
    def verify(self) -> bool:
        """Whether this side wants the check digits compared."""
        return self._verify or self.record.verify

    def compare_digits(self, why: str) -> None:
        """This side has to want that; `why` is a code of the catalogue under `detail`. Raises
        `Failure` where nobody is there to do so."""
        if self.options.ask is None and not self.record.confirmed:
            raise Failure("not_allowed", Detail(why))
        self._verify = True

    def identify(self, identity: Identity) -> None:
        """Who this side is; first of all. Raises `Failure`."""
        self.identity = identity
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
            found = await in_thread(_recall_sources, self._journal)
            if self._verify:
                await in_thread(self._journal.note_verify)
        else:
            loop, options = asyncio.get_running_loop(), self.options

            def warn(code: str, path: str, detail: str) -> None:
                loop.call_soon_threadsafe(options.emit, Warned(code, shown(path, 256), detail))

            listing = await in_thread(self._list_sources, warn, lambda: self._stopped)
            found = await in_thread(_describe, listing, options.purpose, options.reason)
            record = replace(
                self._record, manifest_sha256=sha256(found.data), total=found.tape.total
            )
            journals = Journals(self.options.home)
            self._journal = Journal(journals.path(record), record)
            await in_thread(_begin, journals, self._journal, found)
        self._prepared = found
        kinds = [entry.kind for entry in found.manifest.entries]
        files, folders = kinds.count("file"), kinds.count("directory")
        self._listed = Listed(files, folders, found.tape.total)
        if self._link_told:
            self.options.emit(self._listed)
        return found

    def tell_link(self) -> Listed | None:
        """The link is told now, with what is listed; None where that is told later."""
        self._link_told = True
        return self._listed

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

    def met(self, identity: bytes) -> None:
        """This recipient is proven, let in or not."""
        self._met = identity

    async def admitted(self, identity: bytes, label: str, *, confirmed: bool) -> None:
        """From now on it is this recipient's alone; noted before anything is offered."""
        before = self.cut
        confirmed |= self.record.confirmed
        await self.note(peer=identity, label=shown(label), confirmed=confirmed)
        self.options.emit(StateChanged("resumed" if before else "admitted"))

    def accepted(self) -> None:
        """The recipient has accepted: until then it was a visitor, who ends nothing but a visit."""
        self._accepted = True

    @property
    def is_accepted(self) -> bool:
        """Whether a recipient ever has, as far as that is known after a restart."""
        return self._accepted or self.cut is not None

    # -- how far it is

    @property
    def reached(self) -> int:
        """How far the tape was ever handed to the recipient; after a restart, at most."""
        return self._reached

    async def reach(self, offset: int) -> None:
        """The tape is to be handed over up to `offset`. It is noted ahead, for after a restart
        nobody knows how far exactly that was. Raises `OSError`."""
        self._reached = max(self._reached, offset)
        if offset > self.record.reached:
            await self.note(reached=offset + REACH_AHEAD)

    def progressed(self, durable: int) -> None:
        """The recipient's disk holds the tape for good up to `durable`."""
        if durable > self.durable:
            self._warned = ""
        self.durable = durable

    async def note(self, **changes: Any) -> None:
        """Note changes of the record. Raises `OSError`."""
        assert self._journal is not None
        await in_thread(partial(self._journal.write, **changes))

    async def note_closing(self, closed: dict[str, Any]) -> None:
        """What a receipt must say of a session that is being closed, and what became of each entry:
        noted before the closing is said. Raises `OSError`."""
        assert self._journal is not None
        assert self._prepared is not None
        await in_thread(self._journal.store, "results", self._prepared.results.encode())
        await self.note(closings=[*self.record.closings, closed][-MAX_CLOSINGS:])

    async def keep_receipt(
        self, payload: bytes, recipient: tuple[bytes, bytes], sender: tuple[bytes, bytes]
    ) -> None:
        """Keep the receipt with both (key, signature), and the annex beside it."""
        assert self._prepared is not None
        home, transfer = self.options.home, self.record.transfer_id
        document = receipts.assemble(payload, [recipient, sender])
        self.receipt = await in_thread(home.receipts.store, transfer, document)
        manifest, results = self._prepared.manifest, self._prepared.results
        await in_thread(home.receipts.store_annex, transfer, manifest, results)

    def confirmed_before(self) -> bool:
        """Whether both had signed the receipt when an earlier process died. In a thread. Raises
        `Failure`."""
        kept, transfer = self.options.home.receipts, self.record.transfer_id
        receipt = kept.read(transfer)
        if receipt is None or not receipt.confirmed:
            return False
        self.receipt = kept.path(transfer)
        return True

    # -- how it ends

    async def outlives(self, error: HandoverError, *, can_resume: bool) -> bool:
        """Whether it goes on, or stays open for others, after a session that ended so."""
        own = error.detail != sessions.AT_PEER
        if not self.is_accepted:
            if self._ends_it(error, own=own):
                return False
            self.warn(error)
            if self._prepared is not None:
                self._prepared.results.clear()  # a visitor's word is not the next one's
            if self.peer:  # it is nobody's again
                with suppress(OSError):
                    await self.note(peer=b"", label="", confirmed=False)
            return True
        if error.code == "connection_lost_early":
            return True
        if error.next < Next.WAIT or not can_resume:
            return False
        lost = error.code == "connection_lost"
        self.cut = "lost" if lost else "sender_paused" if own else "paused"
        if own and not lost and error.code != self._warned:  # it tries again and again: said once
            self.warn(error)
            self._warned = error.code
        return True

    def _ends_it(self, error: HandoverError, *, own: bool) -> bool:
        """Whether what ended a visit ends everything: digits that differ, and a question of this
        side's that nobody can answer. Where everybody is let in, nobody's word counts for that."""
        if error.code == "digits_rejected":
            return own or not self.options.auto
        return error.code == "needs_answer" and (self.verify or not self.options.auto)

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
        results = prepared.results if prepared and self.receipt is not None else None
        return Summary(
            transfer_id=record.transfer_id,
            peer=record.peer or self._met,
            manifest=manifest,
            manifest_sha256=record.manifest_sha256,
            results=results,
            receipt=self.receipt,
        )

    def conclude(self, code: str, *, noted: bool) -> None:
        """It has ended: forget the journal, unless it can still be taken up."""
        if self._journal is None:
            return
        if not noted or ((self.peer or self.recalled) and may_go_on(code)):
            self._journal.release()
        else:
            self._journal.remove()


def _describe(listing: Listing, purpose: str, reason: str) -> Prepared:
    """The manifest of what was listed. In a thread."""
    manifest = Manifest(listing.entries, os.urandom(SALT), listing.skipped, purpose, reason)
    results = Results(len(manifest.entries))
    return Prepared(listing, manifest, encode_manifest(manifest), manifest.tape(), results)


def _begin(journals: Journals, journal: Journal, prepared: Prepared) -> None:
    """Note what is sent. In a thread. Raises `Failure`."""
    try:
        journals.begin(journal, prepared.data)
        journal.store_sources(prepared.listing.sources)
        journal.write()
    except OSError as error:
        raise unwritable(error) from None


def _recall_sources(journal: Journal) -> Prepared:
    """The listing of before the restart, and the results as far as they came. In a thread.

    Raises `Failure` when a source is not as it was.
    """
    try:
        data, sources = journal.read("manifest"), journal.sources()
        manifest, known = decode_manifest(data), journal.read("results")
        count = len(manifest.entries)
        results = Results.recall(known, count) if known else Results(count)
        same = sha256(data) == journal.record.manifest_sha256
        if not same or len(sources) != len(manifest.entries):
            raise Failure("journal_damaged", journal.short_id)
    except (OSError, HandoverError):
        raise Failure("journal_damaged", journal.short_id) from None
    found: list[EntrySource] = []
    for index, source in enumerate(sources):
        there = source
        if isinstance(source, SourceFile) and not results[index][0]:  # that is not given up
            there = find_again(source)
            if there is None and is_away(source, manifest.entries[index].path):
                raise Failure("not_readable", shown(source.path, 256))
            if there is None:
                raise Failure("source_changed", shown(source.path, 256))
        found.append(there)
    listing = Listing(manifest.entries, tuple(found), manifest.skipped)
    return Prepared(listing, manifest, data, manifest.tape(), results)
