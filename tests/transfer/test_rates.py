"""What is said about how fast a transfer goes."""

from __future__ import annotations

import asyncio

from p2p.protocol.session import Bottleneck
from p2p.transfer.rates import RATE_SECONDS, STRETCH_SECONDS, SURE_SECONDS, Waits
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


@virtual_time
async def test_many_short_waits_are_summed_up_and_forgotten():
    """A fast transfer waits very often, and is asked for the sum at each look."""
    waits = Waits()
    kinds: list[tuple[Bottleneck, float]] = [("disk", 10.0), ("network", 5.5)]
    for what, seconds in kinds:
        for _ in range(int(seconds / 0.01)):
            with waits.on(what):
                await asyncio.sleep(0.008)
            await asyncio.sleep(0.002)
        assert waits.most() == what
        assert len(waits._sums) <= RATE_SECONDS / STRETCH_SECONDS + 1
