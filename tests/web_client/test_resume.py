"""What was interrupted goes on from where the disk stands, and ends byte for byte as it was sent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess

import pytest

from tests.e2e.harness import Peer, kill_hard
from tests.e2e.test_web import serving

from .browsers import KINDS
from .recipient import NAME, Recipient, digest, finish

pytestmark = pytest.mark.asyncio(loop_scope="session")

# So slow that a part of it can be met.
AUTO = ("--auto", "--listen", "127.0.0.1:0", "--limit", "16M")
SIZE = 100_000_000


@pytest.fixture
def scan(tmp_path):
    """Large enough to be caught half-way."""
    path = tmp_path / "source" / "scan.raw"
    path.parent.mkdir()
    path.write_bytes(os.urandom(1_000_000) * (SIZE // 1_000_000))
    return path


async def arrived_as(recipient, scan, ending):
    """Complete on both sides, saved, and the same."""
    await recipient.delivered(120)
    assert (await ending)[0] == 0
    path = await recipient.save(scan.name)
    assert digest(path) == digest(scan)


def taken_up(sending, part):
    """The sender was told to go on from at least there; its progress never went back."""
    at = next(n for n, e in enumerate(sending.events) if e.get("state") == "resumed")
    told = [e["durable"] / e["total"] for e in sending.events if e["event"] == "progress"]
    after = [e["durable"] for e in sending.events[at:] if e["event"] == "progress"]
    assert after[0] / SIZE >= 0.8 * part
    assert told == sorted(told)


async def test_a_reload_goes_on_by_itself(sender, visitor, scan):
    """Without a click, with its progress on the page from the start."""
    sending, link = sender.send(scan, *AUTO)
    await visitor.take(link)
    ending = finish(sending, 150)
    part = await visitor.come_to(0.5)
    await visitor.page.reload()
    assert await visitor.come_to(0.01) >= 0.8 * part
    await arrived_as(visitor, scan, ending)
    taken_up(sending, part)
    assert visitor.page.errors == []


async def test_a_clock_that_is_two_days_ahead_loses_nothing(sender, browser, scan):
    """As a journal of two days ago looks when it is read again."""
    recipient = Recipient(browser.page, browser)
    sending, link = sender.send(scan, *AUTO)
    await recipient.take(link)
    ending = finish(sending, 150)
    part = await recipient.come_to(0.4)
    sending.process.send_signal(signal.SIGSTOP)  # so that nothing more is noted
    await asyncio.sleep(1.5)
    await recipient.age(2)
    sending.process.send_signal(signal.SIGCONT)
    await browser.kill()
    recipient = Recipient(await browser.start(), browser)
    await recipient.open(link)
    await recipient.page.wait_for(".card.welcome")
    assert await recipient.title() == "Carry on where you were"
    await recipient.page.click("form .primary")
    assert await recipient.come_to(0.01) >= 0.8 * part
    await arrived_as(recipient, scan, ending)
    taken_up(sending, part)


async def test_a_killed_browser_goes_on_after_a_click(sender, browser, scan):
    """The link is opened again in the same profile, which knows how much it has."""
    recipient = Recipient(browser.page, browser)
    sending, link = sender.send(scan, *AUTO)
    await recipient.take(link)
    ending = finish(sending, 150)
    part = await recipient.come_to(0.5)
    await browser.kill()
    recipient = Recipient(await browser.start(), browser)
    await recipient.open(link)
    await recipient.page.wait_for(".card.welcome")
    assert await recipient.title() == "Carry on where you were"
    assert "of 100 MB are on this computer already. Nothing is lost." in await recipient.text()
    assert await recipient.page.evaluate("document.querySelector('#label').value") == NAME
    await recipient.page.click("form .primary")
    assert await recipient.come_to(0.01) >= 0.8 * part
    await arrived_as(recipient, scan, ending)
    taken_up(sending, part)


@pytest.fixture
def far(tmp_path):
    """A machine at the other end of a cable: (its command prefix, its address, pull and plug)."""
    name, number = f"hand-{os.getpid()}", os.getpid() % 200 + 20
    near, end = f"hn{os.getpid()}", f"hf{os.getpid()}"
    here, there = f"10.91.{number}.1", f"10.91.{number}.2"

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", end, "netns", name)
        ip("addr", "add", f"{here}/24", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", f"{there}/24", "dev", end)
        ip("-n", name, "link", "set", end, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield ("ip", "netns", "exec", name), there, lambda how: ip("link", "set", near, how)
    finally:
        ip("link", "del", near)  # at once, where a namespace takes its time
        ip("netns", "del", name)


NOTE = "document.querySelector('.card.running .note').textContent"


async def test_a_cut_cable_is_said_and_waited_out(far, open_browser, tmp_path, scan):
    """By https, from machines that the browsers reach by a cable which is pulled and plugged. Both
    browsers wait at once."""
    prefix, address, cable = far
    senders = [Peer(tmp_path / kind, prefix=prefix) for kind in KINDS]

    async def offered(kind, sender):
        sending, link = sender.send(scan, "--auto", "--local-ca", "--address", address)
        assert link.startswith(f"https://{address}:")
        browser = await open_browser(kind, any_certificate=True)
        recipient = Recipient(browser.page, browser)
        await recipient.open(link)
        await recipient.start()
        await recipient.offered()
        return sending, recipient

    async def under_way(sending, recipient):
        await recipient.accept()
        ending = finish(sending, 170)
        part = await recipient.come_to(0.3)
        sending.signal(signal.SIGSTOP)  # until the other one is as far
        return part, ending

    async def said(recipient):
        await recipient.page.wait_until(f"{NOTE}.includes('Nothing heard from the sender')", 30)
        await recipient.page.wait_until(f"{NOTE}.includes('Trying again; nothing is lost.')", 30)

    async def waited_out(sending, recipient, part, ending):
        await recipient.page.wait_until(f"!{NOTE}", 60)
        assert await recipient.come_to(0.01) >= part
        await arrived_as(recipient, scan, ending)
        taken_up(sending, part)

    try:
        both = await asyncio.gather(*map(offered, KINDS, senders))
        begun = await asyncio.gather(*(under_way(*one) for one in both))
        cable("down")
        for sending, _ in both:
            sending.signal(signal.SIGCONT)
        await asyncio.gather(*(said(recipient) for _, recipient in both))
        cable("up")
        await asyncio.gather(
            *(waited_out(*one, *more) for one, more in zip(both, begun, strict=True))
        )
    finally:
        for sender in senders:
            sender.close()


async def offered(at, scan, kind, sender):
    """A sender that offers, and its recipient, before any byte: what waits here holds up others."""
    visitor = await at(kind)
    sending, link = sender.send(scan, *AUTO)
    await visitor.open(link)
    await visitor.start()
    await visitor.offered()
    return sending, visitor, link


async def died(sending, visitor, _):
    """The sender is killed as soon as the recipient has a part, which is given."""
    await visitor.accept()
    part = await visitor.come_to(0.3)
    kill_hard(sending)
    return part


async def test_a_sender_that_died_and_is_started_again_goes_on(at, tmp_path, scan):
    """By the same link, without a hand on the page. Both browsers wait at once."""
    senders = [Peer(tmp_path / kind) for kind in KINDS]

    async def goes_on(one, sender, part):
        _, visitor, link = one
        again = sender.start("resume", "--auto")
        assert (await asyncio.to_thread(again.wait_for, "link"))["link"] == link
        await arrived_as(visitor, scan, finish(again, 150))
        told = [event["durable"] for event in again.events if event["event"] == "progress"]
        assert told[0] >= 0.8 * part * SIZE

    try:
        ours = zip(KINDS, senders, strict=True)
        both = await asyncio.gather(*(offered(at, scan, *one) for one in ours))
        parts = await asyncio.gather(*(died(*one) for one in both))
        await asyncio.gather(*map(goes_on, both, senders, parts))
    finally:
        for sender in senders:
            sender.close()


async def test_a_sender_that_died_is_waited_for_until_the_person_stops(at, sender, scan):
    """The causes are named; what was there is erased, as was said. Both browsers wait at once."""

    async def waits(visitor):
        again = "textContent.includes('Trying again; nothing is lost.')"
        await visitor.page.wait_until(f"document.querySelector('.note').{again}", 40)
        await visitor.page.wait_until("document.body.innerText.includes('common causes')", 30)
        assert "The sender closed the program" in await visitor.text()
        assert await visitor.containers() != []
        await visitor.stop()
        assert "Stopped on this side" in await visitor.ended()
        await visitor.nothing_left()

    both = await asyncio.gather(*(offered(at, scan, kind, sender) for kind in KINDS))
    await asyncio.gather(*(died(*one) for one in both))
    await asyncio.gather(*(waits(visitor) for _, visitor, _ in both))


async def test_what_was_delivered_can_be_saved_after_a_reload(sender, visitor, tmp_path):
    """The sender has gone by then; once the copy is removed, the receipt is still there."""
    scan = tmp_path / "scan.raw"
    scan.write_bytes(os.urandom(10_000_000))
    with serving(sender) as (port, _):
        sending, link = sender.send(scan, "--auto", "--server", f"http://127.0.0.1:{port}")
        await visitor.take(link)
        ending = finish(sending, 150)
        await visitor.delivered(120)
        assert (await ending)[0] == 0
        await visitor.page.reload()
        await arrived_as(visitor, scan, ending)
        if visitor.browser.kind == "firefox":  # the other one knows when it is saved
            await visitor.page.click(".card.done > .quiet")
            await visitor.page.wait_until("document.body.innerText.includes('Removed.')")
        await visitor.nothing_left()
        (receipt,) = sender.receipts()
        await visitor.page.click(".card.done > .quiet")
        saved = await visitor.browser.downloaded(receipt.name)
        assert saved.read_bytes() == receipt.read_bytes()
