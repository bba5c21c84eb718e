"""Multipath: lanes beside the connection's own, which come and go while a transfer runs.

Three kinds, all negotiated inside the control channel, never through the server (PROTOCOL.md,
Several lanes): direct ones (TLS over TCP, between two native peers, whoever can connect); those
that a page fetches, where this transfer's own server has served it; and further WebRTC connections,
as many as raise the rate. What goes wrong with them is no more than a lane less.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from ..events import PathKind
from ..protocol import session as sessions
from ..protocol.errors import HandoverError
from ..protocol.handshake import DIRECT, LANES, MANY_LANES
from ..protocol.sentences import os_detail
from ..protocol.session import RecipientSession, SenderSession, SenderState
from ..protocol.signal import Description, DirectEndpoint, Signal
from ..tasks import race, stop, uncancelled
from . import Lane, LaneLost, hear_nothing, https
from .connection_count import ConnectionCount
from .streams import ThreadedLane
from .tls.connection import AGAIN_SECONDS, ALONE_SECONDS
from .tls.direct import DirectLanes
from .tls.endpoint import hello
from .tls.socket import has_congestion_control
from .tls.targets import AT_ONCE, Targets
from .webrtc import Connection
from .webrtc.negotiation import answer, offer

logger = logging.getLogger("handover.multipath")

HTTPS_LANES, HTTPS_LANES_UNDER_LOSS = 1, 4  # that a page fetches at once
# Direct lanes: two keep both sides' cores busy; where losses slow a connection down, more do.
DIRECT_LANES, DIRECT_LANES_UNDER_LOSS = 2, 8
LONGEST_AGAIN_SECONDS = 60.0  # before direct lanes are tried again
HELLO = 2  # length of a direct lane's number
MOST_RANGES = 1_000_000  # by one direct lane, 258 GB: AES-GCM is for 2^24.5 records (RFC 8446 5.5)
DEAD_SECONDS = 10.0  # a lane that brings nothing for so long is closed
WEBRTC_LANES, WEBRTC_LANES_TO_BROWSER = 24, 8  # a browser's CPU is its limit
OPEN_SECONDS = 15.0  # for a further WebRTC connection
LOOK_SECONDS = 0.25  # between two looks at the rate
BUSY = 0.8  # share of the event loop's time, above which more connections are not tried
SPARE = 0.5  # processors that the program uses, below which they are tried in leaps
# From this round trip on several are opened at once: with 0.1 % of loss one carries 1.6 MB/s then.
FAR_SECONDS = 0.03
FIRST_RANGE_SECONDS = 1.0  # for 64 KiB: a path that takes longer is filled by one connection
DIRECT_ROUND_TRIPS = 6  # until there is a direct lane: two messages, TCP, TLS, and its number
RETIRE_SECONDS = 3.0  # for what is under way on a lane that is wanted no more

Carry = Callable[[int, Lane], Coroutine[Any, Any, None]]


class Step(Protocol):
    """An input of the session: call, then send its frames and handle its events."""

    def __call__(self, call: Callable[..., Any], *args: Any) -> Any:
        """What the call gives."""


FEW = AT_ONCE - 1  # addresses that come before the one outside
PUNCH_AFTER_SECONDS = 1.0  # that ordinary connections are given
PUNCH_SECONDS = 20.0  # for both to connect at once


class OpenConnection(Protocol):
    """Makes a further WebRTC connection, which goes by no relay."""

    def __call__(self, *, offerer: bool) -> Connection:
        """A new connection."""


class OuterPort(Protocol):
    """A TCP port of this side whose outer address is known; see `connect.outer_port`."""

    outer: tuple[str, int]

    async def connect(self, peer: tuple[str, int]) -> socket.socket:
        """A connection to the peer's outer address, whose other end does the same; tries until it
        is cancelled."""

    def close(self) -> None:
        """Never raises."""


@dataclass(frozen=True)
class LaneContext:
    """What the lanes beside a connection's own are made with."""

    open: OpenConnection
    path: PathKind  # of the connection itself
    may_add: bool  # whether there may be direct connections
    nonces: tuple[bytes, bytes]  # the guest's and the host's of this attempt
    direct_ports: tuple[int, int] | None  # TCP, to listen on, first and last; None: no direct lanes
    addresses: Callable[[], list[str]]  # this machine's, as may be told
    peer_addresses: Sequence[str]  # where the connection could have found the peer
    targets: Targets  # of the whole transfer
    warn: Callable[[str, str], None]  # code of a warning, detail
    open_outer_port: Callable[[], Awaitable[OuterPort | None]]
    open_pipe: https.OpenPipe | None  # to a page that this transfer's own server has served


class Multipath:
    """The lanes of a session, each with a task of its own."""

    session: SenderSession | RecipientSession
    _serves_punched: bool  # whether this side is the TLS server, where both connect

    def __init__(self, own: Lane, step: Step, carry: Carry, context: LaneContext) -> None:
        self._own, self._step, self._carry, self._context = own, step, carry, context
        self._direct: DirectLanes | None = None
        self._peer: asyncio.Future[DirectEndpoint] = asyncio.get_running_loop().create_future()
        self._signals: dict[int, asyncio.Queue[Signal]] = {}
        # Those that are open, by number: direct ones, or those that a page fetches.
        self.direct: dict[int, ThreadedLane] = {}
        self.webrtc: dict[int, Connection] = {}
        self._connections: set[int] = set()  # those, and others that are being opened or closed

    async def run(self) -> None:
        """Carry ranges until cancelled. Raises what the lanes' work raises."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._carry(0, self._own))
                self._tasks.create_task(self._quietly(self._keep_direct()))
                self._tasks.create_task(self._quietly(self._keep_https()))
                self._tasks.create_task(self._quietly(self._keep_webrtc()))
                self._tasks.create_task(self._watch())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Do this beside the rest. Raises `RuntimeError` when the session is ending."""
        try:
            self._tasks.create_task(work)
        except RuntimeError:
            work.close()  # before Python 3.13 a task group leaves that to its caller
            raise

    async def _watch(self) -> None:
        """Look after the lanes, until cancelled."""
        await asyncio.Event().wait()

    @property
    def path(self) -> PathKind:
        """What carries the ranges now."""
        if self.direct:
            return "https" if self._context.path == "https" else "tls"
        return "direct" if self.webrtc else self._context.path

    def close(self) -> None:
        """Listen no more, and close the direct lanes. Never raises."""
        if self._direct is not None:
            self._direct.close()
        for lane in self.direct.values():
            lane.close()

    def take(self, event: sessions.DirectAnnounced | sessions.LaneSignalled) -> None:
        """What the peer says of lanes."""
        if isinstance(event, sessions.DirectAnnounced):
            if not self._peer.done():  # lanes are stopped with their session
                self._peer.set_result(event.endpoint)
        elif (queue := self._signals.get(event.number)) is not None:
            queue.put_nowait(event.signal)
        else:
            self._invited(event.number, event.signal)

    def _invited(self, number: int, signal: Signal) -> None:
        """A signal of a lane that is not known here, or not any more."""

    async def _quietly(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (LaneLost, OSError, ValueError):
            logger.debug("no further lanes", exc_info=True)

    # -- direct lanes

    async def _keep_direct(self) -> None:
        ports, context = self._context.direct_ports, self._context
        if ports is None or not await self._direct_wanted():
            return
        asking = asyncio.ensure_future(context.open_outer_port())
        try:
            try:
                self._direct = direct = await DirectLanes.open(range(ports[0], ports[1] + 1))
            except OSError as error:
                context.warn("no_direct_port", os_detail(error))
                return
            port = await asking
            outer = port.outer if port is not None else None
            own = DirectEndpoint.of(context.addresses(), direct.port, direct.certificate, outer)
            self._step(self.session.announce_direct, own, time.monotonic())
            peer = await self._peer
            await asyncio.to_thread(direct.trust, peer.certificate)
            announced, outside = peer.addresses, [peer.outer[0]] if peer.outer else []
            wanted = [*announced[:FEW], *outside, *announced[FEW:]]
            chosen = context.targets.choose(wanted, context.peer_addresses)
            working = [direct.serve(), self._take_direct(direct)]
            if targets := [one for one in chosen if one in announced]:
                working.append(self._make_direct(direct, targets, peer.port))
            if port is not None and peer.outer is not None and peer.outer[0] in chosen:
                working.append(self._punch(direct, port, peer.outer))
            await race(*working)
        finally:
            try:
                await stop(asking)
            finally:  # also where this is cancelled once more
                if not asking.cancelled() and not asking.exception() and (made := asking.result()):
                    made.close()

    async def _punch(self, direct: DirectLanes, port: OuterPort, peer: tuple[str, int]) -> None:
        """Where nobody could connect to the other in the ordinary way, both at once from ports that
        were let out; then wait until cancelled."""
        await asyncio.sleep(PUNCH_AFTER_SECONDS)
        with suppress(LaneLost, TimeoutError):
            async with asyncio.timeout(PUNCH_SECONDS):
                while not self.direct:
                    plain = await port.connect(peer)
                    lane = await direct.adopt(plain, peer[0], server=self._serves_punched)
                    self._context.targets.answered()
                    await self._adopt(lane)
        await asyncio.Event().wait()

    async def _direct_wanted(self) -> bool:
        raise NotImplementedError

    async def _make_direct(self, direct: DirectLanes, addresses: list[str], port: int) -> None:
        raise NotImplementedError

    async def _take_direct(self, direct: DirectLanes) -> None:
        while True:
            with suppress(LaneLost):
                await self._adopt(await direct.accept())

    async def _adopt(self, lane: ThreadedLane) -> bool:
        """Agree on a connection's number, and use it; False where it is not wanted."""
        raise NotImplementedError

    def _use(self, number: int, lane: ThreadedLane) -> None:
        async def carry() -> None:
            try:
                await self._carry(number, lane)
            finally:
                lane.close()
                del self.direct[number]

        self.direct[number] = lane
        self._begin(carry())

    # -- lanes that a page fetches

    async def _keep_https(self) -> None:
        """The sender's part; it is a program, and its recipient a page."""

    # -- further WebRTC connections

    async def _keep_webrtc(self) -> None:
        """The sender's part; a recipient answers."""

    async def _open(
        self,
        number: int,
        connect: Callable[[Connection, _ControlSignals], Awaitable[object]],
        *,
        offerer: bool,
    ) -> None:
        """Connect, carry, close: one further WebRTC connection."""
        connection: Connection | None = None
        try:
            try:
                connection = self._context.open(offerer=offerer)
                async with asyncio.timeout(OPEN_SECONDS):
                    await connect(connection, _ControlSignals(self, number))
            except HandoverError:
                raise
            except Exception:  # whatever an engine finds: the transfer has others
                logger.debug("a connection came to nothing", exc_info=True)
                return
            del self._signals[number]  # what comes now comes too late
            self._opened(number)
            self.webrtc[number] = connection
            silent = map(hear_nothing, self._silent(connection))
            await race(self._carry(number, connection.data), *silent)
        finally:
            self._signals.pop(number, None)
            self.webrtc.pop(number, None)
            if connection is not None:
                await uncancelled(connection.close())
            self._connections.discard(number)

    def _expect(self, number: int) -> None:
        """From now on signals of this lane are kept for `_open`."""
        self._connections.add(number)
        self._signals[number] = asyncio.Queue()

    def _opened(self, number: int) -> None:
        raise NotImplementedError

    def _silent(self, connection: Connection) -> list[Lane]:
        """The lanes of a further connection by which nothing may come."""
        return [connection.control]


class _ControlSignals:
    """Signals about one lane, through the control channel."""

    def __init__(self, multipath: Multipath, number: int) -> None:
        self._multipath, self._number = multipath, number
        self._queue = multipath._signals[number]

    async def send(self, signal: Signal) -> None:
        multipath = self._multipath
        multipath._step(multipath.session.signal, self._number, signal, time.monotonic())

    async def recv(self) -> Signal | None:
        return await self._queue.get()


class SenderMultipath(Multipath):
    """The sender decides which lanes there are."""

    _serves_punched = True

    def __init__(
        self, session: SenderSession, own: Lane, step: Step, carry: Carry, context: LaneContext
    ) -> None:
        super().__init__(own, step, carry, context)
        self.session: SenderSession = session
        self.admitted = asyncio.Event()  # the recipient is
        few, many = DIRECT_LANES, DIRECT_LANES_UNDER_LOSS
        if context.path == "https":
            few, many = HTTPS_LANES, HTTPS_LANES_UNDER_LOSS
        self._most_direct = few if has_congestion_control() else many
        self._most = WEBRTC_LANES if self._can(MANY_LANES) else WEBRTC_LANES_TO_BROWSER
        if context.path == "relayed":
            session.lanes.rank_own(sessions.RELAYED)

    def _can(self, capability: str) -> bool:
        return capability in self.session.secured.peer.capabilities

    async def _direct_wanted(self) -> bool:
        """Once the recipient is admitted, if it can."""
        await self.admitted.wait()
        return self._can(DIRECT)

    async def _make_direct(self, direct: DirectLanes, addresses: list[str], port: int) -> None:
        """As many as are wanted, all to the address that answered first."""
        best, again = addresses, AGAIN_SECONDS
        while True:
            try:
                while self._wants_direct:
                    lane = await direct.connect(best, port)
                    self._context.targets.answered()
                    best = [lane.address]
                    await self._adopt(lane)
            except LaneLost:
                best = addresses
            again = self._later(again)
            await asyncio.sleep(again)

    def _direct_windows(self) -> list[tuple[int, sessions.CongestionWindow]]:
        windows = self.session.lanes.windows
        return [(number, windows[number]) for number in self.direct if number in windows]

    @property
    def _wants_direct(self) -> bool:
        """Two at first, and more where each has shown that it is not too slow for that."""
        fast = all(window.size > sessions.MIN_RANGE for _, window in self._direct_windows())
        return len(self.direct) < (self._most_direct if fast else min(self._most_direct, 2))

    async def _adopt(self, lane: ThreadedLane) -> bool:
        if not self._wants_direct:
            lane.close()
            return False
        number = self._step(self.session.lanes.number)
        self.direct[number] = lane  # it counts from now on
        try:
            await lane.send(number.to_bytes(HELLO, "big"))
        except LaneLost:
            del self.direct[number]
            raise
        self._step(self.session.lanes.add, number, sessions.DIRECT)
        self._use(number, lane)
        return True

    async def _keep_https(self) -> None:
        """As many as are wanted, once the recipient is admitted."""
        open_pipe, again = self._context.open_pipe, AGAIN_SECONDS / 2
        if self._context.path != "https" or open_pipe is None:
            return
        await self.admitted.wait()
        while True:
            with suppress(LaneLost, OSError):
                while self._wants_direct:
                    token, pipe = await open_pipe()
                    try:
                        self._step(self.session.offer_https, token, time.monotonic())
                        lane = await https.opened(pipe)
                    except BaseException:
                        pipe.close()
                        raise
                    await self._adopt(lane)
            again = self._later(again)
            await asyncio.sleep(again)

    def _later(self, again: float) -> float:
        """Seconds until it is looked again whether lanes are wanted: longer and longer, as long as
        none has brought anything."""
        proven = any(window.arrived for _, window in self._direct_windows())
        return AGAIN_SECONDS if proven else min(2 * again, LONGEST_AGAIN_SECONDS)

    async def _keep_webrtc(self) -> None:
        """More connections while that raises the rate, and none beside direct lanes. Beside a
        relayed one a direct connection is tried again and again."""
        session = self.session
        if not self._context.may_add or not self._can(LANES):
            return
        while session.state != SenderState.SENDING:
            await asyncio.sleep(LOOK_SECONDS)
        far = await self._is_far()
        count, load = ConnectionCount(self._most, far=far), _Load()
        own = 0 if self._context.path == "relayed" else 1  # direct connections without further ones
        due, again = time.monotonic() + AGAIN_SECONDS, AGAIN_SECONDS
        while session.state == SenderState.SENDING:
            now, there = time.monotonic(), own + len(self.webrtc)
            if there:
                loop, program = load.look(now)
                wanted = count.look(
                    now, session.lanes.carried, there, busy=loop > BUSY, spare=program < SPARE
                )
                further = wanted - own
            else:
                further = int(now >= due or bool(self._connections))
            if self.direct:
                further = 0
            for _ in range(further - len(self._connections)):
                number = self._step(session.lanes.number)
                self._expect(number)
                self._begin(self._offer(number))
                due, again = now + again, min(2 * again, LONGEST_AGAIN_SECONDS)
            for number in sorted(self.webrtc)[max(further, 0) :]:
                window = session.lanes.windows.get(number)
                if window is not None and not window.retired:
                    session.lanes.retire(number)
                    self._begin(self._retire(number))
            await asyncio.sleep(LOOK_SECONDS)

    async def _is_far(self) -> bool:
        """Whether the peer is far away, by a path that is not slow as such. Where direct lanes may
        come, they have their time first."""
        lanes = self.session.lanes
        round_trip, before = lanes.windows[0].quickest, lanes.carried
        if not FAR_SECONDS <= round_trip < float("inf"):
            await asyncio.sleep(LOOK_SECONDS)
            return False
        until = time.monotonic() + FIRST_RANGE_SECONDS
        while lanes.carried - before < sessions.MIN_RANGE:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(LOOK_SECONDS / 4)
        if self._context.direct_ports is not None and self._can(DIRECT):
            await asyncio.sleep(DIRECT_ROUND_TRIPS * round_trip)
        return True

    async def _watch(self) -> None:
        """Drop the lanes that bring nothing any more."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for number, window in list(self.session.lanes.windows.items()):
                direct = self.direct.get(number)
                gone = direct is not None and direct.lost
                dead = now - window.moved > DEAD_SECONDS and not self.session.peer_is_slow
                if number and (gone or dead):
                    self._drop(number)
                elif direct and window.arrived > MOST_RANGES and not window.retired:
                    self.session.lanes.retire(number)  # another with new keys takes its place
                    self._begin(self._retire(number))

    def _drop(self, number: int) -> None:
        if number in self.session.lanes.windows:
            self._step(self.session.lanes.drop, number)
        if number in self.direct:
            self.direct[number].close()
        elif number in self.webrtc:
            self._begin(self.webrtc[number].close())

    async def _offer(self, number: int) -> None:
        nonces = self._context.nonces
        try:
            await self._open(number, lambda pc, signals: offer(pc, signals, *nonces), offerer=True)
        finally:
            if number in self.session.lanes.windows:
                self._step(self.session.lanes.drop, number)

    def _opened(self, number: int) -> None:
        self._step(self.session.lanes.add, number, sessions.WEBRTC)

    def _silent(self, connection: Connection) -> list[Lane]:
        return [connection.control, connection.data]

    async def _retire(self, number: int) -> None:
        """Let what is under way arrive, and then drop the lane."""
        until = time.monotonic() + RETIRE_SECONDS
        while (window := self.session.lanes.windows.get(number)) and window.flights:
            if time.monotonic() > until:
                break
            await asyncio.sleep(LOOK_SECONDS)
        self._drop(number)


class _Load:
    """How much of the event loop's time is work: all of it, where the engine is Python's. And how
    many processors the whole program keeps busy."""

    def __init__(self) -> None:
        self._seen = time.monotonic(), time.thread_time(), time.process_time()
        self._loop = self._program = 0.0

    def look(self, now: float) -> tuple[float, float]:
        """Both over the last second or so, in processors; the first is at most 1. In the event
        loop's thread."""
        (before, loop, program) = self._seen
        self._seen = now, time.thread_time(), time.process_time()
        seconds = max(now - before, 1e-3)
        self._loop += 0.3 * ((self._seen[1] - loop) / seconds - self._loop)
        self._program += 0.3 * ((self._seen[2] - program) / seconds - self._program)
        return self._loop, self._program


class RecipientMultipath(Multipath):
    """The recipient takes what comes."""

    _serves_punched = False

    def __init__(
        self, session: RecipientSession, own: Lane, step: Step, carry: Carry, context: LaneContext
    ) -> None:
        super().__init__(own, step, carry, context)
        self.session: RecipientSession = session

    async def _direct_wanted(self) -> bool:
        """The sender asks first."""
        await self._peer
        return True

    async def _make_direct(self, direct: DirectLanes, addresses: list[str], port: int) -> None:
        """Where the sender cannot connect, perhaps this side can; as many as it then takes."""
        await asyncio.sleep(ALONE_SECONDS)
        again = AGAIN_SECONDS
        while True:
            more = not self.direct
            while more and len(self.direct) < DIRECT_LANES_UNDER_LOSS:
                try:
                    lane = await direct.connect(addresses, port)
                    self._context.targets.answered()
                    more = await self._adopt(lane)
                    again = AGAIN_SECONDS
                except LaneLost:
                    more, again = False, min(2 * again, LONGEST_AGAIN_SECONDS)
            await asyncio.sleep(again)

    async def _adopt(self, lane: ThreadedLane) -> bool:
        first = await hello(lane) if len(self.direct) < DIRECT_LANES_UNDER_LOSS else b""
        if len(first) != HELLO or len(self.direct) >= DIRECT_LANES_UNDER_LOSS:  # there are enough
            lane.close()
            return False
        number = int.from_bytes(first, "big")
        self._step(self.session.add_lane, number)
        self._use(number, lane)
        return True

    def _invited(self, number: int, signal: Signal) -> None:
        room = len(self._connections) < WEBRTC_LANES and self._context.may_add
        if isinstance(signal, Description) and room:
            self._expect(number)
            nonce = self._context.nonces[0]
            work = self._open(
                number, lambda pc, signals: answer(pc, signals, nonce, signal), offerer=False
            )
            self._begin(work)

    def _opened(self, number: int) -> None:
        self._step(self.session.add_lane, number)
