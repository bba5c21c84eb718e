"""Keyrings as computers have them that are no good; named by `PYTHON_KEYRING_BACKEND`."""

from __future__ import annotations

import time
from typing import ClassVar

from keyring.backend import KeyringBackend


class Forgetful(KeyringBackend):
    """Takes everything and keeps nothing."""

    priority: ClassVar[float] = 5

    def get_password(self, service: str, username: str) -> str | None:
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        pass

    def delete_password(self, service: str, username: str) -> None:
        pass


class Hanging(Forgetful):
    """Asks somebody who is not there."""

    def set_password(self, service: str, username: str, password: str) -> None:
        time.sleep(60)


class Broken(Forgetful):
    """Fails in a way of its own."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError("no such object path")


class Open(Forgetful):
    """Keeps things in the clear, and says so by its priority."""

    priority: ClassVar[float] = 0.5
    kept: ClassVar[dict[str, str]] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[username] = password
