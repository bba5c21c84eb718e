"""`serve`, `local-ca`, `verify-web`: the signaling server, and what it gives browsers."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from .. import api
from ..api import (
    MAX_EXPIRES,
    READY_DAYS,
    TURN_TTL,
    Failure,
    Home,
    Relay,
    Require,
    os_detail,
    shown,
)
from .configuration import SERVE, Setting, given, load, shown_url
from .doctor import tell_check
from .language import counted, words
from .options import Address, Claim, Duration, Network, both_or_none, names, tls_files
from .settings import row
from .terminal import say, show, show_table, told
from .transfers import left_out

if TYPE_CHECKING:
    from signaling.certificates import Authority

SET: Any = {"cls": Setting, "table": SERVE}
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
REQUIRE: tuple[Require, ...] = get_args(Require)
RELAY: tuple[Relay, ...] = get_args(Relay)
DRAIN_SECONDS = 30.0  # as long as an attempt may take


def _read_file(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """`--config`: this file says what the settings are, and no other does."""
    if path is not None:
        program = context.find_root().command
        assert isinstance(program, click.Group)
        context.default_map = load(program, path)[SERVE]
    return path


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=_read_file,
    is_eager=True,
)
@click.option("--check", is_flag=True)
@click.option("--listen", type=Address(), default=":8080", **SET)
@tls_files(**SET)
@click.option("--local-ca", is_flag=True, **SET)
@names(**SET)
@click.option("--trusted-proxy", "trusted", type=Network(), multiple=True, **SET)
@click.option("--redis-url", default="", **SET)
@click.option("--allowed-tokens", type=click.Path(path_type=Path), **SET)
@click.option("--oidc-issuer", metavar="URL", default="", **SET)
@click.option("--oidc-audience", default="", **SET)
@click.option("--oidc-claim", type=Claim(), **SET)
@click.option("--operator", metavar="NAME", default="", **SET)
@click.option("--max-expires", type=Duration(), default=float(MAX_EXPIRES), **SET)
@click.option("--require", type=click.Choice(REQUIRE), **SET)
@click.option("--relay", type=click.Choice(RELAY), **SET)
@click.option("--ice", "urls", multiple=True, **SET)
@click.option("--stun-listen", type=Address(), **SET)
@click.option("--turn-secret-file", type=click.Path(path_type=Path), **SET)
@click.option("--turn-ttl", type=Duration(), default=float(TURN_TTL), **SET)
@click.option("--metrics-listen", type=Address(), **SET)
@click.option("--ready-days", type=click.IntRange(0, 3650), default=READY_DAYS, **SET)
@click.option("--drain", type=Duration(), default=DRAIN_SECONDS, **SET)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", **SET)
@click.option("--log-format", type=click.Choice(FORMATS), default="text", **SET)
@click.pass_context
def serve(
    context: click.Context,
    config: Path | None,
    check: bool,
    listen: tuple[str, int],
    tls_cert: Path | None,
    tls_key: Path | None,
    local_ca: bool,
    names: tuple[str, ...],
    trusted: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
    redis_url: str,
    allowed_tokens: Path | None,
    oidc_issuer: str,
    oidc_audience: str,
    oidc_claim: tuple[str, str] | None,
    operator: str,
    max_expires: float,
    require: Require | None,
    relay: Relay | None,
    urls: tuple[str, ...],
    stun_listen: tuple[str, int] | None,
    turn_secret_file: Path | None,
    turn_ttl: float,
    metrics_listen: tuple[str, int] | None,
    ready_days: int,
    drain: float,
    log_level: str,
    log_format: str,
) -> None:
    """`handover serve`."""
    logging.basicConfig(level=log_level.upper(), force=True, handlers=[_handler(log_format)])
    files = both_or_none(tls_cert, tls_key)
    if local_ca and files:
        raise click.UsageError(words("usage", "one_tls"))
    if names and not local_ca:
        raise click.UsageError(words("usage", "name_needs_ca"))
    stun_port = stun_listen[1] if stun_listen else 0
    ice = _ice_servers(urls, turn_secret_file, int(turn_ttl), stun_port)
    store = _shared_store(redis_url) if redis_url else None
    policy = _policy(operator, int(max_expires), require, relay, relays=ice.relays)
    access = _access(allowed_tokens, oidc_issuer, oidc_audience, oidc_claim)
    for url in ice.nameless:
        say(words("server", "nameless", url=url))
    with told():
        tls = api.tls_from_files(*files) if files else None
        if local_ca:
            folder = Home().local_ca
            _tell_authority(api.local_authority(folder, names), say)
            tls = api.tls_from_local_ca(folder, names, strict=True)
            left_out(tls)

    if tls is not None and tls.expires < datetime.now(UTC):
        say(words("server", "expired", day=f"{tls.expires:%Y-%m-%d}"))

    if check:
        show_table([row(one) for one in given(context, config)])
        show("")
        others = [one for one in (stun_listen, metrics_listen) if one is not None]
        checks = api.check_server(
            listen, tls, ice, store, others, proxied=bool(trusted), ready_days=ready_days
        )
        with told():
            good = asyncio.run(_follow(checks))
        raise SystemExit(0 if good else 1)

    async def serve_until_stopped() -> None:
        stopped, serving = asyncio.Event(), asyncio.current_task()
        assert serving is not None

        def stop() -> None:
            if stopped.is_set():  # asked a second time: at once
                serving.cancel()
            stopped.set()

        served = api.serve(
            listen,
            tls,
            trusted,
            ice,
            stun_listen,
            store,
            access,
            policy,
            metrics=metrics_listen,
            ready_days=ready_days,
            drain=drain,
        )
        async with served as port:
            scheme = "https" if tls else "http"
            say(words("server", "serving", port=port, scheme=scheme))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop)
            await stopped.wait()

    with told(), suppress(asyncio.CancelledError):
        asyncio.run(serve_until_stopped())


async def _follow(checks: AsyncIterator[api.Check]) -> bool:
    """Tell them; whether none failed."""
    good = True
    async for check in checks:
        tell_check(check, lambda line, styled: show(styled or line))
        good &= check.verdict != "fails"
    return good


class _JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level = record.levelname.lower()
        return json.dumps({"time": at, "level": level, "message": record.getMessage()})


def _handler(log_format: str) -> logging.Handler:
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if log_format == "json" else text)
    return handler


def _ice_servers(
    urls: tuple[str, ...], secrets: Path | None, ttl: int, stun_port: int
) -> api.IceConfiguration:
    """Raises `UsageError`."""
    try:
        return api.ice_configuration(urls, secrets, ttl, stun_port)
    except api.BadIce as bad:
        raise click.UsageError(words("usage", bad.code, what=str(bad))) from None


def _shared_store(url: str) -> api.Store:
    """Raises `UsageError`."""
    try:
        return api.redis_store(url)
    except ValueError:
        what = shown_url(url)
        raise click.UsageError(words("usage", "redis_url", what=what)) from None


def _policy(
    operator: str, max_expires: int, require: Require | None, relay: Relay | None, *, relays: bool
) -> api.Policy:
    """`relays`: whether peers are told of any. Raises `UsageError`."""
    if relay is not None and relays != (relay == "required"):
        raise click.UsageError(words("usage", f"relay_{relay}"))
    try:
        return api.Policy(operator, max_expires, require, relay)
    except ValueError as error:
        raise click.UsageError(words("usage", f"policy_{error}")) from None


def _access(
    tokens: Path | None, issuer: str, audience: str, claim: tuple[str, str] | None
) -> api.Access | None:
    """Raises `UsageError`."""
    if bool(issuer) != bool(audience) or (claim and not issuer):
        raise click.UsageError(words("usage", "oidc_pair"))
    try:
        return api.server_access(tokens, issuer, audience, claim)
    except api.BadAccess as bad:
        raise click.UsageError(words("usage", "access", what=shown(str(bad), 1024))) from None


@click.command("token")
@click.argument("name")
@click.option("--add-to", type=click.Path(path_type=Path))
def token(name: str, add_to: Path | None) -> None:
    """`handover token`."""
    if not name.isprintable() or "#" in name:
        raise click.UsageError(words("usage", "token_name"))
    made, line = api.new_token(name)
    with told():
        if add_to is not None:
            try:
                with open(add_to, "a", encoding="utf-8") as file:
                    file.write(f"{line}\n")
            except OSError as error:
                raise Failure("not_writable", os_detail(error)) from None
    show(made)
    say(words("server", "token_added" if add_to else "token_line", line=line))


def _tell_authority(authority: Authority, tell: Callable[[str], None]) -> None:
    begin, end = (f"{day:%Y-%m-%d}" for day in authority.valid)
    names = ", ".join(authority.constraints)
    show_table(
        [
            (words("server", "certificate"), str(authority.path)),
            (words("server", "fingerprint"), authority.fingerprint),
            (words("server", "valid"), words("server", "period", begin=begin, end=end)),
            (words("server", "for"), words("server", "constraints", names=names)),
        ],
        tell,
    )
    tell(words("server", "install"))


@click.group("local-ca")
def local_ca_group() -> None:
    """`handover local-ca`."""


@local_ca_group.command("show")
@names()
@click.option("--export", type=click.Path(path_type=Path))
def local_ca_show(names: tuple[str, ...], export: Path | None) -> None:
    """`handover local-ca show`."""
    with told():
        authority = api.local_authority(Home().local_ca, names)
        if export is not None:
            try:
                with open(export, "xb") as file:
                    file.write(authority.pem)
            except OSError as error:
                raise Failure("not_writable", os_detail(error)) from None
    _tell_authority(authority, show)


@click.command("verify-web")
@click.argument("url")
@click.option("--ca", type=click.Path(path_type=Path))
@click.option("--proxy", metavar="URL", default="", cls=Setting)
def verify_web(url: str, ca: Path | None, proxy: str) -> None:
    """`handover verify-web`."""
    with told():
        found = asyncio.run(api.verify_web(url, ca, proxy))
    for one in found:
        detail = f" ({one.detail})" if one.detail else ""
        show(f"{words('server', one.verdict):12} {one.path}{detail}")
    if any(one.verdict != "same" for one in found):
        show(words("server", "web_differs"))
        raise SystemExit(1)
    show(words("server", "web_same", files=counted(len(found), "file")))
