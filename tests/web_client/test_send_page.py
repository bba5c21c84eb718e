"""How the page looks to who sends: every state of it, in both languages, light and dark, at any width."""

from __future__ import annotations

import os

import pytest
import pytest_asyncio

from tests.e2e.test_web import serving

from .recipient import Recipient, finish

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

LONG = "Institut für diagnostische und interventionelle Radiologie, Dr. Weber"


@pytest_asyncio.fixture(loop_scope="session")
async def host(host_at):
    return await host_at("chromium")


@pytest.fixture
def series(tmp_path):
    """Names as long as they come, and more than are shown at once."""
    root = tmp_path / "source" / "Aufnahme vom 12. März, Schädel, ohne Kontrastmittel (Müller)"
    root.mkdir(parents=True)
    for number in range(20):
        (root / f"{'IM' * 40}{number:06d}.dcm").write_bytes(os.urandom(2_000_000))
    return root


async def test_states_of_sending_that_goes_well(host, look, origin, receiver, series, tmp_path):
    """From the start to the receipt and the history."""
    page = host.page
    await host.open(origin)
    await look(host, "send-home")
    await host.choose(*sorted(series.iterdir()))
    await host.page.wait_for(".card.choose")
    await page.fill("#label", LONG[:60])
    await page.click("details.options > summary")
    await page.click("#verify")
    await look(host, "send-choose")
    await page.click("#verify")
    link = await host.make_link()
    await host.waiting()
    await page.click(".card.link > details > summary")
    await look(host, "send-link")
    receiving = receiver.receive(link, tmp_path / "out", "--auto", "--limit", "200k")
    ending = finish(receiving, 250)
    await page.wait_for(".card.admit")
    await look(host, "send-admit")
    await host.admit()
    await host.come_to(0.001)
    await look(host, "send-running")
    await page.click(".card.running > button")
    await look(host, "send-stopping")
    await page.click(".card.running > .choices .primary")
    receiving.process.kill()
    with pytest.raises((AssertionError, ValueError)):
        await ending
    await page.wait_until("document.querySelector('.note')?.innerText.includes('lost')", 40)
    assert "The files go straight" not in await host.text()  # nothing goes
    await look(host, "send-lost")
    (series / sorted(series.iterdir())[0].name).unlink()
    await host.reload()
    await page.wait_for(".card.choose_again")
    await look(host, "send-again")
    await host.choose(*sorted(series.iterdir()))
    await page.wait_for(".card.choose_again [role=status]")
    await look(host, "send-again-chosen")
    await page.click(".card.choose_again > .primary")
    await page.wait_for(".card.differences")
    await look(host, "send-differences")
    await page.click(".card.differences .choices .primary")
    ending = finish(receiver.start("resume", "--auto", "--limit", "900M"))
    await host.sent()
    await look(host, "send-incomplete")
    assert (await ending)[0] == 3
    await host.home()
    await host.history()
    await page.click(".past-transfer details > summary")
    await look(host, "send-history")
    await page.click(".card.history > .choices button:nth-child(3)")
    await look(host, "send-history-erase")
    await page.click(".card.history > .choices button:nth-child(3)")
    await page.click(".card.history > .choices .note .quiet")
    await page.wait_until("document.querySelector('.past-transfer') === null")
    await look(host, "send-history-none")
    assert page.errors == []
    assert len(look.seen) == 14


async def test_states_under_an_operator_who_asks_for_much(host, look, receiver, some):
    """A long name, and rules that the form shows."""
    name = "Universitätsklinikum Beispielstadt, Zentrum für Radiologie"
    asked = ("--operator", name, "--max-expires", "90m", "--require", "digits")
    with serving(receiver, *asked) as (port, _):
        await host.open(f"http://127.0.0.1:{port}")
        await host.page.wait_for(".operator:not([hidden])")
        await look(host, "operator-home")
        await host.choose(*sorted(some.iterdir()))
        await host.page.wait_for(".card.choose .options[open]")
        assert await host.page.evaluate("document.querySelector('#verify').disabled")
        await look(host, "operator-choose")
    assert host.page.errors == []


async def test_states_of_sending_that_does_not(host, look, at, origin, receiver, some, tmp_path):
    """Digits, somebody who comes and goes, unfinished ones on the start screen, stopped."""
    page = host.page
    files = sorted(some.iterdir())
    await host.open(origin)
    await host.choose(*files)
    link = await host.make_link(passphrase="correct horse", verify=True)
    wrong = receiver.receive(link, tmp_path / "out", "--auto", HANDOVER_PASSPHRASE="wrong")
    await finish(wrong)
    await host.waiting()
    await page.wait_for(".card.link .note")
    await look(host, "send-guessed")
    visitor = await at("chromium")
    await visitor.open(link.replace("localhost", "127.0.0.1"))
    await visitor.start(passphrase="correct horse")
    await page.wait_for(".card.digits")
    await look(host, "send-digits")
    await visitor.page.click(".card.digits .choices .primary")
    await host.compared(same=True)
    await page.wait_until("document.body.innerText.includes('Waiting for the recipient to accept')")
    await look(host, "send-offered")
    await host.reload()
    await page.evaluate("void sessionStorage.clear()")
    await host.reload()
    await page.wait_for(".card.home .note")
    await look(host, "send-unfinished")
    await page.click(".card.home .note .choices .quiet")
    await look(host, "send-give-up")
    await page.click(".card.home .note .choices .quiet")  # another language asks anew
    await page.click(".card.home .note .note .quiet")
    await host.choose(*files)
    await host.make_link()
    await host.stop()
    await host.ended()
    await look(host, "send-ended")
    await page.click(".card.ended .primary")
    await page.wait_for(".card.home")
    await host.choose(*files)
    link = await host.make_link()
    await visitor.open(link.replace("localhost", "127.0.0.1"))
    await visitor.start()
    await host.admit()
    await visitor.accept()
    await host.sent()
    await look(host, "send-sent")
    assert page.errors == visitor.page.errors == []
    assert len(look.seen) == 7


async def test_a_link_by_the_keyboard_alone(host, origin, receiver, some, tmp_path):
    """From the chosen files to the receipt; a focus is never lost."""
    page = host.page
    await host.open(origin)
    await host.choose(*sorted(some.iterdir()))
    await page.wait_until("document.activeElement?.id === 'label'")
    for letter in "Raum 2":
        await page.press(letter)
    await page.press("Enter")
    await page.wait_for(".card.link")
    await page.wait_until("document.activeElement?.localName === 'h1'")
    link = await page.evaluate("document.querySelector('#made').value")
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
    await page.wait_for(".card.admit")
    await page.wait_until("document.activeElement?.localName === 'h1'")
    await page.press("Tab")
    assert await page.evaluate("document.activeElement.matches('.card.admit .primary')")
    await page.press("Enter")
    await host.sent()
    await page.wait_until("document.activeElement?.localName === 'h1'")
    assert (await ending)[0] == 0
    assert page.errors == []


async def test_leaving_asks_as_long_as_the_link_stands(host, origin, receiver, some, tmp_path):
    """And not before, nor afterwards."""
    person = Recipient(host.page, host.browser)
    await host.open(origin)
    assert not await person.guarded()
    await host.choose(*sorted(some.iterdir()))
    link = await host.make_link()
    assert await person.guarded()
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
    await host.admit()
    await host.sent()
    assert (await ending)[0] == 0
    assert not await person.guarded()
