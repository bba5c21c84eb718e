"""Identity, contacts, receipts, the audit log and the server, in both languages."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from p2p import api
from p2p.api import Home
from p2p.connect.verify_web import Finding
from p2p.protocol.sentences import CATALOGUE
from tests.receipts import STRANGER, signed

OWN, OTHER, COMPARED = (SigningKey(bytes([one]) * 32) for one in b"\x61\x62\x63")
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
    done = line.run("identity", "set-label", "")
    assert told(language, "1 to 128 bytes", "1 bis 128 Bytes") in done.stderr
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


@pytest.mark.parametrize("file", ["identity.json", "contacts.json", "audit.jsonl"])
@pytest.mark.parametrize("data", ["", "[7]", "{}", "[" * 100_000])
def test_a_damaged_data_folder_is_a_sentence(line, language, file, data):
    """Of every command that needs it, and no traceback."""
    home = Home()
    home.identity.load()
    path = home.path / file
    path.write_text(data)
    path.chmod(0o600)
    for words in (
        ("identity", "show"),
        ("identity", "set-label", "x"),
        ("contacts", "list"),
        ("contacts", "remove", "x"),
        ("audit", "verify"),
        ("receipt", "verify", VECTORS / "receipt.json"),
        ("transfers",),
    ):
        done = line.run(*words)
        assert done.exception is None or isinstance(done.exception, SystemExit), words
        assert done.exit_code in (0, 1)
        assert len(done.output.splitlines()) <= 3


def receipt(tmp_path, data=None):
    file = tmp_path / "receipt.json"
    file.write_text(data or json.loads((VECTORS / "receipt.json").read_text())[0]["receipt"])
    return file


def file_of(tmp_path, *keys, **more):
    """A receipt of these keys, with a name that somebody gave it."""
    file = tmp_path / "receipt.json"
    file.write_bytes(signed(*keys, **more))
    return file


def test_a_receipt(line, language, tmp_path):
    """The columns line up, whatever the language, below the verdict."""
    sentences = CATALOGUE[language]["receipt"]
    shown = line.run("receipt", "show", receipt(tmp_path)).stdout
    verified = line.run("receipt", "verify", receipt(tmp_path)).stdout
    rows = shown.splitlines()
    assert {row[12] for row in rows} == {" "}
    assert " " not in {row[13] for row in rows}
    head, foot = sentences["valid_both_unknown"], sentences["shows_both_unknown"]
    assert verified == f"{head}\n{shown}{foot}\n{sentences['shows_not']}\n"
    assert told(language, "1,000,010 bytes", "1.000.010 Bytes") in shown
    assert told(language, "outcome      complete", "Ergebnis     vollständig") in shown


KNOWN = {"own": OWN, "contact": OTHER, "contact_compared": COMPARED, "unknown": STRANGER}


@pytest.mark.parametrize("by", [1, 2])
@pytest.mark.parametrize("sender", KNOWN)
@pytest.mark.parametrize("recipient", KNOWN)
def test_whose_keys_a_receipt_names_and_what_it_shows(
    line, language, tmp_path, sender, recipient, by
):
    """Who signed is known, or is not; and no label makes a key known."""
    home, sentences = acquainted(), CATALOGUE[language]["receipt"]
    labels = "Radiologie", "“Praxis”, own key"
    keys = KNOWN[sender], KNOWN[recipient]
    done = line.run("receipt", "verify", file_of(tmp_path, *keys, labels=labels, by=by))
    by_known = recipient != "unknown" or (by == 2 and sender != "unknown")
    verdict = f"{'both' if by == 2 else 'one'}{'' if by_known else '_unknown'}"
    assert done.exit_code == (4 if by == 1 else 0 if by_known else 9)
    assert done.stdout.startswith(sentences[f"valid_{verdict}"] + "\n")
    assert done.stdout.endswith(f"{sentences[f'shows_{verdict}']}\n{sentences['shows_not']}\n")
    assert done.stderr == ""
    for role, kind, key, label in (
        ("sender", sender, keys[0], "Radiologie"),
        ("recipient", recipient, keys[1], "'Praxis', own key"),
    ):
        contact, _ = home.contacts.known(bytes(key.verify_key), "")
        phrase = sentences[kind].format(
            fingerprint=api.fingerprint(bytes(key.verify_key)),
            label=label,
            contact=contact and contact.name,
        )
        assert f"{sentences[role]:12} {phrase}\n" in done.stdout


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize("role", [0, 1])
@pytest.mark.parametrize("label", ["Klinik", "KLINIK ", "Klinik\u0020"])
def test_a_label_of_a_contact_with_another_key_is_a_warning(
    line, language, tmp_path, role, label, command
):
    """Of whoever signed it, loud and by itself."""
    acquainted()
    labels = ["x", "y"]
    labels[role] = label
    done = line.run("receipt", command, file_of(tmp_path, STRANGER, STRANGER, labels=labels))
    sentences = CATALOGUE[language]["receipt"]
    warning = sentences["posing"].format(
        role=sentences[("sender", "recipient")[role]], label=label, contact="Klinik"
    )
    assert done.stderr == f"{warning}\n"


def acquainted():
    """This machine with its key, and two contacts."""
    home = Home()
    home.path.joinpath("identity.json").write_text(
        json.dumps({"seed": api.encode_base64url(bytes(OWN)), "label": "Radiologie"})
    )
    home.path.joinpath("identity.json").chmod(0o600)
    home.contacts.pin(bytes(OTHER.verify_key), "Klinik", False)
    home.contacts.pin(bytes(COMPARED.verify_key), "Praxis Dr. Ä", True)
    return home


def test_files_of_a_receipt(line, language, tmp_path, monkeypatch):
    """Each that is wrong, and why."""
    wrong = [("a", api.Detail("folder_missing")), ("b", api.Detail("enoent"))]
    monkeypatch.setattr(api, "has_annex", lambda found: True)
    monkeypatch.setattr(api, "compare_files", lambda found, files, annex_file: wrong)
    done = line.run("receipt", "verify", receipt(tmp_path), "--files", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        told(language, "  a: the folder is missing", "  a: der Ordner fehlt"),
        told(language, "  b: no such file or folder", "  b: Datei oder Ordner nicht gefunden"),
        told(language, "Not as delivered: 2 entries.", "Nicht wie angekommen: 2 Einträge."),
    ]
    wrong.clear()
    done = line.run("receipt", "verify", receipt(tmp_path), "--files", tmp_path)
    assert done.exit_code == 9
    assert CATALOGUE[language]["receipt"]["unaltered"] in done.stdout


INVALID = [
    one["receipt"]
    for one in json.loads((VECTORS / "receipt.json").read_text())
    if "error" in one["expect"]
]


@pytest.mark.parametrize("data", ["{}", *INVALID], ids=range(1 + len(INVALID)))
def test_a_receipt_that_is_not_valid(line, tmp_path, data):
    """That is the first word, and nothing else of it is shown."""
    file = tmp_path / "receipt.json"
    file.write_bytes(data.encode("latin-1"))
    for command in ("show", "verify"):
        done = line.run("receipt", command, file)
        assert done.exit_code == 1
        assert done.output.startswith("Not valid: ")
        assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("size", [0, 16384 * 4 + 1, 40 * 10**9])
def test_a_receipt_that_is_none(line, language, tmp_path, size):
    """Empty, or larger than one can be: it is not read whole."""
    file = receipt(tmp_path, "{}")
    os.truncate(file, size)
    done = line.run("receipt", "verify", file)
    assert done.exit_code == 1
    assert done.stdout.startswith(told(language, "Not valid: ", "Nicht gültig: "))


@pytest.mark.parametrize("path", ["none", "pipe", "."])
def test_a_file_that_is_no_ordinary_one(line, language, tmp_path, path):
    """It is said at once, and why."""
    os.mkfifo(tmp_path / "pipe")
    done = line.run("receipt", "show", tmp_path / path)
    assert done.exit_code == 1
    assert told(language, "Cannot read", "Nicht lesbar") in done.stderr


def test_the_audit_log(line, language):
    """That it holds, and its head; or the line that does not fit."""
    log = Home().audit
    for ending in ("complete", "declined"):
        log.append("transfer", {"role": "sender", "ending": ending, "bytes": 1})
    sentences, done = CATALOGUE[language]["receipt"], line.run("audit", "verify")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1] == sentences["audit_alone"]
    assert told(language, "is intact: 2 entries, head ", "unversehrt: 2 Einträge, ") in done.stdout
    assert told(language, "declined", "abgelehnt") in line.run("transfers").stdout
    log.path.write_text(log.path.read_text().replace("complete", "declined", 1))
    done = line.run("audit", "verify")
    assert done.exit_code == 1
    assert told(language, "line 2: the line before it", "Zeile 2: die Zeile davor") in done.stderr


def test_an_audit_log_in_a_file(line, language, tmp_path):
    """One that was saved elsewhere: its chain, and no more is claimed of it."""
    Home().audit.append("transfer", {"role": "sender"})
    file = tmp_path / "saved.jsonl"
    file.write_bytes(Home().audit.path.read_bytes())
    Home().audit.path.unlink()
    sentences, done = CATALOGUE[language]["receipt"], line.run("audit", "verify", str(file))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1:] == [sentences["audit_file_alone"]]
    file.write_bytes(file.read_bytes().replace(b"sender", b"sander") * 2)
    done = line.run("audit", "verify", str(file))
    assert done.exit_code == 1
    assert f"{file}, " in done.stderr
    done = line.run("audit", "verify", str(tmp_path))
    assert done.exit_code == api.EXIT_CODES[api.Ending.FAILED]
    assert done.stdout == ""


def test_the_audit_log_beside_receipts(line, language):
    """How many it agrees with, or those it contradicts; at most ten of them by name."""
    home = Home()
    own, sentences = home.identity.load().key, CATALOGUE[language]["receipt"]
    for number in range(12):
        transfer = bytes([number]) * 16
        heads = home.audit.head(), "e" * 64
        home.receipts.store(transfer, signed(own, STRANGER, transfer=transfer, heads=heads))
        home.audit.append("transfer", {"transfer_id": api.encode_base64url(transfer)})
        done = line.run("audit", "verify")
        assert done.exit_code == 0
        told = sentences["audit_fixed"].format(count=number + 1, number=number + 1)
        assert done.stdout.splitlines()[1] == told
    home.audit.path.unlink()
    done = line.run("audit", "verify")
    assert done.exit_code == 1
    assert done.stdout == ""
    rows = done.stderr.splitlines()
    assert rows[0] == sentences["audit_missing"].format(path=home.audit.path)
    assert rows[1].startswith(f"  {'00' * 16}.receipt.json: ")
    assert rows[11] == sentences["more"].format(count=2)
    assert len(rows) == 13
    home.audit.append("transfer", {})
    done = line.run("audit", "verify")
    assert done.stderr.startswith(sentences["audit_misfits"].format(path=home.audit.path))


@pytest.mark.parametrize("verdict", ["same", "differs", "missing", "not shipped"])
def test_the_page_of_a_server(line, language, monkeypatch, verdict):
    async def found(url, ca, proxy):
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
    async def serve(*given, **named):
        raise api.Failure("cannot_listen", api.Detail("eaddrinuse"))
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


@pytest.mark.parametrize(
    ("words", "english", "german"),
    [
        (("turn:a.example",), "turn:a.example needs", "turn:a.example erfordert"),
        (("nonsense",), "nonsense is not the URL", "nonsense ist nicht die URL"),
        (("stun:a",) * 9, "at most 8", "höchstens 8"),
        (("stun:a", "secret"), "No secret can be read from", "kein Geheimnis lesen"),
    ],
)
def test_servers_that_cannot_be_told_of_are_said_at_the_start(
    line, language, tmp_path, words, english, german
):
    given = [word for url in words if url != "secret" for word in ("--ice", url)]
    if "secret" in words:
        (tmp_path / "empty").write_bytes(b"\n")
        given += ["--turn-secret-file", str(tmp_path / "empty")]
    done = line.run("serve", *given)
    assert done.exit_code == 2
    assert told(language, english, german) in done.stderr


def test_relays_that_firefox_cannot_use_are_named_at_the_start(line, language, tmp_path):
    (tmp_path / "secret").write_bytes(b"one\n")
    turns = ("turns:192.0.2.1:443", "turns:turn.example:443", "turns:[2001:db8::1]")
    given = [word for url in turns for word in ("--ice", url)]
    given += ["--turn-secret-file", str(tmp_path / "secret")]
    done = line.run("serve", "--listen", "192.0.2.1:443", *given)  # of another machine: it ends
    assert done.exit_code == 1
    for url, named in zip(turns, (True, False, True), strict=True):
        assert (told(language, f"cannot use {url}.", f"kann {url} nicht") in done.stderr) is named
