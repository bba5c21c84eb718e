"""The link, and every key that is derived from its secret.

`https://HOST/#1.<K>.<C>[.p]`: all of it stands in the fragment, which no browser sends (RFC 3986
3.5). K is 32 random bytes; C commits to the identity key of the host, who made the link, so that
whoever holds the link knows who must be at the other end; `.p` says that a passphrase is needed as
well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
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
from .labels import INVISIBLE
from .paths import shown
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

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")

MAX_TEXT = 65_536  # characters in which a link is looked for
MAX_READINGS = 12  # a filter's address in a filter's address, and each of them decoded twice

# Where a mail program wraps a line: the end of one, and what marks the next as quoted.
_WRAP = r"(?:=?[ \t]*(?:\r\n?|\n)[ \t>|]*)?"
_GLUE = re.compile(_WRAP[:-1])
_PADDING = re.compile(r"[ \t]{64,}")  # looked at from each of its blanks, it would take for ever
# What follows is no part of it: neither more of the same, nor a flag that we do not know.
_END = r"(?![A-Za-z0-9_-]|\.[A-Za-z0-9](?![A-Za-z0-9_-]))"
# What a tracker or a mail program's page adds: a query, in which no other address can stand, and
# marks before the first number.
_ADDED = re.compile(r"/?(?:\?[^#]*)?#[!/]*")
# A link, with a line wrapped after any character; `~` stands for that.
_FOUND = re.compile(
    r"[Hh]~[Tt]~[Tt]~[Pp]~(?:[Ss]~)?:~/~/~"
    r"(?:\[~(?:[0-9a-fA-F:.]~)+\]~|(?:[A-Za-z0-9._-]~){1,253})(?::~(?:[0-9]~){1,5})?(?:/~)?"
    r"(?:\?~(?:[A-Za-z0-9&=._+-]~){0,512})?#~(?:[!/]~){0,2}"
    r"1~\.~(?:[A-Za-z0-9_-]~){43}\.~(?:[A-Za-z0-9_-]~){21}[A-Za-z0-9_-]"
    r"(?:~\.~p!)?!".replace("~", _WRAP).replace("p!)?!", f"p{_END})?{_END}")
)
_ESCAPED = re.compile(
    "%~[0-9A-Fa-f]~[0-9A-Fa-f](?:~%~[0-9A-Fa-f]~[0-9A-Fa-f])*".replace("~", _WRAP)
)
_ADDRESS = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)
# Proofpoint rewrites addresses in two ways of its own; other filters percent-encode them.
# A `=` at the end of a line may be a mail's own mark for going on, and is taken out then.
_DEFENSE_2 = re.compile(r"urldefense\.proofpoint\.com/v2/url\?u=?([A-Za-z0-9_.-]+)")
_DEFENSE_3 = re.compile(
    r"urldefense(?:\.proofpoint)?\.(?:com|us)/v3/__(\S{1,2048}?)__;([A-Za-z0-9_-]*)!"
)


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


def read_origin(server: str) -> str:
    """A server's address as links have it: scheme, host and port; of a link the server's. Raises
    `Failure` (address_invalid)."""
    try:
        url = urlsplit(server.strip())
        host = url.netloc if url.netloc.isascii() else url.netloc.encode("idna").decode()
        good = url.scheme in ("http", "https") and _HOST.fullmatch(host) and url.port != 0
    except (ValueError, UnicodeError):
        good = None
    if not good or url.path.strip("/") or url.query:
        raise Failure("address_invalid", shown(server.partition("#")[0], 128))
    return f"{url.scheme}://{host}"


def find_link(text: str) -> Link:
    """The first link in what a person pastes: wrapped, quoted, in brackets or a sentence, with what
    nobody sees in it, percent-encoded, or rewritten by a mail filter that carries the address.

    Raises `Failure` (link_invalid, link_unsupported) where there is none.
    """
    text = _PADDING.sub(" ", INVISIBLE.sub("", text[:MAX_TEXT]))
    readings = [text, *_unfiltered(_GLUE.sub("", text))]
    for reading in readings:
        for found in _FOUND.finditer(reading):
            try:
                return parse_link(_ADDED.sub("/#", _GLUE.sub("", found[0]), count=1))
            except Failure:
                continue
        decoded = INVISIBLE.sub("", _ESCAPED.sub(_unescape, reading))
        if decoded != reading and len(readings) < MAX_READINGS:
            readings.append(decoded)
    address = next(filter(None, map(_ADDRESS.search, reversed(readings))), None)
    return parse_link(address[0] if address else "")  # says what is wrong with it


def _unfiltered(text: str) -> Iterator[str]:
    for found in _DEFENSE_2.finditer(text):
        yield _ESCAPED.sub(_unescape, found[1].replace("_", "/").replace("-", "%"))
    for found in _DEFENSE_3.finditer(text):
        try:
            replaced = iter(decode_base64url(found[2]).decode())
        except ValueError:
            continue
        yield "".join(next(replaced, "") if char == "*" else char for char in found[1])


def _unescape(found: re.Match[str]) -> str:
    octets = bytes.fromhex(_GLUE.sub("", found[0]).replace("%", ""))
    return octets.decode(errors="replace")


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
