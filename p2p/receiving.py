"""The recipient, from `handover receive` to the receipt.

Meet (signaling), connect, shake hands, and then run a session; after a cut, or when a disk
takes data again, the next one, from where the disk stands. The session thinks; here is only the
moving:

    data lane -> Opener.open -> Destination.write -> sync, journal -> read_back -> place -> receipt

woken by what the session lets happen. Nothing here prints or asks: that is the caller's `watch` and
`ask`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .events import Offer, PeerMet, Question, StateChanged, StateName, Warned
from .files import Destination
from .home import now_text
from .journal import Journal, Journals, RecipientRecord
from .lanes import Connection, Lane, LaneLost, load
from .meeting import Ways, receive_early
from .multipath import RecipientMultipath
from .press import unpress
from .protocol import receipt as receipts
from .protocol import session as facts
from .protocol.codec import encode_base64url, encode_json, sha256
from .protocol.errors import Ending, Failure, HandoverError, Next, PeerError
from .protocol.handshake import (
    DIRECT,
    HANDSHAKE_SECONDS,
    LANES,
    MANY_LANES,
    RESUME,
    ZSTD_FRAMES,
    Attempt,
    RecipientHandshake,
    Secured,
)
from .protocol.link import derive_keys, noise_psk, parse_link
from .protocol.manifest import (
    REFUSED,
    Manifest,
    Results,
    decode_manifest,
    results_root,
)
from .protocol.paths import shown
from .protocol.seal import Header, Message, Opener, Payload, Stream
from .protocol.session import RecipientSession
from .protocol.tape import Tape
from .running import (
    SOFTWARE,
    Options,
    Outcome,
    Run,
    Summary,
    choose_engine,
    journal_failure,
    may_go_on,
    new_entropy,
    outcome_of,
    reporting,
)
from .signaling_client import REFUSED_TEXT, RecipientSeat
from .tasks import race, uncancelled

SYNC_BYTES, SYNC_SECONDS = 64 * 1024 * 1024, 0.5  # whichever comes first
READ_BACK_STEP = 16 * 1024 * 1024  # what is read back is noted, and claimed after a restart
SHOWN_NAMES = 5
INBOX = 512  # ranges that wait in memory; the session's window is less, and an engine that drops
FURTHER_INBOX = 32  # messages nobody takes is never made to
TAKEN_IN = 16  # ranges opened and written in one go ...
GATHERED, GATHER_SECONDS = 4, 0.008  # ... once so many are there, or after so long
CAPABILITIES = [RESUME, LANES, MANY_LANES, ZSTD_FRAMES]
PROBES = 3  # connections that may come to nothing before the handshake is through
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 6.0  # a server lets an address knock in vain ten times a minute
LATE_SECONDS = 2.0  # well before a sender takes large packets for lost
DISK_SECONDS = 2.0  # between two looks at a disk that took no more
CONFIRM_SECONDS = 15.0  # that a sender is gone for, before its signature is waited for no more
LONGEST_CONFIRM_SECONDS = 600.0  # for it, whatever the network says; `resume` asks again
GIVE_UP_SECONDS = 24 * 3600.0  # no link lives longer without its recipient

Range = tuple[Header, Payload]


async def receive(link: str, options: Options, *, output: Path) -> Outcome:
    """Receive what a link offers into the folder `output`, and return how it ended.

    What was begun under this link before, in this process or an earlier one, goes on.
    """
    receiving = Receiving(link, options, output)
    async with reporting(options, receiving.record, "recipient") as outcome:
        await receiving.run()
        outcome.append(receiving.ended)
    return outcome[-1]


@dataclass
class Underway:
    """A transfer that was accepted, over as many sessions and processes as it takes."""

    journal: Journal
    kept: RecipientRecord
    manifest: Manifest
    tape: Tape
    destination: Destination
    results: Results | None = None  # once everything has arrived
    checked: bool = True  # whether what lies on the disk is known to be what was noted
    begun: bool = False  # some session has got as far as the accept
    again: bool = False  # an earlier process may have begun to place files

    def note(self, **changes: Any) -> None:
        """Note how far it is. Raises `OSError`."""
        tail, mark = self.destination.tail
        gone = self.destination.gone
        self.journal.write(tail=tail, tail_mark=mark, gone=gone, **changes)


class Receiving:
    """One `receive`."""

    def __init__(self, link: str, options: Options, output: Path) -> None:
        self.record = Summary()
        self.options, self.output = options, output
        self._text = link
        self._proven = False  # the sender was, and so the passphrase is right
        self.underway: Underway | None = None

    async def run(self) -> None:
        """Until the transfer has ended; `ended` says how. Raises `HandoverError`."""
        options = self.options
        self.link = link = parse_link(self._text)
        if link.passphrase and options.passphrase is None:
            raise Failure("needs_answer", "the passphrase")
        self.identity = options.home.identity()
        await asyncio.to_thread(self._recall)
        code = "internal"
        try:
            ended = self._complete() or await self._receive()
            code = ended.code
            failed = len(self.record.failed())
            self.ended = outcome_of(ended, self.record.receipt, f"{failed} of them")
        except HandoverError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = "cancelled"
            task = asyncio.current_task()
            if not self._settled() or task is None:
                raise
            task.uncancel()  # all is delivered: nothing is cancelled
            code = "unconfirmed"
            ended = facts.Ended(Ending.DELIVERED_UNCONFIRMED, code)
            self.ended = outcome_of(ended, self.record.receipt, "")
        finally:
            await uncancelled(asyncio.to_thread(self._put_away, code))

    def _settled(self) -> bool:
        return self.underway is not None and self.underway.kept.phase == "signed"

    async def _receive(self) -> facts.Ended:
        options, link = self.options, self.link
        if options.ask is None and (options.verify or not options.auto) and not self.underway:
            raise Failure("needs_answer", "whether to accept the files")
        self.keys = derive_keys(link.secret)
        engine = choose_engine(options)
        passphrase = options.passphrase if link.passphrase else None
        psk, make = await asyncio.gather(
            asyncio.to_thread(noise_psk, self.keys, passphrase), asyncio.to_thread(load, engine)
        )
        return await self._sessions(make, psk)

    def _recall(self) -> None:
        """What an earlier process left under this link. Raises `Failure`."""
        journal = Journals(self.options.home).of_secret(self.link.secret, "recipient")
        if journal is None:
            return
        kept = journal.record
        assert isinstance(kept, RecipientRecord)
        if not journal.hold():
            raise Failure("transfer_running", journal.short_id)
        self.record.journal, self.record.transfer_id = journal, kept.transfer_id
        self.record.peer = kept.peer
        if kept.identity != self.identity.public:
            raise Failure("journal_foreign")
        try:
            data = journal.read("manifest")
            manifest = decode_manifest(data)
            results = None
            if kept.phase != "receiving":
                results = Results.recall(journal.read("results"), len(manifest.entries))
        except (OSError, PeerError):
            data, manifest, results = b"", None, None
        if journal.damaged or manifest is None or sha256(data) != kept.manifest_sha256:
            raise Failure("journal_damaged", journal.short_id)
        tape, output = manifest.tape(), Path(os.fsdecode(kept.output))
        kept.verify |= self.options.verify
        self.options = replace(self.options, verify=kept.verify)
        destination = Destination(output, manifest, tape, kept.transfer_id, journal.append_mark)
        if kept.phase == "receiving" and kept.durable and not destination.staging.is_dir():
            raise Failure("parts_missing", shown(str(destination.staging), 256))
        if kept.phase != "signed" or destination.staging.is_dir():
            destination.prepare(again=True)
        for entry in kept.gone:
            destination.withdraw(entry)
        self.underway = Underway(
            journal, kept, manifest, tape, destination, results, False, begun=True, again=True
        )
        if kept.phase == "signed" and results is not None:
            self._recall_signed(kept, destination, results)

    def _recall_signed(
        self, kept: RecipientRecord, destination: Destination, results: Results
    ) -> None:
        """All is placed and signed: tidy up, and see that the receipt is there."""
        if destination.staging.is_dir():
            destination.finish(results)
        home = self.options.home
        self.record.receipt = home.receipt_path(kept.transfer_id)
        if not self.record.receipt.exists():
            signed = [(self.identity.public, kept.signature)]
            home.store_receipt(kept.transfer_id, receipts.assemble(kept.payload.encode(), signed))

    def _complete(self) -> facts.Ended | None:
        """The end, when an earlier process had come to it and only died before it could say so."""
        if self.underway is None or self.record.receipt is None or self.underway.results is None:
            return None
        self.record.results, self.record.manifest = self.underway.results, self.underway.manifest
        with suppress(OSError, receipts.BadReceipt):
            if receipts.verify(self.record.receipt.read_bytes()).confirmed:
                failed = any(True for _ in self.underway.results.failures())
                return facts.Ended(Ending.INCOMPLETE if failed else Ending.COMPLETE)
        return None

    def _put_away(self, code: str) -> None:
        """At the end, whatever it was: keep what can go on, remove everything else."""
        if self.underway is None:
            return
        destination, results = self.underway.destination, self.underway.results
        if self._settled() and results is not None:
            destination.finish(results)
        elif may_go_on(code):
            destination.close()
        else:
            destination.discard()

    async def _sessions(self, make: Callable[..., Connection], psk: bytes) -> facts.Ended:
        """One session after the other, until one has come to an end that is one."""
        backoff, probes = FIRST_BACKOFF, PROBES
        heard = there = time.monotonic()
        while True:
            ways, run = Ways(make(offerer=False), self.options.ports), None
            failure: HandoverError | None = None
            try:
                attempt, secured, private = await self._shake_hands(ways, psk)
                further = partial(make, offerer=False)
                run = RecipientRun(self, ways, attempt, secured, private, further)
                ended = await run.run()
                if ended.code != "unconfirmed":
                    return ended
            except HandoverError as error:
                failure = error
            finally:
                await uncancelled(ways.close())
            if run is not None:
                self._proven, heard = True, time.monotonic()
                if run.moved:
                    backoff = FIRST_BACKOFF
            silence = time.monotonic() - heard
            if self.underway is None:
                assert failure is not None
                probes -= 1
                if run is None and failure.code == "connection_lost_early" and probes:
                    continue  # the path may carry only small packets, which the sender now uses
                raise failure
            if failure and not self._may_pass(failure, run):
                raise failure
            if not _is_gone(failure):
                there = time.monotonic()
            if self.underway.kept.phase == "signed":
                away = time.monotonic() - there
                if away > CONFIRM_SECONDS or silence > LONGEST_CONFIRM_SECONDS:
                    return facts.Ended(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")
            elif failure and silence > GIVE_UP_SECONDS:
                raise failure
            await self._wait(self.underway, failure, backoff)
            backoff = min(2 * backoff, LAST_BACKOFF)

    def _may_pass(self, failure: HandoverError, run: RecipientRun | None) -> bool:
        """Whether trying again may help. What goes wrong before the sender is proven may be a
        server's or a stranger's doing: no reason to give up what is there."""
        wrong = failure.code == "passphrase_wrong"
        return (run is None and not wrong) or failure.next >= Next.RETRY

    async def _wait(
        self, underway: Underway, failure: HandoverError | None, backoff: float
    ) -> None:
        """Until the next try; for a disk of this side, until it takes data again."""
        state: StateName = "lost"
        if failure is not None and failure.code in ("disk_paused", "home_unwritable"):
            state = "sender_paused" if failure.detail == facts.AT_PEER else "paused"
            if state == "paused":
                self.options.watch(Warned("", failure.sentence))
        elif failure is not None and failure.code.startswith("server_"):
            state = "server_lost"
        self.options.watch(StateChanged(state))
        await asyncio.sleep(backoff)
        while state == "paused" and not await asyncio.to_thread(self._usable, underway):
            await asyncio.sleep(DISK_SECONDS)

    def _usable(self, underway: Underway) -> bool:
        placed = underway.kept.phase == "signed" or underway.destination.usable()
        return placed and self.options.home.usable()

    async def _shake_hands(self, ways: Ways, psk: bytes) -> tuple[Attempt, Secured, bytes]:
        link, options = self.link, self.options
        began = time.monotonic()
        passed_3 = opened = False
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                async with RecipientSeat(link.origin, self.keys) as envelopes:
                    if self.underway is None:
                        options.watch(StateChanged("opened"))
                    attempt = await ways.connect_recipient(envelopes, self.keys, link.passphrase)
                    opened, began = True, time.monotonic()
                    entropy = new_entropy()
                    handshake = RecipientHandshake(
                        attempt,
                        psk=psk,
                        secret=link.secret,
                        commitment=link.commitment,
                        identity=self.identity.key,
                        label=self.identity.label,
                        software=SOFTWARE,
                        verify=options.verify,
                        entropy=entropy,
                        capabilities=CAPABILITIES + ([DIRECT] if options.direct else []),
                    )
                    control = ways.control
                    await control.send(handshake.message_1())
                    message_3 = handshake.receive_2(await receive_early(control))
                    await control.send(message_3)
                    # A late one may have crossed the sender's decision to connect anew.
                    passed_3 = time.monotonic() - began < LATE_SECONDS
                    secured = handshake.receive_4(await receive_early(control))
                    return attempt, secured, entropy.session
        except (LaneLost, TimeoutError):
            if passed_3 and link.passphrase and not self._proven:
                raise Failure("passphrase_wrong") from None
            raise Failure("connection_lost_early" if opened else "no_connection") from None


def _is_gone(failure: HandoverError | None) -> bool:
    """Whether somebody answered that nobody is waiting, or that nothing listens there any more."""
    return failure is not None and (failure.code == "not_found" or failure.detail == REFUSED_TEXT)


class RecipientRun(Run):
    """The recipient's session, from the sender's welcome on."""

    session: RecipientSession

    def __init__(
        self,
        receiving: Receiving,
        ways: Ways,
        attempt: Attempt,
        secured: Secured,
        session_private: bytes,
        make: Callable[[], Connection],
    ) -> None:
        options = receiving.options
        super().__init__(
            options.home,
            options,
            receiving.identity,
            ways,
            attempt,
            secured,
            receiving.record,
        )
        self._receiving = receiving
        self._opener = Opener(session_private)
        self.session = RecipientSession(
            secured, receiving.identity.key, time.monotonic(), verify=options.verify
        )
        self.lanes = self._multipath(RecipientMultipath, make)
        self._destination: Destination | None = None  # once ranges may come
        self._durable, self._verified = 0, -1
        self.moved = False  # whether this session brought anything
        self._total = -1  # of the tape, once it is accepted
        self._synced = asyncio.Event()
        self._writing = asyncio.Lock()  # one at a time, whatever lane it came by

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._conduct(), self._sync(), self._read_back()]

    def _clean_up(self) -> None:
        """The destination outlives the session: `Receiving` puts it away."""

    def _on_withdrawn(self, event: facts.Withdrawn) -> None:
        assert self._destination is not None
        for entry, _ in event.entries:
            self._destination.withdraw(entry)

    def _on_event(self, event: facts.Event) -> None:
        if isinstance(event, facts.Offered):
            self._tell("offered")

    async def _conduct(self) -> None:
        """Who, what, yes or no; at the end verify, place, sign."""
        session, receiving = self.session, self._receiving
        met = self._introduce()
        self._tell("connected")
        if session.needs_confirmation:
            if not (receiving.underway and receiving.underway.kept.confirmed):
                await self._confirm_digits(met)
            self._step(session.confirmed, time.monotonic())
        offered = await self._fact(facts.ManifestArrived)
        manifest = await self._thread(decode_manifest, offered.data)
        self._record.manifest = manifest
        self._record.manifest_hash = sha256(offered.data)
        tape = manifest.tape()
        session.read(manifest, tape)
        self._record.transfer_id = session.transfer_id
        underway = receiving.underway
        if underway is None:
            underway = await self._begin(met, manifest, tape, offered.data)
            if underway is None:
                self._step(session.decline, time.monotonic())
                return
        else:
            self._check_same(underway)
        if underway.kept.phase == "signed":
            await self._present(underway)
        else:
            await self._take_up(underway)
            delivered = await self._fact(facts.Delivered)
            await self._finish(underway, delivered)
        await self._confirm()

    async def _begin(
        self, met: PeerMet, manifest: Manifest, tape: Tape, data: bytes
    ) -> Underway | None:
        """Ask whether to accept, and make room; None for no."""
        home, session, output = self._home, self.session, self._receiving.output
        if home.receipt_path(session.transfer_id).exists():
            raise PeerError("a transfer id that was used before")
        kept = RecipientRecord(
            transfer_id=session.transfer_id,
            link=str(self._receiving.link),
            identity=self._identity.public,
            peer=self._secured.peer.identity,
            label=shown(self._secured.peer.label),
            manifest_sha256=sha256(data),
            began=now_text(),
            total=tape.total,
            confirmed=session.needs_confirmation,
            verify=self._options.verify,
            output=os.fsencode(os.path.abspath(output)),
        )
        journals = Journals(home)
        journal = Journal(journals.path(kept), kept)
        if journal.begun:  # and yet not found by its link
            raise Failure("journal_damaged", journal.short_id)
        destination = Destination(output, manifest, tape, kept.transfer_id, journal.append_mark)
        await self._thread(destination.check_room)
        if not await self._accepts(met, manifest, tape.total):
            return None
        await self._thread(destination.check_room)
        underway = Underway(journal, kept, manifest, tape, destination)
        try:
            await self._thread(journals.begin, journal, data)
            await self._thread(underway.note)
        except OSError as error:
            await self._thread(journal.remove)
            raise journal_failure(error) from None
        self._record.journal, self._receiving.underway = journal, underway
        await self._thread(destination.prepare)
        return underway

    def _check_same(self, underway: Underway) -> None:
        """Whether it is what was begun. Raises `Failure`."""
        kept = underway.kept
        if (kept.peer, kept.transfer_id, kept.manifest_sha256) != (
            self._secured.peer.identity,
            self.session.transfer_id,
            self._record.manifest_hash,
        ):
            raise Failure("offer_changed", underway.journal.short_id)

    async def _take_up(self, underway: Underway) -> None:
        """Say yes, from where the disk stands. What an earlier process left is read back first."""
        kept, destination = underway.kept, underway.destination
        if kept.phase == "receiving" and not underway.checked:
            self._tell("checking")
            noted = kept.tail, kept.tail_mark, underway.journal.marks()
            good = await self._thread(destination.recheck, *noted, self._is_over)
            await self._thread(lambda: underway.note(durable=good))
            underway.checked = True
        destination.begin(kept.durable)
        self._durable = kept.durable
        self._tell("resumed" if underway.begun else "accepted")
        underway.begun = True
        session, now = self.session, time.monotonic()
        self._step(session.accept, now_text(), now, kept.durable)
        if kept.phase == "placing":  # it was verified before a crash
            self._verified = kept.durable
            self._step(session.verified, kept.durable, now)
        self._destination, self._total = destination, underway.tape.total
        self._step(session.synced, kept.durable, now)
        self._synced.set()

    async def _accepts(self, met: PeerMet, manifest: Manifest, size: int) -> bool:
        files = [entry for entry in manifest.entries if entry.kind == "file"]
        tops = dict.fromkeys(entry.path.split("/")[0] for entry in manifest.entries)
        offer = Offer(
            len(files),
            len(manifest.entries) - len(files),
            size,
            tuple(shown(name) for name in list(tops)[:SHOWN_NAMES]),
        )
        self._options.watch(offer)
        if self._options.auto:
            return True
        if self._options.ask is None:
            raise Failure("needs_answer", "whether to accept the files")
        return await self._options.ask(Question("accept", met, self._secured.digits, offer))

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

    def _admitted(self, opened: list[Range], now: float, lane: int) -> list[Range]:
        return [(head, data) for head, data in opened if self.session.admit(head, now, lane)]

    def _written(self, fresh: list[Range], now: float, lane: int) -> None:
        for header, payload in fresh:
            self.session.written(header, payload, now, lane)

    def _open(self, messages: list[Message]) -> list[Range]:
        opened = map(self._opener.open, messages)
        return [(head, unpress(head.flags, head.length, payload)) for head, payload in opened]

    def _write(self, ranges: list[Range]) -> None:
        for header, payload in ranges:
            if header.stream == Stream.DATA:
                assert self._destination is not None
                if header.hole:
                    self._destination.hole(header.offset, header.length)
                else:
                    self._destination.write(header.offset, payload)

    async def _sync(self) -> None:
        """Written -> on the disk for good."""
        last = 0.0
        while self._ended is None:
            destination = self._destination
            frontier = self.session.frontier if self._total >= 0 else 0
            owed = frontier - self._durable
            due = last + SYNC_SECONDS - time.monotonic()
            if destination is None or owed <= 0:
                await self._woken()
            elif due > 0 and owed < SYNC_BYTES and frontier < self._total:
                await asyncio.sleep(min(due, 0.05))
            else:
                with self._waits.on("disk"):
                    await self._thread(self._note, destination, frontier)
                last, self._durable, self.moved = time.monotonic(), frontier, True
                self._synced.set()
                self._step(self.session.synced, frontier, last)

    def _note(self, destination: Destination, frontier: int) -> None:
        underway = self._receiving.underway
        assert underway is not None
        destination.sync(frontier)
        underway.note(durable=frontier)

    async def _read_back(self) -> None:
        """On the disk for good -> read back and hashed."""
        while self._ended is None:
            if self._destination is None or self._durable <= self._verified:
                self._synced.clear()
                await self._synced.wait()
                continue
            upto = min(self._durable, self._verified + READ_BACK_STEP)
            self._verified = await self._thread(self._destination.read_back, upto)
            if self._receiving.underway is not None:
                await self._thread(self._receiving.underway.note)
            self._step(self.session.verified, self._verified, time.monotonic())
            if self._verified == self._total:
                self._tell("verifying")

    async def _finish(self, underway: Underway, delivered: facts.Delivered) -> None:
        """Compare, place, sign. The half-signed receipt is on the disk before it is sent."""
        session, kept, destination = self.session, underway.kept, underway.destination
        manifest, journal = underway.manifest, underway.journal
        self._tell("verifying")
        claimed = await self._thread(Results.decode, delivered.digests, manifest)
        if underway.results is None:
            results = await self._thread(destination.compare, claimed)
            renamed = await self._thread(destination.choose_names)
            names = [[a, b] for a, b in renamed.items()]
            await self._thread(journal.store, "results", results.encode())
            await self._thread(lambda: journal.write(phase="placing", renamed=names))
            underway.results = results
        results = underway.results
        await self._thread(self._place, underway, results)
        self._record.results = results
        self._record.places = tuple(
            dict.fromkeys(path.split("/")[0] for path in destination.placed.values())
        )
        root = await self._thread(results_root, manifest, results)
        self._tell("signing")
        peer, own = self._secured.peer, self._identity
        audit_head = await self._thread(self._home.audit_head)
        security = {"transcript": self._secured.transcript, **self._security()}
        fields = {
            "type": receipts.TYPE,
            "sender": receipts.party(
                peer.identity, peer.label, peer.software, session.sender_audit_head
            ),
            "recipient": receipts.party(own.public, own.label, SOFTWARE, audit_head),
            "stored": "file",
            "security": {
                k: encode_base64url(v) if isinstance(v, bytes) else v for k, v in security.items()
            },
            **session.facts(results, root, now_text()),
        }
        payload = encode_json(fields)
        signature = receipts.sign(own.key, payload)
        await self._thread(
            self._home.store_annex, kept.transfer_id, manifest, results, destination.placed
        )
        await self._thread(journal.store, "results", results.encode())
        text = payload.decode()
        await self._thread(lambda: journal.write(phase="signed", payload=text, signature=signature))
        await self._thread(destination.finish, results)
        await self._present(underway)

    def _place(self, underway: Underway, results: Results) -> None:
        kept, destination = underway.kept, underway.destination
        renamed = {str(name): str(placed) for name, placed in kept.renamed}

        def note() -> None:
            underway.journal.write(renamed=[[a, b] for a, b in renamed.items()])

        again, underway.again = underway.again, True
        destination.place(results, renamed, note, again=again)

    async def _present(self, underway: Underway) -> None:
        """Send the receipt, signed here; again in a later session, if the first time was lost."""
        kept, results = underway.kept, underway.results
        assert results is not None
        payload, signature = kept.payload.encode(), kept.signature
        await self._keep_receipt(payload, [(self._identity.public, signature)])
        self._record.results = results
        refused = [(entry, status) for entry, status in results.failures() if status in REFUSED]
        now = time.monotonic()
        self._step(self.session.finish, results, refused, payload, signature, now)

    async def _confirm(self) -> None:
        """The sender's signature completes the receipt."""
        underway = self._receiving.underway
        assert underway is not None
        countersigned = await self._fact(facts.Countersigned)
        await self._keep_receipt(
            underway.kept.payload.encode(),
            [
                (self._identity.public, underway.kept.signature),
                (self._secured.peer.identity, countersigned.signature),
            ],
        )
        await self._pin()
        self._step(self.session.confirm, time.monotonic())
