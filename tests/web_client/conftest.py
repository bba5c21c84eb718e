"""Real browsers for the tests of the web client: a missing one fails a test, and never skips it."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.harness import Peer

from .browsers import KINDS, Options
from .browsers import open_browser as start_browser
from .recipient import Recipient


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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory):
    """One browser of each kind for tests that bring their own origin: `await shared("firefox")`."""
    async with contextlib.AsyncExitStack() as running:
        started = {}

        async def get(kind):
            if kind not in started:
                new = start_browser(kind, tmp_path_factory.mktemp(kind), Options())
                started[kind] = await running.enter_async_context(new)
            return started[kind]

        yield get


@pytest_asyncio.fixture(loop_scope="session")
async def at(shared):
    """Someone at a tab of a shared browser. A sender's port is an origin, so storage is empty."""
    async with contextlib.AsyncExitStack() as opened:

        async def sit_down(kind):
            browser = await shared(kind)
            page = await browser.new_page()
            opened.push_async_callback(page.close)
            return Recipient(page, browser)

        yield sit_down


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def visitor(request, at):
    """At a shared browser of each kind in turn."""
    return await at(request.param)


@pytest.fixture
def recipient(browser):
    """Someone at each browser in turn."""
    return Recipient(browser.page, browser)


@pytest.fixture
def sender(tmp_path):
    """A machine to send from."""
    peer = Peer(tmp_path / "sender", "Klinik Süd, Radiologie")
    yield peer
    peer.close()


@pytest.fixture
def some(tmp_path):
    """A small folder to send."""
    root = tmp_path / "study"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.dcm").write_bytes(bytes([number]) * 50_000)
    return root


@pytest.fixture(scope="session")
def dicom():
    """The DICOM files that ship with pydicom: 176 of many kinds."""
    return Path(importlib.util.find_spec("pydicom").origin).parent / "data" / "test_files"
