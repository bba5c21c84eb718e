"""The default engine: libdatachannel (C++, usrsctp) through aiolibdatachannel.

Its traps, each handled here: it drops the oldest message when 1,024 wait unread (the session keeps
at most 512 unacknowledged, and control messages are taken as they come),
`send(wait_for_drain=True)` hangs once a low-water mark is set (never used; the queue is watched
instead), closing the connection loses what is queued (`close` waits, then closes the channels
first), and messages above 256 KiB are cut silently (refused here).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote

import aiolibdatachannel as ldc

from ...protocol.errors import PeerError
from ...protocol.ice import IceServer
from ...protocol.seal import Message
from ...protocol.signal import MAX_MESSAGE_SIZE, Candidate, Description
from .. import LaneLost
from . import CONTROL_CHANNEL, DATA_CHANNEL, SMALL_PACKET, sdp
from .inbox import CONTROL_UNREAD, Inbox

HIGH_WATER = 4 * 1024 * 1024  # queued bytes above which `send` waits
POLL_SECONDS = 0.005  # 20 KiB at 4 MiB/s: the queue cannot run dry between two looks
CLOSE_SECONDS = 3.0
# For the last packets, once the queue is empty: usrsctp has one of its own, and a browser on a busy
# computer takes its time. Who has heard the last word closes at once, and then the other side need
# not wait either.
FLUSH_SECONDS = 1.0


class _Lane:
    def __init__(self, channel: ldc.DataChannel) -> None:
        self.channel = channel
        self.max_message_size = MAX_MESSAGE_SIZE

    async def send(self, message: Message) -> None:
        if len(message) > self.max_message_size:
            raise ValueError("message too long for the lane")
        try:
            while self.channel.buffered_amount > HIGH_WATER:
                if self.channel.is_closed:
                    raise LaneLost
                await asyncio.sleep(POLL_SECONDS)
            await self.channel.send(bytes(message), wait_for_drain=False)
        except ldc.RTCError:
            raise LaneLost from None

    async def recv(self) -> bytes:
        try:
            message: bytes | str = await self.channel.recv()
        except ldc.RTCError:
            raise LaneLost from None
        if isinstance(message, str):  # nothing of ours is text
            raise LaneLost
        return message


class _ControlLane(_Lane):
    """Its messages are taken out of the engine at once: there a thousand may be of any size."""

    def __init__(self, channel: ldc.DataChannel) -> None:
        super().__init__(channel)
        self.inbox = Inbox(CONTROL_UNREAD)
        self.taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        with contextlib.suppress(LaneLost):
            while self.inbox.put(await super().recv()):
                await asyncio.sleep(0)  # `recv` does not wait while there are more; who reads does
        self.inbox.lose()

    async def recv(self) -> bytes:
        return await self.inbox.get()


class _Connection:
    control: _ControlLane
    data: _Lane
    fingerprint: bytes

    def __init__(
        self, offerer: bool, packet: int, ice: Sequence[IceServer], relay_only: bool
    ) -> None:
        policy = ldc.TransportPolicy.RELAY if relay_only else ldc.TransportPolicy.ALL
        configuration = ldc.RTCConfiguration(
            max_message_size=MAX_MESSAGE_SIZE,
            mtu=packet,
            ice_servers=[
                ldc.IceServer(
                    url=_url(one),
                    username=one.username or None,
                    credential=one.credential or None,
                )
                for one in ice
                if one.transport == "udp"  # with any other TURN server it finds nothing at all
            ],
            ice_transport_policy=policy,
        )
        self._pc = ldc.PeerConnection(configuration)
        self._offerer = offerer
        self._tasks = [asyncio.create_task(self._refuse_further())]

    async def _create_channels(self) -> None:
        control, data = [
            await self._pc.create_data_channel(
                name, ldc.DataChannelOptions(negotiated=True, stream_id=stream)
            )
            for name, stream in (("control", CONTROL_CHANNEL), ("data", DATA_CHANNEL))
        ]
        self.control, self.data = _ControlLane(control), _Lane(data)
        self._tasks.append(self.control.taking)

    async def _refuse_further(self) -> None:
        """There are two channels; whoever opens another is up to something."""
        with contextlib.suppress(ldc.RTCError):
            await self._pc.accept_data_channel()
            self.control.inbox.lose(PeerError("channel_unknown"))
            await self._pc.aclose()

    async def describe(self, nonce_guest: bytes, nonce_host: bytes) -> Description:
        if self._offerer:
            await self._create_channels()
        local = await self._pc.set_local_description("offer" if self._offerer else "answer")
        own = sdp.read_own(local.sdp, nonce_guest, nonce_host, MAX_MESSAGE_SIZE)
        self.fingerprint = own.fingerprint
        return own

    async def candidates(self) -> AsyncIterator[Candidate]:
        async for found in self._pc.ice_candidates():
            for candidate in sdp.read_own_candidates(found.candidate):
                yield candidate

    async def set_remote(self, description: Description) -> None:
        kind: ldc.SdpType = "answer" if self._offerer else "offer"
        await self._pc.set_remote_description(sdp.build(description), kind)
        if not self._offerer:
            await self._create_channels()
        for lane in (self.control, self.data):
            lane.max_message_size = min(MAX_MESSAGE_SIZE, description.max_message_size)

    async def add_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        for candidate in candidates:
            with contextlib.suppress(ldc.RTCError):  # one it cannot use is not the end
                await self._pc.add_remote_candidate(sdp.candidate_line(candidate), "0")

    async def opened(self) -> None:
        failed = asyncio.create_task(self._pc.wait_for_state(ldc.RTCState.FAILED))
        opening = [
            asyncio.create_task(lane.channel.wait_open()) for lane in (self.control, self.data)
        ]
        both = asyncio.gather(*opening)
        try:
            await asyncio.wait((failed, both), return_when=asyncio.FIRST_COMPLETED)
            if not both.done():
                raise LaneLost
            await both
        except ldc.RTCError:
            raise LaneLost from None
        finally:
            for task in (failed, both):
                task.cancel()
            await asyncio.gather(failed, both, return_exceptions=True)

    async def close(self, *, heard: bool = False) -> None:
        with contextlib.suppress(ldc.RTCError, TimeoutError, AttributeError):
            async with asyncio.timeout(CLOSE_SECONDS):
                lanes = (self.control, self.data)
                for lane in lanes:
                    while lane.channel.buffered_amount and not lane.channel.is_closed:
                        await asyncio.sleep(POLL_SECONDS)
                until = time.monotonic() + (0 if heard else FLUSH_SECONDS)
                while self.control.channel.is_open and time.monotonic() < until:
                    await asyncio.sleep(POLL_SECONDS)
                for lane in lanes:
                    await lane.channel.aclose()
        with contextlib.suppress(ldc.RTCError):
            await self._pc.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _url(server: IceServer) -> str:
    """As libdatachannel reads it: brackets stop its parser, and a host may be percent-encoded."""
    return server.url.replace(f"[{server.host}]", quote(server.host))


def open_connection(
    *,
    offerer: bool,
    packet: int = SMALL_PACKET,
    ice: Sequence[IceServer] = (),
    relay_only: bool = False,
) -> _Connection:
    """A new connection that sends packets up to `packet` bytes. Needs a running event loop."""
    return _Connection(offerer, packet, ice, relay_only)
