"""A log that another machine vouches for, and what is left of one when its oldest part has gone."""

from __future__ import annotations

import os

import pytest
from nacl.signing import SigningKey

from p2p.protocol.audit import BadLine, line_hash, make_base
from p2p.protocol.checkpoint import BadCheckpoint, Tree, cosign, decode, encode_request
from p2p.protocol.codec import encode_base64url
from p2p.protocol.errors import Failure
from p2p.protocol.manifest import SALT, Entry, Manifest, Results
from p2p.protocol.sentences import Detail
from p2p.state import audit, retention, witness
from p2p.state.evidence import check_log
from p2p.state.home import Home
from tests.receipts import signed

from .test_journal import begun, recipient

OTHER = SigningKey(b"\x21" * 32)
TIME = 1_700_000_000


@pytest.fixture
def clock(monkeypatch):
    """A year passes from one transfer to the next."""
    now = [2020]
    monkeypatch.setattr(audit, "now_text", lambda: f"{now[0]}-06-01T00:00:00.000Z")
    return now


def transfer(home, number):
    """One that was received, as far as log, receipt and annex tell."""
    identity, name = home.identity.load(), bytes([number]) * 16
    members = {"transfer_id": encode_base64url(name), "role": "recipient"}
    home.audit.append("accepted", members)
    receipt = signed(OTHER, identity.key, transfer=name, heads=("0" * 64, home.audit.head()))
    manifest = Manifest((Entry("a", "directory", 0, 0),), bytes(SALT))
    home.receipts.store(name, receipt)
    home.receipts.store_annex(name, manifest, Results(1), {})
    home.audit.append("transfer", members | {"ending": "complete"})


@pytest.fixture
def home(tmp_path, clock):
    """Five transfers in five years."""
    made = Home(tmp_path / "home")
    for number in range(1, 6):
        transfer(made, number)
        clock[0] += 1
    return made


def left(home):
    return [found.payload["transfer_id"][0] for _, found in home.receipts.all()]


def test_what_is_old_goes_and_what_is_left_holds(home, clock):
    before = check_log(home)
    assert (before.lines, before.receipts, before.misfits) == (11, 5, ())
    old = retention.prune(home, "2023-01-01T00:00:00.000Z")
    assert (old.until, old.lines, len(old.transfers)) == (7, 7, 3)
    after = check_log(home)
    assert (after.lines, after.receipts, after.pruned, after.misfits) == (12, 2, 7, ())
    assert left(home) == [4, 5]
    assert len(list((home.path / "annexes").iterdir())) == 2
    assert retention.prune(home, "2023-01-01T00:00:00.000Z").lines == 0
    clock[0] = 2026
    transfer(home, 6)
    old = retention.prune(home, "2025-06-01T00:00:00.000Z")
    assert (old.until, len(old.transfers)) == (11, 2)
    after = check_log(home)
    assert (after.lines, after.receipts, after.pruned, after.misfits) == (15, 1, 11, ())
    assert left(home) == [6]


def test_what_a_receipt_refers_to_stays(home, clock):
    """One that was begun before that day, and has ended since."""
    members = {"transfer_id": encode_base64url(b"\x09" * 16), "role": "recipient"}
    head = home.audit.head()
    home.receipts.store(
        b"\x09" * 16,
        signed(OTHER, home.identity.load().key, transfer=b"\x09" * 16, heads=("0" * 64, head)),
    )
    clock[0] = 2030
    home.audit.append("transfer", members | {"ending": "complete"})
    old = retention.find_old(home, "2030-01-01T00:00:00.000Z")
    assert (old.until, len(old.transfers)) == (11, 5)
    retention.prune(home, "2030-01-01T00:00:00.000Z")
    assert check_log(home).misfits == ()


def test_what_an_unfinished_transfer_may_refer_to_stays(home):
    """It is to be taken up, and its receipt names a head of before."""
    begun(home, recipient(home.path, began="2022-01-01T00:00:00.000Z"))
    assert retention.find_old(home, "2026-01-01T00:00:00.000Z").until == 5


def test_a_log_that_does_not_hold_is_not_tidied_away(home):
    lines = home.audit.path.read_bytes().splitlines(keepends=True)
    home.audit.path.write_bytes(b"".join(lines[:5]))
    with pytest.raises(Failure, match="audit log"):
        retention.prune(home, "2026-01-01T00:00:00.000Z")
    home.audit.path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(BadLine):
        retention.prune(home, "2026-01-01T00:00:00.000Z")
    assert left(home) == [1, 2, 3, 4, 5]


class Crash(BaseException):
    """The power goes."""


@pytest.mark.parametrize("at", range(14))
def test_a_crash_at_any_step_leaves_what_holds_and_can_be_pruned(home, monkeypatch, at):
    left_steps = [at]

    def counted(real):
        def step(*arguments, **more):
            left_steps[0] -= 1
            if left_steps[0] < 0:
                raise Crash
            return real(*arguments, **more)

        return step

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "unlink"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            retention.prune(home, "2023-01-01T00:00:00.000Z")
        except Crash:
            assert left_steps[0] < 0
        else:
            assert at > 8
    assert check_log(home).misfits == ()
    retention.prune(home, "2023-01-01T00:00:00.000Z")
    found = check_log(home)
    assert (found.pruned, found.misfits, left(home)) == (7, (), [4, 5])


def test_a_witness_cosigns_what_has_only_grown(home, tmp_path, clock):
    other = Home(tmp_path / "witness")
    request = witness.make_request(home)
    note, owner, first = witness.cosign_request(other, request, TIME)
    assert first
    assert owner == home.identity.load().public
    mine = other.identity.load().public
    assert witness.keep_cosigned(home, note, trust=False) == ([], [mine])
    assert check_log(home).witnessed == 0  # anyone can make a key
    assert witness.keep_cosigned(home, note, trust=True) == ([mine], [])
    assert check_log(home).witnessed == 11
    transfer(home, 6)
    again, _, first = witness.cosign_request(other, witness.make_request(home), TIME)
    assert not first
    witness.keep_cosigned(home, again, trust=False)
    assert check_log(home).witnessed == 13
    # The same once more: a crash may have cost the answer.
    repeated = encode_request(13, [], decode(again.encode()))
    assert witness.cosign_request(other, repeated, TIME)[0].checkpoint == again.checkpoint
    with pytest.raises(BadCheckpoint) as caught:
        witness.cosign_request(other, request, TIME)
    assert caught.value.reason.code == "checkpoint_since"


def test_a_witness_refuses_a_log_that_was_rewritten(home, tmp_path):
    """Whoever has the key and the folder can make a log that holds; the witness saw another."""
    other = Home(tmp_path / "witness")
    note, _, _ = witness.cosign_request(other, witness.make_request(home), TIME)
    witness.keep_cosigned(home, note, trust=True)
    forged = Home(tmp_path / "forged")
    (forged.path / "identity.json").write_bytes((home.path / "identity.json").read_bytes())
    os.chmod(forged.path / "identity.json", 0o600)
    for number in range(9, 16):
        transfer(forged, number)
    assert check_log(forged).misfits == ()
    with pytest.raises(BadCheckpoint) as caught:
        witness.cosign_request(other, witness.make_request(forged, 11), TIME)
    assert caught.value.reason.code == "checkpoint_inconsistent"
    with pytest.raises(BadCheckpoint):  # nor does its checkpoint fit the forged log
        witness.keep_cosigned(forged, note, trust=True)
    forged.checkpoints.store(note)
    assert [reason.code for _, reason in check_log(forged).misfits] == ["checkpoint_differs"]


def test_it_can_be_shown_that_a_pruned_log_has_only_grown(home, tmp_path, clock):
    other = Home(tmp_path / "witness")
    note, _, _ = witness.cosign_request(other, witness.make_request(home), TIME)
    witness.keep_cosigned(home, note, trust=True)
    retention.prune(home, "2023-01-01T00:00:00.000Z")
    for number in range(6, 12):
        transfer(home, number)
        again, _, _ = witness.cosign_request(other, witness.make_request(home), TIME)
        witness.keep_cosigned(home, again, trust=False)
    assert check_log(home).witnessed == 24
    with pytest.raises(BadCheckpoint) as caught:
        witness.make_request(home, 3)
    assert caught.value.reason.code == "checkpoint_pruned"
    retention.prune(home, "2029-01-01T00:00:00.000Z")
    found = check_log(home)
    assert (found.misfits, found.witnessed) == ((), 24)


@pytest.mark.parametrize("damage", ["{}", "", None, "other"])
def test_a_checkpoint_that_is_none_is_told(home, damage):
    path = home.checkpoints.store(witness.make_checkpoint(home))
    if damage is None:
        path.chmod(0)
        path.unlink()
        path.mkdir()
    elif damage == "other":
        path.rename(path.with_name("7.checkpoint"))
    else:
        path.write_text(damage)
    assert [name for name, _ in check_log(home).misfits] in (
        ["11.checkpoint"],
        ["7.checkpoint"],
    )


def test_a_beginning_that_somebody_else_cut_off_is_told(home):
    """Without this machine's key nobody can say that lines were pruned; and it says so itself."""
    lines = home.audit.path.read_bytes().splitlines(keepends=True)
    forged = make_base(SigningKey(b"\x77" * 32), *_first(home, 4))
    home.audit.path.write_bytes(forged.encode() + b"".join(lines[4:]))
    assert [name for name, _ in check_log(home).misfits if name == "audit.jsonl"]
    unsaid = make_base(home.identity.load().key, *_first_of(lines, 4))
    home.audit.path.write_bytes(unsaid.encode() + b"".join(lines[4:]))
    assert [name for name, _ in check_log(home).misfits if name == "audit.jsonl"]


def _first_of(lines, count):
    tree = Tree()
    for line in lines[:count]:
        tree.append(line[:-1])
    return count, line_hash(lines[count - 1][:-1]), tree


def _first(home, count):
    return _first_of(home.audit.path.read_bytes().splitlines(keepends=True), count)


def test_two_prunes_at_once_leave_what_holds(home):
    """The second finds that another came first, whichever base is further."""
    key = home.identity.load().key
    bases = [make_base(key, *_first(home, count)) for count in (7, 5)]
    home.audit.append("pruned", {})
    home.audit.prune(bases[0])
    before = home.audit.path.read_bytes()
    with pytest.raises(Failure, match="audit log"):
        home.audit.prune(bases[1])
    home.audit.prune(bases[0])  # the same once more changes nothing
    assert home.audit.path.read_bytes() == before


def test_a_crash_before_the_old_checkpoints_are_forgotten_is_no_forgery(home, monkeypatch):
    witness.make_checkpoint(home)
    transfer(home, 6)
    monkeypatch.setattr(type(home.checkpoints), "forget_before", lambda *_: None)
    retention.prune(home, "2999-01-01T00:00:00.000Z")
    found = check_log(home)
    assert (found.pruned, found.checkpoints, found.misfits) == (13, 0, ())


def test_what_no_witness_has_seen_stays(home, tmp_path):
    other = Home(tmp_path / "witness")
    note, _, _ = witness.cosign_request(other, witness.make_request(home), TIME)
    witness.keep_cosigned(home, note, trust=True)
    for number in range(6, 9):
        transfer(home, number)
    retention.prune(home, "2999-01-01T00:00:00.000Z")
    assert check_log(home).pruned == 11
    again, _, _ = witness.cosign_request(other, witness.make_request(home), TIME)
    witness.keep_cosigned(home, again, trust=False)
    assert check_log(home).misfits == ()


def test_a_transfer_is_not_told_in_part(home, clock):
    members = {"transfer_id": encode_base64url(b"\x09" * 16), "role": "sender", "run": "aa"}
    home.audit.append("link_opened", {"role": "sender", "run": "aa"})
    home.audit.append("accepted", members)
    clock[0] = 2030
    home.audit.append("transfer", members | {"ending": "failed"})
    assert retention.find_old(home, "2029-01-01T00:00:00.000Z").until == 11


def test_entries_that_name_no_run_hold_nothing_back(home, clock):
    """As those of the log itself, and of an older version."""
    home.audit.append("log_read", {})
    clock[0] = 2030
    for number in range(9, 11):
        transfer(home, number)
    assert retention.find_old(home, "2029-01-01T00:00:00.000Z").until == 12


def test_a_base_by_the_key_of_a_peer_is_told(home):
    home.audit.append("pruned", {})
    lines = home.audit.path.read_bytes().splitlines(keepends=True)
    forged = make_base(OTHER, *_first_of(lines, 4))
    home.audit.path.write_bytes(forged.encode() + b"".join(lines[4:]))
    misfits = check_log(home).misfits
    assert ("audit.jsonl", Detail("base_foreign")) in misfits


def test_answers_of_strangers_fill_no_checkpoint(home):
    note = witness.make_checkpoint(home)
    for number in range(40):
        note = cosign(SigningKey(bytes([number]) * 32), note, TIME)
    counting, unknown = witness.keep_cosigned(home, note, trust=False)
    assert (counting, len(unknown)) == ([], 40)
    kept = home.checkpoints.read(11)
    assert kept is not None
    assert len(kept.signatures) == 1
