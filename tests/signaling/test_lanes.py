"""A transfer's lanes at its own server: what comes by a pipe reaches the page with the token, whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets

import aiohttp
import pytest

from signaling import lanes
from signaling.app import Server
from signaling.pipe import make_pipe
from signaling.rooms import Limits

TOKEN = "A" * 43


@pytest.fixture
async def start():
    servers = []

    async def make(*, own=True, **limits):
        server = Server(Limits(**limits), owner_hash=bytes(32) if own else None)
        await server.start("127.0.0.1", 0)
        servers.append(server)
        return server

    yield make
    for server in servers:
        await server.stop()


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


def at(server, token=TOKEN):
    return f"http://127.0.0.1:{server.port}/lanes/{token}"


def expect(server, token=TOKEN):
    """The transfer's end of a lane's pipe."""
    ours, theirs = make_pipe()
    server.lanes.expect(hashlib.sha256(token.encode()).digest(), theirs)
    ours.setblocking(False)
    assert ours.recv(4) == bytes(4), "ready"
    return ours


async def read(pipe, length):
    data = b""
    while len(data) < length:
        part = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(pipe, length), 5)
        if not part:
            raise EOFError
        data += part
    return data


def behind_length(message):
    return len(message).to_bytes(4, "big") + message


async def test_what_comes_by_the_pipe_is_the_body(start, http):
    server = await start()
    loop, content = asyncio.get_running_loop(), os.urandom(3_000_000)
    with expect(server) as pipe:
        async with http.get(at(server)) as response:
            assert await read(pipe, 4) == bytes(4), "opened"
            sending = asyncio.create_task(loop.sock_sendall(pipe, content))
            assert await response.content.readexactly(len(content)) == content
            await sending
            pipe.close()
            assert await response.content.read() == b""
            headers = response.headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


async def test_messages_go_both_ways_as_a_websocket(start, http):
    server = await start()
    loop, large = asyncio.get_running_loop(), os.urandom(lanes.MAX_MESSAGE)
    with expect(server) as pipe:
        async with http.ws_connect(at(server), max_msg_size=0) as ws:
            assert await read(pipe, 4) == bytes(4), "opened"
            for message in (b"one", large):
                await loop.sock_sendall(pipe, behind_length(message))
                assert await ws.receive_bytes(timeout=5) == message
                await ws.send_bytes(message[::-1])
                assert await read(pipe, 4 + len(message)) == behind_length(message[::-1])
            pipe.close()
            assert (await ws.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_page_that_goes_closes_the_pipe(start, http, kind):
    server = await start()
    loop = asyncio.get_running_loop()
    with expect(server) as pipe:
        opening = http.get(at(server)) if kind == "http" else http.ws_connect(at(server))
        page = await opening
        await read(pipe, 4)
        page.close() if kind == "http" else await page.close()
        with pytest.raises((EOFError, ConnectionError)):  # at the latest when something is written
            async with asyncio.timeout(5):
                while True:
                    await loop.sock_sendall(pipe, behind_length(bytes(100_000)))
                    with contextlib.suppress(BlockingIOError):
                        if not pipe.recv(1):
                            raise EOFError
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "message", [b"x" * (lanes.MAX_MESSAGE + 2), "text"], ids=["too long", "text"]
)
async def test_what_may_not_come_ends_the_lane(start, http, message):
    server = await start()
    with expect(server) as pipe:
        async with http.ws_connect(at(server)) as ws:
            await read(pipe, 4)
            await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
            with pytest.raises(EOFError):
                await read(pipe, 1)


async def test_a_token_opens_one_lane_once_and_only_its_own(start, http):
    server = await start()
    with expect(server), expect(server, "B" * 43) as other:
        for token in (secrets.token_urlsafe(32), "", "A" * 42, "A" * 44):
            async with http.get(at(server, token)) as response:
                assert response.status == 404
        async with http.get(at(server)) as first:
            assert first.status == 200
            for opening in (http.get(at(server)), http.head(at(server))):
                async with opening as again:
                    assert again.status in (404, 405)
        with pytest.raises(BlockingIOError):
            other.recv(1)


async def test_a_head_request_takes_no_lane(start, http):
    """Whatever looks at links on the way must not use them up."""
    server = await start()
    with expect(server) as pipe:
        async with http.head(at(server)) as response:
            assert response.status in (404, 405)
        async with http.get(at(server)):
            assert await read(pipe, 4) == bytes(4)


async def test_a_page_of_another_origin_opens_none(start, http):
    server = await start()
    with expect(server) as pipe:
        there = {"Origin": "http://elsewhere.example"}
        async with http.get(at(server), headers=there) as response:
            assert response.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(at(server), origin=there["Origin"])
        async with http.get(at(server)):  # and uses none up
            assert await read(pipe, 4) == bytes(4)


async def test_a_standing_server_has_no_lanes(start, http):
    server = await start(own=False)
    with expect(server):
        async with http.get(at(server)) as response:
            assert response.status == 404


async def test_a_lane_that_nobody_opens_is_forgotten(start, http, monkeypatch):
    monkeypatch.setattr(lanes, "OPEN_SECONDS", 0.2)
    server = await start()
    with expect(server) as pipe:
        with pytest.raises(EOFError):
            await read(pipe, 1)
        async with http.get(at(server)) as response:
            assert response.status == 404


async def test_a_page_that_reads_nothing_is_cut_off(start, monkeypatch):
    monkeypatch.setattr(lanes, "WRITE_SECONDS", 0.5)
    server = await start()
    loop = asyncio.get_running_loop()
    with expect(server) as pipe:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(f"GET /lanes/{TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await read(pipe, 4)
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(10):
                while True:
                    await loop.sock_sendall(pipe, bytes(1_000_000))
        writer.close()
        del reader


async def test_what_a_lane_carries_is_not_counted_against_its_address(start, http):
    server = await start(bytes_per_minute=100_000, first_message_seconds=0.5, page_seconds=0.5)
    with expect(server) as pipe:
        async with http.ws_connect(at(server)) as ws:
            await read(pipe, 4)
            await asyncio.sleep(1)  # and it has no deadline
            for _ in range(10):
                await ws.send_bytes(bytes(50_000))
                await read(pipe, 50_004)


async def test_the_server_stops_though_a_lane_is_open(start, http):
    server = await start(shutdown_seconds=0.5)
    with expect(server) as pipe, expect(server, "B" * 43) as waiting:
        async with http.get(at(server)):
            await read(pipe, 4)
            async with asyncio.timeout(5):
                await server.stop()
        for end in (pipe, waiting):
            with pytest.raises((EOFError, ConnectionError)):
                await read(end, 1)
