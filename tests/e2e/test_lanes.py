"""Several lanes in real transfers: direct ones, further WebRTC connections, compression, a limit."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import time

import numpy as np
import pytest

from p2p import events, invitation
from p2p.connect import transports
from p2p.lanes import multipath
from p2p.lanes.connection_count import ConnectionCount
from p2p.lanes.tls.connection import TlsConnection
from p2p.lanes.tls.direct import DirectLanes
from p2p.lanes.webrtc import available
from p2p.protocol.seal import FILTER, ZSTD
from p2p.protocol.signal import DirectEndpoint
from p2p.transfer.receive import ReceiveDriver
from p2p.transfer.send import SendDriver

from . import inprocess
from .test_hostile import run

NO_DIRECT = {"direct": False}
SIZE = 60_000_000


def delivered(tmp_path, content, sent, received):
    assert (sent.code, received.code) == ("", ""), (sent, received)
    assert (tmp_path / "out" / "study" / "a.dcm").read_bytes() == content


def most(told, what):
    return max(getattr(e, what) for e in told if isinstance(e, events.Progressed))


@pytest.fixture
def runs(monkeypatch):
    """The sender's runs, as they are made."""
    made, real = [], SendDriver.__init__

    def note(self, *given):
        real(self, *given)
        made.append(self)

    monkeypatch.setattr(SendDriver, "__init__", note)
    return made


@pytest.fixture
def slow(monkeypatch):
    """What is read is read slowly, so that a part of a transfer can be met."""
    real = SendDriver._read

    def read(self, plan):
        time.sleep(0.02)
        return real(self, plan)

    monkeypatch.setattr(SendDriver, "_read", read)


async def until(condition, seconds=20):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_two_command_lines_use_direct_lanes(tmp_path):
    content = os.urandom(SIZE)
    sent, received, told = await run(tmp_path, content=content)
    delivered(tmp_path, content, sent, received)
    assert most(told["sender"], "direct") >= 2
    assert most(told["recipient"], "direct") >= 2


@pytest.fixture
def no_udp(monkeypatch):
    """Neither side learns where the other's UDP ports are."""

    async def none(self, candidates):
        pass

    engine = importlib.import_module(f"p2p.lanes.webrtc.{available()[0]}")
    monkeypatch.setattr(engine._Connection, "add_candidates", none)


async def test_where_webrtc_does_not_come_through_tls_does(tmp_path, no_udp):
    content = os.urandom(SIZE)
    sent, received, told = await run(tmp_path, content=content)
    delivered(tmp_path, content, sent, received)
    for side in ("sender", "recipient"):
        assert most(told[side], "webrtc") == 0
        assert most(told[side], "direct") >= 3  # the connection's own, and lanes beside it


@pytest.mark.parametrize("what", ["twice", "no certificate", "another certificate"])
async def test_a_recipient_that_lies_about_its_tls_gets_nothing_and_the_link_stays(
    tmp_path, no_udp, what, monkeypatch
):
    """What a program that holds the link can signal before anybody is proven."""
    monkeypatch.setattr(invitation, "HANDSHAKE_SECONDS", 4.0)
    monkeypatch.setattr(transports, "DIRECT_SECONDS", 0.2)
    real, offers, lies = transports.SealedSignals.send, [], True

    async def send(self, signal):
        if isinstance(signal, DirectEndpoint):
            offers.append(signal)
            lie = lies and len(offers) % 2 == 0  # the recipient's; the sender offers first
            if lie and what == "twice":
                await real(self, signal)
            elif lie:
                wrong = b"none" if what == "no certificate" else offers[-2].certificate
                signal = DirectEndpoint(signal.addresses, signal.port, wrong)
        await real(self, signal)

    monkeypatch.setattr(transports.SealedSignals, "send", send)
    (tmp_path / "file").write_bytes(b"x")
    sender = inprocess.send(tmp_path / "file", tmp_path / "s")
    link = (await sender.transfer).link
    for home, codes in (("liar", ("no_connection", "connection_lost_early")), ("honest", ("",))):
        recipient = inprocess.receive(link, tmp_path / home / "out", tmp_path / home)
        received = await recipient.result()
        assert received.code in codes, received
        lies = False
    assert (await sender.result()).code == ""


@pytest.mark.parametrize("who", ["send", "receive"])
async def test_a_side_that_forbids_direct_connections_makes_none(
    tmp_path, no_udp, who, monkeypatch
):
    monkeypatch.setattr(invitation, "HANDSHAKE_SECONDS", 5.0)
    opened = []

    async def note(ports):
        opened.append(ports)
        raise OSError

    monkeypatch.setattr(TlsConnection, "open", note)
    (tmp_path / "file").write_bytes(b"x")
    sender = inprocess.send(tmp_path / "file", tmp_path / "send", direct=who != "send")
    link, out = (await sender.transfer).link, tmp_path / "out"
    recipient = inprocess.receive(link, out, tmp_path / "receive", direct=who != "receive")
    assert (await recipient.result()).code == "no_connection"
    assert len(opened) == (who == "receive"), "something was listened on"
    sender.transfer.cancel()
    assert (await sender.result()).code == "cancelled"


@pytest.mark.parametrize("who", ["send", "receive"])
async def test_each_side_can_forbid_direct_lanes(tmp_path, who, monkeypatch):
    opened = []
    monkeypatch.setattr(DirectLanes, "open", lambda ports: opened.append(ports))
    content = os.urandom(SIZE // 4)
    sent, received, told = await run(tmp_path, content=content, **{who: NO_DIRECT})
    delivered(tmp_path, content, sent, received)
    assert not opened, "something was listened on"
    assert most(told["sender"], "direct") == most(told["recipient"], "direct") == 0


async def test_where_only_the_recipient_can_connect_it_does(tmp_path, monkeypatch):
    real = multipath.SenderMultipath._make_direct

    async def nowhere(self, direct, addresses, port):
        await real(self, direct, [], port)

    monkeypatch.setattr(multipath.SenderMultipath, "_make_direct", nowhere)
    content = os.urandom(3 * SIZE)
    sent, received, told = await run(tmp_path, content=content)
    delivered(tmp_path, content, sent, received)
    assert most(told["sender"], "direct") >= 1


async def test_direct_lanes_that_break_lose_nothing_and_come_again(tmp_path, runs, slow):
    content = os.urandom(SIZE)
    going = asyncio.create_task(run(tmp_path, content=content))
    await until(lambda: runs and runs[0].session.lanes.carried > SIZE // 5 and runs[0].lanes.direct)
    broken = list(runs[0].lanes.direct.values())
    for lane in broken:
        lane.close()
    sent, received, _ = await going
    delivered(tmp_path, content, sent, received)
    assert len(runs) == 1, "the session did not go on"


async def test_a_direct_lane_that_has_carried_much_is_replaced_by_one_with_new_keys(
    tmp_path, runs, monkeypatch
):
    monkeypatch.setattr(multipath, "MOST_RANGES", 50)
    monkeypatch.setattr(multipath, "AGAIN_SECONDS", 0.2)
    seen, real = set(), multipath.SenderMultipath._adopt

    async def adopt(self, lane):
        seen.add(lane)
        return await real(self, lane)

    monkeypatch.setattr(multipath.SenderMultipath, "_adopt", adopt)
    content = os.urandom(2 * SIZE)
    sent, received, _ = await run(tmp_path, content=content, send={"limit": 40e6})
    delivered(tmp_path, content, sent, received)
    assert len(runs) == 1
    assert len(seen) > 4, "two lanes, and others after them"


async def test_a_direct_lane_that_swallows_everything_holds_nothing_up(tmp_path, monkeypatch, runs):
    """It takes messages and none arrives: others carry them, after some seconds."""
    swallowed = []

    async def swallow(self, message):
        swallowed.append(len(message))

    real = multipath.SenderMultipath._adopt

    async def adopt(self, lane):
        taken = await real(self, lane)
        monkeypatch.setattr(type(lane), "send", swallow)
        return taken

    monkeypatch.setattr(multipath.SenderMultipath, "_adopt", adopt)
    content = os.urandom(SIZE // 4)
    sent, received, _ = await run(tmp_path, content=content)
    delivered(tmp_path, content, sent, received)
    assert swallowed
    assert len(runs) == 1


async def test_further_webrtc_connections_come_and_go(tmp_path, monkeypatch, runs, slow, engine):
    """As the connection count says: four, one, four; what is under way on one that goes is not lost."""
    size = SIZE if engine == "libdatachannel" else SIZE // 5

    class Moody(ConnectionCount):
        def look(self, now, carried, there, *, busy=False, spare=False):
            return 4 if carried % (size // 2) < size // 4 else 1

    monkeypatch.setattr(multipath, "ConnectionCount", Moody)
    content, options = os.urandom(size), {**NO_DIRECT, "engine": engine}
    sent, received, told = await run(tmp_path, content=content, send=options, receive=options)
    delivered(tmp_path, content, sent, received)
    assert most(told["sender"], "webrtc") > 1
    assert most(told["recipient"], "webrtc") > 1
    assert len(runs) == 1


def pixels(size):
    """Sixteen-bit samples with a little noise, as an uncompressed CT has them."""
    dice = np.random.default_rng(1)
    slope = 1000 + 200 * np.sin(np.arange(size // 2) / 300)
    return (slope + dice.normal(0, 12, size // 2)).astype("<i2").tobytes()


@pytest.mark.parametrize("compress", [True, False])
async def test_pixels_are_compressed_on_the_way_and_arrive_unaltered(
    tmp_path, runs, monkeypatch, compress
):
    seen: set[int] = set()
    real = ReceiveDriver._open

    def note(self, messages):
        opened = [self._opener.open(bytes(message))[0] for message in messages]
        seen.update(header.flags for header in opened)
        return real(self, messages)

    monkeypatch.setattr(ReceiveDriver, "_open", note)
    content = pixels(SIZE // 3)
    sent, received, _ = await run(tmp_path, content=content, send={"compress": compress})
    delivered(tmp_path, content, sent, received)
    (one,) = runs
    if compress:
        assert ZSTD | FILTER in seen
        assert one.session.lanes.carried < len(content) / 2
    else:
        assert seen == {0}
        assert one.session.lanes.carried > len(content)


async def test_random_bytes_are_sent_as_they_are(tmp_path, runs):
    content = os.urandom(SIZE // 4)
    sent, received, _ = await run(tmp_path, content=content)
    delivered(tmp_path, content, sent, received)
    assert runs[0].session.lanes.carried > len(content)


@pytest.mark.parametrize("who", ["send", "receive"])
async def test_a_limit_is_kept(tmp_path, who):
    content = os.urandom(6_000_000)
    began = time.monotonic()
    sent, received, told = await run(tmp_path, content=content, **{who: {"limit": 2e6}})
    delivered(tmp_path, content, sent, received)
    assert time.monotonic() - began > 2.5
    limited, other = ("sender", "recipient") if who == "send" else ("recipient", "sender")
    for side, reason in ((limited, "limit"), (other, "other_limit")):
        assert reason in [e.bottleneck for e in told[side] if isinstance(e, events.Progressed)], (
            side
        )


async def test_a_port_that_is_taken_is_said_and_the_transfer_goes_on(tmp_path):
    content = os.urandom(3_000_000)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        options = {"direct_ports": (port, port), "limit": 2e6}
        sent, received, told = await run(tmp_path, content=content, send=options)
    delivered(tmp_path, content, sent, received)
    warned = [e.message for e in told["sender"] if isinstance(e, events.Warned)]
    assert any("No port is available for direct connections" in text for text in warned)
