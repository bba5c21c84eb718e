"""What a person pastes or types at a terminal in raw mode. No I/O here."""

from __future__ import annotations

import re

# Bracketed paste (xterm, Ctlseqs: "Bracketed Paste Mode"): the terminal says where a paste ends.
ASK, LEAVE = "\x1b[?2004h", "\x1b[?2004l"
_START, _END = b"\x1b[200~", b"\x1b[201~"
_PASTE = re.compile(re.escape(_START) + b".*?(?:" + re.escape(_END) + b"|$)", re.DOTALL)
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)?")  # arrows and the like
_ERASED = re.compile(r"[^\x7f\x08\n]?[\x7f\x08]")
_LINE_ERASED = re.compile(r"[^\n]*\x15")


class Pasted:
    """Take in what was read, until it has `ended` or was `cancelled`."""

    def __init__(self) -> None:
        self._data = b""

    def take(self, data: bytes) -> None:
        """More of it."""
        self._data += data

    @property
    def pasting(self) -> bool:
        """Whether a paste has begun whose end has not come."""
        return self._data.rfind(_START) > self._data.rfind(_END)

    @property
    def ended(self) -> bool:
        """Whether the person pressed Enter; a line break in a paste is none."""
        return not self.pasting and bool(re.search(b"[\r\n]", self._typed))

    @property
    def cancelled(self) -> bool:
        """Whether the person pressed Ctrl-C or Ctrl-D."""
        return bool(re.search(b"[\x03\x04]", self._typed))

    @property
    def text(self) -> str:
        """All of it, with what was erased gone."""
        text = self._data.replace(_START, b"").replace(_END, b"").decode(errors="replace")
        text = _LINE_ERASED.sub("", _SEQUENCE.sub("", text))
        while (shorter := _ERASED.sub("", text)) != text:
            text = shorter
        return text

    @property
    def _typed(self) -> bytes:
        return _PASTE.sub(b"", self._data)
