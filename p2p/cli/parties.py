"""How a party of a receipt, and what a transfer is for, are told to a person."""

from __future__ import annotations

import re

from ..api import PURPOSES, Home, Party, fingerprint, shown
from .language import found, words


def quote(name: str) -> str:
    """A name that cannot end the quotation it is shown in."""
    return re.sub(r"[\"“”„«»‟″]", "'", name)


def party_text(party: Party) -> str:
    """Whose key it is, as far as this computer knows, and what the receipt calls it."""
    kind = "contact_compared" if party.compared else party.known
    contact, label = quote(party.contact), quote(party.label)
    return words("receipt", kind, contact=contact, label=label, fingerprint=party.fingerprint)


def posing(party: Party) -> str:
    """The warning of a label that is a contact's, with another key."""
    label, contact = quote(party.label), quote(party.posing_as)
    return words(
        "receipt", "posing", role=words("receipt", party.role), label=label, contact=contact
    )


def key_text(home: Home, key: bytes) -> str:
    """Whose key it is: a contact's name in quotation marks, else its fingerprint."""
    contact = next((one for one in home.contacts.all().values() if one.identity == key), None)
    name = contact.name if contact else ""
    return words("terminal", "label", label=shown(name)) if name else fingerprint(key)


def purpose_text(code: str) -> str:
    """What data was sent for, by its code, or ""."""
    return found("purpose", PURPOSES.get(code, ""), code)
