"""Which addresses of this machine a colleague can reach: the default route's first."""

from __future__ import annotations

import ipaddress
import socket

import ifaddr

from ..protocol.signal import may_connect

# TEST-NET-1 and the documentation prefix: connecting a UDP socket sends nothing, it only asks the
# kernel which address it would send from.
_ANYWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

LINK_LOCAL = "169.254."  # RFC 3927


def reachable() -> list[str]:
    """IP addresses, the likeliest first; IPv4 before IPv6, because people read them aloud."""
    found: dict[str, None] = {}
    for family, anywhere in _ANYWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((anywhere, 9))
                found[probe.getsockname()[0]] = None
        except OSError:
            continue
    for adapter in ifaddr.get_adapters():
        for one in adapter.ips:
            found[one.ip if isinstance(one.ip, str) else one.ip[0]] = None
    usual = [one for one in may_connect(found) if not one.startswith(LINK_LOCAL)]
    # One cable between two computers: they have no other.
    alone = [one for one in may_connect(found) if one.startswith(LINK_LOCAL)]
    return sorted(usual or alone, key=lambda address: ":" in address)


def is_loopback(host: str) -> bool:
    """Whether a link's host, bracketed or not, is this very machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
