"""Direct lanes: TLS connections beside a session's own, each one way, each with a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ...protocol.seal import Message
from ...protocol.signal import MAX_MESSAGE_SIZE
from .. import LaneLost
from . import HIGH_WATER, LENGTH
from .endpoint import HANDSHAKES, Endpoint, wake
from .socket import TlsSocket, tune

logger = logging.getLogger("handover.lanes.tls")

READ_AHEAD = 8 * 1024 * 1024  # bytes in memory above which nothing is read


class DirectLane:
    """One TLS connection, one way: the sender writes and the recipient reads, for a TLS connection
    is not made for two threads.

    A thread of its own moves the messages, so that encryption, the network and the other work
    overlap; the event loop is woken only when somebody waits.
    """

    max_message_size = MAX_MESSAGE_SIZE

    def __init__(self, tls: TlsSocket, address: str) -> None:
        self.address = address  # of the other end
        self._tls, self._lost = tls, False
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
            self._tls.plain.shutdown(socket.SHUT_RDWR)
        if self._thread is None:
            self._tls.plain.close()

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
            name = "handover-direct"
            self._thread = threading.Thread(target=self._until_lost, args=(work,), name=name)
            self._thread.daemon = True  # a peer that hangs must not hold up the end
            self._thread.start()

    def _until_lost(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, ValueError):  # the second: it was closed
            logger.debug("a direct lane was lost", exc_info=True)
        finally:
            with self._changed:
                self._lost = True
                self._tell()
            self._tls.plain.close()

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
            self._tls.write(len(message).to_bytes(LENGTH, "big"), message)

    def _read(self) -> None:
        while True:
            length = int.from_bytes(self._tls.read(LENGTH), "big")
            if length > self.max_message_size:
                return
            message = self._tls.read(length)
            with self._changed:
                self._put(message)
                self._tell()
                while self._bytes > READ_AHEAD and not self._lost:
                    self._changed.wait()


class DirectLanes(Endpoint[DirectLane]):
    """This side's end of a session's direct lanes."""

    def __init__(self, listener: socket.socket, key: bytes, certificate: bytes) -> None:
        super().__init__(listener, key, certificate)
        # Threads of their own: strangers must not hold up what else this process does.
        self._threads = ThreadPoolExecutor(HANDSHAKES + 2, "handover-tls")
        self._queued: set[socket.socket] = set()  # for a thread to shake hands over, ...
        self._shaking: set[socket.socket] = set()  # ... and those for which one does

    async def _secure(self, plain: socket.socket, address: str, *, server: bool) -> DirectLane:
        assert self._contexts is not None
        context = self._contexts[server]

        def shake_hands() -> TlsSocket:
            self._shaking.add(plain)
            self._queued.discard(plain)
            try:
                tune(plain)
                tls = TlsSocket(context, plain, server=server)
                if tls.shake_hands() != self._peer:
                    raise OSError("another certificate")
            except BaseException:
                plain.close()
                raise
            finally:
                self._shaking.discard(plain)
            return tls

        self._queued.add(plain)
        try:
            loop = asyncio.get_running_loop()
            shaking = loop.run_in_executor(self._threads, shake_hands)
            tls = await asyncio.shield(shaking)
        except (OSError, RuntimeError):  # the second: it was closed meanwhile
            self._queued.discard(plain)
            plain.close()
            raise LaneLost from None
        except asyncio.CancelledError:
            shaking.add_done_callback(_close)
            raise
        return DirectLane(tls, address)

    async def adopt(self, plain: socket.socket, address: str, *, server: bool) -> DirectLane:
        """A lane over a connection that was made otherwise. Raises `LaneLost`."""
        return await self._secure(plain, address, server=server)

    def close(self) -> None:
        super().close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for plain in list(self._queued):  # no thread will any more
            plain.close()
        for plain in list(self._shaking):
            with contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_RDWR)


def _close(shaken: asyncio.Future[TlsSocket]) -> None:
    if not shaken.cancelled() and shaken.exception() is None:
        shaken.result().plain.close()
