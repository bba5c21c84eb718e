"""Lanes beside a connection's own: when they are made, when they go, and that nothing outlives them.

Both sides run over connections and lanes in memory; what they tell each other goes through sessions
that only pass it on. The sender's flow control is the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from p2p.lanes import LaneLost, multipath
from p2p.lanes.multipath import LaneContext, RecipientMultipath, SenderMultipath
from p2p.lanes.tls.targets import Targets
from p2p.protocol import session as sessions
from p2p.protocol.errors import PeerError
from p2p.protocol.handshake import DIRECT, LANES, MANY_LANES
from p2p.protocol.seal import Header, Stream
from p2p.protocol.session import DirectAnnounced, LaneSignalled, SenderState
from p2p.protocol.session.flow import MIN_RANGE, OutgoingStream, SendingLanes
from p2p.protocol.signal import Candidate, Candidates, Description, DirectEndpoint, Knock
from tests.transfer.memory import MemoryLane, lanes
from tests.virtual_time import virtual_time

from .memory import Network

ABLE = (DIRECT, LANES, MANY_LANES)
NONCES = b"n" * 16, b"m" * 16
PORTS = (0, 0)


# --- direct lanes in memory -----------------------------------------------------------------------


class MemoryDirectLane(MemoryLane):
    """One end of a direct lane."""

    address = "192.0.2.1"

    @property
    def lost(self):
        return self.gone.is_set()

    def close(self):
        self.lose()


class MemoryDirectLanes:
    """One side's end of direct lanes; in place of `lanes.tls.direct.DirectLanes`."""

    listening: ClassVar[dict[int, MemoryDirectLanes]] = {}  # by port
    refusing: ClassVar[set[int]] = set()  # ports that nobody can connect to
    can_listen = True

    def __init__(self):
        self.port = 40_000 + len(self.listening)
        self.certificate = b"certificate %d" % self.port
        self.trusted, self.closed = b"", False
        self.accepted: asyncio.Queue[MemoryDirectLane] = asyncio.Queue()
        self.listening[self.port] = self

    @classmethod
    async def open(cls, ports):
        if not cls.can_listen:
            raise OSError(98, "Address already in use")
        return cls()

    def trust(self, certificate):
        self.trusted = certificate

    async def serve(self):
        await asyncio.Event().wait()

    async def accept(self):
        return await self.accepted.get()

    async def adopt(self, plain, address, *, server):
        self.adopted = address, server
        return plain

    async def connect(self, addresses, port):
        await asyncio.sleep(0.01)
        other = self.listening[port]
        if port in self.refusing or other.trusted != self.certificate or not addresses:
            raise LaneLost
        here, there = MemoryDirectLane(), MemoryDirectLane()
        here.peer, there.peer = there, here
        other.accepted.put_nowait(there)
        return here

    def close(self):
        self.closed = True


# --- two sides ------------------------------------------------------------------------------------


class MemoryOuterPort:
    """A port whose outer address is `outer`: two that try each other meet."""

    def __init__(self, outer):
        self.outer, self.closed = outer, False
        self.tried = asyncio.Event()
        self.others: dict[tuple[str, int], MemoryOuterPort] = {}
        self.lane = MemoryDirectLane()

    @classmethod
    def both(cls, *outer):
        one, other = map(cls, outer)
        one.others, other.others = {other.outer: other}, {one.outer: one}
        one.lane.peer, other.lane.peer = other.lane, one.lane
        return one, other

    async def connect(self, peer):
        self.tried.set()
        await self.others[peer].tried.wait()
        return self.lane

    def close(self):
        self.closed = True


class PassingSession:
    """A session that passes on what its side says to the other's lanes."""

    def __init__(self, capabilities):
        self.secured = SimpleNamespace(peer=SimpleNamespace(capabilities=capabilities))
        self.state = SenderState.OFFERING
        self.peer_is_slow = False
        self.lanes = SendingLanes(MIN_RANGE, {Stream.DATA: OutgoingStream(10**9)})
        self.other: multipath.Multipath
        self.announced: list[DirectEndpoint] = []
        self.added: list[int] = []  # a recipient's

    def announce_direct(self, endpoint, now):
        self.announced.append(endpoint)
        asyncio.get_running_loop().call_soon(self.other.take, DirectAnnounced(endpoint))

    def signal(self, number, signal, now):
        asyncio.get_running_loop().call_soon(self.other.take, LaneSignalled(number, signal))

    def add_lane(self, number):
        if number in self.added:
            raise PeerError("lane_number_reused")
        self.added.append(number)


class Sides:
    """A sender's and a recipient's lanes, at work; `wanted` is how many connections to have."""

    def __init__(
        self,
        monkeypatch,
        *,
        capabilities=ABLE,
        ports=(PORTS, PORTS),
        network=None,
        path="direct",
        may_add=(True, True),
        open_pipe=None,
    ):
        self.open_pipe = open_pipe
        self.path, self.may_add = path, dict(zip(("sender", "recipient"), may_add, strict=True))
        self.network, self.wanted, self.looked = network or Network(), 1, []
        self.warned: list[tuple[str, str]] = []
        self.outer_ports: list[Any] = []
        self.at_sender, self.at_recipient = PassingSession(capabilities), PassingSession(())
        self.carrying: dict[str, dict[int, MemoryLane]] = {"sender": {}, "recipient": {}}
        monkeypatch.setattr(multipath, "DirectLanes", MemoryDirectLanes)
        monkeypatch.setattr(multipath, "ConnectionCount", self.count)
        monkeypatch.setattr(MemoryDirectLanes, "listening", {})
        monkeypatch.setattr(MemoryDirectLanes, "refusing", set())
        own = lanes()
        self.sender = SenderMultipath(
            self.at_sender,  # type: ignore[arg-type]
            own[0],
            self.step,
            self.carry_sender,
            self.given(ports[0], "sender"),
        )
        self.recipient = RecipientMultipath(
            self.at_recipient,  # type: ignore[arg-type]
            own[1],
            self.step,
            self.carry_recipient,
            self.given(ports[1], "recipient"),
        )
        self.at_sender.other, self.at_recipient.other = self.recipient, self.sender
        self.tasks = [
            asyncio.create_task(self.sender.run()),
            asyncio.create_task(self.recipient.run()),
        ]

    def given(self, ports, side):
        return LaneContext(
            open=self.network.make,
            path=self.path,
            may_add=self.may_add[side],
            nonces=NONCES,
            direct_ports=ports,
            addresses=lambda: ["192.0.2.1"],
            peer_addresses=["192.0.2.1"],
            targets=Targets(),
            warn=lambda code, detail: self.warned.append((code, detail)),
            open_outer_port=self.open_outer_port,
            open_pipe=self.open_pipe,
        )

    async def open_outer_port(self):
        return self.outer_ports.pop(0) if self.outer_ports else None

    def count(self, most, *, far):
        """A `ConnectionCount` that says what the test wants."""
        self.most, self.far = most, far

        def look(now, carried, there, *, busy, spare):
            self.looked.append((there, busy, spare))
            return min(self.wanted, most)

        return SimpleNamespace(look=look)

    def step(self, call, *args):
        return call(*args)

    async def carry_sender(self, number, lane):
        """Until the lane is dropped, as `SendDriver` does; it drops one that it finds lost when it
        sends, and a direct lane that is lost is for others to find."""
        windows = self.at_sender.lanes.windows
        self.carrying["sender"][number] = lane
        try:
            while number in windows:
                if lane.gone.is_set() and windows[number].rank == sessions.WEBRTC:
                    self.at_sender.lanes.drop(number)
                await asyncio.sleep(0.25)
        finally:
            del self.carrying["sender"][number]

    async def carry_recipient(self, number, lane):
        """Until the lane is lost, as `ReceiveDriver` does."""
        self.carrying["recipient"][number] = lane
        try:
            with pytest.raises(LaneLost):
                while True:
                    await lane.recv()
        finally:
            del self.carrying["recipient"][number]

    def numbers(self):
        """Of the lanes that either side carries: (the sender's, the recipient's)."""
        return tuple(sorted(self.carrying[role]) for role in ("sender", "recipient"))

    async def until(self, *numbers, seconds=10.0):
        """Both sides carry exactly these."""
        async with asyncio.timeout(seconds):
            while self.numbers() != (list(numbers), list(numbers)):
                await asyncio.sleep(0.05)

    def fly(self, number, offset=0):
        """A range is under way on a lane of the sender's."""
        header = Header(b"\x77" * 16, Stream.DATA, 0, offset, MIN_RANGE)
        self.at_sender.lanes.sent(number, header, bytes(MIN_RANGE), time.monotonic())
        return header

    def arrive(self, number):
        """All that is under way on it is acknowledged."""
        window = self.at_sender.lanes.windows[number]
        count = window.arrived + len(window.flights)
        self.at_sender.lanes.acknowledged([(number, count)], time.monotonic())

    @property
    def waiting(self):
        """Ranges that wait for another lane."""
        return self.at_sender.lanes.reinjection.waiting

    def send(self):
        """The recipient has accepted."""
        self.at_sender.state = SenderState.SENDING

    async def stop(self):
        """The session is over; what `run` raised."""
        for task in self.tasks:
            task.cancel()
        raised = await asyncio.gather(*self.tasks, return_exceptions=True)
        for one in (self.sender, self.recipient):
            one.close()
        assert self.numbers() == ([], [])
        assert all(one.closed.is_set() for one in self.network.made)
        assert all(one.closed for one in MemoryDirectLanes.listening.values())
        return raised


# --- further WebRTC connections -------------------------------------------------------------------


@virtual_time
async def test_connections_come_and_go_by_the_count(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    sides.wanted = 4
    await asyncio.sleep(5)
    assert sides.numbers() == ([0], [0]), "nothing before the recipient has accepted"
    sides.send()
    await sides.until(0, 1, 2, 3)
    assert sides.at_recipient.added == [1, 2, 3]
    assert len(sides.sender.webrtc) == len(sides.recipient.webrtc) == 3
    for offerer in (True, False):
        assert [one.offerer for one in sides.network.made].count(offerer) == 3
    sides.wanted = 2
    await sides.until(0, 1)
    sides.wanted = 3
    await sides.until(0, 1, 4)
    assert sides.at_sender.lanes.number() == 5, "no number twice"
    assert {there for there, *_ in sides.looked} >= {1, 2, 4}
    await sides.stop()


@virtual_time
async def test_what_is_under_way_on_a_connection_that_goes_may_still_arrive(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    sides.wanted = 3
    await sides.until(0, 1, 2)
    late, lost = sides.fly(1), sides.fly(2, MIN_RANGE)
    sides.wanted = 1
    await asyncio.sleep(multipath.RETIRE_SECONDS / 2)
    assert sides.numbers()[0] == [0, 1, 2]
    assert not any(sides.at_sender.lanes.windows[number].works for number in (1, 2))
    sides.arrive(1)
    await sides.until(0, 2, seconds=1)
    await sides.until(0)
    assert sides.waiting == [lost]
    assert late not in sides.waiting
    await sides.stop()


@pytest.mark.parametrize(
    ("capabilities", "most"),
    [((LANES, MANY_LANES), 24), ((LANES,), 8), ((), 1)],
    ids=["native", "browser", "neither"],
)
@virtual_time
async def test_no_more_connections_than_the_other_side_takes(monkeypatch, capabilities, most):
    sides = Sides(monkeypatch, capabilities=capabilities, ports=(None, None))
    sides.send()
    sides.wanted = 99
    await asyncio.sleep(2)
    assert len(sides.sender.webrtc) == len(sides.recipient.webrtc) == most - 1
    await sides.stop()


@virtual_time
async def test_beside_a_relay_a_direct_connection_is_tried_until_there_is_one(monkeypatch):
    network = Network()
    network.fails_after = 1.0
    sides = Sides(monkeypatch, ports=(None, None), network=network, path="relayed")
    sides.send()
    await asyncio.sleep(60)
    tried = len(network.made) // 2
    assert 3 <= tried <= 6, "less and less often"
    assert sides.numbers()[0] == [0]
    assert sides.sender.path == "relayed"
    network.fails_after = None
    await asyncio.sleep(65)
    assert sides.sender.path == sides.recipient.path == "direct"
    assert len(sides.sender.webrtc) == 1
    sides.wanted = 4
    await asyncio.sleep(2)
    assert len(sides.sender.webrtc) == 4, "lane 0 is none of them"
    await sides.stop()


@pytest.mark.parametrize("may_add", [(False, False), (True, False)], ids=["both", "a sender asks"])
@virtual_time
async def test_who_wants_a_relay_only_gets_no_direct_connection_beside_it(monkeypatch, may_add):
    """A recipient's answer would tell its addresses."""
    sides = Sides(monkeypatch, ports=(None, None), path="relayed", may_add=may_add)
    sides.send()
    sides.wanted = 4
    await asyncio.sleep(120)
    assert all(one.offerer for one in sides.network.made)
    assert sides.sender.path == "relayed"
    await sides.stop()


@pytest.mark.parametrize(
    ("loop", "program", "heard"),
    [(0.9, 0.9, (True, False)), (0.5, 0.9, (False, False)), (0.1, 0.2, (False, True))],
)
@virtual_time
async def test_the_count_hears_how_much_there_is_to_do(monkeypatch, loop, program, heard):
    monkeypatch.setattr(multipath._Load, "look", lambda self, now: (loop, program))
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    await asyncio.sleep(1)
    assert {(busy, spare) for _, busy, spare in sides.looked} == {heard}
    await sides.stop()


def test_the_load_is_the_share_of_time_that_is_work(monkeypatch):
    now = SimpleNamespace(wall=10.0, loop=0.0, program=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.wall)
    monkeypatch.setattr(time, "thread_time", lambda: now.loop)
    monkeypatch.setattr(time, "process_time", lambda: now.program)
    load = multipath._Load()
    for _ in range(20):
        now.wall, now.loop, now.program = now.wall + 0.25, now.loop + 0.225, now.program + 0.3
        loop, program = load.look(now.wall)
    assert loop == pytest.approx(0.9, abs=0.01)
    assert program == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize(
    ("round_trip", "rate", "far"),
    [
        (0.005, 1_000_000, False),
        (0.08, 1_000_000, True),
        (0.08, 50_000, False),
        (float("inf"), 1_000_000, False),
    ],
    ids=["near", "far", "slow", "unknown"],
)
@virtual_time
async def test_the_count_hears_whether_the_peer_is_far_away(monkeypatch, round_trip, rate, far):
    sides = Sides(monkeypatch, ports=(None, None))
    lanes = sides.at_sender.lanes
    lanes.windows[0].quickest = round_trip
    sides.send()
    for _ in range(20):
        await asyncio.sleep(0.1)
        lanes.carried += rate // 10
    assert sides.far is far
    assert sides.looked
    await sides.stop()


@virtual_time
async def test_to_a_peer_far_away_direct_lanes_have_their_time_first(monkeypatch):
    sides = Sides(monkeypatch)
    sides.at_sender.lanes.windows[0].quickest = 0.5
    sides.sender.admitted.set()
    sides.send()
    sides.wanted = 8
    await asyncio.sleep(0.3)
    sides.at_sender.lanes.carried += MIN_RANGE
    await asyncio.sleep(4)
    assert sides.far
    assert sides.looked
    assert not sides.network.made
    assert sides.sender.path == "tls"
    await sides.stop()


@virtual_time
async def test_a_connection_that_does_not_open_is_given_up_and_nothing_else(monkeypatch):
    async def never(self):
        await asyncio.Event().wait()

    monkeypatch.setattr("tests.lanes.memory.MemoryConnection.opened", never)
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    sides.wanted = 2
    await asyncio.sleep(multipath.OPEN_SECONDS - 1)
    assert sides.sender._connections == {1}, "one at a time"
    sides.wanted = 1
    await asyncio.sleep(2)
    assert not sides.sender._connections
    assert not sides.recipient._connections
    assert all(one.closed.is_set() for one in sides.network.made)
    assert sides.numbers() == ([0], [0])
    await sides.stop()


@virtual_time
async def test_an_engine_that_fails_costs_a_lane_and_nothing_else(monkeypatch):
    network = Network()

    def fail(connection):
        raise RuntimeError("no more sockets")

    network.on_made = fail
    sides = Sides(monkeypatch, ports=(None, None), network=network)
    sides.send()
    sides.wanted = 2
    await asyncio.sleep(3)
    assert sides.numbers() == ([0], [0])
    assert not any(task.done() for task in sides.tasks)
    await sides.stop()


@virtual_time
async def test_a_peer_that_breaks_the_protocol_about_a_lane_ends_the_session(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    sides.wanted = 2
    monkeypatch.setattr(sides.at_recipient, "signal", lambda *said: None)
    while not sides.sender._signals:
        await asyncio.sleep(0.05)
    sides.sender.take(LaneSignalled(1, Knock(bytes(16), "native")))
    with pytest.raises(PeerError):
        await sides.tasks[0]
    await sides.stop()


@virtual_time
async def test_a_connection_that_is_lost_leaves_its_ranges_to_the_others(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    sides.wanted = 2
    await sides.until(0, 1)
    header = sides.fly(1)
    sides.wanted = 1
    sides.carrying["sender"][1].lose()
    await sides.until(0)
    assert sides.waiting == [header]
    assert 1 not in sides.at_sender.lanes.windows
    await sides.stop()


@virtual_time
async def test_a_lane_that_brings_nothing_is_dropped_but_never_the_connections_own(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    sides.wanted = 3
    await sides.until(0, 1, 2)
    own, dead, alive = sides.fly(0), sides.fly(1, MIN_RANGE), sides.fly(2, 2 * MIN_RANGE)
    await asyncio.sleep(multipath.DEAD_SECONDS - 1)
    sides.arrive(2)
    sides.fly(2, 3 * MIN_RANGE)
    sides.wanted = 2
    await sides.until(0, 2, seconds=2)
    assert dead in sides.waiting
    assert own not in sides.waiting
    assert alive not in sides.waiting
    await sides.stop()


@virtual_time
async def test_a_recipient_that_says_its_disk_stalls_keeps_its_lanes(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    sides.wanted = 3
    await sides.until(0, 1, 2)
    monkeypatch.setattr(sides.sender.session, "peer_is_slow", True)
    dead = sides.fly(1, MIN_RANGE)
    await asyncio.sleep(3 * multipath.DEAD_SECONDS)
    assert sorted(sides.sender.session.lanes.windows) == [0, 1, 2]
    monkeypatch.setattr(sides.sender.session, "peer_is_slow", False)
    while dead not in sides.waiting:
        await asyncio.sleep(0.1)
    await sides.stop()


# --- what a recipient answers ---------------------------------------------------------------------


@virtual_time
async def test_signals_of_lanes_that_are_not_known_are_ignored(monkeypatch):
    """They cross the end of a lane on the wire."""
    sides = Sides(monkeypatch, ports=(None, None))
    await asyncio.sleep(0.1)
    candidate = Candidate("1", 1, "192.0.2.1", 40_000, "host")
    for one in (sides.sender, sides.recipient):
        one.take(LaneSignalled(7, Candidates((candidate,))))
    sides.sender.take(LaneSignalled(7, Description(*NONCES, "u", "p", b"f", "actpass", 65_536)))
    await asyncio.sleep(0.5)
    assert not sides.network.made
    await sides.stop()


@virtual_time
async def test_a_recipient_opens_only_so_many_connections_at_once(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    await asyncio.sleep(0.1)
    offer = Description(*NONCES, "ufrag", "p" * 22, b"f" * 32, "actpass", 65_536)
    for number in range(1, 40):
        sides.recipient.take(LaneSignalled(number, offer))
    await asyncio.sleep(1)
    assert len(sides.network.made) == multipath.WEBRTC_LANES
    await sides.stop()


@virtual_time
async def test_late_candidates_of_a_lane_that_is_open_do_no_harm(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    sides.send()
    sides.wanted = 2
    await sides.until(0, 1)
    for one in (sides.sender, sides.recipient):
        one.take(LaneSignalled(1, Candidates((Candidate("1", 1, "192.0.2.1", 40_000, "host"),))))
    await asyncio.sleep(1)
    assert sides.numbers() == ([0, 1], [0, 1])
    await sides.stop()


# --- direct lanes ---------------------------------------------------------------------------------


@virtual_time
async def test_direct_lanes_are_made_once_the_recipient_is_admitted(monkeypatch):
    sides = Sides(monkeypatch)
    await asyncio.sleep(5)
    assert not MemoryDirectLanes.listening, "whoever is not admitted learns no address"
    sides.sender.admitted.set()
    await sides.until(0, 1, 2)
    assert sides.at_recipient.added == [1, 2]
    assert len(sides.at_sender.announced) == len(sides.at_recipient.announced) == 1
    sent, received = MemoryDirectLanes.listening.values()
    assert (sent.trusted, received.trusted) == (received.certificate, sent.certificate)
    ranks = {number: one.rank for number, one in sides.at_sender.lanes.windows.items()}
    assert ranks == {
        0: sessions.WEBRTC,
        **dict.fromkeys((1, 2), sessions.DIRECT),
    }
    await sides.stop()


@pytest.mark.parametrize(
    ("capabilities", "ports"),
    [((LANES,), (PORTS, PORTS)), (ABLE, (None, PORTS))],
    ids=["a recipient that cannot", "a sender that may not"],
)
@virtual_time
async def test_no_direct_lanes_where_one_side_has_none(monkeypatch, capabilities, ports):
    sides = Sides(monkeypatch, capabilities=capabilities, ports=ports)
    sides.sender.admitted.set()
    await asyncio.sleep(5)
    assert not MemoryDirectLanes.listening
    assert sides.numbers() == ([0], [0])
    await sides.stop()


@virtual_time
async def test_a_recipient_that_may_not_answers_nothing(monkeypatch):
    sides = Sides(monkeypatch, ports=(PORTS, None))
    sides.sender.admitted.set()
    await asyncio.sleep(5)
    assert len(MemoryDirectLanes.listening) == 1
    assert sides.numbers() == ([0], [0])
    await sides.stop()


@virtual_time
async def test_no_port_is_said_and_no_more_than_that(monkeypatch):
    monkeypatch.setattr(MemoryDirectLanes, "can_listen", False)
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await asyncio.sleep(1)
    assert sides.warned == [("no_direct_port", "the port is already in use")]
    assert not any(task.done() for task in sides.tasks)
    await sides.stop()


@virtual_time
async def test_a_certificate_that_is_none_costs_direct_lanes_and_nothing_else(monkeypatch):
    def trust(self, certificate):
        raise ValueError("not a certificate")

    monkeypatch.setattr(MemoryDirectLanes, "trust", trust)
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await asyncio.sleep(5)
    assert sides.numbers() == ([0], [0])
    assert not any(task.done() for task in sides.tasks)
    await sides.stop()


@virtual_time
async def test_a_direct_lane_that_is_lost_at_once_is_made_again(monkeypatch):
    connect = MemoryDirectLanes.connect
    lost: list[MemoryDirectLane] = []

    async def connect_badly(self, addresses, port):
        lane = await connect(self, addresses, port)
        if len(lost) < 2:
            lost.append(lane)
            lane.lose()
        return lane

    monkeypatch.setattr(MemoryDirectLanes, "connect", connect_badly)
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await sides.until(0, 3, 4, seconds=60)
    await sides.stop()


OUTSIDE = ("192.0.2.1", 50_000), ("192.0.2.1", 50_001)  # where the connection found them


@virtual_time
async def test_where_nobody_can_connect_both_do_at_once(monkeypatch):
    """From ports whose outer addresses they have told each other; the sender's end is the server."""
    sides = Sides(monkeypatch)
    sides.outer_ports = list(both := MemoryOuterPort.both(*OUTSIDE))
    MemoryDirectLanes.refusing = {40_000, 40_001}
    sides.sender.admitted.set()
    await asyncio.sleep(multipath.PUNCH_AFTER_SECONDS + 1)
    assert len(sides.sender.direct) == len(sides.recipient.direct) == 1
    told = [one.announced[0].outer for one in (sides.at_sender, sides.at_recipient)]
    assert told == [one.outer for one in both]
    ends = [one._direct.adopted for one in (sides.sender, sides.recipient)]  # type: ignore[union-attr]
    assert ends == [("192.0.2.1", True), ("192.0.2.1", False)]
    await sides.stop()
    assert all(one.closed for one in both)


@virtual_time
async def test_nobody_tries_that_where_an_ordinary_connection_came_about(monkeypatch):
    sides = Sides(monkeypatch)
    sides.outer_ports = list(both := MemoryOuterPort.both(*OUTSIDE))
    sides.sender.admitted.set()
    await asyncio.sleep(multipath.PUNCH_AFTER_SECONDS + 1)
    assert sides.sender.direct
    assert not any(one.tried.is_set() for one in both)
    await sides.stop()


@virtual_time
async def test_an_outer_port_is_closed_whatever_comes_between(monkeypatch):
    """Such as that no other is to be had to listen on."""

    async def refused(cls, ports):
        await asyncio.sleep(0.1)
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(MemoryDirectLanes, "open", classmethod(refused))
    sides = Sides(monkeypatch)
    sides.outer_ports = list(made := MemoryOuterPort.both(*OUTSIDE))
    sides.sender.admitted.set()
    await asyncio.sleep(1)
    await sides.stop()
    assert made[0].closed
    assert [code for code, _ in sides.warned] == ["no_direct_port"]


@virtual_time
async def test_an_outer_port_is_closed_though_its_transfer_is_cancelled_twice(monkeypatch):
    made = MemoryOuterPort(("198.51.100.9", 50_000))

    async def late():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        return made

    async def wanted():
        return True

    async def never(cls, ports):
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryDirectLanes, "open", classmethod(never))
    monkeypatch.setattr(multipath, "DirectLanes", MemoryDirectLanes)
    context = SimpleNamespace(direct_ports=(40_000, 40_001), open_outer_port=late)
    side: Any = SimpleNamespace(_context=context, _direct_wanted=wanted)
    task = asyncio.create_task(multipath.Multipath._keep_direct(side))
    for _ in range(2):
        await asyncio.sleep(0.1)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert made.closed


@pytest.mark.parametrize("outer", [("198.51.100.9", 50_000), ("127.0.0.1", 50_000)])
@virtual_time
async def test_a_peer_does_not_have_it_knock_elsewhere(monkeypatch, outer):
    """An outer address that the connection was not offered is nobody's to name."""
    sides = Sides(monkeypatch)
    sides.outer_ports = list(both := MemoryOuterPort.both(outer, OUTSIDE[1]))
    MemoryDirectLanes.refusing = {40_000, 40_001}
    sides.sender.admitted.set()
    await asyncio.sleep(multipath.PUNCH_AFTER_SECONDS + 1)
    assert not both[1].tried.is_set()
    await sides.stop()


@virtual_time
async def test_there_are_no_further_connections_beside_direct_lanes(monkeypatch):
    sides = Sides(monkeypatch)
    sides.send()
    sides.wanted = 4
    await sides.until(0, 1, 2, 3)
    sides.sender.admitted.set()
    await sides.until(0, 4, 5)
    await sides.stop()


@virtual_time
async def test_where_the_sender_cannot_connect_the_recipient_does(monkeypatch):
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    while len(MemoryDirectLanes.listening) < 2:
        await asyncio.sleep(0.001)
    of_recipient = max(MemoryDirectLanes.listening)
    MemoryDirectLanes.refusing.add(of_recipient)
    await sides.until(0, 1, 2)
    assert len(sides.recipient.direct) == 2, "as many as the sender takes"
    await sides.stop()


@virtual_time
async def test_where_nobody_can_connect_it_is_tried_less_and_less_often(monkeypatch):
    tried = []

    async def connect(self, addresses, port):
        tried.append((self.port, time.monotonic()))
        raise LaneLost

    monkeypatch.setattr(MemoryDirectLanes, "connect", connect)
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await asyncio.sleep(200)
    for port in MemoryDirectLanes.listening:
        waits = [b - a for a, b in pairwise(when for one, when in tried if one == port)]
        assert waits == sorted(waits)
        assert waits[-1] == pytest.approx(multipath.LONGEST_AGAIN_SECONDS)
    await sides.stop()


@virtual_time
async def test_a_direct_lane_that_is_lost_leaves_its_ranges_and_another_takes_its_place(
    monkeypatch,
):
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    sides.send()
    await sides.until(0, 1, 2)
    header = sides.fly(1)
    sides.sender.direct[1].close()
    await sides.until(0, 2, 3)
    assert sides.waiting == [header]
    await sides.stop()


@virtual_time
async def test_a_direct_lane_that_brings_nothing_is_closed(monkeypatch):
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await sides.until(0, 1, 2)
    lane, header = sides.sender.direct[1], sides.fly(1)
    await asyncio.sleep(multipath.DEAD_SECONDS + 1)
    assert lane.lost
    assert header in sides.waiting
    await sides.stop()


@virtual_time
async def test_a_direct_lane_that_has_carried_enough_is_replaced_by_one_with_new_keys(monkeypatch):
    monkeypatch.setattr(multipath, "MOST_RANGES", 3)
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await sides.until(0, 1, 2)
    for offset in range(4):
        sides.fly(1, offset * MIN_RANGE)
    sides.arrive(1)
    await sides.until(0, 2, 3)
    assert not sides.waiting
    await sides.stop()


@virtual_time
async def test_where_losses_slow_a_connection_down_more_direct_lanes_help(monkeypatch):
    """As long as each is faster than the slowest a lane gets; without congestion control for it."""
    monkeypatch.setattr(multipath, "has_congestion_control", lambda: False)
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await sides.until(0, 1, 2)
    await asyncio.sleep(5)
    assert sides.numbers()[0] == [0, 1, 2], "none has shown that it is fast"
    for number in (1, 2):
        sides.fly(number)
        sides.arrive(number)
    await asyncio.sleep(20)
    assert len(sides.sender.direct) == 3, "and the third shows it first"
    await sides.stop()


@virtual_time
async def test_a_connection_that_says_no_number_is_not_used(monkeypatch):
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await sides.until(0, 1, 2)
    received = MemoryDirectLanes.listening[max(MemoryDirectLanes.listening)]
    for said in (b"", b"\x00", b"\x00\x00\x07"):
        here, there = MemoryDirectLane(), MemoryDirectLane()
        here.peer, there.peer = there, here
        received.accepted.put_nowait(there)
        if said:
            await here.send(said)
        await asyncio.sleep(10)
        assert there.lost
    assert sides.numbers() == ([0, 1, 2], [0, 1, 2])
    await sides.stop()


@virtual_time
async def test_a_recipient_takes_only_so_many_direct_lanes(monkeypatch):
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await sides.until(0, 1, 2)
    received = MemoryDirectLanes.listening[max(MemoryDirectLanes.listening)]
    made = []
    for number in range(3, 12):
        here, there = MemoryDirectLane(), MemoryDirectLane()
        here.peer, there.peer = there, here
        await here.send(number.to_bytes(multipath.HELLO, "big"))
        received.accepted.put_nowait(there)
        made.append(there)
    await asyncio.sleep(1)
    assert len(sides.recipient.direct) == multipath.DIRECT_LANES_UNDER_LOSS
    assert [one.lost for one in made] == [False] * 6 + [True] * 3
    await sides.stop()


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.26, 0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("direct", [False, True])
@virtual_time
async def test_nothing_outlives_the_session_whenever_it_ends(monkeypatch, after, direct):
    """`Sides.stop` looks at connections and lanes, `virtual_time` at tasks."""
    sides = Sides(monkeypatch, ports=(PORTS, PORTS) if direct else (None, None))
    sides.send()
    sides.wanted = 4
    if direct:
        sides.sender.admitted.set()
    await asyncio.sleep(after)
    raised = await sides.stop()
    assert [type(one) for one in raised] == [asyncio.CancelledError] * 2


@virtual_time
async def test_what_a_lane_raises_is_raised_as_itself(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))

    async def carry(number, lane):
        raise PeerError("range_beyond_limit")

    sides.sender._carry = carry
    with pytest.raises(PeerError, match="range_beyond_limit"):
        await sides.tasks[0]
    await sides.stop()


@virtual_time
async def test_work_that_comes_when_the_session_ends_is_refused_and_never_begun(monkeypatch):
    sides = Sides(monkeypatch, ports=(None, None))
    await asyncio.sleep(0.1)
    await sides.stop()
    begun = []

    async def work():
        begun.append(True)

    with pytest.raises(RuntimeError):
        sides.sender._begin(work())
    assert not begun


@virtual_time
async def test_an_announcement_that_comes_when_the_lanes_are_stopped_is_too_late(monkeypatch):
    """Whatever waited for it is cancelled then."""
    sides = Sides(monkeypatch)
    sides.sender.admitted.set()
    await asyncio.sleep(0.01)
    sides.sender._peer.cancel()
    sides.sender.take(DirectAnnounced(DirectEndpoint((), 1, b"")))
    await sides.stop()


# --- lanes that a page fetches --------------------------------------------------------------------


@virtual_time
async def test_a_lane_that_cannot_be_had_is_tried_again_later_and_later(monkeypatch):
    asked = []

    async def open_pipe():
        asked.append(round(time.monotonic() - began))
        raise OSError

    began = time.monotonic()
    sides = Sides(monkeypatch, ports=(None, None), path="https", open_pipe=open_pipe)
    await asyncio.sleep(20)
    assert not asked, "before the recipient is admitted"
    sides.sender.admitted.set()
    await asyncio.sleep(200)
    assert [one - 20 for one in asked] == [0, 2, 6, 14, 30, 62, 122, 182]
    assert sides.numbers() == ([0], [0])
    await sides.stop()


@virtual_time
async def test_only_beside_a_connection_by_https_is_any_offered(monkeypatch):
    async def open_pipe():
        raise AssertionError("a lane to a page that came from elsewhere")

    sides = Sides(monkeypatch, ports=(None, None), open_pipe=open_pipe)
    sides.sender.admitted.set()
    await asyncio.sleep(30)
    assert not [one for one in await sides.stop() if isinstance(one, AssertionError)]
