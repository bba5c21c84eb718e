"""What peers are told of STUN and TURN servers (ICE, RFC 8445), with credentials of their own.

TURN credentials last for a while and name nobody: the user name is `expiry:random`, the password
its HMAC-SHA1 under a secret that this server shares with the TURN server (draft-uberti-behave-turn-
rest-00, as coturn's `use-auth-secret` has it).
"""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import messages

logger = logging.getLogger("handover.signaling")

TTL_SECONDS = 3600  # that TURN credentials are good for
RANDOM = 9  # bytes of a user name
MAX_SECRETS_FILE = 64 * 1024
# RFC 7064 and 7065. IPv6 stands in brackets.
_URL = re.compile(
    r"(?P<scheme>stun|turns?):(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?transport=(?P<transport>udp|tcp))?"
)

# For these Firefox makes no connection: "TLS requires FQDN, not IP address", its log says.
_BY_ADDRESS = re.compile(r"turns:(\[|[0-9.]+(:|\?|$))")


class BadIce(ValueError):
    """Servers that cannot be told to peers; `code` says why, its text what."""

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        super().__init__(what)


def check_url(url: str) -> bool:
    """Whether an ICE server's URL is one of TURN, which needs credentials. Raises `BadIce`."""
    found = _URL.fullmatch(url)
    fits = found is not None and len(url) <= messages.MAX_ICE_URL
    if not fits or found is None or int(found["port"] or 1) not in range(1, 65536):
        raise BadIce("ice_url", url)
    if found["scheme"] == "stun" and found["transport"]:
        raise BadIce("ice_url", url)
    if found["scheme"] == "turns" and found["transport"] == "udp":  # DTLS: hardly any client has it
        raise BadIce("ice_url", url)
    return found["scheme"] != "stun"


class SecretFile:
    """A file of secrets, one a line: the first is the one in use, those below it are what TURN
    servers may still honour. It is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        """Raises `BadIce` (ice_secret_file)."""
        self._path = path
        self._changed, self._secret = self._read()

    def __call__(self) -> bytes:
        """The secret in use. While the file cannot be read, the one that was."""
        try:
            if self._path.stat().st_mtime_ns != self._changed:
                self._changed, self._secret = self._read()
        except (OSError, BadIce):
            logger.warning("the file of TURN secrets cannot be read; the last one is used")
        return self._secret

    def _read(self) -> tuple[int, bytes]:
        try:
            with open(self._path, "rb") as file:
                changed = os.fstat(file.fileno()).st_mtime_ns
                lines = file.read(MAX_SECRETS_FILE).splitlines()
        except OSError:
            raise BadIce("ice_secret_file", str(self._path)) from None
        secrets = [line.strip() for line in lines if line.strip()]
        if not secrets:
            raise BadIce("ice_secret_file", str(self._path))
        return changed, secrets[0]


class IceConfiguration:
    """The STUN and TURN servers that one signaling server tells of."""

    def __init__(
        self,
        urls: tuple[str, ...] = (),
        secret: Callable[[], bytes] | None = None,
        ttl: int = TTL_SECONDS,
        own_port: int = 0,
    ) -> None:
        """`secret` gives the one that is shared with the TURN servers, now; `ttl` is in seconds.
        `own_port`: where this very server answers STUN, or 0. Raises `BadIce` for too many or wrong
        URLs, and for TURN without a secret. `nameless`: relays by TLS without a DNS name, which
        Firefox cannot use."""
        turn = [url for url in urls if check_url(url)]
        most = messages.MAX_ICE_URLS - bool(own_port)
        if len(urls) > most:
            raise BadIce("ice_many", str(most))
        if turn and secret is None:
            raise BadIce("ice_secret", turn[0])
        self.urls, self._turn = urls, frozenset(turn)
        self.relays = bool(turn)
        self._secret, self._ttl, self._own_port = secret, ttl, own_port
        self.nameless = tuple(url for url in turn if _BY_ADDRESS.match(url))

    def told(self, now: float, host: str = "") -> dict[str, Any] | None:
        """The member `ice` of a message to a peer, or None for no servers; `now` is seconds since
        the epoch. `host`: where the peer says that it reached this server, as its header `Host`."""
        urls = list(self.urls)
        if self._own_port and (own := _own_url(host, self._own_port)) and own not in urls:
            urls.append(own)
        if not urls:
            return None
        login: dict[str, str] = {}
        if self._secret is not None and self._turn:
            login = _credentials(self._secret(), int(now) + self._ttl)
        servers = [{"url": url, **(login if url in self._turn else {})} for url in urls]
        return {"servers": servers, "ttl": self._ttl}


def _own_url(host: str, port: int) -> str:
    """A STUN server at the same name or address, by another port; "" for no such host."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    with suppress(BadIce):
        url = f"stun:{name}:{port}"
        check_url(url)
        return url
    return ""


def _credentials(secret: bytes, expiry: int) -> dict[str, str]:
    from cryptography.hazmat.primitives.hashes import SHA1  # 0.05 s, which few need
    from cryptography.hazmat.primitives.hmac import HMAC

    username = f"{expiry}:{base64.urlsafe_b64encode(os.urandom(RANDOM)).decode()}"
    mac = HMAC(secret, SHA1())  # noqa: S303 - what TURN servers take; no collision helps anybody
    mac.update(username.encode())
    return {"username": username, "credential": base64.b64encode(mac.finalize()).decode()}
