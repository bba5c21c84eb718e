"""Several things until one decides: what is raised, what is stopped, and that nobody complains."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from p2p.tasks import finish, in_thread, race, stop, uncancelled
from tests.virtual_time import virtual_time


async def after(seconds, result=None, error=None):
    await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return result


async def stubborn(error):
    """Fails when it is stopped."""
    try:
        await asyncio.sleep(100)
    finally:
        raise error


@pytest.fixture
def complaints():
    """What asyncio has to complain of."""
    return []


def listen(complaints):
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: complaints.append(context["message"])
    )


@virtual_time
async def test_what_the_main_one_gives_is_given_and_the_others_are_stopped():
    assert await race(after(1, "done"), after(100), after(0)) == "done"


@virtual_time
async def test_the_first_error_of_any_is_raised_as_itself():
    with pytest.raises(ValueError, match="first"):
        await race(after(100), after(1, error=ValueError("first")), after(2, error=KeyError()))


@virtual_time
async def test_the_main_one_is_stopped_before_the_others():
    order = []

    async def note(name):
        try:
            await asyncio.sleep(100)
        finally:
            order.append(name)

    with pytest.raises(ValueError):
        await race(note("main"), note("other"), after(1, error=ValueError()))
    assert order == ["main", "other"]


@virtual_time
async def test_errors_beside_the_one_that_is_raised_are_no_complaint(complaints):
    """A lane that is lost fails several tasks at once; a person must see one reason and no trace."""
    listen(complaints)
    with pytest.raises(ValueError):
        await race(after(100), after(1, error=ValueError()), after(1, error=ValueError()))
    with pytest.raises(ValueError):
        await race(after(1, error=ValueError()), stubborn(KeyError()))
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints


@virtual_time
async def test_clean_up_finishes_in_spite_of_a_stop():
    done = []

    async def clean_up():
        await asyncio.sleep(1)
        done.append(True)

    task = asyncio.create_task(uncancelled(clean_up()))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


@virtual_time
async def test_clean_up_that_takes_too_long_is_waited_for_no_more():
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(asyncio.sleep(100))
    task, began = asyncio.create_task(uncancelled(work)), loop.time()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - began == pytest.approx(10)
    work.cancel()
    await asyncio.wait([work])


@virtual_time
async def test_stopped_twice_nothing_is_left_running_either():
    """The second time while the main one still cleans up."""

    async def slow():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(10)

    ended = []

    async def other():
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(True)

    task = asyncio.create_task(race(slow(), other()))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


@virtual_time
async def test_what_must_be_finished_is_however_often_it_is_stopped():
    loop = asyncio.get_running_loop()
    task, began = asyncio.create_task(finish(after(10, "done"))), loop.time()
    for _ in range(5):
        await asyncio.sleep(1)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - began == pytest.approx(10)
    assert await finish(after(1, "done")) == "done"
    with pytest.raises(ValueError):
        await finish(after(1, error=ValueError()))


async def test_a_call_in_a_thread_is_waited_for_however_often_it_is_stopped():
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def call():
        began.set()
        go.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(call))
    while not began.is_set():
        await asyncio.sleep(0.001)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@virtual_time
async def test_tasks_that_are_stopped_are_waited_for_and_hurried(complaints):
    listen(complaints)
    steps = []

    async def slow():
        for _ in range(2):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                steps.append(True)
        raise ValueError

    async def fast():
        await asyncio.sleep(100)

    tasks = [asyncio.create_task(slow()), asyncio.create_task(fast())]
    await asyncio.sleep(0)
    stopping = asyncio.create_task(stop(*tasks))
    await asyncio.sleep(1)
    assert not stopping.done()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert all(task.done() for task in tasks)
    assert len(steps) == 2
    del tasks
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints
