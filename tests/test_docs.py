"""The documents say what the program does: links, options, events, codes, and a script that runs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest

import p2p
from p2p import events
from p2p.api import CATALOGUE
from p2p.cli import main
from p2p.cli.configuration import Setting
from p2p.protocol.errors import EXIT_CODES, EXIT_USAGE, FAILURES

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
GUIDE, AUTOMATION = ROOT / "docs" / "user-guide.md", ROOT / "docs" / "automation.md"
SECONDS = 60
WIDTH = 100
TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


# --- reading Markdown


def prose(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", text)


def anchors(text: str) -> set[str]:
    """What links can point to: each heading, spelled as GitHub does."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(text))
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in headings}


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level or above."""
    level = heading.split(" ")[0]
    after = re.split(rf"(?m)^{re.escape(heading)}$", text)
    assert len(after) == 2, f"{heading}: not there, or twice"
    return re.split(rf"(?m)^#{{1,{len(level)}}} ", after[1])[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table, without its head."""
    table = re.search(r"(?m)(^\|.*\n?)+", text)
    assert table, "no table"
    cells = (line.strip().removeprefix("|").removesuffix("|") for line in table[0].splitlines()[2:])
    return [[cell.strip() for cell in line.split("|")] for line in cells]


def coded(cell: str) -> list[str]:
    """The words in backticks."""
    return re.findall(r"`([^`]+)`", cell)


# --- links


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_links_and_anchors_resolve(document):
    """Every relative link leads to a file, and its anchor to a heading there."""
    broken = []
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        if not found.exists() or (anchor and anchor not in anchors(found.read_text())):
            broken.append(target)
    assert not broken


def test_there_is_one_heading_of_each_name():
    """Two equal headings would share an anchor."""
    for document in DOCUMENTS:
        if document.name != "CHANGELOG.md":  # each version has the same ones
            headings = re.findall(r"(?m)^#+ (.+)$", prose(document.read_text()))
            assert len(headings) == len(set(headings)), document.name


# --- options


def commands(group: click.Group, name: str = "") -> dict[str, click.Command]:
    """Every command by its words."""
    found: dict[str, click.Command] = {}
    for word, command in group.commands.items():
        full = f"{name} {word}".strip()
        found[full] = command
        if isinstance(command, click.Group):
            found |= commands(command, full)
    return found


def options(command: click.Command) -> set[str]:
    """The long options of a command."""
    # `params` and not `get_params`, which would keep the help option that it makes for good.
    names = (name for one in command.params for name in one.opts + one.secondary_opts)
    return {name for name in names if name.startswith("--")}


def test_settings_are_named():
    """Which options a file and the environment can set, and only those."""
    named = section(GUIDE.read_text(), "### Settings").split(". Each has", 1)[0]
    settings = {
        f"--{one.key}"
        for command in commands(main).values()
        for one in command.params
        if isinstance(one, Setting) and not one.table
    }
    assert set(re.findall(r"`(--[a-z-]+)`", named)) == settings


@pytest.mark.parametrize("document", [ROOT / "README.md", GUIDE], ids=lambda one: one.name)
def test_options_that_are_named_exist(document):
    """Whoever types what the text says is understood."""
    known = {"--help", *options(main)}
    for command in commands(main).values():
        known |= options(command)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", document.read_text())) <= known


@pytest.mark.parametrize("command", ["send", "receive", "resume"])
def test_the_guide_has_every_option_of_a_transfer(command):
    """Each command's tables are its options, no more and no fewer."""
    text = GUIDE.read_text()
    headings = ["### Options of `send`, `receive` and `resume`", f"### Options of `{command}`"]
    told = {
        word.split()[0]
        for heading in headings
        for row in rows(section(text, heading))
        for word in coded(row[0])
        if word.startswith("--")
    }
    assert told == options(commands(main)[command])


def test_the_guide_has_every_command():
    """The commands of the last tables and those of the program are the same."""
    text = section(GUIDE.read_text(), "### Other commands")
    told = set()
    for first, _ in rows(text):
        words = coded(first)
        group = words[0].removeprefix("handover ").split()[0]
        for word in words:
            full = word.removeprefix("handover ")
            if full == word:  # a further one of the same group
                full = f"{group} {word}"
            told.add(" ".join(re.findall(r"(?<![\w\[-])[a-z][a-z-]*", full)))
    leaves = {
        name
        for name, one in commands(main).items()
        if not isinstance(one, click.Group) or one.invoke_without_command
    }
    assert told | {"send", "receive"} == leaves


def test_operating_has_every_option_of_the_server():
    """Likewise for whoever runs one."""
    table = rows(section((ROOT / "docs" / "operating.md").read_text(), "## Running it"))
    told = {word.split()[0] for row in table for word in coded(row[0])}
    assert told == options(commands(main)["serve"])


# --- events and codes


@pytest.mark.parametrize("event", get_args(events.Event), ids=lambda one: one.event)
def test_members_of_an_event(event):
    """Each event's table has its members, in order, and their types."""
    told = section(AUTOMATION.read_text(), f"### {event.event}")
    members = dataclasses.fields(event)
    if not members:
        assert "It has no members." in told
        return
    table = rows(told)
    if hasattr(event, "message_in"):  # computed, and always last
        assert coded(table.pop()[0]) == ["message"]
    assert [coded(row[0])[0] for row in table] == [member.name for member in members]
    for member, (_, told, *_) in zip(members, table, strict=True):
        assert told == TYPES.get(str(member.type), told) != ""


def test_no_event_is_told_that_does_not_exist():
    """And none is missing."""
    told = re.findall(r"(?m)^### (.+)$", section(AUTOMATION.read_text(), "## Events"))
    assert told == [event.event for event in get_args(events.Event)]


def test_states_and_bottlenecks():
    """Their words are those of the program."""
    text = section(AUTOMATION.read_text(), "### state")
    told = coded(text.split("below |")[1].split("[what each means]")[0])
    assert told == list(get_args(events.StateName))
    guide = rows(section(GUIDE.read_text(), "## What the program is doing"))
    assert [coded(row[0])[0] for row in guide] == told
    progress = rows(section(AUTOMATION.read_text(), "### progress"))
    words = set(coded(progress[-1][3])) | {""}
    assert words == set(get_args(events.Bottleneck))


def test_exit_codes():
    """The table is the program's, and so is the guide's list of endings."""
    told = {row[0]: row[1] for row in rows(section(AUTOMATION.read_text(), "## Exit codes"))}
    assert told.pop(str(EXIT_USAGE)).startswith("wrong usage")
    assert told == {str(code): f"`{ending.value}`" for ending, code in EXIT_CODES.items()}
    guide = rows(section(GUIDE.read_text(), "## How a transfer ends"))
    assert {coded(row[0])[0] for row in guide} == {ending.value for ending in EXIT_CODES}


def test_codes():
    """Every code of a failure, with its ending and what may follow."""
    told = {
        coded(code)[0]: (coded(ending)[0], coded(next_)[0])
        for code, ending, next_ in rows(section(AUTOMATION.read_text(), "## Codes"))
    }
    assert told == {
        code: (failure.ending.value, failure.next.name.lower())
        for code, failure in FAILURES.items()
    }


# --- PROTOCOL.md


def test_lines_of_the_protocol():
    """Prose keeps to a width that can be read and compared; tables and code may be wider."""
    text = prose((ROOT / "PROTOCOL.md").read_text())
    long = [
        line
        for line in text.splitlines()
        if len(line) > WIDTH and not line.startswith(("|", "    "))
    ]
    assert not long


def test_sections_of_the_protocol():
    """They are numbered without a gap, the list at the top has them all, and no reference is bare."""
    text = (ROOT / "PROTOCOL.md").read_text()
    numbers = re.findall(r"(?m)^## (\d+) ", text)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    contents = re.search(r"(?s)Contents: (.+?)\n\n", text)
    assert contents
    assert re.findall(r"\[(\d+)\s", contents[1]) == numbers
    linked = re.findall(r"\[section\s+(\d+)\]\(#(\d+)-", text)
    assert all(shown == target for shown, target in linked)
    assert len(re.findall(r"\bsections?\s+\d", text)) == len(linked)


# --- promises

PROMISE = re.compile(
    r"(?i)\b(verif\w+|deliver\w*|proves?|unchanged|complete|confirmed)\b|^Valid|log is intact"
)
NO_PROMISE = {
    "click",
    "command",
    "manual",
    "option",
    "environment",
    "files",
    "default",
    "page_failure",
}


def test_every_promise_stands_in_the_list_with_tests_that_exist():
    """A sentence that says verified, delivered, proves, holds or complete names what makes it so."""
    text = section((ROOT / "docs" / "development.md").read_text(), "## Promises")
    listed = set(re.findall(r"`(\w+ \w+)`", text))
    for group, sentences in CATALOGUE["en"].items():
        for code, sentence in sentences.items():
            if group not in NO_PROMISE and PROMISE.search(sentence):
                assert f"{group} {code}" in listed, sentence
    for one in listed:
        group, code = one.split(" ")
        assert code in CATALOGUE["en"][group]
    tests = set(re.findall(r"`(tests/[^`]+)`", text))
    assert all((ROOT / one).exists() for one in tests)


# --- Python


def test_python_that_is_shown_compiles():
    """Also where it is not run."""
    for block in re.findall(r"(?s)```python\n(.*?)```", AUTOMATION.read_text()):
        ast.parse(block)


@pytest.mark.parametrize("name", ["send", "receive"])
def test_arguments_of_the_api(name):
    """The tables are the keyword arguments, with their defaults."""
    text = section(AUTOMATION.read_text(), "## Python")
    common, *own = re.split(r"(?m)^And for `(send|receive)`:$", text)
    table = rows(common) + rows(dict(zip(own[::2], own[1::2], strict=True))[name])
    told = {coded(row[0])[0]: ast.literal_eval(coded(row[1])[0]) for row in table}
    _, *given = inspect.signature(getattr(p2p, name)).parameters.values()
    assert told == {one.name: one.default for one in given}


def test_the_script_transfers(tmp_path, some):
    """The script of automation.md, as it stands there, at both ends."""
    found = re.search(r"(?s)<!-- run: (\S+) -->\n```python\n(.*?)```", AUTOMATION.read_text())
    assert found
    script = tmp_path / found[1]
    script.write_text(found[2])

    def start(role: str, path: Path) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
        return subprocess.Popen(
            [sys.executable, script, role, path],
            env={
                **kept,
                "HANDOVER_CONFIG": os.devnull,
                "HANDOVER_HOME": str(tmp_path / role),
                "PYTHONPATH": str(ROOT),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    with start("send", some) as sender, start("receive", tmp_path / "inbox") as recipient:
        try:
            assert sender.stdout
            recipient.communicate(sender.stdout.readline(), timeout=SECONDS)
            sender.communicate(timeout=SECONDS)
        finally:
            sender.kill()
            recipient.kill()
    assert (sender.returncode, recipient.returncode) == (0, 0)
    arrived = tmp_path / "inbox" / some.name
    for file in some.iterdir():
        assert (arrived / file.name).read_bytes() == file.read_bytes()
