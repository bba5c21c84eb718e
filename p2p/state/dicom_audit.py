"""The log as DICOM audit messages (PS3.15, A.5): an entry makes none, one, or a few.

A message demands things that Handover does not know, and says so: which patient it is about; and
network addresses, which are not kept, and for which keys stand (RFC 9278 thumbprint URIs).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from ..protocol.errors import Failure
from ..protocol.labels import shown_label
from ..protocol.receipt import ROLES
from .fhir import KINDS, OUTCOMES, THUMBPRINT, is_disclosure, transfer_uri
from .history import Account, Accounts, Entry, add_receipt, own_id
from .home import Home

Code = tuple[str, str, str]  # code, its system, what it means

_START = ("110120", "DCM", "Application Start")
_STOP = ("110121", "DCM", "Application Stop")
_LOGIN = ("110122", "DCM", "Login")
_USER_CHANGED = ("110137", "DCM", "User Security Attributes Changed")
_RESTRICTED = ("110132", "DCM", "Use of Restricted Function")
_URI: Code = ("12", "RFC-3881", "URI")
_PATIENT_NUMBER: Code = ("2", "RFC-3881", "Patient Number")
_ROLES = {
    "application": ("110150", "DCM", "Application"),
    "launcher": ("110151", "DCM", "Application Launcher"),
    "recipient": ("110152", "DCM", "Destination Role ID"),
    "sender": ("110153", "DCM", "Source Role ID"),
}
# By this machine's role: what the medium is, which a network transfer has too.
_MEDIA = {
    "sender": ("110154", "DCM", "Destination Media"),
    "recipient": ("110155", "DCM", "Source Media"),
}
_OUTCOMES = {  # of who proved to be whom, by the entry
    "authenticated": "0",
    "digits_same": "0",
    "refused": "4",
    "authentication_failed": "4",
    "digits_differ": "8",
}
_ALERTS = {
    "identity_made": _USER_CHANGED,
    "label_changed": _USER_CHANGED,
    "contact_added": _USER_CHANGED,
    "contact_compared": _USER_CHANGED,
    "contact_renamed": _USER_CHANGED,
    "contact_removed": _USER_CHANGED,
    "receipts_erased": _RESTRICTED,
    "pruned": _RESTRICTED,
    "cosigned": _RESTRICTED,
}
_READINGS = ("log_read", "exported")
UNKNOWN = "<none>"  # a patient's number that is not known
BEGINNING = "1970-01-01T00:00:00.000Z"  # of a time that is none
_TIME = re.compile(r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


class AuditMessage(NamedTuple):
    """A message: when it happened, RFC 3339 in UTC, and its XML."""

    time: str
    xml: str


def messages(
    entries: Iterable[Entry], home: Home, source: str, after: int = 0
) -> Iterator[tuple[Entry, list[AuditMessage]]]:
    """The messages of each entry after a line; `entries` are those of the whole log. `source`: this
    machine, by a name that whoever reads them knows. A receipt that cannot be read counts as none.
    Raises `Failure`, and whatever `entries` raises."""
    accounts, runs, time = Accounts(own_id(home)), set[str](), BEGINNING
    for entry in entries:
        account = accounts.hear(entry)
        time = entry.time if _is_time(entry.time) else time
        run = entry.text("run")
        begins = bool(run) and run not in runs
        if begins:
            runs.add(run)
        if entry.event == "transfer":
            runs.discard(run)
        if entry.number <= after:
            if account is not None and entry.event == "transfer":
                accounts.end((account.transfer, account.role))  # a log has many
            continue
        made = _Maker(entry, time, accounts.own, source)
        found = [made.activity(_START)] if begins else []
        if entry.event in _OUTCOMES:
            found.append(made.authentication(_OUTCOMES[entry.event]))
        elif entry.event in _ALERTS:
            found.append(made.alert(_ALERTS[entry.event]))
        elif entry.event in _READINGS:
            found.append(made.log_used())
        elif entry.event == "transfer":
            if account is not None:
                with suppress(Failure):
                    add_receipt(account, home)
                found += made.disclosures(account)
                accounts.end((account.transfer, account.role))
            if run:
                found.append(made.activity(_STOP))
        yield entry, [AuditMessage(time, _text(one)) for one in found]


class _Maker:
    """Makes the messages of one entry."""

    def __init__(self, entry: Entry, time: str, own: str, source: str) -> None:
        self._entry, self._time, self._own, self._source = entry, time, own or "unknown", source

    def activity(self, kind: Code) -> ET.Element:
        """Application Activity, A.5.3.1: a run of the program begins, or ends."""
        message = self._begin("110100", "Application Activity", "E", "0", kind)
        self._participant(message, self._source, False, _ROLES["application"])
        self._participant(message, self._own, True, _ROLES["launcher"])
        return self._end(message)

    def authentication(self, outcome: str) -> ET.Element:
        """User Authentication, A.5.3.12: a peer has proven to be somebody, or has not."""
        name = self._entry.event
        message = self._begin("110114", "User Authentication", "E", outcome, _LOGIN, name)
        self._participant(message, self._entry.text("peer") or "unknown", True, network=True)
        self._participant(message, self._own, False)
        return self._end(message)

    def alert(self, kind: Code) -> ET.Element:
        """Security Alert, A.5.3.11: what decides who is trusted, or what is kept, has changed."""
        message = self._begin("110113", "Security Alert", "E", "0", kind)
        self._participant(message, self._own, True)
        self._end(message)
        about = self._entry.text("peer") or self._entry.text("key_id") or self._own
        alert = self._object(message, f"{THUMBPRINT}:{about}", "2", "13", _URI, "Handover")
        _detail(alert, "Alert Description", self._entry.event)
        return message

    def log_used(self) -> ET.Element:
        """Audit Log Used, A.5.3.2."""
        message = self._begin("110101", "Audit Log Used", "R", "0")
        self._participant(message, self._own, True)
        self._end(message)
        log = f"{THUMBPRINT}:{self._own}"
        self._object(message, log, "2", "13", _URI, "Security Audit Log")
        return message

    def disclosures(self, account: Account) -> list[ET.Element]:
        """Export or Import, A.5.3.4 and A.5.3.5: files have gone to another organization, or come
        from one, or were about to. What arrived and what failed is told apart (A.5.2)."""
        if not is_disclosure(account):
            return []
        details = {
            "ending": account.ending,
            "code": account.code,
            "purposeOfUse": account.purpose,
            "entries": account.entries,
            "bytes": account.size,
        }
        if account.receipt is None:
            return [self._disclosure(account, OUTCOMES.get(account.ending, "8"), details)]
        payload = account.receipt.payload
        content = payload["content"]
        signed = "both" if account.receipt.confirmed else "recipient"
        details |= {"root": content["root"].hex(), "signed": signed}
        arrived = {"entries": content["delivered_entries"], "bytes": content["delivered_bytes"]}
        failed = content["entries"] - content["delivered_entries"]
        found = []
        if arrived["entries"] or not failed:
            sure = "0" if account.receipt.confirmed else "4"
            found.append(self._disclosure(account, sure, details | arrived))
        if failed:
            rest = {"entries": failed, "bytes": content["bytes"] - content["delivered_bytes"]}
            found.append(self._disclosure(account, "8", details | rest))
        return found

    def _disclosure(self, account: Account, outcome: str, details: Mapping[str, Any]) -> ET.Element:
        _, code, name, action = KINDS[account.role]
        message = self._begin(code, name, action, outcome, reason=account.code or account.ending)
        keys = {role: account.own if role == account.role else account.peer for role in ROLES}
        labels = dict.fromkeys(ROLES, "")
        if account.receipt is not None:
            payload = account.receipt.payload
            keys = {role: payload[role]["kid"] for role in ROLES}
            labels = {role: shown_label(payload[role]["label"]) for role in ROLES}
        for role in ROLES:
            key = keys[role] or "unknown"
            self._participant(message, key, role == "sender", _ROLES[role], labels[role])
        peer = next(keys[role] for role in ROLES if role != account.role)
        uri = transfer_uri(account)
        media = self._participant(message, uri, False, _MEDIA[account.role])
        _network(media, peer or "unknown")
        _coded(ET.SubElement(media, "MediaIdentifier"), "MediaType", ("110037", "DCM", "URI"))
        self._end(message)
        self._object(message, UNKNOWN, "1", "1", _PATIENT_NUMBER, "unknown to Handover")
        job = self._object(message, uri, "2", "20", _URI, "Handover transfer")
        for kind, value in details.items():
            if value not in (None, ""):
                _detail(job, kind, str(value))
        described = ET.SubElement(job, "ParticipantObjectDescription")
        ET.SubElement(described, "Encrypted").text = "true"
        return message

    def _begin(
        self,
        code: str,
        name: str,
        action: str,
        outcome: str,
        kind: Code | None = None,
        reason: str = "",
    ) -> ET.Element:
        message = ET.Element("AuditMessage")
        event = ET.SubElement(
            message,
            "EventIdentification",
            EventActionCode=action,
            EventDateTime=self._time,
            EventOutcomeIndicator=outcome,
        )
        _coded(event, "EventID", (code, "DCM", name))
        if kind is not None:
            _coded(event, "EventTypeCode", kind)
        if reason:
            ET.SubElement(event, "EventOutcomeDescription").text = _clean(reason)
        return message

    def _participant(
        self,
        message: ET.Element,
        key: str,
        requestor: bool,
        role: Code | None = None,
        label: str = "",
        *,
        network: bool = False,
    ) -> ET.Element:
        one = ET.SubElement(message, "ActiveParticipant", UserID=_clean(key))
        if label:
            one.set("UserName", _clean(label))
        one.set("UserIsRequestor", "true" if requestor else "false")
        if network:
            _network(one, key)
        if role is not None:
            _coded(one, "RoleIDCode", role)
        return one

    def _end(self, message: ET.Element) -> ET.Element:
        source = ET.SubElement(
            message, "AuditSourceIdentification", AuditSourceID=_clean(self._source)
        )
        ET.SubElement(source, "AuditSourceTypeCode").set("csd-code", "1")  # an end user's
        return message

    def _object(
        self, message: ET.Element, name: str, kind: str, role: str, id_kind: Code, shown: str
    ) -> ET.Element:
        one = ET.SubElement(
            message,
            "ParticipantObjectIdentification",
            ParticipantObjectID=_clean(name),
            ParticipantObjectTypeCode=kind,
            ParticipantObjectTypeCodeRole=role,
        )
        _coded(one, "ParticipantObjectIDTypeCode", id_kind)
        ET.SubElement(one, "ParticipantObjectName").text = shown
        return one


def _network(participant: ET.Element, key: str) -> None:
    participant.set("NetworkAccessPointID", _clean(f"{THUMBPRINT}:{key}"))
    participant.set("NetworkAccessPointTypeCode", "5")  # a URI


def _coded(parent: ET.Element, name: str, code: Code) -> None:
    value, system, meaning = code
    one = ET.SubElement(parent, name, codeSystemName=system, originalText=meaning)
    one.set("csd-code", value)


def _detail(parent: ET.Element, kind: str, value: str) -> None:
    encoded = base64.b64encode(_clean(value).encode()).decode()
    ET.SubElement(parent, "ParticipantObjectDetail", type=kind, value=encoded)


def _is_time(text: str) -> bool:
    """Whether a time of the log, whoever wrote it, is one by XML Schema and RFC 5424."""
    try:
        return bool(_TIME.fullmatch(text) and datetime.fromisoformat(text))
    except ValueError:
        return False


def _clean(text: str) -> str:
    """What XML can hold."""
    return _NOT_XML.sub("\ufffd", text)


def _text(message: ET.Element) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(message, encoding="unicode")
