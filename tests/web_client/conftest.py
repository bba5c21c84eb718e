"""Real browsers for the tests of the web client: a missing one fails a test, and never skips it."""

from __future__ import annotations

import contextlib

import pytest

from .browsers import KINDS, Options
from .browsers import open_browser as start_browser


@pytest.fixture
async def open_browser(tmp_path):
    """Starts a browser with a profile of its own: `await open_browser("firefox", private=True)`."""
    async with contextlib.AsyncExitStack() as running:
        count = 0

        async def start(kind, **options):
            nonlocal count
            count += 1
            folder = tmp_path / f"{kind}-{count}"
            return await running.enter_async_context(
                start_browser(kind, folder, Options(**options))
            )

        yield start


@pytest.fixture
async def chromium(open_browser):
    return await open_browser("chromium")


@pytest.fixture
async def firefox(open_browser):
    return await open_browser("firefox")


@pytest.fixture(params=KINDS)
async def browser(request, open_browser):
    """Each browser in turn."""
    return await open_browser(request.param)
