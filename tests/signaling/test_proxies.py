"""Who asks, by which name and how protected: nobody's word counts but a trusted proxy's."""

from __future__ import annotations

import ipaddress

import aiohttp
import pytest

from signaling import app
from signaling import web_assets as pages
from signaling.rooms import Limits

BROWSER = {"Sec-Fetch-Mode": "navigate"}


@pytest.fixture
async def serve(monkeypatch):
    monkeypatch.setattr(pages, "shipped", lambda: {"/": b"scripted", "/assets/a.js": b"script"})
    servers = []

    async def start(*trusted, **limits):
        server = app.Server(Limits(**limits), [ipaddress.ip_network(one) for one in trusted])
        await server.start("127.0.0.1", 0)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


async def get(server, headers, path="/"):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.read()


async def scripted(server, headers):
    body = (await get(server, headers))[1]
    asset = (await get(server, headers, "/assets/a.js"))[0] == 200
    assert asset is (body == b"scripted")
    return asset


async def test_nginx_as_it_comes_gets_no_scripted_page(serve):
    """`proxy_pass http://127.0.0.1` writes a loopback `Host`; the browser far away calls no plain
    http secure, so it says nothing of the kind."""
    server = await serve()
    assert not await scripted(server, {"Host": "127.0.0.1"})
    assert await scripted(server, BROWSER)  # of this machine


@pytest.mark.parametrize(
    "name", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP"]
)  # fmt: skip
async def test_whoever_forwards_without_being_trusted_gets_no_scripted_page(serve, name):
    server = await serve("10.0.0.0/8")
    assert not await scripted(server, {**BROWSER, name: "https"})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-Proto": "https"}, True),
        ({"X-Forwarded-Proto": "http, HTTPS"}, True),  # the nearest proxy's word
        ({"X-Forwarded-Proto": "https, http"}, False),
        ({"X-Forwarded-Proto": "http"}, False),
        ({}, False),
        ({"Host": "127.0.0.1"}, False),
    ],
)
async def test_a_trusted_proxy_says_by_which_scheme_it_was_asked(serve, headers, expected):
    server = await serve("127.0.0.0/8")
    assert await scripted(server, {**BROWSER, **headers}) is expected


async def test_limits_count_whom_a_trusted_proxy_names(serve):
    server = await serve("127.0.0.1/32", "10.0.0.0/8", frames_per_minute=2)

    async def ask(forwarded):
        return (await get(server, {"X-Forwarded-For": forwarded}, "/healthz"))[0]

    assert [await ask("192.0.2.1") for _ in range(3)] == [200, 200, 429]
    assert await ask("192.0.2.2") == 200
    assert (
        await ask("192.0.2.3, 192.0.2.1, 10.0.0.7") == 429
    )  # of the client, only the first claims
    assert await ask("::ffff:192.0.2.1") == 429
    assert await ask("nonsense") == 200
    assert await ask("2001:db8:0:1::1") == 200
    assert await ask("2001:db8:0:1::2") == 200
    assert await ask("2001:db8:0:1::3") == 429  # one /64


async def test_nobody_else_says_whom_to_count(serve):
    server = await serve(frames_per_minute=2)
    for number in range(3):
        status, _ = await get(server, {"X-Forwarded-For": f"192.0.2.{number}"}, "/healthz")
    assert status == 429


async def test_the_origin_of_a_browser_is_held_against_the_name_that_a_trusted_proxy_says(serve):
    for trusted, status in (("127.0.0.1/32", 101), ("10.0.0.0/8", 403)):
        server = await serve(trusted)
        headers = {
            "Origin": "https://handover.example",
            "X-Forwarded-Host": "handover.example",
            "X-Forwarded-For": "192.0.2.1",
            "X-Forwarded-Proto": "https",
        }
        where = f"http://127.0.0.1:{server.port}/signal"
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(where, headers=headers):
                    assert status == 101
            except aiohttp.WSServerHandshakeError as refused:
                assert refused.status == status
