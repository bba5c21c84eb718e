"""The STUN and TURN servers that a signaling server tells its peers of (PROTOCOL.md, The signaling
server). What it says is taken where it fits, and left out where not: it can deny service anyway.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from .codec import Json, integer, list_of, members, optional, read_as, text
from .signal import is_reachable

MAX_SERVERS = 8
MAX_URL, MAX_LOGIN = 320, 256  # characters
MAX_TTL = 7 * 24 * 3600  # seconds

# RFC 7064 and 7065. A host is a name, an IPv4 address, or an IPv6 address in brackets.
_URL = re.compile(
    r"(?P<scheme>stun|turns?):(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?transport=(?P<transport>udp|tcp))?"
)
_DEFAULT_PORTS = {"stun": 3478, "turn": 3478, "turns": 5349}  # RFC 8489 and 8656


@dataclass(frozen=True)
class IceServer:
    """One of them. `credential` is good for a while only."""

    scheme: Literal["stun", "turn", "turns"]  # turns: by TLS
    host: str  # a name or an IP literal, without brackets
    port: int
    transport: Literal["udp", "tcp"]
    username: str = field(default="", repr=False)
    credential: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """As engines take it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        transport = "" if self.scheme == "stun" else f"?transport={self.transport}"
        return f"{self.scheme}:{host}:{self.port}{transport}"


@dataclass(frozen=True)
class IceServers:
    """Those that one message named. How long their credentials are good is of no matter here: every
    attempt gets new ones."""

    servers: tuple[IceServer, ...] = ()

    @property
    def stun(self) -> tuple[IceServer, ...]:
        """Those that only tell a peer its outer address; TURN servers by UDP do as well."""
        return tuple(one for one in self.servers if one.scheme == "stun")

    @property
    def turn(self) -> tuple[IceServer, ...]:
        """Those that relay."""
        return tuple(one for one in self.servers if one.scheme != "stun")


_server = members(
    {
        "url": text(MAX_URL, empty=False),
        "username": optional(text(MAX_LOGIN, empty=False)),
        "credential": optional(text(MAX_LOGIN, empty=False)),
    }
)
_told = members({"servers": list_of(_server, MAX_SERVERS), "ttl": integer(1, MAX_TTL)})


def read_ice(told: Json, *, local: bool) -> IceServers:
    """What a signaling server says in `ice`; None is no servers.

    `local`: the signaling server is this very machine, so that others here may be as well.
    Elsewhere a server on this machine or its link is left out: nobody's word makes a peer talk to
    its own services. Raises `PeerError` for what has not the shape.
    """
    if told is None:
        return IceServers()
    value = read_as(_told, told, "ice")
    return IceServers(tuple(_read_all(value["servers"], local)))


def _read_all(servers: list[dict[str, Any]], local: bool) -> Iterable[IceServer]:
    for one in servers:
        found = _URL.fullmatch(one["url"])
        if found is None:
            continue
        scheme, host = found["scheme"], found["host"].strip("[]")
        port = int(found["port"] or _DEFAULT_PORTS[scheme])
        transport = found["transport"] or ("tcp" if scheme == "turns" else "udp")
        login = one["username"], one["credential"]
        if not 0 < port < 65536 or not may_ask(host, local=local):
            continue
        if (scheme == "stun") != (login == (None, None)) or (scheme != "stun" and None in login):
            continue
        if (scheme, transport) == ("turns", "udp") or (scheme == "stun" and found["transport"]):
            continue
        yield IceServer(
            scheme=scheme,  # type: ignore[arg-type]  # the pattern says which
            host=host,
            port=port,
            transport=transport,  # type: ignore[arg-type]
            username=login[0] or "",
            credential=login[1] or "",
        )


def may_ask(host: str, *, local: bool) -> bool:
    """Whether a STUN or TURN server may be there: a name, or an address of one other host, or with
    `local` of this one."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if re.fullmatch(r"[0-9.]+|.*[:].*", host):  # neither a name nor an address
            return False
        return local or not host.lower().rstrip(".").endswith("localhost")
    return is_reachable(host) or (local and ip.is_loopback)
