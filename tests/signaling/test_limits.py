"""What a hostile client runs into, one limit at a time: no other is near."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import socket
import time

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from p2p.connect.seats import GuestSeat, HostSeat
from p2p.protocol.link import derive_keys
from signaling import app, connections, messages
from signaling import web_assets as pages
from signaling.app import Server
from signaling.proxies import Proxies
from signaling.rooms import Limits, Rates

KEYS, OTHER = derive_keys(b"\x01" * 32), derive_keys(b"\x02" * 32)
OWNER = b"o" * 32
STRANGER = "127.0.0.66"
LAX = {"attempt_messages": 10**6, "attempt_bytes": 10**9, "bytes_per_minute": 10**9,
       "frames_per_minute": 10**6, "unsent_messages": 10**6, "unsent_bytes": 10**9,
       "write_seconds": 60.0, "attempt_seconds": 60.0}  # fmt: skip
UPGRADE = (
    b"GET /signal HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.fixture
async def start():
    servers = []

    async def make(trusted=(), owner_hash=None, **limits):
        server = Server(Limits(**limits), trusted, owner_hash)
        await server.start("127.0.0.1", 0)
        servers.append(server)
        return server

    yield make
    for server in servers:
        await server.stop()


def create(keys=KEYS, owner=OWNER, join_hash=None, ttl=60):
    join_hash = join_hash or hashlib.sha256(keys.join).digest()
    return messages.encode("create", room=keys.room, join_hash=join_hash, owner=owner, ttl=ttl)


def join(keys=KEYS):
    return messages.encode("join", room=keys.room, join=keys.join)


async def raw(server, **options):
    where = f"ws://127.0.0.1:{server.port}{messages.PATH}"
    return await connect(where, **{"compression": None, "close_timeout": 0.1, **options})


async def hear(one):
    async with asyncio.timeout(5):
        return json.loads(await one.recv())


async def say(one, text):
    await one.send(text)
    return await hear(one)


async def plain(server, address=STRANGER):
    return await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))


def frame(text):
    """A text frame as a client sends it."""
    data = text.encode()
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


async def ends(reader, seconds=5.0):
    """How long until the other side closes."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
    return time.monotonic() - began


# --- an attempt


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [({"attempt_messages": 3}, [1] * 4), ({"attempt_bytes": 10_000}, [9000, 1000, 1])],
)
@pytest.mark.parametrize("who", ["host", "guest"])
async def test_an_attempt_has_so_many_envelopes_and_bytes_in_each_direction(
    start, limits, sizes, who
):
    """All but the last are passed on; the attempt is over long before its time is."""
    server = await start(**limits)
    async with await raw(server) as host, await raw(server) as guest:
        await say(host, create())
        attempt = messages.decode(json.dumps(await say(guest, join())), messages.FROM_SERVER)
        await hear(host)
        one, other = (host, guest) if who == "host" else (guest, host)
        for size in sizes:
            await one.send(
                messages.encode("envelope", attempt=attempt["attempt"], body=b"x" * size)
            )
        assert [(await hear(other))["type"] for _ in sizes] == [
            *["envelope"] * (len(sizes) - 1),
            "left",
        ]
        assert (await hear(one))["type"] == "left"
        assert await hear(one) == {"type": "error", "code": "rate_limited"}


@pytest.mark.parametrize(
    ("size", "passes"), [(messages.MAX_BODY, True), (messages.MAX_BODY + 1, False)]
)
async def test_an_envelope_has_9_kib(start, size, passes):
    server = await start()
    async with await raw(server) as host, await raw(server) as guest:
        await say(host, create())
        attempt = messages.decode(json.dumps(await say(guest, join())), messages.FROM_SERVER)
        await hear(host)
        await guest.send(messages.encode("envelope", attempt=attempt["attempt"], body=b"x" * size))
        if passes:
            assert (await hear(host))["type"] == "envelope"
        else:
            assert (await hear(guest))["code"] == "bad_message"


# --- who does not read, or does not answer


@pytest.mark.parametrize(
    "limit", [{"write_seconds": 0.5}, {"unsent_messages": 8}, {"unsent_bytes": 50_000}]
)
async def test_who_does_not_read_is_cut_off_by_each_of_three_limits(start, limit):
    """A guest that is deaf, while its host goes on. No other limit is near."""
    server = await start(**LAX | limit)
    server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # what it accepts has it
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        async with await raw(server) as host:
            await say(host, create())
            await loop.sock_connect(deaf, ("127.0.0.1", server.port))
            await loop.sock_sendall(deaf, UPGRADE + frame(join()))
            attempt = messages.decode(json.dumps(await hear(host)), messages.FROM_SERVER)["attempt"]
            body = messages.encode("envelope", attempt=attempt, body=bytes(messages.MAX_BODY))
            for _ in range(100):  # 1.2 MB
                await host.send(body)
            assert (await hear(host))["type"] == "left"


async def test_who_does_not_answer_the_end_of_a_connection_is_cut_off(start):
    server = await start(shutdown_seconds=0.4)
    reader, writer = await plain(server)
    writer.write(UPGRADE + frame(create()) + frame("nonsense"))
    async with asyncio.timeout(5):
        await reader.readuntil(b"bad_message")
    assert await ends(reader, 4) < 3  # it has read the end, and says nothing
    writer.close()


async def test_whoever_answers_no_ping_is_gone(start, monkeypatch):
    """Half open: a seat whose peer the network has swallowed. Who answers stays."""
    monkeypatch.setattr(app, "PING_SECONDS", 0.4)
    server = await start()
    async with await raw(server, ping_interval=None) as lively:
        await say(lively, create(OTHER, b"l" * 32))
        reader, writer = await plain(server)
        writer.write(UPGRADE + frame(create()))
        assert 0.4 < await ends(reader) < 3
        writer.close()
        await asyncio.sleep(0.5)
        assert server.rooms == 1
        async with await raw(server) as guest:
            assert (await say(guest, join(OTHER)))["type"] == "joined"
        assert (await hear(lively))["type"] == "attempt"


# --- frames


async def test_pieces_of_a_message_are_no_way_around_its_size(start):
    """16 KiB, however they come; no other limit is near."""
    server = await start(first_message_seconds=60.0, bytes_per_minute=10**9)
    reader, writer = await plain(server)
    piece = b"\0\0\0\0" + b"x" * 100
    writer.write(UPGRADE + b"\x01\xe4" + piece + 160 * (b"\x00\xe4" + piece))  # 16,100 bytes
    await writer.drain()
    with pytest.raises(TimeoutError):
        await ends(reader, 0.3)
    writer.write(10 * (b"\x00\xe4" + piece))
    assert await ends(reader) < 3
    writer.close()


async def test_nothing_is_compressed_and_nothing_that_is_is_taken(start):
    """A small frame could blow up to a large one."""
    server = await start(first_message_seconds=60.0)
    async with await raw(server, compression="deflate") as peer:
        assert peer.protocol.extensions == []
        assert peer.response is not None
        assert "Sec-WebSocket-Extensions" not in peer.response.headers
        assert await say(peer, create()) == {"type": "created"}
    offered = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    reader, writer = await plain(server)
    writer.write(UPGRADE[:-2] + offered + b"\xc1\x85\0\0\0\0\x4a\x4c\x4a\x06\x00")
    assert await ends(reader) < 3
    writer.close()


# --- pages


async def test_so_many_bytes_of_the_web_client_for_an_address(start, monkeypatch):
    monkeypatch.setattr(pages, "shipped", lambda: {"/": b"x" * 100, "/assets/a.js": b"y" * 100})
    server = await start(served_per_minute=300)

    async def get(path, address):
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        headers = {"Sec-Fetch-Mode": "navigate"}
        where = f"http://127.0.0.1:{server.port}{path}"
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(where, headers=headers) as answer,
        ):
            await answer.read()
            return answer.status

    paths = ("/", "/assets/a.js", "/%231.K.C", "/", "/assets/a.js")
    assert [await get(path, STRANGER) for path in paths] == [200] * 3 + [429] * 2
    assert await get("/healthz", STRANGER) == 200
    assert await get("/", "127.0.0.1") == 200


# --- addresses


async def test_a_client_that_a_proxy_named_names_nobody_else(start):
    """By the PROXY protocol it is known who asks; its own `X-Forwarded-For` counts for nothing."""
    server = await start([ipaddress.ip_network("127.0.0.0/8")], frames_per_minute=2)

    async def ask(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"X-Forwarded-For: 203.0.113.%d\r\n\r\n" % number
        )
        async with asyncio.timeout(5):
            status = (await reader.readline()).split()[1]
        writer.close()
        return status

    assert [await ask(number) for number in range(3)] == [b"200", b"200", b"429"]


def test_addresses_have_another_key_every_day(monkeypatch):
    made = connections.Connections(Limits(), Rates(Limits()), Proxies())
    here = ipaddress.ip_address("192.0.2.1")
    first = made.origin_of(here)
    assert made.origin_of(here) == first
    made._key_ends = time.monotonic()  # the day is over
    assert not {*made.origin_of(here).__dict__.values()} & {*first.__dict__.values()}


# --- tokens


async def test_who_has_stolen_an_owner_token_has_to_give_the_seat_back(start):
    """The host comes again by itself, and so does whoever has the link."""
    server = await start()
    states: list[bool] = []
    seat = HostSeat(f"http://127.0.0.1:{server.port}", KEYS, 60, OWNER)
    holding = asyncio.create_task(seat.run(states.append))
    async with asyncio.timeout(10):
        await seat.ready.wait()
        async with await raw(server) as thief:
            assert await say(thief, create()) == {"type": "created"}
            with pytest.raises(ConnectionClosed):
                await thief.recv()  # the host is back
        while states != [True, False, True]:
            await asyncio.sleep(0.02)
        async with GuestSeat(f"http://127.0.0.1:{server.port}", KEYS) as guest:
            assert (await seat.attempts.get()).id == guest.id
    await seat.close()
    holding.cancel()


async def test_a_stolen_owner_token_makes_no_other_link_good_for_the_room(start):
    server = await start()
    mine = hashlib.sha256(OTHER.join).digest()
    wrong = messages.encode("join", room=KEYS.room, join=OTHER.join)
    async with await raw(server) as host, await raw(server) as thief:
        await say(host, create())
        assert await say(thief, create(join_hash=mine)) == {"type": "created"}
        with pytest.raises(ConnectionClosed):
            await host.recv()
        async with await raw(server) as guest:
            assert await say(guest, wrong) == {"type": "error", "code": "not_found"}
        async with await raw(server) as guest:
            assert (await say(guest, join()))["type"] == "joined"


async def test_guesses_of_an_owner_token_change_nothing_and_are_counted_as_connections(start):
    server = await start(opened_per_minute=10)
    async with await raw(server) as host:
        await say(host, create())
        for guess in range(10):
            async with await raw(server, local_addr=(STRANGER, 0)) as stranger:
                refused = {"type": "error", "code": "room_taken"}
                assert await say(stranger, create(owner=bytes([guess]) * 32)) == refused
        reader, writer = await plain(server)
        assert await ends(reader) < 1
        writer.close()
        async with await raw(server) as guest:
            assert (await say(guest, join()))["type"] == "joined"
        assert (await hear(host))["type"] == "attempt"


async def test_pages_first_are_no_way_to_sit_silent_for_longer(start):
    server = await start(first_message_seconds=0.5, page_seconds=3.0)
    reader, writer = await plain(server)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"}")
    writer.write(UPGRADE)
    took = await ends(reader)
    writer.close()
    assert took < 2
