"""Real browsers for the tests of the web client: a missing one fails a test, and never skips it."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def dicom():
    """The DICOM files that ship with pydicom: 176 of many kinds."""
    return Path(importlib.util.find_spec("pydicom").origin).parent / "data" / "test_files"
