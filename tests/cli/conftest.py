"""The command line over a transfer that follows a script, and a person who types what is given."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2p import api
from p2p.api import (
    Completed,
    DigitsShown,
    Ending,
    Failed,
    LinkMade,
    Offered,
    Outcome,
    PeerMet,
    Question,
    Transfer,
)
from p2p.cli import main, process
from p2p.cli.terminal import Terminal

LINK = "https://host.example/#1.secret"
DIGITS = "1234-5678-9012"
PEER = PeerMet("Reading room", "ab12 cd34", "", False, "")
OFFER = Offered(3, 1, 150_000, ("study",))
MADE = LinkMade(LINK, ("https://10.0.0.1/#1.secret",), True)
SHOWN = DigitsShown(DIGITS)
ADMIT, COMPARE, ACCEPT = (
    Question("admit", PEER, DIGITS),
    Question("digits", PEER, DIGITS),
    Question("accept", PEER, DIGITS, OFFER),
)
COMPLETE = Completed(Ending.COMPLETE, "", Path("receipt.json"), ("study",))


def failed(code: str, detail: str = "", **more: Any) -> Failed:
    """The last event of a transfer that ended so."""
    members = {"receipt": None, "failed": ()} | more
    return Failed(api.Failure(code).ending, code, detail, **members)


class Person(Terminal):
    """A terminal at which somebody types the given lines, and `asked` is what they saw."""

    def __init__(self, lines):
        self.lines, self.asked = list(lines), []

    def _write(self, line):
        self.asked.append(line)

    async def _line(self):
        if not self.lines:
            await asyncio.Event().wait()  # they think about it
        return f"{self.lines.pop(0)}\n"

    def close(self):
        pass


class Dropped:
    """A question that is asked, and needs no answer any more."""

    def __init__(self, question: Question):
        self.question = question


class CommandLine:
    """Runs `handover`; every transfer it begins follows `script`."""

    def __init__(self, monkeypatch):
        self.script, self.answers, self.given = [COMPLETE], [], {}
        self.person: Person | None = None
        monkeypatch.setattr(Terminal, "open", lambda: self.person)
        for name in ("send", "receive", "resume"):
            monkeypatch.setattr(api, name, self._begin)

    def types(self, *lines: str) -> Person:
        """Somebody sits at the terminal and will type this."""
        self.person = Person(lines)
        return self.person

    def run(self, *arguments, **options):
        return CliRunner().invoke(main, [str(one) for one in arguments], **options)

    def _begin(self, *arguments, **options):
        self.given = {"arguments": arguments, **options}
        transfer = Transfer(has_link=False)
        transfer._start(self._follow(transfer))
        return transfer

    async def _follow(self, transfer):
        *events, last = self.script
        for event in events:
            if isinstance(event, Question):
                self.answers.append(await transfer._ask(event))
            elif isinstance(event, Dropped):
                asking = asyncio.create_task(transfer._ask(event.question))
                assert self.person
                while not self.person.asked:
                    await asyncio.sleep(0)
                asking.cancel()
            else:
                transfer._emit(event)
                await asyncio.sleep(0)
        transfer._emit(last)
        return Outcome(last.ending, last.code)


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A data folder of its own, and none of the environment of whoever runs the tests."""
    for name in [*os.environ]:
        if name.startswith(("HANDOVER_", "LC_", "LANG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HANDOVER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HANDOVER_CONFIG", os.devnull)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(process, "keep_buffers", lambda: None)

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)


@pytest.fixture(params=["en", "de"])
def language(request, monkeypatch):
    """Each language in turn, which the environment asks for."""
    monkeypatch.setenv("HANDOVER_LANG", request.param)
    return request.param


@pytest.fixture
def line(monkeypatch):
    return CommandLine(monkeypatch)
