"""The recipient's disk is full, read-only, over quota, broken or too small for one file."""

from __future__ import annotations

import errno
import time

import pytest

from .harness import Machine, Transfer, random_file

SIZE = 40_000_000
RETRIED = 30  # seconds in which it must have noticed that there is room again


def fill(disk):
    """Somebody else takes all that is left."""
    thief = disk / "thief"
    with open(thief, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(65536))
    return thief


def paused(moved, seconds=30):
    for one in (moved.receiving, moved.sending):
        one.wait_for("state", seconds, state="paused")


def goes_on(moved, row, fault, how):
    durable, since = moved.told(), time.monotonic()
    assert not [p for p in moved.out.iterdir() if not p.name.startswith(".handover-")]
    moved.recovered(since, durable)
    assert moved.recovery < RETRIED
    row(fault, how, moved.finish())


@pytest.mark.smoke
def test_a_full_disk_is_waited_for(world, row, small_disk):
    world.network.impair(rate=8)
    disk = small_disk(60)
    source = random_file(world.folder / "scan.raw", SIZE)
    moved = world.transfer(source, out=disk / "out")
    moved.reach(0.2)
    thief = fill(disk)
    paused(moved)
    thief.unlink()
    goes_on(moved, row, "disk full", "by another's file")


def test_a_full_disk_that_grows_is_enough(world, row, small_disk):
    world.network.impair(rate=8)
    disk = small_disk(60)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE), out=disk / "out")
    moved.reach(0.2)
    fill(disk)
    paused(moved)
    small_disk(120)
    goes_on(moved, row, "disk full", "then grown")


@pytest.mark.parametrize(
    "name", ["ENOSPC", "EDQUOT", "EROFS", "EIO", "EHOSTDOWN", "ETIMEDOUT", "EACCES"]
)
@pytest.mark.parametrize("part", [0.2, 0.9])
def test_a_failing_disk_is_waited_for(world, row, name, part):
    """The errors are injected; what was written before them is there."""
    world.network.impair(rate=8)
    recipient = world.machine("recipient", faults=True)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE), recipient=recipient)
    moved.reach(part)
    recipient.faults["errno"] = getattr(errno, name)
    paused(moved)
    time.sleep(5)
    recipient.faults["errno"] = 0
    goes_on(moved, row, f"disk {name}", f"at {part:.0%}")


def test_a_cut_while_paused_is_survived_too(world, row):
    world.network.impair(rate=8)
    recipient = world.machine("recipient", faults=True)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE), recipient=recipient)
    moved.reach(0.2)
    recipient.faults["errno"] = errno.ENOSPC
    paused(moved)
    world.network.cut()
    time.sleep(20)
    world.network.mend()
    time.sleep(10)
    recipient.faults["errno"] = 0
    goes_on(moved, row, "disk ENOSPC", "and a cut of 20 s")


def test_a_kill_while_paused_is_survived_too(world, row):
    world.network.impair(rate=8)
    recipient = world.machine("recipient", faults=True)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE), recipient=recipient)
    moved.reach(0.2)
    recipient.faults["errno"] = errno.ENOSPC
    paused(moved)
    moved.kill("recipient")
    recipient.faults["errno"] = 0
    moved.again("recipient")
    goes_on(moved, row, "disk ENOSPC", "and kill -9")


def test_a_file_that_may_not_be_so_large_ends_it(world, row):
    limit = ("prlimit", f"--fsize={SIZE // 2}")
    recipient = Machine(world.folder / "recipient", (*world.network.prefixes["recipient"], *limit))
    world.machines.append(recipient)
    source = random_file(world.folder / "scan.raw", SIZE)
    moved = Transfer(world.machine("sender"), recipient, source, world.out)
    for one in (moved.receiving, moved.sending):
        code, last = one.end()
        assert (code, last["code"]) == (5, "disk_error"), last
    assert not [p for p in world.out.iterdir() if not p.name.startswith(".handover-")]
    row("file size limit", "half a file", {"message": last["message"]})
