"""Real browsers for the tests of the web client: a missing one fails a test, and never skips it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import pytest
import pytest_asyncio

import hatch_build
from tests.e2e.harness import ROOT, Peer
from tests.e2e.test_web import serving

from .browsers import KINDS, Options
from .browsers import open_browser as start_browser
from .look import Look
from .page_sender import PageSender
from .recipient import Recipient


@pytest_asyncio.fixture(loop_scope="session")
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


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def browser(request, open_browser):
    """Each browser in turn, with a profile of its own."""
    return await open_browser(request.param)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory):
    """One browser of each kind for all tests that need no profile of their own."""
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
    """Someone at a tab of a shared browser who has never been there."""
    async with contextlib.AsyncExitStack() as used, contextlib.AsyncExitStack() as opened:

        async def sit_down(kind):
            browser = await shared(kind)
            used.push_async_callback(browser.forget)
            page = await browser.visit()
            opened.push_async_callback(page.close)
            return Recipient(page, browser)

        yield sit_down


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def visitor(request, at):
    """At a shared browser of each kind in turn."""
    return await at(request.param)


@pytest.fixture
def sender(tmp_path):
    """A machine to send from."""
    peer = Peer(tmp_path / "sender", "Klinik Süd, Radiologie")
    yield peer
    peer.close()


@pytest.fixture
def origin(tmp_path):
    """The address of a server that hands out the page."""
    server = Peer(tmp_path / "server")
    with serving(server) as (port, _):
        yield f"http://localhost:{port}"


@pytest_asyncio.fixture(loop_scope="session")
async def host_at(at):
    """Someone who sends, at a tab of a shared browser."""

    async def sit_down(kind):
        visitor = await at(kind)
        return PageSender(visitor.page, visitor.browser)

    yield sit_down


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def host(request, host_at):
    """Someone who sends, at a shared browser of each kind in turn."""
    return await host_at(request.param)


@pytest.fixture
def receiver(tmp_path):
    """A machine to receive at."""
    peer = Peer(tmp_path / "receiver", "Klinik Nord, Befundung")
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of axe-core, from the client's own development dependencies."""
    client = ROOT / "web_client"
    path = client / "node_modules" / "axe-core" / "axe.min.js"
    with open(tmp_path_factory.getbasetemp().parent / "axe.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of the parallel workers gets it for all
        if not path.exists():
            hatch_build.npm(client, "ci")
    return path.read_text()


@pytest.fixture
def look(axe):
    """With HANDOVER_SCREENSHOTS, pictures of everything go to that folder."""
    folder = os.environ.get("HANDOVER_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Look(axe, Path(folder) if folder else None)
