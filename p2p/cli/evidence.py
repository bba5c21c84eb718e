"""`receipt`: what was sent, to whom, and that it arrived unaltered."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from .. import api
from ..api import (
    EXIT_CODES,
    BadReceipt,
    Ending,
    Failure,
    Party,
    Receipt,
    shown,
)
from .language import counted, number, words
from .parties import party_text, posing
from .terminal import say, show, show_table, told, warn

EXIT_ONE_SIGNATURE = EXIT_CODES[Ending.DELIVERED_UNCONFIRMED]
EXIT_UNKNOWN_KEYS = 9  # both signed, and this computer knows neither: anyone could have
LISTED = 10  # receipts that do not fit


@click.group()
def receipt() -> None:
    """`handover receipt`."""


def _read_receipt(file: Path) -> tuple[Receipt, tuple[Party, Party]]:
    with told():
        try:
            found = api.read_receipt(file)
        except BadReceipt as bad:
            show(words("receipt", "invalid", reason=bad.reason))
            raise SystemExit(1) from None
        return found, api.parties(found)


@receipt.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def receipt_show(file: Path) -> None:
    """`handover receipt show`."""
    found, parties = _read_receipt(file)
    _warn_of(parties)
    show_table(_rows(found, parties))
    with contextlib.suppress(Failure):
        entries = api.annex(found)
        show(words("receipt", "annex"))
        for entry in entries:
            status = "" if entry.status == "delivered" else words("status", entry.status)
            show(f"  {entry.path}  {entry.size}  {status or entry.sha256}")


def _warn_of(parties: tuple[Party, Party]) -> None:
    """Of a label that is a contact's, with another key."""
    for one in parties:
        if one.posing_as:
            warn(posing(one))


def _rows(found: Receipt, parties: tuple[Party, Party]) -> list[tuple[str, str]]:
    payload = found.payload
    content, times, security = payload["content"], payload["times"], payload["security"]
    amounts = ("delivered_entries", "entries", "delivered_bytes", "bytes")
    clocks = {"offered": "sender", "accepted": "recipient", "closed": "sender"}
    stored = words("receipt", f"stored_{payload['stored']}")
    rows = {
        "transfer": payload["transfer_id"].hex(),
        "outcome": words("outcome", payload["outcome"]),
        **{str(one.role): party_text(one) for one in parties},
        "delivered": words(
            "receipt", "amounts", **{name: number(content[name]) for name in amounts}
        ),
        "root": content["root"].hex(),
        "stored": words("receipt", "durable", stored=stored, hash=content["hash"]),
        "digits": words(
            "receipt", "confirmed" if security["digits_confirmed"] else "not_confirmed"
        ),
        **{
            name: words("receipt", f"{role}_clock", time=shown(times[name]))
            for name, role in (clocks | {"verified": "recipient"}).items()
        },
        "signed": words("receipt", "by_both" if found.confirmed else "by_one"),
    }
    return [(words("receipt", name), value) for name, value in rows.items()]


@receipt.command("disclose")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--entry", required=True, metavar="PATH")
@click.option("--output", "-o", type=click.Path(path_type=Path))
def receipt_disclose(file: Path, entry: str, output: Path | None) -> None:
    """`handover receipt disclose`."""
    found, _ = _read_receipt(file)
    with told():
        try:
            document = api.disclose(found, entry)
        except BadReceipt:
            say(words("receipt", "foreign_annex"))
            raise SystemExit(1) from None
    if output is None:
        show(document.decode())
        return
    with told():
        api.write_new(output, document)
    say(words("audit", "written", path=shown(str(output), 1024)))


def _check_disclosure(found: Receipt, file: Path) -> None:
    """Say what a document discloses. Exits where it proves nothing."""
    with told():
        document = api.read_document(file)
    try:
        entry = api.disclosure.check(document, found)
    except api.disclosure.BadDisclosure as bad:
        say(words("receipt", "disclosure_invalid", reason=bad.reason))
        raise SystemExit(1) from None
    status = words("status", api.STATUSES[entry.status])
    rows = [("disclosed", shown(entry.path, 1024)), ("entry_size", number(entry.size))]
    if entry.kind == "file" and not entry.status:
        rows.append(("entry_sha256", entry.sha256.hex()))
    show_table(
        [(words("receipt", name), value) for name, value in [*rows, ("entry_status", status)]]
    )


@receipt.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--files", type=click.Path(path_type=Path))
@click.option("--disclosure", type=click.Path(path_type=Path))
def receipt_verify(file: Path, files: Path | None, disclosure: Path | None) -> None:
    """`handover receipt verify`."""
    found, parties = _read_receipt(file)
    known = any(one.signed and one.known != "unknown" for one in parties)
    verdict = ("both" if found.confirmed else "one") + ("" if known else "_unknown")
    show(words("receipt", f"valid_{verdict}"))
    _warn_of(parties)
    show_table(_rows(found, parties))
    if disclosure is not None:
        _check_disclosure(found, disclosure)
    if files is not None:
        try:
            with told():
                wrong = api.compare_files(found, files)
        except BadReceipt:
            say(words("receipt", "foreign_annex"))
            raise SystemExit(1) from None
        for path, why in wrong:
            say(words("receipt", "altered", path=shown(path, 1024), why=why))
        if wrong:
            say(words("receipt", "count_altered", entries=counted(len(wrong), "entry")))
            raise SystemExit(1)
        show_table([(words("receipt", "files"), words("receipt", "unaltered"))])
    show(words("receipt", f"shows_{verdict}"))
    show(words("receipt", "shows_not"))
    if not found.confirmed:
        raise SystemExit(EXIT_ONE_SIGNATURE)
    if not known:
        raise SystemExit(EXIT_UNKNOWN_KEYS)
