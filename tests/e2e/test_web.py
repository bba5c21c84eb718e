"""https without a public name, and what browsers are given: real servers, real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime

import pytest

from signaling import web_assets as pages

from .harness import ROOT, Terminal, sha256sums


@contextmanager
def serving(peer, *arguments, tree=ROOT):
    """A `handover serve` out of this tree; gives (its port, what it said before)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "p2p", "serve", "--listen", "127.0.0.1:0", *arguments],
        env=peer.environment(PYTHONPATH=str(tree)),
        cwd=tree,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = ""
    while not (found := re.search(r"Serving on port (\d+)", said)):
        assert process.stderr
        line = process.stderr.readline()
        assert line, said
        said += line
    try:
        yield int(found[1]), said
    finally:
        process.terminate()
        process.communicate(timeout=20)


def copied(folder):
    """A copy of the program, to be altered."""
    for package in ("p2p", "signaling"):
        shutil.copytree(ROOT / package, folder / package)
    return folder


def authority(peer):
    return peer.home / "local-ca" / "handover-local-ca.crt"


def test_a_server_of_this_version_is_found_the_same(sender, recipient):
    with serving(sender) as (port, _):
        done = recipient.run("verify-web", f"http://127.0.0.1:{port}")
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert len(pages.shipped()) > 1
    assert lines == [f"same         {path}" for path in pages.shipped()]
    assert "does not prove that other computers are given the same" in last


def test_the_page_names_the_licences_of_all_that_is_built_into_it():
    page = pages.shipped()["/"].decode()
    (path,) = re.findall(r'<link rel="license" href="(/assets/[^"]+)">', page)
    text = pages.shipped()[path].decode()
    lock = json.loads((ROOT / "web_client" / "package-lock.json").read_bytes())["packages"]
    built = {path: one for path, one in lock.items() if path and not one.get("dev")}
    assert len(built) > 5
    for path, one in built.items():
        name = path.removeprefix("node_modules/")
        assert f"{name} {one['version']} ({one['license']})" in text
    assert text.count("Its package has no text of it.") == 1  # of @bokuweb/zstd-wasm's
    for words in ("Frank Denis", "Apache License", "Zstandard", "THE SOFTWARE IS PROVIDED"):
        assert words in text


@pytest.mark.parametrize("what", ["script", "page", "not built"])
def test_a_server_with_one_altered_byte_is_found_out(sender, recipient, tmp_path, what):
    tree = copied(tmp_path / "tree")
    web = tree / "signaling" / "web"
    victim = web / "index.html" if what == "page" else next(web.glob("assets/*.js"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    if what == "not built":
        shutil.rmtree(web)
    with serving(sender, tree=tree) as (port, _):
        done = recipient.run("verify-web", f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *lines, last = done.stdout.splitlines()
    odd = {line for line in lines if not line.startswith("same ")}
    assert "Receive on the command line" in last
    if what == "script":
        assert odd == {f"differs      /assets/{victim.name} (content)"}
    elif what == "page":
        assert "differs      / (content)" in odd
    else:
        assert len(odd) == len(lines)


def test_a_local_authority_serves_https_and_its_certificate_is_what_it_takes(
    sender, recipient, tmp_path
):
    with serving(sender, "--local-ca", "--name", "pacs.example.org") as (port, said):
        done = recipient.run("verify-web", f"https://localhost:{port}")
        assert done.returncode == 1
        assert "is not trusted here" in done.stderr
        copy = tmp_path / "copy.crt"
        shown = sender.run("local-ca", "show", "--export", copy)
        assert shown.returncode == 0, shown.stderr
        assert copy.read_bytes() == authority(sender).read_bytes()
        done = recipient.run("verify-web", f"https://localhost:{port}", "--ca", copy)
        assert done.returncode == 0, done.stdout + done.stderr
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", copy]
        command += ["-verify_hostname", "pacs.example.org", "-verify_return_error"]
        tls = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert "Verify return code: 0 (ok)" in tls.stdout
    command = ["openssl", "x509", "-in", copy, "-noout", "-fingerprint", "-sha256"]
    fingerprint = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    for text in (said, shown.stdout):  # the same authority, said again
        assert fingerprint.partition("=")[2] in text
        assert str(authority(sender)) in text
        assert "IT has to install" in text
    assert sender.run("local-ca", "show", "--export", copy).returncode == 1  # nothing overwritten


def test_a_local_authority_says_what_it_was_not_made_for(sender):
    assert sender.run("local-ca", "show").returncode == 0
    for arguments in (
        ("serve", "--local-ca", "--name", "late.example.org"),
        ("local-ca", "show", "--name", "late.example.org"),
        ("send", "--auto", "--local-ca", "--address", "late.example.org", "."),
    ):
        done = sender.run(*arguments)
        assert done.returncode == 1
        assert "was not made for late.example.org" in done.stderr
    done = sender.run("local-ca", "show", "--name", "no name")
    assert done.returncode == 1
    assert "is not a host name" in done.stderr
    authority(sender).write_text("damaged")
    done = sender.run("send", "--auto", ".")
    assert done.returncode == 1
    assert f"{sender.home}/local-ca is damaged" in done.stderr


def test_files_arrive_over_https_that_nobody_here_trusts(sender, recipient, out, some):
    """The command line needs no certificate: the link proves the sender."""
    sending, link = sender.send("--auto", "--local-ca", some)
    assert link.startswith("https://")
    made = sending.events[0]
    assert made["browser"] is True
    receiving = recipient.receive(link, out, "--auto", HANDOVER_LOG="WARNING")
    assert receiving.end()[0] == 0
    assert sending.end()[0] == 0
    assert sha256sums(out / "study") == sha256sums(some)
    (line,) = [one for one in receiving.stderr().splitlines() if "certificate" in one]
    assert "is not trusted here" in line
    assert "://" not in line
    assert link.split("/")[2].rpartition(":")[0] not in line


def test_files_arrive_over_a_separate_https_server(sender, recipient, third, out, some):
    with serving(third, "--local-ca") as (port, _):
        sending, link = sender.send("--auto", "--server", f"https://localhost:{port}", some)
        assert recipient.receive(link, out, "--auto").end()[0] == 0
        assert sending.end()[0] == 0
    assert sha256sums(out / "study") == sha256sums(some)
    assert not (sender.home / "local-ca").exists()


def test_an_authority_once_made_is_used_until_told_otherwise(sender, some):
    for arguments, scheme, browser in (
        ((), "http", False),
        (("--local-ca",), "https", True),
        ((), "https", True),
        (("--no-local-ca",), "http", False),
        (("--no-local-ca", "--address", "localhost"), "http", True),
        (("--address", "198.51.100.1"), "https", False),
    ):
        sending, link = sender.send("--auto", *arguments, some)
        assert link.startswith(f"{scheme}://"), arguments
        assert sending.events[0]["browser"] is browser, arguments
        sending.kill()


def test_the_sender_serves_with_certificate_files(sender, recipient, out, some, tmp_path):
    files = ("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=x", *files]
    subprocess.run(
        [*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    tls = ("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    sending, link = sender.send("--auto", *tls, "--address", "localhost", some)
    assert link.startswith("https://localhost:")
    assert sending.events[0]["browser"] is True
    origin = link.partition("/#")[0]
    done = recipient.run("verify-web", origin, "--ca", tmp_path / "cert.pem")
    assert done.returncode == 0, done.stdout + done.stderr
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    assert sending.end()[0] == 0
    for wrong in (("--tls-key", tmp_path / "none"), ("--tls-key", tmp_path / "cert.pem")):
        done = sender.run("send", "--auto", *tls[:2], *wrong, some)
        assert done.returncode == 1
        assert "certificate or its key cannot be used" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--tls-cert", "x"),
        ("serve", "--local-ca", "--tls-cert", "x", "--tls-key", "y"),
        ("serve", "--name", "x.local"),
        ("send", "--auto", "--tls-key", "x", "."),
        ("send", "--auto", "--local-ca", "--server", "https://x", "."),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(sender, arguments):
    assert sender.run(*arguments).returncode == 2
    assert not (sender.home / "local-ca").exists()


def test_the_link_says_beside_it_what_it_works_with(sender, some):
    for arguments, sentence in (
        (("--address", "localhost"), "The link works in a browser and on the command line"),
        (("--address", "10.0.0.1"), r"The link works on the command line \(handover receive\)"),
    ):
        terminal = Terminal(sender, "send", *arguments, os.fspath(some))
        terminal.expect(sentence)
        terminal.interrupt()
        assert terminal.end() == 8


@pytest.mark.parametrize(("columns", "fits"), [("40", False), ("80", True), ("200", True)])
def test_the_link_stands_last_and_whole_below_what_is_sent(sender, some, columns, fits):
    """A screen of 24 lines shows it; a code that would be broken in two is not drawn."""
    arguments = ("send", "--address", "localhost", os.fspath(some))
    terminal = Terminal(sender, *arguments, COLUMNS=columns)
    terminal.expect("Waiting for the recipient")
    lines = terminal.text.splitlines()
    assert lines[0] == f"Sending 3 files in 1 folder, 150.0 kB: {some.name}"
    (at,) = [n for n, line in enumerate(lines) if re.fullmatch(r"http://localhost:\d+/#\S+", line)]
    assert len(lines) - at <= 4
    assert any("█" in line for line in lines[:at]) == fits
    terminal.interrupt()
    assert terminal.end() == 8


def test_a_log_of_json_lines(sender):
    """Each line is an object, with the time in UTC."""
    with serving(sender, "--log-format", "json") as (port, said):
        pass
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert lines[0]["level"] == "info"
    assert lines[0]["message"] == f"listening on port {port}"
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo is not None


def test_a_server_that_only_holders_of_a_token_may_use(sender, recipient, tmp_path, out):
    """The token is made by the command, kept in a file, and asked for by the server alone."""
    tokens, mine, study = tmp_path / "tokens", tmp_path / "token", tmp_path / "scan.raw"
    study.write_bytes(b"scan")
    made = sender.run("token", "Reading room", "--add-to", tokens)
    assert made.returncode == 0
    mine.write_text(made.stdout)
    assert made.stdout.strip() not in tokens.read_text() + made.stderr
    assert tokens.read_text().endswith(" Reading room\n")
    with serving(sender, "--allowed-tokens", str(tokens)) as (port, _):
        server = ("--server", f"http://127.0.0.1:{port}", "--auto")
        for given in ({}, {"HANDOVER_TOKEN": "wrong"}):
            code, last = sender.start("send", study, *server, **given).end()
            assert (code, last["code"]) == (1, "token_required")
        for given in ({"HANDOVER_TOKEN": made.stdout}, {"HANDOVER_TOKEN_FILE": str(mine)}):
            sending, link = sender.send(study, *server, **given)
            receiving = recipient.receive(link, out / given.popitem()[0], "--auto")
            assert receiving.end()[1]["event"] == sending.end()[1]["event"] == "complete"
