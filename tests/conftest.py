"""What is sent, in tests of the command line and of the page alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from p2p.lanes.webrtc import available

from .confined import confine, die_with_parent


def pytest_configure(config):
    """Nothing outlives the tests, even when they are killed; and no test is one of speed."""
    slow = [HealthCheck.too_slow]
    settings.register_profile("untimed", deadline=None, suppress_health_check=slow)
    settings.load_profile("untimed")
    confine()
    if hasattr(config, "workerinput"):
        die_with_parent()


@pytest.fixture(params=available())
def engine(request):
    """Each WebRTC engine that is installed, in turn: for Python 3.11 there is only one."""
    return request.param


@pytest.fixture(scope="session")
def dicom():
    """The DICOM files that ship with pydicom: 176 of many kinds."""
    found = importlib.util.find_spec("pydicom")
    assert found
    assert found.origin
    return Path(found.origin).parent / "data" / "test_files"


@pytest.fixture
def some(tmp_path):
    """A small folder to send."""
    root = tmp_path / "study"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.dcm").write_bytes(bytes([number]) * 50_000)
    return root
