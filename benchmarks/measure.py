"""What every benchmark is made of: turns, two process trees watched from outside, one table.

CPU is user and system seconds for a GB (10^9 bytes), descendants that have ended included. Peak
memory is each process's own peak of resident memory, as the kernel knows it, added up over a side.
"others' cores" is how much CPU everything else on the machine took in the same seconds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import psutil

Side = Literal["sender", "recipient"]
SIDES: tuple[Side, Side] = ("sender", "recipient")
LOOK_SECONDS = 0.05
LIMIT_SECONDS = 7200.0  # then a run is killed: one that hangs must not take the others along
MB = 1e6


class Missing(Exception):
    """Something is not installed here: the row is left out and this sentence says why."""


class Failed(Exception):
    """A run came to nothing; the others go on."""


@dataclass(frozen=True)
class Run:
    """One measurement."""

    size: int  # bytes moved
    seconds: float  # of the whole run
    cpu: tuple[float, float]  # s/GB
    memory: tuple[float, float]  # peak MB
    others: float  # cores
    phase: float = 0.0  # seconds from the accept to the receipt; of a bare engine, moving bytes
    stored: float = 0.0  # seconds of the whole run with what arrived synced and hashed
    link: float = 0.0  # seconds until the link stood
    parts: tuple[tuple[float, float], ...] = ()  # peak MB: before the accept, to the half, after
    stopped: bool = False  # at its deadline; `size` is what had arrived by then

    @property
    def rate(self) -> float:
        """MB/s of the whole run."""
        return self.size / self.seconds / MB

    @property
    def phase_rate(self) -> float:
        """MB/s from the accept to the receipt."""
        return self.size / self.phase / MB if self.phase else 0.0

    @property
    def stored_rate(self) -> float:
        """MB/s with what arrived synced and hashed."""
        return self.size / self.stored / MB if self.stored else 0.0


@dataclass(frozen=True)
class Case:
    """One row: what to run, in turns with the other rows."""

    name: str
    run: Callable[[], Run]
    against: str = ""  # the row whose rate is divided by this row's, round by round
    of: Literal["rate", "phase_rate"] = "rate"  # which rates


def interleave(cases: Sequence[Case], rounds: int) -> list[dict[str, Run]]:
    """Every case once a round; of each round what came of it, by name."""
    done: list[dict[str, Run]] = []
    for number in range(rounds):
        done.append({})
        for case in cases:
            say(f"round {number + 1} of {rounds}: {case.name}")
            try:
                done[-1][case.name] = case.run()
            except Failed as failure:
                say(f"{case.name}: {failure}")
    return done


class Meter:
    """The clock, and two process trees, from `with` to its end.

    What it starts must be waited for with `wait`; what runs already, as a server does, is watched
    from `watch` to the end of the block.
    """

    def __init__(self, limit: float = LIMIT_SECONDS) -> None:
        self._limit = limit
        self._roots: dict[int, Side] = {}
        self._before: dict[int, float] = {}
        self._cpu = dict.fromkeys(SIDES, 0.0)
        self._peaks: dict[tuple[Side, int], float] = {}
        self.parts = [(0.0, 0.0)]  # peak MB of each side, in each part of the run
        self._met: set[int] = set()
        self._looking = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Meter:
        self._all, self._own = cpu_of_all(), time.process_time()
        self.began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        for pid in set(self._roots) - set(self._before):  # only after a failure
            with contextlib.suppress(OSError):
                os.kill(pid, 9)

    def start(
        self, side: Side, *command: str | Path, log: IO[str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a process of a side; what it says on standard error goes to `log`."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": log or subprocess.DEVNULL}
        process = subprocess.Popen(list(map(str, command)), text=True, **{**quiet, **options})
        self._roots[process.pid] = side
        return process

    def wait(self, process: subprocess.Popen[str], *, failing: bool = False) -> None:
        """Until it ends, well or (`failing`) in any way; then its CPU is counted."""
        _, status, used = os.wait4(process.pid, 0)
        side = self._roots.pop(process.pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        self._cpu[side] += used.ru_utime + used.ru_stime
        if process.returncode and not failing:
            raise Failed(f"{side}: exit code {process.returncode}")

    def watch(self, side: Side, pid: int) -> None:
        """A process that was there before, with its descendants."""
        self._roots[pid], self._before[pid] = side, cpu_of_tree(pid)

    def stop(self) -> None:
        """The run is over; what comes now is not measured."""
        if self._ended.is_set():
            return
        self.seconds = time.perf_counter() - self.began
        self._ended.set()
        self._thread.join()
        for pid, before in self._before.items():
            self._cpu[self._roots[pid]] += cpu_of_tree(pid) - before
        taken = cpu_of_all() - self._all - (time.process_time() - self._own)
        self.others = max(0.0, taken - sum(self._cpu.values())) / self.seconds

    def run(self, size: int, **more: Any) -> Run:
        """What was measured."""
        self.stop()
        cpu, memory = ([f(side) for side in SIDES] for f in (self._cpu.__getitem__, self._peak))
        return Run(
            size,
            self.seconds,
            (cpu[0] / size * 1e9, cpu[1] / size * 1e9),
            (memory[0], memory[1]),
            self.others,
            parts=tuple(self.parts),
            **more,
        )

    def _peak(self, side: Side) -> float:
        return sum(peak for (whose, _), peak in self._peaks.items() if whose == side)

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()
            if time.perf_counter() - self.began > self._limit:
                for root in set(self._roots) - set(self._before):
                    with contextlib.suppress(OSError):
                        os.kill(root, 9)

    def _look(self) -> None:
        peaks = dict.fromkeys(SIDES, 0.0)
        with self._looking:
            for root, side in list(self._roots.items()):
                for pid in tree(root):
                    if pid != root and pid not in self._met:
                        self._met.add(pid)  # until its exec, a new child shows its parent's memory
                        continue
                    peak = peak_memory(pid)
                    peaks[side] += peak
                    self._peaks[side, pid] = max(peak, self._peaks.get((side, pid), 0.0))
            one, other = self.parts[-1]
            self.parts[-1] = max(one, peaks["sender"]), max(other, peaks["recipient"])

    def begin_part(self) -> None:
        """From here on a new part of the run, with peaks of its own."""
        self._look()
        with self._looking:
            self.parts.append((0.0, 0.0))
            for root in list(self._roots):
                for pid in tree(root):
                    with contextlib.suppress(OSError):
                        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM


def tree(root: int) -> Iterator[int]:
    """A process and its descendants."""
    yield root
    for file in Path(f"/proc/{root}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in file.read_text().split():
                yield from tree(int(child))


def cpu_of_tree(root: int) -> float:
    """CPU seconds of a process, its descendants, and those of them that have ended."""
    used = 0.0
    for pid in tree(root):
        with contextlib.suppress(psutil.Error):
            used += sum(psutil.Process(pid).cpu_times()[:4])  # own and the reaped children's
    return used


def cpu_of_all() -> float:
    """CPU seconds of the whole machine so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait)


def peak_memory(pid: int) -> float:
    """The most resident MB of a process, by the kernel's own account: no spike is missed."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) * 1024 / MB if found else 0.0


# --- what is printed


def say(text: str) -> None:
    """Something for whoever waits; the table alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median and the range: `40.1 [38.0-42.5]`."""
    if not values:
        return ""
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]"


def both(values: Sequence[tuple[float, float]], digits: int = 0) -> str:
    """The medians of both sides: `21.4 / 23.1`."""
    return " / ".join(f"{statistics.median(side):.{digits}f}" for side in zip(*values, strict=True))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for line in (head, ["-" * width for width in widths], *rows):
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one."""
    print(markdown(head, rows), flush=True)


def rows(cases: Sequence[Case], rounds: Sequence[dict[str, Run]]) -> Iterator[list[str]]:
    """A line for each case, under `COLUMNS`."""
    for case in cases:
        runs = [one[case.name] for one in rounds if case.name in one]
        if not runs:
            yield [case.name, FAILED, *[""] * (len(COLUMNS) - 2)]
            continue
        yield [
            case.name,
            spread([run.rate for run in runs]),
            spread([run.stored_rate for run in runs if run.stored]),
            spread([run.phase_rate for run in runs if run.phase]),
            spread(ratios(case, rounds), 2),
            both([run.cpu for run in runs], 2),
            both([run.memory for run in runs]),
            f"{min(run.others for run in runs):.1f}-{max(run.others for run in runs):.1f}",
            f"{runs[0].size / MB:.0f} x {len(runs)}",
        ]


FAILED = "failed"  # instead of a rate
RATE, CPU, SIZE = "MB/s, whole run", "CPU s/GB send / receive", "MB x runs"
COLUMNS = (
    "case",
    RATE,
    "synced, hashed",
    "accept to receipt",
    "x",
    CPU,
    "peak MB",
    "others' cores",
    SIZE,
)


def ratios(case: Case, rounds: Sequence[dict[str, Run]]) -> list[float]:
    """How many times the row's rate that of the row it stands against is, round by round."""
    return [
        getattr(one[case.against], case.of) / getattr(one[case.name], case.of)
        for one in rounds
        if case.against in one and case.name in one
    ]


def machine() -> str:
    """Where this was measured."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} x {model[1] if model else platform.machine()}, {memory:.0f} GiB, "
        f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    )
