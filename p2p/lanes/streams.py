"""Lanes over connections that carry bytes in order: each message stands behind its length (u32,
big-endian). `StreamLane` works on the event loop, `ThreadedLane` in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..protocol.seal import Message
from ..protocol.signal import MAX_MESSAGE_SIZE
from ..tasks import wake
from . import LaneLost

logger = logging.getLogger("handover.lanes")

LENGTH = 4  # bytes of a message's length
HIGH_WATER = 2 * 1024 * 1024  # queued bytes above which `send` waits
READ_AHEAD = 8 * 1024 * 1024  # bytes in memory above which nothing is read
CLOSE_SECONDS = 2.0  # for what is queued


class StreamLane:
    """One connection, both ways, on the event loop: simpler than a `ThreadedLane`, and slower."""

    max_message_size = MAX_MESSAGE_SIZE

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> None:
        self.address = address  # of the other end
        self._reader, self._writer = reader, writer
        self._finished = False
        writer.transport.set_write_buffer_limits(HIGH_WATER)

    async def send(self, message: Message) -> None:
        """Queue a message; waits while more than HIGH_WATER bytes are queued."""
        if len(message) > self.max_message_size:
            raise ValueError("message too long for the lane")
        if self._writer.is_closing():
            raise LaneLost
        self._writer.write(len(message).to_bytes(LENGTH, "big") + message)
        try:
            await self._writer.drain()
        except OSError:
            raise LaneLost from None

    async def recv(self) -> bytes:
        """The next message."""
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH), "big")
            if length > self.max_message_size:
                raise LaneLost
            return await self._reader.readexactly(length)
        except (OSError, EOFError):
            raise LaneLost from None

    def close(self) -> None:
        """Close it, whatever is queued. Never raises."""
        with contextlib.suppress(AttributeError):  # Python 3.11.2's, where it is closed already
            self._writer.transport.abort()

    async def finish(self) -> None:
        """Close it once what is queued is sent, if that is soon. Never raises; a second call does
        nothing."""
        if self._finished:
            return
        self._finished = True
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        self.close()


class BlockingStream(Protocol):
    """A connection for a thread."""

    @property
    def plain(self) -> socket.socket:
        """What carries it."""

    def write(self, *parts: Message) -> None:
        """Send all of it. Raises `OSError`."""

    def read(self, length: int) -> Message:
        """The next so many bytes. Raises `OSError`."""


class ThreadedLane:
    """One connection, one way: the sender writes and the recipient reads, for a TLS connection is
    not made for two threads.

    A thread of its own moves the messages, so that encryption, the network and the other work
    overlap; the event loop is woken only when somebody waits.
    """

    max_message_size = MAX_MESSAGE_SIZE

    def __init__(self, stream: BlockingStream, address: str) -> None:
        self.address = address  # of the other end
        self._stream, self._lost = stream, False
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._messages: deque[Message] = deque()  # to be sent, or received
        self._bytes = 0  # of these
        self._changed = threading.Condition()  # guards the three above
        self._waiter: asyncio.Future[None] | None = None

    async def send(self, message: Message) -> None:
        """Queue a message; waits while more than HIGH_WATER bytes are queued."""
        if len(message) > self.max_message_size:
            raise ValueError("message too long for the lane")
        self._begin(self._write)
        while True:
            with self._changed:
                if self._lost:
                    raise LaneLost
                if self._bytes <= HIGH_WATER:
                    self._put(message)
                    return
                waiter = self._waiter = self._loop.create_future()
            await waiter  # the thread may have forgotten it by now

    async def recv(self) -> Message:
        """The next message."""
        self._begin(self._read)
        while True:
            with self._changed:
                if self._messages:
                    return self._get()
                if self._lost:
                    raise LaneLost
                waiter = self._waiter = self._loop.create_future()
            await waiter

    @property
    def lost(self) -> bool:
        """Whether nothing goes through any more."""
        return self._lost

    def close(self) -> None:
        """Close it, whatever is queued. Never raises."""
        with self._changed:
            self._lost = True
            self._changed.notify()
        with contextlib.suppress(OSError):  # wakes the thread
            self._stream.plain.shutdown(socket.SHUT_RDWR)
        if self._thread is None:
            self._stream.plain.close()

    # -- both sides, with `_changed` held

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._bytes += len(message)
        self._changed.notify()

    def _get(self) -> Message:
        message = self._messages.popleft()
        self._bytes -= len(message)
        self._changed.notify()
        return message

    # -- the thread

    def _begin(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            name = "handover-lane"
            self._thread = threading.Thread(target=self._until_lost, args=(work,), name=name)
            self._thread.daemon = True  # a peer that hangs must not hold up the end
            self._thread.start()

    def _until_lost(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, ValueError):  # the second: it was closed
            logger.debug("a lane was lost", exc_info=True)
        finally:
            with self._changed:
                self._lost = True
                self._tell()
            self._stream.plain.close()

    def _tell(self) -> None:
        """Wake whoever waits on the event loop."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(wake, waiter)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._messages:
                    if self._lost:
                        return
                    self._changed.wait()
                message = self._get()
                if self._bytes <= HIGH_WATER // 2:
                    self._tell()
            self._stream.write(len(message).to_bytes(LENGTH, "big"), message)

    def _read(self) -> None:
        while True:
            length = int.from_bytes(self._stream.read(LENGTH), "big")
            if length > self.max_message_size:
                return
            message = self._stream.read(length)
            with self._changed:
                self._put(message)
                self._tell()
                while self._bytes > READ_AHEAD and not self._lost:
                    self._changed.wait()
