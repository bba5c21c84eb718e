"""The server in a process of its own, beside a transfer: whoever keeps it busy does not keep the
transfer from its work, and takes no descriptor of it.

This is the transfer's side. The socket listens here already, so that the port is known and the
first peers wait in its queue while the process starts; the process gets it by inheritance, and its
key through a pipe. It ends when the pipe does, so at the latest with this process.

There is one exception. When the transfer is complete and its recipient's page has yet to save, the
process starts another one in its place (`hand_on`), for which nobody waits: it serves the page
until that has saved, and 10 minutes at most.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from .pipe import LENGTH, READY, make_pipe

logger = logging.getLogger("handover.signaling")

SYSTEMD_SOCKET = 3
READY_SECONDS = 5.0  # for a process to have a lane
STOP_SECONDS = 6.0  # what `Limits` takes to stop, and some more
STAY_SECONDS = 600.0  # at most, for a page that has something to save
DESERTED_SECONDS = 15.0  # without one: it may be loaded anew
RESTART_SECONDS, LAST_RESTART_SECONDS = 1.0, 60.0
ROOT = Path(__file__).parent.parent
STOP, FINISH = b"stop\n", b"finish\n"  # what a server is told: at once; once pages have saved


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; an empty host, and `::`, mean every address, IPv6 and IPv4 alike. Raises
    `OSError`."""
    if host in ("", "::") and socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def inherited() -> socket.socket | None:
    """The listening socket that systemd has started this process with (sd_listen_fds(3)), if there
    is one. Raises `OSError` for what is none."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or count != "1":
        return None
    listener = socket.socket(fileno=SYSTEMD_SOCKET)
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    return listener


@asynccontextmanager
async def serve_apart(
    listener: socket.socket, owner_hash: bytes, pem: bytes | None = None, *, stay: bool = True
) -> AsyncIterator[Apart]:
    """Serve on a listening socket, which is closed in the end, for as long as the context lasts.
    With `stay`, a page that has something to save yet is served on, unless an exception ends it.

    Only the room of one host is served: `owner_hash` is the SHA-256 of its owner token. With `pem`
    (`tls.server_context`) it speaks TLS. Should the process die, it is started again. Raises
    `OSError` when it cannot be started.
    """
    with listener:
        apart = Apart(listener, owner_hash, pem)
        await apart.start()
        keeping = asyncio.create_task(apart.keep())
        word = STOP
        try:
            yield apart
            word = FINISH if stay else STOP
        finally:
            keeping.cancel()
            try:
                await asyncio.wait([keeping])
            finally:  # whoever is cancelled, perhaps not for the first time, ends it too
                await apart.end(word)


class Apart:
    """The process, and those that are started in its place should it die."""

    _process: asyncio.subprocess.Process

    def __init__(self, listener: socket.socket, owner_hash: bytes, pem: bytes | None) -> None:
        self._listener, self._owner_hash, self._pem = listener, owner_hash, pem
        self._passing: socket.socket | None = None  # by which it gets descriptors

    async def open_pipe(self) -> tuple[bytes, socket.socket]:
        """A lane to whoever opens it first, soon, by its token (32 bytes): that, and this side's
        end of its pipe (`lanes`), once it can be opened. Raises `OSError`."""
        token = secrets.token_bytes(32)
        text = base64.urlsafe_b64encode(token).rstrip(b"=")
        told = {"lane": hashlib.sha256(text).hexdigest()}
        ours, theirs = make_pipe()
        with theirs:
            try:
                if sys.platform == "win32":
                    told["shared"] = base64.b64encode(theirs.share(self._process.pid)).decode()
                elif self._passing is not None:
                    socket.send_fds(self._passing, [b"1"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        self._say(json.dumps(told).encode() + b"\n")
        ours.setblocking(False)
        try:
            async with asyncio.timeout(READY_SECONDS):
                if await asyncio.get_running_loop().sock_recv(ours, LENGTH) != READY:
                    raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        except BaseException:
            ours.close()
            raise
        return token, ours

    async def start(self) -> None:
        """Start it. Raises `OSError`."""
        passed = [] if sys.platform == "win32" else [self._listener]
        ours: socket.socket | None = None
        theirs: socket.socket | None = None
        if sys.platform != "win32":
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.setblocking(False)
            passed.append(theirs)
        try:
            process = await asyncio.create_subprocess_exec(
                *_PROGRAM,
                env=_environment(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[one.fileno() for one in passed],
                start_new_session=True,  # a Ctrl-C is for the transfer, which has last words to say
            )
            told: dict[str, Any] = {
                "owner_hash": self._owner_hash.hex(),
                "pem": self._pem.decode() if self._pem is not None else None,
                "level": logger.getEffectiveLevel(),
                "stay": STAY_SECONDS,
                "deserted": DESERTED_SECONDS,
                "passing": theirs.fileno() if theirs is not None else None,
            }
            self._process, self._passing = process, ours  # a line and its descriptor go together
            self._say(_line(told, self._listener, process.pid))
        except BaseException:
            if ours is not None:
                ours.close()
            raise
        finally:
            if theirs is not None:
                theirs.close()

    async def keep(self) -> None:
        """Start it again whenever it has died."""
        loop, wait = asyncio.get_running_loop(), RESTART_SECONDS
        while True:
            began = loop.time()
            code = await self._process.wait()
            logger.warning("the signaling server ended with %d and is started again", code)
            await self.end()
            if loop.time() - began > LAST_RESTART_SECONDS:
                wait = RESTART_SECONDS
            await asyncio.sleep(wait)
            wait = min(2 * wait, LAST_RESTART_SECONDS)
            with suppress(OSError):
                await self.start()

    async def end(self, word: bytes = STOP) -> None:
        """Let it stop by itself, but not for long."""
        # Said as well, for a process that was forked from this one may hold the pipe open.
        self._say(word)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        finally:
            if self._passing is not None:
                self._passing.close()
                self._passing = None

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)


def hand_on(told: dict[str, Any], listener: socket.socket) -> None:
    """Start a server that was told the same, and nobody waits for: it holds nothing open but the
    listening socket. Raises `OSError`."""
    process = subprocess.Popen(
        _PROGRAM,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # whoever reads the transfer's errors waits for their end
        cwd=ROOT,  # nor does it keep the folder that the transfer was started in
        pass_fds=_inherited(listener),
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(_line(told, listener, process.pid))
    process.stdin.close()


_PROGRAM = (sys.executable, "-P", "-m", "signaling")  # -P: nothing of the folder that we are in


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HANDOVER_")}
    # Whatever this process found its modules by, in the same order.
    kept["PYTHONPATH"] = os.pathsep.join([*filter(None, sys.path), str(ROOT)])
    # It calls nobody, and aiohttp would spend a sixth of the start on reading whom to trust.
    kept["SSL_CERT_FILE"] = os.devnull
    return kept


def _inherited(listener: socket.socket) -> tuple[int, ...]:
    return () if sys.platform == "win32" else (listener.fileno(),)


def _line(told: dict[str, Any], listener: socket.socket, pid: int) -> bytes:
    """What the process with this id is told first."""
    if sys.platform == "win32":
        told = {**told, "shared": base64.b64encode(listener.share(pid)).decode()}
    else:
        told = {**told, "descriptor": listener.fileno()}
    return json.dumps(told).encode() + b"\n"
