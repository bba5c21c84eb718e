"""Links and the keys that follow from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import link
from p2p.protocol.errors import Failure
from p2p.protocol.suite import SUITE_1

from .vectors import cases


@cases("link")
def test_links_follow_the_vectors(case):
    expect = case["expect"]
    if "error" in expect:
        with pytest.raises(Failure) as caught:
            link.parse_link(case["link"])
        assert caught.value.code == expect["error"]
    else:
        found = link.parse_link(case["link"])
        assert (found.origin, found.secret.hex(), found.commitment.hex(), found.passphrase) == (
            expect["origin"],
            expect["secret"],
            expect["commitment"],
            expect["passphrase"],
        )
        assert str(found) == expect["text"]


@cases("kdf")
def test_keys_follow_the_vectors(case):
    keys = link.derive_keys(bytes.fromhex(case["secret"]))
    expect = case["expect"]
    if "identity" in case:
        identity = bytes.fromhex(case["identity"])
        assert link.host_commitment(bytes.fromhex(case["secret"]), identity).hex() == expect.pop(
            "commitment"
        )
        assert {k: v.hex() for k, v in keys.__dict__.items()} == expect
    elif "error" in expect:
        with pytest.raises(Failure) as caught:
            link.psk_secrets(keys, case["passphrase"])
        assert caught.value.code == expect["error"]
    else:
        assert SUITE_1.psk(link.psk_secrets(keys, case["passphrase"])).hex() == expect["psk"]


@given(st.text(max_size=200))
def test_any_text_is_a_link_or_one_sentence(text):
    for candidate in (text, f"https://example.org/#1.{text}"):
        try:
            link.parse_link(candidate)
        except Failure as failure:
            assert failure.code in ("link_invalid", "link_unsupported")


@given(st.binary(min_size=32, max_size=32), st.booleans())
def test_a_made_link_reads_back(secret, passphrase):
    made = link.make_link("https://example.org", secret, bytes(32), passphrase=passphrase)
    assert link.parse_link(str(made)) == made


def test_a_link_does_not_show_its_secrets_in_a_repr():
    made = link.make_link("https://example.org", b"\x01" * 32, bytes(32), passphrase=False)
    assert "x01" not in repr(made)
    assert "x01" not in repr(link.derive_keys(b"\x01" * 32))
