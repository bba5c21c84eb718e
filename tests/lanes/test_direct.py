"""Direct lanes: who gets through, what a lane promises, and what happens when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509

from p2p.connect.addresses import reachable
from p2p.lanes import LaneLost, streams
from p2p.lanes.streams import HIGH_WATER
from p2p.lanes.tls import endpoint
from p2p.lanes.tls import socket as tls_socket
from p2p.lanes.tls.connection import TlsConnection
from p2p.lanes.tls.direct import DirectLanes
from p2p.lanes.tls.socket import has_congestion_control


@pytest.fixture
async def ends():
    """Two ends that trust each other, the second one serving."""
    one, other = await DirectLanes.open(), await DirectLanes.open()
    one.trust(other.certificate)
    other.trust(one.certificate)
    serving = asyncio.create_task(other.serve())
    yield one, other
    await asyncio.sleep(0.1)  # for handshakes whose other end is there already
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    one.close()
    other.close()


@pytest.fixture
async def lanes(ends):
    """(the one that sends, the one that receives). By one address: of several connections that are
    made at once, the other end would not know which was kept."""
    one, other = ends
    made = await one.connect(reachable()[:1], other.port)
    taken = await asyncio.wait_for(other.accept(), 5)
    yield made, taken
    made.close()
    taken.close()


async def test_a_clogged_lane_makes_the_sender_wait_and_loses_nothing(lanes):
    made, taken = lanes
    size, count = made.max_message_size, 200
    peak = 0

    async def send():
        nonlocal peak
        for number in range(count):
            await made.send(number.to_bytes(4) + bytes(size - 4))
            peak = max(peak, made._bytes)

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.5)
    assert not sending.done(), "50 MB were taken though nobody read"
    assert taken._bytes <= streams.READ_AHEAD + size
    assert [(await taken.recv())[:4] for _ in range(count)] == [n.to_bytes(4) for n in range(count)]
    await sending
    assert peak <= HIGH_WATER + size


async def test_a_message_that_is_too_long_is_refused_and_one_that_comes_ends_the_lane(lanes):
    made, taken = lanes
    with pytest.raises(ValueError, match="too long"):
        await made.send(bytes(made.max_message_size + 1))
    made._stream.write((made.max_message_size + 1).to_bytes(4), bytes(10))
    with pytest.raises(LaneLost):
        await asyncio.wait_for(taken.recv(), 5)


@pytest.mark.parametrize("who", [0, 1])
async def test_a_lost_lane_wakes_whoever_waits(lanes, who):
    made, taken = lanes
    waiting = asyncio.create_task(taken.recv())
    await asyncio.sleep(0.1)
    lanes[who].close()
    with pytest.raises(LaneLost):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(LaneLost):
        for _ in range(1000):
            await asyncio.wait_for(made.send(bytes(100_000)), 5)


async def test_a_stranger_gets_nowhere(ends):
    """With a certificate of its own, though it knows whom it talks to; and without any."""
    one, other = ends
    stranger = await DirectLanes.open()
    stranger.trust(other.certificate)
    with contextlib.suppress(LaneLost):  # TLS 1.3 tells a client only with the first answer
        lane = await stranger.connect(reachable(), other.port)
        with pytest.raises(LaneLost):
            for _ in range(100):
                await lane.send(b"x")
                await asyncio.sleep(0.02)
        lane.close()
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE

    def knock():
        plain = socket.create_connection((reachable()[0], other.port), 5)
        with plain, anybody.wrap_socket(plain) as tls:
            tls.settimeout(5)
            return tls.recv(1)

    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(knock)
    stranger.close()
    # Who listens proves itself as well.
    impostor = await DirectLanes.open()
    impostor.trust(one.certificate)
    serving = asyncio.create_task(impostor.serve())
    with pytest.raises(LaneLost):
        await one.connect(reachable(), impostor.port)
    await asyncio.sleep(0.1)
    serving.cancel()
    impostor.close()
    # And the peer still gets through.
    made = await one.connect(reachable(), other.port)
    taken = await asyncio.wait_for(other.accept(), 5)
    made.close()
    taken.close()


async def test_many_strangers_that_say_nothing_do_not_keep_the_peer_out(ends, monkeypatch):
    monkeypatch.setattr(tls_socket, "TLS_SECONDS", 1.0)
    one, other = ends
    silent = [socket.create_connection((reachable()[0], other.port)) for _ in range(20)]
    made = None
    for _ in range(10):
        with contextlib.suppress(LaneLost):
            made = await one.connect(reachable(), other.port)
            break
    assert made is not None
    made.close()
    for one_of_them in silent:
        one_of_them.close()


async def test_whatever_address_answers_first_is_taken_and_the_others_are_given_up(ends):
    one, other = ends
    nowhere = ["192.0.2.77", "2001:db8::77"]  # for documentation: nobody is there
    began = asyncio.get_running_loop().time()
    made = await one.connect([*nowhere, *reachable()], other.port)
    assert asyncio.get_running_loop().time() - began < 3
    made.close()
    with pytest.raises(LaneLost):
        await one.connect([], other.port)
    with socket.socket() as closed:
        closed.bind(("", 0))
        with pytest.raises(LaneLost):
            await one.connect(reachable()[:1], closed.getsockname()[1])


async def test_ports_can_be_chosen():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError):
            await DirectLanes.open([port])
        found = await DirectLanes.open([port, 0])
    assert found.port != port
    found.close()


async def test_one_port_serves_a_peer_that_comes_back_before_it_is_known_to_be_gone():
    """All a firewall lets through. The lanes that are open stay so, and when the later end is
    closed, the earlier one accepts again."""
    first = await DirectLanes.open([0])
    port = first.port
    again, peers = await DirectLanes.open([port]), [await DirectLanes.open() for _ in range(2)]
    again.close()
    again = await DirectLanes.open([port])
    serving = []
    for one, peer in zip((first, again), peers, strict=True):
        one.trust(peer.certificate)
        peer.trust(one.certificate)
        serving.append(asyncio.create_task(one.serve()))
    async with asyncio.timeout(20):
        later = await peers[1].connect(reachable()[:1], port)
        theirs = await again.accept()
        with pytest.raises(LaneLost):  # what it gets is another's handshake
            lane = await peers[0].connect(reachable()[:1], port)
            await lane.recv()
        serving.pop().cancel()
        await asyncio.sleep(0)
        again.close()
        earlier = await peers[0].connect(reachable()[:1], port)
        other = await first.accept()
        for made, taken in ((later, theirs), (earlier, other)):
            await made.send(b"still there")
            assert await taken.recv() == b"still there"
    serving[0].cancel()
    await asyncio.wait(serving)
    for lane in (later, theirs, earlier, other):
        lane.close()
    for end in (first, *peers):
        end.close()
    with pytest.raises(OSError, match=r"refused|111"):
        socket.create_connection((reachable()[0], port), 1)
    assert not endpoint._SHARED


async def test_a_connection_shares_the_one_port_with_the_lanes_of_another_session():
    """Where no UDP comes through, a peer that comes back needs a connection first."""
    old = await DirectLanes.open()
    sender, recipient = await TlsConnection.open([old.port]), await TlsConnection.open()
    async with asyncio.timeout(20):
        await asyncio.gather(
            sender.opened([], recipient.port, recipient.certificate, host=True),
            recipient.opened(reachable(), sender.port, sender.certificate, host=False),
        )
        await sender.control.send(b"welcome back")
        assert await recipient.control.recv() == b"welcome back"
    await asyncio.gather(sender.close(), recipient.close())
    old.close()


@pytest.mark.parametrize("certificate", [b"", b"nonsense", bytes(2000)])
async def test_what_is_no_certificate_is_refused(certificate):
    one = await DirectLanes.open()
    with pytest.raises(ValueError, match="certificate"):
        one.trust(certificate)
    one.close()


async def test_certificates_are_good_whatever_the_clock_says_and_never_the_same():
    one, other = await DirectLanes.open(), await DirectLanes.open()
    assert one.certificate != other.certificate
    read = x509.load_der_x509_certificate(one.certificate)
    assert (read.not_valid_before_utc.year, read.not_valid_after_utc.year) == (2000, 2099)
    assert len(one.certificate) < 600
    one.close()
    other.close()


def test_the_kernel_is_asked_for_congestion_control():
    available = "/proc/sys/net/ipv4/tcp_available_congestion_control"
    with open(available) as file:
        assert has_congestion_control() == ("bbr" in file.read())


async def test_a_stranger_who_sends_slowly_is_given_up_as_soon_as_a_silent_one(ends, monkeypatch):
    monkeypatch.setattr(tls_socket, "TLS_SECONDS", 1.5)
    _, other = ends
    reader, writer = await asyncio.open_connection(reachable()[0], other.port)
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        writer.write(b"\x16\x03\x01\x40\x00")  # a record of 16 KiB begins
        while not reader.at_eof() and time.monotonic() - began < 10:
            writer.write(b"\x00")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await reader.read(1)
    assert time.monotonic() - began < 5
    writer.close()


# --- a connection of its own


async def connected(sender_reaches=True, recipient_reaches=True):
    """(the sender's connection, the recipient's)."""
    sender, recipient = await TlsConnection.open(), await TlsConnection.open()
    there, here = (reachable() if can else [] for can in (sender_reaches, recipient_reaches))
    async with asyncio.timeout(20):
        await asyncio.gather(
            sender.opened(there, recipient.port, recipient.certificate, host=True),
            recipient.opened(here, sender.port, sender.certificate, host=False),
        )
    return sender, recipient


@pytest.mark.parametrize("who", ["both", "sender", "recipient"])
async def test_a_connection_has_both_its_lanes_whoever_can_connect(who):
    sender, recipient = await connected(who != "recipient", who != "sender")
    for name in ("control", "data"):
        one, other = getattr(sender, name), getattr(recipient, name)
        messages = [os.urandom(size) for size in (0, 1, 70_000, one.max_message_size)]
        for message in messages:
            await one.send(message[::-1])
            await other.send(message)
        for message in messages:
            assert await other.recv() == message[::-1]
            assert await one.recv() == message
    for port in (sender.port, recipient.port):
        with pytest.raises(OSError, match=r"refused|111"):
            socket.create_connection((reachable()[0], port), 1)  # nobody listens any more
    await asyncio.gather(sender.close(), recipient.close())


async def test_a_message_of_a_stream_that_is_too_long_is_refused_and_ends_the_lane():
    sender, recipient = await connected()
    with pytest.raises(ValueError, match="too long"):
        await sender.data.send(bytes(sender.data.max_message_size + 1))
    sender.data._writer.write((sender.data.max_message_size + 1).to_bytes(4))
    with pytest.raises(LaneLost):
        await recipient.data.recv()
    await asyncio.gather(sender.close(), recipient.close())


async def test_only_the_holder_of_the_certificate_makes_a_connection():
    sender, recipient, stranger = [await TlsConnection.open() for _ in range(3)]
    opening = asyncio.create_task(recipient.opened([], sender.port, sender.certificate, host=False))
    with pytest.raises((TimeoutError, LaneLost)):
        async with asyncio.timeout(2):
            there = reachable(), recipient.port, recipient.certificate
            await stranger.opened(*there, host=True)
            await stranger.control.recv()
    assert not opening.done()
    await sender.opened(*there, host=True)
    await asyncio.wait_for(opening, 5)
    for one in (sender, recipient, stranger):
        await one.close()


async def test_a_handshake_that_no_thread_began_leaves_no_socket_open():
    """It was cancelled, and the lanes were closed, before one was free."""
    lanes = await DirectLanes.open()
    lanes.trust(lanes.certificate)
    busy = threading.Event()
    for _ in range(endpoint.HANDSHAKES + 2):
        lanes._threads.submit(busy.wait)
    pairs = [socket.socketpair() for _ in range(3)]
    queued = [
        asyncio.create_task(lanes._secure(plain, "192.0.2.1", server=True)) for plain, _ in pairs
    ]
    await asyncio.sleep(0.01)
    for task in queued:
        task.cancel()
    await asyncio.gather(*queued, return_exceptions=True)
    lanes.close()
    busy.set()
    assert [plain.fileno() for plain, _ in pairs] == [-1] * 3
    for _, other in pairs:
        other.close()
