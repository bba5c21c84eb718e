"""A transfer's own server: a process beside it, which serves one host and ends with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import psutil
import pytest

from p2p.connect import rendezvous
from p2p.connect.certificates import tls_from_local_ca
from p2p.connect.rendezvous import open_rendezvous, open_server
from p2p.connect.seats import GuestSeat, HostSeat
from p2p.lanes import LaneLost, https
from p2p.lanes.https import HttpsConnection
from p2p.protocol.errors import Failure
from p2p.protocol.link import derive_keys
from signaling import apart
from signaling.messages import PATH, SUBPROTOCOL, encode

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent.parent
KEYS, OTHER = derive_keys(b"\x01" * 32), derive_keys(b"\x02" * 32)
OWNER = b"o" * 32
HASH = hashlib.sha256(OWNER).digest()


def servers():
    """Server processes of this one."""
    return [
        one for one in psutil.Process().children(recursive=True) if "signaling" in one.cmdline()
    ]


async def opened(stack, tls=None, owner=OWNER):
    return await open_rendezvous(stack, None, ("127.0.0.1", 0), None, tls, owner)


async def meet(origin, owner=OWNER):
    seat = HostSeat(origin, KEYS, 60, owner)
    holding = asyncio.create_task(seat.run(lambda there: None))
    try:
        async with asyncio.timeout(10):
            ready = asyncio.create_task(seat.ready.wait())
            await asyncio.wait([ready, holding], return_when=asyncio.FIRST_COMPLETED)
            if holding.done():
                ready.cancel()
                await holding
            async with GuestSeat(origin, KEYS) as mine:
                assert (await seat.attempts.get()).id == mine.id
    finally:
        holding.cancel()
        await asyncio.wait([holding])


@pytest.mark.parametrize("secure", [False, True])
async def test_it_serves_by_a_process_and_ends_with_the_transfer(tmp_path, secure):
    tls = tls_from_local_ca(tmp_path / "ca") if secure else None
    async with AsyncExitStack() as stack:
        place = await opened(stack, tls)
        assert place.reached.startswith("https:" if secure else "http:")
        await meet(place.reached)
        (process,) = servers()
        assert process.cmdline()[1:] == ["-P", "-m", "signaling"]  # no key, no token
        assert not [name for name in process.environ() if name.startswith("HANDOVER_")]
    assert not servers()


async def test_several_transfers_in_one_process_have_a_server_each():
    async with AsyncExitStack() as stack:
        places = [await opened(stack) for _ in range(3)]
        await asyncio.gather(*(meet(place.reached) for place in places))
        assert len(servers()) == 3
    assert not servers()


async def test_it_serves_no_other_host():
    async with AsyncExitStack() as stack:
        place = await opened(stack)
        with pytest.raises(Failure) as caught:
            await meet(place.reached, b"x" * 32)
        assert caught.value.code == "server_refused"
        await meet(place.reached)


async def test_a_server_that_is_killed_comes_back_at_the_same_port(monkeypatch):
    monkeypatch.setattr(apart, "RESTART_SECONDS", 0.1)
    async with AsyncExitStack() as stack:
        place = await opened(stack)
        await meet(place.reached)
        (process,) = servers()
        process.kill()
        await meet(place.reached)
        (again,) = servers()
        assert again.pid != process.pid
    assert not servers()


async def test_one_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(apart, "STOP_SECONDS", 0.5)
    async with AsyncExitStack() as stack:
        await meet((await opened(stack)).reached)  # it has begun
        (process,) = servers()
        process.suspend()
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert not servers()


async def test_a_port_that_is_taken_is_said_as_before():
    with apart.listen("127.0.0.1", 0) as taken:
        async with AsyncExitStack() as stack:
            with pytest.raises(Failure) as caught:
                where = taken.getsockname()[:2]
                await open_rendezvous(stack, None, where, None, None, OWNER)
    assert caught.value.code == "cannot_listen"
    assert "already in use" in caught.value.sentence
    assert not servers()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(apart, "STAY_SECONDS", 20.0)
    monkeypatch.setattr(apart, "DESERTED_SECONDS", 1.0)


class Page:
    """A page of the recipient's that has something to save."""

    def __init__(self, http, origin):
        self.http, self.origin = http, origin
        self.sockets = []

    async def stay(self, join=KEYS.join):
        """Ask for the server to stay; what it says against that, or "" once it is sure."""
        url = self.origin.replace("http", "ws") + PATH
        self.socket = await self.http.ws_connect(url, protocols=(SUBPROTOCOL,))
        self.sockets.append(self.socket)
        await self.socket.send_str(encode("stay", room=KEYS.room, join=join))
        with contextlib.suppress(TimeoutError):
            said = await self.socket.receive(timeout=0.5)
            return json.loads(said.data)["code"] if said.type is aiohttp.WSMsgType.TEXT else "hung"
        return ""

    async def heard(self):
        """The next that it is told."""
        return json.loads((await self.socket.receive(timeout=5)).data)["code"]

    async def loads(self):
        """Whether it can be loaded anew."""
        with contextlib.suppress(aiohttp.ClientError):
            async with self.http.get(self.origin, allow_redirects=False) as answer:
                return answer.status == 200
        return False

    async def ended(self, seconds=10):
        """Wait until nothing serves it any more."""
        async with asyncio.timeout(seconds):
            while await self.loads():
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def page_of(place):
    async with aiohttp.ClientSession() as http:
        page = Page(http, place)
        try:
            yield page
        finally:
            for socket in page.sockets:
                await socket.close()


async def test_a_page_that_has_something_to_save_is_served_on_until_it_has(short):
    async with contextlib.AsyncExitStack() as pages:
        async with AsyncExitStack() as stack:
            place = await opened(stack)
            page = await pages.enter_async_context(page_of(place.reached))
            await meet(place.reached)
            assert await page.stay() == ""
        assert await page.heard() == "going_away"
        assert not servers()
        assert await page.stay() == ""  # as the page does when it is told that the server goes
        await asyncio.sleep(3 * apart.DESERTED_SECONDS)
        assert await page.loads()
        await page.socket.close()
        await page.ended()


async def test_it_is_not_served_for_longer_than_was_said(short, monkeypatch):
    monkeypatch.setattr(apart, "STAY_SECONDS", 3.0)
    async with contextlib.AsyncExitStack() as pages:
        async with AsyncExitStack() as stack:
            place = await opened(stack)
            page = await pages.enter_async_context(page_of(place.reached))
            await meet(place.reached)
            assert await page.stay() == ""
        assert await page.stay() == ""
        await page.ended()


async def test_at_a_port_that_was_asked_for_it_ends_with_the_transfer(unused_tcp_port):
    async with contextlib.AsyncExitStack() as pages:
        for _ in range(2):
            async with AsyncExitStack() as stack:
                where = ("127.0.0.1", unused_tcp_port)
                place = await open_rendezvous(stack, None, where, None, None, OWNER)
                page = await pages.enter_async_context(page_of(place.reached))
                await meet(place.reached)
                assert await page.stay() == ""
            assert await page.heard() == "not_found"  # nor does it come back
            assert not await page.loads()


async def test_whoever_asks_for_a_port_that_a_page_keeps_is_told_until_when(
    short, monkeypatch, unused_tcp_port
):
    monkeypatch.setattr(apart, "STAY_SECONDS", 600.0)
    monkeypatch.setattr(rendezvous, "PORT", unused_tcp_port)
    asked = ("", unused_tcp_port)
    async with contextlib.AsyncExitStack() as pages:
        async with AsyncExitStack() as stack:
            place = await open_rendezvous(stack, None, None, None, None, OWNER)
            page = await pages.enter_async_context(page_of(place.reached))
            await meet(place.reached)
            assert await page.stay() == ""
        assert await page.stay() == ""
        async with AsyncExitStack() as stack:
            with pytest.raises(Failure) as caught:
                await open_rendezvous(stack, None, asked, None, None, OWNER)
        assert f"port {unused_tcp_port} is already in use" in caught.value.sentence
        assert "10 minutes at the latest" in caught.value.sentence
        await page.socket.close()
        await page.ended()
        async with AsyncExitStack() as stack:
            await open_rendezvous(stack, None, asked, None, None, OWNER)


async def test_after_a_transfer_that_failed_no_page_is_served():
    async with contextlib.AsyncExitStack() as pages:
        with pytest.raises(Failure):
            async with AsyncExitStack() as stack:
                place = await opened(stack)
                page = await pages.enter_async_context(page_of(place.reached))
                await meet(place.reached)
                assert await page.stay() == ""
                raise Failure("cancelled")
        assert not servers()
        assert not await page.loads()


async def test_only_who_has_the_link_keeps_it_there():
    async with AsyncExitStack() as stack:
        place = await opened(stack)
        page = await stack.enter_async_context(page_of(place.reached))
        assert await page.stay() == "not_found"  # no room yet
        await meet(place.reached)
        assert await page.stay(OTHER.join) == "not_found"
        assert await page.stay() == ""
        await page.socket.send_str(encode("close"))  # and may do nothing else
        assert json.loads((await page.socket.receive()).data)["code"] == "bad_message"


async def test_a_standing_server_keeps_no_page_for_a_transfer():
    async with open_server(("127.0.0.1", 0), None) as server:
        place = f"http://127.0.0.1:{server.port}"
        await meet(place)
        async with page_of(place) as page:
            assert await page.stay() == "not_found"


PARENT = """
import asyncio, contextlib
from p2p.connect.rendezvous import open_rendezvous
async def main():
    async with contextlib.AsyncExitStack() as stack:
        await open_rendezvous(stack, None, ("127.0.0.1", 0), None, None, b"o" * 32)
        print("open", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_it_does_not_outlive_a_transfer_that_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline()
    (process,) = [
        one for one in psutil.Process(parent.pid).children() if "signaling" in one.cmdline()
    ]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    await asyncio.to_thread(process.wait, 5)


async def test_lanes_reach_a_page_through_the_process_also_once_it_was_started_again(monkeypatch):
    """A connection of two WebSockets, and a lane that is fetched; the process dies, both end."""
    monkeypatch.setattr(apart, "RESTART_SECONDS", 0.1)
    async with AsyncExitStack() as stack:
        place = await opened(stack)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for _ in range(2):
            await meet(place.reached)  # it serves
            made = await HttpsConnection.open(place.open_pipe)
            opening = asyncio.create_task(made.opened())
            ends = []
            for token in made.tokens:
                ends.append(await http.ws_connect(lane_url(place, token)))
            async with asyncio.timeout(5):
                await opening
                await made.control.send(b"to the page")
                assert await ends[0].receive_bytes() == b"to the page"
                await ends[1].send_bytes(b"from the page")
                assert await made.data.recv() == b"from the page"
                token, pipe = await place.open_pipe()
                fetching = asyncio.create_task(https.opened(pipe))
                async with http.get(lane_url(place, token)) as response:
                    lane = await fetching
                    for message in (b"first", bytes(200_000)):
                        await lane.send(message)
                        length = int.from_bytes(await response.content.readexactly(4), "big")
                        assert await response.content.readexactly(length) == message
                    (process,) = servers()
                    process.kill()
                    with pytest.raises(LaneLost):
                        await made.control.recv()
                    with pytest.raises(LaneLost):
                        while True:
                            await lane.send(bytes(100_000))
                            await asyncio.sleep(0.01)
                lane.close()
            await made.close()
            await asyncio.sleep(0.3)  # another process begins


async def test_a_lane_that_no_page_opens_is_lost(monkeypatch):
    monkeypatch.setattr(https, "OPEN_SECONDS", 0.3)
    async with AsyncExitStack() as stack:
        place = await opened(stack)
        _, pipe = await place.open_pipe()
        with pytest.raises(LaneLost):
            await https.opened(pipe)
        pipe.close()


def lane_url(place, token):
    text = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
    return f"{place.reached}/lanes/{text}"


async def test_a_server_ends_with_a_transfer_that_is_cancelled_twice():
    made = []

    async def transfer():
        listener = socket.create_server(("127.0.0.1", 0))
        async with apart.serve_apart(listener, bytes(32)) as server:
            made.append(server)
            await asyncio.Event().wait()

    task = asyncio.create_task(transfer())
    async with asyncio.timeout(20):
        while not made:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0)  # it ends the watch over the process
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert made[0]._process.returncode is not None
    assert made[0]._passing is None
