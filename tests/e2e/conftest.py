"""Two machines for every test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from .harness import Peer


@pytest.fixture
def sender(tmp_path):
    peer = Peer(tmp_path / "sender")
    yield peer
    peer.close()


@pytest.fixture
def recipient(tmp_path):
    peer = Peer(tmp_path / "recipient")
    yield peer
    peer.close()


@pytest.fixture
def third(tmp_path):
    peer = Peer(tmp_path / "third")
    yield peer
    peer.close()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(scope="session")
def dicom():
    """The DICOM files that ship with pydicom: 176 of many kinds."""
    return Path(importlib.util.find_spec("pydicom").origin).parent / "data" / "test_files"


@pytest.fixture
def some(tmp_path):
    """A small folder to send."""
    root = tmp_path / "study"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.dcm").write_bytes(bytes([number]) * 50_000)
    return root
