"""Transfers in this process, over real connections, whose events are kept as they come."""

from __future__ import annotations

import asyncio

import p2p


class Watched:
    """A transfer, and what its caller saw; `watch` is called with each event."""

    def __init__(self, transfer, watch=lambda event: None):
        self.transfer, self.told = transfer, []
        self._watch = watch
        self._following = asyncio.create_task(self._follow())

    async def _follow(self):
        async for event in self.transfer:
            self.told.append(event)
            self._watch(event)

    def saw(self, kind):
        return [event for event in self.told if isinstance(event, kind)]

    async def until(self, state, seconds=30):
        """Wait for a state."""
        async with asyncio.timeout(seconds):
            while not any(event.state == state for event in self.saw(p2p.StateChanged)):
                await asyncio.sleep(0.02)

    async def result(self):
        outcome = await self.transfer.result()
        await self._following
        return outcome


def send(path, home, *, watch=lambda event: None, **options):
    """Begin to send, from this machine alone."""
    options = {"auto": True, "listen": ("127.0.0.1", 0), **options}
    return Watched(p2p.send(str(path), home=home, **options), watch)


def receive(link, output, home, *, watch=lambda event: None, **options):
    """Begin to receive."""
    return Watched(p2p.receive(link, output, home=home, **{"auto": True, **options}), watch)
