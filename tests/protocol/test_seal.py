"""Sealed ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from p2p.protocol import noise, seal
from p2p.protocol.errors import PeerError

from .vectors import cases

PRIVATE = b"\x44" * 32
PUBLIC = noise.public_key(PRIVATE)


@cases("seal")
def test_ranges_follow_the_vectors(case):
    opener, message = seal.Opener(bytes.fromhex(case["private"])), bytes.fromhex(case["message"])
    if "error" in case["expect"]:
        with pytest.raises(PeerError):
            opener.open(message)
    else:
        header, payload = opener.open(message)
        assert {
            "transfer_id": header.transfer_id.hex(),
            "stream": int(header.stream),
            "flags": header.flags,
            "offset": header.offset,
            "length": header.length,
            "payload": payload.hex(),
        } == case["expect"]


@given(
    st.binary(min_size=16, max_size=16),
    st.sampled_from(list(seal.Stream)),
    st.integers(0, 2**53 - 1),
    st.binary(min_size=1, max_size=100),
)
def test_what_is_sealed_opens(transfer, stream, offset, payload):
    header = seal.Header(transfer, stream, False, offset, len(payload))
    message = seal.seal_range(PUBLIC, header, seal.with_headroom(payload))
    assert len(message) == len(payload) + seal.OVERHEAD
    assert bindings.crypto_box_seal_open(bytes(message), PUBLIC, PRIVATE)[seal.HEADER :] == payload
    assert seal.Opener(PRIVATE).open(bytes(message)) == (header, payload)
    assert seal.Opener(PRIVATE).open(message) == (header, payload)
    assert header.end == offset + len(payload)


def test_a_hole_has_no_payload():
    header = seal.Header(bytes(16), seal.Stream.DATA, True, 5, 10**12)
    message = seal.seal_range(PUBLIC, header, seal.with_headroom(b""))
    assert len(message) == seal.OVERHEAD
    found, payload = seal.Opener(PRIVATE).open(message)
    assert found == header
    assert bytes(payload) == b""


@given(st.binary(max_size=300))
def test_any_bytes_are_no_range(data):
    with pytest.raises(PeerError):
        seal.Opener(PRIVATE).open(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_range_in_place_either(data):
    with pytest.raises(PeerError):
        seal.Opener(PRIVATE).open(bytearray(data))


@pytest.mark.parametrize("size", [1, 63, 64, 65, 4096, seal.MAX_RANGE])
def test_a_box_made_in_place_is_one_like_any_other(size):
    """Whatever libsodium's inner blocks are."""
    payload = bytes(i * 31 & 255 for i in range(size))
    header = seal.Header(bytes(16), seal.Stream.DATA, 0, 7, size)
    message = seal.seal_range(PUBLIC, header, seal.with_headroom(payload))
    plain = bindings.crypto_box_seal_open(bytes(message), PUBLIC, PRIVATE)
    assert plain[seal.HEADER :] == payload
    other = bytearray(bindings.crypto_box_seal(plain, PUBLIC))
    found, opened = seal.Opener(PRIVATE).open(other)
    assert found == header
    assert opened == payload


def test_a_key_that_is_no_point_seals_nothing():
    header = seal.Header(bytes(16), seal.Stream.DATA, 0, 0, 1)
    with pytest.raises(ValueError, match="not a key"):
        seal.seal_range(bytes(32), header, seal.with_headroom(b"x"))
