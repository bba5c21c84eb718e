"""`python3 run.py bench`: whole transfers beside the raw engine, interleaved, as one table.

A transfer is timed from the accept to the signed receipt: read, sealed, sent, opened, written,
synced, read back, hashed, renamed, signed by both. The raw engine moves the same number of bytes
between two processes and throws them away. Both in the same run on the same machine, in turns;
medians. CPU is user and system seconds of each process for a GB (10^9 bytes).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from p2p.lanes import available

SMALL_FILES, SMALL_SIZE = 5000, 500_000


class Run(NamedTuple):
    """One measurement: MB/s, CPU s/GB of sender and recipient, peak MB of each."""

    rate: float
    cpu: tuple[float, float]
    memory: tuple[float, float]
    link: float = 0.0


def wait(process: subprocess.Popen[str], size: int) -> tuple[float, float]:
    """CPU seconds for a GB and peak memory in MB of an ended process."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"a process of the benchmark failed with {process.returncode}")
    return (used.ru_utime + used.ru_stime) / size * 1e9, used.ru_maxrss * 1024 / 1e6


def raw(engine: str, size: int) -> Run:
    """The bare engine."""

    def start(role: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.raw", engine, role, str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    sender, recipient = start("send"), start("receive")
    for one, other in ((sender, recipient), (recipient, sender)):
        assert one.stdout
        assert other.stdin
        other.stdin.write(one.stdout.readline())
        other.stdin.flush()
    assert sender.stdout
    seconds = json.loads(sender.stdout.readline())["seconds"]
    (cpu_s, mem_s), (cpu_r, mem_r) = wait(sender, size), wait(recipient, size)
    return Run(size / seconds / 1e6, (cpu_s, cpu_r), (mem_s, mem_r))


def whole(engine: str, source: Path, size: int, place: Path) -> Run:
    """A real transfer by two real processes."""
    common = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
    command = [sys.executable, "-m", "p2p"]
    options = ["--auto", "--json", "--engine", engine]
    output = place / "out"

    def start(role: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *arguments, *options],
            env={**common, "HANDOVER_HOME": str(place / role), **environment},
            stdout=subprocess.PIPE,
            text=True,
        )

    began = time.perf_counter()
    sender = start("sender", "send", str(source))
    assert sender.stdout
    link = json.loads(sender.stdout.readline())["link"]
    linked = time.perf_counter() - began
    recipient = start("recipient", "receive", "--output", str(output), HANDOVER_LINK=link)
    assert recipient.stdout
    accepted = ended = 0.0
    for line in recipient.stdout:
        event = json.loads(line)
        if event.get("state") == "accepted":
            accepted = time.perf_counter()
        elif event["event"] == "complete":
            ended = time.perf_counter()
    (cpu_r, mem_r) = wait(recipient, size)
    sender.stdout.read()
    (cpu_s, mem_s) = wait(sender, size)
    shutil.rmtree(output)
    return Run(size / (ended - accepted) / 1e6, (cpu_s, cpu_r), (mem_s, mem_r), linked)


def row(name: str, runs: list[Run], base: float | None) -> None:
    """One line of the table."""

    def median(values: list[float]) -> float:
        return statistics.median(values)

    rate = median([r.rate for r in runs])
    spread = f"[{min(r.rate for r in runs):.1f}-{max(r.rate for r in runs):.1f}]"
    cpu = " / ".join(f"{median([r.cpu[i] for r in runs]):.1f}" for i in (0, 1))
    memory = " / ".join(f"{max(r.memory[i] for r in runs):.0f}" for i in (0, 1))
    ratio = f"{rate / base:.2f}" if base else ""
    link = max(r.link for r in runs)
    shown = f"{link:.2f}" if link else ""
    print(f"| {name} | {rate:.1f} {spread} | {ratio} | {cpu} | {memory} | {shown} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python3 run.py bench", description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="MiB for the default engine")
    parser.add_argument("--slow-size", type=int, default=64, help="MiB for aiortc")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", help="only this engine")
    parser.add_argument("--small", action="store_true", help="also 5,000 files of 0.5 MB")
    options = parser.parse_args()
    print("| case | MB/s, median [range] | ratio | CPU s/GB send / receive | peak MB | link s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        place = Path(folder)
        for engine in [e for e in available() if options.engine in (None, e)]:
            mib = options.size if engine == "libdatachannel" else options.slow_size
            one = make(place / f"{engine}.bin", mib * 1024 * 1024)
            measure(engine, one, mib * 1024 * 1024, options.rounds, place)
            one.unlink()
        if options.small:
            small(place, options.rounds)


def measure(engine: str, source: Path, size: int, rounds: int, place: Path) -> None:
    """Raw and whole in turns."""
    bare, complete = [], []
    for _ in range(rounds):
        bare.append(raw(engine, size))
        complete.append(whole(engine, source, size, place))
    base = statistics.median(r.rate for r in bare)
    row(f"{engine}, raw engine", bare, None)
    row(f"{engine}, accept to receipt, {size >> 20} MiB", complete, base)


def small(place: Path, rounds: int) -> None:
    """Many small files against one of the same size."""
    size = SMALL_FILES * SMALL_SIZE
    many = place / "many"
    many.mkdir()
    one = make(place / "one.bin", size)
    with open(one, "rb") as data:
        for number in range(SMALL_FILES):
            (many / f"{number:05d}.dcm").write_bytes(data.read(SMALL_SIZE))
    runs: dict[str, list[Any]] = {"one": [], "many": []}
    for _ in range(rounds):
        runs["one"].append(whole(available()[0], one, size, place))
        runs["many"].append(whole(available()[0], many, size, place))
    base = statistics.median(r.rate for r in runs["one"])
    row("one file of 2.5 GB", runs["one"], None)
    row("5,000 files of 0.5 MB", runs["many"], base)


def make(path: Path, size: int) -> Path:
    """Random bytes, so that nothing on the way can make them smaller."""
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        file.write(os.urandom(size & ((1 << 20) - 1)))
    return path


if __name__ == "__main__":
    main()
