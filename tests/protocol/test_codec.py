"""Strict JSON, base64url, HKDF."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import codec
from p2p.protocol.errors import PeerError

from .vectors import cases

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@cases("json")
def test_strict_json_follows_the_vectors(case):
    data, limit = bytes.fromhex(case["data"]), case.get("limit", 100)
    if isinstance(case["expect"], dict) and "error" in case["expect"]:
        with pytest.raises(PeerError):
            codec.decode_json(data, limit)
    else:
        assert codec.decode_json(data, limit) == case["expect"]


@cases("base64url")
def test_base64url_follows_the_vectors(case):
    if isinstance(case["expect"], dict):
        with pytest.raises(ValueError):
            codec.decode_base64url(case["text"])
    else:
        assert codec.decode_base64url(case["text"]).hex() == case["expect"]


@given(st.binary(max_size=300))
def test_any_bytes_are_json_or_a_peer_error(data):
    try:
        codec.decode_json(data, 1000)
    except PeerError as error:
        assert error.code == "protocol"


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same(value):
    depth = str(value)
    if depth.count("[") + depth.count("{") <= codec.MAX_DEPTH:
        assert codec.decode_json(codec.encode_json(value), 100_000) == value


@given(st.binary(max_size=100))
def test_base64url_round_trip(data):
    assert codec.decode_base64url(codec.encode_base64url(data)) == data


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_prefixed_is_injective(one, other):
    assert (codec.prefixed(*one) == codec.prefixed(*other)) == (one == other)


def test_hkdf_is_that_of_rfc_5869():
    """Appendix A.1 and A.3."""
    prk = codec.hkdf_extract(bytes(range(13)), b"\x0b" * 22)
    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    assert codec.hkdf_expand(prk, bytes(range(0xF0, 0xFA)), 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    prk = codec.hkdf_extract(b"", b"\x0b" * 22)
    assert codec.hkdf_expand(prk, b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


@pytest.mark.parametrize(
    ("reader", "good", "bad"),
    [
        (codec.integer(1, 3), [1, 3], [0, 4, True, "1", None, 1.0]),
        (codec.text(3), ["", "abc", "é"], ["abcd", "éé", 1, None]),
        (codec.text(3, empty=False), ["a"], [""]),
        (codec.base64url(2), ["AAA"], ["AA", "AAAA", 1, "A A"]),
        (codec.base64url_upto(3), ["", "AAAA"], ["AAAAAAAA", 1, "A"]),
        (codec.boolean, [True, False], [0, 1, "true", None]),
        (codec.one_of("a", "b"), ["a"], ["c", 1, None]),
        (codec.list_of(codec.boolean, 2, least=1), [[True]], [[], [True] * 3, {}, [1]]),
        (
            codec.members({"a": codec.boolean}),
            [{"a": True}],
            [{}, {"a": None}, {"b": 1}, [], {"a": True, "b": 1}],
        ),
        (
            codec.members({"a": codec.optional(codec.boolean)}),
            [{}, {"a": True}],
            [{"a": None}, {"a": 1}],
        ),
    ],
)
def test_readers_take_only_what_they_say(reader, good, bad):
    for value in good:
        reader(value)
    for value in bad:
        with pytest.raises(ValueError):
            reader(value)


def test_an_optional_member_reads_as_none():
    assert codec.members({"a": codec.optional(codec.boolean)})({}) == {"a": None}
    assert codec.optional(codec.boolean)(None) is None


def test_a_refused_value_is_named_but_not_shown():
    with pytest.raises(PeerError) as caught:
        codec.read_as(codec.boolean, "a secret", "a thing")
    assert caught.value.detail == "malformed: a thing"
