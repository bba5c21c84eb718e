"""The messages on the control channel and the signed bodies in them, each declared once.

A message is JSON with a `type`; a signed one carries the exact bytes of its body, and the signature
over the body behind its label (PROTOCOL.md, Control messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from ..codec import (
    MAX_INTEGER,
    Json,
    base64url,
    encode_base64url,
    encode_json,
    integer,
    members,
    one_of,
    text,
    utc_time,
)
from ..codec import list_of as _list_of
from ..manifest import MAX_ENTRIES, MAX_MANIFEST
from ..noise import MAX_MESSAGE, TAG
from ..receipt import MAX_RECEIPT
from ..signal import DIRECT_SHAPE, MAX_PLAINTEXT

LABEL_OFFER = b"handover/1 offer"
LABEL_ACCEPT = b"handover/1 accept"
LABEL_CLOSING = b"handover/1 closing"
MAX_LANES = 32  # at once
MAX_LANE_NUMBER = 65_535  # a number is used once
# What holds a transfer up, as the side sees it that says so: its disk, its limit, the network, or
# the other side; "": nothing for long.
Bottleneck = Literal["", "disk", "limit", "network", "other_side"]
BOTTLENECKS: tuple[Bottleneck, ...] = get_args(Bottleneck)
BATCH = 256  # entries in one `withdraw` or `failed`
MAX_BODY = 4096
MAX_CONTROL = MAX_MESSAGE - TAG
_type = text(32)
_body = text(MAX_BODY, empty=False)
_offset = integer(0, MAX_INTEGER)
_entry = integer(0, MAX_ENTRIES - 1)
_status = integer(0, 255)
_lane = integer(0, MAX_LANE_NUMBER)


def _tuple_of(*readers: Any) -> Any:
    def read(value: Json) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(readers):
            raise ValueError("not a tuple of this length")
        return tuple(reader(item) for reader, item in zip(readers, value, strict=True))

    return read


_signed = {"type": _type, "body": _body, "signature": base64url(64)}
MESSAGES = {
    "confirmed": members({"type": _type}),
    "offer": members(_signed),
    "accept": members(_signed),
    "decline": members({"type": _type}),
    "ack": members(
        {
            "type": _type,
            "stream": integer(0, 2),
            "written": _offset,
            "limit": _offset,
            "durable": _offset,
            "verified": _offset,
            "lanes": _list_of(_tuple_of(_lane, _offset), MAX_LANES),
        }
    ),
    "withdraw": members(
        {
            "type": _type,
            "entries": _list_of(_tuple_of(_entry, _status, _offset), BATCH, least=1),
        }
    ),
    "failed": members(
        {"type": _type, "entries": _list_of(_tuple_of(_entry, _status), BATCH, least=1)}
    ),
    "closing": members(_signed),
    "receipt": members(
        {"type": _type, "payload": text(MAX_RECEIPT, empty=False), "signature": base64url(64)}
    ),
    "countersignature": members({"type": _type, "signature": base64url(64)}),
    "done": members({"type": _type}),
    "direct": DIRECT_SHAPE,
    "https": members({"type": _type, "token": base64url(32)}),
    "lane": members(
        {"type": _type, "lane": integer(1, MAX_LANE_NUMBER), "signal": text(MAX_PLAINTEXT)}
    ),
    "ping": members({"type": _type, "bottleneck": one_of(*BOTTLENECKS)}),
    "abort": members({"type": _type, "code": text(32)}),
}
_id = base64url(32)
OFFER_BODY = members(
    {
        "type": one_of("offer"),
        "transfer_id": base64url(16),
        "transcript": _id,
        "sender": _id,
        "recipient": _id,
        "manifest_sha256": _id,
        "manifest_bytes": integer(1, MAX_MANIFEST),
        "entries": integer(1, MAX_ENTRIES),
        "bytes": _offset,
        "time": utc_time,
    }
)
ACCEPT_BODY = members(
    {
        "type": one_of("accept"),
        "transfer_id": base64url(16),
        "transcript": _id,
        "offer_sha256": _id,
        "offset": _offset,
        "time": utc_time,
    }
)
CLOSING_BODY = members(
    {
        "type": one_of("closing"),
        "transfer_id": base64url(16),
        "manifest_sha256": _id,
        "digests_sha256": _id,
        "audit_head": text(64),
        "time": utc_time,
    }
)


def plain(fields: Mapping[str, Any]) -> dict[str, Json]:
    """JSON of members of any depth; bytes are written as base64url."""

    def one(value: Any) -> Json:
        if isinstance(value, bytes):
            return encode_base64url(value)
        return plain(value) if isinstance(value, Mapping) else value

    return {name: one(value) for name, value in fields.items()}


def encode_body(fields: Mapping[str, Json | bytes]) -> bytes:
    """A signed document; bytes are written as base64url."""
    return encode_json(plain(fields))
