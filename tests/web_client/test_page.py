"""How the page looks and behaves: every state of it, in both languages, light and dark, at any width."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

import pytest
import pytest_asyncio

import p2p
from tests.e2e.harness import Terminal, kill_hard

from .recipient import SECONDS, Recipient, finish

pytestmark = pytest.mark.asyncio(loop_scope="session")

AUTO = ("--auto", "--listen", "127.0.0.1:0")
LINK = r"(http://\S+#\S+)"


@pytest_asyncio.fixture(loop_scope="session")
async def recipient(at):
    return await at("chromium")


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "CT Thorax.dcm"
    path.write_bytes(os.urandom(1_000_000) * 100)
    return path


@contextlib.asynccontextmanager
async def slowed(process):
    """It runs a tenth of the time, so that there is time to look."""

    async def pace():
        while True:
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(0.9)
            process.signal(signal.SIGCONT)
            await asyncio.sleep(0.1)

    pacing = asyncio.create_task(pace())
    try:
        yield
    finally:
        pacing.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGCONT)


@pytest.mark.timeout(300)
async def test_states_of_a_transfer_that_goes_well(recipient, look, sender, some):
    """From no link to the receipt, and one of which a file is missing."""
    page = recipient.page
    sending, link = sender.send(some, *AUTO)
    await recipient.open(link.split("#")[0])
    await look(recipient, "no-link")
    await recipient.open(f"{link}.p")
    await look(recipient, "welcome-passphrase")
    await recipient.open(link)
    await look(recipient, "welcome")
    sending.signal(signal.SIGSTOP)
    await recipient.start()
    await page.wait_for(".card.working .note")
    await look(recipient, "connecting")
    sending.signal(signal.SIGCONT)
    await recipient.offered()
    assert await page.evaluate("document.querySelector('.list').open")
    await look(recipient, "offer")
    await recipient.accept()
    await recipient.delivered()
    await look(recipient, "done")
    await recipient.fail_to_save()
    await look(recipient, "unsaved")
    await recipient.without_picker()
    await page.click(".card.done .choices .primary")
    await recipient.browser.downloaded("study.zip")
    await page.wait_for(".card.done h2")
    await look(recipient, "offered")
    await page.click(".card.done > button.quiet")
    await page.wait_until("document.querySelector('.choices') === null")
    await look(recipient, "removed")
    assert (await finish(sending))[0] == 0
    sending, link = sender.send(some, *AUTO)
    await recipient.open(link)
    await recipient.start()
    await recipient.offered()
    (some / "1.dcm").unlink()
    await recipient.accept()
    await page.wait_for(".card.done")
    assert await page.text(".failed") == "study/1.dcm: could not be read by the sender"
    await look(recipient, "incomplete")
    await recipient.save_into_file()
    await look(recipient, "saved")
    assert (await finish(sending))[0] == 3
    assert page.errors == []
    assert len(look.seen) == 11


async def test_a_check_of_this_computer(recipient, look, sender, some):
    """From the first screens, and back: at a sender's own server, which has no servers to name."""
    page = recipient.page
    _, link = sender.send(some, *AUTO)
    for address in (link.split("#")[0], link):
        await recipient.open(address)
        await page.evaluate("void document.querySelector('.card .more')?.setAttribute('open', '')")
        await page.click(".card .check-computer")
        await page.wait_for(".card.check .primary", 30)
        assert "inside this network alone" in await page.text(".card.check [role=status]")
        assert await page.evaluate(
            "[...document.querySelectorAll('.findings li')].map((row) => row.dataset.verdict)"
        ) == ["works", "works", "works", "note"]
    await look(recipient, "check")
    await page.evaluate(
        """void (navigator.clipboard.writeText = async (text) => (window.copied = text))"""
    )
    await page.click(".card.check .primary")
    copied = await page.evaluate("window.copied")
    assert "works: signaling server. It answers in " in copied
    assert link.split("#")[1] not in copied
    assert page.errors == []
    await page.evaluate("void (window.before = true)")
    await page.click(".card.check .quiet")
    await page.wait_until("!window.before && document.querySelector('.card.welcome') !== null")


async def test_nothing_of_an_offer_is_kept_from_the_person(recipient, look, sender, some):
    """What is hidden, what goes by another name, and what does not go at all."""
    (some / ".profile").write_bytes(b"x")
    (some / "link").symlink_to("0.dcm")
    os.mkfifo(some / "pipe")
    (some / os.fsdecode(b"M\xfcller.dcm")).write_bytes(b"y")
    sending, link = sender.send(some, *AUTO)
    await recipient.open(link)
    await recipient.start()
    await recipient.offered()
    text = await recipient.text()
    assert "Contains 1 hidden name:" in text
    assert "study/.profile" in text
    assert "1 name was changed by the sender:" in text
    assert "study/M%FCller.dcm (before: M\ufffdller.dcm)" in text
    left_out = "The sender left out: 1 symbolic link, 1 device, pipe or socket."
    assert left_out in text
    await look(recipient, "noticed")
    await recipient.accept()
    await recipient.delivered()
    assert left_out in await recipient.text()
    assert (await finish(sending))[0] == 0
    (receipt,) = sender.receipts()
    assert p2p.verify_receipt(receipt.read_bytes()).payload["content"]["skipped"] == 2


@pytest.mark.timeout(300)
async def test_states_of_a_transfer_that_does_not(recipient, look, sender, some, big):
    """Waiting, digits, running, stopping, lost, declined, open elsewhere."""
    page = recipient.page
    sending = Terminal(sender, "send", "--listen", "127.0.0.1:0", str(some))
    await recipient.open(sending.expect(LINK))
    await recipient.start()
    await page.wait_for(".card.working .peer")
    await look(recipient, "waiting")
    second = Recipient(await recipient.browser.new_page(), recipient.browser)
    await second.open(sending.expect(LINK))
    await second.page.wait_for(".card.elsewhere")
    await look(second, "elsewhere")
    assert second.page.errors == []
    await second.page.close()
    sending.expect(r"Let this recipient")
    sending.type("n\n")
    await recipient.ended()
    await look(recipient, "ended")
    sending.interrupt()
    assert sending.end() == 8
    verifying = Terminal(sender, "send", "--verify", "--listen", "127.0.0.1:0", str(some))
    await recipient.open(verifying.expect(LINK))
    await recipient.start()
    await page.wait_for(".card.digits", SECONDS)
    await look(recipient, "digits")
    verifying.interrupt()
    assert verifying.end() == 8
    sending, link = sender.send(big, *AUTO)
    await recipient.open(link)
    await recipient.start()
    draining = finish(sending, 120)
    await recipient.offered()
    async with slowed(sending):
        await recipient.accept()
        await recipient.come_to(0.01)
        await look(recipient, "running")
        assert await page.wait_until(r"/^\d+ % – Handover$/.test(document.title)")
        assert await recipient.guarded()
    kill_hard(sending)  # it takes seconds to be noticed
    await page.click(".card.running > button")
    await look(recipient, "stopping")
    assert await recipient.come_to(0) < 1, "it was over before it was looked at"
    await page.click(".card.running .choices .primary")
    await page.wait_until("document.querySelector('.note').textContent.includes('lost')", 40)
    await page.wait_for(".card.running ul", 30)
    await look(recipient, "lost")
    await recipient.stop()
    await recipient.ended()
    assert not await recipient.guarded()
    assert await page.evaluate("document.title") == "Handover"
    with pytest.raises((AssertionError, ValueError)):
        await draining  # killed: without a last event
    assert page.errors == []
    assert len(look.seen) == 7


FOCUSED = "((e) => [e?.localName, e?.className, e?.textContent])(document.activeElement)"


async def tab_to(page, selector):
    """By the keyboard alone, as far as it takes."""
    for _ in range(20):
        if await page.evaluate(f"document.activeElement?.matches({json.dumps(selector)})"):
            return
        await page.press("Tab")
    raise AssertionError(await page.evaluate(FOCUSED))


async def test_a_transfer_by_the_keyboard_alone(visitor, sender, some):
    """Tab, Enter and typing, from the name to the saved file and the receipt."""
    page = visitor.page
    sending, link = sender.send(some, *AUTO)
    await visitor.open(link)
    await page.wait_until("document.activeElement?.id === 'label'")
    for letter in "Raum 2":
        await page.press(letter)
    await page.press("Enter")
    await visitor.offered()
    assert await page.evaluate("document.activeElement?.localName") == "h1"
    await tab_to(page, ".card.offer .primary")
    await page.press("Enter")
    await visitor.delivered()
    await visitor.without_picker()
    await page.wait_until("document.activeElement?.localName === 'h1'")
    await tab_to(page, ".card.done .primary")
    await page.press("Enter")
    await visitor.browser.downloaded("study.zip")
    await page.wait_for(".card.done h2")
    await tab_to(page, ".card.done .receipt")
    await page.press("Enter")
    assert (await finish(sending))[0] == 0
    assert page.errors == []


async def test_the_focus_is_seen(recipient, sender, some):
    """On whatever it comes to; a headless Firefox has no window that could be active."""
    page = recipient.page
    _, link = sender.send(some, *AUTO)
    await recipient.open(link)
    for selector in (".languages button", "#label", "form .primary"):
        await tab_to(page, selector)
        assert (
            await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        )


async def test_the_language_follows_the_browser(open_browser, sender, some):
    """German, if that is preferred; the choice made on the page outlives a reload."""
    browser = await open_browser("chromium", locale="de-DE")
    _, link = sender.send(some, *AUTO)
    visitor = Recipient(browser.page, browser)
    await visitor.open(link)
    assert await visitor.title() == "Jemand sendet Ihnen Dateien"
    await visitor.page.click(".languages [lang=en]")
    assert await visitor.title() == "Someone is sending you files"
    await visitor.page.reload()
    await visitor.page.wait_until(
        "document.querySelector('h1')?.textContent === 'Someone is sending you files'"
    )


async def test_what_was_typed_survives_a_change_of_language(recipient, sender, some):
    _, link = sender.send(some, *AUTO)
    await recipient.open(link)
    await recipient.page.fill("#label", "Befundraum")
    await recipient.page.click(".languages [lang=de]")
    assert await recipient.page.evaluate("document.querySelector('#label').value") == "Befundraum"
