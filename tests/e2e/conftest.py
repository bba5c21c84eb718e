"""Two machines for every test."""

from __future__ import annotations

import contextlib

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
def machine():
    """Makes others, at a home of any kind."""
    with contextlib.ExitStack() as closing:
        yield lambda home: closing.enter_context(contextlib.closing(Peer(home)))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"
