"""What both roles need to run a session: control lane, clock, people, threads, and an honest end.

A session thinks; a `Run` carries: frames between session and control lane, facts to whoever
watches, disk work into threads. Every transfer ends as an `Outcome`, noted in the audit log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .events import (
    Bottleneck,
    Complete,
    DigitsShown,
    Error,
    Event,
    PeerMet,
    Progress,
    Question,
    StateChanged,
    Warned,
)
from .files import disk_failure
from .home import Home, Identity
from .journal import Journal
from .lanes import Connection, EngineName, Lane, LaneLost, available
from .meeting import Ways
from .multipath import Multipath
from .protocol import receipt as receipts
from .protocol import session as facts
from .protocol.codec import encode_base64url, sha256
from .protocol.errors import FAILURES, Ending, Failure, HandoverError, Next, PeerError
from .protocol.handshake import SUITE_NAMES, Attempt, Entropy, Secured
from .protocol.manifest import STATUS_TEXTS, Manifest, Results
from .protocol.paths import shown
from .protocol.session import RecipientSession, SenderSession
from .protocol.signal import DirectOffer
from .tasks import race, uncancelled

logger = logging.getLogger("handover.transfer")

T = TypeVar("T")
F = TypeVar("F", bound=facts.Event)
M = TypeVar("M", bound=Multipath)
Watch = Callable[[Event], None]
Ask = Callable[[Question], Awaitable[bool]]

SOFTWARE = "handover/0.1.0"
PROGRESS_SECONDS = 0.1  # at most ten `progress` events a second
RATE_SECONDS = 5.0  # what a rate is averaged over
SURE_SECONDS = 2.0  # before it is said what holds a transfer up
OWN_BOTTLENECKS = ("disk", "limit")  # of being slow, that are sure
PEER_BOTTLENECKS: dict[str, Bottleneck] = {
    "disk": "other_disk",
    "limit": "other_limit",
    "network": "network",
}
DISK_THREADS = 4
DISK_NICENESS = 10
MIN_LIMIT = 10_000.0  # bytes a second
BURST_SECONDS = 0.1  # of a limited rate that may come at once
DRAIN_SECONDS = 2.0  # for the last control frames


@dataclass
class Options:
    """What `send` and `receive` have in common. `ask` None: nobody is there to answer."""

    home: Home = field(default_factory=Home)
    engine: EngineName | None = None
    passphrase: str | None = None
    verify: bool = False
    auto: bool = False
    limit: float | None = None  # bytes a second
    compress: bool = True  # where it pays
    direct: bool = True  # TLS over TCP beside WebRTC, where the other side takes part
    direct_ports: tuple[int, int] = (0, 0)  # to listen on, first and last; 0: any
    watch: Watch = lambda event: None
    ask: Ask | None = None

    @property
    def ports(self) -> tuple[int, int] | None:
        """The TCP ports that may be listened on; None: no direct connections."""
        return self.direct_ports if self.direct else None


@dataclass(frozen=True)
class Outcome:
    """How it ended. `code` is a key of FAILURES, or "" when it is complete."""

    ending: Ending
    code: str
    message: str
    receipt: Path | None


@dataclass
class Summary:
    """What the audit log and the last event say of a transfer, as far as it got."""

    transfer_id: bytes = b""
    peer: bytes = b""
    manifest: Manifest | None = None
    receipt: Path | None = None
    results: Results | None = None
    places: tuple[str, ...] = ()
    manifest_hash: bytes = b""
    journal: Journal | None = None
    recalled: bool = False  # the journal is an earlier process's

    def conclude(self, code: str) -> None:
        """Forget the journal, unless the transfer can still be taken up."""
        if self.journal is None:
            return
        if (self.journal.record.peer or self.recalled) and may_go_on(code):
            self.journal.release()
        else:
            self.journal.remove()

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
        if self.receipt is not None and self.receipt.exists():
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
async def reporting(options: Options, record: Summary, role: str) -> AsyncIterator[list[Outcome]]:
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
    record.conclude(end.code)
    if end.ending == Ending.COMPLETE and end.receipt is not None:
        places = record.places
        options.watch(Complete(end.ending, end.receipt, end.message, places))
    else:
        failed = record.failed()
        options.watch(Error(end.ending, end.code, end.message, end.receipt, failed))
    if cancelled is not None:
        raise cancelled


def outcome_of(ended: facts.Ended, receipt: Path | None, detail: str) -> Outcome:
    if ended.ending == Ending.INCOMPLETE:
        return Outcome(ended.ending, "incomplete", Failure("incomplete", detail).sentence, receipt)
    if ended.code:
        return Outcome(ended.ending, ended.code, Failure(ended.code).sentence, receipt)
    text = "Delivered and verified; the receipt is signed by both."
    return Outcome(ended.ending, "", text, receipt)


def choose_engine(options: Options) -> EngineName:
    found = available()
    if options.engine is None and found:
        return found[0]
    if options.engine not in found:
        raise Failure("engine_missing", f"{options.engine or 'none'} is not installed")
    return options.engine


def may_go_on(code: str) -> bool:
    """Whether a transfer that ended so can be taken up again."""
    return bool(code) and FAILURES[code].next >= Next.RESUME


def journal_failure(error: OSError) -> Failure:
    """What it means that a transfer cannot be noted."""
    return Failure("home_unwritable", (error.strerror or "the disk fails").lower())


def new_entropy() -> Entropy:
    return Entropy(os.urandom(32), os.urandom(32), os.urandom(32), os.urandom(32))


# --- running a session ---------------------------------------------------------------------------


class Meter:
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


class Waits:
    """What held a transfer up over the last few seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seen: deque[tuple[float, Bottleneck, float]] = deque()  # when, what, seconds

    @contextmanager
    def on(self, what: Bottleneck) -> Iterator[None]:
        """Count the time inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._seen.append((ended, what, ended - began))

    def most(self) -> Bottleneck:
        """What took more than half of the time, if anything did."""
        now = time.monotonic()
        if now - self._began < SURE_SECONDS:
            return ""
        while self._seen and now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        sums: dict[Bottleneck, float] = {}
        for _, what, seconds in self._seen:
            sums[what] = sums.get(what, 0.0) + seconds
        half = min(now - self._began, RATE_SECONDS) / 2
        what = max(sums, key=lambda one: sums[one] if one else 0.0, default="")
        return what if sums.get(what, 0.0) > half else ""


class Limiter:
    """Keeps to a rate in bytes a second, over all lanes; None: none."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._due = 0.0  # when what was let through so far is paid for

    async def take(self, count: int) -> None:
        """Wait until so many bytes may pass."""
        if self._rate is not None:
            now = time.monotonic()
            self._due = max(self._due, now - BURST_SECONDS) + count / self._rate
            await asyncio.sleep(self._due - now)


class Run:
    """What a running session needs on both sides: control lane, clock, people, threads."""

    session: SenderSession | RecipientSession
    lanes: Multipath

    def __init__(
        self,
        home: Home,
        options: Options,
        identity: Identity,
        ways: Ways,
        attempt: Attempt,
        secured: Secured,
        record: Summary,
    ) -> None:
        self._home, self._options, self._identity = home, options, identity
        self._ways, self._attempt, self._secured = ways, attempt, secured
        self._record = record
        record.peer = secured.peer.identity
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._facts: asyncio.Queue[facts.Event] = asyncio.Queue()
        self._ended: facts.Ended | None = None
        self._limiter, self._waits = Limiter(options.limit), Waits()
        self._meter, self._progress_told = Meter(), 0.0
        self._threads = ThreadPoolExecutor(DISK_THREADS, "handover-disk", _step_back)
        self._wake = asyncio.Event()
        self._peer_bottleneck = ""
        self._over = False
        self._state = ""

    async def run(self) -> facts.Ended:
        """Until the session ends. Raises `HandoverError`; the peer has then been told why."""
        writer = asyncio.create_task(self._write_control())
        work = race(
            self._until_ended(),
            self.lanes.run(),
            self._read_control(),
            self._keep_time(),
            *self._work(),
        )
        try:
            await self._carry_out(asyncio.create_task(work))
        except HandoverError as error:
            # Whose disk it is makes no difference to the other side: it waits.
            paused = error.code == "home_unwritable"
            self._say_goodbye("disk_paused" if paused else error.code)
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
            await uncancelled(self._wind_up(writer))
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
        self._over = True
        self._outbox.put_nowait(None)
        await asyncio.wait([writer], timeout=DRAIN_SECONDS)
        writer.cancel()
        self.lanes.close()
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
                elif isinstance(event, facts.BottleneckReported):
                    self._peer_bottleneck = event.by
                elif isinstance(event, DirectOffer | facts.LaneSignalled):
                    self.lanes.take(event)
                else:
                    self._facts.put_nowait(event)
            self._wake.set()

    def _multipath(self, kind: Callable[..., M], make: Callable[[], Connection]) -> M:
        """The lanes of this run; `make` makes a further WebRTC connection."""
        options = self._options
        return kind(
            self.session,
            self._ways.data,
            self._step,
            self._carry,
            direct_ports=options.ports,
            make=make,
            attempt=self._attempt,
            warn=lambda text: options.watch(Warned("", text)),
        )

    async def _carry(self, number: int, lane: Lane) -> None:
        """Move ranges over a lane until it is lost."""
        raise NotImplementedError

    async def _woken(self, seconds: float | None = None) -> None:
        """Wait for the session's next input of any kind, or for so long."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _fact(self, kind: type[F]) -> F:
        """Wait for the next event of a kind; what comes before it goes to `_on_event`."""
        while not isinstance(event := await self._facts.get(), kind):
            self._on_event(event)
        return event

    async def _read_control(self) -> None:
        while self._ended is None:
            try:
                frame = await self._ways.control.recv()
            except LaneLost:
                self._lose()
                return
            try:
                self._step(self.session.receive_frame, bytes(frame), time.monotonic())
            except PeerError:
                if not self.session.settling:
                    raise
                self._lose()  # the files are delivered: only a signature is missing
                return

    async def _write_control(self) -> None:
        """One writer, never cancelled midway: a frame lost would break the cipher's count."""
        with suppress(LaneLost):
            while (frame := await self._outbox.get()) is not None:
                await self._ways.control.send(frame)

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

    def _is_over(self) -> bool:
        """For what takes long in a thread: whether nobody waits for it any more."""
        return self._over

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
            tls = self._ways.is_tls
            direct, webrtc = tls + len(self.lanes.direct), (not tls) + len(self.lanes.webrtc)
            amounts = event.durable, event.verified, event.total
            own = self._waits.most()
            bottleneck = (
                own if own in OWN_BOTTLENECKS else PEER_BOTTLENECKS.get(self._peer_bottleneck, own)
            )
            self._options.watch(Progress(*amounts, rate, direct, webrtc, bottleneck))
            self._step(self.session.report_bottleneck, own, now)

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

    async def _keep_receipt(self, payload: bytes, signatures: list[tuple[bytes, bytes]]) -> None:
        document, transfer = receipts.assemble(payload, signatures), self._record.transfer_id
        self._record.receipt = await self._thread(self._home.store_receipt, transfer, document)

    def _security(self) -> dict[str, Any]:
        return {
            "suite": SUITE_NAMES[self._secured.suite],
            "path": "tls" if self._ways.is_tls else "direct",
            "fingerprint_sender": self._attempt.fingerprint_s,
            "fingerprint_recipient": self._attempt.fingerprint_r,
            "digits_confirmed": self.session.needs_confirmation,
            "passphrase": self._attempt.passphrase,
        }

    async def _pin(self) -> None:
        peer, compared = self._secured.peer, self.session.needs_confirmation
        await self._thread(self._home.pin, peer.identity, peer.label, compared)


def _step_back() -> None:
    """Let the engine's threads go first: a packet that waits for a core costs more than a range."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), DISK_NICENESS)
