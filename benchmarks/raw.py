"""The baseline: one bare connection of an engine, windowed, bytes thrown away on arrival.

Run as two processes over a pair of pipes: `python -m benchmarks.raw ENGINE send|receive BYTES
[SECONDS]`; when time is up, what was acknowledged by then counts.
No sealing, no hashing, no disk; only what the engine itself can move, with the messages it likes
best. An acknowledgement every megabyte keeps 16 MiB under way, as any real use would have to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

from p2p.cli.process import keep_buffers
from p2p.lanes import LaneLost
from p2p.lanes.webrtc import Connection, load
from p2p.protocol.signal import Candidate, Description

WINDOW = 16 * 1024 * 1024
ACK = 1024 * 1024
SLOW_ACK = 128 * 1024  # with a limit: a megabyte may take seconds
BYTES = ("nonce_guest", "nonce_host", "fingerprint")  # of a description; JSON has none


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def _text(description: Description) -> dict[str, Any]:
    fields = dict(description.__dict__)
    for name in BYTES:
        fields[name] = fields[name].hex()
    return {**fields, "candidates": [c.__dict__ for c in description.candidates]}


def _read(fields: dict[str, Any]) -> tuple[Description, tuple[Candidate, ...]]:
    candidates = tuple(Candidate(**c) for c in fields.pop("candidates"))
    for name in BYTES:
        fields[name] = bytes.fromhex(fields[name])
    return Description(**fields), candidates


async def _describe(connection: Connection) -> dict[str, Any]:
    own = await connection.describe(bytes(16), bytes(16))
    return {**_text(own), "candidates": [c.__dict__ async for c in connection.candidates()]}


async def main(engine: Any, role: str, size: int, limit: float | None) -> None:
    """Meet over standard input and output, move `size` bytes, print the seconds it took."""
    connection = load(engine).make(offerer=role == "send")
    if role == "send":
        _say(await _describe(connection))
    remote, candidates = _read(json.loads(await asyncio.to_thread(sys.stdin.readline)))
    await connection.set_remote(remote)
    if role == "receive":
        _say(await _describe(connection))
    await connection.add_candidates(candidates)
    await connection.opened()
    if role == "send":
        await _send(connection, size, limit)
    else:
        with contextlib.suppress(LaneLost):  # the sender's time may be up
            await _receive(connection, size, ACK if limit is None else SLOW_ACK)
    await connection.close()


async def _send(connection: Connection, size: int, limit: float | None) -> None:
    message = bytes(connection.data.max_message_size)
    acknowledged = 0
    more = asyncio.Event()

    async def hear() -> None:
        nonlocal acknowledged
        while acknowledged < size:
            acknowledged = int(await connection.control.recv())
            more.set()

    async def push() -> None:
        sent = 0
        while sent < size:
            if sent - acknowledged > WINDOW:
                more.clear()
                await more.wait()
                continue
            await connection.data.send(message[: min(len(message), size - sent)])
            sent += len(message)

    began = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            await asyncio.gather(hear(), push())
    _say({"bytes": acknowledged, "seconds": time.perf_counter() - began})


async def _receive(connection: Connection, size: int, every: int) -> None:
    got = told = 0
    while got < size:
        got += len(await connection.data.recv())
        if got - told >= every or got >= size:
            told = got
            await connection.control.send(str(got).encode())


if __name__ == "__main__":
    keep_buffers()  # as the program does
    limit = float(sys.argv[4]) if len(sys.argv) > 4 else None
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), limit))
