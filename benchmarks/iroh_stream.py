"""One stream of iroh (QUIC), run by the Python of an environment that has it, so nothing of ours is
imported: `receive HOST BYTES SECONDS` prints where it is, and at the end how much came in how many
seconds; `send WHERE BYTES` sends. No relay, no discovery, no disk.

The binding copies what is written byte by byte in Python, 3 MB/s at best; here it is told to use
`memmove` instead, or the row would say nothing about QUIC.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import sys
import time
from typing import Any

import iroh
from iroh import iroh_ffi

ALPN = b"handover-benchmark"
PIECE = 1 << 18


def write(self: Any, value: bytes) -> None:
    """In the place of the binding's own."""
    with self._reserve(len(value)):
        data = ctypes.cast(self.rbuf.data, ctypes.c_void_p).value
        ctypes.memmove(data + self.rbuf.len, bytes(value), len(value))


async def receive(host: str, size: int, seconds: float) -> None:
    """Until all is there or time is up."""
    options = iroh.EndpointOptions(
        preset=iroh.preset_minimal(),
        bind_addr=f"{host}:0",
        alpns=[ALPN],
        relay_mode=iroh.RelayMode.disabled(),
    )
    endpoint = await iroh.Endpoint.bind(options)
    address = next(one for one in endpoint.bound_sockets() if one.startswith(host))
    print(json.dumps([str(endpoint.id()), address]), flush=True)
    incoming = await endpoint.accept_next()
    connection = await (await incoming.accept()).connect()
    stream = await connection.accept_uni()
    began, got = time.perf_counter(), 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while got < size:
                piece = await stream.read(PIECE)
                if not piece:
                    break
                got += len(piece)
    print(json.dumps({"bytes": got, "seconds": time.perf_counter() - began}), flush=True)
    connection.close(0, b"")
    await endpoint.close()


async def send(where: str, size: int) -> None:
    """As much as is wanted of it."""
    identity, address = json.loads(where)
    options = iroh.EndpointOptions(
        preset=iroh.preset_minimal(), relay_mode=iroh.RelayMode.disabled()
    )
    endpoint = await iroh.Endpoint.bind(options)
    target = iroh.EndpointAddr(iroh.EndpointId.from_string(identity), None, [address])
    connection = await endpoint.connect(target, ALPN)
    stream = await connection.open_uni()
    piece = bytes(PIECE)
    with contextlib.suppress(iroh.IrohError):  # the recipient's time may be up
        for at in range(0, size, PIECE):
            await stream.write_all(piece[: min(PIECE, size - at)])
        await stream.finish()
        await connection.closed()
    await endpoint.close()


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    if role == "receive":
        asyncio.run(receive(words[0], int(words[1]), float(words[2])))
    else:
        iroh_ffi._UniffiRustBufferBuilder.write = write
        asyncio.run(send(words[0], int(words[1])))
