"""The audit log beside the receipts of its machine."""

from __future__ import annotations

import os

import pytest

from p2p.protocol import audit
from p2p.protocol.codec import encode_base64url, sha256
from p2p.state.evidence import check_log
from p2p.state.home import Home
from p2p.state.journal import Journals
from tests.receipts import STRANGER, signed

COUNT = 4


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def transfer_id(number):
    return sha256(bytes([number]))[:16]


def name(number):
    return f"{transfer_id(number).hex()}.receipt.json"


def receive(home, number, *, role="recipient", until="entered"):
    """What a transfer leaves, in its order: a journal, a receipt, an entry, and no journal."""
    transfer, own = transfer_id(number), home.identity.load().key
    journal = home.path / "transfers" / transfer.hex()
    journal.mkdir()
    (journal / "journal.json").write_bytes(b"{}")
    heads, keys = (home.audit.head(), "e" * 64), (own, STRANGER)
    if role == "recipient":
        heads, keys = heads[::-1], keys[::-1]
    if until == "head taken":
        return
    receipt = signed(*keys, transfer=transfer, heads=heads, by=1 if until == "half" else 2)
    home.receipts.store(transfer, receipt)
    if until in ("half", "receipt"):
        return
    home.audit.append("transfer", {"transfer_id": encode_base64url(transfer), "role": role})
    if until == "entry":
        return
    (journal / "journal.json").unlink()
    journal.rmdir()


def rewrite(home, lines):
    """Another log, whose chain holds."""
    home.audit.path.unlink()
    home.audit.path.touch(0o600)
    for line in lines:
        home.audit.append("transfer", {"transfer_id": encode_base64url(transfer_id(line))})


def cut(home, keep):
    lines = home.audit.path.read_bytes().splitlines(keepends=True)
    home.audit.path.write_bytes(b"".join(lines[:keep]))


def replaced(path, make):
    path.unlink()
    make(path)


@pytest.mark.parametrize("role", ["sender", "recipient"])
def test_a_log_that_all_receipts_fit_holds(home, role):
    assert check_log(home)[:5] == (0, audit.GENESIS, 0, 0, ())
    home.identity.load()  # which is noted
    for number in range(COUNT):
        receive(home, number, role=role)
        assert check_log(home)[:5] == (number + 2, home.audit.head(), number + 1, number + 1, ())


@pytest.mark.parametrize("role", ["sender", "recipient"])
@pytest.mark.parametrize(
    "forge",
    [
        lambda home: home.audit.path.unlink(),
        lambda home: home.audit.path.write_bytes(b""),
        lambda home: cut(home, 1),
        lambda home: cut(home, COUNT - 1),
        lambda home: rewrite(home, [9]),
        lambda home: rewrite(home, range(COUNT)),
        lambda home: rewrite(home, [9, *range(COUNT)]),
        lambda home: rewrite(home, range(9, 20)),
    ],
    ids=["deleted", "empty", "first kept", "last cut", "one", "as it was", "one before", "longer"],
)
def test_a_log_that_was_cut_off_or_replaced_names_the_receipts_it_contradicts(home, role, forge):
    for number in range(COUNT):
        receive(home, number, role=role)
    forge(home)
    found = check_log(home)
    assert name(COUNT - 1) in dict(found.misfits)
    assert found.receipts + len(found.misfits) == COUNT


@pytest.mark.parametrize("lines", [[], [9], [9, 8]])
def test_a_log_without_the_entry_of_the_only_receipt_contradicts_it(home, lines):
    """That one names the head of an empty log, which every log begins with."""
    receive(home, 0)
    rewrite(home, lines)
    assert [one for one, _ in check_log(home).misfits] == [name(0)]


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("role", ["sender", "recipient"])
@pytest.mark.parametrize("until", ["head taken", "half", "receipt", "entry", "entered"])
def test_a_crash_at_any_moment_is_no_forgery(home, role, until, before):
    """Nor what other transfers enter meanwhile, nor when a later start finishes or forgets it."""
    for number in range(before):
        receive(home, number)
    receive(home, 7, role=role, until=until)
    assert not check_log(home).misfits
    receive(home, 8)
    assert not check_log(home).misfits
    if until != "entered":
        Journals(home).find(transfer_id(7).hex()).erase(home)
        assert not check_log(home).misfits


def test_an_entry_before_the_head_of_its_receipt_is_not_its_own(home):
    """It tells of an earlier session, and the last one is missing."""
    home.audit.append("transfer", {"transfer_id": encode_base64url(transfer_id(0))})
    receive(home, 0)
    cut(home, 1)
    assert [one for one, _ in check_log(home).misfits] == [name(0)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[" * 50_000),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"payload":"ey', b'"payload":"ez')),
        lambda path: path.rename(path.with_name(name(9))),
        lambda path: replaced(path, os.mkfifo),
        lambda path: replaced(path, os.mkdir),
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        lambda path: os.truncate(path, 40 * 10**9),
        lambda path: path.chmod(0o666),
    ],
    ids=[
        "empty", "deep", "cut", "flipped", "renamed", "pipe", "folder", "link", "huge", "writable",
    ],
)  # fmt: skip
def test_a_receipt_that_cannot_be_held_against_the_log_is_told(home, damage):
    for number in range(COUNT):
        receive(home, number)
    damage(home.receipts.path(transfer_id(1)))
    found = check_log(home)
    assert (found.receipts, len(found.misfits)) == (COUNT - 1, 1)
    assert found.misfits[0][0] in (name(1), name(9))


def test_receipts_of_an_earlier_key_still_bind_the_log(home):
    for number in range(COUNT):
        receive(home, number)
    (home.path / "identity.json").unlink()
    assert check_log(home)[2:5] == (COUNT, COUNT, ())
    assert not (home.path / "identity.json").exists()
    home.identity.load()
    assert not check_log(home).misfits
    cut(home, 1)
    assert name(COUNT - 1) in dict(check_log(home).misfits)


def test_a_transfer_from_this_machine_to_itself(home):
    own, transfer = home.identity.load().key, transfer_id(0)
    home.audit.append("transfer", {})
    heads = audit.GENESIS, home.audit.head()
    home.receipts.store(transfer, signed(own, own, transfer=transfer, heads=heads))
    home.audit.append("transfer", {"transfer_id": encode_base64url(transfer)})
    assert check_log(home)[2:5] == (1, 2, ())
    home.receipts.store(transfer, signed(own, own, transfer=transfer, heads=(heads[0], "e" * 64)))
    assert len(check_log(home).misfits) == 1


def test_a_long_log_is_walked_in_bounded_memory(home):
    """A line is never read whole that is longer than one may be."""
    home.audit.append("transfer", {})
    with open(home.audit.path, "ab") as log:
        log.truncate(40 * 10**9)
    with pytest.raises(audit.BadLine) as caught:
        check_log(home)
    assert caught.value.number == 2
    assert len(home.audit.recent("transfer", 10)) == 0
    assert len(home.audit.head()) == 64
