"""Whose a connection is, before its first byte: from a trusted proxy, and from nobody else."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.app import Server
from signaling.certificates import open_authority
from signaling.proxy_protocol import MAX_2, SIGNATURE, BadHeader, parse
from signaling.rooms import Limits

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
V4 = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
V6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"


def second(command=0x21, family=0x11, addresses=bytes([192, 0, 2, 1]) + bytes(8), more=b""):
    body = addresses + more
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V4, "192.0.2.1"),
        (V6, "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ff ff 1 2\r\n", None),
        (second(), "192.0.2.1"),
        (second(more=b"\x03\x00\x04abcd"), "192.0.2.1"),
        (
            second(family=0x21, addresses=ipaddress.ip_address("2001:db8::7").packed + bytes(20)),
            "2001:db8::7",
        ),
        (second(command=0x20), None),
        (second(family=0x00, addresses=b""), None),
        (second(family=0x31, addresses=bytes(216)), None),
    ],
)
def test_a_header_says_whose_a_connection_is(header, client):
    """Wherever it is cut in two, and whatever follows."""
    expected = client and ipaddress.ip_address(client)
    assert parse(header) == (len(header), expected)
    assert parse(header + REQUEST) == (len(header), expected)
    for cut in range(1, len(header)):
        assert parse(header[:cut]) is None, cut


@pytest.mark.parametrize(
    "data", [REQUEST, b"\x16\x03\x01", b"POST", b"\r\n\r\n\x00\r\nQUIX", b"PROX "]
)
def test_what_is_no_header_is_left_alone(data):
    assert parse(data) == (0, None)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.999 198.51.100.2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY TCP4 \xff 198.51.100.2 1 2\r\n",
        b"PROXY " + b"x" * 200,
        second(command=0x11),
        second(command=0x22),
        second(more=bytes(MAX_2)),
        second(addresses=bytes(11)),
    ],
)
def test_a_header_that_is_none_is_refused(data):
    with pytest.raises(BadHeader):
        parse(data)


@given(
    st.one_of(st.binary(), st.binary().map(SIGNATURE.__add__), st.binary().map(b"PROXY ".__add__))
)
def test_any_bytes_are_read_or_refused(data):
    try:
        found = parse(data)
    except BadHeader:
        return
    assert found is None or 0 <= found[0] <= max(len(data), 0)


@pytest.fixture
async def start(tmp_path):
    servers = []

    async def make(trusted=LOOPBACK, tls=None, **limits):
        server = Server(Limits(**limits), trusted)
        await server.start("127.0.0.1", 0, tls)
        servers.append(server)
        return server

    yield make
    for server in servers:
        await server.stop()


async def ask(server, *parts, tls=None):
    """The status line; "" when it was cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        if tls is not None:
            await writer.start_tls(tls, server_hostname="localhost")
            writer.write(REQUEST)
        async with asyncio.timeout(10):
            return (await reader.readline()).decode().strip()
    except ConnectionError:
        return ""
    finally:
        writer.close()


@pytest.mark.parametrize("header", [V4, second()])
async def test_the_client_is_counted_and_not_the_proxy(start, header):
    server = await start(opened_per_minute=3)
    other = header.replace(bytes([192, 0, 2, 1]), bytes([192, 0, 2, 9])).replace(
        b"192.0.2.1", b"192.0.2.9"
    )
    for _ in range(3):
        assert (await ask(server, header + REQUEST)).endswith("200 OK")
    assert await ask(server, header + REQUEST) == ""
    assert (await ask(server, other + REQUEST)).endswith("200 OK")
    assert (await ask(server, header[:7], header[7:20], header[20:] + REQUEST)) == ""


async def test_it_comes_before_tls(start, tmp_path):
    authority = open_authority(tmp_path / "ca", [], [])
    server = await start(tls=authority.issue([], []).context)
    trust = ssl.create_default_context(cafile=authority.path)
    assert (await ask(server, V6, tls=trust)).endswith("200 OK")
    assert (await ask(server, tls=trust)).endswith("200 OK"), "without a header as well"


async def test_nobody_else_is_believed(start):
    """To a server that trusts no proxy a header is no request."""
    server = await start(trusted=())
    assert "400" in await ask(server, V4 + REQUEST)


async def test_half_a_header_is_waited_for_but_not_for_ever(start):
    server = await start(first_message_seconds=0.3)
    for part in (b"PROXY TCP4 192", SIGNATURE, b"PROXY TCP4 nonsense\r\n", second(command=0x99)):
        assert await ask(server, part) == ""
    assert server.connections == 0
