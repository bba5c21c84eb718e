"""Time that is virtual: where nothing else is to be done, the clock jumps to the next timer.

    @virtual_time
    async def test_...():
        await asyncio.sleep(3600)  # takes a millisecond

`time.monotonic` tells the same time. Work in threads and bytes on loopback sockets take no time at
all. When the test is over, nothing may be left running in its loop.
"""

from __future__ import annotations

import asyncio
import functools
import linecache
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import patch

GRACE_SECONDS = 0.001  # real ones, for what the kernel passes on, before the clock jumps
STUCK_SECONDS = 30.0  # real ones, in which no thread comes to an end


class _Selector(selectors.DefaultSelector):
    """Waits for real only for threads."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> Any:
        self.loop.on_round()
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self.loop.threads:
            return super().select(STUCK_SECONDS)
        sockets = len(self.get_map()) > 1  # beside the loop's own
        found = super().select(GRACE_SECONDS if sockets else 0)
        if found or timeout is None:
            return found or super().select(STUCK_SECONDS)
        self.loop.now += timeout
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual."""

    def __init__(self) -> None:
        self.now, self.threads = 1000.0, 0
        self.on_round: Callable[[], object] = lambda: None  # called in each round
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._returned)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        self.threads += 1
        await super().shutdown_default_executor(*args)
        self.threads -= 1

    def _returned(self, future: asyncio.Future[Any]) -> None:
        self.threads -= 1


def virtual_time(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """Run a test in virtual time, with asyncio's own checks, and see that it leaves nothing."""

    async def run(*args: Any, **kwargs: Any) -> None:
        loop = asyncio.get_running_loop()
        # asyncio notes where each task was made, and to look at the files again for that is slow.
        known = patch.object(linecache, "checkcache", lambda filename=None: None)
        with patch.object(time, "monotonic", loop.time), known:
            await test(*args, **kwargs)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"left running: {left}"

    @functools.wraps(test)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(debug=True, loop_factory=VirtualTimeLoop) as runner:
            runner.run(run(*args, **kwargs))

    return wrapped
