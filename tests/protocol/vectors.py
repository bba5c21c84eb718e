"""Reads `tests/vectors/`; the same files are run by the TypeScript implementation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

VECTORS = Path(__file__).parent.parent / "vectors"
Test = TypeVar("Test", bound=Callable[..., object])


def cases(name: str) -> Callable[[Test], Test]:
    """A decorator that runs a test once for each case of a file."""
    found = json.loads((VECTORS / f"{name}.json").read_text())
    assert found
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])
