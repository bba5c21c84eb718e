"""`python -m signaling`: the process that `apart` starts. Standard input says what to serve with,
one line of JSON, and then says nothing for as long as it is to serve."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
import sys
from contextlib import suppress
from typing import Any

from .apart import FINISH, hand_on
from .app import Server
from .tls import server_context

NICENESS = 5  # the transfer goes first


async def serve(told: dict[str, Any]) -> None:
    """Serve until standard input ends, or says another line; with a `guest`, who was there when the
    transfer was complete, until its page has saved."""
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
        line = await asyncio.to_thread(sys.stdin.buffer.readline)
        if line == FINISH and server.staying and server.guest:
            with suppress(OSError):
                hand_on({**told, "guest": [one.hex() for one in server.guest]}, listener)
                replaced = True
    await server.stop(replaced=replaced)


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
