"""Tests that are killed leave nothing: no mount, no network, no process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.confined import NETWORKS, die_with_parent
from tests.e2e.harness import ROOT

from .harness import PYTHON, wait_until

INNER = """
import sys, time

def test_under_way(small_disk, world, tmp_path):
    small_disk(4)
    (tmp_path / "file").write_bytes(b"x")
    _, at = world.server()
    world.network.impair()
    world.machine("sender").send("--auto", *at, tmp_path / "file")
    world.machine("recipient").send("--auto", tmp_path / "file")
    print("under way", file=sys.__stderr__, flush=True)
    time.sleep(600)
"""


@pytest.mark.smoke
def test_tests_that_are_killed_leave_nothing_mounted_and_nothing_running(tmp_path):
    inner = tmp_path / "test_inner.py"
    inner.write_text(INNER)
    plugins = ("-p", "tests.conftest", "-p", "tests.faults.conftest", "-p", "no:cacheprovider")
    options = ("-s", "-c", "pyproject.toml", f"--basetemp={tmp_path / 'inner'}", *plugins)
    named = sorted(os.listdir(NETWORKS))
    mounts = Path("/proc/self/mounts").read_text()
    running = subprocess.Popen(
        [PYTHON, "-m", "pytest", *options, inner],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    assert running.stderr
    with running.stderr:
        while not (line := running.stderr.readline()).startswith("under way"):
            assert line, "the inner tests have ended"
        itself = psutil.Process(running.pid)
        started = [itself, *itself.children(recursive=True)]
        running.kill()
        running.wait()
    # The tests, two senders, one with a server of its own, another server, and the emulator.
    assert len(started) >= 6
    wait_until(lambda: not any(one.is_running() for one in started), 20, "something runs on")
    assert Path("/proc/self/mounts").read_text() == mounts
    assert sorted(os.listdir(NETWORKS)) == named
