"""Meeting and connecting: from an attempt at the signaling server to two open lanes.

Knock, descriptions, candidates (PROTOCOL.md 5 and 6), and TLS where UDP is blocked; what comes out
is the `Attempt` that the handshake is bound to.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from .addresses import is_loopback, reachable
from .lanes import Connection, Lane, LaneLost, Pair
from .lanes.direct import DirectConnection
from .protocol.codec import sha256
from .protocol.errors import Failure, PeerError
from .protocol.handshake import MAX_HANDSHAKE_MESSAGE, Attempt
from .protocol.link import LinkKeys, parse_link
from .protocol.signal import (
    MAX_CANDIDATES,
    NONCE,
    Candidates,
    Description,
    DirectOffer,
    Knock,
    Sealer,
    Signal,
    merge,
)
from .signaling_client import Attempt as Envelopes
from .tasks import race

EVERYWHERE = ("", "0.0.0.0", "::")
WEBRTC_SECONDS = 2.0  # that WebRTC is given before TLS is tried too


@dataclass(frozen=True)
class MeetingPlace:
    """Where the peers meet."""

    origin: str  # the link's
    others: tuple[str, ...]  # the same by other addresses of this machine
    reached: str  # where this process reaches it
    browser: bool  # whether a browser may open the link and gets a client there


async def meeting_place(
    stack: AsyncExitStack,
    server: str | None,
    listen: tuple[str, int],
    address: str | None,
    tls: ssl.SSLContext | None,
    hosts: Sequence[str],
) -> MeetingPlace:
    """The server named, or one of this process's own until `stack` closes. Raises `Failure`.

    `hosts` are the names and addresses that `tls` has a certificate for.
    """
    if server is not None:
        origin = server.rstrip("/")
        parse_link(f"{origin}/#1.{'A' * 43}.{'A' * 22}")  # an origin that makes a valid link
        url = urlsplit(origin)
        browser = url.scheme == "https" or is_loopback(url.hostname or "")
        return MeetingPlace(origin, (), origin, browser)
    from signaling.app import Server

    embedded = Server()
    try:
        await embedded.start(*listen, tls)
    except OSError as error:
        raise Failure("server_unreachable", error.strerror or "cannot listen") from None
    stack.push_async_callback(embedded.stop)
    named = _link_hosts(listen[0], address, hosts)
    scheme = "http" if tls is None else "https"
    origins = [f"{scheme}://{_bracketed(host)}:{embedded.port}" for host in named]
    own = listen[0] if listen[0] not in EVERYWHERE else "127.0.0.1"
    trusted = is_loopback(named[0]) if tls is None else _certified(named[0], hosts)
    return MeetingPlace(
        origins[0],
        tuple(origins[1:]),
        f"{scheme}://{_bracketed(own)}:{embedded.port}",
        trusted and embedded.has_client,
    )


def _link_hosts(listening: str, address: str | None, certified: Sequence[str]) -> list[str]:
    """Hosts for the link, the likeliest to work first: those a browser accepts before others."""
    if address:
        return [address]
    found = reachable() if listening in EVERYWHERE else [listening]
    found = found or ["127.0.0.1"]
    if certified and not any(_certified(host, certified) for host in found):
        names = [host for host in certified if not is_loopback(host) and "*" not in host]
        found = names + found
    return sorted(found, key=lambda host: not _certified(host, certified)) if certified else found


def _certified(host: str, certified: Sequence[str]) -> bool:
    """Whether a certificate for these is one for this host; `*` stands for one label (RFC 9525)."""
    host = host.lower().strip("[]")
    below = host.partition(".")[2]
    return host in certified or (bool(below) and f"*.{below}" in certified)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


async def receive_early(control: Lane) -> bytes:
    """A handshake message: short, or the end."""
    message = await control.recv()
    if len(message) > MAX_HANDSHAKE_MESSAGE:
        raise PeerError("a handshake message is too long")
    return bytes(message)


class Signals(Protocol):
    """A way to tell each other how to connect: through the server, or a control channel."""

    async def send(self, signal: Signal) -> None:
        """Pass a signal on."""

    async def recv(self) -> Signal | None:
        """The next one; None when no more will come. Raises `PeerError`."""


class SealedSignals:
    """Signals through the signaling server, which can neither read nor alter them."""

    def __init__(self, envelopes: Envelopes, sealing: Sealer, opening: Sealer) -> None:
        self._envelopes, self._sealing, self._opening = envelopes, sealing, opening

    async def send(self, signal: Signal) -> None:
        await self._envelopes.send(self._sealing.seal(signal, os.urandom(24)))

    async def recv(self) -> Signal | None:
        envelope = await self._envelopes.recv()
        return None if envelope is None else self._opening.open(envelope)


class Ways:
    """The ways to the other side: WebRTC, and TLS over TCP where that does not come through.

    Which of them it is, the recipient decides, by the first message of the handshake.
    """

    def __init__(self, webrtc: Connection, ports: tuple[int, int] | None) -> None:
        """`ports`: what may be listened on, first and last; None: WebRTC only."""
        self._webrtc, self._ports = webrtc, ports
        self._tls: DirectConnection | None = None
        self._way: Pair = webrtc  # the one it is
        self._failed = asyncio.Event()  # WebRTC has
        self._peer: asyncio.Future[DirectOffer] | None = None
        self._losing: asyncio.Task[None] | None = None  # closes the other way

    @property
    def control(self) -> Lane:
        return self._way.control

    @property
    def data(self) -> Lane:
        return self._way.data

    @property
    def is_tls(self) -> bool:
        """Whether it is TLS that came through."""
        return self._way is self._tls

    @property
    def max_message_size(self) -> int:
        """What every lane of a session takes, also WebRTC connections that come later, in bytes."""
        return min(self._way.data.max_message_size, self._webrtc.data.max_message_size)

    async def connect_sender(
        self, envelopes: Envelopes, keys: LinkKeys, passphrase: bool
    ) -> tuple[Attempt, bytes]:
        """Answer a knock, exchange descriptions, and wait for message 1 of the handshake.

        Raises `LaneLost`, `PeerError`.
        """
        sealing = Sealer(keys.signal_s2r, keys.room, envelopes.id, "s2r")
        opening = Sealer(keys.signal_r2s, keys.room, envelopes.id, "r2s")
        signals = SealedSignals(envelopes, sealing, opening)
        knock = await signals.recv()
        if not isinstance(knock, Knock):
            raise _unexpected(knock, "no knock")
        if knock.kind == "browser":
            self._ports = None
        descriptions = await _offer(self._webrtc, signals, knock.nonce_r, os.urandom(NONCE))
        message_1 = await self._connect(signals, descriptions[1], True)
        return self._attempt(envelopes, keys, descriptions, True, passphrase), message_1

    async def connect_recipient(
        self, envelopes: Envelopes, keys: LinkKeys, passphrase: bool
    ) -> Attempt:
        """Knock, and connect by what comes through first."""
        sealing = Sealer(keys.signal_r2s, keys.room, envelopes.id, "r2s")
        opening = Sealer(keys.signal_s2r, keys.room, envelopes.id, "s2r")
        signals = SealedSignals(envelopes, sealing, opening)
        nonce_r = os.urandom(NONCE)
        await signals.send(Knock(nonce_r, "native"))
        descriptions = await _answer(self._webrtc, signals, nonce_r, await signals.recv())
        await self._connect(signals, descriptions[0], False)
        return self._attempt(envelopes, keys, descriptions, False, passphrase)

    async def _connect(self, signals: Signals, remote: Description, sender: bool) -> bytes:
        """Until one way is the way; at the sender, the message that says so."""
        self._peer = asyncio.get_running_loop().create_future()
        others = _trickle(self._webrtc, signals, remote, self._take_offer)
        message_1 = await race(self._decide(signals, sender), *others)
        if self.is_tls:
            self._losing = asyncio.create_task(self._webrtc.close(heard=True))
        elif self._tls is not None:
            self._losing = asyncio.create_task(self._tls.close())
        return message_1

    async def _decide(self, signals: Signals, sender: bool) -> bytes:
        ways = [self._by_webrtc(sender)]
        if self._ports is not None:
            ways.append(self._by_tls(self._ports, signals, sender))
        going = {asyncio.create_task(way) for way in ways}
        try:
            while going:
                done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for way in done:
                    with suppress(LaneLost):
                        self._way, message_1 = way.result()
                        return message_1
            raise LaneLost
        finally:
            for way in going:
                way.cancel()
            await asyncio.gather(*going, return_exceptions=True)

    async def _by_webrtc(self, sender: bool) -> tuple[Pair, bytes]:
        webrtc = self._webrtc
        try:
            await webrtc.opened()
            message_1 = await receive_early(webrtc.control) if sender else b""
        except LaneLost:
            self._failed.set()
            raise
        return webrtc, message_1

    async def _by_tls(
        self, ports: tuple[int, int], signals: Signals, sender: bool
    ) -> tuple[Pair, bytes]:
        """The sender says when it is time for that."""
        assert self._peer is not None
        if sender:
            with suppress(TimeoutError):
                async with asyncio.timeout(WEBRTC_SECONDS):
                    await self._failed.wait()
        else:
            await self._peer
        try:
            self._tls = tls = await DirectConnection.open(range(ports[0], ports[1] + 1))
        except OSError:
            raise LaneLost from None
        await signals.send(DirectOffer.of(reachable(), tls.port, tls.certificate))
        peer = await self._peer
        try:
            await tls.opened(peer.addresses, peer.port, peer.certificate, sender=sender)
        except ValueError as error:
            raise PeerError(str(error)) from None
        message_1 = await receive_early(tls.control) if sender else b""
        return tls, message_1

    def _take_offer(self, offer: DirectOffer) -> None:
        assert self._peer is not None
        if self._peer.done():
            raise PeerError("a signal out of turn")
        self._peer.set_result(offer)  # if this side wants none, nobody takes it

    def _attempt(
        self,
        envelopes: Envelopes,
        keys: LinkKeys,
        descriptions: tuple[Description, Description],
        sender: bool,
        passphrase: bool,
    ) -> Attempt:
        """What the handshake is bound to: this way's certificates."""
        offered, answered = descriptions
        prints = offered.fingerprint, answered.fingerprint
        if self.is_tls:
            assert self._tls is not None
            assert self._peer is not None
            own, peers = sha256(self._tls.certificate), sha256(self._peer.result().certificate)
            prints = (own, peers) if sender else (peers, own)
        nonces = offered.nonce_r, offered.nonce_s
        return Attempt(keys.room, envelopes.id, *nonces, *prints, passphrase)

    async def close(self, *, heard: bool = False) -> None:
        """Close whatever there is; see `Pair.close`."""
        await self._way.close(heard=heard)
        if self._losing is not None:
            await self._losing
        elif self._tls is not None and not self.is_tls:
            await self._tls.close()


async def offer(connection: Connection, signals: Signals, nonce_r: bytes, nonce_s: bytes) -> None:
    """Offer a WebRTC connection and wait for its lanes."""
    _, remote = await _offer(connection, signals, nonce_r, nonce_s)
    await race(connection.opened(), *_trickle(connection, signals, remote))


async def answer(
    connection: Connection, signals: Signals, nonce_r: bytes, remote: Signal | None
) -> None:
    """Answer a description and wait for the lanes."""
    offered, _ = await _answer(connection, signals, nonce_r, remote)
    await race(connection.opened(), *_trickle(connection, signals, offered))


async def _offer(
    connection: Connection, signals: Signals, nonce_r: bytes, nonce_s: bytes
) -> tuple[Description, Description]:
    """Exchange descriptions: what is offered, and what is answered."""
    own = await connection.describe(nonce_r, nonce_s)
    await signals.send(own)
    remote = await signals.recv()
    # One offers, the other answers (RFC 8842 5).
    if not isinstance(remote, Description) or remote.setup == "actpass":
        raise _unexpected(remote, "a description of the wrong kind")
    if (remote.nonce_r, remote.nonce_s) != (nonce_r, nonce_s):
        raise PeerError("a description of another attempt")
    await connection.set_remote(remote)
    return own, remote


async def _answer(
    connection: Connection, signals: Signals, nonce_r: bytes, remote: Signal | None
) -> tuple[Description, Description]:
    """The same from the other side."""
    ours = isinstance(remote, Description) and remote.nonce_r == nonce_r
    if not isinstance(remote, Description) or not ours or remote.setup != "actpass":
        raise _unexpected(remote, "a description of another attempt")
    await connection.set_remote(remote)
    own = await connection.describe(nonce_r, remote.nonce_s)
    await signals.send(own)
    return remote, own


def _unexpected(signal: Signal | None, what: str) -> Exception:
    return LaneLost() if signal is None else PeerError(what)


def _trickle(
    connection: Connection,
    signals: Signals,
    remote: Description,
    take_offer: Callable[[DirectOffer], None] | None = None,
) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
    """Candidates both ways, as they are found."""

    async def tell() -> None:
        told = 0
        async for candidate in connection.candidates():
            if told < MAX_CANDIDATES:
                await signals.send(Candidates((candidate,)))
                told += 1

    async def listen() -> None:
        known = remote
        while (more := await signals.recv()) is not None:
            if isinstance(more, DirectOffer) and take_offer is not None:
                take_offer(more)
                continue
            if not isinstance(more, Candidates):
                raise PeerError("a signal out of turn")
            known = merge(known, more.candidates)
            await connection.add_candidates(more.candidates)

    return tell(), listen()
