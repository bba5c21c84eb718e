"""The receipt: a JWS in general JSON serialization (RFC 7515 7.2.1) with two Ed25519 signatures.

Both sign the same payload bytes, the recipient first, the sender second. Headers hold registered
members only (`alg`, `kid`), so any JOSE library reads it; `alg` is `Ed25519` (RFC 9864), `kid` the
RFC 7638 thumbprint; roles stand in the payload. No file name and nothing of a patient is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from .codec import (
    MAX_INTEGER,
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
    read_as,
    sha256,
    text,
    utc_time,
)
from .errors import PeerError
from .handshake import MAX_LABEL
from .manifest import PURPOSES
from .sentences import Detail

TYPE = "handover-receipt/1"
MAX_RECEIPT = 16384
MAX_FILE = 4 * MAX_RECEIPT

OUTCOMES = ("complete", "incomplete")
ROLES = ("sender", "recipient")


class BadReceipt(ValueError):
    """The receipt does not hold. The message is what of it, a `Detail`."""

    def __init__(self, reason: Detail) -> None:
        self.reason = reason
        super().__init__(reason)


def jwk(identity: bytes) -> dict[str, str]:
    """An Ed25519 public key as a JWK (RFC 8037 2)."""
    return {"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(identity)}


def thumbprint(identity: bytes) -> str:
    """RFC 7638 thumbprint of an Ed25519 public key, base64url."""
    return encode_base64url(sha256(encode_json(jwk(identity))))


def fingerprint(identity: bytes) -> str:
    """The key's fingerprint as a person reads it: 32 hex digits of its SHA-256 in groups of 4."""
    digits = sha256(identity).hex()[:32]
    return " ".join(digits[i : i + 4] for i in range(0, 32, 4))


_key = members({"crv": one_of("Ed25519"), "kty": one_of("OKP"), "x": base64url(32)})
_party = members(
    {
        "kid": text(43),
        "jwk": _key,
        "label": text(MAX_LABEL),
        "software": text(64),
        "audit_head": text(64),
    }
)
_count = integer(0, MAX_INTEGER)
_payload = members(
    {
        "type": one_of(TYPE),
        "transfer_id": base64url(16),
        "outcome": one_of(*OUTCOMES),
        "purpose": optional(one_of(*PURPOSES)),
        "sender": _party,
        "recipient": _party,
        "offer_sha256": base64url(32),
        "manifest_sha256": base64url(32),
        "closing_sha256": base64url(32),
        "content": members(
            {
                "hash": one_of("sha-256"),
                "tree": one_of("rfc9162-salted"),
                "root": base64url(32),
                "entries": _count,
                "bytes": _count,
                "delivered_entries": _count,
                "delivered_bytes": _count,
                "skipped": optional(_count),  # version 0.1 did not say
            }
        ),
        "stored": one_of("file", "browser"),
        "security": members(
            {
                "suite": text(96),
                "transcript": base64url(32),
                "fingerprint_sender": base64url(32),
                "fingerprint_recipient": base64url(32),
                "path": one_of("direct", "https", "relayed", "tls"),
                "digits_confirmed": boolean,
                "passphrase": boolean,
            }
        ),
        "times": members(
            {"offered": utc_time, "accepted": utc_time, "closed": utc_time, "verified": utc_time}
        ),
    }
)
_header = members({"alg": one_of("Ed25519"), "kid": text(43)})
_signature = members({"protected": base64url_upto(256), "signature": base64url(64)})
_receipt = members(
    {"payload": base64url_upto(MAX_RECEIPT), "signatures": list_of(_signature, 2, least=1)}
)


@dataclass(frozen=True)
class Receipt:
    """A receipt that holds. `confirmed` is whether the sender has signed it too."""

    payload: dict[str, Any]
    octets: bytes
    sender: bytes
    recipient: bytes
    confirmed: bool


def _protected(identity: bytes) -> str:
    return encode_base64url(encode_json({"alg": "Ed25519", "kid": thumbprint(identity)}))


def _signing_input(identity: bytes, payload: bytes) -> bytes:
    return f"{_protected(identity)}.{encode_base64url(payload)}".encode()  # RFC 7515 5.1


def sign(identity: SigningKey, payload: bytes) -> bytes:
    """The 64-byte signature of a party over the receipt's payload."""
    return identity.sign(_signing_input(bytes(identity.verify_key), payload)).signature


def check_signature(identity: bytes, payload: bytes, signature: bytes) -> None:
    """Raises `BadReceipt` unless `signature` is this key's over this payload."""
    try:
        VerifyKey(identity).verify(_signing_input(identity, payload), signature)
    except (BadSignatureError, ValueError):
        raise BadReceipt(Detail("signature_mismatch")) from None


def assemble(payload: bytes, signatures: list[tuple[bytes, bytes]]) -> bytes:
    """The receipt file: (Ed25519 public key, signature) of the recipient, then of the sender."""
    return encode_json(
        {
            "payload": encode_base64url(payload),
            "signatures": [
                {"protected": _protected(identity), "signature": encode_base64url(signature)}
                for identity, signature in signatures
            ],
        }
    )


def party(identity: bytes, label: str, software: str, audit_head: str) -> dict[str, Json]:
    """How a receipt names a party."""
    return {
        "kid": thumbprint(identity),
        "jwk": jwk(identity),
        "label": label,
        "software": software,
        "audit_head": audit_head,
    }


def read_payload(octets: bytes) -> dict[str, Any]:
    """The payload's members, binary ones as bytes. Raises `PeerError`."""
    fields: dict[str, Any] = read_as(_payload, decode_json(octets, MAX_RECEIPT), "receipt")
    for role in ROLES:
        if fields[role]["kid"] != thumbprint(fields[role]["jwk"]["x"]):
            raise PeerError("receipt_key_mismatch")
    return fields


def verify(data: bytes) -> Receipt:
    """Check a receipt file: form, keys, roles, order and signatures. Raises `BadReceipt`.

    Keys are only ever taken from the signed payload, never from a header (no `jwk`, `jku`, `x5c`).
    """
    try:
        outer = read_as(_receipt, decode_json(data.strip(), MAX_FILE), "receipt")
        octets = outer["payload"]
        payload = read_payload(octets)
        headers = [
            read_as(_header, decode_json(one["protected"], 256), "receipt header")
            for one in outer["signatures"]
        ]
    except PeerError:
        raise BadReceipt(Detail("no_receipt")) from None
    recipient, sender = payload["recipient"]["jwk"]["x"], payload["sender"]["jwk"]["x"]
    for identity, header, one in zip(
        (recipient, sender), headers, outer["signatures"], strict=False
    ):
        if header["kid"] != thumbprint(identity):
            raise BadReceipt(Detail("signature_order"))
        if one["protected"] != encode_json(header):
            raise BadReceipt(Detail("header_form"))
        check_signature(identity, octets, one["signature"])
    return Receipt(payload, octets, sender, recipient, len(headers) == 2)


def require_same(payload: Mapping[str, Any], expected: Mapping[str, Any], at: str = "") -> None:
    """Raises `BadReceipt` naming the first member in which a payload is not as `expected`.

    Members of `payload` that `expected` does not have are the recipient's own to state.
    """
    for name, value in expected.items():
        said = payload.get(name)
        if isinstance(value, Mapping):
            require_same(said if isinstance(said, Mapping) else {}, value, f"{at}{name}.")
        elif type(said) is not type(value) or said != value:  # in Python, 0 equals False
            raise BadReceipt(Detail("member_differs", member=f"{at}{name}"))
