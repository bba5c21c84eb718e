"""Two machines for every test."""

from __future__ import annotations

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
