"""The command line: a client of `p2p.api`, one file for each group of commands."""

from __future__ import annotations

import logging
import os
import sys

import click

from ..api import VERSION
from .audit import audit_group
from .doctor import doctor
from .evidence import receipt
from .forwarding import audit_forward
from .help import HELP_NAMES, Main
from .identity import contacts, identity
from .retention import audit_checkpoint, audit_prune, audit_witness
from .server import local_ca_group, serve, token, verify_web
from .settings import config
from .stamping import audit_stamp
from .transfers import receive, resume, send, transfers


@click.group("handover", cls=Main, context_settings={"help_option_names": HELP_NAMES})
@click.version_option(VERSION, prog_name="handover", message="%(prog)s %(version)s")
def main() -> None:
    """The program `handover`."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        # Names of files are UTF-8 whatever the locale says: begin anew in that mode (PEP 540).
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, words, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606
    logging.basicConfig(level=os.environ.get("HANDOVER_LOG", "CRITICAL").upper())


@main.command()
def demo() -> None:
    """`handover demo`."""
    from .demo import run

    raise SystemExit(run())


for command in (audit_checkpoint, audit_witness, audit_forward, audit_stamp, audit_prune):
    audit_group.add_command(command)

for command in (
    send,
    receive,
    resume,
    transfers,
    serve,
    token,
    verify_web,
    local_ca_group,
    identity,
    contacts,
    receipt,
    audit_group,
    doctor,
    config,
):
    main.add_command(command)
