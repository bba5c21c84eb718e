"""Proof for one entry of a receipt, which shows no other: its leaf, the leaf's salt and the path to
the root that both have signed (RFC 9162 2.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .codec import (
    Json,
    base64url,
    decode_json,
    encode_base64url,
    encode_json,
    integer,
    list_of,
    members,
    one_of,
    read_as,
    text,
)
from .errors import PeerError
from .manifest import (
    MAX_ENTRIES,
    STATUSES,
    Manifest,
    Results,
    leaf_hash,
    leaf_salt,
    leaves_of,
    merkle_path,
    merkle_root_of,
)
from .paths import MAX_PATH
from .receipt import Receipt
from .sentences import Detail

TYPE = "handover-disclosure"
MAX_FILE = 64 * 1024
MAX_PATH_LENGTH = 18  # of a tree of MAX_ENTRIES leaves
_CODES = {name: code for code, name in STATUSES.items()}

_shape = members(
    {
        "typ": one_of(TYPE),
        "version": integer(1, 1),
        "transfer_id": base64url(16),
        "entry": integer(0, MAX_ENTRIES - 1),
        "path": text(MAX_PATH, empty=False),
        "kind": one_of("file", "directory"),
        "size": integer(0, 2**53 - 1),
        "status": one_of(*_CODES),
        "sha256": base64url(32),
        "salt": base64url(16),
        "audit_path": list_of(base64url(32), MAX_PATH_LENGTH),
    }
)


class BadDisclosure(ValueError):
    """It proves nothing, and why."""

    def __init__(self, reason: Detail) -> None:
        self.reason = reason
        super().__init__(str(reason))


@dataclass(frozen=True)
class Disclosed:
    """An entry that a receipt was shown to speak of. `sha256` is that of the content of a file that
    was delivered, else zeros."""

    path: str
    kind: str
    size: int
    status: int
    sha256: bytes


def disclose(transfer: bytes, manifest: Manifest, results: Results, index: int) -> bytes:
    """The document that discloses an entry, as JSON."""
    entry = manifest.entries[index]
    status, digest = results[index]
    path = merkle_path(leaves_of(manifest, results), index)
    document: dict[str, Json] = {
        "typ": TYPE,
        "version": 1,
        "transfer_id": encode_base64url(transfer),
        "entry": index,
        "path": entry.path,
        "kind": entry.kind,
        "size": entry.size,
        "status": STATUSES[status],
        "sha256": encode_base64url(digest),
        "salt": encode_base64url(leaf_salt(manifest.salt, index)),
        "audit_path": [encode_base64url(one) for one in path],
    }
    return encode_json(document)


def check(document: bytes, receipt: Receipt) -> Disclosed:
    """What a document discloses, once it is shown to be in the receipt. Raises `BadDisclosure`."""
    try:
        found = read_as(_shape, decode_json(document, MAX_FILE), "disclosure")
    except PeerError:
        raise BadDisclosure(Detail("no_disclosure")) from None
    content = receipt.payload["content"]
    if found["transfer_id"] != receipt.payload["transfer_id"]:
        raise BadDisclosure(Detail("disclosure_foreign"))
    status, path = _CODES[found["status"]], found["path"].encode()
    leaf = leaf_hash(
        found["salt"], path, found["kind"] == "directory", status, found["size"], found["sha256"]
    )
    audit_path: Sequence[bytes] = found["audit_path"]
    root = merkle_root_of(leaf, found["entry"], content["entries"], audit_path)
    if root != content["root"]:
        raise BadDisclosure(Detail("disclosure_differs"))
    return Disclosed(found["path"], found["kind"], found["size"], status, found["sha256"])
