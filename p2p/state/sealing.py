"""Annexes sealed at rest: to a key whose private half lies in the keyring of the operating system.

Sealing takes the public half alone, which lies in the data folder: so it works where nobody is
logged in. Opening takes the keyring, and so this user on this computer.
"""

from __future__ import annotations

import base64
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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
from ..protocol.errors import Failure, PeerError
from ..protocol.sentences import Detail
from .folder import Folder

FILE = "annex-key.json"
SERVICE = "Handover annexes"  # under which the private half is kept, by the name of the public one
# For a keyring, which may ask a person: at the end of a transfer; and where a person waits for it.
BRIEF, PATIENT = 3.0, 60.0
MAX_FILE = 1024
MAX_HOST = 255
SAFE = 1  # the least priority of a keyring that its library recommends
# Those of each system, the better first; others with a desktop have Linux's. The library's own
# search loads those of all systems, and on Linux what asks macOS runs the C compiler, if there is
# one.
KEYRINGS = {
    "win32": ("Windows.WinVaultKeyring",),
    "darwin": ("macOS.Keyring",),
    "linux": ("SecretService.Keyring", "kwallet.DBusKeyring"),
}
SEALED = b'{"box":'  # what a sealed annex begins with

T = TypeVar("T")
_WEAK = bytes(PublicKey.SIZE)  # which libsodium does not seal to

_state = members({"public": base64url_upto(PublicKey.SIZE), "host": text(MAX_HOST)})


class Sealing:
    """Whether this machine seals annexes, and to which key. Until a person says so, it does where
    there is a keyring."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def key(self) -> bytes:
        """The public key to seal to, made at the first call; b"" where annexes are not sealed.
        Raises `Failure`."""
        public, ours = self._noted()
        return public if public is not None and (ours or not public) else self.begin(BRIEF)

    def begin(self, seconds: float | None = None) -> bytes:
        """Seal from now on; the key, whose private half the keyring has, or b"" where there is no
        keyring, or it does not answer within `seconds`, or as long as a person may take. Raises
        `Failure`."""
        seconds = PATIENT if seconds is None else seconds
        before, _ = self._noted()
        key = before or b""
        if key:
            answered, has = _ask(lambda keyring: _has(keyring, key), seconds)
            if not answered:
                return b""
            key = key if has else b""  # the folder, or the keyring, is another one
        key = key or _make(seconds)
        with self._folder.locked():
            now, _ = self._noted()
            if now and now != before:
                return now  # another process was first
            if key:
                self._write(key)
        return key

    def stop(self) -> None:
        """Seal none from now on. Raises `Failure`."""
        with self._folder.locked():
            self._write(b"")

    def state(self, *, ask: bool = True) -> str:
        """Whether new annexes are sealed: "sealed", "open", "undecided"; or, where the keyring is
        to be asked, "locked" where they are and it does not give the key now. Raises `Failure`."""
        public, ours = self._noted()
        if public == b"":
            return "open"
        has = public and (not ask or _ask(lambda keyring: _has(keyring, public), PATIENT)[1])
        if has:
            return "sealed"
        return "locked" if public and ours else "undecided"

    def _noted(self) -> tuple[bytes | None, bool]:
        """The key that was noted, b"" where a person does not want it, or None where nothing was
        decided, or what was noted is damaged; and whether this machine noted it, as far as its name
        tells, and not one whose folder this is a copy of."""
        try:
            found = self._folder.read_json(FILE, MAX_FILE, "annex_key_file", _state)
        except Failure:
            return None, False
        public: bytes | None = found["public"] if found else None
        if public is None or len(public) not in (0, PublicKey.SIZE) or public == _WEAK:
            return None, False
        return public, found["host"] == _host()

    def _write(self, public: bytes) -> None:
        noted = {"public": encode_base64url(public), "host": _host()}
        self._folder.write(FILE, encode_json(noted))


def _host() -> str:
    return socket.gethostname()[:MAX_HOST]


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
    public: bytes = found["sealed_for"]
    _, private = _ask(lambda keyring: _private(keyring, public), PATIENT)
    if private is None:
        raise Failure("not_readable", Detail("annex_sealed"))
    try:
        plain: bytes = SealedBox(private).decrypt(base64.b64decode(found["box"], validate=True))
    except (CryptoError, ValueError):
        raise PeerError("annex") from None
    return plain


def _private(keyring: Any, public: bytes) -> PrivateKey | None:
    """The private half of a key, where the keyring has it."""
    secret = keyring.get_password(SERVICE, encode_base64url(public))
    private = PrivateKey(decode_base64url(secret)) if secret else None
    return private if private and bytes(private.public_key) == public else None


def _has(keyring: Any, public: bytes) -> bool:
    return _private(keyring, public) is not None


def _make(seconds: float) -> bytes:
    """A new key, whose private half is in the keyring; its public one, or b""."""
    private = PrivateKey.generate()
    public, secret = bytes(private.public_key), encode_base64url(bytes(private))

    def keep(keyring: Any) -> bool:
        keyring.set_password(SERVICE, encode_base64url(public), secret)
        return _has(keyring, public)

    return public if _ask(keep, seconds)[1] else b""


def _ask(question: Callable[[Any], T], seconds: float) -> tuple[bool, T | None]:
    """Whether there is a keyring that is safe, and that answers; and what it says."""
    found: list[T] = []

    def ask() -> None:
        try:
            keyring = _keyring()
            if keyring is not None and keyring.priority >= SAFE:
                found.append(question(keyring))
        except Exception:  # noqa: S110 - any of a dozen systems; there is a sentence for all
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return (True, found[0]) if found else (False, None)


def _keyring() -> Any:
    """The keyring that a person chose for the library, or the one of this system. None where there
    is none; raises anything."""
    if sys.platform == "linux" and not _may_be_there():
        return None  # and nothing is loaded
    from keyring import core  # 0.15 s

    chosen = core.load_env() or core.load_config()
    if chosen is not None:
        return chosen
    for name in KEYRINGS.get(sys.platform, KEYRINGS["linux"]):
        try:
            return core.load_keyring(f"keyring.backends.{name}")
        except Exception:  # noqa: S112 - it is not there, as each says in its own way
            continue
    return None


def _may_be_there() -> bool:
    """Whether there may be a keyring on Linux: those that are known are reached by the session's
    bus, and a person chooses any other by the library's variable or its file."""
    variables = ("DBUS_SESSION_BUS_ADDRESS", "PYTHON_KEYRING_BACKEND")
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    chosen = Path(folder, "python_keyring", "keyringrc.cfg")
    return any(map(os.environ.get, variables)) or chosen.exists()
