"""A server's TLS from PEM that is held in memory."""

from __future__ import annotations

import os
import ssl
import tempfile
from typing import IO, Any

_DESCRIPTORS = "/proc/self/fd"


def server_context(pem: bytes) -> ssl.SSLContext:
    """What a server listens with. `pem` is its certificate chain, the server's own first, and the
    private key. Raises `ssl.SSLError`, `OSError`; `KeyLocked` for a key with a passphrase."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with _nowhere() as file:  # the ssl module takes certificates from files only
        file.write(pem)
        file.flush()
        memory = isinstance(file.name, int)
        name = f"{_DESCRIPTORS}/{file.name}" if memory else file.name
        context.load_cert_chain(name, password=_no_passphrase)
    return context


class KeyLocked(ValueError):
    """The private key has a passphrase."""


def _no_passphrase() -> str:
    """In the place of OpenSSL, which would ask at the terminal."""
    raise KeyLocked


def _nowhere() -> IO[bytes] | Any:
    """A file in memory; where the system has none, one that is 0600 and gone at once."""
    if hasattr(os, "memfd_create") and os.path.isdir(_DESCRIPTORS):
        return os.fdopen(os.memfd_create("handover"), "wb")
    return tempfile.NamedTemporaryFile()
