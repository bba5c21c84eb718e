"""The command line: a client of `p2p.api`, one file for each group of commands."""

from __future__ import annotations

import logging
import os

import click

from ..api import EXIT_CODES, EXIT_USAGE, VERSION
from .evidence import audit_group, receipt
from .identity import contacts, identity
from .server import local_ca_group, serve, verify_web
from .transfers import receive, resume, send, transfers

EXIT_TABLE = "\n".join(
    [
        "\b",
        "Exit codes:",
        *(f"  {code}  {ending.value}" for ending, code in EXIT_CODES.items()),
        f"  {EXIT_USAGE}  wrong usage, or a question that nobody can answer",
    ]
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_TABLE)
@click.version_option(VERSION, prog_name="handover")
def main() -> None:
    """Send files directly to someone, encrypted from end to end, with a receipt both sign."""
    logging.basicConfig(level=os.environ.get("HANDOVER_LOG", "CRITICAL").upper())


@main.command()
def demo() -> None:
    """A real transfer between two processes here: DICOM files, verified, with its receipt."""
    from .demo import run

    raise SystemExit(run())


for command in (
    send,
    receive,
    resume,
    transfers,
    serve,
    verify_web,
    local_ca_group,
    identity,
    contacts,
    receipt,
    audit_group,
):
    main.add_command(command)
