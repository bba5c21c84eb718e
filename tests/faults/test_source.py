"""What is sent changes, shrinks, goes or is replaced while it is sent."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode

import pytest

from .harness import same, study


def overwrite(path):
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"x" * 500)


def shrink(path):
    os.truncate(path, path.stat().st_size // 2)


def replace(path):
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    os.rename(other, path)


DO = {"changed": overwrite, "shrunk": shrink, "removed": os.unlink, "replaced": replace}
# An open file is still the one that was listed when its name is gone or another's.
WHOLE = {("removed", "under way"), ("replaced", "under way")}


@pytest.mark.parametrize("when", ["under way", "not yet read"])
@pytest.mark.parametrize("what", DO)
def test_it_is_left_out_by_name_and_the_others_arrive(world, row, what, when):
    check(world, row, what, when)


@pytest.mark.smoke
def test_a_source_that_shrinks_is_left_out_by_name(world, row):
    check(world, row, "shrunk", "not yet read")


def check(world, row, what, when):
    """One large file, and one behind it that is not yet read when something happens."""
    world.network.impair(rate=8)
    source = world.folder / "study"
    study(source, 4, 2_000_000)
    big, later = source / "a.raw", source / "z.raw"
    big.write_bytes(os.urandom(24_000_000))
    later.write_bytes(os.urandom(3_000_000))
    kept = study(world.folder / "kept", 4, 2_000_000)
    moved = world.transfer(source)
    moved.reach(0.3)
    victim = big if when == "under way" else later
    names = (victim.name, later.name if victim == big else big.name)
    if (what, when) in WHOLE:
        whole = victim.read_bytes()
    DO[what](victim)
    if (what, when) in WHOLE:
        facts = moved.finish_otherwise((0, 0))
        assert (world.out / "study" / names[0]).read_bytes() == whole
    else:
        facts = moved.finish_otherwise((3, 3))
        for one in (moved.sending, moved.receiving):
            (failed,) = one.events[-1]["failed"]
            assert failed[0] == f"study/{names[0]}", failed
        assert not (world.out / "study" / names[0]).exists()
        assert content(moved)["delivered_entries"] == content(moved)["entries"] - 1
    same(source / names[1], world.out / "study" / names[1])
    for path in kept.rglob("*.dcm"):
        same(path, world.out / "study" / path.relative_to(kept))
    row(f"source {what}", when, {**facts, "same": True})


def content(moved):
    (receipt,) = (moved.sender.home / "receipts").glob("*.json")
    text = json.loads(receipt.read_bytes())["payload"]
    return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))["content"]


@pytest.mark.parametrize("what", ["changed", "shrunk", "removed", "replaced"])
def test_a_sender_does_not_go_on_with_other_files(world, row, what):
    """Killed, its files altered, and started again: it names what is not as it was."""
    world.network.impair(rate=8)
    source = world.folder / "study"
    study(source, 4, 2_000_000)
    (source / "a.raw").write_bytes(os.urandom(24_000_000))
    moved = world.transfer(source)
    moved.reach(0.3)
    moved.kill("sender")
    DO[what](source / "a.raw")
    moved.again("sender")
    code, last = moved.sending.end(60)
    assert (code, last["code"]) == (1, "source_changed"), last
    assert "a.raw" in last["message"]
    row(f"source {what}", "between two sessions", {"message": last["message"]})
