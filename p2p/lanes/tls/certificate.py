"""The certificate of one side for one session, and what trusts the other side's alone."""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile


def make_certificate() -> tuple[bytes, bytes]:
    """A key (PEM) and its certificate (DER), for one session. Its times say nothing: clocks of
    hospitals are a day apart, and a session knows itself when it ends."""
    from cryptography import x509  # a tenth of a second, which no link should wait for
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "handover")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(os.urandom(16), "big") >> 1 or 1)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2099, 1, 1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, built.public_bytes(serialization.Encoding.DER)


def make_context(role: int, key: bytes, own: bytes, peer: bytes) -> ssl.SSLContext:
    """TLS 1.3 in a role (`ssl.PROTOCOL_TLS_CLIENT` or `_SERVER`) with the own certificate `own`
    (DER), its `key` (PEM) and the other side's certificate `peer` (DER) as the only trust anchor.

    Raises `ssl.SSLError`.
    """
    context = ssl.SSLContext(role)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if role == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nothing to read for who only writes
    with tempfile.TemporaryDirectory() as folder:  # `ssl` takes a path only; 0700, gone at once
        path = os.path.join(folder, "certificate.pem")
        with open(path, "wb") as file:
            file.write(key + ssl.DER_cert_to_PEM_cert(own).encode())
        context.load_cert_chain(path)
    context.load_verify_locations(cadata=peer)
    return context
