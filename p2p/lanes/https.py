"""Lanes to a page that this transfer's own server has served: by a pipe to that server's process,
and from there by HTTPS (`signaling.lanes`).

The page knows a lane by its token, which it gets sealed. An empty message by the pipe says that it
has opened it. The messages are sealed, so nothing here needs TLS, nor knows of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Self

from ..protocol.seal import Message
from . import LaneLost
from .streams import HIGH_WATER, LENGTH, StreamLane, ThreadedLane

OPEN_SECONDS = 10.0  # for a page to open a lane
OpenPipe = Callable[[], Awaitable[tuple[bytes, socket.socket]]]  # a lane's token, and its pipe


class HttpsConnection:
    """A connection: control and data, each a WebSocket that the page opens."""

    control: StreamLane
    data: StreamLane

    def __init__(self) -> None:
        self.tokens: list[bytes] = []  # the control lane's and the data lane's
        self._pipes: list[socket.socket] = []
        self._lanes: list[StreamLane] = []

    @classmethod
    async def open(cls, open_pipe: OpenPipe) -> Self:
        """Raises `LaneLost`."""
        made = cls()
        try:
            for _ in ("control", "data"):
                token, pipe = await open_pipe()
                made.tokens.append(token)
                made._pipes.append(pipe)
        except BaseException as error:
            await made.close()
            if isinstance(error, OSError):  # a `TimeoutError` too
                raise LaneLost from None
            raise
        return made

    async def opened(self) -> Self:
        """Until the page has opened both. Raises `LaneLost`."""
        for pipe in self._pipes:
            reader, writer = await asyncio.open_connection(sock=pipe, limit=HIGH_WATER)
            self._lanes.append(StreamLane(reader, writer, ""))
        self.control, self.data = self._lanes
        for lane in self._lanes:
            if await lane.recv():
                raise LaneLost
        return self

    async def close(self, *, heard: bool = False) -> None:
        """Send what is queued (for two seconds at most), then close. Never raises."""
        await asyncio.gather(*(lane.finish() for lane in self._lanes))
        for pipe in self._pipes[len(self._lanes) :]:
            pipe.close()


async def opened(pipe: socket.socket) -> ThreadedLane:
    """A lane, once the page has opened it. Raises `LaneLost`."""
    pipe.setblocking(False)
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            said = await asyncio.get_running_loop().sock_recv(pipe, LENGTH)
    except OSError:  # a `TimeoutError` too
        raise LaneLost from None
    if said != bytes(LENGTH):
        raise LaneLost
    pipe.setblocking(True)
    return ThreadedLane(_Pipe(pipe), "")


class _Pipe:
    """The blocking stream of a lane."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain

    def write(self, *parts: Message) -> None:
        for part in parts:
            self.plain.sendall(part)

    def read(self, length: int) -> Message:
        raise OSError("nothing comes by a lane that a page has fetched")
