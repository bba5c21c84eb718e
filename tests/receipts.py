"""Receipts as any two keys might sign them."""

from __future__ import annotations

import json
from pathlib import Path

from nacl.signing import SigningKey

from p2p.protocol import receipt
from p2p.protocol.audit import GENESIS
from p2p.protocol.codec import decode_base64url, encode_base64url, encode_json

GOOD = json.loads((Path(__file__).parent / "vectors" / "receipt.json").read_text())[0]["receipt"]
STRANGER = SigningKey(b"\x51" * 32)


def signed(
    sender: SigningKey,
    recipient: SigningKey,
    *,
    transfer: bytes = bytes(16),
    heads: tuple[str, str] = (GENESIS, GENESIS),
    labels: tuple[str, str] = ("Klinik", "Praxis"),
    by: int = 2,
    root: bytes | None = None,
    missing: int = 0,
) -> bytes:
    """A receipt of these keys, which each of the first `by` has signed, the recipient first. `missing`:
    entries, of one byte each, that did not arrive."""
    payload = json.loads(decode_base64url(json.loads(GOOD)["payload"]))
    payload["transfer_id"] = encode_base64url(transfer)
    if missing:
        payload["outcome"] = "incomplete"
        payload["content"]["delivered_entries"] -= missing
        payload["content"]["delivered_bytes"] -= missing
    if root is not None:
        payload["content"]["root"] = encode_base64url(root)
    keys = {"sender": sender, "recipient": recipient}
    for (role, key), head, label in zip(keys.items(), heads, labels, strict=True):
        payload[role] = receipt.party(bytes(key.verify_key), label, "test/1", head)
    octets = encode_json(payload)
    signatures = [
        (bytes(key.verify_key), receipt.sign(key, octets)) for key in (recipient, sender)[:by]
    ]
    return receipt.assemble(octets, signatures)
