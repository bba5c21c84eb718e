"""Transfers in this process, over real connections, whose events are kept as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import p2p

E = TypeVar("E", bound=p2p.Event)
Watch = Callable[[p2p.Event], object]


class Watched:
    """A transfer, and what its caller saw; `watch` is called with each event."""

    def __init__(self, transfer: p2p.Transfer, watch: Watch = lambda event: None):
        self.transfer, self._watch = transfer, watch
        self.told: list[p2p.Event] = []
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self.transfer:
            self.told.append(event)
            self._watch(event)

    def saw(self, kind: type[E]) -> list[E]:
        return [event for event in self.told if isinstance(event, kind)]

    async def until(self, state: str, seconds: float = 30) -> None:
        """Wait for a state."""
        async with asyncio.timeout(seconds):
            while not any(event.state == state for event in self.saw(p2p.StateChanged)):
                await asyncio.sleep(0.02)

    async def result(self) -> p2p.Outcome:
        outcome = await self.transfer.result()
        await self._following
        return outcome


def send(
    path: Path, home: Path | p2p.Home, *, watch: Watch = lambda event: None, **options: Any
) -> Watched:
    """Begin to send, from this machine alone."""
    options = {"auto": True, "listen": ("127.0.0.1", 0), **options}
    return Watched(p2p.send(str(path), home=home, **options), watch)


def receive(
    link: str,
    output: Path,
    home: Path | p2p.Home,
    *,
    watch: Watch = lambda event: None,
    **options: Any,
) -> Watched:
    """Begin to receive."""
    return Watched(p2p.receive(link, output, home=home, **{"auto": True, **options}), watch)
