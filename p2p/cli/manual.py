"""The manual page, of what `--help` shows: `python -m p2p.cli.manual > handover.1`.

In the person's language, as everything: HANDOVER_LANG=de writes the German one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

from ..api import CATALOGUE, VERSION
from . import main
from .help import TASKS, exit_codes, translate
from .language import words
from .options import COMMON

ESCAPES = {
    "\\": "\\e",
    "-": "\\-",
    "~": "\\(ti",
    "^": "\\(ha",
    "`": "\\(ga",
    "'": "\\(aq",
    '"': "\\(dq",
}
Rows = Iterable[tuple[str, str]]


def manual() -> str:
    """The page, in the macros of man(7)."""
    translate(main)
    name = main.name or ""
    commands = [main.commands[one] for names in TASKS.values() for one in names]
    context = click.Context(main, info_name=name)
    # What send, receive and resume share is described once.
    general, shared = main.get_params(context), _options(main.commands["send"], shared=True)
    lines = [
        f'.TH {name.upper()} 1 "" "{name} {VERSION}" "{_escaped(words("manual", "title"))}"',
        *_section("name", [f"{name} \\- {_escaped(words('manual', 'summary'))}"]),
        *_section(
            "synopsis", [f".B {name}", _escaped(" ".join(main.collect_usage_pieces(context)))]
        ),
        *_section("description", _paragraphs(main.help or "")),
        *_section("options", _listed(_records(general, context))),
        *_section("commands", (line for one in commands for line in _command(one, context))),
        *_section("transfer_options", _listed(_records(shared, context))),
        *_section("environment", _listed(_rows("environment"))),
        *_section("exit", _listed(exit_codes())),
        *_section("files", _listed(_rows("files"))),
        *_section(
            "completion",
            [
                *_paragraphs(words("manual", "complete")),
                ".PP",
                ".EX",
                _escaped(words("manual", "bash")),
                ".EE",
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, parent: click.Context) -> Iterator[str]:
    """A command, its options, and the commands below it."""
    context = click.Context(command, parent=parent, info_name=command.name)
    group = isinstance(command, click.Group)
    if not group or command.params:
        usage = " ".join(
            [context.command_path, *click.Command.collect_usage_pieces(command, context)]
        )
        yield from (f".SS {_escaped(usage)}", *_paragraphs(command.help or ""))
        if _options(command, shared=True):
            yield from _paragraphs(words("manual", "also"))
        yield from _listed(_records(_options(command, shared=False), context))
    if isinstance(command, click.Group):
        for one in command.commands.values():
            yield from _command(one, context)


def _options(command: click.Command, *, shared: bool) -> list[click.Parameter]:
    """The options of a command: those that it shares with every transfer, or its own."""
    shares = {one.name for one in command.params} >= COMMON
    return [
        one
        for one in command.params
        if isinstance(one, click.Option) and (shares and one.name in COMMON) == shared
    ]


def _records(options: Iterable[click.Parameter], context: click.Context) -> Rows:
    return [record for one in options if (record := one.get_help_record(context))]


def _rows(group: str) -> Rows:
    return [(name, words(group, name)) for name in CATALOGUE["en"][group]]


def _section(title: str, body: Iterable[str]) -> Iterator[str]:
    yield f".SH {_escaped(words('manual', title))}"
    yield from body


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from (".PP", _escaped(paragraph))


def _listed(rows: Rows) -> Iterator[str]:
    for term, meaning in rows:
        yield from (".TP", f".B {_escaped(term)}", _escaped(meaning))


def _escaped(text: str) -> str:
    """Text that no part of is an instruction to troff."""
    text = re.sub(r"[\\\-~^`'\"]", lambda found: ESCAPES[found[0]], text)
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    click.echo(manual(), nl=False)
