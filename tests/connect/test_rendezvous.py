"""Which hosts a link names, and whether it says that a browser may open it."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from p2p.connect import rendezvous
from p2p.connect.certificates import Tls
from p2p.connect.rendezvous import open_rendezvous
from signaling import web_assets
from signaling.certificates import open_authority

ADDRESSES = ["203.0.113.5", "10.0.0.5", "fd00::5"]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with three addresses, and a built client."""
    monkeypatch.setattr(rendezvous, "reachable", lambda: list(ADDRESSES))
    monkeypatch.setattr(web_assets, "shipped", lambda: {"/": b"built"})


@pytest.fixture
def served(tmp_path):
    """A certificate of a local authority made before the machine had its public address."""
    return open_authority(tmp_path / "ca", [], []).issue(["scanner.local"], ADDRESSES)


async def place(server=None, listen=("", 0), address=None, served=None, hosts=None):
    async with AsyncExitStack() as stack:
        tls = None
        if served:
            tls = Tls(served.context, hosts or served.hosts, "local-ca", served.expires, served.pem)
        found = await open_rendezvous(stack, server, listen, address, tls, b"o" * 32)
        origins = [one.rpartition(":")[0] for one in (found.origin, *found.others)]
        return origins, found


async def test_the_usual_port_is_left_to_a_link_that_may_be_taken_up_again(
    monkeypatch, unused_tcp_port
):
    monkeypatch.setattr(rendezvous, "PORT", unused_tcp_port)
    async with AsyncExitStack() as stack:
        own = await open_rendezvous(
            stack, None, None, None, None, b"o" * 32, reserved={unused_tcp_port}
        )
    assert own.port != unused_tcp_port


async def test_the_port_is_the_same_each_time_unless_it_is_taken(monkeypatch, unused_tcp_port):
    monkeypatch.setattr(rendezvous, "PORT", unused_tcp_port)
    for _ in range(2):
        async with AsyncExitStack() as stack:
            ports = [
                (await open_rendezvous(stack, None, None, None, None, b"o" * 32)).port
                for _ in range(3)
            ]
        assert ports[0] == unused_tcp_port
        assert len(set(ports)) == 3


@pytest.mark.parametrize(
    ("server", "browser"),
    [
        ("https://example.org", True),
        ("http://example.org", False),
        ("http://localhost:8080", True),
        ("http://127.0.0.2:8080", True),
        ("http://[::1]:8080/", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.org", False),
    ],
)
async def test_a_named_server_is_for_browsers_over_https_or_on_this_machine(server, browser):
    _, found = await place(server)
    assert found.browser is browser
    assert found.reached == found.origin == server.rstrip("/")


async def test_plain_http_is_for_the_command_line_except_at_loopback():
    origins, found = await place()
    assert origins == ["http://203.0.113.5", "http://10.0.0.5", "http://[fd00::5]"]
    assert not found.browser
    assert found.reached.startswith("http://127.0.0.1:")
    for options in ({"listen": ("127.0.0.1", 0)}, {"address": "localhost"}, {"address": "[::1]"}):
        assert (await place(**options))[1].browser


async def test_with_a_certificate_the_link_names_a_host_that_browsers_accept(served):
    origins, found = await place(served=served)
    assert origins == ["https://10.0.0.5", "https://[fd00::5]", "https://203.0.113.5"]
    assert found.browser
    origins, found = await place(served=served, address="203.0.113.5")
    assert origins == ["https://203.0.113.5"]
    assert not found.browser


async def test_a_certificate_for_a_name_puts_the_name_into_the_link(served):
    origins, found = await place(served=served, hosts=("localhost", "pacs.example.org"))
    assert origins[0] == "https://pacs.example.org"
    assert set(origins[1:]) == {"https://203.0.113.5", "https://10.0.0.5", "https://[fd00::5]"}
    assert found.browser


async def test_a_certificate_for_a_wildcard_covers_one_label(served):
    wild = ("*.example.org",)
    assert (await place(served=served, hosts=wild, address="a.example.org"))[1].browser
    assert not (await place(served=served, hosts=wild, address="a.b.example.org"))[1].browser
    assert not (await place(served=served, hosts=wild, address="example.org"))[1].browser
    assert not (await place(served=served, hosts=wild))[1].browser


async def test_an_unbuilt_tree_promises_no_browser_anything(served, monkeypatch):
    monkeypatch.setattr(web_assets, "shipped", dict)
    assert not (await place(served=served))[1].browser
    assert not (await place(listen=("127.0.0.1", 0)))[1].browser
