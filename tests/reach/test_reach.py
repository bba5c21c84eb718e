"""A part of the matrix (`python -m tests.reach`): real namespaces, a real server, a real relay."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from p2p.lanes.webrtc import available
from tests.e2e.harness import Peer
from tests.web_client.browsers import KINDS

from .cells import SIZE, internet, transfer
from .network import INTERNET, SIDES, cable

ENGINES = available()
FAST, PORTABLE = ENGINES[0], ENGINES[-1]


@pytest.fixture(autouse=True)
def able():
    assert os.geteuid() == 0, "namespaces need root"


def cell(folder, sites, *words, ends=(FAST, FAST), **around):
    with internet(sites, folder, **around) as net:
        return transfer(net, folder, ends, *words)


@pytest.mark.parametrize(
    "sites", [("open", "open"), ("cone", "cone"), ("cone", "open"), ("open", "symmetric")]
)
def test_a_direct_path_is_found_with_a_stun_server_alone(tmp_path, sites):
    assert cell(tmp_path, sites, servers="stun").path in ("direct", "tls")


def test_the_signaling_server_alone_is_enough_for_two_cone_nats(tmp_path):
    assert cell(tmp_path, ("cone", "cone"), servers="own").path == "direct"


@pytest.mark.parametrize(
    ("sites", "ended"), [(("cone", "cone"), "tls"), (("cone", "symmetric"), "relayed")]
)
def test_tcp_goes_through_two_nats_where_both_connect_at_once(tmp_path, sites, ended):
    """Beside what began, and from then on it carries the rest; with a symmetric NAT it does not,
    and nothing is lost."""
    with internet(sites, tmp_path) as net:
        found = transfer(net, tmp_path, (FAST, FAST), "--limit", "10M", size=60_000_000)
    assert (found.path, found.ended) == ("direct" if ended == "tls" else "relayed", ended)


@pytest.mark.parametrize("end", [FAST, PORTABLE])
def test_one_cable_between_two_computers(tmp_path, end):
    """No router, no server, no address but those they gave themselves."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(SIZE))
    with cable() as prefixes:
        here, there = (Peer(tmp_path / side, side, prefixes[side]) for side in SIDES)
        with closing(here), closing(there):
            sending, link = here.send("--auto", "--engine", end, file)
            assert link.startswith("http://169.254.1.7:")
            out = tmp_path / "out"
            receiving = there.receive(link, out, "--auto", "--engine", end)
            assert [one.end()[0] for one in (receiving, sending)] == [0, 0]
    assert (out / "file").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("engines", [(FAST, PORTABLE), (PORTABLE, FAST)])
def test_holes_are_punched_by_either_engine(tmp_path, engines):
    assert cell(tmp_path, ("cone", "cone"), ends=engines, servers="stun").path == "direct"


@pytest.mark.parametrize(
    "sites", [("symmetric", "symmetric"), ("cone", "symmetric"), ("symmetric", "cone")]
)
def test_a_relay_carries_what_finds_no_direct_path(tmp_path, sites):
    found = cell(tmp_path, sites)
    assert (found.path, found.ended) == ("relayed", "relayed")


def test_two_ipv6_firewalls_are_passed_without_a_relay(tmp_path):
    found = cell(tmp_path, ("cone", "cone"), families=("v6", "v6"), servers="stun")
    assert found.path == "direct"


def test_a_dual_stack_name_does_not_keep_an_engine_from_punching_holes_in_ipv4(tmp_path):
    found = cell(
        tmp_path,
        ("cone", "cone"),
        families=("both", "v4"),
        ends=(PORTABLE, PORTABLE),
        servers="stun",
    )
    assert found.path == "direct"


@pytest.mark.parametrize(
    ("sites", "families"),
    [
        (("cone", "cone"), ("v4", "v6")),  # no address of one is any use to the other
        (("no udp", "443 only"), ("v6", "v6")),  # by TCP and TLS
        (("443 only", "cone"), ("broken6", "v4")),
    ],
)
def test_a_relay_carries_from_either_family(tmp_path, sites, families):
    found = cell(tmp_path, sites, families=families)
    assert (found.path, found.ended) == ("relayed", "relayed")


def test_ipv6_that_leads_nowhere_does_not_hold_up_ipv4(tmp_path):
    found = cell(tmp_path, ("cone", "cone"), families=("broken6", "v4"), servers="stun")
    assert found.path == "direct"
    assert found.accepted < 5


@pytest.mark.parametrize("end", [FAST, *KINDS])
def test_a_direct_path_of_small_packets_carries_a_transfer(tmp_path, end):
    small = {"families": ("v6", "v6"), "mtu": 1280, "servers": "stun"}
    assert cell(tmp_path, ("cone", "cone"), ends=(FAST, end), **small).path == "direct"


@pytest.mark.parametrize(
    ("sites", "family", "end"),
    [
        (("symmetric", "symmetric"), "v4", FAST),
        *((("no udp", "cone"), "v6", browser) for browser in KINDS),
    ],
)
def test_a_relay_carries_small_packets_though_nobody_says_how_small(tmp_path, sites, family, end):
    around = {"families": (family, family), "mtu": 1280, "icmp": False}
    assert cell(tmp_path, sites, ends=(FAST, end), **around).path == "relayed"


@pytest.mark.parametrize(
    "sites",
    [("no udp", "no udp"), ("no udp", "cone"), ("cone", "443 only"), ("443 only", "no udp")],
)
def test_where_no_udp_gets_out_the_relay_is_reached_by_tcp_and_tls(tmp_path, sites):
    assert cell(tmp_path, sites).path == "relayed"


@pytest.mark.parametrize("sites", [("proxy", "cone"), ("cone", "proxy"), ("proxy", "443 only")])
def test_where_only_a_proxy_gets_out_both_servers_are_reached_through_it(tmp_path, sites):
    assert cell(tmp_path, sites).path == "relayed"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_reaches_both_servers_too(tmp_path, scheme):
    """By their names, which `socks5h` looks up."""
    with internet(("proxy", "cone"), tmp_path, families=("v4", "both")) as net:
        del net.environments["sender"]["HTTPS_PROXY"]
        proxy = ("--proxy", f"{scheme}://{net.socks['sender']}")
        found = transfer(net, tmp_path, (FAST, FAST), sender=proxy)
    assert (found.path, found.ended) == ("relayed", "relayed")


@pytest.mark.parametrize("login", ["", "staff:wrong@"])
def test_a_socks_proxy_that_wants_a_password_says_so(tmp_path, login):
    with internet(("proxy", "open"), tmp_path, servers="none") as net:
        del net.environments["sender"]["HTTPS_PROXY"]
        proxy = f"socks5://{net.socks['sender'].replace('staff:secret@', login)}"
        peer = Peer(tmp_path / "peer", "peer", net.prefixes["sender"])
        (tmp_path / "file").write_bytes(b"x")
        words = ("--auto", "--server", f"https://{INTERNET}:443", "--proxy", proxy)
        sending = peer.start("send", *words, tmp_path / "file", **net.environments["sender"])
        code, last = sending.end()
        peer.close()
    assert (code, last["code"]) == (1, "server_unreachable")
    assert "asks for a user name and a password" in last["message"]


def test_a_proxy_that_wants_a_password_says_so(tmp_path):
    with internet(("proxy", "open"), tmp_path) as net:
        named = net.environments["sender"]["HTTPS_PROXY"]
        peer = Peer(tmp_path / "peer", "peer", net.prefixes["sender"])
        nameless = {**net.environments["sender"], "HTTPS_PROXY": named.replace("staff:secret@", "")}
        (tmp_path / "file").write_bytes(b"x")
        server = ("--server", f"https://{INTERNET}:443")
        code, last = peer.start("send", "--auto", *server, tmp_path / "file", **nameless).end()
        peer.close()
    assert (code, last["code"]) == (1, "server_unreachable")
    assert "asks for a user name and a password" in last["message"]


@pytest.mark.parametrize(("login", "words"), [("staff:secret@", ""), ("", "asks for a user name")])
def test_a_page_is_compared_through_a_proxy(tmp_path, login, words):
    with internet(("proxy", "open"), tmp_path, servers="none") as net:
        proxy = net.environments["sender"].pop("HTTPS_PROXY").replace("staff:secret@", login)
        peer = Peer(tmp_path / "peer", prefix=net.prefixes["sender"])
        known = ("verify-web", f"https://{INTERNET}", "--ca", net.authority)
        done = peer.run(*known, "--proxy", proxy, **net.environments["sender"])
        peer.close()
    assert done.returncode == (1 if words else 0), done
    assert words in done.stderr


@pytest.mark.parametrize("who", ["both", "sender", "recipient"])
def test_whoever_wants_a_relay_only_gets_no_other_path(tmp_path, who):
    with internet(("open", "open"), tmp_path) as net:
        words = {"sender": (), "recipient": (), **{who: ("--relay-only",)}}
        both = ("--relay-only",) if who == "both" else ()
        found = transfer(
            net, tmp_path, (FAST, FAST), *both, sender=words["sender"], recipient=words["recipient"]
        )
    assert (found.path, found.ended) == ("relayed", "relayed")


@pytest.mark.parametrize("end", [FAST, *KINDS])
def test_an_operator_who_requires_a_relay_has_it_carry_everything(tmp_path, end):
    asked = ("--relay", "required")
    found = cell(tmp_path, ("open", "open"), ends=(FAST, end), asked=asked)
    assert (found.path, found.ended) == ("relayed", "relayed")


def test_without_a_relay_it_is_said_soon_that_there_is_no_path(tmp_path):
    found = cell(tmp_path, ("symmetric", "symmetric"), servers="none")
    assert found.path == "no_connection"
    assert "offers no relay" in found.message


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        (("cone", "shut"), "no relay answers this computer"),
        (("shut", "cone"), "obstacle is at the other side"),
    ],
)
def test_who_has_to_tell_their_it_is_said(tmp_path, sites, words):
    found = cell(tmp_path, sites)
    assert found.path == "no_connection"
    assert words in found.message


@pytest.mark.parametrize(
    ("browser", "sites", "path"),
    [
        *((browser, ("cone", "cone"), "direct") for browser in KINDS),
        ("chromium", ("symmetric", "symmetric"), "relayed"),
        ("firefox", ("cone", "no udp"), "relayed"),
        *((browser, ("443 only", "no udp"), "relayed") for browser in KINDS),
        *((browser, ("cone", "proxy"), "relayed") for browser in KINDS),
        # The others, which differ in nothing that those do not have, by hand.
        pytest.param("firefox", ("symmetric",) * 2, "relayed", marks=pytest.mark.faults),
        pytest.param("chromium", ("cone", "no udp"), "relayed", marks=pytest.mark.faults),
    ],
)
def test_a_browser_connects_as_a_program_does(tmp_path, browser, sites, path):
    servers = "stun" if path == "direct" else "turn"
    assert cell(tmp_path, sites, ends=(FAST, browser), servers=servers).path == path


@pytest.mark.parametrize("browser", KINDS)
def test_a_browser_that_knows_the_authority_reaches_a_relay_by_tls(tmp_path, browser):
    assert cell(tmp_path, ("no udp", "443 only"), ends=(FAST, browser)).path == "relayed"
