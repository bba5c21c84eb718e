"""Damaged and odd files in the data folder: each is told in a sentence, at once, and stays."""

from __future__ import annotations

import json
import os
import socket

import pytest

from p2p.connect.certificates import local_authority, tls_from_files
from p2p.protocol.audit import BadLine
from p2p.protocol.codec import encode_base64url
from p2p.protocol.errors import Failure, PeerError
from p2p.protocol.manifest import Entry, Manifest, Results
from p2p.state.home import Home
from p2p.state.journal import WAITED_SECONDS, Journal, Journals, RecipientRecord, SenderRecord
from p2p.storage import strict
from p2p.transfer.options import Options
from p2p.transfer.outcome import Summary
from p2p.transfer.sender import SenderTransfer
from signaling import certificates

TRANSFER = b"\x11" * 16
KEY = encode_base64url(bytes(32))
HUGE = 40 * 10**9


@pytest.fixture
def home(tmp_path):
    """One in which everything is there."""
    made = Home(tmp_path / "home")
    made.identity.load()
    made.contacts.pin(b"\x02" * 32, "Klinik", verified=False)
    results = Results(1)
    results.delivered(0, b"\x03" * 32)
    manifest = Manifest((Entry("a", "file", 3, 5),), b"\x09" * 32)
    made.receipts.store_annex(TRANSFER, manifest, results, {})
    made.audit.append("transfer", {"role": "sender", "ending": "complete"})
    record = RecipientRecord(
        transfer_id=TRANSFER,
        link=f"http://192.0.2.1:8080/#1.{KEY}.{encode_base64url(bytes(16))}",
        identity=b"\x22" * 32,
        manifest_sha256=b"\x44" * 32,
        began="2026-11-25T12:00:00.000Z",
        output=os.fsencode(tmp_path / "out"),
    )
    journal = Journal(Journals(made).path(record), record)
    Journals(made).begin(journal, b"the manifest")
    journal.write()
    journal.release()
    return made


def bound_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def replaced(make):
    def odd(path):
        path.unlink()
        make(path)

    return odd


ODD = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(500)),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "not UTF-8": lambda path: path.write_bytes(b'"\xff"'),
    "number": lambda path: path.write_bytes(b"7"),
    "null": lambda path: path.write_bytes(b"null"),
    "list": lambda path: path.write_bytes(b"[7]"),
    "object": lambda path: path.write_bytes(b'{"a":7}'),
    "text": lambda path: path.write_bytes(b'"x"'),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "deep objects": lambda path: path.write_bytes(b'{"a":' * 100_000),
    "lone surrogate": lambda path: path.write_bytes(b'["\\ud800"]'),
    "float": lambda path: path.write_bytes(b"[1.5]"),
    "many digits": lambda path: path.write_bytes(b"9" * 10_000),
    "pipe": replaced(os.mkfifo),
    "folder": replaced(os.mkdir),
    "socket": replaced(bound_socket),
    "device": replaced(lambda path: path.symlink_to("/dev/zero")),
    "link": lambda path: (path.rename(f"{path}.x"), path.symlink_to(f"{path}.x")),
    "huge": lambda path: os.truncate(path, HUGE),
    "writable": lambda path: path.chmod(0o666),
}
READ = {
    "identity.json": lambda home: home.identity.load(),
    "contacts.json": lambda home: home.contacts.known(b"\x02" * 32, "x"),
    f"annexes/{TRANSFER.hex()}.annex.json": lambda home: home.receipts.annex(TRANSFER),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", READ)
def test_what_cannot_be_read_is_told_and_stays(home, name, odd):
    """Whatever lies there instead."""
    path = home.path / name
    ODD[odd](path)
    before = os.lstat(path)
    with pytest.raises(Failure) as caught:
        READ[name](home)
    assert caught.value.code == ("exposed" if odd == "writable" else "not_readable")
    assert str(path) in caught.value.sentence
    assert "Traceback" not in caught.value.sentence_in("de")
    assert os.lstat(path)[:7] == before[:7]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("odd", ["pipe", "folder", "socket", "device", "link", "writable"])
@pytest.mark.parametrize(
    "use",
    [
        lambda log: log.head(),
        lambda log: log.verify(),
        lambda log: log.recent("transfer", 3),
        lambda log: log.append("transfer", {}),
    ],
    ids=["head", "verify", "recent", "append"],
)
def test_a_log_that_is_no_ordinary_file_is_told(home, odd, use):
    ODD[odd](home.audit.path)
    with pytest.raises(Failure) as caught:
        use(home.audit)
    assert str(home.audit.path) in caught.value.sentence


@pytest.mark.timeout(20)
@pytest.mark.parametrize("odd", [one for one in ODD if one not in ("empty", "writable")])
def test_a_log_that_is_damaged_is_no_traceback(home, odd):
    """What can be shown of it is shown, and it does not hold."""
    ODD[odd](home.audit.path)
    with pytest.raises((BadLine, Failure)):
        home.audit.verify()
    if not home.audit.path.is_symlink() and home.audit.path.is_file():
        home.audit.recent("transfer", 10)
        home.audit.head()


@pytest.mark.parametrize(
    "members",
    [
        {"time": 7}, {"time": ["x"]}, {"role": None}, {"role": {}}, {"ending": 1}, {"bytes": "x"},
        {"bytes": -1}, {"ending": "x" * 99},
    ],
)  # fmt: skip
def test_an_entry_of_wrong_types_is_not_shown(home, members):
    before = home.audit.recent("transfer", 10)
    entry = {"seq": 2, "time": "", "event": "transfer", "prev": "", **members}
    with open(home.audit.path, "ab") as log:
        log.write(json.dumps(entry).encode() + b"\n")
    assert len(before) == 1
    assert home.audit.recent("transfer", 10) == before


WRONG = [None, 7, -1, True, "", "x", [], {}, ["x"], {"x": 1}, "x" * 5000]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("member", ["seed", "label"])
def test_an_identity_of_wrong_types(home, member, value):
    path = home.path / "identity.json"
    stored = json.loads(path.read_bytes())
    if member == "label" and value in ("", "x"):
        value = None
    path.write_text(json.dumps({**stored, member: value}))
    with pytest.raises(Failure):
        home.identity.load()


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("member", ["name", "identity", "first_met", "verified"])
def test_contacts_of_wrong_types(home, member, value):
    path = home.path / "contacts.json"
    (stored,) = json.loads(path.read_bytes())
    if {**stored, member: value} == stored or (member, value) in (
        ("name", "x"),
        ("first_met", "x"),
        ("verified", True),
    ):
        value = None
    path.write_text(json.dumps([{**stored, member: value}]))
    with pytest.raises(Failure):
        home.contacts.all()


@pytest.mark.parametrize("member", ["name", "identity"])
def test_two_contacts_of_one_name_or_key(home, member):
    """One of them would be lost without a word."""
    path = home.path / "contacts.json"
    (stored,) = json.loads(path.read_bytes())
    other = {**stored, "name": "Praxis", "identity": KEY, member: stored[member]}
    path.write_text(json.dumps([stored, other]))
    with pytest.raises(Failure):
        home.contacts.all()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o606, 0o666, 0o620, 0o602, 0o777])
def test_a_key_that_others_can_get_at_is_refused_with_what_mends_it(home, mode):
    """The command is the sentence's, and then it is read again."""
    path = home.path / "identity.json"
    path.chmod(mode)
    with pytest.raises(Failure) as caught:
        home.identity.load()
    assert caught.value.code == "exposed"
    assert f"chmod 600 {path}" in caught.value.sentence
    assert f"chmod 600 {path}" in caught.value.sentence_in("de")
    path.chmod(0o600)
    home.identity.load()


def test_a_file_of_another_user_is_refused(home, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Failure, match="another user"):
        home.identity.load()


def test_where_files_have_no_owner_nothing_is_asked(home, monkeypatch):
    """As on Windows."""
    (home.path / "identity.json").chmod(0o666)
    monkeypatch.delattr(os, "geteuid")
    home.identity.load()


def test_what_grows_while_it_is_read_is_not_read_for_ever(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    path.chmod(0o600)
    monkeypatch.setattr(strict, "READ_AT_ONCE", 10)
    assert len(strict.read_strictly(path, 100)) == 100
    size, real = iter([50, 50]), os.fstat

    def smaller(file):
        found = list(real(file))
        found[6] = next(size, 50)
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", smaller)
    with pytest.raises(OSError, match="too large"):
        strict.read_strictly(path, 60)


def test_a_lock_that_cannot_be_had_is_told(home):
    (home.path / ".lock").unlink()
    (home.path / ".lock").mkdir()
    for use in (
        lambda: home.identity.set_label("x"),
        home.audit.head,
        lambda: home.audit.append("x", {}),
    ):
        with pytest.raises(Failure) as caught:
            use()
        assert caught.value.code == "home_unwritable"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("odd", ODD)
def test_a_damaged_journal_is_listed_and_erases_nothing_by_itself(home, tmp_path, odd, both):
    """However long ago it was, and whether or not it is known how it began."""
    path = Journals(home).path(RecipientRecord(TRANSFER))
    parts = tmp_path / "out" / f".handover-{TRANSFER.hex()[:16]}.part"
    parts.mkdir(parents=True)
    for name in ["journal.json", *(["begun"] if both else [])]:
        ODD[odd](path / name)
        if odd not in ("device", "socket"):
            os.utime(path / name, (0, WAITED_SECONDS), follow_symlinks=False)
    os.utime(path, (0, 0))
    Journals(home).tidy()
    (found,) = Journals(home)
    assert found.damaged
    assert found.short_id == "11111111"
    assert path.exists()
    assert parts.exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("odd", ["pipe", "folder", "socket", "device", "link", "writable", "huge"])
@pytest.mark.parametrize("name", ["manifest", "sources", "results", "marks"])
def test_other_files_of_a_journal_are_read_strictly(home, name, odd):
    (journal,) = Journals(home)
    journal.store(name, b"")
    ODD[odd](journal.path / name)
    with pytest.raises((OSError, PeerError), match=r"."):
        journal.sources() if name == "sources" else journal.read(name)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("odd", ["pipe", "folder", "socket", "device", "link", "writable"])
def test_running_digests_go_into_an_ordinary_file_alone(home, tmp_path, odd):
    """A pipe that nobody reads would be waited for, and a link leads elsewhere."""
    (journal,) = Journals(home)
    journal.append_mark(0, bytes(32))
    ODD[odd](journal.path / "marks")
    with pytest.raises(OSError, match=r"."):
        journal.append_mark(1, bytes(32))


def walk_nothing(warn, stopped):
    raise AssertionError


UNREADABLE = ["pipe", "folder", "socket", "device", "link", "writable", "huge"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_receipt_is_told_where_it_is_needed_and_damaged_it_is_none(home, odd):
    """Both sides look whether theirs was signed by both when an earlier process died."""
    home.receipts.store(TRANSFER, b"{}")
    path = home.receipts.path(TRANSFER)
    ODD[odd](path)
    sender = SenderTransfer(Options(home), SenderRecord(TRANSFER), walk_nothing)
    unreadable = odd in (*UNREADABLE, "deep", "deep objects")  # these are too large
    if unreadable:
        for look in (lambda: home.receipts.read(TRANSFER), sender.confirmed_before):
            with pytest.raises(Failure) as caught:
                look()
            assert caught.value.code == ("exposed" if odd == "writable" else "not_readable")
            assert str(path) in caught.value.sentence
            assert str(path) in caught.value.sentence_in("de")
    else:
        assert home.receipts.read(TRANSFER) is None
        assert not sender.confirmed_before()
    told = Summary(transfer_id=TRANSFER, receipt=path).members()
    assert ("receipt_sha256" in told) is not unreadable


@pytest.mark.timeout(20)
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", [certificates.KEY, certificates.CERTIFICATE])
def test_an_odd_local_authority_is_told(home, name, odd):
    """Its key no other user may read; and it is not replaced by another."""
    local_authority(home.local_ca)
    path = home.local_ca / name
    ODD[odd](path)
    before = os.lstat(path)
    with pytest.raises(Failure) as caught:
        local_authority(home.local_ca)
    codes = {"writable": "exposed"} | dict.fromkeys(set(UNREADABLE) - {"writable"}, "not_readable")
    assert caught.value.code == codes.get(odd, "local_ca_unusable")
    assert str(home.local_ca) in caught.value.sentence_in("de")
    assert os.lstat(path)[:7] == before[:7]


def test_a_key_of_the_local_authority_that_others_can_read_is_refused(home):
    local_authority(home.local_ca)
    (home.local_ca / certificates.KEY).chmod(0o640)
    with pytest.raises(Failure) as caught:
        local_authority(home.local_ca)
    assert f"chmod 600 {home.local_ca / certificates.KEY}" in caught.value.sentence


@pytest.mark.timeout(20)
@pytest.mark.parametrize("odd", [one for one in ODD if one not in ("link", "writable")])
@pytest.mark.parametrize("which", ["certificate", "key"])
def test_odd_certificate_files_are_told(tmp_path, which, odd):
    """They may be links and others may own them, as system services have it."""
    authority = certificates.open_authority(tmp_path / "ca", [], [])
    files = {"certificate": tmp_path / "chain.pem", "key": tmp_path / "key.pem"}
    chain, begin, key = authority.issue([], []).pem.partition(b"-----BEGIN PRIVATE")
    (tmp_path / "elsewhere").write_bytes(chain)
    files["certificate"].symlink_to(tmp_path / "elsewhere")
    files["key"].write_bytes(begin + key)
    assert "localhost" in tls_from_files(**files).hosts
    files["certificate"].unlink()
    (tmp_path / "elsewhere").rename(files["certificate"])
    files["certificate"].chmod(0o666)
    ODD[odd](files[which])
    with pytest.raises(Failure) as caught:
        tls_from_files(**files)
    assert caught.value.code == "certificate_unusable"


@pytest.mark.parametrize("member", ["output", "began", "renamed", "gone"])
@pytest.mark.parametrize(
    "value", ["AAAA", "\x1b[2J", [[{}, 1]], [-1], 7, {}, ["x"], "2026-13-45T99:99:99Z"], ids=repr
)
def test_a_journal_of_wrong_types_is_damaged(home, member, value):
    path = Journals(home).path(RecipientRecord(TRANSFER)) / "journal.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), member: value}))
    (found,) = Journals(home)
    assert found.damaged
