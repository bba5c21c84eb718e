"""Files held against what was verified: before they get their names, and years later."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..protocol.manifest import Manifest, Results
from ..protocol.sentences import Detail, os_detail
from .durable import NO_FOLLOW
from .strict import open_strictly


def compare(
    directory: Path, placed: dict[int, str], manifest: Manifest, results: Results
) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) of every delivered file below `directory` that is not as it was;
    `placed` has each entry's path there."""
    for index, entry in enumerate(manifest.entries):
        status, digest = results[index]
        path = directory / placed[index]
        if status:
            continue
        if entry.kind == "directory":
            if not path.is_dir():
                yield placed[index], Detail("folder_missing")
            continue
        try:
            with open(open_strictly(path, own=False), "rb") as file:
                if hashlib.file_digest(file, "sha256").digest() != digest:
                    yield placed[index], Detail("content_differs")
        except OSError as error:
            yield placed[index], os_detail(error)


def check_digest(name: str, folder: int, digest: bytes) -> None:
    """Raises `OSError` unless this file, below the folder of this descriptor, has this SHA-256."""
    with open(os.open(name, os.O_RDONLY | NO_FOLLOW, dir_fd=folder), "rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != digest:
            raise OSError(errno.EIO, "not what was verified")
