"""Loads aiortc where `av` is not installed: FFmpeg, a hundred megabytes for sound and pictures.

aiortc imports it in many places and takes it for granted; data channels need nothing of it. It
comes with every installation. Whoever removes it, for its size or for what scanners find in it,
loses nothing here.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MEDIA = "av"


class _Hollow(ModuleType):
    """Has a class of every name, for annotations; none does anything."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def __init__(self) -> None:
        self.made: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != MEDIA:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.made.append(spec.name)
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


@contextlib.contextmanager
def media_optional() -> Iterator[None]:
    """Imports of `av` succeed meanwhile; where it is installed, they give what is installed."""
    finder = _Finder()
    sys.meta_path.append(finder)  # asked last
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:  # nobody else is to take it for the real one
            sys.modules.pop(name, None)
