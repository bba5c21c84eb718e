"""SDP, written for an engine from typed fields and read from what this side's own engine says.

Text from the peer never reaches an engine: `build` writes every line itself (RFC 8829, RFC 8841).
"""

from __future__ import annotations

import re
from typing import Literal, cast

from ...protocol.signal import Candidate, Description

_FINGERPRINT = re.compile(r"^a=fingerprint:sha-256 ([0-9A-F:]{95})\r?$", re.IGNORECASE | re.M)
_CANDIDATE = re.compile(
    r"candidate:(?P<foundation>\S+) 1 (?P<transport>\S+) (?P<priority>\d+) (?P<address>\S+) "
    r"(?P<port>\d+) typ (?P<kind>\S+)"
)
MAX_FOUNDATION = 32


def candidate_line(candidate: Candidate) -> str:
    """The value of an `a=candidate` attribute (RFC 8839 5.1)."""
    related = "" if candidate.kind == "host" else " raddr 0.0.0.0 rport 9"
    return (
        f"candidate:{candidate.foundation} 1 udp {candidate.priority} {candidate.address} "
        f"{candidate.port} typ {candidate.kind}{related}"
    )


def build(description: Description) -> str:
    """A session description with one data channel section."""
    digits = description.fingerprint.hex(":").upper()
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendrecv",
        "a=sctp-port:5000",
        f"a=max-message-size:{description.max_message_size}",
        f"a=setup:{description.setup}",
        f"a=ice-ufrag:{description.ufrag}",
        f"a=ice-pwd:{description.password}",
        f"a=fingerprint:sha-256 {digits}",
        *(f"a={candidate_line(candidate)}" for candidate in description.candidates),
    ]
    return "\r\n".join(lines) + "\r\n"


def read_own(sdp: str, nonce_guest: bytes, nonce_host: bytes, max_message_size: int) -> Description:
    """This side's description from its own engine's SDP; candidates are read one by one."""

    def attribute(name: str) -> str:
        found = re.search(rf"^a={name}:(\S+)", sdp, re.M)
        if found is None:
            raise ValueError(f"the engine's description has no {name}")
        return found[1]

    fingerprint = _FINGERPRINT.search(sdp)
    if fingerprint is None:
        raise ValueError("the engine's description has no sha-256 fingerprint")
    return Description(
        nonce_guest=nonce_guest,
        nonce_host=nonce_host,
        ufrag=attribute("ice-ufrag"),
        password=attribute("ice-pwd"),
        fingerprint=bytes.fromhex(fingerprint[1].replace(":", "")),
        setup=cast(Literal["actpass", "active", "passive"], attribute("setup")),
        max_message_size=max_message_size,
    )


def read_own_candidates(text: str) -> tuple[Candidate, ...]:
    """This side's UDP candidates from its own engine's text; TCP ones are left out."""
    return tuple(
        Candidate(
            foundation=found["foundation"][:MAX_FOUNDATION],
            priority=int(found["priority"]),
            address=found["address"],
            port=int(found["port"]),
            kind=cast(Literal["host", "srflx", "relay"], found["kind"]),
        )
        for found in _CANDIDATE.finditer(text)
        if found["transport"].lower() == "udp" and found["kind"] in ("host", "srflx", "relay")
    )
