"""Real `handover` processes, each with a home of its own, on pipes or on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from p2p import Home
from tests.confined import die_with_parent

ROOT = Path(__file__).parent.parent.parent
SECONDS = 60

Argument = str | Path
Told = dict[str, Any]  # an event of `--json`


class Peer:
    """A machine with Handover on it: a home, and processes that run there."""

    def __init__(self, folder: Path, label: str | None = None, prefix: tuple[str, ...] = ()):
        self.home = folder
        self.prefix = prefix
        self.started: list[Process] = []
        if label:
            Home(folder).identity.set_label(label)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
        return {
            **kept,
            "HANDOVER_HOME": str(self.home),
            "HANDOVER_CONFIG": os.devnull,
            "PYTHONPATH": str(ROOT),
            "HANDOVER_LANG": "en",
            "TERM": "dumb",
            **more,
        }

    def command(self, *arguments: Argument) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "p2p", *map(str, arguments)]

    def run(self, *arguments: Argument, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end, on pipes, without a terminal."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            start_new_session=True,
            cwd=self.home.parent,
        )

    def start(self, *arguments: Argument, **environment: str) -> Process:
        """Start with `--json` on pipes."""
        process = Process(self.command(*arguments, "--json"), self.environment(**environment))
        self.started.append(process)
        return process

    @contextlib.contextmanager
    def serving(self, *arguments: Argument) -> Iterator[None]:
        """A command that serves, from when it says so."""
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        assert process.stderr is not None
        try:
            while b"Serving" not in (line := process.stderr.readline()):
                assert line, "it ended"
            yield
        finally:
            process.kill()
            process.communicate()

    def send(self, *arguments: Argument, **environment: str) -> tuple[Process, str]:
        # The usual port is one, for all tests that run at once; a link has to keep its own.
        elsewhere = {"--listen", "--server"} & set(arguments) or "HANDOVER_SERVER" in environment
        own = () if elsewhere else ("--listen", ":0")
        process = self.start("send", *own, *arguments, **environment)
        return process, process.wait_for("link")["link"]

    def receive(self, link: str, output: Path, *arguments: Argument, **environment: str) -> Process:
        return self.start(
            "receive", "--output", output, *arguments, HANDOVER_LINK=link, **environment
        )

    def receipts(self) -> list[Path]:
        return sorted((self.home / "receipts").iterdir())

    def audit(self) -> list[dict[str, Any]]:
        path = self.home / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        for process in self.started:
            process.kill()


class Process:
    """A `--json` process: its events as they come."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,  # it makes one system call
        )
        self.events: list[Told] = []
        self._buffer = b""

    def wait_for(self, event: str, seconds: float = SECONDS, **members: Any) -> Told:
        """The next event of this kind (and with these members)."""
        ends = time.monotonic() + seconds
        while True:
            found = self._next(ends)
            assert found is not None, f"no {event} {members}: {self.events} {self.stderr()}"
            if found["event"] == event and members.items() <= found.items():
                return found

    def next(self, seconds: float = SECONDS) -> Told | None:
        """The next event of any kind; None when there is none in time, or at the end."""
        return self._next(time.monotonic() + seconds)

    def _next(self, ends: float) -> Told | None:
        stdout = output(self.process)
        while b"\n" not in self._buffer:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return None
            data = os.read(stdout.fileno(), 65536)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        event: Told = json.loads(line)
        self.events.append(event)
        return event

    def end(self, seconds: float = SECONDS) -> tuple[int, Told]:
        """Exit code and last event; there is exactly one last one."""
        ends = time.monotonic() + seconds
        while self._next(ends) is not None:
            pass
        try:
            code = self.process.wait(max(1.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not over in {seconds} s: {self.events[-20:]}") from None
        finals = [e for e in self.events if e["event"] in ("complete", "error")]
        assert len(finals) == 1, (self.events, self.stderr())
        assert self.events[-1] is finals[0]
        assert "Traceback" not in self.stderr()
        return code, finals[0]

    def states(self) -> list[str]:
        return [e["state"] for e in self.events if e["event"] == "state"]

    def stderr(self) -> str:
        if self.process.poll() is None:
            return ""
        if not hasattr(self, "_stderr"):
            assert self.process.stderr
            self._stderr = self.process.stderr.read().decode()
        return self._stderr

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()


class Terminal:
    """A `handover` process in front of a person: a pseudo-terminal."""

    def __init__(self, peer: Peer, *arguments: Argument, **environment: str):
        self.text = ""
        pid, self.file = pty.fork()
        if pid == 0:
            os.execvpe(peer.command()[0], peer.command(*arguments), peer.environment(**environment))
        self.pid = pid

    def expect(self, pattern: str, seconds: float = SECONDS) -> str:
        """Wait until the screen shows a pattern; gives its first group."""
        ends = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            left = ends - time.monotonic()
            assert left > 0, f"{pattern!r} not in {self.text!r}"
            if select.select([self.file], [], [], left)[0]:
                try:
                    data = os.read(self.file, 65536)
                except OSError:
                    data = b""
                assert data, f"{pattern!r} not in {self.text!r}"
                self.text += data.decode(errors="replace")
        return found[1] if found.groups() else found[0]

    def type(self, text: str) -> None:
        os.write(self.file, text.encode())

    def end(self, seconds: float = SECONDS) -> int:
        """Everything it still says, and its exit code."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if select.select([self.file], [], [], 0.2)[0]:
                try:
                    data = os.read(self.file, 65536)
                except OSError:
                    break
                if not data:
                    break
                self.text += data.decode(errors="replace")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.file)
        assert "Traceback" not in self.text
        return os.waitstatus_to_exitcode(status)

    def interrupt(self) -> None:
        self.type("\x03")


def output(process: subprocess.Popen[AnyStr]) -> IO[AnyStr]:
    """Its standard output, which is a pipe."""
    assert process.stdout
    return process.stdout


def kill_hard(process: Process) -> None:
    """The process is gone afterwards, and with it its locks."""
    process.signal(signal.SIGKILL)
    process.process.wait()


def sha256sums(folder: Path) -> dict[str, str]:
    """Digests of every file below a folder, by a tool that is not ours."""
    done = subprocess.run(
        "find . -type f -print0 | xargs -0 -r sha256sum",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split("  ", 1)[1]: line.split("  ", 1)[0] for line in done.stdout.splitlines()}
