"""`audit list`, `show`, `report` and `export`: what a compliance officer reads and hands over."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import time
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from nacl.signing import SigningKey

from p2p.api import CATALOGUE, Home, encode_base64url, thumbprint
from p2p.cli.audit import Period
from tests.receipts import signed

TRANSFER = bytes(range(16))
OTHER = SigningKey(b"\x07" * 32)
EVIL = "=cmd|' /C calc'!A0<script>alert(1)</script>\u202e"


@pytest.fixture
def home():
    """Somebody sent something to Mary, and somebody else made an attempt."""
    made = Home()
    own = made.identity.load().key
    made.contacts.pin(bytes(OTHER.verify_key), "Mary", verified=True)
    members = {"role": "sender", "run": "aa", "transfer_id": encode_base64url(TRANSFER)}
    made.audit.append("link_made", members | {"entries": 2, "bytes": 1_500_000})
    made.audit.append("authentication_failed", members | {"reason": "guest_unproven"})
    members["peer"] = thumbprint(bytes(OTHER.verify_key))
    made.audit.append("authenticated", members | {"known": "contact", "digits_before": True})
    made.audit.append("transfer", members | {"ending": "complete", "code": "", "bytes": 1_500_000})
    labels = ("Klinik", EVIL)
    made.receipts.store(TRANSFER, signed(own, OTHER, transfer=TRANSFER, labels=labels))
    return made


def test_the_list_has_every_entry_and_reading_it_is_one(line, language, home):
    words = CATALOGUE[language]["audit_event"]
    done = line.run("audit", "list")
    assert done.exit_code == 0
    rows = done.stdout.splitlines()
    assert len(rows) == 7  # with the one of reading it
    assert words["link_made"] in rows[2]
    assert f"{words['authentication_failed']}: guest_unproven" in rows[3]
    assert "Mary" in rows[5]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", row) for row in rows)
    assert words["log_read"] in rows[6]
    events = [line.fields["event"] for line in home.audit.walk()]
    assert events[-1] == "log_read"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (("--peer", "Mary"), 3),
        (("--ending", "complete"), 1),
        (("--transfer", TRANSFER.hex()[:6].upper()), 4),
        (("--from", "2000-01-01", "--to", "2000-12-31"), 0),
        (("--from", "2000-01-01"), 7),
        (("--to", "2999-12-31"), 7),
    ],
)
def test_the_list_is_filtered(line, home, wanted, count):
    done = line.run("audit", "list", "--json", *wanted)
    found = [json.loads(row) for row in done.stdout.splitlines()]
    assert len(found) == count
    assert all(one["seq"] for one in found)


@pytest.mark.parametrize("day", ["today", "2026-13-01", "01.02.2026", "9999-99-99"])
def test_what_is_no_day_is_said(line, home, day):
    done = line.run("audit", "list", "--from", day)
    assert done.exit_code == 2
    assert CATALOGUE["en"]["usage"]["day"] in done.stderr


def test_one_transfer_with_all_that_is_known_of_it(line, language, home):
    done = line.run("audit", "show", TRANSFER.hex()[:8])
    assert done.exit_code == 0
    words = CATALOGUE[language]
    assert TRANSFER.hex() in done.stdout
    assert words["report"]["known_contact"] in done.stdout
    assert words["report"]["signed_both"] in done.stdout
    assert "Mary" in done.stdout
    for event in ("link_made", "authentication_failed", "authenticated", "transfer"):
        assert words["audit_event"][event] in done.stdout
    assert line.run("audit", "show", "ffff").exit_code == 1


class Page(HTMLParser):
    """The elements of a page, and everything it would fetch or run."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.fetched, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_to_hand_over_is_whole_and_safe(line, language, home, tmp_path):
    """It fetches nothing; what others call themselves is text in it, and nothing else."""
    file = tmp_path / "report.html"
    done = line.run("audit", "report", "--html", file)
    assert done.exit_code == 0
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    text = file.read_text()
    page, words = Page(text), CATALOGUE[language]
    assert f'lang="{language}"' in text
    assert page.fetched == []
    assert {"script", "img", "link", "iframe"}.isdisjoint(page.tags)
    shown = " ".join(page.words)
    assert "<script>alert(1)</script>" in shown
    assert "\u202e" not in text
    assert words["report"]["title"] in shown
    assert TRANSFER.hex() in shown
    assert words["receipt"]["shows_not"] in shown
    holds = words["receipt"]["audit_holds"].split("{")[0]
    assert holds in shown


def test_a_log_that_does_not_hold_is_said_at_the_top(line, language, home, tmp_path):
    """Whether it contradicts a receipt, or its chain is broken."""
    log = home.audit.path
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]))  # without its end
    file = tmp_path / "report.html"
    assert line.run("audit", "report", "--html", file).exit_code == 1
    assert 'class="bad"' in file.read_text()
    log.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    done = line.run("audit", "report", "--html", tmp_path / "other.html")
    assert done.exit_code == 1
    assert 'class="bad"' in (tmp_path / "other.html").read_text()  # as far as it holds


@pytest.mark.parametrize(
    ("zone", "day", "begins", "ends"),
    [
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"),
        ("America/New_York", "2026-11-30", "2026-11-30T05:00:00.000Z", "2026-12-01T05:00:00.000Z"),
    ],
)
def test_a_day_is_one_of_the_calendar_whatever_the_clock_does(monkeypatch, zone, day, begins, ends):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        one = datetime.strptime(day, "%Y-%m-%d")
        span = Period(one, one)
        assert (span.since, span.until) == (begins, ends)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_left_without_a_receipt_is_accounted_for_too(line, home, tmp_path):
    """Perhaps in part: who reads it has to know."""
    members = {"role": "sender", "run": "bb", "transfer_id": encode_base64url(bytes(16))}
    home.audit.append("link_made", members | {"entries": 9, "bytes": 9_000_000})
    home.audit.append("accepted", members | {"peer": "somebody"})
    home.audit.append("transfer", members | {"ending": "aborted", "code": "cancelled"})
    file = tmp_path / "d.csv"
    assert line.run("audit", "report", "--disclosures", file).exit_code == 0
    _, _, row = csv.reader(io.StringIO(file.read_text()))
    assert row[1] == "somebody"
    assert row[2] == "no receipt, perhaps in part: 9 entries, 9.0 MB"


def test_tables_hold_no_formula(line, home, tmp_path):
    table, disclosures = tmp_path / "t.csv", tmp_path / "d.csv"
    done = line.run("audit", "report", "--csv", table, "--disclosures", disclosures)
    assert done.exit_code == 0
    head, row = csv.reader(io.StringIO(table.read_text()))
    told = dict(zip(head, row, strict=True))
    assert told["transfer"] == TRANSFER.hex()
    assert (told["ending"], told["known"], told["receipt"]) == ("complete", "contact", "both")
    head, row = csv.reader(io.StringIO(disclosures.read_text()))
    assert head == [
        CATALOGUE["en"]["report"][one] for one in ("date", "to", "description", "purpose")
    ]
    assert "Mary" in row[1]
    for cell in (*row, *told.values()):
        assert cell[:1] not in ("=", "+", "-", "@")


def test_an_export_is_the_log_itself(line, home, tmp_path):
    """So that it can be checked like it."""
    log = home.audit.path.read_bytes()
    file = tmp_path / "log.jsonl"
    assert line.run("audit", "export", file).exit_code == 0
    assert file.read_bytes() == log
    assert line.run("audit", "verify", file).exit_code == 0
    done = line.run("audit", "export", "--format", "csv", "-")
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert [row[2] for row in rows[-2:]] == ["transfer", "exported"]
    assert line.run("audit", "export", tmp_path / "no" / "such").exit_code == 1


def test_a_witness_vouches_for_the_log(line, language, home, tmp_path, monkeypatch):
    """Over files that name nobody, between two computers."""
    words = CATALOGUE[language]["audit"]
    here, there = str(home.path), str(tmp_path / "witness")
    request, answer = tmp_path / "request", tmp_path / "answer"
    assert line.run("audit", "checkpoint", "--output", request).exit_code == 0
    monkeypatch.setenv("HANDOVER_HOME", there)
    done = line.run("audit", "witness", request, "--output", answer)
    assert (done.exit_code, done.stdout) == (0, "")
    assert answer.stat().st_mode & 0o077 == 0
    assert "Mary" not in (text := request.read_text() + answer.read_text())
    assert "Klinik" not in text
    monkeypatch.setenv("HANDOVER_HOME", here)
    done = line.run("audit", "checkpoint", "--add", answer)
    assert done.exit_code == 1
    assert "--trust" in done.stderr
    assert line.run("audit", "checkpoint", "--add", answer, "--trust").exit_code == 0
    witnessed = CATALOGUE[language]["receipt"]["audit_witnessed"]
    assert witnessed.format(count=1, number=6) in line.run("audit", "verify").stdout
    assert witnessed.format(count=1, number=6) in line.run("audit", "report").stdout
    monkeypatch.setenv("HANDOVER_HOME", there)
    request.write_text("old 5\n\nnonsense\n")
    done = line.run("audit", "witness", request)
    assert done.exit_code == 1
    reason = CATALOGUE[language]["detail"]["no_checkpoint"]
    assert done.stderr == words["checkpoint_refused"].format(reason=reason) + "\n"


def test_what_is_old_goes_only_with_yes(line, language, home, tmp_path):
    words = CATALOGUE[language]["audit"]
    log = home.audit.path.read_bytes()
    done = line.run("audit", "prune")  # nothing is six years old
    assert (done.exit_code, home.audit.path.read_bytes()) == (0, log)
    prune = ("audit", "prune", "--before", "2999-12-31")
    done = line.run(*prune)
    assert words["prune_yes"] in done.stderr
    assert (done.exit_code, home.audit.path.read_bytes()) == (0, log)
    done = line.run(*prune, "--yes")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, words["pruned"])
    assert list((home.path / "receipts").iterdir()) == []
    events = [fields["event"] for _, _, fields, _, _ in home.audit.walk() if fields]
    assert events == ["pruned"]
    pruned = CATALOGUE[language]["receipt"]["audit_pruned"].partition("{")[0]
    assert pruned in line.run("audit", "verify").stdout
    copy = tmp_path / "copy.jsonl"
    assert line.run("audit", "export", copy).exit_code == 0
    assert line.run("audit", "verify", copy).exit_code == 0


def test_an_export_of_a_log_that_a_crash_has_torn_holds(line, home, tmp_path):
    with home.audit.path.open("ab") as log:
        log.write('{"event":"Ä'.encode()[:-1])
    copy = tmp_path / "copy.jsonl"
    line.run("audit", "list")  # the next entry closes it
    assert line.run("audit", "export", copy).exit_code == 0
    assert line.run("audit", "verify", copy).exit_code == 0


@pytest.mark.parametrize(
    "command",
    [("report",), ("report", "--html"), ("export", "--format", "fhir"), ("show", "0")],
    ids=" ".join,
)
def test_a_receipt_that_cannot_be_read_is_told(line, home, tmp_path, command):
    for receipt in home.receipts.folder.iterdir():
        receipt.unlink()
        receipt.mkdir()
    (name,) = [one.name[:8] for one in home.receipts.folder.iterdir()][:1]
    words = ("show", name) if command[0] == "show" else command
    file = () if words[0] == "show" or words == ("report",) else (tmp_path / "out",)
    done = line.run("audit", *words, *file)
    assert done.exit_code == 1
    assert "Cannot read the receipt" in done.stderr


def test_messages_of_dicom_are_written_one_a_line(line, home, tmp_path):
    file = tmp_path / "messages"
    done = line.run("audit", "export", "--format", "dicom", file)
    lines = file.read_text().splitlines()
    assert f"Exported {len(lines)} messages to" in done.stderr
    assert all(
        one.startswith('<?xml version="1.0" encoding="UTF-8"?><AuditMessage>') for one in lines
    )
    done = line.run("audit", "export", "--format", "dicom", "--from", "2999-01-01", file)
    assert "Exported 0 messages to" in done.stderr


def test_evidence_is_signed_by_a_certificate_that_fits(line, home, tmp_path):
    file = tmp_path / "evidence"
    done = line.run("audit", "export", "--format", "erds", file)
    assert done.exit_code == 0
    assert {"payload", "protected", "signature"} == set(
        json.loads(file.read_text().splitlines()[0])
    )
    for wrong in (("--certificate", file), ("--key", file)):
        assert line.run("audit", "export", "--format", "erds", *wrong, file).exit_code == 2
        assert line.run("audit", "export", *wrong, file).exit_code == 2
    before = file.read_bytes()
    pair = ("--certificate", file, "--key", file)
    done = line.run("audit", "export", "--format", "erds", *pair, file)
    assert done.exit_code != 0
    assert "cannot be used" in done.stderr
    assert file.read_bytes() == before
    done = line.run("audit", "export", "--format", "erds", "--authority", "x", tmp_path / "other")
    assert done.exit_code == 2  # without who vouches for it
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("server", ["", ":", "host:0", "host:port", "[::1", "::1:99999x", "[]:1"])
def test_a_syslog_server_has_a_host_and_a_port(line, server):
    assert line.run("audit", "forward", server).exit_code == 2


@pytest.mark.parametrize("server", ["127.0.0.1:1", "[::1]:1", "host.invalid", "::1", "a..b"])
def test_a_syslog_server_that_is_not_there_is_told(line, home, server):
    """Whatever it is called; an address of IPv6 may stand without brackets where no port follows."""
    done = line.run("audit", "forward", server)
    assert done.exit_code == 1
    assert "Nothing is lost" in done.stderr


@pytest.mark.parametrize("role", ["sender", "recipient"])
@pytest.mark.parametrize("ending", ["complete", "partial", "declined"])
def test_transfers_become_audit_events_of_fhir(line, tmp_path, role, ending):
    """Valid by somebody else's reading of R4, with what IHE's profiles demand beside."""
    made = Home()
    own = made.identity.load()
    members = {"role": role, "run": "aa", "transfer_id": encode_base64url(TRANSFER)}
    members |= {"peer": thumbprint(bytes(OTHER.verify_key)), "purpose": "ETREAT"}
    made.audit.append("authenticated", members | {"known": "contact", "digits_before": True})
    if ending != "declined":
        made.audit.append("accepted", members)
    made.audit.append(
        "transfer", members | {"ending": ending, "code": "", "bytes": 9, "entries": 1}
    )
    if ending == "complete":
        keys = (own.key, OTHER) if role == "sender" else (OTHER, own.key)
        made.receipts.store(TRANSFER, signed(*keys, transfer=TRANSFER, labels=("Klinik", EVIL)))
    file = tmp_path / "events.ndjson"
    assert line.run("audit", "export", "--format", "fhir", file).exit_code == 0
    rows = file.read_text().splitlines()
    if ending == "declined":  # nothing was disclosed
        assert rows == []
        return
    event: Any = AuditEvent.model_validate_json(rows[0])
    assert len(rows) == 1
    profile = "Source" if role == "sender" else "Recipient"
    assert event.meta.profile[0].endswith(f".PrivacyDisclosure.{profile}")
    kind = {"sender": ("110106", "R"), "recipient": ("110107", "C")}[role]
    assert (event.type.code, event.action) == kind
    assert "disclose" in [one.code for one in event.subtype]
    assert event.outcome == ("0" if ending == "complete" else "8")
    assert event.purposeOfEvent[0].coding[0].code == "ETREAT"
    agents = {one.type.coding[0].code: one for one in event.agent}
    assert agents.keys() == {"110153", "110152"}  # source, destination
    for agent in agents.values():
        assert agent.network.type == "5"
        assert agent.network.address.endswith(agent.who.identifier.value)
    mine = agents["110153" if role == "sender" else "110152"]
    assert mine.who == event.source.observer  # val-audit-source
    assert mine.who.identifier.value == thumbprint(own.public)
    patient, data = event.entity
    assert (patient.type.code, patient.role.code, patient.what.type) == ("1", "1", "Patient")
    assert (data.type.code, data.role.code) == ("2", "3")
    assert "\u202e" not in file.read_text()
