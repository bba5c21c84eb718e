"""Sealed signaling."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import signal
from p2p.protocol.errors import PeerError

from .vectors import cases

KEY, ROOM, ATTEMPT = b"\x01" * 32, b"\x02" * 16, b"\x03" * 16
CANDIDATE = signal.Candidate("1", 1, "192.0.2.2", 40000, "host")


@cases("signal")
def test_signals_follow_the_vectors(case):
    data = bytes.fromhex(case["data"])
    if "error" in case["expect"]:
        with pytest.raises(PeerError):
            signal.decode_signal(data)
    else:
        assert json.loads(signal.encode_signal(signal.decode_signal(data))) == case["expect"]


@cases("envelope")
def test_envelopes_follow_the_vectors(case):
    opener = signal.Sealer(
        bytes.fromhex(case["key"]),
        bytes.fromhex(case["room"]),
        bytes.fromhex(case["attempt"]),
        case["direction"],
    )
    envelopes = [bytes.fromhex(one) for one in case["envelopes"]]
    if isinstance(case["expect"], dict):
        with pytest.raises(PeerError):
            [opener.open(one) for one in envelopes]
    else:
        opened = [json.loads(signal.encode_signal(opener.open(one))) for one in envelopes]
        assert opened == case["expect"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_signal_or_a_peer_error(data):
    with pytest.raises(PeerError):
        signal.decode_signal(data)


@given(st.binary(max_size=2000))
def test_any_bytes_are_no_envelope(data):
    with pytest.raises(PeerError):
        signal.Sealer(KEY, ROOM, ATTEMPT, "to_guest").open(data)


def test_envelopes_hide_how_many_candidates_there_are():
    sizes = set()
    for count in (1, 2, 3):
        sealer = signal.Sealer(KEY, ROOM, ATTEMPT, "to_host")
        sizes.add(len(sealer.seal(signal.Candidates((CANDIDATE,) * count), bytes(24))))
    assert len(sizes) == 1


def test_what_is_sealed_opens_in_order_and_only_in_its_direction():
    sealer, opener = (signal.Sealer(KEY, ROOM, ATTEMPT, "to_host") for _ in range(2))
    for _ in range(3):
        envelope = sealer.seal(signal.Knock(bytes(16), "native"), bytes(24))
        with pytest.raises(PeerError):
            signal.Sealer(KEY, ROOM, ATTEMPT, "to_guest").open(envelope)
        assert opener.open(envelope) == signal.Knock(bytes(16), "native")


def test_candidates_are_capped_over_all_messages():
    description = signal.Description(
        bytes(16), bytes(16), "abcd", "a" * 22, bytes(32), "active", 65535
    )
    full = signal.merge(description, (CANDIDATE,) * 32)
    assert full == replace(description, candidates=(CANDIDATE,) * 32)
    with pytest.raises(PeerError):
        signal.merge(full, (CANDIDATE,))


def test_an_endpoint_names_no_more_addresses_than_may_be_told():
    addresses = [f"192.0.2.{number}" for number in range(signal.MAX_ADDRESSES + 1)]
    endpoint = signal.DirectEndpoint.of(addresses, 40000, b"certificate")
    assert endpoint.addresses == tuple(addresses[:-1])


def test_a_peer_cannot_make_this_machine_talk_to_itself_or_look_up_names():
    good = ["192.0.2.1", "2001:db8::1", "10.0.0.1", "169.254.1.1"]
    bad = [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "localhost",
        "example.org",
        "",
        "1",
    ]
    assert signal.may_connect([*bad, *good]) == good
