"""What is kept and handed over names nobody: names of files, reasons, links and secrets are planted in
a whole transfer, and looked for in everything but the annex."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
import urllib.parse

import pytest

from p2p.protocol.codec import decode_base64url
from tests.confined import die_with_parent

from .harness import ROOT, SECONDS

FAMILY, GIVEN, NUMBER = "Müßiggang", "Łucja-Żaneta", "1970-01-31 Fall 4711"
REASON = f"Schlaganfall, {GIVEN} wartet"
PASSPHRASE = "Zwölf-Boxkämpfer"
KINDS = ("jsonl", "csv", "fhir", "dicom", "erds", "html", "disclosures", "table", "receipt")
SERVE = ("serve", "--listen", "127.0.0.1:0", "--log-level", "debug")


def spellings(text: str) -> set[bytes]:
    """As it may be written: in either normal form, escaped, in a URL, or encoded."""
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    found = {form.encode() for form in forms}
    found |= {json.dumps(form)[1:-1].encode() for form in forms}
    found |= {urllib.parse.quote(form).encode() for form in forms}
    found |= {form.encode("utf-16-le") for form in forms}
    found |= {base64.b64encode(form.encode()).rstrip(b"=")[:-1] for form in forms}
    return found


@pytest.fixture
def server(tmp_path):
    """A standing server that tells all it has to tell: its origin, and its log."""
    log = tmp_path / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            (sys.executable, "-m", "p2p", *SERVE),
            env=os.environ | {"PYTHONPATH": str(ROOT), "HANDOVER_LANG": "en"},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
    ends = time.monotonic() + SECONDS
    while not (found := re.search(rb"Serving on port (\d+)", log.read_bytes())):
        assert time.monotonic() < ends
        time.sleep(0.05)
    yield f"http://127.0.0.1:{int(found[1])}", log
    process.kill()
    process.wait()


def test_what_is_kept_and_handed_over_names_nobody(sender, recipient, server, tmp_path):
    origin, log = server
    study = tmp_path / "source" / f"{FAMILY}, {GIVEN}"
    (study / NUMBER).mkdir(parents=True)
    (study / NUMBER / f"{GIVEN}.dcm").write_bytes(os.urandom(300_000))
    secret = {"HANDOVER_PASSPHRASE": PASSPHRASE}
    purpose = ("--purpose", "emergency", "--reason", REASON)
    sending, link = sender.send("--auto", "--server", origin, *purpose, study, **secret)
    receiving = recipient.receive(link, tmp_path / "out", "--auto", **secret)
    assert [process.end()[0] for process in (receiving, sending)] == [0, 0]
    (offer,) = (one for one in receiving.events if one["event"] == "offer")
    assert (offer["purpose"], offer["reason"]) == ("emergency", REASON)

    artefacts = {"server": log.read_bytes()}
    for peer in (sender, recipient):
        (receipt,) = peer.receipts()
        where = {kind: tmp_path / f"{peer.home.name}.{kind}" for kind in KINDS}
        commands = (
            ("audit", "export", where["jsonl"]),
            ("audit", "export", where["csv"]),
            ("audit", "export", "--format", "fhir", where["fhir"]),
            ("audit", "export", "--format", "dicom", where["dicom"]),
            ("audit", "export", "--format", "erds", where["erds"]),
            ("audit", "report", "--html", where["html"], "--disclosures", where["disclosures"]),
            ("audit", "report", "--csv", where["table"]),
            ("receipt", "show", receipt, "--html", where["receipt"]),
        )
        for command in commands:
            done = peer.run(*command)
            assert done.returncode == 0, done
        for path in (*where.values(), receipt, peer.home / "audit.jsonl"):
            artefacts[f"{peer.home.name} {path.name}"] = path.read_bytes()
        signed = [json.loads(line) for line in where["erds"].read_text().splitlines()]
        payloads = [decode_base64url(one["payload"]) for one in signed]
        assert len(payloads) == (3 if peer is sender else 2)
        artefacts[f"{peer.home.name} evidence"] = b"\n".join(payloads)
        told = [peer.run("audit", *words).stdout for words in (("list",), ("report",))]
        artefacts[f"{peer.home.name} output"] = "".join(told).encode()
        payload = decode_base64url(json.loads(receipt.read_bytes())["payload"])
        artefacts[f"{peer.home.name} payload"] = payload
        assert json.loads(payload)["purpose"] == "ETREAT"
        assert {one.get("purpose") for one in peer.audit() if one["event"] == "accepted"} == {
            "ETREAT"
        }
        annex = json.loads(next((peer.home / "annexes").iterdir()).read_text())
        assert annex["reason"] == REASON  # here, and nowhere else
        assert REASON in peer.run("receipt", "show", receipt).stdout
    assert "EMERGENCY" in artefacts["sender sender.html"].decode()
    rows = list(csv.reader(io.StringIO(artefacts["sender sender.disclosures"].decode())))
    assert rows[1][3] == "EMERGENCY treatment"

    planted = {FAMILY, GIVEN, NUMBER, REASON, PASSPHRASE, link, link.partition("#")[2]}
    planted |= {link.partition("#")[2][4:20]}
    found = [
        (name, text)
        for name, content in artefacts.items()
        for text in planted
        for spelling in spellings(text)
        if spelling in content
    ]
    assert found == []
    # What is looked for can be found: the annex has it.
    content = next((sender.home / "annexes").iterdir()).read_bytes()
    assert any(spelling in content for spelling in spellings(GIVEN))
