"""Whole transfers over lanes and disks in memory: what each side is told, cuts, ends, evidence."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from dataclasses import replace

import pytest

import p2p
from p2p.protocol.errors import Ending, Failure
from p2p.protocol.session import RecipientSession, RecipientState
from p2p.state.audit import AuditLog
from p2p.state.journal import Journal, Journals, RecipientRecord
from p2p.storage import memory
from p2p.storage.destination import FolderDestination
from p2p.storage.memory import MemoryDestination
from p2p.tasks import stop
from p2p.transfer import recipient as transfers
from p2p.transfer.receive import ReceiveDriver
from p2p.transfer.recipient import RecipientTransfer
from tests.virtual_time import virtual_time

from .memory import World

CONTENTS = (
    ("study", None),
    ("study/1.dcm", os.urandom(700_000)),
    ("study/2.dcm", b""),
    ("study/3.dcm", bytes(300_000)),
)


def delivered(world):
    return world.disk.files == dict(CONTENTS)


@pytest.mark.parametrize("host_sends", [True, False], ids=["host sends", "host receives"])
async def test_files_arrive_and_both_sign_whoever_made_the_link(tmp_path, host_sends):
    world = World(tmp_path, CONTENTS, host_sends=host_sends)
    sent, received = await world.run()
    assert (sent.ending, sent.code, received.ending, received.code) == (
        Ending.COMPLETE,
        "",
        Ending.COMPLETE,
        "",
    )
    assert delivered(world)
    assert sent.receipt
    assert received.receipt
    assert sent.receipt.read_bytes() == received.receipt.read_bytes()
    receipt = p2p.verify_receipt(sent.receipt.read_bytes())
    assert receipt.confirmed
    assert receipt.sender == world.sender.identity.public
    assert receipt.recipient == world.recipient.identity.public
    binding = world.connections[0][0].binding
    told = receipt.payload["security"]
    assert (told["fingerprint_sender"], told["fingerprint_recipient"]) == binding.fingerprints
    for role in ("sender", "recipient"):
        assert isinstance(world.told[role][-1], p2p.Completed)
        (entry,) = world.homes[role].audit.recent("transfer", 10)
        assert (entry["role"], entry["ending"]) == (role, "complete")
        assert not list((world.homes[role].path / "transfers").iterdir()), "a journal is left"
    assert world.states("sender") == ["admitted", "offered", "accepted", "verifying", "signing"]
    assert world.states("recipient") == [
        "connected",
        "offered",
        "accepted",
        "verifying",
        "signing",
    ]


@virtual_time
async def test_a_cut_is_told_and_both_go_on_without_a_question(tmp_path):
    world = World(tmp_path, CONTENTS, sender={"limit": 400e3})
    sending = world.sending()
    await asyncio.sleep(0.05)
    receiving = world.receiving()
    async with asyncio.timeout(20):
        while not any(event.durable for event in world.saw("recipient", p2p.Progressed)):
            await asyncio.sleep(0.01)
        world.cut()
        outcomes = await asyncio.gather(sending, receiving)
    assert [one.code for one in outcomes] == ["", ""]
    assert delivered(world)
    assert len(world.connections) == 2
    assert world.states("recipient").count("lost") == 1
    assert "resumed" in world.states("sender")
    assert "resumed" in world.states("recipient")


@virtual_time
async def test_a_later_process_of_the_recipient_goes_on_from_its_disk(tmp_path, monkeypatch):
    world = World(tmp_path, CONTENTS, sender={"limit": 400e3})
    sending = world.sending()
    await asyncio.sleep(0.05)
    receiving = world.receiving()
    async with asyncio.timeout(20):
        while not any(event.durable for event in world.saw("recipient", p2p.Progressed)):
            await asyncio.sleep(0.01)
        died = world.recipient
        assert died.underway
        died.underway.journal.release()
        receiving.cancel()
        # None of it happens in a killed process.
        monkeypatch.setattr(died, "conclude", lambda code, **more: None)
        world.cut()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        world.told["recipient"].clear()
        world.recipient = world.new_recipient()
        outcomes = await asyncio.gather(sending, world.receiving())
    assert [one.code for one in outcomes] == ["", ""]
    assert delivered(world)
    assert "checking" in world.states("recipient")


async def test_both_confirm_the_digits_where_one_side_wants_it(tmp_path):
    asked = []

    async def ask(question):
        asked.append(question)
        return True

    world = World(
        tmp_path, CONTENTS, sender={"ask": ask}, recipient={"ask": ask}, verify=["recipient"]
    )
    sent, _ = await world.run()
    assert sent.code == ""
    assert [one.kind for one in asked] == ["digits", "digits"]
    assert len({one.digits for one in asked}) == 1
    assert sent.receipt
    receipt = p2p.verify_receipt(sent.receipt.read_bytes())
    assert receipt.payload["security"]["digits_confirmed"]
    (contact,) = world.homes["sender"].contacts.all().values()
    assert contact.verified


async def test_digits_that_differ_end_it_on_both_sides(tmp_path):
    async def no(question):
        return False

    async def yes(question):
        return True

    world = World(tmp_path, CONTENTS, sender={"ask": no}, recipient={"ask": yes}, verify=["sender"])
    outcomes = await world.run()
    assert [one.code for one in outcomes] == ["digits_rejected", "digits_rejected"]
    assert not world.disk.files
    for home in world.homes.values():  # who it was is known, and kept
        entries = (home.path / "audit.jsonl").read_text().splitlines()
        assert json.loads(entries[-1])["peer"]


async def test_a_recipient_that_declines_gets_nothing_and_both_say_so(tmp_path):
    async def no(question):
        assert question.kind == "accept"
        assert (question.offer.files, question.offer.folders) == (3, 1)
        return False

    world = World(tmp_path, CONTENTS, recipient={"auto": False, "ask": no})
    outcomes = await world.run()
    assert [one.ending for one in outcomes] == [Ending.DECLINED, Ending.DECLINED]
    assert not world.disk.files
    assert not world.disk.staged


async def test_a_sender_that_does_not_admit_reveals_nothing(tmp_path, monkeypatch):
    world = World(tmp_path, CONTENTS)

    async def refuse(met, digits, compared):
        assert len(digits) == 14
        raise Failure("declined")

    monkeypatch.setattr(world, "_admit", refuse)
    sending = world.sending()
    await asyncio.sleep(0.05)
    received = await asyncio.wait_for(world.receiving(), 10)
    assert received.code == "declined"
    assert not world.saw("recipient", p2p.Offered)
    assert not sending.done()  # the link stays open for others
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_no_space_ends_it_before_anything_is_accepted(tmp_path):
    world = World(tmp_path, CONTENTS)
    world.disk.space = 1000
    assert (await world.visit()).code == "no_space"
    assert [one.code for one in world.saw("sender", p2p.Warned)] == ["no_space"]
    assert not world.disk.parts


@virtual_time
async def test_a_disk_that_takes_no_more_pauses_both_and_goes_on(tmp_path, monkeypatch):
    world = World(tmp_path, CONTENTS)
    full = [True]
    monkeypatch.setattr(transfers, "DISK_SECONDS", 0.05)
    takes = memory.MemoryDestination.write

    def sometimes(self, offset, payload):
        if full.pop(0) if full else False:
            raise OSError(28, "No space left on device")
        takes(self, offset, payload)

    monkeypatch.setattr(memory.MemoryDestination, "write", sometimes)
    outcomes = await world.run()
    assert [one.code for one in outcomes] == ["", ""]
    assert delivered(world)
    assert "paused" in world.states("recipient")
    assert world.sender.cut == "paused"


@virtual_time
async def test_a_stop_is_told_to_the_other_side_and_leaves_nothing(tmp_path):
    world = World(tmp_path, CONTENTS, sender={"limit": 200e3})
    sending = world.sending()
    await asyncio.sleep(0.05)
    receiving = world.receiving()
    async with asyncio.timeout(20):
        while not world.saw("recipient", p2p.Progressed):
            await asyncio.sleep(0.01)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        sent = await sending
    assert sent.code == "peer_cancelled"
    (last,) = world.saw("recipient", p2p.Failed)
    assert world.told["recipient"][-1] is last
    assert last.code == "cancelled"
    assert not world.disk.files
    assert not world.disk.parts


@pytest.mark.parametrize("counts", [False, True])
async def test_two_processes_that_begin_the_same_transfer_at_once_leave_it_to_the_first(
    tmp_path, counts
):
    """Whether or not what the first one noted counts yet. The sender hears no reason to end it."""
    world = World(tmp_path, CONTENTS)
    first = []

    def begin(*ends):
        home = world.homes["recipient"]
        record = RecipientRecord(b"\x11" * 16, output=b"/")
        first.append(Journal(Journals(home).path(record), record))
        Journals(home).begin(first[0], b"manifest")
        if counts:
            first[0].write()

    world.on_connection = begin
    outcome = await world.visit()
    assert (outcome.code, outcome.detail) == ("transfer_running", first[0].short_id)
    assert first[0].read("manifest") == b"manifest"
    (said,) = world.saw("sender", p2p.Warned)
    assert said.code == "connection_lost_early"
    first[0].remove()


async def test_a_last_word_that_is_lost_leaves_the_sender_complete(tmp_path, monkeypatch):
    monkeypatch.setattr("p2p.protocol.session.sender.DONE_SECONDS", 0.3)

    def silent(self, now):
        self.state = RecipientState.CONFIRMED
        self._end(Ending.COMPLETE)

    monkeypatch.setattr(RecipientSession, "confirm", silent)
    world = World(tmp_path, CONTENTS)
    sent, received = await world.run()
    assert (sent.ending, received.ending) == (Ending.COMPLETE, Ending.COMPLETE)
    assert sent.code == "receipt_unconfirmed"


@pytest.mark.parametrize(
    ("role", "owner", "name"),
    [
        ("recipient", ReceiveDriver, "_clean_up"),
        ("recipient", AuditLog, "append"),
        ("sender", AuditLog, "append"),
    ],
)
async def test_a_stop_after_both_have_signed_changes_nothing_of_the_end(
    tmp_path, monkeypatch, role, owner, name
):
    """While threads are waited for, and while the end is noted."""
    world = World(tmp_path, CONTENTS)
    began, goes_on = threading.Event(), threading.Event()
    real = getattr(owner, name)

    def slow(self, *args):
        ends = args[:1] == ("transfer",)
        if owner is not AuditLog or (ends and self is world.homes[role].audit):
            began.set()
            goes_on.wait(20)
        return real(self, *args)

    monkeypatch.setattr(owner, name, slow)
    async with asyncio.timeout(20):
        tasks = {"sender": world.sending()}
        while not hasattr(world.sender, "identity"):
            await asyncio.sleep(0)
        tasks["recipient"] = world.receiving()
        await asyncio.to_thread(began.wait, 20)
        tasks[role].cancel()
        await asyncio.sleep(0.05)
        goes_on.set()
        outcome = await tasks[role]
        assert (outcome.ending, outcome.code) == (Ending.COMPLETE, "")
        await asyncio.wait(tasks.values())
    assert outcome.receipt
    assert p2p.verify_receipt(outcome.receipt.read_bytes()).confirmed


async def test_several_transfers_in_one_process_do_not_disturb_each_other(tmp_path):
    mask = os.umask(0o022)
    os.umask(mask)
    worlds = [World(tmp_path / str(number), CONTENTS) for number in range(4)]
    for outcomes in await asyncio.gather(*(world.run() for world in worlds)):
        assert [one.code for one in outcomes] == ["", ""]
    assert all(delivered(world) for world in worlds)
    assert os.umask(mask) == mask


def slowly(monkeypatch, owner, name, seconds=0.3):
    """Have a method take its time; a list that its callers are counted in."""
    begun = []
    quick = getattr(owner, name)

    def slow(*args, **kwargs):
        begun.append(name)
        time.sleep(seconds)
        return quick(*args, **kwargs)

    monkeypatch.setattr(owner, name, slow)
    return begun


async def test_an_empty_tape_is_whole_once_it_was_read_back(tmp_path, monkeypatch):
    """The digests are there before the disk has said anything."""
    slowly(monkeypatch, MemoryDestination, "read_back", 0.15)
    empty = (("study", None), ("study/empty", b""))
    world = World(tmp_path, empty)
    outcomes = await world.run()
    assert [one.code for one in outcomes] == ["", ""]
    assert world.disk.files == dict(empty)


async def test_many_small_files_on_a_slow_disk_count_before_all_are_written(tmp_path, monkeypatch):
    """All of them are one range; what is written of it survives a cut."""
    count, quick = 1500, os.fsync

    def slow(file):
        time.sleep(0.02)
        quick(file)

    world = World(tmp_path, [(f"{number:04d}", b"x") for number in range(count)])
    out = tmp_path / "out"
    out.mkdir()
    world.recipient = RecipientTransfer(world.options["recipient"], out)
    sending = world.sending()
    await asyncio.sleep(0.05)
    monkeypatch.setattr(os, "fsync", slow)
    receiving = world.receiving()
    async with asyncio.timeout(60):
        while not any(e.verified for e in world.saw("recipient", p2p.Progressed)):
            await asyncio.sleep(0.01)
        world.cut()
        monkeypatch.setattr(os, "fsync", quick)
        outcomes = await asyncio.gather(sending, receiving)
    assert [one.code for one in outcomes] == ["", ""]
    durable = [event.durable for event in world.saw("recipient", p2p.Progressed)]
    assert 0 < next(filter(None, durable)) < count
    assert durable == sorted(durable)
    assert "resumed" in world.states("recipient")


async def test_a_cut_while_space_is_made_waits_for_the_disk(tmp_path, monkeypatch):
    begun = slowly(monkeypatch, FolderDestination, "prepare", 1.5)
    world = World(tmp_path, CONTENTS)
    out = tmp_path / "out"
    out.mkdir()
    world.recipient = RecipientTransfer(world.options["recipient"], out)
    sending = world.sending()
    await asyncio.sleep(0.05)
    receiving = world.receiving()
    async with asyncio.timeout(20):
        while not begun:
            await asyncio.sleep(0.01)
        world.cut()
        outcomes = await asyncio.gather(sending, receiving)
    assert [one.code for one in outcomes] == ["", ""]
    assert len(world.connections) == 2


async def test_a_stop_while_space_is_made_leaves_nothing(tmp_path, monkeypatch):
    begun = slowly(monkeypatch, FolderDestination, "prepare")
    world = World(tmp_path, CONTENTS)
    out = tmp_path / "out"
    out.mkdir()
    world.recipient = RecipientTransfer(world.options["recipient"], out)
    sending = world.sending()
    await asyncio.sleep(0.05)
    receiving = world.receiving()
    async with asyncio.timeout(20):
        while not begun:
            await asyncio.sleep(0.01)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        await stop(sending)
    await asyncio.sleep(0.4)  # for a thread that was left behind
    assert list(out.iterdir()) == []
    assert list(Journals(world.homes["recipient"])) == []


async def test_a_stop_while_the_sender_notes_what_it_sends_leaves_nothing(tmp_path, monkeypatch):
    begun = slowly(monkeypatch, Journal, "store_sources")
    world = World(tmp_path, CONTENTS)
    sending = world.sending()
    async with asyncio.timeout(20):
        while not begun:
            await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    await asyncio.sleep(0.4)  # for a thread that was left behind
    assert list(Journals(world.homes["sender"])) == []


async def test_an_admission_that_cannot_be_noted_does_not_keep_the_link(tmp_path, monkeypatch):
    """It is nobody's yet: others may come, and it stays good no longer than it was."""
    world = World(tmp_path, CONTENTS)
    write = Journal.write

    def full(self, **changes):
        if "peer" in changes:
            raise OSError(errno.ENOSPC, "full")
        write(self, **changes)

    monkeypatch.setattr(Journal, "write", full)
    sending = world.sending()
    await asyncio.sleep(0.05)
    receiving = world.receiving()
    async with asyncio.timeout(20):
        await receiving
        while not world.saw("sender", p2p.Warned):
            await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert world.sender.cut is None
    assert world.sender.peer == b""


@virtual_time
async def test_digits_that_a_later_process_wants_compared_are_noted(tmp_path, monkeypatch):
    async def yes(question):
        return True

    world = World(tmp_path, CONTENTS, sender={"limit": 400e3, "ask": yes})
    sending = world.sending()
    await asyncio.sleep(0.05)
    receiving = world.receiving()
    async with asyncio.timeout(20):
        while not any(event.durable for event in world.saw("recipient", p2p.Progressed)):
            await asyncio.sleep(0.01)
        died = world.recipient
        assert died.underway
        died.underway.journal.release()
        receiving.cancel()
        monkeypatch.setattr(died, "conclude", lambda code, **more: None)
        world.cut()
        await asyncio.gather(receiving, return_exceptions=True)
        options = replace(world.options["recipient"], ask=yes)
        world.options["recipient"] = options
        world.recipient = world.new_recipient(verify=True)
        receiving = world.receiving()
        while world.recipient.underway is None:
            await asyncio.sleep(0.01)
        assert world.recipient.underway.record.verify
        await asyncio.gather(sending, receiving)
