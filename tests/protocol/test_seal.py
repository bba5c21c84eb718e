"""Sealed ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    message = seal.seal_range(PUBLIC, header, payload)
    assert len(message) == len(payload) + seal.OVERHEAD
    assert seal.Opener(PRIVATE).open(message) == (header, payload)
    assert header.end == offset + len(payload)


def test_a_hole_has_no_payload():
    header = seal.Header(bytes(16), seal.Stream.DATA, True, 5, 10**12)
    message = seal.seal_range(PUBLIC, header, b"")
    assert len(message) == seal.OVERHEAD
    assert seal.Opener(PRIVATE).open(message) == (header, b"")


@given(st.binary(max_size=300))
def test_any_bytes_are_no_range(data):
    with pytest.raises(PeerError):
        seal.Opener(PRIVATE).open(data)
