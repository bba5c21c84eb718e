"""Sealed signaling: what the signaling server passes on without being able to read or alter it.

An envelope is `nonce(24) || XChaCha20-Poly1305(key of the direction, padded JSON, associated data)`
with the room, the attempt, the direction and a strict sequence number as associated data. Inside
stand typed, bounded fields; no SDP text ever crosses (PROTOCOL.md, Signaling).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from nacl import bindings
from nacl.exceptions import CryptoError

from .codec import (
    Json,
    base64url,
    base64url_upto,
    boolean,
    decode_json,
    encode_base64url,
    encode_json,
    integer,
    list_of,
    members,
    one_of,
    optional,
    prefixed,
    read_as,
    text,
)
from .errors import PeerError

LABEL = b"handover/1 signal"
NONCE = 16  # of knock and description: enough never to meet twice
PADDING = 1024  # steps that hide how many candidates there are
MAX_PLAINTEXT = 8 * PADDING  # 32 candidates need under 6 KiB
MAX_ENVELOPE = 24 + MAX_PLAINTEXT + 16
MAX_ENVELOPES = 64  # in one attempt and direction (security: signaling flood)
MAX_CANDIDATES = 32  # per peer and connection; libjuice keeps 30
# That a peer tells of a relayed connection, one in an envelope, so that those of both fit.
MAX_RELAYED_CANDIDATES = 24
# RFC 8841 6.1: 64 KiB is what an unannounced peer takes; above 256 KiB libdatachannel cuts.
MIN_MESSAGE_SIZE, MAX_MESSAGE_SIZE = 65_535, 262_144
MAX_ADDRESSES, MAX_CERTIFICATE = 16, 2048

Direction = Literal["to_guest", "to_host"]
PeerKind = Literal["native", "browser"]

_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+")  # RFC 8839 5.4
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}")  # RFC 8839 5.1
_MDNS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.local")


@dataclass(frozen=True)
class Candidate:
    """An ICE candidate (RFC 8445), UDP and component 1 only."""

    foundation: str
    priority: int
    address: str  # an IP literal, or `<uuid>.local` of a browser's mDNS
    port: int
    kind: Literal["host", "srflx", "relay"]


@dataclass(frozen=True)
class Knock:
    """First message, guest to host. With `relay_only` the guest wants its address kept from the
    host: there is a relayed connection or none."""

    nonce_guest: bytes
    kind: PeerKind
    relay_only: bool = False


@dataclass(frozen=True)
class Description:
    """One side's transport description: what SDP would say of it (RFC 8829), as typed fields."""

    nonce_guest: bytes
    nonce_host: bytes
    ufrag: str
    password: str
    fingerprint: bytes  # sha-256 of the DTLS certificate (RFC 8122)
    setup: Literal["actpass", "active", "passive"]  # RFC 8842
    max_message_size: int
    candidates: tuple[Candidate, ...] = ()
    relayed: bool = False  # of the relayed connection of an attempt, not of the direct one


@dataclass(frozen=True)
class Candidates:
    """Candidates found after the description was sent (RFC 8838)."""

    candidates: tuple[Candidate, ...]
    relayed: bool = False


@dataclass(frozen=True)
class DirectEndpoint:
    """Where one side listens for TLS connections; also a control message (PROTOCOL.md, The
    connection; Several lanes)."""

    addresses: tuple[str, ...]  # IP literals; what may be connected to, the other side judges
    port: int  # TCP
    certificate: bytes  # DER, X.509: the other side's only trust anchor
    # Address and TCP port outside, from where this side connects to the other's (RFC 6544, S-O).
    outer: tuple[str, int] | None = None

    @classmethod
    def of(
        cls,
        addresses: Sequence[str],
        port: int,
        certificate: bytes,
        outer: tuple[str, int] | None = None,
    ) -> DirectEndpoint:
        """An endpoint with no more addresses than may be told."""
        return cls(tuple(addresses[:MAX_ADDRESSES]), port, certificate, outer)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> DirectEndpoint:
        """From what has the shape."""
        outer = fields["outer"] and (fields["outer"]["address"], fields["outer"]["port"])
        return cls(tuple(fields["addresses"]), fields["port"], fields["certificate"], outer)

    def fields(self) -> dict[str, Json]:
        """Its members as JSON."""
        certificate = encode_base64url(self.certificate)
        fields: dict[str, Json] = {"addresses": list(self.addresses), "port": self.port}
        if self.outer is not None:
            fields["outer"] = {"address": self.outer[0], "port": self.outer[1]}
        return {**fields, "certificate": certificate}


@dataclass(frozen=True)
class HttpsEndpoint:
    """By what tokens a page opens the lanes of a connection by HTTPS, at the server that it comes
    from (PROTOCOL.md, The connection)."""

    nonce_guest: bytes
    nonce_host: bytes
    control: bytes  # 32 bytes each
    data: bytes


Signal = Knock | Description | Candidates | DirectEndpoint | HttpsEndpoint
_TYPES = {
    Knock: "knock",
    Description: "description",
    Candidates: "candidates",
    DirectEndpoint: "direct",
    HttpsEndpoint: "https",
}


def is_reachable(address: str) -> bool:
    """Whether an address is one that may be connected to, and may be told: an IP literal that is
    nothing on this machine alone, and one host's. A link-local one names no host without its zone,
    but in IPv4: two computers on one cable may have no other. There, clouds answer for a machine's
    credentials (169.254.169.254).

    libdatachannel resolves names, so a name would be a way to make a hospital's machine ask a
    stranger's DNS server; a loopback address, to make it talk to its own services.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id is not None or ip.ipv4_mapped):
        return False
    own = ip.is_loopback or ip.is_unspecified or (ip.version == 6 and ip.is_link_local)
    return not (own or ip.is_multicast or str(ip) in ("255.255.255.255", "169.254.169.254"))


def may_connect(addresses: Iterable[str]) -> list[str]:
    """Those of a peer's addresses that may be connected to."""
    return [address for address in addresses if is_reachable(address)]


def _is_eligible(candidate: Candidate) -> bool:
    """Whether an engine may see it: an address that may be connected to or a browser's mDNS name,
    and no low port."""
    if candidate.port < 1024:
        return False
    return bool(_MDNS.fullmatch(candidate.address)) or is_reachable(candidate.address)


def _matching(pattern: re.Pattern[str], low: int, high: int) -> Callable[[Json], str]:
    def read(value: Json) -> str:
        if type(value) is not str or not low <= len(value) <= high or not pattern.fullmatch(value):
            raise ValueError("not of the form")
        return value

    return read


_candidate = members(
    {
        "foundation": _matching(_FOUNDATION, 1, 32),
        "priority": integer(1, 2**31 - 1),
        "address": text(64, empty=False),
        "port": integer(0, 65535),
        "kind": one_of("host", "srflx", "relay"),
    }
)
_candidates = list_of(_candidate, MAX_CANDIDATES)
_nonce = base64url(NONCE)
_outer = members({"address": text(45, empty=False), "port": integer(1024, 65535)})
DIRECT_SHAPE = members(
    {
        "type": text(16),
        "addresses": list_of(text(45, empty=False), MAX_ADDRESSES),
        "port": integer(1024, 65535),
        "certificate": base64url_upto(MAX_CERTIFICATE),
        "outer": optional(_outer),
    }
)
_SHAPES = {
    "knock": members(
        {
            "type": text(16),
            "nonce_guest": _nonce,
            "kind": one_of("native", "browser"),
            "relay_only": boolean,
        }
    ),
    "description": members(
        {
            "type": text(16),
            "nonce_guest": _nonce,
            "nonce_host": _nonce,
            "ufrag": _matching(_ICE_CHARS, 4, 256),
            "password": _matching(_ICE_CHARS, 22, 256),
            "fingerprint": base64url(32),
            "setup": one_of("actpass", "active", "passive"),
            "max_message_size": integer(1, 2**32 - 1),
            "candidates": _candidates,
            "relayed": boolean,
        }
    ),
    "candidates": members({"type": text(16), "candidates": _candidates, "relayed": boolean}),
    "direct": DIRECT_SHAPE,
    "https": members(
        {
            "type": text(16),
            "nonce_guest": _nonce,
            "nonce_host": _nonce,
            "control": base64url(32),
            "data": base64url(32),
        }
    ),
}


def _candidate_json(candidate: Candidate) -> Json:
    return dict(candidate.__dict__)


def encode_signal(signal: Signal) -> bytes:
    """The JSON of a signal, unsealed and unpadded."""
    kind = {"type": _TYPES[type(signal)]}
    if isinstance(signal, DirectEndpoint):
        return encode_json(kind | signal.fields())
    fields = dict(signal.__dict__)
    for name, value in fields.items():
        if isinstance(value, bytes):
            fields[name] = encode_base64url(value)
    if "candidates" in fields:
        fields["candidates"] = [_candidate_json(one) for one in fields["candidates"]]
    return encode_json(kind | fields)


def decode_signal(data: bytes) -> Signal:
    """Read a signal; candidates that no engine may see are dropped, sizes clamped.

    Raises `PeerError`.
    """
    value = decode_json(data, MAX_PLAINTEXT)
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _SHAPES:
        raise PeerError("signal_unknown")
    fields = read_as(_SHAPES[kind], value, kind)
    if kind == "knock":
        return Knock(fields["nonce_guest"], fields["kind"], fields["relay_only"])
    if kind == "direct":
        return DirectEndpoint.read(fields)
    if kind == "https":
        del fields["type"]
        return HttpsEndpoint(**fields)
    found = (Candidate(**one) for one in fields["candidates"])
    candidates = tuple(one for one in found if _is_eligible(one))
    if kind == "candidates":
        return Candidates(candidates, fields["relayed"])
    del fields["type"]
    size = min(max(fields["max_message_size"], MIN_MESSAGE_SIZE), MAX_MESSAGE_SIZE)
    return Description(**{**fields, "candidates": candidates, "max_message_size": size})


class Sealer:
    """One direction of one attempt. Each side holds two: one that seals and one that opens."""

    def __init__(self, key: bytes, room: bytes, attempt: bytes, direction: Direction) -> None:
        self._key, self._sequence = key, 0
        self._head = prefixed(LABEL, room, attempt) + (
            b"\x00" if direction == "to_guest" else b"\x01"
        )

    def _associated(self) -> bytes:
        if self._sequence >= MAX_ENVELOPES:
            raise PeerError("too_many_envelopes")
        self._sequence += 1
        return self._head + (self._sequence - 1).to_bytes(4, "big")

    def seal(self, signal: Signal, nonce: bytes) -> bytes:
        """The next envelope; `nonce` is 24 fresh random bytes."""
        data = encode_signal(signal)
        padded = len(data).to_bytes(2, "big") + data
        padded += bytes(-len(padded) % PADDING)
        return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            padded, self._associated(), nonce, self._key
        )

    def open(self, envelope: bytes) -> Signal:
        """Open the next envelope. Raises `PeerError`; the attempt is then over."""
        if not 24 + 16 + PADDING <= len(envelope) <= MAX_ENVELOPE:
            raise PeerError("envelope_length")
        try:
            padded = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                envelope[24:], self._associated(), envelope[:24], self._key
            )
        except CryptoError:
            raise PeerError("envelope_not_authentic") from None
        length = int.from_bytes(padded[:2], "big")
        if length > len(padded) - 2 or any(padded[2 + length :]):
            raise PeerError("envelope_padding")
        return decode_signal(padded[2 : 2 + length])


def merge(description: Description, more: tuple[Candidate, ...]) -> Description:
    """The description with further candidates, never above the cap. Raises `PeerError`."""
    candidates = description.candidates + more
    if len(candidates) > MAX_CANDIDATES:
        raise PeerError("too_many_candidates")
    return replace(description, candidates=candidates)
