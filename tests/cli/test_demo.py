"""What the demo sends: DICOM files, and nobody's."""

from __future__ import annotations

import pydicom
import pytest

from p2p.cli import phantom


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "CT"
    phantom.write(folder)
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_every_file_is_a_slice_of_one_ct(instances):
    assert len(instances) == phantom.SLICES
    assert {one.SOPClassUID for one in instances} == {pydicom.uid.CTImageStorage}
    for uid in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({one[uid].value for one in instances}) == 1
    assert len({one.SOPInstanceUID for one in instances}) == phantom.SLICES
    assert [one.InstanceNumber for one in instances] == [*range(1, phantom.SLICES + 1)]
    for one in instances:
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert all(uid.is_valid for uid in (one.SOPInstanceUID, one.StudyInstanceUID))


def test_a_slice_shows_a_head_in_air(instances):
    middle = instances[phantom.SLICES // 2].pixel_array
    assert middle.shape == (phantom.EDGE, phantom.EDGE)
    for row, expected in ((256, phantom.BRAIN), (0, phantom.AIR)):
        assert abs(middle[row, 256 - 20 : 256 + 20].mean() - expected) < phantom.NOISE


def test_pydicom_writes_the_same_bytes(instances, tmp_path):
    """So lengths, padding and the order of the elements are those of the standard."""
    for one in instances[:2]:
        again = tmp_path / "again.dcm"
        one.save_as(again, enforce_file_format=False)
        with open(one.filename, "rb") as file:
            assert again.read_bytes() == file.read()
