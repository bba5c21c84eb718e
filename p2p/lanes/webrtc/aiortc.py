"""The portable engine: aiortc, WebRTC with SCTP in pure Python. Slower, but everywhere.

Its traps, each handled here: a message that comes before a listener is lost (listeners are set
when the channel is made), it takes a missing message size for 64 KiB (we always announce one: 64
KiB, which is also where its reassembly is cheapest), closing loses what is queued (`close` waits
first), and it waits for mDNS names it cannot resolve (they are left out).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence

from ...protocol.errors import PeerError
from ...protocol.ice import IceServer
from ...protocol.seal import Message
from ...protocol.signal import Candidate, Description
from .. import LaneLost
from . import CONTROL_CHANNEL, DATA_CHANNEL, SMALL_PACKET, sdp
from .inbox import CONTROL_UNREAD, Inbox
from .no_media import media_optional

with media_optional():
    from aiortc import (
        RTCConfiguration,
        RTCDataChannel,
        RTCIceServer,
        RTCIceTransportPolicy,
        RTCPeerConnection,
        RTCSessionDescription,
        rtcicetransport,
    )
    from aiortc.exceptions import InvalidStateError
    from aiortc.sdp import candidate_from_sdp

# `IceServer.url`; its own patterns take no IPv6 address in brackets (RFC 7064, RFC 7065).
rtcicetransport.STUN_REGEX = rtcicetransport.TURN_REGEX = re.compile(
    r"(?P<scheme>stun|turns?):\[?(?P<host>[^\[\]]+?)\]?:(?P<port>\d+)"
    r"(\?transport=(?P<transport>udp|tcp))?"
)
MAX_MESSAGE = 65_536
HIGH_WATER = 1024 * 1024
LOW_WATER = HIGH_WATER // 2
MAX_UNREAD = 1024 * MAX_MESSAGE  # bytes, twice what a session lets come; more is a flood
CLOSE_SECONDS = 3.0
FLUSH_SECONDS = 1.0  # for the last packets, once the queue is empty


class _Lane:
    def __init__(self, channel: RTCDataChannel, unread: int) -> None:
        self.channel = channel
        self.max_message_size = MAX_MESSAGE
        self.open = asyncio.Event()
        self._drained = asyncio.Event()
        self._inbox = Inbox(unread)
        channel.bufferedAmountLowThreshold = LOW_WATER
        channel.on("open", self.open.set)
        channel.on("message", self._on_message)
        channel.on("close", self.lose)
        channel.on("bufferedamountlow", self._drained.set)
        if channel.readyState == "open":
            self.open.set()

    def _on_message(self, message: bytes | str) -> None:
        if isinstance(message, str) or not self._inbox.put(message):  # nothing of ours is text
            self.lose()

    def lose(self, why: PeerError | None = None) -> None:
        """The lane is gone: wake everyone who waits."""
        self.open.set()
        self._drained.set()
        self._inbox.lose(why)

    async def send(self, message: Message) -> None:
        if len(message) > self.max_message_size:
            raise ValueError("message too long for the lane")
        while self.channel.bufferedAmount > HIGH_WATER and self.channel.readyState == "open":
            self._drained.clear()
            await self._drained.wait()
        try:
            self.channel.send(bytes(message))
        except InvalidStateError:
            raise LaneLost from None

    async def recv(self) -> bytes:
        return await self._inbox.get()


class _Connection:
    control: _Lane
    data: _Lane
    fingerprint: bytes

    def __init__(self, offerer: bool, ice: Sequence[IceServer], relay_only: bool) -> None:
        servers = [
            RTCIceServer(one.url, one.username or None, one.credential or None) for one in ice
        ]
        policy = RTCIceTransportPolicy.RELAY if relay_only else RTCIceTransportPolicy.ALL
        configuration = RTCConfiguration(iceServers=servers, iceTransportPolicy=policy)
        self._pc = RTCPeerConnection(configuration)
        self._offerer = offerer
        self._pc.on("connectionstatechange", self._on_state)
        self._pc.on("datachannel", self._on_further)
        self.control, self.data = (
            _Lane(self._pc.createDataChannel(name, negotiated=True, id=stream), unread)
            for name, stream, unread in (
                ("control", CONTROL_CHANNEL, CONTROL_UNREAD),
                ("data", DATA_CHANNEL, MAX_UNREAD),
            )
        )

    def _on_state(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._lose()

    def _on_further(self, channel: RTCDataChannel) -> None:
        """There are two channels; whoever opens another is up to something."""
        channel.close()
        self._lose(PeerError("channel_unknown"))

    def _lose(self, why: PeerError | None = None) -> None:
        for lane in (self.control, self.data):
            lane.lose(why)

    async def describe(self, nonce_guest: bytes, nonce_host: bytes) -> Description:
        local = await (self._pc.createOffer() if self._offerer else self._pc.createAnswer())
        await self._pc.setLocalDescription(local)
        own = sdp.read_own(self._pc.localDescription.sdp, nonce_guest, nonce_host, MAX_MESSAGE)
        self.fingerprint = own.fingerprint
        return own

    async def candidates(self) -> AsyncIterator[Candidate]:
        for candidate in sdp.read_own_candidates(self._pc.localDescription.sdp):
            yield candidate

    async def set_remote(self, description: Description) -> None:
        kind = "answer" if self._offerer else "offer"
        await self._pc.setRemoteDescription(RTCSessionDescription(sdp.build(description), kind))
        for lane in (self.control, self.data):
            lane.max_message_size = min(MAX_MESSAGE, description.max_message_size)

    async def add_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        for candidate in candidates:
            if not candidate.address.endswith(".local"):
                ice = candidate_from_sdp(sdp.candidate_line(candidate).split(":", 1)[1])
                ice.sdpMid = "0"
                await self._pc.addIceCandidate(ice)

    async def opened(self) -> None:
        for lane in (self.control, self.data):
            await lane.open.wait()
            if lane.channel.readyState != "open":
                raise LaneLost

    async def close(self, *, heard: bool = False) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._pc.connectionState == "connected":
                    while self.control.channel.bufferedAmount + self.data.channel.bufferedAmount:
                        await asyncio.sleep(0.01)
                    until = time.monotonic() + (0 if heard else FLUSH_SECONDS)
                    while self._pc.connectionState == "connected" and time.monotonic() < until:
                        await asyncio.sleep(0.01)
        self._lose()
        await self._pc.close()


def open_connection(
    *,
    offerer: bool,
    packet: int = SMALL_PACKET,
    ice: Sequence[IceServer] = (),
    relay_only: bool = False,
) -> _Connection:
    """A new connection; its packets have 1,200 bytes at most, whatever `packet` allows. Of `ice` it
    uses the first STUN and the first TURN server."""
    return _Connection(offerer, ice, relay_only)
