"""Two processes that move bytes: `handover` itself, and an engine with nothing around it.

A transfer of Handover is timed as a whole, from the start of the sender to the end of both, and
from the accept to the signed receipt: read, sealed, sent, opened, written, synced, read back,
hashed, renamed, signed by both. The bare engine moves as many bytes and throws them away.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.harness import same

from .data import set_aside, total
from .measure import LIMIT_SECONDS, SIDES, Failed, Meter, Run
from .rivals import environment

Prefixes = tuple[tuple[str, ...], tuple[str, ...]]  # of a side's commands: `ip netns exec NAME`
HERE: Prefixes = ((), ())
_installed = Path(sys.executable).with_name("handover")
HANDOVER = (str(_installed),) if _installed.exists() else (sys.executable, "-m", "p2p")
NO_DIRECT = "--no-direct"


class Lines:
    """What a process prints, JSON line by line, each with the moment it came; read all the time, so
    that it never waits for its reader."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put({**json.loads(line), "at": time.perf_counter()})
        self._lines.put(None)

    def next(self, seconds: float = LIMIT_SECONDS) -> dict[str, Any] | None:
        """The next one; None at the end. Raises `queue.Empty` when none comes in time."""
        return self._lines.get(timeout=max(0.0, seconds))


def handover(
    source: Path,
    place: Path,
    *,
    send: Sequence[str] = (),
    receive: Sequence[str] = (),
    prefixes: Prefixes = HERE,
    deadline: float | None = None,
    compare: bool = True,
    program: Sequence[str] = HANDOVER,
) -> Run:
    """A real transfer between two fresh homes in `place`, with more arguments for either side.

    After `deadline` seconds from the accept it is ended, and what counts is what the recipient had
    on the disk when it last told.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
    with tempfile.TemporaryDirectory(prefix="transfer-", dir=place) as folder, Meter() as meter:
        output, log = Path(folder) / "out", Path(folder) / "log"

        def start(number: int, *arguments: str, **more: str) -> subprocess.Popen[str]:
            side = SIDES[number]
            environment = {
                **kept,
                "HANDOVER_CONFIG": os.devnull,
                "HANDOVER_HOME": f"{folder}/{side}",
                **more,
            }
            command = (*prefixes[number], *program, *arguments, "--auto", "--json")
            pipe = subprocess.PIPE
            return meter.start(side, *command, env=environment, stdout=pipe, log=told)

        with log.open("w") as told:
            sending = start(0, "send", *send, str(source))
            sender = Lines(sending)
            first = sender.next()
            if first is None or "link" not in first:
                raise Failed(f"no link: {first} {log.read_text()[-500:]}")
            output.mkdir()
            words = ("receive", "--output", str(output), *receive)
            receiving = start(1, *words, HANDOVER_LINK=first["link"])
            events = _follow(Lines(receiving), deadline, meter)
            stopped = "complete" not in events
            if stopped:
                sending.kill()
                receiving.kill()
            try:
                meter.wait(receiving, failing=stopped)
                meter.wait(sending, failing=stopped)
            except Failed as failure:
                raise Failed(f"{failure}: {events} {log.read_text()[-500:]}") from None
        meter.stop()
        accepted, last = events["accepted"]["at"], events["progress" if stopped else "complete"]
        if compare and not stopped:
            try:
                same(source, output / source.name)
            except AssertionError as different:
                raise Failed(f"what arrived is not what was sent: {different}") from None
        set_aside(output, place)
        return meter.run(
            max(1, last["durable"]) if stopped else total(source),
            phase=last["at"] - accepted,
            stored=0.0 if stopped else meter.seconds,
            link=first["at"] - meter.began,
            stopped=stopped,
        )


def _follow(recipient: Lines, deadline: float | None, meter: Meter) -> dict[str, dict[str, Any]]:
    """The recipient's events of each kind, the last of them, until it ends or time is up."""
    events: dict[str, dict[str, Any]] = {}
    halfway = False
    while True:
        left = LIMIT_SECONDS
        if deadline is not None and "accepted" in events:
            left = events["accepted"]["at"] + deadline - time.perf_counter()
        try:
            event = recipient.next(left)
        except queue.Empty:
            nothing = {"durable": 0, "at": time.perf_counter()}
            return {"progress": nothing, **events}
        if event is None:
            if "complete" not in events:
                raise Failed(str(events.get("error", "the recipient ended without a word")))
            return events
        kind = event.get("state", event["event"])
        events[kind] = event
        if kind == "accepted":
            meter.begin_part()
        elif kind == "progress" and not halfway and event["durable"] * 2 >= event["total"]:
            halfway = True
            meter.begin_part()


@functools.cache
def direct_can_be_off() -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The arguments of sender and recipient that leave only WebRTC, where there are any."""

    def knows(command: str) -> bool:
        done = subprocess.run([*HANDOVER, command, "--help"], capture_output=True, text=True)
        return NO_DIRECT in done.stdout

    sides = tuple((NO_DIRECT,) if knows(command) else () for command in ("send", "receive"))
    return (sides[0], sides[1]) if any(sides) else None


def raw(engine: str, size: int, *, prefixes: Prefixes = HERE, deadline: float | None = None) -> Run:
    """One connection of the bare engine."""
    with Meter() as meter:
        limit = () if deadline is None else (str(deadline),)
        pair = [
            meter.start(
                side,
                *(*prefix, sys.executable, "-m", "benchmarks.raw", engine, role, str(size), *limit),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for side, prefix, role in zip(SIDES, prefixes, ("send", "receive"), strict=True)
        ]
        for one, other in (pair, pair[::-1]):
            assert one.stdout
            assert other.stdin
            if not (description := one.stdout.readline()):
                raise Failed("ended before it could meet the other side")
            with contextlib.suppress(BrokenPipeError):
                other.stdin.write(description)
                other.stdin.flush()
        return _ended(meter, pair, pair[0], size)


def tcp(
    congestion: str, size: int, *, host: str, prefixes: Prefixes = HERE, deadline: float
) -> Run:
    """One plain TCP connection with this congestion control; `host` is the recipient's address."""
    program = (sys.executable, "-m", "benchmarks.tcp")
    return _streamed(program, (congestion,), size, host, prefixes, deadline)


def iroh(size: int, *, host: str, prefixes: Prefixes = HERE, deadline: float) -> Run:
    """One stream of iroh."""
    python = environment("iroh", ("iroh",)) / "python"
    program = (str(python), str(Path(__file__).with_name("iroh_stream.py")))
    return _streamed(program, (), size, host, prefixes, deadline)


def primitives(source: Path) -> Run:
    """Both sides' work on a file by the libraries alone."""
    program = (sys.executable, "-m", "benchmarks.primitives")
    more, size = (str(source),), source.stat().st_size
    return _streamed(program, more, size, "127.0.0.1", HERE, LIMIT_SECONDS)


def _streamed(
    program: Sequence[str],
    more: Sequence[str],
    size: int,
    host: str,
    prefixes: Prefixes,
    deadline: float,
) -> Run:
    """`program receive HOST BYTES SECONDS` says where it is; `program send WHERE ... BYTES`."""
    pipe = subprocess.PIPE
    with Meter() as meter:
        receive = (*program, "receive", host, str(size), str(deadline))
        receiving = meter.start("recipient", *prefixes[1], *receive, stdout=pipe)
        assert receiving.stdout
        where = receiving.stdout.readline().strip()
        send = (*program, "send", where, *more, str(size))
        sending = meter.start("sender", *prefixes[0], *send, stdout=pipe)
        return _ended(meter, [sending, receiving], receiving, size)


def _ended(
    meter: Meter,
    pair: Sequence[subprocess.Popen[str]],
    teller: subprocess.Popen[str],
    size: int,
) -> Run:
    """When both have; one of them tells how much it was, in what time."""
    assert teller.stdout
    line = teller.stdout.readline()
    for process in pair:
        meter.wait(process)
    if not line:
        raise Failed("ended without a word")
    told = json.loads(line)
    return meter.run(max(1, told["bytes"]), phase=told["seconds"], stopped=told["bytes"] < size)
