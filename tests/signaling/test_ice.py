"""What peers are told of STUN and TURN servers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import pytest

from p2p.protocol.ice import read_ice
from signaling import messages
from signaling.ice import BadIce, IceConfiguration, SecretFile, check_url

GOOD = [
    "stun:stun.example",
    "stun:192.0.2.1:3478",
    "turn:turn.example?transport=udp",
    "turn:[2001:db8::1]:80?transport=tcp",
    "turns:turn.example:443",
    "turns:turn.example?transport=tcp",
]
WRONG = [
    *("", "turn.example", "http://turn.example", "stun:", "stun:a b", "turn:a@b", "turn:x:y@z"),
    *("stun:a?transport=udp", "turns:a?transport=udp", "turn:a?transport=sctp", "stuns:a"),
    *("turn:a:0", "turn:a:65536", "turn:a:123456", "turn:a/", "turn:a#b", "turn:" + "x" * 400),
    "turn:a\n",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_good_url_is_told_and_taken(url):
    told = IceConfiguration((url,), lambda: b"secret").told(1_000.0)
    assert told is not None
    assert len(read_ice(told, local=False).servers) == 1
    assert check_url(url) is url.startswith("turn")


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_is_refused_at_the_start(url):
    with pytest.raises(BadIce) as refused:
        IceConfiguration((url,), lambda: b"secret")
    assert refused.value.code == "ice_url"


def test_relays_by_tls_that_have_no_name_are_known():
    nameless = (
        *("turns:192.0.2.1", "turns:192.0.2.1:443", "turns:192.0.2.1?transport=tcp"),
        "turns:[2001:db8::1]:443",
    )
    others = ("turn:192.0.2.1?transport=tcp", "turns:192.example", "turns:192.0.2.1.example:443")
    assert IceConfiguration((*nameless, *others), lambda: b"secret").nameless == nameless


def test_no_servers_are_not_told_of():
    assert IceConfiguration().told(0) is None


def test_too_many_servers_and_turn_without_a_secret_are_refused_at_the_start():
    many = tuple(f"stun:{n}.example" for n in range(messages.MAX_ICE_URLS + 1))
    IceConfiguration(many[1:])
    for urls, code in ((many, "ice_many"), (("turn:a.example",), "ice_secret")):
        with pytest.raises(BadIce) as refused:
            IceConfiguration(urls)
        assert refused.value.code == code


def test_credentials_are_those_of_the_rest_scheme_and_name_nobody():
    """As coturn computes them: HMAC-SHA1 of `expiry:random`, in base64."""
    ice = IceConfiguration(("stun:a.example", "turn:b.example"), lambda: b"secret", ttl=60)
    one, other = ice.told(1_000.9), ice.told(1_000.9)
    assert one is not None
    assert other is not None
    stun, turn = one["servers"]
    assert stun == {"url": "stun:a.example"}
    expiry, _, random = turn["username"].partition(":")
    assert expiry == "1060"
    assert len(random) >= 12
    assert turn["username"] != other["servers"][1]["username"], "another for each"
    mac = hmac.digest(b"secret", turn["username"].encode(), hashlib.sha1)
    assert base64.b64decode(turn["credential"]) == mac
    assert one["ttl"] == 60


def test_the_first_secret_of_the_file_is_used_and_a_new_one_is_noticed(tmp_path, caplog):
    file = tmp_path / "secrets"
    file.write_text("\nnew\nold\n")
    secret = SecretFile(file)
    assert secret() == b"new"
    file.write_text("newer\nnew\n")
    os.utime(file, ns=(1, 1))
    assert secret() == b"newer"
    file.unlink()
    assert secret() == b"newer", "better than none"
    assert "cannot be read" in caplog.text
    assert "newer" not in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"\n \n"])
def test_a_file_without_a_secret_is_refused_at_the_start(tmp_path, content):
    if content is not None:
        (tmp_path / "secrets").write_bytes(content)
    with pytest.raises(BadIce) as refused:
        SecretFile(tmp_path / "secrets")
    assert refused.value.code == "ice_secret_file"
