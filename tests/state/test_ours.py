"""Only what Handover made is ever removed, truncated or replaced: by its name and mark, never through
a link."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from p2p.protocol.errors import Failure
from p2p.state.home import MARK, Home
from p2p.state.journal import (
    CLOCK_SECONDS,
    FILES,
    WAITED_SECONDS,
    Journal,
    Journals,
    RecipientRecord,
    _encode,
)

from .test_journal import recipient

ID = "11" * 16


def snapshot(folder):
    """Every path below it, with what a file holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def make_old(folder):
    """So that nobody would come back for it."""
    long_ago = time.time() - 2 * CLOCK_SECONDS
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)


def bank_transfers(folder):
    (folder / "transfers" / "2026").mkdir(parents=True)
    (folder / "transfers" / "2026" / "list.csv").write_text("1")


def named_as_ours(folder):
    (folder / "transfers" / ID).mkdir(parents=True)
    (folder / "transfers" / ID / "list.csv").write_text("1")


def half_removed(folder):
    (folder / "transfers" / ".gone-x").mkdir(parents=True)
    (folder / "transfers" / ".gone-x" / "list.csv").write_text("1")


def a_file(folder):
    folder.mkdir()
    (folder / "list.csv").write_text("1")


def a_hidden_file(folder):
    folder.mkdir()
    (folder / ".profile").write_text("1")


def a_mark_that_is_a_link(folder):
    a_file(folder)
    (folder / MARK).symlink_to("list.csv")


def a_mark_that_is_a_folder(folder):
    a_file(folder)
    (folder / MARK).mkdir()


def an_identity_of_another_program(folder):
    bank_transfers(folder)
    (folder / "identity.json").write_text('{"user": "x"}')


FOREIGN = [
    bank_transfers,
    named_as_ours,
    half_removed,
    a_file,
    a_hidden_file,
    a_mark_that_is_a_link,
    a_mark_that_is_a_folder,
    an_identity_of_another_program,
]


@pytest.mark.parametrize("make", FOREIGN)
def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(tmp_path, make):
    folder = tmp_path / "foreign"
    make(folder)
    make_old(folder)
    before = snapshot(folder)
    with pytest.raises(Failure) as caught:
        Journals(Home(folder)).tidy()
    assert caught.value.code == "home_foreign"
    assert str(folder) in caught.value.sentence
    assert snapshot(folder) == before


@pytest.mark.parametrize("name", ["transfers", "receipts", "annexes"])
def test_a_folder_inside_that_is_a_link_is_refused(tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    bank_transfers(elsewhere)
    make_old(elsewhere)
    before = snapshot(elsewhere)
    home = Home(tmp_path / "home")
    (home.path / name).rmdir()
    (home.path / name).symlink_to(elsewhere)
    with pytest.raises(Failure) as caught:
        Journals(Home(home.path)).tidy()
    assert caught.value.code == "home_foreign"
    assert snapshot(elsewhere) == before


def test_an_empty_folder_becomes_ours_and_a_marked_one_stays_so(tmp_path):
    (tmp_path / "home" / "lost+found").mkdir(parents=True)
    for _ in range(2):
        Home(tmp_path / "home")
    assert (tmp_path / "home" / MARK).is_file()


def test_a_folder_of_version_0_1_is_taken_over(tmp_path):
    home = Home(tmp_path / "home")
    identity = home.identity.load()
    (home.path / MARK).unlink()
    assert Home(home.path).identity.load() == identity
    assert (home.path / MARK).is_file()


def test_a_link_to_the_folder_is_as_good_as_the_folder(tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "home").symlink_to("large disk")
    Home(tmp_path / "home").identity.load()
    assert (tmp_path / "large disk" / "identity.json").is_file()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def foreign_file(folder):
    folder.mkdir()
    (folder / "mine").write_text("mine")


def foreign_folder(folder):
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "mine").write_text("mine")


def link_among_ours(folder):
    folder.mkdir()
    (folder.parent.parent / "precious").write_text("mine")
    (folder / "manifest").symlink_to("../../precious")


def link_to_a_folder(folder):
    target = folder.parent.parent / "precious"
    target.mkdir()
    for name in FILES:
        (target / name).write_text("mine")
    folder.symlink_to(target)


def somebody_elses(folder):
    folder.mkdir()
    (folder / "manifest").write_text("mine")
    os.chown(folder, 12345, 12345)


def open_to_all(folder):
    folder.mkdir()
    (folder / "manifest").write_text("mine")
    folder.chmod(0o777)


@pytest.mark.parametrize("name", [ID, f".gone-{ID}", "notes", ".gone-", "11" * 15, f"{ID}0"])
@pytest.mark.parametrize(
    "make",
    [
        foreign_file,
        foreign_folder,
        link_among_ours,
        link_to_a_folder,
        somebody_elses,
        open_to_all,
    ],
)
def test_what_lies_among_the_transfers_and_is_not_ours_stays(home, name, make):
    make(home.path / "transfers" / name)
    make_old(home.path)
    before = snapshot(home.path)
    Journals(home).tidy()
    list(Journals(home))
    Journal(home.path / "transfers" / ID, RecipientRecord(transfer_id=bytes([17]) * 16)).remove()
    assert snapshot(home.path) == before


@pytest.mark.parametrize("name", [ID, f".gone-{ID}"])
def test_what_a_crash_left_of_ours_goes(home, name):
    folder = home.path / "transfers" / name
    folder.mkdir(mode=0o700)
    for one in ("manifest", "lock", ".ab12_xyz"):
        (folder / one).write_text("x")
    make_old(folder)
    Journals(home).tidy()
    assert not folder.exists()


def begun(home, output):
    record = recipient(output)
    journals = Journals(home)
    journal = Journal(journals.path(record), record)
    journals.begin(journal, b"the manifest")
    journal.write()
    journal.release()
    return journal


def set_clock(journal, *, ahead, boot=None, later=0.0):
    """How the journal looks after the clock of the day was set, after a restart, or so much later."""
    kept = journal.record
    kept = replace(kept, boot=boot or "this one", uptime=int(10**6 - later))
    (journal.path / "journal.json").write_bytes(_encode(kept))
    then = time.time() - ahead
    os.utime(journal.path / "journal.json", (then, then))


@pytest.mark.parametrize(
    ("ahead", "boot", "later", "erased"),
    [
        (86_400 * 400, None, 0, False),  # a clock that jumps a year ahead
        (86_400 * 2, "another", 0, False),  # and before a restart, by two days
        (86_400 * 8, "another", 0, True),
        (0, None, WAITED_SECONDS + 60, True),  # a day has passed, whatever the clock says
        (-86_400, None, WAITED_SECONDS + 60, True),
        (0, None, WAITED_SECONDS - 60, False),
    ],
)
def test_a_clock_that_is_set_erases_nothing(
    home, tmp_path, monkeypatch, ahead, boot, later, erased
):
    monkeypatch.setattr("p2p.state.journal.uptime", lambda: ("this one", 10**6))
    output = tmp_path / "out"
    staging = output / f".handover-{'11' * 8}.part"
    staging.mkdir(parents=True)
    (staging / "00000000").write_bytes(b"a patient's data")
    journal = begun(home, output)
    set_clock(journal, ahead=ahead, boot=boot, later=later)
    Journals(home).tidy()
    assert staging.exists() != erased
    assert bool(list(Journals(home))) != erased


def test_what_arrived_is_not_removed_through_a_link_nor_where_it_is_not_ours(home, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("precious")
    (output / f".handover-{'11' * 8}.part").symlink_to(victim)
    begun(home, output)
    with pytest.raises(Failure) as caught:
        Journals(home).find(ID).erase(home)
    assert caught.value.code == "not_writable"
    assert (victim / "precious").read_text() == "precious"


# --- found by a review


def begin_home(path):
    Home(Path(path))
    return True


def test_processes_that_start_at_once_share_an_empty_folder(tmp_path):
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
        for number in range(12):
            assert all(pool.map(begin_home, [tmp_path / str(number)] * 4))


@pytest.mark.parametrize("more", [[], ["local-ca"], ["audit.jsonl", ".lock"]])
def test_a_folder_of_0_1_that_never_sent_anything_is_taken_over(tmp_path, more):
    for name in ("receipts", "annexes", "transfers"):
        (tmp_path / name).mkdir()
    for name in more:
        (tmp_path / name).touch()
    Home(tmp_path)


def test_three_such_folders_among_others_are_not_ours(tmp_path):
    for name in ("receipts", "annexes", "transfers", "invoices"):
        (tmp_path / name).mkdir()
    with pytest.raises(Failure):
        Home(tmp_path)


def test_one_foreign_file_keeps_no_transfer_listed(home, tmp_path):
    """It stays, and the transfer is forgotten all the same."""
    journal = begun(home, tmp_path / "out")
    (journal.path / "journal.json~").write_text("of an editor")
    Journals(home).find(ID).erase(home)
    assert list(Journals(home)) == []
    assert snapshot(journal.path) == {"journal.json~": b"of an editor"}
    for _ in range(3):
        Journals(home).tidy()
    assert len(home.audit.recent("erased", 10)) == 1


def test_a_journal_that_cannot_be_removed_is_said(home, tmp_path):
    journal = begun(home, tmp_path / "out")
    journal.path.chmod(0o777)
    (found,) = Journals(home)  # it is not hidden from the person
    with pytest.raises(Failure):
        found.erase(home)
    assert home.audit.recent("erased", 10) == []
