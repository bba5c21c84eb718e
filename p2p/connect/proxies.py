"""The proxy between here and a host, if any: the one that was named (`--proxy`), or what the
environment or the system says (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY). HTTP proxies by
CONNECT, and SOCKS. This machine itself is never asked by way of a proxy.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..protocol.errors import Failure
from ..protocol.sentences import Detail
from .addresses import is_loopback

T = TypeVar("T")
NONE = "none"  # named as the proxy: there is none, whatever the environment says
SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h")
# What `python_socks` says when a SOCKS5 server wants a login (RFC 1928 3), or another one.
SOCKS_LOGIN = (
    "No acceptable authentication methods were offered",
    "Username and password authentication failure",
)
CONNECT_SECONDS = 10.0
# Between one address of a host and the next (RFC 8305 5): IPv6 may be configured and dead.
STAGGER_SECONDS = 0.25
DIRECT_SECONDS = 3.0  # for a private address without the proxy, before it is tried with it


@dataclass(frozen=True)
class Proxies:
    """What was named, and what the environment said when it was asked."""

    named: str = ""
    environment: Mapping[str, str] | None = None  # as of `urllib.request.getproxies`

    def ways(self, scheme: str, host: str, port: int) -> list[str]:
        """How to reach a host, in the order in which it is tried: URLs of proxies, "" for none.

        A proxy may not know a private network, and such a network may have no other way out: so
        both are tried. Raises `Failure` (server_unreachable) for what is no proxy.
        """
        if is_loopback(host) or self.named == NONE:
            return [""]
        known = getproxies() if self.environment is None else self.environment
        found = self.named or known.get(scheme) or known.get("all", "")
        if not found or _is_excepted(host, port, known.get("no", "")):
            return [""]
        url = found if "://" in found else f"http://{found}"
        _check(url)
        return ["", url] if _is_private(host) else [url, ""]


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Failure("server_unreachable", Detail("proxy_wrong"))


def connectable(proxy: str) -> tuple[str, bool]:
    """A proxy's URL as libraries take it, with a port, and whether the proxy is to look names up
    (`socks5h`, `socks4a`)."""
    parts = urlsplit(proxy)
    scheme = parts.scheme.removesuffix("h").removesuffix("a")
    default = 80 if scheme == "http" else 1080
    netloc = parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{default}"
    return f"{scheme}://{netloc}", parts.scheme != scheme


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return False


def _is_excepted(host: str, port: int, excepted: str) -> bool:
    """Whether NO_PROXY names a host: by its name or a domain above it, by address or network, each
    with a port or without; `*` is every host."""
    host = host.strip("[]").rstrip(".").lower()
    for entry in excepted.replace(",", " ").lower().split():
        name, colon, number = entry.rpartition(":")
        if colon and number.isdigit() and (":" not in name or name.endswith("]")):
            if int(number) != port:
                continue
            entry = name
        entry = entry.strip("[]")
        if entry == "*" or _is_within(host, entry):
            return True
        domain = entry.removeprefix("*").strip(".")
        if domain and (host == domain or host.endswith(f".{domain}")):
            return True
    return False


def _is_within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


async def open_socket(proxy: str, host: str, port: int) -> socket.socket:
    """A TCP connection to a host by way of a proxy. Raises `Failure` (server_unreachable)."""
    from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
    from python_socks.async_.asyncio import Proxy

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            url, lookup = connectable(proxy)
            return await Proxy.from_url(url, rdns=lookup or None).connect(host, port)
    except ProxyError as error:
        raise refused_by_proxy(error.error_code, str(error)) from None
    except (ProxyConnectionError, ProxyTimeoutError, TimeoutError, OSError, ValueError):
        raise Failure("server_unreachable", Detail("proxy_unreachable")) from None


def refused_by_proxy(status: int | None, said: str = "") -> Failure:
    """What it means when a proxy answers a CONNECT with this status (RFC 9110 15.5.8), or when
    `python_socks` says this of a SOCKS server, for which it has no status."""
    login = status == 407 or said in SOCKS_LOGIN
    return Failure("server_unreachable", Detail("proxy_login" if login else "proxy_refused"))


async def first_that_reaches(
    ways: Sequence[str], reach: Callable[[str], Awaitable[T]], direct_seconds: float | None
) -> T:
    """What `reach` gives by the first way that reaches the host: `ways` are those of `Proxies`, and
    where another follows, the one without a proxy has `direct_seconds` only. Raises `Failure`: the
    proxy's, which says more, where there is one."""
    failures: dict[str, Failure] = {}
    for way in ways:
        patience = direct_seconds if not way and way != ways[-1] else None
        try:
            async with asyncio.timeout(patience):
                return await reach(way)
        except TimeoutError:
            failures[way] = Failure("server_unreachable", Detail("no_answer"))
        except Failure as failure:
            if failure.code not in ("server_unreachable", "server_refused"):
                raise
            failures[way] = failure
    raise next((failures[way] for way in ways if way), failures[ways[-1]])
