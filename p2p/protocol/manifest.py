"""The manifest: what is sent, hashed as one, and the results: what became of each entry.

The manifest is JSON Lines: a head `{"salt": ..}` and then one entry a line, in the order of the
tape. The results are fixed records of 33 bytes, one an entry: a status and the SHA-256 of the
content. From both follows one Merkle root (RFC 9162 2.1.1) whose leaves are salted, so that the
root in a receipt tells nothing about names, and one entry can be shown without the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Literal, get_args

from .codec import (
    MAX_INTEGER,
    Json,
    base64url,
    base64url_upto,
    decode_json,
    encode_base64url,
    encode_json,
    hkdf_expand,
    integer,
    members,
    one_of,
    optional,
    read_as,
    sha256,
    text,
)
from .errors import Failure, PeerError
from .paths import (
    MAX_NAMES,
    MAX_PATH,
    MAX_SEGMENT,
    NamesCollide,
    TooManyNames,
    UnsafePath,
    check_tree,
    shown,
)
from .tape import Tape

MAX_ENTRIES = MAX_NAMES  # and with them the folders that their paths imply
MAX_MANIFEST = 64 * 1024 * 1024
MAX_HOLES = 2**42  # bytes: they come for nothing, but a recipient hashes each of their zeros
MAX_LINE = 8192  # MAX_PATH with every byte escaped, and the numbers
SALT = 32
LABEL_LEAF_SALT = b"handover/1 leaf salt"
RESULT = 33
NO_DIGEST = bytes(32)

DELIVERED = 0
# Given up by the sender (`withdraw`) ...
CHANGED = 1
UNREADABLE = 2
# ... or by the recipient (`failed`).
NOT_WRITTEN = 16
NOT_PLACED = 17
STATUSES = {  # each one's name, under which its words stand in the catalogue
    DELIVERED: "delivered",
    CHANGED: "changed",
    UNREADABLE: "unreadable",
    NOT_WRITTEN: "not_written",
    NOT_PLACED: "not_placed",
}
WITHDRAWN = (CHANGED, UNREADABLE)
REFUSED = (CHANGED, NOT_WRITTEN, NOT_PLACED)

# What the sender says the data is for, by the codes of HL7's PurposeOfUse (v3-ActReason), and the
# name of each.
PURPOSES = {
    "TREAT": "treatment",
    "ETREAT": "emergency",
    "HPAYMT": "payment",
    "HOPERAT": "operations",
    "HRESCH": "research",
    "PUBHLTH": "public-health",
    "PATRQT": "patient-request",
    "HLEGAL": "legal",
}
EMERGENCY = "ETREAT"
MAX_REASON = 256  # bytes

EntryKind = Literal["file", "directory"]


@dataclass(frozen=True, slots=True, init=False)
class Entry:
    """One file or directory.

    `modified` is microseconds since the epoch; `data` the bytes that are not holes, where the
    file is sparse (the space it will take), else None. `original` are the bytes of its name where
    it lies, if that could not be kept, else b"".
    """

    # The path in UTF-8, as `check_tree` takes it. (As text, one wide character makes all wide.)
    encoded: bytes
    kind: EntryKind
    size: int
    modified: int
    data: int | None
    original: bytes

    def __init__(
        self,
        path: str,
        kind: EntryKind,
        size: int,
        modified: int,
        data: int | None = None,
        original: bytes = b"",
    ) -> None:
        fill = partial(object.__setattr__, self)
        fill("encoded", path.encode() + b"/" * (kind == "directory"))
        fill("kind", kind)
        fill("size", size)
        fill("modified", modified)
        fill("data", data)
        fill("original", original)

    @property
    def path(self) -> str:
        """Relative, its segments separated by `/`."""
        return self.encoded.decode().removesuffix("/")


SkippedKind = Literal["links", "special"]  # symbolic links; devices, pipes and sockets
Skipped = Mapping[SkippedKind, int]


@dataclass(frozen=True)
class Manifest:
    """The entries and the salt of their leaves; how many things a sender left out on purpose; what
    the data is for, a key of `PURPOSES` or "", and why it is sent, in the sender's words."""

    entries: tuple[Entry, ...]
    salt: bytes = field(repr=False)
    skipped: Skipped = field(default_factory=dict)
    purpose: str = ""
    reason: str = ""

    def tape(self) -> Tape:
        """Where each entry lies."""
        return Tape(entry.size for entry in self.entries)

    def holes(self) -> int:
        """Bytes of the content that are said to be holes."""
        return sum(e.size - min(e.data, e.size) for e in self.entries if e.data is not None)

    def space(self) -> int:
        """Bytes of disk the content takes."""
        return sum(e.size if e.data is None else min(e.data, e.size) for e in self.entries)


_count = integer(1, MAX_INTEGER)
_skipped = members({kind: optional(_count) for kind in get_args(SkippedKind)})
_head = members(
    {
        "salt": base64url(SALT),
        "skipped": optional(_skipped),
        "purpose": optional(one_of(*PURPOSES)),
        "reason": optional(text(MAX_REASON, empty=False)),
    }
)
_entry = members(
    {
        "path": text(MAX_PATH, empty=False),
        "kind": one_of("file", "directory"),
        "size": integer(0, MAX_INTEGER),
        "modified": integer(-MAX_INTEGER, MAX_INTEGER),
        "data": optional(integer(0, MAX_INTEGER)),
        "original": optional(base64url_upto(MAX_SEGMENT)),
    }
)


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON Lines. Raises `Failure` (too_many_entries, too_many_holes)."""
    head: dict[str, Json] = {"salt": encode_base64url(manifest.salt)}
    if manifest.skipped:
        head["skipped"] = dict(manifest.skipped)
    if manifest.purpose:
        head["purpose"] = manifest.purpose
    if manifest.reason:
        head["reason"] = manifest.reason
    lines = [encode_json(head)]
    for entry in manifest.entries:
        fields: dict[str, str | int] = {
            "path": entry.path,
            "kind": entry.kind,
            "size": entry.size,
            "modified": entry.modified,
        }
        if entry.data is not None:
            fields["data"] = entry.data
        if entry.original:
            fields["original"] = encode_base64url(entry.original)
        lines.append(encode_json(fields))
    lines.append(b"")
    data = b"\n".join(lines)
    if len(manifest.entries) > MAX_ENTRIES or len(data) > MAX_MANIFEST:
        raise Failure("too_many_entries")
    if manifest.holes() > MAX_HOLES:
        raise Failure("too_many_holes")
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest and hold it against every rule for names. Raises `PeerError`."""
    if not data.endswith(b"\n"):
        raise PeerError("manifest_truncated")
    if data.count(b"\n") > MAX_ENTRIES + 1:
        raise PeerError("manifest_too_many_entries")
    lines = (line[:-1] for line in BytesIO(data))  # one at a time, not a second copy of them all
    head = read_as(_head, decode_json(next(lines), MAX_LINE), "manifest head")
    try:
        entries = tuple(map(_read_entry, lines))
        check_tree(entry.encoded for entry in entries)
    except UnsafePath as reason:
        raise PeerError("name_unsafe", f"{shown(reason.path)} ({reason.code})") from None
    except NamesCollide as collision:
        raise PeerError("names_collide", ", ".join(map(shown, collision.pair))) from None
    except TooManyNames:
        raise PeerError("manifest_too_many_entries") from None
    if not entries:
        raise PeerError("manifest_empty")
    skipped = {kind: count for kind, count in (head["skipped"] or {}).items() if count is not None}
    said = head["purpose"] or "", head["reason"] or ""
    manifest = Manifest(entries, head["salt"], skipped, *said)
    if manifest.holes() > MAX_HOLES:
        raise PeerError("manifest_holes_too_large")
    return manifest


def _read_entry(line: bytes) -> Entry:
    """Raises `PeerError`, `UnsafePath` for a path that reads as a directory's."""
    fields = read_as(_entry, decode_json(line, MAX_LINE), "manifest entry")
    if fields["path"].endswith("/"):
        raise UnsafePath("path_part", fields["path"])
    entry = Entry(**{**fields, "original": fields["original"] or b""})
    if entry.kind == "directory" and (entry.size or entry.data is not None):
        raise PeerError("directory_with_size")
    return entry


class Results:
    """What became of each entry: a status and a digest (zeros where there is none)."""

    def __init__(self, count: int) -> None:
        self._records = bytearray(count * RESULT)

    @classmethod
    def decode(cls, data: bytes, manifest: Manifest) -> Results:
        """Read a sender's digests. Raises `PeerError`."""
        results = cls(0)
        results._records = bytearray(data)
        if len(data) != len(manifest.entries) * RESULT:
            raise PeerError("digests_length")
        for index, entry in enumerate(manifest.entries):
            status, digest = results[index]
            if status not in (DELIVERED, *WITHDRAWN):
                raise PeerError("digests_status_unknown")
            if (status != DELIVERED or entry.kind == "directory") and digest != NO_DIGEST:
                raise PeerError("digest_not_allowed")
        return results

    @classmethod
    def recall(cls, data: bytes, count: int) -> Results:
        """Results of any kind, as `encode` gave them. Raises `PeerError`."""
        if len(data) != count * RESULT:
            raise PeerError("results_length")
        results = cls(0)
        results._records = bytearray(data)
        return results

    def encode(self) -> bytes:
        """The records as they travel."""
        return bytes(self._records)

    def __getitem__(self, index: int) -> tuple[int, bytes]:
        record = self._records[index * RESULT : (index + 1) * RESULT]
        return record[0], bytes(record[1:])

    def __len__(self) -> int:
        return len(self._records) // RESULT

    def delivered(self, index: int, digest: bytes) -> None:
        """Note the SHA-256 of an entry that is there."""
        self._records[index * RESULT : (index + 1) * RESULT] = bytes([DELIVERED]) + digest

    def failed(self, index: int, status: int) -> None:
        """Note that an entry was given up."""
        self._records[index * RESULT : (index + 1) * RESULT] = bytes([status]) + NO_DIGEST

    def forget(self, index: int) -> None:
        """Nothing is known of an entry any more."""
        self._records[index * RESULT : (index + 1) * RESULT] = bytes(RESULT)

    def clear(self) -> None:
        """Nothing is known of any entry any more."""
        self._records = bytearray(len(self._records))

    def known(self, index: int) -> bool:
        """Whether anything was noted of an entry yet."""
        return self[index] != (DELIVERED, NO_DIGEST)

    def failures(self) -> Iterator[tuple[int, int]]:
        """(entry, status) of everything that was not delivered."""
        for index, status in enumerate(self._records[::RESULT]):
            if status != DELIVERED:
                yield index, status


def leaf_salt(salt: bytes, index: int) -> bytes:
    """The salt of one leaf: known to who has the manifest, shown alone when one entry is shown."""
    return hkdf_expand(salt, LABEL_LEAF_SALT + index.to_bytes(4, "big"), 16)


def leaf(manifest: Manifest, results: Results, index: int) -> bytes:
    """SHA-256 of 0x00, the salted hash of the path, kind, status, size and the content's digest."""
    entry, salt = manifest.entries[index], leaf_salt(manifest.salt, index)
    status, digest = results[index]
    return leaf_hash(
        salt, entry.path.encode(), entry.kind == "directory", status, entry.size, digest
    )


def leaf_hash(
    salt: bytes, path: bytes, directory: bool, status: int, size: int, digest: bytes
) -> bytes:
    """The same of an entry alone, by the salt of its leaf."""
    kind = bytes([directory, status])
    return sha256(b"\x00", sha256(salt, path), kind, size.to_bytes(8, "big"), digest)


def leaves_of(manifest: Manifest, results: Results) -> list[bytes]:
    """The leaf hash of every entry, in order."""
    return [leaf(manifest, results, i) for i in range(len(manifest.entries))]


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The nodes beside the way from a leaf to the root, from below (RFC 9162 2.1.3.1)."""
    level, path = list(leaves), []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            path.append(level[beside])
        level, index = _above(level), index // 2
    return path


def merkle_root_of(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to from a leaf, of so many (RFC 9162 2.1.3.2); None where it is no
    path of such a tree."""
    if not 0 <= index < count:
        return None
    node, nodes = leaf, iter(path)
    while count > 1:
        beside = next(nodes, None) if index ^ 1 < count else b""
        if beside is None:
            return None
        if beside:
            node = sha256(b"\x01", beside, node) if index % 2 else sha256(b"\x01", node, beside)
        index, count = index // 2, (count + 1) // 2
    return node if next(nodes, None) is None else None


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes as RFC 9162 2.1.1 builds it: nodes are SHA-256 of 0x01 and both."""
    level = list(leaves) or [hashlib.sha256().digest()]
    while len(level) > 1:
        level = _above(level)
    return level[0]


def _above(level: Sequence[bytes]) -> list[bytes]:
    above = [sha256(b"\x01", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return above + [level[-1]] * (len(level) % 2)


def results_root(manifest: Manifest, results: Results) -> bytes:
    """The one hash a receipt carries for everything that was sent and what became of it."""
    return merkle_root(leaves_of(manifest, results))
