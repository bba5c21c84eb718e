"""Annexes sealed at rest: to a key whose private half lies in the keyring of the operating system.

Sealing takes the public half alone, which lies in the data folder: so it works where nobody is
logged in. Opening takes the keyring, and so this user on this computer.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from ..protocol.codec import (
    base64url,
    base64url_upto,
    decode_base64url,
    decode_json,
    encode_base64url,
    encode_json,
    members,
    read_as,
    text,
)
from ..protocol.errors import Failure
from ..protocol.sentences import Detail
from .folder import Folder

FILE = "annex-key.json"
SERVICE = "Handover annexes"  # under which the private half is kept, by the name of the public one
SECONDS = 3.0  # for a keyring, which may ask a person
MAX_FILE = 1024
SAFE = 1  # the least priority of a keyring that its library recommends
SEALED = b'{"box":'  # what a sealed annex begins with

_state = members({"public": base64url_upto(PublicKey.SIZE)})


class Sealing:
    """Whether this machine seals annexes, and to which key. Until a person says so, it does where
    there is a keyring."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def key(self) -> bytes:
        """The public key to seal to, made at the first call; b"" where annexes are not sealed.
        Raises `Failure`."""
        known = self._read()
        return self.begin() if known is None else known

    def begin(self) -> bytes:
        """Seal from now on; the key, or b"" where there is no keyring. Raises `Failure`."""
        with self._folder.locked():
            key = self._read() or _make()
            if key:
                self._write(key)
        return key

    def stop(self) -> None:
        """Seal none from now on. Raises `Failure`."""
        with self._folder.locked():
            self._write(b"")

    def _read(self) -> bytes | None:
        """b"" where a person does not want it; None where nothing was decided."""
        found = self._folder.read_json(FILE, MAX_FILE, "annex_key_file", _state)
        if found is None:
            return None
        public: bytes = found["public"]
        return public if len(public) == PublicKey.SIZE else b""

    def _write(self, public: bytes) -> None:
        self._folder.write(FILE, encode_json({"public": encode_base64url(public)}))


def seal(data: bytes, public: bytes) -> bytes:
    """An annex that only the private half of a key opens."""
    box = SealedBox(PublicKey(public)).encrypt(data)
    return encode_json(
        {"box": base64.b64encode(box).decode(), "sealed_for": encode_base64url(public)}
    )


def is_sealed(data: bytes) -> bool:
    """Whether an annex, or its beginning, is one that was sealed."""
    return data.startswith(SEALED)


def opened(data: bytes) -> bytes:
    """What is in an annex, sealed or not. Raises `PeerError` for what is none, and `Failure` where
    the keyring does not give its key."""
    if not is_sealed(data):
        return data
    shape = members({"box": text(len(data)), "sealed_for": base64url(PublicKey.SIZE)})
    found = read_as(shape, decode_json(data, len(data)), "annex")
    name = encode_base64url(found["sealed_for"])
    secret = _ask(lambda keyring: keyring.get_password(SERVICE, name))
    try:
        private = PrivateKey(decode_base64url(secret)) if isinstance(secret, str) else None
        if private is not None:
            plain: bytes = SealedBox(private).decrypt(base64.b64decode(found["box"]))
            return plain
    except (CryptoError, ValueError):
        pass
    raise Failure("not_readable", Detail("annex_sealed"))


def _make() -> bytes:
    """A new key, whose private half is in the keyring; its public one, or b""."""
    private = PrivateKey.generate()
    public, secret = bytes(private.public_key), encode_base64url(bytes(private))
    name = encode_base64url(public)

    def keep(keyring: Any) -> str | None:
        keyring.set_password(SERVICE, name, secret)
        found: str | None = keyring.get_password(SERVICE, name)
        return found

    return public if _ask(keep) == secret else b""


def _ask(question: Callable[[Any], str | None]) -> str | None:
    """What the keyring says; None where there is none that is safe, or it does not answer."""
    found: list[str | None] = []

    def ask() -> None:
        try:
            import keyring  # 0.1 s

            backend = keyring.get_keyring()
            if backend.priority >= SAFE:
                found.append(question(backend))
        except Exception:  # noqa: S110 - any of a dozen systems; there is a sentence for all
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS)
    return found[0] if found else None
