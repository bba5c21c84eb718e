"""From an attempt at the signaling server to two open lanes: WebRTC, and TLS where UDP is blocked.

Knock, descriptions, candidates (PROTOCOL.md, Sealed signaling and The connection). What comes out
is the `ChannelBinding` that the handshake is bound to. Two axes meet here and are kept apart: host
and guest (who waits and who knocks), and offerer and answerer (who writes the first description).
Who sends the files makes no difference to any of it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from ..lanes import Lane, LaneLost, Pair, hear_nothing
from ..lanes.tls.connection import TlsConnection
from ..lanes.webrtc import Connection
from ..lanes.webrtc.negotiation import (
    Descriptions,
    Signals,
    answer_description,
    offer_description,
    trickle,
    unexpected,
)
from ..protocol.codec import sha256
from ..protocol.errors import PeerError
from ..protocol.handshake import MAX_HANDSHAKE_MESSAGE, ChannelBinding
from ..protocol.link import LinkKeys
from ..protocol.signal import (
    NONCE,
    Candidate,
    Description,
    DirectEndpoint,
    Knock,
    Sealer,
    Signal,
)
from ..tasks import race, stop
from .addresses import reachable
from .seats import Attempt

WEBRTC_SECONDS = 2.0  # that WebRTC is given before TLS is tried too


async def receive_early(control: Lane) -> bytes:
    """A handshake message: short, or the end."""
    message = await control.recv()
    if len(message) > MAX_HANDSHAKE_MESSAGE:
        raise PeerError("handshake_message_too_long")
    return bytes(message)


class SealedSignals:
    """Signals through the signaling server, which can neither read nor alter them."""

    def __init__(self, attempt: Attempt, keys: LinkKeys, *, host: bool) -> None:
        to_guest = Sealer(keys.signal_to_guest, keys.room, attempt.id, "to_guest")
        to_host = Sealer(keys.signal_to_host, keys.room, attempt.id, "to_host")
        self._attempt = attempt
        self._sealing, self._opening = (to_guest, to_host) if host else (to_host, to_guest)

    async def send(self, signal: Signal) -> None:
        """Seal a signal and pass it on."""
        await self._attempt.send(self._sealing.seal(signal, os.urandom(24)))

    async def recv(self) -> Signal | None:
        """The next one; None when no more will come. Raises `PeerError`."""
        envelope = await self._attempt.recv()
        return None if envelope is None else self._opening.open(envelope)


class Transports:
    """The ways to the other side: WebRTC, and TLS over TCP where that does not come through.

    Which of them it is, the guest decides, by the first message of the handshake.
    """

    def __init__(
        self, webrtc: Connection, direct_ports: tuple[int, int] | None, *, offerer: bool
    ) -> None:
        """`direct_ports`: what may be listened on, first and last; None: WebRTC only. `offerer`:
        whether this side writes the first description, as `webrtc` was made for."""
        self._webrtc, self._ports, self._offerer = webrtc, direct_ports, offerer
        self._tls: TlsConnection | None = None
        self._chosen: Pair = webrtc
        self._failed = asyncio.Event()  # WebRTC has
        self._offered: list[str] = []  # addresses of the peer's candidates
        self._peer: asyncio.Future[DirectEndpoint] | None = None
        self._losing: asyncio.Task[None] | None = None  # closes the other one

    @property
    def control(self) -> Lane:
        """Carries control messages."""
        return self._chosen.control

    @property
    def data(self) -> Lane:
        """Carries ranges."""
        return self._chosen.data

    @property
    def is_tls(self) -> bool:
        """Whether it is TLS that came through."""
        return self._chosen is self._tls

    @property
    def max_message_size(self) -> int:
        """What every lane of a session takes, also WebRTC connections that come later, in bytes."""
        return min(self._chosen.data.max_message_size, self._webrtc.data.max_message_size)

    @property
    def peer_addresses(self) -> list[str]:
        """Where this connection could have found the peer, and where TLS has."""
        if self.is_tls:
            assert self._tls is not None
            return [*self._offered, self._tls.control.address]
        return self._offered

    def _hear(self, candidates: tuple[Candidate, ...]) -> None:
        self._offered += [candidate.address for candidate in candidates]

    async def connect_host(
        self, attempt: Attempt, keys: LinkKeys, *, passphrase: bool, host_sends: bool
    ) -> tuple[ChannelBinding, bytes]:
        """Answer a knock, exchange descriptions, and wait for message 1 of the handshake.

        Raises `LaneLost`, `PeerError`.
        """
        signals = SealedSignals(attempt, keys, host=True)
        knock = await signals.recv()
        if not isinstance(knock, Knock):
            raise unexpected(knock, "knock_missing")
        if knock.kind == "browser":
            self._ports = None
        nonces = knock.nonce_guest, os.urandom(NONCE)
        if self._offerer:
            descriptions = await offer_description(self._webrtc, signals, *nonces)
        else:
            first = await signals.recv()
            descriptions = await answer_description(self._webrtc, signals, nonces[0], first)
        message_1 = await self._connect(signals, descriptions, host=True)
        binding = self._binding(
            attempt, keys, descriptions, host=True, passphrase=passphrase, host_sends=host_sends
        )
        return binding, message_1

    async def connect_guest(
        self, attempt: Attempt, keys: LinkKeys, *, passphrase: bool, host_sends: bool
    ) -> ChannelBinding:
        """Knock, and connect by what comes through first. Raises `LaneLost`, `PeerError`."""
        signals = SealedSignals(attempt, keys, host=False)
        nonce = os.urandom(NONCE)
        await signals.send(Knock(nonce, "native"))
        if self._offerer:
            descriptions = await offer_description(self._webrtc, signals, nonce, os.urandom(NONCE))
        else:
            first = await signals.recv()
            descriptions = await answer_description(self._webrtc, signals, nonce, first)
        await self._connect(signals, descriptions, host=False)
        return self._binding(
            attempt, keys, descriptions, host=False, passphrase=passphrase, host_sends=host_sends
        )

    async def _connect(self, signals: Signals, descriptions: Descriptions, *, host: bool) -> bytes:
        """Until one of them is chosen; at the host, the message that says so."""
        self._peer = asyncio.get_running_loop().create_future()
        remote = descriptions.answered if self._offerer else descriptions.offered
        others = trickle(self._webrtc, signals, remote, self._take_endpoint, self._hear)
        message_1 = await race(self._decide(signals, host), *others, self.hear_no_data())
        if self.is_tls:
            self._losing = asyncio.create_task(self._webrtc.close(heard=True))
        elif self._tls is not None:
            self._losing = asyncio.create_task(self._tls.close())
        return message_1

    async def _decide(self, signals: Signals, host: bool) -> bytes:
        attempts = [self._by_webrtc(host)]
        if self._ports is not None:
            attempts.append(self._by_tls(self._ports, signals, host))
        going = {asyncio.create_task(one) for one in attempts}
        try:
            while going:
                done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    with suppress(LaneLost):
                        self._chosen, message_1 = one.result()
                        return message_1
            raise LaneLost
        finally:
            await stop(*going)

    async def _by_webrtc(self, host: bool) -> tuple[Pair, bytes]:
        webrtc = self._webrtc
        try:
            await webrtc.opened()
            message_1 = await receive_early(webrtc.control) if host else b""
        except LaneLost:
            self._failed.set()
            raise
        return webrtc, message_1

    async def _by_tls(
        self, ports: tuple[int, int], signals: Signals, host: bool
    ) -> tuple[Pair, bytes]:
        """The host says when it is time for that."""
        assert self._peer is not None
        if host:
            with suppress(TimeoutError):
                async with asyncio.timeout(WEBRTC_SECONDS):
                    await self._failed.wait()
        else:
            await self._peer
        try:
            self._tls = tls = await TlsConnection.open(range(ports[0], ports[1] + 1))
        except OSError:
            raise LaneLost from None
        await signals.send(DirectEndpoint.of(reachable(), tls.port, tls.certificate))
        peer = await self._peer
        try:
            await tls.opened(peer.addresses, peer.port, peer.certificate, host=host)
        except ValueError:
            raise PeerError("certificate_malformed") from None
        message_1 = await receive_early(tls.control) if host else b""
        return tls, message_1

    async def hear_no_data(self) -> None:
        """Watch the data lane, by which nothing may come before there is a session. Raises
        `PeerError`. A TLS connection makes its peer wait instead."""
        await hear_nothing(self._webrtc.data)

    def _take_endpoint(self, endpoint: DirectEndpoint) -> None:
        assert self._peer is not None
        if self._peer.done():
            raise PeerError("signal_out_of_turn")
        self._peer.set_result(endpoint)  # if this side wants none, nobody takes it

    def _binding(
        self,
        attempt: Attempt,
        keys: LinkKeys,
        descriptions: Descriptions,
        *,
        host: bool,
        passphrase: bool,
        host_sends: bool,
    ) -> ChannelBinding:
        """What the handshake is bound to: the certificates of the transport that was chosen."""
        first: Description = descriptions.offered
        own, peers = descriptions.offered.fingerprint, descriptions.answered.fingerprint
        if not self._offerer:
            own, peers = peers, own
        if self.is_tls:
            assert self._tls is not None
            assert self._peer is not None
            own, peers = sha256(self._tls.certificate), sha256(self._peer.result().certificate)
        return ChannelBinding(
            room=keys.room,
            attempt=attempt.id,
            nonce_guest=first.nonce_guest,
            nonce_host=first.nonce_host,
            fingerprint_host=own if host else peers,
            fingerprint_guest=peers if host else own,
            passphrase=passphrase,
            host_sends=host_sends,
        )

    async def close(self, *, heard: bool = False) -> None:
        """Close whatever there is; see `Pair.close`."""
        await self._chosen.close(heard=heard)
        if self._losing is not None:
            await self._losing
        elif self._tls is not None and not self.is_tls:
            await self._tls.close()
