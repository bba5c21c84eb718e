"""The one strict reader of files that this program keeps for itself: in its data folder, and of its
certificates.

Whatever lies there is held to be foreign until it was checked: a backup, another program or another
user may have put it there.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

from ..protocol.errors import Failure
from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from .durable import CLOSE_ON_EXEC, NO_FOLLOW, NON_BLOCKING

BINARY = getattr(os, "O_BINARY", 0)  # else Windows reads text
READ_AT_ONCE = 1024 * 1024


class Exposed(OSError):
    """Others can change a file, or read a secret one."""

    def __init__(self) -> None:
        super().__init__(errno.EPERM, Detail("exposed"))


def open_strictly(
    path: Path, flags: int = os.O_RDONLY, *, own: bool = True, secret: bool = False
) -> int:
    """The descriptor of an ordinary file, which no link, pipe or device is. `own`: this user's,
    which nobody else can change or, if it is `secret`, read; where the system knows such modes.
    Raises `OSError`, `Exposed`."""
    try:
        extra = (NO_FOLLOW if own else 0) | NON_BLOCKING | CLOSE_ON_EXEC | BINARY
        file = os.open(path, flags | extra, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise OSError(error.errno, Detail("no_ordinary_file")) from None
        raise
    try:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, Detail("no_ordinary_file"))
        if own and hasattr(os, "geteuid"):
            if info.st_uid != os.geteuid():
                raise OSError(errno.EPERM, Detail("of_another_user"))
            if info.st_mode & (0o077 if secret else 0o022):
                raise Exposed
    except BaseException:
        os.close(file)
        raise
    return file


def read_strictly(path: Path, limit: int, *, own: bool = True, secret: bool = False) -> bytes:
    """The content of such a file, of at most `limit` bytes. Raises `OSError`, `Exposed`."""
    with open(open_strictly(path, own=own, secret=secret), "rb") as stream:
        data = bytearray()
        too_large = os.fstat(stream.fileno()).st_size > limit
        while not too_large and (some := stream.read(READ_AT_ONCE)):
            data += some
            too_large = len(data) > limit  # it may be growing
    if too_large:
        raise OSError(errno.EFBIG, Detail("too_large"))
    return bytes(data)


def unusable(path: Path, kind: str, error: OSError | None = None) -> Failure:
    """What it means that a file of the data folder cannot be read, or is not what it has to be."""
    if isinstance(error, Exposed):
        return Failure("exposed", shown(shlex.quote(str(path)), 1024))
    why = os_detail(error) if error else Detail("damaged")
    file = Detail(kind, path=shown(str(path), 1024))
    return Failure("not_readable", Detail("unusable", file=file, why=why))
