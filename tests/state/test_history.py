"""The log read back: entry by entry, and transfer by transfer, whatever somebody wrote into it."""

from __future__ import annotations

import json

import pytest
from nacl.signing import SigningKey

from p2p.protocol.audit import BadLine
from p2p.protocol.codec import encode_base64url
from p2p.state import audit, history
from p2p.state.history import Accounts, Filter, accounts, entries
from p2p.state.home import Home
from tests.receipts import STRANGER, signed

ONE, TWO = b"\x01" * 16, b"\x02" * 16
TIMES = [f"2026-0{month}-01T10:00:00.000Z" for month in range(1, 10)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """In which every entry comes a month after the one before."""
    times = iter(TIMES)
    monkeypatch.setattr(audit, "now_text", lambda: next(times))
    return Home(tmp_path / "home")


def told(home):
    """Two transfers: one received to its end, one that is sent."""
    first = {"role": "recipient", "run": "aa"}
    home.audit.append("link_opened", first)
    home.audit.append("authenticated", {**first, "peer": "key", "known": "new"})
    first["transfer_id"] = encode_base64url(ONE)
    home.audit.append("offered", {**first, "peer": "key", "entries": 2, "bytes": 7})
    second = {"role": "sender", "run": "bb", "transfer_id": encode_base64url(TWO)}
    home.audit.append("link_made", second)
    home.audit.append("transfer", {**first, "peer": "key", "ending": "complete", "code": ""})
    home.audit.append("log_read", {"command": "list"})


def test_entries_are_filtered(home):
    told(home)
    numbers = lambda **wanted: [one.number for one in entries(home.audit, Filter(**wanted))]  # noqa: E731
    assert numbers() == [1, 2, 3, 4, 5, 6]
    assert numbers(since=TIMES[2]) == [3, 4, 5, 6]
    assert numbers(until=TIMES[2]) == [1, 2]
    assert numbers(peer="key") == [2, 3, 5]
    assert numbers(ending="complete") == [5]
    assert numbers(transfer="0202") == [4]
    assert numbers(transfer="01", since=TIMES[3]) == [5]


def test_a_transfer_is_told_from_the_first_word_of_it(home):
    """Also of before it was known which transfer it is."""
    told(home)
    second, first = accounts(home)  # in the order of their last entries
    assert (first.transfer, first.role) == (ONE.hex(), "recipient")
    assert [event for _, event in first.steps] == [
        "link_opened",
        "authenticated",
        "offered",
        "transfer",
    ]
    assert (first.began, first.ended, first.ending) == (TIMES[0], TIMES[4], "complete")
    assert (first.peer, first.known, first.entries, first.size) == ("key", "new", 2, 7)
    assert (second.transfer, second.ended, second.ending) == (TWO.hex(), "", "")
    assert first.receipt is None
    assert [one.transfer for one in accounts(home, since=TIMES[4])] == [ONE.hex()]
    assert [one.transfer for one in accounts(home, until=TIMES[4])] == [TWO.hex()]


def test_digits_that_were_compared_with_somebody_else_say_nothing_of_who_came_then(home):
    base = {"role": "sender", "run": "a", "transfer_id": encode_base64url(ONE)}
    for event, members in (
        ("authenticated", {"peer": "a", "known": "new"}),
        ("digits_same", {"peer": "a"}),
        ("refused", {"peer": "a"}),
        ("authenticated", {"peer": "b", "known": "contact"}),
        ("admitted", {"peer": "b"}),
    ):
        home.audit.append(event, base | members)
    (account,) = accounts(home)
    assert (account.peer, account.known, account.digits) == ("b", "contact", "")


def test_an_attempt_that_came_to_no_transfer_and_one_that_was_erased_are_told(home):
    home.audit.append("link_opened", {"role": "recipient", "run": "a"})
    home.audit.append(
        "transfer", {"role": "recipient", "run": "a", "ending": "failed", "code": "x"}
    )
    home.audit.append("erased", {"role": "recipient", "transfer_id": encode_base64url(ONE)})
    first, second = accounts(home)
    assert (first.transfer, first.role, first.ending, first.code) == (
        "",
        "recipient",
        "failed",
        "x",
    )
    assert (second.transfer, second.ending, second.ended) == (ONE.hex(), "erased", TIMES[2])


def test_transfers_are_told_as_often_as_wanted_and_held_no_longer(home, monkeypatch):
    """With what was handed over of them since, and without what is noted meanwhile."""
    told(home)
    members = {"format": "annex", "count": 1, "transfer_id": encode_base64url(ONE)}
    home.audit.append("exported", members)
    found = accounts(home)
    assert len(found) == 2
    home.audit.append("transfer", {"role": "sender", "transfer_id": encode_base64url(TWO)})
    for _ in range(2):
        second, first = found
        assert first.steps[-1] == (TIMES[6], "exported")
        assert (first.ended, second.ended) == (TIMES[4], "")
    assert len(accounts(home, until=TIMES[5])) == 1  # an export is no entry that counts
    largest = 0
    for number in range(40):
        base = {"role": "sender", "transfer_id": encode_base64url(bytes([number]) * 16)}
        monkeypatch.setattr(audit, "now_text", lambda: TIMES[7])
        home.audit.append("accepted", base)
        home.audit.append("transfer", base)
    hearing = Accounts()
    monkeypatch.setattr(history, "Accounts", lambda own: hearing)
    for _ in accounts(home):
        largest = max(largest, len(hearing._found))
    assert largest < 5


def test_the_log_is_not_held_while_it_is_read(home):
    """Whoever lets it run through a pager holds nobody up; what comes meanwhile is not in it."""
    told(home)
    reading = entries(home.audit)
    next(reading)
    home.audit.append("transfer", {})
    assert [one.number for one in reading] == [2, 3, 4, 5, 6]


def test_the_receipt_stands_beside_it(home):
    told(home)
    home.receipts.store(ONE, signed(SigningKey(b"\x07" * 32), STRANGER, transfer=ONE))
    (receipt,) = [one.receipt for one in accounts(home) if one.transfer == ONE.hex()]
    assert receipt is not None
    assert receipt.payload["transfer_id"] == ONE


@pytest.mark.parametrize(
    "members",
    [
        {"transfer_id": 7, "peer": ["x"], "ending": None, "bytes": "many", "entries": -1},
        {"transfer_id": "AAAA", "role": {"x": 1}, "run": 3},
        {"transfer_id": "*", "ending": "x" * 50_000},
        {"transfer_id": encode_base64url(ONE), "peer": "\x1b[2J", "bytes": False, "entries": True},
    ],
)
def test_an_entry_of_wrong_types_is_read_as_far_as_it_makes_sense(home, members):
    home.audit.append("transfer", members)
    (entry,) = entries(home.audit)
    assert len(entry.text("ending")) <= 1024
    assert "\x1b" not in entry.text("peer")
    assert entry.count("bytes") is None
    assert entry.count("entries") is None
    for account in accounts(home):
        assert account.transfer == ONE.hex()


def test_a_log_that_does_not_hold_says_so_at_the_first_bad_line(home):
    told(home)
    lines = home.audit.path.read_bytes().splitlines(keepends=True)
    changed = json.loads(lines[1]) | {"known": "contact"}
    lines[1] = json.dumps(changed, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    home.audit.path.write_bytes(b"".join(lines))
    found = []
    with pytest.raises(BadLine) as caught:
        found += [one.number for one in entries(home.audit)]
    assert caught.value.number == 3
    with pytest.raises(BadLine):
        accounts(home)
