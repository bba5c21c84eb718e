"""Tasks: running several things until one of them decides, and finishing in spite of a Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finish(work: Awaitable[T]) -> T:
    """Wait until it is through, however often the task is cancelled meanwhile; then it is. For what
    must not be left half done."""
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # it is of no interest any more
        raise cancelled
    return future.result()


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Run a call in a thread. A cancellation waits until it is through: what comes next must find
    the disk as the call leaves it. What the call opens, locks or makes must have an owner by the
    time that it returns, for nobody may look at the result."""
    return await finish(asyncio.get_running_loop().run_in_executor(None, call, *args))


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these, and wait until each has ended. A cancellation meanwhile hurries them: they are
    cancelled again, and then whoever waits for them is."""
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while left := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
            for task in left:
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio prints it
    if cancelled is not None:
        raise cancelled


async def race(main: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, None]) -> T:
    """Run all; give what `main` gives, or raise the first error of any. Nothing is left running.

    An error is raised as itself, not in a group: there is one reason why a transfer ended.
    """
    first = asyncio.create_task(main)
    tasks: list[asyncio.Task[Any]] = [first, *map(asyncio.create_task, others)]
    try:
        pending = set(tasks)
        while not first.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return first.result()
    finally:
        # The main one first: it may still need the others to say goodbye.
        again: asyncio.CancelledError | None = None
        for task in tasks:
            try:
                await stop(task)
            except asyncio.CancelledError as error:
                again = error
        if again is not None:
            raise again


async def uncancelled(work: Awaitable[Any]) -> None:
    """Let clean-up finish even when the task is being cancelled, within ten seconds: that of a
    network, which may hang. Of a disk: `finish`."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=10)
        raise


def wake(waiter: asyncio.Future[None]) -> None:
    """Let whoever waits go on, unless somebody has already."""
    if not waiter.done():
        waiter.set_result(None)
