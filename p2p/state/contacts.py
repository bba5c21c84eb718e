"""Peers that were met before, pinned by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..protocol.codec import (
    base64url,
    boolean,
    encode_base64url,
    encode_json,
    list_of,
    members,
    text,
)
from ..protocol.errors import Failure
from ..protocol.handshake import MAX_LABEL
from ..protocol.labels import alike, shown_label
from ..protocol.paths import collision_key, shown
from ..protocol.receipt import fingerprint, thumbprint
from ..protocol.sentences import Detail
from ..storage.strict import unusable
from .audit import AuditLog
from .folder import Folder, now_text

FILE = "contacts.json"
MAX_FILE = 16 * 1024 * 1024
MAX_CONTACTS = 50_000

_shape = list_of(
    members(
        {
            "name": text(MAX_LABEL, empty=False),
            "identity": base64url(32),
            "first_met": text(40, empty=False),
            "verified": boolean,
        }
    ),
    MAX_CONTACTS,
)


@dataclass(frozen=True)
class Contact:
    """A peer that was met before. `verified` once check digits were compared with them."""

    name: str
    identity: bytes
    first_met: str
    verified: bool


class Contacts:
    """The contacts of this machine, by name."""

    def __init__(self, folder: Folder, audit: AuditLog) -> None:
        self._folder, self._audit = folder, audit

    def all(self) -> dict[str, Contact]:
        """Contacts by name. Raises `Failure`."""
        stored = self._folder.read_json(FILE, MAX_FILE, "contacts_file", _shape) or []
        found = {one["name"]: Contact(**one) for one in stored}
        if len(found) != len(stored) or len({one["identity"] for one in stored}) != len(stored):
            raise unusable(self._folder.path / FILE, "contacts_file")  # a key or name of two
        return found

    def get(self, name: str) -> Contact:
        """The contact of this name, however it is capitalised. Raises `Failure`."""
        key = collision_key(name).strip()
        for contact in self.all().values():
            if collision_key(contact.name).strip() == key:
                return contact
        raise Failure("contact_unknown", shown(name))

    def known(self, identity: bytes, label: str) -> tuple[Contact | None, str]:
        """The contact with this key, and whose name the label looks like although that contact has
        another key: someone may be posing as them."""
        contacts = self.all().values()
        known = next((one for one in contacts if one.identity == identity), None)
        others = (one.name for one in contacts if one.identity != identity)
        if known is not None and alike(known.name, label):
            return known, ""
        return known, next((name for name in others if alike(name, label)), "")

    def pin(self, identity: bytes, label: str, verified: bool) -> None:
        """Remember a peer after a transfer."""
        event = ""
        with self._folder.locked():
            contacts = self.all()
            known = next((one for one in contacts.values() if one.identity == identity), None)
            if known is None:
                name = shown_label(label, MAX_LABEL) or fingerprint(identity)
                if any(alike(one, name) for one in contacts):  # never beside another's key
                    name = fingerprint(identity)
                known, event = Contact(name, identity, now_text(), verified), "contact_added"
            elif verified and not known.verified:
                event = "contact_compared"
            contacts[known.name] = replace(known, verified=known.verified or verified)
            self._store(contacts)
        if event:
            self._note(event, known)

    def rename(self, name: str, new: str) -> None:
        """Give a contact another name. Raises `Failure`."""
        old = self.get(name)
        name = shown_label(new, MAX_LABEL)
        if not name or len(new.encode()) > MAX_LABEL or name != new.strip():
            raise Failure("name_refused", Detail("label_form", most=MAX_LABEL))
        with self._folder.locked():
            contacts = self.all()
            other = next((one for one in contacts if one != old.name and alike(one, name)), None)
            if other is not None:
                raise Failure("name_refused", Detail("looks_like", name=name, other=other))
            del contacts[old.name]
            contacts[name] = replace(old, name=name)
            self._store(contacts)
        self._note("contact_renamed", old)

    def remove(self, name: str) -> None:
        """Forget a contact. Raises `Failure`."""
        old = self.get(name)
        with self._folder.locked():
            contacts = self.all()
            del contacts[old.name]
            self._store(contacts)
        self._note("contact_removed", old)

    def _note(self, event: str, contact: Contact) -> None:
        self._audit.note(event, {"peer": thumbprint(contact.identity)})

    def _store(self, contacts: Mapping[str, Contact]) -> None:
        stored = [
            {
                "name": one.name,
                "identity": encode_base64url(one.identity),
                "first_met": one.first_met,
                "verified": one.verified,
            }
            for one in contacts.values()
        ]
        self._folder.write(FILE, encode_json(stored))
