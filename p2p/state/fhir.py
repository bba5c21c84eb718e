"""A transfer as a FHIR R4 AuditEvent, by IHE's Basic Audit Log Patterns (BALP 1.1): Privacy
Disclosure at Source for what was sent, at Recipient for what was received.

Keys stand for the network access points that BALP demands (RFC 9278 thumbprint URIs), for addresses
are not kept. Which patient it is about, Handover does not know, and says so.
"""

from __future__ import annotations

from typing import Any

from ..protocol.labels import shown_label
from ..protocol.receipt import ROLES
from .history import Account

PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure"
HL7 = "http://terminology.hl7.org/CodeSystem"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
THUMBPRINT = "urn:ietf:params:oauth:jwk-thumbprint:sha-256"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
URI = "5"  # kind of network access point
# By the role of this machine: profile, type, what was done.
KINDS = {
    "sender": ("Source", "110106", "Export", "R"),
    "recipient": ("Recipient", "110107", "Import", "C"),
}
AGENTS = {"sender": ("110153", "Source Role ID"), "recipient": ("110152", "Destination Role ID")}
OUTCOMES = {"complete": "0", "incomplete": "4", "delivered_unconfirmed": "4"}  # 8: any other


def is_disclosure(account: Account) -> bool:
    """Whether files may have moved, and it is known who was at the other end."""
    moved = account.moved or account.receipt is not None
    return moved and bool(account.peer) and bool(account.ended) and account.role in KINDS


def audit_event(account: Account, software: str) -> dict[str, Any]:
    """The AuditEvent of a transfer that `is_disclosure`; JSON."""
    profile, code, display, action = KINDS[account.role]
    keys = {role: account.own if role == account.role else account.peer for role in ROLES}
    if account.receipt is not None:
        keys = {role: account.receipt.payload[role]["kid"] for role in ROLES}
    agents = [_agent(account, role, keys[role]) for role in ROLES]
    receipt = account.receipt
    details = {
        "ending": account.ending,
        "entries": "" if account.entries is None else str(account.entries),
        "bytes": "" if account.size is None else str(account.size),
        "receipt": "" if receipt is None else "both" if receipt.confirmed else "recipient",
        "root": "" if receipt is None else receipt.payload["content"]["root"].hex(),
    }
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "meta": {"profile": [f"{PROFILE}.{profile}"]},
        "type": _coding(DICOM, code, display),
        "subtype": [_coding(f"{HL7}/iso-21089-lifecycle", "disclose", "Disclose")],
        "action": action,
        "period": {"start": account.began, "end": account.ended},
        "recorded": account.ended,
        "outcome": OUTCOMES.get(account.ending, "8"),
        "outcomeDesc": account.code or account.ending,
        "agent": agents,
        "source": {
            "site": software,
            "observer": agents[ROLES.index(account.role)]["who"],
            "type": [_coding(f"{HL7}/security-source-type", "1", "User Device")],
        },
        "entity": [
            {
                "what": {
                    "type": "Patient",
                    "extension": [{"url": ABSENT, "valueCode": "unknown"}],
                },
                "type": _coding(f"{HL7}/audit-entity-type", "1", "Person"),
                "role": _coding(f"{HL7}/object-role", "1", "Patient"),
            },
            {
                "what": {
                    "identifier": {"system": "urn:ietf:rfc:3986", "value": transfer_uri(account)}
                },
                "type": _coding(f"{HL7}/audit-entity-type", "2", "System Object"),
                "role": _coding(f"{HL7}/object-role", "3", "Report"),
                "detail": [
                    {"type": name, "valueString": value} for name, value in details.items() if value
                ],
            },
        ],
    }
    if account.purpose:
        purpose = {"coding": [{"system": f"{HL7}/v3-ActReason", "code": account.purpose}]}
        event["purposeOfEvent"] = [purpose]
    return event


def _agent(account: Account, role: str, key: str) -> dict[str, Any]:
    who: dict[str, Any] = {"identifier": {"system": THUMBPRINT, "value": key or "unknown"}}
    label = account.receipt.payload[role]["label"] if account.receipt is not None else ""
    if label:
        who["display"] = shown_label(label)
    return {
        "type": {"coding": [_coding(DICOM, *AGENTS[role])]},
        "who": who,
        "requestor": role == "sender",
        "network": {"address": f"{THUMBPRINT}:{key or 'unknown'}", "type": URI},
    }


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}


def transfer_uri(account: Account) -> str:
    """The transfer's ID, 128 random bits, in the form of a UUID (RFC 9562)."""
    one = account.transfer
    return f"urn:uuid:{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}"
