"""What was interrupted goes on from where the disk stands, and ends byte for byte as it was sent."""

from __future__ import annotations

import os
import subprocess

import pytest

from p2p.protocol.codec import encode_base64url
from tests.e2e.harness import Peer, kill_hard
from tests.e2e.test_web import serving

from .browsers import KINDS
from .recipient import NAME, Recipient, digest, finish

AUTO = ("--auto", "--listen", "127.0.0.1:0")
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


async def test_a_reload_goes_on_by_itself(sender, recipient, scan):
    """Without a click, with its progress on the page from the start."""
    sending, link = sender.send(scan, *AUTO)
    await recipient.take(link)
    ending = finish(sending, 150)
    part = await recipient.come_to(0.5)
    await recipient.page.reload()
    assert await recipient.come_to(0.01) >= 0.8 * part
    await arrived_as(recipient, scan, ending)
    taken_up(sending, part)
    assert recipient.page.errors == []


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


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cut_cable_is_said_and_waited_out(far, open_browser, tmp_path, scan, kind):
    """By https, from a machine that the browser reaches by a cable which is pulled and plugged."""
    prefix, address, cable = far
    sender = Peer(tmp_path / "sender", prefix=prefix)
    arguments = ("--auto", "--local-ca", "--address", address)
    sending, link = sender.send(scan, *arguments)
    try:
        assert link.startswith(f"https://{address}:")
        browser = await open_browser(kind, any_certificate=True)
        recipient = Recipient(browser.page, browser)
        await recipient.take(link)
        ending = finish(sending, 170)
        part = await recipient.come_to(0.3)
        cable("down")
        note = "document.querySelector('.card.running .note').textContent"
        await recipient.page.wait_until(f"{note}.includes('Nothing heard from the sender')", 30)
        await recipient.page.wait_until(f"{note}.includes('Trying again; nothing is lost.')", 30)
        cable("up")
        await recipient.page.wait_until(f"!{note}", 60)
        assert await recipient.come_to(0.01) >= part
        await arrived_as(recipient, scan, ending)
        taken_up(sending, part)
    finally:
        sender.close()


async def test_a_sender_that_died_is_waited_for_until_the_person_stops(sender, recipient, scan):
    """The causes are named; what was there is erased, as was said."""
    sending, link = sender.send(scan, *AUTO)
    await recipient.take(link)
    await recipient.come_to(0.3)
    kill_hard(sending)
    await recipient.page.wait_until(
        "document.querySelector('.note').textContent.includes('Trying again; nothing is lost.')", 40
    )
    await recipient.page.wait_until("document.body.innerText.includes('common causes')", 30)
    assert "The sender closed the program" in await recipient.text()
    assert await recipient.containers() != []
    await recipient.stop()
    assert "Stopped on this side" in await recipient.ended()
    await recipient.nothing_left()


async def test_what_was_delivered_can_be_saved_after_a_reload(sender, recipient, scan):
    """The sender has gone by then; once the copy is removed, the receipt is still there."""
    with serving(sender) as (port, _):
        sending, link = sender.send(scan, "--auto", "--server", f"http://127.0.0.1:{port}")
        await recipient.take(link)
        ending = finish(sending, 150)
        await recipient.delivered(120)
        assert (await ending)[0] == 0
        await recipient.page.reload()
        await arrived_as(recipient, scan, ending)
        await recipient.page.click(".card.done > .quiet")
        await recipient.page.wait_until("document.body.innerText.includes('Removed.')")
        await recipient.nothing_left()
        (receipt,) = sender.receipts()
        transfer_id = encode_base64url(bytes.fromhex(receipt.name.split(".")[0]))
        await recipient.page.click(".card.done > .quiet")
        saved = await recipient.browser.downloaded(f"handover-{transfer_id}.receipt.json")
        assert saved.read_bytes() == receipt.read_bytes()
