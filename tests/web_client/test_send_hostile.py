"""A recipient that lies to a page that sends: one sentence, no markup, no receipt.

The recipient is the real one with one part replaced, over real WebRTC; the page is untouched.
"""

from __future__ import annotations

import asyncio
import json
import os

import pytest
import pytest_asyncio

import p2p
from p2p.protocol import receipt as receipts
from p2p.protocol.codec import encode_base64url, encode_json
from p2p.protocol.session import RecipientSession
from p2p.transfer.receive import ReceiveDriver
from tests.e2e import inprocess

pytestmark = pytest.mark.asyncio(loop_scope="session")

BROKEN = "The other side violated the protocol"


class Liar:
    """One `receive` in this process, to be tampered with."""

    def __init__(self, folder):
        self.out, self.home = folder / "out", p2p.Home(folder / "liar")
        self.home.identity.set_label("Klinik Nord")
        self.running = None

    def receive(self, link):
        self.running = inprocess.receive(link, self.out, self.home)

    async def close(self):
        if self.running:
            self.running.transfer.cancel()
            await asyncio.gather(self.running.result(), return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="session")
async def liar(tmp_path):
    one = Liar(tmp_path)
    yield one
    await one.close()


@pytest_asyncio.fixture(loop_scope="session")
async def host(host_at):
    return await host_at("chromium")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "source" / "a.dcm"
    path.parent.mkdir()
    path.write_bytes(os.urandom(3_000_000))
    return path


async def meet(host, origin, liar, file):
    """Up to where it is let in."""
    link = await host.send(origin, [file])
    liar.receive(link)
    await host.admit()
    return link


async def refused(host, sentence=BROKEN):
    """It ended with one sentence, and nothing says that anything arrived."""
    said = await host.ended(30)
    assert sentence in said
    assert "Delivered" not in said
    assert await host.records("receipts") == []
    assert host.page.errors == []
    await host.nothing_left()


def lie(monkeypatch, kind, change):
    """What it says of this kind is something else."""
    real = RecipientSession._say

    def say(self, said, now, **fields):
        real(self, said, now, **(change(self, fields) if said == kind else fields))

    monkeypatch.setattr(RecipientSession, "_say", say)


def far(name, value=2**50):
    """An acknowledgement of what was never sent, once there is something."""

    def change(session, fields):
        if fields["stream"] == 1 and fields["written"]:
            return {**fields, name: value}
        return fields

    return change


@pytest.mark.parametrize("name", ["written", "durable", "verified"])
async def test_acknowledgements_of_what_was_never_sent(host, origin, liar, file, monkeypatch, name):
    lie(monkeypatch, "ack", far(name))
    await meet(host, origin, liar, file)
    await refused(host)


async def test_acknowledgements_that_go_back(host, origin, liar, file, monkeypatch):
    """What was on the disk is not any more."""
    seen = []

    def change(session, fields):
        if fields["stream"] == 1 and fields["durable"]:
            seen.append(1)
            if len(seen) > 1:
                return {**fields, "durable": 0, "verified": 0}
        return fields

    lie(monkeypatch, "ack", change)
    await meet(host, origin, liar, file)
    await refused(host)


@pytest.mark.parametrize(
    "change",
    [
        {"offer_sha256": encode_base64url(bytes(32))},
        {"transfer_id": encode_base64url(bytes(16))},
        {"transcript": encode_base64url(bytes(32))},
        {"offset": 2**50},
        {"offset": 1000},
    ],
    ids=["offer", "transfer", "session", "end", "offset"],
)
async def test_an_accept_of_something_else_is_none(host, origin, liar, file, monkeypatch, change):
    """It was a visitor until then, so the link stays good, and the sender is told."""
    real = RecipientSession._say_signed

    def say(self, kind, label, body, now):
        if kind == "accept":
            body = encode_json({**json.loads(body), **change})
        real(self, kind, label, body, now)

    monkeypatch.setattr(RecipientSession, "_say_signed", say)
    await meet(host, origin, liar, file)
    await host.waiting()
    assert BROKEN in await host.page.text(".card .note")
    assert await host.records("receipts") == []
    assert host.page.errors == []


@pytest.mark.parametrize(
    "change",
    [
        {"transfer_id": encode_base64url(bytes(16))},
        {"offer_sha256": encode_base64url(bytes(32))},
        {"outcome": "incomplete"},
        {"content": {"root": encode_base64url(bytes(32))}},
        {"content": {"delivered_bytes": 1}},
        {"sender": {"label": "Somebody else"}},
        {"security": {"digits_confirmed": True}},
    ],
    ids=["transfer", "offer", "outcome", "root", "bytes", "sender", "digits"],
)
async def test_a_receipt_of_something_else_is_not_signed(
    host, origin, liar, file, monkeypatch, change
):
    """However well the recipient has signed it."""

    def altered(session, fields):
        payload = json.loads(fields["payload"])
        for name, value in change.items():
            payload[name] = {**payload[name], **value} if isinstance(value, dict) else value
        data = encode_json(payload)
        return {"payload": data.decode(), "signature": receipts.sign(session._identity, data)}

    lie(monkeypatch, "receipt", altered)
    await meet(host, origin, liar, file)
    await refused(host)


async def test_a_receipt_that_is_not_signed_is_none(host, origin, liar, file, monkeypatch):
    lie(monkeypatch, "receipt", lambda _, fields: {**fields, "signature": bytes(64)})
    await meet(host, origin, liar, file)
    await refused(host)


@pytest.mark.parametrize(
    "said",
    [
        ("done", {}),
        ("receipt", {"payload": "{}", "signature": bytes(64)}),
        ("countersignature", {"signature": bytes(64)}),
        ("failed", {"entries": [[7, 3]]}),
        ("nonsense", {}),
    ],
    ids=lambda said: said[0],
)
async def test_words_at_the_wrong_time(host, origin, liar, file, monkeypatch, said):
    real = RecipientSession.accept

    def accept(self, time, now, offset=0):
        real(self, time, now, offset)
        self._say(said[0], now, **said[1])

    monkeypatch.setattr(RecipientSession, "accept", accept)
    await meet(host, origin, liar, file)
    await refused(host)


@pytest.mark.parametrize("length", [0, 1, 60_000])
async def test_a_control_message_that_does_not_open(host, origin, liar, file, monkeypatch, length):
    real = ReceiveDriver._take_up

    async def take_up(self, underway):
        await real(self, underway)
        self._outbox.put_nowait(os.urandom(length))

    monkeypatch.setattr(ReceiveDriver, "_take_up", take_up)
    await meet(host, origin, liar, file)
    await refused(host)


async def test_a_flood_of_pings_does_not_hold_the_page_up(host, origin, liar, file, monkeypatch):
    """It answers throughout, and whatever becomes of it, the page does not fall."""
    real = RecipientSession.accept

    def accept(self, time, now, offset=0):
        real(self, time, now, offset)
        for _ in range(20_000):
            self._say("ping", now, bottleneck="")

    monkeypatch.setattr(RecipientSession, "accept", accept)
    await meet(host, origin, liar, file)
    async with asyncio.timeout(60):
        while not await host.shows(".card.sent, .card.ended"):
            async with asyncio.timeout(5):
                await host.page.evaluate("1")
    assert host.page.errors == []


EVIL = "<img src=x onerror=alert(1)>&amp;\x1b[2J\u202egnp\n"


async def test_markup_and_bidi_characters_in_a_name_are_text(host, origin, liar, file, monkeypatch):
    """On every screen that says who it is: admission, what is left, the history."""
    identity = liar.home.identity.load()
    liar.home.identity._store(type(identity)(identity.key, EVIL))

    async def harmless():
        everything = await host.page.evaluate("document.body.textContent")
        assert "<img src=x onerror=alert(1)>&amp;" in everything
        assert not set(everything) & set("\x1b\u202e")
        assert not await host.shows("img")
        assert await host.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    await host.page.set_viewport(360, 640)
    link = await host.send(origin, [file])
    liar.receive(link)
    await host.page.wait_for(".card.admit")
    await harmless()
    await host.admit()
    await host.sent()
    await host.home()
    await host.choose(file)
    await host.page.wait_for(".card.choose")
    await host.page.click("details.options > summary")
    await harmless()  # as a contact
    await host.page.evaluate("sessionStorage.clear()")
    await host.reload()
    await host.history()
    await harmless()
    assert host.page.errors == []


# Everything that the card ever said.
WORDS = """void (() => {
  window.said = [];
  new MutationObserver(() => window.said.push(document.querySelector(".card")?.innerText ?? ""))
    .observe(document.body, { childList: true, subtree: true, characterData: true });
})()"""


async def test_it_says_delivered_only_with_the_receipt(host, origin, liar, file, monkeypatch):
    """A recipient that has read back every byte, and goes before it signs, has delivered nothing."""
    real = RecipientSession._say

    def say(self, said, now, **fields):
        if said == "receipt":
            asyncio.get_running_loop().call_later(2, self._end, p2p.Ending.COMPLETE)
        else:
            real(self, said, now, **fields)

    monkeypatch.setattr(RecipientSession, "_say", say)
    liar.receive(await host.send(origin, [file]))
    await host.page.wait_for(".card.admit")
    await host.page.evaluate(WORDS)
    await host.admit()
    await host.page.wait_until("document.querySelector('li.now')?.innerText === 'Verifying'")
    await host.come_to(1)
    lost = "document.querySelector('.card.running .note')?.textContent.includes('lost')"
    await host.page.wait_until(lost)
    said = await host.page.evaluate("window.said")
    assert any("Verifying" in words for words in said)
    assert not any("Delivered" in words for words in said)
    assert await host.records("receipts") == []
    assert host.page.errors == []


@pytest.mark.faults  # it waits a minute for the last word
async def test_a_receipt_that_both_signed_outlives_a_reload(host, origin, liar, file, monkeypatch):
    """Although the recipient's last word is missing: it is in the history, whatever comes."""

    def confirm(self, now):  # it says nothing, and is gone once the page is
        asyncio.get_running_loop().call_later(6, self._end, p2p.Ending.COMPLETE)

    monkeypatch.setattr(RecipientSession, "confirm", confirm)
    await meet(host, origin, liar, file)
    ends = asyncio.get_running_loop().time() + 30
    while not await host.records("receipts"):
        assert asyncio.get_running_loop().time() < ends
        await asyncio.sleep(0.05)
    (record,) = await host.records("receipts", "getAllKeys()")
    await host.reload()
    await host.choose_again(file)
    await host.sent(90)
    assert "the recipient's final message did not arrive" in await host.text()
    saved = await host.save_receipt(str(record))
    assert receipts.verify(saved.read_bytes()).confirmed
