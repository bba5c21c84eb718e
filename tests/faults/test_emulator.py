"""The emulator by itself: what it says it does to packets is what arrives."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.e2e.harness import output

from .harness import PYTHON

SENDS = """
import socket, struct, sys, time
count, size, gap = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
begin = time.monotonic()
for number in range(count):
    one.sendto(struct.pack("!Qd", number, time.monotonic()).ljust(size, b"x"), ("10.77.2.2", 9))
    time.sleep(max(0, begin + (number + 1) * gap - time.monotonic()))
"""
LISTENS = """
import socket, struct, sys, time
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
one.bind(("0.0.0.0", 9))
print("ready", flush=True)
one.settimeout(float(sys.argv[1]))
try:
    while True:
        data = one.recv(2048)
        number, sent = struct.unpack_from("!Qd", data)
        print(number, time.monotonic() - sent, flush=True)
except TimeoutError:
    pass
"""


def probe(network, count, size=200, gap=0.0005, quiet=1.0):
    """(number, seconds under way) of what arrived, in the order in which it did."""
    listening = subprocess.Popen(
        [*network.prefixes["recipient"], PYTHON, "-c", LISTENS, str(quiet)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert output(listening).readline() == "ready\n"
    words = [str(count), str(size), str(gap)]
    subprocess.run([*network.prefixes["sender"], PYTHON, "-c", SENDS, *words], check=True)
    told, _ = listening.communicate(timeout=60)
    return [(int(a), float(b)) for a, b in map(str.split, told.splitlines())]


def delays(arrived):
    found = sorted(late for _, late in arrived)
    return found[len(found) // 20], found[len(found) // 2], found[-len(found) // 20]


@pytest.mark.smoke
def test_delay_and_jitter_are_as_asked_and_keep_the_order(network):
    network.impair(delay=40)
    low, middle, _ = delays(probe(network, 400))
    assert 0.040 <= low <= middle < 0.050
    network.impair(delay=40, jitter=20)
    arrived = probe(network, 120, gap=0.03)
    low, middle, high = delays(arrived)
    assert 0.020 <= low < 0.034
    assert 0.034 < middle < 0.060
    assert high > 0.050
    assert [number for number, _ in arrived] == list(range(120))


def test_loss_duplicates_and_overtaking_have_their_share_and_their_seed(network):
    knobs = {"delay": 20, "loss": 5, "duplicate": 3, "reorder": 2}
    runs = []
    for seed in (1, 1, 2):
        network.impair(**knobs, seed=seed)
        runs.append([number for number, _ in probe(network, 3000, gap=0.0002)])
    told = network.repair()
    gone = [set(range(3000)) - set(one) for one in runs]
    assert 90 < len(gone[0]) < 210
    assert gone[0] == gone[1] != gone[2]  # the same dice, the same packets
    assert told["lost"] == len(gone[2])
    twice = len(runs[0]) - len(set(runs[0]))
    assert 45 < twice < 135
    overtaken = sum(b < a for a, b in zip(runs[0], runs[0][1:], strict=False))
    assert overtaken > 20


def test_a_rate_is_kept_and_its_queue_is_short(network):
    network.impair(rate=0.5, queue=100)
    began = time.monotonic()
    arrived = probe(network, 1500, size=972, gap=0.0005)  # 1,000 bytes with headers: 2 MB/s
    took = time.monotonic() - began
    assert len(arrived) / took < 600
    assert 300 < len(arrived) < 600
    assert delays(arrived)[2] < 0.13
    assert network.repair()["full"] == 1500 - len(arrived)


@pytest.mark.smoke
def test_long_packets_vanish_without_a_word(network):
    network.impair(longest=1300)
    assert len(probe(network, 20, size=1272)) == 20
    assert probe(network, 20, size=1273) == []
    assert network.repair()["vanished"] == 20


def test_a_cut_cuts_and_mending_mends(network):
    for silently in (False, True):
        network.cut("sender", silently=silently)
        try:
            assert probe(network, 5, gap=0.01) == []
        except subprocess.CalledProcessError:
            assert not silently  # a machine without a link may say so
        network.mend()
        time.sleep(0.2)
        assert len(probe(network, 20, gap=0.01)) >= 18
