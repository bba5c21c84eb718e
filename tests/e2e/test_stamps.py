"""Time stamps of receipts and of the audit log, by a real authority, and by one that is none."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

import pytest

from p2p.protocol.codec import decode_base64url, encode_base64url
from p2p.state.home import Home
from tests.authority import TimeStampAuthority
from tests.receipts import STRANGER, signed

pytestmark = pytest.mark.process

ONE = b"\x01" * 16


@pytest.fixture
def authority(tmp_path):
    one = TimeStampAuthority(tmp_path / "authority")
    yield one
    one.close()


@pytest.fixture
def home(sender):
    """With a transfer behind it."""
    made = Home(sender.home)
    identity = made.identity.load()
    head = made.audit.head()
    made.receipts.store(ONE, signed(identity.key, STRANGER, transfer=ONE, heads=(head, head)))
    members = {"role": "sender", "transfer_id": encode_base64url(ONE), "ending": "complete"}
    made.audit.append("transfer", members)
    return made


def stamped(peer, authority):
    trusted = ("--timestamp-ca", authority.root)
    done = peer.run("audit", "stamp", "--authority", authority.url, *trusted)
    return done.returncode, done.stdout + done.stderr


def verified(peer, authority):
    done = peer.run("audit", "verify", "--timestamp-ca", authority.root)
    return done.returncode, done.stdout + done.stderr


def test_the_log_and_its_receipts_are_stamped_once(sender, home, authority):
    code, told = verified(sender, authority)
    assert code == 0
    assert "The log has no time stamp that holds. Receipts with one that holds: 0." in told
    assert stamped(sender, authority) == (0, "Stamped: the log, 2 entries, and 1 receipt.\n")
    assert authority.asked == 2
    assert stamped(sender, authority) == (0, "Stamped: the log, 2 entries, and 0 receipts.\n")
    assert authority.asked == 2
    code, told = verified(sender, authority)
    assert code == 0
    assert (
        "by “Stamps of a test”, covers the first 2 of them. Receipts with a time stamp that holds: 1."
        in told
    )
    home.audit.append("log_read", {})
    assert stamped(sender, authority) == (0, "Stamped: the log, 3 entries, and 0 receipts.\n")
    assert "covers the first 3 of them" in verified(sender, authority)[1]


def test_openssl_says_the_same(sender, home, authority):
    assert stamped(sender, authority)[0] == 0
    receipt = home.receipts.path(ONE)
    (note,) = (home.path / "checkpoints").glob("*.checkpoint")
    text = home.path / "text"
    text.write_bytes(b"".join(note.read_bytes().splitlines(keepends=True)[:3]))
    for data, stamp in ((receipt, receipt), (text, note)):
        done = subprocess.run(
            (
                "openssl",
                "ts",
                "-verify",
                "-data",
                data,
                "-in",
                f"{stamp}.tsr",
                "-CAfile",
                authority.root,
                "-untrusted",
                authority.folder / "stamps.pem",
            ),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_a_receipt_is_verified_with_its_stamp_on_another_computer(
    sender, recipient, home, authority, tmp_path
):
    stamped(sender, authority)
    taken = tmp_path / "taken"
    shutil.copytree(home.receipts.folder, taken)
    (receipt,) = taken.glob("*.json")
    done = recipient.run("receipt", "verify", receipt)
    assert "there, not checked (--timestamp-ca)" in done.stdout
    done = recipient.run("receipt", "verify", receipt, "--timestamp-ca", authority.root)
    assert done.returncode == 9  # whose keys these are, it does not know
    assert "by “Stamps of a test”" in done.stdout
    (stamp,) = taken.glob("*.tsr")
    stamp.unlink()
    done = recipient.run("receipt", "verify", receipt, "--timestamp-ca", authority.root)
    assert done.returncode == 9
    assert "no time stamp beside" in done.stderr
    assert "annex" not in done.stderr


@pytest.mark.parametrize("damage", ["another", "flipped", "cut", "empty", "large", "root"])
def test_a_stamp_that_shows_nothing_is_told(sender, home, authority, tmp_path, damage):
    stamped(sender, authority)
    receipt = home.receipts.path(ONE)
    stamp = receipt.with_name(f"{receipt.name}.tsr")
    good = stamp.read_bytes()
    root = authority.root
    if damage == "another":
        shutil.copy(next((home.path / "checkpoints").glob("*.tsr")), stamp)
    elif damage == "root":
        other = TimeStampAuthority(tmp_path / "other")
        other.close()
        root = other.root
    else:
        content = {"flipped": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], "cut": good[:-20]}
        stamp.write_bytes(content.get(damage, b"" if damage == "empty" else bytes(100_000)))
    done = sender.run("receipt", "verify", receipt, "--timestamp-ca", root)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    if damage != "large":
        assert "Its time stamp shows nothing of it: " in done.stderr
        done = sender.run("audit", "verify", "--timestamp-ca", root)
        assert done.returncode == 1
        assert stamp.name in done.stderr
        assert "delete any other that does not hold" in done.stderr
        stamp.unlink()
    assert stamped(sender, authority)[0] == 0
    assert verified(sender, authority)[0] == 0


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, b""), ": status 500"),
        ((200, b""), "it is no time stamp that can be read"),
        ((200, b"<html>"), "it is no time stamp that can be read"),
        ((200, bytes(200_000)), "it is no time stamp that can be read"),
        ((302, b""), ": status 302"),
    ],
)
def test_an_authority_that_is_none_is_told(sender, home, authority, answer, why):
    authority.answers = [answer]
    code, told = stamped(sender, authority)
    assert code == 1
    assert why in told
    assert list(home.receipts.folder.glob("*.tsr")) == []


def test_a_stamp_of_something_else_is_not_taken(sender, home, authority):
    """Nor the stamp of an earlier question."""
    query = authority.folder / "other"
    authority.run(
        "openssl", "ts", "-query", "-data", "tsa.cnf", "-sha256", "-cert", "-out", query.name
    )
    authority.answers = [(200, authority.stamp(query.read_bytes()))]
    assert stamped(sender, authority)[0] == 1
    receipt = home.receipts.path(ONE)
    (authority.folder / "receipt").write_bytes(receipt.read_bytes())
    authority.run(
        "openssl", "ts", "-query", "-data", "receipt", "-sha256", "-cert", "-out", query.name
    )
    authority.answers = [(200, authority.stamp(query.read_bytes()))]
    assert stamped(sender, authority)[0] == 1  # by its nonce
    assert list(home.receipts.folder.glob("*.tsr")) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "ftp://host/",
        "host",
        "http://",
        "http://a:99999/",
        "http://[",
        "http://[x]/y",
    ],
)
def test_an_authority_that_is_not_there_is_told(sender, home, authority, url):
    done = sender.run("audit", "stamp", "--authority", url, "--timestamp-ca", authority.root)
    assert done.returncode == 1
    assert done.stderr.startswith("No time stamp: ")


def test_a_stamp_goes_with_what_it_is_of(sender, home, authority):
    assert stamped(sender, authority)[0] == 0
    done = sender.run("audit", "prune", "--before", "2999-01-01", "--yes")
    assert done.returncode == 0, done.stderr
    assert list(home.receipts.folder.glob("*.tsr")) == []


def test_evidence_of_delivery_has_a_stamp_of_its_signature(sender, home, authority, tmp_path):
    """As baseline B-T has it: of the characters of the signature."""
    file = tmp_path / "evidence"
    stamps = ("--authority", authority.url, "--timestamp-ca", authority.root)
    export = ("audit", "export", "--format", "erds", *stamps)
    done = sender.run(*export, file)
    assert (done.returncode, done.stderr) == (0, f"Exported 1 event to {file}.\n")
    (line,) = file.read_text().splitlines()
    document = json.loads(line)
    (encoded,) = document["header"]["etsiU"]
    (token,) = json.loads(decode_base64url(encoded))["sigTst"]["tstTokens"]
    (authority.folder / "token").write_bytes(base64.b64decode(token["val"]))
    (authority.folder / "signature").write_text(document["signature"])
    authority.run(
        *("openssl", "ts", "-verify", "-data", "signature", "-token_in", "-in", "token"),
        *("-CAfile", "root.pem", "-untrusted", "stamps.pem"),
    )
    authority.answers = [(500, b"")]
    other = tmp_path / "other"
    done = sender.run(*export, other)
    assert done.returncode == 1
    assert "No time stamp: status 500" in done.stderr
    assert not other.exists()


def test_a_stamp_for_which_nobody_vouches_is_not_taken(sender, home, authority, tmp_path):
    """Most authorities are asked by plain HTTP: anyone can answer in their place."""
    other = TimeStampAuthority(tmp_path / "other")
    try:
        trusted = ("--timestamp-ca", authority.root)
        done = sender.run("audit", "stamp", "--authority", other.url, *trusted)
    finally:
        other.close()
    assert done.returncode == 1
    assert "none of the certificates given vouches for it" in done.stderr
    assert list(home.receipts.folder.glob("*.tsr")) == []


@pytest.mark.parametrize("kind", ["folder", "large", "missing", "none", "twice"])
def test_files_that_are_odd_are_told(sender, home, authority, tmp_path, kind):
    stamped(sender, authority)
    receipt = home.receipts.path(ONE)
    stamp, root = receipt.with_name(f"{receipt.name}.tsr"), tmp_path / "root"
    root.write_bytes(authority.root.read_bytes() * (2 if kind == "twice" else 1))
    if kind in ("folder", "large"):
        stamp.unlink()
        stamp.mkdir() if kind == "folder" else stamp.write_bytes(bytes(70_000))
    elif kind == "missing":
        root.unlink()
    elif kind == "none":
        root.write_text("nothing")
    done = sender.run("audit", "verify", "--timestamp-ca", root)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if kind == "twice" else 1)
    if kind in ("missing", "none"):
        assert done.stderr.startswith("Cannot read the certificate")
    done = sender.run("receipt", "verify", receipt, "--timestamp-ca", root)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if kind == "twice" else 1)
    if kind == "folder":  # holds up nothing else
        home.audit.append("log_read", {})
        assert stamped(sender, authority)[0] == 0
