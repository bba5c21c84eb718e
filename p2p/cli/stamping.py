"""`audit stamp`: time stamps of the log and of receipts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from .. import api
from ..api import Home, StampFailed
from .language import counted, words
from .terminal import say, show, told, whole


@click.command("stamp")
@click.option("--authority", required=True, metavar="URL")
@click.option("--timestamp-ca", required=True, type=click.Path(path_type=Path))
@click.option("--ca", type=click.Path(path_type=Path))
@click.option("--proxy", metavar="URL", default="", envvar="HANDOVER_PROXY")
def audit_stamp(authority: str, timestamp_ca: Path, ca: Path | None, proxy: str) -> None:
    """`handover audit stamp`."""
    with told():
        home = Home()
        asked = api.stamp_authority(authority, timestamp_ca, ca, proxy)
    with whole(home.audit.path):
        try:
            done = asyncio.run(api.stamp_audit(asked, home))
        except StampFailed as failed:
            say(words("audit", "stamp_failed", reason=failed.reason))
            raise SystemExit(1) from None
    entries, receipts = counted(done.lines, "entry"), counted(done.receipts, "receipt")
    show(words("audit", "stamped", entries=entries, receipts=receipts))
