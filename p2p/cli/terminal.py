"""The one voice of the command line: the only file that prints, asks or exits.

Results go to standard output (the link, `--json` lines), everything said to a person to standard
error, questions to the terminal itself, so that output can be piped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from ..api import (
    EXIT_CODES,
    EXIT_USAGE,
    Completed,
    DigitsShown,
    Event,
    Failed,
    Failure,
    HandoverError,
    LinkMade,
    Offered,
    PeerMet,
    Progressed,
    Question,
    StateChanged,
    Warned,
    shown,
    text,
)


def size(count: float) -> str:
    """Bytes in decimal units, as download dialogs show them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def many(count: int, word: str) -> str:
    """A count and its noun."""
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{count:,} {word if count == 1 else plural}"


def say(words: str = "") -> None:
    """Say a line to the person."""
    click.echo(words, err=True)


def show(words: str) -> None:
    """A line of the result."""
    click.echo(words)


def show_json(value: Any) -> None:
    """A `--json` line."""
    click.echo(json.dumps(value))
    sys.stdout.flush()


def fail(error: HandoverError, as_json: bool = False) -> NoReturn:
    """Say a failure as its sentence, and exit with its code."""
    if as_json:
        show_json(Failed(error.ending, error.code, error.detail, None, ()).as_json())
    else:
        say(error.sentence)
    code = EXIT_USAGE if error.code == "needs_answer" else EXIT_CODES[error.ending]
    raise SystemExit(code)


@contextlib.contextmanager
def told(as_json: bool = False) -> Iterator[None]:
    """Say a failure as its sentence and exit with its code."""
    try:
        yield
    except HandoverError as error:
        fail(error, as_json)


class Human:
    """Says on standard error what happens; the link alone goes to standard output."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._bar: Any = None
        self._task: Any = None
        self._state = ""

    def __call__(self, event: Event) -> None:
        match event:
            case LinkMade():
                self._link(event)
            case StateChanged():
                again = event.state == self._state  # it tries again and again: said once
                self._state = event.state
                if not again and not (event.state == "verifying" and self._role == "recipient"):
                    self._line(text("state", event.state))
            case PeerMet():
                pinned = f"known as {shown(event.contact)}" if event.contact else "new"
                checked = ", checked before" if event.verified else ""
                who = "From" if self._role == "recipient" else "Recipient"
                self._line(f"{who}: {event.label or '(no name)'} ({pinned}{checked})")
                self._line(f"  key {event.fingerprint}")
            case DigitsShown():
                self._line(f"  check digits {event.digits}: the same on both sides?")
            case Offered():
                folders = f" in {many(event.folders, 'folder')}" if event.folders else ""
                count = many(event.files, "file")
                self._line(f"Offered: {count}{folders}, {size(event.size)}")
                for name in event.names:
                    self._line(f"  {name}")
            case Warned():
                where = f"{event.path}: " if event.path else ""
                self._line(f"Note: {where}{event.message}")
            case Progressed():
                self._progress(event)
            case Completed():
                self._stop()
                say(event.message)
                for place in event.places:
                    say(f"  {shown(place, 256)}")
                say(f"Receipt: {event.receipt}")
            case Failed():
                self._stop()
                say(event.message)
                for path, why in event.reasons[:20]:
                    say(f"  {path}: {why}")
                if len(event.failed) > 20:
                    say(f"  and {len(event.failed) - 20:,} more (handover receipt show)")
                if event.receipt is not None:
                    say(f"Receipt: {event.receipt}")

    def _link(self, event: LinkMade) -> None:
        say("Give this link to the recipient; it is the key to the files:")
        say()
        click.echo(event.link)
        say()
        if sys.stderr.isatty():
            import segno

            segno.make(event.link, error="l").terminal(out=sys.stderr, compact=True)
        for other in event.others:
            say(f"The same by another address of this machine: {other}")
        if event.browser:
            say("It works in a browser and on the command line.")
        else:
            say("It works on the command line: handover receive (browsers need https).")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            say(text)

    def _progress(self, event: Progressed) -> None:
        if self._bar is None:
            if not sys.stderr.isatty():
                return
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TaskProgressColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                BarColumn(),
                TaskProgressColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=event.total)
        path = "direct" if event.direct else "WebRTC"
        lanes = event.direct or event.webrtc
        how = f"{path} x{lanes}" if lanes > 1 else path
        if event.bottleneck:
            what = text("bottleneck", event.bottleneck)
            how += f", held up by {what}"
        self._bar.update(self._task, completed=event.durable, description=how)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Terminal:
    """Questions on the controlling terminal, wherever standard input and output go."""

    def __init__(self, file: int) -> None:
        self._file = file

    @classmethod
    def open(cls) -> Terminal | None:
        """The terminal, or None when there is none."""
        try:
            return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            return None

    async def prompt(self, words: str) -> str:
        """One line that the person types."""
        self._write(words)
        return (await self._line()).strip()

    async def ask(self, question: Question) -> bool:
        """Yes or no; only a clear yes is one."""
        words = text("question", question.kind, digits=question.digits)
        while True:
            answer = (await self.prompt(f"{words} [y/n] ")).lower()
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")

    def _write(self, words: str) -> None:
        os.write(self._file, words.encode())

    async def _line(self) -> str:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[bytes] = loop.create_future()

        def readable() -> None:
            if not got.done():
                got.set_result(os.read(self._file, 1024))

        loop.add_reader(self._file, readable)
        try:
            data = await got
        finally:
            loop.remove_reader(self._file)
        if not data:  # the terminal is gone
            return "n"
        return data.decode(errors="replace")

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


def has_terminal() -> bool:
    """Whether somebody can be asked."""
    terminal = Terminal.open()
    if terminal is not None:
        terminal.close()
    return terminal is not None


def ask_passphrase(*, twice: bool) -> str:
    """Ask for a passphrase, which is not shown."""
    passphrase: str = click.prompt(
        "Passphrase", hide_input=True, confirmation_prompt=twice, err=True, type=str
    )
    return passphrase


def read_passphrase(wanted: bool, file: Path | None, as_json: bool, *, twice: bool) -> str | None:
    """From a file, the environment or a prompt; never from an argument."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            fail(Failure("not_readable", shown(str(file))), as_json)
    if not wanted:
        return None
    named = os.environ.get("HANDOVER_PASSPHRASE")
    if named is not None:
        return named
    if as_json or not has_terminal():
        fail(Failure("needs_answer", "the passphrase"), as_json)
    return ask_passphrase(twice=twice)


def prompt(words: str, what: str) -> str:
    """Ask for a line; `what` it is, for when nobody can answer."""
    terminal = Terminal.open()
    if terminal is None:
        fail(Failure("needs_answer", what))

    async def line() -> str:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        return await terminal.prompt(words)

    try:
        return asyncio.run(line())
    except asyncio.CancelledError:
        say()
        fail(Failure("cancelled"))
