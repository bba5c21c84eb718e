"""`receipt`: what was sent, to whom, and that it arrived unaltered."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click

from .. import api
from ..api import (
    EXIT_CODES,
    AnnexEntry,
    BadReceipt,
    BadStamp,
    Detail,
    Ending,
    Failure,
    Home,
    Party,
    Receipt,
    shown,
)
from . import report
from .audit import when
from .language import counted, number, quoted, words
from .parties import party_text, posing, purpose_text
from .terminal import say, show, show_table, told, warn

EXIT_ONE_SIGNATURE = EXIT_CODES[Ending.DELIVERED_UNCONFIRMED]
# Both signed, and this computer knows neither: anyone could have. Or the files were not checked.
EXIT_NOT_ALL_CHECKED = 9


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


@contextlib.contextmanager
def _of_this_receipt() -> Iterator[None]:
    """Say that an annex is not this receipt's, and exit."""
    with told():
        try:
            yield
        except BadReceipt:
            say(words("receipt", "foreign_annex"))
            raise SystemExit(1) from None


def _note(form: str, receipt: Receipt) -> None:
    """That something of a receipt was handed over."""
    with contextlib.suppress(Failure):  # on a computer that has nothing to do with it
        transfer = api.encode_base64url(receipt.payload["transfer_id"])
        Home().audit.note("exported", {"format": form, "count": 1, "transfer_id": transfer})


@receipt.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--annex", type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path))
@click.option("--names", is_flag=True)
def receipt_show(file: Path, annex: Path | None, html: Path | None, names: bool) -> None:
    """`handover receipt show`."""
    if names and html is None:
        raise click.UsageError(words("usage", "option_needs", option="--names", other="--html"))
    for evidence in (file, annex):
        if html is not None and evidence is not None and html.resolve() == evidence.resolve():
            path = shown(str(evidence), 1024)
            raise click.UsageError(words("usage", "same_file", path=path))
    found, parties = _read_receipt(file)
    entries, reason, unread = list[AnnexEntry](), "", ""
    beside = annex or api.annex_beside(file)
    if names or (annex is not None and html is None):  # they are asked for
        with _of_this_receipt():
            entries, reason = api.annex(found, annex_file=beside)
    elif html is None:
        try:
            entries, reason = api.annex(found, annex_file=beside)
        except BadReceipt:
            pass
        except Failure as failure:
            there = beside is not None or api.has_annex(found)
            told_of = words("receipt", "annex_sealed") if _is_sealed(failure) else str(failure)
            unread = told_of if there else ""
    if html is not None:
        report.write(html, _page(found, parties, entries, reason))
        _note("html", found)
        say(words("audit", "written", path=shown(str(html), 1024)))
        return
    _warn_of(parties)
    show_table(_rows(found, parties))
    if unread:
        say(unread)
    if reason:
        show(words("receipt", "annex_reason") + ": " + quoted(reason))
    if entries:
        show(words("receipt", "annex"))
        for entry in entries:
            show(f"  {entry.path}  {entry.size}  {_fate(entry)}")


def _fate(entry: AnnexEntry) -> str:
    return entry.sha256 if entry.status == "delivered" else words("status", entry.status)


def _page(
    found: Receipt, parties: tuple[Party, Party], entries: list[AnnexEntry], reason: str
) -> Iterator[str]:
    """The receipt as a page that can be handed over, with names only where they are given."""
    verdict, known = _verdict(found, parties)
    warnings = [posing(one) for one in parties if one.posing_as]
    fine = known and found.confirmed and not warnings
    yield report.head(words("receipt", "title"))
    yield report.paragraph(words("receipt", f"valid_{verdict}"), "state" if fine else "bad")
    for text in warnings:
        yield report.paragraph(text, "bad")
    yield report.section("", _rows(found, parties))
    yield report.section(
        words("receipt", "meaning"),
        (),
        texts=(words("receipt", f"shows_{verdict}"), words("receipt", "shows_not")),
    )
    if reason:
        yield report.section("", [(words("receipt", "annex_reason"), quoted(reason))])
    if entries:
        columns = [words("receipt", name) for name in ("entry", "entry_size", "entry_sha256")]
        rows = ((one.path, number(one.size), _fate(one)) for one in entries)
        yield from report.grid(words("receipt", "names"), columns, rows)
    yield report.FOOT


def _verdict(found: Receipt, parties: tuple[Party, Party]) -> tuple[str, bool]:
    """Who has signed, as a part of a key of the catalogue, and whether any of them is known."""
    known = any(one.signed and one.known != "unknown" for one in parties)
    return ("both" if found.confirmed else "one") + ("" if known else "_unknown"), known


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
        **({"purpose": purpose_text(payload["purpose"])} if payload["purpose"] else {}),
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


@receipt.command("annex")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--annex", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
def receipt_annex(file: Path, annex: Path | None, output: Path) -> None:
    """`handover receipt annex`."""
    found, _ = _read_receipt(file)
    with _of_this_receipt():
        document = api.open_annex(found, annex_file=annex or api.annex_beside(file))
    with told():
        api.write_new(output, document)
    _note("annex", found)
    say(words("audit", "written", path=shown(str(output), 1024)))


@receipt.command("annexes")
@click.option("--seal/--open", "sealed", default=None)
def receipt_annexes(sealed: bool | None) -> None:
    """`handover receipt annexes`."""
    with told():
        found = api.annexes() if sealed is None else api.seal_annexes(sealed)
    counts = {"sealed": number(found.sealed), "open": number(found.open)}
    show(words("receipt", "annexes", **counts))
    refused = sealed and found.state != "sealed"
    if not refused:
        show(words("receipt", f"annexes_{found.state}"))
    for name, reason in found.failed:
        say(words("receipt", "annex_failed", name=shown(name, 256), reason=reason))
    if refused:
        say(words("receipt", "no_keyring"))
    if refused or found.failed:
        raise SystemExit(1)


@receipt.command("disclose")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--entry", required=True, metavar="PATH")
@click.option("--annex", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path))
def receipt_disclose(file: Path, entry: str, annex: Path | None, output: Path | None) -> None:
    """`handover receipt disclose`."""
    found, _ = _read_receipt(file)
    with _of_this_receipt():
        document = api.disclose(found, entry, annex_file=annex or api.annex_beside(file))
    _note("disclosure", found)
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
@click.option("--annex", type=click.Path(path_type=Path))
@click.option("--disclosure", type=click.Path(path_type=Path))
@click.option("--timestamp-ca", type=click.Path(path_type=Path))
def receipt_verify(
    file: Path,
    files: Path | None,
    annex: Path | None,
    disclosure: Path | None,
    timestamp_ca: Path | None,
) -> None:
    """`handover receipt verify`."""
    if annex is not None and files is None:
        raise click.UsageError(words("usage", "option_needs", option="--annex", other="--files"))
    found, parties = _read_receipt(file)
    verdict, known = _verdict(found, parties)
    show(words("receipt", f"valid_{verdict}"))
    _warn_of(parties)
    show_table(_rows(found, parties))
    if disclosure is not None:
        _check_disclosure(found, disclosure)
    stamped = _check_stamp(file, timestamp_ca)
    missed = "" if files is None else _check_files(found, files, annex or api.annex_beside(file))
    show(words("receipt", f"shows_{verdict}"))
    show(words("receipt", "shows_not"))
    if missed:
        say(words("receipt", missed))
    if not stamped:
        say(words("receipt", "no_stamp"))
    if missed or not stamped:
        raise SystemExit(EXIT_NOT_ALL_CHECKED)
    if not found.confirmed:
        raise SystemExit(EXIT_ONE_SIGNATURE)
    if not known:
        raise SystemExit(EXIT_NOT_ALL_CHECKED)


def _check_stamp(file: Path, trusted: Path | None) -> bool:
    """Say what the time stamp beside a receipt shows; whether there is one, where that was asked
    for. Exits where it shows nothing of this receipt."""
    there = os.path.lexists(api.stamp_of(file))
    if trusted is None:
        if there:
            show_table([(words("receipt", "stamp"), words("receipt", "stamp_unchecked"))])
        return True
    with told():
        try:
            found = api.check_stamp(file, trusted)
        except BadStamp as bad:
            say(words("receipt", "stamp_invalid", reason=bad.reason))
            raise SystemExit(1) from None
    if found is None:
        return False
    told_of = words("receipt", "stamped", time=when(found.time), authority=quoted(found.authority))
    show_table([(words("receipt", "stamp"), told_of)])
    return True


def _check_files(found: Receipt, files: Path, annex: Path | None) -> str:
    """Say whether the files are as delivered; or why that cannot be told, by a sentence's code.
    Exits where they are not."""
    if annex is None and not api.has_annex(found):
        return "not_checked"
    with _of_this_receipt():
        try:
            wrong = api.compare_files(found, files, annex_file=annex)
        except Failure as failure:
            if _is_sealed(failure):
                return "not_checked_sealed"
            raise
    for path, why in wrong:
        say(words("receipt", "altered", path=shown(path, 1024), why=why))
    if wrong:
        say(words("receipt", "count_altered", entries=counted(len(wrong), "entry")))
        raise SystemExit(1)
    show_table([(words("receipt", "files"), words("receipt", "unaltered"))])
    return ""


def _is_sealed(failure: Failure) -> bool:
    """Whether an annex could not be read because it is sealed."""
    return isinstance(failure.detail, Detail) and failure.detail.code == "annex_sealed"
