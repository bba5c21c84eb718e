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

# libsodium itself: PyNaCl's own functions copy every range three times.
from nacl._sodium import ffi, lib

from .codec import MAX_INTEGER
from .errors import PeerError
from .signal import MAX_MESSAGE_SIZE

TRANSFER_ID = 16
_HEADER = struct.Struct(">16sBBQQ")  # transfer, stream, flags, offset, length
HEADER, SEAL = _HEADER.size, bindings.crypto_box_SEALBYTES  # 34, 48
OVERHEAD = SEAL + HEADER  # what stands before the payload
MAX_RANGE = MAX_MESSAGE_SIZE - OVERHEAD  # true bytes: a range fits a message uncompressed, too
# Flags: nothing but zeros and no payload; the payload is one zstd frame, of 16-bit samples that
# were filtered, the range's first byte being the second one of a sample.
HOLE, ZSTD, FILTER, PHASE = 0x01, 0x02, 0x04, 0x08
FLAGS = frozenset({0, HOLE, ZSTD, ZSTD | FILTER, ZSTD | FILTER | PHASE})
_STREAM_VALUES = range(3)
Message = bytes | bytearray  # a sealed range
Payload = bytes | bytearray | memoryview


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


def with_headroom(payload: Payload) -> bytearray:
    """OVERHEAD zeros, and then the payload: what can be sealed in place."""
    message = bytearray(OVERHEAD + len(payload))
    message[OVERHEAD:] = payload
    return message


def seal_range(session_key: bytes, header: Header, message: bytearray) -> bytearray:
    """Make one message for a lane of what is OVERHEAD bytes of headroom and the payload, in place.

    `session_key` is x_R, 32 bytes, public. Raises `ValueError` for one that is no point.
    """
    _HEADER.pack_into(message, SEAL, *header)
    box = ffi.from_buffer(message)
    # A secret box may be made where its content lies (libsodium, `crypto_secretbox_easy`); a
    # sealed one is that behind an ephemeral key.
    if lib.crypto_box_seal(box, box + SEAL, len(message) - SEAL, session_key) != 0:
        raise ValueError("not a key")
    return message


class Opener:
    """Opens what is sealed to a session key whose private half is `private` (32 bytes)."""

    def __init__(self, private: bytes) -> None:
        self._private = private
        self._public = bindings.crypto_scalarmult_base(private)

    def open(self, message: Message) -> tuple[Header, memoryview]:
        """The header and the payload of a message, as it was sent. Raises `PeerError`.

        A bytearray is opened in place: it then belongs to the payload.
        """
        if len(message) < OVERHEAD:
            raise PeerError("range_too_short")
        if isinstance(message, bytes):
            message = bytearray(message)
        box = ffi.from_buffer(message)
        opened = box + SEAL
        if lib.crypto_box_seal_open(opened, box, len(message), self._public, self._private) != 0:
            raise PeerError("range_not_authentic")
        transfer_id, stream, flags, offset, length = _HEADER.unpack_from(message, SEAL)
        if stream not in _STREAM_VALUES or flags not in FLAGS or max(offset, length) > MAX_INTEGER:
            raise PeerError("range_header_malformed")
        payload = memoryview(message)[OVERHEAD:]
        if flags == 0:
            fits = len(payload) == length > 0
        else:
            fits = length > 0 and bool(payload) == (flags != HOLE)
        if not fits or (flags != HOLE and length > MAX_RANGE):
            raise PeerError("range_length")
        if flags and stream != Stream.DATA:
            raise PeerError("range_flags_not_allowed")
        return Header(transfer_id, Stream(stream), flags, offset, length), payload
