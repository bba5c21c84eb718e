"""Settings: what is typed, the environment, the person's file, the computer's, in this order."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p import api
from p2p.cli import configuration, main
from p2p.cli.configuration import Setting
from signaling.redis_store import RedisStore

SERVER = "https://handover.hospital.example"


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Writes the computer's file and the person's, which take the places of the real ones."""
    both = [tmp_path / "machine.toml", tmp_path / "person.toml"]
    monkeypatch.setattr(configuration, "paths", lambda: both)

    def write(machine="", person=""):
        for path, text in zip(both, (machine, person), strict=True):
            path.write_text(text)
        return both

    return write


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def sent(line, study, *words, **environment):
    """What the API is given by `handover send`."""
    done = line.run("send", study, "--auto", *words, env=environment)
    assert done.exit_code == 0, done.output
    return line.given


def test_the_nearer_one_counts(line, files, study):
    files('limit = "1M"\nserver = "https://a.example"\nlabel = "CT"', 'limit = "2M"')
    given = sent(line, study)
    assert (given["limit"], given["server"], given["label"]) == (2e6, "https://a.example", "CT")
    assert sent(line, study, HANDOVER_LIMIT="3M")["limit"] == 3e6
    assert sent(line, study, "--limit", "4M", HANDOVER_LIMIT="3M")["limit"] == 4e6


def test_every_setting_stands_in_a_file_as_it_is_typed(line, files, study, tmp_path):
    files(
        f'server = "{SERVER}"\nlisten = ":4000"\naddress = "host"\nexpires = "2h"\n'
        'direct-ports = "5000-5010"\nno-compress = true\nno-direct = false\nrelay-only = true\n'
        f'proxy = "none"\nengine = "aiortc"\noutput = "{tmp_path}"\nlimit = "50M"\n'
    )
    given = sent(line, study)
    assert given["server"] == SERVER
    assert (given["listen"], given["address"], given["expires"]) == (("", 4000), "host", 7200.0)
    assert (given["compress"], given["direct"], given["relay_only"]) == (False, True, True)
    assert (given["direct_ports"], given["limit"]) == ((5000, 5010), 5e7)
    assert (given["proxy"], given["engine"]) == ("none", "aiortc")
    line.run("receive", "https://host.example/#1.secret", "--auto")
    assert line.given["arguments"][1] == tmp_path


@pytest.mark.parametrize("words", [("--server", ""), ("--listen", ":4263"), ("--address", "h")])
def test_what_is_typed_for_a_server_of_its_own_leaves_the_configured_one(line, files, study, words):
    files(f'server = "{SERVER}"')
    assert sent(line, study)["server"] == SERVER
    assert sent(line, study, *words)["server"] is None


def test_a_person_can_undo_what_the_computer_says(line, files, study):
    files("relay-only = true", "relay-only = false")
    assert sent(line, study)["relay_only"] is False
    files("relay-only = true")
    assert sent(line, study, HANDOVER_RELAY_ONLY="0")["relay_only"] is False


def test_relays_cannot_be_demanded_and_forbidden(line, files, study, language):
    files("relay-only = true")
    done = line.run("send", study, "--no-relay")
    assert done.exit_code == 2
    assert "--relay-only" in done.stderr
    assert "--no-relay" in done.stderr


def test_the_server_has_a_table_of_its_own(line, files, monkeypatch):
    taken: dict[str, Any] = {}

    def ice_configuration(*given):
        taken["ice"] = given
        return SimpleNamespace(nameless=(), relays=True)

    monkeypatch.setattr(api, "ice_configuration", ice_configuration)

    def serve(*given, **named):
        taken["serve"], taken["named"] = given, named
        raise api.Failure("server_unreachable", "of the test")

    monkeypatch.setattr(api, "serve", serve)
    files(
        'listen = ":1"\n[serve]\nlisten = "127.0.0.1:8443"\nturn-ttl = "30m"\nstun-listen = ":3478"\n'
        'ice = ["stun:a.example", "turn:b.example"]\ntrusted-proxy = ["10.0.0.0/8"]\n'
        'metrics-listen = "127.0.0.1:9464"\nready-days = 21\ndrain = "1m"\n'
        'operator = "Example Hospital"\nmax-expires = "1h"\nrequire = "digits"\nrelay = "required"'
    )
    line.run("serve")
    assert taken["ice"] == (("stun:a.example", "turn:b.example"), None, 1800, 3478)
    address, _, trusted, _, stun, store, access, policy = taken["serve"]
    assert (address, str(trusted[0])) == (("127.0.0.1", 8443), "10.0.0.0/8")
    assert (stun, store, access) == (("", 3478), None, None)
    assert policy == api.Policy("Example Hospital", 3600, "digits", "required")
    assert taken["named"] == {"metrics": ("127.0.0.1", 9464), "ready_days": 21, "drain": 60.0}
    line.run("serve", env={"HANDOVER_SERVE_REDIS_URL": "redis://h:hunter2@redis.example/0"})
    assert isinstance(taken["serve"][5], RedisStore)
    result = line.run("serve", "--redis-url", "http://h:hunter2@redis.example")
    assert result.exit_code == 2
    assert "http://h:***@redis.example is not the URL of a Redis server" in result.stderr
    line.run("serve", env={"HANDOVER_SERVE_ICE": "stun:c.example stun:d.example"})
    assert taken["ice"][0] == ("stun:c.example", "stun:d.example")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("servr = 'x'", "servr"),
        ("[server]\nlisten = ':1'", "server"),
        ("auto = true", "auto"),
        ("ice = ['stun:a']", "ice"),
        ("[serve]\nserver = 'x'", "serve.server"),
        ("limit = '3'", "limit"),
        ("limit = true", "limit"),
        ("limit = ['5M']", "limit"),
        ("limit = 2026-11-26", "limit"),
        ("relay-only = 'yes'", "relay-only"),
        ("relay-only = 1", "relay-only"),
        ("output = 'Received'", "output"),
        ("[serve]\nice = 'stun:a'", "serve.ice"),
        ("serve = 1", "[serve]"),
        ("limit = \n", "line 1"),
        ("x = '\udcff'", "utf-8"),
        ("x = " + "[" * 50_000, "recursion"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(line, files, study, language, text, named):
    machine, _ = files()
    machine.write_bytes(text.encode(errors="surrogateescape"))
    done = line.run("send", study)
    assert done.exit_code == 2
    assert str(machine) in done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.output
    assert line.run("send", "--help").exit_code == 0, "help is there all the same"


def test_a_file_that_is_too_large_or_cannot_be_read(line, files, study, monkeypatch, tmp_path):
    machine, _ = files("#" * (configuration.MAX_FILE + 1))
    assert str(machine) in line.run("send", study).stderr
    machine.unlink()
    machine.mkdir()
    assert str(machine) in line.run("send", study).stderr


def test_a_named_file_is_read_instead_of_both(line, study, tmp_path):
    """It has to be there, where the others need not."""
    named = tmp_path / "own.toml"
    done = line.run("send", study, env={"HANDOVER_CONFIG": str(named)})
    assert done.exit_code == 2
    assert str(named) in done.stderr
    named.write_text('label = "Ward"')
    assert sent(line, study, HANDOVER_CONFIG=str(named))["label"] == "Ward"


def test_where_the_files_lie(monkeypatch):
    monkeypatch.delenv("HANDOVER_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/there")
    if sys.platform == "linux":
        machine, person = configuration.paths()
        assert machine == Path("/etc/handover/handover.toml")
        assert person == Path("/there/handover/handover.toml")


def test_what_is_in_force_and_from_where(line, files, language):
    machine, person = files('limit = "1M"\nserver = "https://a.example"', "no-direct = true")
    done = line.run("config", "show", env={"HANDOVER_LIMIT": "5M"})
    assert done.exit_code == 0
    rows = dict(row.split(maxsplit=1) for row in done.stdout.splitlines() if row and " " in row)
    assert rows["limit"] == "5M (HANDOVER_LIMIT)"
    assert rows["server"] == f"https://a.example ({machine})"
    assert str(person) in rows["no-direct"]
    assert rows["turn-ttl"] == ("1 Stunde (Vorgabe)" if language == "de" else "1 hour (default)")
    assert "UNSET" not in done.stdout
    told = [json.loads(one) for one in line.run("config", "show", "--json").stdout.splitlines()]
    assert {"table": "", "key": "no-direct", "value": True, "source": str(person)} in told
    options = {
        (one.table, one.key)
        for command in main.commands.values()
        for one in command.params
        if isinstance(one, Setting)
    }
    assert {(one["table"], one["key"]) for one in told} == options


@pytest.mark.parametrize(
    "proxy", ["http://ward:hunter2@proxy:3128", "ward:hunter2@proxy:3128", "socks5://w:hunter2@[x"]
)
def test_a_proxys_password_is_not_shown(line, files, proxy):
    files(f'proxy = "{proxy}"')
    for words in ((), ("--json",)):
        done = line.run("config", "show", *words)
        assert done.exit_code == 0
        assert "hunter2" not in done.output
        assert "***" in done.output


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_file_is_read_or_refused(line, files, data):
    machine, _ = files()
    machine.write_bytes(data)
    done = line.run("config", "show")
    assert done.exit_code in (0, 2)
    assert done.exception is None or isinstance(done.exception, SystemExit)
