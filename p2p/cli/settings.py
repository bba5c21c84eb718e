"""`config`: what is in force on this computer, and from where."""

from __future__ import annotations

import click

from ..api import shown
from .configuration import InForce, in_force, paths
from .help import default_of
from .language import words
from .terminal import show, show_json, show_table


@click.group("config")
def config() -> None:
    """`handover config`."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def config_show(context: click.Context, as_json: bool) -> None:
    """`handover config show`."""
    program = context.find_root().command
    assert isinstance(program, click.Group)
    settings = in_force(program)
    if as_json:
        for one in settings:
            table, key = one.setting.table, one.setting.key
            show_json({"table": table, "key": key, "value": one.value, "source": one.source})
        return
    for path in paths():
        there = words("config", "file" if path.exists() else "no_file")
        show(words("config", "read", path=shown(str(path), 1024), there=there))
    for table in ("", "serve"):
        show(f"\n[{table}]" if table else "")
        show_table([row(one) for one in settings if one.setting.table == table])


def row(one: InForce) -> tuple[str, str]:
    """A key, its value, and where that comes from."""
    key = one.setting.key
    if not one.source:
        command = "serve" if one.setting.table else "send"
        default = default_of(command, key)
        return key, words("config", "default", value=default or _text(one.setting.default))
    return key, words("config", "set", value=_text(one.value), source=shown(one.source, 1024))


def _text(value: object) -> str:
    """Of a default that is no word of the catalogue, of a flag, or of what was given."""
    if isinstance(value, list | tuple):
        return " ".join(shown(str(one), 256) for one in value)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return shown(str(value), 256)
    return words("config", "on" if value is True else "off")
