"""What an operator asks of transfers: told to peers and pages, and links end when it says so."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import policy as peers
from signaling import messages
from signaling.app import Server
from signaling.policy import Policy
from signaling.rooms import Limits

from .test_app import create, join, raw, say

ASKED: dict[str, Any] = {
    "operator": "Example Hospital",
    "max_expires": 3600,
    "require": "either",
    "relay": "required",
}


@pytest.fixture
async def start():
    servers = []

    async def begin(policy):
        servers.append(Server(Limits(), policy=policy))
        await servers[-1].start("127.0.0.1", 0)
        return servers[-1]

    yield begin
    for server in servers:
        await server.stop()


async def told(server):
    """What a host, a guest and a page are told."""
    async with await raw(server) as host, await raw(server) as guest:
        to_host = (await say(host, create())).get("policy")
        to_guest = (await say(guest, join())).get("policy")
    url = f"http://127.0.0.1:{server.port}/policy"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return to_host, to_guest, await answer.json()


async def test_everybody_is_told_the_same(start):
    assert await told(await start(Policy(**ASKED))) == (ASKED,) * 3


async def test_a_server_that_asks_for_nothing_says_nothing(start):
    assert await told(await start(None)) == (None, None, {})


async def test_a_link_lives_no_longer_than_the_operator_lets_it(start):
    server = await start(Policy(max_expires=60))
    async with await raw(server) as host:
        await say(host, create(ttl=messages.MAX_TTL))
        (seat,) = server._rooms._by_id.values()
        assert seat.timer is not None
        left = seat.timer.when() - asyncio.get_running_loop().time()
        assert 50 < left <= 60
        store: Any = server._store
        (room,) = store._rooms._rooms.values()
        assert room.ends - asyncio.get_running_loop().time() <= 60


@pytest.mark.parametrize(
    "bad",
    [
        {"operator": "x" * 65},
        {"operator": "ä" * 33},
        {"operator": "a\nb"},
        {"operator": "\udcff"},
        {"max_expires": 90},
        {"max_expires": 59},
        {"max_expires": messages.MAX_TTL + 1},
    ],
)
def test_what_cannot_be_told_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Policy(**bad)


@given(
    st.builds(
        dict,
        operator=st.text(max_size=64),
        max_expires=st.integers(1, messages.MAX_TTL),
        require=st.sampled_from(["passphrase", "digits", "either", None]),
        relay=st.sampled_from(["forbidden", "required", None]),
    )
)
def test_peers_read_what_a_server_tells(asked):
    with suppress(ValueError):
        policy = Policy(**asked)
        told = json.loads(json.dumps(policy.told()))
        read = peers.read_policy(told)
        assert (read.operator, read.require, read.relay) == (
            asked["operator"],
            asked["require"],
            asked["relay"],
        )
        assert (read.max_expires or messages.MAX_TTL) == asked["max_expires"]


def test_both_know_the_same_bounds():
    assert (messages.MIN_EXPIRES, messages.MAX_TTL) == (peers.MIN_EXPIRES, peers.MAX_EXPIRES)
    assert messages.MAX_OPERATOR == peers.MAX_OPERATOR
