"""What a server logs names nobody: values are planted in all that it is told, by every way in, and
looked for in all that a real process says, at debug level, in both formats."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.parse
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from websockets.asyncio.client import connect

from signaling import messages
from signaling.certificates import open_authority
from tests.confined import die_with_parent
from tests.redis_server import RedisServer

from .harness import ROOT, SECONDS

pytestmark = pytest.mark.process

ROOM, JOIN, OWNER = (os.urandom(n) for n in (16, 32, 32))
WRONG_JOIN, WRONG_OWNER, SECRET = (os.urandom(32) for _ in range(3))
TOKEN, WRONG_TOKEN, PASSWORD, TURN = (f"planted-{what}-4711" for what in (
    "token", "wrong-token", "redis-password", "turn-secret"
))  # fmt: skip
KID, SUBJECT, JUNK, REFERRER = "planted-kid", "planted-subject", "planted-junk", "planted-referrer"
ORIGIN = "https://planted-origin.example"
LINK = f"1.{messages.encode_bytes(SECRET)}.C"
FORWARDED, PROXIED, BAD_PROXIED = "203.0.113.77", "203.0.113.88", "203.0.113.99"
CLIENTS = ("127.0.0.66", "127.0.0.67")
UPGRADE = b"GET /signal HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def spellings(value):
    """As it may be written."""
    if isinstance(value, bytes):
        found = {value.hex(), messages.encode_bytes(value), repr(value)[2:-1]}
        return {one.encode() for one in found} | {base64.b64encode(value).rstrip(b"="), value}
    return {one.encode() for one in (value, urllib.parse.quote(value, ""), json.dumps(value)[1:-1])}


@asynccontextmanager
async def provider(authority):
    """An OpenID provider: its issuer, and what makes tokens."""
    key = ECKey.generate_key("P-256", {"kid": KID}, auto_kid=False)
    other = ECKey.generate_key("P-256", {"kid": KID}, auto_kid=False)
    app, made = web.Application(), dict[str, str]()

    async def about(request):
        return web.json_response({"issuer": made["issuer"], "jwks_uri": made["issuer"] + "/keys"})

    async def keys(request):
        return web.json_response(KeySet([key]).as_dict(private=False))

    app.router.add_get("/.well-known/openid-configuration", about)
    app.router.add_get("/keys", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.issue([], []).context)
    await site.start()
    made["issuer"] = f"https://127.0.0.1:{runner.addresses[0][1]}"

    def token(good):
        claims = {"iss": made["issuer"], "aud": "handover", "exp": int(time.time()) + 300}
        head = {"alg": "ES256", "kid": KID}
        return jwt.encode(head, {**claims, "sub": SUBJECT}, key if good else other)

    try:
        yield made["issuer"], token
    finally:
        await runner.cleanup()


class Serving:
    """A `handover serve` and its log."""

    def __init__(self, log, tls, *options, **environment):
        self.log, self.tls = log, tls
        command = [sys.executable, "-m", "p2p", "serve", "--listen", "127.0.0.1:0"]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, "--log-level", "debug", "--drain", "1s", *map(str, options)],
                env=os.environ | {"PYTHONPATH": str(ROOT), "HANDOVER_LANG": "en", **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    async def says(self, pattern):
        async with asyncio.timeout(SECONDS):
            while not (found := re.search(pattern, self.log.read_bytes())):
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)
        return found

    async def begin(self):
        self.port = int((await self.says(rb"Serving on port (\d+)"))[1])
        await self.says(b"Redis answers")

    async def peer(self, address=CLIENTS[0], **headers):
        where = f"ws{'s' if self.tls else ''}://127.0.0.1:{self.port}{messages.PATH}"
        return await connect(
            where,
            compression=None,
            local_addr=(address, 0),
            ssl=self.tls,
            additional_headers=headers,
            close_timeout=0.2,
        )

    async def send(self, data, port=0, address=CLIENTS[0], tls=None, more=b""):
        """Raw bytes; what comes back within a moment."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port or self.port, local_addr=(address, 0)
        )
        got = b""
        with contextlib.suppress(ConnectionError, TimeoutError, OSError):
            async with asyncio.timeout(0.2):
                writer.write(data)
                if tls is not None:
                    await writer.start_tls(tls, server_hostname="localhost")
                    writer.write(more)
                while part := await reader.read(65536):
                    got += part
        writer.transport.abort()
        return got


def create(room=ROOM, owner=OWNER, **more):
    join_hash = hashlib.sha256(JOIN).digest()
    return messages.encode("create", room=room, join_hash=join_hash, owner=owner, ttl=60, **more)


async def say(peer, text):
    await peer.send(text)
    async with asyncio.timeout(20):
        return json.loads(await peer.recv())


@pytest.mark.parametrize(("log_format", "secure"), [("text", False), ("json", True)])
async def test_nothing_that_a_server_is_told_is_in_its_log(
    tmp_path, log_format, secure, unused_tcp_port
):
    authority = open_authority(tmp_path / "ca", [], [])
    pem, tokens, turn = (tmp_path / name for name in ("server.pem", "tokens", "turn"))
    pem.write_bytes(authority.issue([], ["127.0.0.1"]).pem)
    tokens.write_text(f"{hashlib.sha256(TOKEN.encode()).hexdigest()} planted-name\n")
    turn.write_text(TURN)
    tls = ssl.create_default_context(cafile=authority.path) if secure else None
    redis = RedisServer(tmp_path, "--requirepass", PASSWORD)
    async with provider(authority) as (issuer, token):
        server = Serving(
            tmp_path / "log",
            tls,
            *("--log-format", log_format, "--trusted-proxy", "127.0.0.1/32"),
            *("--allowed-tokens", tokens, "--oidc-issuer", issuer, "--oidc-audience", "handover"),
            *("--ice", "turn:turn.example", "--turn-secret-file", turn),
            *("--metrics-listen", f"127.0.0.1:{unused_tcp_port}"),
            *(("--tls-cert", pem, "--tls-key", pem) if secure else ()),
            HANDOVER_SERVE_REDIS_URL=redis.url.replace("//", f"//:{PASSWORD}@"),
            SSL_CERT_FILE=str(authority.path),
            no_proxy="*",
        )
        try:
            await server.begin()
            seen = await visit(server, token, unused_tcp_port)
            redis.stop()
            await server.says(b"Redis does not answer")
            async with await server.peer() as peer:
                told = await say(peer, create(token=TOKEN))
                assert told["code"] == "unavailable"
            server.process.terminate()
            assert await asyncio.to_thread(server.process.wait, 20) == 0
        finally:
            server.process.kill()
            server.process.wait()
            redis.stop()
    said = (tmp_path / "log").read_bytes()
    for expected in (b"token_required", b"not_found", b"room_taken", b"unavailable", b"stopped"):
        assert expected in said
    if log_format == "json":
        lines = [line for line in said.splitlines() if b"Serving on" not in line]
        assert all(json.loads(line)["message"] for line in lines)
    planted = {
        *(ROOM, JOIN, OWNER, WRONG_JOIN, WRONG_OWNER, SECRET, LINK, LINK[:12]),
        *(TOKEN, WRONG_TOKEN, PASSWORD, TURN, KID, SUBJECT, JUNK, REFERRER, "planted"),
        *("203.0.113.", "127.0.0.", *CLIENTS, *seen),
    }
    found = {value for value in planted for one in spellings(value) if one in said}
    assert found == set(), said.decode(errors="replace")


async def visit(server, token, metrics):
    """By every way in; what the server itself has given out."""
    good, bad = token(good=True), token(good=False)
    seen = [good, bad, good.split(".")[1], good.split(".")[2]]
    for wrong in (WRONG_TOKEN, bad, good[:-6] + "AAAAAA"):
        async with await server.peer() as peer:
            assert (await say(peer, create(token=wrong)))["code"] == "token_required"
    async with await server.peer() as peer:  # of the provider
        room = os.urandom(16)
        assert (await say(peer, create(room=room, token=good)))["type"] == "created"
        seen.append(room)
    headers = {"X-Forwarded-For": FORWARDED, "X-Forwarded-Host": "planted-host.example"}
    async with await server.peer() as host, await server.peer("127.0.0.1", **headers) as guest:
        assert (await say(host, create(token=TOKEN)))["type"] == "created"
        joined = await say(guest, messages.encode("join", room=ROOM, join=JOIN))
        seen += [joined["attempt"], *(str(value) for value in joined["ice"]["servers"][0].values())]
        seen.remove("turn:turn.example")
        seen.append(base64.urlsafe_b64decode(joined["attempt"] + "=="))
        async with asyncio.timeout(5):
            await host.recv()
            await guest.send(
                json.dumps({"type": "envelope", "attempt": joined["attempt"], "body": "cGxhbnRlZA"})
            )
            await host.recv()
        for text in (
            create(owner=WRONG_OWNER, token=TOKEN),
            messages.encode("join", room=ROOM, join=WRONG_JOIN),
            messages.encode("stay", room=ROOM, join=JOIN),
            f'{{"type":"{JUNK}"}}',
            f"{JUNK}\x00{LINK}",
            "[" * 9000,
        ):
            async with await server.peer(CLIENTS[1]) as peer:
                assert (await say(peer, text))["type"] == "error"
        async with await server.peer(CLIENTS[1]) as peer:
            await peer.send(JUNK.encode())
        await guest.close(4014, JUNK)
    proxy = "PROXY TCP4 {} 198.51.100.2 56324 443\r\n"
    path = f"GET /%23{LINK} HTTP/1.1\r\nHost: {JUNK}\r\nReferer: http://{REFERRER}/#{LINK}\r\n\r\n"
    requests = [
        path.encode(),
        path.replace("GET", JUNK).encode(),
        path.replace("HTTP/1.1", "HTTP/9.9").encode(),
        path.replace("Host", "Ho st").encode(),
        b"BRE\x01W " + path.encode(),
        UPGRADE + f"Origin: {ORIGIN}\r\nX: {JUNK}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
        UPGRADE + f"Sec-WebSocket-Protocol: {JUNK}\r\n\r\n".encode(),
        UPGRADE + f"Sec-WebSocket-Version: 7\r\nCookie: {JUNK}\r\n\r\n".encode(),
        f"GET /signal?token={TOKEN}#{LINK} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"GET /" + b"x" * 9000 + LINK.encode() + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + JUNK.encode() * 50,
        JUNK.encode(),
    ]
    for request in requests:
        await server.send(request, tls=server.tls, more=request)
        await server.send(request, tls=None)
    for head in (proxy.format(PROXIED), proxy.format(BAD_PROXIED)[:40] + JUNK + "\r\n"):
        sent = head.encode()
        if server.tls is None:
            await server.send(sent + path.encode(), address="127.0.0.1")
        else:
            await server.send(sent, address="127.0.0.1", tls=server.tls, more=path.encode())
    for request in requests:  # an operator's own address: nonsense comes there as well
        await server.send(request, metrics)
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{metrics}/metrics") as got,
    ):
        assert got.status == 200
    return seen
