"""A signaling server that drops, repeats, swaps, reflects, forges and mixes attempts.

Whatever it does, each side takes in a beginning of what the other really said, in order, or stops.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.protocol.errors import HandoverError
from p2p.protocol.link import derive_keys
from p2p.protocol.signal import (
    Candidate,
    Candidates,
    Description,
    Direction,
    Knock,
    Sealer,
    Signal,
)

from .test_handshake import binding, guest, host

KEYS = derive_keys(b"\x05" * 32)
ATTEMPTS = (b"a" * 16, b"b" * 16)
SAID: dict[Direction, list[Signal]] = {
    "to_host": [
        Knock(bytes(16), "native"),
        *(Candidates((Candidate("1", n, "192.0.2.1", 4000, "host"),)) for n in range(1, 5)),
    ],
    "to_guest": [
        Description(bytes(16), bytes(16), "abcd", "p" * 22, bytes(32), "actpass", 65535),
        *(Candidates((Candidate("2", n, "192.0.2.2", 4000, "host"),)) for n in range(1, 5)),
    ],
}
ACTION = st.tuples(
    st.sampled_from(["to_guest", "to_host"]),
    st.sampled_from(
        ["pass", "pass", "pass", "drop", "repeat", "later", "reflect", "forge", "mix", "old"]
    ),
    st.integers(0, 2000),
)


def sealed(direction, which):
    key = KEYS.signal_to_guest if direction == "to_guest" else KEYS.signal_to_host
    sealer = Sealer(key, KEYS.room, ATTEMPTS[which], direction)
    return [sealer.seal(signal, bytes([n]) * 24) for n, signal in enumerate(SAID[direction])]


@given(st.lists(ACTION, max_size=30))
def test_each_side_takes_in_a_true_beginning_or_stops(actions):
    queues = {d: sealed(d, 0) for d in SAID}
    other_attempt = {d: sealed(d, 1) for d in SAID}
    opening = {
        d: Sealer(
            KEYS.signal_to_guest if d == "to_guest" else KEYS.signal_to_host,
            KEYS.room,
            ATTEMPTS[0],
            d,
        )
        for d in SAID
    }
    got: dict[Direction, list[Signal]] = {d: [] for d in SAID}
    passed: dict[Direction, list[bytes]] = {d: [] for d in SAID}
    stopped = set()

    def deliver(direction, envelope):
        if direction in stopped:
            return
        try:
            got[direction].append(opening[direction].open(envelope))
            passed[direction].append(envelope)
        except HandoverError:
            stopped.add(direction)

    for direction, action, number in actions:
        queue = queues[direction]
        back: Direction = "to_guest" if direction == "to_host" else "to_host"
        if action == "reflect" and queues[back]:
            deliver(direction, queues[back][0])
        elif action == "mix":
            deliver(direction, other_attempt[direction][number % 5])
        elif action == "old" and passed[direction]:
            deliver(direction, passed[direction][number % len(passed[direction])])
        elif queue:
            envelope = queue.pop(0)
            if action == "later":
                queue.append(envelope)
            elif action == "forge":
                changed = bytearray(envelope)
                changed[number % len(changed)] ^= 1 + number % 255
                deliver(direction, bytes(changed))
            elif action != "drop":
                deliver(direction, envelope)
                if action == "repeat":
                    deliver(direction, envelope)
        for d in SAID:
            assert got[d] == SAID[d][: len(got[d])]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.sampled_from(["flip", "cut", "grow", "repeat"]),
            st.integers(0, 5000),
        ),
        max_size=2,
    )
)
def test_a_handshake_that_was_touched_never_ends_secured(changes):
    """Two sides agree on everything, or at least one of them refuses before message 4 counts."""
    r, s = guest(binding()), host(binding())
    last = b""

    def carry(step, message):
        nonlocal last
        carried = message
        for at, how, number in changes:
            if at == step and how == "flip" and carried:
                changed = bytearray(carried)
                changed[number % len(changed)] ^= 1 + number % 255
                carried = bytes(changed)
            elif at == step and how == "cut":
                carried = carried[: number % len(carried)] if carried else b""
            elif at == step and how == "grow":
                carried += b"x"
            elif at == step:
                carried = last or carried
        last = message
        return carried, carried != message

    try:
        m1, touched_1 = carry(1, r.message_1())
        m2, touched_2 = carry(2, s.receive_1(m1))
        m3, touched_3 = carry(3, r.receive_2(m2))
        at_sender = s.receive_3(m3)
        m4, touched_4 = carry(4, s.message_4())
        at_recipient = r.receive_4(m4)
    except HandoverError:
        return
    assert not any((touched_1, touched_2, touched_3, touched_4))
    assert at_sender.transcript == at_recipient.transcript
    assert at_sender.digits == at_recipient.digits
