"""Cancelled at any moment, once or again and again: nothing is left open, locked or lying about.

What a thread opens, locks or makes while whoever waits for it is cancelled must still have an owner.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from p2p.state.journal import Journals, RecipientRecord
from p2p.storage.destination import FolderDestination
from p2p.transfer.outcome import conclude
from p2p.transfer.recipient import RecipientTransfer
from tests.virtual_time import VirtualTimeLoop, virtual_time

from .memory import Role, World, carrier_of

CONTENTS = (("study", None), ("study/1.dcm", os.urandom(90_000)), ("study/2.dcm", b"x"))
STEP = 5  # rounds; a thread takes more of them than that
ROLES: tuple[Role, ...] = ("sender", "recipient")


def open_below(folder: Path) -> list[str]:
    """Files below a folder that this process has open."""
    found = []
    for one in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{one}")
        except FileNotFoundError:
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


def world_in(folder: Path) -> World:
    """Files arrive in a real folder."""
    world = World(folder, CONTENTS)
    world.recipient = recipient_of(world)
    return world


def recipient_of(world: World) -> RecipientTransfer:
    return RecipientTransfer(
        world.options["recipient"],
        world.homes["recipient"].path.parent / "out",
        open_destination=FolderDestination,
    )


def left_of(world: World, folder: Path) -> list[Path]:
    """What should not be there once both are over: all but the journal of a recipient that has
    signed, and waits for the other signature."""
    waiting = {
        one.path
        for one in Journals(world.homes["recipient"])
        if isinstance(one.record, RecipientRecord) and one.record.phase == "signed"
    }
    folders = [one for role in ROLES for one in (folder / role / "transfers").iterdir()]
    return [*(one for one in folders if one not in waiting), *(folder / "out").glob(".*")]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("role", ROLES)
def test_cancelled_in_any_round_of_the_loop_it_leaves_nothing(tmp_path, role, times):
    """`times`: how often, in rounds that follow each other."""
    was_cancelled = []

    async def once(folder, at):
        loop, world = asyncio.get_running_loop(), world_in(folder)
        loop.set_debug(False)  # which would take most of the time
        tasks = {"sender": world.sending()}
        while not hasattr(world.sender, "identity"):
            await asyncio.sleep(0)
        tasks["recipient"] = world.receiving()
        rounds = 0

        def count():
            nonlocal rounds
            rounds += 1
            if at <= rounds < at + times:
                loop.call_soon(tasks[role].cancel)

        assert isinstance(loop, VirtualTimeLoop)
        loop.on_round = count
        await asyncio.wait([tasks[role]])
        loop.on_round = lambda: None
        while left := [task for task in tasks.values() if not task.done()]:
            left[0].cancel()  # one that is only signing wants to be told twice
            await asyncio.wait(left[:1], timeout=1)
        assert open_below(folder) == []
        assert left_of(world, folder) == [], f"cancelled in round {at}"
        was_cancelled.append(tasks[role].cancelled())

    for at in range(1, 400, STEP):
        virtual_time(once)(tmp_path / str(at), at)
        if was_cancelled[-3:] == [False] * 3:
            break
    assert sum(was_cancelled) > 100 / STEP
    assert not was_cancelled[-1]


def test_cancelled_before_its_first_session_a_later_process_erases_all_of_it(tmp_path):
    """What an earlier process left: journal and parts."""
    folder, template = tmp_path / "world", tmp_path / "template"

    async def leave():
        world = world_in(folder)
        kept = asyncio.Event()

        def swallow(message):
            if "accepted" in world.states("recipient"):
                kept.set()
            return kept.is_set()

        def keep(sends, receives):
            carrier_of(sends).data.swallow = swallow

        world.on_connection = keep
        tasks = world.sending(), world.receiving()
        await kept.wait()
        await asyncio.sleep(1)
        shutil.copytree(folder, template)  # as a process that is killed leaves it
        shutil.rmtree(template / "sender")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def for_ever():
        while True:
            await asyncio.sleep(0)

    async def once(at):
        loop = asyncio.get_running_loop()
        loop.set_debug(False)
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        world = world_in(folder)
        transfer = world.recipient

        async def receive():
            transfer.identify(world.homes["recipient"].identity.load())
            await transfer.recall(str(world.link), world.link.secret)
            for _ in range(5):  # an engine is loaded
                await asyncio.sleep(0)
            return await transfer.run(for_ever)

        audit, emit = world.homes["recipient"].audit, world.options["recipient"].emit
        receiving = asyncio.create_task(conclude(receive(), transfer, "recipient", audit, emit))
        rounds = 0

        def count():
            nonlocal rounds
            rounds += 1
            if rounds == at:
                loop.call_soon(receiving.cancel)

        assert isinstance(loop, VirtualTimeLoop)
        loop.on_round = count
        await asyncio.wait([receiving])
        assert receiving.cancelled()
        assert open_below(folder) == []
        assert left_of(world, folder) == []

    virtual_time(leave)()
    assert len(list((template / "out").glob(".*"))) == 1
    for at in range(1, 20):
        virtual_time(once)(at)
