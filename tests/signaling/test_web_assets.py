"""What browsers get, and where: the client on https and on this machine, the notice elsewhere."""

from __future__ import annotations

import re
import socket
import ssl

import aiohttp
import pytest
from yarl import URL

from signaling import app, certificates
from signaling import web_assets as pages

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self' data:; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types default"
)
ALWAYS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
BUILT = {
    "index.html": b"<!doctype html><title>built</title>",
    "assets/one-abc.js": b"export {}",
    "assets/one-abc.css": b"p { color: red }",
    "assets/sodium-abc.wasm": b"\0asm",
    "assets/font-abc.woff2": b"wOF2",
    "assets/mark-abc.svg": b"<svg/>",
    "assets/words-abc.json": b"{}",
    "assets/mark-abc.png": b"\x89PNG",
    "assets/.stamp.js": b"not an asset",
    "assets/licenses-abc.txt": b"MIT",
    "assets/notes.md": b"not an asset",
    "assets/deep/two.js": b"not an asset",
    ".stamp": b"not an asset",
}
BROWSER = {
    "Sec-Fetch-Mode": "navigate"
}  # what a browser says to an origin that it holds for secure
TYPES = {
    "/": "text/html; charset=utf-8",
    "/assets/one-abc.js": "text/javascript; charset=utf-8",
    "/assets/one-abc.css": "text/css; charset=utf-8",
    "/assets/sodium-abc.wasm": "application/wasm",
    "/assets/font-abc.woff2": "font/woff2",
    "/assets/mark-abc.svg": "image/svg+xml",
    "/assets/words-abc.json": "application/json",
    "/assets/mark-abc.png": "image/png",
    "/assets/licenses-abc.txt": "text/plain; charset=utf-8",
}


def write(folder):
    for name, content in BUILT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A built client, whatever this tree holds."""
    found = pages._read(write(tmp_path / "web"))
    monkeypatch.setattr(pages, "shipped", lambda: found)
    return found


@pytest.fixture
async def serve():
    servers = []

    async def start(host="127.0.0.1", tls=None):
        server = app.Server()
        await server.start(host, 0, tls)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


async def get(url, host=None, **options):
    headers = {**BROWSER, **({} if host is None else {"Host": host})}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, **options) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def not_loopback():
    """An address of this machine that is not loopback; asking sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return probe.getsockname()[0]


def test_the_built_client_is_its_page_and_the_assets_of_known_kinds(tmp_path):
    """Stamps, hidden files, unknown kinds and folders are not served."""
    found = pages._read(write(tmp_path))
    assert set(found) == set(TYPES)
    assert found["/assets/sodium-abc.wasm"] == b"\0asm"
    assert found["/"] == BUILT["index.html"]


def test_a_tree_that_was_not_built_ships_nothing(tmp_path):
    assert pages._read(tmp_path / "web") == {}
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "one.js").write_bytes(b"")
    assert pages._read(tmp_path) == {}


async def test_this_machines_browser_gets_the_client_with_its_headers(serve, built):
    server = await serve()
    for path, kind in TYPES.items():
        status, headers, body = await get(f"http://127.0.0.1:{server.port}{path}")
        assert (status, body) == (200, built[path])
        assert headers.getall("Content-Type") == [kind]
        assert headers.getall("Content-Security-Policy") == [POLICY]
        kept = "no-store" if path == "/" else "public, max-age=31536000, immutable"
        assert headers.getall("Cache-Control") == [kept]
        assert ALWAYS.items() <= headers.items()
        assert "Strict-Transport-Security" not in headers


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("127.1.2.3:8080", True),
        ("[::1]:8080", True),
        ("[::1", False),
        ("localhost.example", False),
        ("example.org", False),
        ("10.0.0.1:8080", False),
        ("localhost@example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
async def test_over_plain_http_the_host_must_be_this_machine(serve, built, host, client):
    """A name that merely points here is a page that others can alter on its way (rebinding too)."""
    server = await serve()
    _, _, body = await get(f"http://127.0.0.1:{server.port}/", host)
    assert (body == built["/"]) is client
    status, _, _ = await get(f"http://127.0.0.1:{server.port}/assets/one-abc.js", host)
    assert status == (200 if client else 404)


async def test_a_loopback_host_from_elsewhere_is_not_believed(serve, built):
    address = not_loopback()
    server = await serve("")
    url = f"http://{address}:{server.port}"
    for host in (None, "localhost", "127.0.0.1"):
        status, headers, body = await get(url + "/", host)
        assert (status, body) == (200, pages.NOTICE.encode())
        assert headers["Content-Security-Policy"] == pages.NOTICE_POLICY
        assert headers["Cache-Control"] == "no-store"
        assert (await get(url + "/assets/one-abc.js", host))[0] == 404
    assert (await get(f"http://127.0.0.1:{server.port}/"))[2] == built["/"]  # the same server
    assert (await get(f"http://[::1]:{server.port}/"))[2] == built["/"]


async def test_https_gives_every_host_the_client(serve, built, tmp_path):
    authority = certificates.open_authority(tmp_path / "ca", ["hand.over.internal"], [])
    server = await serve(tls=authority.issue(["hand.over.internal"], []).context)
    trusting = ssl.create_default_context(cafile=authority.path)
    status, headers, body = await get(
        f"https://127.0.0.1:{server.port}/", "hand.over.internal", ssl=trusting
    )
    assert (status, body) == (200, built["/"])
    assert headers["Content-Security-Policy"] == POLICY


async def test_an_unbuilt_tree_serves_the_notice_everywhere(serve, monkeypatch):
    monkeypatch.setattr(pages, "shipped", dict)
    server = await serve()
    _, headers, body = await get(f"http://127.0.0.1:{server.port}/")
    assert body == pages.NOTICE.encode()
    assert headers["Content-Security-Policy"] == pages.NOTICE_POLICY
    assert (await get(f"http://127.0.0.1:{server.port}/assets/one-abc.js"))[0] == 404


async def test_every_response_carries_the_headers_refusals_included(serve, built):
    server = await serve()
    where = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session:
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/assets/..%2findex.html", 404),
            ("GET", "/assets/%2e%2e/index.html", 404),
            ("GET", "/healthz", 200),
            ("POST", "/", 405),
            ("GET", "/signal", 400),
            ("HEAD", "/", 200),
        ):
            async with session.request(method, where + path) as answer:
                assert answer.status == status, path
                assert ALWAYS.items() <= answer.headers.items(), path
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


MANGLED = [
    "/%231.K.C",
    "/%231%2EK%2EC",
    "/%25231.K.C",
    "/%2525231%252EK.C.p?utm=x",
    "/%231.K.C/",
]


@pytest.mark.parametrize("path", MANGLED)
async def test_a_link_whose_fragment_was_encoded_gets_the_page(serve, built, path):
    """A mail filter's doing; the page repairs it, and finds its assets by their whole path."""
    server = await serve()
    where = URL(f"http://127.0.0.1:{server.port}{path}", encoded=True)
    status, headers, body = await get(where)
    assert (status, body) == (200, built["/"])
    assert headers.getall("Cache-Control") == ["no-store"]
    assert headers.getall("Content-Security-Policy") == [POLICY]
    assert ALWAYS.items() <= headers.items()
    _, headers, body = await get(where, "example.org")
    assert body == pages.NOTICE.encode()  # where the client could not be trusted, here neither
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/%2", "/%241.K.C", "/1.K.C", "/x/%231.K.C", "/assets/%231.K.C"])
async def test_other_addresses_do_not(serve, built, path):
    server = await serve()
    where = URL(f"http://127.0.0.1:{server.port}{path}", encoded=True)
    assert (await get(where))[0] == 404


async def test_a_failure_of_the_server_carries_the_headers_too(serve, built, monkeypatch):
    server = await serve()
    monkeypatch.setattr(pages, "shipped", lambda: 1 / 0)
    status, headers, _ = await get(f"http://127.0.0.1:{server.port}/")
    assert status == 500
    assert ALWAYS.items() <= headers.items()
    assert headers["Content-Security-Policy"] == pages.NOTICE_POLICY


def test_the_notice_is_static_reads_nothing_and_says_what_to_do():
    text = pages.NOTICE
    assert "<script" not in text
    assert not re.search(r"\son\w+=|javascript:|https?://", text)
    assert "script-src" not in pages.NOTICE_POLICY
    english, german = text.split('<section lang="de">')
    for part in (english, german):
        assert "handover receive" in part
        assert "https" in part
        assert "rowser" in part
