"""Noise XXpsk3 against the published vector, and with everything flipped."""

from __future__ import annotations

import pytest

from p2p.protocol import noise
from p2p.protocol.errors import PeerError

from .vectors import cases


def parties(case=None, psk=b"\x09" * 32):
    prologue = bytes.fromhex(case["init_prologue"]) if case else b"prologue"
    keys = (
        [
            bytes.fromhex(case[k])
            for k in ("init_static", "init_ephemeral", "resp_static", "resp_ephemeral")
        ]
        if case
        else [bytes([i]) * 32 for i in range(1, 5)]
    )
    return noise.Initiator(noise.NAME, prologue, *keys[:2]), noise.Responder(
        noise.NAME, prologue, *keys[2:]
    )


@cases("noise")
def test_the_published_vector_holds(case):
    psk = bytes.fromhex(case["init_psks"][0])
    payloads = [bytes.fromhex(m["payload"]) for m in case["messages"]]
    expected = [bytes.fromhex(m["ciphertext"]) for m in case["messages"]]
    i, r = parties(case)
    m1 = i.write_1(payloads[0])
    assert m1 == expected[0]
    assert r.read_1(m1) == payloads[0]
    head, h = r.begin_2()
    m2 = r.finish_2(head, payloads[1])
    assert m2 == expected[1]
    assert i.read_2(m2) == (payloads[1], h)
    head, h = i.begin_3(psk)
    m3 = i.finish_3(head, payloads[2])
    assert m3 == expected[2]
    assert r.read_3(m3, psk) == (payloads[2], h)
    assert i.state.h == r.state.h == bytes.fromhex(case["handshake_hash"])
    to_r, to_i = i.state.split()
    from_i, from_r = r.state.split()
    for number, (payload, ciphertext) in enumerate(zip(payloads[3:], expected[3:], strict=True)):
        sealing = from_r if number % 2 == 0 else to_r
        opening = to_i if number % 2 == 0 else from_i
        assert sealing.encrypt(payload) == ciphertext
        assert opening.decrypt(ciphertext) == payload


def run_until(step, change):
    """Run a handshake and change one message with `change`; the reader must refuse."""
    i, r = parties()
    m1 = i.write_1(b"one")
    if step == 1:
        return r.read_1(change(m1))
    r.read_1(m1)
    m2 = r.finish_2(r.begin_2()[0], b"two")
    if step == 2:
        return i.read_2(change(m2))
    i.read_2(m2)
    m3 = i.finish_3(i.begin_3(b"\x09" * 32)[0], b"three")
    return r.read_3(change(m3), b"\x09" * 32)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("where", [0, 31, 40, -1])
def test_a_flipped_bit_is_refused(step, where):
    def flip(message):
        changed = bytearray(message)
        changed[where] ^= 4
        return bytes(changed)

    with pytest.raises(PeerError):
        run_until(step, flip)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[:-1],
        lambda m: b"",
        lambda m: m[:20],
        lambda m: m + b"x",
        lambda m: m + bytes(70_000),
    ],
)
def test_a_wrong_length_is_refused(step, change):
    with pytest.raises(PeerError):
        run_until(step, change)


@pytest.mark.parametrize("step", [2])
def test_a_key_of_low_order_is_refused(step):
    with pytest.raises(PeerError) as caught:
        run_until(step, lambda m: bytes(32) + m[32:])
    assert "low_order" in caught.value.detail


def test_another_psk_is_refused():
    i, r = parties()
    r.read_1(i.write_1(b""))
    i.read_2(r.finish_2(r.begin_2()[0], b""))
    with pytest.raises(PeerError):
        r.read_3(i.finish_3(i.begin_3(b"\x01" * 32)[0], b""), b"\x02" * 32)


def test_transport_messages_cannot_be_replayed_dropped_or_reflected():
    one, other = noise.CipherState(bytes(32)), noise.CipherState(bytes(32))
    first, second = one.encrypt(b"1"), one.encrypt(b"2")
    assert other.decrypt(first) == b"1"
    with pytest.raises(PeerError):
        other.decrypt(first)
    fresh = noise.CipherState(bytes(32))
    with pytest.raises(PeerError):
        fresh.decrypt(second)
    with pytest.raises(PeerError):
        noise.CipherState(bytes(32)).decrypt(b"")
