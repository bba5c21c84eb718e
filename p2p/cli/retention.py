"""`audit checkpoint`, `witness` and `prune`: a log that another machine vouches for, and what is
left of it when its oldest part has gone."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import click

from .. import api
from ..api import BadCheckpoint, Failure, Home, shown
from .language import counted, words
from .options import Day
from .parties import key_text
from .terminal import fail, say, show, told, whole

RETENTION_YEARS = 6  # 45 CFR 164.316(b)(2)(i)


@click.command("checkpoint")
@click.option("--since", type=click.IntRange(0))
@click.option("--output", "-o", type=click.Path(path_type=Path))
@click.option("--add", type=click.Path(path_type=Path))
@click.option("--trust", is_flag=True)
def audit_checkpoint(since: int | None, output: Path | None, add: Path | None, trust: bool) -> None:
    """`handover audit checkpoint`."""
    if trust and add is None:
        raise click.UsageError(words("usage", "option_needs", option="--trust", other="--add"))
    for name, value in (("--since", since), ("--output", output)):
        if add is not None and value is not None:
            raise click.UsageError(words("usage", "option_with", option="--add", other=name))
    with told():
        home = Home()
    if add is not None:
        _keep(home, add, trust=trust)
        return
    with whole(home.audit.path):
        try:
            document = api.witness.make_request(home, since)
        except BadCheckpoint as bad:
            _refuse(bad)
    _hand_over(output, document)


def _keep(home: Home, file: Path, *, trust: bool) -> None:
    with told():
        document = api.read_document(file)
    with whole(home.audit.path):
        try:
            note = api.checkpoint.decode(document)
            counting, unknown = api.witness.keep_cosigned(home, note, trust=trust)
        except BadCheckpoint as bad:
            _refuse(bad)
    entries = counted(note.checkpoint.size, "entry")
    for key in counting:
        say(words("audit", "witnessed", entries=entries, who=key_text(home, key)))
    for key in unknown:
        say(words("audit", "witness_unknown", who=key_text(home, key)))
    if not counting:
        raise SystemExit(1)


@click.command("witness")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path))
def audit_witness(file: Path, output: Path | None) -> None:
    """`handover audit witness`."""
    with told():
        home = Home()
        document = api.read_document(file)
        try:
            answer = api.witness.cosign_request(home, document, int(time.time()))
        except BadCheckpoint as bad:
            _refuse(bad)
    note, owner, first = answer
    home.audit.note("cosigned", {"key_id": api.thumbprint(owner), "lines": note.checkpoint.size})
    _hand_over(output, note.encode())
    entries = counted(note.checkpoint.size, "entry")
    sentence = "cosigned_first" if first else "cosigned"
    say(words("audit", sentence, entries=entries, who=key_text(home, owner)))


def _refuse(bad: BadCheckpoint) -> NoReturn:
    say(words("audit", "checkpoint_refused", reason=bad.reason))
    raise SystemExit(1) from None


def _hand_over(output: Path | None, document: bytes) -> None:
    if output is None:
        show(document.decode().removesuffix("\n"))
        return
    with told():
        api.write_new(output, document)
    say(words("audit", "written", path=shown(str(output), 1024)))


@click.command("prune")
@click.option("--before", type=Day())
@click.option("--yes", is_flag=True)
def audit_prune(before: datetime | None, yes: bool) -> None:
    """`handover audit prune`."""
    with told():
        home = Home()
    moment = (before or _years_ago()).astimezone()
    since = api.utc_text(moment)
    with whole(home.audit.path):
        old = api.retention.find_old(home, since)
    day = f"{moment:%Y-%m-%d}"
    if old.waits_for:
        say(words("audit", "prune_waits", server=shown(old.waits_for, 256)))
    if not old.lines and not old.transfers:
        if not old.waits_for:
            say(words("audit", "nothing_old", day=day))
        return
    entries, transfers = counted(old.lines, "entry"), counted(len(old.transfers), "transfer")
    say(words("audit", "old", day=day, entries=entries, transfers=transfers))
    if not yes:
        say(words("audit", "prune_yes"))
        return
    with whole(home.audit.path):
        try:
            api.retention.prune(home, since)
        except OSError as error:
            fail(Failure("not_writable", api.os_detail(error)))
    say(words("audit", "pruned"))


def _years_ago() -> datetime:
    """This day six years ago, of this computer's calendar."""
    today = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    day = min(today.day, 28) if today.month == 2 else today.day
    return today.replace(year=today.year - RETENTION_YEARS, day=day)
