"""The handshake: vectors, and every way to be someone else."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from p2p.protocol import handshake, link, noise
from p2p.protocol.codec import encode_json
from p2p.protocol.errors import Failure, PeerError

from .vectors import cases

SECRET = b"\x05" * 32
S_KEY, R_KEY = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
PSK = link.noise_psk(link.derive_keys(SECRET), None)


def entropy(seed):
    return handshake.Entropy(*(bytes([seed + i]) * 32 for i in range(4)))


def attempt(**changes):
    fields = {
        "room": b"r" * 16,
        "attempt": b"a" * 16,
        "nonce_r": b"n" * 16,
        "nonce_s": b"m" * 16,
        "fingerprint_s": b"f" * 32,
        "fingerprint_r": b"g" * 32,
        "passphrase": False,
    }
    return handshake.Attempt(**{**fields, **changes})


def recipient(where=None, **changes):
    fields = {
        "psk": PSK,
        "secret": SECRET,
        "commitment": link.sender_commitment(SECRET, bytes(S_KEY.verify_key)),
        "identity": R_KEY,
        "label": "r",
        "software": "t",
        "verify": False,
        "entropy": entropy(10),
    }
    return handshake.RecipientHandshake(where or attempt(), **{**fields, **changes})


def sender(where=None, **changes):
    fields = {
        "psk": PSK,
        "identity": S_KEY,
        "label": "s",
        "software": "t",
        "verify": False,
        "entropy": entropy(20),
    }
    return handshake.SenderHandshake(where or attempt(), **{**fields, **changes})


def shake(r, s):
    m3 = r.receive_2(s.receive_1(r.message_1()))
    return s.receive_3(m3), r.receive_4(s.message_4())


@cases("handshake")
def test_handshakes_follow_the_vectors(case):
    def read(fields, *names):
        return [bytes.fromhex(fields[name]) for name in names]

    where = handshake.Attempt(
        **{k: bytes.fromhex(v) if isinstance(v, str) else v for k, v in case["attempt"].items()}
    )
    secret = bytes.fromhex(case["secret"])
    psk = link.noise_psk(link.derive_keys(secret), case["passphrase"])
    sides = {}
    for role in ("sender", "recipient"):
        fields = case[role]
        sides[role] = {
            "psk": psk,
            "identity": SigningKey(bytes.fromhex(fields["identity_seed"])),
            "label": fields["label"],
            "software": case["software"],
            "entropy": handshake.Entropy(*read(fields, "static", "ephemeral", "nonce", "session")),
        }
    identity = bytes(sides["sender"]["identity"].verify_key)
    r = handshake.RecipientHandshake(
        where,
        secret=secret,
        commitment=link.sender_commitment(secret, identity),
        verify=case["verify"],
        **sides["recipient"],
    )
    fill = case["sender"]["fill"]
    s = handshake.SenderHandshake(where, verify=False, fill=fill, **sides["sender"])
    expect = case["expect"]
    m1 = r.message_1()
    m2 = s.receive_1(m1)
    m3 = r.receive_2(m2)
    at_sender = s.receive_3(m3)
    m4 = s.message_4()
    at_recipient = r.receive_4(m4)
    assert [m.hex() for m in (m1, m2, m3, m4)] == expect["messages"]
    assert where.prologue().hex() == expect["prologue"]
    for side in (at_sender, at_recipient):
        assert (side.digits, side.transcript.hex(), side.session_key.hex()) == (
            expect["digits"],
            expect["transcript"],
            expect["session_key"],
        )
    assert at_sender.peer.verify == case["verify"]
    assert at_sender.send.encrypt(b"sender says").hex() == expect["first_transport_s2r"]
    assert at_recipient.send.encrypt(b"recipient says").hex() == expect["first_transport_r2s"]


def test_both_sides_learn_the_same_and_can_talk():
    at_sender, at_recipient = shake(recipient(verify=True), sender())
    assert at_sender.peer.label == "r"
    assert at_sender.peer.verify
    assert at_recipient.peer.label == "s"
    assert not at_recipient.peer.verify
    assert at_recipient.receive.decrypt(at_sender.send.encrypt(b"x")) == b"x"
    assert at_sender.receive.decrypt(at_recipient.send.encrypt(b"y")) == b"y"
    assert len(at_sender.digits) == 14
    assert at_sender.digits.replace("-", "").isdigit()


@pytest.mark.parametrize(
    "changed", ["room", "attempt", "nonce_r", "nonce_s", "fingerprint_s", "fingerprint_r"]
)
def test_a_middle_with_other_fingerprints_or_nonces_fails(changed):
    other = attempt(**{changed: bytes(len(getattr(attempt(), changed)))})
    with pytest.raises(PeerError):
        shake(recipient(), sender(other))


def test_a_recipient_who_thinks_there_is_a_passphrase_fails():
    with pytest.raises(PeerError):
        shake(recipient(attempt(passphrase=True)), sender())


def test_a_sender_who_is_not_the_links_learns_nothing():
    r = recipient()
    with pytest.raises(Failure) as caught:
        r.receive_2(sender(identity=SigningKey(b"\x07" * 32)).receive_1(r.message_1()))
    assert caught.value.code == "sender_unproven"


def test_a_stolen_public_key_is_not_enough_to_be_the_sender():
    class Liar(handshake.SenderHandshake):
        pass

    r, s = recipient(), sender()
    s._identity = type(
        "Key", (), {"verify_key": S_KEY.verify_key, "sign": SigningKey(b"\x07" * 32).sign}
    )()
    with pytest.raises(PeerError):
        r.receive_2(s.receive_1(r.message_1()))


def test_a_recipient_without_the_whole_secret_is_a_counted_guess():
    r, s = recipient(psk=bytes(32)), sender()
    with pytest.raises(PeerError) as caught:
        s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    assert caught.value.code == "recipient_unproven"


def test_a_recipient_that_changes_what_it_committed_to_is_refused():
    r, s = recipient(), sender()
    m2 = s.receive_1(r.message_1())
    r._body = r._body.replace(b'"label":"r"', b'"label":"x"')
    with pytest.raises(PeerError) as caught:
        s.receive_3(r.receive_2(m2))
    assert "committed" in caught.value.detail


def test_a_recipient_with_anothers_key_is_refused():
    r, s = recipient(), sender()
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
    r, s = recipient(), sender()
    with pytest.raises(PeerError) as caught:
        s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    assert "low order" in caught.value.detail


@pytest.mark.parametrize(("versions", "suites"), [([2], [1]), ([1], [2, 3])])
def test_no_common_version_or_suite_is_said(monkeypatch, versions, suites):
    r = recipient()
    monkeypatch.setattr(handshake, "VERSIONS", versions)
    monkeypatch.setattr(handshake, "SUITES", suites)
    m1 = r.message_1()
    monkeypatch.undo()
    with pytest.raises(Failure) as caught:
        sender().receive_1(m1)
    assert caught.value.code == "version_unsupported"


def test_newer_versions_and_suites_are_passed_over(monkeypatch):
    r, s = recipient(), sender()
    monkeypatch.setattr(handshake, "VERSIONS", (1, 2))
    monkeypatch.setattr(handshake, "SUITES", (1, 9))
    m1 = r.message_1()
    monkeypatch.undo()
    m2 = s.receive_1(m1)
    s.receive_3(r.receive_2(m2))
    assert r.receive_4(s.message_4()).suite == 1


def test_a_sender_that_chooses_what_was_not_offered_is_refused(monkeypatch):
    r, s = recipient(), sender()
    monkeypatch.setattr(handshake, "VERSIONS", (1, 2))
    m1 = r.message_1()
    m2 = s.receive_1(m1)
    monkeypatch.undo()
    with pytest.raises(Failure):
        r.receive_2(m2)


@pytest.mark.parametrize("code", ["claimed", "not_for_you", "contact_changed"])
def test_a_refusal_says_why_and_nothing_of_the_sender(code):
    r, s = recipient(), sender()
    s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    with pytest.raises(Failure) as caught:
        r.receive_4(s.refuse_4(code))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "message", [b"[]", b"{}", b'{"type":"welcome"}', b'{"type":"refuse","code":"internal"}', b"no"]
)
def test_a_malformed_message_4_is_refused(message):
    r, s = recipient(), sender()
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
    m1 = noise.Initiator(attempt().prologue(), b"\x01" * 32, b"\x02" * 32).write_1(payload)
    with pytest.raises(PeerError):
        sender().receive_1(m1)


@pytest.mark.parametrize(
    "payload", [b"", bytes(3), bytes(70), (5).to_bytes(4, "big") + b"{}" + bytes(64)]
)
def test_a_malformed_signed_payload_is_refused(payload):
    r, s = recipient(), sender()
    s.receive_1(r.message_1())
    with pytest.raises(PeerError):
        handshake._read_signed(payload or b"\0\0\0\1")


def test_digits_depend_on_everything_that_was_committed():
    seen = set()
    for r, s in (
        (recipient(), sender()),
        (recipient(label="x"), sender()),
        (recipient(), sender(entropy=entropy(60))),
        (recipient(entropy=entropy(70)), sender()),
    ):
        seen.add(shake(r, s)[0].digits)
    assert len(seen) == 4


def test_message_2_fills_a_packet_where_the_sender_wants_to_know():
    r, s = recipient(), sender(fill=1500)
    message_2 = s.receive_1(r.message_1())
    assert len(message_2) >= 1500
    secured = s.receive_3(r.receive_2(message_2))
    assert r.receive_4(s.message_4()).digits == secured.digits
