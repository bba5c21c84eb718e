"""What is sent: random bytes, and a CT that is none of anybody's."""

from __future__ import annotations

import importlib.util
import math
import os
import statistics
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path

EDGE = 512  # pixels
AIR, TISSUE, SIGMA = 24, 1064, 12.0  # stored values (HU + 1024), and the noise of a thin slice


def random_file(path: Path, size: int) -> Path:
    """Random bytes, so that nothing on the way can make them smaller."""
    with path.open("wb") as file:
        left = size
        while left:
            left -= file.write(os.urandom(min(left, 1 << 20)))
    return path


def random_folder(path: Path, files: int, size: int) -> Path:
    """As many files of this size."""
    path.mkdir()
    for number in range(files):
        (path / f"{number:05d}.dcm").write_bytes(os.urandom(size))
    return path


def ct_folder(path: Path, slices: int, pixels: Callable[[int, int], bytes] | None = None) -> Path:
    """An uncompressed series of 512 x 512 pixels of 16 bit: a body in air, with Gaussian noise all
    over the scanner's circle and nothing outside of it; or what `pixels(number, slices)` gives."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    path.mkdir()
    study, series = generate_uid(), generate_uid()
    for number in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.Modality, one.PatientID, one.InstanceNumber = "CT", "BENCHMARK", number
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.Rows = one.Columns = EDGE
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleIntercept, one.RescaleSlope = -1024, 1
        one.PixelData = (pixels or _pixels)(number, slices)
        one.save_as(path / f"IM{number:05d}.dcm", enforce_file_format=True)
    return path


def _noise(middle: int) -> list[int]:
    """The value of each of 256 equally likely steps: random bytes become Gaussian noise."""
    spread = statistics.NormalDist(middle, SIGMA)
    return [max(0, round(spread.inv_cdf((step + 0.5) / 256))) for step in range(256)]


def _pixels(number: int, slices: int) -> bytes:
    air, tissue = _noise(AIR), _noise(TISSUE)
    half = EDGE // 2
    width = half * (0.7 + 0.15 * math.sin(math.pi * number / slices))  # of the body
    pixels = array("h")
    for row in range(EDGE):
        y = row - half + 0.5
        seen = int(math.sqrt(half**2 - y**2))  # half of the row that the scanner sees
        body = int(width * math.sqrt(max(0.0, 1 - (y / (0.7 * half)) ** 2)))
        dice = os.urandom(2 * seen)
        pixels.extend([0] * (half - seen))
        pixels.extend(map(air.__getitem__, dice[: seen - body]))
        pixels.extend(map(tissue.__getitem__, dice[seen - body : seen + body]))
        pixels.extend(map(air.__getitem__, dice[seen + body :]))
        pixels.extend([0] * (half - seen))
    return pixels.tobytes()


def dicom_samples() -> Path | None:
    """The DICOM files that ship with pydicom: 176 of many kinds, most of them small."""
    found = importlib.util.find_spec("pydicom")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "data" / "test_files"


def total(path: Path) -> int:
    """Bytes in a file, or in all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files if one.is_file())


def squeezed(path: Path) -> float:
    """How many times smaller zlib's quickest level makes a folder, file by file."""
    files = [one for one in path.rglob("*") if one.is_file()]
    return total(path) / sum(len(zlib.compress(one.read_bytes(), 1)) for one in files)


def set_aside(folder: Path, place: Path) -> None:
    """Free what many files take, but let them be, until `place` goes: ext4 gives no inode anew that
    was freed within the last minute, and looks at all of those for each file that is made."""
    for one in folder.rglob("*"):
        if one.is_file():
            os.truncate(one, 0)
    folder.rename(place / f"aside-{os.urandom(8).hex()}")
