"""What stays on this machine between transfers.

All of it lies under one folder, `HANDOVER_HOME` or the platform's place for such data, readable by
its owner alone. Files are replaced whole: written beside, synced, renamed.
"""

from __future__ import annotations

from pathlib import Path

from ..protocol.errors import Failure
from ..protocol.sentences import Detail, os_detail
from ..storage.durable import replace_whole
from .audit import AuditLog
from .contacts import Contacts
from .folder import Folder, default_path
from .identity import IdentityStore
from .receipts import ANNEXES, RECEIPTS, Receipts

TRANSFERS = "transfers"  # journals of what is unfinished


class Home:
    """The folder and everything in it."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: the data folder, or None for the default. Raises `Failure` (not_writable)."""
        self.path = (path or default_path()).absolute()  # whatever the working directory becomes
        try:
            for name in ("", RECEIPTS, ANNEXES, TRANSFERS):
                (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Failure("not_writable", Detail("home", why=os_detail(error))) from None
        folder = Folder(self.path)
        self.identity = IdentityStore(folder)
        self.contacts = Contacts(folder)
        self.receipts = Receipts(folder)
        self.audit = AuditLog(folder)

    def takes_files(self) -> bool:
        """Whether files can be written here."""
        try:
            for name in (RECEIPTS, ANNEXES, TRANSFERS):
                probe = self.path / name / ".probe"
                replace_whole(probe, bytes(65536))
                probe.unlink()
        except OSError:
            return False
        return True

    @property
    def local_ca(self) -> Path:
        """Where this machine's own certificate authority lies, if it has one."""
        return self.path / "local-ca"
