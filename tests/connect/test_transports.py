"""Which way two peers come together by, and that both see the same one, whoever describes first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pytest

from p2p.connect import transports
from p2p.connect.ice import Ice, Relay
from p2p.connect.seats import Attempt
from p2p.connect.transports import SealedSignals, Transports, receive_early
from p2p.lanes import LaneLost
from p2p.protocol.errors import PeerError
from p2p.protocol.handshake import MAX_HANDSHAKE_MESSAGE, ChannelBinding
from p2p.protocol.ice import IceServer, IceServers
from p2p.protocol.link import derive_keys
from p2p.protocol.policy import Policy
from p2p.protocol.signal import Candidates, Description, DirectEndpoint, Knock
from signaling import messages
from tests.lanes.memory import MemoryConnection, MemoryTls, Network
from tests.transfer.memory import lanes
from tests.virtual_time import virtual_time

KEYS = derive_keys(b"\x05" * 32)
ATTEMPT = b"\x03" * 16
PORTS = (0, 0)
NONCE = b"\x07" * 16
ORDERS = pytest.mark.parametrize("host_offers", [True, False], ids=["host first", "guest first"])
SENDERS = pytest.mark.parametrize("host_sends", [True, False], ids=["host sends", "host receives"])


class Passed(NamedTuple):
    """An attempt, as its two ends see it, and the envelopes that went each way."""

    host: Attempt
    guest: Attempt


TURN = IceServer("turn", "192.0.2.9", 3478, "udp", "name", "word")


def attempts(ice=IceServers(), policy=Policy()):  # noqa: B008 - they are frozen
    """Both ends of an attempt at a server that passes everything on, and tells of these."""
    ends: dict[bool, Attempt] = {}

    def say(host, text):
        message = messages.decode(text, messages.FROM_PEER)
        assert message["attempt"] == ATTEMPT
        ends[not host].put(message["body"] if message["type"] == "envelope" else None)

    for host in (True, False):
        ends[host] = Attempt(ATTEMPT, partial(say, host), ice, policy)
    return Passed(ends[True], ends[False])


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    """TLS in memory too, and one address that may be told."""
    monkeypatch.setattr(MemoryTls, "listening", {})
    monkeypatch.setattr(transports, "TlsConnection", MemoryTls)
    monkeypatch.setattr(transports, "reachable", lambda: ["192.0.2.1"])


@pytest.fixture
def network():
    return Network()


class Met(NamedTuple):
    """Two peers that came together."""

    host: Transports
    guest: Transports
    host_binding: ChannelBinding
    guest_binding: ChannelBinding
    took: float


async def stop(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def by_side(network, host_offers=True):
    """The direct connections of the host and of the guest."""
    return sorted(network.made, key=lambda one: one.offerer != host_offers)


async def meet(
    network,
    *,
    host_offers=True,
    host_sends=True,
    ports=(PORTS, PORTS),
    ice=IceServers(),  # noqa: B008 - it is frozen
    relay_only=(False, False),
    no_relay=(False, False),
    policy=Policy(),  # noqa: B008 - it is frozen
):
    """Connect a host and a guest; the guest's first message is `1`."""
    passed, began = attempts(ice, policy), asyncio.get_running_loop().time()
    host, guest = (
        Transports(network.engine, *one[:1], offerer=one[1], relay_only=one[2], no_relay=one[3])
        for one in zip(ports, (host_offers, not host_offers), relay_only, no_relay, strict=True)
    )
    given = {"passphrase": True, "host_sends": host_sends}

    async def as_guest():
        binding = await guest.connect_guest(passed.guest, KEYS, **given)
        await guest.control.send(b"1")
        return binding

    at_host = asyncio.create_task(host.connect_host(passed.host, KEYS, **given))
    at_guest = asyncio.create_task(as_guest())
    try:
        (of_host, message_1), of_guest = await asyncio.gather(at_host, at_guest)
    except BaseException:
        await stop(at_host, at_guest)
        await asyncio.gather(host.close(), guest.close())
        raise
    assert message_1 == b"1"
    return Met(host, guest, of_host, of_guest, asyncio.get_running_loop().time() - began)


async def part(met):
    await asyncio.gather(met.host.close(), met.guest.close())


# --- WebRTC, and what the handshake is bound to ---------------------------------------------------


@SENDERS
@ORDERS
@virtual_time
async def test_both_sides_are_bound_to_the_same(network, host_offers, host_sends):
    met = await meet(network, host_offers=host_offers, host_sends=host_sends)
    assert met.host_binding == met.guest_binding
    at_host, at_guest = by_side(network, host_offers)
    bound = met.host_binding
    assert (bound.fingerprint_host, bound.fingerprint_guest) == (
        at_host.fingerprint,
        at_guest.fingerprint,
    )
    assert (bound.room, bound.attempt) == (KEYS.room, ATTEMPT)
    assert (bound.passphrase, bound.host_sends) == (True, host_sends)
    for described in (at_host.remote, at_guest.remote):
        assert (described.nonce_guest, described.nonce_host) == (
            bound.nonce_guest,
            bound.nonce_host,
        )
    assert bound.nonce_guest != bound.nonce_host
    assert met.host.path == "direct"
    assert met.guest.path == "direct"
    await part(met)


@ORDERS
@virtual_time
async def test_candidates_go_both_ways_and_lanes_carry(network, host_offers):
    met = await meet(network, host_offers=host_offers)
    while not all(one.candidates_taken for one in network.made):
        await asyncio.sleep(0.01)
    for here, there in ((met.host, met.guest), (met.guest, met.host)):
        await here.data.send(b"data")
        assert await there.data.recv() == b"data"
    await part(met)


@virtual_time
async def test_the_offerer_says_so_and_the_answerer_too(network):
    met = await meet(network)
    at_host, at_guest = by_side(network)
    assert (at_guest.remote.setup, at_host.remote.setup) == ("actpass", "active")
    await part(met)


@virtual_time
async def test_webrtc_that_fails_where_tls_may_not_be_used_is_a_lost_lane(network):
    network.fails_after = 5.0
    with pytest.raises(LaneLost):
        await meet(network, ports=(None, None))


# --- TLS ------------------------------------------------------------------------------------------


@SENDERS
@ORDERS
@virtual_time
async def test_tls_is_taken_where_webrtc_does_not_come_through(network, host_offers, host_sends):
    network.fails_after = 60.0
    met = await meet(network, host_offers=host_offers, host_sends=host_sends)
    assert met.host.path == "tls"
    assert met.guest.path == "tls"
    assert met.took == pytest.approx(transports.DIRECT_SECONDS, abs=0.5)
    assert met.host_binding == met.guest_binding
    at_host, at_guest = MemoryTls.listening.values()
    bound = met.host_binding
    assert (bound.fingerprint_host, bound.fingerprint_guest) == (
        at_host.fingerprint,
        at_guest.fingerprint,
    )
    await part(met)
    assert all(one.closed.is_set() for one in network.made), "WebRTC is given up"


@virtual_time
async def test_tls_is_tried_at_once_where_webrtc_has_failed(network):
    network.fails_after = 0.3
    met = await meet(network)
    assert met.host.path == "tls"
    assert met.took == pytest.approx(0.3, abs=0.2)
    await part(met)


@virtual_time
async def test_webrtc_that_comes_late_is_taken_all_the_same_and_tls_closed(network, monkeypatch):
    """A path to somewhere that TCP does not come through either."""

    async def never(self, *args, **kwargs):
        await asyncio.sleep(3600)

    opened = MemoryConnection.opened

    async def late(self):
        await asyncio.sleep(5)
        await opened(self)

    monkeypatch.setattr(MemoryTls, "opened", never)
    monkeypatch.setattr(MemoryConnection, "opened", late)
    met = await meet(network)
    assert met.took == pytest.approx(5, abs=0.5)
    assert met.host.path == "direct"
    await asyncio.sleep(0.1)
    listened = MemoryTls.listening.values()
    assert len(listened) == 2
    assert all(one.closed.is_set() for one in listened)
    await part(met)


@pytest.mark.parametrize("ports", [(None, PORTS), (PORTS, None)], ids=["host", "guest"])
@virtual_time
async def test_tls_needs_both_sides(network, ports):
    network.fails_after = 5.0
    with pytest.raises(LaneLost):
        async with asyncio.timeout(60):
            await meet(network, ports=ports)


@virtual_time
async def test_no_port_to_listen_on_means_no_tls(network, monkeypatch):
    monkeypatch.setattr(MemoryTls, "can_listen", False)
    network.fails_after = 5.0
    with pytest.raises(LaneLost):
        await meet(network)


@virtual_time
async def test_tls_listens_on_the_ports_that_are_given(network):
    network.fails_after = 60.0
    met = await meet(network, ports=((50_001, 50_002), (50_001, 50_002)))
    assert sorted(MemoryTls.listening) == [50_001, 50_002]
    await part(met)


@virtual_time
async def test_every_lane_takes_what_both_kinds_of_connection_take(network, monkeypatch):
    network.fails_after = 60.0
    met = await meet(network)
    monkeypatch.setattr(met.host.data, "max_message_size", 262_144, raising=False)
    assert met.host.max_message_size == 65_536
    await part(met)


@virtual_time
async def test_close_passes_on_whether_the_other_side_has_it_all(network):
    met = await meet(network)
    await met.host.close(heard=True)
    await met.guest.close()
    assert [one.heard for one in by_side(network)] == [True, False]


# --- a relay --------------------------------------------------------------------------------------


@pytest.fixture
def relay(network, monkeypatch):
    """A server that answers; what the servers of an attempt are then."""

    async def find(self):
        return Relay(network.engine, TURN)

    async def resolved(self, servers):
        return list(servers)

    monkeypatch.setattr(Ice, "find_relay", find)
    monkeypatch.setattr(Ice, "resolved", resolved)
    return IceServers((IceServer("stun", "192.0.2.8", 3478, "udp"), TURN))


@ORDERS
@virtual_time
async def test_a_relay_is_taken_where_nothing_else_comes_through(network, relay, host_offers):
    network.fails_after = 60.0
    met = await meet(network, ice=relay, ports=(None, None), host_offers=host_offers)
    assert met.host.path == met.guest.path == "relayed"
    assert met.took == pytest.approx(transports.DIRECT_SECONDS, abs=0.5)
    assert met.host_binding == met.guest_binding
    relayed = [one for one in network.made if TURN in one.ice]
    assert {(one.offerer, one.relay_only) for one in relayed} == {(True, True), (False, False)}
    bound = {met.host_binding.fingerprint_host, met.host_binding.fingerprint_guest}
    assert bound == {one.fingerprint for one in relayed}
    await part(met)
    assert all(one.closed.is_set() for one in network.made)


@virtual_time
async def test_no_relay_is_asked_while_the_direct_connection_opens(network, relay):
    met = await meet(network, ice=relay)
    assert met.host.path == "direct"
    assert [TURN in one.ice for one in network.made] == [False, False]
    further = met.host.open(offerer=True)
    assert isinstance(further, MemoryConnection)
    assert further.ice == by_side(network)[0].ice != (), "it finds its outer address the same way"
    await further.close()
    await part(met)


@virtual_time
async def test_a_relay_that_is_required_carries_it_and_nothing_else_is_tried(network, relay):
    met = await meet(network, ice=relay, policy=Policy(relay="required"))
    assert met.host.path == "relayed"
    assert met.host.relay_only
    assert met.guest.relay_only
    assert all(one.relay_only for one in network.made if TURN in one.ice)
    assert not MemoryTls.listening
    assert met.host.peer_addresses == []
    await part(met)


@virtual_time
async def test_a_relay_that_is_forbidden_is_not_asked(network, relay):
    network.carries, network.fails_after = 0, 5.0
    with pytest.raises(LaneLost):
        await meet(network, ice=relay, ports=(None, None), policy=Policy(relay="forbidden"))
    assert not any(TURN in one.ice for one in network.made)


@pytest.mark.parametrize("who", [(True, False), (False, True), (True, True)])
@virtual_time
async def test_whoever_wants_a_relay_only_begins_with_it(network, relay, who):
    met = await meet(network, ice=relay, relay_only=who)
    assert met.host.path == "relayed"
    assert met.took < 0.5
    assert met.host.relay_only
    alone = [one for one in network.made if one.offerer or who[1]]
    assert all(one.relay_only for one in alone if TURN in one.ice)
    assert not MemoryTls.listening
    if who[1]:
        assert met.host.peer_addresses == [], "nothing but what the relay shows"
    await part(met)


@pytest.mark.parametrize("who", [(True, False), (False, True)])
@ORDERS
@virtual_time
async def test_whoever_may_use_no_relay_uses_none(network, relay, who, host_offers):
    """Not even where nothing else comes through; and neither does the other side."""
    met = await meet(network, ice=relay, no_relay=who, host_offers=host_offers)
    assert met.host.path == met.guest.path == "direct"
    await part(met)
    network.made.clear()
    network.fails_after = 60.0
    with pytest.raises(LaneLost):
        await meet(network, ice=relay, ports=(None, None), no_relay=who, host_offers=host_offers)


@virtual_time
async def test_a_relay_that_does_not_answer_is_no_relay(network, relay, monkeypatch):
    async def nobody(self):
        return None

    monkeypatch.setattr(Ice, "find_relay", nobody)
    network.fails_after = 5.0
    with pytest.raises(LaneLost):
        await meet(network, ice=relay, ports=(None, None))


@virtual_time
async def test_another_nonce_in_the_second_description_is_refused(network, relay):
    async def stranger(one, passed):
        knock = await one.until(Knock)
        await one.describe(NONCE, nonce_guest=knock.nonce_guest, setup="actpass")
        other = bytes(16)
        await one.describe(other, nonce_guest=knock.nonce_guest, setup="actpass", relayed=True)

    with pytest.raises(PeerError, match="description_of_another_attempt"):
        await guest_against(stranger, network)


# --- signals that may not come --------------------------------------------------------------------


class Stranger:
    """One side of an attempt that says whatever a test wants."""

    def __init__(self, attempt, *, host):
        self.signals = SealedSignals(attempt, KEYS, host=host)

    async def describe(self, nonce_host, *, nonce_guest=NONCE, setup, relayed=False):
        given = nonce_guest, nonce_host, "ufrag", "p" * 22, b"\x09" * 32, setup, 65_536
        description = Description(*given, relayed=relayed)
        await self.signals.send(description)

    async def until(self, kind):
        while not isinstance(signal := await self.signals.recv(), kind):
            assert signal is not None
        return signal


async def host_against(stranger, network, *, offers=True, ports=PORTS):
    """A host, while a stranger knocks; what it raises."""
    passed = attempts()
    host = Transports(network.engine, ports, offerer=offers)
    going = asyncio.create_task(
        host.connect_host(passed.host, KEYS, passphrase=False, host_sends=True)
    )
    try:
        await stranger(Stranger(passed.guest, host=False), passed)
        await going
    finally:
        await stop(going)
        await host.close()


async def guest_against(stranger, network, *, offers=False, ports=PORTS):
    """A guest, while a stranger answers."""
    passed = attempts()
    guest = Transports(network.engine, ports, offerer=offers)
    going = asyncio.create_task(
        guest.connect_guest(passed.guest, KEYS, passphrase=False, host_sends=True)
    )
    try:
        await stranger(Stranger(passed.host, host=True), passed)
        await going
    finally:
        await stop(going)
        await guest.close()


@virtual_time
async def test_whoever_does_not_knock_first_is_turned_away(network):
    async def stranger(one, passed):
        await one.describe(NONCE, setup="actpass")

    with pytest.raises(PeerError, match="knock_missing"):
        await host_against(stranger, network)


@virtual_time
async def test_whoever_leaves_before_knocking_is_a_lost_lane(network):
    async def stranger(one, passed):
        passed.host.put(None)

    with pytest.raises(LaneLost):
        await host_against(stranger, network)


@virtual_time
async def test_an_envelope_that_nobody_sealed_is_refused(network):
    async def stranger(one, passed):
        passed.host.put(bytes(2000))

    with pytest.raises(PeerError, match="envelope_not_authentic"):
        await host_against(stranger, network)


@virtual_time
async def test_a_browser_is_offered_no_tls(network):
    network.fails_after = 10.0

    async def stranger(one, passed):
        await one.signals.send(Knock(NONCE, "browser"))
        offered = await one.until(Description)
        await one.describe(offered.nonce_host, setup="active")
        await one.until(Candidates)
        await asyncio.sleep(2 * transports.DIRECT_SECONDS)
        assert passed.guest.inbox.empty(), "it was told an endpoint"

    with pytest.raises(LaneLost):
        await host_against(stranger, network)
    assert not MemoryTls.listening


@pytest.mark.parametrize("wrong", ["guest", "host"])
@virtual_time
async def test_an_answer_of_another_attempt_is_refused(network, wrong):
    async def stranger(one, passed):
        await one.signals.send(Knock(NONCE, "native"))
        offered = await one.until(Description)
        nonces = {"nonce_guest": NONCE, "nonce_host": offered.nonce_host}
        await one.describe(**{**nonces, f"nonce_{wrong}": b"\x08" * 16}, setup="active")

    with pytest.raises(PeerError, match="description_of_another_attempt"):
        await host_against(stranger, network)


@virtual_time
async def test_an_offer_of_another_attempt_is_refused_by_a_host_that_answers(network):
    async def stranger(one, passed):
        await one.signals.send(Knock(NONCE, "native"))
        await one.describe(NONCE, nonce_guest=b"\x08" * 16, setup="actpass")

    with pytest.raises(PeerError, match="description_of_another_attempt"):
        await host_against(stranger, network, offers=False)


@virtual_time
async def test_an_offer_of_another_attempt_is_refused_by_a_guest(network):
    async def stranger(one, passed):
        await one.until(Knock)
        await one.describe(NONCE, nonce_guest=b"\x08" * 16, setup="actpass")

    with pytest.raises(PeerError, match="description_of_another_attempt"):
        await guest_against(stranger, network)


@virtual_time
async def test_two_that_both_offer_or_both_answer_do_not_come_together(network):
    async def offers_too(one, passed):
        await one.signals.send(Knock(NONCE, "native"))
        offered = await one.until(Description)
        await one.describe(offered.nonce_host, setup="actpass")

    async def answers_too(one, passed):
        knock = await one.until(Knock)
        await one.describe(NONCE, nonce_guest=knock.nonce_guest, setup="active")

    with pytest.raises(PeerError, match="description_wrong_kind"):
        await host_against(offers_too, network)
    with pytest.raises(PeerError):
        await guest_against(answers_too, network)


@virtual_time
async def test_a_host_that_is_gone_is_a_lost_lane(network):
    async def stranger(one, passed):
        await one.until(Knock)
        await passed.host.leave()

    with pytest.raises(LaneLost):
        await guest_against(stranger, network)


@pytest.mark.parametrize("kind", ["knock", "description"])
@virtual_time
async def test_a_signal_out_of_turn_ends_the_attempt(network, kind):
    async def stranger(one, passed):
        await one.signals.send(Knock(NONCE, "native"))
        offered = await one.until(Description)
        await one.describe(offered.nonce_host, setup="active")
        if kind == "knock":
            await one.signals.send(Knock(NONCE, "native"))
        else:
            await one.describe(offered.nonce_host, setup="active")

    with pytest.raises(PeerError, match="signal_out_of_turn"):
        await host_against(stranger, network)


@pytest.mark.parametrize("ports", [PORTS, None], ids=["with TLS", "without"])
@virtual_time
async def test_a_second_endpoint_is_out_of_turn_whether_or_not_one_is_wanted(network, ports):
    endpoint = DirectEndpoint.of(["192.0.2.1"], 40_000, b"certificate")

    async def stranger(one, passed):
        knock = await one.until(Knock)
        await one.describe(NONCE, nonce_guest=knock.nonce_guest, setup="actpass")
        for _ in range(2):
            await one.signals.send(endpoint)

    with pytest.raises(PeerError, match="signal_out_of_turn"):
        await guest_against(stranger, network, ports=ports)


@virtual_time
async def test_an_endpoint_whose_certificate_is_none_is_the_peers_error(network):
    async def stranger(one, passed):
        knock = await one.until(Knock)
        await one.describe(NONCE, nonce_guest=knock.nonce_guest, setup="actpass")
        await one.signals.send(DirectEndpoint.of(["192.0.2.1"], 40_000, b"none"))

    with pytest.raises(PeerError, match="certificate_malformed"):
        await guest_against(stranger, network)


@virtual_time
async def test_more_candidates_than_allowed_end_the_attempt(network):
    candidate = (await anext(network.make(offerer=True).candidates()),)

    async def stranger(one, passed):
        await one.signals.send(Knock(NONCE, "native"))
        offered = await one.until(Description)
        await one.describe(offered.nonce_host, setup="active")
        await one.signals.send(Candidates(candidate * 32))
        await one.signals.send(Candidates(candidate))

    with pytest.raises(PeerError, match="too_many_candidates"):
        await host_against(stranger, network)


# --- sealed signals and early messages ------------------------------------------------------------


async def test_signals_are_sealed_for_one_direction_and_one_attempt():
    passed = attempts()
    guest = SealedSignals(passed.guest, KEYS, host=False)
    host = SealedSignals(passed.host, KEYS, host=True)
    await guest.send(Knock(NONCE, "native"))
    assert await host.recv() == Knock(NONCE, "native")
    await guest.send(Knock(NONCE, "native"))
    envelope = await passed.host.recv()
    reflected = replace(KEYS, room=bytes(16))
    for wrong in (guest, SealedSignals(passed.guest, reflected, host=True)):
        passed.guest.put(envelope)
        with pytest.raises(PeerError, match="envelope_not_authentic"):
            await wrong.recv()


async def test_no_more_signals_is_none():
    passed = attempts()
    passed.host.put(None)
    assert await SealedSignals(passed.host, KEYS, host=True).recv() is None


async def test_an_early_message_is_short_or_the_end():
    here, there = lanes()
    await there.send(bytes(MAX_HANDSHAKE_MESSAGE))
    assert len(await receive_early(here)) == MAX_HANDSHAKE_MESSAGE
    await there.send(bytes(MAX_HANDSHAKE_MESSAGE + 1))
    with pytest.raises(PeerError, match="too_long"):
        await receive_early(here)
