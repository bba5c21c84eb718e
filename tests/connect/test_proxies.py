"""Which proxy stands between here and a host."""

from __future__ import annotations

import asyncio

import pytest
from python_socks import parse_proxy_url

from p2p.connect.proxies import (
    NONE,
    Proxies,
    connectable,
    first_that_reaches,
    open_socket,
    refused_by_proxy,
)
from p2p.protocol.errors import Failure
from p2p.protocol.sentences import Detail

PROXY = "http://proxy.example:8080"


def ways(host, port=443, scheme="https", named="", **environment):
    return Proxies(named, environment).ways(scheme, host, port)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "LOCALHOST"]
)
@pytest.mark.parametrize(
    "environment",
    [
        {"https": PROXY},
        {"http": PROXY, "https": PROXY, "all": "socks5://x:1"},
        {"https": "nonsense://"},
    ],
)
def test_this_machine_is_never_asked_by_a_proxy(host, environment):
    assert ways(host, named=PROXY, **environment) == [""]
    assert ways(host, **environment) == [""]


def test_the_environment_says_by_scheme_and_one_for_all():
    assert ways("a.example", https=PROXY) == [PROXY, ""]
    assert ways("a.example", scheme="http", https=PROXY) == [""]
    assert ways("a.example", scheme="http", all="socks5h://p:1") == ["socks5h://p:1", ""]
    assert ways("a.example", https="proxy.example:8080") == [PROXY, ""]
    assert ways("a.example") == [""]


def test_a_private_network_is_tried_without_it_first():
    for host in ("10.1.2.3", "192.168.1.1", "fd00::1", "[fd00::1]"):
        assert ways(host, https=PROXY) == ["", PROXY]
    assert ways("8.8.8.8", https=PROXY) == [PROXY, ""]


def test_what_was_named_comes_before_the_environment():
    assert ways("a.example", named="socks5://p:1", https=PROXY) == ["socks5://p:1", ""]
    assert ways("a.example", named=NONE, https=PROXY) == [""]


@pytest.mark.parametrize(
    ("host", "excepted", "is_excepted"),
    [
        ("a.example", "*", True),
        ("a.example", "a.example", True),
        ("a.example", "A.Example.", True),
        ("a.example.", "a.example", True),
        ("a.b.example", "b.example", True),
        ("a.b.example", ".b.example", True),
        ("a.b.example", "*.b.example", True),
        ("ab.example", "b.example", False),
        ("a.example", "other, a.example", True),
        ("a.example", "other a.example", True),
        ("a.example", "a.example:443", True),
        ("a.example", "a.example:80", False),
        ("8.8.8.8", "8.8.8.8", True),
        ("8.8.8.8", "8.8.0.0/16", True),
        ("8.8.8.8", "8.8.8.8:80", False),
        ("8.8.8.8", "9.0.0.0/8", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("[2001:db8::1]", "[2001:db8::1]:443", True),
        ("[2001:db8::1]", "[2001:db8::1]:80", False),
        ("2001:db8::1", "2001:db8::2", False),
        ("a.example", "", False),
        ("a.example", ", ,", False),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(host, excepted, is_excepted):
    expected = [""] if is_excepted else [PROXY, ""]
    if not is_excepted and host.startswith("2001"):  # of documentation: it is private
        expected = ["", PROXY]
    if not is_excepted and host.startswith("["):
        expected = ["", PROXY]
    assert ways(host, https=PROXY, no=excepted) == expected


@pytest.mark.parametrize(
    "url",
    ["ftp://p:1", "http://", "://x", "http://p:99999", "http://p:0", "https://p:1", "a b://c"],
)
def test_what_is_no_proxy_is_said_to_be_none(url):
    with pytest.raises(Failure) as failed:
        ways("a.example", named=url)
    assert (failed.value.code, failed.value.detail) == ("server_unreachable", failed.value.detail)
    assert "proxy" in failed.value.detail


async def test_a_proxy_that_is_not_there_is_said_not_to_be(unused_tcp_port):
    with pytest.raises(Failure) as failed:
        await open_socket(f"http://127.0.0.1:{unused_tcp_port}", "a.example", 443)
    assert failed.value.code == "server_unreachable"
    assert "proxy" in failed.value.detail


@pytest.mark.parametrize("ways", [["", PROXY], [PROXY, ""]])
async def test_where_no_way_reaches_it_the_proxy_says_why(ways):
    """Without the proxy there is only silence."""

    async def reach(way):
        if way:
            raise refused_by_proxy(407)
        raise Failure("server_unreachable", Detail("no_answer"))

    with pytest.raises(Failure) as refused:
        await first_that_reaches(ways, reach, 1.0)
    assert refused.value.detail == Detail("proxy_login")


async def test_a_way_that_is_silent_is_given_up_only_where_another_follows():
    tried = []

    async def reach(way):
        tried.append(way)
        if not way:
            await asyncio.Event().wait()
        return "reached"

    assert await first_that_reaches(["", PROXY], reach, 0.01) == "reached"
    assert tried == ["", PROXY]


async def test_what_another_way_does_not_change_is_said_at_once():
    async def reach(way):
        raise Failure("certificate_untrusted", "self-signed")

    with pytest.raises(Failure) as refused:
        await first_that_reaches([PROXY, ""], reach, 1.0)
    assert refused.value.code == "certificate_untrusted"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("http://proxy.example:8080", ("http://proxy.example:8080", False)),
        ("http://proxy.example", ("http://proxy.example:80", False)),
        ("http://a:b@[fd00::1]", ("http://a:b@[fd00::1]:80", False)),
        ("socks5://p:1", ("socks5://p:1", False)),
        ("socks5h://p", ("socks5://p:1080", True)),
        ("socks4a://p:1", ("socks4://p:1", True)),
        ("socks4://p:1", ("socks4://p:1", False)),
    ],
)
def test_what_is_accepted_as_a_proxy_is_one_to_the_library(given, taken):
    assert connectable(given) == taken
    parse_proxy_url(taken[0])


async def test_a_name_is_looked_up_by_a_proxy_that_is_asked_to():
    """`socks5h`, over a real socket: the request has the name in it (RFC 1928, ATYP 3)."""
    heard = asyncio.get_running_loop().create_future()

    async def take(reader, writer):
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        heard.set_result(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Failure):
        await open_socket(f"socks5h://127.0.0.1:{port}", "far.example", 443)
    assert b"\x03\x0bfar.example" in await heard
    server.close()
