"""`handover doctor` between real NATs, firewalls and proxies, beside what a transfer does there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.e2e.harness import Peer

from .cells import internet
from .network import INTERNET, RELAY, TURN

SERVER = f"https://{INTERNET}:443"


def examine(folder, site, *words, servers="both", server=SERVER, **environment):
    """Its checks, how it would connect, what a firewall has to let out, and the exit code."""
    with internet((site, "open"), folder, servers=servers) as net:
        peer = Peer(folder / "peer", prefix=net.prefixes["sender"])
        done = peer.run(
            *("doctor", "--json", "--server", server, *words),
            **{**net.environments["sender"], **environment},
        )
        peer.close()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "Traceback" not in done.stderr
    return lines[:-1], lines[-1], done.returncode


def verdicts(checks, name):
    return [one["verdict"] for one in checks if one["check"] == name]


@pytest.mark.parametrize(
    ("site", "nat", "path"),
    [
        ("open", "nat_none", "direct"),
        ("cone", "nat_cone", "direct"),
        ("symmetric", "nat_symmetric", "relayed"),
        ("no udp", "nat_blocked", "relayed"),
        ("443 only", "nat_blocked", "relayed"),
        ("proxy", "nat_blocked", "relayed"),
    ],
)
def test_it_says_what_stands_between_and_how_a_transfer_would_connect(tmp_path, site, nat, path):
    checks, result, code = examine(tmp_path, site)
    assert [one["code"] for one in checks if one["check"] == "nat"] == [nat]
    assert (result["path"], code) == (path, 0)
    by_udp, by_tcp, by_tls = verdicts(checks, "relay")
    assert by_tls == "works"
    assert by_udp == ("works" if site in ("open", "cone", "symmetric") else "fails")
    assert by_tcp == ("fails" if site in ("443 only", "proxy") else "works")
    for one in checks:
        if one["check"] == "relay" and one["verdict"] == "works":
            assert float(one["values"]["rate"]) > 0.1, "it was sent through"
    server = next(one for one in checks if one["check"] == "server")
    assert server["code"] == ("server_by_proxy" if site == "proxy" else "server")
    assert "secret" not in json.dumps(checks), "a proxy's password is nobody's"
    openings = {(one["host"], one["port"], one["protocol"]) for one in result["openings"]}
    assert {(INTERNET, "443", "TCP"), (RELAY, "3478", "UDP"), (TURN, "443", "TCP")} <= openings


@pytest.mark.parametrize("code", ["trusted", "untrusted"])
def test_a_certificate_names_who_vouches_for_it(tmp_path, code):
    known = {} if code == "trusted" else {"SSL_CERT_FILE": os.devnull}
    checks, result, _ = examine(tmp_path, "443 only", **known)
    one = next(one for one in checks if one["check"] == "certificate")
    assert (one["code"], one["values"]["issuer"]) == (code, "authority")
    path = "relayed" if code == "trusted" else "network"
    assert result["path"] == path, "a relay by TLS is as strict"


@pytest.mark.parametrize(
    ("browser", "site", "works", "fails", "result"),
    [
        ("chromium", "symmetric", ["UDP", "TCP", "TLS relays"], [], "through a relay"),
        ("firefox", "no udp", ["TCP", "TLS relays"], ["UDP", "STUN"], "through a relay"),
        ("chromium", "cone", ["UDP gets out", "keeps the port"], [], "directly with most sites"),
    ],
)
def test_the_page_says_the_same(tmp_path, browser, site, works, fails, result):
    with internet((site, "open"), tmp_path, servers="both") as net:
        peer = Peer(tmp_path / "peer", prefix=net.prefixes["sender"])
        page = (*peer.prefix, sys.executable, "-m", "tests.reach.page", browser)
        environment = peer.environment(
            HANDOVER_LINK=f"https://{INTERNET}/", **net.environments["sender"]
        )
        done = subprocess.run(page, env=environment, capture_output=True, text=True, timeout=120)
        peer.close()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert result in told["result"]
    for verdict, words in (("works", works), ("fails", fails)):
        for one in words:
            assert any(v == verdict and one in text for v, text in told["rows"]), (one, told)


def test_without_servers_one_network_is_all(tmp_path):
    _, result, code = examine(tmp_path, "cone", servers="none")
    assert (result["path"], code) == ("network", 0)


def test_no_relay_and_no_udp_is_one_network_alone(tmp_path):
    _, result, code = examine(tmp_path, "no udp", servers="stun")
    assert (result["path"], code) == ("network", 0)


@pytest.mark.parametrize(
    ("site", "word", "path"),
    [("symmetric", "--no-relay", "some"), ("cone", "--relay-only", "relayed")],
)
def test_what_a_transfer_would_not_try_is_not_tried(tmp_path, site, word, path):
    checks, result, code = examine(tmp_path, site, word)
    assert (result["path"], code) == (path, 0)
    tried = {one["check"] for one in checks}
    assert ("relay" in tried, "nat" in tried) == (word != "--no-relay", word != "--relay-only")


def test_a_server_that_is_not_reached(tmp_path):
    checks, result, code = examine(tmp_path, "open", server=f"https://{INTERNET}:444")
    assert verdicts(checks, "server") == ["fails"]
    assert (result["path"], code) == ("", 1)


def test_the_report_is_what_was_shown_and_replaces_nothing(tmp_path):
    report = tmp_path / "report.txt"
    with internet(("cone", "open"), tmp_path, servers="both") as net:
        peer = Peer(tmp_path / "peer", prefix=net.prefixes["sender"])
        words = ("doctor", "--server", SERVER, "--report", report)
        done = peer.run(*words, **net.environments["sender"])
        again = peer.run(*words, **net.environments["sender"])
        peer.close()
    assert done.returncode == 0
    assert report.read_text().splitlines() == done.stdout.splitlines()[:-1]
    assert RELAY in report.read_text()
    assert again.returncode == 1
    assert subprocess.run(["grep", "-c", "handover", report], capture_output=True).stdout == b"1\n"
