"""The benchmarks are no tests, but they have to run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.process


def test_a_small_transfer_makes_a_table():
    words = ("local", "--size", "4", "--slow-size", "0", "--rounds", "1", "--only", "handover")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| handover")]
    assert lines, done.stdout + done.stderr
    assert all(float(line[2].split()[0]) > 0 for line in lines)


def test_the_stages_are_all_there():
    words = ("stages", "--size", "8", "--rounds", "1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [
        line.split("|") for line in done.stdout.splitlines() if "er " in line or "ent " in line
    ]
    found = {(line[1].strip(), line[2].strip()): line[3] for line in lines if len(line) > 3}
    for side, stage in (("sender", "seal"), ("sender", "TLS, send"), ("recipient", "open")):
        assert float(found[side, stage].split()[0]) > 0, done.stdout


def test_a_server_under_load_makes_a_table():
    words = ("server", "--counts", "40", "--pairs", "20", "--only", "node")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines() if "node" in line]
    assert [line[1].strip() for line in lines] == ["one node", "2 nodes, Redis"], done.stderr
    assert all(float(line[5]) > 0 and float(line[10]) > 0 for line in lines)


def test_the_quick_one_has_all_rows():
    words = ("--quick", "--size", "4", "--rounds", "1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rates = {
        line.split("|")[1].strip(): line.split("|")[2].strip()
        for line in done.stdout.splitlines()
        if line.startswith("|")
    }
    assert "failed" not in rates.values(), done.stdout + done.stderr
    assert {"handover", "handover, 8 files of 0.5 MB", "primitives, bare"} <= rates.keys()
    assert any(name.endswith("datachannel, bare") or name == "aiortc, bare" for name in rates)
