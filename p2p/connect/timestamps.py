"""Time stamps, RFC 3161: an authority signs that some octets were there at a time. It learns
nothing but their hash."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..protocol.errors import Failure
from ..protocol.sentences import Detail
from .proxies import NONE, Proxies, first_that_reaches

NO_PROXIES = Proxies(NONE)
SECONDS = 30.0
MAX_STAMP = 64 * 1024  # bytes of an answer
GRANTED = 0  # RFC 3161, 2.4.2
_HASHES = {  # RFC 5754, 2
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


class StampFailed(Exception):
    """No time stamp was to be had."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadStamp(Exception):
    """A time stamp shows nothing of these octets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Authority(NamedTuple):
    """A time stamp authority: its address; the certificates that vouch for its stamps (PEM, as of
    `check`); a further certificate to trust for https; and how it is reached."""

    url: str
    trusted: bytes
    ca: Path | None = None
    proxies: Proxies = NO_PROXIES


class Stamp(NamedTuple):
    """What a time stamp says: when, and who says so, by the name in its certificate, or ""."""

    time: datetime
    authority: str


async def request(authority: Authority, data: bytes) -> bytes:
    """A time stamp of octets that are not empty, as the authority's whole answer (TimeStampResp,
    DER), which `check` holds for good. Raises `StampFailed`, and `Failure` for files that cannot be
    used."""
    client = _library()
    asked = (
        client.TimestampRequestBuilder()
        .data(data)
        .hash_algorithm(client.HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=True)
        .build()
    )
    try:
        parts = urlsplit(authority.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise StampFailed(Detail("no_such_host")) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StampFailed(Detail("no_such_host"))
    try:
        ways = authority.proxies.ways(parts.scheme, parts.hostname, port)
        answer = await first_that_reaches(
            ways, lambda proxy: _ask(authority, asked.as_bytes(), proxy), None
        )
    except Failure as failure:
        if failure.code == "not_readable":
            raise
        raise StampFailed(failure.detail or Detail("no_answer")) from None
    try:
        check(answer, data, authority.trusted)
    except BadStamp as bad:
        raise StampFailed(bad.reason) from None
    if _decoded(answer).tst_info.nonce != asked.nonce:
        raise StampFailed(Detail("stamp_of_another"))
    return answer


async def _ask(authority: Authority, query: bytes, proxy: str) -> bytes:
    from .http import body, session  # a third of what a start takes

    headers = {  # RFC 3161, 3.4
        "Content-Type": "application/timestamp-query",
        "Accept-Encoding": "identity",
    }
    async with (
        session(authority.url, authority.ca, proxy, SECONDS, headers) as client,
        client.post(authority.url, data=query, allow_redirects=False) as answer,
    ):
        if answer.status != 200:
            raise Failure("server_unreachable", Detail("status", status=answer.status))
        return await body(answer, MAX_STAMP)


def check(answer: bytes, data: bytes, trusted: bytes) -> Stamp:
    """What a time stamp says of octets. `trusted`: certificates, PEM; those that are self-signed
    are the roots, others may lie between. The authority's certificate has to have been valid at the
    time that it states; whether it was revoked is not looked up. Raises `BadStamp`, and `Failure`
    (not_readable) for `trusted`."""
    from cryptography import x509  # 0.05 s

    try:
        client = _library()
    except StampFailed as failed:
        raise BadStamp(failed.reason) from None
    try:
        certificates = list(dict.fromkeys(x509.load_pem_x509_certificates(trusted)))
    except ValueError:
        raise Failure("not_readable", Detail("trusted_certificates")) from None
    found = _decoded(answer)
    if found is None:
        raise BadStamp(Detail("no_stamp"))
    if not _is_of(found, data):
        raise BadStamp(Detail("stamp_of_another"))
    builder = client.VerifierBuilder()
    roots = [one for one in certificates if one.subject == one.issuer] or certificates
    try:
        for one in certificates:
            root = one in roots
            add = builder.add_root_certificate if root else builder.add_intermediate_certificate
            builder = add(one)
        builder.build().verify_message(found, data)
        return Stamp(found.tst_info.gen_time, _signer(found))
    except (client.VerificationError, ValueError):
        raise BadStamp(Detail("stamp_untrusted")) from None


def token_of(answer: bytes) -> bytes:
    """The time stamp alone (TimeStampToken, DER) in an answer of `request`."""
    token: bytes = _decoded(answer).time_stamp_token()
    return token


def is_of(answer: bytes, data: bytes) -> bool:
    """Whether this is a time stamp of these octets, whoever signed it."""
    found = _decoded(answer)
    return found is not None and _is_of(found, data)


def _library() -> Any:
    """Raises `StampFailed` where there is none for this kind of computer."""
    try:
        import rfc3161_client  # 0.1 s
    except ImportError:
        raise StampFailed(Detail("no_stamps_here")) from None
    return rfc3161_client


def _decoded(answer: bytes) -> Any:
    """A time stamp that was granted, or None."""
    client = _library()
    try:
        found = client.decode_timestamp_response(answer)
        return found if found.status == GRANTED and found.tst_info else None
    except ValueError:
        return None


def _is_of(found: Any, data: bytes) -> bool:
    imprint = found.tst_info.message_imprint
    name = _HASHES.get(imprint.hash_algorithm.dotted_string)
    return name is not None and hashlib.new(name, data).digest() == imprint.message


def _signer(found: Any) -> str:
    """The name in the certificate that the signature names, or "". Raises `ValueError`."""
    from cryptography import x509

    (signer,) = found.signed_data.signer_infos
    for one in found.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(bytes(one))
        named = certificate.issuer, certificate.serial_number
        if named == (signer.issuer, signer.serial_number):
            for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
                return str(name.value)
    return ""
