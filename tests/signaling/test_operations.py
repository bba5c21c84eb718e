"""What an operator's machines are told, and how a node is taken out of service."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from p2p.protocol.link import derive_keys
from signaling import messages, redis_store, seats
from signaling.app import Server
from signaling.operations import Operations
from signaling.redis_store import RedisStore
from signaling.rooms import Kind, Limits
from signaling.store import Unavailable, Word

from .test_app import KEYS, create, join, raw, say


@pytest.fixture
async def place():
    """Makes (a server, where its operator asks)."""
    made = []

    async def make(store=None, days=7, **limits):
        server = Server(Limits(**limits), store=store)
        await server.start("127.0.0.1", 0)
        operations = Operations(server, days)
        await operations.start("127.0.0.1", 0)
        made.append((server, operations))
        return server, operations

    yield make
    for server, operations in made:
        await operations.stop()
        await server.stop()


async def ask(operations, path):
    """Status and text."""
    url = f"http://127.0.0.1:{operations.port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def measured(operations):
    status, text = await ask(operations, "/metrics")
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("handover_") and not sample.name.endswith("_created")
    }


async def comes_to(operations, *key):
    """Wait until something has been counted; how often."""
    async with asyncio.timeout(10):
        while not (found := (await measured(operations)).get(key)):
            await asyncio.sleep(0.02)
    return found


async def test_what_goes_on_is_counted(place):
    server, operations = await place()
    async with await raw(server) as sender, await raw(server) as recipient:
        await say(sender, create())
        attempt = (await say(recipient, join()))["attempt"]
        await sender.recv()
        envelope = {"type": "envelope", "attempt": attempt, "body": "c2VhbGVk"}
        for one, other in ((recipient, sender), (sender, recipient)):
            await one.send(json.dumps(envelope))
            await other.recv()
        async with await raw(server) as stranger:
            await say(stranger, join(derive_keys(b"\x07" * 32)))
        told = await measured(operations)
        await recipient.close(4001)
        await sender.recv()
    assert told["handover_rooms",] == 1
    assert told["handover_connections",] >= 2
    assert told["handover_rooms_created_total",] == 1
    assert told["handover_attempts_total",] == 1
    assert told["handover_envelopes_total",] == 2
    assert told["handover_refusals_total", "not_found"] == 1
    assert told["handover_store_up",] == 1
    assert await comes_to(operations, "handover_outcomes_total", "tls") == 1
    later = await measured(operations)
    assert later["handover_connect_seconds_count",] == 1
    assert later["handover_connect_seconds_bucket", "20.0"] == 1
    assert later["handover_connect_seconds_sum",] > 0


async def test_a_guest_says_how_it_went_also_when_the_host_was_the_first_to_leave(place):
    server, operations = await place()
    async with await raw(server) as sender, await raw(server) as recipient:
        await say(sender, create())
        attempt = (await say(recipient, join()))["attempt"]
        await sender.send(json.dumps({"type": "leave", "attempt": attempt}))
        assert json.loads(await recipient.recv())["type"] == "left"
        await recipient.close(4000)
    assert await comes_to(operations, "handover_outcomes_total", "direct") == 1


async def test_only_guests_who_joined_report_and_only_what_is_known(place):
    server, operations = await place()
    async with await raw(server) as stranger:
        await stranger.close(4000)
    async with await raw(server) as sender:
        await say(sender, create())
        async with await raw(server) as guest:
            await say(guest, join())
            await guest.close(4999)
        await sender.close(4000)
    await asyncio.sleep(0.1)
    assert not [key for key in await measured(operations) if "outcomes" in key[0]]


async def test_no_answer_names_a_room_an_address_or_a_token(place):
    server, operations = await place()
    async with await raw(server) as sender, await raw(server) as recipient:
        await say(sender, create())
        attempt = (await say(recipient, join()))["attempt"]
        for path in ("/metrics", "/readyz", "/healthz"):
            _, text = await ask(operations, path)
            for planted in (KEYS.room, KEYS.join, b"o" * 32):
                assert messages.encode_bytes(planted) not in text
                assert planted.hex() not in text
            assert attempt not in text
            assert "127.0.0.1" not in text


async def test_a_node_is_ready_while_it_can_serve(place):
    server, operations = await place()
    assert await ask(operations, "/readyz") == (
        200,
        '{"status": "ok", "accepting": "ok", "store": "ok"}',
    )
    server.certificate(datetime.now(UTC) + timedelta(days=8))
    assert (await ask(operations, "/readyz"))[0] == 200
    server.certificate(datetime.now(UTC) + timedelta(days=6.5))
    status, text = await ask(operations, "/readyz")
    assert (status, json.loads(text)["certificate"]) == (503, "6.5 days left")
    assert await ask(operations, "/healthz") == (200, '{"status": "ok"}')
    assert (await measured(operations))["handover_certificate_expiry_timestamp_seconds",] > 1e9


async def test_a_node_without_its_store_is_not_ready(place, unused_tcp_port, caplog, monkeypatch):
    monkeypatch.setattr(redis_store, "WAIT_SECONDS", 1.0)
    caplog.set_level(logging.WARNING)
    server, operations = await place(RedisStore(f"redis://127.0.0.1:{unused_tcp_port}/0"))
    status, text = await ask(operations, "/readyz")
    assert (status, json.loads(text)["store"]) == (503, "unreachable")
    async with await raw(server) as sender:
        assert await say(sender, create()) == {"type": "error", "code": "unavailable"}
    assert (await measured(operations))["handover_refusals_total", "unavailable"] == 1
    assert caplog.text.count("Redis does not answer") == 1


async def test_a_node_that_drains_sends_away_who_waits_and_lets_attempts_end(place):
    server, operations = await place()
    other = derive_keys(b"\x05" * 32)
    async with (
        await raw(server) as waiting,
        await raw(server) as sender,
        await raw(server) as guest,
    ):
        await say(waiting, create(other, owner=b"p" * 32))
        await say(sender, create())
        attempt = (await say(guest, join()))["attempt"]
        await sender.recv()
        draining = asyncio.create_task(server.drain(10))
        assert json.loads(await waiting.recv())["code"] == "going_away"
        assert (await ask(operations, "/readyz"))[0] == 503
        for text in (create(other, owner=b"p" * 32), join(other)):
            async with await raw(server) as late:
                assert (await say(late, text))["code"] == "going_away"
        envelope = {"type": "envelope", "attempt": attempt, "body": "c2VhbGVk"}
        await guest.send(json.dumps(envelope))
        assert json.loads(await sender.recv()) == envelope
        assert not draining.done()
        await sender.send(json.dumps({"type": "leave", "attempt": attempt}))
        assert json.loads(await guest.recv())["type"] == "left"
        assert json.loads(await sender.recv())["type"] == "left"
        assert json.loads(await sender.recv())["code"] == "going_away"
        await draining


async def test_draining_waits_for_an_attempt_but_not_for_ever(place):
    server, _ = await place()
    async with await raw(server) as sender, await raw(server) as guest:
        await say(sender, create())
        await say(guest, join())
        began = asyncio.get_running_loop().time()
        await server.drain(0.3)
        assert 0.25 < asyncio.get_running_loop().time() - began < 5


async def test_metrics_are_nowhere_else(place):
    server, _ = await place()
    url = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session:
        for path in ("/metrics", "/readyz"):
            async with session.get(url + path) as answer:
                assert answer.status == 404


async def test_a_seat_that_is_taken_over_before_it_was_had_is_counted_as_none(place):
    """Another node was quicker than the store's answer."""
    server, operations = await place()
    create_room = server._store.create

    async def taken_over(*given, **named):
        told = await create_room(*given, **named)
        server._rooms.take(Word(Kind.REPLACED, given[-1]))
        return told

    server._store.create = taken_over
    async with await raw(server) as sender:
        await sender.send(create())
        with pytest.raises(ConnectionClosed):
            await sender.recv()
    assert (await measured(operations))["handover_rooms",] == 0


async def test_what_becomes_of_a_room_is_said_until_the_store_has_heard(place, monkeypatch):
    monkeypatch.setattr(seats, "AGAIN_SECONDS", 0.05)
    server, _ = await place()
    finish, tries = server._store.finish, []

    async def at_first_not(*given):
        tries.append(given)
        if len(tries) < 4:
            raise Unavailable
        return await finish(*given)

    server._store.finish = at_first_not
    async with await raw(server) as sender:
        await say(sender, create())
        await sender.send(messages.encode("close"))
        async with asyncio.timeout(5):
            while len(tries) < 4:
                await asyncio.sleep(0.02)
    async with await raw(server) as guest:
        assert (await say(guest, join()))["reason"] == "closed"
