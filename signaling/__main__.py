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

from .app import Server
from .tls import server_context

NICENESS = 5  # the transfer goes first


async def serve(told: dict[str, Any]) -> None:
    """Serve until standard input ends, or says another line."""
    if sys.platform == "win32":
        listener = socket.fromshare(base64.b64decode(told["shared"]))
    else:
        listener = socket.socket(fileno=told["descriptor"])
    tls = server_context(told["pem"].encode()) if told["pem"] is not None else None
    server = Server(owner_hash=bytes.fromhex(told["owner_hash"]))
    await server.serve(listener, tls)
    await asyncio.to_thread(sys.stdin.buffer.readline)
    await server.stop()


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
