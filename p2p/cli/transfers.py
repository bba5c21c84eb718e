"""`send`, `receive`, `resume`, `transfers`: a client of the API's `Transfer`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from click.core import ParameterSource

from .. import api
from ..api import EXIT_USAGE, Home, Tls, Unfinished, shown
from .options import COMMON, Address, Common, Duration, both_or_none, common, tls_files
from .process import run
from .terminal import prompt, read_passphrase, say, show, show_json, size, told

RECENT = 10  # ended transfers that are listed


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--resume", "resumed", metavar="ID", help="Go on with an unfinished transfer.")
@click.option("--server", envvar="HANDOVER_SERVER", help="Signaling server, e.g. https://HOST.")
@click.option("--listen", type=Address(), default=":0", help="Where to serve without --server.")
@click.option("--address", help="The address of this machine to put into the link.")
@click.option("--expires", type=Duration(), default="24h", help="How long the link is good.")
@click.option("--to", metavar="CONTACT", help="Only this contact can receive.")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that is needed as well.")
@click.option("--follow", is_flag=True, help="Follow symbolic links, inside the folder only.")
@click.option(
    "--local-ca/--no-local-ca",
    default=None,
    help="Serve https by this machine's own certificate authority; the default once there is one.",
)
@tls_files
@common
@click.pass_context
def send(
    context: click.Context,
    paths: tuple[str, ...],
    resumed: str | None,
    server: str | None,
    listen: tuple[str, int],
    address: str | None,
    expires: float,
    to: str | None,
    passphrase: bool,
    follow: bool,
    local_ca: bool | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    common: Common,
) -> None:
    """Send files and folders; prints a link for the recipient.

    A passphrase is asked for, or read from --passphrase-file or HANDOVER_PASSPHRASE; it is never an
    argument, because arguments are visible to other users of this machine.
    """
    if resumed is not None:
        _only_common(context)
        _resume(resumed, common)
    if not paths:
        raise click.UsageError("name the files and folders to send")
    wanted = passphrase or "HANDOVER_PASSPHRASE" in os.environ
    secret = read_passphrase(wanted, common.passphrase_file, common.as_json, twice=True)
    files = both_or_none(tls_cert, tls_key)
    if server and (local_ca or files):
        raise click.UsageError(
            "--local-ca, --tls-cert and --tls-key are for sending without --server"
        )
    if local_ca and files:
        raise click.UsageError("--local-ca and --tls-cert exclude each other")
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
            tls=tls,
            interactive=interactive,
            **common.arguments(secret),
        ),
        "sender",
        as_json=common.as_json,
    )


def _only_common(context: click.Context) -> None:
    """Refuse what `--resume` cannot change. Raises `UsageError`."""
    if context.params.get("paths"):
        raise click.UsageError("--resume sends what it began with: name no files")
    for one in context.command.params:
        name = str(one.name)
        said = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if said and name not in {"paths", "resumed", *COMMON}:
            raise click.UsageError(f"--resume goes on as it was begun: leave out {one.opts[0]}")


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
        say("A browser needs the local certificate authority: handover local-ca show.")
        left_out(tls)
    return tls


def left_out(tls: Tls) -> None:
    """Say which hosts the local authority cannot vouch for."""
    for host in tls.left_out:
        say(f"Note: the local certificate authority was not made for {shown(host)}.")


@click.command()
@click.argument("link", required=False)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=".", help="Folder to receive into."
)
@common
def receive(link: str | None, output: Path, common: Common) -> None:
    """Receive what a link offers.

    The link is best pasted when asked, or given in HANDOVER_LINK or on standard input: as an
    argument it is visible to other users of this machine. Nothing is overwritten.
    """
    if link is None:
        link = os.environ.get("HANDOVER_LINK")
    if link is None and not sys.stdin.isatty():
        link = sys.stdin.readline()
    if link is None:
        link = prompt("Link: ", "the link")
    text, secret = link, None
    if api.needs_passphrase(text):
        secret = read_passphrase(True, common.passphrase_file, common.as_json, twice=False)
    with told(common.as_json):
        api.tidy()
    run(
        lambda interactive: api.receive(
            text, output, interactive=interactive, **common.arguments(secret)
        ),
        "recipient",
        as_json=common.as_json,
    )


@click.command("resume")
@click.argument("wanted", metavar="ID", required=False)
@common
def resume(wanted: str | None, common: Common) -> None:
    """Go on with an unfinished transfer; without ID with the only one, or list them."""
    with told(common.as_json):
        unfinished = api.unfinished()
    if wanted is None and len(unfinished) == 1:
        wanted = unfinished[0].short_id
    if wanted is None:
        _list_unfinished(unfinished, common.as_json)
        if unfinished:
            say("Say which: handover resume ID.")
            raise SystemExit(EXIT_USAGE)
        return
    _resume(wanted, common)


def _resume(wanted: str, common: Common) -> NoReturn:
    with told(common.as_json):
        found = api.find_unfinished(wanted)
    secret = None
    if found.passphrase and found.state == "unfinished":
        secret = read_passphrase(True, common.passphrase_file, common.as_json, twice=False)
    run(
        lambda interactive: api.resume(
            found.id, interactive=interactive, **common.arguments(secret)
        ),
        found.role,
        as_json=common.as_json,
    )


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.pass_context
def transfers(context: click.Context, as_json: bool) -> None:
    """Unfinished transfers, and the last that ended."""
    if context.invoked_subcommand is not None:
        return
    with told(as_json):
        api.tidy()
        _list_unfinished(api.unfinished(), as_json)
        if not as_json:
            for one in Home().audit.recent("transfer", RECENT):
                total = size(one.get("bytes", 0))
                show(f"{one['time'][:19]}  {one['role']:9}  {one['ending']:12}  {total}")


@transfers.command("discard")
@click.argument("wanted", metavar="ID")
def transfers_discard(wanted: str) -> None:
    """Erase what has arrived of a transfer, and forget it."""
    with told():
        parts = api.discard(wanted)
    if parts:
        say(f"Forgotten. If files were arriving, remove the folder {parts} where they did.")
    else:
        say("Erased.")


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
            who = one.peer or "(nobody yet)"
            way = {"sender": "to", "recipient": "from"}.get(one.role, "to or from")
            sizes = f"{size(one.durable)} of {size(one.total)}"
            began = one.began[:19] or "-"
            show(f"{one.short_id}  {began:19}  {one.state:10}  {way} {who}, {sizes}")
    if not unfinished and not as_json:
        say("Nothing is unfinished.")
