"""Who may create rooms: anyone, holders of a token, or holders of a token of an OpenID provider.
Guests are asked for nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

logger = logging.getLogger("handover.signaling")

MAX_TOKENS_FILE = 1024 * 1024
MAX_DOCUMENT = 1024 * 1024  # of a provider
PROVIDER_SECONDS = 5.0  # for it to answer
KEYS_SECONDS = 3600.0  # that its keys are kept
UNKNOWN_SECONDS = 60.0  # between two looks for a key that is not among them
LEEWAY_SECONDS = 60  # that two clocks may differ
# Signatures only, and no shared secrets: RFC 8725, 3.1 and 3.2.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "Ed25519")
_LINE = re.compile(r"(?P<hash>[0-9a-f]{64})(?:\s+(?P<name>\S.*))?")


class BadAccess(ValueError):
    """What cannot say who may create rooms; its text says what is wrong with what."""


class Access(Protocol):
    """Who may create rooms."""

    async def allows(self, token: str) -> bool:
        """Whether a host with this token may, "" being none."""


def new_token(name: str) -> tuple[str, str]:
    """A token, and the line that lets its holder in: its SHA-256 and the name."""
    token = secrets.token_urlsafe(32)
    return token, f"{hashlib.sha256(token.encode()).hexdigest()} {name}".rstrip()


class TokenFile:
    """Tokens by their SHA-256, one a line, with a name behind it; `#` begins a comment. The file is
    read again whenever it has changed. Nobody guesses 32 random bytes, so a plain hash will do."""

    def __init__(self, path: Path) -> None:
        """Raises `BadAccess`."""
        self._path = path
        self._changed, self._hashes = self._read()

    async def allows(self, token: str) -> bool:
        given = hashlib.sha256(token.encode()).digest()
        found = [hmac.compare_digest(given, known) for known in await asyncio.to_thread(self._now)]
        return bool(token) and any(found)

    def _now(self) -> list[bytes]:
        """The hashes in force. While the file cannot be read, those that were."""
        try:
            if _version(os.stat(self._path)) != self._changed:
                self._changed, self._hashes = self._read()
        except (OSError, BadAccess):
            logger.warning("the file of tokens cannot be read; the last one is used")
        return self._hashes

    def _read(self) -> tuple[tuple[int, int], list[bytes]]:
        try:
            with open(self._path, "rb") as file:
                changed = _version(os.fstat(file.fileno()))
                data = file.read(MAX_TOKENS_FILE + 1)
            lines = data.decode().splitlines()
        except (OSError, ValueError):
            raise BadAccess(str(self._path)) from None
        if len(data) > MAX_TOKENS_FILE:
            raise BadAccess(str(self._path))
        hashes = []
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            found = _LINE.fullmatch(text)
            if text and found is None:
                raise BadAccess(f"{self._path}:{number}")
            if found is not None:
                hashes.append(bytes.fromhex(found["hash"]))
        return changed, hashes


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_ino


class AnyOf:
    """Whoever one of these allows."""

    def __init__(self, accesses: Sequence[Access]) -> None:
        self._accesses = accesses

    async def allows(self, token: str) -> bool:
        for access in self._accesses:
            if await access.allows(token):
                return True
        return False


class OpenIdProvider:
    """Bearer tokens that are JWTs of one issuer for one audience (OpenID Connect Discovery 1.0, RFC
    7519), checked by joserfc. Its keys are fetched, kept for an hour, and looked for again when a
    token names one that is not among them."""

    def __init__(self, issuer: str, audience: str, claim: tuple[str, str] | None = None) -> None:
        """`claim`: a name and a value that must be there, alone or in a list. Raises
        `BadAccess`."""
        url = urlsplit(issuer)
        if url.scheme != "https" or not url.hostname or url.query or url.fragment or not audience:
            raise BadAccess(issuer)
        self._issuer, self._audience, self._claim = issuer, audience, claim
        self._tls = ssl.create_default_context()
        self._keys: Any = None
        self._fetched = self._sought = -KEYS_SECONDS
        self._fetching = asyncio.Lock()

    async def allows(self, token: str) -> bool:
        from joserfc.errors import JoseError

        if token.count(".") != 2:
            return False
        try:
            return await self._check(token)
        except (JoseError, ValueError, KeyError, TypeError):
            return False

    async def _check(self, token: str) -> bool:
        from joserfc import jws, jwt

        header = jws.extract_compact(token.encode()).headers()
        keys = await self._known(str(header.get("kid") or ""))
        if keys is None:
            return False
        decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
        options: dict[str, Any] = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._audience},
            "exp": {"essential": True},
        }
        registry = jwt.JWTClaimsRegistry(leeway=LEEWAY_SECONDS, **options)
        registry.validate(decoded.claims)
        if self._claim is None:
            return True
        value = decoded.claims.get(self._claim[0])
        return self._claim[1] in (value if isinstance(value, list) else [value])

    async def _known(self, kid: str) -> Any:
        """The provider's keys, with this one among them if it has it; None where it is not
        reached."""
        if self._fresh(kid):
            return self._keys
        async with self._fetching:  # who waited meanwhile finds what came of it
            least = 1.0 if self._keys is None else UNKNOWN_SECONDS
            if not self._fresh(kid) and time.monotonic() - self._sought > least:
                try:
                    async with asyncio.timeout(PROVIDER_SECONDS):
                        self._keys = await self._fetch()
                    self._fetched = time.monotonic()
                except Exception as error:  # whatever a provider does, it is not this server's end
                    logger.warning("the OpenID provider's keys: %s", type(error).__name__)
                self._sought = time.monotonic()
        return self._keys

    def _fresh(self, kid: str) -> bool:
        """Whether its keys are here, with this one among them."""
        late = time.monotonic() - self._fetched > KEYS_SECONDS
        return self._keys is not None and not late and (not kid or self._has(kid))

    def _has(self, kid: str) -> bool:
        return any(key.kid == kid for key in self._keys.keys)

    async def _fetch(self) -> Any:
        import aiohttp
        from joserfc.jwk import KeySet

        async with aiohttp.ClientSession(trust_env=True) as session:
            about = await self._get(
                session, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            )
            if about["issuer"] != self._issuer:  # Discovery 1.0, 4.3
                raise ValueError("issuer")
            if urlsplit(about["jwks_uri"]).scheme != "https":
                raise ValueError("jwks_uri")
            return KeySet.import_key_set(await self._get(session, about["jwks_uri"]))

    async def _get(self, session: Any, url: str) -> Any:
        async with session.get(url, ssl=self._tls, allow_redirects=False) as answer:
            answer.raise_for_status()
            data = await answer.content.read(MAX_DOCUMENT + 1)
            while not answer.content.at_eof() and len(data) <= MAX_DOCUMENT:
                data += await answer.content.read(MAX_DOCUMENT + 1 - len(data))
        if len(data) > MAX_DOCUMENT:
            raise ValueError("too large")
        return json.loads(data)
