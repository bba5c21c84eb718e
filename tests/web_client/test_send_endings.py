"""Every way that sending from a page can end other than well: one sentence at each side."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import pytest_asyncio

from tests.e2e.harness import Peer, Terminal
from tests.e2e.test_web import serving

from .browsers import KINDS
from .recipient import finish

pytestmark = pytest.mark.asyncio(loop_scope="session")

LABEL = "Klinik Nord, Befundung"


@pytest_asyncio.fixture(loop_scope="session")
async def host(host_at):
    """At one browser; what both do differently has tests for both."""
    return await host_at("chromium")


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def either(request, host_at):
    """At a shared browser of each kind in turn: where a last word has to be heard."""
    return await host_at(request.param)


@pytest.fixture
def big(tmp_path):
    """Long enough under way to be stopped."""
    path = tmp_path / "big.raw"
    path.write_bytes(os.urandom(1_000_000) * 60)
    return path


def terminal(receiver, link, out, *arguments):
    """A person who receives."""
    return Terminal(receiver, "receive", "--output", str(out), *arguments, HANDOVER_LINK=link)


async def over(host, *sentences):
    """It has ended with these words, without an error of the page and with nothing to take up."""
    said = await host.ended()
    for sentence in sentences:
        assert sentence in said, said
    assert "Delivered" not in said
    assert host.page.errors == []
    await host.nothing_left()
    assert await host.records("receipts") == []


async def test_the_recipient_may_decline(host, origin, receiver, some, tmp_path):
    link = await host.send(origin, sorted(some.iterdir()))
    receiving = terminal(receiver, link, tmp_path / "out")
    await host.admit()
    receiving.expect(r"\[y/n\]")
    receiving.type("n\n")
    assert receiving.end() == 6
    assert "The transfer was declined" in await host.ended()
    await host.nothing_left()
    assert await host.records("receipts") == []
    assert host.page.errors == []


async def test_the_recipient_may_stop(host, origin, receiver, big, tmp_path):
    """Then there is nothing to come back for."""
    link = await host.send(origin, [big])
    receiving = receiver.receive(link, tmp_path / "out", "--auto", "--limit", "8M")
    ending = finish(receiving)
    await host.admit()
    await host.come_to(0.1)
    receiving.signal(signal.SIGINT)
    assert (await ending)[0] == 8
    await over(host, "The recipient stopped the transfer")


async def test_stopping_while_nobody_is_there(host, origin, receiver, some, tmp_path):
    """Whoever opens the link then is told that nobody waits there."""
    link = await host.send(origin, sorted(some.iterdir()))
    await host.waiting()
    await host.stop()
    await over(host, "You stopped it")
    last = (await finish(receiver.receive(link, tmp_path / "out", "--auto")))[1]
    assert last["code"] == "not_found"
    await host.home()


async def test_stopping_under_way_asks_first_and_tells_the_recipient(
    either, origin, receiver, big, tmp_path
):
    link = await either.send(origin, [big])
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto", "--limit", "8M"))
    await either.admit()
    await either.come_to(0.1)
    await either.page.click(".card.running > button")
    assert "The recipient keeps nothing of what has arrived" in await either.text()
    await either.page.click(".card.running > .choices .primary")  # go on
    await either.come_to(0.2)
    await either.stop()
    await over(either, "You stopped it")
    _, last = await ending
    assert last["code"] == "peer_cancelled", last
    assert not (tmp_path / "out" / big.name).exists()


async def test_stopping_tells_a_page_that_waits_to_be_let_in(host_at, at, origin, some):
    """The sender thinks better of it while somebody looks at the link."""
    host, visitor = await host_at("chromium"), await at("firefox")
    link = await host.send(origin, sorted(some.iterdir()))
    await visitor.open(link)
    await visitor.start()
    await host.page.wait_for(".card.admit")
    await host.stop()
    assert "The sender stopped the transfer" in await visitor.ended()
    await over(host, "You stopped it")


async def test_one_is_turned_away_and_the_next_let_in(host, origin, receiver, some, tmp_path):
    """The link stays good; the first one is told so, and gets nothing."""
    link = await host.send(origin, sorted(some.iterdir()))
    first = Peer(tmp_path / "stranger", "Jemand anders")
    ending = finish(first.receive(link, tmp_path / "no", "--auto"))
    await host.page.wait_for(".card.admit")
    assert "“Jemand anders”" in await host.text()
    await host.turn_away()
    code, last = await ending
    assert (code, last["code"]) == (6, "declined")
    await host.waiting()
    assert not await host.shows(".peer")
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
    await host.page.wait_for(".card.admit")
    assert f"“{LABEL}”" in await host.text()
    await host.admit()
    await host.sent()
    assert (await ending)[0] == 0
    assert not (tmp_path / "no").exists() or not any((tmp_path / "no").iterdir())
    first.close()
    assert host.page.errors == []


async def test_a_passphrase_is_needed_and_three_wrong_ones_disarm_the_link(
    host, origin, receiver, some, tmp_path
):
    """Each is counted where the sender sees it; and a right one in between is let in."""
    files = sorted(some.iterdir())

    async def made():
        await host.open(origin)
        await host.choose(*files)
        return await host.make_link(passphrase="correct horse")

    async def tried(link, passphrase):
        receiving = receiver.receive(
            link, tmp_path / "out", "--auto", HANDOVER_PASSPHRASE=passphrase
        )
        return await finish(receiving)

    link = await made()
    assert "They also need the passphrase." in await host.text()
    assert (await tried(link, "wrong horse"))[1]["code"] == "passphrase_wrong"
    await host.page.wait_until("document.body.innerText.includes('disabled: 2')")
    right = asyncio.create_task(tried(link, "correct horse"))
    await host.admit()
    await host.sent()
    assert (await right)[0] == 0
    await host.home()
    await host.choose(*files)
    link = await host.make_link(passphrase="correct horse")
    for _ in range(2):
        assert (await tried(link, "wrong horse"))[1]["code"] == "passphrase_wrong"
    last = (await tried(link, "wrong horse"))[1]
    assert "three failed attempts disable it" in last["message"]
    said = await host.ended()
    assert said.startswith("The link was disabled after three failed attempts to open it ")
    last = (await tried(link, "correct horse"))[1]
    assert "the transfer is over, or the sender has withdrawn the link" in last["message"]
    assert host.page.errors == []


async def test_digits_that_both_compare_are_in_the_receipt(host, origin, receiver, some, tmp_path):
    """Asked for by the page: nothing is offered before both have said that they are the same."""
    await host.open(origin)
    await host.choose(*sorted(some.iterdir()))
    link = await host.make_link(verify=True)
    receiving = terminal(receiver, link, tmp_path / "out")
    digits = await host.compared(same=True)
    assert digits == receiving.expect(r"check digits (\d{4}-\d{4}-\d{4})")
    receiving.expect(r"on both sides")
    receiving.type("y\n")
    receiving.expect(r"\[y/n\](?s:.*)\[y/n\]")
    receiving.type("y\n")
    await host.sent()
    assert receiving.end() == 0
    shown = receiver.run("receipt", "show", str(receiver.receipts()[0]))
    assert "digits       confirmed" in shown.stdout
    (contact,) = await host.records("contacts")
    assert contact["verified"] is True


@pytest.mark.parametrize("who", ["sender", "recipient"])
async def test_digits_that_differ_end_it_on_both_sides(
    either, origin, receiver, some, tmp_path, who
):
    """Whoever has asked for them, and whoever says so."""
    await either.open(origin)
    await either.choose(*sorted(some.iterdir()))
    link = await either.make_link(verify=who == "recipient")
    arguments = ("--verify",) if who == "sender" else ()
    receiving = terminal(receiver, link, tmp_path / "out", *arguments)
    receiving.expect(r"on both sides")
    if who == "sender":
        await either.compared(same=False)
        assert receiving.end(10) == 8
    else:
        await either.page.wait_for(".card.digits")
        receiving.type("n\n")
        assert receiving.end() == 8
    await over(either, "digits", "Someone may be")
    assert "Someone may be intercepting the connection" in receiving.text


async def test_a_link_for_a_contact_is_for_nobody_else(host, origin, receiver, some, tmp_path):
    """Who is one is let in without a question."""
    files = sorted(some.iterdir())
    link = await host.send(origin, files)
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
    await host.admit()
    await host.sent()
    assert (await ending)[0] == 0
    await host.home()
    await host.choose(*files)
    link = await host.make_link(to=LABEL)
    assert f"Only “{LABEL}” can use this link." in await host.text()
    other = Peer(tmp_path / "other", LABEL)
    _, last = await finish(other.receive(link, tmp_path / "no", "--auto"))
    assert last["code"] == "not_for_you", last
    ending = finish(receiver.receive(link, tmp_path / "again", "--auto"))
    await host.sent()
    assert (await ending)[0] == 0
    other.close()
    assert host.page.errors == []


EXPIRES = """void (() => {
  const one = document.querySelector("#expires");
  one.options[0].value = "2"; // seconds
  one.value = one.options[0].value;
})()"""


async def test_a_link_ends_with_its_time(host, origin, receiver, some, tmp_path):
    """An hour is the least that can be chosen; here it is two seconds."""
    await host.open(origin)
    await host.choose(*sorted(some.iterdir()))
    await host.page.wait_for(".card.choose")
    await host.page.click("details.options > summary")
    await host.page.evaluate(EXPIRES)
    await host.page.fill("#label", "Wer")
    await host.page.click("form .primary")
    await host.page.wait_for(".card.link")
    link = await host.page.evaluate("document.querySelector('#made').value")
    await over(host, "The link has expired")
    last = (await finish(receiver.receive(link, tmp_path / "out", "--auto")))[1]
    assert last["code"] == "not_found"


async def test_a_server_that_is_started_again_gives_the_room_back(
    host, receiver, some, tmp_path, unused_tcp_port
):
    """While nobody was there: the page says that it is gone, and that it is back."""
    server = Peer(tmp_path / "server")
    listen = ("--listen", f"127.0.0.1:{unused_tcp_port}")
    with serving(server, *listen):
        link = await host.send(f"http://127.0.0.1:{unused_tcp_port}", sorted(some.iterdir()))
        await host.waiting()
    gone = "document.body.innerText.includes('The server cannot be reached; trying again.')"
    await host.page.wait_until(gone)
    with serving(server, *listen):
        await host.waiting()
        ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
        await host.admit()
        await host.sent()
        assert (await ending)[0] == 0


async def test_a_second_tab_does_not_disturb_the_first(host, origin, receiver, big, tmp_path):
    """Neither a new one nor a copy, which has what the first one's session keeps."""
    link = await host.send(origin, [big])
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto", "--limit", "16M"))
    await host.admit()
    await host.come_to(0.1)
    kept = await host.page.evaluate("JSON.stringify(sessionStorage)")
    second = type(host)(await host.browser.visit(), host.browser)
    await second.page.goto(f"{origin}/")
    await second.page.wait_for(".card.home")
    assert not await second.shows(".card.home > .note")  # it is not for this tab to take up
    await second.page.evaluate(
        f"void Object.entries({kept}).forEach(([name, value]) => sessionStorage.setItem(name, value))"
    )
    await second.reload()
    await second.page.wait_for(".card.elsewhere")
    await host.sent()
    assert (await ending)[0] == 0
    await second.page.close()
    assert host.page.errors == second.page.errors == []


async def test_what_is_left_says_what_stands(host, origin, some):
    """After a reload nothing is lost and nothing is promised: it can be dropped from the start."""
    await host.send(origin, sorted(some.iterdir()))
    await host.reload()
    await host.page.wait_for(".card.choose_again")
    await host.page.evaluate("sessionStorage.clear()")
    await host.reload()
    await host.page.wait_for(".card.home .note")
    assert "nobody has accepted yet" in await host.page.text(".card.home .note")
    await host.page.click(".card.home .note .choices .quiet")
    assert "The link stops working" in await host.page.text(".card.home .note .note")
    await host.page.click(".card.home .note .note .primary")  # keep it
    await host.page.click(".card.home .note .choices .quiet")
    await host.page.click(".card.home .note .note .quiet")
    await host.page.wait_until("document.querySelector('.card.home .note') === null")
    await host.nothing_left()
    assert host.page.errors == []
