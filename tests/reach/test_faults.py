"""What may happen to a transfer that goes by a relay: cuts, deaths, credentials that run out."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from tests.e2e.harness import Peer, kill_hard

from .cells import internet
from .network import INTERNET, SIDES

pytestmark = pytest.mark.faults
SIZE = 12_000_000
SLOWLY = ("--limit", "600k")


class Relayed:
    """A transfer between two symmetric NATs, under way."""

    def __init__(self, net, folder, *words):
        self.net, self.folder = net, folder
        self.here, self.there = (Peer(folder / side, side, net.prefixes[side]) for side in SIDES)
        self.file = folder / "file"
        self.file.write_bytes(os.urandom(SIZE))
        server = ("--server", f"https://{INTERNET}:443")
        self.sending, self.link = self.here.send(
            "--auto", *server, *words, self.file, **net.environments["sender"]
        )
        self.receiving = self.there.receive(
            self.link, folder / "out", "--auto", **net.environments["recipient"]
        )
        told = self.receiving.wait_for("progress")
        while told["durable"] < SIZE // 5:
            told = self.receiving.wait_for("progress")
        assert told["path"] == "relayed"

    def finish(self):
        """Both sides say that it is complete, and it is."""
        for one in (self.receiving, self.sending):
            code, last = one.end(180)
            assert (code, last["event"]) == (0, "complete"), last
        assert (self.folder / "out" / "file").read_bytes() == self.file.read_bytes()

    def states(self):
        return [event["state"] for event in self.sending.events if event["event"] == "state"]

    def close(self):
        self.here.close()
        self.there.close()


@pytest.fixture
def begin(tmp_path):
    with contextlib.ExitStack() as opened:

        def start(*words, **server):
            net = opened.enter_context(internet(("symmetric", "symmetric"), tmp_path, **server))
            return opened.enter_context(contextlib.closing(Relayed(net, tmp_path, *words)))

        yield start


def test_credentials_that_run_out_do_not_end_what_is_under_way(begin):
    moved = begin("--limit", "120k", ttl="60s")  # it takes 100 s
    began = time.monotonic()
    moved.finish()
    assert time.monotonic() - began > 60
    assert "lost" not in moved.states()


@pytest.mark.parametrize("seconds", [3, 15])
@pytest.mark.parametrize("side", SIDES)
def test_a_cut_is_lived_through(begin, side, seconds):
    moved = begin(*SLOWLY)
    moved.net.cut(side)
    time.sleep(seconds)
    moved.net.mend(side)
    moved.finish()


@pytest.mark.parametrize("side", SIDES)
def test_who_is_killed_goes_on_by_the_relay(begin, side):
    moved = begin(*SLOWLY)
    name, peer = {"sender": ("sending", moved.here), "recipient": ("receiving", moved.there)}[side]
    kill_hard(getattr(moved, name))
    setattr(moved, name, peer.start("resume", "--auto", **moved.net.environments[side]))
    moved.finish()


def test_a_relay_that_dies_and_comes_back_is_used_again(begin):
    moved = begin(*SLOWLY)
    moved.net.restart_relay()
    moved.finish()
