"""Tasks: running several things until one of them decides, and finishing in spite of a Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Run a call in a thread. A cancellation waits until it is through: what comes next must find
    the disk as the call leaves it."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # it is of no interest any more
        raise


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
            task.cancel()
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:  # it hurries whoever still cleans up
                    again = error
                    task.cancel()
            if not task.cancelled():
                task.exception()  # looked at, or asyncio prints it: one reason is enough
        if again is not None:
            raise again


async def uncancelled(work: Awaitable[Any]) -> None:
    """Let clean-up finish even when the task is being cancelled (a second Ctrl-C ends it hard)."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=10)
        raise
