"""The conductor: it carries bytes and answers between room, lanes, session and disk.

`send` and `receive` are the API. Both follow one line: meet (signaling), connect (WebRTC), shake
hands, and then run a session until it ends. The session thinks; here is only the moving:

    sender     disk -> Source.read -> seal_range -> data lane
    recipient  data lane -> Opener.open -> Destination.write -> sync -> read_back

each arrow a loop below, woken by what the session lets happen. Every ending leaves an entry in the
audit log, and nothing here prints or asks: that is the caller's `watch` and `ask`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .events import (
    Complete,
    DigitsShown,
    Error,
    Event,
    LinkMade,
    Offer,
    PeerMet,
    Progress,
    Question,
    StateChanged,
    StateName,
    Warned,
)
from .files import Block, Destination, Listing, Source, check_paths, disk_failure, walk
from .home import Home, Identity, now_text
from .lanes import (
    LARGE_PACKET,
    SMALL_PACKET,
    Connection,
    EngineName,
    Lane,
    LaneLost,
    available,
    load,
)
from .meeting import connect_recipient, connect_sender, meeting_place, receive_early
from .protocol import receipt as receipts
from .protocol import session as facts
from .protocol.codec import encode_base64url, encode_json, sha256
from .protocol.errors import FAILURES, Ending, Failure, HandoverError, PeerError
from .protocol.handshake import (
    HANDSHAKE_SECONDS,
    MAX_FAILED_ATTEMPTS,
    RESUME,
    SUITE_NAMES,
    Attempt,
    Entropy,
    RecipientHandshake,
    Secured,
    SenderHandshake,
)
from .protocol.link import derive_keys, make_link, noise_psk, parse_link
from .protocol.manifest import (
    SALT,
    STATUS_TEXTS,
    Manifest,
    Results,
    decode_manifest,
    encode_manifest,
    results_root,
)
from .protocol.paths import shown
from .protocol.seal import OVERHEAD, TRANSFER_ID, Header, Opener, Stream, seal_range
from .protocol.session import RecipientSession, SenderSession
from .signaling_client import Attempt as Envelopes
from .signaling_client import RecipientSeat, SenderSeat

logger = logging.getLogger("handover.transfer")

T = TypeVar("T")
F = TypeVar("F", bound=facts.Event)
Watch = Callable[[Event], None]
Ask = Callable[[Question], Awaitable[bool]]

SOFTWARE = "handover/0.1.0"
DEFAULT_EXPIRES = 24 * 3600.0
SYNC_BYTES, SYNC_SECONDS = 64 * 1024 * 1024, 0.5  # whichever comes first
READ_BACK_STEP = 64 * 1024 * 1024
PROGRESS_SECONDS = 0.1  # at most ten `progress` events a second
RATE_SECONDS = 5.0  # what a rate is averaged over
SHOWN_NAMES = 5
TAKEN_IN = 16  # ranges opened and written in one go ...
GATHERED, GATHER_SECONDS = 4, 0.008  # ... once so many are there, or after so long
MAX_ATTEMPTS = 2  # unproven recipients at once
PROBE_SECONDS = 4.0  # for the answer to the handshake's large packet
PROBES = 3  # connections that may come to nothing before the handshake is through
DISK_THREADS = 4
DISK_NICENESS = 10
DRAIN_SECONDS = 2.0  # for the last control frames


@dataclass
class Options:
    """What `send` and `receive` have in common. `ask` None: nobody is there to answer."""

    home: Home = field(default_factory=Home)
    engine: EngineName | None = None
    passphrase: str | None = None
    verify: bool = False
    auto: bool = False
    watch: Watch = lambda event: None
    ask: Ask | None = None


@dataclass(frozen=True)
class Outcome:
    """How it ended. `code` is a key of FAILURES, or "" when it is complete."""

    ending: Ending
    code: str
    message: str
    receipt: Path | None


# --- send --------------------------------------------------------------------------------------


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
    tls: ssl.SSLContext | None = None,
    hosts: Sequence[str] = (),
) -> Outcome:
    """Send files and folders to whoever opens the link, and return how it ended.

    `server` is an http(s) origin; without one this process serves itself on `listen`, by https with
    `tls`, whose certificate is good for `hosts`. Never raises for anything that FAILURES names:
    that is the outcome. Cancelling it tells the peer.
    """
    sending = _Sending(paths, options, expires=expires, to=to, follow=follow)
    async with _reporting(options, sending.record, "sender") as outcome:
        await sending.run(server, listen, address, tls, hosts)
        assert sending.ended is not None
        outcome.append(sending.ended)
    return outcome[-1]


async def receive(link: str, options: Options, *, output: Path) -> Outcome:
    """Receive what a link offers into the folder `output`, and return how it ended."""
    receiving = _Receiving(link, options, output)
    async with _reporting(options, receiving.record, "recipient") as outcome:
        await receiving.run()
        outcome.append(receiving.ended)
    return outcome[-1]


@dataclass
class _Record:
    """What the audit log and the last event say of a transfer, as far as it got."""

    transfer_id: bytes = b""
    peer: bytes = b""
    manifest: Manifest | None = None
    receipt: Path | None = None
    results: Results | None = None
    places: tuple[str, ...] = ()
    manifest_hash: bytes = b""

    def facts(self) -> dict[str, Any]:
        """Members of the audit entry: no name, no path, no label."""
        found: dict[str, Any] = {}
        if self.transfer_id:
            found["transfer_id"] = encode_base64url(self.transfer_id)
        if self.peer:
            found["peer"] = receipts.thumbprint(self.peer)
        if self.manifest is not None:
            found["entries"] = len(self.manifest.entries)
            found["bytes"] = sum(entry.size for entry in self.manifest.entries)
            found["manifest_sha256"] = encode_base64url(self.manifest_hash)
        if self.receipt is not None:
            found["receipt_sha256"] = sha256(self.receipt.read_bytes()).hex()
        return found

    def failed(self) -> tuple[tuple[str, str], ...]:
        """(shown path, why) of what did not arrive."""
        if self.results is None or self.manifest is None:
            return ()
        entries = self.manifest.entries
        return tuple(
            (shown(entries[i].path, 256), STATUS_TEXTS[s]) for i, s in self.results.failures()
        )


@asynccontextmanager
async def _reporting(options: Options, record: _Record, role: str) -> AsyncIterator[list[Outcome]]:
    """Turn any failure into an outcome, and tell it: audit log first, then the last event."""
    outcome: list[Outcome] = []
    cancelled: asyncio.CancelledError | None = None
    try:
        yield outcome
    except HandoverError as error:
        outcome.append(Outcome(error.ending, error.code, error.sentence, record.receipt))
    except asyncio.CancelledError as error:
        cancelled = error
        text = FAILURES["cancelled"].sentence
        outcome.append(Outcome(Ending.ABORTED, "cancelled", text, record.receipt))
    except Exception as error:
        logger.debug("internal error", exc_info=True)
        text = Failure("internal", type(error).__name__).sentence
        outcome.append(Outcome(Ending.FAILED, "internal", text, record.receipt))
    end = outcome[-1]
    members = {"role": role, "ending": end.ending.value, "code": end.code, **record.facts()}
    try:
        options.home.append_audit("transfer", members)
    except OSError as error:
        reason = (error.strerror or "the disk fails").lower()
        options.watch(Warned("", f"The audit log could not be written ({reason})."))
    if end.ending == Ending.COMPLETE and end.receipt is not None:
        places = record.places
        options.watch(Complete(end.ending, end.receipt, end.message, places))
    else:
        failed = record.failed()
        options.watch(Error(end.ending, end.code, end.message, end.receipt, failed))
    if cancelled is not None:
        raise cancelled


class _Sending:
    """One `send`: the room and its attempts, until one of them is the transfer."""

    def __init__(
        self,
        paths: Sequence[str],
        options: Options,
        *,
        expires: float,
        to: str | None,
        follow: bool,
    ) -> None:
        self.record = _Record()
        self.options, self._paths = options, paths
        self._expires, self._to_name, self._follow = expires, to, follow
        self._failed_attempts = 0
        self._packet = LARGE_PACKET
        self._claimed = asyncio.Lock()  # held by the recipient that is being admitted or served
        self._admitted = b""  # the identity the link is locked to
        self._run: _SenderRun | None = None  # of whoever holds `_claimed`
        self._cut = False  # a transfer was under way and its recipient has not come back yet
        self.transfer_id = os.urandom(TRANSFER_ID)
        self.results: Results | None = None  # as far as earlier sessions came
        self._serving = b""  # the identity of whoever holds `_claimed`
        self._stopped = False
        self._attempts: set[asyncio.Task[facts.Ended | None]] = set()
        self._link_made: LinkMade | None = None
        self.ended: Outcome | None = None
        self._loop = asyncio.get_running_loop()

    async def run(
        self,
        server: str | None,
        listen: tuple[str, int],
        address: str | None,
        tls: ssl.SSLContext | None,
        hosts: Sequence[str],
    ) -> None:
        """Until the transfer has ended; `ended` says how. Raises `HandoverError`."""
        options = self.options
        named = check_paths(self._paths)
        for path in named.values():
            if not os.access(path, os.R_OK):
                raise Failure("not_readable", shown(path))
        self._to = options.home.contact(self._to_name) if self._to_name else None
        if options.ask is None and (options.verify or not (options.auto or self._to)):
            raise Failure("needs_answer", "whether to let the recipient in")
        self.identity = options.home.identity()
        secret = os.urandom(32)
        self.keys = derive_keys(secret)
        async with contextlib.AsyncExitStack() as stack:
            place = await meeting_place(stack, server, listen, address, tls, hosts)
            self.link, *others = (
                make_link(
                    one, secret, self.identity.public, passphrase=options.passphrase is not None
                )
                for one in [place.origin, *place.others]
            )
            self._link_made = LinkMade(str(self.link), tuple(map(str, others)), place.browser)
            seat = SenderSeat(place.reached, self.keys, self._expires)
            try:
                await _race(self._meet(seat), self._hold(seat))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self.ended is None or task is None:
                    raise
                task.uncancel()  # it was only signing, and came to its end

    async def _hold(self, seat: SenderSeat) -> None:
        """Keep the sender's seat until cancelled."""
        try:
            await seat.run(self._on_server)
        except Failure as failure:
            while self._attempts or self.ended:  # a transfer under way does not need the server
                await asyncio.sleep(0.2)
            raise (Failure("connection_lost") if self._cut else failure) from None

    def _on_server(self, there: bool) -> None:
        if self._link_made is not None:  # not before: a link that nobody waits behind is no link
            self.options.watch(self._link_made)
            self._link_made = None
        if not self._claimed.locked():
            self.options.watch(StateChanged(self._waiting() if there else "server_lost"))

    def _waiting(self) -> StateName:
        return "lost" if self._cut else "waiting"

    async def _meet(self, seat: SenderSeat) -> None:
        """Take attempts as they come, until one has become the transfer and ended."""
        options = self.options
        engine = _engine(options)
        listing = asyncio.create_task(asyncio.to_thread(self._walk))
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
                    raise Failure("connection_lost" if self._cut else "expired")
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
                disarmed = self._failed_attempts >= MAX_FAILED_ATTEMPTS
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

    def _conclude(self, ended: facts.Ended | None) -> None:
        if ended is not None:
            failed = len(self.record.failed())
            self.ended = _outcome(ended, self.record.receipt, f"{failed} of them")

    def _walk(self) -> tuple[Listing, Manifest, bytes]:
        def warn(path: str, why: str) -> None:
            self._loop_watch(Warned(shown(path, 256), why))

        listing = walk(self._paths, follow=self._follow, warn=warn, stopped=lambda: self._stopped)
        manifest = Manifest(listing.entries, os.urandom(SALT))
        return listing, manifest, encode_manifest(manifest)

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
        connection = (await loading)(offerer=True, packet=self._packet)
        try:
            greeted = await self._greet(connection, envelopes, await psk)
            if greeted is None:
                return None
            attempt, handshake, secured = greeted
            if self._run is not None and self._serving == secured.peer.identity:
                self._run.give_way()  # it came back before its old connection was known to be dead
            async with self._claimed:
                self._serving = secured.peer.identity
                await connection.control.send(handshake.message_4())
                self._run = _SenderRun(self, connection, attempt, secured, listing)
                return await self._serve(self._run)
        except LaneLost:
            self._note(FAILURES["no_connection"].sentence)
            return None
        finally:
            await _uncancelled(connection.close())

    async def _greet(
        self, connection: Connection, envelopes: Envelopes, psk: bytes
    ) -> tuple[Attempt, SenderHandshake, Secured] | None:
        """Connect and shake hands; None when it came to nothing. Raises `Failure` when the link is
        disarmed, or a contact's name came with another key."""
        passphrase, packet = self.options.passphrase is not None, self._packet
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                attempt = await connect_sender(connection, envelopes, self.keys, passphrase)
                handshake = SenderHandshake(
                    attempt,
                    psk=psk,
                    identity=self.identity.key,
                    label=self.identity.label,
                    software=SOFTWARE,
                    verify=self.options.verify,
                    entropy=_entropy(),
                    fill=packet if packet > SMALL_PACKET else 0,
                )
                control = connection.control
                await control.send(handshake.receive_1(await receive_early(control)))
                secured = handshake.receive_3(await self._answered(control))
                refusal = self._refusal(secured)
                if not refusal:
                    return attempt, handshake, secured
                await control.send(handshake.refuse_4(refusal))
        except HandoverError as error:
            if error.code == "recipient_unproven":
                self._failed_attempts += 1
            left = MAX_FAILED_ATTEMPTS - self._failed_attempts
            if left <= 0 and not self._claimed.locked():
                raise Failure("disarmed") from None
            guess = f" {left} more and the link is disabled."
            self._note(error.sentence + (guess if error.code == "recipient_unproven" else ""))
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

    async def _serve(self, run: _SenderRun) -> facts.Ended | None:
        """The session with a proven recipient. Raises what ends the whole `send`."""
        try:
            return await run.run()
        except HandoverError as error:
            again = error.code == "connection_lost_early" or run.resumable(error.code)
            self._cut = self._cut or run.resumable(error.code)
            loud = error.code in ("digits_rejected", "needs_answer")
            if not again and (self._admitted or loud):
                raise
            if not self._cut:
                self._note(error.sentence)
            return None
        finally:
            self._serving, self._run = b"", None

    def _note(self, text: str) -> None:
        self.options.watch(Warned("", text))

    def _refusal(self, secured: Secured) -> str:
        """Why this recipient may not have it, or ""."""
        identity = secured.peer.identity
        if self._admitted not in (b"", identity):
            return "claimed"
        if self._claimed.locked() and self._serving != identity:  # the same one may come back
            return "claimed"
        if self._to is not None and secured.peer.identity != self._to.identity:
            return "not_for_you"
        return ""

    def admitted(self, identity: bytes) -> None:
        """From now on the link is this recipient's alone."""
        self._admitted = identity
        self.options.watch(StateChanged("resumed" if self._cut else "admitted"))

    def knows(self, identity: bytes) -> bool:
        """Whether this recipient was admitted before: nobody has to be asked again."""
        return self._admitted == identity


class _Receiving:
    """One `receive`."""

    def __init__(self, link: str, options: Options, output: Path) -> None:
        self.record = _Record()
        self.options, self.output = options, output
        self._text = link

    async def run(self) -> None:
        """Until the transfer has ended; `ended` says how. Raises `HandoverError`."""
        options = self.options
        self.link = link = parse_link(self._text)
        if link.passphrase and options.passphrase is None:
            raise Failure("needs_answer", "the passphrase")
        if options.ask is None and (options.verify or not options.auto):
            raise Failure("needs_answer", "whether to accept the files")
        self.identity = options.home.identity()
        self.keys = derive_keys(link.secret)
        engine = _engine(options)
        passphrase = options.passphrase if link.passphrase else None
        psk, make = await asyncio.gather(
            asyncio.to_thread(noise_psk, self.keys, passphrase), asyncio.to_thread(load, engine)
        )
        connection, attempt, secured, private = await self._connect(make, psk)
        try:
            ended = await _RecipientRun(self, connection, attempt, secured, private).run()
        finally:
            await _uncancelled(connection.close())
        failed = len(self.record.failed())
        self.ended = _outcome(ended, self.record.receipt, f"{failed} of them")

    async def _connect(
        self, make: Callable[..., Connection], psk: bytes
    ) -> tuple[Connection, Attempt, Secured, bytes]:
        """A connection, and what the handshake on it gave; again where it broke off halfway."""
        for left in reversed(range(PROBES)):
            connection = make(offerer=False)
            try:
                return connection, *await self._shake_hands(connection, psk)
            except BaseException as error:
                await _uncancelled(connection.close())
                lost = isinstance(error, Failure) and error.code == "connection_lost_early"
                if not lost or not left:
                    raise
        raise AssertionError

    async def _shake_hands(
        self, connection: Connection, psk: bytes
    ) -> tuple[Attempt, Secured, bytes]:
        link, options = self.link, self.options
        passed_3 = opened = False
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                async with RecipientSeat(link.origin, self.keys) as envelopes:
                    options.watch(StateChanged("opened"))
                    attempt = await connect_recipient(
                        connection, envelopes, self.keys, link.passphrase
                    )
                    opened = True
                    entropy = _entropy()
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
                    )
                    control = connection.control
                    await control.send(handshake.message_1())
                    message_3 = handshake.receive_2(await receive_early(control))
                    await control.send(message_3)
                    passed_3 = True
                    secured = handshake.receive_4(await receive_early(control))
                    return attempt, secured, entropy.session
        except (LaneLost, TimeoutError):
            if passed_3 and link.passphrase:
                raise Failure("passphrase_wrong") from None
            raise Failure("connection_lost_early" if opened else "no_connection") from None


def _outcome(ended: facts.Ended, receipt: Path | None, detail: str) -> Outcome:
    if ended.ending == Ending.INCOMPLETE:
        return Outcome(ended.ending, "incomplete", Failure("incomplete", detail).sentence, receipt)
    if ended.code:
        return Outcome(ended.ending, ended.code, Failure(ended.code).sentence, receipt)
    text = "Delivered and verified; the receipt is signed by both."
    return Outcome(ended.ending, "", text, receipt)


def _engine(options: Options) -> EngineName:
    found = available()
    if options.engine is None and found:
        return found[0]
    if options.engine not in found:
        raise Failure("engine_missing", f"{options.engine or 'none'} is not installed")
    return options.engine


def _entropy() -> Entropy:
    return Entropy(os.urandom(32), os.urandom(32), os.urandom(32), os.urandom(32))


# --- running a session ---------------------------------------------------------------------------


class _Meter:
    """A rate over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, value: int) -> float:
        now = time.monotonic()
        self._seen.append((now, value))
        while now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        since, base = self._seen[0]
        return (value - base) / (now - since) if now > since else 0.0


class _Run:
    """What a running session needs on both sides: control lane, clock, people, threads."""

    session: SenderSession | RecipientSession

    def __init__(
        self,
        home: Home,
        options: Options,
        identity: Identity,
        connection: Connection,
        attempt: Attempt,
        secured: Secured,
        record: _Record,
    ) -> None:
        self._home, self._options, self._identity = home, options, identity
        self._connection, self._attempt, self._secured = connection, attempt, secured
        self._record = record
        record.peer = secured.peer.identity
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._facts: asyncio.Queue[facts.Event] = asyncio.Queue()
        self._ended: facts.Ended | None = None
        self._meter, self._progress_told = _Meter(), 0.0
        self._threads = ThreadPoolExecutor(DISK_THREADS, "handover-disk", _step_back)
        self._wake = asyncio.Event()
        self._state = ""

    async def run(self) -> facts.Ended:
        """Until the session ends. Raises `HandoverError`; the peer has then been told why."""
        writer = asyncio.create_task(self._write_control())
        work = _race(self._until_ended(), self._read_control(), self._keep_time(), *self._work())
        try:
            await self._carry_out(asyncio.create_task(work))
        except HandoverError as error:
            self._say_goodbye(error.code)
            raise
        except OSError as error:
            failure = disk_failure(error)
            self._say_goodbye(failure.code)
            raise failure from None
        except asyncio.CancelledError:
            self._say_goodbye("cancelled")
            raise
        except Exception:
            self._say_goodbye("internal")
            raise
        finally:
            await _uncancelled(self._wind_up(writer))
        assert self._ended is not None
        return self._ended

    async def _carry_out(self, work: asyncio.Task[None]) -> None:
        """Wait for the work. A Ctrl-C stops it, but not while only signatures are missing: the
        files are delivered, and half a receipt helps nobody. A second one stops it then too."""
        asked = False
        while True:
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self.session.settling and not asked and not work.done() and task is not None:
                    asked = True
                    task.uncancel()
                    continue
                work.cancel()
                await asyncio.wait([work])
                raise

    async def _wind_up(self, writer: asyncio.Task[None]) -> None:
        """The last frames out, the threads at rest, the disk tidy."""
        self._outbox.put_nowait(None)
        await asyncio.wait([writer], timeout=DRAIN_SECONDS)
        writer.cancel()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._clean_up)

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        raise NotImplementedError

    def _on_event(self, event: facts.Event) -> None:
        raise NotImplementedError

    def _on_withdrawn(self, event: facts.Withdrawn) -> None:
        raise NotImplementedError

    def _clean_up(self) -> None:
        raise NotImplementedError

    def _step(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Every input of the session goes through here: call, then frames and events."""
        try:
            return call(*args, **kwargs)
        finally:
            for frame in self.session.frames():
                self._outbox.put_nowait(frame)
            for event in self.session.events():
                if isinstance(event, facts.Ended):
                    self._ended = event
                elif isinstance(event, facts.Suspected):
                    self._tell("silent" if event.silent else "resumed")
                elif isinstance(event, facts.Progressed):
                    self._tell_progress(event)
                elif isinstance(event, facts.Withdrawn):
                    self._on_withdrawn(event)
                else:
                    self._facts.put_nowait(event)
            self._wake.set()

    async def _woken(self) -> None:
        """Wait for the session's next input of any kind."""
        self._wake.clear()
        await self._wake.wait()

    async def _fact(self, kind: type[F]) -> F:
        """Wait for the next event of a kind; what comes before it goes to `_on_event`."""
        while not isinstance(event := await self._facts.get(), kind):
            self._on_event(event)
        return event

    async def _read_control(self) -> None:
        while self._ended is None:
            try:
                frame = await self._connection.control.recv()
            except LaneLost:
                self._lose()
                return
            self._step(self.session.receive_frame, frame, time.monotonic())

    async def _write_control(self) -> None:
        """One writer, never cancelled midway: a frame lost would break the cipher's count."""
        with suppress(LaneLost):
            while (frame := await self._outbox.get()) is not None:
                await self._connection.control.send(frame)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(facts.ACK_SECONDS)
            now = time.monotonic()
            if now >= self.session.deadline():
                self._step(self.session.tick, now)

    async def _until_ended(self) -> None:
        while self._ended is None:
            await self._woken()

    def _lose(self) -> None:
        if self._ended is None:
            self._step(self.session.lost)

    def _say_goodbye(self, code: str) -> None:
        self.session.abort(code, time.monotonic())
        for frame in self.session.frames():
            self._outbox.put_nowait(frame)

    async def _thread(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _tell(self, state: Any) -> None:
        if state != self._state:
            self._state = state
            self._options.watch(StateChanged(state))

    def _tell_progress(self, event: facts.Progressed) -> None:
        now = time.monotonic()
        last = event.verified == event.total
        if last or now - self._progress_told >= PROGRESS_SECONDS:
            self._progress_told = now
            rate = self._meter.rate(event.durable)
            self._options.watch(Progress(event.durable, event.verified, event.total, rate))

    def _introduce(self) -> PeerMet:
        """Who it is, proven; a known name with another key is a loud warning."""
        peer = self._secured.peer
        contact, changed = self._home.known(peer.identity, peer.label)
        met = PeerMet(
            shown(peer.label),
            receipts.fingerprint(peer.identity),
            contact.name if contact else "",
            contact.verified if contact else False,
            shown(changed),
        )
        self._options.watch(met)
        if changed:
            warning = Failure("contact_changed", shown(changed)).sentence
            self._options.watch(Warned("", warning))
        self._options.watch(DigitsShown(self._secured.digits))
        return met

    async def _confirm_digits(self, met: PeerMet) -> None:
        if self._options.ask is None:
            raise Failure("needs_answer", "whether the check digits are the same")
        if not await self._options.ask(Question("digits", met, self._secured.digits)):
            raise Failure("digits_rejected")

    def _keep_receipt(self, payload: bytes, signatures: list[tuple[bytes, bytes]]) -> None:
        document = receipts.assemble(payload, signatures)
        self._record.receipt = self._home.store_receipt(self._record.transfer_id, document)

    def _security(self) -> dict[str, Any]:
        return {
            "suite": SUITE_NAMES[self._secured.suite],
            "path": "direct",
            "fingerprint_sender": self._attempt.fingerprint_s,
            "fingerprint_recipient": self._attempt.fingerprint_r,
            "digits_confirmed": self.session.needs_confirmation,
            "passphrase": self._attempt.passphrase,
        }

    def _pin(self) -> None:
        peer = self._secured.peer
        self._home.pin(peer.identity, peer.label, verified=self.session.needs_confirmation)


class _SenderRun(_Run):
    """The sender's session, from the admission on."""

    session: SenderSession

    def __init__(
        self,
        sending: _Sending,
        connection: Connection,
        attempt: Attempt,
        secured: Secured,
        listing: asyncio.Task[tuple[Listing, Manifest, bytes]],
    ) -> None:
        options = sending.options
        super().__init__(
            options.home, options, sending.identity, connection, attempt, secured, sending.record
        )
        self._sending, self._listing = sending, listing
        self._record.transfer_id = sending.transfer_id
        largest = connection.data.max_message_size - OVERHEAD
        self.session = SenderSession(
            secured,
            sending.identity.key,
            self._record.transfer_id,
            largest & ~4095,
            time.monotonic(),
            verify=options.verify,
        )
        self._source: Source | None = None
        self._fresh = True  # nothing of the tape was read in this session yet
        self._superseded = asyncio.Event()

    def resumable(self, code: str) -> bool:
        """Whether the recipient can take it up again after this failure."""
        return code == "connection_lost" and RESUME in self._secured.peer.capabilities

    def give_way(self) -> None:
        """The same recipient is there by a new connection: this one is over."""
        self._superseded.set()

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._conduct(), self._move(), self._watch_successor()]

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
            if not again:
                await self._confirm_digits(met)
            self._step(session.confirm_digits)
            while not session.may_offer:
                await self._fact(facts.Confirmed)
        elif not (options.auto or met.contact or self._sending._to or again):
            if options.ask is None:
                raise Failure("needs_answer", "whether to let the recipient in")
            if not await options.ask(Question("admit", met, self._secured.digits)):
                raise Failure("declined")
        self._sending.admitted(self._secured.peer.identity)
        listing, manifest, data = await asyncio.shield(self._listing)
        tape = manifest.tape()
        self._record.manifest, self._record.manifest_hash = manifest, sha256(data)
        self._source = Source(listing, tape)
        self._tell("offered")
        earlier, now = self._sending.results, time.monotonic()
        self._step(session.offer, manifest, data, tape, now_text(), now, earlier)
        self._sending.results = session.results
        receipted = await self._fact(facts.Receipted)
        self._tell("signing")
        await self._sign(manifest, receipted)

    async def _sign(self, manifest: Manifest, receipted: facts.Receipted) -> None:
        session, key = self.session, self._identity.key
        root = await self._thread(results_root, manifest, session.results)
        own = {"label": self._identity.label, "software": SOFTWARE}
        expected = session.expected(root, own, self._security())
        signature = session.countersign(receipted, expected)
        self._keep_receipt(
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
        self._pin()
        self._step(session.countersigned, signature, time.monotonic())

    async def _move(self) -> None:
        """Disk -> read and seal, a few ranges at a time in a thread -> lane."""
        session, lane = self.session, self._connection.data
        while self._ended is None:
            if self._fresh and session.begins >= 0:
                self._fresh = False
                await self._skip_to(session.begins)
                continue
            if session.all_sent:
                await self._close()
                continue
            plan = session.plan()
            if plan is None:
                await self._woken()
                continue
            for block, header, message in await self._thread(self._seal, plan):
                if message:
                    self._step(session.sent, header, time.monotonic())
                    try:
                        await lane.send(message)
                    except LaneLost:
                        self._lose()
                        return
                self._note_ends(block)

    async def _skip_to(self, offset: int) -> None:
        """Take up an earlier session where the recipient stands."""
        source, known = self._source, self.session.results.known
        assert source is not None
        self._note_ends(await self._thread(source.skip, offset, known))

    def _seal(self, plan: facts.Plan) -> list[tuple[Block, Header, bytes]]:
        """A stretch, cut into ranges; it ends early at a hole or a withdrawn entry."""
        sealed, offset, end = [], plan.offset, plan.offset + plan.length
        while offset < end:
            length = min(plan.step, end - offset)
            if plan.stream == Stream.DATA:
                assert self._source is not None
                block = self._source.read(offset, length)
            else:
                payload = self.session.bytes_of(plan.stream, offset, length)
                block = Block(offset, len(payload), False, payload, (), ())
            header = Header(self._record.transfer_id, plan.stream, block.hole, offset, block.length)
            key = self._secured.session_key
            message = seal_range(key, header, block.payload) if block.length else b""
            sealed.append((block, header, message))
            offset += block.length
            if block.hole or block.withdrawn or not block.length:
                break
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
            head = self._home.audit_head()
            self._step(session.close, now_text(), head, time.monotonic())
            self._tell("verifying")


class _RecipientRun(_Run):
    """The recipient's session, from the sender's welcome on."""

    session: RecipientSession

    def __init__(
        self,
        receiving: _Receiving,
        connection: Connection,
        attempt: Attempt,
        secured: Secured,
        session_private: bytes,
    ) -> None:
        options = receiving.options
        super().__init__(
            options.home,
            options,
            receiving.identity,
            connection,
            attempt,
            secured,
            receiving.record,
        )
        self._output = receiving.output
        self._opener = Opener(session_private)
        self.session = RecipientSession(
            secured, receiving.identity.key, time.monotonic(), verify=options.verify
        )
        self._destination: Destination | None = None
        self._durable = 0
        self._total = -1  # of the tape, once it is accepted
        self._synced = asyncio.Event()
        self._arrived: deque[bytes] = deque()
        self._arrival = asyncio.Event()
        self._keep = False  # what arrived so far, when it ends

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._conduct(),
            self._listen(),
            self._take_in(),
            self._sync(),
            self._read_back(),
        ]

    def _clean_up(self) -> None:
        if self._destination is None:
            return
        if self._keep and self._durable:
            self._destination.close()
        else:
            self._destination.discard()

    def _say_goodbye(self, code: str) -> None:
        self._keep = code in ("connection_lost", "disk_error")
        super()._say_goodbye(code)

    def _on_withdrawn(self, event: facts.Withdrawn) -> None:
        assert self._destination is not None
        for entry, _ in event.entries:
            self._destination.withdraw(entry)

    def _on_event(self, event: facts.Event) -> None:
        if isinstance(event, facts.Offered):
            self._tell("offered")

    async def _conduct(self) -> None:
        """Who, what, yes or no; at the end verify, place, sign."""
        session = self.session
        met = self._introduce()
        self._tell("connected")
        if session.needs_confirmation:
            await self._confirm_digits(met)
            self._step(session.confirmed, time.monotonic())
        offered = await self._fact(facts.ManifestArrived)
        manifest = await self._thread(decode_manifest, offered.data)
        self._record.manifest = manifest
        self._record.manifest_hash = sha256(offered.data)
        tape = manifest.tape()
        session.read(manifest, tape)
        self._record.transfer_id = session.transfer_id
        if self._home.receipt_path(session.transfer_id).exists():
            raise PeerError("a transfer id that was used before")
        destination = Destination(self._output, manifest, tape, session.transfer_id)
        await self._thread(destination.check_room)
        if not await self._accepts(met, manifest, tape.total):
            self._step(session.decline, time.monotonic())
            return
        await self._thread(destination.check_room)
        self._destination = destination
        await self._thread(destination.prepare)
        self._tell("accepted")
        self._step(session.accept, now_text(), time.monotonic())
        self._total = tape.total
        delivered = await self._fact(facts.Delivered)
        await self._finish(manifest, destination, delivered)

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

    async def _listen(self) -> None:
        """Data lane -> memory; the session's window bounds how much that is."""
        try:
            while True:
                self._arrived.append(await self._connection.data.recv())
                self._arrival.set()
        except LaneLost:
            self._lose()

    async def _take_in(self) -> None:
        """Memory -> open -> write, as many ranges at a time as are there."""
        while self._ended is None:
            if not self._arrived:
                self._arrival.clear()
                await self._arrival.wait()
            if len(self._arrived) < GATHERED:
                await asyncio.sleep(GATHER_SECONDS)
            batch = [self._arrived.popleft() for _ in range(min(len(self._arrived), TAKEN_IN))]
            opened = await self._thread(lambda batch=batch: [self._opener.open(m) for m in batch])
            while opened:
                opened = await self._write_some(opened)

    async def _write_some(self, opened: list[tuple[Header, bytes]]) -> list[tuple[Header, bytes]]:
        """Write the first ranges that do not touch each other; what is left."""
        fresh: list[tuple[Header, bytes]] = []
        count = 0
        for header, payload in opened:
            if any(one.touches(header) for one, _ in fresh):
                break
            count += 1
            if self._step(self.session.admit, header, time.monotonic()):
                fresh.append((header, payload))
        await self._thread(self._write, fresh)
        for header, payload in fresh:
            self._step(self.session.written, header, payload, time.monotonic())
        return opened[count:]

    def _write(self, ranges: list[tuple[Header, bytes]]) -> None:
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
                await self._thread(destination.sync, frontier)
                last, self._durable = time.monotonic(), frontier
                self._synced.set()
                self._step(self.session.synced, frontier, last)

    async def _read_back(self) -> None:
        """On the disk for good -> read back and hashed."""
        verified = 0
        while self._ended is None:
            if self._destination is None or self._durable <= verified:
                self._synced.clear()
                await self._synced.wait()
                continue
            upto = min(self._durable, verified + READ_BACK_STEP)
            verified = await self._thread(self._destination.read_back, upto)
            self._step(self.session.verified, verified, time.monotonic())
            if verified == self._total:
                self._tell("verifying")

    async def _finish(
        self, manifest: Manifest, destination: Destination, delivered: facts.Delivered
    ) -> None:
        """Compare, place, sign. The half-signed receipt is on the disk before it is sent."""
        session, key = self.session, self._identity.key
        self._tell("verifying")
        claimed = await self._thread(Results.decode, delivered.digests, manifest)
        results, refused = await self._thread(destination.settle, claimed)
        self._record.results = results
        self._record.places = tuple(
            dict.fromkeys(path.split("/")[0] for path in destination.placed.values())
        )
        root = await self._thread(results_root, manifest, results)
        self._tell("signing")
        peer, own = self._secured.peer, self._identity
        security = {"transcript": self._secured.transcript, **self._security()}
        fields = {
            "type": receipts.TYPE,
            "sender": receipts.party(
                peer.identity, peer.label, peer.software, session.sender_audit_head
            ),
            "recipient": receipts.party(own.public, own.label, SOFTWARE, self._home.audit_head()),
            "stored": "file",
            "security": {
                k: encode_base64url(v) if isinstance(v, bytes) else v for k, v in security.items()
            },
            **session.facts(results, root, now_text()),
        }
        payload = encode_json(fields)
        signature = receipts.sign(key, payload)
        self._keep_receipt(payload, [(own.public, signature)])
        await self._thread(
            self._home.store_annex,
            self._record.transfer_id,
            manifest,
            results,
            destination.placed,
        )
        self._step(session.finish, results, refused, payload, signature, time.monotonic())
        countersigned = await self._fact(facts.Countersigned)
        self._keep_receipt(
            payload, [(own.public, signature), (peer.identity, countersigned.signature)]
        )
        self._pin()
        self._step(session.confirm, time.monotonic())


def _step_back() -> None:
    """Let the engine's threads go first: a packet that waits for a core costs more than a range."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), DISK_NICENESS)


# --- asyncio -------------------------------------------------------------------------------------


async def _race(main: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, None]) -> T:
    """Run all; give what `main` gives, or raise the first error of any. Nothing is left running.

    An error is raised as itself, not in a group: there is one reason why a transfer ended.
    """
    first = asyncio.create_task(main)
    tasks: list[asyncio.Task[Any]] = [first, *map(asyncio.create_task, others)]
    try:
        pending = set(tasks)
        while not first.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return first.result()
    finally:
        # The main one first: it may still need the others to say goodbye.
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])


async def _uncancelled(work: Awaitable[Any]) -> None:
    """Let clean-up finish even when the task is being cancelled (a second Ctrl-C ends it hard)."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=10)
        raise
