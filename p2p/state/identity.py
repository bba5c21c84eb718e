"""This machine's long-term identity: an Ed25519 key and the label its owner chose."""

from __future__ import annotations

import json
import secrets
import socket
from dataclasses import dataclass, replace

from nacl.signing import SigningKey

from ..protocol.codec import decode_base64url, encode_base64url, encode_json
from ..protocol.errors import Failure
from ..protocol.handshake import MAX_LABEL
from ..protocol.paths import shown
from ..protocol.receipt import fingerprint
from ..protocol.sentences import Detail
from .folder import Folder

FILE = "identity.json"


@dataclass(frozen=True)
class Identity:
    """This side's long-term key and the label its owner chose."""

    key: SigningKey
    label: str

    @property
    def public(self) -> bytes:
        """The Ed25519 public key."""
        return bytes(self.key.verify_key)


class IdentityStore:
    """Where the identity lies."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def load(self) -> Identity:
        """The identity, made at the first call. Raises `Failure` when its file is damaged."""
        path = self._folder.path / FILE
        with self._folder.locked():
            try:
                stored = json.loads(path.read_bytes())
                seed, label = decode_base64url(stored["seed"]), stored["label"]
                return Identity(SigningKey(seed), label)
            except FileNotFoundError:
                identity = Identity(SigningKey(secrets.token_bytes(32)), "")
                host = socket.gethostname().split(".")[0][:64] or "handover"
                # The key's first digits keep two machines of one name apart as contacts.
                label = f"{host}-{fingerprint(identity.public)[:4]}"
                return self._store(replace(identity, label=label))
            except (ValueError, KeyError, TypeError, OSError):
                raise Failure("not_readable", Detail("identity_file", path=str(path))) from None

    def set_label(self, label: str) -> Identity:
        """Change the label. Raises `Failure`."""
        if not label.strip() or len(label.encode()) > MAX_LABEL or shown(label, 256) != label:
            raise Failure("name_refused", shown(label))
        identity = self.load()
        with self._folder.locked():
            return self._store(replace(identity, label=label.strip()))

    def _store(self, identity: Identity) -> Identity:
        stored = {"seed": encode_base64url(bytes(identity.key)), "label": identity.label}
        self._folder.write(FILE, encode_json(stored))
        return identity
