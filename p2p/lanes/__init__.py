"""Lanes: authenticated message pipes. What carries one, WebRTC or TLS, stands in a folder below.

`tests/lanes/` holds one conformance suite that every kind of lane passes, the clogged pipe
included.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from ..protocol.errors import PeerError
from ..protocol.seal import Message


class LaneLost(Exception):
    """The lane is gone; whatever was not acknowledged by the peer may not have arrived."""


class Lane(Protocol):
    """A pipe of whole messages, in order, authenticated by the handshake.

    `send` returns when the message is queued and waits while the pipe is full, so a caller may not
    assume arrival: only the peer's acknowledgement tells. `recv` gives the next message. Both
    raise `LaneLost` once the lane is gone, at once for waiters too; `recv` may raise `PeerError`
    for what may not come. One sender and one receiver task at a time. A message longer than
    `max_message_size` raises `ValueError`.
    """

    @property
    def max_message_size(self) -> int:
        """Largest message both ends take, in bytes."""

    async def send(self, message: Message) -> None:
        """Queue a message."""

    async def recv(self) -> Message:
        """The next message."""


class Pair(Protocol):
    """What a session runs over: a control lane and its first data lane."""

    @property
    def control(self) -> Lane:
        """Carries control messages."""

    @property
    def data(self) -> Lane:
        """Carries ranges."""

    async def close(self, *, heard: bool = False) -> None:
        """Send what is queued (for two seconds at most), then close. Never raises.

        `heard`: the other side is known to have it all.
        """


async def hear_nothing(lane: Lane) -> None:
    """Watch a lane by which nothing may come, until it is lost. Raises `PeerError` when it does:
    whatever waited there would fill this side's memory."""
    with suppress(LaneLost):
        await lane.recv()
        raise PeerError("data_out_of_turn")
