"""What a browser keeps of a transfer: nothing that can be read without its link, and in the end nothing."""

from __future__ import annotations

import json
import os

import pytest

from tests.e2e.test_web import serving

from .recipient import Recipient, digest, finish

pytestmark = pytest.mark.asyncio(loop_scope="session")

AUTO = ("--auto", "--listen", "127.0.0.1:0")
WORD, NAME = b"PATIENT^SUSANNE^19620413", "SUSANNE-MUSTERFRAU.dcm"
KINDS = ("settings", "contacts", "receipts", "journals", "audit")


@pytest.fixture
def scan(tmp_path):
    """Every 64 KiB of it says whose it is."""
    path = tmp_path / "source" / NAME
    path.parent.mkdir()
    path.write_bytes(b"".join(WORD + os.urandom(65_536) for _ in range(800)))
    return path


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "source" / "IM000001"
    path.parent.mkdir()
    path.write_bytes(b"\0" * 128 + b"DICM" + WORD + os.urandom(1_000_000))
    return path


def on_disk(browser, *words):
    """Files of the profile that hold one of these words, as bytes or as a script's string."""
    folder = browser.downloads.parent / "profile"
    assert folder.is_dir()
    wanted = [one for word in words for one in (word, word.decode().encode("utf-16-le"))]
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            found += [path.relative_to(folder).as_posix() for one in wanted if one in content]
    return found


def size_on_disk(browser):
    """Of the largest file in the profile: the container."""
    folder = browser.downloads.parent / "profile"
    return max(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_the_disk_never_shows_whose_it_is(browser, sender, scan):
    """Not while files come, nor when they are there, nor after a crash; and a link opens it again."""
    recipient = Recipient(browser.page, browser)
    words = (WORD, NAME.encode())
    with serving(sender) as (port, _):
        server = ("--server", f"http://127.0.0.1:{port}")
        sending, link = sender.send(scan, "--auto", "--limit", "16M", *server)
        await recipient.take(link)
        ending = finish(sending, 150)
        await recipient.come_to(0.4)
        assert size_on_disk(browser) >= scan.stat().st_size
        assert on_disk(browser, *words) == []
        await recipient.delivered(120)
        assert (await ending)[0] == 0
        assert on_disk(browser, *words) == []
        await browser.kill()
        assert size_on_disk(browser) >= scan.stat().st_size
        assert on_disk(browser, *words) == []
        recipient = Recipient(await browser.start(), browser)
        await recipient.open(link)
        await recipient.delivered()
        assert digest(await recipient.save(NAME)) == digest(scan)


async def test_saved_into_a_file_nothing_is_left_but_what_names_no_file(at, sender, small):
    """Nor can the link be read from the tab any more."""
    visitor = await at("chromium")
    sending, link = sender.send(small, *AUTO)
    await visitor.take(link)
    await visitor.delivered()
    assert (await finish(sending))[0] == 0
    await visitor.save_into_file()
    await visitor.nothing_left()
    for kind in KINDS:
        assert small.name not in json.dumps(await visitor.records(kind)), kind
    kept = await visitor.page.evaluate("JSON.stringify(sessionStorage)")
    assert link.split("#")[1] not in kept
    assert "Saved as IM000001, and the copy in this browser is erased." in await visitor.text()
    assert visitor.page.errors == []


DISCARDED = "document.body.innerText.includes('Removed.')"


async def test_leaving_asks_until_it_is_saved(visitor, sender, small):
    """Also where it lies on the disk, and after a reload; a file without an ending keeps its name."""
    with serving(sender) as (port, _):
        sending, link = sender.send(small, "--auto", "--server", f"http://127.0.0.1:{port}")
        await visitor.open(link)
        assert not await visitor.guarded()
        await visitor.start()
        await visitor.accept()
        await visitor.delivered()
        assert (await finish(sending))[0] == 0
        assert await visitor.guarded()
        await visitor.page.evaluate("void (window.before = true)")
        await visitor.page.reload()
        await visitor.page.wait_until(
            "!window.before && document.querySelector('.card.done') !== null"
        )
        assert await visitor.guarded()
        assert digest(await visitor.save(small.name)) == digest(small)
        assert not await visitor.guarded()


async def test_a_download_takes_the_key_with_it(visitor, sender, small):
    """Where the page does not hear of its end: what is left opens for nobody, and can be removed."""
    sending, link = sender.send(small, *AUTO)
    await visitor.take(link)
    await visitor.delivered()
    assert (await finish(sending))[0] == 0
    await visitor.without_picker()
    await visitor.page.click(".card.done .choices .primary")
    saved = await visitor.browser.downloaded(small.name)
    assert digest(saved) == digest(small)
    assert "does not tell the page when a download has ended" in await visitor.text()
    assert not await visitor.guarded()
    assert await visitor.containers() != []
    assert await visitor.records("journals") == []
    kept = await visitor.page.evaluate("JSON.stringify(sessionStorage)")
    assert link.split("#")[1] not in kept
    await visitor.page.click(".card.done > .quiet")
    await visitor.page.wait_until(DISCARDED)
    await visitor.nothing_left()
    assert not await visitor.guarded()
    assert visitor.page.errors == []


async def test_what_could_not_be_saved_is_still_there(at, sender, small):
    visitor = await at("chromium")
    sending, link = sender.send(small, *AUTO)
    await visitor.take(link)
    await visitor.delivered()
    assert (await finish(sending))[0] == 0
    await visitor.fail_to_save()
    assert "It could not be saved." in await visitor.text()
    assert await visitor.guarded()
    assert digest(await visitor.save(small.name)) == digest(small)
    await visitor.nothing_left()


async def test_the_page_can_be_loaded_anew_when_the_sender_has_gone(visitor, sender, small):
    """Its server serves on, and the command line does not wait for that."""
    sending, link = sender.send(small, *AUTO)
    await visitor.take(link)
    await visitor.delivered()
    assert (await finish(sending))[0] == 0
    sending.process.wait(timeout=10)
    for _ in range(2):
        await visitor.page.evaluate("void (window.before = true)")
        await visitor.page.reload()
        await visitor.page.wait_until(
            "!window.before && document.querySelector('.card.done') !== null"
        )
    assert digest(await visitor.save(small.name)) == digest(small)


STRAY = """(async () => {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("handover");
  await folder.getFileHandle("0123456789abcdef0123456789abcdef", { create: true });
})()"""
FORGET = """(async () => {
  const root = await navigator.storage.getDirectory();
  await root.removeEntry("handover", { recursive: true });
})()"""


async def test_a_later_visit_erases_what_was_left(visitor, sender, small):
    """At the same address, by another link: what is old, and what no journal knows."""
    with serving(sender) as (port, _):
        server = ("--auto", "--server", f"http://127.0.0.1:{port}")
        sending, link = sender.send(small, *server)
        await visitor.take(link)
        await visitor.delivered()
        assert (await finish(sending))[0] == 0
        await visitor.age(8)
        await visitor.page.evaluate(STRAY)
        assert len(await visitor.containers()) == 2
        await visitor.page.goto("about:blank")
        _, link = sender.send(small, *server)
        await visitor.open(link)
        await visitor.page.wait_for(".card.welcome")
        await visitor.nothing_left()


@pytest.mark.parametrize("lost", ["old", "deleted"])
async def test_a_link_whose_files_are_not_here_any_more_says_so(visitor, sender, small, lost):
    """After seven days, or if somebody deleted them: nothing is called delivered."""
    with serving(sender) as (port, _):
        server = ("--auto", "--server", f"http://127.0.0.1:{port}")
        sending, link = sender.send(small, *server)
        await visitor.take(link)
        await visitor.delivered()
        assert (await finish(sending))[0] == 0
        await (visitor.age(8) if lost == "old" else visitor.page.evaluate(FORGET))
        await visitor.page.goto("about:blank")
        await visitor.open(link)
        await visitor.page.wait_for(".card.welcome")
        assert "What had arrived by this link is no longer in this browser" in await visitor.text()
        assert "The receipt is still here, under “Past transfers”" in await visitor.text()
        assert len(await visitor.records("receipts")) == 1
        await visitor.nothing_left()


async def test_days_are_promised_only_where_the_browser_has_promised_them(
    open_browser, sender, small
):
    """Else it is said beforehand that the browser may forget, and to save."""
    browser = await open_browser("firefox", persists=True)
    recipient = Recipient(browser.page, browser)
    for persisted in (False, True):
        sending, link = sender.send(small, *AUTO)
        await recipient.open(link)
        if persisted:
            assert await recipient.page.evaluate("navigator.storage.persist()")
            await recipient.open(link)
        await recipient.start()
        await recipient.offered()
        before = await recipient.text()
        assert ("stays in this browser until you save it" in before) == persisted
        assert ("which may delete it when you close it" in before) != persisted
        await recipient.accept()
        await recipient.delivered()
        assert (await finish(sending))[0] == 0
        after = await recipient.text()
        assert ("within seven days" in after) == persisted
        assert ("Save it now." in after) != persisted
        await recipient.save(small.name)
        await recipient.page.wait_for(".card.done h2")
        assert ("Save the receipt too" in await recipient.text()) != persisted
        browser.downloads.joinpath(small.name).unlink()
