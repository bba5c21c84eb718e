"""What a signaling server's operator asks of transfers (PROTOCOL.md, The signaling server). It only
ever narrows what peers do anyway, so that a hostile server gains nothing by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .codec import Json, integer, members, one_of, optional, read_as, text

MIN_EXPIRES, MAX_EXPIRES = 60, 24 * 3600  # seconds
MAX_OPERATOR = 64  # bytes

Require = Literal["passphrase", "digits", "either"]
Relay = Literal["forbidden", "required"]


@dataclass(frozen=True)
class Policy:
    """`operator` is who runs the server, not safe to show. `max_expires`: seconds that a link may
    live. `require`: what proves the right recipient beside the link. `relay`: whether one must, or
    must not, carry a transfer."""

    operator: str = ""
    max_expires: int | None = None
    require: Require | None = None
    relay: Relay | None = None


_told = members(
    {
        "operator": optional(text(MAX_OPERATOR, empty=False)),
        "max_expires": optional(integer(MIN_EXPIRES, MAX_EXPIRES)),
        "require": optional(one_of("passphrase", "digits", "either")),
        "relay": optional(one_of("forbidden", "required")),
    }
)


def read_policy(told: Json) -> Policy:
    """What a signaling server says in `policy`; None asks for nothing. Raises `PeerError` for what
    has not the shape, or asks for what this version does not know."""
    if told is None:
        return Policy()
    value = read_as(_told, told, "policy")
    return Policy(value["operator"] or "", value["max_expires"], value["require"], value["relay"])
