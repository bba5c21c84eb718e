"""What a recipient is shown before it accepts, and what it accepts without being asked."""

from __future__ import annotations

import errno

import pytest

from p2p.events import Completed
from p2p.protocol.manifest import Entry, Manifest
from p2p.protocol.receipt import verify
from p2p.state.journal import Journals
from p2p.storage.memory import MemoryDestination, MemorySource
from p2p.transfer.receive import describe
from tests.virtual_time import virtual_time

from .memory import Role, World


def manifest(*paths, **more):
    return Manifest(tuple(Entry(path, "file", 1, 0) for path in paths), bytes(32), **more)


def test_hidden_names_are_shown_whatever_is_above_and_those_at_the_top_first():
    ordinary = [f"scan{number}/1.dcm" for number in range(50)]
    offer = describe(
        manifest(*ordinary, "a/.b/c", "a/.b/d", "x/.y", ".bash_profile", ".ssh/keys", ".ssh/config")
    )
    assert offer.hidden == 4
    assert offer.hidden_names == (".bash_profile", ".ssh", "a/.b", "x/.y")
    many = describe(manifest(*(f".{number:03}" for number in range(30))))
    assert (many.hidden, len(many.hidden_names)) == (30, 10)


def test_what_the_sender_leaves_out_is_shown_before_anything_is_accepted():
    assert describe(manifest("a", skipped={"links": 3})).skipped == {"links": 3}


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("name", [".bash_profile", ".ssh/authorized_keys"])
async def test_auto_takes_no_hidden_names_at_the_top_unless_told(tmp_path, name, allowed):
    contents = [("a", b"a"), (name, b"evil")]
    world = World(tmp_path, contents, recipient={"allow_hidden": allowed})
    received = (await world.run())[1] if allowed else await world.visit()
    assert received.code == ("" if allowed else "hidden_names")
    assert bool(world.disk.files) == allowed


async def test_auto_takes_hidden_names_inside_a_folder(tmp_path):
    world = World(tmp_path, [("study", None), ("study/.DS_Store", b"x")])
    assert [one.code for one in await world.run()] == ["", ""]


async def test_what_was_left_out_stands_in_the_receipt_and_in_the_last_event(tmp_path):
    world = World(tmp_path, [("a", b"a")])
    real = world._list

    def list_sources(warn, stopped):
        listing = real(warn, stopped)
        return type(listing)(listing.entries, listing.sources, {"links": 2, "special": 1})

    world.sender._list_sources = list_sources
    assert [one.code for one in await world.run()] == ["", ""]
    roles: tuple[Role, ...] = ("sender", "recipient")
    for role in roles:
        (last,) = world.saw(role, Completed)
        assert last.skipped == {"links": 2, "special": 1}
        home = world.homes[role]
        (receipt,) = (home.path / "receipts").glob("*.json")
        assert verify(receipt.read_bytes()).payload["content"]["skipped"] == 3


# --- found by a review


@virtual_time
async def test_what_changes_after_the_closing_that_the_recipient_settled_by_changes_nothing(
    tmp_path, monkeypatch
):
    """Its disk is full while it places; meanwhile a source is touched."""
    world = World(tmp_path, [("study", None), ("study/1.dcm", b"x" * 100)])
    monkeypatch.setattr("p2p.transfer.recipient.DISK_SECONDS", 0.05)
    real, full = MemoryDestination.place, [True]

    def place(self, *arguments, **named):
        if full.pop() if full else False:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *arguments, **named)

    def changed(self, result, stopped):
        return [] if full else [1]

    monkeypatch.setattr(MemoryDestination, "place", place)
    monkeypatch.setattr(MemorySource, "changed", changed)
    assert [one.code for one in await world.run()] == ["", ""]


@virtual_time
async def test_nothing_is_forgotten_that_could_not_be_noted(tmp_path, monkeypatch):
    """Else the audit log would lack what a receipt states, for good."""
    world = World(tmp_path, [("a", b"a")])
    audit = world.homes["recipient"].audit

    def full(event, members):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audit, "append", full)
    assert [one.code for one in await world.run()] == ["", ""]
    assert len(list(Journals(world.homes["recipient"]))) == 1
    assert len(list(Journals(world.homes["sender"]))) == 0
