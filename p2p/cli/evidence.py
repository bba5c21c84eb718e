"""`receipt`, `audit`: what was sent, to whom, and that it arrived unaltered."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from .. import api
from ..api import (
    BadLine,
    BadReceipt,
    Failure,
    Home,
    Receipt,
    encode_base64url,
    fingerprint,
    shown,
    verify_receipt,
)
from .language import counted, number, quoted, words
from .terminal import fail, say, show, show_table, told

ROLES = ("sender", "recipient")


@click.group()
def receipt() -> None:
    """`handover receipt`."""


def _read_receipt(file: Path) -> Receipt:
    try:
        return verify_receipt(file.read_bytes())
    except OSError:
        fail(Failure("not_readable", shown(str(file))))
    except BadReceipt as bad:
        say(words("receipt", "invalid", reason=bad.reason))
        raise SystemExit(1) from None


@receipt.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def receipt_show(file: Path) -> None:
    """`handover receipt show`."""
    found = _read_receipt(file)
    show_table(_rows(found))
    with contextlib.suppress(Failure):
        entries = api.annex(found)
        show(words("receipt", "annex"))
        for entry in entries:
            status = "" if entry.status == "delivered" else words("status", entry.status)
            show(f"  {entry.path}  {entry.size}  {status or entry.sha256}")


def _rows(found: Receipt) -> list[tuple[str, str]]:
    payload = found.payload
    content, times, security = payload["content"], payload["times"], payload["security"]
    parties = {
        role: words(
            "receipt",
            "party",
            label=quoted(payload[role]["label"]),
            fingerprint=fingerprint(payload[role]["jwk"]["x"]),
        )
        for role in ROLES
    }
    amounts = ("delivered_entries", "entries", "delivered_bytes", "bytes")
    clocks = {"offered": "sender", "accepted": "recipient", "closed": "sender"}
    rows = {
        "transfer": encode_base64url(payload["transfer_id"]),
        "outcome": words("outcome", payload["outcome"]),
        **parties,
        "delivered": words(
            "receipt", "amounts", **{name: number(content[name]) for name in amounts}
        ),
        "root": content["root"].hex(),
        "stored": words("receipt", "durable", stored=payload["stored"], hash=content["hash"]),
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


@receipt.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--files", type=click.Path(path_type=Path))
def receipt_verify(file: Path, files: Path | None) -> None:
    """`handover receipt verify`."""
    found = _read_receipt(file)
    show_table(_rows(found))
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
    show(words("receipt", "proves"))


@click.group("audit")
def audit_group() -> None:
    """`handover audit`."""


@audit_group.command("verify")
def audit_verify() -> None:
    """`handover audit verify`."""
    with told():
        home = Home()
    try:
        found = home.audit.verify()
    except BadLine as bad:
        reason = words("receipt", "line", number=bad.number, reason=bad.reason)
        say(words("receipt", "audit_invalid", path=str(home.audit.path), reason=reason))
        raise SystemExit(1) from None
    entries = counted(found.lines, "entry")
    show(words("receipt", "audit_valid", entries=entries, head=found.head))
