"""A made-up CT for the demo: a head that is nobody's, as DICOM files (PS3.10)."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np

SLICES, EDGE = 24, 512  # pixels; what a scanner makes
MILLIMETRES = 5  # from slice to slice
CT, EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
IMPLEMENTATION = "2.25.118524567742039801776098120765482930615"  # of this writer
AIR, BRAIN, BONE, NOISE = -1000, 35, 900, 12  # HU
LONG = {"OB", "OW"}  # these have a length of four bytes (PS3.5, 7.1.2)

Element = tuple[int, str, str | int | bytes]  # tag, value representation, value


def write(folder: Path) -> None:
    """Make `folder`, with one file for each slice."""
    folder.mkdir(parents=True)
    study, series, frame = _uid(), _uid(), _uid()
    for number in range(SLICES):
        instance = _uid()
        image: tuple[Element, ...] = (
            (0x0008_0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
            (0x0008_0016, "UI", CT),
            (0x0008_0018, "UI", instance),
            (0x0008_0020, "DA", "20260101"),
            (0x0008_0030, "TM", "120000"),
            (0x0008_0050, "SH", ""),  # accession number
            (0x0008_0060, "CS", "CT"),
            (0x0008_0070, "LO", ""),  # manufacturer
            (0x0008_0090, "PN", ""),  # referring physician
            (0x0010_0010, "PN", "Phantom^Demo"),
            (0x0010_0020, "LO", "DEMO"),
            (0x0010_0030, "DA", ""),  # birth date
            (0x0010_0040, "CS", "O"),  # sex: other
            (0x0018_0050, "DS", f"{MILLIMETRES}"),  # slice thickness
            (0x0018_0060, "DS", ""),  # kVp
            (0x0018_5100, "CS", "HFS"),  # lies on the back, head first
            (0x0020_000D, "UI", study),
            (0x0020_000E, "UI", series),
            (0x0020_0010, "SH", "1"),  # study id
            (0x0020_0011, "IS", "1"),  # series number
            (0x0020_0012, "IS", ""),  # acquisition number
            (0x0020_0013, "IS", f"{number + 1}"),  # instance number
            (0x0020_0032, "DS", f"-120\\-120\\{number * MILLIMETRES}"),  # position
            (0x0020_0037, "DS", "1\\0\\0\\0\\1\\0"),  # orientation
            (0x0020_0052, "UI", frame),
            (0x0020_0060, "CS", ""),  # laterality
            (0x0020_1040, "LO", ""),  # position reference
            (0x0028_0002, "US", 1),  # samples per pixel
            (0x0028_0004, "CS", "MONOCHROME2"),
            (0x0028_0010, "US", EDGE),  # rows
            (0x0028_0011, "US", EDGE),  # columns
            (0x0028_0030, "DS", "0.46875\\0.46875"),  # pixel spacing
            (0x0028_0100, "US", 16),  # bits allocated
            (0x0028_0101, "US", 16),  # bits stored
            (0x0028_0102, "US", 15),  # high bit
            (0x0028_0103, "US", 1),  # signed
            (0x0028_1050, "DS", "40"),  # window centre
            (0x0028_1051, "DS", "80"),  # window width
            (0x0028_1052, "DS", "0"),  # rescale intercept
            (0x0028_1053, "DS", "1"),  # rescale slope
            (0x0028_1054, "LO", "HU"),
            (0x7FE0_0010, "OW", _pixels(number)),
        )
        about: tuple[Element, ...] = (
            (0x0002_0001, "OB", b"\0\1"),
            (0x0002_0002, "UI", CT),
            (0x0002_0003, "UI", instance),
            (0x0002_0010, "UI", EXPLICIT_LITTLE_ENDIAN),
            (0x0002_0012, "UI", IMPLEMENTATION),
        )
        meta = _encoded(about)
        length = _encoded([(0x0002_0000, "UL", len(meta))])
        file = folder / f"IM{number + 1:04d}.dcm"
        file.write_bytes(b"".join([bytes(128), b"DICM", length, meta, _encoded(image)]))


def _uid() -> str:
    return f"2.25.{uuid.uuid4().int}"  # PS3.5, B.2


def _encoded(elements: Iterable[Element]) -> bytes:
    parts = []
    for tag, kind, value in elements:
        if isinstance(value, int):
            data = struct.pack("<H" if kind == "US" else "<I", value)
        else:
            data = value if isinstance(value, bytes) else value.encode("ascii")
        data += (b"\0" if kind == "UI" else b" ") * (len(data) % 2)
        length = struct.pack("<2xI" if kind in LONG else "<H", len(data))
        parts += [struct.pack("<HH", tag >> 16, tag & 0xFFFF), kind.encode(), length, data]
    return b"".join(parts)


def _pixels(number: int) -> bytes:
    """One slice of an egg of bone, filled with brain, and a scanner's noise over all of it."""
    z = (number - SLICES / 2) / (0.55 * SLICES)
    y, x = np.ogrid[-1 : 1 : EDGE * 1j, -1 : 1 : EDGE * 1j]
    radius = np.sqrt((x / 0.7) ** 2 + (y / 0.85) ** 2 + z**2)
    tissue = np.select([radius < 0.9, radius < 1], [BRAIN, BONE], AIR)
    noise = np.random.default_rng(number).normal(0, NOISE, tissue.shape)
    pixels: bytes = (tissue + noise).round().astype("<i2").tobytes()
    return pixels
