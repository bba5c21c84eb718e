"""Comparing a server's page with the shipped one: against servers that cheat in every way."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from aiohttp import web

from p2p.connect import verify_web
from p2p.connect.verify_web import Finding, compare
from p2p.protocol.errors import Failure
from signaling import web_assets as pages
from signaling.certificates import open_authority

PAGE = b"<!doctype html><script type=module src=/assets/a-1.js></script><img src='data:,'>"
SHIPPED = {"/": PAGE, "/assets/a-1.js": b"console.log(1)", "/assets/s-1.wasm": b"\0asm" * 50_000}
SAME = [Finding(path, "same") for path in SHIPPED]


class Site:
    """A server that gives the shipped files, except for what a test changes."""

    def __init__(self):
        self.content = dict(SHIPPED)
        self.headers = {path: pages.client_headers(path) for path in SHIPPED}
        self.asked = []

    async def answer(self, request):
        self.asked.append(request.raw_path)
        path = request.path
        if path not in self.content:
            raise web.HTTPNotFound
        return web.Response(body=self.content[path], headers=self.headers[path])

    async def start(self, tls=None):
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = self.runner.addresses[0][1]
        return f"http{'s' if tls else ''}://127.0.0.1:{port}"


@pytest.fixture
async def site():
    one = Site()
    yield one
    if hasattr(one, "runner"):
        await one.runner.cleanup()


async def look(url, ca=None):
    return await compare(url, SHIPPED, pages.client_headers, ca)


def but(found):
    """The findings that are not `same`, by path."""
    return {one.path: (one.verdict, one.detail) for one in found if one.verdict != "same"}


async def test_what_is_shipped_is_found_the_same_file_by_file(site):
    assert await look(await site.start()) == SAME


async def test_one_altered_byte_is_named(site):
    site.content["/assets/a-1.js"] = b"console.log(2)"
    assert but(await look(await site.start())) == {"/assets/a-1.js": ("differs", "content")}


@pytest.mark.parametrize("tail", [b"\n", b"x" * 10_000_000])
async def test_more_than_the_shipped_bytes_differs_and_is_not_read_to_its_end(site, tail):
    site.content["/assets/s-1.wasm"] += tail
    assert but(await look(await site.start())) == {"/assets/s-1.wasm": ("differs", "content")}


async def test_a_missing_file_and_a_redirected_one_are_missing(site):
    del site.content["/assets/a-1.js"]

    async def elsewhere(request):
        site.asked.append(request.path)
        raise web.HTTPFound("/elsewhere")

    original = site.answer

    async def answer(request):
        return await (elsewhere if "wasm" in request.path else original)(request)

    site.answer = answer
    found = but(await look(await site.start()))
    assert found == {
        "/assets/a-1.js": ("missing", "status 404"),
        "/assets/s-1.wasm": ("missing", "status 302"),
    }
    assert "/elsewhere" not in site.asked


@pytest.mark.parametrize("name", sorted(pages.client_headers("/")))
async def test_each_missing_or_weaker_header_is_named(site, name):
    """A worker's policy counts as much as the page's."""
    if name == "Content-Type":
        site.headers["/"][name] = "text/plain"
    else:
        del site.headers["/"][name]
    site.headers["/assets/a-1.js"]["Content-Security-Policy"] = "script-src *"
    found = but(await look(await site.start()))
    assert found["/"] == ("differs", name)
    assert found["/assets/a-1.js"] == ("differs", "Content-Security-Policy")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Link", "<https://evil.example/a.css>; rel=stylesheet"),
        ("Refresh", "0;url=https://evil.example"),
        ("Content-Encoding", "gzip"),
        ("Service-Worker-Allowed", "/"),
    ],
)
async def test_a_header_that_changes_the_page_is_named(site, name, value):
    site.headers["/"][name] = value
    assert but(await look(await site.start())) == {"/": ("differs", name)}


async def test_what_the_page_brings_in_from_elsewhere_is_named(site):
    site.content["/"] += (
        b"<script src=https://evil.example/a.js></script><SCRIPT SRC=//evil.example/b.js></SCRIPT>"
        b"<script src=/assets/b-2.js></script><svg><use xlink:href=/x.svg#y></use></svg>"
        b"<img srcset='/big.png'><a href='#x'>fine</a><img src=/assets/a-1.js?x>\x1b[2J"
        b"<img src='http://[bad'><img src=\"/\x1b[2J\">"
    )
    found = but(await look(await site.start()))
    assert found.pop("/") == ("differs", "content")
    assert set(found.values()) == {("not shipped", "")}
    assert set(found) == {
        "https://evil.example/a.js",
        "//evil.example/b.js",
        "/assets/b-2.js",
        "/x.svg#y",
        "/big.png",
        "/assets/a-1.js?x",
        "http://[bad",
        "/\\u{1b}[2J",
    }


async def test_a_page_of_references_is_listed_only_so_far(site):
    site.content["/"] = b"".join(b"<img src=/%d>" % n for n in range(5000))
    found = await look(await site.start())
    assert len(found) == len(SHIPPED) + verify_web.MAX_REFERENCES


async def test_the_secret_of_a_whole_link_goes_nowhere(site):
    url = await site.start()
    assert await look(f"{url}/#1.secret.part") == SAME
    assert site.asked == list(SHIPPED)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://x", "https://", "https://a@b", "https://h/path", "https://h?q", "http://h:x"],
)
async def test_what_is_no_server_is_refused(url):
    with pytest.raises(Failure) as caught:
        await look(url)
    assert caught.value.code == "address_invalid"


async def test_certificates_are_verified_and_another_can_be_trusted(site, tmp_path):
    authority = open_authority(tmp_path / "ca", [], [])
    url = await site.start(authority.issue([], []).context)
    assert await look(url, authority.path) == SAME
    with pytest.raises(Failure) as caught:
        await look(url)
    assert caught.value.code == "certificate_untrusted"
    with pytest.raises(Failure) as caught:
        await look(url, tmp_path / "ca" / "key.pem")
    assert caught.value.code == "not_readable"


async def test_servers_that_are_none_and_that_hang_fail_in_time(site, unused_tcp_port, monkeypatch):
    async def refuses(url, sentence):
        with pytest.raises(Failure) as caught:
            await look(url)
        assert caught.value.code == "server_unreachable"
        assert sentence in caught.value.sentence

    await refuses(f"http://127.0.0.1:{unused_tcp_port}", "connection refused")
    plain = await site.start()
    await refuses(plain.replace("http", "https"), "does not use TLS")

    async def nonsense(reader, writer):
        writer.write(b"220 smtp ready\r\n")
        writer.close()

    async def hang_up(reader, writer):  # as one that takes https alone
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as silent:
        await refuses(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", "try https")

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    await refuses(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "not a web server")
    server.close()

    async def drip(reader, writer):
        with contextlib.closing(writer), contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)

    monkeypatch.setattr(verify_web, "ALL_SECONDS", 0.5)
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    started = time.monotonic()
    await refuses(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "no answer")
    assert time.monotonic() - started < 5
    server.close()
