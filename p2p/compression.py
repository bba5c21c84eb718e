"""Compression: a range's bytes as one zstd frame (RFC 8878), 16-bit samples filtered first.

Pure; every function may be called from several threads, and both libraries let others run
meanwhile. A frame is looked at before anything is decompressed, so whatever it claims, no more
memory is used than the range's own length calls for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import zstandard

from .protocol.errors import PeerError
from .protocol.seal import FILTER, FLAGS, HOLE, MAX_RANGE, PHASE, ZSTD, Payload

SAMPLE = 64 * 1024  # looked at by `choose`; more of it changes no decision
LEVEL = 1  # higher ones gain little on pixels and are slower than a fast line
FILE_SHARE = 20  # a file is compressed if that saves a twentieth of it,
RANGE_SHARE = 33  # and one of its ranges if that saves about 3 %
SERIES, MAX_IN_SERIES = 8, 2 * 1024 * 1024  # files of which one is looked at, and bytes of each
WITHOUT_NUMPY = 256  # samples of 64 KiB: they take as long as half of loading it
_MAGIC = b"\x28\xb5\x2f\xfd"
_MIN_WINDOW = 1024


class Method(IntEnum):
    """What is done with a file's bytes."""

    STORED = 0
    COMPRESSED = 1
    FILTERED = 2  # 16-bit samples: differences first, then compressed


class Compression(NamedTuple):
    """How a file is compressed. `parity` is that of the offsets at which its samples begin."""

    method: Method
    parity: int = 0

    def phase(self, offset: int) -> int:
        """1 if the file's byte at `offset` is the second one of a sample, else 0."""
        return (offset ^ self.parity) & 1


STORED = Compression(Method.STORED)
_COMPRESSED = Compression(Method.COMPRESSED)
_FILTERED = Compression(Method.FILTERED, 0), Compression(Method.FILTERED, 1)


class _Frames(threading.local):
    """A thread's own zstd contexts: they must not be shared, and cost more to make than to use."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_frames = _Frames()


def choose(samples: Sequence[tuple[int, bytes]]) -> Compression:
    """How to compress a file, from a few stretches of it: (offset in the file, bytes).

    Of each, the first 64 KiB are tried in every way, some milliseconds. The same samples always
    give the same answer.
    """
    tried = [(offset, data[:SAMPLE]) for offset, data in samples if data]

    def size(data: Payload) -> int:
        return len(_frames.compressor.compress(data))

    total = sum(len(data) for _, data in tried)
    plain = sum(size(data) for _, data in tried)
    filtered, best = min(
        (sum(size(_filters.sample(data, one.phase(at))) for at, data in tried), one)
        for one in _FILTERED
    )
    if plain - filtered < max(plain // RANGE_SHARE, 1):  # not worth undoing
        filtered, best = plain, _COMPRESSED
    return best if total - filtered >= max(total // FILE_SHARE, 1) else STORED


class Series:
    """Files of a folder that are no larger than an image are mostly of a kind, and looking at each
    costs much of what sending it does. So one of a few is looked at, and where the last two of
    these came to the same, the next ones do as well.
    """

    def __init__(self) -> None:
        self._folder, self._count = "", 0
        self._last: Compression | None = None  # of those that were looked at
        self._agreed = False

    def choose(self, folder: str, size: int, look: Callable[[], Compression]) -> Compression:
        """How to compress the next file, of `size` bytes; `look` finds out."""
        if size > MAX_IN_SERIES:
            return look()
        if folder != self._folder:
            self._folder, self._count, self._last, self._agreed = folder, 0, None, False
        due = self._count % SERIES == 0
        self._count += 1
        if self._agreed and not due and self._last is not None:
            return self._last
        found = look()
        self._agreed, self._last = found == self._last, found
        return found


def compress(data: Payload, compression: Compression, phase: int) -> tuple[int, bytes] | None:
    """A range's flags and payload; None when it is better sent as it is.

    `phase` is `compression.phase` of the offset in the file at which the range begins.
    """
    if compression.method == Method.STORED:
        return None
    plain = _filter(data, phase) if compression.method == Method.FILTERED else data
    payload = _frames.compressor.compress(plain)
    if len(data) - len(payload) < max(len(data) // RANGE_SHARE, 1):
        return None
    if compression.method == Method.COMPRESSED:
        return ZSTD, payload
    return ZSTD | FILTER | (PHASE if phase else 0), payload


def decompress(flags: int, length: int, payload: Payload) -> Payload:
    """The `length` bytes of a range; none for a hole. Raises `PeerError`, and nothing else."""
    if flags not in FLAGS:
        raise PeerError("range_flags_malformed")
    if flags == HOLE:
        if payload or length < 1:
            raise PeerError("hole_length")
        return b""
    if not 1 <= length <= MAX_RANGE or not (flags or len(payload) == length):
        raise PeerError("range_length")
    if not flags:
        return payload
    _check_header(payload, length)
    try:
        data = _frames.decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError:
        raise PeerError("range_decompression_failed") from None
    if len(data) != length:  # the library holds a frame to its header; this is the last word
        raise PeerError("range_decompression_failed")
    return _unfilter(data, 1 if flags & PHASE else 0) if flags & FILTER else data


def _check_header(payload: Payload, length: int) -> None:
    """Refuse a frame that is not all that a range of `length` bytes needs (RFC 8878, 3.1.1.1)."""
    if len(payload) < 6 or payload[:4] != _MAGIC:  # skippable frames begin otherwise
        raise PeerError("range_not_zstd")
    descriptor = payload[4]
    if descriptor & 0b1011:  # one reserved bit, two for the size of a dictionary's id
        raise PeerError("zstd_frame_header")
    single = descriptor & 0b100000  # the window is then the content
    width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    begin = 5 if single else 6
    declared = int.from_bytes(payload[begin : begin + width], "little") + (256 * (width == 2))
    if width == 0 or declared != length:
        raise PeerError("zstd_content_size")
    if not single:
        window = (_MIN_WINDOW << (payload[5] >> 3)) // 8 * (8 + (payload[5] & 0b111))
        if window > length:
            raise PeerError("zstd_window_too_large")


def _filter(data: Payload, phase: int) -> bytes:
    """Differences of samples, small ones of either sign as small numbers, low and high apart."""
    import numpy as np  # here, for loading it takes 0.2 s of a core

    head, count = data[:phase], (len(data) - phase) // 2
    aligned = bytes(data[phase:]) if phase else data  # a copy where it would not be
    samples = np.frombuffer(aligned, "<u2", count)
    delta = np.empty(count, "<i2")
    np.subtract(samples[1:], samples[:-1], out=delta[1:].view("<u2"))
    delta[:1] = samples[:1].view("<i2")
    folded = ((delta << 1) ^ (delta >> 15)).view("<u2")
    low, high = folded.astype(np.uint8), (folded >> 8).astype(np.uint8)
    return b"".join((head, low.tobytes(), high.tobytes(), data[phase + 2 * count :]))


class _Filters:
    """Filters what `choose` looks at: the first few without numpy, which most transfers never need;
    from then on loading it pays."""

    def __init__(self) -> None:
        self._left = WITHOUT_NUMPY

    def sample(self, data: bytes, phase: int) -> bytes:
        """What `_filter` gives."""
        if not self._left:
            return _filter(data, phase)
        self._left -= 1  # two threads may count one: it does not matter
        return _filter_by_integers(data, phase)


_filters = _Filters()


def _filter_by_integers(data: bytes, phase: int) -> bytes:
    """What `_filter` gives, by integers of all samples at once; a third of a millisecond for
    64 KiB, where numpy takes a fifteenth of that."""
    count = (len(data) - phase) // 2
    end = phase + 2 * count
    ones = int.from_bytes(b"\x01\x00" * count, "little")  # 1 in each sample, ...
    signs = ones << 15  # ... the highest bit of each, ...
    others = signs - ones  # ... and all others
    samples = int.from_bytes(data[phase:end], "little")
    before = samples << 16 & (signs | others)
    # No sample borrows from the next one; the highest bits follow on their own.
    delta = ((samples | signs) - (before & others)) ^ ((samples ^ before ^ signs) & signs)
    negative = delta >> 15 & ones
    folded = (delta & others) << 1 ^ ((negative << 16) - negative)
    octets = folded.to_bytes(2 * count, "little")
    return b"".join((data[:phase], octets[::2], octets[1::2], data[end:]))


def _unfilter(data: bytes, phase: int) -> bytes:
    """What `_filter` was given."""
    import numpy as np

    count = (len(data) - phase) // 2
    octets = np.frombuffer(data, np.uint8)
    folded = octets[phase + count : phase + 2 * count].astype("<u2")
    folded <<= 8
    folded |= octets[phase : phase + count]
    delta = (folded >> 1) ^ (0 - (folded & 1))
    samples = np.add.accumulate(delta, dtype="<u2")
    return b"".join((data[:phase], samples.tobytes(), data[phase + 2 * count :]))
