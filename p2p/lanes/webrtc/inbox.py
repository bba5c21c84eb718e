"""Messages that came by a data channel and that nobody has taken yet."""

from __future__ import annotations

import asyncio

from ...protocol.errors import PeerError
from .. import LaneLost

CONTROL_UNREAD = 2 * 1024 * 1024  # bytes; a session takes its control messages as they come
OVERHEAD = 512  # bytes that a message takes beside its content


class Inbox:
    """A queue that is bounded in bytes: data channels cannot make a peer wait, and until the
    handshake is through the peer may be anybody who holds the link."""

    def __init__(self, most: int) -> None:
        """`most`: bytes that may wait, before it is a flood."""
        self._most, self._held = most, 0
        self._unread: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._end: LaneLost | PeerError | None = None  # why nothing more will come

    def put(self, message: bytes) -> bool:
        """Keep a message; False when nothing more may come, after a flood at the latest."""
        self._held += len(message) + OVERHEAD
        if self._held > self._most:
            self.lose(PeerError("too_many_messages"))
        if self._end is None:
            self._unread.put_nowait(message)
        return self._end is None

    def lose(self, why: LaneLost | PeerError | None = None) -> None:
        """Nothing more will come: wake whoever waits, once what is there is taken."""
        if self._end is None:
            self._end = why or LaneLost()
            self._unread.put_nowait(None)

    async def get(self) -> bytes:
        """The next message. Raises `LaneLost` when there will be none, `PeerError` when the peer
        sent what it may not."""
        message = await self._unread.get()
        if message is None:
            self._unread.put_nowait(None)
            assert self._end is not None
            raise self._end
        self._held -= len(message) + OVERHEAD
        return message
