"""Gigabytes and tens of thousands of files out of a page, whose memory stays where it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess

import psutil
import pytest

from .browsers import KINDS
from .page_sender import PageSender
from .recipient import finish

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.asyncio(loop_scope="session"),
]
MEMORY = 300 * 1024 * 1024
SIZE = 4 * 1024**3
COUNT = 20_000


def tabs(browser):
    """The processes that run pages."""
    marks = {"chromium": ("--type=renderer",), "firefox": ("-contentproc", " tab")}[browser.kind]
    found = []
    for process in browser.processes():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if all(mark in line for mark in marks):
                found.append(process)
    return found


async def watch(browser, peaks):
    """The largest private memory of each of them, until cancelled."""
    while True:
        for process in tabs(browser):
            with contextlib.suppress(psutil.Error):
                used = process.memory_full_info().uss
                peaks[process.pid] = max(peaks.get(process.pid, 0), used)
        await asyncio.sleep(0.25)


@contextlib.asynccontextmanager
async def measured(browser):
    """No tab grows above the bound meanwhile."""
    peaks: dict[int, int] = {}  # by process id
    watching = asyncio.create_task(watch(browser, peaks))
    try:
        yield
    finally:
        watching.cancel()
    peak = max(peaks.values())
    print(f"\n{browser.kind}: a tab's peak is {peak / 1e6:.0f} MB")
    assert peak < MEMORY


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
async def test_four_gib(open_browser, origin, receiver, tmp_path, kind):
    """Every byte of it is read, hashed and sent as it is."""
    browser = await open_browser(kind)
    source = tmp_path / "four.raw"
    block = os.urandom(64 * 1024**2)  # nothing that compression could find in a range
    with open(source, "wb") as file:
        for _ in range(SIZE // len(block)):
            file.write(block)
    host = PageSender(browser.page, browser)
    link = await host.send(origin, [source])
    receiving = receiver.receive(link, tmp_path / "out", "--auto")
    ending = finish(receiving, 1100)
    async with measured(browser):
        await host.admit()
        began = asyncio.get_running_loop().time()
        await host.sent(1100)
        took = asyncio.get_running_loop().time() - began
    print(f"{SIZE / took / 1e6:.1f} MB/s")
    assert (await ending)[0] == 0
    assert subprocess.run(["cmp", source, tmp_path / "out" / source.name]).returncode == 0
    assert browser.page.errors == []


@pytest.mark.large
@pytest.mark.parametrize("kind", KINDS)
async def test_20_000_files(open_browser, origin, receiver, tmp_path, kind):
    """By the field for folders, as each browser has it."""
    browser = await open_browser(kind)
    root = tmp_path / "many"
    for number in range(COUNT):
        path = root / f"{number // 1000:02d}" / f"{number:06d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * 400)
    host = PageSender(browser.page, browser)
    async with measured(browser):
        await host.open(origin)
        await host.choose(root)
        await host.page.wait_until("document.querySelector('h1').innerText.includes('20,000')", 120)
        link = await host.make_link()
        ending = finish(receiver.receive(link, tmp_path / "out", "--auto"), 1000)
        await host.admit(120)
        began = asyncio.get_running_loop().time()
        assert (await host.sent(1000)).startswith("Delivered and verified: 20,000 files")
        print(f"{asyncio.get_running_loop().time() - began:.0f} s")
    assert (await ending)[0] == 0
    assert subprocess.run(["diff", "-r", root, tmp_path / "out" / "many"]).returncode == 0
    assert browser.page.errors == []
