"""coturn as it is shipped relays to the internet, and to nobody's own network."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from signaling.ice import IceConfiguration

from .network import RELAY, SECRET, Internet

# Asks the relay for a way to each address, and prints which it gets; run in a namespace.
ASK = """
import asyncio, sys
from aioice import stun, turn
host, username, credential, *peers = sys.argv[1:]

async def ask():
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
PEERS = {"203.0.1.2": "yes", "8.8.8.8": "yes", RELAY: "yes"}
PRIVATE = (
    *("10.66.1.2", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.255.255.254", "0.0.0.0"),
    *("100.64.0.1", "169.254.169.254", "192.0.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
)


@pytest.fixture
def relay(tmp_path):
    net = Internet(("open", "open"), tmp_path)
    net.relay()
    yield net
    net.close()


def ask(net, credential, *peers):
    login = (credential["username"], credential["credential"])
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


def test_it_relays_to_the_internet_and_to_no_private_network(relay):
    done = ask(relay, credential(), *PEERS, *PRIVATE)
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found == {**PEERS, **dict.fromkeys(PRIVATE, "403")}, done.stderr


def test_it_relays_for_nobody_without_credentials_of_the_server(relay):
    ask(relay, credential())  # it is there
    done = ask(relay, credential("another secret"), "203.0.1.2")
    assert done.stdout == ""
    assert "401" in done.stderr
