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
    text,
    verify_receipt,
)
from .terminal import fail, many, say, show, told


@click.group()
def receipt() -> None:
    """Receipts: what was sent, by whom, to whom, and that it arrived unaltered."""


def _read_receipt(file: Path) -> Receipt:
    try:
        return verify_receipt(file.read_bytes())
    except OSError:
        fail(Failure("not_readable", shown(str(file))))
    except BadReceipt as reason:
        say(f"This receipt does not hold: {reason}. Do not rely on it.")
        raise SystemExit(1) from None


@receipt.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def receipt_show(file: Path) -> None:
    """Show what a receipt says, and the names where this machine knows them."""
    found = _read_receipt(file)
    for line in _receipt_lines(found):
        show(line)
    with contextlib.suppress(Failure):
        entries = api.annex(found)
        show("entries (from this machine's annex, not part of the receipt):")
        for entry in entries:
            status = "" if entry.status == "delivered" else text("status", entry.status)
            show(f"  {entry.path}  {entry.size}  {status or entry.sha256}")


def _receipt_lines(found: Receipt) -> list[str]:
    payload = found.payload
    content, times, security = payload["content"], payload["times"], payload["security"]
    lines = [
        f"transfer     {encode_base64url(payload['transfer_id'])}",
        f"outcome      {payload['outcome']}",
    ]
    for role in ("sender", "recipient"):
        party = payload[role]
        key = fingerprint(party["jwk"]["x"])
        lines.append(f"{role:12} {shown(party['label'])}, key {key}")
    lines += [
        f"delivered    {content['delivered_entries']} of {content['entries']} entries, "
        f"{content['delivered_bytes']} of {content['bytes']} bytes",
        f"root         {content['root'].hex()}",
        f"stored       {payload['stored']}, read back and hashed with {content['hash']}",
        f"digits       {'confirmed' if security['digits_confirmed'] else 'not confirmed'}",
        f"offered      {shown(times['offered'])} (sender's clock)",
        f"accepted     {shown(times['accepted'])} (recipient's clock)",
        f"closed       {shown(times['closed'])} (sender's clock)",
        f"verified     {shown(times['verified'])} (recipient's clock)",
        f"signed by    {'recipient and sender' if found.confirmed else 'the recipient only'}",
    ]
    return lines


@receipt.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--files", type=click.Path(path_type=Path), help="Also hold the files in this folder to it."
)
def receipt_verify(file: Path, files: Path | None) -> None:
    """Check signatures, keys and roles; with --files, the files themselves too.

    --files is the folder that was received into, or on the sender's side the one that holds what
    was sent. The names come from this machine's annex, which must fit the receipt's root.
    """
    found = _read_receipt(file)
    for line in _receipt_lines(found):
        show(line)
    if files is not None:
        try:
            with told():
                wrong = api.compare_files(found, files)
        except BadReceipt:
            say("The annex on this machine does not belong to this receipt.")
            raise SystemExit(1) from None
        for path, why in wrong:
            say(f"  {shown(path, 1024)}: {why}")
        if wrong:
            say(f"{many(len(wrong), 'entry')} not as delivered.")
            raise SystemExit(1)
        show("files        every delivered file is as it was")
    show(
        "It proves that software holding these keys sent and received exactly these bytes; "
        "not who sat at the keyboard, nor that anyone looked at them."
    )


@click.group("audit")
def audit_group() -> None:
    """The audit log of this machine."""


@audit_group.command("verify")
def audit_verify() -> None:
    """Check the chain of the log; names the first bad line."""
    with told():
        home = Home()
    try:
        found = home.audit.verify()
    except BadLine as bad:
        say(f"The audit log does not hold. {home.audit.path}, {bad}.")
        raise SystemExit(1) from None
    show(f"{many(found.lines, 'entry')}, head {found.head}")
