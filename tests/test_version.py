"""One version, in everything that tells it to somebody."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from p2p.running import SOFTWARE

import signaling
from p2p.version import VERSION


def test_the_package_the_command_line_and_the_page_say_the_same():
    assert metadata.version("handover") == VERSION
    assert f"handover/{VERSION}" == SOFTWARE
    scripts = (Path(signaling.__file__).parent / "web" / "assets").glob("*.js")
    assert any(f"handover-web/{VERSION}" in script.read_text() for script in scripts)
