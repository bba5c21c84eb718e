"""Receipts, and their annexes: the names and digests that a receipt does not tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..protocol.codec import (
    MAX_INTEGER,
    Json,
    base64url,
    decode_json,
    encode_base64url,
    encode_json,
    integer,
    list_of,
    members,
    one_of,
    optional,
    read_as,
    text,
)
from ..protocol.errors import Failure, PeerError
from ..protocol.manifest import (
    MAX_ENTRIES,
    MAX_REASON,
    SALT,
    STATUSES,
    Entry,
    Manifest,
    Results,
    results_root,
)
from ..protocol.paths import MAX_PATH
from ..protocol.receipt import MAX_FILE, BadReceipt, Receipt, verify
from ..protocol.sentences import Detail, os_detail
from ..protocol.sentences import text as sentence
from ..storage.strict import open_strictly, read_strictly, unusable
from .folder import Folder, stamp_of
from .sealing import SEALED, Sealing, is_sealed, opened, seal

RECEIPTS, ANNEXES = "receipts", "annexes"
ENDING = ".receipt.json"
ANNEX_ENDING = ".annex.json"
MAX_ANNEX = 512 * 1024 * 1024  # every name of 200,000, and where it was placed

_codes = {name: code for code, name in STATUSES.items()}
_codes |= {sentence("status", name): code for name, code in _codes.items()}  # 0.1 wrote these


def _digest(value: Json) -> bytes:
    hexed: str = text(64)(value)
    if len(hexed) not in (0, 64):
        raise ValueError("not a SHA-256")
    return bytes.fromhex(hexed)


def _placed(value: Json) -> Json:
    """Below the folder that it was placed in: nothing else vouches for it, the root does not."""
    path: str = text(2 * MAX_PATH, empty=False)(value)
    if {"", ".", ".."} & set(path.split("/")):
        raise ValueError("no path below a folder")
    return path


_annex = members(
    {
        "salt": base64url(SALT),
        "reason": optional(text(MAX_REASON)),
        "entries": list_of(
            members(
                {
                    "path": text(MAX_PATH, empty=False),
                    "kind": one_of("file", "directory"),
                    "size": integer(0, MAX_INTEGER),
                    "status": one_of(*_codes),
                    "sha256": _digest,
                    "placed": optional(_placed),
                }
            ),
            MAX_ENTRIES,
        ),
    }
)


class Annex(NamedTuple):
    """What a receipt does not tell: its entries, what became of each, and where it was placed."""

    manifest: Manifest
    results: Results
    placed: dict[int, str]

    def require_of(self, receipt: Receipt) -> None:
        """Raises `BadReceipt` unless these are the entries that were signed."""
        root = results_root(self.manifest, self.results)
        if root != receipt.payload["content"]["root"]:
            raise BadReceipt(Detail("annex_differs"))


class Receipts:
    """The receipts of this machine, by transfer id."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.sealing = Sealing(folder)

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self._folder.path / RECEIPTS

    def path(self, transfer: bytes) -> Path:
        """Where a transfer's receipt lies."""
        return self.folder / f"{transfer.hex()}{ENDING}"

    def store(self, transfer: bytes, receipt: bytes) -> Path:
        """Keep a receipt, half or whole."""
        name = self.path(transfer).relative_to(self._folder.path)
        return self._folder.write(str(name), receipt)

    def read(self, transfer: bytes) -> Receipt | None:
        """The receipt of a transfer, or None where there is none that is valid. Raises `Failure`
        where it cannot be read."""
        name = self.path(transfer).relative_to(self._folder.path)
        data = self._folder.read(str(name), MAX_FILE, "receipt_file")
        with suppress(BadReceipt):
            return verify(data) if data is not None else None
        return None

    def remove(self, transfer: bytes) -> None:
        """Remove a receipt, its annex and its time stamp, for good. Raises `OSError`."""
        receipt = self.path(transfer)
        for path in (self.annex_path(transfer), stamp_of(receipt), receipt):
            path.unlink(missing_ok=True)

    def annex_path(self, transfer: bytes) -> Path:
        """Where a transfer's annex lies: the names a receipt does not tell."""
        return self._folder.path / ANNEXES / f"{transfer.hex()}{ANNEX_ENDING}"

    def store_annex(
        self,
        transfer: bytes,
        manifest: Manifest,
        results: Results,
        placed: Mapping[int, str] | None = None,
    ) -> None:
        """Keep names, sizes, digests and places, here only. A sender knows no places, and leaves an
        annex that is there: both sides may have one home, and the recipient's tells more."""
        if placed is None:
            if self.annex_path(transfer).exists():
                return
            placed = {}
        entries = []
        for index, entry in enumerate(manifest.entries):
            status, digest = results[index]
            one: dict[str, Any] = {
                "path": entry.path,
                "kind": entry.kind,
                "size": entry.size,
                "status": STATUSES[status],
                "sha256": digest.hex() if not status and entry.kind == "file" else "",
            }
            if index in placed and placed[index] != entry.path:
                one["placed"] = placed[index]
            entries.append(one)
        annex: dict[str, Json] = {"salt": encode_base64url(manifest.salt), "entries": entries}
        if manifest.reason:
            annex["reason"] = manifest.reason
        self._write_annex(self.annex_path(transfer), encode_json(annex), self.sealing.key())

    def _write_annex(self, path: Path, data: bytes, key: bytes) -> None:
        """Raises `Failure`."""
        name = path.relative_to(self._folder.path)
        self._folder.write(str(name), seal(data, key) if key else data)

    def annexes(self) -> Iterator[tuple[Path, bool | Detail]]:
        """Each annex, and whether it is sealed, or why that cannot be told. Raises `Failure`."""
        folder = self._folder.path / ANNEXES
        try:
            names = sorted(one for one in os.listdir(folder) if one.endswith(ANNEX_ENDING))
        except OSError as error:
            raise unusable(folder, "annexes_folder", error) from None
        for path in (folder / name for name in names if not name.startswith(".")):
            try:
                with open(open_strictly(path), "rb") as file:
                    yield path, is_sealed(file.read(len(SEALED)))
            except FileNotFoundError:
                continue  # it was pruned meanwhile
            except OSError as error:
                yield path, Detail("unreadable_because", why=os_detail(error))

    def reseal(self, path: Path, key: bytes) -> None:
        """Seal an annex to a key, or with b"" leave it open. Raises `Failure`."""
        data = read_opened(path, own=True)  # which may ask a person
        with self._folder.locked():
            if os.path.lexists(path):  # else it was pruned meanwhile
                self._write_annex(path, data, key)

    def annex(self, transfer: bytes) -> Annex:
        """What the annex says. Raises `Failure`."""
        return read_annex(self.annex_path(transfer))

    def all(self) -> Iterator[tuple[str, Receipt | Detail]]:
        """Each receipt by the name of its file; or why it cannot be read, or is none. Raises
        `Failure`."""
        folder = self.folder
        try:
            names = sorted(one for one in os.listdir(folder) if one.endswith(ENDING))
        except OSError as error:
            raise unusable(folder, "receipts_folder", error) from None
        for name in names:
            if not name.startswith("."):  # what a crash left of one that was being written
                yield name, _receipt(folder / name)


def beside(receipt: Path) -> Path | None:
    """The annex that lies with a receipt: in the same folder, or, as in a copy of a data folder, in
    the one for annexes."""
    name = receipt.name.removesuffix(".json").removesuffix(".receipt") + ANNEX_ENDING
    places = receipt.absolute().parent / name, receipt.absolute().parent.parent / ANNEXES / name
    return next((place for place in places if os.path.lexists(place)), None)


def read_opened(path: Path, *, own: bool = False) -> bytes:
    """The octets of an annex, opened where it is sealed. Raises `Failure`."""
    try:
        return opened(read_strictly(path, MAX_ANNEX, own=own))
    except FileNotFoundError:
        raise Failure("not_readable", Detail("annex_missing")) from None
    except OSError as error:
        raise unusable(path, "annex_file", error) from None
    except PeerError:
        raise unusable(path, "annex_file") from None


def read_annex(path: Path, *, own: bool = True) -> Annex:
    """What the annex in a file says; `own`: one of the data folder. Raises `Failure`."""
    data = read_opened(path, own=own)
    try:
        stored = read_as(_annex, decode_json(data, MAX_ANNEX), "annex")
    except PeerError:
        raise unusable(path, "annex_file") from None
    entries, placed = [], {}
    results = Results(len(stored["entries"]))
    for index, one in enumerate(stored["entries"]):
        entries.append(Entry(one["path"], one["kind"], one["size"], 0))
        placed[index] = one["placed"] or one["path"]
        if _codes[one["status"]]:
            results.failed(index, _codes[one["status"]])
        elif one["sha256"]:
            results.delivered(index, one["sha256"])
    manifest = Manifest(tuple(entries), stored["salt"], reason=stored["reason"] or "")
    return Annex(manifest, results, placed)


def _receipt(path: Path) -> Receipt | Detail:
    """The receipt in a file of the data folder, or what is wrong."""
    try:
        found = verify(read_strictly(path, MAX_FILE))
    except OSError as error:
        return Detail("unreadable_because", why=os_detail(error))
    except BadReceipt as bad:
        return bad.reason
    transfer: bytes = found.payload["transfer_id"]
    return found if path.name == f"{transfer.hex()}{ENDING}" else Detail("of_another_transfer")
