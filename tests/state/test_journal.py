"""Journals: what is written reads back, whatever else lies there is refused or passed over."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.codec import encode_base64url
from p2p.protocol.errors import Failure, PeerError
from p2p.state.home import Home
from p2p.state.journal import (
    CLOCK_SECONDS,
    WAITED_SECONDS,
    Journal,
    Journals,
    RecipientRecord,
    SenderRecord,
    _decode,
    _encode,
)
from p2p.storage.listing import SourceFile

LINK = f"http://192.0.2.1:8080/#1.{encode_base64url(bytes(32))}.{encode_base64url(bytes(16))}"
COMMON = {
    "transfer_id": b"\x11" * 16,
    "link": LINK,
    "identity": b"\x22" * 32,
    "peer": b"\x33" * 32,
    "label": "Reading room",
    "manifest_sha256": b"\x44" * 32,
    "began": "2026-11-25T12:00:00.000Z",
    "total": 10**12,
    "durable": 5,
}


def recipient(output, **changes):
    return RecipientRecord(**{**COMMON, "output": os.fsencode(output), **changes})


def sender(**changes):
    return SenderRecord(
        **{**COMMON, "owner": bytes(32), "expires": "2026-11-26T12:00:00+00:00", **changes}
    )


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def begun(home, record):
    journals = Journals(home)
    journal = Journal(journals.path(record), record)
    journals.begin(journal, b"the manifest")
    journal.write()
    return journal


def age(journal, seconds):
    """It was written so long ago, before this machine was started."""
    with suppress(ValueError):
        kept = json.loads((journal.path / "journal.json").read_bytes())
        kept["boot"] = "another"
        (journal.path / "journal.json").write_text(json.dumps(kept))
    set_back(journal, seconds)


def set_back(journal, seconds):
    """As it looks when the clock of the day was set ahead since."""
    then = time.time() - seconds
    os.utime(journal.path / "journal.json", (then, then))


def test_both_records_read_back():
    one = recipient("/out/\udce4", renamed=[["a", "a (1)"]], phase="placing", tail_mark=bytes(32))
    for record in (one, sender(closings=[{"security": {"transcript": "x"}}], port=443)):
        assert _decode(_encode(record)) == record


@given(st.binary(max_size=300))
def test_any_bytes_are_no_record(data):
    with pytest.raises(PeerError):
        _decode(data)


@given(st.data())
def test_a_record_with_any_member_replaced_reads_or_is_refused(data):
    fields = json.loads(_encode(data.draw(st.sampled_from([recipient("/o"), sender()]))))
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
    )
    try:
        _decode(json.dumps(fields).encode())
    except PeerError:
        pass


def test_a_journal_is_for_its_owner_alone_and_gone_when_removed(home, tmp_path):
    journal = begun(home, recipient(tmp_path / "out"))
    journal.append_mark(0, b"\x01" * 32)
    for path in (journal.path, *journal.path.iterdir()):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    journal.remove()
    assert not journal.path.exists()
    assert list(Journals(home)) == []


def test_one_process_at_a_time(home, tmp_path):
    journal = begun(home, recipient(tmp_path / "out"))
    (other,) = Journals(home)
    assert other.running
    assert not other.hold()
    with pytest.raises(Failure, match="is running"):
        other.erase(home)
    journal.release()
    assert other.hold()


def test_it_is_found_by_the_beginning_of_its_id_and_by_its_link(home, tmp_path):
    begun(home, recipient(tmp_path / "out"))
    begun(home, sender(transfer_id=b"\x12" * 16))
    journals = Journals(home)
    assert journals.find("1111").record.role == "recipient"
    for unknown in ("1", "", "ff", "../x"):
        with pytest.raises(Failure, match="No unfinished transfer"):
            journals.find(unknown)
    found = journals.of_secret(bytes(32), "sender")
    assert found
    assert found.record.transfer_id == b"\x12" * 16
    assert journals.of_secret(b"\x01" * 32, "sender") is None


def test_a_mark_cuts_off_what_was_noted_beyond_it(home, tmp_path):
    journal = begun(home, recipient(tmp_path / "out"))
    for index in (0, 1, 2, 1):
        journal.append_mark(index, bytes([index]) * 32)
    assert journal.marks() == [b"\x00" * 32, b"\x01" * 32]


def test_sources_read_back_and_a_damaged_line_is_refused(home, tmp_path):
    journal = begun(home, sender())
    sources = [None, SourceFile("/x/\udcff\n", 2**63, 2**60, 7, -(10**18), 10**18, True), "unread"]
    journal.store_sources(sources)
    assert list(journal.sources()) == sources
    (journal.path / "sources").write_bytes(b"null\n{}")
    with pytest.raises(PeerError):
        journal.sources()


def test_what_nobody_comes_back_for_is_erased_and_noted(home, tmp_path):
    journal = begun(home, recipient(tmp_path / "out"))
    staging = parts(tmp_path)
    journal.release()
    Journals(home).tidy()
    assert staging.exists()
    age(journal, CLOCK_SECONDS + 1)
    Journals(home).tidy()
    assert not staging.exists()
    assert list(Journals(home)) == []
    assert home.audit.recent("erased", 5)[0]["role"] == "recipient"


def test_a_clock_that_is_set_ages_nothing(home, tmp_path):
    journal = begun(home, recipient(tmp_path / "out"))
    for off in (-3, 3):
        set_back(journal, off * WAITED_SECONDS)
        (found,) = Journals(home)
        assert WAITED_SECONDS - 60 < found.left <= WAITED_SECONDS


def test_a_journal_of_before_there_was_such_a_clock_ages_by_that_of_the_day(home, tmp_path):
    journal = begun(home, recipient(tmp_path / "out"))
    kept = json.loads((journal.path / "journal.json").read_bytes())
    del kept["boot"], kept["uptime"]
    (journal.path / "journal.json").write_text(json.dumps(kept))
    set_back(journal, 3600)
    (found,) = Journals(home)
    assert abs(found.left - WAITED_SECONDS + 3600) < 60


def parts(tmp_path):
    staging = tmp_path / "out" / f".handover-{'11' * 8}.part"
    staging.mkdir(parents=True)
    (staging / "00000000").write_bytes(b"a patient's data")
    return staging


@pytest.mark.parametrize("damage", [b"", b"\x00" * 500, b"of another transfer"])
def test_what_is_damaged_is_told_as_it_began_and_can_be_erased(home, tmp_path, damage):
    journal, staging = begun(home, recipient(tmp_path / "out")), parts(tmp_path)
    journal.release()
    if damage == b"of another transfer":
        damage = _encode(recipient(tmp_path, transfer_id=b"\x12" * 16))
    (journal.path / "journal.json").write_bytes(damage)
    (found,) = Journals(home)
    assert found.damaged
    assert (found.record.role, found.record.total, found.record.label) == (
        "recipient",
        10**12,
        "Reading room",
    )
    again = Journals(home).of_secret(bytes(32), "recipient")
    assert again
    assert again.damaged
    Journals(home).find("1111").erase(home)
    assert not staging.exists()
    assert list(Journals(home)) == []


def test_what_is_damaged_and_signed_keeps_what_had_no_other_place(home, tmp_path):
    journal, staging = begun(home, recipient(tmp_path / "out")), parts(tmp_path)
    journal.write(phase="signed")
    home.receipts.store(journal.record.transfer_id, b"a receipt")
    journal.release()
    (journal.path / "journal.json").write_bytes(b"")
    Journals(home).find("1111").erase(home)
    assert list(Journals(home)) == []
    assert staging.exists()


def test_what_is_all_damaged_is_told_by_its_id_and_forgotten_by_a_person_alone(home, tmp_path):
    journal, staging = begun(home, recipient(tmp_path / "out")), parts(tmp_path)
    journal.release()
    for name in ("journal.json", "begun"):
        (journal.path / name).write_bytes(b"")
    age(journal, CLOCK_SECONDS + 1)
    Journals(home).tidy()
    (found,) = Journals(home)
    assert (found.damaged, found.record.role, found.short_id) == (True, "", "11111111")
    Journals(home).find("1111").erase(home)
    assert staging.exists()  # nothing tells where it is
    assert list(Journals(home)) == []


def test_records_have_a_reader_for_every_member():
    for kind in (SenderRecord, RecipientRecord):
        assert {one.name for one in dataclasses.fields(kind)} == set(kind.shape)


def test_what_a_crash_left_of_a_removal_or_a_beginning_is_tidied(home, tmp_path):
    journal = begun(home, recipient(tmp_path / "out"))
    journal.path.rename(journal.path.with_name(f".gone-{'0' * 32}"))
    fresh = Journals(home).path(sender(transfer_id=b"\x12" * 16))
    fresh.mkdir()
    assert list(Journals(home)) == []
    Journals(home).tidy()
    assert list(fresh.parent.iterdir()) == [fresh]  # somebody may just be writing it
    old = time.time() - CLOCK_SECONDS - 1
    os.utime(fresh, (old, old))
    Journals(home).tidy()
    assert list(fresh.parent.iterdir()) == []


def test_what_could_not_be_noted_has_not_changed(home, tmp_path, monkeypatch):
    """Else a receipt could be sent whose signature no restart would know of."""
    journal = begun(home, recipient(tmp_path / "out"))

    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("p2p.state.journal.replace_whole", full)
        with pytest.raises(OSError, match="space"):
            journal.write(phase="signed", durable=9)
    assert (journal.record.phase, journal.record.durable) == ("receiving", 5)
    journal.write(phase="signed")
    (again,) = Journals(home)
    assert isinstance(again.record, RecipientRecord)
    assert again.record.phase == "signed"
