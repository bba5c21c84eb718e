"""Windows that keep nothing on the disk: small transfers in memory, large ones refused beforehand."""

from __future__ import annotations

import os

import pytest
import pytest_asyncio

from .browsers import KINDS
from .recipient import Recipient, digest, finish

pytestmark = pytest.mark.asyncio(loop_scope="session")

AUTO = ("--auto", "--listen", "127.0.0.1:0")


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def private(request, open_browser):
    """Someone at a window off the record, in each browser."""
    browser = await open_browser(request.param, private=True)
    return Recipient(browser.page, browser)


async def test_small_files_are_held_in_memory_and_that_is_said_before(private, sender, tmp_path):
    source = tmp_path / "source" / "scan.dcm"
    source.parent.mkdir()
    source.write_bytes(os.urandom(1_000_000) * 40)
    sending, link = sender.send(source, *AUTO)
    await private.open(link)
    await private.start()
    await private.offered()
    said = await private.text()
    assert "This window stores nothing on the disk" in said
    assert "do not close or reload this page before you have saved." in said
    assert await private.containers_or_none() == []
    await private.accept()
    ending = finish(sending)
    await private.delivered()
    assert (await ending)[0] == 0
    assert await private.guarded()  # it would be lost
    path = await private.save(source.name)
    assert digest(path) == digest(source)
    assert not await private.guarded()
    assert private.page.errors == []


async def test_large_ones_are_refused_with_another_way(private, sender, tmp_path):
    """Above 512 MiB; before a byte came, and before anybody said yes."""
    source = tmp_path / "large.raw"
    with open(source, "wb") as file:
        file.truncate(600_000_000)
    sending, link = sender.send(source, *AUTO)
    await private.open(link)
    await private.start()
    await private.page.wait_for(".card.offer, .card.ended", 40)
    said = await private.text()
    if private.browser.kind == "chromium":  # it could receive into a folder
        assert "This browser has no space for it." in said
        assert "Receive into a folder…" in said
        assert "use the command line" in said
        await private.decline()
        await private.ended()
        code, last = await finish(sending)
        assert (code, last["code"]) == (6, "declined")
    else:
        assert (
            "This window stores nothing on the disk, and this is too large for its memory" in said
        )
        assert "Open the link in a normal window" in said
        assert "handover receive" in said
        sending.wait_for("warning", code="no_space")  # and the link is good for another browser
        sending.kill()
    assert await private.containers_or_none() == []
    assert private.page.errors == []
