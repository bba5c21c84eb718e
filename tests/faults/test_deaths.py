"""Processes killed at any moment, or asleep: what was durable stays, and it goes on from there."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time

import pytest

from p2p.lanes.webrtc import available

from .harness import WAIT, random_file, study

ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "100"))  # of each role with each engine
SIZES = {"libdatachannel": 40_000_000, "aiortc": 12_000_000}  # a round takes a few seconds
BOTH = ("sender", "recipient")
ROLES = {"sender": ("sender",), "recipient": ("recipient",), "both": BOTH}
TAIL = 60  # changing calls before the end: comparing, placing, signing, tidying up
lengths: dict[str, tuple[float, dict[str, int]]] = {}  # by engine: seconds, calls of each role


def begin(world, engine, name=""):
    source = world.folder / "study"
    if not source.exists():
        study(source, 30, SIZES[engine])
    moved = world.transfer(
        source,
        sender=world.machine("sender", f"{name}sender", faults=True),
        recipient=world.machine("recipient", f"{name}recipient", faults=True),
        send=("--engine", engine),
        receive=("--engine", engine),
        out=world.folder / f"{name}out",
    )
    moved.receiving.wait_for("state", state="accepted", seconds=WAIT)
    return moved


def length(world, engine):
    """Of an undisturbed transfer, from the accept on: seconds, changing calls of each role."""
    if engine not in lengths:
        moved = begin(world, engine, "calm-")
        began, early = time.monotonic(), [moved.machine(r).faults["calls"] for r in BOTH]
        moved.finish()
        took = time.monotonic() - began
        late = [moved.machine(r).faults["calls"] for r in BOTH]
        lengths[engine] = took, {r: b - a for r, a, b in zip(BOTH, early, late, strict=True)}
    return lengths[engine]


def kill(moved, role, seed, seconds, calls):
    """Kill one at a moment that the seed chooses, a time or one of its changing calls, half of
    these near the end; how that reads."""
    dice, process, faults = random.Random(seed), moved.process(role), moved.machine(role).faults
    if seed % 2:
        after = dice.uniform(0, seconds)
        time.sleep(after)
        moved.kill(role)
        return f"after {after:.2f} s"
    low = 1 if seed % 4 else max(1, calls - TAIL)
    ahead = dice.randint(low, calls)
    faults["kill_at"] = faults["calls"] + ahead
    process.process.wait(seconds * 4 + WAIT)
    faults["kill_at"] = 0
    return f"at call {ahead} of {calls}"


def over(machine):
    """Whether nothing is left to do there: signed by both, and nothing is told to be unfinished."""
    found = list((machine.home / "receipts").glob("*.json"))
    signed = [len(json.loads(p.read_bytes())["signatures"]) for p in found]
    return signed == [2] and not machine.transfers()


def round_of(world, row, role, engine, seed):
    seconds, calls = length(world, engine)
    moved = begin(world, engine)
    first, *others = ROLES[role] if seed % 3 else ROLES[role][::-1]
    when = kill(moved, first, seed, seconds, calls[first])
    for other in others:
        moved.kill(other)
    durable, verified = moved.told(), moved.told("verified")
    since = time.monotonic()
    dead = [r for r in ROLES[role] if moved.process(r).process.returncode == -signal.SIGKILL]
    finished = [r for r in dead if over(moved.machine(r))]
    for one in dead:
        if one not in finished:
            moved.again(one, by_id=one == "recipient" and seed % 5 == 0)
    try:
        if "recipient" not in finished and moved.receiving.process.poll() is None:
            moved.recovered(since, durable)
            assert moved.first_progress(since, durable) >= verified, "it began before what it had"
        facts = moved.finish(over=finished)
    except Exception as error:
        error.add_note(f"{first} killed {when}, seed {seed}, {engine}; over: {finished}")
        raise
    row(f"kill -9 of {role}", engine, facts)


@pytest.mark.smoke
@pytest.mark.parametrize("role", ["recipient", "both"])
def test_a_killed_process_goes_on_where_it_was(world, row, role):
    round_of(world, row, role, available()[0], 2)


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("role", ROLES)
def test_killed_at_any_moment(world, row, role, engine, seed):
    round_of(world, row, role, engine, seed)


@pytest.mark.parametrize("back", range(1, 19))
def test_killed_while_names_are_given_without_hard_links(world, row, back):
    """At each of the last changing calls: taken names stay, the new one is whole, no empty one."""
    source = random_file(world.folder / "scan.raw", 100_000)

    def begin(name):
        recipient = world.machine("recipient", name, faults=True)
        recipient.faults["link_errno"] = errno.EPERM
        out = world.folder / f"{name}-out"
        out.mkdir()
        (out / "scan.raw").write_bytes(b"mine")
        return world.transfer(
            source, sender=world.machine("sender", f"{name}-sender"), recipient=recipient, out=out
        )

    calm = begin("calm")
    calm.finish_otherwise((0, 0))
    moved = begin("killed")
    moved.recipient.faults["kill_at"] = calm.recipient.faults["calls"] - back
    moved.receiving.process.wait(WAIT)
    moved.recipient.faults["kill_at"] = 0
    dead = moved.receiving.process.returncode == -signal.SIGKILL
    if dead and not over(moved.recipient):
        moved.again("recipient")
        dead = False
    facts = moved.finish_otherwise((0, None if dead else 0))
    assert sorted(path.name for path in moved.out.iterdir()) == ["scan (1).raw", "scan.raw"]
    assert (moved.out / "scan.raw").read_bytes() == b"mine"
    assert (moved.out / "scan (1).raw").read_bytes() == source.read_bytes()
    row("kill -9 of recipient", "no hard links", facts)


def test_killed_again_and_again(world, row):
    """Each side in turn, some before they have connected again; more is there each time."""
    world.network.impair(rate=6)
    moved = world.transfer(random_file(world.folder / "scan.raw", 60_000_000))
    durable = moved.reach(0.1)
    dice = random.Random(7)
    for number in range(12):
        role = BOTH[number % 2]
        moved.kill(role)
        moved.again(role)
        time.sleep(dice.choice((0.3, 1, 3, 5)))
    moved.recovered(time.monotonic(), durable)
    row("kill -9", "six times each", moved.finish())


def test_what_was_interrupted_can_be_discarded(world, row):
    """Nothing of it stays; and the sender's side of it too."""
    world.network.impair(rate=6)
    moved = world.transfer(random_file(world.folder / "scan.raw", 30_000_000))
    moved.reach(0.4)
    for role in BOTH:
        moved.kill(role)
        (one,) = moved.machine(role).transfers()
        assert (one["role"], one["total"]) == (role, 30_000_000)
        done = moved.machine(role).run("transfers", "discard", one["id"][:8])
        assert done.returncode == 0, done.stderr
        assert moved.machine(role).transfers() == []
    moved.tidy()
    assert not list(world.out.iterdir())
    row("discard", "after kill -9", {"message": done.stderr.strip() or done.stdout.strip()})


def test_an_interrupted_transfer_is_told_with_what_it_has(world):
    world.network.impair(rate=6)
    moved = world.transfer(random_file(world.folder / "scan.raw", 30_000_000))
    durable = moved.reach(0.4)
    moved.kill("recipient")
    (one,) = moved.recipient.transfers()
    assert durable <= one["durable"] <= one["total"] == 30_000_000
    moved.again("recipient", by_id=True)
    moved.recovered(time.monotonic(), durable)
    moved.finish()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", [8, 60])
@pytest.mark.parametrize("role", ROLES)
def test_a_side_that_slept_goes_on(world, row, role, seconds):
    world.network.impair(rate=6)
    moved = world.transfer(random_file(world.folder / "scan.raw", 48_000_000))
    durable = moved.reach(0.4)
    for one in ROLES[role]:
        moved.process(one).signal(signal.SIGSTOP)
    time.sleep(seconds)
    for one in ROLES[role]:
        moved.process(one).signal(signal.SIGCONT)
    moved.recovered(time.monotonic(), durable)
    row("asleep", f"{role}, {seconds} s", moved.finish())
