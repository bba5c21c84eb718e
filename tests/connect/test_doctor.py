"""The examination, against real servers of this machine; `tests.reach` has it behind NATs."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from p2p import api
from p2p.connect import doctor
from p2p.connect.doctor import Check, Doctor, nat_of
from p2p.connect.proxies import NONE, Proxies
from p2p.connect.rendezvous import open_rendezvous
from p2p.lanes.webrtc import available

HERE = ["192.0.2.5", "fd00::5"]


@pytest.mark.parametrize(
    ("seen", "nat"),
    [
        ([], "blocked"),
        ([("192.0.2.5", 4000)], "none"),
        ([("127.0.0.1", 4000)], "none"),
        ([("192.0.2.5", 4001)], "unknown"),  # the same address, and another port
        ([("198.51.100.1", 4000)], "unknown"),
        ([("198.51.100.1", 4000)] * 2, "cone"),
        ([("198.51.100.1", 50_000)] * 3, "cone"),
        ([("198.51.100.1", 4000), ("198.51.100.1", 4001)], "symmetric"),
        ([("198.51.100.1", 4000), ("198.51.100.2", 4000)], "symmetric"),
    ],
)
def test_what_stands_between_is_told_by_how_servers_see_a_port(seen, nat):
    assert nat_of(seen, 4000, HERE) == nat


async def examine(origin: str | None) -> tuple[dict[str, Check], Doctor]:
    one = Doctor(origin, Proxies(NONE), available()[0], (0, 0))
    return {check.name: check async for check in one.checks()}, one


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_a_server_that_answers_stun_itself_is_all_that_one_network_needs():
    port = free_port()
    ice = api.ice_configuration((), stun_port=port)
    async with api.serve(("127.0.0.1", 0), ice=ice, stun=("127.0.0.1", port)) as served:
        checks, one = await examine(f"http://127.0.0.1:{served}")
    assert {check.verdict for check in checks.values()} == {"works", "note"}
    assert (checks["nat"].code, one.path) == ("nat_none", "direct")
    assert checks["certificate"].code == "plain"
    assert [(o.host, o.port, o.protocol) for o in one.openings()] == [
        ("127.0.0.1", str(served), "TCP"),
        ("127.0.0.1", str(port), "UDP"),
        ("127.0.0.1", str(port), "TCP"),
        ("*", "1024-65535", "UDP"),
        ("*", "1024-65535", "TCP"),
    ]


async def test_a_server_that_knows_no_others_connects_one_network():
    async with api.serve(("127.0.0.1", 0)) as served:
        checks, one = await examine(f"http://127.0.0.1:{served}")
    assert (checks["relay"].code, one.path) == ("no_ice", "network")


async def test_a_senders_own_server_is_known_as_one():
    async with contextlib.AsyncExitStack() as stack:
        listen = ("127.0.0.1", 0)
        met = await open_rendezvous(stack, None, listen, None, None, b"o" * 32)
        checks, one = await examine(met.reached)
    assert (checks["room"].code, one.path) == ("room_of_one", "network")


@pytest.mark.parametrize("says", [b"", b"\x15\x03\x01\0\x02\x02\x28", b"HTTP/1.1 500 No\r\n\r\n"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_whatever_else_is_there_is_no_server(says, scheme):
    async def take(reader, writer):
        with contextlib.suppress(OSError):
            await reader.read(1000)
            writer.write(says)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    checks, one = await examine(f"{scheme}://127.0.0.1:{port}")
    server.close()
    assert (checks["server"].verdict, one.path) == ("fails", "")
    assert checks["server"].values["why"]


async def test_nobody_there():
    checks, one = await examine(f"http://127.0.0.1:{free_port()}")
    assert (checks["server"].code, one.path) == ("server_fails", "")


async def test_without_a_server_this_machine_serves_its_links(monkeypatch):
    with socket.create_server(("", 0)) as taken:
        for port, code in ((0, "serves"), (taken.getsockname()[1], "serves_elsewhere")):
            monkeypatch.setattr(doctor, "PORT", port)
            checks, one = await examine(None)
            assert (checks["server"].code, one.path) == (code, "network")


async def test_ports_that_are_taken_are_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        one = Doctor(None, Proxies(NONE), available()[0], (port, port))
        checks = {check.name: check async for check in one.checks()}
    assert checks["ports"].code == "listens_not"
    assert checks["ports"].values == {"first": port, "last": port}
