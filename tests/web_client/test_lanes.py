"""Several connections to one page, and compressed ranges: the file is what was sent."""

from __future__ import annotations

import hashlib
import os

import pytest

import p2p
from p2p import events
from p2p.lanes import multipath
from p2p.lanes.connection_count import ConnectionCount
from tests.e2e.test_lanes import pixels

from .browsers import KINDS
from .recipient import digest
from .test_hostile import liar  # noqa: F401 (a fixture: a sender in this process)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def arrives(visitor, liar, file):  # noqa: F811
    """Sent, received, saved, and the same."""
    link, sending = await liar.send(file)
    await visitor.take(link)
    assert "verified" in await visitor.delivered()
    saved = await visitor.save(file.name)
    assert digest(saved) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (await sending).ending is p2p.Ending.COMPLETE
    assert visitor.page.errors == []


@pytest.mark.parametrize("kind", KINDS)
async def test_further_connections_come_and_go(at, liar, tmp_path, monkeypatch, kind):  # noqa: F811
    size = 24_000_000

    class Moody(ConnectionCount):
        def look(self, now, carried, there, *, busy=False):
            return 4 if size // 8 < carried < size // 2 or carried > size * 3 // 4 else 1

    monkeypatch.setattr(multipath, "ConnectionCount", Moody)
    file = tmp_path / "scan.raw"
    file.write_bytes(os.urandom(size))
    await arrives(await at(kind), liar, file)
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
