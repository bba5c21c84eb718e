"""Receipts on another computer: with their annex and the files alone, and as a page."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2p.api import CATALOGUE, Home
from p2p.protocol.manifest import SALT, Entry, Manifest, Results, results_root
from tests.receipts import STRANGER, signed

TRANSFER = b"\x07" * 16
PLANTED = "Müller, Erika <1970>"  # as a patient's name stands in a path


@dataclass(frozen=True)
class Handed:
    """What somebody was handed: a receipt, its annex, and the files."""

    receipt: Path
    annex: Path
    files: Path
    home: Home  # where it was received


@pytest.fixture
def handed(tmp_path, monkeypatch):
    """Handed over by a computer that this one knows nothing of."""
    there = tmp_path / "there"
    home = Home(there)
    files = tmp_path / "files"
    (files / PLANTED).mkdir(parents=True)
    contents = {f"{PLANTED}/a.dcm": b"first", f"{PLANTED}/b.dcm": b"second"}
    for name, content in contents.items():
        (files / name).write_bytes(content)
    manifest = Manifest(
        tuple(Entry(name, "file", len(content), 0) for name, content in contents.items()),
        b"\x05" * SALT,
    )
    results = Results(len(contents))
    for index, content in enumerate(contents.values()):
        results.delivered(index, hashlib.sha256(content).digest())
    key = home.identity.load().key
    root = results_root(manifest, results)
    receipt = signed(STRANGER, key, transfer=TRANSFER, root=root)
    home.receipts.store(TRANSFER, receipt)
    home.receipts.store_annex(TRANSFER, manifest, results, {})
    (tmp_path / "study.receipt.json").write_bytes(receipt)
    annex = tmp_path / "study.annex.json"
    shutil.copy(home.receipts.annex_path(TRANSFER), annex)
    return Handed(tmp_path / "study.receipt.json", annex, files, home)


def test_the_annex_is_found_beside_the_receipt(line, handed, tmp_path):
    sentences = CATALOGUE["en"]["receipt"]
    verify = ("receipt", "verify", handed.receipt, "--files", handed.files)
    done = line.run(*verify)
    assert (done.exit_code, done.stderr) == (9, "")  # this computer knows nobody of them
    assert sentences["unaltered"] in done.stdout
    elsewhere = tmp_path / "names"
    handed.annex.rename(elsewhere)
    done = line.run(*verify)
    assert done.exit_code == 9
    assert done.stderr == sentences["not_checked"] + "\n"
    assert sentences["unaltered"] not in done.stdout
    assert sentences["shows_not"] in done.stdout  # what could be checked is told
    assert sentences["unaltered"] in line.run(*verify, "--annex", elsewhere).stdout
    # A copy of the whole data folder, as from a backup.
    stored = handed.home.receipts.path(TRANSFER)
    assert sentences["unaltered"] in line.run(*verify[:2], stored, *verify[3:]).stdout


def test_an_altered_file_and_an_altered_annex_are_told(line, handed, language):
    sentences = CATALOGUE[language]["receipt"]
    verify = ("receipt", "verify", handed.receipt, "--files", handed.files)
    (handed.files / PLANTED / "b.dcm").write_bytes(b"altered")
    done = line.run(*verify)
    assert done.exit_code == 1
    assert PLANTED in done.stderr
    annex = json.loads(handed.annex.read_text())
    annex["entries"].pop()
    handed.annex.write_text(json.dumps(annex))
    done = line.run(*verify)
    assert (done.exit_code, done.stderr) == (1, sentences["foreign_annex"] + "\n")
    disclosed = line.run("receipt", "disclose", handed.receipt, "--entry", f"{PLANTED}/a.dcm")
    assert (disclosed.exit_code, disclosed.stderr) == (1, sentences["foreign_annex"] + "\n")
    handed.annex.write_text("[" * 100_000)
    done = line.run(*verify)
    assert done.exit_code == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("by", [1, 2])
def test_a_receipt_becomes_a_page_with_names_only_if_asked(line, handed, language, tmp_path, by):
    sentences = CATALOGUE[language]["receipt"]
    if by == 1:
        manifest, results, _ = handed.home.receipts.annex(TRANSFER)
        root = results_root(manifest, results)
        key = handed.home.identity.load().key
        handed.receipt.write_bytes(signed(STRANGER, key, transfer=TRANSFER, root=root, by=1))
    page = tmp_path / "page.html"
    show = ("receipt", "show", handed.receipt, "--html", page)
    assert line.run(*show).exit_code == 0
    text = page.read_text()
    verdict = "both_unknown" if by == 2 else "one_unknown"
    for name in (f"valid_{verdict}", f"shows_{verdict}", "shows_not", "title", "meaning"):
        assert sentences[name] in text
    assert "Erika" not in text
    assert page.stat().st_mode & 0o077 == 0
    assert line.run(*show, "--names").exit_code == 0
    text = page.read_text()
    assert "Müller, Erika &lt;1970&gt;/a.dcm" in text
    assert "<1970>" not in text
    assert hashlib.sha256(b"first").hexdigest() in text
    handed.annex.unlink()
    done = line.run(*show, "--names")
    assert done.exit_code == 1  # they were asked for, and are not there
    assert "Traceback" not in done.stderr


def test_what_was_handed_over_is_in_the_log(line, handed, tmp_path):
    line.run("receipt", "show", handed.receipt, "--html", tmp_path / "page.html")
    line.run("receipt", "disclose", handed.receipt, "--entry", f"{PLANTED}/a.dcm")
    log = Home().audit.path.read_text()
    told = [json.loads(entry) for entry in log.splitlines()]
    assert [(one["event"], one["format"]) for one in told] == [
        ("exported", "html"),
        ("exported", "disclosure"),
    ]
    assert "Erika" not in log
    assert line.run("audit", "list", "--transfer", TRANSFER.hex()).stdout.count("\n") == 2
    assert line.run("audit", "verify").exit_code == 0


def test_a_key_of_ones_own_makes_a_page_that_is_fine(line, handed, tmp_path, monkeypatch):
    monkeypatch.setenv("HANDOVER_HOME", str(handed.home.path))
    page = tmp_path / "page.html"
    assert line.run("receipt", "show", handed.receipt, "--html", page).exit_code == 0
    assert '<p class="state">' in page.read_text()
    assert line.run("receipt", "verify", handed.receipt, "--files", handed.files).exit_code == 0
