"""Annexes sealed at rest, by the keyring of a desktop, and what becomes of them without it."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from p2p.api import annexes, seal_annexes
from p2p.state import sealing
from p2p.state.home import Home
from tests.e2e.test_privacy import spellings
from tests.keyrings import Hanging

from .harness import Peer

pytestmark = pytest.mark.process

PATIENT, REASON = "Müßiggang, Łucja", "Schlaganfall, Łucja wartet"
# A login, as far as secrets go: a session bus, and the keyring, which its password opens.
LOGIN = """
export HOME="$1" XDG_RUNTIME_DIR="$1/run"; shift; mkdir -p -m 700 "$XDG_RUNTIME_DIR"
printf 'password' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
exec "$@"
"""


@pytest.fixture
def logged_in(tmp_path):
    """Somebody at a desktop."""
    person = tmp_path / "person"
    person.mkdir(mode=0o700)
    login = ("dbus-run-session", "--", "sh", "-c", LOGIN, "login", str(person))
    peer = Peer(tmp_path / "desktop", prefix=login)
    yield peer
    peer.close()


@pytest.fixture
def elsewhere(logged_in):
    """The same data folder where nobody is logged in: by SSH, or from a backup."""
    peer = Peer(logged_in.home)
    yield peer
    peer.close()


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "source" / PATIENT
    folder.mkdir(parents=True)
    (folder / f"{PATIENT}.dcm").write_bytes(os.urandom(50_000))
    return folder


def transfer(sender, recipient, study, out):
    sending, link = sender.send("--auto", "--purpose", "emergency", "--reason", REASON, study)
    receiving = recipient.receive(link, out, "--auto")
    assert [process.end()[0] for process in (receiving, sending)] == [0, 0]


def named(folder):
    """Files of a data folder in which somebody is named."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        for text in (PATIENT, REASON)
        if any(one in path.read_bytes() for one in spellings(text))
    ]


def test_names_are_encrypted_on_the_disk_and_known_at_the_desktop(
    sender, third, logged_in, elsewhere, study, tmp_path
):
    out = tmp_path / "out"
    transfer(sender, logged_in, study, out)
    assert named(logged_in.home) == []
    assert len(named(sender.home)) == 2  # it has no keyring
    done = logged_in.run("receipt", "annexes")
    assert done.stdout.startswith("Annexes here: 1 sealed, 0 open.\nNew ones are sealed: ")
    (receipt,) = logged_in.receipts()
    done = logged_in.run("receipt", "show", receipt)
    assert f"{PATIENT}.dcm" in done.stdout
    assert REASON in done.stdout
    done = logged_in.run("receipt", "verify", receipt, "--files", out)
    assert done.returncode == 0, done.stderr
    assert logged_in.run("audit", "verify").returncode == 0

    # Without the keyring, everything else is told, and what is missing is said.
    done = elsewhere.run("receipt", "show", receipt)
    assert done.returncode == 0
    assert PATIENT not in done.stdout
    assert "The names are in the annex, which is sealed" in done.stderr
    done = elsewhere.run("receipt", "verify", receipt, "--files", out)
    assert done.returncode == 9
    assert "The files were not checked: the annex, which has their names, is sealed" in done.stderr
    kept = elsewhere.run("receipt", "annexes").stdout
    assert kept.startswith("Annexes here: 1 sealed, 0 open.\nNew ones are sealed, but the keyring")
    assert elsewhere.run("receipt", "annexes", "--seal").returncode == 1

    # An open copy is what others need.
    taken = tmp_path / "taken"
    taken.mkdir()
    shutil.copy(receipt, taken)
    copy = taken / "annex.json"
    done = logged_in.run("receipt", "annex", receipt, "--output", copy)
    assert done.returncode == 0
    assert done.stderr.endswith(f"Written: {copy}.\n")
    done = third.run("receipt", "verify", taken / receipt.name, "--files", out, "--annex", copy)
    assert done.returncode == 9  # whose keys these are, it does not know
    assert "every delivered file is unchanged" in done.stdout
    assert json.loads(copy.read_text())["reason"] == REASON
    assert logged_in.audit()[-1]["event"] == "exported"


def test_where_nobody_is_logged_in_new_annexes_are_sealed_all_the_same(
    sender, logged_in, elsewhere, study, tmp_path
):
    assert "New ones are sealed if" in logged_in.run("receipt", "annexes").stdout
    assert logged_in.run("receipt", "annexes", "--seal").returncode == 0
    transfer(sender, elsewhere, study, tmp_path / "out")
    assert named(logged_in.home) == []
    (receipt,) = logged_in.receipts()
    assert f"{PATIENT}.dcm" in logged_in.run("receipt", "show", receipt).stdout


def test_annexes_are_opened_and_sealed_again(sender, logged_in, study, tmp_path):
    transfer(sender, logged_in, study, tmp_path / "out")
    done = logged_in.run("receipt", "annexes", "--open")
    assert done.stdout.startswith("Annexes here: 0 sealed, 1 open.\nNew ones are not sealed")
    assert len(named(logged_in.home)) == 2
    assert "0 sealed, 1 open" in logged_in.run("receipt", "annexes").stdout  # and so it stays
    done = logged_in.run("receipt", "annexes", "--seal")
    assert done.stdout.startswith("Annexes here: 1 sealed, 0 open.")
    assert named(logged_in.home) == []
    (receipt,) = logged_in.receipts()
    assert REASON in logged_in.run("receipt", "show", receipt).stdout


def test_nothing_is_sealed_to_a_key_that_is_lost(sender, logged_in, elsewhere, study, tmp_path):
    """The keyring was reset, or the data folder is a copy on another computer."""
    transfer(sender, logged_in, study, tmp_path / "out")
    assert logged_in.run("receipt", "annexes", "--open").returncode == 0
    assert logged_in.run("receipt", "annexes", "--seal").returncode == 0
    logged_in.run("receipt", "annexes", "--open")
    assert logged_in.run("receipt", "annexes", "--seal").returncode == 0
    (receipt,) = logged_in.receipts()
    copy = tmp_path / "copy.json"
    logged_in.run("receipt", "annex", receipt, "--output", copy)
    shutil.rmtree(tmp_path / "person" / ".local" / "share" / "keyrings")
    assert "New ones are sealed, but" in logged_in.run("receipt", "annexes").stdout
    (annex,) = (logged_in.home / "annexes").iterdir()
    annex.write_bytes(copy.read_bytes())
    done = logged_in.run("receipt", "annexes", "--seal")  # with a new key
    assert (done.returncode, done.stdout.startswith("Annexes here: 1 sealed, 0 open.")) == (0, True)
    assert REASON in logged_in.run("receipt", "show", receipt).stdout
    noted = json.loads((logged_in.home / "annex-key.json").read_text())
    for other in (noted | {"public": "AAAA"}, {"public": 1}):
        (logged_in.home / "annex-key.json").write_text(json.dumps(other))
        assert "New ones are sealed if" in logged_in.run("receipt", "annexes").stdout
        assert logged_in.run("receipt", "annexes", "--seal").returncode == 0
    noted = json.loads((logged_in.home / "annex-key.json").read_text())
    (logged_in.home / "annex-key.json").write_text(json.dumps(noted | {"host": "another"}))
    assert "New ones are sealed: " in logged_in.run("receipt", "annexes").stdout  # a new name alone
    assert "New ones are sealed if" in elsewhere.run("receipt", "annexes").stdout
    assert logged_in.run("receipt", "annexes", "--seal").returncode == 0
    assert json.loads((logged_in.home / "annex-key.json").read_text()) == noted


def test_what_cannot_be_opened_holds_up_nothing_else(sender, logged_in, study, tmp_path):
    transfer(sender, logged_in, study, tmp_path / "out")
    annexes = logged_in.home / "annexes"
    (good,) = annexes.iterdir()
    foreign = json.loads(good.read_text()) | {"sealed_for": "A" * 43}
    text = json.dumps(foreign, separators=(",", ":"), sort_keys=True)
    (annexes / f"{'0' * 32}.annex.json").write_text(text)
    (annexes / f"{'1' * 32}.annex.json").mkdir()
    done = logged_in.run("receipt", "annexes", "--open")
    assert done.returncode == 1
    assert done.stdout.startswith("Annexes here: 1 sealed, 1 open.\nNew ones are not sealed")
    assert "00000000.annex.json was left as it is: the annex: it is sealed" in done.stderr
    assert "11111111.annex.json was left as it is: " in done.stderr
    assert PATIENT in good.read_text()


@pytest.mark.parametrize("kind", ["Forgetful", "Hanging", "Broken", "Open"])
def test_a_keyring_that_is_no_good_seals_nothing(sender, recipient, study, tmp_path, kind):
    """Names that nobody could read any more would be lost."""
    backend = {"PYTHON_KEYRING_BACKEND": f"tests.keyrings.{kind}"}
    sending, link = sender.send("--auto", study)
    receiving = recipient.receive(link, tmp_path / "out", "--auto", **backend)
    assert [process.end()[0] for process in (receiving, sending)] == [0, 0]
    assert len(named(recipient.home)) == 1
    if kind == "Hanging":
        return  # a person is given a minute
    done = recipient.run("receipt", "annexes", "--seal", **backend)
    assert done.returncode == 1
    assert "Nothing was sealed" in done.stderr
    (receipt,) = recipient.receipts()
    assert PATIENT in recipient.run("receipt", "show", receipt, **backend).stdout


@pytest.mark.parametrize("damage", ["box", "key", "cut"])
def test_a_sealed_annex_that_is_damaged_is_told(sender, logged_in, study, tmp_path, damage):
    transfer(sender, logged_in, study, tmp_path / "out")
    (annex,) = (logged_in.home / "annexes").iterdir()
    sealed = json.loads(annex.read_text())
    if damage == "box":
        sealed["box"] = sealed["box"][:100] + "AAAA" + sealed["box"][104:]
    elif damage == "key":
        sealed["sealed_for"] = "A" * 43
    text = json.dumps(sealed, separators=(",", ":"))
    annex.write_text(text[:-50] if damage == "cut" else text)
    (receipt,) = logged_in.receipts()
    done = logged_in.run("receipt", "verify", receipt, "--files", tmp_path / "out")
    assert done.returncode == (9 if damage == "key" else 1)
    assert ("The files were not checked" if damage == "key" else "Cannot read") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_keyring_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    """By a person's command as well, which then says what to do."""
    monkeypatch.setattr(sealing, "PATIENT", 0.2)
    monkeypatch.setattr(sealing, "BRIEF", 0.1)
    monkeypatch.setattr(sealing, "_keyring", Hanging)
    home = Home(tmp_path / "home")
    assert home.receipts.sealing.key() == b""
    assert seal_annexes(True, home).state == "locked"
    assert annexes(home).state == "undecided"
