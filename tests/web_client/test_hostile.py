"""A sender that lies to the page: one sentence, no error of the page, nothing left in the browser.

Named after the lines of the hostile-input table in PROTOCOL.md. The sender is the real one with one
part replaced, over a real connection; the page is untouched.
"""

from __future__ import annotations

import asyncio
import os
import time
import zipfile
from typing import Any

import pytest
import pytest_asyncio

import p2p
from p2p.lanes import multipath
from p2p.protocol.codec import encode_json
from p2p.protocol.manifest import Entry, Manifest, encode_manifest
from p2p.protocol.seal import OVERHEAD, Header, Stream, seal_range, with_headroom
from p2p.protocol.session import SenderSession
from p2p.transfer import sender as transfers
from p2p.transfer.send import SendDriver
from p2p.transfer.sender import SenderTransfer
from tests.e2e import inprocess
from tests.e2e.test_hostile import data, inject

from .browsers import KINDS

pytestmark = pytest.mark.asyncio(loop_scope="session")

BROKEN = "The other side broke the protocol"


class Sender:
    """One `send` in this process, to be tampered with."""

    def __init__(self, folder):
        self.folder = folder
        self.home = p2p.Home(folder / "s")
        self.told = []
        self._running = []

    async def send(self, path, **options):
        """Its link; what it becomes is a task."""
        sender = inprocess.send(path, self.home, watch=self.told.append, **options)
        self._running.append(sender)
        link = (await asyncio.wait_for(sender.transfer._under_way(), 20)).link
        return link, asyncio.create_task(sender.result())

    async def close(self):
        for one in self._running:
            one.transfer.cancel()
        await asyncio.gather(*(one.result() for one in self._running), return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="session")
async def liar(tmp_path):
    one = Sender(tmp_path)
    yield one
    await one.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(at):
    """At one browser; what both do differently has tests for both."""
    return await at("chromium")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(os.urandom(100_000))
    return path


async def refused(visitor, *sentences):
    """It ended with one sentence on the page."""
    said = await visitor.ended(30)
    for sentence in sentences or (BROKEN,):
        assert sentence in said
    assert visitor.page.errors == []
    await visitor.nothing_left()
    return said


def lie_about(monkeypatch, *entries):
    """The manifest holds these (path, size) instead."""

    def lie(manifest):
        head = encode_manifest(Manifest(manifest.entries, manifest.salt)).split(b"\n")[0]
        lines = [
            encode_json({"path": path, "kind": "file", "size": size, "modified": 0})
            for path, size in entries
        ]
        return b"\n".join([head, *lines, b""])

    monkeypatch.setattr(transfers, "encode_manifest", lie)


async def look(visitor, link):
    """Up to where the offer would be."""
    await visitor.open(link)
    await visitor.start()


@pytest.mark.parametrize(
    "path",
    ["../escape", "/tmp/escape", "C:\\escape", "a//b", "a\x00b", "CON", "\x1b[2J", "n" * 256],
)
async def test_unsafe_paths(visitor, liar, file, monkeypatch, path):
    lie_about(monkeypatch, (path, 1))
    link, _ = await liar.send(file)
    await look(visitor, link)
    said = await refused(visitor)
    assert path not in said


@pytest.mark.parametrize("pair", [("a", "A"), ("\u00e9", "e\u0301"), ("x", "x/y")])
async def test_case_and_unicode_collisions(visitor, liar, file, monkeypatch, pair):
    lie_about(monkeypatch, *((path, 1) for path in pair))
    link, _ = await liar.send(file)
    await look(visitor, link)
    await refused(visitor)


async def test_absurd_manifests_sum_overflow(visitor, liar, file, monkeypatch):
    lie_about(monkeypatch, ("a", 2**53 - 1), ("b", 2**53 - 1))
    link, _ = await liar.send(file)
    await look(visitor, link)
    await refused(visitor)


# The page waits 20 s for an answer to the browser's question.
IMPATIENT = """void ((real) => {
  window.waited = 0;
  window.setTimeout = (work, time) => real(work, time === 20_000 ? (waited++, 500) : time);
})(setTimeout)"""


@pytest.mark.parametrize(
    ("kind", "size"), [("chromium", 2**53 - 1), ("chromium", 10**15), ("firefox", 10**15)]
)
async def test_more_than_the_browser_can_hold(at, liar, file, monkeypatch, kind, size):
    """Said before anything is accepted: refused, or a folder of this computer is the way. Firefox
    asks the person first, who does not answer here; the page's patience is cut short."""
    real = SenderSession.offer

    def lie(self, manifest, data, tape, *more):
        huge = Manifest((Entry("a", "file", size, 0),), manifest.salt)
        real(self, huge, encode_manifest(huge), huge.tape(), *more)

    monkeypatch.setattr(SenderSession, "offer", lie)
    visitor = await at(kind)
    link, sending = await liar.send(file)
    await visitor.open(link)
    await visitor.page.evaluate(IMPATIENT)
    await visitor.start()
    await visitor.page.wait_for(".card.offer, .card.ended", 40)
    assert await visitor.page.evaluate("waited") == 1
    if kind == "chromium":
        assert "This browser has no space for it." in await visitor.text()
        assert "use the command line" in await visitor.text()
        await visitor.decline()
        await refused(visitor, "You declined")
    else:
        said = await refused(visitor, "not enough space for this in the browser")
        assert "handover receive" in said
    if kind == "chromium":
        ended = await asyncio.wait_for(asyncio.shield(sending), 20)
        assert ended.code == "declined"
    else:  # the link is good for another browser
        assert not sending.done()


@pytest.mark.parametrize(
    "what",
    [
        lambda run: [data(run, 50_000_000, 10)],
        lambda run: [data(run, 100_000_000, 1)],
        lambda run: [data(run, 0, 100_000_001, hole=True)],
        lambda run: [data(run, 0, 10, transfer_id=bytes(16))],
        lambda run: [data(run, 0, 100), data(run, 50, 100)],
        lambda run: (
            [(Header(run.session.transfer_id, Stream.MANIFEST, False, 0, 10), bytes(10))] * 3000
        ),
    ],
    ids=["limit", "end", "hole", "another transfer", "overlap", "duplicate flood"],
)
async def test_ranges_beyond_the_limit_past_the_end_or_overlapping(
    visitor, liar, tmp_path, monkeypatch, what
):
    inject(monkeypatch, what)
    (tmp_path / "b.raw").write_bytes(os.urandom(1000) * 100_000)
    link, sending = await liar.send(tmp_path / "b.raw")
    await visitor.take(link)
    await refused(visitor)
    ended = await asyncio.wait_for(asyncio.shield(sending), 20)
    assert ended.ending is p2p.Ending.FAILED


async def test_a_lane_to_fetch_where_the_page_came_otherwise(visitor, liar, file, monkeypatch):
    """Only a page whose connection is by HTTPS asks the server that it came from for lanes."""
    real = multipath.SenderMultipath._keep_webrtc

    async def keep(self):
        await self.admitted.wait()
        self._step(self.session.offer_https, bytes(32), time.monotonic())
        await real(self)

    monkeypatch.setattr(multipath.SenderMultipath, "_keep_webrtc", keep)
    link, _ = await liar.send(file, direct=False)
    await look(visitor, link)
    await visitor.page.wait_for(".card.ended", 30)  # whether or not the offer was seen before
    await refused(visitor)


@pytest.mark.parametrize("kind", KINDS)
async def test_data_before_the_accept(at, liar, file, monkeypatch, kind):
    """While the offer is being read; the space made for it is given back."""
    visitor = await at(kind)
    runs = []
    real = SendDriver._carry

    async def carry(self, number, lane):
        runs.append(self)
        await real(self, number, lane)

    monkeypatch.setattr(SendDriver, "_carry", carry)
    link, _ = await liar.send(file)
    await look(visitor, link)
    await visitor.offered()
    header, payload = data(runs[0], 0, 10)
    message = seal_range(runs[0]._secured.session_key, header, with_headroom(payload))
    await runs[0]._connected.carrier.data.send(message)
    await refused(visitor)


async def test_a_message_that_does_not_open(visitor, liar, file, monkeypatch):
    real = SendDriver._seal

    def seal(self, blocks):
        return [(header, os.urandom(OVERHEAD + 10)) for header, _ in real(self, blocks)]

    monkeypatch.setattr(SendDriver, "_seal", seal)
    link, _ = await liar.send(file)
    await look(visitor, link)
    await refused(visitor)


@pytest.mark.parametrize("length", [0, 1, 100, 60_000])
async def test_a_control_message_that_does_not_open(visitor, liar, file, monkeypatch, length):
    """In the middle of the session, and of any length."""
    real = SenderTransfer.accepted

    def accepted(self):
        real(self)
        drivers[-1]._outbox.put_nowait(os.urandom(length))

    drivers = []
    made = SendDriver.__init__

    def remember(self, *about):
        made(self, *about)
        drivers.append(self)

    monkeypatch.setattr(SendDriver, "__init__", remember)
    monkeypatch.setattr(SenderTransfer, "accepted", accepted)
    link, _ = await liar.send(file)
    await visitor.take(link)
    await refused(visitor)


async def test_digests_that_lie_fail_that_file_and_it_is_not_saved(
    visitor, liar, tmp_path, monkeypatch
):
    """By its name on the page; the others arrive, and nothing else is in the archive."""
    real = SenderSession.hashed

    def lie(self, entry, digest):
        if self._manifest.entries[entry].path == "study/1.dcm":
            return self._results.delivered(entry, b"\1" * 32)
        return real(self, entry, digest)

    monkeypatch.setattr(SenderSession, "hashed", lie)
    root = tmp_path / "study"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.dcm").write_bytes(os.urandom(50_000))
    link, sending = await liar.send(root)
    await visitor.take(link)
    await visitor.page.wait_for(".card.done, .card.ended", 30)
    assert await visitor.title() == "Finished, but 1 file did not arrive"
    assert await visitor.page.text(".failed") == "study/1.dcm: changed while being sent"
    ended = await asyncio.wait_for(asyncio.shield(sending), 20)
    assert ended.ending is p2p.Ending.INCOMPLETE
    path = await visitor.save("study.zip")
    assert (root / "1.dcm").read_bytes()[:100] not in path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [n for n in archive.namelist() if not n.endswith("/")] == [
            "study/0.dcm",
            "study/2.dcm",
        ]
    assert visitor.page.errors == []


async def test_bidi_and_control_characters_are_shown_escaped(visitor, liar, tmp_path):
    """In the name of the sender and in those of files, and never as they are."""
    identity = liar.home.identity.load()
    liar.home.identity._store(type(identity)(identity.key, "\x1b[2Jevil\u202e\nname"))
    root = tmp_path / "study"
    root.mkdir()
    (root / "invoice\u202egpj.exe").write_bytes(b"x")
    link, _ = await liar.send(root)
    await look(visitor, link)
    await visitor.offered()
    assert await visitor.page.text(".who") == "“\\u{1b}[2Jevil name”"
    everything = await visitor.page.evaluate("document.body.textContent")
    assert "invoice\\u{202e}gpj.exe" in everything
    assert not set(everything) & set("\x1b\u202e")


async def test_markup_in_names_is_text(visitor, liar, file):
    identity = liar.home.identity.load()
    liar.home.identity._store(type(identity)(identity.key, "<img src=x onerror=alert(1)>&amp;"))
    link, _ = await liar.send(file)
    await look(visitor, link)
    await visitor.offered()
    assert await visitor.page.text(".who") == "“<img src=x onerror=alert(1)>&amp;”"
    assert not await visitor.shows("img")
    assert visitor.page.errors == []


async def test_very_long_names_stay_on_the_page(visitor, liar, tmp_path):
    """The longest that are allowed, many folders deep, on a narrow screen."""
    deep = tmp_path / ("w" * 200) / ("d" * 200) / ("p" * 200)
    deep.mkdir(parents=True)
    (deep / ("n" * 251 + ".dcm")).write_bytes(b"x" * 1000)
    link, _ = await liar.send(tmp_path / ("w" * 200))
    await visitor.page.set_viewport(320, 640)
    await look(visitor, link)
    await visitor.offered()
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not await visitor.page.evaluate(wide)
    await visitor.accept()
    await visitor.delivered()
    assert not await visitor.page.evaluate(wide)
    with zipfile.ZipFile(await visitor.save("w" * 200 + ".zip")) as archive:
        assert archive.testzip() is None


class Tasks:
    """How much of a processor each task of a page's thread took: other load does not count."""

    def __init__(self, devtools):
        self._devtools, self._all = devtools, asyncio.Event()
        self._seen: list[dict[str, Any]] = []
        devtools.on("Tracing.dataCollected", lambda event: self._seen.extend(event["value"]))
        devtools.on("Tracing.tracingComplete", lambda _: self._all.set())

    async def watch(self):
        config = {"includedCategories": ["toplevel", "__metadata"], "excludedCategories": ["*"]}
        await self._devtools.send(
            "Tracing.start", {"transferMode": "ReportEvents", "traceConfig": config}
        )

    async def milliseconds(self):
        """Of each, the longest first."""
        await self._devtools.send("Tracing.end")
        await self._all.wait()
        names = {
            (e["pid"], e["tid"]): e["args"]["name"]
            for e in self._seen
            if e["name"] == "thread_name"
        }
        tasks = [e for e in self._seen if e["name"].endswith("RunTask") and "tdur" in e]
        pages = [e for e in tasks if names.get((e["pid"], e["tid"])) == "CrRendererMain"]
        return sorted((e["tdur"] / 1000 for e in pages), reverse=True)


async def test_20_000_entries_do_not_hold_the_page_up(visitor, liar, tmp_path):
    """No task of its thread takes 100 ms of CPU, from the connection to the end."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(20_000):
        (root / f"{number:06d}").write_bytes(b"%d" % number)
    link, sending = await liar.send(root)
    await visitor.open(link)
    tasks = Tasks(visitor.page.devtools)
    await tasks.watch()
    await visitor.start()
    await visitor.accept()
    await visitor.delivered(100)
    assert (await asyncio.wait_for(asyncio.shield(sending), 30)).ending is p2p.Ending.COMPLETE
    longest, *others = await tasks.milliseconds()
    assert len(others) > 100
    assert longest < 100
    archive = await visitor.save("many.zip")
    with zipfile.ZipFile(archive) as read:
        assert read.testzip() is None
        assert len(read.namelist()) == 20_001
        assert read.read("many/019999") == b"19999"
