"""Direct lanes: TLS connections beside a session's own, each one way, each with a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

from .. import LaneLost
from ..streams import ThreadedLane
from .endpoint import HANDSHAKES, Endpoint
from .socket import TlsSocket, tune


class DirectLanes(Endpoint[ThreadedLane]):
    """This side's end of a session's direct lanes."""

    def __init__(self, listener: socket.socket, key: bytes, certificate: bytes) -> None:
        super().__init__(listener, key, certificate)
        # Threads of their own: strangers must not hold up what else this process does.
        self._threads = ThreadPoolExecutor(HANDSHAKES + 2, "handover-tls")
        self._queued: set[socket.socket] = set()  # for a thread to shake hands over, ...
        self._shaking: set[socket.socket] = set()  # ... and those for which one does

    async def _secure(self, plain: socket.socket, address: str, *, server: bool) -> ThreadedLane:
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
        return ThreadedLane(tls, address)

    async def adopt(self, plain: socket.socket, address: str, *, server: bool) -> ThreadedLane:
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
