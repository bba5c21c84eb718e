"""What drives a session, in either role: control lane, clock, threads, people, and an honest end.

The session thinks; a driver carries: frames between session and control lane, events to whoever
watches, disk work into threads. There is one way in, `_step`, and one place where events go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..events import (
    Bottleneck,
    DigitsShown,
    PathKind,
    PeerMet,
    Progressed,
    Question,
    StateChanged,
    Warned,
)
from ..lanes import Lane, LaneLost
from ..lanes.https import OpenPipe
from ..lanes.multipath import LaneContext, Multipath, OpenConnection, OuterPort
from ..lanes.tls.targets import Targets
from ..protocol import receipt as receipts
from ..protocol import session as sessions
from ..protocol.errors import LOCAL_PAUSES, Failure, HandoverError, PeerError
from ..protocol.handshake import ChannelBinding, Secured
from ..protocol.labels import shown_label
from ..protocol.sentences import Detail
from ..protocol.session import RecipientSession, SenderSession
from ..state.identity import Identity
from ..storage.durable import disk_failure, step_back
from ..tasks import finish, race, stop
from .options import Options
from .rates import Limiter, Meter, Waits

T = TypeVar("T")
E = TypeVar("E", bound=sessions.Event)

PROGRESS_SECONDS = 0.1  # at most ten `progress` events a second
OWN_BOTTLENECKS = ("disk", "limit")  # that are sure
PEER_BOTTLENECKS: dict[str, Bottleneck] = {
    "disk": "other_disk",
    "limit": "other_limit",
    "network": "network",
}
DISK_THREADS = 4
DISK_NICENESS = 10  # the engine's threads first: a packet that waits costs more than a range
DRAIN_SECONDS = 2.0  # for the last control frames


# Told whom it is about, the check digits, and whether both sides have compared them; raises
# `Failure` for no.
Admit = Callable[[PeerMet, str, bool], Awaitable[None]]


class Carrier(Protocol):
    """What a session runs over; see `connect.transports.Transports`."""

    @property
    def control(self) -> Lane:
        """Carries control messages."""

    @property
    def data(self) -> Lane:
        """Carries ranges."""

    @property
    def path(self) -> PathKind:
        """What carries it."""

    @property
    def relay_only(self) -> bool:
        """Whether there may be no direct connection beside it: one of the sides keeps its
        addresses from the other."""

    @property
    def max_message_size(self) -> int:
        """What every lane of the session takes, in bytes."""

    @property
    def peer_addresses(self) -> Sequence[str]:
        """Where this connection found the peer, or could have."""

    @property
    def open_pipe(self) -> OpenPipe | None:
        """Opens a lane to a page that this transfer's own server has served."""

    async def open_outer_port(self) -> OuterPort | None:
        """A TCP port whose outer address is known, where a STUN server tells it."""


@dataclass(frozen=True)
class Connected:
    """A peer that is proven, and the lanes to it."""

    carrier: Carrier
    binding: ChannelBinding
    secured: Secured
    open: OpenConnection  # a further direct WebRTC connection
    addresses: Callable[[], list[str]]  # this machine's, as may be told
    session_private: bytes = b""  # of x_R, at the recipient


class Driver:
    """A running session."""

    session: SenderSession | RecipientSession
    lanes: Multipath

    def __init__(
        self, options: Options, identity: Identity, connected: Connected, targets: Targets
    ) -> None:
        """`targets`: the transfer's."""
        self._options, self._identity, self._connected = options, identity, connected
        self._targets = targets
        self._secured = connected.secured
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._events: asyncio.Queue[sessions.Event] = asyncio.Queue()
        self._ended: sessions.Ended | None = None
        self._limiter, self._waits = Limiter(options.limit), Waits()
        self._meter, self._progress_told = Meter(), 0.0
        self._progressed: sessions.Progressed | None = None  # as it was told last
        lower = (DISK_NICENESS,)
        self._threads = ThreadPoolExecutor(DISK_THREADS, "handover-disk", step_back, lower)
        self._wake = asyncio.Event()
        self._peer_bottleneck: sessions.Bottleneck = ""
        self._over = False
        self._state = ""

    @property
    def ended(self) -> sessions.Ended | None:
        """How the session ended, once it has."""
        return self._ended

    async def run(self) -> sessions.Ended:
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
            self._say_goodbye(_at_peer(error.code))
            raise
        except OSError as error:
            failure = disk_failure(error)
            self._say_goodbye(_at_peer(failure.code))
            raise failure from None
        except asyncio.CancelledError:
            self._say_goodbye("cancelled")
            raise
        except Exception:
            self._say_goodbye("internal")
            raise
        finally:
            await finish(self._wind_up(writer))  # threads may still use what comes next
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
                await stop(work)
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

    # -- what a role adds

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        """What a role does beside the control lane and the clock."""
        raise NotImplementedError

    async def _carry(self, number: int, lane: Lane) -> None:
        """Move ranges over a lane until it is lost."""
        raise NotImplementedError

    def _on_event(self, event: sessions.Event) -> None:
        """An event that nobody waits for."""

    def _on_progress(self, event: sessions.Progressed) -> None:
        """The tape is further; for whoever keeps that."""

    def _on_withdrawn(self, event: sessions.Withdrawn) -> None:
        """Entries were given up by the sender."""

    def _clean_up(self) -> None:
        """Close what this session alone had open. In a thread."""

    # -- in and out of the session

    def _step(self, call: Callable[..., T], *args: Any) -> T:
        """Call what may make the session say or tell something: then frames and events go out."""
        try:
            return call(*args)
        finally:
            for frame in self.session.frames():
                self._outbox.put_nowait(frame)
            for event in self.session.events():
                self._dispatch(event)
            self._wake.set()

    def _dispatch(self, event: sessions.Event) -> None:
        match event:
            case sessions.Ended():
                self._ended = event
            case sessions.Suspected():
                self._tell("silent" if event.silent else "resumed")
            case sessions.Progressed():
                self._on_progress(event)
                self._tell_progress(event)
            case sessions.Withdrawn():
                self._on_withdrawn(event)
            case sessions.BottleneckReported():
                self._peer_bottleneck = event.by
            case sessions.DirectAnnounced() | sessions.LaneSignalled():
                self.lanes.take(event)
            case _:
                self._events.put_nowait(event)

    async def _woken(self, seconds: float | None = None) -> None:
        """Wait for the session's next input of any kind, or for so long."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _next(self, *kinds: type[E]) -> E:
        """Wait for the next event of a kind; what comes before it goes to `_on_event`."""
        while not isinstance(event := await self._events.get(), kinds):
            self._on_event(event)
        return event

    async def _read_control(self) -> None:
        while self._ended is None:
            try:
                frame = await self._connected.carrier.control.recv()
                self._step(self.session.receive_frame, bytes(frame), time.monotonic())
            except LaneLost:
                self._lose()
                return
            except PeerError:
                if not self.session.settling:
                    raise
                self._lose()  # the files are delivered: only a signature is missing
                return

    async def _write_control(self) -> None:
        """One writer, never cancelled midway: a frame lost would break the cipher's count."""
        with suppress(LaneLost):
            while (frame := await self._outbox.get()) is not None:
                await self._connected.carrier.control.send(frame)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(sessions.ACK_SECONDS)
            now = time.monotonic()
            if (own := self._waits.most()) in OWN_BOTTLENECKS:  # else it is said with progress
                self._step(self.session.report_bottleneck, own, now)
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

    # -- threads

    def _is_over(self) -> bool:
        """For what takes long in a thread: whether nobody waits for it any more."""
        return self._over

    async def _thread(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    # -- lanes

    @property
    def _lane_context(self) -> LaneContext:
        """What lanes beside the connection's own are made with."""
        connected, binding = self._connected, self._connected.binding
        return LaneContext(
            open=connected.open,
            path=connected.carrier.path,
            may_add=not connected.carrier.relay_only and connected.carrier.path != "https",
            nonces=(binding.nonce_guest, binding.nonce_host),
            direct_ports=None if connected.carrier.relay_only else self._options.direct_ports,
            addresses=connected.addresses,
            peer_addresses=connected.carrier.peer_addresses,
            targets=self._targets,
            warn=lambda code, detail: self._options.emit(Warned(code, detail=detail)),
            open_outer_port=connected.carrier.open_outer_port,
            open_pipe=connected.carrier.open_pipe,
        )

    # -- people

    def _tell(self, state: Any) -> None:
        if state != self._state:
            self._state = state
            self._options.emit(StateChanged(state))

    def _tell_progress(self, event: sessions.Progressed) -> None:
        now = time.monotonic()
        last = event.verified == event.total and event != self._progressed
        if last or now - self._progress_told >= PROGRESS_SECONDS:
            self._progress_told, self._progressed = now, event
            own = self._waits.most()
            sure = own in OWN_BOTTLENECKS
            own_direct = int(self._connected.carrier.path in ("tls", "https"))
            self._options.emit(
                Progressed(
                    durable=event.durable,
                    verified=event.verified,
                    total=event.total,
                    rate=self._meter.rate(event.durable),
                    path=self.lanes.path,
                    direct=own_direct + len(self.lanes.direct),
                    webrtc=1 - own_direct + len(self.lanes.webrtc),
                    bottleneck=own if sure else PEER_BOTTLENECKS.get(self._peer_bottleneck, own),
                )
            )
            self._step(self.session.report_bottleneck, own, now)

    async def _introduce(self) -> PeerMet:
        """Who it is, proven; a known name with another key is a loud warning."""
        peer, contacts = self._secured.peer, self._options.home.contacts
        contact, changed = await self._thread(contacts.known, peer.identity, peer.label)
        met = PeerMet(
            shown_label(peer.label),
            receipts.fingerprint(peer.identity),
            shown_label(contact.name) if contact else "",
            contact.verified if contact else False,
            shown_label(changed),
            contact.first_met if contact else "",
        )
        self._options.emit(met)
        if changed:
            self._options.emit(Warned("contact_changed", detail=met.changed))
        self._options.emit(DigitsShown(self._secured.digits))
        return met

    async def _confirm_digits(self, met: PeerMet) -> None:
        if self._options.ask is None:
            raise Failure("needs_answer", Detail("digits"))
        if not await self._options.ask(Question("digits", met, self._secured.digits)):
            raise Failure("digits_rejected")

    # -- evidence

    def _security(self) -> dict[str, Any]:
        """What a receipt says of the connection, as this side knows it."""
        binding = self._connected.binding
        sender, recipient = binding.fingerprints
        return {
            "suite": self._secured.suite.name,
            "path": self._connected.carrier.path,
            "fingerprint_sender": sender,
            "fingerprint_recipient": recipient,
            "digits_confirmed": self.session.needs_confirmation,
            "passphrase": binding.passphrase,
        }

    async def _pin(self) -> None:
        peer, compared = self._secured.peer, self.session.needs_confirmation
        await self._thread(self._options.home.contacts.pin, peer.identity, peer.label, compared)


def _at_peer(code: str) -> str:
    if code == "transfer_running":
        return "connection_lost"  # said to nobody: another process of this side goes on with it
    return "disk_paused" if code in LOCAL_PAUSES else code
