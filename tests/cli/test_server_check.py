"""`serve --check`: what is in force, from where, and what is missing."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest

from p2p.connect import server_check
from signaling.certificates import open_authority
from tests.redis_server import RedisServer


@pytest.fixture
def pem(tmp_path):
    path = tmp_path / "server.pem"
    path.write_bytes(open_authority(tmp_path / "ca", [], []).issue(["pacs.local"], []).pem)
    return path


def words(result):
    """Lines, with single spaces."""
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_a_file_of_its_own_says_it_all(line, tmp_path, pem, unused_tcp_port):
    redis = RedisServer(tmp_path)
    secrets = tmp_path / "secrets"
    secrets.write_text("secret\n")
    path = tmp_path / "node.toml"
    path.write_text(
        f'[serve]\nlisten = "127.0.0.1:{unused_tcp_port}"\ntls-cert = "{pem}"\ntls-key = "{pem}"\n'
        f'redis-url = "{redis.url.replace("//", "//default:hunter2@")}"\n'
        f'turn-secret-file = "{secrets}"\nice = ["turn:turn.example"]\ndrain = "1m"\n'
    )
    redis.ask("CONFIG", "SET", "requirepass", "hunter2")
    env = {"HANDOVER_SERVE_LOG_FORMAT": "json"}
    result = line.run("serve", "--config", path, "--check", "--log-level", "warning", env=env)
    redis.stop()
    assert result.exit_code == 0, result.output
    told = words(result)
    assert f"listen 127.0.0.1:{unused_tcp_port} ({path})" in told
    assert f"drain 1m ({path})" in told
    assert "log-level warning (--log-level)" in told
    assert "log-format json (HANDOVER_SERVE_LOG_FORMAT)" in told
    assert "turn-ttl 1 hour (default)" in told
    assert "works Redis It answers." in told
    assert "works STUN and TURN Peers are told of turn:turn.example." in told
    assert any(one.startswith("works server certificate It is for pacs.local, ") for one in told)
    assert "hunter2" not in result.output


def test_what_would_not_work_is_named_and_is_an_exit_code(line, pem, monkeypatch, unused_tcp_port):
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(UTC) + timedelta(days=393)

    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = f"127.0.0.1:{busy.getsockname()[1]}"
        result = line.run("serve", "--check", "--listen", taken, "--drain", "90s")
        assert result.exit_code == 1
        told = words(result)
        assert f"listen {taken} (--listen)" in told
        assert "drain 90s (--drain)" in told
        assert any(one.startswith(f"FAILS address {taken} cannot be listened on") for one in told)
        assert any(one.startswith("note server certificate There is none.") for one in told)
        assert any(one.startswith("note STUN and TURN Peers are told of none") for one in told)
    monkeypatch.setattr(server_check, "datetime", Later)
    listen = ("--listen", f"127.0.0.1:{unused_tcp_port}")
    files = ("--tls-cert", pem, "--tls-key", pem)
    result = line.run("serve", "--check", *listen, *files)
    assert result.exit_code == 1
    assert "expires on" in result.stdout
    assert line.run("serve", "--check", *listen, *files, "--ready-days", "1").exit_code == 0


def test_a_redis_that_is_not_there(line, unused_tcp_port, monkeypatch):
    monkeypatch.setattr(server_check, "STORE_SECONDS", 0.5)
    url = f"redis://u:hunter2@127.0.0.1:{unused_tcp_port}/0"
    result = line.run("serve", "--check", "--listen", "127.0.0.1:0", "--redis-url", url)
    assert result.exit_code == 1
    assert "FAILS Redis It does not answer." in " ".join(words(result))
    assert "hunter2" not in result.output


def test_a_file_that_is_not_there_or_says_something_else(line, tmp_path):
    result = line.run("serve", "--check", "--config", tmp_path / "none.toml")
    assert result.exit_code == 2
    path = tmp_path / "wrong.toml"
    path.write_text("[serve]\nlisen = ':1'")
    result = line.run("serve", "--check", "--config", path)
    assert result.exit_code == 2
    assert "serve.lisen" in result.stderr
