"""Every way it can end other than well: one sentence on the page, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import urllib.request

import pytest

from tests.e2e.harness import Terminal
from tests.e2e.test_web import serving

from .browsers import KINDS
from .page_sender import PageSender
from .recipient import SECONDS, Recipient, finish

pytestmark = pytest.mark.asyncio(loop_scope="session")

AUTO = ("--auto", "--listen", "127.0.0.1:0")
LINK = r"(http://\S+#\S+)"


@pytest.fixture
def big(tmp_path):
    """Long enough under way to be stopped."""
    path = tmp_path / "big.raw"
    path.write_bytes(os.urandom(1_000_000) * 90)
    return path


def terminal(sender, *arguments):
    """A person who sends, and the link."""
    sending = Terminal(sender, "send", "--listen", "127.0.0.1:0", *map(str, arguments))
    return sending, sending.expect(LINK)


async def over(visitor, *sentences):
    """It has ended with these words, without an error of the page and with nothing kept."""
    said = await visitor.ended()
    for sentence in sentences:
        assert sentence in said
    assert visitor.page.errors == []
    await visitor.nothing_left()


async def test_after_a_wrong_passphrase_the_right_one_works(visitor, sender, some):
    sending, link = sender.send(some, *AUTO, HANDOVER_PASSPHRASE="correct horse")
    await visitor.open(link)
    await visitor.start(passphrase="wrong horse")
    await over(visitor, "The passphrase is wrong", "Ask the sender for it")
    await visitor.again()
    await visitor.start(passphrase="correct horse")
    await visitor.accept()
    await visitor.delivered()
    assert (await finish(sending))[0] == 0


async def test_three_wrong_passphrases_disarm_the_link(visitor, sender, some):
    """The sender is warned; whoever tries again afterwards is told that nobody waits there."""
    with serving(sender) as (port, _):
        server = ("--auto", "--server", f"http://127.0.0.1:{port}")
        sending, link = sender.send(some, *server, HANDOVER_PASSPHRASE="correct horse")
        await visitor.open(link)
        for number in range(2):
            await visitor.start(passphrase=f"guess {number}")
            await over(visitor, "The passphrase is wrong")
            await visitor.again()
        await visitor.start(passphrase="guess 2")
        await over(visitor, "This link leads to nobody", "three failed attempts disable it")
        assert not await visitor.shows(".card .primary")
        code, last = await finish(sending)
        assert (code, last["code"]) == (1, "disarmed")
        told = [one["code"] for one in sending.events if one["event"] == "warning"]
        assert told == ["guesses_left"] * 2  # to look whether a link is good is no attempt


async def test_an_expired_link_and_one_that_never_was_have_nobody_behind_them(
    visitor, sender, some
):
    with serving(sender) as (port, _):
        server = ("--auto", "--server", f"http://127.0.0.1:{port}")
        sending, link = sender.send(some, *server, "--expires", "2s")
        await visitor.open(link)
        assert (await finish(sending))[1]["code"] == "expired"
        await visitor.start()
        await over(visitor, "It has expired", "Ask the sender for a new one")
        await visitor.open(f"http://127.0.0.1:{port}/#1.{'A' * 43}.{'A' * 22}")
        await visitor.start()
        await over(visitor, "This link leads to nobody", "or was mistyped")


async def test_half_a_link_and_no_link_are_said_at_once(visitor, sender, some):
    _, link = sender.send(some, *AUTO)
    await visitor.open(link[:-10])
    assert "not a whole Handover link" in await visitor.ended()
    assert not await visitor.shows("form, .card .primary")
    await visitor.page.evaluate("sessionStorage.clear()")
    await visitor.open(link.split("#")[0])
    assert "the part behind # is the key" in await visitor.text()
    assert visitor.page.errors == []


async def test_the_recipient_may_decline(visitor, sender, some):
    sending, link = sender.send(some, *AUTO)
    await visitor.open(link)
    await visitor.start()
    await visitor.decline()
    await over(visitor, "You declined", "Nothing was transferred")
    assert (await finish(sending))[0] == 6


async def test_the_sender_may_decline_and_let_in_later(visitor, sender, some):
    """The link stays good for the one who was meant."""
    sending, link = terminal(sender, some)
    await visitor.open(link)
    await visitor.start()
    sending.expect(r"Recipient \(new, never met before\): “Reading room 2”")
    sending.expect(r"Let this recipient have the files\? \[y/n\]")
    await visitor.page.wait_for(".peer .digits")
    assert "Waiting for the sender to let you in" in await visitor.text()
    sending.type("n\n")
    await over(visitor, "The sender did not let this computer in")
    await visitor.again()
    await visitor.start()
    sending.text = sending.text.split("Let this recipient", 1)[1]
    sending.expect(r"Let this recipient have the files\? \[y/n\]")
    sending.type("y\n")
    await visitor.accept()
    await visitor.delivered()
    assert sending.end() == 0


async def test_ctrl_c_of_the_sender_is_one_sentence(visitor, sender, big):
    sending, link = sender.send(big, *AUTO)
    await visitor.take(link)
    await visitor.come_to(0.2)
    sending.signal(signal.SIGINT)
    await over(visitor, "The sender stopped the transfer")
    assert (await finish(sending))[0] == 8


async def test_ctrl_c_of_the_sender_while_the_offer_is_read_leaves_nothing(visitor, sender, some):
    """Room had been made for it already."""
    sending, link = sender.send(some, *AUTO)
    await visitor.open(link)
    await visitor.start()
    await visitor.offered()
    sending.signal(signal.SIGINT)
    await over(visitor, "The sender stopped the transfer")
    assert (await finish(sending))[0] == 8


async def test_stopping_asks_first_tells_the_sender_and_erases(visitor, sender, big):
    sending, link = sender.send(big, *AUTO)
    await visitor.take(link)
    await visitor.come_to(0.2)
    await visitor.page.click(".card.running > button")
    assert "What has arrived is erased" in await visitor.text()
    await visitor.page.click(".card.running .choices .primary")  # go on
    await visitor.come_to(0.3)
    await visitor.stop()
    await over(visitor, "Stopped on this side", "erased")
    code, last = await finish(sending)
    assert (code, last["code"]) == (8, "peer_cancelled")


async def test_digits_are_the_same_on_both_sides_and_both_say_so(visitor, sender, some):
    sending, link = terminal(sender, "--verify", some)
    await visitor.open(link)
    await visitor.start()
    await visitor.page.wait_for(".card.digits", SECONDS)
    assert await visitor.page.text("#digits") == sending.expect(r"check digits (\d{4}-\d{4}-\d{4})")
    sending.expect(r"on both sides")
    sending.type("y\n")
    await visitor.page.click(".card.digits .primary")
    await visitor.accept()
    await visitor.delivered()
    assert sending.end() == 0
    (receipt,) = sender.receipts()
    shown = sender.run("receipt", "show", str(receipt))
    assert "digits       confirmed" in shown.stdout
    (contact,) = await visitor.records("contacts")
    assert contact["verified"] is True


async def test_digits_that_differ_end_it_on_both_sides(visitor, sender, some):
    sending, link = terminal(sender, "--verify", some)
    await visitor.open(link)
    await visitor.start()
    sending.expect(r"on both sides")
    sending.type("y\n")
    await visitor.page.click(".card.digits .quiet")
    await over(visitor, "The digits were reported as different", "Someone may be intercepting")
    assert sending.end() == 8
    assert "Someone may be intercepting the connection" in sending.text


async def test_a_second_tab_says_so_and_the_first_goes_on(visitor, at, sender, big):
    sending, link = sender.send(big, *AUTO)
    await visitor.take(link)
    ending = finish(sending)
    second = await at(visitor.browser.kind)
    await second.open(link)
    await second.page.wait_for(".card.elsewhere")
    assert "open in another tab" in await second.text()
    await visitor.delivered()
    assert (await ending)[0] == 0
    assert visitor.page.errors == second.page.errors == []


@pytest.mark.parametrize(
    "mangled",
    ["{}.", "{}>", "{})", "{} ", "{}%20", "{}\u200b", "{}%0A", "{}%0D%0A>", "%2E"],
)
async def test_a_link_as_a_mail_leaves_it_opens(visitor, sender, some, mangled):
    """And is gone from the address bar."""
    _, link = sender.send(some, *AUTO)
    address = link.replace("#1.", "#1%2E") if mangled == "%2E" else mangled.format(link)
    await visitor.open(address)
    await visitor.page.wait_for(".card.welcome")
    assert await visitor.page.evaluate("location.href") == link.split("#")[0]


@pytest.mark.parametrize("number", ["%23", "%2523"])
async def test_a_link_whose_fragment_became_part_of_the_path_transfers(
    visitor, sender, some, number
):
    """A mail filter encoded it, so the browser asks the server for all of it; the page repairs it."""
    sending, link = sender.send(some, *AUTO)
    await visitor.open(link.replace("#", number).replace(".", "%2E" if number == "%23" else "."))
    await visitor.page.wait_for(".card.welcome")
    assert await visitor.page.evaluate("location.href") == link.split("#")[0]
    await visitor.start()
    await visitor.accept()
    await visitor.delivered()
    await visitor.save("study.zip")
    assert (await finish(sending))[0] == 0
    assert visitor.page.errors == []


async def test_half_a_link_is_said_and_gone_from_the_address_bar(visitor, sender, some):
    _, link = sender.send(some, *AUTO)
    await visitor.open(link[:-4])
    await visitor.page.wait_for(".card.ended")
    assert await visitor.page.evaluate("location.href") == link.split("#")[0]


async def test_opening_the_link_uses_nothing_up(visitor, sender, some):
    """Neither a scanner nor a page that is only looked at reaches the sender; the key is gone from
    the address bar at once."""
    sending, link = sender.send(some, *AUTO)
    origin = link.split("#")[0]
    for method in ("GET", "HEAD", "GET"):
        with urllib.request.urlopen(urllib.request.Request(origin, method=method)) as answer:
            assert answer.status == 200
    for _ in range(2):
        await visitor.open(link)
        await visitor.page.wait_for(".card.welcome")
        assert await visitor.page.evaluate("location.href") == origin
    await visitor.start()
    await visitor.accept()
    await visitor.delivered()
    assert (await finish(sending))[0] == 0
    assert sending.states().count("opened") == 1
    assert json.dumps(sending.events).count(link.split("#")[1]) == 1  # only where it was printed


async def test_site_data_that_is_deleted_under_way_ends_it_at_once(browser, sender, big):
    """By a person, or a rule: the page says so, and does not stand still."""
    recipient = Recipient(browser.page, browser)
    sending, link = sender.send(big, *AUTO, "--limit", "4M")
    await recipient.take(link)
    await recipient.come_to(0.1)
    await browser.page.delete_site_data()
    said = await recipient.ended(20)
    assert "This page can no longer read what it had stored" in said
    assert "Ask the sender to send again" in said
    assert (await finish(sending))[1]["code"] == "disk_error"  # at the other side


async def test_a_folder_that_the_browser_refuses_is_said(at, sender, some):
    """By its list of folders that no page may write to, or a policy; another way is open."""
    visitor = await at("chromium")
    sending, link = sender.send(some, *AUTO)
    await visitor.open(link)
    await visitor.start()
    await visitor.offered()
    for name, told in (("AbortError", False), ("NotAllowedError", True), ("SecurityError", True)):
        refuse = f"async () => {{ throw new DOMException('', '{name}'); }}"
        await visitor.page.evaluate(f"void (window.showDirectoryPicker = {refuse})")
        await visitor.page.click(".card.offer .choices .quiet:nth-child(2)")
        await visitor.page.wait_until(
            f"(document.querySelector('.card.offer [role=alert]') !== null) === {json.dumps(told)}"
        )
    assert "The browser does not let this page write to that folder" in await visitor.text()
    await visitor.accept()
    await visitor.delivered()
    assert (await finish(sending))[0] == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_browser_that_gives_pages_no_address_is_named_at_once(
    open_browser, kind, sender, origin, some
):
    """By a policy or an extension: neither the sender nor a firewall is blamed, and the link stays."""
    browser = await open_browser(kind, withholds_addresses=True)
    visitor = Recipient(browser.page, browser)
    sending, link = sender.send(some, "--no-direct", *AUTO)
    await visitor.open(link)
    await visitor.start()
    said = await visitor.ended(10)
    assert said.startswith("This browser gives pages no network address, so they cannot connect ")
    assert "Ask IT to allow WebRTC for this site." in said
    await visitor.open(origin)
    await visitor.page.click(".card .check-computer")
    await visitor.page.wait_for(".card.check .primary", 30)
    said = await visitor.text()
    assert "FAILS: WebRTC This browser gives pages no network address" in said
    assert "A transfer would not connect from here." in said
    host = PageSender(browser.page, browser)
    link = await host.send(origin, [some / "0.dcm"])
    receiving = sender.receive(link, some.parent / "out", "--auto")
    await host.page.wait_until("document.body.innerText.includes('gives pages no network address')")
    receiving.kill()
    sending.kill()
