"""The handshake: vectors, and every way to be someone else."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from p2p.protocol import handshake, link, noise
from p2p.protocol.codec import encode_json
from p2p.protocol.errors import Failure, PeerError

from .vectors import cases

SECRET = b"\x05" * 32
S_KEY, R_KEY = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
SECRETS = link.psk_secrets(link.derive_keys(SECRET), None)


def entropy(seed):
    return handshake.Entropy(*(bytes([seed + i]) * 32 for i in range(4)))


def binding(**changes):
    fields = {
        "room": b"r" * 16,
        "attempt": b"a" * 16,
        "nonce_guest": b"n" * 16,
        "nonce_host": b"m" * 16,
        "fingerprint_host": b"f" * 32,
        "fingerprint_guest": b"g" * 32,
        "passphrase": False,
    }
    return handshake.ChannelBinding(**{**fields, **changes})


def guest(where=None, **changes):
    fields = {
        "secrets": SECRETS,
        "secret": SECRET,
        "commitment": link.host_commitment(SECRET, bytes(S_KEY.verify_key)),
        "identity": R_KEY,
        "label": "r",
        "software": "t",
        "verify": False,
        "entropy": entropy(10),
    }
    return handshake.GuestHandshake(where or binding(), **{**fields, **changes})


def host(where=None, **changes):
    fields = {
        "secrets": SECRETS,
        "identity": S_KEY,
        "label": "s",
        "software": "t",
        "verify": False,
        "entropy": entropy(20),
    }
    return handshake.HostHandshake(where or binding(), **{**fields, **changes})


def shake(r, s):
    m3 = r.receive_2(s.receive_1(r.message_1()))
    return s.receive_3(m3), r.receive_4(s.message_4())


@cases("handshake")
def test_handshakes_follow_the_vectors(case):
    def read(fields, *names):
        return [bytes.fromhex(fields[name]) for name in names]

    fields: dict[str, Any] = {
        k: bytes.fromhex(v) if isinstance(v, str) else v for k, v in case["binding"].items()
    }
    where = handshake.ChannelBinding(**fields)
    secret = bytes.fromhex(case["secret"])
    secrets = link.psk_secrets(link.derive_keys(secret), case["passphrase"])
    sides = {}
    for role in ("host", "guest"):
        fields = case[role]
        sides[role] = {
            "secrets": secrets,
            "identity": SigningKey(bytes.fromhex(fields["identity_seed"])),
            "label": fields["label"],
            "software": case["software"],
            "entropy": handshake.Entropy(*read(fields, "static", "ephemeral", "nonce", "session")),
        }
    identity = bytes(sides["host"]["identity"].verify_key)
    r = handshake.GuestHandshake(
        where,
        secret=secret,
        commitment=link.host_commitment(secret, identity),
        verify=case["verify"],
        **sides["guest"],
    )
    fill = case["host"]["fill"]
    s = handshake.HostHandshake(where, verify=False, fill=fill, **sides["host"])
    expect = case["expect"]
    m1 = r.message_1()
    m2 = s.receive_1(m1)
    m3 = r.receive_2(m2)
    at_host = s.receive_3(m3)
    m4 = s.message_4()
    at_guest = r.receive_4(m4)
    assert [m.hex() for m in (m1, m2, m3, m4)] == expect["messages"]
    assert where.prologue().hex() == expect["prologue"]
    for side in (at_host, at_guest):
        assert (side.digits, side.transcript.hex(), side.session_key.hex()) == (
            expect["digits"],
            expect["transcript"],
            expect["session_key"],
        )
    assert at_host.peer.verify == case["verify"]
    assert at_host.send.encrypt(b"host says").hex() == expect["first_transport_to_guest"]
    assert at_guest.send.encrypt(b"guest says").hex() == expect["first_transport_to_host"]


@pytest.mark.parametrize("host_sends", [True, False])
def test_fingerprints_are_the_senders_and_then_the_recipients(host_sends):
    where = binding(host_sends=host_sends)
    assert where.fingerprints[0 if host_sends else 1] == where.fingerprint_host
    assert where.fingerprints[1 if host_sends else 0] == where.fingerprint_guest


def test_both_sides_learn_the_same_and_can_talk():
    at_host, at_guest = shake(guest(verify=True), host())
    assert at_host.peer.label == "r"
    assert at_host.peer.verify
    assert at_guest.peer.label == "s"
    assert not at_guest.peer.verify
    assert at_guest.receive.decrypt(at_host.send.encrypt(b"x")) == b"x"
    assert at_host.receive.decrypt(at_guest.send.encrypt(b"y")) == b"y"
    assert len(at_host.digits) == 14
    assert at_host.digits.replace("-", "").isdigit()


@pytest.mark.parametrize(
    "changed",
    ["room", "attempt", "nonce_guest", "nonce_host", "fingerprint_host", "fingerprint_guest"],
)
def test_a_middle_with_other_fingerprints_or_nonces_fails(changed):
    other = binding(**{changed: bytes(len(getattr(binding(), changed)))})
    with pytest.raises(PeerError):
        shake(guest(), host(other))


def test_a_guest_who_thinks_there_is_a_passphrase_fails():
    with pytest.raises(PeerError):
        shake(guest(binding(passphrase=True)), host())


def test_a_host_who_is_not_the_links_learns_nothing():
    r = guest()
    with pytest.raises(Failure) as caught:
        r.receive_2(host(identity=SigningKey(b"\x07" * 32)).receive_1(r.message_1()))
    assert caught.value.code == "host_unproven"


def test_a_stolen_public_key_is_not_enough_to_be_the_host():
    class Liar(handshake.HostHandshake):
        pass

    r, s = guest(), host()
    s._identity = type(
        "Key", (), {"verify_key": S_KEY.verify_key, "sign": SigningKey(b"\x07" * 32).sign}
    )()
    with pytest.raises(PeerError):
        r.receive_2(s.receive_1(r.message_1()))


def test_a_guest_without_the_whole_secret_is_a_counted_guess():
    r, s = guest(secrets=link.PskSecrets(bytes(32))), host()
    with pytest.raises(PeerError) as caught:
        s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    assert caught.value.code == "guest_unproven"


def test_a_guest_that_changes_what_it_committed_to_is_refused():
    r, s = guest(), host()
    m2 = s.receive_1(r.message_1())
    r._body = r._body.replace(b'"label":"r"', b'"label":"x"')
    with pytest.raises(PeerError) as caught:
        s.receive_3(r.receive_2(m2))
    assert "commitment_mismatch" in caught.value.detail


def test_a_guest_with_anothers_key_is_refused():
    r, s = guest(), host()
    r._identity = SigningKey(b"\x07" * 32)
    with pytest.raises(PeerError):
        s.receive_3(r.receive_2(s.receive_1(r.message_1())))


def test_a_session_key_of_low_order_is_refused(monkeypatch):
    monkeypatch.setattr(
        noise,
        "public_key",
        lambda private, real=noise.public_key: (
            bytes(32) if private == entropy(10).session else real(private)
        ),
    )
    r, s = guest(), host()
    with pytest.raises(PeerError) as caught:
        s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    assert "low_order" in caught.value.detail


@pytest.mark.parametrize(("versions", "suites"), [([2], [1]), ([1], [2, 3])])
def test_no_common_version_or_suite_is_said(monkeypatch, versions, suites):
    r = guest()
    monkeypatch.setattr(handshake, "VERSIONS", versions)
    monkeypatch.setattr(handshake, "SUITES", dict.fromkeys(suites))
    m1 = r.message_1()
    monkeypatch.undo()
    with pytest.raises(Failure) as caught:
        host().receive_1(m1)
    assert caught.value.code == "version_unsupported"


def test_newer_versions_and_suites_are_passed_over(monkeypatch):
    r, s = guest(), host()
    monkeypatch.setattr(handshake, "VERSIONS", (1, 2))
    monkeypatch.setattr(handshake, "SUITES", {1: None, 9: None})
    m1 = r.message_1()
    monkeypatch.undo()
    m2 = s.receive_1(m1)
    s.receive_3(r.receive_2(m2))
    assert r.receive_4(s.message_4()).suite.number == 1


def test_a_host_that_chooses_what_was_not_offered_is_refused(monkeypatch):
    r, s = guest(), host()
    monkeypatch.setattr(handshake, "VERSIONS", (1, 2))
    m1 = r.message_1()
    m2 = s.receive_1(m1)
    monkeypatch.undo()
    with pytest.raises(Failure):
        r.receive_2(m2)


@pytest.mark.parametrize("code", ["claimed", "not_for_you", "contact_changed"])
def test_a_refusal_says_why_and_nothing_of_the_host(code):
    r, s = guest(), host()
    s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    with pytest.raises(Failure) as caught:
        r.receive_4(s.refuse_4(code))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "message", [b"[]", b"{}", b'{"type":"welcome"}', b'{"type":"refuse","code":"internal"}', b"no"]
)
def test_a_malformed_message_4_is_refused(message):
    r, s = guest(), host()
    s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    with pytest.raises(PeerError):
        r.receive_4(s._send.encrypt(message))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        encode_json({"versions": [], "suites": [1], "commit": "A" * 43}),
        encode_json({"versions": [1], "suites": [1]}),
        encode_json({"versions": [1] * 17, "suites": [1], "commit": "A" * 43}),
    ],
)
def test_a_malformed_message_1_is_refused(payload):
    m1 = noise.Initiator(noise.NAME, binding().prologue(), b"\x01" * 32, b"\x02" * 32).write_1(
        payload
    )
    with pytest.raises(PeerError):
        host().receive_1(m1)


@pytest.mark.parametrize(
    "payload", [b"", bytes(3), bytes(70), (5).to_bytes(4, "big") + b"{}" + bytes(64)]
)
def test_a_malformed_signed_payload_is_refused(payload):
    r, s = guest(), host()
    s.receive_1(r.message_1())
    with pytest.raises(PeerError):
        handshake._read_signed(payload or b"\0\0\0\1")


def test_digits_depend_on_everything_that_was_committed():
    seen = set()
    for r, s in (
        (guest(), host()),
        (guest(label="x"), host()),
        (guest(), host(entropy=entropy(60))),
        (guest(entropy=entropy(70)), host()),
    ):
        seen.add(shake(r, s)[0].digits)
    assert len(seen) == 4


def test_message_2_fills_a_packet_where_the_host_wants_to_know():
    r, s = guest(), host(fill=1500)
    message_2 = s.receive_1(r.message_1())
    assert len(message_2) >= 1500
    secured = s.receive_3(r.receive_2(message_2))
    assert r.receive_4(s.message_4()).digits == secured.digits


def test_the_host_can_be_the_recipient():
    where = binding(host_sends=False)
    at_host, at_guest = shake(guest(where), host(where))
    assert at_host.session_key == at_guest.session_key == noise.public_key(entropy(20).session)
    assert at_guest.receive.decrypt(at_host.send.encrypt(b"x")) == b"x"


def test_both_sides_have_to_think_the_same_of_who_sends():
    with pytest.raises(PeerError):
        shake(guest(binding(host_sends=False)), host())


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["none", "low_order"])
def test_a_welcome_without_a_good_session_key_is_refused_where_the_host_receives(key):
    where = binding(host_sends=False)
    g, h = guest(where), host(where)
    h.receive_3(g.receive_2(h.receive_1(g.message_1())))
    fields = {"type": "welcome", "label": "h", "software": "t"}
    message = handshake._body(fields if key is None else {**fields, "session_key": key})
    with pytest.raises(PeerError, match="protocol") as caught:
        g.receive_4(h._send.encrypt(message))
    assert "session_key" in caught.value.detail


def test_a_session_key_of_a_host_that_sends_is_refused():
    g, h = guest(), host()
    h.receive_3(g.receive_2(h.receive_1(g.message_1())))
    fields = {"type": "welcome", "label": "h", "software": "t", "session_key": b"\x09" * 32}
    with pytest.raises(PeerError):
        g.receive_4(h._send.encrypt(handshake._body(fields)))
