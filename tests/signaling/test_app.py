"""The server as its clients meet it: real sockets, real limits."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from p2p.connect.seats import GuestSeat, HostSeat
from p2p.protocol.errors import Failure
from p2p.protocol.link import derive_keys
from signaling import messages
from signaling.app import Server
from signaling.certificates import open_authority
from signaling.ice import IceConfiguration
from signaling.rooms import Limits

KEYS = derive_keys(b"\x01" * 32)
OTHER = derive_keys(b"\x02" * 32)


@pytest.fixture
async def start():
    servers = []

    async def make(port=0, **limits):
        server = Server(Limits(**limits))
        await server.start("127.0.0.1", port)
        servers.append(server)
        return server

    yield make
    for server in servers:
        await server.stop()


def origin(server):
    return f"http://127.0.0.1:{server.port}"


async def raw(server, **options):
    return await connect(
        f"ws://127.0.0.1:{server.port}{messages.PATH}", compression=None, **options
    )


def create(keys=KEYS, owner=b"o" * 32, ttl=60):
    return messages.encode(
        "create", room=keys.room, join_hash=hashlib.sha256(keys.join).digest(), owner=owner, ttl=ttl
    )


async def say(socket, text):
    await socket.send(text)
    return json.loads(await asyncio.wait_for(socket.recv(), 5))


def join(keys=KEYS):
    return messages.encode("join", room=keys.room, join=keys.join)


async def test_envelopes_pass_both_ways_and_the_server_says_who_left(start):
    server = await start()
    async with await raw(server) as sender, await raw(server) as recipient:
        assert await say(sender, create()) == {"type": "created"}
        attempt = (await say(recipient, join()))["attempt"]
        assert json.loads(await sender.recv()) == {"type": "attempt", "attempt": attempt}
        envelope = {"type": "envelope", "attempt": attempt, "body": "c2VhbGVk"}
        await recipient.send(json.dumps(envelope))
        assert json.loads(await sender.recv()) == envelope
        await sender.send(json.dumps(envelope))
        assert json.loads(await recipient.recv()) == envelope
        await recipient.close()
        assert json.loads(await sender.recv()) == {"type": "left", "attempt": attempt}


async def test_both_sides_are_told_of_the_servers_for_each_attempt(start):
    server = await start()
    server._rooms._ice = IceConfiguration(("stun:a.example", "turn:b.example"), lambda: b"secret")
    async with await raw(server) as sender, await raw(server) as recipient:
        created = await say(sender, create())
        assert created == {"type": "created"}
        joined = await say(recipient, join())
        told = json.loads(await sender.recv())
    for one in (joined["ice"], told["ice"]):
        assert [server["url"] for server in one["servers"]] == ["stun:a.example", "turn:b.example"]
    assert joined["ice"] != told["ice"], "each has credentials of its own"


async def test_a_join_with_a_wrong_token_and_an_unknown_room_get_the_same_answer(start):
    server = await start()
    async with await raw(server) as sender:
        await say(sender, create())
        wrong = messages.encode("join", room=KEYS.room, join=OTHER.join)
        for text in (wrong, join(OTHER)):
            async with await raw(server) as socket:
                assert await say(socket, text) == {"type": "error", "code": "not_found"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "x" * 15_000,
        "[" * 10_000,
        '{"type":"leave","attempt":"AA"}',
        messages.encode("close"),
        messages.encode("envelope", attempt=b"a" * 16, body=b"x"),
    ],
)
async def test_signaling_flood_of_nonsense_ends_the_connection(start, text):
    server = await start()
    async with await raw(server) as socket:
        assert await say(socket, text) == {"type": "error", "code": "bad_message"}
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_a_huge_frame_and_a_binary_one_end_the_connection(start):
    server = await start()
    for frame in ("x" * 20_000, b"\x00"):
        async with await raw(server) as socket:
            await socket.send(frame)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5)


async def test_a_second_act_of_the_wrong_kind_is_refused(start):
    server = await start()
    async with await raw(server) as sender, await raw(server) as recipient:
        await say(sender, create())
        assert (await say(sender, join()))["code"] == "bad_message"
        async with await raw(server) as again:
            await say(again, create())
            await say(recipient, join())
            assert (await say(recipient, messages.encode("leave", attempt=b"x" * 16)))[
                "code"
            ] == "bad_message"


async def test_a_connection_that_says_nothing_is_closed(start):
    server = await start(first_message_seconds=0.2)
    async with await raw(server) as socket:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 5)


async def test_slow_headers_are_cut_off(start):
    server = await start(first_message_seconds=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    try:
        assert await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        pass
    writer.close()
    async with (
        aiohttp.ClientSession() as session,
        session.get(origin(server) + "/healthz") as answer,
    ):
        assert (await answer.json())["status"] == "ok"


async def test_joins_and_failed_joins_are_limited_per_address(start):
    server = await start(joins_per_minute=3, failed_joins_per_minute=2)
    codes = []
    for _ in range(3):
        async with await raw(server) as socket:
            codes.append((await say(socket, join()))["code"])
    assert codes == ["not_found", "not_found", "rate_limited"]
    server = await start(joins_per_minute=2)
    async with await raw(server) as sender:
        await say(sender, create())
        for expected in ("joined", "joined", "error"):
            async with await raw(server) as socket:
                assert (await say(socket, join()))["type"] == expected


async def test_an_attempt_has_its_share_of_time(start):
    server = await start(attempt_seconds=1.0)
    async with await raw(server) as sender, await raw(server) as recipient:
        await say(sender, create())
        await say(recipient, join())
        assert json.loads(await asyncio.wait_for(recipient.recv(), 5))["type"] == "left"


async def test_strays_about_attempts_that_are_over_are_borne_but_not_for_ever(start):
    server = await start(stray_messages=5)
    async with await raw(server) as sender:
        await say(sender, create())
        for _ in range(5):
            await sender.send(messages.encode("envelope", attempt=b"x" * 16, body=b"x"))
        assert (await say(sender, messages.encode("leave", attempt=b"x" * 16)))[
            "code"
        ] == "bad_message"


async def test_a_room_expires_and_its_sender_is_told(start):
    server = await start()
    async with await raw(server) as sender:
        await say(sender, create(ttl=1))
        assert json.loads(await asyncio.wait_for(sender.recv(), 5)) == {
            "type": "error",
            "code": "expired",
        }
    async with await raw(server) as socket:
        assert (await say(socket, join()))["code"] == "not_found"


async def test_only_the_owner_takes_the_seat_again(start):
    server = await start()
    async with await raw(server) as first, await raw(server) as thief, await raw(server) as second:
        await say(first, create())
        assert (await say(thief, create(owner=b"t" * 32)))["code"] == "room_taken"
        assert (await say(second, create()))["type"] == "created"
        with pytest.raises(ConnectionClosed):
            await first.recv()
        async with await raw(server) as recipient:
            assert (await say(recipient, join()))["type"] == "joined"


async def test_another_origin_is_refused_and_none_is_fine(start):
    server = await start()
    for other in ("https://evil.example", "null", "http://["):
        with pytest.raises(InvalidStatus) as caught:
            await raw(server, origin=other)
        assert caught.value.response.status_code == 403
    async with await raw(server, origin=origin(server)) as socket:
        assert (await say(socket, create()))["type"] == "created"


async def test_connections_are_limited(start):
    server = await start(connections=1)
    async with await raw(server) as sender:
        await say(sender, create())
        with pytest.raises(InvalidMessage):
            await raw(server)


async def test_logs_hold_no_address_room_or_token(start, caplog):
    caplog.set_level(logging.DEBUG, logger="handover")
    server = await start()
    async with await raw(server) as sender, await raw(server) as recipient:
        await say(sender, create())
        await say(recipient, join())
        async with await raw(server) as wrong:
            await say(wrong, join(OTHER))
    text = caplog.text
    assert "refused: not_found" in text
    for secret in (messages.encode_bytes(KEYS.room), messages.encode_bytes(KEYS.join), "127.0.0.1"):
        assert secret not in text


class Unlucky(Exception):
    """A defect whose text holds what was asked for."""


async def test_logs_hold_no_path_whatever_becomes_of_the_request(start, caplog, monkeypatch):
    """A link whose `#` a mail filter has encoded is in the path: served, refused, failed, broken
    or cut off, it is not logged, by us or by what we use."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    secret = "SECRET-of-the-link"
    limits = {"frames_per_minute": 12, "first_message_seconds": 0.5, "page_seconds": 0.5}
    server = await start(**limits)

    async def ask(request):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request.encode())
        try:
            answer = await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            answer = b""
        writer.close()
        return answer.split(b" ")[1].decode() if answer else ""

    end = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    path, answers = f"/%231.{secret}.C", {}
    for name, request in {
        "served": f"GET {path} {end}\r\n",
        "referrer": f"GET /nothing {end}Referer: http://x{path}\r\n\r\n",
        "unknown": f"GET /x{path} {end}\r\n",
        "method": f"POST {path} {end}Content-Length: 0\r\n\r\n",
        "odd method": f"BRE\x01W {path} {end}\r\n",
        "version": f"GET {path} HTTP/9.9\r\n\r\n",
        "header": f"GET {path} {end}{secret}\r\n\r\n",
        "host": f"GET {path} HTTP/1.1\r\nHost: [::{secret}\r\nConnection: close\r\n\r\n",
        "body": f"GET {path} {end}Content-Length: -1\r\n\r\n",
        "expectation": f"GET {path} {end}Expect: {secret}\r\n\r\n",
        "upgrade": f"GET /signal?{path} {end}Upgrade: websocket\r\n\r\n",
        "cut off": f"GET {path} HTTP/1.1\r\nHost: x\r\n",
        "too long": f"GET {path}{'x' * 9000} {end}\r\n\r\n",
    }.items():
        answers[name] = await ask(request)

    async def unlucky(self, request):
        raise Unlucky(request.path)

    monkeypatch.setattr(Server, "_page", unlucky)
    server = await start()
    answers["failed"] = await ask(f"GET {path} {end}\r\n")
    server = await start(frames_per_minute=0)
    answers["refused"] = await ask(f"GET {path} {end}\r\n")
    assert answers == {
        "served": "200",
        "referrer": "404",
        "unknown": "404",
        "method": "405",
        "odd method": "400",
        "version": "400",
        "header": "400",
        "host": "200",
        "body": "400",
        "expectation": "417",
        "upgrade": "400",
        "cut off": "",
        "too long": "400",
        "failed": "500",
        "refused": "429",
    }
    assert "a request failed: Unlucky" in caplog.text
    assert secret not in caplog.text


async def test_the_senders_client_takes_its_room_again_after_a_restart_with_empty_memory(start):
    server = await start()
    port = server.port
    states: list[bool] = []
    seat = HostSeat(origin(server), KEYS, 60, bytes(32))
    holding = asyncio.create_task(seat.run(states.append))
    await asyncio.wait_for(seat.ready.wait(), 5)
    await server.stop()
    while states != [True, False]:
        await asyncio.sleep(0.05)
    server = await start(port=port)
    while states[-1] is False:
        await asyncio.sleep(0.05)
    async with GuestSeat(origin(server), KEYS) as mine:
        theirs = await asyncio.wait_for(seat.attempts.get(), 5)
        assert theirs.id == mine.id
        await mine.send(b"knock")
        assert await theirs.recv() == b"knock"
        await theirs.send(b"answer")
        assert await mine.recv() == b"answer"
        await theirs.leave()
        assert await mine.recv() is None
    await seat.close()
    holding.cancel()
    async with await raw(server) as socket:
        assert (await say(socket, join()))["code"] == "not_found"


async def test_the_clients_say_what_is_wrong_with_a_server(start, unused_tcp_port):
    server = await start()
    for where, keys, code in (
        (origin(server), KEYS, "not_found"),
        (f"http://127.0.0.1:{unused_tcp_port}", KEYS, "server_unreachable"),
    ):
        with pytest.raises(Failure) as caught:
            async with GuestSeat(where, keys):
                pass
        assert caught.value.code == code
        assert "127.0.0.1" not in caught.value.sentence

    async def not_handover(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(not_handover, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    with pytest.raises(Failure) as caught:
        await HostSeat(f"http://127.0.0.1:{port}", KEYS, 60, bytes(32)).run(lambda there: None)
    assert caught.value.code == "server_refused"
    other.close()
    with pytest.raises(Failure) as caught:
        await HostSeat(origin(server), KEYS, 0.5, bytes(32)).run(lambda there: None)
    assert caught.value.code == "expired"
    with pytest.raises(Failure) as caught:
        await HostSeat(f"http://127.0.0.1:{unused_tcp_port}", KEYS, 60, bytes(32)).run(
            lambda there: None
        )
    assert caught.value.code == "server_unreachable"


async def test_the_client_goes_on_without_trust_and_says_so_once_without_a_host(
    tmp_path, caplog, monkeypatch
):
    authority = open_authority(tmp_path / "ca", [], [])
    server = Server()
    await server.start("127.0.0.1", 0, authority.issue([], []).context)
    where = f"https://127.0.0.1:{server.port}"
    caplog.set_level(logging.WARNING)

    async def meet():
        seat = HostSeat(where, KEYS, 60, bytes(32))
        holding = asyncio.create_task(seat.run(lambda there: None))
        await asyncio.wait_for(seat.ready.wait(), 5)
        caplog.clear()
        async with GuestSeat(where, KEYS) as mine:
            theirs = await asyncio.wait_for(seat.attempts.get(), 5)
            assert theirs.id == mine.id
        said = [record.getMessage() for record in caplog.records]
        await seat.close()
        holding.cancel()
        return said

    (line,) = await meet()
    assert "not trusted" in line
    assert "127.0.0.1" not in line
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))  # trusted: nothing to say
    assert await meet() == []
    await server.stop()


async def test_a_flood_from_the_server_ends_the_attempt(start):
    server = await start(attempt_messages=10_000, attempt_bytes=10**9)
    async with await raw(server) as sender:
        await say(sender, create())
        async with GuestSeat(origin(server), KEYS) as mine:
            attempt = json.loads(await sender.recv())["attempt"]
            for _ in range(400):
                await sender.send(
                    json.dumps({"type": "envelope", "attempt": attempt, "body": "AAAA"})
                )
            await asyncio.sleep(0.5)
            got = [await mine.recv() for _ in range(mine.inbox.qsize())]
            assert None in got
            assert len(got) <= 257  # with the end
