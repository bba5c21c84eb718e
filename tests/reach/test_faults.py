"""What may happen to a transfer under way: cuts, deaths, a relay's credentials that run out."""

from __future__ import annotations

import contextlib
import os
import sys
import time

import pytest

from tests.e2e.harness import Peer, Process, kill_hard
from tests.web_client.browsers import KINDS

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
            code, last = one.end(90)
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_sends_lives_through_half_a_minute_without_network(tmp_path, kind):
    """Longer than its connection lives: it meets its recipient again."""
    with internet(("open", "open"), tmp_path) as net:
        here, there = (Peer(tmp_path / side, side, net.prefixes[side]) for side in SIDES)
        file = tmp_path / "file"
        file.write_bytes(os.urandom(SIZE))
        origin = {**net.environments["sender"], "HANDOVER_SERVER": f"https://{INTERNET}:443"}
        page = (sys.executable, "-m", "tests.reach.page", kind, str(file))
        sending = Process([*here.prefix, *page], here.environment(**origin))
        try:
            link = sending.wait_for("link", 60)["link"]
            own = net.environments["recipient"]
            receiving = there.receive(link, tmp_path / "out", "--auto", *SLOWLY, **own)
            while receiving.wait_for("progress", 60)["durable"] < SIZE // 5:
                pass
            net.cut("sender")
            time.sleep(30)
            net.mend("sender")
            for one in (receiving, sending):
                code, last = one.end(90)
                assert (code, last["event"]) == (0, "complete"), last
            assert {"lost", "resuming"} & set(receiving.states())
        finally:
            sending.kill()
            here.close()
            there.close()
        assert (tmp_path / "out" / "file").read_bytes() == file.read_bytes()


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
