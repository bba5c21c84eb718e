"""TCP through two NATs: a port whose outer address is known, and simultaneous open from it
(RFC 6544, S-O candidates; RFC 5128 3.4). Both sides connect from such a port to the other's outer
address at about the same time, so that each NAT has let its own side out before the other comes in.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from ..tasks import stop
from .stun import MAX_ANSWER, Binding, Endpoint

ASK_SECONDS = 0.7  # for the outer address: nothing waits longer for it
MOST_ASKED = 3  # at once
TRY_SECONDS = 1.0  # for one attempt to connect; the kernel says it again once in that time
REUSED = getattr(socket, "SO_REUSEPORT", None)  # Windows has none


class OuterPort:
    """A TCP port of this side, and its address outside as a STUN server sees it."""

    def __init__(self, asking: socket.socket, outer: Endpoint) -> None:
        self._asking, self.outer = asking, outer  # the first stays open: NATs forget

    @classmethod
    async def open(cls, servers: Sequence[Endpoint]) -> OuterPort | None:
        """By the first of the STUN servers (address, TCP port) that answers, in ASK_SECONDS
        altogether; None where none does, or where no port can be shared."""
        if REUSED is None:
            return None
        asking = [asyncio.create_task(cls._by(server)) for server in servers[:MOST_ASKED]]
        first: OuterPort | None = None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                for next_one in asyncio.as_completed(asking):
                    if first := await next_one:
                        break
        except TimeoutError:
            pass
        finally:
            await stop(*asking)
            for one in asking:
                made = None if one.cancelled() or one.exception() else one.result()
                if made is not None and made is not first:
                    made.close()
        return first

    @classmethod
    async def _by(cls, server: Endpoint) -> OuterPort | None:
        asking = _socket(server[0])
        try:
            asking.bind(("", 0))
            outer = await _ask(asking, server)
        except BaseException as error:
            asking.close()
            if isinstance(error, OSError):
                return None
            raise
        if outer is None:
            asking.close()
        return None if outer is None else cls(asking, outer)

    async def connect(self, peer: Endpoint) -> socket.socket:
        """A connection to the peer's outer address, whose other end does the same; tries until it
        is cancelled."""
        loop, own = asyncio.get_running_loop(), self._asking.getsockname()
        while True:
            trying = _socket(peer[0])
            until = loop.time() + TRY_SECONDS
            try:
                trying.bind(own[:2])
                async with asyncio.timeout(TRY_SECONDS):
                    await loop.sock_connect(trying, peer)
                return trying
            except (OSError, TimeoutError):
                trying.close()
            except BaseException:
                trying.close()
                raise
            await asyncio.sleep(max(0, until - loop.time()))  # where it was refused at once

    def close(self) -> None:
        """Never raises."""
        self._asking.close()


def _socket(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if REUSED is not None:
            made.setsockopt(socket.SOL_SOCKET, REUSED, 1)
    return made


async def _ask(asking: socket.socket, server: Endpoint) -> Endpoint | None:
    loop, binding = asyncio.get_running_loop(), Binding()
    await loop.sock_connect(asking, server)
    await loop.sock_sendall(asking, binding.request)
    answer = b""
    while len(answer) < MAX_ANSWER and (more := await loop.sock_recv(asking, MAX_ANSWER)):
        answer += more
        if found := binding.read(answer):
            return found
    return None
