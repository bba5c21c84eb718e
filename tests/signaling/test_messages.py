"""The signaling messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling import messages

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "signaling.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_messages_follow_the_vectors(case):
    if case["expect"] == "ok":
        messages.decode(case["text"], messages.FROM_PEER)
    else:
        with pytest.raises(messages.BadMessage):
            messages.decode(case["text"], messages.FROM_PEER)


@given(st.text(max_size=200) | st.binary(max_size=50))
def test_anything_is_a_message_or_bad(text):
    for shapes in (messages.FROM_PEER, messages.FROM_SERVER):
        try:
            messages.decode(text, shapes)
        except messages.BadMessage:
            pass


def test_a_peer_ignores_what_a_newer_server_adds():
    text = json.dumps({"type": "created", "ice_servers": []})
    assert messages.decode(text, messages.FROM_SERVER) == {"type": "created", "policy": None}


def test_bytes_go_through():
    text = messages.encode("envelope", attempt=b"a" * 16, body=b"sealed")
    assert messages.decode(text, messages.FROM_SERVER)["body"] == b"sealed"
    with pytest.raises(messages.BadMessage):
        messages.decode(json.dumps({"type": "error", "code": 5}), messages.FROM_SERVER)
