"""A transfer between two machines, broken on purpose and watched from outside.

`Transfer` is what nearly every test is made of: begin, `reach` a part, break something, mend it,
`recovered`, `finish`. Ending well always means the same: exit codes, bytes by `cmp`, one receipt on
each side and the same one, and nothing left lying about.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import random
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.confined import die_with_parent
from tests.e2e.harness import ROOT, Argument, Peer, Process, Told, output

AUTO = ("--auto",)
WAIT = 120.0  # two busy cores are slow; nothing that goes well comes near


def compile_c(source: str, program: Path, *flags: str) -> Path:
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", *flags]
    subprocess.run([*command, "-o", program, Path(__file__).parent / source], check=True)
    return program


PLACES = {"errno": 0, "clock": 1, "kill_at": 2, "calls": 3, "link_errno": 4}


class Faults:
    """The numbers that `shim.c` reads: turned while the process runs."""

    def __init__(self, shim: Path, file: Path) -> None:
        file.write_bytes(bytes(8 * len(PLACES)))
        with open(file, "r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), 8 * len(PLACES))
        self.environment = {"LD_PRELOAD": str(shim), "FAULTS_FILE": str(file)}

    def __getitem__(self, name: str) -> int:
        return int(struct.unpack_from("q", self._shared, 8 * PLACES[name])[0])

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self._shared, 8 * PLACES[name], value)


class Watched(Process):
    """A process whose events are read as they come, each with the moment it came `at`, and whose
    peak of resident memory is known when it has ended."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        super().__init__(command, environment)
        self.peak = 0
        self._queue: queue.Queue[Told | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stdout, rest = output(self.process), b""
        with contextlib.suppress(OSError, ValueError):
            while True:
                self._measure()
                if not select.select([stdout], [], [], 0.1)[0]:
                    continue
                data = os.read(stdout.fileno(), 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._queue.put({**json.loads(line), "at": time.monotonic()})
        self._queue.put(None)

    def _measure(self) -> None:
        """The kernel's own peak: no spike between two looks is missed."""
        with contextlib.suppress(OSError, psutil.Error):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):  # a zombie has none
                self.peak = max(self.peak, int(found[1]) * 1024)

    def _next(self, ends: float) -> Told | None:
        try:
            event = self._queue.get(timeout=max(0.001, ends - time.monotonic()))
        except queue.Empty:
            return None
        if event is None:
            self._queue.put(None)
            return None
        self.events.append(event)
        return event

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        super().kill()

    def said(self, *states: str) -> bool:
        """Whether these states were told, in this order."""
        told = iter(self.states())
        return all(state in told for state in states)


class Machine(Peer):
    """A peer in a namespace of the network, with a shim under its processes where wanted."""

    def __init__(
        self,
        folder: Path,
        prefix: tuple[str, ...] = (),
        faults: Faults | None = None,
        label: str | None = None,
    ):
        self.faults = faults
        super().__init__(folder, label, prefix)

    def environment(self, **more: str) -> dict[str, str]:
        faults = self.faults.environment if self.faults else {}
        return {**super().environment(**more), **faults}

    def start(self, *arguments: Argument, **environment: str) -> Watched:
        process = Watched(self.command(*arguments, "--json"), self.environment(**environment))
        self.started.append(process)
        return process

    if TYPE_CHECKING:  # they call `start`

        def send(self, *arguments: Argument, **environment: str) -> tuple[Watched, str]: ...

        def receive(
            self, link: str, output: Path, *arguments: Argument, **environment: str
        ) -> Watched: ...

    def transfers(self) -> list[dict[str, Any]]:
        """What `handover transfers` says lies here unfinished."""
        done = self.run("transfers", "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def kept(self) -> list[Path]:
        folder = self.home / "transfers"
        return sorted(folder.iterdir()) if folder.exists() else []


class Server:
    """`handover serve` on a port of its own, to be killed and started again."""

    def __init__(self, machine: Machine, port: int = 8080):
        self._machine, self._port = machine, port
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._machine.command("serve", "--listen", f"0.0.0.0:{self._port}"),
            env=self._machine.environment(),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert self.process.stderr
        while "Serving on port" not in (line := self.process.stderr.readline()):
            assert line, "the server did not start"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()


class Transfer:
    """One transfer, from the link to the receipts, over as many processes as it takes."""

    def __init__(
        self,
        sender: Machine,
        recipient: Machine,
        source: Path,
        out: Path,
        *,
        send: tuple[Argument, ...] = (),
        receive: tuple[Argument, ...] = (),
        come: bool = True,
    ):
        self.sender, self.recipient, self.source, self.out = sender, recipient, source, out
        self._send, self._receive = (*AUTO, *map(str, send)), (*AUTO, *map(str, receive))
        self.began = time.monotonic()
        self.recovery = 0.0
        self.sending, self.link = sender.send(*self._send, source)
        if come:
            self.come()

    def come(self) -> None:
        """The recipient opens the link."""
        self.receiving = self.recipient.receive(self.link, self.out, *self._receive)

    def _engine(self, role: str) -> tuple[str, ...]:
        """Most of what it was begun with is noted; this is not."""
        options = self._send if role == "sender" else self._receive
        at = options.index("--engine") if "--engine" in options else len(options)
        return options[at : at + 2]

    # --- on the way

    def process(self, role: str) -> Watched:
        return self.sending if role == "sender" else self.receiving

    def machine(self, role: str) -> Machine:
        return self.sender if role == "sender" else self.recipient

    def told(self, member: str = "durable") -> int:
        """The most that was told to be on the recipient's disk, or `verified`, by now."""
        while self.receiving._next(0) is not None:
            pass
        told = [e for p in self._received() for e in p.events if e["event"] == "progress"]
        return max((e[member] for e in told), default=0)

    def first_progress(self, since: float, otherwise: int) -> int:
        """What the recipient told first to be durable after a moment."""
        told = [e for p in self._received() for e in p.events if e["event"] == "progress"]
        return next((e["durable"] for e in told if e["at"] >= since), otherwise)

    def _received(self) -> list[Watched]:
        return [p for p in self.recipient.started if isinstance(p, Watched)]

    def reach(self, part: float, seconds: float = WAIT) -> int:
        """Wait until so much is on the recipient's disk for good; gives how much is."""
        ends = time.monotonic() + seconds
        while True:
            event = self.receiving.wait_for("progress", max(0.1, ends - time.monotonic()))
            if event["durable"] >= part * event["total"]:
                return int(event["durable"])

    def kill(self, role: str) -> None:
        self.process(role).signal(signal.SIGKILL)
        self.process(role).process.wait()

    def again(self, role: str, by_id: bool = False) -> None:
        """Start a side that died anew, as a person would: the same command, or by the id."""
        if role == "recipient" and not by_id:
            return self.come()
        command = ("send", "--resume") if role == "sender" else ("resume",)
        machine = self.machine(role)
        (one,) = machine.transfers()
        assert one["role"] == role, one
        process = machine.start(*command, one["id"][:8], *AUTO, *self._engine(role))
        if role == "sender":
            self.sending = process
        else:
            self.receiving = process
        return None

    def recovered(self, since: float, durable: int, seconds: float = WAIT) -> float:
        """Seconds until more is durable than was; the end of the transfer counts as that."""
        ends = time.monotonic() + seconds
        while True:
            event = self.receiving._next(ends)
            assert event is not None, f"did not go on: {self.story()}"
            assert event["event"] != "error", f"ended: {self.story()}"
            more = event["event"] == "progress" and event["durable"] > durable
            if (more and event["at"] >= since) or event["event"] == "complete":
                self.recovery = max(self.recovery, event["at"] - since)
                return self.recovery

    # --- the end

    def finish(self, seconds: float = WAIT, over: Sequence[str] = ()) -> dict[str, Any]:
        """Both end complete, with the same bytes; gives what stands in the table. Those that are
        `over` were killed after their last word."""
        codes = (None if "sender" in over else 0, None if "recipient" in over else 0)
        facts = self.finish_otherwise(codes, seconds)
        same(self.source, self.out / self.source.name)
        return {**facts, "same": True}

    def finish_otherwise(
        self, codes: tuple[int | None, int | None], seconds: float = WAIT
    ) -> dict[str, Any]:
        """Both end with these codes (sender's, recipient's), with a receipt each."""
        ended: list[tuple[str, int, int]] = []
        last: Told = {"message": ""}
        for role, code in zip(("sender", "recipient"), codes, strict=True):
            if code is not None:
                got, last = self.process(role).end(seconds)
                ended.append((role, got, code))
        assert all(got == code for _, got, code in ended), f"exit codes {ended}: {self.story()}"
        self.tidy()
        assert self.receipts() == 2, "not one receipt on each side"
        return {
            "seconds": self.recovery,
            "peaks": [round(self._peak(peer) / 1e6) for peer in (self.sender, self.recipient)],
            "message": last["message"] if any(codes) else self._message(),
            "receipts": 2,
            "took": time.monotonic() - self.began,
        }

    def tidy(self) -> None:
        """No staging folder, no record of a transfer is left on either side."""
        left = [p.name for p in self.out.iterdir() if p.name.startswith(".handover-")]
        assert left == [], f"left in the output folder: {left}"
        for peer in (self.sender, self.recipient):
            assert peer.kept() == [], f"left in {peer.home.name}: {peer.kept()}"

    def receipts(self) -> int:
        """How many there are on both sides; where there are two they are the same one."""
        folders = [peer.home / "receipts" for peer in (self.sender, self.recipient)]
        found = [p for folder in folders if folder.exists() for p in folder.glob("*.json")]
        assert len({p.name for p in found}) == 1, found
        assert len({p.read_bytes() for p in found}) == 1, "two different receipts"
        return len(found)

    def _peak(self, peer: Machine) -> int:
        return max((p.peak for p in peer.started if isinstance(p, Watched)), default=0)

    def _message(self) -> str:
        """The states that a person saw beside those of an ordinary transfer."""
        ordinary = ("waiting", "opened", "connected", "admitted", "offered", "accepted")
        told = [s for s in self.receiving.states() if s not in (*ordinary, "verifying", "signing")]
        return " ".join(dict.fromkeys(told)) or "-"

    def story(self) -> str:
        """What both sides told, for a failed assertion."""
        lines = []
        for peer in (self.sender, self.recipient):
            for number, one in enumerate(peer.started):
                while one._next(0) is not None:
                    pass
                events = [
                    e.get("state") or e.get("message") or e["event"]
                    for e in one.events
                    if e["event"] != "progress"
                ]
                lines.append(f"\n{peer.home.name} {number}: {events[-30:]} {one.stderr()[-500:]}")
        return "".join(lines)


def same(source: Path, arrived: Path) -> None:
    """Byte for byte, names included, by tools that are not ours."""
    tool = ["diff", "-r", "--no-dereference"] if source.is_dir() else ["cmp"]
    done = subprocess.run([*tool, source, arrived], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def random_file(path: Path, size: int) -> Path:
    """Bytes without a pattern at any range's size, quickly: a few megabytes, shifted."""
    stuff = random.Random(size).randbytes(4_000_037)
    with open(path, "wb") as file:
        left = size
        while left:
            left -= file.write(stuff[: min(left, len(stuff))])
    return path


def study(path: Path, files: int, size: int) -> Path:
    """A folder of files of uneven sizes, `size` bytes in all, in two levels."""
    dice, left = random.Random(files), size
    (path / "series").mkdir(parents=True)
    for number in range(files):
        length = left if number == files - 1 else int(dice.uniform(0.3, 1.7) * size / files)
        length = min(length, left)
        left -= length
        folder = path if number % 2 else path / "series"
        (folder / f"IM{number:05d}.dcm").write_bytes(dice.randbytes(length))
    return path


def wait_until(true: Callable[[], object], seconds: float = WAIT, what: str = "") -> float:
    """Poll; gives how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, what or "it did not come to that"
        time.sleep(0.05)
    return time.monotonic() - began


PYTHON = sys.executable
