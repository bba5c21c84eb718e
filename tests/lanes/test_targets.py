"""Which addresses of a peer are connected to: those of its own connection, few, and not for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.lanes.tls.targets import AT_ONCE, MAX_ADDRESSES, MAX_IN_VAIN, Targets

PEER = ["192.0.2.1", "2001:db8::1"]


def test_only_what_the_connection_was_offered_too():
    announced = [*PEER, "192.0.2.9", "127.0.0.1", "printer.example", "fe80::1"]
    offered = ["2001:0db8:0::1", "192.0.2.1", "127.0.0.1", "5b4ad02b.local"]
    assert Targets().choose(announced, offered) == PEER


def test_a_peer_whose_addresses_change_reaches_no_more_than_a_few():
    targets, reached = Targets(), set()
    for session in range(200):
        named = [f"10.0.{session}.{host}" for host in range(40)]
        chosen = targets.choose(named, named)
        assert len(chosen) <= AT_ONCE
        reached |= set(chosen)
        targets.answered()
    assert len(reached) == MAX_ADDRESSES


def test_sessions_in_which_nobody_answers_come_to_an_end():
    targets = Targets()
    assert [bool(targets.choose(PEER, PEER)) for _ in range(MAX_IN_VAIN + 5)].count(True) == 16
    targets.answered()
    assert targets.choose(PEER, PEER) == PEER


@given(st.lists(st.text(max_size=20)), st.lists(st.text(max_size=20)))
def test_any_text_is_an_address_or_left_out(announced, offered):
    assert set(Targets().choose(announced, offered)) <= set(announced)
