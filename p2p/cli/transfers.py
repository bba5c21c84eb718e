"""`send`, `receive`, `resume`, `transfers`: a client of the API's `Transfer`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from click.core import ParameterSource

from .. import api
from ..api import EXIT_USAGE, Home, Tls, Unfinished, shown
from .configuration import Setting
from .language import found, number, quoted, size, words
from .options import COMMON, OPTION_OF, Address, Common, Duration, both_or_none, common, tls_files
from .process import run
from .terminal import ask_link, read_passphrase, read_token, say, show, show_json, told

OWN_SERVER = ("listen", "address", "local_ca", "tls_cert", "tls_key")  # options of `send`
RECENT = 10  # ended transfers that are listed


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--resume", "resumed", metavar="ID")
@click.option("--server", metavar="URL", cls=Setting)
@click.option("--listen", type=Address(), cls=Setting)
@click.option("--address", metavar="HOST", cls=Setting)
@click.option("--expires", type=Duration(), default="24h", cls=Setting)
@click.option("--to", metavar="CONTACT")
@click.option("--passphrase", is_flag=True)
@click.option("--follow", is_flag=True)
@click.option("--strict-names", is_flag=True)
@click.option(
    "--purpose", type=click.Choice(list(api.PURPOSES.values())), metavar="PURPOSE", cls=Setting
)
@click.option("--reason", default="", envvar="HANDOVER_REASON")
@click.option("--local-ca/--no-local-ca", default=None)
@tls_files()
@click.option("--token-file", type=click.Path(path_type=Path), cls=Setting)
@common
@click.pass_context
def send(
    context: click.Context,
    paths: tuple[str, ...],
    resumed: str | None,
    server: str | None,
    listen: tuple[str, int] | None,
    address: str | None,
    expires: float,
    to: str | None,
    passphrase: bool,
    follow: bool,
    strict_names: bool,
    purpose: str | None,
    reason: str,
    local_ca: bool | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    common: Common,
) -> None:
    """`handover send`."""
    if resumed is not None:
        _only_common(context)
        _resume(resumed, common, token_file)
    if not paths:
        raise click.UsageError(words("usage", "no_paths"))
    try:
        length = len(reason.encode())
    except UnicodeEncodeError:
        raise click.UsageError(words("usage", "reason_text")) from None
    if length > api.MAX_REASON:
        raise click.UsageError(words("usage", "reason_long", most=number(api.MAX_REASON)))
    if purpose == "emergency" and not reason.strip():
        raise click.UsageError(words("usage", "reason_missing"))
    wanted = passphrase or "HANDOVER_PASSPHRASE" in os.environ
    secret = read_passphrase(wanted, common.passphrase_file, common.as_json, twice=True)
    files = both_or_none(tls_cert, tls_key)
    if server and _typed(context, *OWN_SERVER):
        if _typed(context, "server"):
            if local_ca or files:
                raise click.UsageError(words("usage", "no_tls"))
        else:  # what is typed counts for more than what is configured
            server = None
    if common.relay_only and not (server or common.no_relay):
        raise click.UsageError(words("usage", "relay_server"))
    if local_ca and files:
        raise click.UsageError(words("usage", "one_tls"))
    token = read_token(token_file, common.as_json)
    with told(common.as_json):
        api.tidy()
        tls = None if server else _tls(files, local_ca, [address] if address else [], common)
    run(
        lambda interactive: api.send(
            paths,
            server=server or None,
            listen=listen,
            address=address,
            expires=expires,
            to=to,
            follow=follow,
            strict_names=strict_names,
            purpose=purpose or "",
            reason=reason.strip(),
            tls=tls,
            token=token,
            interactive=interactive,
            **common.arguments(secret),
        ),
        "sender",
        as_json=common.as_json,
        paths=paths,
    )


def _typed(context: click.Context, *names: str) -> bool:
    """Whether one of these parameters stands on the command line."""
    sources = (context.get_parameter_source(name) for name in names)
    return any(source is ParameterSource.COMMANDLINE for source in sources)


def _only_common(context: click.Context) -> None:
    """Refuse what `--resume` cannot change. Raises `UsageError`."""
    if context.params.get("paths"):
        raise click.UsageError(words("usage", "resume_paths"))
    for one in context.command.params:
        name = str(one.name)
        if _typed(context, name) and name not in {"paths", "resumed", "token_file", *COMMON}:
            raise click.UsageError(words("usage", "resume_option", option=one.opts[0]))


def _tls(
    files: tuple[Path, Path] | None, local_ca: bool | None, names: list[str], common: Common
) -> Tls | None:
    """How to serve: by files, by the local authority where there is one, or by http."""
    if files:
        return api.tls_from_files(*files)
    folder = Home().local_ca
    if local_ca is False or (local_ca is None and not folder.exists()):
        return None
    tls = api.tls_from_local_ca(folder, names, strict=bool(local_ca))
    if not common.as_json:
        say(words("transfers", "local_ca"))
        left_out(tls)
    return tls


def left_out(tls: Tls) -> None:
    """Say which hosts the local authority cannot vouch for."""
    for host in tls.left_out:
        say(words("transfers", "left_out", host=shown(host)))


@click.command()
@click.argument("link", required=False)
@click.option("--output", "-o", type=click.Path(path_type=Path), cls=Setting)
@click.option("--allow-hidden", is_flag=True)
@common
def receive(link: str | None, output: Path | None, allow_hidden: bool, common: Common) -> None:
    """`handover receive`."""
    if link is None:
        link = os.environ.get("HANDOVER_LINK")
    if link is None and not sys.stdin.isatty():
        link = sys.stdin.readline()
    if link is None:
        link = ask_link()
    offered, secret = link, None
    with contextlib.suppress(api.Failure):  # what is no link is said as any other failure
        offered = str(api.find_link(link))
        if not api.needs_passphrase(offered):
            _no_passphrase(common)
    if api.needs_passphrase(offered):
        secret = read_passphrase(True, common.passphrase_file, common.as_json, twice=False)

    def ask_again() -> None:
        nonlocal secret
        secret = read_passphrase(True, None, common.as_json, twice=False)

    with told(common.as_json):
        api.tidy()
    run(
        lambda interactive: api.receive(
            offered,
            output,
            allow_hidden=allow_hidden,
            interactive=interactive,
            **common.arguments(secret),
        ),
        "recipient",
        as_json=common.as_json,
        again=ask_again if _asked_passphrase(common) else None,
    )


@click.command("resume")
@click.argument("wanted", metavar="[ID]", required=False)
@click.option("--token-file", type=click.Path(path_type=Path), cls=Setting)
@common
def resume(wanted: str | None, token_file: Path | None, common: Common) -> None:
    """`handover resume`."""
    with told(common.as_json):
        unfinished = api.unfinished()
    if wanted is None and len(unfinished) == 1:
        wanted = unfinished[0].short_id
    if wanted is None:
        _list_unfinished(unfinished, common.as_json)
        if unfinished:
            say(words("transfers", "choose"))
            raise SystemExit(EXIT_USAGE)
        return
    _resume(wanted, common, token_file)


def _resume(wanted: str, common: Common, token_file: Path | None) -> NoReturn:
    with told(common.as_json):
        unfinished = api.find_unfinished(wanted)
    secret = None
    if not unfinished.passphrase:
        _no_passphrase(common)
    elif unfinished.state == "unfinished":
        secret = read_passphrase(True, common.passphrase_file, common.as_json, twice=False)
    arguments = {**common.arguments(secret), "token": read_token(token_file, common.as_json)}
    # What it was begun with counts for more than what is configured.
    typed = click.get_current_context()
    for name in unfinished.options:
        if not _typed(typed, OPTION_OF.get(name, name)):
            arguments.pop(name)

    def ask_again() -> None:
        arguments["passphrase"] = read_passphrase(True, None, common.as_json, twice=False)

    run(
        lambda interactive: api.resume(unfinished.id, interactive=interactive, **arguments),
        unfinished.role,
        as_json=common.as_json,
        again=ask_again if _asked_passphrase(common) else None,
    )


def _asked_passphrase(common: Common) -> bool:
    """Whether a passphrase comes from a person at the terminal."""
    given = common.passphrase_file is not None or "HANDOVER_PASSPHRASE" in os.environ
    return not given and not common.as_json


def _no_passphrase(common: Common) -> None:
    """Raises `UsageError` where one is given that nobody asks for."""
    if common.passphrase_file is not None:
        raise click.UsageError(words("usage", "passphrase_unused"))


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def transfers(context: click.Context, as_json: bool) -> None:
    """`handover transfers`."""
    if context.invoked_subcommand is not None:
        return
    with told(as_json):
        api.tidy()
        _list_unfinished(api.unfinished(), as_json)
        if not as_json:
            for one in Home().audit.recent("transfer", RECENT):
                role = found("transfers", one["role"], shown(one["role"]))
                ending = found("outcome", one["ending"], shown(one["ending"]))
                began = shown(one["time"][:19])
                show(f"{began}  {role:9}  {ending:12}  {size(one['bytes'])}")


@transfers.command("discard")
@click.argument("wanted", metavar="ID")
def transfers_discard(wanted: str) -> None:
    """`handover transfers discard`."""
    with told():
        parts = api.discard(wanted)
    if parts:
        say(words("transfers", "forgotten", folder=parts))
    else:
        say(words("transfers", "erased"))


def _list_unfinished(unfinished: Sequence[Unfinished], as_json: bool) -> None:
    for one in unfinished:
        if as_json:
            show_json(
                {
                    "id": one.id,
                    "role": one.role,
                    "state": one.state,
                    "peer": one.peer,
                    "began": one.began,
                    "durable": one.durable,
                    "total": one.total,
                }
            )
        else:
            peer = quoted(one.peer) if one.peer else words("transfers", "nobody")
            way = {"sender": "to", "recipient": "from"}.get(one.role, "with")
            state, began = words("transfers", one.state), one.began[:19] or "-"
            sizes = words("terminal", "of", part=size(one.durable), whole=size(one.total))
            show(
                f"{one.short_id}  {began:19}  {state:10}  "
                f"{words('transfers', way, peer=peer)}, {sizes}"
            )
    if not unfinished and not as_json:
        say(words("transfers", "none"))
