"""Meeting and connecting: from an attempt at the signaling server to two open lanes.

Knock, descriptions, candidates (PROTOCOL.md 5 and 6); what comes out is the `Attempt` that the
handshake is bound to.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from .addresses import is_loopback, reachable
from .lanes import Connection, Lane, LaneLost
from .protocol.errors import Failure, PeerError
from .protocol.handshake import MAX_HANDSHAKE_MESSAGE, Attempt
from .protocol.link import LinkKeys, parse_link
from .protocol.signal import (
    MAX_CANDIDATES,
    NONCE,
    Candidates,
    Description,
    Knock,
    Sealer,
    Signal,
    merge,
)
from .signaling_client import Attempt as Envelopes

EVERYWHERE = ("", "0.0.0.0", "::")


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
    return message


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


async def connect_sender(
    connection: Connection, envelopes: Envelopes, keys: LinkKeys, passphrase: bool
) -> Attempt:
    """Answer a knock, exchange descriptions, wait for the lanes. Raises `LaneLost`, `PeerError`."""
    sealing = Sealer(keys.signal_s2r, keys.room, envelopes.id, "s2r")
    opening = Sealer(keys.signal_r2s, keys.room, envelopes.id, "r2s")
    signals = SealedSignals(envelopes, sealing, opening)
    knock = await signals.recv()
    if not isinstance(knock, Knock):
        raise _unexpected(knock, "no knock")
    own, remote = await offer(connection, signals, knock.nonce_r, os.urandom(NONCE))
    return _attempt(envelopes, keys, own, remote, passphrase)


async def connect_recipient(
    connection: Connection, envelopes: Envelopes, keys: LinkKeys, passphrase: bool
) -> Attempt:
    """Knock, and then as the sender does."""
    sealing = Sealer(keys.signal_r2s, keys.room, envelopes.id, "r2s")
    opening = Sealer(keys.signal_s2r, keys.room, envelopes.id, "s2r")
    signals = SealedSignals(envelopes, sealing, opening)
    nonce_r = os.urandom(NONCE)
    await signals.send(Knock(nonce_r, "native"))
    remote = await signals.recv()
    own = await answer(connection, signals, nonce_r, remote)
    assert isinstance(remote, Description)
    return _attempt(envelopes, keys, remote, own, passphrase)


async def offer(
    connection: Connection, signals: Signals, nonce_r: bytes, nonce_s: bytes
) -> tuple[Description, Description]:
    """Offer a connection and wait for its lanes: (this side's description, the other's)."""
    own = await connection.describe(nonce_r, nonce_s)
    await signals.send(own)
    remote = await signals.recv()
    # One offers, the other answers (RFC 8842 5).
    if not isinstance(remote, Description) or remote.setup == "actpass":
        raise _unexpected(remote, "a description of the wrong kind")
    if (remote.nonce_r, remote.nonce_s) != (nonce_r, nonce_s):
        raise PeerError("a description of another attempt")
    await connection.set_remote(remote)
    await _connect(connection, signals, remote)
    return own, remote


async def answer(
    connection: Connection, signals: Signals, nonce_r: bytes, remote: Signal | None
) -> Description:
    """Answer a description and wait for the lanes: this side's description."""
    ours = isinstance(remote, Description) and remote.nonce_r == nonce_r
    if not isinstance(remote, Description) or not ours or remote.setup != "actpass":
        raise _unexpected(remote, "a description of another attempt")
    await connection.set_remote(remote)
    own = await connection.describe(nonce_r, remote.nonce_s)
    await signals.send(own)
    await _connect(connection, signals, remote)
    return own


def _unexpected(signal: Signal | None, what: str) -> Exception:
    return LaneLost() if signal is None else PeerError(what)


async def _connect(connection: Connection, signals: Signals, remote: Description) -> None:
    """Candidates both ways until both lanes are open."""

    async def tell() -> None:
        told = 0
        async for candidate in connection.candidates():
            if told < MAX_CANDIDATES:
                await signals.send(Candidates((candidate,)))
                told += 1

    async def listen() -> None:
        known = remote
        while (more := await signals.recv()) is not None:
            if not isinstance(more, Candidates):
                raise PeerError("a signal out of turn")
            known = merge(known, more.candidates)
            await connection.add_candidates(more.candidates)

    tasks = [asyncio.create_task(tell()), asyncio.create_task(listen())]
    opened = asyncio.create_task(connection.opened())
    try:
        waiting: set[asyncio.Task[None]] = {*tasks, opened}
        while not opened.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (*tasks, opened):
            task.cancel()
        await asyncio.gather(*tasks, opened, return_exceptions=True)


def _attempt(
    envelopes: Envelopes,
    keys: LinkKeys,
    offered: Description,
    answered: Description,
    passphrase: bool,
) -> Attempt:
    return Attempt(
        keys.room,
        envelopes.id,
        offered.nonce_r,
        offered.nonce_s,
        offered.fingerprint,
        answered.fingerprint,
        passphrase,
    )
