"""What is in `deploy/`, as far as it can be run here: systemd's own judgement, nginx in front."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import time

import pytest

from signaling.certificates import open_authority
from signaling.operations import _COUNTERS

from .harness import ROOT
from .test_web import serving

DEPLOY = ROOT / "deploy"

pytestmark = pytest.mark.process


def test_the_service_is_one_and_is_confined(tmp_path):
    unit = (DEPLOY / "handover.service").read_text()
    assert "ExecStart=/opt/handover/bin/handover serve " in unit
    service = tmp_path / "handover.service"
    service.write_text(unit.replace("/opt/handover/bin/handover", "/bin/true"))
    (tmp_path / "handover.socket").write_text((DEPLOY / "handover.socket").read_text())
    for file in (service, tmp_path / "handover.socket"):
        done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    judge = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=15",
        service,
    ]
    done = subprocess.run(judge, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_socket_of_systemds_is_served(sender, recipient, tmp_path, out, unused_tcp_port):
    """The listening socket is held by somebody else, as systemd holds it."""
    address = f"127.0.0.1:{unused_tcp_port}"
    command = sender.command("serve", "--listen", "127.0.0.1:1")
    held = [
        "systemd-socket-activate",
        "-E",
        "PYTHONPATH",
        "-E",
        "HANDOVER_HOME",
        "-E",
        "HANDOVER_CONFIG",
    ]
    process = subprocess.Popen(
        [*held, "-l", address, *command], env=sender.environment(), stderr=subprocess.DEVNULL
    )
    (tmp_path / "scan.raw").write_bytes(b"scan")
    try:
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", unused_tcp_port), 5).close()
                break
            except OSError:
                assert time.monotonic() < ends
                time.sleep(0.05)
        server = ("--server", f"http://{address}", "--auto")
        sending, link = sender.send(tmp_path / "scan.raw", *server)
        receiving = recipient.receive(link, out, "--auto")
        assert receiving.end()[1]["event"] == sending.end()[1]["event"] == "complete"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def nginx(tmp_path, unused_tcp_port_factory):
    """Runs the configuration in `deploy/`, at a port of its own; gives (port, authority)."""
    authority = open_authority(tmp_path / "ca", [], [])
    pem = tmp_path / "server.pem"
    pem.write_bytes(authority.issue([], []).pem)
    port = unused_tcp_port_factory()
    processes = []

    def run(behind):
        conf = (DEPLOY / "nginx.conf").read_text()
        for old, new in (
            ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
            ("    listen [::]:443 ssl http2;\n", ""),
            ("/etc/handover/chain.pem", str(pem)),
            ("/etc/handover/key.pem", str(pem)),
            ("/var/log/nginx/", f"{tmp_path}/"),
            ("http://127.0.0.1:8080", f"http://127.0.0.1:{behind}"),
        ):
            assert old in conf
            conf = conf.replace(old, new)
        whole = tmp_path / "nginx.conf"
        whole.write_text(
            f"pid {tmp_path}/pid; daemon off; worker_processes 1; error_log {tmp_path}/error.log;\n"
            f"user root;\nevents {{}}\nhttp {{\n{''.join(_temporary(tmp_path))}{conf}}}\n"
        )
        processes.append(subprocess.Popen(["nginx", "-e", tmp_path / "error.log", "-c", whole]))
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                return port, authority
            except OSError:
                assert time.monotonic() < ends, (tmp_path / "error.log").read_text()
                time.sleep(0.05)

    yield run
    for process in processes:
        process.terminate()
        process.wait()


def _temporary(folder):
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        yield f"{kind}_temp_path {folder}/{kind};\n"


def test_nginx_in_front_with_tls(nginx, sender, recipient, tmp_path, out):
    """The page is as it was shipped, a transfer is introduced, and no log has the link."""
    (tmp_path / "scan.raw").write_bytes(os.urandom(100_000))
    with serving(sender, "--trusted-proxy", "127.0.0.1/32") as (behind, _):
        port, authority = nginx(behind)
        origin = f"https://localhost:{port}"
        done = recipient.run("verify-web", origin, "--ca", authority.path)
        assert done.returncode == 0, done.stdout + done.stderr
        sending, link = sender.send(tmp_path / "scan.raw", "--auto", "--server", origin)
        receiving = recipient.receive(link, out, "--auto")
        assert receiving.end()[1]["event"] == sending.end()[1]["event"] == "complete"
        context = ssl.create_default_context(cafile=authority.path)
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            mangled = "/%23" + link.partition("#")[2]
            wire.sendall(
                f"GET {mangled} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            assert wire.recv(100).startswith(b"HTTP/1.1 200")
    secret = link.partition("#")[2].encode()
    for log in tmp_path.glob("*.log"):
        assert secret not in log.read_bytes()


def test_alerts_and_the_dashboard_ask_for_what_there_is():
    known = {
        *("handover_rooms", "handover_connections", "handover_store_up"),
        "handover_certificate_expiry_timestamp_seconds",
        "handover_connect_seconds_bucket",
        *(f"handover_{name}_total" for name in _COUNTERS),
    }
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = [one["expr"] for panel in board["panels"] for one in panel["targets"]]
    alerts = (DEPLOY / "alerts.yaml").read_text()
    assert len(re.findall(r"- alert: ", alerts)) == 5
    named = set(re.findall(r"handover_\w+", " ".join(asked) + alerts))
    assert named <= known


def test_the_image_and_the_composition_use_options_that_there_are():
    """They were never run: at least what they say is understood."""
    from p2p.cli import main

    options = {name for one in main.commands["serve"].params for name in one.opts}
    for file in ("compose.yaml", "Containerfile", "handover.service"):
        text = (DEPLOY / file).read_text()
        words = re.findall(r"--[a-z]+(?:-[a-z]+)*", text)
        ours = [word for word in words if word in options]
        assert ours, file
    composed = (DEPLOY / "compose.yaml").read_text().partition("    ports:")[0]
    assert {f"--{word}" for word in re.findall(r"- --([a-z-]+)=", composed)} <= options
