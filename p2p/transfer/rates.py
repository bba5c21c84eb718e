"""How fast a transfer goes, what holds it up, and how fast it may go."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol.session import Bottleneck

RATE_SECONDS = 5.0  # what a rate is averaged over
STRETCH_SECONDS = 0.25  # that what was waited for is summed up over
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
        # Sums of seconds, each of a stretch of time: a fast transfer waits thousands of times.
        self._sums: deque[tuple[float, dict[Bottleneck, float]]] = deque()  # with its beginning
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
            if not self._sums or ended - self._sums[-1][0] > STRETCH_SECONDS:
                self._sums.append((ended, {}))
                self._forget(ended)
            sums = self._sums[-1][1]
            sums[what] = sums.get(what, 0.0) + ended - began

    def _forget(self, now: float) -> None:
        while self._sums and now - self._sums[0][0] > RATE_SECONDS:
            self._sums.popleft()

    def most(self) -> Bottleneck:
        """What took more than half of the time, if anything did."""
        now = time.monotonic()
        if now - self._began < SURE_SECONDS:
            return ""
        self._forget(now)
        total: dict[Bottleneck, float] = {}
        for _, sums in self._sums:
            for what, seconds in sums.items():
                total[what] = total.get(what, 0.0) + seconds
        for what, began in self._now.values():
            total[what] = total.get(what, 0.0) + min(now - began, RATE_SECONDS)
        half = min(now - self._began, RATE_SECONDS) / 2
        what = max(total, key=lambda one: total[one] if one else 0.0, default="")
        return what if total.get(what, 0.0) > half else ""


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
