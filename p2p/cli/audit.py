"""`audit`: what this computer's log tells, and whether it holds."""

from __future__ import annotations

import asyncio
import csv
import functools
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import api
from ..api import (
    Account,
    BadLine,
    Failure,
    Filter,
    Home,
    LogCheck,
    LogEntry,
    Party,
    StampFailed,
    Transfers,
    shown,
)
from . import report
from .forwarding import audit_forward
from .language import counted, found, number, quoted, size, words
from .options import Day, both_or_none
from .parties import party_text, posing, purpose_text
from .retention import audit_checkpoint, audit_prune, audit_witness
from .stamping import audit_stamp
from .terminal import say, show, show_json, show_table, told, whole

LISTED = 10  # receipts that do not fit
SHORT = 8  # characters of an ID
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("audit")
def audit_group() -> None:
    """`handover audit`."""


@dataclass(frozen=True)
class Period:
    """Days of this computer's calendar, both included."""

    first: datetime | None
    last: datetime | None

    @property
    def since(self) -> str:
        """When it begins: RFC 3339 in UTC, as the log has it, or ""."""
        return api.utc_text(self.first.astimezone()) if self.first else ""

    @property
    def until(self) -> str:
        """When the day after it begins, or ""."""
        # Not 24 hours later: a clock may be put forward or back that day.
        after = self.last and (self.last + timedelta(days=1)).astimezone()
        return api.utc_text(after) if after else ""


def period(command: Command) -> Command:
    """`--from` and `--to`."""

    @click.option("--from", "since", type=Day())
    @click.option("--to", "until", type=Day())
    @functools.wraps(command)
    def wrapped(since: datetime | None, until: datetime | None, **rest: Any) -> Any:
        if since is not None and until is not None and until < since:
            raise click.UsageError(words("usage", "period"))
        return command(span=Period(since, until), **rest)

    return wrapped  # type: ignore[return-value]


@audit_group.command("verify")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--timestamp-ca", type=click.Path(path_type=Path))
def audit_verify(file: Path | None, timestamp_ca: Path | None) -> None:
    """`handover audit verify`."""
    if file is not None and timestamp_ca is not None:
        raise click.UsageError(words("usage", "option_with", option="FILE", other="--timestamp-ca"))
    if file is not None:
        with whole(file):
            chain = api.check_audit_file(file)
        entries = counted(chain.lines, "entry")
        show(words("receipt", "audit_holds", entries=entries, head=chain.head))
        if chain.pruned:
            pruned = counted(chain.pruned, "entry")
            show(words("receipt", "audit_pruned", entries=pruned))
        show(words("receipt", "audit_file_alone"))
        return
    with told():
        home = Home()
    path = shown(str(home.audit.path), 1024)
    with whole(home.audit.path):
        found = api.check_audit(home)
    if found.misfits:
        say(words("receipt", "audit_misfits" if found.lines else "audit_missing", path=path))
        for name, reason in found.misfits[:LISTED]:
            say(words("receipt", "misfit", name=shown(name, 256), reason=reason))
        if len(found.misfits) > LISTED:
            say(words("receipt", "more", count=number(len(found.misfits) - LISTED)))
        say(words("receipt", "audit_advice"))
        raise SystemExit(1)
    for sentence in _holds(found):
        show(sentence)
    if timestamp_ca is not None:
        _check_stamps(home, timestamp_ca)


def _check_stamps(home: Home, trusted: Path) -> None:
    """Say what the time stamps show. Exits where one does not hold."""
    with told():
        found = api.check_stamps(trusted, home)
    for name, reason in found.misfits[:LISTED]:
        say(words("audit", "stamp_wrong", file=shown(name, 256), reason=reason))
    if len(found.misfits) > LISTED:
        say(words("receipt", "more", count=number(len(found.misfits) - LISTED)))
    receipts = number(found.receipts)
    if found.last is None:
        show(words("receipt", "audit_unstamped", receipts=receipts))
    else:
        last = {"time": when(found.last.time), "authority": quoted(found.last.authority)}
        count = number(found.lines)
        show(words("receipt", "audit_stamped", number=count, receipts=receipts, **last))
    if found.misfits:
        raise SystemExit(1)


@audit_group.command("list")
@period
@click.option("--peer")
@click.option("--ending", type=click.Choice([one.value for one in api.Ending]))
@click.option("--transfer", metavar="ID")
@click.option("--json", "as_json", is_flag=True)
def audit_list(
    span: Period,
    peer: str | None,
    ending: str | None,
    transfer: str | None,
    as_json: bool,
) -> None:
    """`handover audit list`."""
    with told(as_json):
        home = Home()
        key = _key(home, peer) if peer else ""
        wanted = Filter(span.since, span.until, key, ending or "", (transfer or "").lower())
        names = _Names(home)
        home.audit.note("log_read", {"command": "list"})
    count = 0
    with whole(home.audit.path):
        for entry in api.log_entries(wanted, home):
            count += 1
            if as_json:
                show_json(entry.members)
            else:
                show(_line(entry, names))
    if not count and not as_json:
        say(words("audit", "none"))


@audit_group.command("show")
@click.argument("transfer", metavar="ID")
def audit_show(transfer: str) -> None:
    """`handover audit show`."""
    with told():
        home = Home()
        names = _Names(home)
        home.audit.note("log_read", {"command": "show"})
    with whole(home.audit.path):
        told_of = [
            one for one in api.accounts(home=home) if one.transfer.startswith(transfer.lower())
        ]
    if not told_of or not transfer:
        say(words("audit", "unknown", id=shown(transfer)))
        raise SystemExit(1)
    for one in told_of:
        show_table(_rows(one, names))
        for time, event in one.steps:
            show(f"  {_when(time)}  {_event(event)}")
        show("")


@audit_group.command("export")
@period
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "fhir", "dicom", "erds"]))
@click.option("--certificate", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path))
@click.option("--authority", metavar="URL")
@click.option("--timestamp-ca", type=click.Path(path_type=Path))
@click.option("--ca", type=click.Path(path_type=Path))
@click.option("--proxy", metavar="URL", default="", envvar="HANDOVER_PROXY")
@click.argument("file", type=click.Path(path_type=Path))
def audit_export(
    span: Period,
    form: str | None,
    certificate: Path | None,
    key: Path | None,
    authority: str | None,
    timestamp_ca: Path | None,
    ca: Path | None,
    proxy: str,
    file: Path,
) -> None:
    """`handover audit export`."""
    for option, value in (
        ("--certificate", certificate),
        ("--key", key),
        ("--authority", authority),
    ):
        if value is not None and form != "erds":
            raise click.UsageError(
                words("usage", "option_needs", option=option, other="--format=erds")
            )
    signing = both_or_none(certificate, key, "--certificate", "--key")
    if (authority is None) != (timestamp_ca is None):
        pair = {"first": "--authority", "second": "--timestamp-ca"}
        raise click.UsageError(words("usage", "pair", **pair))
    form = form or ("csv" if file.suffix.lower() == ".csv" else "jsonl")
    with told():
        home = Home()
    count = 0

    def lines() -> Iterator[str | bytes]:
        nonlocal count
        if form == "csv":
            yield _row(COLUMNS)
        elif form == "dicom":
            for entry, made in api.dicom_messages(home):
                if Filter(span.since, span.until).takes(entry):
                    count += len(made)
                    yield from (f"{one.xml}\n" for one in made)
            return
        elif span == Period(None, None):  # as it stands there, so that it can be verified
            for line in home.audit.walk():
                count += line.fields is not None
                yield line.data + b"\n"
            return
        for entry in api.log_entries(Filter(span.since, span.until), home):
            count += 1
            text = api.encode_json(entry.members).decode() + "\n"
            yield _row(_cells(entry)) if form == "csv" else text

    with whole(home.audit.path):
        if form == "fhir":
            _export_fhir(home, span, file)
            return
        if form == "erds":
            stamps = None
            if authority is not None and timestamp_ca is not None:
                stamps = api.stamp_authority(authority, timestamp_ca, ca, proxy)
            _export_erds(home, span, signing, stamps, file)
            return
        report.write(file, lines())
    home.audit.note("exported", {"format": form, "count": count})
    what = counted(count, "message" if form == "dicom" else "entry")
    say(words("audit", "exported", entries=what, path=shown(str(file), 1024)))


def _export_fhir(home: Home, span: Period, file: Path) -> None:
    """Write what was sent and received, an AuditEvent a line."""
    found = api.accounts(span.since, span.until, home)
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for one in filter(api.fhir.is_disclosure, found):
            count += 1
            yield api.encode_json(api.fhir.audit_event(one, api.SOFTWARE)) + b"\n"

    report.write(file, lines())
    home.audit.note("exported", {"format": "fhir", "count": count})
    transfers = counted(count, "transfer")
    say(words("audit", "exported", entries=transfers, path=shown(str(file), 1024)))


def _export_erds(
    home: Home,
    span: Period,
    signing: tuple[Path, Path] | None,
    authority: api.timestamps.Authority | None,
    file: Path,
) -> None:
    """Write signed evidence of what became of each transfer, an event a line."""
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        found = api.signed_evidence(
            span.since, span.until, home, certificate=signing, authority=authority
        )
        with asyncio.Runner() as runner:
            while (line := runner.run(_next(found))) is not None:
                count += 1
                yield line

    try:
        report.write(file, lines())
    except StampFailed as failed:
        say(words("audit", "evidence_unstamped", reason=failed.reason))
        raise SystemExit(1) from None
    home.audit.note("exported", {"format": "erds", "count": count})
    events = counted(count, "event")
    say(words("audit", "exported", entries=events, path=shown(str(file), 1024)))


async def _next(lines: AsyncIterator[bytes]) -> bytes | None:
    return await anext(lines, None)


@audit_group.command("report")
@period
@click.option("--html", type=click.Path(path_type=Path))
@click.option("--csv", "table", type=click.Path(path_type=Path))
@click.option("--disclosures", type=click.Path(path_type=Path))
def audit_report(
    span: Period, html: Path | None, table: Path | None, disclosures: Path | None
) -> None:
    """`handover audit report`."""
    with told():
        home = Home()
        names = _Names(home)
    state = _state(home)
    with told():
        accounts = api.accounts(span.since, span.until, home, broken=True)
    home.audit.note("log_read", {"command": "report", "count": len(accounts)})
    wanted = (
        (html, _html(accounts, names, state, span)),
        (table, _csv(accounts, names)),
        (disclosures, _disclosures(accounts, names)),
    )
    with told():  # the log is read again
        for file, lines in wanted:
            if file is not None:
                report.write(file, lines)
                say(words("audit", "written", path=shown(str(file), 1024)))
        if not any(file for file, _ in wanted):
            show(state[1])
            for one in accounts:
                show("")
                show_table(_rows(one, names))
    if not state[0]:
        raise SystemExit(1)


# --- what is shown -------------------------------------------------------------------------------

COLUMNS = ("seq", "time", "event", "role", "transfer", "peer", "ending", "code", "bytes")
OWN_COLUMNS = {"seq", "time", "event", "role", "transfer_id", "peer", "ending", "code", "bytes"}


class _Names:
    """Whom this computer knows, by key ID."""

    def __init__(self, home: Home) -> None:
        self._of = {api.thumbprint(one.identity): one.name for one in home.contacts.all().values()}

    def of(self, key: str) -> str:
        """A contact's name in quotation marks, else the key."""
        name = self._of.get(key)
        return words("terminal", "label", label=shown(name)) if name else key

    def key(self, wanted: str) -> str:
        """The key of a contact by its name, or a key ID."""
        return next((key for key, name in self._of.items() if name == wanted), wanted)


def _key(home: Home, peer: str) -> str:
    return _Names(home).key(peer)


def when(moment: datetime) -> str:
    """A moment in the same form."""
    return _when(api.utc_text(moment))


def _when(time: str) -> str:
    """A time of the log, to the second; UTC, as it stands there."""
    return time[:19].replace("T", " ") + "Z"


def _event(event: str) -> str:
    return found("audit_event", event, event)


def _line(entry: LogEntry, names: _Names) -> str:
    role = found("transfers", entry.text("role"), entry.text("role"))
    ending = entry.text("ending")
    reason = found("outcome", ending, ending) or entry.text("reason")
    if code := entry.text("code"):
        reason += f" ({code})"
    what = _event(entry.event) + (f": {reason}" if reason else "")
    peer = names.of(entry.text("peer"))
    parts = (_when(entry.time), entry.transfer[:SHORT].ljust(SHORT), role.ljust(9), what, peer)
    return "  ".join(parts).rstrip()


def _cells(entry: LogEntry) -> list[str]:
    """A row of CSV; nothing in it is taken for a formula."""
    named = [
        str(entry.number),
        entry.time,
        entry.event,
        entry.text("role"),
        entry.transfer,
        *(entry.text(name) for name in ("peer", "ending", "code")),
        str(entry.count("bytes") if entry.count("bytes") is not None else ""),
    ]
    return [_plain(one) for one in named]


def _plain(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _rows(one: Account, names: _Names) -> list[tuple[str, str]]:
    """What is told of a transfer: parties, times, what was verified, and how sure it is."""
    rows = [
        (words("receipt", "transfer"), one.transfer or words("report", "unknown")),
        (words("report", "role"), found("transfers", one.role, one.role)),
        (words("report", "began"), _when(one.began)),
        (words("report", "ended"), _when(one.ended) if one.ended else words("report", "open")),
        (words("receipt", "outcome"), _ending(one)),
    ]
    if one.receipt is not None:
        rows += [(words("receipt", str(party.role)), _party(party)) for party in _parties(one)]
    elif one.peer:
        rows.append((words("report", "peer"), names.of(one.peer)))
    if one.known:
        known = found("report", f"known_{one.known}", one.known)
        rows.append((words("report", "identity"), known))
    if one.purpose:
        rows.append((words("report", "purpose"), purpose_text(one.purpose)))
    rows.append((words("receipt", "digits"), _digits(one)))
    if one.entries is not None and one.size is not None:
        amount = words(
            "terminal", "amount", what=counted(one.entries, "entry"), size=size(one.size)
        )
        rows.append((words("report", "amount"), amount))
    rows.append((words("report", "receipt"), _receipt(one)))
    return rows


def _ending(one: Account) -> str:
    if not one.ended:
        return words("report", "open")
    ending = found("outcome", one.ending, _event(one.ending))
    why = found("failure", one.code, "").partition("{")[0].partition(". ")[0].rstrip(" (.")
    return f"{ending} ({why})" if why else ending


def _digits(one: Account) -> str:
    if one.receipt is not None:  # both have signed what it says
        compared = one.receipt.payload["security"]["digits_confirmed"]
        return words("report", "digits_same" if compared else "digits_not")
    return words("report", f"digits_{one.digits or 'not'}")


def _receipt(one: Account) -> str:
    if one.receipt is None:
        return words("report", "no_receipt")
    content = one.receipt.payload["content"]
    amounts = ("delivered_entries", "entries", "delivered_bytes", "bytes")
    delivered = words("receipt", "amounts", **{name: number(content[name]) for name in amounts})
    signed = words("report", "signed_both" if one.receipt.confirmed else "signed_one")
    return f"{signed}; {delivered}"


def _parties(one: Account) -> tuple[Party, ...]:
    assert one.receipt is not None
    try:
        return api.parties(one.receipt)
    except Failure:
        return ()


def _party(party: Party) -> str:
    text = party_text(party)
    return f"{text}. {posing(party)}" if party.posing_as else text


# --- what is handed over -------------------------------------------------------------------------


def _holds(found: LogCheck) -> list[str]:
    """That a log holds, and what vouches for it."""
    entries = counted(found.lines, "entry")
    sentences = [words("receipt", "audit_holds", entries=entries, head=found.head)]
    if found.pruned:
        sentences.append(words("receipt", "audit_pruned", entries=counted(found.pruned, "entry")))
    secured = "audit_fixed" if found.fixed else "audit_fitting" if found.receipts else "audit_alone"
    if secured != "audit_alone" or not found.witnessed:
        count, last = number(found.receipts), number(found.fixed)
        sentences.append(words("receipt", secured, count=count, number=last))
    if found.checkpoints:
        key = "audit_witnessed" if found.witnessed else "audit_unwitnessed"
        count, last = number(found.checkpoints), number(found.witnessed)
        sentences.append(words("receipt", key, count=count, number=last))
    return sentences


def _state(home: Home) -> tuple[bool, str]:
    """Whether the log holds, and the sentence that says so."""
    path = shown(str(home.audit.path), 1024)
    with told():
        try:
            checked = api.check_audit(home)
        except BadLine as bad:
            reason = words("receipt", "line", number=bad.number, reason=bad.reason)
            return False, words("receipt", "audit_invalid", path=path, reason=reason)
    if checked.misfits:
        name, reason = checked.misfits[0]
        misfit = words("receipt", "misfit", name=shown(name, 256), reason=reason).strip()
        return False, words("report", "misfits", misfit=misfit)
    return True, " ".join(_holds(checked))


def _html(
    accounts: Transfers, names: _Names, state: tuple[bool, str], span: Period
) -> Iterator[str]:
    whole = words("report", "begin"), words("report", "now")
    first, last = (f"{day:%Y-%m-%d}" if day else "" for day in (span.first, span.last))
    days = words("report", "period", begin=first or whole[0], end=last or whole[1])
    yield report.head(words("report", "title"))
    yield report.paragraph(days)
    yield report.paragraph(state[1], "state" if state[0] else "bad")
    yield report.paragraph(words("report", "total", transfers=counted(len(accounts), "transfer")))
    yield report.paragraph(words("report", "clock"), "small")
    for one in accounts:
        heading = words("report", "heading", time=_when(one.began), ending=_ending(one))
        steps = [(_when(time), _event(event)) for time, event in one.steps]
        yield report.section(heading, _rows(one, names), steps)
    yield report.paragraph(words("receipt", "shows_not"), "small")
    yield report.FOOT


def _csv(accounts: Iterable[Account], names: _Names) -> Iterator[str]:
    """A row for each transfer, under the names of the JSON."""
    columns = (
        *("transfer", "role", "began", "ended", "ending", "code", "peer", "contact", "known"),
        *("digits", "entries", "bytes", "purpose", "receipt"),
    )
    yield _row(columns)
    for one in accounts:
        signed = "" if one.receipt is None else "both" if one.receipt.confirmed else "recipient"
        contact = names.of(one.peer)
        cells = (
            *(one.transfer, one.role, one.began, one.ended, one.ending, one.code, one.peer),
            *("" if contact == one.peer else contact, one.known, one.digits),
            *("" if one.entries is None else one.entries, "" if one.size is None else one.size),
            *(one.purpose, signed),
        )
        yield _row([_plain(str(cell)) for cell in cells])


def _disclosures(accounts: Iterable[Account], names: _Names) -> Iterator[str]:
    """What left this computer, as 45 CFR 164.528 wants it accounted for: date, recipient,
    description and purpose. Names of files stand in the annexes alone."""
    yield _row([words("report", name) for name in ("date", "to", "description", "purpose")])
    for one in accounts:
        if one.role != "sender" or not (one.moved or one.receipt is not None):
            continue
        if one.receipt is not None:
            recipient = next((_party(p) for p in _parties(one) if p.role == "recipient"), one.peer)
            content = one.receipt.payload["content"]
            date, count = one.receipt.payload["times"]["verified"], content["delivered_entries"]
            what = _amount(count, content["delivered_bytes"])
        else:
            recipient, date = names.of(one.peer), one.ended or one.steps[-1][0]
            most = _amount(one.entries or 0, one.size or 0)
            what = words("report", "in_part", amount=most)
        cells = date, recipient, what, purpose_text(one.purpose)
        yield _row([_plain(str(cell)) for cell in cells])


def _amount(entries: int, count: int) -> str:
    return words("terminal", "amount", what=counted(entries, "entry"), size=size(count))


def _row(cells: Iterable[object]) -> str:
    """A row of CSV (RFC 4180)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


for command in (audit_checkpoint, audit_witness, audit_forward, audit_stamp, audit_prune):
    audit_group.add_command(command)
