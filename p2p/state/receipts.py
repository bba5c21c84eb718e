"""Receipts, and their annexes: the names and digests that a receipt does not tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..protocol.codec import decode_base64url, encode_base64url, encode_json
from ..protocol.errors import Failure
from ..protocol.manifest import STATUSES, Entry, Manifest, Results
from ..protocol.sentences import Detail, text
from .folder import Folder

RECEIPTS, ANNEXES = "receipts", "annexes"


class Receipts:
    """The receipts of this machine, by transfer id."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def path(self, transfer: bytes) -> Path:
        """Where a transfer's receipt lies."""
        return self._folder.path / RECEIPTS / f"{transfer.hex()}.receipt.json"

    def store(self, transfer: bytes, receipt: bytes) -> Path:
        """Keep a receipt, half or whole."""
        name = self.path(transfer).relative_to(self._folder.path)
        return self._folder.write(str(name), receipt)

    def annex_path(self, transfer: bytes) -> Path:
        """Where a transfer's annex lies: the names a receipt does not tell."""
        return self._folder.path / ANNEXES / f"{transfer.hex()}.annex.json"

    def store_annex(
        self, transfer: bytes, manifest: Manifest, results: Results, placed: Mapping[int, str]
    ) -> None:
        """Keep names, sizes, digests and places, here only."""
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
        annex = {"salt": encode_base64url(manifest.salt), "entries": entries}
        name = self.annex_path(transfer).relative_to(self._folder.path)
        self._folder.write(str(name), encode_json(annex))

    def annex(self, transfer: bytes) -> tuple[Manifest, Results, dict[int, str]]:
        """What the annex says: entries, results and places. Raises `Failure`."""
        path = self.annex_path(transfer)
        codes = {name: code for code, name in STATUSES.items()}
        codes |= {text("status", name): code for name, code in codes.items()}  # 0.1 wrote these
        try:
            stored = json.loads(path.read_bytes())
            entries, placed = [], {}
            results = Results(len(stored["entries"]))
            for index, one in enumerate(stored["entries"]):
                entries.append(Entry(one["path"], one["kind"], one["size"], 0))
                placed[index] = one.get("placed", one["path"])
                if codes[one["status"]]:
                    results.failed(index, codes[one["status"]])
                elif one["sha256"]:
                    results.delivered(index, bytes.fromhex(one["sha256"]))
            return Manifest(tuple(entries), decode_base64url(stored["salt"])), results, placed
        except FileNotFoundError:
            raise Failure("not_readable", Detail("annex_missing")) from None
        except (ValueError, KeyError, TypeError, OSError):
            raise Failure("not_readable", Detail("annex_file", path=str(path))) from None
