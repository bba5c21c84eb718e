"""What everything else is made of: strict JSON, base64url, length-prefixed bytes, HKDF.

Strict JSON (RFC 8259 narrowed, after I-JSON RFC 7493): UTF-8, no duplicate member names, no floats,
no NaN, integers within +-(2^53 - 1), no lone surrogates, nesting of at most 6. A signed document is
always the exact bytes that were sent, so nothing here has to be canonical; `encode_json` still
writes sorted, compact JSON so that two peers with the same facts write the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import PeerError

MAX_INTEGER = 2**53 - 1  # what every JSON implementation holds exactly (RFC 7493 2.2)
MAX_DEPTH = 6  # our deepest document, the receipt, has 4

Json = Any
Reader = Callable[[Json], Any]


def encode_json(value: Json) -> bytes:
    """Compact JSON with sorted member names, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse(token: str) -> Json:
    raise ValueError(f"number {token[:16]} is not an integer")


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        raise ValueError("integer out of range")
    if digits == "-0":
        raise ValueError("negative zero")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse, parse_int=_integer
)


def _walk(value: Json, depth: int) -> None:
    if isinstance(value, str):
        value.encode()  # a lone surrogate cannot be encoded
    elif isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise ValueError("nested too deeply")
        if isinstance(value, dict):
            for name in value:
                name.encode()
            value = list(value.values())
        for item in value:
            _walk(item, depth + 1)


def decode_json(data: bytes, limit: int) -> Json:
    """Decode strict JSON of at most `limit` bytes. Raises `PeerError`."""
    if len(data) > limit:
        raise PeerError("message_too_long")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
        # What it looks for takes an escape, or more brackets than these.
        if b"\\u" in data or data.count(b"{") + data.count(b"[") > MAX_DEPTH:
            _walk(value, 0)
    except (ValueError, RecursionError):  # ValueError covers JSON, Unicode and our own
        raise PeerError("message_not_strict_json") from None
    return value


def encode_base64url(data: bytes) -> str:
    """Base64url without padding (RFC 4648 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Decode unpadded base64url; only the one canonical spelling is taken. Raises `ValueError`."""
    data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def prefixed(*parts: bytes) -> bytes:
    """Each part behind its length as u32 big-endian: no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the parts one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869 2.2)."""
    return hmac.digest(salt, material, "sha256")


def hkdf_expand(key: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869 2.3); `length` is at most 255 * 32 bytes."""
    output = previous = b""
    counter = 1
    while len(output) < length:
        previous = hmac.digest(key, previous + label + bytes([counter]), "sha256")
        output += previous
        counter += 1
    return output[:length]


# --- readers: each takes a JSON value and returns the typed one, or raises ValueError -----------


def integer(low: int, high: int) -> Reader:
    """An integer from `low` to `high`."""

    def read(value: Json) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError("integer out of range")
        return value

    return read


def text(limit: int, *, empty: bool = True) -> Reader:
    """A string of at most `limit` UTF-8 bytes."""

    def read(value: Json) -> str:
        if type(value) is not str or len(value.encode()) > limit or not (value or empty):
            raise ValueError("text too long or not text")
        return value

    return read


_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?Z"
)
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def utc_time(value: Json) -> str:
    """A time of RFC 3339 in UTC, of a day that there is, with "T" and "Z" and no leap second."""
    found = _TIME.fullmatch(value) if type(value) is str else None
    if found is None:
        raise ValueError("not a time")
    year, month, day, hour, minute, second = map(int, found.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (year and 1 <= month <= 12 and hour <= 23 and minute <= 59 and second <= 59):
        raise ValueError("no such time")
    if not 1 <= day <= _DAYS[month - 1] + (leap and month == 2):
        raise ValueError("no such day")
    return found[0]


def base64url(length: int) -> Reader:
    """Base64url of exactly `length` bytes, read as bytes."""

    def read(value: Json) -> bytes:
        data = decode_base64url(value) if type(value) is str else b""
        if len(data) != length:
            raise ValueError("wrong length")
        return data

    return read


def base64url_upto(limit: int) -> Reader:
    """Base64url of at most `limit` bytes, read as bytes."""

    def read(value: Json) -> bytes:
        if type(value) is not str or len(value) > limit * 4 // 3 + 2:
            raise ValueError("too long or not text")
        data = decode_base64url(value)
        if len(data) > limit:
            raise ValueError("too long")
        return data

    return read


def boolean(value: Json) -> bool:
    """true or false."""
    if type(value) is not bool:
        raise ValueError("not true or false")
    return value


def one_of(*choices: str) -> Reader:
    """One of a few strings."""

    def read(value: Json) -> str:
        if type(value) is not str or value not in choices:
            raise ValueError("not one of the choices")
        return value

    return read


def list_of(item: Reader, limit: int, *, least: int = 0) -> Reader:
    """A list of `least` to `limit` items."""

    def read(value: Json) -> list[Any]:
        if type(value) is not list or not least <= len(value) <= limit:
            raise ValueError("list too long or too short or not a list")
        return [item(element) for element in value]

    return read


def optional(reader: Reader) -> Reader:
    """The member may be missing; it then reads as None."""

    def read(value: Json) -> Any:
        return None if value is None else reader(value)

    read.__dict__["optional"] = True
    return read


def members(shape: Mapping[str, Reader]) -> Reader:
    """An object with exactly these members; unknown ones are refused."""

    def read(value: Json) -> dict[str, Any]:
        if type(value) is not dict or not value.keys() <= shape.keys():
            raise ValueError("not an object, or with unknown members")
        result = {}
        for name, reader in shape.items():
            if name in value:
                if value[name] is None:
                    raise ValueError("null")
                result[name] = reader(value[name])
            elif reader.__dict__.get("optional"):
                result[name] = None
            else:
                raise ValueError("a member is missing")
        return result

    read.__dict__["members"] = tuple(shape)
    return read


def read_as(reader: Reader, value: Json, what: str) -> Any:
    """Apply a reader at the edge; the failure names `what`, never the value. Raises `PeerError`."""
    try:
        return reader(value)
    except ValueError:
        raise PeerError("malformed", what) from None
