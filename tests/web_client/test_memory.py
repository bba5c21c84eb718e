"""Gigabytes through a page, whose memory stays where it was."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess

import psutil
import pytest

from .recipient import Recipient, finish

pytestmark = [
    pytest.mark.large,
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="session"),
]
MEMORY = 250 * 1024 * 1024
SIZE = 1024**3  # 4 GB take as much


def renderers(browser):
    return [p for p in browser.processes() if "--type=renderer" in " ".join(p.cmdline())]


async def watch(browser, peaks):
    """The largest private memory of each process that runs pages, until cancelled."""
    while True:
        for process in renderers(browser):
            with contextlib.suppress(psutil.Error):
                used = process.memory_full_info().uss
                peaks[process.pid] = max(peaks.get(process.pid, 0), used)
        await asyncio.sleep(0.25)


async def test_a_gib_through_chromium_with_flat_memory(open_browser, sender, tmp_path):
    chromium = await open_browser("chromium")
    source = tmp_path / "one.raw"
    with open(source, "wb") as file:
        subprocess.run(["head", "-c", str(SIZE), "/dev/urandom"], stdout=file, check=True)
    visitor = Recipient(chromium.page, chromium)
    peaks: dict[int, int] = {}  # by process id
    sending, link = sender.send(source, "--auto", "--listen", "127.0.0.1:0")
    await visitor.take(link)
    ending, watching = finish(sending, 500), asyncio.create_task(watch(chromium, peaks))
    began = asyncio.get_running_loop().time()
    await visitor.delivered(500)
    took = asyncio.get_running_loop().time() - began
    path = await visitor.save(source.name, 200)
    watching.cancel()
    assert (await ending)[0] == 0
    peak = max(peaks.values())
    print(f"\nrenderer's peak: {peak / 1e6:.0f} MB; {SIZE / took / 1e6:.1f} MB/s")
    assert peak < MEMORY
    assert subprocess.run(["cmp", source, path]).returncode == 0
    assert chromium.page.errors == []
