"""Receipts, checked here, by two JOSE libraries and by openssl."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as joserfc_jws
from joserfc.jwk import OKPKey
from joserfc.jws import GeneralJSONSerialization
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws
from nacl.signing import SigningKey

from p2p.protocol import receipt
from p2p.protocol.codec import decode_json
from p2p.protocol.errors import PeerError

from .vectors import VECTORS, cases

GOOD = next(
    c for c in json.loads((VECTORS / "receipt.json").read_text()) if c["name"] == "complete"
)["receipt"]
KEYS = [SigningKey(b"\x02" * 32), SigningKey(b"\x01" * 32)]  # recipient, sender


@cases("receipt")
def test_receipts_follow_the_vectors(case):
    data = case["receipt"].encode("latin-1")
    if "error" in case["expect"]:
        with pytest.raises(receipt.BadReceipt) as caught:
            receipt.verify(data)
        assert caught.value.reason.code == case["expect"]["error"]
    else:
        found = receipt.verify(data)
        assert {
            "sender": found.sender.hex(),
            "recipient": found.recipient.hex(),
            "confirmed": found.confirmed,
            "outcome": found.payload["outcome"],
        } == case["expect"]


@cases("same")
def test_members_that_differ_follow_the_vectors(case):
    expected = dict(case["expected"])
    if case["expect"] is None:
        receipt.require_same(case["said"], expected)
    else:
        with pytest.raises(receipt.BadReceipt) as caught:
            receipt.require_same(case["said"], expected)
        assert caught.value.reason.values == {"member": case["expect"]}


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_changed_octet_goes_unnoticed(place, change):
    data = bytearray(GOOD.encode())
    data[place] ^= change
    with pytest.raises(receipt.BadReceipt):
        receipt.verify(bytes(data))


@given(st.binary(max_size=300))
def test_any_bytes_are_no_receipt(data):
    with pytest.raises(receipt.BadReceipt):
        receipt.verify(data)


def test_joserfc_verifies_it():
    value = json.loads(GOOD)
    for number, key in enumerate(KEYS):
        one: GeneralJSONSerialization = {
            "payload": value["payload"],
            "signatures": [value["signatures"][number]],
        }
        public = OKPKey.import_key({**receipt.jwk(bytes(key.verify_key))})
        found = joserfc_jws.deserialize_json(one, public, algorithms=["Ed25519"])
        assert json.loads(found.payload)["outcome"] == "complete"


def test_jwcrypto_verifies_it():
    for key in KEYS:
        token = jwcrypto_jws.JWS()
        token.deserialize(GOOD)
        token.allowed_algs = ["Ed25519"]
        token.verify(jwcrypto_jwk.JWK(**receipt.jwk(bytes(key.verify_key))))
        assert json.loads(token.payload)["type"] == receipt.TYPE


def test_the_thumbprint_is_that_of_rfc_8037():
    """Appendix A.3."""
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert receipt.thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.process
def test_jq_and_openssl_verify_it(tmp_path):
    """The script of PROTOCOL.md, as it stands there."""
    assert shutil.which("jq")
    text = (VECTORS.parent.parent / "PROTOCOL.md").read_text()
    script = text.split("<!-- verify-receipt -->\n```sh\n")[1].split("```")[0]
    path = tmp_path / "receipt.json"
    path.write_text(GOOD)
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Signature Verified Successfully") == 2
    path.write_text(GOOD.replace(json.loads(GOOD)["signatures"][1]["signature"][:8], "AAAAAAAA"))
    assert subprocess.run(
        ["sh", "-c", script, "sh", str(path)], capture_output=True, cwd=tmp_path
    ).returncode


def test_the_fingerprint_is_readable():
    assert len(receipt.fingerprint(bytes(32)).split()) == 8


def test_facts_that_are_not_what_happened_are_named():
    payload = receipt.read_payload(receipt.verify(GOOD.encode()).octets)
    receipt.require_same(payload, {"outcome": "complete", "content": {"entries": 4}})
    with pytest.raises(receipt.BadReceipt, match=r"content\.entries"):
        receipt.require_same(payload, {"content": {"entries": 5}})


def test_a_payload_with_a_wrong_kid_is_refused():
    fields = decode_json(receipt.verify(GOOD.encode()).octets, 10_000)
    fields["sender"]["kid"] = "x"
    with pytest.raises(PeerError):
        receipt.read_payload(json.dumps(fields).encode())


def test_a_signature_of_another_length_does_not_fit():
    with pytest.raises(receipt.BadReceipt):
        receipt.check_signature(bytes(32), b"", b"short")
