"""Signatures of JSON by X.509 certificates: JAdES (ETSI TS 119 182-1), baseline B-B, and B-T with a
time stamp. A JWS (RFC 7515), flattened, with its payload in it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey

from ..protocol.codec import encode_base64url, encode_json, sha256
from ..protocol.errors import Failure
from ..protocol.receipt import thumbprint
from ..protocol.sentences import Detail, os_detail
from ..storage.strict import read_strictly

MAX_PEM = 256 * 1024
RSA_BITS = 2048  # at least
# A certificate without a known end, RFC 5280, 4.1.2.5, from a time before any that is signed.
FROM, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
# By the curve: the algorithm (RFC 7518, 3.4), its hash, and the size of its numbers in octets.
_CURVES: dict[str, tuple[str, hashes.HashAlgorithm, int]] = {
    "secp256r1": ("ES256", hashes.SHA256(), 32),
    "secp384r1": ("ES384", hashes.SHA384(), 48),
}
# What validators know; RFC 9864 calls it Ed25519.
_ED25519 = "EdDSA"


@dataclass(frozen=True)
class Signer:
    """Who signs: the certificate and those above it (DER, its own first), and how."""

    algorithm: str
    chain: tuple[bytes, ...]
    sign: Callable[[bytes], bytes]


def signer_of_identity(key: SigningKey) -> Signer:
    """This machine's identity. Its certificate is signed by itself, always the same, and says
    nothing but the key: whose that is, a contact or the digits on the phone say."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(key))
    public = bytes(key.verify_key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, thumbprint(public))])
    usage = dict.fromkeys(
        (
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(int.from_bytes(sha256(public)[:16], "big") | 1)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, content_commitment=True, **usage), critical=True
        )
        .sign(private, None)
    )
    return Signer(_ED25519, (certificate.public_bytes(Encoding.DER),), private.sign)


def signer_of_files(certificate: Path, key: Path) -> Signer:
    """A facility's certificate, with those above it, and its key, PEM. Raises `Failure`
    (certificate_unusable)."""
    try:
        chain = x509.load_pem_x509_certificates(read_strictly(certificate, MAX_PEM, own=False))
        private: Any = load_pem_private_key(read_strictly(key, MAX_PEM, own=False), None)
        fits = _octets(private.public_key()) == _octets(chain[0].public_key())
    except OSError as error:
        raise Failure("certificate_unusable", os_detail(error, "unreadable")) from None
    except TypeError:
        raise Failure("certificate_unusable", Detail("key_locked")) from None
    except UnsupportedAlgorithm:
        raise Failure("certificate_unusable", Detail("key_kind")) from None
    except (ValueError, AttributeError):
        raise Failure("certificate_unusable", Detail("certificate_not_a_pair")) from None
    if not fits:
        raise Failure("certificate_unusable", Detail("certificate_not_a_pair"))
    try:
        for one, above in pairwise(chain):
            one.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise Failure("certificate_unusable", Detail("chain_order")) from None
    if not chain[0].not_valid_before_utc <= datetime.now(UTC) <= chain[0].not_valid_after_utc:
        raise Failure("certificate_unusable", Detail("certificate_expired"))
    ders = tuple(one.public_bytes(Encoding.DER) for one in chain)
    match private:
        case ed25519.Ed25519PrivateKey():
            return Signer(_ED25519, ders, private.sign)
        case ec.EllipticCurvePrivateKey() if private.curve.name in _CURVES:
            name, digest, size = _CURVES[private.curve.name]
            return Signer(name, ders, lambda data: _ecdsa(private, digest, size, data))
        case rsa.RSAPrivateKey() if private.key_size >= RSA_BITS and not _is_pss(chain[0]):
            return Signer(
                "RS256", ders, lambda data: private.sign(data, padding.PKCS1v15(), hashes.SHA256())
            )
    raise Failure("certificate_unusable", Detail("key_kind"))


def _is_pss(certificate: x509.Certificate) -> bool:
    """Whether its key is for another kind of RSA signature alone (RFC 4055, 1.2)."""
    return certificate.public_key_algorithm_oid.dotted_string == "1.2.840.113549.1.1.10"


def _octets(public: Any) -> bytes:
    data: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


def _ecdsa(
    key: ec.EllipticCurvePrivateKey, digest: hashes.HashAlgorithm, size: int, data: bytes
) -> bytes:
    """RFC 7518, 3.4: both numbers, each of the size of the order."""
    numbers = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    return b"".join(one.to_bytes(size, "big") for one in numbers)


def sign(payload: bytes, signer: Signer, time: int) -> dict[str, Any]:
    """Octets of JSON as a flattened JWS. `time`: of the signature, as it is claimed, in seconds
    since 1970."""
    header = {
        "alg": signer.algorithm,
        "typ": "JOSE+JSON",
        "cty": "json",
        "iat": time,
        "x5t#S256": encode_base64url(sha256(signer.chain[0])),
        "x5c": [base64.b64encode(one).decode() for one in signer.chain],
    }
    protected, body = encode_base64url(encode_json(header)), encode_base64url(payload)
    signature = signer.sign(f"{protected}.{body}".encode())
    return {"payload": body, "protected": protected, "signature": encode_base64url(signature)}


def to_be_stamped(signed: dict[str, Any]) -> bytes:
    """What the time stamp of a signature is of (TS 119 182-1, 5.3.4): its characters."""
    text: str = signed["signature"]
    return text.encode("ascii")


def with_stamp(signed: dict[str, Any], token: bytes) -> dict[str, Any]:
    """The same with a time stamp (TimeStampToken, DER): baseline B-T."""
    stamp = {"sigTst": {"tstTokens": [{"val": base64.b64encode(token).decode()}]}}
    return signed | {"header": {"etsiU": [encode_base64url(encode_json(stamp))]}}
