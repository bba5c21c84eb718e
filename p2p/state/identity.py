"""This machine's long-term identity: an Ed25519 key and the label its owner chose."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass, replace

from nacl.signing import SigningKey

from ..protocol.codec import base64url, encode_base64url, encode_json, members, text
from ..protocol.errors import Failure
from ..protocol.handshake import MAX_LABEL
from ..protocol.paths import shown
from ..protocol.receipt import fingerprint, thumbprint
from ..protocol.sentences import Detail
from .audit import AuditLog
from .folder import Folder

FILE = "identity.json"
MAX_FILE = 4096

_shape = members({"seed": base64url(32), "label": text(MAX_LABEL)})


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

    def __init__(self, folder: Folder, audit: AuditLog) -> None:
        self._folder, self._audit = folder, audit

    def existing(self) -> Identity | None:
        """The identity, or None where none was made yet. Raises `Failure` when its file cannot be
        used, or is not this user's alone."""
        stored = self._folder.read_json(FILE, MAX_FILE, "identity_file", _shape, secret=True)
        return Identity(SigningKey(stored["seed"]), stored["label"]) if stored else None

    def load(self, label: str = "") -> Identity:
        """The identity, made at the first call; with `label` in the place of the one that is kept.
        Raises `Failure` as `existing` does, and for a label that cannot be one."""
        if label:
            return replace(self.load(), label=_checked(label))
        if (made := self.existing()) is not None:  # the folder may be read-only
            return made
        with self._folder.locked():
            identity = self.existing()
            if identity is not None:
                return identity
            made = Identity(SigningKey(secrets.token_bytes(32)), "")
            host = socket.gethostname().split(".")[0][:64] or "handover"
            # The key's first digits keep two machines of one name apart as contacts.
            made = self._store(replace(made, label=f"{host}-{fingerprint(made.public)[:4]}"))
        self._audit.note("identity_made", {"key_id": thumbprint(made.public)})
        return made

    def set_label(self, label: str) -> Identity:
        """Change the label. Raises `Failure`."""
        label = _checked(label)
        identity = self.load()
        with self._folder.locked():
            identity = self._store(replace(identity, label=label))
        self._audit.note("label_changed", {"key_id": thumbprint(identity.public)})
        return identity

    def _store(self, identity: Identity) -> Identity:
        stored = {"seed": encode_base64url(bytes(identity.key)), "label": identity.label}
        self._folder.write(FILE, encode_json(stored))
        return identity


def _checked(label: str) -> str:
    """A label without blanks around it. Raises `Failure`."""
    if not label.strip() or len(label.encode()) > MAX_LABEL or shown(label, 256) != label:
        raise Failure("name_refused", Detail("label_form", most=MAX_LABEL))
    return label.strip()
