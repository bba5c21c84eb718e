"""Binding requests that the signaling server answers itself."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from p2p.connect.ice import _ask
from p2p.protocol.ice import IceServer, read_ice
from signaling import stun as stun_module
from signaling.ice import BadIce, IceConfiguration
from signaling.stun import MAX_REQUEST, _Answers, answer, serve_stun

REQUEST = bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST))
PEER = ("192.0.2.7", 40_000)


def mapped(told):
    return stun.parse_message(told).attributes["XOR-MAPPED-ADDRESS"]


def test_a_request_is_answered_with_the_address_it_came_from():
    told = answer(REQUEST, PEER)
    assert told is not None
    assert mapped(told) == PEER
    said = stun.parse_message(told)
    assert said.message_class is stun.Class.RESPONSE
    assert said.transaction_id == stun.parse_message(REQUEST).transaction_id
    assert len(told) <= 44


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("::ffff:192.0.2.7", 4, 0, 0), ("192.0.2.7", 4)),
        (("2001:db8::1", 4, 0, 0), ("2001:db8::1", 4)),
    ],
)
def test_an_address_is_told_in_its_own_family(address, shown):
    told = answer(REQUEST, address)
    assert told is not None
    assert mapped(told) == shown


def test_what_is_no_binding_request_is_not_answered():
    indication = bytes(stun.Message(stun.Method.BINDING, stun.Class.INDICATION))
    allocate = bytes(stun.Message(stun.Method.ALLOCATE, stun.Class.REQUEST))
    response = answer(REQUEST, PEER)
    assert response is not None
    foreign = REQUEST[:4] + bytes(4) + REQUEST[8:]  # of the STUN before RFC 5389
    long = bytearray(REQUEST + bytes(MAX_REQUEST))
    long[2:4] = MAX_REQUEST.to_bytes(2, "big")
    for data in (b"", indication, allocate, response, foreign, REQUEST[:-1], bytes(long)):
        assert answer(data, PEER) is None
    cut_short = REQUEST[:2] + b"\0\x08" + REQUEST[4:] + b"\0\x20\0\x08" + bytes(4)
    assert answer(cut_short, PEER) is None


@given(st.binary(max_size=700), st.booleans())
def test_nothing_that_comes_throws(data, marked):
    if marked:
        data = data[:2] + (max(0, len(data) - 20)).to_bytes(2, "big") + REQUEST[4:8] + data[8:]
    told = answer(data, PEER)
    assert told is None or len(told) <= 44


def test_answers_are_bounded_whoever_asks():
    now = [0.0]
    answers = _Answers(3, lambda: now[0])
    assert [answers.take() for _ in range(5)] == [True, True, True, False, False]
    now[0] = 1.0
    assert answers.take()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_it_answers_by_udp_and_tcp_on_every_address(host):
    async with serve_stun("", 0) as port:
        if host != "localhost":
            await _ask(IceServer("stun", host, port, "udp"))
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(REQUEST)
        told = mapped(await reader.read(100))
        assert told == writer.get_extra_info("sockname")[:2]
        writer.close()
        silent, other = await asyncio.open_connection(host, port)
        other.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await silent.read() == b"", "hung up on"
        other.close()
    with pytest.raises(OSError, match=r"."):
        await asyncio.open_connection(host, port)


async def test_one_address_is_one_address():
    async with serve_stun("127.0.0.1", 0) as port:
        await _ask(IceServer("stun", "127.0.0.1", port, "udp"))
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("handover.example", "stun:handover.example:3478"),
        ("handover.example:443", "stun:handover.example:3478"),
        ("203.0.113.1:443", "stun:203.0.113.1:3478"),
        ("[2001:db8::1]:443", "stun:[2001:db8::1]:3478"),
        ("[2001:db8::1]", "stun:[2001:db8::1]:3478"),
    ],
)
def test_a_peer_is_told_of_it_by_the_name_it_reached_the_server_by(host, url):
    told = IceConfiguration(own_port=3478).told(0, host)
    assert told is not None
    assert [one["url"] for one in told["servers"]] == [url]
    assert len(read_ice(told, local=False).stun) == 1
    again = IceConfiguration((url,), own_port=3478).told(0, host)
    assert again is not None
    assert len(again["servers"]) == 1


@pytest.mark.parametrize("host", ["", "a b", "::1", "a/b:1", "x" * 300, "[", "é"])
def test_a_host_that_is_none_is_told_of_nothing(host):
    assert IceConfiguration(own_port=3478).told(0, host) is None


def test_there_is_room_for_it_among_the_others():
    urls = tuple(f"stun:{n}.example" for n in range(8))
    IceConfiguration(urls)
    with pytest.raises(BadIce):
        IceConfiguration(urls, own_port=3478)


async def test_connections_are_bounded_in_number_and_in_time(monkeypatch):
    monkeypatch.setattr(stun_module, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(stun_module, "ANSWER_SECONDS", 0.6)
    loop = asyncio.get_running_loop()
    async with serve_stun("127.0.0.1", 0) as port, asyncio.timeout(5):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        began = loop.time()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        assert loop.time() - began < 0.4
        writer.close()
        for silent, _ in held:
            assert await silent.read() == b""
        assert 0.3 < loop.time() - began < 3
        for _, one in held:
            one.close()
