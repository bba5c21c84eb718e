"""A hundred thousand files; a terabyte that is mostly nothing. Minutes, with flat memory."""

from __future__ import annotations

import os

import pytest

from .harness import random_file, same

pytestmark = pytest.mark.timeout(7200)
MEMORY = 300e6


def test_100_000_files_of_1_kib(world, row):
    source = world.folder / "many"
    for folder in range(100):
        (source / f"{folder:02d}").mkdir(parents=True)
        data = os.urandom(1024 + 1000)
        for number in range(1000):
            (source / f"{folder:02d}" / f"{number:03d}").write_bytes(data[number : number + 1024])
    moved = world.transfer(source)
    facts = moved.finish(seconds=3000)
    row("100,000 files", "1 KiB each", facts)
    assert max(facts["peaks"]) < MEMORY / 1e6


def test_a_sparse_terabyte(world, row):
    """The islands are compared, and that the rest has no blocks; the digests cover all of it."""
    size, islands = 10**12, range(12_345, 10**12, 10**11)
    source = world.folder / "huge.img"
    with open(source, "wb") as file:
        file.truncate(size)
        for at in islands:
            file.seek(at)
            file.write(os.urandom(4_000_000))
    moved = world.transfer(source)
    facts = moved.finish_otherwise((0, 0), seconds=7000)
    arrived = world.out / "huge.img"
    assert arrived.stat().st_size == size
    assert arrived.stat().st_blocks * 512 < 2 * len(islands) * 4_000_000
    with open(source, "rb") as one, open(arrived, "rb") as other:
        for at in islands:
            one.seek(at - 5000)
            other.seek(at - 5000)
            assert one.read(4_010_000) == other.read(4_010_000)
    row("1 TB sparse", f"{len(islands)} islands of 4 MB", {**facts, "same": True})
    assert max(facts["peaks"]) < MEMORY / 1e6


def test_killed_among_100_000_files(world, row):
    """The record of what is there does not grow with every file, nor does starting anew crawl."""
    source = world.folder / "many"
    source.mkdir()
    for number in range(20_000):
        (source / f"{number:05d}").write_bytes(number.to_bytes(4) * 256)
    big = random_file(source / "x.raw", 20_000_000)
    moved = world.transfer(source)
    durable = moved.reach(0.3)
    moved.kill("recipient")
    moved.again("recipient")
    moved.recovered(moved.began, durable, 300)
    row("kill -9 of recipient", "20,000 files", moved.finish(seconds=300))
    same(big, world.out / "many" / "x.raw")
