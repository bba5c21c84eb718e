"""A disk that syncs slowly holds up nothing but what waits for it: the event loop goes on, and with
it acknowledgements and pings."""

from __future__ import annotations

import asyncio
import os
import time
import traceback

import pytest

import p2p
from p2p import Home

SYNC_SECONDS = 0.15
BEAT_SECONDS = 0.01
LONGEST_SECONDS = 10.0  # for a loop that waits for the sync never beats


class SlowDisk:
    """Each sync takes long; meanwhile the event loop has to beat."""

    def __init__(self, monkeypatch):
        self.files = []  # that were synced
        self.on_loop = []  # where from, of those that the event loop waited for itself
        self.held = []  # files during whose sync it did not beat: it waited for a lock, say
        self._beats, self._fsync = 0, os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, file):
        self.files.append(os.readlink(f"/proc/self/fd/{file}"))
        if asyncio._get_running_loop() is not None:
            self.on_loop.append("".join(traceback.format_stack()))
        before, ends = self._beats, time.monotonic() + LONGEST_SECONDS
        time.sleep(SYNC_SECONDS)
        while self._beats == before:  # on a busy machine it beats late, but it does
            if time.monotonic() > ends:
                self.held.append(self.files[-1])
                break
            time.sleep(BEAT_SECONDS)
        self._fsync(file)

    async def beat(self):
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._beats += 1


@pytest.mark.parametrize("ending", ["complete", "cancelled"])
async def test_no_slow_sync_is_waited_for_on_the_event_loop(tmp_path, some, monkeypatch, ending):
    """From the first identity to receipts, contacts, journals and logs of both sides."""
    homes = [Home(tmp_path / name) for name in ("sender", "recipient")]
    disk = SlowDisk(monkeypatch)
    beating = asyncio.create_task(disk.beat())
    async with asyncio.timeout(60):
        transfer = await p2p.send(some, auto=True, home=homes[0])
        other = p2p.receive(transfer.link, tmp_path / "inbox", auto=True, home=homes[1])
        async for event in other:
            if isinstance(event, p2p.StateChanged) and event.state == "accepted":
                if ending == "cancelled":
                    other.cancel()
                break
        outcomes = await asyncio.gather(transfer.result(), other.result())
    beating.cancel()
    ended = {"complete": ["", ""], "cancelled": ["peer_cancelled", "cancelled"]}
    assert [one.code for one in outcomes] == ended[ending]
    assert disk.on_loop == []
    assert disk.held == []
    synced = "\n".join(disk.files)
    kinds = ["transfers/", "audit.jsonl"] + ["receipts/", "annexes/"] * (ending == "complete")
    assert [kind for kind in kinds if kind not in synced] == []
