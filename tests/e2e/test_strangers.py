"""Whoever else comes to the link, and whatever the server does, a transfer under way goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from urllib.parse import urlsplit

import pytest

import p2p
from p2p import events
from p2p.connect.rendezvous import open_rendezvous
from p2p.connect.seats import GuestSeat, HostSeat
from p2p.connect.transports import Transports
from p2p.lanes import LaneLost
from p2p.lanes.webrtc import load
from p2p.protocol import handshake, receipt
from p2p.protocol import session as sessions
from p2p.protocol.handshake import HANDSHAKE_SECONDS
from p2p.protocol.link import derive_keys, parse_link
from p2p.protocol.manifest import CHANGED, Entry
from p2p.transfer.driver import Driver
from p2p.transfer.receive import ReceiveDriver
from p2p.transfer.recipient import RecipientTransfer
from p2p.transfer.send import SendDriver
from p2p.transfer.sender import SenderTransfer

from .inprocess import receive, send

BIG = 80_000_000
UPGRADE = (
    b"GET /signal HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Transfer:
    """One transfer in this process; `told` is what the sender's caller saw."""

    def __init__(self, tmp_path, *, size=BIG, passphrase=None, **options):
        self.folder, self.passphrase = tmp_path, passphrase
        (tmp_path / "big").write_bytes(os.urandom(size))
        options["passphrase"] = passphrase
        self.sent = send(tmp_path / "big", tmp_path / "s", **options)
        self.told = self.sent.told

    @property
    async def link(self):
        return (await self.sent.transfer).link

    async def accepted(self):
        await self.sent.until("accepted")

    async def begin(self, name="r", passphrase=None, watch=lambda event: None):
        """A recipient, as it begins."""
        passphrase = passphrase or self.passphrase
        out, home = self.folder / f"out-{name}", self.folder / name
        return receive(await self.link, out, home, passphrase=passphrase, watch=watch)

    async def receive(self, *args, **options):
        return await (await self.begin(*args, **options)).result()

    async def both(self, received):
        async with asyncio.timeout(60):
            return await asyncio.gather(self.sent.result(), received)


def complete(*outcomes):
    assert [one.ending for one in outcomes] == [p2p.Ending.COMPLETE] * len(outcomes), outcomes


async def garbage(link):
    keys = derive_keys(parse_link(link).secret)
    async with GuestSeat(parse_link(link).origin, keys) as attempt:
        await attempt.send(os.urandom(2000))
        while await attempt.recv() is not None:
            pass


async def test_garbage_and_wrong_passphrases_during_a_transfer_touch_nothing(tmp_path):
    one = Transfer(tmp_path, passphrase="right")
    received = asyncio.create_task(one.receive())
    await one.accepted()
    await garbage(await one.link)
    for guess in range(3):
        turned_away = await one.receive(f"guess{guess}", "wrong")
        assert turned_away.ending is p2p.Ending.FAILED
    complete(*await one.both(received))


@contextlib.asynccontextmanager
async def connected(link, engine):
    """Somebody who has the link, connected and not let in."""
    keys = derive_keys(parse_link(link).secret)
    transports = Transports(load(engine), None, offerer=False)
    try:
        async with asyncio.timeout(20), GuestSeat(parse_link(link).origin, keys) as attempt:
            await transports.connect_guest(attempt, keys, passphrase=False, host_sends=True)
        yield transports._chosen
    finally:
        await transports.close(heard=True)


async def opens_a_channel(webrtc):
    make = getattr(webrtc._pc, "create_data_channel", None)
    if make is not None:
        await make("further")
    else:
        webrtc._pc.createDataChannel("further")
    await webrtc.control.recv()


async def fills_the_data_lane(webrtc):
    while True:
        await webrtc.data.send(bytes(64_000))


async def fills_the_control_lane(webrtc):
    while True:
        await webrtc.control.send(bytes(64_000))


@pytest.mark.parametrize("does", [opens_a_channel, fills_the_data_lane, fills_the_control_lane])
async def test_whoever_fills_a_connection_before_the_handshake_is_cut_off(tmp_path, does, engine):
    """And not because the handshake took too long. The link stays good."""
    one = Transfer(tmp_path, size=1000, engine=engine)
    async with asyncio.timeout(HANDSHAKE_SECONDS / 2):
        async with connected(await one.link, engine) as webrtc:
            with pytest.raises(LaneLost):
                await does(webrtc)
    complete(*await one.both(one.receive()))


async def test_an_admitted_recipient_that_fills_the_data_lane_is_cut_off(tmp_path, monkeypatch):
    """A sender takes nothing by it, ever."""
    real = ReceiveDriver._accepts

    async def fill(self, *about):
        with contextlib.suppress(LaneLost):
            while True:
                await self._connected.carrier.data.send(bytes(64_000))
        return await real(self, *about)

    monkeypatch.setattr(ReceiveDriver, "_accepts", fill)
    one = Transfer(tmp_path, size=1000)
    assert (await one.receive()).code == "peer_failed"
    (said,) = [event for event in one.told if isinstance(event, events.Warned)]
    assert (said.code, said.detail) == ("protocol", "data_out_of_turn")
    monkeypatch.undo()
    complete(*await one.both(one.receive("another")))


@pytest.mark.parametrize("visit", ["wants digits", "refuses", "leaves", "says nothing"])
async def test_a_visitor_ends_only_its_own_visit(tmp_path, monkeypatch, visit):
    """Until somebody has accepted the link is nobody's, whatever whoever opens it does."""
    monkeypatch.setattr("p2p.transfer.send.ANSWER_SECONDS", 2.0)
    one = Transfer(tmp_path, size=1000, interactive=False)
    (tmp_path / "v").mkdir()
    options = {"auto": False, "interactive": True, "verify": visit == "wants digits"}
    visitor = receive(await one.link, tmp_path / "out-v", tmp_path / "v", **options)
    if visit == "refuses":
        # No folder: nothing can be written there, which is only noticed late.
        (tmp_path / "out-v").write_bytes(b"")
        monkeypatch.setattr("p2p.transfer.recipient.check_writable", lambda where: None)
    if visit == "leaves":
        async with asyncio.timeout(30):
            while not visitor.saw(events.Offered):  # it says so only once it is in a session
                await asyncio.sleep(0.02)
        visitor.transfer.cancel()
    outcome = await visitor.result()
    assert outcome.ending is not p2p.Ending.COMPLETE
    received = await one.receive()
    complete(*await one.both(asyncio.sleep(0, received)))
    said = [event.code for event in one.told if isinstance(event, events.Warned)]
    expected = {
        "wants digits": "needs_answer",
        "refuses": "not_writable",
        "leaves": "peer_cancelled",
        "says nothing": "no_answer",
    }
    assert said == [expected[visit]]
    if visit == "says nothing":
        assert outcome.code == "no_answer"


async def says_that_all_failed(session):
    session._say("failed", time.monotonic(), entries=[[entry, CHANGED] for entry in range(3)])


async def says_that_it_has_all(session):
    session._say("receipt", time.monotonic(), payload="{}", signature=bytes(64))


@pytest.mark.parametrize(
    ("lies", "said"),
    [(says_that_all_failed, "peer_cancelled"), (says_that_it_has_all, "protocol")],
)
async def test_what_a_visitor_says_of_files_it_never_accepted_counts_for_nobody(
    tmp_path, monkeypatch, lies, said
):
    """Folders have no digest that would set right what was said of them."""

    async def conduct(self):
        await self._next(sessions.ManifestArrived)
        await lies(self.session)
        self._step(lambda: None)
        await asyncio.Event().wait()

    study = tmp_path / "study"
    (study / "empty").mkdir(parents=True)
    (study / "1.dcm").write_bytes(b"x")
    sent = send(study, tmp_path / "s")
    with monkeypatch.context() as patched:
        patched.setattr(ReceiveDriver, "_conduct", conduct)
        visitor = receive((await sent.transfer).link, tmp_path / "out-v", tmp_path / "v")
        await sent.until("offered")
        await asyncio.sleep(1)
        visitor.transfer.cancel()
        assert (await visitor.result()).ending is not p2p.Ending.COMPLETE
    received = receive((await sent.transfer).link, tmp_path / "out", tmp_path / "r")
    async with asyncio.timeout(60):
        complete(await received.result(), await sent.result())
    assert (tmp_path / "out" / "study" / "empty").is_dir()
    assert [event.code for event in sent.saw(events.Warned)] == [said]


async def test_a_visit_that_fails_here_ends_only_that_visit(tmp_path, monkeypatch):
    """Whatever a visitor may have found that nobody has thought of."""
    real, failing = SendDriver._introduce, [True]

    async def introduce(self):
        if failing.pop():
            failing.append(False)
            raise KeyError("label")
        failing.append(False)
        return await real(self)

    monkeypatch.setattr(SendDriver, "_introduce", introduce)
    one = Transfer(tmp_path, size=1000)
    assert (await one.receive("visitor")).ending is p2p.Ending.FAILED
    complete(*await one.both(one.receive()))
    said = [(event.code, event.detail) for event in one.told if isinstance(event, events.Warned)]
    assert said == [("internal", "KeyError")]


async def deaf(port, number):
    """A socket that pings as fast as it can, never reads, and comes back when it is cut off."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.bind((f"127.0.3.{1 + number}", 0))
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, UPGRADE)
            while True:
                await loop.sock_sendall(one, 100 * (b"\x89\xfdmask" + bytes(125)))
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)


async def test_sockets_that_ping_and_never_read_neither_cost_a_transfer_nor_keep_it_from_ending(
    tmp_path,
):
    one = Transfer(tmp_path)
    port = urlsplit(parse_link(await one.link).origin).port
    strangers = [asyncio.create_task(deaf(port, number)) for number in range(20)]
    before = len(os.listdir("/proc/self/fd"))
    received = asyncio.create_task(one.receive())
    await one.accepted()
    began = time.monotonic()
    complete(await received)
    async with asyncio.timeout(10):  # the sender hears of it, and nothing holds it up
        complete(await one.sent.result())
    assert time.monotonic() - began < 45
    assert len(os.listdir("/proc/self/fd")) < before + 20  # theirs are in another process
    for stranger in strangers:
        stranger.cancel()
    await asyncio.gather(*strangers, return_exceptions=True)


async def test_garbage_before_anybody_is_admitted_keeps_the_link_open(tmp_path):
    one = Transfer(tmp_path, size=1000)
    await garbage(await one.link)
    complete(*await one.both(asyncio.create_task(one.receive())))
    assert [e for e in one.told if isinstance(e, events.Warned)]


async def test_a_stranger_with_an_unknown_version_keeps_the_link_open(tmp_path, monkeypatch):
    one = Transfer(tmp_path, size=1000)
    link = await one.link
    monkeypatch.setattr(
        handshake,
        "_body",
        lambda fields, real=handshake._body: real(
            {**fields, "versions": [9]} if "versions" in fields else fields
        ),
    )
    assert (await one.receive("new")).ending is p2p.Ending.FAILED
    monkeypatch.undo()
    assert link
    complete(*await one.both(asyncio.create_task(one.receive())))


async def test_a_link_that_expires_during_its_transfer_does_not_end_it(tmp_path):
    one = Transfer(tmp_path, size=BIG, expires=5.0, limit=BIG / 7)
    complete(*await one.both(asyncio.create_task(one.receive())))


async def test_a_seat_that_cannot_be_kept_does_not_end_a_transfer(tmp_path, monkeypatch):
    real = HostSeat.run

    async def run(self, on_state, on_policy):
        holding = asyncio.create_task(real(self, on_state, on_policy))
        await one.accepted()
        holding.cancel()
        raise p2p.Failure("server_refused", "status 502")

    monkeypatch.setattr(HostSeat, "run", run)
    one = Transfer(tmp_path)
    complete(*await one.both(asyncio.create_task(one.receive())))


async def test_cancelled_sends_leave_no_rooms_behind(tmp_path):
    from signaling.app import Server

    server = Server()
    await server.start("127.0.0.1", 0)
    (tmp_path / "file").write_bytes(b"x")
    for _ in range(22):
        waiting = asyncio.Event()

        def watch(event, waiting=waiting):
            if isinstance(event, events.StateChanged) and event.state == "waiting":
                waiting.set()

        origin = f"http://127.0.0.1:{server.port}"
        sending = send(tmp_path / "file", tmp_path / "s", server=origin, watch=watch)
        await asyncio.wait_for(waiting.wait(), 20)
        sending.transfer.cancel()
        assert (await sending.result()).code == "cancelled"
    assert server.rooms == 0
    await server.stop()


async def test_a_transfer_id_that_was_used_before_is_refused_and_the_receipt_kept(
    tmp_path, monkeypatch
):
    real = SendDriver.__init__

    def same_id(self, *args):
        real(self, *args)
        self.session.transfer_id = b"\x11" * 16

    monkeypatch.setattr(SendDriver, "__init__", same_id)
    outcomes = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        one = Transfer(tmp_path, size=1000)
        received = await one.receive()
        outcomes.append(received)
        if number == 0:
            first = received.receipt.read_bytes()
            complete(await one.sent.result())
        else:
            one.sent.transfer.cancel()
            assert (await one.sent.result()).code == "cancelled"
    assert outcomes[1].code == "protocol"
    assert "transfer_id_reused" in outcomes[1].message
    assert outcomes[0].receipt.read_bytes() == first


async def test_a_false_label_in_the_receipt_is_not_countersigned(tmp_path, monkeypatch):
    real = receipt.party

    def lie(identity, label, software, head):
        return real(
            identity, "Some Other Hospital" if label.endswith("sender") else label, software, head
        )

    p2p.Home(tmp_path / "s").identity.set_label("the sender")
    monkeypatch.setattr(receipt, "party", lie)
    monkeypatch.setattr("p2p.transfer.recipient.CONFIRM_SECONDS", 2.0)
    one = Transfer(tmp_path, size=1000)
    sent, _ = await one.both(asyncio.create_task(one.receive()))
    assert sent.code == "protocol"
    assert "sender.label" in sent.message


async def test_an_audit_log_that_cannot_be_written_is_said_and_ends_nothing(tmp_path):
    one = Transfer(tmp_path, size=1000)
    (tmp_path / "s" / "audit.jsonl").mkdir(parents=True)
    sent, received = await one.both(asyncio.create_task(one.receive()))
    assert received.ending is p2p.Ending.COMPLETE or received.code
    assert isinstance(one.told[-1], events.Completed | events.Failed)
    assert sent is not None


@pytest.mark.parametrize("side", ["s", "r"])
async def test_whoever_holds_the_home_for_long_keeps_nobody_from_listening(tmp_path, side):
    """Audit heads, receipts and pins are read and written beside the session, not in it."""
    one = Transfer(tmp_path, size=1000)
    receiver = asyncio.create_task(one.receive())
    await one.accepted()
    held = await asyncio.create_subprocess_exec("flock", tmp_path / side / ".lock", "sleep", "3")
    last, gap = time.monotonic(), 0.0
    while held.returncode is None:
        await asyncio.sleep(0.05)
        now = time.monotonic()
        last, gap = now, max(gap, now - last)
    assert gap < 1
    complete(*await one.both(receiver))


async def test_a_disk_that_cannot_keep_the_receipt_is_said_and_waited_for(tmp_path):
    one = Transfer(tmp_path, size=1000)
    kept = p2p.Home(tmp_path / "r").path / "receipts"
    told: list[p2p.Event] = []
    receiver = asyncio.create_task(one.receive(watch=told.append))
    async with asyncio.timeout(60):
        while not told:
            await asyncio.sleep(0.001)
        kept.rmdir()
        kept.symlink_to("/proc/self")
        while not any("cannot be written" in getattr(e, "message", "") for e in told):
            await asyncio.sleep(0.1)
    assert told[-1] == events.StateChanged("paused")
    kept.unlink()
    kept.mkdir()
    complete(*await one.both(receiver))


async def test_a_ctrl_c_while_the_server_of_a_transfer_closes_changes_nothing_of_its_end(
    tmp_path, monkeypatch
):
    """It was said to have been stopped, though both had signed."""
    closing = asyncio.Event()

    async def slow():
        closing.set()
        await asyncio.sleep(10)

    async def open_slowly(stack, *args, **options):
        opened = await open_rendezvous(stack, *args, **options)
        stack.push_async_callback(slow)
        return opened

    monkeypatch.setattr("p2p.api.open_rendezvous", open_slowly)
    one = Transfer(tmp_path, size=1000)
    complete(await one.receive())
    async with asyncio.timeout(10):
        await closing.wait()
        one.sent.transfer.cancel()
        complete(await one.sent.result())


@pytest.mark.parametrize("role", ["sender", "recipient"])
async def test_a_ctrl_c_while_only_signatures_are_missing_lets_them_finish(
    tmp_path, monkeypatch, role
):
    one = Transfer(tmp_path, size=1000)
    received = await one.begin()
    kind = SenderTransfer if role == "sender" else RecipientTransfer
    handle = (one.sent if role == "sender" else received).transfer
    real = kind.keep_receipt

    async def cancel_then_keep(self, *args):
        handle.cancel()
        monkeypatch.setattr(kind, "keep_receipt", real)
        await real(self, *args)

    monkeypatch.setattr(kind, "keep_receipt", cancel_then_keep)
    complete(*await one.both(received.result()))


async def test_a_second_ctrl_c_leaves_no_staging_behind(tmp_path):
    one = Transfer(tmp_path)
    got = asyncio.Event()

    def watch(event):
        if isinstance(event, events.Progressed):
            got.set()

    received = await one.begin(watch=watch)
    await got.wait()
    received.transfer.cancel()
    await asyncio.sleep(0)
    received.transfer.cancel()
    assert (await received.result()).code == "cancelled"
    assert not list((tmp_path / "out-r").iterdir())
    sent = await asyncio.wait_for(one.sent.result(), 30)
    assert sent.code == "peer_cancelled"


async def test_control_messages_that_are_late_hurt_nothing(tmp_path, monkeypatch):
    """Lanes are not ordered against each other: one may lag behind the other by far."""
    real = Driver._write_control

    async def slow(self):
        queue, self._outbox = self._outbox, asyncio.Queue()
        fast, self._outbox = self._outbox, queue

        async def lag():
            while True:
                frame = await queue.get()
                await asyncio.sleep(0.05)
                fast.put_nowait(frame)
                if frame is None:
                    return

        lagging = asyncio.create_task(lag())
        shadow = type("Shadow", (), {"_outbox": fast, "_connected": self._connected})()
        await real(shadow)
        await lagging

    monkeypatch.setattr(Driver, "_write_control", slow)
    one = Transfer(tmp_path, size=2_000_000)
    complete(*await one.both(asyncio.create_task(one.receive())))


def test_an_entry_is_small():
    """200,000 of them are held at once."""
    assert not hasattr(Entry("a", "file", 0, 0), "__dict__")


async def test_once_a_link_is_somebodys_nobody_else_learns_whether_a_guess_was_right(tmp_path):
    one = Transfer(tmp_path, passphrase="right", limit=3e6)  # until all have tried
    received = asyncio.create_task(one.receive())
    await one.accepted()
    told = [(await one.receive(f"guess{guess}", "wrong")).code for guess in range(3)]
    assert (await one.receive("late", "right")).code == told[-1] == "passphrase_wrong"
    complete(*await one.both(received))
