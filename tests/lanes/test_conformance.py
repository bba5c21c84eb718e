"""One suite for every engine and every pairing: what a lane promises, the clogged pipe included."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest

from p2p.lanes import ENGINES, LaneLost, available, load
from p2p.lanes.sdp import build, read_own, read_own_candidates
from p2p.protocol.errors import Failure
from p2p.protocol.signal import Candidate, Description

PAIRINGS = list(itertools.product(available(), repeat=2))
NONCE = bytes(16)


async def connect(offering, answering):
    one, other = load(offering)(offerer=True), load(answering)(offerer=False)

    async def feed(source, sink):
        async for candidate in source.candidates():
            await sink.add_candidates((candidate,))

    description = await one.describe(NONCE, NONCE)
    assert description.fingerprint == one.fingerprint
    await other.set_remote(description)
    await one.set_remote(await other.describe(NONCE, NONCE))
    feeding = [asyncio.create_task(feed(one, other)), asyncio.create_task(feed(other, one))]
    async with asyncio.timeout(20):
        await asyncio.gather(one.opened(), other.opened())
    for task in feeding:
        task.cancel()
    await asyncio.gather(*feeding, return_exceptions=True)
    return one, other


@pytest.fixture(params=PAIRINGS, ids="-".join)
async def connected(request):
    one, other = await connect(*request.param)
    yield one, other
    await asyncio.gather(one.close(), other.close())


async def test_messages_arrive_whole_and_in_order_both_ways_on_both_lanes(connected):
    one, other = connected
    for a, b in ((one, other), (other, one)):
        for name in ("control", "data"):
            sender, receiver = getattr(a, name), getattr(b, name)
            sizes = [1, 2, 1000, 16_384, 65_000, sender.max_message_size]
            messages = [os.urandom(size) for size in sizes]
            for message in messages:
                await sender.send(message)
            assert [await receiver.recv() for _ in messages] == messages


async def test_both_ends_agree_on_a_size_both_can_take(connected):
    one, other = connected
    assert 65_535 <= one.data.max_message_size <= 262_144
    assert other.data.max_message_size <= 262_144


async def test_a_message_that_is_too_long_is_refused_before_it_is_sent(connected):
    one, other = connected
    with pytest.raises(ValueError, match="too long"):
        await one.data.send(bytes(one.data.max_message_size + 1))
    await one.data.send(b"still works")
    assert await other.data.recv() == b"still works"


async def test_a_clogged_pipe_makes_the_sender_wait_and_loses_nothing(connected):
    """The queue stays bounded however fast one sends, and every message arrives in order."""
    one, other = connected
    size = one.data.max_message_size
    count = 12 * 1024 * 1024 // size
    head = [i.to_bytes(4, "big") for i in range(count)]
    peak = 0

    async def send():
        nonlocal peak
        for number in head:
            await one.data.send(number + bytes(size - 4))
            channel = one.data.channel
            peak = max(
                peak,
                getattr(channel, "buffered_amount", 0) or getattr(channel, "bufferedAmount", 0),
            )

    sending = asyncio.create_task(send())
    got = [(await other.data.recv())[:4] for _ in head]
    await sending
    assert got == head
    assert peak <= 4 * 1024 * 1024 + size


async def test_a_lost_lane_wakes_whoever_waits(connected):
    one, other = connected
    waiting = [asyncio.create_task(lane.recv()) for lane in (other.control, other.data)]
    await asyncio.sleep(0.1)
    await one.close()
    for task in waiting:
        with pytest.raises(LaneLost):
            await asyncio.wait_for(task, 20)
    with pytest.raises(LaneLost):
        for _ in range(1000):
            await other.control.send(b"x")
            await asyncio.sleep(0.01)


async def test_what_was_sent_before_a_close_arrives(connected):
    one, other = connected
    for number in range(50):
        await one.control.send(bytes([number]) * 1000)
    closing = asyncio.create_task(one.close())
    assert [(await other.control.recv())[0] for _ in range(50)] == list(range(50))
    await closing


async def test_a_connection_that_never_opened_closes_quietly():
    for engine in available():
        connection = load(engine)(offerer=True)
        await connection.describe(NONCE, NONCE)
        await connection.close()
        untouched = load(engine)(offerer=False)
        await untouched.close()


def test_an_engine_that_is_not_installed_is_said_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "p2p.lanes.aiortc", None)
    with pytest.raises(Failure) as caught:
        load("aiortc")
    assert caught.value.code == "engine_missing"


def test_the_portable_engine_is_always_there():
    assert "aiortc" in available()
    assert set(available()) <= set(ENGINES)


def test_sdp_is_written_from_fields_and_holds_nothing_else():
    candidate = Candidate("1", 5, "192.0.2.2", 40000, "srflx")
    description = Description(
        NONCE, NONCE, "abcd", "p" * 22, b"\xab" * 32, "active", 65536, (candidate,)
    )
    text = build(description)
    assert "a=candidate:1 1 udp 5 192.0.2.2 40000 typ srflx raddr 0.0.0.0 rport 9\r\n" in text
    assert text.count("a=fingerprint:") == 1
    again = read_own(text, NONCE, NONCE, 65536)
    assert again == Description(NONCE, NONCE, "abcd", "p" * 22, b"\xab" * 32, "active", 65536)
    assert read_own_candidates(text) == (candidate,)
    tcp = "candidate:1 1 tcp 5 192.0.2.2 9 typ host tcptype active"
    assert read_own_candidates(tcp) == ()
    for missing in ("a=fingerprint", "a=ice-ufrag"):
        with pytest.raises(ValueError, match="no "):
            read_own(text.replace(missing, "a=x"), NONCE, NONCE, 65536)
