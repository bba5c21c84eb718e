"""Command line to command line on this machine: against others, small files, memory."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path

from p2p.lanes.webrtc import available

from .data import random_file, random_folder
from .kept import FLOOR
from .measure import (
    COLUMNS,
    LIMIT_SECONDS,
    Case,
    Missing,
    Run,
    both,
    interleave,
    machine,
    ratios,
    rows,
    say,
    spread,
    table,
)
from .rivals import CURL, RIVALS, digest, environment, ssh_tar
from .transfer import direct_can_be_off, handover, iroh, primitives, raw

SMALL = 500_000  # bytes of a small file
PARTS = 20  # names of one file, where the disk has no room for a whole one twice


def temporary() -> tempfile.TemporaryDirectory[str]:
    """Where everything lies; TMPDIR says on which disk."""
    return tempfile.TemporaryDirectory(prefix="handover-bench-")


def compared(options: Namespace) -> list[list[str]]:
    """Handover, what else there is, the bare engines and the floor."""
    size, slow = options.size << 20, min(options.slow_size, options.size) << 20

    def wanted(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    with temporary() as folder, contextlib.ExitStack() as servers:
        place = Path(folder)
        source = random_file(place / "random.bin", size)
        short = random_file(place / "short.bin", slow)
        default = partial(handover, source, place)
        more = {"send": shlex.split(options.send), "receive": shlex.split(options.receive)}
        cases = [Case("handover", partial(default, **more))]
        without = direct_can_be_off()
        if without:
            lanes = partial(default, send=without[0], receive=without[1])
            cases.append(Case("handover, WebRTC lanes only", lanes, "handover", "phase_rate"))
        for name, words in (one.split(":", 1) for one in options.also):
            send, receive = (shlex.split(side) for side in words.partition(" / ")[::2])
            other = partial(default, send=send, receive=receive)
            cases.append(Case(f"handover, {name}", other, "handover", "phase_rate"))
        notes = []
        known = digest(source)
        for name, serve in RIVALS.items():
            if not wanted(name):
                continue
            (own := place / name.split()[0]).mkdir()
            try:
                copy = servers.enter_context(serve(own))
            except Missing as missing:
                notes.append(f"{name}: {missing}")
            else:
                cases.append(Case(name, partial(copy, source, known), "handover"))
        for engine in available():
            if engine == "aiortc" and not slow:
                continue
            data = source if engine == "libdatachannel" else short
            against = "handover" if engine == available()[0] else f"handover, {engine}"
            if without and engine == available()[0]:
                against = "handover, WebRTC lanes only"
            if engine != available()[0]:
                send, receive = ([*side, "--engine", engine] for side in without or ((), ()))
                slowly = partial(handover, data, place, send=send, receive=receive)
                cases.append(Case(f"handover, {engine}", slowly))
            bare = partial(raw, engine, data.stat().st_size)
            cases.append(Case(f"{engine}, bare", bare, against, "phase_rate"))
        if wanted("iroh, bare"):
            try:
                environment("iroh", ("iroh",))
            except Missing as missing:
                notes.append(f"iroh: {missing}")
            else:
                quic = partial(iroh, size, host="127.0.0.1", deadline=LIMIT_SECONDS)
                cases.append(Case("iroh, bare", quic, "handover", "phase_rate"))
        cases.append(floor(source))
        cases = [case for case in cases if wanted(case.name)]
        done = interleave(cases, options.rounds)
        print(f"{machine()}; {options.size} MiB (aiortc: {slow >> 20}), {options.rounds} rounds\n")
        lines = _table(cases, done)
        links = [run.link for one in done for run in one.values() if run.link]
        if links:
            print(f"\nthe link stood after {spread(links, 2)} s")
        for note in notes:
            print(f"\nleft out: {note}")
        return lines


def floor(source: Path, against: str = "handover") -> Case:
    """The bare primitives."""
    return Case(FLOOR, partial(primitives, source), against, "phase_rate")


def _table(cases: list[Case], done: list[dict[str, Run]]) -> list[list[str]]:
    """Printed; its lines."""
    lines = list(rows(cases, done))
    table(COLUMNS, lines)
    print(
        "\nx: handover's rate by the row's, in the same round; of whole runs against other "
        "programs,\nfrom the accept to the receipt against other lanes and what is bare"
    )
    return lines


def quick(options: Namespace) -> list[list[str]]:
    """Handover's own ways at a small size, beside three quick baselines: about two minutes."""
    with temporary() as folder, contextlib.ExitStack() as servers:
        place = Path(folder)
        source = random_file(place / "random.bin", options.size << 20)
        files = max(1, (options.size << 20) // SMALL)
        many = random_folder(place / "many", files, SMALL)
        default = partial(handover, source, place)
        cases = [
            Case("handover", default),
            Case(f"handover, {files:,} files of 0.5 MB", partial(handover, many, place)),
        ]
        engine, against = available()[0], "handover"
        if without := direct_can_be_off():
            against = "handover, WebRTC lanes only"
            lanes = partial(default, send=without[0], receive=without[1])
            cases.append(Case(against, lanes, "handover", "phase_rate"))
        bare = partial(raw, engine, source.stat().st_size)
        cases += [Case(f"{engine}, bare", bare, against, "phase_rate"), floor(source)]
        try:
            copy = servers.enter_context(RIVALS[CURL](place))
        except Missing as missing:
            say(f"left out: {CURL}: {missing}")
        else:
            cases.append(Case(CURL, partial(copy, source, digest(source)), "handover"))
        done = interleave(cases, options.rounds)
        print(f"{machine()}; {options.size} MiB, {options.rounds} rounds\n")
        return _table(cases, done)


def small(options: Namespace) -> list[list[str]]:
    """Many small files against one of the same size."""
    size, count = options.size, options.files
    each = f"{size / 1e6:g} MB" if size >= 10_000 else f"{size / 1e3:g} KB"
    with temporary() as folder, contextlib.ExitStack() as servers:
        place = Path(folder)
        many = random_folder(place / "many", count, size)
        one = random_file(place / "one.bin", count * size)
        first = f"handover, one file of {count * size / 1e9:g} GB"
        second = f"handover, {count:,} files of {each}"
        cases = [
            Case(first, partial(handover, one, place)),
            Case(second, partial(handover, many, place)),
            floor(one, first),
        ]
        try:
            (own := place / "ssh").mkdir()
            copy = servers.enter_context(ssh_tar(own))
        except Missing as missing:
            say(f"left out: tar over ssh: {missing}")
        else:
            cases.append(Case(f"tar over ssh, {count:,} files", partial(copy, many), second))
        done = interleave(cases, options.rounds)
        print(f"{machine()}; {options.rounds} rounds\n")
        lines = list(rows(cases, done))
        table(COLUMNS, lines)
        for rate in ("rate", "phase_rate"):
            found = ratios(Case(first, cases[0].run, second, rate), done)
            whole = "whole run" if rate == "rate" else "accept to receipt"
            print(f"\nmany files at {spread(found, 2)} of the rate of one ({whole})")
        for case in cases[1:]:
            if taken := [one[case.name].seconds for one in done if case.name in one]:
                print(f"\n{case.name}: {spread(taken, 2)} s")
        return lines


def memory(options: Namespace) -> None:
    """Whether memory grows with what is sent: real random bytes, for holes would be skipped."""
    size = int(options.gigabytes * 1e9)
    with temporary() as folder:
        place = Path(folder)
        free = shutil.disk_usage(place).free
        if free < 1.1 * size:
            raise Missing(f"{free / 1e9:.0f} GB are free: say --gigabytes {free / 1.2e9:.0f}")
        if free > 2.1 * size:
            what, source = "one file", random_file(place / "large.bin", size)
        else:
            what, source = f"{PARTS} names of one file", place / "large"
            source.mkdir()
            first = random_file(source / "00.bin", size // PARTS)
            for number in range(1, PARTS):
                (source / f"{number:02d}.bin").hardlink_to(first)
            say(f"no room for twice {options.gigabytes:g} GB: sending {what}")
        default = partial(handover, source, place, compare=False)
        cases = [Case("handover", default)]
        if without := direct_can_be_off():
            lanes = partial(default, send=without[0], receive=without[1])
            cases.append(Case("handover, WebRTC lanes only", lanes))
        done = interleave(cases, options.rounds)
        print(f"{machine()}; {options.gigabytes:g} GB of random bytes, {what}\n")
        lines = []
        for case in cases:
            runs = [one[case.name] for one in done if case.name in one]
            if runs:
                lines.append([case.name, *_memory(runs)])
        table(
            ("case, sender / recipient", "first half MB", "second half MB", "x", "peak MB"), lines
        )


def _memory(runs: list[Run]) -> list[str]:
    first, second = ([run.parts[half] for run in runs] for half in (1, 2))
    growth = [
        (late[0] / max(1.0, early[0]), late[1] / max(1.0, early[1]))
        for early, late in zip(first, second, strict=True)
    ]
    peak = " / ".join(f"{max(run.memory[side] for run in runs):.0f}" for side in (0, 1))
    return [both(first), both(second), both(growth, 2), peak]
