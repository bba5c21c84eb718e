"""Lanes of the transfer that this server runs beside: from a pipe to a page, over HTTPS, and back.

Whoever knows a lane's token opens it, once. A page gets what comes by the pipe as the body of a
response, one way; or message by message as a WebSocket, both ways. The messages are sealed: they
are copied here and never read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Callable, Iterator

from aiohttp import WSMsgType, web

from .pipe import BUFFER, LENGTH, OPENED, READY

PATH = "/lanes/{token}"
MAX_MESSAGE = 262_144  # bytes
OPEN_SECONDS = 15.0  # for a page to open a lane
WRITE_SECONDS = 20.0  # for a page to take what was written
PIECE = 256 * 1024  # bytes that are copied at once


class Lanes:
    """Those that wait for their pages, by the SHA-256 of their tokens, and those that are open."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, socket.socket] = {}
        self._open: set[socket.socket] = set()

    def expect(self, token_hash: bytes, pipe: socket.socket) -> None:
        """Let whoever knows this token open a lane to the pipe, soon."""
        pipe.setblocking(False)
        with contextlib.suppress(OSError):
            pipe.send(READY)
        self._waiting[token_hash] = pipe
        asyncio.get_running_loop().call_later(OPEN_SECONDS, self._forget, token_hash)

    def take(self, token: str) -> socket.socket | None:
        """The pipe of this token's lane, once; None where there is none."""
        return self._waiting.pop(hashlib.sha256(token.encode()).digest(), None)

    @contextlib.contextmanager
    def opened(self, pipe: socket.socket) -> Iterator[None]:
        """A page has the lane, for as long as the context lasts."""
        self._open.add(pipe)
        try:
            yield
        finally:
            self._open.discard(pipe)
            pipe.close()

    @property
    def open(self) -> int:
        """How many are."""
        return len(self._open)

    def forget(self) -> None:
        """Let nobody open one any more."""
        for token_hash in list(self._waiting):
            self._forget(token_hash)

    def close(self) -> None:
        """End those that are open."""
        for pipe in self._open:
            with contextlib.suppress(OSError):
                pipe.shutdown(socket.SHUT_RDWR)

    def _forget(self, token_hash: bytes) -> None:
        pipe = self._waiting.pop(token_hash, None)
        if pipe is not None:
            pipe.close()


async def download(request: web.Request, pipe: socket.socket) -> web.StreamResponse:
    """What comes by the pipe is the body, until either end closes. Raises `ConnectionError`,
    `TimeoutError`."""
    loop = asyncio.get_running_loop()
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.force_close()  # what a lane may, no other request may
    await response.prepare(request)
    await loop.sock_sendall(pipe, OPENED)
    while piece := await loop.sock_recv(pipe, PIECE):
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(piece)
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write_eof()
    return response


async def exchange(
    ws: web.WebSocketResponse, pipe: socket.socket, ended: Callable[[], None]
) -> None:
    """Message by message, both ways, until either end closes; `ended` is called once nothing more
    is to be sent but the end."""
    reader, writer = await asyncio.open_connection(sock=pipe, limit=BUFFER)
    outgoing = asyncio.create_task(_send(ws, reader, ended))
    try:
        writer.write(OPENED)
        with contextlib.suppress(ConnectionError):  # the transfer has closed it
            await _receive(ws, writer)
    finally:
        writer.close()
        outgoing.cancel()
        await asyncio.gather(outgoing, return_exceptions=True)


async def _send(
    ws: web.WebSocketResponse, reader: asyncio.StreamReader, ended: Callable[[], None]
) -> None:
    """What comes by the pipe, to the page; in the end the WebSocket is closed."""
    with contextlib.suppress(ConnectionError, EOFError, TimeoutError):
        while True:
            length = int.from_bytes(await reader.readexactly(LENGTH), "big")
            message = await reader.readexactly(length)
            async with asyncio.timeout(WRITE_SECONDS):
                await ws.send_bytes(message)
    ended()
    await ws.close()


async def _receive(ws: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    while True:
        message = await ws.receive()
        if message.type is not WSMsgType.BINARY:
            return
        writer.write(len(message.data).to_bytes(LENGTH, "big") + message.data)
        await writer.drain()
