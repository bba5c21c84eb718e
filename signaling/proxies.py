"""Who asks, by which name and how protected: told by the connection itself, or by a proxy that is
trusted to tell (`handover serve --trusted-proxy`). Nobody else's word counts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from aiohttp import web

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What proxies add of themselves (RFC 7239, RFC 9110 7.6.3, and the older names).
FORWARDING = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Server",
    "X-Real-IP",
)


@dataclass(frozen=True)
class Seen:
    """A request as it reached the first machine of ours. `trustworthy`: whether the page gets to
    the browser as it leaves here, and the browser believes that."""

    address: Address
    host: str
    trustworthy: bool
    proxy: Literal["", "trusted", "foreign"]  # what stands in between; "" is also who hides it


def parse_address(text: str) -> Address:
    """An address; one of IPv4 also where it is written as IPv6. Raises `ValueError`."""
    address = ipaddress.ip_address(text.strip().split("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


class Proxies:
    """The proxies that are trusted, by network."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def trusts(self, address: Address) -> bool:
        """Whether this is one of them."""
        return any(address in network for network in self._trusted)

    def look(self, request: web.Request) -> Seen:
        """Who asks."""
        told: Address | None = getattr(request.protocol, "client", None)  # by the PROXY protocol
        peer = told or parse_address(_end(request, "peername"))
        forwarded = any(name in request.headers for name in FORWARDING)
        if not self.trusts(peer):
            sure = not forwarded and (request.secure or _is_local(request, peer))
            return Seen(peer, request.host, sure, "foreign" if forwarded else "")
        scheme = _last(request, "X-Forwarded-Proto").lower()
        host = _last(request, "X-Forwarded-Host") or request.host
        return Seen(self._client(request, peer), host, scheme == "https", "trusted")

    def _client(self, request: web.Request, peer: Address) -> Address:
        """The last address that a trusted proxy vouches for: each appends who asked it."""
        client = peer
        hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        for hop in reversed(hops):
            try:
                client = parse_address(hop)
            except ValueError:
                break
            if not self.trusts(client):
                break
        return client


def _last(request: web.Request, name: str) -> str:
    """What the nearest proxy says."""
    return ",".join(request.headers.getall(name, [])).rpartition(",")[2].strip()


def _end(request: web.Request, which: str) -> str:
    found: Any = request.transport and request.transport.get_extra_info(which)
    return str(found[0]) if found else "::"


def _is_local(request: web.Request, peer: Address) -> bool:
    """Whether a browser of this very machine asks, over plain http.

    A proxy on this machine looks the same from here: it connects by loopback, and some write the
    name that *they* call into `Host`. So the browser must say as well that it holds the origin for
    secure. It sends `Sec-Fetch-Mode` to such origins only (Fetch Metadata, section 3), and to a
    name on the network over plain http it does not.
    """
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
        ends = (peer, parse_address(_end(request, "sockname")))
        named = host == "localhost" or parse_address(host).is_loopback
    except ValueError:
        return False
    return named and all(one.is_loopback for one in ends) and "Sec-Fetch-Mode" in request.headers
