"""What every lane promises, whatever carries it: one suite for both engines in every pairing, for
TLS connections and for direct lanes, the clogged pipe included; then what a connection promises."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from typing import NamedTuple

import pytest

from p2p.connect.addresses import reachable
from p2p.lanes import Lane, LaneLost
from p2p.lanes.streams import ThreadedLane
from p2p.lanes.tls.connection import TlsConnection
from p2p.lanes.tls.direct import DirectLanes
from p2p.lanes.webrtc import ENGINES, available, load
from p2p.lanes.webrtc.sdp import build, read_own, read_own_candidates
from p2p.protocol.errors import Failure
from p2p.protocol.signal import Candidate, Description

PAIRINGS = ["-".join(pairing) for pairing in itertools.product(available(), repeat=2)]
pytestmark = pytest.mark.engine
NONCE = bytes(16)
QUEUE = 4 * 1024 * 1024  # the largest that any lane keeps before its sender waits


async def by_webrtc(pairing):
    """Two ends of a WebRTC connection: (the offerer's, the answerer's)."""
    offering, answering = pairing.split("-")
    one, other = load(offering).make(offerer=True), load(answering).make(offerer=False)

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


@pytest.mark.parametrize("engine", available())
async def test_who_uses_relays_alone_tells_of_no_address_of_its_own(engine):
    connection = load(engine).make(offerer=True, relay_only=True)
    await connection.describe(NONCE, NONCE)
    async with asyncio.timeout(20):
        assert [one async for one in connection.candidates()] == []
    await connection.close()


async def by_tls():
    """Two ends of a TLS connection: (the host's, the guest's)."""
    host, guest = await TlsConnection.open(), await TlsConnection.open()
    async with asyncio.timeout(20):
        await asyncio.gather(
            host.opened(reachable(), guest.port, guest.certificate, host=True),
            guest.opened(reachable(), host.port, host.certificate, host=False),
        )
    return host, guest


@contextlib.asynccontextmanager
async def connection(kind):
    """Two ends of a connection of any kind."""
    one, other = await (by_tls() if kind == "tls" else by_webrtc(kind))
    try:
        yield one, other
    finally:
        await asyncio.gather(one.close(), other.close())


@contextlib.asynccontextmanager
async def direct_lane():
    """A direct lane: (the end that writes, the end that reads)."""
    one, other = await DirectLanes.open(), await DirectLanes.open()
    one.trust(other.certificate)
    other.trust(one.certificate)
    serving = asyncio.create_task(other.serve())
    made = await one.connect(reachable()[:1], other.port)
    taken = await asyncio.wait_for(other.accept(), 5)
    try:
        yield made, taken
    finally:
        for lane in (made, taken):
            lane.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        one.close()
        other.close()


class Pipe(NamedTuple):
    """A lane: its sending end, its receiving end, and what loses it."""

    sender: Lane
    receiver: Lane
    lose: object

    def queued(self):
        """Bytes that the sending end keeps."""
        lane = self.sender
        if hasattr(lane, "channel"):
            channel = lane.channel
            return getattr(channel, "buffered_amount", 0) or getattr(channel, "bufferedAmount", 0)
        if hasattr(lane, "_writer"):
            return lane._writer.transport.get_write_buffer_size()
        assert isinstance(lane, ThreadedLane)
        return lane._bytes


CONNECTIONS = [*PAIRINGS, "tls"]
PIPES = [f"{kind} {lane}" for kind in CONNECTIONS for lane in ("control", "data")]


@pytest.fixture(params=[*PIPES, "direct"])
async def pipe(request):
    """A lane of any kind, in one direction; the other way round is another pairing."""
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "direct":
            made, taken = await stack.enter_async_context(direct_lane())

            async def lose():
                made.close()

            yield Pipe(made, taken, lose)
        else:
            kind, name = request.param.split()
            one, other = await stack.enter_async_context(connection(kind))
            yield Pipe(getattr(one, name), getattr(other, name), one.close)


@pytest.fixture(params=CONNECTIONS)
async def connected(request):
    """Both ends of a connection of any kind."""
    async with connection(request.param) as ends:
        yield ends


# --- a lane ---------------------------------------------------------------------------------------


async def test_messages_arrive_whole_and_in_order(pipe):
    sizes = [1, 2, 1000, 16_384, 65_000, pipe.sender.max_message_size]
    messages = [os.urandom(size) for size in sizes] * 2
    for message in messages:
        await pipe.sender.send(message)
    assert [await pipe.receiver.recv() for _ in messages] == messages


async def test_a_message_that_is_too_long_is_refused_before_it_is_sent(pipe):
    assert 65_535 <= pipe.sender.max_message_size <= 262_144
    with pytest.raises(ValueError, match="too long"):
        await pipe.sender.send(bytes(pipe.sender.max_message_size + 1))
    await pipe.sender.send(b"still works")
    assert await pipe.receiver.recv() == b"still works"


async def test_a_clogged_pipe_makes_the_sender_wait_and_loses_nothing(pipe):
    """The queue stays bounded however fast one sends, and every message arrives in order."""
    size = pipe.sender.max_message_size
    head = [number.to_bytes(4, "big") for number in range(3 * QUEUE // size)]
    peak = 0

    async def send():
        nonlocal peak
        for number in head:
            await pipe.sender.send(number + bytes(size - 4))
            peak = max(peak, pipe.queued())

    sending = asyncio.create_task(send())
    got = [(await pipe.receiver.recv())[:4] for _ in head]
    await sending
    assert got == head
    assert peak <= QUEUE + size


async def test_control_messages_of_an_honest_peer_survive_a_busy_loop(connected):
    """As many as 200,000 withdrawn entries take, all there before the first is read."""
    one, other = connected
    said = [number.to_bytes(2, "big") + bytes(4898) for number in range(782)]
    got: list[bytes] = []

    async def read():
        while len(got) < len(said):
            got.append(bytes(await other.control.recv()))

    reading = asyncio.create_task(read())
    for message in said:
        await one.control.send(message)
    time.sleep(1.0)  # as a busy process does
    async with asyncio.timeout(30):
        await reading
    assert got == said


async def test_a_lost_lane_wakes_whoever_waits_for_a_message(pipe):
    waiting = asyncio.create_task(pipe.receiver.recv())
    await asyncio.sleep(0.1)
    await pipe.lose()
    with pytest.raises(LaneLost):
        await asyncio.wait_for(waiting, 20)
    with pytest.raises(LaneLost):
        for _ in range(1000):
            await pipe.sender.send(b"x")
            await asyncio.sleep(0.01)


async def test_a_lost_lane_wakes_a_sender_that_waits(pipe):
    async def fill():
        while True:
            await pipe.sender.send(bytes(pipe.sender.max_message_size))

    filling = asyncio.create_task(fill())
    await asyncio.sleep(0.3)
    await pipe.lose()
    with pytest.raises(LaneLost):
        await asyncio.wait_for(filling, 20)


# --- a connection ---------------------------------------------------------------------------------


async def test_both_lanes_carry_both_ways(connected):
    one, other = connected
    for name in ("control", "data"):
        here, there = getattr(one, name), getattr(other, name)
        await here.send(b"there")
        await there.send(b"and back")
        assert (await there.recv(), await here.recv()) == (b"there", b"and back")


async def test_what_was_sent_before_a_close_arrives(connected):
    one, other = connected
    for number in range(50):
        await one.control.send(bytes([number]) * 1000)
    closing = asyncio.create_task(one.close())
    assert [(await other.control.recv())[0] for _ in range(50)] == list(range(50))
    await closing


async def test_a_connection_that_never_opened_closes_quietly():
    for engine in available():
        connection = load(engine).make(offerer=True)
        await connection.describe(NONCE, NONCE)
        await connection.close()
        untouched = load(engine).make(offerer=False)
        await untouched.close()
    await (await TlsConnection.open()).close()


def test_an_engine_that_is_not_installed_is_said_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "p2p.lanes.webrtc.aiortc", None)
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
