"""Strangers at the server's door: what each may take, counted from accept on, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from p2p.protocol.link import derive_keys
from signaling import messages
from signaling.app import Server
from signaling.certificates import open_authority
from signaling.rooms import Limits

ROOT = Path(__file__).parent.parent.parent
KEYS, OTHER = derive_keys(b"\x01" * 32), derive_keys(b"\x02" * 32)
STRANGER = "127.0.0.66"  # all of 127.0.0.0/8 is this machine, so these are two addresses
CREATE = messages.encode(
    "create",
    room=KEYS.room,
    join_hash=hashlib.sha256(KEYS.join).digest(),
    owner=b"o" * 32,
    ttl=60,
)
JOIN = messages.encode("join", room=KEYS.room, join=KEYS.join)
UPGRADE = (
    b"GET /signal HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
WRONG = messages.encode("join", room=KEYS.room, join=OTHER.join)


@pytest.fixture
async def start():
    servers = []

    async def make(tls=None, trusted=(), **limits):
        server = Server(Limits(**limits), trusted)
        await server.start("127.0.0.1", 0, tls)
        servers.append(server)
        return server

    yield make
    for server in servers:
        await server.stop()


async def ws(server, address="127.0.0.1"):
    where = f"ws://127.0.0.1:{server.port}{messages.PATH}"
    return await connect(
        where, compression=None, local_addr=(address, 0), close_timeout=0.1, ping_interval=None
    )


async def plain(server, address=STRANGER):
    return await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))


async def say(one, text):
    await one.send(text)
    return json.loads(await asyncio.wait_for(one.recv(), 5))


async def ends(reader, seconds=5.0):
    """How long until the other side closes."""
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(1 << 16), seconds):
            pass
    return time.monotonic() - began


async def works(server):
    """Whether an honest peer gets in."""
    async with await ws(server) as honest:
        return (await say(honest, CREATE))["type"] == "created"


@pytest.mark.parametrize("seated", [False, True])
async def test_pings_are_frames_and_a_flood_of_them_ends_the_connection(start, seated):
    server = await start(frames_per_minute=100)
    async with await ws(server, STRANGER) as stranger:
        if seated:
            await say(stranger, messages.encode(
                "create", room=OTHER.room, join_hash=b"h" * 32, owner=b"x" * 32, ttl=60
            ))  # fmt: skip
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(5):
                for _ in range(2000):
                    await stranger.ping()
                    await asyncio.sleep(0)
                await stranger.recv()
    assert await works(server)


async def test_whoever_only_pings_is_cut_off_at_the_deadline(start):
    server = await start(first_message_seconds=0.5)
    began = time.monotonic()
    async with await ws(server) as stranger:
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(5):
                while True:
                    await stranger.ping()
                    await asyncio.sleep(0.05)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "sends", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: x\r\n"]
)
async def test_half_a_tls_handshake_is_counted_and_cut_off(start, tmp_path, sends):
    served = open_authority(tmp_path / "ca", [], []).issue([], [])
    server = await start(served.context, first_message_seconds=1.0, connections_per_address=3)
    held = [await plain(server) for _ in range(3)]
    for _, writer in held:
        writer.write(sends)
    fourth, late = await plain(server)
    assert await ends(fourth) < 0.5  # there is no room for it, at once
    honest = ssl.create_default_context(
        cadata=open_authority(tmp_path / "ca", [], []).path.read_text()
    )
    async with aiohttp.ClientSession() as session:  # of another address
        where = f"https://127.0.0.1:{server.port}/healthz"
        async with session.get(where, ssl=honest) as answer:
            assert answer.status == 200
    for reader, writer in held:
        assert await ends(reader) < 2
        writer.close()
    late.close()


async def test_slow_headers_do_not_outlive_the_deadline(start):
    server = await start(first_message_seconds=0.5)
    reader, writer = await plain(server)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    dripping = asyncio.create_task(drip(writer))
    assert await ends(reader) < 2
    dripping.cancel()
    writer.close()


async def drip(writer):
    while True:
        await asyncio.sleep(0.1)
        writer.write(b"X-Slow: 1\r\n")


async def test_pages_are_no_way_to_stay(start):
    server = await start(page_seconds=0.5)
    reader, writer = await plain(server)
    began = time.monotonic()
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(5):
            while True:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                if not await reader.read(4096):
                    break
                await asyncio.sleep(0.05)
    assert time.monotonic() - began < 2
    writer.close()


async def test_bytes_are_counted_whatever_they_are(start):
    """Pieces of a frame that never comes to its end are no frames."""
    server = await start(bytes_per_minute=10_000)
    reader, writer = await plain(server)
    writer.write(UPGRADE + b"\x01\x80mask" + 2000 * b"\x00\x80mask")
    assert await ends(reader) < 1
    writer.close()
    assert await works(server)


async def test_a_frame_that_says_it_is_giant_is_refused_unread(start):
    server = await start()
    reader, writer = await plain(server)
    writer.write(UPGRADE + b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask")
    assert await ends(reader) < 3
    writer.close()


@pytest.mark.parametrize("piece", [b"", b"x", b"x" * 100])
async def test_a_message_in_pieces_has_the_same_limits(start, piece):
    """Pieces without an end, empty ones too: what they hold is bounded, and what they take."""
    server = await start(bytes_per_minute=256 * 1024)
    reader, writer = await plain(server)
    writer.write(UPGRADE + b"\x01\x80mask")
    ending = asyncio.create_task(ends(reader, 20))
    sent = 0
    with contextlib.suppress(ConnectionError):
        while not ending.done() and sent < 10_000_000:
            pieces = (b"\x00" + bytes([128 | len(piece)]) + b"\0\0\0\0" + piece) * 500
            writer.write(pieces)
            sent += len(pieces)
            await writer.drain()
            await asyncio.sleep(0)
    assert await ending < 20
    assert sent < 10_000_000
    assert await works(server)
    writer.close()


async def test_a_full_server_lets_the_oldest_silent_connection_go(start):
    server = await start(connections=4)
    async with await ws(server) as host:
        await say(host, CREATE)
        strangers = [await plain(server, f"127.0.1.{n}") for n in range(1, 20)]
        async with await ws(server) as guest:
            assert (await say(guest, JOIN))["type"] == "joined"
        assert json.loads(await host.recv())["type"] == "attempt"
        for _, writer in strangers:
            writer.close()


async def test_an_address_opens_only_so_many_connections_a_minute(start):
    server = await start(opened_per_minute=5)
    for _ in range(5):
        reader, writer = await plain(server)
        writer.close()
    reader, writer = await plain(server)
    assert await ends(reader) < 1
    writer.close()
    assert await works(server)


async def test_who_never_reads_is_cut_off_and_holds_up_neither_others_nor_the_end():
    server = Server(Limits(write_seconds=0.5, shutdown_seconds=0.5))
    await server.start("127.0.0.1", 0)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, ("127.0.0.1", server.port))
    await loop.sock_sendall(
        deaf,
        UPGRADE,
    )
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(3):
            for _ in range(1000):
                await loop.sock_sendall(deaf, b"\x89\xfd" + b"mask" + b"x" * 125)
    began = time.monotonic()
    assert await works(server)
    await server.stop()
    assert time.monotonic() - began < 3
    deaf.close()


async def test_failures_count_against_whoever_fails_and_a_right_token_passes(start):
    server = await start(failed_joins_per_minute=3)
    async with await ws(server) as host:
        await say(host, CREATE)
        codes = []
        for _ in range(5):
            async with await ws(server, STRANGER) as stranger:
                codes.append((await say(stranger, WRONG))["code"])
        assert codes == ["not_found"] * 3 + ["rate_limited"] * 2
        async with await ws(server, "127.0.0.67") as neighbour:
            assert (await say(neighbour, WRONG))["code"] == "not_found"
            # Even behind the same address:
        async with await ws(server, STRANGER) as guest:
            assert (await say(guest, JOIN))["type"] == "joined"


LIMITED = """
import asyncio, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
from signaling.app import Server
async def main():
    server = Server()
    await server.start("127.0.0.1", 0)
    print(server.port, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.process
async def test_no_number_of_sockets_takes_the_last_descriptor():
    process = subprocess.Popen(
        [sys.executable, "-c", LIMITED],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    strangers = []
    try:
        port = int(process.stdout.readline())
        for number in range(400):
            one = socket.socket()
            one.bind((f"127.0.2.{1 + number % 50}", 0))
            one.settimeout(5)
            one.connect(("127.0.0.1", port))
            strangers.append(one)
        async with aiohttp.ClientSession() as session:
            for _ in range(5):
                async with (
                    asyncio.timeout(2),
                    session.get(f"http://127.0.0.1:{port}/healthz") as got,
                ):
                    assert got.status == 200
        assert len(os.listdir(f"/proc/{process.pid}/fd")) <= 300 - 100
    finally:
        for one in strangers:
            one.close()
        process.kill()
        process.wait()
        process.stdout.close()
