"""Configuration files: one of the machine and one of the person, in TOML, which set the defaults of
options. `Setting` is the one definition of a key: an option, its environment variable, and its key
in the files. What is typed counts most, then the environment, the person's file, the machine's.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click
from click.core import ParameterSource
from platformdirs import site_config_path, user_config_path

from ..protocol.sentences import Detail, os_detail
from .language import language, words

FILE = "handover.toml"
MAX_FILE = 64 * 1024
VARIABLE = "HANDOVER_CONFIG"  # names one file to read instead of both
SECRET = ("proxy", "redis-url")  # keys whose URL may have a password
SERVE = "serve"  # the table of the server's keys; all others stand above it


class Setting(click.Option):
    """An option that an environment variable and the configuration files set as well."""

    def __init__(self, *args: Any, table: str = "", **options: Any) -> None:
        """`table`: that its key stands in, in a file."""
        super().__init__(*args, **options)
        self.table, self.key = table, max(self.opts, key=len).removeprefix("--")
        self.envvar = (
            "_".join(filter(None, ("HANDOVER", table, self.key))).replace("-", "_").upper()
        )


@dataclass(frozen=True)
class InForce:
    """A setting's value, and where it comes from."""

    setting: Setting
    value: Any  # as it was given; None for the default
    source: str  # a file, an environment variable, or ""


def paths() -> list[Path]:
    """The files that are read, the one that counts most last. They need not exist."""
    if named := os.environ.get(VARIABLE):
        return [Path(named).absolute()]
    if sys.platform == "win32":  # where administrators alone may write
        machine = Path(os.environ.get("PROGRAMFILES", "C:/")) / "Handover"
    elif sys.platform == "darwin":
        machine = site_config_path("handover", appauthor=False)
    else:
        machine = Path("/etc/handover")
    return [machine / FILE, user_config_path("handover", appauthor=False) / FILE]


def load(program: click.Group, named: Path | None = None) -> dict[str, Any]:
    """What the files say, or the one that is named, as the `default_map` of the program. Raises
    `UsageError`."""
    return {
        command: {setting.name: value for setting, (value, _) in given.items()}
        for command, given in _given(program, named).items()
    }


def in_force(program: click.Group) -> list[InForce]:
    """Every setting, as a command that is started now has it. Raises `UsageError`."""
    found: dict[tuple[str, str], InForce] = {}
    given = _given(program)
    for name, command, setting in _settings(program):
        context = click.Context(command, info_name=name)
        context.default_map = {one.name: value for one, (value, _) in given[name].items()}
        value, source = setting.consume_value(context, {})
        where = ""
        if source is ParameterSource.ENVIRONMENT:
            where = str(setting.envvar)
        elif source is ParameterSource.DEFAULT_MAP:
            where = str(given[name][setting][1])
        kept = _shown(setting, value) if where else None
        found.setdefault((setting.table, setting.key), InForce(setting, kept, where))
    return sorted(found.values(), key=lambda one: (one.setting.table, one.setting.key))


def given(context: click.Context, named: Path | None) -> list[InForce]:
    """Every setting of the command that runs, as it has it; `named` is the file that it was to
    read. Raises `UsageError`."""
    program = context.find_root().command
    assert isinstance(program, click.Group)
    found = _given(program, named)[context.info_name or ""]
    settings = []
    for setting in context.command.params:
        if not isinstance(setting, Setting):
            continue
        source = context.get_parameter_source(setting.name or "")
        value = _shown(setting, _typed(setting, context.params.get(setting.name or "")))
        if source is ParameterSource.COMMANDLINE:
            where = f"--{setting.key}"
        elif source is ParameterSource.ENVIRONMENT:
            where = str(setting.envvar)
        elif source is ParameterSource.DEFAULT_MAP:
            value, where = _shown(setting, found[setting][0]), str(found[setting][1])
        else:
            value, where = None, ""
        settings.append(InForce(setting, value, where))
    return settings


def _typed(setting: Setting, value: Any) -> Any:
    """A value as a person types it."""
    if setting.type.name == "host:port" and value is not None:
        return f"{value[0]}:{value[1]}"
    if setting.type.name == "name=value" and value is not None:
        return "=".join(value)
    return f"{value:.0f}s" if setting.type.name == "duration" else value


def _shown(setting: Setting, value: Any) -> Any:
    """A value without a password."""
    secret = setting.key in SECRET and isinstance(value, str)
    return shown_url(value) if secret else value


def shown_url(value: str) -> str:
    """A URL without its password."""
    try:
        parts = urlsplit(value)
        login, at, host = parts.netloc.rpartition("@")
    except ValueError:
        return "***"
    if not at and "@" in value:  # what is no URL yet may have one
        return "***"
    name = f"{login.partition(':')[0]}:***@" if at else ""
    return urlunsplit(parts._replace(netloc=f"{name}{host}"))


def _settings(program: click.Group) -> Iterator[tuple[str, click.Command, Setting]]:
    for name, command in program.commands.items():
        for one in command.params:
            if isinstance(one, Setting):
                yield name, command, one


def _given(
    program: click.Group, named: Path | None = None
) -> dict[str, dict[Setting, tuple[Any, Path]]]:
    """By command, what the files say of its settings, and which file."""
    known: dict[str, dict[str, list[tuple[str, click.Command, Setting]]]] = {}
    given: dict[str, dict[Setting, tuple[Any, Path]]] = defaultdict(dict)
    needed = named is not None or bool(os.environ.get(VARIABLE))
    for path in paths() if named is None else [named.absolute()]:
        for table, key, value in _entries(path, needed):
            if not known:  # all commands are loaded only where there is something to look up
                known = {"": {}, SERVE: {}}
                for found in _settings(program):
                    known[found[2].table].setdefault(found[2].key, []).append(found)
            if key not in known[table]:
                raise _bad(path, "config_key", _full(table, key))
            for name, command, setting in known[table][key]:
                given[name][setting] = _checked(path, command, setting, value), path
    return given


def _entries(path: Path, needed: bool) -> Iterator[tuple[str, str, Any]]:
    """(table, key, value) of one file; none where there is none, unless it is needed."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ValueError(f"> {MAX_FILE} B")
        import tomllib  # few have such a file

        read = tomllib.loads(data.decode())
    except (FileNotFoundError, NotADirectoryError):
        if needed:
            raise _bad(path, "config_unreadable", Detail("enoent").text_in(language())) from None
        return
    except OSError as error:
        detail = os_detail(error)
        why = detail.text_in(language()) if isinstance(detail, Detail) else detail
        raise _bad(path, "config_unreadable", why) from None
    except (ValueError, RecursionError) as error:  # the first: of TOML and of UTF-8
        raise _bad(path, "config_syntax", str(error)) from None
    server = read.pop(SERVE, {})
    if not isinstance(server, Mapping):
        raise _bad(path, "config_syntax", f"[{SERVE}]")
    yield from (("", key, value) for key, value in read.items())
    yield from ((SERVE, key, value) for key, value in server.items())


def _checked(path: Path, command: click.Command, setting: Setting, value: Any) -> Any:
    """A value as an option takes it. Raises `UsageError` with the file, the key and why."""
    what = _full(setting.table, setting.key)
    kinds = bool if setting.is_flag else list if setting.multiple else (str, int, float)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not setting.is_flag):
        kind = "flag" if setting.is_flag else "list" if setting.multiple else "text"
        raise _bad(path, "config_kind", what, words("config", kind))
    if isinstance(setting.type, click.Path):
        value = os.path.expanduser(str(value))
        if not os.path.isabs(value):
            raise _bad(path, "config_relative", what)
    elif not setting.is_flag:
        value = [str(one) for one in value] if isinstance(value, list) else str(value)
    try:
        setting.type_cast_value(click.Context(command), value)
    except click.BadParameter as bad:
        raise _bad(path, "config_value", what, bad.message) from None
    return value


def _full(table: str, key: str) -> str:
    return f"{table}.{key}" if table else key


def _bad(path: Path, code: str, what: str, why: str = "") -> click.UsageError:
    from ..api import shown

    path_shown = shown(str(path), 1024)
    return click.UsageError(words("usage", code, path=path_shown, what=shown(what, 256), why=why))
