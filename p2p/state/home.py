"""What stays on this machine between transfers.

All of it lies under one folder, `HANDOVER_HOME` or the platform's place for such data, readable by
its owner alone. Files are replaced whole: written beside, synced, renamed. What lies there is
replaced and removed one day, so a folder that holds anything else is refused: it has to be empty,
or to carry our mark.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..protocol.errors import Failure
from ..protocol.paths import shown
from ..storage.durable import replace_whole
from .audit import FILE as AUDIT
from .audit import AuditLog
from .checkpoints import Checkpoints, Witnessed
from .contacts import FILE as CONTACTS
from .contacts import Contacts
from .folder import Folder, default_path, unwritable
from .forwarding import Forwarded
from .identity import FILE as IDENTITY
from .identity import IdentityStore
from .receipts import ANNEXES, RECEIPTS, Receipts

TRANSFERS = "transfers"  # journals of what is unfinished
MARK = "handover-data"  # this file says that the folder is Handover's
MARK_TEXT = b"This folder belongs to Handover, which replaces and removes what lies in it.\n"
NOT_CONTENT = {"lost+found"}  # of an empty file system
LOCAL_CA = "local-ca"


class Home:
    """The folder and everything in it."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: the data folder, or None for the default. Raises `Failure` (home_unwritable,
        home_foreign)."""
        self.path = (path or default_path()).absolute()  # whatever the working directory becomes
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim()
            for name in (RECEIPTS, ANNEXES, TRANSFERS):
                inside = self.path / name
                inside.mkdir(mode=0o700, exist_ok=True)
                if not stat.S_ISDIR(inside.lstat().st_mode):  # a link to one
                    raise Failure("home_foreign", shown(str(inside), 256))
        except OSError as error:
            raise unwritable(error) from None
        folder = Folder(self.path)
        self.audit = AuditLog(folder)
        self.identity = IdentityStore(folder, self.audit)
        self.contacts = Contacts(folder, self.audit)
        self.receipts = Receipts(folder)
        self.checkpoints = Checkpoints(folder)
        self.witnessed = Witnessed(folder)
        self.forwarded = Forwarded(folder)

    def _claim(self) -> None:
        """Mark the folder as ours. Raises `Failure` when it holds anything else, and `OSError`."""
        if self._is_marked():
            return
        content = {one.name for one in self.path.iterdir()} - NOT_CONTENT
        # Another process may have marked it meanwhile: the mark is always the first that is there.
        if content and not self._is_marked() and not self._is_of_0_1(content):
            raise Failure("home_foreign", shown(str(self.path), 256))
        with suppress(FileExistsError), open(self.path / MARK, "xb") as mark:
            mark.write(MARK_TEXT)
            mark.flush()
            os.fsync(mark.fileno())

    def _is_marked(self) -> bool:
        try:
            return stat.S_ISREG((self.path / MARK).lstat().st_mode)
        except FileNotFoundError:
            return False

    def _is_of_0_1(self, content: set[str]) -> bool:
        """Whether version 0.1 made the folder, which left no mark: its own three folders, and
        nothing but what it kept there."""
        folders = {RECEIPTS, ANNEXES, TRANSFERS}
        own = folders | {IDENTITY, CONTACTS, AUDIT, LOCAL_CA, ".lock"}
        return folders <= content <= own

    def check(self) -> None:
        """Raises `Failure` (home_unwritable) where no files can be written here."""
        try:
            for name in (RECEIPTS, ANNEXES, TRANSFERS):
                probe = self.path / name / ".probe"
                try:
                    replace_whole(probe, bytes(65536))
                finally:
                    probe.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(error) from None

    def takes_files(self) -> bool:
        """Whether files can be written here."""
        try:
            self.check()
        except Failure:
            return False
        return True

    @property
    def local_ca(self) -> Path:
        """Where this machine's own certificate authority lies, if it has one."""
        return self.path / LOCAL_CA
