"""`serve`, `local-ca`, `verify-web`: the signaling server, and what it gives browsers."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import api
from ..api import Failure, Home
from .options import Address, both_or_none, names, tls_files
from .terminal import many, say, show, told
from .transfers import left_out

if TYPE_CHECKING:
    from signaling.certificates import Authority


@click.command()
@click.option("--listen", type=Address(), default=":8080", help="HOST:PORT; [::] by default.")
@tls_files
@click.option("--local-ca", is_flag=True, help="https by this machine's own certificate authority.")
@names
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
)
def serve(
    listen: tuple[str, int],
    tls_cert: Path | None,
    tls_key: Path | None,
    local_ca: bool,
    names: tuple[str, ...],
    log_level: str,
) -> None:
    """Run the signaling server on its own."""
    logging.basicConfig(
        level=log_level.upper(), force=True, format="%(asctime)s %(levelname)s %(message)s"
    )
    files = both_or_none(tls_cert, tls_key)
    if local_ca and files:
        raise click.UsageError("--local-ca and --tls-cert exclude each other")
    if names and not local_ca:
        raise click.UsageError("--name goes with --local-ca")
    with told():
        tls = api.tls_from_files(*files) if files else None
        if local_ca:
            folder = Home().local_ca
            for line in _authority_lines(api.local_authority(folder, names)):
                say(line)
            tls = api.tls_from_local_ca(folder, names, strict=True)
            left_out(tls)

    async def serve_until_stopped() -> None:
        async with api.serve(listen, tls) as port:
            scheme = "https" if tls else "http"
            say(f"Serving on port {port} ({scheme}). Ctrl-C stops it.")
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await stop.wait()

    with told():
        asyncio.run(serve_until_stopped())


def _authority_lines(authority: Authority) -> list[str]:
    return [
        f"certificate  {authority.path}",
        f"SHA-256      {authority.fingerprint}",
        f"valid        {authority.valid[0]:%Y-%m-%d} to {authority.valid[1]:%Y-%m-%d}",
        f"for          {', '.join(authority.constraints)}, and nothing else",
        "IT has to install this certificate once, as a trusted root, on every computer whose "
        "browser is to use this machine's server; the command line needs none of it.",
    ]


@click.group("local-ca")
def local_ca_group() -> None:
    """This machine's own certificate authority: https where there is no public name."""


@local_ca_group.command("show")
@names
@click.option("--export", type=click.Path(path_type=Path), help="Copy the certificate there.")
def local_ca_show(names: tuple[str, ...], export: Path | None) -> None:
    """Show certificate, fingerprint and validity; makes the authority where there is none."""
    with told():
        authority = api.local_authority(Home().local_ca, names)
        if export is not None:
            try:
                with open(export, "xb") as file:
                    file.write(authority.path.read_bytes())
            except OSError as error:
                raise Failure("not_writable", (error.strerror or "").lower()) from None
    for line in _authority_lines(authority):
        show(line)


@click.command("verify-web")
@click.argument("url")
@click.option("--ca", type=click.Path(path_type=Path), help="Trust this certificate (PEM) as well.")
def verify_web(url: str, ca: Path | None) -> None:
    """Compare the page a server gives browsers with the one this version ships.

    Exit code 0 only when every file and every security header is the same.
    """
    with told():
        found = asyncio.run(api.verify_web(url, ca))
    for one in found:
        show(f"{one.verdict:12} {one.path}{f' ({one.detail})' if one.detail else ''}")
    if any(one.verdict != "same" for one in found):
        show(
            "This server does not give browsers the web client of this version: it may be another "
            "version's or an altered one, so receive on the command line until whoever runs it has "
            "explained it. What others are given, this cannot tell."
        )
        raise SystemExit(1)
    show(
        f"This server just gave this computer exactly the web client of this version, "
        f"{many(len(found), 'file')}; that does not prove that others are given the same."
    )
