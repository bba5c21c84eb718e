"""The STUN and TURN servers that a signaling server tells of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.errors import PeerError
from p2p.protocol.ice import IceServer, IceServers, read_ice

from .vectors import cases


@cases("ice")
def test_servers_follow_the_vectors(case):
    for where, local in (("elsewhere", False), ("local", True)):
        expected = case["expect"][where]
        if isinstance(expected, dict):
            with pytest.raises(PeerError):
                read_ice(case["ice"], local=local)
        else:
            assert bool(read_ice(case["ice"], local=local).servers) is expected


def test_a_server_that_tells_of_none_has_none():
    assert read_ice(None, local=False) == IceServers()


def test_a_port_and_a_transport_that_are_not_named_are_the_usual_ones():
    urls = [
        "stun:a.example",
        "turn:[2001:db8::1]",
        "turns:b.example",
        "turn:c.example:80?transport=tcp",
    ]
    login = {"username": "somebody", "credential": "open sesame"}
    told = {"servers": [{"url": url, **(login if "turn" in url else {})} for url in urls], "ttl": 9}
    found = read_ice(told, local=False)
    assert [one.url for one in found.servers] == [
        "stun:a.example:3478",
        "turn:[2001:db8::1]:3478?transport=udp",
        "turns:b.example:5349?transport=tcp",
        "turn:c.example:80?transport=tcp",
    ]
    assert found.stun == found.servers[:1]
    assert found.turn == found.servers[1:]
    assert (found.turn[0].username, found.turn[0].credential) == tuple(login.values())
    assert not any(word in repr(found) for word in login.values())


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=10)
        | st.dictionaries(
            st.sampled_from(["servers", "url", "username", "credential", "ttl"]), inner
        )
    ),
    max_leaves=20,
)


@given(json)
def test_whatever_a_server_says_is_servers_or_an_error(told):
    try:
        found = read_ice(told, local=False)
    except PeerError:
        return
    assert all(isinstance(one, IceServer) and 0 < one.port < 65536 for one in found.servers)
