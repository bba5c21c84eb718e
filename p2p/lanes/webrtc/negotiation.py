"""Describing a WebRTC connection to each other: descriptions, then candidates as they are found."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from ...protocol.errors import PeerError
from ...protocol.signal import (
    MAX_CANDIDATES,
    Candidate,
    Candidates,
    Description,
    Signal,
    merge,
)
from ...tasks import race
from .. import LaneLost
from . import Connection


class Signals(Protocol):
    """A way to tell each other how to connect: through the server, or a control channel."""

    async def send(self, signal: Signal) -> None:
        """Pass a signal on."""

    async def recv(self) -> Signal | None:
        """The next one; None when no more will come. Raises `PeerError`."""


class Descriptions(NamedTuple):
    """What the offerer described and what the answerer did."""

    offered: Description
    answered: Description


async def offer(
    connection: Connection, signals: Signals, nonce_guest: bytes, nonce_host: bytes
) -> None:
    """Offer a WebRTC connection and wait for its lanes."""
    found = await offer_description(connection, signals, nonce_guest, nonce_host)
    await race(connection.opened(), *trickle(connection, signals, found.answered))


async def answer(
    connection: Connection, signals: Signals, nonce_guest: bytes, remote: Signal | None
) -> None:
    """Answer a description and wait for the lanes."""
    found = await answer_description(connection, signals, nonce_guest, remote)
    await race(connection.opened(), *trickle(connection, signals, found.offered))


async def offer_description(
    connection: Connection, signals: Signals, nonce_guest: bytes, nonce_host: bytes
) -> Descriptions:
    """Exchange descriptions, this side first. Raises `PeerError`, `LaneLost`."""
    own = await connection.describe(nonce_guest, nonce_host)
    await signals.send(own)
    remote = await signals.recv()
    # One offers, the other answers (RFC 8842 5).
    if not isinstance(remote, Description) or remote.setup == "actpass":
        raise unexpected(remote, "description_wrong_kind")
    if (remote.nonce_guest, remote.nonce_host) != (nonce_guest, nonce_host):
        raise PeerError("description_of_another_attempt")
    await connection.set_remote(remote)
    return Descriptions(own, remote)


async def answer_description(
    connection: Connection, signals: Signals, nonce_guest: bytes, remote: Signal | None
) -> Descriptions:
    """Exchange descriptions, the other side's (`remote`) first. Raises `PeerError`, `LaneLost`."""
    ours = isinstance(remote, Description) and remote.nonce_guest == nonce_guest
    if not isinstance(remote, Description) or not ours or remote.setup != "actpass":
        raise unexpected(remote, "description_of_another_attempt")
    await connection.set_remote(remote)
    own = await connection.describe(nonce_guest, remote.nonce_host)
    await signals.send(own)
    return Descriptions(remote, own)


def unexpected(signal: Signal | None, violation: str) -> Exception:
    """What to raise for a signal that may not come, or for none."""
    return LaneLost() if signal is None else PeerError(violation)


def trickle(
    connection: Connection,
    signals: Signals,
    remote: Description,
    heard: Callable[[tuple[Candidate, ...]], None] = lambda candidates: None,
    most: int = MAX_CANDIDATES,
) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
    """Candidates both ways, as they are found: `most` of this side's; `heard` is told of the other
    side's."""

    async def tell() -> None:
        told = 0
        async for candidate in connection.candidates():
            if told < most:
                await signals.send(Candidates((candidate,)))
                told += 1

    async def listen() -> None:
        known = remote
        heard(known.candidates)
        while (more := await signals.recv()) is not None:
            if not isinstance(more, Candidates):
                raise PeerError("signal_out_of_turn")
            known = merge(known, more.candidates)
            heard(more.candidates)
            await connection.add_candidates(more.candidates)

    return tell(), listen()
