"""`audit stamp`: time stamps of the log and of receipts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from .. import api
from ..api import Home, StampFailed, shown
from .audit import whole
from .language import counted, words
from .terminal import say, told


@click.command("stamp")
@click.option("--authority", required=True, metavar="URL", envvar="HANDOVER_AUTHORITY")
@click.option("--ca", type=click.Path(path_type=Path))
@click.option("--proxy", metavar="URL", default="", envvar="HANDOVER_PROXY")
def audit_stamp(authority: str, ca: Path | None, proxy: str) -> None:
    """`handover audit stamp`."""
    with told():
        home = Home()
    with whole(home.audit.path):
        try:
            done = asyncio.run(api.stamp_audit(authority, ca, proxy, home))
        except StampFailed as failed:
            name = shown(authority, 256)
            say(words("audit", "stamp_failed", authority=name, reason=failed.reason))
            raise SystemExit(1) from None
    entries, receipts = counted(done.lines, "entry"), counted(done.receipts, "receipt")
    say(words("audit", "stamped", entries=entries, receipts=receipts))
