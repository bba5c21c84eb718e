"""What stands in for `av` where it is missing, and only there."""

from __future__ import annotations

import importlib
import sys

import pytest

from p2p.lanes.webrtc import no_media
from p2p.lanes.webrtc.no_media import media_optional


def test_every_name_of_a_missing_package_is_found_and_nothing_of_it_stays(monkeypatch):
    monkeypatch.setattr(no_media, "MEDIA", "media_that_is_missing")
    with media_optional():
        frame = importlib.import_module("media_that_is_missing.video.frame")
        assert isinstance(frame.VideoFrame, type)
        with pytest.raises(ImportError):
            importlib.import_module("something_else_that_is_missing")
    assert not [name for name in sys.modules if name.startswith("media_that")]
    with pytest.raises(ImportError):
        importlib.import_module("media_that_is_missing")


def test_what_is_installed_is_what_is_imported(monkeypatch):
    monkeypatch.setattr(no_media, "MEDIA", "colorsys")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with media_optional():
        assert importlib.import_module("colorsys").__file__
    assert "colorsys" in sys.modules
