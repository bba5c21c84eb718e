"""What commands take: types of values, and options that several share."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from ..api import DEFAULT_EXPIRES, ENGINES, MIN_LIMIT
from .configuration import Setting
from .language import words

Command = TypeVar("Command", bound=Callable[..., Any])
DURATION = re.compile(r"([1-9][0-9]{0,6})([smh])")


class Duration(click.ParamType[Any]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = DURATION.fullmatch(str(value))
        seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
        if not 0 < seconds <= DEFAULT_EXPIRES:
            self.fail(words("usage", "duration"), param, ctx)
        return float(seconds)


class Day(click.ParamType[Any]):
    """A day of this computer's calendar."""

    name = "date"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            day = datetime.strptime(str(value), "%Y-%m-%d")
            (day + timedelta(days=1)).astimezone()  # the calendar goes on, and the clock knows it
            return day
        except (ValueError, OverflowError, OSError):
            self.fail(words("usage", "day"), param, ctx)


class Claim(click.ParamType[Any]):
    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, wanted = str(value).partition("=")
        if not (name and equals and wanted):
            self.fail(words("usage", "claim"), param, ctx)
        return name, wanted


class Address(click.ParamType[Any]):
    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            self.fail(words("usage", "address"), param, ctx)
        return host.strip("[]"), int(port)


class Network(click.ParamType[Any]):
    name = "cidr"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        try:
            return ipaddress.ip_network(str(value))
        except ValueError:
            self.fail(words("usage", "network"), param, ctx)


class Rate(click.ParamType[float]):
    name = "RATE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([kMG]?)(?:B(?:/s)?)?", str(value))
        rate = float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]] if found else 0
        if rate < MIN_LIMIT:
            self.fail(words("usage", "rate"), param, ctx)
        return rate


class Ports(click.ParamType[tuple[int, int]]):
    name = "PORT[-PORT]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, _, last = str(value).partition("-")
        last = last or first
        if not (first.isdigit() and last.isdigit() and 1024 <= int(first) <= int(last) <= 65535):
            self.fail(words("usage", "ports"), param, ctx)
        return int(first), int(last)


@dataclass(frozen=True)
class Common:
    """The options that every transfer takes."""

    as_json: bool
    engine: Any
    auto: bool
    verify: bool
    passphrase_file: Path | None
    limit: float | None
    no_compress: bool
    no_direct: bool
    direct_ports: tuple[int, int] | None
    relay_only: bool
    no_relay: bool
    proxy: str
    label: str

    def arguments(self, passphrase: str | None) -> dict[str, Any]:
        """What `send`, `receive` and `resume` of the API are given of it. Raises `UsageError`."""
        if self.relay_only and self.no_relay:
            raise click.UsageError(words("usage", "relay_both"))
        return {
            "passphrase": passphrase,
            "verify": self.verify,
            "auto": self.auto,
            "limit": self.limit,
            "compress": not self.no_compress,
            "direct": not self.no_direct,
            "direct_ports": self.direct_ports,
            "relay_only": self.relay_only,
            "no_relay": self.no_relay,
            "label": self.label,
            "proxy": self.proxy,
            "engine": self.engine,
        }


COMMON = {field.name for field in fields(Common)}
OPTION_OF = {"compress": "no_compress", "direct": "no_direct"}  # of an argument, where it differs


def common(command: Any) -> Any:
    """Give a command these options, as one `common`."""

    @functools.wraps(command)
    def gathered(**given: Any) -> Any:
        options = Common(**{name: given.pop(name) for name in COMMON})
        return command(common=options, **given)

    options = (
        click.option("--verify", is_flag=True),
        click.option("--auto", is_flag=True),
        click.option("--passphrase-file", type=click.Path(path_type=Path)),
        click.option("--label", default="", cls=Setting),
        click.option("--limit", type=Rate(), cls=Setting),
        click.option("--no-compress", is_flag=True, cls=Setting),
        click.option("--no-direct", is_flag=True, cls=Setting),
        click.option("--direct-ports", type=Ports(), cls=Setting),
        click.option("--relay-only", is_flag=True, cls=Setting),
        click.option("--no-relay", is_flag=True, cls=Setting),
        click.option("--proxy", metavar="URL", default="", cls=Setting),
        click.option("--engine", type=click.Choice(ENGINES), cls=Setting),
        click.option("--json", "as_json", is_flag=True),
    )
    for option in reversed(options):  # the last to be added is listed first
        gathered = option(gathered)
    return gathered


def tls_files(**how: Any) -> Callable[[Command], Command]:
    """`--tls-cert` and `--tls-key`."""

    def added(command: Command) -> Command:
        for name in ("--tls-key", "--tls-cert"):
            command = click.option(name, type=click.Path(path_type=Path), **how)(command)
        return command

    return added


def names(**how: Any) -> Callable[[Command], Command]:
    """`--name`, which may come several times."""
    return click.option("--name", "names", multiple=True, **how)


def both_or_none(
    certificate: Path | None, key: Path | None, *names: str
) -> tuple[Path, Path] | None:
    """The two, or None for neither. `names`: of the options, where they are not `--tls-cert` and
    `--tls-key`. Raises `UsageError` for one."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        first, second = names or ("--tls-cert", "--tls-key")
        raise click.UsageError(words("usage", "pair", first=first, second=second))
    return certificate, key
