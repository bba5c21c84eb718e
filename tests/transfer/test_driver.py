"""What drives a session: one way in, one way out, an honest goodbye, and nothing left running.

The sessions here are scripted, but for the last part: two real ones whose time is virtual.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from typing import Any

import pytest

import p2p
from p2p.lanes import LaneLost
from p2p.lanes.tls.targets import Targets
from p2p.protocol import session as sessions
from p2p.protocol.errors import Ending, Failure, HandoverError, PeerError
from p2p.protocol.signal import DirectEndpoint, Knock
from p2p.state.home import Home
from p2p.transfer import driver as drivers
from p2p.transfer.driver import Driver
from p2p.transfer.options import Options
from tests.virtual_time import virtual_time

from .memory import QUEUE, Role, World, carrier_of, connect

ROLES: tuple[Role, ...] = ("sender", "recipient")
ENDED = sessions.Ended(Ending.COMPLETE)


class ScriptedSession:
    """A session that says and does what a test wants."""

    settling = needs_confirmation = False
    due = float("inf")

    def __init__(self):
        self.to_send, self.happened = [], []
        self.received, self.ticks, self.losses, self.aborts = [], [], 0, []
        self.bottlenecks = []
        self.on_frame = lambda frame: None
        self.on_lost = lambda: None

    def frames(self):
        frames, self.to_send = self.to_send, []
        return frames

    def events(self):
        events, self.happened = self.happened, []
        return events

    def says(self, *frames):
        self.to_send += frames

    def tells(self, *events):
        self.happened += events

    def end(self):
        self.happened.append(ENDED)

    def deadline(self):
        return self.due

    def tick(self, now):
        self.ticks.append(now)
        self.due = float("inf")

    def receive_frame(self, frame, now):
        self.received.append(frame)
        self.on_frame(frame)

    def lost(self):
        self.losses += 1
        self.on_lost()

    def abort(self, code, now):
        self.aborts.append(code)
        self.to_send.append(b"abort " + code.encode())

    def report_bottleneck(self, by, now):
        if by not in self.bottlenecks[-1:]:
            self.bottlenecks.append(by)


class ScriptedLanes:
    """No lanes beside the connection's own."""

    def __init__(self):
        self.direct, self.webrtc, self.taken, self.closed = {}, {}, [], False
        self.path = "direct"

    async def run(self):
        await asyncio.Event().wait()

    def take(self, event):
        self.taken.append(event)

    def close(self):
        self.closed = True


class ScriptedDriver(Driver):
    """A driver whose work is a test's: `work(driver)`, beside the control lane and the clock."""

    session: ScriptedSession  # type: ignore[assignment]
    lanes: ScriptedLanes  # type: ignore[assignment]

    def __init__(self, tmp_path, work=None, **options):
        self.told: list[Any] = []
        home, other = Home(tmp_path / "here"), Home(tmp_path / "there")
        given = Options(home=home, emit=self.told.append, direct_ports=None, **options)
        here, there = connect(home.identity.load(), other.identity.load())
        super().__init__(given, home.identity.load(), here, Targets())
        self.peer = carrier_of(there).control  # the other end of the control lane
        self.session, self.lanes = ScriptedSession(), ScriptedLanes()
        self.work, self.unasked, self.cleaned = work, [], 0
        self.progressed, self.withdrawn = [], []

    def _work(self):
        return [self.work(self)] if self.work else []

    def _on_event(self, event):
        self.unasked.append(event)

    def _on_progress(self, event):
        self.progressed.append(event)

    def _on_withdrawn(self, event):
        self.withdrawn.append(event)

    def _clean_up(self):
        self.cleaned += 1

    def step(self, *calls):
        for call in calls:
            self._step(*call)

    def end(self):
        self._step(self.session.end)

    async def heard(self):
        """All that the other side gets, until it is over."""
        found = []
        while not self.peer.inbox.empty():
            found.append(await self.peer.recv())
        return found


def tidy(driver):
    """Whether an end left nothing: what else runs, `virtual_time` finds."""
    left = [one for one in threading.enumerate() if one.name.startswith("handover-disk")]
    return driver.cleaned == 1 and driver.lanes.closed and not left


# --- in and out -----------------------------------------------------------------------------------


@virtual_time
async def test_every_step_sends_its_frames_in_order(tmp_path):
    async def work(driver):
        driver.step((driver.session.says, b"1", b"2"), (driver.session.says, b"3"))
        driver.step((driver.session.says, b"4"))
        driver.end()

    driver = ScriptedDriver(tmp_path, work)
    assert await driver.run() == ENDED
    assert await driver.heard() == [b"1", b"2", b"3", b"4"]
    assert tidy(driver)
    assert not driver.session.aborts


@virtual_time
async def test_a_step_that_raises_has_sent_and_told_what_came_before(tmp_path):
    async def work(driver):
        def call():
            driver.session.says(b"before")
            driver.session.tells(sessions.Suspected(True))
            raise Failure("no_space")

        driver.step((call,))

    driver = ScriptedDriver(tmp_path, work)
    with pytest.raises(Failure):
        await driver.run()
    assert await driver.heard() == [b"before", b"abort no_space"]
    assert driver.told == [p2p.StateChanged("silent")]


@virtual_time
async def test_frames_that_come_reach_the_session_one_by_one(tmp_path):
    driver = ScriptedDriver(tmp_path)

    def on_frame(frame):
        driver.session.says(b"answer to " + frame)
        if frame == b"2":
            driver.session.end()

    driver.session.on_frame = on_frame
    for frame in (b"1", b"2"):
        await driver.peer.send(frame)
    assert await driver.run() == ENDED
    assert driver.session.received == [b"1", b"2"]
    assert await driver.heard() == [b"answer to 1", b"answer to 2"]


@virtual_time
async def test_each_event_goes_where_it_belongs(tmp_path):
    withdrawn = sessions.Withdrawn(((0, 1),))
    announced = sessions.DirectAnnounced(DirectEndpoint.of(["192.0.2.1"], 40_000, b"c"))
    signalled = sessions.LaneSignalled(1, Knock(bytes(16), "native"))
    accepted, confirmed = sessions.Accepted(0), sessions.Confirmed()

    async def work(driver):
        driver.step(
            (
                driver.session.tells,
                sessions.Suspected(True),
                withdrawn,
                announced,
                signalled,
                accepted,
                confirmed,
                sessions.Suspected(False),
                sessions.Suspected(False),
            )
        )
        assert await driver._next(sessions.Confirmed) == confirmed
        driver.end()

    driver = ScriptedDriver(tmp_path, work)
    await driver.run()
    assert driver.told == [p2p.StateChanged("silent"), p2p.StateChanged("resumed")]
    assert driver.withdrawn == [withdrawn]
    assert driver.lanes.taken == [announced, signalled]
    assert driver.unasked == [accepted]


@virtual_time
async def test_progress_is_told_ten_times_a_second_and_the_last_always(tmp_path):
    async def work(driver):
        for number in range(1, 101):
            event = sessions.Progressed(durable=number, verified=number, total=100)
            driver.step((driver.session.tells, event))
            await asyncio.sleep(0.01)
        driver.end()

    driver = ScriptedDriver(tmp_path, work)
    await driver.run()
    assert len(driver.progressed) == 100
    assert 10 <= len(driver.told) <= 12
    last = driver.told[-1]
    assert (last.durable, last.verified, last.total) == (100, 100, 100)
    assert last.rate == pytest.approx(100, rel=0.1)
    assert (last.direct, last.webrtc) == (0, 1)


@virtual_time
async def test_a_last_progress_that_is_said_again_is_told_no_more_often(tmp_path):
    """A peer may acknowledge as often as it likes."""

    async def work(driver):
        for _ in range(100):
            event = sessions.Progressed(durable=100, verified=100, total=100)
            driver.step((driver.session.tells, event))
            await asyncio.sleep(0.001)
        driver.end()

    driver = ScriptedDriver(tmp_path, work)
    await driver.run()
    assert len(driver.progressed) == 100
    assert 1 <= len(driver.told) <= 2


@pytest.mark.parametrize(
    ("own", "peers", "told"),
    [
        ("disk", "limit", "disk"),
        ("limit", "", "limit"),
        ("network", "disk", "other_disk"),
        ("other_side", "limit", "other_limit"),
        ("network", "other_side", "network"),
        ("", "", ""),
    ],
)
@virtual_time
async def test_what_holds_it_up_is_told_where_one_side_is_sure(tmp_path, own, peers, told):
    """And to the other side, what this one sees."""

    async def work(driver):
        driver.step((driver.session.tells, sessions.BottleneckReported(peers)))
        with driver._waits.on(own):
            await asyncio.sleep(3)
        driver.step((driver.session.tells, sessions.Progressed(1, 1, 1)))
        driver.end()

    driver = ScriptedDriver(tmp_path, work)
    await driver.run()
    assert [event.bottleneck for event in driver.told] == [told]
    assert driver.session.bottlenecks == [own]


@virtual_time
async def test_the_session_is_woken_when_its_time_has_come_and_not_before(tmp_path):
    async def work(driver):
        driver.session.due = time.monotonic() + 3
        await asyncio.sleep(10)
        driver.end()

    driver, began = ScriptedDriver(tmp_path, work), time.monotonic()
    await driver.run()
    (woken,) = driver.session.ticks
    assert 3 <= woken - began <= 3 + 2 * sessions.ACK_SECONDS


# --- ends -----------------------------------------------------------------------------------------

GOODBYES = [
    (Failure("declined"), "declined", "declined"),
    (Failure("digits_rejected"), "digits_rejected", "digits_rejected"),
    (PeerError("nonsense"), "protocol", "protocol"),
    (Failure("home_unwritable"), "disk_paused", "home_unwritable"),
    (OSError(errno.ENOSPC, "x"), "disk_paused", "disk_paused"),
    (OSError(errno.EMFILE, "x"), "disk_paused", "descriptors_short"),
    (OSError(errno.EBADF, "x"), "disk_error", "disk_error"),
]


@pytest.mark.parametrize(("error", "told", "code"), GOODBYES, ids=[told for _, told, _ in GOODBYES])
@virtual_time
async def test_a_failure_is_told_to_the_other_side_and_raised(tmp_path, error, told, code):
    async def work(driver):
        raise error

    driver = ScriptedDriver(tmp_path, work)
    with pytest.raises(HandoverError) as caught:
        await driver.run()
    assert caught.value.code == code
    assert driver.session.aborts == [told]
    assert await driver.heard() == [b"abort " + told.encode()]
    assert tidy(driver)


@virtual_time
async def test_what_nobody_expected_is_told_as_internal_and_raised_as_it_is(tmp_path):
    async def work(driver):
        raise RuntimeError("a bug")

    driver = ScriptedDriver(tmp_path, work)
    with pytest.raises(RuntimeError, match="a bug"):
        await driver.run()
    assert driver.session.aborts == ["internal"]
    assert tidy(driver)


async def cancel(driver, times=1):
    """Stop a running driver so often, a moment after it has begun; what it gives or raises."""
    running = asyncio.create_task(driver.run())
    for _ in range(times):
        await asyncio.sleep(1)
        running.cancel()
    return await running


@virtual_time
async def test_a_stop_is_told_to_the_other_side(tmp_path):
    driver = ScriptedDriver(tmp_path)
    with pytest.raises(asyncio.CancelledError):
        await cancel(driver)
    assert await driver.heard() == [b"abort cancelled"]
    assert tidy(driver)


@virtual_time
async def test_a_stop_while_only_signatures_are_missing_lets_them_come(tmp_path):
    async def work(driver):
        await asyncio.sleep(5)
        driver.end()

    driver = ScriptedDriver(tmp_path, work)
    driver.session.settling = True
    assert await cancel(driver) == ENDED
    assert not driver.session.aborts
    assert tidy(driver)


@virtual_time
async def test_a_second_stop_ends_it_even_then(tmp_path):
    driver = ScriptedDriver(tmp_path)
    driver.session.settling = True
    with pytest.raises(asyncio.CancelledError):
        await cancel(driver, times=2)
    assert driver.session.aborts == ["cancelled"]
    assert tidy(driver)


@virtual_time
async def test_a_control_lane_that_is_lost_is_the_sessions_to_judge(tmp_path):
    fatal, harmless = ScriptedDriver(tmp_path / "1"), ScriptedDriver(tmp_path / "2")

    def lose():
        raise Failure("connection_lost")

    fatal.session.on_lost = lose
    harmless.session.on_lost = harmless.session.end
    for driver in (fatal, harmless):
        driver.peer.lose()
    with pytest.raises(Failure) as caught:
        await fatal.run()
    assert caught.value.code == "connection_lost"
    assert await harmless.run() == ENDED
    assert (fatal.session.losses, harmless.session.losses) == (1, 1)
    assert tidy(harmless)


@pytest.mark.parametrize("settling", [False, True])
@virtual_time
async def test_nonsense_ends_it_unless_only_signatures_are_missing(tmp_path, settling):
    """Then the files are delivered, and the other side is as good as gone."""
    driver = ScriptedDriver(tmp_path)

    def on_frame(frame):
        raise PeerError("nonsense")

    driver.session.settling, driver.session.on_frame = settling, on_frame
    driver.session.on_lost = driver.session.end
    await driver.peer.send(b"x")
    if settling:
        assert await driver.run() == ENDED
    else:
        with pytest.raises(PeerError):
            await driver.run()
    assert driver.session.aborts == ([] if settling else ["protocol"])


@virtual_time
async def test_a_loss_after_the_end_is_none(tmp_path):
    async def work(driver):
        driver.end()
        driver._lose()

    driver = ScriptedDriver(tmp_path, work)
    assert await driver.run() == ENDED
    assert driver.session.losses == 0


@virtual_time
async def test_a_clogged_control_lane_loses_no_frame_and_holds_up_no_end(tmp_path):
    """What fits has arrived in order; the rest is waited for two seconds and no longer."""
    count = 3 * QUEUE

    async def work(driver):
        for number in range(count):
            driver.step((driver.session.says, number.to_bytes(2, "big")))
        driver.end()

    driver, began = ScriptedDriver(tmp_path, work), time.monotonic()
    assert await driver.run() == ENDED
    assert time.monotonic() - began == pytest.approx(drivers.DRAIN_SECONDS, abs=0.5)
    got = [int.from_bytes(frame, "big") for frame in await driver.heard()]
    assert got[:QUEUE] == list(range(QUEUE))
    assert tidy(driver)


@virtual_time
async def test_a_control_lane_that_clears_brings_everything_before_the_end(tmp_path):
    count = 3 * QUEUE
    got: list[bytes] = []

    async def work(driver):
        for number in range(count):
            driver.step((driver.session.says, number.to_bytes(2, "big")))
        raise Failure("no_space")

    async def read_late():
        await asyncio.sleep(1)
        while len(got) < count + 1:
            got.append(bytes(await driver.peer.recv()))

    driver = ScriptedDriver(tmp_path, work)
    reading = asyncio.create_task(read_late())
    with pytest.raises(Failure):
        await driver.run()
    await reading
    assert got == [number.to_bytes(2, "big") for number in range(count)] + [b"abort no_space"]


@virtual_time
async def test_disk_work_under_way_is_waited_for_and_told_that_it_is_over(tmp_path):
    """No thread writes to a disk that somebody else has begun to tidy."""
    order = []

    async def work(driver):
        def write():
            while not driver._is_over():
                time.sleep(0.001)
            order.append("written")

        asyncio.get_running_loop().call_later(0, running.cancel)
        await driver._thread(write)

    driver = ScriptedDriver(tmp_path, work)
    driver._clean_up = lambda: order.append("tidy")  # type: ignore[method-assign]
    running = asyncio.create_task(driver.run())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert order == ["written", "tidy"]


@virtual_time
async def test_lanes_that_fail_end_it_as_any_work_does(tmp_path):
    driver = ScriptedDriver(tmp_path)

    async def fail():
        raise PeerError("a lane out of turn")

    driver.lanes.run = fail  # type: ignore[method-assign]
    with pytest.raises(PeerError):
        await driver.run()
    assert driver.session.aborts == ["protocol"]
    assert tidy(driver)


# --- people ---------------------------------------------------------------------------------------


@virtual_time
async def test_who_it_is_is_said_and_a_known_name_with_another_key_is_a_warning(tmp_path):
    driver = ScriptedDriver(tmp_path)
    peer, contacts = driver._secured.peer, driver._options.home.contacts
    contacts.pin(b"\x09" * 32, peer.label, True)
    met = await driver._introduce()
    assert (met.contact, met.changed) == ("", peer.label)
    kinds = [type(event) for event in driver.told]
    assert kinds == [p2p.PeerMet, p2p.Warned, p2p.DigitsShown]
    assert driver.told[1].code == "contact_changed"
    contacts.remove(peer.label)
    contacts.pin(peer.identity, peer.label, False)
    again = await driver._introduce()
    assert (again.contact, again.verified, again.changed) == (peer.label, False, "")
    driver._threads.shutdown()


@pytest.mark.parametrize(("answer", "code"), [(None, "needs_answer"), (False, "digits_rejected")])
@virtual_time
async def test_digits_that_nobody_confirms_end_it(tmp_path, answer, code):
    async def ask(question):
        return answer

    async def work(driver):
        await driver._confirm_digits(await driver._introduce())

    options = {} if answer is None else {"ask": ask}
    driver = ScriptedDriver(tmp_path, work, **options)
    with pytest.raises(Failure) as caught:
        await driver.run()
    assert caught.value.code == code
    assert driver.session.aborts == [code]


# --- two real sessions, in virtual time -----------------------------------------------------------

CONTENTS = (("a", os.urandom(1_000_000)),)


class Silence:
    """What both sides of the latest connection send is held back, until it is `over`."""

    def __init__(self, world):
        self.held = []
        carriers = [end.carrier for end in world.connections[-1]]
        self.lanes = [lane for one in carriers for lane in (one.control, one.data)]
        for lane in self.lanes:
            lane.swallow = lambda message, lane=lane: self.hold(lane, message)

    def hold(self, lane, message):
        self.held.append((lane, bytes(message)))
        return True

    def over(self):
        for lane in self.lanes:
            lane.swallow = lambda message: False
        for lane, message in self.held:  # in order, and before anything new
            lane.peer.inbox.put_nowait(message)


async def under_way(world):
    """Both sides' tasks, once something has arrived."""
    tasks = [world.sending()]
    while not hasattr(world.sender, "identity"):
        await asyncio.sleep(0)
    tasks.append(world.receiving())
    while not any(event.durable for event in world.saw("recipient", p2p.Progressed)):
        await asyncio.sleep(0.05)
    return tasks


@virtual_time
async def test_silence_is_told_after_six_seconds_and_that_it_is_over(tmp_path):
    world = World(tmp_path, CONTENTS, sender={"limit": 100e3})
    tasks = await under_way(world)
    silence = Silence(world)
    await asyncio.sleep(sessions.SUSPECT_SECONDS - 0.5)
    for role in ROLES:
        assert "silent" not in world.states(role)
    await asyncio.sleep(1)
    for role in ROLES:
        assert world.states(role)[-1] == "silent"
    silence.over()
    await asyncio.sleep(0.5)
    for role in ROLES:
        assert "resumed" in world.states(role)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@virtual_time
async def test_ten_seconds_of_silence_are_a_lost_connection_and_the_next_goes_on(tmp_path):
    world = World(tmp_path, CONTENTS, sender={"limit": 100e3})
    tasks = await under_way(world)
    began = time.monotonic()
    Silence(world)
    while "lost" not in world.states("recipient"):
        await asyncio.sleep(0.1)
    assert sessions.LOST_SECONDS - 1 < time.monotonic() - began < sessions.LOST_SECONDS + 1
    outcomes = await asyncio.gather(*tasks)
    assert [one.code for one in outcomes] == ["", ""]
    assert world.disk.files == dict(CONTENTS)
    assert len(world.connections) == 2


@virtual_time
async def test_a_peer_that_is_heard_but_acknowledges_nothing_is_given_up(tmp_path):
    """The data lane is dead, the control lane is not: pings alone do not keep a session."""
    world = World(tmp_path, CONTENTS)
    tasks = await under_way(world)
    began = time.monotonic()
    carrier_of(world.connections[-1][0]).data.swallow = lambda message: True
    while len(world.connections) < 2:
        await asyncio.sleep(0.5)
    took = time.monotonic() - began
    assert sessions.STALL_SECONDS - 1 < took < sessions.STALL_SECONDS + 5
    outcomes = await asyncio.gather(*tasks)
    assert [one.code for one in outcomes] == ["", ""]


@pytest.mark.parametrize("limited", ROLES)
@virtual_time
async def test_a_limit_is_told_as_what_holds_it_up_on_both_sides(tmp_path, limited):
    slow = {"limit": 150e3}
    world = (
        World(tmp_path, CONTENTS, sender=slow)
        if limited == "sender"
        else World(tmp_path, CONTENTS, recipient=slow)
    )
    outcomes = await world.run(60)
    assert [one.code for one in outcomes] == ["", ""]
    for role in ROLES:
        bottleneck = "limit" if role == limited else "other_limit"
        assert bottleneck in {event.bottleneck for event in world.saw(role, p2p.Progressed)}


@virtual_time
async def test_a_lane_that_is_lost_says_so_at_once_to_whoever_waits(tmp_path):
    world = World(tmp_path, CONTENTS, sender={"limit": 100e3})
    tasks = await under_way(world)
    began = time.monotonic()
    world.cut()
    while "lost" not in world.states("recipient"):
        await asyncio.sleep(0.05)
    assert time.monotonic() - began < 0.5
    with pytest.raises(LaneLost):
        await world.connections[0][0].carrier.control.recv()
    outcomes = await asyncio.gather(*tasks)
    assert [one.code for one in outcomes] == ["", ""]
