"""What further direct lanes are worth, with each end on one core: `python -m benchmarks.lanes COUNT
...` is `handover ...` with so many.

The sender's server has a process, and so a core, of its own in life; here it shares the sender's.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

from .data import random_file
from .local import floor, temporary
from .measure import COLUMNS, Case, Missing, interleave, machine, rows, table
from .transfer import Prefixes, handover

COUNTS = (1, 2, 4)


def curve(options: Namespace) -> list[list[str]]:
    """1, 2 and 4 direct lanes, each end pinned to one core."""
    if not hasattr(os, "sched_getaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
        raise Missing("this takes two cores, and a system that pins processes to them")
    pinned: Prefixes = (("taskset", "-c", str(cores[0])), ("taskset", "-c", str(cores[1])))
    with temporary() as folder:
        place = Path(folder)
        source = random_file(place / "random.bin", options.size << 20)
        cases = [_case(count, source, place, pinned) for count in COUNTS]
        cases.append(floor(source, cases[0].name))
        done = interleave(cases, options.rounds)
        print(f"{machine()}; {options.size} MiB, {options.rounds} rounds\n")
        lines = list(rows(cases, done))
        table(COLUMNS, lines)
        return lines


def _case(count: int, source: Path, place: Path, pinned: Prefixes) -> Case:
    name = f"handover, {count} direct lane{'s' if count > 1 else ''}, a core each end"
    program = (sys.executable, "-m", "benchmarks.lanes", str(count))
    run = partial(handover, source, place, prefixes=pinned, program=program)
    return Case(name, run, "" if count == 1 else _case(1, source, place, pinned).name, "phase_rate")


def main() -> None:
    """`handover`, with another number of direct lanes."""
    from p2p.cli import main as run
    from p2p.lanes import multipath

    multipath.DIRECT_LANES = multipath.DIRECT_LANES_UNDER_LOSS = int(sys.argv.pop(1))
    run(prog_name="handover")


if __name__ == "__main__":
    main()
