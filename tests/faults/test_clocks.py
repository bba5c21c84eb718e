"""Clocks that are a day apart, or jump: nothing but what people read depends on them."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from datetime import datetime

import pytest

from .harness import random_file, wait_until

DAY = 86_400


def times(moved):
    (receipt,) = (moved.sender.home / "receipts").glob("*.json")
    text = json.loads(receipt.read_bytes())["payload"]
    told = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))["times"]
    return {key: datetime.fromisoformat(value).timestamp() for key, value in told.items()}


@pytest.mark.parametrize("off", [DAY, -DAY])
def test_a_day_apart_is_what_the_receipt_says(world, row, off):
    sender = world.machine("sender", faults=True)
    sender.faults["clock"] = off
    source = random_file(world.folder / "scan.raw", 2_000_000)
    moved = world.transfer(source, sender=sender, send=("--expires", "10m"))
    facts = moved.finish()
    found = times(moved)
    assert abs(found["offered"] - found["accepted"] - off) < 60
    assert abs(found["closed"] - found["verified"] - off) < 60
    row("clocks", f"{off // DAY:+d} day apart", facts)


@pytest.mark.parametrize("jump", [DAY, -DAY])
@pytest.mark.parametrize("when", ["before anybody came", "under way", "during a cut"])
def test_a_jump_ends_nothing(world, row, jump, when):
    """The link is good for ten minutes by a clock that nobody sets."""
    world.network.impair(rate=6)
    peers = [world.machine(side, faults=True) for side in ("sender", "recipient")]
    source = random_file(world.folder / "scan.raw", 30_000_000)
    early = when == "before anybody came"
    moved = world.transfer(
        source,
        sender=peers[0],
        recipient=peers[1],
        send=("--expires", "10m"),
        come=not early,
    )
    durable = 0 if early else moved.reach(0.3)
    if when == "during a cut":
        world.network.cut()
        time.sleep(10)
    for peer in peers:
        peer.faults["clock"] = jump
    time.sleep(1)
    world.network.mend()
    if early:
        moved.come()
    moved.recovered(time.monotonic(), durable)
    row("clock jumps", f"{jump // DAY:+d} day, {when}", moved.finish())


@pytest.mark.parametrize("jump", [2 * DAY, -2 * DAY])
@pytest.mark.parametrize("when", ["before anybody came", "under way"])
def test_a_jump_while_nothing_runs_erases_nothing(world, row, jump, when):
    """Whoever looks at what is unfinished, after that, finds it; and it goes on."""
    world.network.impair(rate=6)
    peers = [world.machine(side, faults=True) for side in ("sender", "recipient")]
    early = when == "before anybody came"
    moved = world.transfer(
        random_file(world.folder / "scan.raw", 10_000_000),
        sender=peers[0],
        recipient=peers[1],
        send=("--expires", "10m"),
        come=not early,
    )
    durable = 0 if early else moved.reach(0.3)
    roles = ("sender",) if early else ("sender", "recipient")
    if early:
        wait_until(moved.sender.transfers)
    for role in roles:
        moved.kill(role)
    for peer in peers:
        peer.faults["clock"] = jump
    assert all(len(moved.machine(role).transfers()) == 1 for role in roles)
    moved.again("sender")
    moved.sending.wait_for("link")
    moved.come()
    moved.recovered(time.monotonic(), durable)
    row("clock jumps", f"{jump // DAY:+d} days, nothing running, {when}", moved.finish())
