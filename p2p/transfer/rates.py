"""How fast a transfer goes, what holds it up, and how fast it may go."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol.session import Bottleneck

RATE_SECONDS = 5.0  # what a rate is averaged over
SURE_SECONDS = 2.0  # before it is said what holds a transfer up
MIN_LIMIT = 10_000.0  # bytes a second
BURST_SECONDS = 0.1  # of a limited rate that may come at once


class Meter:
    """A rate over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, value: int) -> float:
        """Its increase for each second, `value` being what it is now."""
        now = time.monotonic()
        self._seen.append((now, value))
        while now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        since, base = self._seen[0]
        return (value - base) / (now - since) if now > since else 0.0


class Waits:
    """What held a transfer up over the last few seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seen: deque[tuple[float, Bottleneck, float]] = deque()  # when, what, seconds
        self._now: dict[object, tuple[Bottleneck, float]] = {}  # what, since when

    @contextmanager
    def on(self, what: Bottleneck) -> Iterator[None]:
        """Count the time inside."""
        began, this = time.monotonic(), object()
        self._now[this] = what, began
        try:
            yield
        finally:
            ended = time.monotonic()
            del self._now[this]
            self._seen.append((ended, what, ended - began))

    def most(self) -> Bottleneck:
        """What took more than half of the time, if anything did."""
        now = time.monotonic()
        if now - self._began < SURE_SECONDS:
            return ""
        while self._seen and now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        sums: dict[Bottleneck, float] = {}
        going_on = ((what, min(now - began, RATE_SECONDS)) for what, began in self._now.values())
        for what, seconds in (*((what, took) for _, what, took in self._seen), *going_on):
            sums[what] = sums.get(what, 0.0) + seconds
        half = min(now - self._began, RATE_SECONDS) / 2
        what = max(sums, key=lambda one: sums[one] if one else 0.0, default="")
        return what if sums.get(what, 0.0) > half else ""


class Limiter:
    """Keeps to a rate in bytes a second, over all lanes; None: none."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._due = 0.0  # when what was let through so far is paid for

    async def take(self, count: int) -> None:
        """Wait until so many bytes may pass."""
        if self._rate is not None:
            now = time.monotonic()
            self._due = max(self._due, now - BURST_SECONDS) + count / self._rate
            await asyncio.sleep(self._due - now)
