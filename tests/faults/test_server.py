"""The signaling server dies, forgets or cannot be reached: only a meeting needs it."""

from __future__ import annotations

import time

import pytest

from .harness import random_file

SIZE = 40_000_000


@pytest.fixture
def begun(world):
    """A transfer half-way over a server of its own: (server, transfer, what is durable)."""
    server, option = world.server()
    world.network.impair(rate=6)
    moved = world.transfer(random_file(world.folder / "scan.raw", SIZE), send=option)
    return server, moved, moved.reach(0.3)


@pytest.mark.smoke
def test_a_transfer_under_way_does_not_need_it(world, row, begun):
    server, moved, durable = begun
    server.kill()
    moved.recovered(time.monotonic(), durable)
    row("server killed", "under way", moved.finish())


def test_one_that_forgot_everything_is_told_anew(world, row, begun):
    """Killed and started empty: the room is opened again behind the same link."""
    server, moved, durable = begun
    server.kill()
    server.start()
    time.sleep(1)
    world.network.cut(silently=True)
    time.sleep(15)
    world.network.mend()
    moved.recovered(time.monotonic(), durable)
    row("server empty", "then a cut", moved.finish())


def test_a_rebuild_waits_for_it(world, row, begun):
    """It is gone for a minute when the connection has to be made anew."""
    server, moved, durable = begun
    server.kill()
    world.network.cut(silently=True)
    time.sleep(12)
    world.network.mend()
    time.sleep(60)
    assert moved.receiving.process.poll() is None
    assert moved.sending.process.poll() is None
    server.start()
    moved.recovered(time.monotonic(), durable)
    facts = moved.finish()
    assert all("lost" in one.states() for one in (moved.receiving, moved.sending))
    row("server away", "60 s of a rebuild", facts)


def test_a_link_outlives_a_restart_before_anybody_came(world, row):
    server, option = world.server()
    sender = world.machine("sender")
    source = random_file(world.folder / "scan.raw", 1_000_000)
    moved = world.transfer(source, sender=sender, send=option, come=False)
    moved.sending.wait_for("state", state="waiting")
    server.kill()
    moved.sending.wait_for("state", state="server_lost")
    time.sleep(10)
    server.start()
    moved.sending.wait_for("state", state="waiting")
    moved.come()
    row("server restarted", "before anybody came", moved.finish())
