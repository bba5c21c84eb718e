"""`doctor`: whether a transfer would connect from here, and what to tell IT where not."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from .. import api
from ..api import ENGINES, VERSION, Check, Detail, Doctor, Failure, Opening, os_detail
from .configuration import Setting
from .language import language, size, words
from .options import Ports
from .terminal import show, show_json, told

NEEDED = {"home", "engine", "addresses"}  # without one of these there is no transfer
MARKS = {"works": "green", "fails": "red", "note": "yellow"}


@click.command()
@click.option("--server", metavar="URL", cls=Setting)
@click.option("--no-direct", is_flag=True, cls=Setting)
@click.option("--direct-ports", type=Ports(), cls=Setting)
@click.option("--relay-only", is_flag=True, cls=Setting)
@click.option("--no-relay", is_flag=True, cls=Setting)
@click.option("--proxy", metavar="URL", default="", cls=Setting)
@click.option("--engine", type=click.Choice(ENGINES), cls=Setting)
@click.option("--report", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def doctor(
    server: str | None,
    no_direct: bool,
    direct_ports: tuple[int, int] | None,
    relay_only: bool,
    no_relay: bool,
    proxy: str,
    engine: Any,
    report: Path | None,
    as_json: bool,
) -> None:
    """`handover doctor`."""
    if relay_only and no_relay:
        raise click.UsageError(words("usage", "relay_both"))
    lines: list[str] = []

    def tell(line: str, styled: str = "") -> None:
        lines.append(line)
        if not as_json:
            show(styled or line)

    tell(_head())
    failed: set[str] = set()

    def took(check: Check) -> None:
        if check.verdict == "fails":
            failed.add(check.name)
        tell_check(check, tell)
        if as_json:
            show_json({"event": "check", **_members(check)})

    with told(as_json):
        for check in api.check_machine():
            took(check)
        examined: Doctor | None = None
        if "engine" not in failed:
            examined = api.doctor(
                server or None,
                proxy=proxy,
                direct=not no_direct,
                direct_ports=direct_ports,
                engine=engine,
                relay_only=relay_only,
                no_relay=no_relay,
            )
            asyncio.run(_follow(examined, took))
        path = examined.path if examined and not failed & NEEDED else ""
        tell("")
        tell(words("doctor", f"path_{path or 'none'}"))
        openings = examined.openings() if examined and server else []
        if openings:
            _tell_openings(openings, tell)
        if as_json:
            told_openings = [one._asdict() for one in openings]
            show_json({"event": "result", "path": path, "openings": told_openings})
        if report is not None:
            _write(report, lines)
            if not as_json:
                show(words("doctor", "written", path=str(report)))
    if not path:
        raise SystemExit(1)


async def _follow(examined: Doctor, took: Callable[[Check], None]) -> None:
    async for check in examined.checks():
        took(check)


def _head() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"handover {VERSION}, {now}, {platform.system()} {platform.release()}"


def tell_check(check: Check, tell: Callable[[str, str], None]) -> None:
    """One line, as text and in colour."""
    verdict, name = words("doctor", check.verdict), words("doctor_name", check.name)
    rest = f"{name:20} {_sentence(check)}"
    mark = f"{verdict:10}"
    tell(f"{mark} {rest}", f"{click.style(mark, fg=MARKS[check.verdict])} {rest}")


def _sentence(check: Check) -> str:
    values: dict[str, str | int] = {}
    for name, value in check.values.items():
        if isinstance(value, Failure):
            values[name] = value.sentence_in(language())
        elif isinstance(value, Detail):
            values[name] = value.text_in(language())
        elif name == "bytes":
            values["free"] = size(int(value))
        elif name == "rate":
            values["rate"] = size(int(value))
        else:
            values[name] = value
    return words("doctor", check.code, **values)


def _members(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "verdict": check.verdict,
        "code": check.code,
        "values": {
            name: value if isinstance(value, int) else str(value)
            for name, value in check.values.items()
        },
    }


def _tell_openings(openings: Sequence[Opening], tell: Callable[[str], None]) -> None:
    tell("")
    tell(words("doctor", "openings"))
    rows = [
        (one.host, one.port, one.protocol, words("doctor_purpose", one.purpose)) for one in openings
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for host, port, protocol, purpose in rows:
        tell(f"  {host:{widths[0]}}  {port:{widths[1]}}  {protocol:{widths[2]}}  {purpose}")


def _write(report: Path, lines: list[str]) -> None:
    """Raises `Failure`."""
    try:
        with open(report, "x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise Failure("not_writable", os_detail(error)) from None
