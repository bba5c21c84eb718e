"""A TCP port whose outer address is known: over real sockets of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import psutil
import pytest

from p2p.connect import outer_port
from p2p.connect.outer_port import OuterPort
from signaling.stun import serve_stun


@contextlib.asynccontextmanager
async def answering(answer):
    """A TCP server that says this to whoever connects; its port."""

    taking: list[Any] = []

    async def take(reader, writer):
        taking.append(asyncio.current_task())
        with contextlib.suppress(OSError):
            await reader.read(100)
            if answer is None:
                await reader.read()  # until whoever asked goes
            else:
                writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*taking)


async def test_it_connects_from_the_port_that_the_server_saw(monkeypatch):
    """And tries until somebody is there. (Two at once meet only where a network takes its time:
    `tests.reach` has one.)"""
    monkeypatch.setattr(outer_port, "TRY_SECONDS", 0.05)
    async with serve_stun("127.0.0.1", 0) as port:
        one = await OuterPort.open([("127.0.0.1", 1), ("127.0.0.1", port)])
    assert one is not None
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        trying = asyncio.create_task(one.connect(listener.getsockname()))
        await asyncio.sleep(0.2)
        assert not trying.done(), "nobody listens there yet"
        listener.listen()
        end = await trying
        assert end.getsockname() == one.outer
        taken, seen = listener.accept()
        assert seen == one.outer
    taken.close()
    end.close()
    one.close()


async def test_whoever_gives_up_leaves_no_socket():
    async with serve_stun("127.0.0.1", 0) as port:
        one = await OuterPort.open([("127.0.0.1", port)])
        assert one is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await one.connect(("127.0.0.1", 1))
        one.close()
    open_here = psutil.Process().net_connections("tcp")
    assert not [one_of for one_of in open_here if one_of.laddr.port == one.outer[1]]


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(2000)])
async def test_a_server_that_tells_nothing_is_none(monkeypatch, answer):
    monkeypatch.setattr(outer_port, "ASK_SECONDS", 0.2)
    async with answering(answer) as port:
        assert await OuterPort.open([("127.0.0.1", port)]) is None


async def test_no_server_and_no_shared_ports_are_none(monkeypatch):
    assert await OuterPort.open([]) is None
    assert await OuterPort.open([("127.0.0.1", 1)]) is None
    async with serve_stun("127.0.0.1", 0) as port:
        monkeypatch.setattr(outer_port, "REUSED", None)
        assert await OuterPort.open([("127.0.0.1", port)]) is None


async def test_one_silent_server_is_no_obstacle():
    async with answering(None) as silent, serve_stun("127.0.0.1", 0) as port:
        one = await OuterPort.open([("127.0.0.1", silent), ("127.0.0.1", port)])
    assert one is not None
    one.close()
