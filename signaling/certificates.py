"""TLS for the server: certificates from files, or from an authority of this machine's own.

A hospital network seldom has a public name, and without https a browser gets no client. So a
machine can be its own certificate authority: one certificate to install on the reading side, once,
and a fresh server certificate at every start. Its name constraints (RFC 5280 4.2.1.10) keep a
stolen key from vouching for anything but private networks and this machine.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .tls import KeyLocked as KeyLocked
from .tls import server_context

KEY, CERTIFICATE = "key.pem", "handover-local-ca.crt"  # systems know what to do with a .crt
AUTHORITY_DAYS = 3652  # ten years: it is installed by hand
LEAF_DAYS = 397  # what browsers bear of a public certificate (CA/Browser Forum BR 6.3.2, 2020)
CLOCK_SKEW = timedelta(days=1)  # between machines on a network without a time server

# Names nobody can own on the internet (RFC 6761, 6762, 8375; .internal is ICANN's since 2024; .lan
# is what home routers say), and addresses that are routed nowhere (RFC 1918, 4193, 3927, 6598).
PRIVATE_NAMES = ("local", "internal", "home.arpa", "localhost", "lan")
PRIVATE_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
            "fe80::/10",
            "::1/128",
        ),
    )
)
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?!.*\.[0-9]+\Z)({_LABEL}\.)*{_LABEL}")


class Unusable(ValueError):
    """The authority's files are damaged, do not belong together, or have expired."""


class BadName(ValueError):
    """Not a host name (ASCII; an international one as its `xn--` form) and not an address."""


@dataclass(frozen=True)
class Served:
    """What a server listens with. `hosts` are the names (`*.` included) and addresses that browsers
    accept it for; `left_out` are those asked for that the authority may not vouch for. `pem` is the
    certificate chain and the private key."""

    context: ssl.SSLContext
    hosts: tuple[str, ...]
    expires: datetime
    pem: bytes = field(repr=False)
    left_out: tuple[str, ...] = ()


def from_pem(chain: bytes, key: bytes) -> Served:
    """A certificate chain and its key, PEM; perhaps both in one. Raises `OSError` (so is
    `SSLError`), `ValueError`."""
    pem = chain if chain == key else chain + b"\n" + key
    context = server_context(pem)
    leaf = x509.load_pem_x509_certificates(chain)[0]
    expires = leaf.not_valid_after_utc
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:  # browsers have not looked at the common name for years
        return Served(context, (), expires, pem)
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    hosts = (*names.get_values_for_type(x509.DNSName), *addresses)
    return Served(context, hosts, expires, pem)


def own_names() -> list[str]:
    """This machine's host name as others may call it.

    A bare one, like `dev`, gets `.local` (RFC 6762) only: a constraint on `dev` would permit every
    name below it, and any short name may be, or become, a top level of the internet.
    """
    host = socket.gethostname().lower().rstrip(".")
    names = [f"{host.split('.')[0]}.local", *([host] if "." in host else [])]
    return [name for name in names if _NAME.fullmatch(name)]


class Authority:
    """The local certificate authority, opened. `path` is the certificate to install."""

    def __init__(
        self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.path = folder / CERTIFICATE
        self.certificate, self._key = certificate, key
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        permitted = constraints.permitted_subtrees or []
        self._names = [one.value for one in permitted if isinstance(one, x509.DNSName)]
        self._networks = [
            ipaddress.ip_network(str(one.value))
            for one in permitted
            if isinstance(one, x509.IPAddress)
        ]

    @property
    def pem(self) -> bytes:
        """The certificate to install."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as browsers and systems show it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    @property
    def valid(self) -> tuple[datetime, datetime]:
        """From when to when."""
        return self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc

    @property
    def constraints(self) -> list[str]:
        """The names, with all below them, and the networks it may vouch for."""
        return [*self._names, *map(str, self._networks)]

    def permits(self, host: str) -> bool:
        """Whether it may vouch for this name or address. Raises `BadName`."""
        one = _parse(host)
        if isinstance(one, str):
            return any(one == name or one.endswith(f".{name}") for name in self._names)
        return any(one in network for network in self._networks)

    def issue(self, names: Iterable[str], addresses: Iterable[str]) -> Served:
        """A new key and a certificate for them and loopback, good for 397 days.

        Hosts outside the constraints are left out: one of them would void the whole certificate.
        Neither key nor certificate stays on the disk. Raises `BadName`.
        """
        wanted = dict.fromkeys([*names, *addresses, *LOOPBACK_HOSTS])
        hosts = {_parse(host): None for host in wanted if self.permits(host)}
        now = datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(self.certificate.subject, _named("Handover on this network"), key, self._key)
            .not_valid_before(max(now - CLOCK_SKEW, self.certificate.not_valid_before_utc))
            .not_valid_after(
                min(
                    now - CLOCK_SKEW + timedelta(days=LEAF_DAYS),
                    self.certificate.not_valid_after_utc,
                )
            )
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general(h) for h in hosts]), False)
            .sign(self._key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM) + _private(key)
        left_out = tuple(host for host in wanted if not self.permits(host))
        expires = certificate.not_valid_after_utc
        return Served(server_context(pem), tuple(map(str, hosts)), expires, pem, left_out)


def open_authority(
    folder: Path,
    names: Sequence[str],
    addresses: Sequence[str],
    read: Callable[[Path], bytes] = Path.read_bytes,
) -> Authority:
    """The authority in this folder; where there is none it is made, once, for these hosts. Its
    files are read by `read`.

    Beyond private names and networks it may vouch for the names given and what is below them, for
    the IPv4 addresses given, and for the /64 of IPv6 ones, because machines keep changing theirs
    within it. That is settled then for good: a wider one would be another certificate to install.
    Raises `Unusable`, `BadName`, `OSError`.
    """
    if not folder.exists():
        _create(folder, names, addresses)
    try:
        key = serialization.load_pem_private_key(read(folder / KEY), None)
        certificate = x509.load_pem_x509_certificate(read(folder / CERTIFICATE))
        certificate.verify_directly_issued_by(certificate)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Unusable
        if key.public_key() != certificate.public_key():
            raise Unusable
        if certificate.not_valid_after_utc < datetime.now(UTC):
            raise Unusable
        return Authority(folder, certificate, key)
    except (
        ValueError,
        TypeError,
        FileNotFoundError,
        InvalidSignature,
        UnsupportedAlgorithm,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        raise Unusable from None


def _create(folder: Path, names: Sequence[str], addresses: Sequence[str]) -> None:
    """Key and certificate together or not at all: a folder beside it, synced, then renamed."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    # Two authorities of one name would confuse whoever installs or removes them.
    subject = _named(f"Handover local CA {secrets.token_hex(3)} ({socket.gethostname()[:32]})")
    certificate = (
        _builder(subject, subject, key, key)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_constraints(names, addresses), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".local-ca-"))  # 0700
    try:
        _write(beside / KEY, _private(key))
        _write(beside / CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))
        _sync(beside)
        try:
            beside.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            return  # another process was first: theirs it is
        _sync(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _constraints(names: Sequence[str], addresses: Sequence[str]) -> x509.NameConstraints:
    networks: dict[_Network, None] = dict.fromkeys(PRIVATE_NETWORKS)
    permitted = dict.fromkeys(PRIVATE_NAMES)
    for host in (*names, *addresses):
        one = _parse(host)
        if isinstance(one, str):
            permitted[one] = None
        elif not any(one in network for network in PRIVATE_NETWORKS):
            length = 32 if one.version == 4 else 64
            networks[ipaddress.ip_network(f"{one}/{length}", strict=False)] = None
    return x509.NameConstraints(
        [*map(x509.DNSName, permitted), *map(x509.IPAddress, networks)],
        None,
    )


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    """What both kinds have. Even the authority says that it is for TLS servers and nothing else."""
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _parse(host: str) -> str | _Address:
    """A name, lower case, or an address."""
    host = host.lower().rstrip(".")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]").split("%")[0])
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise BadName(host)
    return host


def _general(host: str | _Address) -> x509.GeneralName:
    return x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host)


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
