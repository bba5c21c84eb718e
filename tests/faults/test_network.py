"""Bad networks: cables pulled, addresses changed, packets lost, late, twice, too long; a crawl."""

from __future__ import annotations

import time

import pytest

from p2p.lanes.webrtc import available

from .harness import random_file, wait_until

pytestmark = pytest.mark.timeout(900)

RATE = 6  # MB/s: slow enough that a part of a transfer can be met
SIZE = 48_000_000


def cut_test(world, row, *, seconds, part, silently, sides=()):
    world.network.impair(rate=RATE)
    source = random_file(world.folder / "scan.raw", SIZE)
    moved = world.transfer(source)
    durable = moved.reach(part)
    began = time.monotonic()
    world.network.cut(*sides, silently=silently)
    time.sleep(seconds)
    world.network.mend()
    mended = time.monotonic()
    moved.recovered(mended, durable)
    facts = moved.finish()
    for one in (moved.sending, moved.receiving):
        assert one.said("silent"), moved.story()
        silent = next(e["at"] for e in one.events if e.get("state") == "silent")
        assert silent - began < 8, "nobody was told in time"
        if seconds > 11:
            assert one.said("silent", "lost"), moved.story()
    if seconds > 11:
        assert "resumed" in moved.sending.states()
    row(f"cut {seconds} s", f"at {part:.0%}, {'silent' if silently else 'no carrier'}", facts)


@pytest.mark.smoke
def test_a_cut_of_12_seconds_is_survived(world, row):
    cut_test(world, row, seconds=12, part=0.3, silently=False)


@pytest.mark.parametrize("silently", [False, True], ids=["carrier", "silent"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("seconds", [8, 30, 300])
def test_a_cut_is_said_waited_out_and_forgotten(world, row, seconds, part, silently):
    cut_test(world, row, seconds=seconds, part=part, silently=silently)


@pytest.mark.parametrize("seconds", [2, 5])
def test_a_short_cut_is_hardly_noticed(world, row, seconds):
    """After 5 s both engines wait up to 8 s before they send again what was lost: some
    connections are then made anew, which is as quick."""
    world.network.impair(rate=RATE)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE))
    durable = moved.reach(0.4)
    world.network.cut(silently=True)
    time.sleep(seconds)
    world.network.mend()
    moved.recovered(time.monotonic(), durable)
    row(f"cut {seconds} s", "at 40%, silent", moved.finish())
    assert seconds > 2 or "lost" not in moved.sending.states(), moved.story()


def test_ten_cuts_in_one_transfer(world, row):
    """Also while the two are connecting again: the cut after next comes then."""
    world.network.impair(rate=RATE)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE))
    durable = moved.reach(0.1)
    for number in range(10):
        world.network.cut(silently=number % 2 == 0)
        time.sleep(12 if number % 3 else 2)
        world.network.mend()
        time.sleep((1, 3, 8)[number % 3])
    moved.recovered(time.monotonic(), durable)
    row("ten cuts", "2 and 12 s, 1 to 8 s apart", moved.finish())


@pytest.mark.parametrize("side", ["sender", "recipient"])
def test_another_address_is_found_again(world, row, side):
    """With a server of its own: where the sender serves itself, its address is the link's."""
    _, server = world.server()
    world.network.impair(rate=RATE)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE), send=server)
    moved.reach(0.3)
    began = time.monotonic()
    world.network.move(side, world.network.addresses[side] + "7")  # .2 becomes .27
    time.sleep(3)  # what had arrived by then is on the disk
    moved.recovered(began, moved.told())
    row("address change", f"of the {side}", moved.finish())


@pytest.mark.smoke
def test_a_narrow_path_that_says_nothing_is_found_out(world, row):
    """Packets of 1,500 bytes vanish: the first connection comes to nothing, the second does not."""
    world.network.impair(longest=1300)
    source = random_file(world.folder / "scan.raw", 5_000_000)
    began = time.monotonic()
    moved = world.transfer(source)
    moved.recovered(began, 0)
    row("narrow path", "1,300 bytes, no ICMP", moved.finish())
    vanished = world.network.repair()["vanished"]
    fits = available()[0] == "aiortc"  # 1,200 bytes at most
    assert vanished or fits, "no packet was too long: nothing was tested"


def test_a_path_that_becomes_narrow_on_the_way_is_found_out(world, row):
    world.network.impair(rate=RATE)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE))
    moved.reach(0.3)
    began = time.monotonic()
    world.network.impair(rate=RATE, longest=1300)
    time.sleep(3)  # what had arrived by then is on the disk
    moved.recovered(began, moved.told())
    row("narrow path", "from 30% on", moved.finish())


BAD = {
    "loss 1 %": {"delay": 10, "loss": 1},
    "loss 5 %": {"delay": 10, "loss": 5},
    "jitter": {"delay": 40, "jitter": 30},
    "duplicates": {"delay": 10, "duplicate": 10},
    "reordering": {"delay": 10, "reorder": 5},
    "all of it": {"delay": 30, "jitter": 10, "loss": 1, "duplicate": 2, "reorder": 2},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_network_is_only_slower(world, row, name, engine):
    size = 8_000_000
    world.network.impair(rate=12, **BAD[name])
    source = random_file(world.folder / "scan.raw", size)
    options = ("--engine", engine)
    moved = world.transfer(source, send=options, receive=options)
    facts = moved.finish(seconds=300)
    rate = size / 1e6 / facts["took"]
    row(name, f"{engine}, {rate:.2f} MB/s", facts)
    assert not moved.receiving.said("lost"), moved.story()


@pytest.mark.smoke
def test_loss_of_5_in_100_is_only_slower(world, row):
    world.network.impair(rate=12, **BAD["loss 5 %"])
    moved = world.transfer(random_file(world.folder / "scan.raw", 2_000_000))
    row("loss 5 %", "2 MB", moved.finish())


@pytest.mark.parametrize("loss", [0, 2])
def test_a_crawl_ends_nothing(world, row, engine, loss):
    """0.05 MB/s for a minute: no watchdog takes it for dead, and nothing is begun anew."""
    world.network.impair(rate=0.05, queue=400, loss=loss, delay=20)
    options = ("--engine", engine)
    source = random_file(world.folder / "scan.raw", 3_000_000)
    moved = world.transfer(source, send=options, receive=options)
    facts = moved.finish(seconds=600)
    assert facts["took"] > 60, "the network was not slow"
    for one in (moved.sending, moved.receiving):
        assert not one.said("lost"), moved.story()
        if not loss:
            assert not one.said("silent"), moved.story()
    row("0.05 MB/s", f"{engine}, loss {loss} %", facts)


def test_a_slow_recipient_costs_no_memory(world, row):
    """1 MB/s at the end of a fast sender: what waits, waits on the sender's disk."""
    world.network.impair(rate=1.05)
    size = 60_000_000
    source = random_file(world.folder / "scan.raw", size)
    moved = world.transfer(source)
    moved.reach(0.1)
    early = [p.peak for p in (moved.sending, moved.receiving)]
    facts = moved.finish(seconds=300)
    late = [p.peak for p in (moved.sending, moved.receiving)]
    row("slow recipient", "1 MB/s", facts)
    assert max(late) < 200e6, facts
    assert max(b - a for a, b in zip(early, late, strict=True)) < 40e6, (early, late)


def test_a_cut_before_the_accept_ends_as_it_always_did(world):
    """Nothing was accepted, so nothing is waited for: the recipient says so and may ask again."""
    world.network.impair(delay=5)
    moved = world.transfer(random_file(world.folder / "scan.raw", 1_000_000))
    moved.receiving.wait_for("state", state="opened")
    world.network.cut()
    code, last = moved.receiving.end(90)
    assert code == 1, last
    world.network.mend()
    wait_until(lambda: moved.sending.process.poll() is None, 1)
    moved.again("recipient")
    moved.finish()


@pytest.mark.smoke
def test_where_udp_is_blocked_it_goes_by_tls(world, row):
    """Connect, carry, and after a cut connect again."""
    world.network.impair(rate=RATE)
    world.network.block("udp")
    _, server = world.server()
    moved = world.transfer(
        random_file(world.folder / "scan.raw", SIZE),
        send=server,
        receive=("--direct-ports", "7000"),
    )
    first = moved.receiving.wait_for("state", state="accepted")
    assert first["at"] - moved.began < 15
    durable = moved.reach(0.3)
    assert moved.receiving.events[-1]["webrtc"] == 0, moved.receiving.events[-1]
    world.network.cut(silently=True)
    time.sleep(12)
    world.network.mend()
    moved.recovered(time.monotonic(), durable)
    row("UDP blocked", "and a cut of 12 s", moved.finish())


@pytest.mark.parametrize("side", ["sender", "recipient"])
def test_where_udp_is_blocked_one_side_may_be_behind_a_firewall(world, row, side):
    """It accepts nothing, the other does."""
    world.network.impair(rate=RATE)
    world.network.block("udp")
    _, server = world.server()
    ports = {"sender": 7001, "recipient": 7002}
    world.network.block("tcp", ports[side])
    send, receive = (("--direct-ports", port) for port in ports.values())
    source = random_file(world.folder / "scan.raw", SIZE)
    moved = world.transfer(source, send=(*server, *send), receive=receive)
    row("UDP blocked", f"nothing reaches the {side}", moved.finish())


@pytest.mark.smoke
def test_one_open_port_serves_a_recipient_that_comes_back_at_once(world, row):
    """The sender has that one port, the recipient none. It comes back from another address, so the
    sender has not learnt that its old connections are dead: their lanes have the port still."""
    world.network.impair(rate=RATE)
    world.network.block("udp")
    world.network.block("tcp", 7002)
    _, server = world.server()
    moved = world.transfer(
        random_file(world.folder / "scan.raw", SIZE),
        send=(*server, "--direct-ports", "7001"),
        receive=("--direct-ports", "7002"),
    )
    durable = moved.reach(0.3)
    world.network.cut(silently=True)
    moved.kill("recipient")
    world.network.move("recipient", "10.77.2.9")
    world.network.mend()
    began = time.monotonic()
    moved.again("recipient")
    moved.recovered(began, durable)
    row("one open port", "and another address", moved.finish())
    assert not {"silent", "lost"} & set(moved.sending.states())
    assert max(e.get("direct", 0) for e in moved.receiving.events) > 1
