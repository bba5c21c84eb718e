"""`python -m signaling`: the process that `apart` starts. Standard input says what to serve with,
one line of JSON, then which lanes there are, one line each, and last that it is to stop."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .apart import FINISH, STOP, hand_on
from .app import Server
from .tls import server_context

NICENESS = 5  # the transfer goes first


async def serve(told: dict[str, Any]) -> None:
    """Serve until standard input ends, or says so; with a `guest`, who was there when the transfer
    was complete, until its page has saved."""
    if sys.platform == "win32":
        listener = socket.fromshare(base64.b64decode(told["shared"]))
    else:
        listener = socket.socket(fileno=told["descriptor"])
    tls = server_context(told["pem"].encode()) if told["pem"] is not None else None
    guest = told.get("guest")
    server = Server(
        owner_hash=bytes.fromhex(told["owner_hash"]),
        guest=(bytes.fromhex(guest[0]), bytes.fromhex(guest[1])) if guest else None,
    )
    await server.serve(listener, tls)
    replaced = False
    if guest:
        with suppress(TimeoutError):
            async with asyncio.timeout(told["stay"]):
                await server.deserted(told["deserted"])
    else:
        loop = asyncio.get_running_loop()

        def expect(token_hash: bytes, pipe: socket.socket) -> None:
            loop.call_soon_threadsafe(server.lanes.expect, token_hash, pipe)

        line = await asyncio.to_thread(listen_to_transfer, told.get("passing"), expect)
        if line == FINISH and server.staying and server.guest:
            with suppress(OSError):
                hand_on({**told, "guest": [one.hex() for one in server.guest]}, listener)
                replaced = True
    await server.stop(replaced=replaced)


def listen_to_transfer(
    passing: int | None, expect: Callable[[bytes, socket.socket], None]
) -> bytes:
    """Read the lines of standard input, in a thread: `expect` gets each lane, whose pipe comes by
    the socket `passing`. The last line."""
    passed = socket.socket(fileno=passing) if passing is not None else None
    while (line := sys.stdin.buffer.readline()) not in (STOP, FINISH) and line.endswith(b"\n"):
        told = json.loads(line)
        if sys.platform == "win32":
            pipe = socket.fromshare(base64.b64decode(told["shared"]))
        else:
            assert passed is not None
            _, descriptors, _, _ = socket.recv_fds(passed, 1, 1)
            if not descriptors:  # there are too many here
                continue
            pipe = socket.socket(fileno=descriptors[0])
        expect(bytes.fromhex(told["lane"]), pipe)
    return line


def main() -> None:
    """Run."""
    line = sys.stdin.buffer.readline()
    if not line:  # whoever started it has ended
        return
    told = json.loads(line)
    logging.basicConfig(level=told["level"], format="%(asctime)s %(levelname)s %(message)s")
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    asyncio.run(serve(told))


if __name__ == "__main__":
    main()
