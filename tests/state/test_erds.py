"""The log as evidence of delivery: its form by the standard's schema, its signature by other libraries."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from jwcrypto import jwk
from jwcrypto import jws as other_jws
from nacl.signing import SigningKey

from p2p.protocol.codec import decode_base64url, encode_base64url, sha256
from p2p.protocol.errors import Failure
from p2p.protocol.receipt import thumbprint
from p2p.state import erds, jades
from p2p.state.history import Account, accounts
from p2p.state.home import Home
from tests.receipts import signed

OTHER = SigningKey(b"\x21" * 32)
KEY = SigningKey(b"\x22" * 32)
ONE = b"\x01" * 16
EVENT = "http://uri.etsi.org/19522/Event/"
# Of EvidenceType: what has to be there, and what may be (EN 319 522-3, its XML schema).
MANDATORY = {
    "version",
    "EvidenceIdentifier",
    "ERDSEventId",
    "EventTime",
    "EvidenceIssuerDetails",
    "SenderDetails",
    "RecipientDetails",
}
OPTIONAL = {
    "EventReasons",
    "EvidenceIssuerPolicyID",
    "SenderDelegateDetails",
    "RecipientsDelegateDetails",
    "SubmissionTime",
    "EvidenceRefersToRecipient",
    "MessageIdentifier",
    "UserContentInfo",
    "ExternalERDSDetails",
    "ForwardedToExternalSystem",
    "TransactionLogInformation",
    "Extensions",
}
EVENTS = {
    "SubmissionAcceptance",
    "ConsignmentAcceptance",
    "ConsignmentRejection",
    "AcceptanceRejectionExpiry",
    "ContentHandover",
    "ContentHandoverFailure",
}


def holds(record):
    assert set(record) >= MANDATORY
    assert set(record) <= MANDATORY | OPTIONAL
    assert record["ERDSEventId"].removeprefix(EVENT) in EVENTS
    assert record["EvidenceIdentifier"].startswith("urn:uuid:")
    issuer = record["EvidenceIssuerDetails"]
    assert set(issuer) == {"Identity"}
    for attribute in issuer["Identity"]["Attribute"]:
        assert set(attribute) == {"Name", "AttributeValue"}
    assert any(
        "non-qualified" in one["AttributeValue"][0] for one in issuer["Identity"]["Attribute"]
    )
    assert len(record["RecipientDetails"]) == 1
    for user in (record["SenderDetails"], *record["RecipientDetails"]):
        assert set(user) <= {"Identity", "Identifier"}
        if "Identifier" in user:
            assert set(user["Identifier"]) == {"value", "IdentifierSchemeName"}
    for part in record.get("UserContentInfo", {"PartsInfo": {"PartInfo": []}})["PartsInfo"][
        "PartInfo"
    ]:
        assert set(part) == {"Identifier", "ContentType", "DigestMethod", "DigestValue"}
        assert len(base64.b64decode(part["DigestValue"])) == 32


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def told(home, ending, role="sender", *, accepted=True, receipt=True, **more):
    identity = home.identity.load()
    always = {"role": role, "run": "aa", "transfer_id": encode_base64url(ONE)}
    home.audit.append("link_made" if role == "sender" else "link_opened", always)
    always["peer"] = thumbprint(bytes(OTHER.verify_key))
    if accepted:
        home.audit.append("accepted", always)
    if receipt:
        pair = (identity.key, OTHER) if role == "sender" else (OTHER, identity.key)
        home.receipts.store(ONE, signed(*pair, transfer=ONE, **more))
    members = {"ending": ending, "code": "", "manifest_sha256": encode_base64url(b"\x07" * 32)}
    home.audit.append("transfer", always | members)


def records(home):
    own = thumbprint(home.identity.load().public)
    (account,) = accounts(home)
    return list(erds.evidence(account, own, "test/1"))


def names(found):
    return [one["ERDSEventId"].removeprefix(EVENT) for one in found]


def test_a_transfer_from_its_submission_to_its_handover(home):
    told(home, "complete")
    found = records(home)
    for one in found:
        holds(one)
    assert names(found) == ["SubmissionAcceptance", "ConsignmentAcceptance", "ContentHandover"]
    last = found[-1]
    assert last["MessageIdentifier"] == "urn:uuid:01010101-0101-0101-0101-010101010101"
    receipt = home.receipts.read(ONE)
    parts = {
        one["Identifier"]: base64.b64decode(one["DigestValue"])
        for one in last["UserContentInfo"]["PartsInfo"]["PartInfo"]
    }
    assert parts == {"receipt": sha256(receipt.octets), "manifest": b"\x07" * 32}
    assert last["SubmissionTime"] == receipt.payload["times"]["offered"]
    assert found[0]["TransactionLogInformation"]["TransactionLog"][0].get("ending") is None
    assert records(home) == found  # the same evidence each time


@pytest.mark.parametrize(
    ("ending", "how", "wanted"),
    [
        (
            "incomplete",
            {"missing": 1},
            ["ConsignmentAcceptance", "ContentHandover", "ContentHandoverFailure"],
        ),
        ("delivered_unconfirmed", {"by": 1}, ["ConsignmentAcceptance", "ContentHandover"]),
        (
            "delivered_unconfirmed",
            {"by": 1, "missing": 1},
            ["ConsignmentAcceptance", "ContentHandover", "ContentHandoverFailure"],
        ),
        ("incomplete", {"missing": 4}, ["ConsignmentAcceptance", "ContentHandoverFailure"]),
        # Where the receipt is there no more, or cannot be read.
        ("complete", {"receipt": False}, ["ConsignmentAcceptance", "ContentHandover"]),
        ("delivered_unconfirmed", {"receipt": False}, ["ConsignmentAcceptance", "ContentHandover"]),
        (
            "incomplete",
            {"receipt": False},
            ["ConsignmentAcceptance", "ContentHandover", "ContentHandoverFailure"],
        ),
        ("declined", {"accepted": False, "receipt": False}, ["ConsignmentRejection"]),
        ("partial", {"receipt": False}, ["ConsignmentAcceptance", "ContentHandoverFailure"]),
        ("failed", {"receipt": False}, ["ConsignmentAcceptance", "ContentHandoverFailure"]),
        ("aborted", {"accepted": False, "receipt": False}, ["ContentHandoverFailure"]),
        ("expired", {"accepted": False, "receipt": False}, ["AcceptanceRejectionExpiry"]),
    ],
)
@pytest.mark.parametrize("role", ["sender", "recipient"])
def test_every_ending_has_its_evidence(home, role, ending, how, wanted):
    told(home, ending, role, **how)
    found = records(home)
    for one in found:
        holds(one)
    first = ["SubmissionAcceptance"] if role == "sender" else []
    assert names(found) == first + wanted


@given(
    role=st.sampled_from(("sender", "recipient", "", "x")),
    ending=st.text(max_size=12),
    steps=st.lists(st.tuples(st.text(max_size=5), st.sampled_from(("accepted", "link_made", "?")))),
    peer=st.text(max_size=10),
    manifest=st.text(max_size=50),
)
def test_whatever_stands_in_a_log_makes_evidence_of_that_form(role, ending, steps, peer, manifest):
    account = Account(
        ONE.hex(), role, "", "then", ending, peer=peer, manifest=manifest, steps=steps
    )
    for one in erds.evidence(account, "own", "test/1"):
        holds(one)


# --- signatures ----------------------------------------------------------------------------------


def of_files(folder, *kind):
    """A facility's certificate by an authority, and its key."""
    made = ("openssl", "req", "-x509", "-nodes", "-days", "3")
    key, chain = folder / "facility.key", folder / "facility.pem"
    root = (
        "-newkey",
        "rsa:2048",
        "-subj",
        "/CN=Root",
        "-keyout",
        folder / "root.key",
        "-out",
        folder / "root.pem",
    )
    subprocess.run((*made, *root), check=True, capture_output=True)
    own = ("-newkey", *kind, "-subj", "/O=Klinik Nord/CN=Seal", "-keyout", key, "-out", chain)
    issuer = ("-CA", folder / "root.pem", "-CAkey", folder / "root.key")
    subprocess.run((*made, *own, *issuer), check=True, capture_output=True)
    chain.write_bytes(chain.read_bytes() + (folder / "root.pem").read_bytes())
    return chain, key


KINDS = {
    "ES256": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "ES384": ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "RS256": ("rsa:2048",),
    "EdDSA": ("ed25519",),
}


class Registry(jws.JWSRegistry):
    """As large as certificates need it."""

    max_header_length = 65536
    max_payload_length = 1 << 20


def verified(document):
    """What is signed, and its header, by two libraries, with the key of the certificate in it."""
    header = json.loads(decode_base64url(document["protected"]))
    certificate = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))
    pem = certificate.public_key().public_bytes(
        encoding=Encoding.PEM, format=PublicFormat.SubjectPublicKeyInfo
    )
    kind: Any = {"EdDSA": OKPKey, "ES256": ECKey, "ES384": ECKey, "RS256": RSAKey}[header["alg"]]
    registry = Registry(algorithms=[header["alg"]], strict_check_header=False)
    if header["alg"] == "EdDSA":
        with pytest.warns(SecurityWarning):
            found = jws.deserialize_json(document, kind.import_key(pem), registry=registry)
    else:
        found = jws.deserialize_json(document, kind.import_key(pem), registry=registry)
    token = other_jws.JWS()
    token.allowed_algs = [header["alg"]]
    token.deserialize(json.dumps(document), jwk.JWK.from_pem(pem))
    assert token.payload == found.payload
    return found.payload, header, certificate


def baseline(header):
    """What TS 119 182-1 demands of a B-B signature's protected header."""
    assert header["alg"] in KINDS
    assert isinstance(header["iat"], int)
    assert "sigT" not in header  # one of the two
    certificate = base64.b64decode(header["x5c"][0])
    assert decode_base64url(header["x5t#S256"]) == sha256(certificate)
    assert set(header) == {"alg", "typ", "cty", "iat", "x5c", "x5t#S256"}  # so no crit


def test_this_machines_identity_signs(home):
    identity = home.identity.load()
    document = jades.sign(b'{"a":1}', jades.signer_of_identity(identity.key), 1_800_000_000)
    payload, header, certificate = verified(document)
    assert payload == b'{"a":1}'
    baseline(header)
    certificate.verify_directly_issued_by(certificate)
    assert thumbprint(certificate.public_key().public_bytes_raw()) == thumbprint(identity.public)
    again = jades.sign(b'{"a":1}', jades.signer_of_identity(identity.key), 1_800_000_000)
    assert again == document  # the certificate as well


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_facilitys_certificate_signs(tmp_path, algorithm):
    chain, key = of_files(tmp_path, *KINDS[algorithm])
    document = jades.sign(b"{}", jades.signer_of_files(chain, key), 1_800_000_000)
    payload, header, certificate = verified(document)
    baseline(header)
    assert (payload, header["alg"], len(header["x5c"])) == (b"{}", algorithm, 2)
    assert "Klinik Nord" in certificate.subject.rfc4514_string()


def test_what_cannot_sign_is_refused(tmp_path):
    chain, key = of_files(tmp_path, *KINDS["ES256"])
    with pytest.raises(Failure, match="belong together"):
        jades.signer_of_files(chain, tmp_path / "root.key")
    with pytest.raises(Failure, match="belong together"):
        jades.signer_of_files(key, key)
    with pytest.raises(Failure, match="no such file"):
        jades.signer_of_files(tmp_path / "none", key)
    turned = tmp_path / "turned"
    leaf = chain.read_bytes().partition(b"-----END CERTIFICATE-----\n")
    turned.write_bytes(b"".join(leaf[:2]) * 2)
    with pytest.raises(Failure, match="followed by"):
        jades.signer_of_files(turned, key)
    locked = tmp_path / "locked"
    subprocess.run(
        ("openssl", "ec", "-aes128", "-passout", "pass:abcd", "-in", key, "-out", locked),
        check=True,
        capture_output=True,
    )
    with pytest.raises(Failure, match="passphrase"):
        jades.signer_of_files(chain, locked)


@pytest.mark.parametrize(
    "kind",
    [
        ("ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
        ("ec", "-pkeyopt", "ec_paramgen_curve:wap-wsg-idm-ecid-wtls7"),
        ("rsa:1024",),
        ("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"),
        ("ed448",),
    ],
    ids=["secp256k1", "wtls7", "rsa-1024", "rsa-pss", "ed448"],
)
def test_a_key_of_another_kind_is_refused(tmp_path, kind):
    with pytest.raises(Failure, match="kind"):
        jades.signer_of_files(*of_files(tmp_path, *kind))


def test_a_certificate_that_has_expired_signs_nothing(tmp_path, monkeypatch):
    pair = of_files(tmp_path, *KINDS["ES256"])

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2999, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(jades, "datetime", Later)
    with pytest.raises(Failure, match="not valid now"):
        jades.signer_of_files(*pair)


def test_a_stamp_is_added_beside_the_signature():
    document = jades.sign(b"{}", jades.signer_of_identity(KEY), 1_800_000_000)
    stamped = jades.with_stamp(document, b"token")
    verified(stamped)
    (one,) = stamped["header"]["etsiU"]
    assert json.loads(decode_base64url(one)) == {"sigTst": {"tstTokens": [{"val": "dG9rZW4="}]}}
    assert re.fullmatch(rb"[A-Za-z0-9_-]{86}", jades.to_be_stamped(stamped))
