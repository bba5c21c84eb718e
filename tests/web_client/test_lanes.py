"""Lanes to a page by HTTPS and by WebRTC, and compressed ranges: the file is what was sent."""

from __future__ import annotations

import hashlib
import os

import pytest

import p2p
from p2p import events
from p2p.lanes import LaneLost, multipath
from p2p.lanes.connection_count import ConnectionCount
from p2p.lanes.https import HttpsConnection
from p2p.lanes.streams import ThreadedLane
from tests.e2e.test_lanes import pixels

from .browsers import KINDS
from .recipient import Recipient, digest
from .test_hostile import liar  # noqa: F401 (a fixture: a sender in this process)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def arrives(visitor, liar, file, **options):  # noqa: F811
    """Sent, received, saved, and the same."""
    link, sending = await liar.send(file, **options)
    await visitor.take(link)
    assert "verified" in await visitor.delivered()
    saved = await visitor.save(file.name)
    assert digest(saved) == hashlib.sha256(file.read_bytes()).hexdigest()
    outcome = await sending
    assert outcome.ending is p2p.Ending.COMPLETE
    assert visitor.page.errors == []
    return p2p.read_receipt(outcome.receipt).payload["security"]["path"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3_000_001, 40_000_003])  # hashed natively; in a worker
async def test_a_page_of_the_senders_own_fetches_the_files_from_it(at, liar, tmp_path, kind, size):  # noqa: F811
    file = tmp_path / "scan.raw"
    file.write_bytes(os.urandom(size))
    assert await arrives(await at(kind), liar, file) == "https"
    progress = [one for one in liar.told if isinstance(one, events.Progressed)]
    assert {one.path for one in progress} == {"https"}
    assert {one.webrtc for one in progress} == {0}
    assert max(one.direct for one in progress) == 2, "the connection itself, and a lane"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_page_without_webrtc_is_served_by_https(open_browser, liar, tmp_path, kind):  # noqa: F811
    """A policy withholds all addresses: as where no UDP gets through."""
    browser = await open_browser(kind, withholds_addresses=True)
    file = tmp_path / "scan.raw"
    file.write_bytes(os.urandom(300_000))
    assert await arrives(Recipient(browser.page, browser), liar, file) == "https"


@pytest.mark.parametrize("kind", KINDS)
async def test_where_https_fails_the_page_is_served_by_webrtc(
    at,
    liar,  # noqa: F811
    tmp_path,
    monkeypatch,
    kind,
):
    async def lost(open_pipe):
        raise LaneLost

    monkeypatch.setattr(HttpsConnection, "open", lost)
    file = tmp_path / "scan.raw"
    file.write_bytes(os.urandom(300_000))
    assert await arrives(await at(kind), liar, file) == "direct"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lane_that_dies_is_offered_anew(at, liar, tmp_path, monkeypatch, kind):  # noqa: F811
    """The connection's own lane carries the ranges meanwhile."""
    sent: dict[ThreadedLane, int] = {}
    real = ThreadedLane.send

    async def send(self, message):
        await real(self, message)
        sent[self] = sent.get(self, 0) + 1
        if sent[self] == 20:
            self.close()

    monkeypatch.setattr(ThreadedLane, "send", send)
    monkeypatch.setattr(multipath, "AGAIN_SECONDS", 0.1)
    file = tmp_path / "scan.raw"
    file.write_bytes(os.urandom(40_000_000))
    assert await arrives(await at(kind), liar, file) == "https"
    assert len(sent) > 1


@pytest.mark.parametrize("kind", KINDS)
async def test_further_connections_come_and_go(at, liar, tmp_path, monkeypatch, kind):  # noqa: F811
    size = 24_000_000

    class Moody(ConnectionCount):
        def look(self, now, carried, there, *, busy=False, spare=False):
            return 4 if size // 8 < carried < size // 2 or carried > size * 3 // 4 else 1

    monkeypatch.setattr(multipath, "ConnectionCount", Moody)
    file = tmp_path / "scan.raw"
    file.write_bytes(os.urandom(size))
    assert await arrives(await at(kind), liar, file, direct=False) == "direct"
    progress = [one for one in liar.told if isinstance(one, events.Progressed)]
    assert max(one.webrtc for one in progress) > 1
    assert max(one.direct for one in progress) == 0, "a direct lane towards a browser"


@pytest.mark.parametrize("kind", KINDS)
async def test_pixels_arrive_unaltered(at, liar, tmp_path, monkeypatch, kind):  # noqa: F811
    """Filtered and compressed on the way, less than half of it."""
    carried, real = [], multipath.SenderMultipath.close

    def close(self):
        carried.append(self.session.lanes.carried)
        real(self)

    monkeypatch.setattr(multipath.SenderMultipath, "close", close)
    file = tmp_path / "ct.raw"
    file.write_bytes(pixels(20_000_001 & ~1) + b"x")
    await arrives(await at(kind), liar, file)
    assert 0 < carried[0] < 10_000_000
