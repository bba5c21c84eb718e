"""The link, and every key that is derived from its secret.

`https://HOST/#1.<K>.<C>[.p]`: all of it stands in the fragment, which no browser sends (RFC 3986
3.5). K is 32 random bytes; C commits to the identity key of the host, who made the link, so that
whoever holds the link knows who must be at the other end; `.p` says that a passphrase is needed as
well.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nacl import bindings

from .codec import (
    decode_base64url,
    encode_base64url,
    hkdf_expand,
    hkdf_extract,
    sha256,
)
from .errors import Failure
from .sentences import Detail

VERSION = "1"
SECRET_BYTES = 32
COMMITMENT_BYTES = 16
MAX_LINK = 2048  # longer than any link of ours by far; keeps the parser bounded

LABEL_EXTRACT = b"handover/1"
LABEL_HOST = b"handover/1 host"
LABEL_ROOM = b"handover/1 room"
LABEL_JOIN = b"handover/1 join"
LABEL_SIGNAL_TO_GUEST = b"handover/1 signal to guest"
LABEL_SIGNAL_TO_HOST = b"handover/1 signal to host"
LABEL_PSK = b"handover/1 psk"
LABEL_PASSPHRASE_SALT = b"handover/1 passphrase salt"

# Argon2id, second choice of RFC 9106 4 with libsodium's one lane: 3 passes over 64 MiB.
PASSPHRASE_PASSES = 3
PASSPHRASE_MEMORY = 64 * 1024 * 1024
MAX_PASSPHRASE = 1024

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Link:
    """An invitation. `origin` is scheme and host; the secrets never show in a repr."""

    origin: str
    secret: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    passphrase: bool = False

    def __str__(self) -> str:
        parts = [VERSION, encode_base64url(self.secret), encode_base64url(self.commitment)]
        return f"{self.origin}/#" + ".".join(parts + ["p"] * self.passphrase)


@dataclass(frozen=True, repr=False)
class LinkKeys:
    """What both sides derive from K. The server learns `room` and SHA-256 of `join`, no more."""

    room: bytes
    join: bytes
    signal_to_guest: bytes
    signal_to_host: bytes
    psk: bytes
    passphrase_salt: bytes


def host_commitment(secret: bytes, identity: bytes) -> bytes:
    """C: the first 16 bytes of SHA-256 over a label, K and the host's Ed25519 public key."""
    return sha256(LABEL_HOST, secret, identity)[:COMMITMENT_BYTES]


def make_link(origin: str, secret: bytes, identity: bytes, *, passphrase: bool) -> Link:
    """The link of a host whose Ed25519 public key is `identity`."""
    return Link(origin, secret, host_commitment(secret, identity), passphrase)


def parse_link(text: str) -> Link:
    """Read a link as a person pastes it. Raises `Failure` (link_invalid, link_unsupported)."""
    text = text.strip()
    if len(text) > MAX_LINK:
        raise Failure("link_invalid", Detail("link_too_long"))
    try:
        url = urlsplit(text)
        _ = url.port  # a number beyond 65535 raises
    except ValueError:
        raise Failure("link_invalid", Detail("link_no_address")) from None
    if url.scheme not in ("http", "https") or not _HOST.fullmatch(url.netloc):
        raise Failure("link_invalid", Detail("link_no_host"))
    if url.path not in ("", "/") or url.query:
        raise Failure("link_invalid", Detail("link_path"))
    parts = url.fragment.split(".")
    if len(parts) < 3:
        raise Failure("link_invalid", Detail("link_fragment_missing"))
    if parts[0] != VERSION:
        raise Failure("link_unsupported")
    try:
        secret, commitment = decode_base64url(parts[1]), decode_base64url(parts[2])
    except ValueError:
        raise Failure("link_invalid", Detail("link_fragment_typo")) from None
    if (len(secret), len(commitment)) != (SECRET_BYTES, COMMITMENT_BYTES):
        raise Failure("link_invalid", Detail("link_fragment_cut"))
    if parts[3:] not in ([], ["p"]):
        raise Failure("link_invalid", Detail("link_followed"))
    return Link(f"{url.scheme}://{url.netloc}", secret, commitment, len(parts) == 4)


def derive_keys(secret: bytes) -> LinkKeys:
    """All keys of a link, each by HKDF-SHA256 under its own label."""
    root = hkdf_extract(LABEL_EXTRACT, secret)
    return LinkKeys(
        room=hkdf_expand(root, LABEL_ROOM, 16),
        join=hkdf_expand(root, LABEL_JOIN, 32),
        signal_to_guest=hkdf_expand(root, LABEL_SIGNAL_TO_GUEST, 32),
        signal_to_host=hkdf_expand(root, LABEL_SIGNAL_TO_HOST, 32),
        psk=hkdf_expand(root, LABEL_PSK, 32),
        passphrase_salt=hkdf_expand(root, LABEL_PASSPHRASE_SALT, 16),
    )


@dataclass(frozen=True, repr=False)
class PskSecrets:
    """What the Noise psk is made of, once the suite is known (`Suite.psk`)."""

    link: bytes
    passphrase: bytes = b""  # stretched


def psk_secrets(keys: LinkKeys, passphrase: str | None) -> PskSecrets:
    """The link's own secret, and Argon2id of the passphrase's NFC form.

    Takes about a quarter of a second with a passphrase. Raises `Failure` (passphrase_wrong) for one
    that cannot be one: empty or above 1,024 bytes.
    """
    if passphrase is None:
        return PskSecrets(keys.psk)
    octets = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    if not 0 < len(octets) <= MAX_PASSPHRASE:
        raise Failure("passphrase_wrong")
    stretched = bindings.crypto_pwhash_alg(
        32,
        octets,
        keys.passphrase_salt,
        PASSPHRASE_PASSES,
        PASSPHRASE_MEMORY,
        bindings.crypto_pwhash_ALG_ARGON2ID13,
    )
    return PskSecrets(keys.psk, stretched)
