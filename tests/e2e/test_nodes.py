"""Several nodes of one server, with a real Redis: whichever serves a peer, and whatever ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from p2p.protocol.link import derive_keys, parse_link
from signaling.messages import encode_bytes
from tests.balancer import Balancer
from tests.confined import die_with_parent
from tests.faults.harness import Faults, compile_c
from tests.redis_server import RedisServer

from .harness import ROOT, Peer

pytestmark = pytest.mark.process

DAY = 86_400
SLOW = ("--limit", "4M")  # so that it can be met under way


class Node:
    """A `handover serve` with Redis."""

    def __init__(self, peer, redis_url, **environment):
        self.lines: list[str] = []
        command = [sys.executable, "-m", "p2p", "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, "--log-level", "debug"],
            env=peer.environment(HANDOVER_SERVE_REDIS_URL=redis_url, **environment),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.port = int(self.says(r"Serving on port (\d+)"))
        self.says("Redis answers")

    def says(self, pattern):
        """Read until it says so; the first group."""
        assert self.process.stderr
        while True:
            line = self.process.stderr.readline()
            assert line, self.lines
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found[1] if found.groups() else found[0]

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        """Told to, as an operator does; everything it has said, at debug level."""
        self.process.terminate()
        assert self.process.stderr
        said = self.process.stderr.read()
        assert self.process.wait(20) == 0
        return "".join(self.lines) + said

    def kill(self):
        self.process.kill()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def node(tmp_path):
    """Starts nodes."""
    with contextlib.ExitStack() as closing:

        def start(redis_url, **environment):
            made = Node(Peer(tmp_path / "server"), redis_url, **environment)
            closing.callback(made.kill)
            return made

        yield start


@pytest.fixture
def balanced():
    """Makes load balancers."""
    with contextlib.ExitStack() as closing:

        def make(*ports):
            made = Balancer(*ports)
            closing.callback(made.close)
            return made

        yield make


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.raw"
    path.write_bytes(os.urandom(12_000_000))
    return path


def by(link, node):
    """The same link by another node: any serves it."""
    return re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{node.port}", link)


def arrived(sending, receiving, scan, out):
    for one in (receiving, sending):
        code, last = one.end()
        assert (code, last["event"]) == (0, "complete"), last
    assert (out / scan.name).read_bytes() == scan.read_bytes()


def test_the_peers_may_be_at_different_nodes(node, redis, sender, recipient, out, scan):
    one, two = node(redis.url), node(redis.url)
    sending, link = sender.send(scan, "--auto", "--server", one.origin)
    receiving = recipient.receive(by(link, two), out, "--auto")
    arrived(sending, receiving, scan, out)
    again = recipient.receive(by(link, two), out / "again", "--auto")
    assert again.end()[1]["code"] in (
        "not_found",
        "expired",
    )  # the other node knows that it is over
    keys = derive_keys(parse_link(link).secret)
    planted = [link.partition("#")[2], scan.name, "127.0.0.1"]
    planted += [form for key in (keys.room, keys.join) for form in (key.hex(), encode_bytes(key))]
    said = [each.stop() for each in (one, two)]
    assert "room created" in said[0]
    assert "refused" in said[1]
    for log in said:
        assert not [text for text in planted if text in log]


def test_a_node_that_is_killed_is_left_for_another(
    node, redis, balanced, sender, recipient, out, scan
):
    """First as the sender waits, then as the two are being introduced."""
    one, two, three = (node(redis.url) for _ in range(3))
    door = balanced(one.port)
    sending, link = sender.send(scan, "--auto", "--server", f"http://127.0.0.1:{door.port}")
    door.ports = [two.port]
    one.kill()
    two.says("room created")
    two.process.send_signal(signal.SIGSTOP)  # it never passes on what the recipient says
    receiving = recipient.receive(by(link, three), out, "--auto")
    time.sleep(3)
    door.ports = [three.port]
    two.kill()
    arrived(sending, receiving, scan, out)


@pytest.mark.parametrize("disk", [(), ("--appendonly", "yes")], ids=["empty", "from its disk"])
def test_a_redis_that_is_restarted_ends_nothing(
    node, tmp_path, disk, sender, recipient, third, out, scan
):
    redis = RedisServer(tmp_path, *disk)
    one, two = node(redis.url), node(redis.url)
    waiting, later = sender.send(scan, "--auto", "--server", one.origin)
    sending, link = third.send(scan, "--auto", "--server", one.origin, *SLOW)
    receiving = recipient.receive(by(link, two), out, "--auto")
    receiving.wait_for("progress")
    redis.stop()
    redis.start()
    arrived(sending, receiving, scan, out)
    for each in (one, two):
        each.says("Redis answers")
    arrived(
        waiting, recipient.receive(by(later, two), out / "later", "--auto"), scan, out / "later"
    )
    redis.stop()


def test_a_redis_that_is_silent_for_half_a_minute_ends_nothing(
    node, redis, sender, recipient, third, out, scan
):
    """What is under way goes on, a new sender gets a sentence, and who waits is found later."""
    one, two = node(redis.url), node(redis.url)
    waiting, later = sender.send(scan, "--auto", "--server", one.origin)
    sending, link = third.send(scan, "--auto", "--server", one.origin, "--limit", "1M")
    receiving = recipient.receive(by(link, two), out, "--auto")
    receiving.wait_for("progress")
    redis.pause()
    began = time.monotonic()
    refused = third.start("send", scan, "--auto", "--server", one.origin)
    code, last = refused.end()
    assert (code, last["code"]) == (1, "server_unreachable")
    assert "cannot make an introduction just now" in last["message"]
    time.sleep(max(0.0, began + 30 - time.monotonic()))
    redis.go_on()
    arrived(sending, receiving, scan, out)
    arrived(
        waiting, recipient.receive(by(later, two), out / "later", "--auto"), scan, out / "later"
    )


def test_a_replica_that_takes_over_has_missed_a_room_and_is_told(
    node, tmp_path, balanced, sender, recipient, out, scan
):
    """The room was made after the replica last heard of the first one."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = RedisServer(tmp_path / "first"), RedisServer(tmp_path / "second")
    second.ask("REPLICAOF", "127.0.0.1", str(first.port))
    door = balanced(first.port)
    url = f"redis://127.0.0.1:{door.port}/0"
    one, two = node(url), node(url)
    second.ask("REPLICAOF", "NO", "ONE")
    sending, link = sender.send(scan, "--auto", "--server", one.origin)
    door.ports = [second.port]
    first.stop()
    for each in (one, two):
        each.says("Redis answers")
    arrived(sending, recipient.receive(by(link, two), out, "--auto"), scan, out)
    second.stop()


@pytest.mark.parametrize("off", [DAY, -DAY])
def test_nodes_whose_clocks_are_a_day_apart(
    node, redis, tmp_path, sender, recipient, out, scan, off
):
    """One of them is a day late or early; Redis tells the time of both."""
    wrong = Faults(
        compile_c("shim.c", tmp_path / "shim.so", "-shared", "-fPIC"), tmp_path / "faults"
    )
    wrong["clock"] = off
    one, two = node(redis.url, **wrong.environment), node(redis.url)
    sending, link = sender.send(scan, "--auto", "--server", one.origin, "--expires", "10m")
    receiving = recipient.receive(by(link, two), out, "--auto")
    arrived(sending, receiving, scan, out)
