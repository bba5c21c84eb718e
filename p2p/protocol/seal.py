"""Sealed ranges: every stretch of file data in its own NaCl sealed box, its header inside.

`crypto_box_seal` (X25519, XSalsa20-Poly1305) to the recipient's session key: nothing to derive,
store or erase, and once sealed not even the sender can open it. Who sealed it, the box does not
say; the channel it came through and the signed closing do (PROTOCOL.md, Ranges).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

from .codec import MAX_INTEGER
from .errors import PeerError
from .signal import MAX_MESSAGE_SIZE

TRANSFER_ID = 16
_HEADER = struct.Struct(">16sBBQQ")  # transfer, stream, flags, offset, length
HEADER = _HEADER.size
OVERHEAD = bindings.crypto_box_SEALBYTES + HEADER  # 48 + 34
MAX_RANGE = MAX_MESSAGE_SIZE - OVERHEAD  # true bytes: a range fits a message uncompressed, too
# Flags: nothing but zeros and no payload; the payload is one zstd frame, of 16-bit samples that
# were filtered, the range's first byte being the second one of a sample.
HOLE, ZSTD, FILTER, PHASE = 0x01, 0x02, 0x04, 0x08
FLAGS = frozenset({0, HOLE, ZSTD, ZSTD | FILTER, ZSTD | FILTER | PHASE})
_STREAM_VALUES = range(3)


class Stream(IntEnum):
    """What a range belongs to; each stream has its own offsets and acknowledgements."""

    MANIFEST = 0
    DATA = 1
    DIGESTS = 2


class Header(NamedTuple):
    """What a range is. `length` counts true bytes; a hole has a length and no payload."""

    transfer_id: bytes
    stream: Stream
    flags: int
    offset: int
    length: int

    @property
    def hole(self) -> bool:
        """Whether it is nothing but zeros."""
        return bool(self.flags & HOLE)

    @property
    def end(self) -> int:
        """The offset behind the range."""
        return self.offset + self.length

    @property
    def key(self) -> tuple[Stream, int]:
        """What tells a range from every other."""
        return self.stream, self.offset


def seal_range(session_key: bytes, header: Header, payload: bytes) -> bytes:
    """One message for a lane. `session_key` is x_R, 32 bytes, public."""
    head = _HEADER.pack(*header)
    return bindings.crypto_box_seal(head + payload, session_key)


class Opener:
    """Opens what is sealed to a session key whose private half is `private` (32 bytes)."""

    def __init__(self, private: bytes) -> None:
        self._private = private
        self._public = bindings.crypto_scalarmult_base(private)

    def open(self, message: bytes) -> tuple[Header, bytes]:
        """The header and the payload of a message, as it was sent. Raises `PeerError`."""
        if len(message) < OVERHEAD:
            raise PeerError("a range is too short")
        try:
            plain = bindings.crypto_box_seal_open(message, self._public, self._private)
        except CryptoError:
            raise PeerError("a range does not open") from None
        transfer_id, stream, flags, offset, length = _HEADER.unpack_from(plain)
        if stream not in _STREAM_VALUES or flags not in FLAGS or max(offset, length) > MAX_INTEGER:
            raise PeerError("a range has a malformed header")
        payload = plain[HEADER:]
        if flags == 0:
            fits = len(payload) == length > 0
        else:
            fits = length > 0 and bool(payload) == (flags != HOLE)
        if not fits or (flags != HOLE and length > MAX_RANGE):
            raise PeerError("a range has a wrong length")
        if flags and stream != Stream.DATA:
            raise PeerError("a hole or compression where there can be none")
        return Header(transfer_id, Stream(stream), flags, offset, length), payload
