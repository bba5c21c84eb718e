"""From an attempt at the signaling server to two open lanes, by the first way that comes through:
HTTPS, to a page that this transfer's own server has served; else WebRTC directly, and after two
seconds TLS over TCP, or WebRTC by way of a relay (TURN).

Knock, descriptions, candidates (PROTOCOL.md, Sealed signaling and The connection). What comes out
is the `ChannelBinding` that the handshake is bound to. Two axes meet here and are kept apart: host
and guest (who waits and who knocks), and offerer and answerer (who writes the first description).
Who sends the files makes no difference to any of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from ..events import PathKind
from ..lanes import Lane, LaneLost, Pair, hear_nothing
from ..lanes.https import HttpsConnection, OpenPipe
from ..lanes.tls.connection import TlsConnection
from ..lanes.webrtc import SMALL_PACKET, Connection, Engine
from ..lanes.webrtc.negotiation import (
    answer_description,
    offer_description,
    trickle,
    unexpected,
)
from ..protocol.codec import sha256
from ..protocol.errors import PeerError
from ..protocol.handshake import MAX_HANDSHAKE_MESSAGE, ChannelBinding
from ..protocol.link import LinkKeys
from ..protocol.policy import Policy
from ..protocol.signal import (
    MAX_CANDIDATES,
    MAX_RELAYED_CANDIDATES,
    MIN_MESSAGE_SIZE,
    NONCE,
    Candidate,
    Candidates,
    Description,
    DirectEndpoint,
    HttpsEndpoint,
    Knock,
    Sealer,
    Signal,
)
from ..tasks import race, stop
from .addresses import reachable
from .ice import NO_PROXIES, Ice, Relay
from .outer_port import OuterPort
from .proxies import Proxies
from .seats import Attempt

# What is known of why nothing came through, a code of the catalogue under `detail`.
Obstacle = Literal[
    "relay_forbidden", "relay_against_policy", "no_relay", "relay_silent", "relay_answers"
]
DIRECT_SECONDS = 2.0  # that direct WebRTC is given before TLS and relays are tried too
HTTPS_SECONDS = 2.0  # that HTTPS is given before that; the page came by it


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


class _Way:
    """The signals of one of an attempt's two WebRTC connections."""

    def __init__(self, signals: SealedSignals, *, relayed: bool) -> None:
        self._signals, self._relayed = signals, relayed
        self._queue: asyncio.Queue[Signal | None] = asyncio.Queue()  # an attempt's bounds hold

    async def send(self, signal: Signal) -> None:
        if isinstance(signal, Description | Candidates):
            signal = replace(signal, relayed=self._relayed)
        await self._signals.send(signal)

    async def recv(self) -> Signal | None:
        return await self._queue.get()

    def put(self, signal: Signal | None) -> None:
        """What came for it; None when no more will."""
        self._queue.put_nowait(signal)


class _Opened(NamedTuple):
    """A way that came through."""

    pair: Pair
    path: PathKind
    fingerprints: tuple[bytes, bytes]  # of this side's certificate and the peer's
    message_1: bytes  # at the host: of the handshake


class Transports:
    """The ways to the other side: WebRTC directly; where that does not come through, TLS over TCP
    and WebRTC by way of a relay.

    Which of them it is, the guest decides, by the first message of the handshake.
    """

    def __init__(
        self,
        engine: Engine,
        direct_ports: tuple[int, int] | None,
        *,
        offerer: bool,
        packet: int = SMALL_PACKET,
        relay_only: bool = False,
        no_relay: bool = False,
        proxies: Proxies = NO_PROXIES,
        open_pipe: OpenPipe | None = None,
    ) -> None:
        """`direct_ports`: what may be listened on, first and last; None: WebRTC only. `open_pipe`:
        opens a lane to a page that this transfer's own server has served. `offerer`:
        whether this side writes the first description. `packet`: see `MakeConnection`.
        `relay_only`: the peer is not to learn an address of this side. `no_relay`: no relay is to
        be used."""
        self._engine, self._packet, self._offerer = engine, packet, offerer
        self._ports = None if relay_only else direct_ports
        self.open_pipe = None if relay_only or direct_ports is None else open_pipe
        self._relay_only, self._no_relay, self._proxies = relay_only, no_relay, proxies
        self._made: list[Pair] = []
        self._direct_size = MIN_MESSAGE_SIZE  # what direct WebRTC connections are known to take
        self._nonces: tuple[bytes, bytes] | None = None  # the guest's and the host's
        self._opened: _Opened | None = None
        self._tls: TlsConnection | None = None
        self._failed = asyncio.Event()  # the direct connection has
        self._https_failed = asyncio.Event()  # that by HTTPS has, or there is none
        self._offered: list[str] = []  # addresses of the peer's candidates
        # A guest wants to connect, rather than look whether a link is good.
        self.knocked = False
        self.on_knock: Callable[[], None] = lambda: None
        self._to_browser = False
        self._peer_sends_udp = False  # for a STUN server has answered it
        self._peer: asyncio.Future[DirectEndpoint] | None = None
        self._closing: asyncio.Task[None] | None = None  # of those that were not chosen
        self._ice: Ice | None = None
        self.obstacle: Obstacle = "relay_forbidden" if no_relay else "no_relay"

    @property
    def _chosen(self) -> Pair:
        assert self._opened is not None
        return self._opened.pair

    @property
    def control(self) -> Lane:
        """Carries control messages."""
        return self._chosen.control

    @property
    def data(self) -> Lane:
        """Carries ranges."""
        return self._chosen.data

    @property
    def path(self) -> PathKind:
        """What came through."""
        assert self._opened is not None
        return self._opened.path

    @property
    def max_message_size(self) -> int:
        """What every lane of a session takes, also WebRTC connections that come later, in bytes.
        Beside HTTPS none come."""
        if self.path == "https":
            return self._chosen.data.max_message_size
        return min(self._chosen.data.max_message_size, self._direct_size)

    @property
    def peer_addresses(self) -> list[str]:
        """Where this connection could have found the peer, and where TLS has."""
        if self.path == "tls":
            assert self._tls is not None
            return [*self._offered, self._tls.control.address]
        return self._offered

    @property
    def relay_only(self) -> bool:
        """Whether one of the sides keeps its addresses from the other."""
        return self._relay_only

    def open(self, *, offerer: bool) -> Connection:
        """A further direct WebRTC connection."""
        assert self._ice is not None
        return self._ice.open(offerer=offerer)

    async def open_outer_port(self) -> OuterPort | None:
        """A TCP port whose outer address is known, by the first STUN server that tells it."""
        assert self._ice is not None
        return await OuterPort.open(await self._ice.find_stun_by_tcp())

    async def connect_host(
        self, attempt: Attempt, keys: LinkKeys, *, passphrase: bool, host_sends: bool
    ) -> tuple[ChannelBinding, bytes]:
        """Answer a knock, connect, and wait for message 1 of the handshake.

        Raises `LaneLost`, `PeerError`.
        """
        signals = SealedSignals(attempt, keys, host=True)
        knock = await signals.recv()
        if not isinstance(knock, Knock):
            raise unexpected(knock, "knock_missing")
        self.knocked = True
        self.on_knock()
        self._restrict(attempt.policy)
        self._relay_only = self._relay_only or knock.relay_only
        self._to_browser = knock.kind == "browser"
        if self._to_browser or self._relay_only:
            self._ports = None
        if not self._to_browser or self._relay_only:
            self.open_pipe = None
        await self._connect(attempt, signals, knock.nonce_guest, host=True)
        binding = self._binding(attempt, keys, True, passphrase, host_sends)
        assert self._opened is not None
        return binding, self._opened.message_1

    async def connect_guest(
        self, attempt: Attempt, keys: LinkKeys, *, passphrase: bool, host_sends: bool
    ) -> ChannelBinding:
        """Knock, and connect by what comes through first. Raises `LaneLost`, `PeerError`."""
        signals = SealedSignals(attempt, keys, host=False)
        nonce = os.urandom(NONCE)
        self._restrict(attempt.policy)
        await signals.send(Knock(nonce, "native", self._relay_only))
        await self._connect(attempt, signals, nonce, host=False)
        return self._binding(attempt, keys, False, passphrase, host_sends)

    def _restrict(self, policy: Policy) -> None:
        """Use no way that the server's operator forbids."""
        if policy.relay == "required":
            self._relay_only, self._ports = True, None
        elif policy.relay == "forbidden":
            self._no_relay, self.obstacle = True, "relay_against_policy"

    async def _connect(
        self, attempt: Attempt, signals: SealedSignals, nonce_guest: bytes, *, host: bool
    ) -> None:
        """Until one of them is chosen."""
        self._nonce_guest = nonce_guest
        if self._offerer:
            self._nonces = nonce_guest, os.urandom(NONCE)
        self._peer = asyncio.get_running_loop().create_future()
        self._ice = ice = Ice(
            attempt.ice, self._engine, self._packet, local=attempt.local, proxies=self._proxies
        )
        direct, relayed = _Way(signals, relayed=False), _Way(signals, relayed=True)
        ways = [] if self._no_relay else [self._by_relay(ice, relayed, host)]
        if not self._relay_only:
            ways.append(self._by_webrtc(ice, direct, host))
        if self._ports is not None:
            ways.append(self._by_tls(self._ports, signals, host))
        if self.open_pipe is not None:
            ways.append(self._by_https(self.open_pipe, signals))
        else:
            self._https_failed.set()
        self._opened = await race(_first_of(ways), self._listen(signals, direct, relayed))
        others = [pair for pair in self._made if pair is not self._opened.pair]
        # All close at once: each may take three seconds for what is queued.
        self._closing = asyncio.ensure_future(_close_all(others))

    async def _listen(self, signals: SealedSignals, direct: _Way, relayed: _Way) -> None:
        """Each signal to the way that it is about."""
        while (signal := await signals.recv()) is not None:
            match signal:
                case DirectEndpoint():
                    self._take_endpoint(signal)
                case Description() | Candidates():
                    if isinstance(signal, Description):
                        self._hear_nonces(signal)
                    (relayed if signal.relayed else direct).put(signal)
                case Knock() | HttpsEndpoint():
                    raise PeerError("signal_out_of_turn")
        for way in (direct, relayed):
            way.put(None)
        assert self._peer is not None
        if not self._peer.done():
            self._peer.set_exception(LaneLost())
            self._peer.exception()  # where nobody waits for it

    def _hear_nonces(self, description: Description) -> None:
        """The offerer's first description names the attempt's nonces; all others echo them."""
        self._nonces = self._nonces or (self._nonce_guest, description.nonce_host)
        if self._nonces != (description.nonce_guest, description.nonce_host):
            raise PeerError("description_of_another_attempt")

    async def _by_https(self, open_pipe: OpenPipe, signals: SealedSignals) -> _Opened:
        """The host's part, which is the page's server."""
        assert self._nonces is not None
        try:
            connection = await HttpsConnection.open(open_pipe)
            self._made.append(connection)
            try:
                await signals.send(HttpsEndpoint(*self._nonces, *connection.tokens))
                await connection.opened()
                message_1 = await receive_early(connection.control)
            except LaneLost:
                await connection.close()  # the page must not choose what is lost here
                raise
        except LaneLost:
            self._https_failed.set()
            raise
        own, peer = map(sha256, connection.tokens)
        return _Opened(connection, "https", (own, peer), message_1)

    async def _by_webrtc(self, ice: Ice, way: _Way, host: bool) -> _Opened:
        with suppress(TimeoutError):
            async with asyncio.timeout(HTTPS_SECONDS):
                await self._https_failed.wait()
        try:
            connection = await ice.open_direct(offerer=self._offerer)
            return await self._by_connection(connection, "direct", way, host)
        except LaneLost:
            self._failed.set()
            raise

    async def _by_relay(self, ice: Ice, way: _Way, host: bool) -> _Opened:
        """The offerer says when it is time for that, and uses relays alone: so it is one."""
        if not ice.has_relay:  # and so the other side has none either
            raise LaneLost
        finding = asyncio.create_task(ice.find_relay())  # takes time where UDP is dead
        try:
            self.obstacle = "relay_silent"
            finding.add_done_callback(self._note_relay)
            first = await self._relay_is_wanted(way)
            relay = await finding
        finally:
            await stop(finding)
        relay_only = self._offerer or self._relay_only
        connection = await ice.open_relayed(
            relay,
            offerer=self._offerer,
            relay_only=relay_only,
            from_relay=self._to_browser and not self._peer_sends_udp,
        )
        return await self._by_connection(connection, "relayed", way, host, first)

    def _note_relay(self, finding: asyncio.Task[Relay | None]) -> None:
        if not finding.cancelled() and not finding.exception() and finding.result():
            self.obstacle = "relay_answers"

    async def _relay_is_wanted(self, way: _Way) -> Signal | None:
        """Wait for that; the offerer's description, where this side is not it."""
        if not self._offerer:
            first = await way.recv()
            if first is None:
                raise LaneLost
            return first
        if not self._relay_only:
            await self._is_late()
        return None

    async def _by_connection(
        self,
        connection: Connection,
        path: PathKind,
        way: _Way,
        host: bool,
        first: Signal | None = None,
    ) -> _Opened:
        """Describe each other, and open; `first` is the other side's description, if it came."""
        self._made.append(connection)
        if self._offerer:
            assert self._nonces is not None
            descriptions = await offer_description(connection, way, *self._nonces)
        else:
            first = first or await way.recv()
            descriptions = await answer_description(connection, way, self._nonce_guest, first)
        if path == "direct":
            self._direct_size = connection.data.max_message_size
        remote = descriptions.answered if self._offerer else descriptions.offered

        async def opened() -> bytes:
            await connection.opened()
            return await receive_early(connection.control) if host else b""

        most = MAX_CANDIDATES if path == "direct" else MAX_RELAYED_CANDIDATES
        others = trickle(connection, way, remote, self._hear, most)
        message_1 = await race(opened(), *others, hear_nothing(connection.data))
        fingerprints = descriptions.offered.fingerprint, descriptions.answered.fingerprint
        own_first = fingerprints if self._offerer else fingerprints[::-1]
        return _Opened(connection, path, own_first, message_1)

    async def _by_tls(self, ports: tuple[int, int], signals: SealedSignals, host: bool) -> _Opened:
        """The host says when it is time for that."""
        assert self._peer is not None
        if host:
            await self._is_late()
        else:
            await self._peer
        try:
            self._tls = tls = await TlsConnection.open(range(ports[0], ports[1] + 1))
        except OSError:
            raise LaneLost from None
        self._made.append(tls)
        await signals.send(DirectEndpoint.of(reachable(), tls.port, tls.certificate))
        peer = await self._peer
        try:
            await tls.opened(peer.addresses, peer.port, peer.certificate, host=host)
        except ValueError:
            raise PeerError("certificate_malformed") from None
        message_1 = await receive_early(tls.control) if host else b""
        if self._nonces is None:  # the handshake could not be bound to this attempt
            raise LaneLost
        return _Opened(tls, "tls", (sha256(tls.certificate), sha256(peer.certificate)), message_1)

    async def _is_late(self) -> None:
        """Wait until the direct connection has failed, or had its time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DIRECT_SECONDS):
                await self._failed.wait()

    async def hear_no_data(self) -> None:
        """Watch the data lane, by which nothing may come before there is a session. Raises
        `PeerError`. TLS and HTTPS make the peer wait instead."""
        if self.path not in ("tls", "https"):
            await hear_nothing(self.data)

    def _hear(self, candidates: tuple[Candidate, ...]) -> None:
        self._offered += [one.address for one in candidates if one.kind != "relay"]
        self._peer_sends_udp |= any(one.kind == "srflx" for one in candidates)

    def _take_endpoint(self, endpoint: DirectEndpoint) -> None:
        assert self._peer is not None
        if self._peer.done():
            raise PeerError("signal_out_of_turn")
        self._peer.set_result(endpoint)  # if this side wants none, nobody takes it

    def _binding(
        self, attempt: Attempt, keys: LinkKeys, host: bool, passphrase: bool, host_sends: bool
    ) -> ChannelBinding:
        """What the handshake is bound to: the certificates of the way that was chosen."""
        assert self._opened is not None
        assert self._nonces is not None
        own, peers = self._opened.fingerprints
        return ChannelBinding(
            room=keys.room,
            attempt=attempt.id,
            nonce_guest=self._nonces[0],
            nonce_host=self._nonces[1],
            fingerprint_host=own if host else peers,
            fingerprint_guest=peers if host else own,
            passphrase=passphrase,
            host_sends=host_sends,
        )

    async def close(self, *, heard: bool = False) -> None:
        """Close whatever there is; see `Pair.close`."""
        if self._opened is not None:
            await self._opened.pair.close(heard=heard)
        if self._closing is not None:
            await self._closing
        else:
            await _close_all(self._made)
        if self._ice is not None:
            self._ice.close()


async def _first_of(ways: Sequence[Coroutine[Any, Any, _Opened]]) -> _Opened:
    """The first way that comes through. Raises `LaneLost` when none does, `PeerError`."""
    tasks = [asyncio.create_task(one) for one in ways]
    going = set(tasks)
    try:
        while going:
            done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                with suppress(LaneLost):
                    return one.result()
        raise LaneLost
    finally:
        await stop(*tasks)


async def _close_all(pairs: Sequence[Pair]) -> None:
    """At once: each may take three seconds for what is queued, of which there is nothing."""
    await asyncio.gather(*(pair.close(heard=True) for pair in pairs))
