"""What a recipient keeps while sessions come and go: what was accepted, where it lies, its end.

It is noted in the journal before the other side is told anything. It knows nothing of links or
rooms: sessions come one after the other, and it says whether what broke can go on.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..events import StateName, Warned
from ..lanes.tls.targets import Targets
from ..protocol import receipt as receipts
from ..protocol import session as sessions
from ..protocol.codec import sha256
from ..protocol.errors import LOCAL_PAUSES, Ending, Failure, HandoverError, Next, PeerError
from ..protocol.manifest import Manifest, Results, decode_manifest
from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from ..protocol.tape import Tape
from ..state.folder import now_text, unwritable
from ..state.identity import Identity
from ..state.journal import Journal, Journals, RecipientRecord
from ..storage.destination import FolderDestination, check_writable
from ..storage.placing import free_names
from ..storage.ports import Destination, Marked, Stopped
from ..tasks import in_thread
from .options import Options
from .outcome import Outcome, Summary, may_go_on

DISK_SECONDS = 2.0  # between two looks at a disk that took no more
CONFIRM_SECONDS = 15.0  # that a sender is gone for, before its signature is waited for no more
LONGEST_CONFIRM_SECONDS = 600.0  # for it, whatever the network says; `resume` asks again
GIVE_UP_SECONDS = 24 * 3600.0  # no link lives longer without its recipient
OpenDestination = Callable[[Path, Manifest, Tape, bytes, Marked], Destination]


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

    @property
    def verified(self) -> bool:
        """Whether all was read back and compared, in whatever session."""
        return self.record.phase != "receiving"

    def note(self, **changes: Any) -> None:
        """Note how far it is, from any thread. Raises `OSError`."""
        tail, mark = self.destination.tail
        gone = self.destination.gone
        self.journal.write(tail=tail, tail_mark=mark, gone=gone, **changes)

    # Each of these in a thread. Raises `OSError`.

    def check(self, stopped: Stopped) -> None:
        """Read back what an earlier process left: what is not as it was noted comes again."""
        noted = self.record.tail, self.record.tail_mark, self.journal.marks()
        self.note(durable=self.destination.recheck(*noted, stopped))
        self.checked = True

    def take_up(self) -> bool:
        """Ranges may come, from where the disk stands; whether an earlier session let them."""
        self.destination.begin(self.record.durable)
        before, self.begun = self.begun, True
        return before

    def settle(self, digests: bytes) -> Results:
        """Everything has arrived: what became of each entry, by the sender's `digests`; the names
        to give are noted. Raises `PeerError` too."""
        claimed = Results.decode(digests, self.manifest)
        if self.results is None:
            results = self.destination.compare(claimed)
            renamed = self.destination.choose_names()
            self.journal.store("results", results.encode())
            self.journal.write(phase="placing", renamed=[[a, b] for a, b in renamed.items()])
            self.results = results
        return self.results

    def place(self, results: Results) -> None:
        """Give what is delivered its final names."""
        renamed = {str(name): str(placed) for name, placed in self.record.renamed}

        def note() -> None:
            self.journal.write(renamed=[[a, b] for a, b in renamed.items()])

        again, self.again = self.again, True
        self.destination.place(results, renamed, note, again=again)

    def sign(self, results: Results, payload: bytes, signature: bytes) -> None:
        """The receipt is signed here: note it, then leave nothing else behind."""
        self.journal.store("results", results.encode())
        self.journal.write(phase="signed", payload=payload.decode(), signature=signature)
        self.destination.finish(results)


class RecipientTransfer:
    """What a recipient keeps while sessions come and go."""

    def __init__(
        self,
        options: Options,
        output: Path | None,
        *,
        verify: bool = False,
        open_destination: OpenDestination = FolderDestination,
    ) -> None:
        """`output`: None for a new folder in the working directory. `verify`: whether this side
        wants the check digits compared."""
        self.options, self._output, self._verify = options, output, verify
        self._made = False  # the folder, by this transfer
        self.targets = Targets()
        self.identity: Identity  # once `identify` was called
        self._open_destination = open_destination
        self._link = ""
        self.underway: Underway | None = None
        self.receipt: Path | None = None
        self.cut: StateName = "lost"  # why the sender is not there any more
        self._journal: Journal | None = None
        self._summary = Summary()

    def identify(self, identity: Identity) -> None:
        """Who this side is; first of all."""
        self.identity = identity

    @property
    def verify(self) -> bool:
        """Whether this side wants the check digits compared."""
        return self._verify or bool(self.underway and self.underway.record.verify)

    def compare_digits(self, why: str) -> None:
        """This side has to want that; `why` is a code of the catalogue under `detail`. Raises
        `Failure` where nobody is there to do so."""
        if self.options.ask is None:
            raise Failure("not_allowed", Detail(why))
        self._verify = True

    # -- what an earlier process left

    async def recall(self, link: str, secret: bytes) -> None:
        """Take up what an earlier process left under this link, which is noted, so that a later one
        can do the same. Raises `Failure`."""
        self._link = link
        await in_thread(self._recall, secret)

    def _recall(self, secret: bytes) -> None:
        journal = Journals(self.options.home).of_secret(secret, "recipient")
        if journal is None:
            return
        record = journal.record
        assert isinstance(record, RecipientRecord)
        if not journal.hold():
            raise Failure("transfer_running", journal.short_id)
        self._summary.transfer_id, self._summary.peer = record.transfer_id, record.peer
        try:
            self._take_up(journal, record)
        except BaseException:
            journal.release()  # and leave it as it is, whatever becomes of this
            raise
        self._journal = journal

    def _take_up(self, journal: Journal, record: RecipientRecord) -> None:
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
        journal.record = replace(record, options=self.options.begun_with())  # as they are now
        if self._verify:
            journal.note_verify()
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

    async def run(self, sessions_end: Callable[[], Awaitable[sessions.Ended]]) -> Outcome:
        """Until it has ended. `sessions_end` waits for the last of its sessions. Raises
        `HandoverError`."""
        try:
            ended = await in_thread(self._complete) or await sessions_end()
            return self.summary.outcome(ended)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.underway is None or not self.underway.signed or task is None:
                raise
            task.uncancel()  # all is delivered: nothing is cancelled
            unconfirmed = sessions.Ended(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")
            complete = await in_thread(self._complete)
            return self.summary.outcome(complete or unconfirmed)

    def _complete(self) -> sessions.Ended | None:
        """The end, when both have signed and nobody could say so: an earlier process died, or this
        one is stopped. In a thread. Raises `Failure`."""
        underway = self.underway
        if underway is None or self.receipt is None or underway.results is None:
            return None
        receipt = self.options.home.receipts.read(underway.record.transfer_id)
        if receipt is None or not receipt.confirmed:
            return None
        failed = any(True for _ in underway.results.failures())
        return sessions.Ended(Ending.INCOMPLETE if failed else Ending.COMPLETE)

    def broke_off(
        self,
        failure: HandoverError | None,
        *,
        proven: bool,
        silence: float,
        away: float,
        idle: float,
    ) -> sessions.Ended | None:
        """A session came to no end, or to none at all: None when another may. Raises `failure` when
        none may.

        `failure` is None where only the sender's signature is missing, `proven` whether the sender
        was; `silence`, `away` and `idle` count the seconds since the sender was there, since it was
        not known to be gone, and since a session brought anything.
        """
        if self.underway is None:
            assert failure is not None
            raise failure
        if failure and not _may_pass(failure, proven=proven):
            raise failure
        if self.underway.signed:
            if away > CONFIRM_SECONDS or silence > LONGEST_CONFIRM_SECONDS:
                return sessions.Ended(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")
        elif failure and idle > GIVE_UP_SECONDS:
            raise failure
        self.cut = "lost"
        if failure is not None and failure.code in ("disk_paused", *LOCAL_PAUSES):
            self.cut = "sender_paused" if failure.detail == sessions.AT_PEER else "paused"
            if self.cut == "paused":
                self.options.emit(Warned(failure.code, detail=failure.detail))
        elif failure is not None and failure.code.startswith("server_"):
            self.cut = "server_lost"
        return None

    async def ready(self) -> None:
        """Wait until another session makes sense: for a disk of this side that took no more."""
        while self.cut == "paused" and not await in_thread(self._takes_data):
            await asyncio.sleep(DISK_SECONDS)

    def _takes_data(self) -> bool:
        assert self.underway is not None
        there = self.underway.signed or self.underway.destination.takes_data()
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
            raise PeerError("transfer_id_reused")
        output = await in_thread(self._choose_output)
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
            verify=self._verify,
            options=self.options.begun_with(),
            output=os.fsencode(output),
        )
        journal = Journal(Journals(home).path(record), record)
        if journal.begun:  # and yet not found by its link
            other = await in_thread(lambda: journal.running)
            raise Failure("transfer_running" if other else "journal_damaged", journal.short_id)
        destination = self._open_destination(
            output, manifest, tape, transfer_id, journal.append_mark
        )
        await in_thread(destination.check_space)
        if not await accepts():
            return None
        await in_thread(destination.check_space)
        await in_thread(self._begin, Underway(journal, manifest, tape, destination), data)
        return self.underway

    def _begin(self, underway: Underway, data: bytes) -> None:
        """Note what was accepted, and make its place. In a thread. Raises `Failure`; then nothing
        is left of it, for nothing was promised yet."""
        journal = underway.journal
        try:
            try:
                Journals(self.options.home).begin(journal, data)
                underway.note()
            except OSError as error:
                raise unwritable(error) from None
            underway.destination.prepare()
        except BaseException:
            if journal.held:  # else it is another process's
                journal.remove()
            raise
        self._journal, self.underway = journal, underway

    def check(self) -> None:
        """Before anybody is asked for anything: whether there is a place for what arrives. In a
        thread. Raises `Failure` (not_writable, home_unwritable)."""
        if self.underway is None:  # else it waits until there is
            check_writable((self._output or Path.cwd()).absolute())
            self.options.home.check()

    def _choose_output(self) -> Path:
        """Where it is to arrive; a new folder is made. Raises `Failure`."""
        if self._output is None:
            try:
                self._output, self._made = make_folder(Path.cwd()), True
            except OSError as error:
                raise Failure("not_writable", os_detail(error)) from None
        self._output = self._output.absolute()
        return self._output

    def met(self, identity: bytes) -> None:
        """This sender is proven."""
        self._summary.peer = identity

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
        self.receipt = await in_thread(store, transfer, document)

    # -- how it ends

    @property
    def summary(self) -> Summary:
        """What the audit log and the last event say of it."""
        found = replace(self._summary, receipt=self.receipt)
        if self.underway is not None:
            placed = self.underway.destination.placed.values()
            found.manifest = found.manifest or self.underway.manifest
            found.manifest_sha256 = self.underway.record.manifest_sha256
            found.results = self.underway.results
            found.places = tuple(dict.fromkeys(path.split("/")[0] for path in placed))
            found.folder = Path(os.fsdecode(self.underway.record.output))
        return found

    def conclude(self, code: str, *, noted: bool) -> None:
        """It has ended: keep what can be taken up again, and remove everything else."""
        keep = not noted or may_go_on(code)
        self._put_away(keep=keep)
        if self._made and self._output is not None:
            with suppress(OSError):  # it is not empty
                self._output.rmdir()
        if self._journal is None:
            return
        if keep:
            self._journal.release()
        else:
            self._journal.remove()

    def _put_away(self, *, keep: bool) -> None:
        if self.underway is None:
            return
        destination, results = self.underway.destination, self.underway.results
        if self.underway.signed and results is not None:
            destination.finish(results)
        elif keep:
            destination.close()
        else:
            destination.discard()


def make_folder(parent: Path) -> Path:
    """A new folder for what arrives now, named by the day and time. Raises `OSError`."""
    name = f"handover-{datetime.now():%Y-%m-%d-%H%M%S}"
    for candidate in free_names(name, directory=True):
        with suppress(FileExistsError):
            (parent / candidate).mkdir()
            return parent / candidate
    raise FileExistsError(errno.EEXIST, "too many of that name")


def _may_pass(failure: HandoverError, *, proven: bool) -> bool:
    """Whether trying again may help. What goes wrong before the sender is proven may be a server's
    or a stranger's doing: no reason to give up what is there."""
    wrong = failure.code == "passphrase_wrong"
    return (not proven and not wrong) or failure.next >= Next.RETRY
