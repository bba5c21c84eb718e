"""The command line: a client of `p2p.api`, one file for each group of commands.

Only what `--help` needs is loaded at once; each command with its file when it is called.
"""

from __future__ import annotations

import os
import sys

import click

from ..version import VERSION
from .help import HELP_NAMES, Main


@click.group("handover", cls=Main, context_settings={"help_option_names": HELP_NAMES})
@click.version_option(VERSION, prog_name="handover", message="%(prog)s %(version)s")
def main() -> None:
    """The program `handover`."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        # Names of files are UTF-8 whatever the locale says: begin anew in that mode (PEP 540).
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, words, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606
    import logging

    logging.basicConfig(level=os.environ.get("HANDOVER_LOG", "CRITICAL").upper())
