"""What stays on this machine between transfers: identity, contacts, receipts, annexes, audit log.

All of it lies under one folder, `HANDOVER_HOME` or the platform's place for such data, readable by
its owner alone. Files are replaced whole: written beside, synced, renamed.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from platformdirs import user_data_dir

from .protocol import audit
from .protocol.codec import decode_base64url, decode_json, encode_base64url, encode_json
from .protocol.errors import Failure, PeerError
from .protocol.handshake import MAX_LABEL
from .protocol.manifest import STATUS_TEXTS, Entry, Manifest, Results
from .protocol.paths import collision_key, shown
from .protocol.receipt import fingerprint


def now_text() -> str:
    """The wall clock as RFC 3339 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _same_name(one: str, other: str) -> bool:
    """Whether a person might take one for the other."""
    return collision_key(one).strip() == collision_key(other).strip()


def default_home() -> Path:
    """`HANDOVER_HOME`, or the platform's place."""
    named = os.environ.get("HANDOVER_HOME")
    return Path(named) if named else Path(user_data_dir("handover", appauthor=False))


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash it is either the old or the new one.

    Raises `Failure` (home_unwritable).
    """
    try:
        replace_whole(path, data)
    except OSError as error:
        raise Failure("home_unwritable", (error.strerror or "the disk fails").lower()) from None


def replace_whole(path: Path, data: bytes) -> None:
    """The same; raises `OSError`."""
    file, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@dataclass(frozen=True)
class Contact:
    """A peer that was met before. `verified` once check digits were compared with them."""

    name: str
    identity: bytes
    first_met: str
    verified: bool


@dataclass(frozen=True)
class Identity:
    """This side's long-term key and the label its owner chose."""

    key: SigningKey
    label: str

    @property
    def public(self) -> bytes:
        """The Ed25519 public key."""
        return bytes(self.key.verify_key)


class Home:
    """The folder and everything in it."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_home()
        try:
            for folder in (
                self.path,
                self.path / "receipts",
                self.path / "annexes",
                self.path / "transfers",
            ):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Failure("not_writable", f"HANDOVER_HOME: {error.strerror}") from None

    def usable(self) -> bool:
        """Whether files can be written here."""
        try:
            for folder in ("receipts", "annexes", "transfers"):
                probe = self.path / folder / ".probe"
                replace_whole(probe, bytes(65536))
                probe.unlink()
        except OSError:
            return False
        return True

    @property
    def local_ca(self) -> Path:
        """Where this machine's own certificate authority lies, if it has one."""
        return self.path / "local-ca"

    # --- identity

    def identity(self) -> Identity:
        """The identity, made at the first call. Raises `Failure` when its file is damaged."""
        path = self.path / "identity.json"
        with self._locked():
            try:
                stored = json.loads(path.read_bytes())
                seed, label = decode_base64url(stored["seed"]), stored["label"]
                return Identity(SigningKey(seed), label)
            except FileNotFoundError:
                identity = Identity(SigningKey(secrets.token_bytes(32)), "")
                host = socket.gethostname().split(".")[0][:64] or "handover"
                # The key's first digits keep two machines of one name apart as contacts.
                label = f"{host}-{fingerprint(identity.public)[:4]}"
                return self._store_identity(replace(identity, label=label))
            except (ValueError, KeyError, TypeError, OSError):
                raise Failure("not_readable", f"the identity in {path}") from None

    def set_label(self, label: str) -> Identity:
        """Change the label. Raises `Failure`."""
        if not label.strip() or len(label.encode()) > MAX_LABEL or shown(label, 256) != label:
            raise Failure("name_refused", shown(label))
        identity = self.identity()
        with self._locked():
            return self._store_identity(replace(identity, label=label.strip()))

    def _store_identity(self, identity: Identity) -> Identity:
        stored = {"seed": encode_base64url(bytes(identity.key)), "label": identity.label}
        write_whole(self.path / "identity.json", encode_json(stored))
        return identity

    # --- contacts

    def contacts(self) -> dict[str, Contact]:
        """Contacts by name."""
        try:
            stored = json.loads((self.path / "contacts.json").read_bytes())
            return {
                one["name"]: Contact(
                    one["name"],
                    decode_base64url(one["identity"]),
                    one["first_met"],
                    bool(one["verified"]),
                )
                for one in stored
            }
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, OSError):
            raise Failure("not_readable", f"the contacts in {self.path}") from None

    def contact(self, name: str) -> Contact:
        """The contact of this name, however it is capitalised. Raises `Failure`."""
        for contact in self.contacts().values():
            if _same_name(contact.name, name):
                return contact
        raise Failure("contact_unknown", shown(name))

    def known(self, identity: bytes, label: str) -> tuple[Contact | None, str]:
        """The contact with this key; and where there is none but the label is a contact's, with
        another key, that contact's name: someone may be posing as them."""
        contacts = list(self.contacts().values())
        for contact in contacts:
            if contact.identity == identity:
                return contact, ""
        for contact in contacts:
            if _same_name(contact.name, label):
                return None, contact.name
        return None, ""

    def pin(self, identity: bytes, label: str, verified: bool) -> None:
        """Remember a peer after a transfer."""
        with self._locked():
            contacts = self.contacts()
            known = next((one for one in contacts.values() if one.identity == identity), None)
            if known is None:
                name = label.strip() or fingerprint(identity)
                if any(_same_name(one, name) for one in contacts):  # never over another's key
                    name = fingerprint(identity)
                known = Contact(name, identity, now_text(), verified)
            contacts[known.name] = replace(known, verified=known.verified or verified)
            self._store_contacts(contacts)

    def rename_contact(self, name: str, new: str) -> None:
        """Give a contact another name. Raises `Failure`."""
        old = self.contact(name)
        if not new.strip() or len(new.encode()) > MAX_LABEL or shown(new, 256) != new:
            raise Failure("name_refused", shown(new))
        with self._locked():
            contacts = self.contacts()
            if any(_same_name(new, one) for one in contacts if one != old.name):
                raise Failure("same_name", shown(new))
            del contacts[old.name]
            contacts[new.strip()] = replace(old, name=new.strip())
            self._store_contacts(contacts)

    def remove_contact(self, name: str) -> None:
        """Forget a contact. Raises `Failure`."""
        old = self.contact(name)
        with self._locked():
            contacts = self.contacts()
            del contacts[old.name]
            self._store_contacts(contacts)

    def _store_contacts(self, contacts: Mapping[str, Contact]) -> None:
        stored = [
            {
                "name": one.name,
                "identity": encode_base64url(one.identity),
                "first_met": one.first_met,
                "verified": one.verified,
            }
            for one in contacts.values()
        ]
        write_whole(self.path / "contacts.json", encode_json(stored))

    # --- receipts and annexes

    def receipt_path(self, transfer: bytes) -> Path:
        """Where a transfer's receipt lies."""
        return self.path / "receipts" / f"{transfer.hex()}.receipt.json"

    def store_receipt(self, transfer: bytes, receipt: bytes) -> Path:
        """Keep a receipt, half or whole."""
        path = self.receipt_path(transfer)
        write_whole(path, receipt)
        return path

    def annex_path(self, transfer: bytes) -> Path:
        """Where a transfer's annex lies: the names a receipt does not tell."""
        return self.path / "annexes" / f"{transfer.hex()}.annex.json"

    def store_annex(
        self, transfer: bytes, manifest: Manifest, results: Results, placed: Mapping[int, str]
    ) -> None:
        """Keep names, sizes, digests and places, here only."""
        entries = []
        for index, entry in enumerate(manifest.entries):
            status, digest = results[index]
            one: dict[str, Any] = {
                "path": entry.path,
                "kind": entry.kind,
                "size": entry.size,
                "status": STATUS_TEXTS[status],
                "sha256": digest.hex() if not status and entry.kind == "file" else "",
            }
            if index in placed and placed[index] != entry.path:
                one["placed"] = placed[index]
            entries.append(one)
        annex = {"salt": encode_base64url(manifest.salt), "entries": entries}
        write_whole(self.annex_path(transfer), encode_json(annex))

    def annex(self, transfer: bytes) -> tuple[Manifest, Results, dict[int, str]]:
        """What the annex says: entries, results and places. Raises `Failure`."""
        path = self.annex_path(transfer)
        codes = {text: code for code, text in STATUS_TEXTS.items()}
        try:
            stored = json.loads(path.read_bytes())
            entries, placed = [], {}
            results = Results(len(stored["entries"]))
            for index, one in enumerate(stored["entries"]):
                entries.append(Entry(one["path"], one["kind"], one["size"], 0))
                placed[index] = one.get("placed", one["path"])
                if codes[one["status"]]:
                    results.failed(index, codes[one["status"]])
                elif one["sha256"]:
                    results.delivered(index, bytes.fromhex(one["sha256"]))
            return Manifest(tuple(entries), decode_base64url(stored["salt"])), results, placed
        except FileNotFoundError:
            raise Failure("not_readable", "the annex with the names, on this machine,") from None
        except (ValueError, KeyError, TypeError, OSError):
            raise Failure("not_readable", f"the annex {path}") from None

    # --- audit log

    @property
    def audit_path(self) -> Path:
        """The audit log."""
        return self.path / "audit.jsonl"

    def append_audit(self, event: str, facts: Mapping[str, Any]) -> None:
        """Chain one more entry to the log, synced. A line torn by a crash is closed first."""
        with self._locked(), open(self.audit_path, "ab+") as log:
            os.chmod(log.fileno(), 0o600)
            head, number, whole = _tail(log)
            if not whole:
                log.write(b"\n" + audit.entry(head, number + 1, now_text(), audit.RECOVERED, {}))
                log.flush()
                head, number, _ = _tail(log)
            log.write(audit.entry(head, number + 1, now_text(), event, facts))
            log.flush()
            os.fsync(log.fileno())

    def audit_head(self) -> str:
        """The hash of the last line."""
        with self._locked():
            try:
                with open(self.audit_path, "rb") as log:
                    return _tail(log)[0]
            except FileNotFoundError:
                return audit.GENESIS

    def recent_audit(self, event: str, count: int) -> list[dict[str, Any]]:
        """The last entries of a kind, the newest first."""
        found: deque[dict[str, Any]] = deque(maxlen=count)
        with self._locked(), suppress(FileNotFoundError), open(self.audit_path, "rb") as log:
            for line in log:
                with suppress(PeerError):
                    entry = decode_json(line, audit.MAX_LINE)
                    if isinstance(entry, dict) and entry.get("event") == event:
                        found.appendleft(entry)
        return list(found)

    def verify_audit(self) -> audit.Verified:
        """Walk the log. Raises `audit.BadLine`."""
        with self._locked():
            try:
                with open(self.audit_path, "rb") as log:
                    return audit.verify(log)
            except FileNotFoundError:
                return audit.Verified(0, audit.GENESIS)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.path / ".lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _tail(log: Any) -> tuple[str, int, bool]:
    """(hash of the last line, its number, whether it ends in a newline)."""
    size = log.seek(0, os.SEEK_END)
    if not size:
        return audit.GENESIS, 0, True
    log.seek(max(0, size - 2 * audit.MAX_LINE))
    lines = log.read().split(b"\n")
    whole = lines[-1] == b""
    if whole:
        lines.pop()
    try:
        return audit.line_hash(lines[-1]), decode_json(lines[-1], audit.MAX_LINE)["seq"], whole
    except (PeerError, KeyError, TypeError):
        # Torn: its number is one more than the line before it.
        try:
            number = decode_json(lines[-2], audit.MAX_LINE)["seq"] + 1 if lines[-2:-1] else 1
        except (PeerError, KeyError, TypeError):
            number = 1
        return audit.line_hash(lines[-1]), number, whole
