"""The log as evidence of electronic registered delivery: the elements of `EvidenceType` of ETSI EN
319 522-3, as JSON. Not that of a qualified service, and it says so.

The standard's text was not at hand. Its elements come from its XML schema; their form as JSON, and
the names of events, from how others use it. Its codes for reasons are not used: what the log says
stands in the transaction log.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import Any

from ..protocol.codec import decode_base64url, sha256
from ..protocol.labels import shown_label
from ..protocol.receipt import ROLES
from .fhir import THUMBPRINT, transfer_uri
from .history import Account

VERSION = "EN319522v1.1.1"
EVENT = "http://uri.etsi.org/19522/Event/"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
STATUS = "non-qualified"
# By the entry of the log; what ended is told by `_endings`.
_STEPS = {
    ("sender", "link_made"): "SubmissionAcceptance",
    ("sender", "accepted"): "ConsignmentAcceptance",
    ("recipient", "accepted"): "ConsignmentAcceptance",
}


def evidence(account: Account, own: str, software: str) -> Iterator[dict[str, Any]]:
    """The evidence of a transfer whose ID is known, the oldest first. `own`: the key ID of this
    machine, which issues it."""
    told = set[str]()
    for time, event in account.steps:
        name = _STEPS.get((account.role, event))
        if name and name not in told:
            told.add(name)
            yield _record(account, own, software, name, time, final=False)
    for name in _endings(account):
        yield _record(account, own, software, name, account.ended, final=True)


def _endings(account: Account) -> tuple[str, ...]:
    """By what the receipt says has arrived; by the log, where there is none any more."""
    if account.receipt is not None and account.ended:
        content = account.receipt.payload["content"]
        arrived, all_entries = content["delivered_entries"], content["entries"]
        found = ("ContentHandover",) if arrived or not all_entries else ()
        return found if arrived == all_entries else (*found, "ContentHandoverFailure")
    match account.ending:
        case "":
            return ()
        case "complete" | "delivered_unconfirmed":
            return ("ContentHandover",)
        case "incomplete":
            return "ContentHandover", "ContentHandoverFailure"
        case "declined":
            return ("ConsignmentRejection",)
        case "expired" if not account.moved:
            return ("AcceptanceRejectionExpiry",)
    return ("ContentHandoverFailure",)


def _record(
    account: Account, own: str, software: str, name: str, time: str, *, final: bool
) -> dict[str, Any]:
    """One event; `final`: it is how the transfer ended."""
    keys = {role: account.own if role == account.role else account.peer for role in ROLES}
    labels = dict.fromkeys(ROLES, "")
    parts, submitted = [], ""
    if account.receipt is not None:
        payload = account.receipt.payload
        keys = {role: payload[role]["kid"] for role in ROLES}
        labels = {role: shown_label(payload[role]["label"]) for role in ROLES}
        if final:
            parts.append(_part("receipt", "application/json", sha256(account.receipt.octets)))
        submitted = payload["times"]["offered"]
    if manifest := _digest(account.manifest):
        parts.append(_part("manifest", "application/octet-stream", manifest))
    uri = transfer_uri(account)
    one = uuid.uuid5(uuid.NAMESPACE_URL, "\n".join((uri, own, account.role, name, time)))
    said = {
        "status": STATUS,
        "role": account.role,
        "ending": account.ending if final else "",
        "code": account.code if final else "",
        "entries": account.entries,
        "bytes": account.size,
        "purposeOfUse": account.purpose,
    }
    log = {key: value for key, value in said.items() if value not in ("", None)}
    found: dict[str, Any] = {
        "version": VERSION,
        "EvidenceIdentifier": one.urn,
        "ERDSEventId": f"{EVENT}{name}",
        "EventTime": time,
        "EvidenceIssuerDetails": {
            "Identity": {
                "Attribute": [
                    _attribute("key", f"{THUMBPRINT}:{own}"),
                    _attribute("service", f"{software}, {STATUS}"),
                ]
            }
        },
        "SenderDetails": _user(keys["sender"], labels["sender"]),
        "RecipientDetails": [_user(keys["recipient"], labels["recipient"])],
        "EvidenceRefersToRecipient": 1,
        "MessageIdentifier": uri,
        "TransactionLogInformation": {
            "TransactionLog": [
                {key: value for key, value in log.items() if value not in ("", None)}
            ]
        },
    }
    if submitted:
        found["SubmissionTime"] = submitted
    if parts:
        found["UserContentInfo"] = {"PartsInfo": {"PartInfo": parts}}
    return found


def _user(key: str, label: str) -> dict[str, Any]:
    """A party; one that nobody knows has no member."""
    found: dict[str, Any] = {}
    if label:
        found["Identity"] = {"Attribute": [_attribute("label", label)]}
    if key:
        value = f"{THUMBPRINT}:{key}"
        found["Identifier"] = {"value": value, "IdentifierSchemeName": "RFC 9278"}
    return found


def _attribute(name: str, value: str) -> dict[str, Any]:
    return {"Name": name, "AttributeValue": [value]}


def _part(name: str, kind: str, digest: bytes) -> dict[str, Any]:
    return {
        "Identifier": name,
        "ContentType": kind,
        "DigestMethod": {"Algorithm": SHA256},
        "DigestValue": base64.b64encode(digest).decode(),
    }


def _digest(text: str) -> bytes:
    try:
        found = decode_base64url(text)
    except ValueError:
        return b""
    return found if len(found) == 32 else b""
