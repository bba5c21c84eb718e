"""What `--help` shows. Its words stand in the catalogue under the names of commands and options."""

from __future__ import annotations

import pkgutil
import shutil
from collections import UserDict
from typing import Any

import click

from ..protocol.errors import EXIT_CODES, EXIT_USAGE
from .language import found, speak_to_click, words

HELP_NAMES = ["-h", "--help"]
WIDEST, NARROWEST = 100, 30  # columns
# The commands of each task, in the order in which they are listed, and where each stands.
TASKS = {
    "transfer": {
        "send": "transfers:send",
        "receive": "transfers:receive",
        "resume": "transfers:resume",
        "transfers": "transfers:transfers",
    },
    "server": {
        "serve": "server:serve",
        "token": "server:token",
        "local-ca": "server:local_ca_group",
        "verify-web": "server:verify_web",
    },
    "who": {"identity": "identity:identity", "contacts": "identity:contacts"},
    "evidence": {"receipt": "evidence:receipt", "audit": "audit:audit_group"},
    "setup": {"doctor": "doctor:doctor", "config": "settings:config"},
    "try": {"demo": "demo:demo"},
}


class Formatter(click.HelpFormatter):
    """As wide as the terminal, narrow ones included."""

    def __init__(self, **_: Any) -> None:
        columns = shutil.get_terminal_size().columns
        super().__init__(width=max(NARROWEST, min(WIDEST, columns) - 2))

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class Commands(UserDict[str, Any]):
    """The program's commands by name. Each is loaded, and given its words, when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        command: click.Command = pkgutil.resolve_name(f"{__package__}.{self.data[name]}")
        _describe(command, name)
        return command


class Main(click.Group):
    """The program: commands by task first, then options and exit codes."""

    def __init__(self, **extra: Any) -> None:
        places = {name: place for one in TASKS.values() for name, place in one.items()}
        super().__init__(**extra, commands=Commands(places))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        translate(self)
        return super().make_context(*args, **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Which command it is, with what the configuration files say of its options."""
        if not {*HELP_NAMES} & {*args}:
            from .configuration import load

            ctx.default_map = load(self)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)
        with formatter.section(words("section", "exit")):
            formatter.write_dl(exit_codes())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(len(name) for name in self.commands)
        for task, names in TASKS.items():
            with formatter.section(words("section", task)):
                formatter.write_dl(
                    [(f"{name:{widest}}", summary(words("command", name))) for name in names]
                )


def translate(program: click.Command) -> None:
    """Give the program and click itself their words, in the person's language."""
    speak_to_click()
    click.Context.formatter_class = Formatter
    _describe(program)


def _describe(command: click.Command, name: str = "") -> None:
    command.help = words("command", name or "handover")
    command.short_help = summary(command.help)
    command.options_metavar = words("click", "[OPTIONS]")
    for option in command.get_params(click.Context(command, help_option_names=HELP_NAMES)):
        if isinstance(option, click.Option):
            _describe_option(option, name)
    if isinstance(command, click.Group):
        metavar = words("click", "COMMAND [ARGS]...")
        command.subcommand_metavar = f"[{metavar}]" if command.invoke_without_command else metavar
        if not isinstance(command, Main):  # whose commands get theirs when they are loaded
            for word, one in command.commands.items():
                _describe(one, f"{name} {word}")


def _describe_option(option: click.Option, command: str) -> None:
    word = max(option.opts, key=len).removeprefix("--")
    option.help = found("option", f"{command} {word}", "") or words("option", word)
    option.show_default = not option.required and (default_of(command, word) or True)
    option.show_envvar = option.envvar is not None


def default_of(command: str, option: str) -> str:
    """What stands for an option that was not given, where that is no plain value."""
    return found("default", f"{command} {option}", "") or found("default", option, "")


def summary(text: str) -> str:
    """The first sentence of a command's help."""
    return text.partition("\n")[0]


def exit_codes() -> list[tuple[str, str]]:
    """Each exit code and what it means."""
    codes = {code: ending.value for ending, code in EXIT_CODES.items()} | {EXIT_USAGE: "usage"}
    return [(str(code), words("exit", codes[code])) for code in sorted(codes)]
