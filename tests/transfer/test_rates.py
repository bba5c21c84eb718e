"""What is said about how fast a transfer goes."""

from __future__ import annotations

import asyncio

from p2p.transfer.rates import RATE_SECONDS, SURE_SECONDS, Waits
from tests.virtual_time import virtual_time


@virtual_time
async def test_what_is_still_waited_for_counts():
    """A disk that does not come back is the reason, before it does."""
    waits = Waits()
    assert waits.most() == ""
    with waits.on("network"):
        await asyncio.sleep(SURE_SECONDS / 4)
    with waits.on("disk"):
        await asyncio.sleep(RATE_SECONDS)
        assert waits.most() == "disk"
    assert waits.most() == "disk"
    await asyncio.sleep(2 * RATE_SECONDS)
    assert waits.most() == ""
