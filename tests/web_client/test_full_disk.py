"""A disk that fills up under way: what has arrived is kept, both sides say why they wait, and it goes on."""

from __future__ import annotations

import errno
import os

import pytest
import pytest_asyncio

from tests.confined import small_disk

from .browsers import KINDS, Options, open_browser
from .recipient import Recipient, digest, finish

pytestmark = pytest.mark.asyncio(loop_scope="session")

MEGABYTES = 700  # a profile of Chromium's takes some hundred
SIZE = 100_000_000


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, for the browser alone."""
    with small_disk(tmp_path / "disk", MEGABYTES) as folder:
        yield folder


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def recipient(request, disk):
    """Someone at a browser whose profile is on that disk."""
    async with open_browser(request.param, disk / "browser", Options()) as browser:
        yield Recipient(browser.page, browser)


def fill(folder):
    """Take all the space there is, as another program would; the file to give it back by."""
    path = folder / "another"
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1_000_000))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return path


async def test_a_disk_that_is_full_is_waited_for(recipient, disk, sender, tmp_path):
    scan = tmp_path / "scan.raw"
    scan.write_bytes(os.urandom(SIZE))
    sending, link = sender.send(scan, "--auto", "--listen", "127.0.0.1:0", "--limit", "8M")
    await recipient.take(link)
    before = await recipient.come_to(0.2)
    another = fill(disk)

    await recipient.page.wait_until(
        "document.body.innerText.includes('disk takes no more data')", 60
    )
    assert sending.wait_for("state", state="paused")
    another.unlink()
    ending = finish(sending)
    assert await recipient.come_to(before) >= before
    await recipient.delivered(120)
    assert (await ending)[0] == 0
    assert digest(await recipient.save(scan.name)) == digest(scan)
    await recipient.nothing_left()
