"""Which STUN and TURN servers answer here, over real sockets of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from aioice import stun

from p2p.connect.ice import RESOLVE_SECONDS, Ice, Relay
from p2p.connect.proxies import Proxies
from p2p.lanes import LaneLost
from p2p.lanes.webrtc import available, load
from p2p.protocol.ice import IceServer, IceServers
from p2p.tasks import stop
from tests.lanes.memory import Network

Answers = Callable[[bytes], list[bytes]]


def right(data: bytes) -> bytes:
    """The answer to a binding request."""
    asked = stun.parse_message(data)
    answer = stun.Message(asked.message_method, stun.Class.RESPONSE, asked.transaction_id)
    answer.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 40000)
    return bytes(answer)


async def serve(answers: Answers, host: str = "127.0.0.1") -> tuple[asyncio.DatagramTransport, int]:
    """A server by UDP, and its port."""

    class Server(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            for answer in answers(data):
                self.transport.sendto(answer, address)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=(host, 0))
    return transport, transport.get_extra_info("sockname")[1]


def ice(*servers: IceServer, **options: Any) -> Ice:
    return Ice(IceServers(servers), Network().engine, 1280, local=True, **options)


def turn(port: int, transport: Literal["udp", "tcp"] = "udp") -> IceServer:
    return IceServer("turn", "127.0.0.1", port, transport, "name", "word")


@pytest.mark.parametrize(
    "garbage",
    [
        lambda data: b"",
        lambda data: b"\x01\x01",
        lambda data: bytes(20),
        # Its own header, and an attribute that is cut short.
        lambda data: b"\x01\x01\x00\x04" + data[4:20] + b"\x00\x24\x00\x00",
        lambda data: right(data[:8] + bytes(12)),
    ],
)
async def test_nonsense_is_no_answer_and_no_noise(garbage, caplog):
    transport, port = await serve(lambda data: [garbage(data)])
    found = ice(turn(port))
    assert await found.find_relay() is None
    transport.close()
    assert "Exception" not in caplog.text


async def test_a_server_that_answers_after_nonsense_is_taken():
    transport, port = await serve(lambda data: [bytes(20), right(data)])
    found = await ice(turn(1), turn(port)).find_relay()
    transport.close()
    assert found is not None
    assert (found.server.port, found.engine.name) == (port, "libdatachannel")


async def test_where_udp_is_silent_tcp_is_taken_by_the_engine_that_can():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent, silent_port = await serve(lambda data: [])
    found = await ice(turn(silent_port), turn(port, "tcp")).find_relay()
    silent.close()
    server.close()
    assert found is not None
    assert (found.server.port, found.engine.name) == (port, "aiortc")


async def test_a_way_that_is_silent_does_not_keep_the_proxy_waiting(monkeypatch):
    """As behind a firewall that drops what goes past the proxy."""
    end = turn(4, "tcp")

    async def silent(_: object) -> list[IceServer]:
        return await asyncio.Event().wait() and []

    async def through_a_proxy() -> list[IceServer]:
        return [end]

    found = ice(turn(5, "tcp"))
    monkeypatch.setattr("p2p.connect.ice._connecting", silent)
    monkeypatch.setattr(found, "_through_a_proxy", through_a_proxy)
    relay = await asyncio.wait_for(found.find_relay(), 60)
    assert relay is not None
    assert relay.server == end


async def test_a_name_that_takes_its_time_costs_no_relay_and_an_address_waits_for_none(monkeypatch):
    """A resolver asks again after seconds, and is busy with other names meanwhile."""
    loop = asyncio.get_running_loop()

    async def look_up(host: str, port: int, **_: object) -> list[Any]:
        assert host == "slow.test", "an address is looked up"
        await asyncio.sleep(RESOLVE_SECONDS + 0.2)
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    transport, port = await serve(lambda data: [right(data)])
    slow = replace(turn(port), host="slow.test")
    for servers in ((slow,), (slow, turn(port))):
        found = await ice(*servers).find_relay()
        assert found is not None
        assert (found.server.host, found.server.port) == ("127.0.0.1", port)
    transport.close()


async def test_what_is_no_proxy_is_no_way_and_no_failure():
    far = IceServer("turn", "192.0.2.9", 3478, "tcp", "name", "word")
    assert await ice(far, proxies=Proxies("nonsense://x")).find_relay() is None


async def test_who_must_have_a_relay_and_has_none_gets_no_connection():
    found = ice()
    with pytest.raises(LaneLost):
        await found.open_relayed(None, offerer=True, relay_only=True)
    connection = await found.open_relayed(None, offerer=False, relay_only=False)
    assert connection is not None
    await connection.close()


async def test_a_browser_that_needs_a_relay_too_gets_the_portable_engine():
    relay = Relay(Network().engine, turn(3478))
    for from_relay, engine in ((False, "memory"), (True, "aiortc")):
        connection = await ice().open_relayed(
            relay, offerer=True, relay_only=True, from_relay=from_relay
        )
        assert type(connection).__module__.endswith(engine)
        await connection.close()


@pytest.mark.parametrize("engine", available())
async def test_every_engine_asks_a_server_at_an_ipv6_address(engine):
    asked = asyncio.Event()

    def hear(_: bytes) -> list[bytes]:
        asked.set()
        return []

    transport, port = await serve(hear, "::1")
    server = IceServer("turn", "::1", port, "udp", "name", "word")
    connection = load(engine).make(offerer=True, ice=(server,), relay_only=True)
    describing = asyncio.create_task(connection.describe(bytes(16), bytes(16)))
    async with asyncio.timeout(5):
        await asked.wait()
    await stop(describing)
    await connection.close()
    transport.close()


async def test_a_name_stands_for_an_address_of_each_family(monkeypatch):
    """Either may be dead: that shows only when it is asked."""
    both = [(socket.AF_INET6, "2001:db8::1"), (socket.AF_INET6, "2001:db8::2")]
    both += [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "192.0.2.2")]

    async def getaddrinfo(*_, **__):
        return [(family, 0, 0, "", (address, 3478)) for family, address in both]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("p2p.connect.ice._routed", lambda address: True)
    found = await ice().resolved([IceServer("stun", "stun.test", 3478, "udp")])
    assert [one.host for one in found] == ["192.0.2.1", "2001:db8::1"]
