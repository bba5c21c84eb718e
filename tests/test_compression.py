"""Compression: whatever goes in comes out, it pays, and no frame does harm."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import assume, example, given
from hypothesis import strategies as st

from p2p import compression
from p2p.compression import STORED, Compression, Method
from p2p.protocol import seal
from p2p.protocol.errors import PeerError
from p2p.protocol.seal import FILTER, HOLE, MAX_RANGE, PHASE, ZSTD, Payload
from p2p.protocol.signal import MAX_MESSAGE_SIZE
from tests.protocol.vectors import cases

COMPRESSIONS = [
    Compression(Method.COMPRESSED),
    Compression(Method.FILTERED, 0),
    Compression(Method.FILTERED, 1),
]
SOUND = [0, HOLE, ZSTD, ZSTD | FILTER, ZSTD | FILTER | PHASE]


def frame(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(1, **options).compress(data)


def slice_of_ct(seed: int = 0, size: int = 256) -> np.ndarray:
    """A body in air on a table of two tissues, with the noise that a reconstruction gives."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = np.where(x**2 / 0.7 + y**2 / 0.5 < 1, 40 + 30 * np.sin(5 * x) * np.cos(7 * y), -1000)
    body = np.where((x - 0.3) ** 2 + (y - 0.1) ** 2 < 0.04, -850, body)
    noise = random.normal(0, 12, (size, size))
    noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / np.sqrt(3)
    return np.where(x**2 + y**2 < 1, body + noise, -2000)


CT = slice_of_ct().astype("<i2").tobytes()
NOISE = np.random.default_rng(1).bytes(100_000)
TEXT = b"".join(b"%06d the patient was seen at %d\n" % (n, n * 7919) for n in range(3000))


def samples_of(data: bytes) -> list[tuple[int, bytes]]:
    """As a caller takes them: the beginning, the middle and the end."""
    size = min(compression.SAMPLE, len(data) // 3)
    return [(at, data[at : at + size]) for at in (0, len(data) // 2 | 1, len(data) - size)]


# --- what comes out ----------------------------------------------------------------------------


@cases("compression")
def test_ranges_follow_the_vectors(case):
    payload, expect = bytes.fromhex(case["payload"]), case["expect"]
    if "error" in expect:
        with pytest.raises(PeerError) as caught:
            compression.decompress(case["flags"], case["length"], payload)
        assert caught.value.code == expect["error"]
    else:
        data = compression.decompress(case["flags"], case["length"], payload)
        assert len(data) == (0 if case["flags"] == HOLE else case["length"])
        if "data" in expect:
            assert data.hex() == expect["data"]
        else:
            assert hashlib.sha256(data).hexdigest() == expect["sha256"]


some = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.builds(
        lambda data, times: data * times, st.binary(min_size=1, max_size=9), st.integers(1, 500)
    ),
    st.builds(
        lambda start, end: CT[start : start + end], st.integers(0, 90_000), st.integers(1, 3000)
    ),
)


def compressed(data: bytes, how: Compression, phase: int) -> tuple[int, bytes]:
    """The same, of what it pays for."""
    found = compression.compress(data, how, phase)
    assert found
    return found


@given(some, st.sampled_from(COMPRESSIONS), st.integers(0, 9))
@example(bytes(MAX_RANGE), COMPRESSIONS[0], 0)
@example(bytes(MAX_RANGE), COMPRESSIONS[1], 0)
@example(bytes(MAX_RANGE), COMPRESSIONS[2], 0)
@example(b"\x00\x80\xff\x7f" * 50, COMPRESSIONS[1], 0)
def test_what_is_pressed_comes_out_as_it_was(data, how, offset):
    phase = how.phase(offset)
    pressed = compression.compress(data, how, phase)
    if pressed is None:
        return
    flags, payload = pressed
    assert len(payload) < len(data)
    assert compression.decompress(flags, len(data), payload) == data
    filtered = how.method == Method.FILTERED
    assert flags == (ZSTD | (FILTER if filtered else 0) | (PHASE if filtered and phase else 0))


@given(some, st.integers(0, 1))
def test_the_filter_loses_nothing_and_keeps_the_length(data, phase):
    filtered = compression._filter(data, phase)
    assert len(filtered) == len(data)
    assert compression._unfilter(filtered, phase) == data
    assert compression._filter(compression._unfilter(data, phase), phase) == data


@given(some)
def test_what_is_stored_stays_as_it_is(data):
    assert compression.compress(data, STORED, 0) is None
    assert compression.decompress(0, len(data), data) == data


def test_a_frame_has_what_a_decoder_asks_for():
    flags, payload = compressed(CT, COMPRESSIONS[0], 0)
    found = zstandard.get_frame_parameters(payload)
    assert flags == ZSTD
    assert (found.content_size, found.window_size) == (len(CT), len(CT))
    assert (found.dict_id, found.has_checksum) == (0, False)


def test_the_longest_range_is_what_fits_a_message():
    assert MAX_RANGE == MAX_MESSAGE_SIZE - seal.OVERHEAD


def test_what_gains_too_little_is_sent_as_it_is():
    assert compression.compress(NOISE, COMPRESSIONS[0], 0) is None
    assert compression.compress(NOISE, COMPRESSIONS[1], 1) is None
    assert compression.compress(NOISE[:9800] + bytes(200), COMPRESSIONS[0], 0) is None
    assert compression.compress(NOISE[:9500] + bytes(500), COMPRESSIONS[0], 0) is not None
    assert compression.compress(b"x", COMPRESSIONS[0], 0) is None


def test_the_wrong_phase_costs_room_and_nothing_else():
    right, wrong = (compressed(CT, COMPRESSIONS[1], phase) for phase in (0, 1))
    assert len(right[1]) < 0.8 * len(wrong[1])
    assert compression.decompress(wrong[0], len(CT), wrong[1]) == CT


def test_threads_do_not_disturb_each_other():
    begun = threading.Barrier(4)

    def work(number: int) -> bool:
        data = bytes([number]) + CT + bytes([number] * 1000)
        begun.wait()
        for _ in range(20):
            how = COMPRESSIONS[number % 3]
            flags, payload = compressed(data, how, how.phase(number))
            if compression.decompress(flags, len(data), payload) != data:
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))


@pytest.mark.process
def test_numpy_is_not_loaded_before_it_is_needed() -> None:
    told = """
import os, sys
from p2p import compression
for data in (os.urandom(2000), bytes(2000)):
    found = compression.choose([(0, data)])
    compression.compress(data, found, 0)
    print(found.method.name, "numpy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["STORED", "False", "COMPRESSED", "False"]


def test_from_some_samples_on_numpy_filters_them(monkeypatch: pytest.MonkeyPatch) -> None:
    by_integers: list[int] = []
    was = compression._filter_by_integers

    def counted(data: bytes, phase: int) -> bytes:
        by_integers.append(phase)
        return was(data, phase)

    monkeypatch.setattr(compression, "_filter_by_integers", counted)
    monkeypatch.setattr(compression, "_filters", compression._Filters())
    found = {compression.choose(samples_of(CT)) for _ in range(compression.WITHOUT_NUMPY)}
    assert found == {Compression(Method.FILTERED, 0)}
    assert len(by_integers) == compression.WITHOUT_NUMPY


@given(data=st.binary(max_size=300), phase=st.sampled_from((0, 1)))
@example(data=b"\0\x80\xff\x7f\0\0\xff\xff\x01\0\0\x80", phase=0)
@example(data=CT[:50_000], phase=1)
@example(data=b"", phase=0)
def test_a_sample_is_filtered_as_a_range_is(data: bytes, phase: int) -> None:
    assume(phase <= len(data))
    assert compression._filter_by_integers(data, phase) == compression._filter(data, phase)


# --- what is chosen ----------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [0, 1, 132, 1001])
def test_sixteen_bit_samples_are_filtered_from_where_they_begin(begin):
    data = TEXT[:begin] + CT
    assert compression.choose(samples_of(data)) == Compression(Method.FILTERED, begin % 2)


@pytest.mark.parametrize("kind", ["<u2", "<i2"])
def test_twelve_bits_of_magnitudes_are_filtered(kind):
    values = np.clip(slice_of_ct(2) + 1024, 0, 4095)
    assert compression.choose(samples_of(values.astype(kind).tobytes())).method == Method.FILTERED


def test_the_filter_pays_on_pixels():
    sizes = [len(compressed(CT, one, 0)[1]) for one in COMPRESSIONS]
    assert sizes[1] < 0.75 * sizes[0]
    assert sizes[1] < len(CT) / 2.5


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (NOISE, Method.STORED),
        (frame(CT * 4), Method.STORED),
        (b"header " * 100 + NOISE, Method.STORED),
        (NOISE[:96_000] + bytes(4_000), Method.STORED),  # gains 4 % where it is looked at
        (TEXT, Method.COMPRESSED),
        (bytes(200_000), Method.COMPRESSED),
        (b"", Method.STORED),
        (b"x", Method.STORED),
        (b"\x00\x00", Method.STORED),
    ],
    ids=["noise", "frames", "header", "little", "text", "zeros", "nothing", "a byte", "two bytes"],
)
def test_what_is_no_samples_is_compressed_where_it_pays(data, kind):
    assert compression.choose(samples_of(data)).method == kind


def test_eight_bits_are_compressed_without_a_filter():
    random = np.random.default_rng(3)
    grey = np.clip(slice_of_ct(3, 512) / 8 + 128, 0, 255).astype(np.uint8)
    colours = random.integers(0, 256, (40, 3), np.uint8)[random.integers(0, 40, (60, 60))]
    palette = np.repeat(np.repeat(colours, 8, 0), 8, 1)
    for image in (grey, palette, (grey > 100).astype(np.uint8)):
        assert compression.choose(samples_of(image.tobytes())) == Compression(Method.COMPRESSED)


def test_real_images_are_told_apart(dicom):
    def chosen(name):
        return compression.choose([(0, (dicom / name).read_bytes())])

    assert chosen("CT_small.dcm") == Compression(Method.FILTERED, 0)
    assert chosen("MR_small.dcm") == Compression(Method.FILTERED, 0)
    assert chosen("examples_rgb_color.dcm").method == Method.COMPRESSED
    assert chosen("rtplan.dcm").method == Method.COMPRESSED
    assert chosen("examples_jpeg2k.dcm").method == Method.STORED


@given(st.lists(st.tuples(st.integers(0, 2**40), some), max_size=3))
def test_any_samples_give_one_answer(samples):
    assert compression.choose(samples) == compression.choose(samples)


def test_no_more_than_64_kib_of_a_sample_is_looked_at():
    assert compression.choose([(0, NOISE[: compression.SAMPLE] + bytes(10**6))]) == STORED


# --- what a hostile sender may say -------------------------------------------------------------


def given_or_refused(flags: int, length: int, payload: bytes) -> Payload | None:
    """None for a `PeerError`; any other exception is thrown on. Never more than was asked for."""
    try:
        data = compression.decompress(flags, length, payload)
    except PeerError:
        return None
    assert len(data) == (0 if flags == HOLE else length)
    return data


@given(st.integers(0, 255), st.integers(-1, 2**63), st.binary(max_size=300))
def test_any_bytes_are_a_range_or_are_refused(flags, length, payload):
    assert given_or_refused(flags, length, payload) is None or flags in SOUND


@given(st.sampled_from(SOUND[2:]), st.integers(1, 300), st.binary(max_size=300))
def test_any_blocks_behind_a_sound_header_are_a_range_or_are_refused(flags, length, blocks):
    header = b"\x28\xb5\x2f\xfd\xa0" + length.to_bytes(4, "little")
    given_or_refused(flags, length, header + blocks)


FRAMES = {
    "pixels": frame(compression._filter(CT[60_000:62_000], 0), write_checksum=True),
    "text": frame(TEXT[:2000]),
    "zeros": frame(bytes(2000)),
}


@pytest.mark.parametrize("payload", FRAMES.values(), ids=FRAMES)
def test_a_frame_that_is_cut_off_anywhere_is_refused(payload):
    assert given_or_refused(ZSTD, 2000, payload) is not None
    for end in range(len(payload)):
        assert given_or_refused(ZSTD, 2000, payload[:end]) is None


@pytest.mark.parametrize("payload", FRAMES.values(), ids=FRAMES)
def test_a_frame_with_any_bit_flipped_gives_its_length_or_is_refused(payload):
    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        given_or_refused(ZSTD | FILTER, 2000, bytes(flipped))


def test_a_checksum_that_does_not_hold_is_refused():
    payload = FRAMES["pixels"]
    original = compression.decompress(ZSTD, 2000, payload)
    for bit in range(8 * 9, 8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        assert given_or_refused(ZSTD, 2000, bytes(flipped)) in (None, original)


@given(st.integers(1, MAX_RANGE).filter(lambda length: length != 2000))
def test_another_length_than_the_declared_one_is_refused(length):
    for payload in FRAMES.values():
        assert given_or_refused(ZSTD, length, payload) is None


@given(st.binary(min_size=1, max_size=50))
def test_anything_behind_a_frame_is_refused(rest):
    assert given_or_refused(ZSTD, 2000, FRAMES["text"] + rest) is None


def test_a_frame_that_gives_less_than_it_declares_is_refused(monkeypatch):
    class Short:
        def decompress(self, payload, **how):
            return bytes(1999)

    monkeypatch.setattr(compression._frames, "decompressor", Short())
    assert given_or_refused(ZSTD, 2000, FRAMES["text"]) is None


def test_a_frame_made_with_a_dictionary_is_refused():
    dictionary = zstandard.ZstdCompressionDict(TEXT[:1000], zstandard.DICT_TYPE_RAWCONTENT)
    trained = zstandard.train_dictionary(
        2000, [TEXT[at : at + 200] for at in range(0, 90_000, 200)]
    )
    for one in (dictionary, trained):
        payload = frame(TEXT[:2000], dict_data=one)
        assert given_or_refused(ZSTD, 2000, payload) in (None, TEXT[:2000])
    assert zstandard.get_frame_parameters(payload).dict_id
    assert given_or_refused(ZSTD, 2000, payload) is None


def test_a_bomb_is_refused_before_it_takes_memory():
    bombs = [
        frame(bytes(200_000_000)),  # says what it is
        frame(bytes(200_000_000), write_content_size=False),
        b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + frame(bytes(1000))[6:],
        b"\x28\xb5\x2f\xfd\x80\xff" + MAX_RANGE.to_bytes(4, "little") + b"\x01\x00\x00",  # window
        # Says that it is a range, and goes on.
        b"\x28\xb5\x2f\xfd\xa0" + MAX_RANGE.to_bytes(4, "little") + b"\x02\x00\x10\x00" * 60_000,
    ]
    compression.decompress(ZSTD, 2000, FRAMES["text"])
    tracemalloc.start()
    try:
        for bomb in bombs:
            assert given_or_refused(ZSTD, MAX_RANGE, bomb) is None
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_RANGE
    finally:
        tracemalloc.stop()


# --- files that are mostly of a kind --------------------------------------------------------------

ONE, ANOTHER = Compression(Method.FILTERED), STORED


def looked_at(files):
    """What `Series` says of files, (folder, size, what a look finds), and which it looked at."""
    series, found, looked = compression.Series(), [], []
    for index, (folder, size, kind) in enumerate(files):

        def look(index=index, kind=kind):
            looked.append(index)
            return kind

        found.append(series.choose(folder, size, look))
    return found, looked


def test_of_files_of_a_kind_one_in_eight_is_looked_at():
    found, looked = looked_at([("a", 500_000, ONE)] * 40)
    assert found == [ONE] * 40
    assert looked == [0, 1, 8, 16, 24, 32]


def test_a_kind_that_changes_is_noticed_within_seven_files():
    found, looked = looked_at([("a", 500_000, ONE)] * 9 + [("a", 500_000, ANOTHER)] * 20)
    assert found == [ONE] * 16 + [ANOTHER] * 13
    assert looked == [0, 1, 8, 16, 17, 24]


def test_where_kinds_change_from_file_to_file_each_is_looked_at():
    files = [("a", 500_000, (ONE, ANOTHER)[index % 2]) for index in range(20)]
    assert looked_at(files) == ([kind for _, _, kind in files], list(range(20)))


def test_a_large_file_and_another_folder_are_looked_at():
    large = compression.MAX_IN_SERIES + 1
    files = (
        [("a", 9, ONE)] * 4 + [("a", large, ANOTHER)] + [("a", 9, ONE)] + [("b", 9, ANOTHER)] * 3
    )
    found, looked = looked_at(files)
    assert found == [kind for _, _, kind in files]
    assert looked == [0, 1, 4, 6, 7]
