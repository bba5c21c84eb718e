"""coturn as it is shipped relays to the internet, and to nobody's own network."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from signaling.ice import IceConfiguration

from .network import RELAY, RELAY6, SECRET, Internet

# Asks the relay for a way to each address, and prints which it gets; run in a namespace. To a peer's
# address a way leads from one of the same family, which has to be asked for (RFC 8656 7.1).
ASK = """
import asyncio, sys
from aioice import stun, turn
host, username, credential, family, *peers = sys.argv[1:]
name = "REQUESTED-ADDRESS-FAMILY"
stun.ATTRIBUTES_BY_NAME[name] = (0x17, name, stun.pack_unsigned, stun.unpack_unsigned)

class Allocating(stun.Message):
    def __init__(self, *of, **what):
        super().__init__(*of, **what)
        if self.message_method is stun.Method.ALLOCATE:
            self.attributes[name] = int(family) << 24

async def ask():
    stun.Message = Allocating
    transport, _ = await turn.create_turn_endpoint(
        asyncio.DatagramProtocol, (host, 3478), username, credential)
    inner = transport._TurnTransport__inner_protocol
    for peer in peers:
        try:
            await inner.channel_bind(inner.channel_number, (peer, 5000))
            print(peer, "yes")
        except stun.TransactionFailed as refused:
            print(peer, refused.response.attributes["ERROR-CODE"][0])
        inner.channel_number += 1
    transport.close()

asyncio.run(ask())
"""
FAMILY = {4: 1, 6: 2}  # as STUN numbers them (RFC 8489 14.1)
PEERS = {4: ("203.0.1.2", "8.8.8.8", RELAY), 6: ("2001:db8:1:1::2", "2606:4700::1111", RELAY6)}
PRIVATE = {
    4: (
        *("10.66.1.2", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.255.255.254", "0.0.0.0"),
        *("100.64.0.1", "169.254.169.254", "192.0.0.1", "198.18.0.1", "224.0.0.1"),
        "255.255.255.255",
    ),
    6: (
        *("::1", "::", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fdff::1", "ff02::1", "ff0e::1"),
        # with an IPv4 address within: mapped, compatible, NAT64, 6to4, Teredo
        *("::ffff:127.0.0.1", "::ffff:10.66.1.2", "::127.0.0.1", "::10.66.1.2"),
        *("64:ff9b::7f00:1", "64:ff9b::a42:102", "64:ff9b:1::7f00:1", "64:ff9b:1:ffff::1"),
        *("2002:7f00:1::1", "2002:a42:102::1", "2001::1"),
        *("100::1", "2001:1ff::1"),  # that lead nowhere
    ),
}


@pytest.fixture
def relay(tmp_path):
    net = Internet(("open", "open"), tmp_path)
    net.relay()
    yield net
    net.close()


def ask(net, credential, *peers, family=4):
    login = (credential["username"], credential["credential"], f"{FAMILY[family]}")
    command = (*net.prefixes["sender"], sys.executable, "-c", ASK, RELAY, *login, *peers)
    for _ in range(50):  # until it listens
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if "ConnectionRefusedError" not in done.stderr and "timed out" not in done.stderr:
            break
        time.sleep(0.2)
    return done


def credential(secret=SECRET):
    told = IceConfiguration((f"turn:{RELAY}",), lambda: secret.encode()).told(time.time())
    assert told is not None
    return told["servers"][0]


@pytest.mark.parametrize("family", FAMILY)
def test_it_relays_to_the_internet_and_to_no_private_network(relay, family):
    peers, private = PEERS[family], PRIVATE[family]
    done = ask(relay, credential(), *peers, *private, family=family)
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found == {**dict.fromkeys(peers, "yes"), **dict.fromkeys(private, "403")}, done.stderr


def test_it_relays_for_nobody_without_credentials_of_the_server(relay):
    ask(relay, credential())  # it is there
    done = ask(relay, credential("another secret"), "203.0.1.2")
    assert done.stdout == ""
    assert "401" in done.stderr


def test_it_knows_every_line_of_its_configuration(relay, tmp_path):
    ask(relay, credential())  # it has read them
    told = "".join(log.read_text() for log in tmp_path.glob("relay-*.log"))
    assert "Version Coturn" in told
    assert "Bad configuration" not in told
