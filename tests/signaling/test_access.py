"""Who may create rooms: tokens by their hash, and tokens of a real provider over https."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from signaling import access as access_module
from signaling import messages
from signaling.access import AnyOf, BadAccess, OpenIdProvider, TokenFile, new_token
from signaling.app import Server
from signaling.certificates import open_authority
from signaling.rooms import Limits

from .test_app import create, join, raw, say

AUDIENCE = "handover"


@pytest.fixture
def tokens(tmp_path):
    """(file, a token that is in it)."""
    token, line = new_token("reading room")
    path = tmp_path / "tokens"
    path.write_text(f"# who may send\n\n{line}\n{'a' * 64}\n")
    return path, token


async def test_only_holders_of_a_token_may(tokens):
    path, token = tokens
    access = TokenFile(path)
    assert await access.allows(token)
    for wrong in ("", token[:-1], token + "x", "a" * 64):
        assert not await access.allows(wrong)
    assert token not in path.read_text()


async def test_the_file_is_read_again_and_one_that_is_damaged_changes_nothing(tokens, caplog):
    path, token = tokens
    access = TokenFile(path)
    other, line = new_token("second")
    beside = path.with_name("new")
    beside.write_text(line)
    beside.replace(path)
    assert await access.allows(other)
    assert not await access.allows(token)
    beside.write_text("nonsense")
    beside.replace(path)
    assert await access.allows(other)
    path.unlink()
    assert await access.allows(other)
    assert "the file of tokens cannot be read" in caplog.text
    assert str(path) not in caplog.text


@pytest.mark.parametrize("text", ["x", "a" * 63, "A" * 64, f"{'a' * 64}x", "\x00", "\xff" * 9])
def test_a_file_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "tokens"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadAccess):
        TokenFile(path)
    with pytest.raises(BadAccess):
        TokenFile(tmp_path / "none")


async def test_a_server_with_tokens_asks_for_one_and_guests_need_none(tokens):
    path, token = tokens
    server = Server(Limits(), access=TokenFile(path))
    await server.start("127.0.0.1", 0)
    refused = {"type": "error", "code": "token_required"}
    with_token = json.dumps({**json.loads(create()), "token": token})
    try:
        for wrong in (create(), json.dumps({**json.loads(create()), "token": "x"})):
            async with await raw(server) as sender:
                assert await say(sender, wrong) == refused
        async with await raw(server) as sender, await raw(server) as recipient:
            assert await say(sender, with_token) == {"type": "created"}
            assert (await say(recipient, join()))["type"] == "joined"
            path.write_text("")  # the token is taken back: who is there already stays
            async with await raw(server) as again:
                assert await say(again, create()) == {"type": "created"}
            async with await raw(server) as other:
                assert await say(other, create(owner=b"x" * 32)) != {"type": "created"}
    finally:
        await server.stop()


class Provider:
    """An OpenID provider on loopback."""

    def __init__(self, key):
        self.issuer, self.asked = "", 0
        self.keys: list[Any] = [key]
        self.about: dict[str, Any] = {}

    async def configuration(self, request):
        about = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"} | self.about
        return web.json_response(about)

    async def jwks(self, request):
        self.asked += 1
        return web.json_response(KeySet(self.keys).as_dict(private=False))

    def token(self, key=None, *, alg="ES256", without=(), **claims):
        now = int(time.time())
        given = {"iss": self.issuer, "aud": AUDIENCE, "exp": now + 300, "sub": "somebody", **claims}
        key = key or self.keys[0]
        header = {"alg": alg, "kid": key.kid}
        kept = {name: value for name, value in given.items() if name not in without}
        return jwt.encode(header, kept, key, algorithms=[alg])


@pytest.fixture
def provider(tmp_path, monkeypatch):
    """Runs one, with a certificate that is trusted here."""
    authority = open_authority(tmp_path / "ca", [], [])
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    monkeypatch.setenv("no_proxy", "*")

    @asynccontextmanager
    async def run():
        made = Provider(ECKey.generate_key("P-256", {"kid": "first"}, auto_kid=False))
        app = web.Application()
        app.router.add_get("/realm/.well-known/openid-configuration", made.configuration)
        app.router.add_get("/realm/keys", made.jwks)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.issue([], []).context)
        await site.start()
        port = runner.addresses[0][1]
        made.issuer = f"https://127.0.0.1:{port}/realm"
        try:
            yield made
        finally:
            await runner.cleanup()

    return run


async def test_a_token_of_the_provider_is_good_for_its_audience_and_its_time(provider):
    async with provider() as there:
        access = OpenIdProvider(there.issuer, AUDIENCE)
        now = int(time.time())
        for good in ({}, {"aud": ["x", AUDIENCE]}, {"exp": now - 30}, {"nbf": now + 30}):
            assert await access.allows(there.token(**good)), good
        for bad in (
            {"aud": "another"},
            {"iss": "https://example.org"},
            {"exp": now - 120},
            {"nbf": now + 120},
            {"without": ("exp",)},
            {"without": ("aud",)},
            {"without": ("iss",)},
        ):
            assert not await access.allows(there.token(**bad)), bad
        assert there.asked == 1


async def test_a_claim_that_is_demanded_must_be_there(provider):
    async with provider() as there:
        access = OpenIdProvider(there.issuer, AUDIENCE, ("groups", "radiology"))
        for good in ("radiology", ["surgery", "radiology"]):
            assert await access.allows(there.token(groups=good))
        for bad in ({}, {"groups": "surgery"}, {"groups": ["radiology2"]}, {"groups": None}):
            assert not await access.allows(there.token(**bad))


async def test_a_forged_token_is_refused(provider):
    """Another's key under the provider's name, its public key as a secret, no signature at all."""
    async with provider() as there:
        access = OpenIdProvider(there.issuer, AUDIENCE)
        own = there.keys[0]
        other = ECKey.generate_key("P-256", {"kid": "first"}, auto_kid=False)
        secret = own.as_pem(private=False)
        real = there.token()
        head, body, signature = real.split(".")
        unsigned = messages.encode_bytes(b'{"alg":"none","kid":"first"}')
        forged = [
            there.token(other),
            f"{head}.{body}.{signature[:-4]}AAAA",
            f"{unsigned}.{body}.",
            f"{head}.{body}",
            f"{head}.{body}.{signature}.{signature}",
            real + "=",
            _hmac(there, secret),
        ]
        for one in forged:
            assert not await access.allows(one), one
        assert await access.allows(real)


def _hmac(there, secret):
    head = messages.encode_bytes(b'{"alg":"HS256","kid":"first"}')
    body = there.token().split(".")[1]
    mac = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{messages.encode_bytes(mac)}"


async def test_keys_are_rotated_and_strangers_do_not_make_it_ask(provider, monkeypatch):
    async with provider() as there:
        access = OpenIdProvider(there.issuer, AUDIENCE)
        assert await access.allows(there.token())
        new = OKPKey.generate_key("Ed25519", {"kid": "second"}, auto_kid=False)
        there.keys.append(new)
        for _ in range(20):  # it has asked just now
            assert not await access.allows(there.token(new, alg="Ed25519"))
        assert there.asked == 1
        access._sought -= 61
        assert await access.allows(there.token(new, alg="Ed25519"))
        assert there.asked == 2
        access._fetched -= 3601
        access._sought -= 61
        there.keys.pop(0)
        assert not await access.allows(there.token(there.keys[0], alg="Ed25519", aud="x"))
        assert there.asked == 3


async def test_a_provider_with_rsa(provider):
    async with provider() as there:
        there.keys = [RSAKey.generate_key(2048, {"kid": "rsa"}, auto_kid=False)]
        access = OpenIdProvider(there.issuer, AUDIENCE)
        for alg in ("RS256", "PS256"):
            assert await access.allows(there.token(alg=alg))


async def test_a_provider_that_is_away_or_says_nonsense_lets_nobody_in(provider, caplog):
    caplog.set_level(logging.WARNING)
    async with provider() as there:
        token = there.token()
        for about in (
            {"issuer": "https://example.org"},
            {"jwks_uri": "http://127.0.0.1/keys"},
            {"jwks_uri": f"{there.issuer}/nothing"},
            {"jwks_uri": 7},
        ):
            there.about = about
            access = OpenIdProvider(there.issuer, AUDIENCE)
            assert not await access.allows(token)
    access = OpenIdProvider(there.issuer, AUDIENCE)
    assert not await access.allows(token)
    assert there.issuer not in caplog.text
    for issuer in ("http://example.org", "https://", "https://x/?a", "x"):
        with pytest.raises(BadAccess):
            OpenIdProvider(issuer, AUDIENCE)
    with pytest.raises(BadAccess):
        OpenIdProvider("https://example.org", "")


async def test_either_kind_will_do(provider, tokens):
    path, token = tokens
    async with provider() as there:
        access = AnyOf([TokenFile(path), OpenIdProvider(there.issuer, AUDIENCE)])
        assert await access.allows(token)
        assert await access.allows(there.token())
        assert not await access.allows("")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.one_of(st.text(max_size=300), st.lists(st.text(max_size=40), min_size=3, max_size=3)))
def test_no_text_is_let_in_or_breaks_it(text):
    token = ".".join(text) if isinstance(text, list) else text
    access = OpenIdProvider("https://127.0.0.1:1/realm", AUDIENCE)
    access._keys = KeySet([ECKey.generate_key("P-256", {"kid": os.urandom(4).hex()})])
    access._fetched = access._sought = time.monotonic()
    assert not asyncio.run(access.allows(token))


async def test_a_token_that_is_no_text_is_a_bad_message(tokens):
    server = Server(Limits(), access=TokenFile(tokens[0]))
    await server.start("127.0.0.1", 0)
    async with await raw(server) as sender:
        told = await say(sender, json.dumps({**json.loads(create()), "token": "\ud800"}))
        assert told == {"type": "error", "code": "bad_message"}
    await server.stop()


async def test_who_has_a_good_token_does_not_wait_for_a_provider_that_hangs(provider, monkeypatch):
    async with provider() as there:
        access = OpenIdProvider(there.issuer, AUDIENCE)
        assert await access.allows(there.token())
        access._sought -= 61

        async def hangs():
            await asyncio.sleep(60)

        monkeypatch.setattr(access, "_fetch", hangs)
        stranger = ECKey.generate_key("P-256", {"kid": "unknown"}, auto_kid=False)
        waiting = asyncio.create_task(access.allows(there.token(stranger)))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(2):
            assert await access.allows(there.token())
        waiting.cancel()


async def test_many_who_wait_for_a_provider_wait_once(monkeypatch):
    monkeypatch.setattr(access_module, "PROVIDER_SECONDS", 0.3)
    access, asked = OpenIdProvider("https://127.0.0.1:1/realm", AUDIENCE), []

    async def hangs():
        asked.append(1)
        await asyncio.sleep(60)

    monkeypatch.setattr(access, "_fetch", hangs)
    key = ECKey.generate_key("P-256", {"kid": "first"}, auto_kid=False)
    there = Provider(key)
    async with asyncio.timeout(5):
        got = await asyncio.gather(*(access.allows(there.token()) for _ in range(50)))
    assert not any(got)
    assert len(asked) == 1


def test_a_file_of_tokens_has_a_mebibyte(tmp_path):
    path = tmp_path / "tokens"
    line = "a" * 64 + "\n"
    path.write_text(line + "#" * (access_module.MAX_TOKENS_FILE - len(line)))
    TokenFile(path)
    path.write_text(line + "#" * (access_module.MAX_TOKENS_FILE - len(line) + 1))
    with pytest.raises(BadAccess):
        TokenFile(path)


@pytest.mark.parametrize(
    ("size", "good"), [(access_module.MAX_DOCUMENT // 2, True), (access_module.MAX_DOCUMENT, False)]
)
async def test_a_document_of_a_provider_has_a_mebibyte(provider, size, good):
    async with provider() as there:
        there.about = {"padding": "x" * size}
        assert await OpenIdProvider(there.issuer, AUDIENCE).allows(there.token()) is good


async def test_a_provider_leads_nowhere_else(provider, monkeypatch):
    real = Provider.configuration

    async def elsewhere(self, request):
        if not request.query:
            raise web.HTTPFound(f"{request.path}?again=1")
        return await real(self, request)

    monkeypatch.setattr(Provider, "configuration", elsewhere)
    async with provider() as there:
        assert not await OpenIdProvider(there.issuer, AUDIENCE).allows(there.token())
