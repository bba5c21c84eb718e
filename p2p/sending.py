"""The sender, from `handover send` to the receipt.

Meet (signaling), connect, shake hands, and then run a session until it ends; after a cut,
again, with the same recipient and nobody else. The session thinks; here is only the moving:

    disk -> Source.read -> seal_range -> data lane

woken by what the session lets happen. What the recipient is promised stands in the journal first.
Nothing here prints or asks: that is the caller's `watch` and `ask`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from .events import Bottleneck, Event, LinkMade, Question, StateChanged, StateName, Warned
from .files import Block, Listing, Source, SourceFile, check_paths, find_again, walk
from .home import now_text
from .journal import MAX_CLOSINGS, Journal, Journals, SenderRecord
from .lanes import LARGE_PACKET, SMALL_PACKET, Connection, Lane, LaneLost, load
from .meeting import MeetingPlace, Ways, meeting_place, receive_early
from .multipath import SenderMultipath
from .press import press
from .protocol import receipt as receipts
from .protocol import session as facts
from .protocol.codec import sha256
from .protocol.errors import FAILURES, Ending, Failure, HandoverError, Next
from .protocol.handshake import (
    HANDSHAKE_SECONDS,
    MAX_FAILED_ATTEMPTS,
    RESUME,
    ZSTD_FRAMES,
    Attempt,
    Secured,
    SenderHandshake,
)
from .protocol.link import Link, derive_keys, make_link, noise_psk, parse_link
from .protocol.manifest import (
    SALT,
    Manifest,
    Results,
    decode_manifest,
    encode_manifest,
    results_root,
)
from .protocol.paths import shown
from .protocol.seal import (
    HOLE,
    OVERHEAD,
    TRANSFER_ID,
    Header,
    Message,
    Stream,
    seal_range,
    with_room,
)
from .protocol.session import SenderSession
from .running import (
    SOFTWARE,
    Meter,
    Options,
    Outcome,
    Run,
    Summary,
    choose_engine,
    journal_failure,
    new_entropy,
    outcome_of,
    reporting,
)
from .signaling_client import OWNER, SenderSeat
from .signaling_client import Attempt as Envelopes
from .tasks import race, uncancelled

logger = logging.getLogger("handover.sending")

DEFAULT_EXPIRES = 24 * 3600.0
CUT_SECONDS = 24 * 3600.0  # how long a recipient that was cut off may take to come back
LAST_WORD_SECONDS = 60.0  # after a restart, when only the recipient's last word is missing
MAX_ATTEMPTS = 2  # unproven recipients at once
PROBE_SECONDS = 4.0  # for the answer to the handshake's large packet
NOTE_SECONDS = 2.0
RETAKE_SECONDS = 5.0  # before a room is asked for anew
PRESS_RATE = 150e6  # bytes a second on the lanes, above which compressing would hold them up
HELP_SECONDS = 0.5  # between two looks whether a lane can help another


@dataclass(frozen=True)
class Tls:
    """How this process's own server speaks https, and how to have that again after a restart."""

    context: ssl.SSLContext
    hosts: Sequence[str]  # what its certificate is good for
    kind: Literal["local-ca", "files"]
    certificate: str = ""
    key: str = ""


async def send(
    paths: Sequence[str],
    options: Options,
    *,
    server: str | None = None,
    listen: tuple[str, int] = ("", 0),
    address: str | None = None,
    expires: float = DEFAULT_EXPIRES,
    to: str | None = None,
    follow: bool = False,
    tls: Tls | None = None,
) -> Outcome:
    """Send files and folders to whoever opens the link, and return how it ended.

    `server` is an http(s) origin; without one this process serves itself on `listen`, by https with
    `tls`. Never raises for anything that FAILURES names: that is the outcome. Cancelling it tells
    the peer.
    """
    record = SenderRecord(
        transfer_id=os.urandom(TRANSFER_ID),
        link="",
        identity=bytes(32),
        peer=b"",
        label="",
        manifest_sha256=bytes(32),
        began=now_text(),
        total=0,
        owner=os.urandom(OWNER),
        expires=(datetime.now(UTC) + timedelta(seconds=expires)).isoformat(),
        server=server or "",
        host=listen[0],
        port=listen[1],
        address=address or "",
        tls=tls.kind if tls else "none",
        certificate=os.fsencode(os.path.abspath(tls.certificate)) if tls else b"",
        key=os.fsencode(os.path.abspath(tls.key)) if tls else b"",
        to=to or "",
        verify=options.verify,
        auto=options.auto,
    )
    return await _drive(Sending(options, record, expires, paths=paths, follow=follow), tls)


async def resume(journal: Journal, options: Options, *, tls: Tls | None = None) -> Outcome:
    """Stand behind a link again after this process, or this machine, had died."""
    record = journal.record
    assert isinstance(record, SenderRecord)
    record.verify |= options.verify
    options = replace(options, verify=record.verify, auto=options.auto or record.auto)
    left = datetime.fromisoformat(record.expires).timestamp() - journal.written - journal.age
    if record.peer:  # the link is that one's alone, and stays good for it
        left = journal.left
    return await _drive(Sending(options, record, min(left, CUT_SECONDS), journal=journal), tls)


async def _drive(sending: Sending, tls: Tls | None) -> Outcome:
    async with reporting(sending.options, sending.record, "sender") as outcome:
        await sending.run(tls)
        assert sending.ended is not None
        outcome.append(sending.ended)
    return outcome[-1]


class Sending:
    """One `send`: the room and its attempts, until one of them is the transfer."""

    def __init__(
        self,
        options: Options,
        kept: SenderRecord,
        expires: float,
        *,
        paths: Sequence[str] = (),
        follow: bool = False,
        journal: Journal | None = None,
    ) -> None:
        self.options, self.kept = options, kept
        self.record = Summary(
            transfer_id=kept.transfer_id, journal=journal, recalled=journal is not None
        )
        self._expires, self._paths, self._follow = expires, paths, follow
        self._failed_attempts = 0
        self._packet = LARGE_PACKET
        self._claimed = asyncio.Lock()  # held by the recipient that is being admitted or served
        self._run: SenderRun | None = None  # of whoever holds `_claimed`
        # Why the recipient is not there any more, once a transfer was under way.
        self._cut: StateName | None = "lost" if kept.peer else None
        self.results: Results | None = None  # as far as earlier sessions came
        self._serving = b""  # the identity of whoever holds `_claimed`
        self._stopped = False
        self._attempts: set[asyncio.Task[facts.Ended | None]] = set()
        self._link_made: LinkMade | None = None
        self.ended: Outcome | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, tls: Tls | None) -> None:
        """Until the transfer has ended; `ended` says how. Raises `HandoverError`."""
        options, kept = self.options, self.kept
        again = self.record.journal is not None
        if again and self._confirmed_before():
            self._expires = LAST_WORD_SECONDS
        if self._expires <= 0:
            raise Failure("expired")
        if not again:
            for path in check_paths(self._paths).values():
                if not os.access(path, os.R_OK):
                    raise Failure("not_readable", shown(path))
        self._to = options.home.contact(kept.to) if kept.to else None
        known = self._to or kept.peer
        compare = options.verify and not kept.confirmed
        if options.ask is None and (compare or not (options.auto or known)):
            raise Failure("needs_answer", "whether to let the recipient in")
        self.identity = options.home.identity()
        if again and kept.identity != self.identity.public:
            raise Failure("journal_foreign")
        kept.identity = self.identity.public
        secret = parse_link(kept.link).secret if again else os.urandom(32)
        self.keys = derive_keys(secret)
        async with contextlib.AsyncExitStack() as stack:
            place = await meeting_place(
                stack,
                kept.server or None,
                (kept.host, kept.port),
                kept.address or None,
                tls.context if tls else None,
                tls.hosts if tls else (),
            )
            self._link_made = self._make_links(place, secret)
            seat = SenderSeat(place.reached, self.keys, self._expires, kept.owner)
            try:
                await race(self._meet(seat), self._hold(seat))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self.ended is None or task is None:
                    raise
                task.uncancel()  # it was only signing, and came to its end

    def _make_links(self, place: MeetingPlace, secret: bytes) -> LinkMade:
        """The links to show; the one that was shown before a restart stays the first."""
        kept, passphrase = self.kept, self.options.passphrase is not None
        made = [
            str(make_link(one, secret, self.identity.public, passphrase=passphrase))
            for one in [place.origin, *place.others]
        ]
        if not kept.server:
            kept.port = urlsplit(place.reached).port or kept.port
        kept.link = kept.link or made[0]
        self.link: Link = parse_link(kept.link)
        if self.link.passphrase != passphrase:
            raise Failure("needs_answer", "the passphrase")
        others = tuple(one for one in made if one != kept.link)
        return LinkMade(kept.link, others, place.browser)

    def _confirmed_before(self) -> bool:
        """Whether both had signed the receipt when this process died."""
        with suppress(OSError, receipts.BadReceipt):
            path = self.options.home.receipt_path(self.kept.transfer_id)
            if receipts.verify(path.read_bytes()).confirmed:
                self.record.receipt = path
                return True
        return False

    async def _hold(self, seat: SenderSeat) -> None:
        """Keep the sender's seat until cancelled."""
        while True:
            try:
                await seat.run(self._on_server)
            except Failure as failure:
                # A transfer under way does not need the server, a cut one needs it again.
                while (self._attempts and not self._cut) or self.ended:
                    await asyncio.sleep(0.2)
                if not self._cut:
                    raise failure from None
                self._on_server(False)
                await asyncio.sleep(RETAKE_SECONDS)

    def _on_server(self, there: bool) -> None:
        if self._link_made is not None:  # not before: a link that nobody waits behind is no link
            self.options.watch(self._link_made)
            self._link_made = None
        if not self._claimed.locked():
            self.options.watch(StateChanged(self._waiting() if there else "server_lost"))

    def _waiting(self) -> StateName:
        return self._cut or "waiting"

    async def _meet(self, seat: SenderSeat) -> None:
        """Take attempts as they come, until one has become the transfer and ended."""
        options = self.options
        engine = choose_engine(options)
        listing = asyncio.create_task(asyncio.to_thread(self._prepare))
        psk = asyncio.create_task(asyncio.to_thread(noise_psk, self.keys, options.passphrase))
        loading = asyncio.create_task(asyncio.to_thread(load, engine))
        attempts = self._attempts
        ends = time.monotonic() + self._expires
        taking = asyncio.create_task(seat.attempts.get())
        try:
            while True:
                preparing = [task for task in (listing, psk, loading) if not task.done()]
                waiting: set[asyncio.Task[Any]] = {taking, *attempts, *preparing}
                left = None if attempts else max(0.0, ends - time.monotonic())
                done, _ = await asyncio.wait(
                    waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    self._expire()
                    return
                for prepared in preparing:
                    if prepared in done:
                        prepared.result()  # what cannot be sent ends it before anyone comes
                for one in [a for a in attempts if a in done]:
                    attempts.discard(one)
                    self._conclude(one.result())
                    if self.ended:
                        return
                    if not self._claimed.locked():
                        options.watch(StateChanged(self._waiting()))
                    if self._cut:  # the link is this recipient's alone, and stays good for it
                        seat.extend(CUT_SECONDS)
                        ends = time.monotonic() + CUT_SECONDS
                disarmed = self._guesses_left <= 0
                if disarmed and not self._claimed.locked():
                    raise Failure("disarmed")
                if taking in done:
                    envelopes = taking.result()
                    taking = asyncio.create_task(seat.attempts.get())
                    if disarmed or len(attempts) >= MAX_ATTEMPTS:
                        await envelopes.leave()
                    else:
                        work = self._attempt(envelopes, loading, psk, listing)
                        attempts.add(asyncio.create_task(work))
        finally:
            self._stopped = True
            pending = [taking, listing, psk, loading, *attempts]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for one in attempts:  # one that was only signing may have come to its end
                if not one.cancelled() and one.exception() is None:
                    self._conclude(one.result())
            with suppress(asyncio.CancelledError):
                await seat.close()

    def _expire(self) -> None:
        """Nobody came, or came back, while the link was good."""
        if self.record.receipt is None:
            raise Failure("connection_lost" if self._cut else "expired")
        sentence = FAILURES["receipt_unconfirmed"].sentence
        receipt = self.record.receipt
        self.ended = Outcome(Ending.COMPLETE, "receipt_unconfirmed", sentence, receipt)

    def _conclude(self, ended: facts.Ended | None) -> None:
        if ended is not None:
            failed = len(self.record.failed())
            self.ended = outcome_of(ended, self.record.receipt, f"{failed} of them")

    def _prepare(self) -> tuple[Listing, Manifest, bytes]:
        """What is sent, and that it stands in the journal: listed now, or as it was then."""
        if self.record.journal is not None:
            return self._recall(self.record.journal)

        def warn(path: str, why: str) -> None:
            self._loop_watch(Warned(shown(path, 256), why))

        listing = walk(self._paths, follow=self._follow, warn=warn, stopped=lambda: self._stopped)
        manifest = Manifest(listing.entries, os.urandom(SALT))
        data = encode_manifest(manifest)
        self.kept.manifest_sha256 = sha256(data)
        self.kept.total = manifest.tape().total
        try:
            journals = Journals(self.options.home)
            journal = Journal(journals.path(self.kept), self.kept)
            journals.begin(journal, data)
            journal.store_sources(listing.sources)
            journal.write()
        except OSError as error:
            raise journal_failure(error) from None
        self.record.journal = journal
        return listing, manifest, data

    def _recall(self, journal: Journal) -> tuple[Listing, Manifest, bytes]:
        """The listing of before the restart. Raises `Failure` when a source is not as it was."""
        try:
            data, sources = journal.read("manifest"), journal.sources()
            manifest = decode_manifest(data)
            if known := journal.read("results"):
                self.results = Results.recall(known, len(manifest.entries))
            if sha256(data) != self.kept.manifest_sha256 or len(sources) != len(manifest.entries):
                raise Failure("journal_damaged", journal.short_id)
        except (OSError, HandoverError):
            raise Failure("journal_damaged", journal.short_id) from None
        found: list[SourceFile | None] = []
        for index, source in enumerate(sources):
            given_up = self.results is not None and self.results[index][0] != 0
            there = find_again(source) if source and not given_up else source
            if source is not None and there is None:
                raise Failure("source_changed", shown(source.path, 256))
            found.append(there)
        return Listing(manifest.entries, tuple(found)), manifest, data

    def _loop_watch(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self.options.watch, event)

    async def _attempt(
        self,
        envelopes: Envelopes,
        loading: asyncio.Task[Callable[..., Connection]],
        psk: asyncio.Task[bytes],
        listing: asyncio.Task[tuple[Listing, Manifest, bytes]],
    ) -> facts.Ended | None:
        """One recipient, from its knock to its end; None when the link stays open for others.

        Until a recipient is admitted, hardly anything it does can end the `send`; and what a second
        one does never touches a transfer that is under way.
        """
        if not self._claimed.locked():
            self.options.watch(StateChanged("opened"))
        make = await loading
        ways = Ways(make(offerer=True, packet=self._packet), self.options.ports)
        ended = None
        try:
            greeted = await self._greet(ways, envelopes, await psk)
            if greeted is None:
                return None
            attempt, handshake, secured = greeted
            if self._run is not None and self._serving == secured.peer.identity:
                self._run.give_way()  # it came back before its old connection was known to be dead
            async with self._claimed:
                self._serving = secured.peer.identity
                await ways.control.send(handshake.message_4())
                further = partial(make, offerer=True, packet=self._packet)
                self._run = SenderRun(self, ways, attempt, secured, listing, further)
                ended = await self._serve(self._run)
                return ended
        except LaneLost:
            self._note(FAILURES["no_connection"].sentence)
            return None
        finally:
            await uncancelled(ways.close(heard=ended is not None and not ended.code))

    async def _greet(
        self, ways: Ways, envelopes: Envelopes, psk: bytes
    ) -> tuple[Attempt, SenderHandshake, Secured] | None:
        """Connect and shake hands; None when it came to nothing. Raises `Failure` when the link is
        disarmed, or a contact's name came with another key."""
        passphrase, packet = self.options.passphrase is not None, self._packet
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                attempt, message_1 = await ways.connect_sender(envelopes, self.keys, passphrase)
                handshake = SenderHandshake(
                    attempt,
                    psk=psk,
                    identity=self.identity.key,
                    label=self.identity.label,
                    software=SOFTWARE,
                    verify=self.options.verify,
                    entropy=new_entropy(),
                    fill=0 if ways.is_tls or packet <= SMALL_PACKET else packet,
                )
                control = ways.control
                await control.send(handshake.receive_1(message_1))
                if ways.is_tls:
                    secured = handshake.receive_3(await receive_early(control))
                else:
                    secured = handshake.receive_3(await self._answered(control))
                refusal = self._refusal(secured)
                if refusal and self._failed_attempts >= MAX_FAILED_ATTEMPTS:
                    raise Failure("recipient_unproven")  # no word on whether a guess was right
                if not refusal:
                    return attempt, handshake, secured
                await control.send(handshake.refuse_4(refusal))
        except HandoverError as error:
            if error.code == "recipient_unproven":
                self._failed_attempts += 1
            left = self._guesses_left
            if left <= 0 and not self._claimed.locked():
                raise Failure("disarmed") from None
            counts = error.code == "recipient_unproven" and not self.kept.peer
            guess = f" {left} more and the link is disabled."
            if self._failed_attempts <= MAX_FAILED_ATTEMPTS:
                self._note(error.sentence + (guess if counts else ""))
        except (LaneLost, TimeoutError):
            if self._packet == packet:
                self._note(FAILURES["no_connection"].sentence)
        except Exception as error:  # a stranger must not end the send, whatever it found
            logger.debug("an attempt failed", exc_info=True)
            self._note(Failure("internal", type(error).__name__).sentence)
        finally:
            await envelopes.leave()
        return None

    async def _answered(self, control: Lane) -> bytes:
        """The answer to message 2, which filled a packet. Where none comes, the path may carry only
        small ones: the next connection uses them, and the recipient tries again by itself."""
        try:
            async with asyncio.timeout(PROBE_SECONDS if self._packet > SMALL_PACKET else None):
                return await receive_early(control)
        except TimeoutError:
            self._packet = SMALL_PACKET
            raise

    async def _serve(self, run: SenderRun) -> facts.Ended | None:
        """The session with a proven recipient. Raises what ends the whole `send`."""
        try:
            return await run.run()
        except HandoverError as error:
            resumable = error.next >= Next.WAIT and run.can_resume
            again = error.code == "connection_lost_early" or resumable
            if resumable:
                own = error.detail != facts.AT_PEER
                self._cut = "sender_paused" if own else "paused"
                if error.code == "connection_lost":
                    self._cut = "lost"
                elif own:
                    self._note(error.sentence)
            loud = error.code in ("digits_rejected", "needs_answer")
            if not again and (self.kept.peer or loud):
                raise
            if not self._cut:
                self._note(error.sentence)
            return None
        finally:
            self._serving, self._run = b"", None

    def _note(self, text: str) -> None:
        self.options.watch(Warned("", text))

    @property
    def _guesses_left(self) -> int:
        """Failed attempts until the link is disarmed. Once it is one recipient's alone they gain
        nothing, and must not cost that one its way back."""
        failed = 0 if self.kept.peer else self._failed_attempts
        return MAX_FAILED_ATTEMPTS - failed

    def _refusal(self, secured: Secured) -> str:
        """Why this recipient may not have it, or ""."""
        identity = secured.peer.identity
        if self.kept.peer not in (b"", identity):
            return "claimed"
        if self._claimed.locked() and self._serving != identity:  # the same one may come back
            return "claimed"
        if self._to is not None and secured.peer.identity != self._to.identity:
            return "not_for_you"
        return ""

    def admitted(self, identity: bytes, label: str) -> None:
        """From now on the link is this recipient's alone."""
        self.kept.peer, self.kept.label = identity, shown(label)
        self.options.watch(StateChanged("resumed" if self._cut else "admitted"))

    def knows(self, identity: bytes) -> bool:
        """Whether this recipient was admitted before: nobody has to be asked again."""
        return self.kept.peer == identity


class SenderRun(Run):
    """The sender's session, from the admission on."""

    session: SenderSession
    lanes: SenderMultipath

    def __init__(
        self,
        sending: Sending,
        ways: Ways,
        attempt: Attempt,
        secured: Secured,
        listing: asyncio.Task[tuple[Listing, Manifest, bytes]],
        make: Callable[[], Connection],
    ) -> None:
        options = sending.options
        super().__init__(
            options.home, options, sending.identity, ways, attempt, secured, sending.record
        )
        self._sending, self._listing = sending, listing
        largest = ways.max_message_size - OVERHEAD
        self.session = SenderSession(
            secured,
            sending.identity.key,
            self._record.transfer_id,
            largest & ~4095,
            time.monotonic(),
            verify=options.verify,
        )
        self.lanes = self._multipath(SenderMultipath, make)
        self._wire = Meter()
        self._source: Source | None = None
        self._reading = asyncio.Lock()  # files are read in order, whatever lane it is for
        self._fresh = True  # nothing of the tape was read in this session yet
        self._superseded = asyncio.Event()

    @property
    def can_resume(self) -> bool:
        """Whether the recipient can take up again what was broken off."""
        return RESUME in self._secured.peer.capabilities

    def give_way(self) -> None:
        """The same recipient is there by a new connection: this one is over."""
        self._superseded.set()

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._conduct(), self._watch_successor(), self._note_progress()]

    async def _watch_successor(self) -> None:
        await self._superseded.wait()
        self._lose()

    def _clean_up(self) -> None:
        if self._source is not None:
            self._source.close()

    def _on_event(self, event: facts.Event) -> None:
        if isinstance(event, facts.Accepted):
            self._tell("accepted")

    async def _conduct(self) -> None:
        """Admission, offer, and at the end the receipt."""
        met = self._introduce()
        options, session = self._options, self.session
        again = self._sending.knows(self._secured.peer.identity)
        if session.needs_confirmation:
            if not (again and self._sending.kept.confirmed):
                await self._confirm_digits(met)
            self._step(session.confirm_digits)
            while not session.may_offer:
                await self._fact(facts.Confirmed)
        elif not (options.auto or met.contact or self._sending._to or again):
            if options.ask is None:
                raise Failure("needs_answer", "whether to let the recipient in")
            if not await options.ask(Question("admit", met, self._secured.digits)):
                raise Failure("declined")
        listing, manifest, data = await asyncio.shield(self._listing)
        peer = self._secured.peer
        self._sending.admitted(peer.identity, peer.label)
        self._sending.kept.confirmed |= session.needs_confirmation
        await self._note_journal()
        tape = manifest.tape()
        self._record.manifest, self._record.manifest_hash = manifest, sha256(data)
        self._source = Source(listing, tape)
        self._tell("offered")
        earlier, now = self._sending.results, time.monotonic()
        self._step(session.offer, manifest, data, tape, now_text(), now, earlier)
        self.lanes.admitted.set()
        self._sending.results = session.results
        receipted = await self._fact(facts.Receipted)
        self._tell("signing")
        await self._sign(manifest, receipted)

    async def _sign(self, manifest: Manifest, receipted: facts.Receipted) -> None:
        session, key = self.session, self._identity.key
        root = await self._thread(results_root, manifest, session.results)
        signature = session.countersign(receipted, root, self._sending.kept.closings)
        await self._keep_receipt(
            receipted.payload,
            [
                (self._secured.peer.identity, receipted.signature),
                (bytes(key.verify_key), signature),
            ],
        )
        self._record.results = session.results
        await self._thread(
            self._home.store_annex, self._record.transfer_id, manifest, session.results, {}
        )
        await self._pin()
        self._step(session.countersigned, signature, time.monotonic())

    @property
    def _pressed(self) -> bool:
        """Whether compression pays: not where the lanes are faster than it is."""
        able = ZSTD_FRAMES in self._secured.peer.capabilities and self._options.compress
        return able and self._wire.rate(self.session.carried) < PRESS_RATE

    async def _carry(self, number: int, lane: Lane) -> None:
        """Disk -> read, seal, a few ranges at a time in threads -> lane."""
        session = self.session
        while self._ended is None and number in session.lanes:
            blocks: list[tuple[Block, Header]] = []
            async with self._reading:
                if self._fresh and session.begins >= 0:
                    self._fresh = False
                    await self._skip_to(session.begins)
                if session.all_sent:
                    await self._close()
                plan = session.plan(number, time.monotonic())
                if isinstance(plan, facts.Plan):
                    with self._waits.on("disk"):
                        blocks = await self._thread(self._read, plan)
                    for block, header in blocks:
                        if block.length:
                            session.taken(header)
                        self._note_ends(block)
            if plan is None:
                with self._waits.on(self._bottleneck(number)):
                    await self._woken(HELP_SECONDS if len(session.lanes) > 1 else None)
                continue
            if isinstance(plan, facts.Plan):
                sealed = await self._thread(self._seal, blocks)
            else:
                sealed = [plan]
            # Once it is the lane's, another can help out; so not before it may be sent.
            step = 1 if self._options.limit else len(sealed)
            for at in range(0, len(sealed), max(step, 1)):
                await self._send(number, lane, sealed[at : at + step])

    def _bottleneck(self, number: int) -> Bottleneck:
        """Why a lane has nothing to do."""
        pace = self.session.lanes.get(number)
        if pace is None or not pace.flights:
            return ""  # it is gone, or others do it
        return "other_side" if self.session.at_limit else "network"

    async def _send(self, number: int, lane: Lane, sealed: list[tuple[Header, Message]]) -> None:
        session = self.session
        with self._waits.on("limit"):
            await self._limiter.take(sum(len(message) for _, message in sealed))
        for header, message in sealed:
            session.sent(number, header, message, time.monotonic())
        try:
            for _, message in sealed if number in session.lanes else ():
                with self._waits.on("network"):
                    await lane.send(message)
        except LaneLost:
            if number == 0:
                self._lose()
            elif number in session.lanes:
                self._step(session.drop_lane, number)

    async def _skip_to(self, offset: int) -> None:
        """Take up an earlier session where the recipient stands."""
        source, known = self._source, self.session.results.known
        assert source is not None
        self._note_ends(await self._thread(source.skip, offset, known, self._is_over))

    def _read(self, plan: facts.Plan) -> list[tuple[Block, Header]]:
        """A stretch, cut into ranges; it ends early at a hole or a withdrawn entry."""
        found, offset, end = [], plan.offset, plan.offset + plan.length
        while offset < end:
            length = min(plan.step, end - offset)
            if plan.stream == Stream.DATA:
                assert self._source is not None
                block = self._source.read(offset, length, press=self._pressed)
            else:
                payload = self.session.bytes_of(plan.stream, offset, length)
                block = Block(offset, len(payload), False, with_room(payload), (), ())
            flags = HOLE if block.hole else 0
            header = Header(self._record.transfer_id, plan.stream, flags, offset, block.length)
            found.append((block, header))
            offset += block.length
            if block.hole or block.withdrawn or not block.length:
                break
        return found

    def _seal(self, blocks: list[tuple[Block, Header]]) -> list[tuple[Header, Message]]:
        """Compress where that pays, and seal."""
        sealed: list[tuple[Header, Message]] = []
        for block, header in blocks:
            if not block.length:
                continue
            message = block.message
            if smaller := press(block.payload, block.pressing, block.phase):
                header, message = header._replace(flags=smaller[0]), with_room(smaller[1])
            sealed.append((header, seal_range(self._secured.session_key, header, message)))
        return sealed

    def _note_ends(self, block: Block) -> None:
        for entry, digest in block.finished:
            self.session.hashed(entry, digest)
        for entry, status in block.withdrawn:
            self._step(self.session.withdraw, entry, status, time.monotonic())

    async def _close(self) -> None:
        """The tape is through: entries of size 0 that lie at its end, then the closing."""
        source, session = self._source, self.session
        assert source is not None
        block = await self._thread(source.read, 0, 0)
        self._note_ends(block)
        if not block.finished and not block.withdrawn:
            session.draw_up(now_text(), await self._thread(self._home.audit_head))
            own = {"label": self._identity.label, "software": SOFTWARE}
            closings = self._sending.kept.closings
            closings.append(session.closed(own, self._security()))
            del closings[:-MAX_CLOSINGS]
            assert self._record.journal is not None
            results = session.results.encode()
            await self._thread(self._record.journal.store, "results", results)
            await self._note_journal()
            self._step(session.close, time.monotonic())
            self._tell("verifying")

    def _tell_progress(self, event: facts.Progressed) -> None:
        self._sending.kept.durable = event.durable
        super()._tell_progress(event)

    async def _note_progress(self) -> None:
        """For people who look at it after a crash; the recipient alone knows where to go on."""
        noted = 0
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            if self._sending.kept.durable != noted:
                noted = self._sending.kept.durable
                with suppress(OSError):
                    await self._note_journal()

    async def _note_journal(self) -> None:
        assert self._record.journal is not None
        await self._thread(self._record.journal.write)
