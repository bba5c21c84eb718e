"""The messages between a peer and the signaling server, and the limits both sides know.

The one module that `p2p` and `signaling` share; it imports the standard library only. JSON objects
with a `type`, one per WebSocket text frame; binary values are unpadded base64url. The server takes
exactly the members named here; a peer ignores members it does not know, so that servers may say
more one day (PROTOCOL.md, The signaling server).
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

PATH = "/signal"
SUBPROTOCOL = "handover.signal.1"

MAX_FRAME = 16 * 1024  # bytes of one WebSocket message
MAX_BODY = 9 * 1024  # bytes of a sealed envelope, before base64url
MAX_TTL = 24 * 3600  # seconds a room may live
MAX_ICE_URLS, MAX_ICE_URL = 8, 320  # servers that peers are told of; characters of each one's URL
ROOM, JOIN, JOIN_HASH, OWNER, ATTEMPT = 16, 32, 32, 32, 16  # bytes

MAX_TOKEN = 8192  # characters that allow a host to create rooms: a JWT with many groups fits
MAX_TEXT = 256  # of a path where one gets them, and of a reason
MIN_EXPIRES = 60  # seconds that an operator lets links live, at least
MAX_OPERATOR = 64  # bytes of what an operator is called

Message = dict[str, Any]
OPTIONAL_TEXT: Final = "optional text"
OPTIONAL_LONG: Final = "optional long text"
# Member -> length of the bytes, or (least, most) of an integer, or str, or dict for an object that
# may be missing and that the peer reads itself, or OPTIONAL_TEXT of at most MAX_TEXT characters, or
# OPTIONAL_LONG of at most MAX_TOKEN.
Shape = dict[str, Any]

FROM_PEER: Final[dict[str, Shape]] = {
    # Host: take (or take again) the host's seat of a room; with a token where a server wants one.
    "create": {
        "room": ROOM,
        "join_hash": JOIN_HASH,
        "owner": OWNER,
        "ttl": (1, MAX_TTL),
        "token": OPTIONAL_LONG,
    },
    # Guest: begin an attempt. Consumes nothing.
    "join": {"room": ROOM, "join": JOIN},
    # Either: pass this on to the other side of the attempt.
    "envelope": {"attempt": ATTEMPT, "body": None},
    # Either: this attempt is over (it failed, or the peers have met).
    "leave": {"attempt": ATTEMPT},
    # Host: the room is finished.
    "close": {},
    # Guest, of a server that is this transfer's own: its page has something to save yet.
    "stay": {"room": ROOM, "join": JOIN},
}
FROM_SERVER: Final[dict[str, Shape]] = {
    "created": {"policy": dict},
    "joined": {"attempt": ATTEMPT, "ice": dict, "policy": dict},
    "attempt": {"attempt": ATTEMPT, "ice": dict},
    "envelope": {"attempt": ATTEMPT, "body": None},
    "left": {"attempt": ATTEMPT},
    "error": {"code": str, "sign_in": OPTIONAL_TEXT, "reason": OPTIONAL_TEXT},
}
ERRORS: Final = (
    "bad_message",
    "not_found",  # no such room, or a wrong join token: the same on purpose
    "busy",  # two attempts are under way
    "room_taken",  # someone else holds the host's seat
    "rate_limited",
    "full",  # the server has as many rooms as it takes
    "expired",
    "going_away",  # the server is stopping; come back
    "unavailable",  # what its nodes share cannot be reached; come back
    "token_required",  # to create rooms here; `sign_in`, if any, is where to get one
)


# How an attempt ended, as a guest says by the code that it closes its connection with.
OUTCOMES: Final = {
    4000: "direct",
    4001: "tls",
    4002: "relayed",
    4003: "https",
    4010: "no_connection",
    4011: "connection_lost_early",
    4012: "passphrase_wrong",
    4013: "cancelled",
    4014: "failed",
}
CONNECTED: Final = ("direct", "tls", "relayed", "https")
REASONS: Final = ("expired", "closed")  # why a room is `not_found`, to who has its join token


class BadMessage(ValueError):
    """A message that is not of the form."""


def encode_bytes(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(value: object, length: int | None) -> bytes:
    if not isinstance(value, str) or len(value) > MAX_FRAME:
        raise BadMessage
    try:
        data = base64.urlsafe_b64decode(value.encode("ascii") + b"=" * (-len(value) % 4))
    except (ValueError, binascii.Error):
        raise BadMessage from None
    fits = 0 < len(data) <= MAX_BODY if length is None else len(data) == length
    if not fits or encode_bytes(data) != value:
        raise BadMessage
    return data


def _text(value: str) -> str:
    """What can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadMessage from None
    return value


def _member(value: object, shape: object) -> Any:
    if shape is str:
        if not isinstance(value, str) or len(value) > 32:
            raise BadMessage
        return _text(value)
    if shape in (OPTIONAL_TEXT, OPTIONAL_LONG):
        most = MAX_TEXT if shape is OPTIONAL_TEXT else MAX_TOKEN
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= most):
            raise BadMessage
        return value and _text(value)
    if shape is dict:
        if not isinstance(value, dict | None):
            raise BadMessage
        return value
    if isinstance(shape, tuple):
        if type(value) is not int or not shape[0] <= value <= shape[1]:
            raise BadMessage
        return value
    return _bytes(value, shape if isinstance(shape, int) else None)


def encode(kind: str, **members: Any) -> str:
    """One message as text."""
    there = {name: value for name, value in members.items() if value is not None}
    texts = {k: encode_bytes(v) if isinstance(v, bytes) else v for k, v in there.items()}
    return json.dumps({"type": kind, **texts})


def decode(text: str | bytes, shapes: dict[str, Shape]) -> Message:
    """Read a message from the other side; bytes come out as bytes. Raises `BadMessage`."""
    if not isinstance(text, str) or len(text) > MAX_FRAME:
        raise BadMessage
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage from None
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in shapes:
        raise BadMessage
    shape = shapes[kind]
    optional = (dict, OPTIONAL_TEXT, OPTIONAL_LONG)
    needed = {name for name, one in shape.items() if one not in optional}
    if not needed <= value.keys():
        raise BadMessage
    if shapes is FROM_PEER and not value.keys() <= {"type", *shape}:
        raise BadMessage
    return {"type": kind, **{name: _member(value.get(name), shape[name]) for name in shape}}
