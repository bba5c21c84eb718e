"""Identity, contacts, receipts, the audit log and the server, in both languages."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2p import api
from p2p.api import Home
from p2p.connect.verify_web import Finding
from p2p.protocol.sentences import CATALOGUE

VECTORS = Path(__file__).parents[1] / "vectors"


def told(language, english, german):
    return german if language == "de" else english


def test_the_identity(line, language):
    assert line.run("identity", "set-label", "Klinik").stdout.split() == [
        told(language, "label", "Name"),
        "Klinik",
    ]
    label, fingerprint, key = line.run("identity", "show").stdout.splitlines()
    assert label.endswith(" Klinik")
    assert fingerprint.startswith(told(language, "fingerprint ", "Fingerabdruck "))
    assert key.startswith(told(language, "key ID ", "Schlüssel-ID "))


def test_a_label_that_cannot_be_used(line, language):
    done = line.run("identity", "set-label", "a\nb")
    assert done.exit_code == 1
    assert told(language, "This name cannot be used", "Dieser Name kann nicht") in done.stderr


def test_contacts(line, language):
    """None at first, and none by a name that nobody has."""
    assert line.run("contacts", "list").output == ""
    for arguments in (("rename", "Mary", "Eve"), ("remove", "Mary")):
        done = line.run("contacts", *arguments)
        assert done.exit_code == 1
        assert told(language, "no contact named Mary", "keinen Kontakt namens Mary") in done.stderr


def receipt(tmp_path, data=None):
    file = tmp_path / "receipt.json"
    file.write_text(data or json.loads((VECTORS / "receipt.json").read_text())[0]["receipt"])
    return file


def test_a_receipt(line, language, tmp_path):
    """The columns line up, whatever the language."""
    shown = line.run("receipt", "show", receipt(tmp_path)).stdout
    verified = line.run("receipt", "verify", receipt(tmp_path)).stdout
    rows = shown.splitlines()
    assert {row[12] for row in rows} == {" "}
    assert " " not in {row[13] for row in rows}
    assert verified == f"{shown}{CATALOGUE[language]['receipt']['proves']}\n"
    assert told(language, "1,000,010 bytes", "1.000.010 Bytes") in shown
    assert told(language, "outcome      complete", "Ergebnis     vollständig") in shown


def test_files_of_a_receipt(line, language, tmp_path, monkeypatch):
    """Each that is wrong, and why."""
    wrong = [("a", api.Detail("folder_missing")), ("b", api.Detail("enoent"))]
    monkeypatch.setattr(api, "compare_files", lambda found, files: wrong)
    done = line.run("receipt", "verify", receipt(tmp_path), "--files", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        told(language, "  a: the folder is missing", "  a: der Ordner fehlt"),
        told(language, "  b: no such file or folder", "  b: Datei oder Ordner nicht gefunden"),
        told(language, "Not as delivered: 2 entries.", "Nicht wie angekommen: 2 Einträge."),
    ]
    wrong.clear()
    done = line.run("receipt", "verify", receipt(tmp_path), "--files", tmp_path)
    assert done.exit_code == 0
    assert CATALOGUE[language]["receipt"]["unaltered"] in done.stdout


def test_a_receipt_that_is_none(line, language, tmp_path):
    done = line.run("receipt", "show", receipt(tmp_path, "{}"))
    assert done.exit_code == 1
    assert told(language, "not valid", "ungültig") in done.stderr
    done = line.run("receipt", "show", tmp_path / "none")
    assert told(language, "cannot be read", "Nicht lesbar") in done.stderr


def test_the_audit_log(line, language):
    """Its head, or the line that does not fit."""
    log = Home().audit
    for ending in ("complete", "declined"):
        log.append("transfer", {"role": "sender", "ending": ending, "bytes": 1})
    assert told(language, "2 entries, head ", "2 Einträge, ") in line.run("audit", "verify").stdout
    assert told(language, "declined", "abgelehnt") in line.run("transfers").stdout
    log.path.write_text(log.path.read_text().replace("complete", "declined", 1))
    done = line.run("audit", "verify")
    assert done.exit_code == 1
    assert told(language, "line 2: the line before it", "Zeile 2: die Zeile davor") in done.stderr


@pytest.mark.parametrize("verdict", ["same", "differs", "missing", "not shipped"])
def test_the_page_of_a_server(line, language, monkeypatch, verdict):
    async def found(url, ca):
        return [Finding("/", "same"), Finding("/x.js", verdict, "why")]

    monkeypatch.setattr(api, "verify_web", found)
    done = line.run("verify-web", "https://host.example")
    assert done.exit_code == (verdict != "same")
    sentences = CATALOGUE[language]["server"]
    assert done.stdout.splitlines()[1] == f"{sentences[verdict]:12} /x.js (why)"
    ending = "web_same" if verdict == "same" else "web_differs"
    assert sentences[ending].partition("{")[0] in done.stdout


def test_a_server_that_cannot_listen(line, language, monkeypatch):
    @asynccontextmanager
    async def serve(listen, tls, trusted):
        raise api.Failure("server_unreachable", api.Detail("eaddrinuse"))
        yield

    monkeypatch.setattr(api, "serve", serve)
    done = line.run("serve")
    assert done.exit_code == 1
    assert (
        told(language, "the port is already in use", "der Port ist bereits belegt") in done.stderr
    )


def test_the_local_authority(line, language, tmp_path):
    """Its certificate, what it is for, and who has to install it."""
    done = line.run("local-ca", "show", "--name", "pacs.local", "--export", tmp_path / "ca.crt")
    assert done.exit_code == 0
    assert (tmp_path / "ca.crt").exists()
    assert told(language, "certificate ", "Zertifikat ") in done.stdout
    assert CATALOGUE[language]["server"]["install"] in done.stdout
    done = line.run("local-ca", "show", "--export", tmp_path / "ca.crt")
    assert told(language, "(the file exists already)", "(die Datei existiert") in done.stderr
