"""The audit log to a real rsyslog by TLS: everything is read once it says so, whoever fails."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from typing import Any

import pytest
from lxml import etree

from p2p.api import SyslogFailed, SyslogServer, forward_audit
from p2p.connect.syslog import Message, send
from p2p.state.home import Home
from p2p.storage.durable import locked
from tests.confined import die_with_parent

from .harness import SECONDS

pytestmark = pytest.mark.process

CONFIGURATION = """
global(
  workDirectory="{folder}" maxMessageSize="64k"
  defaultNetstreamDriver="{driver}" defaultNetstreamDriverCAFile="{folder}/authority.pem"
  defaultNetstreamDriverCertFile="{folder}/server.pem"
  defaultNetstreamDriverKeyFile="{folder}/server.key"
)
module(
  load="imtcp" streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="{mode}"
)
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="told" type="string" string="%pri% %timestamp:::date-rfc3339% %app-name% %msgid% %msg%\\n")
action(type="omfile" file="{folder}/messages" template="told" flushOnTXEnd="on" asyncWriting="off")
"""


class Rsyslog:
    """A server that writes what it reads into a file."""

    def __init__(self, folder, mode="anon", driver="ossl"):
        self.folder = folder
        self._process: Any = None
        folder.mkdir()
        self._issue("authority", "-addext", "keyUsage=critical,keyCertSign")
        self.authority = folder / "authority.pem"
        issuer = ("-CA", str(self.authority), "-CAkey", str(folder / "authority.key"))
        alone = ("-addext", "basicConstraints=critical,CA:FALSE")
        for name in ("server", "client"):
            self._issue(name, *issuer, *alone, "-addext", "subjectAltName=DNS:localhost")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        text = CONFIGURATION.format(folder=folder, mode=mode, port=self.port, driver=driver)
        (folder / "rsyslog.conf").write_text(text)

    def _issue(self, name, *how):
        made = (
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
        )
        files = (
            "-keyout",
            str(self.folder / f"{name}.key"),
            "-out",
            str(self.folder / f"{name}.pem"),
        )
        subprocess.run(
            ("openssl", "req", "-x509", *made, *how, *files), check=True, capture_output=True
        )

    @property
    def name(self):
        return f"localhost:{self.port}"

    def start(self):
        """Until it listens."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                ("rsyslogd", "-n", "-f", self.folder / "rsyslog.conf", "-i", self.folder / "pid"),
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        ends = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < ends, (self.folder / "output").read_text()
                time.sleep(0.05)

    def revive(self):
        """Start it again, if it is there no more."""
        if self._process.poll() is not None:
            (self.folder / "pid").unlink(missing_ok=True)
            self.start()

    def send_signal(self, number):
        self._process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """In order, and so with everything written that was read; or not."""
        if self._process is not None:
            self.send_signal(number)
            self._process.wait(SECONDS)
            self._process = None
            (self.folder / "pid").unlink(missing_ok=True)

    def messages(self):
        """What it read, once it was stopped in order: (header, message)."""
        try:
            lines = (self.folder / "messages").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.split(" \ufeff", 1) for line in lines]


@pytest.fixture
def rsyslog(tmp_path):
    server = Rsyslog(tmp_path / "rsyslog")
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def log(sender):
    """The log of somebody who adds and removes contacts."""
    home = Home(sender.home)
    home.identity.load()
    for number in range(20):
        home.audit.append("contact_added", {"peer": f"key-{number}"})
    return home


def forwarding(peer, rsyslog, *options):
    done = peer.run("audit", "forward", rsyslog.name, "--ca", rsyslog.authority, *options)
    return done.returncode, done.stdout + done.stderr


def forwarded(peer, rsyslog, *options):
    """What it says once all is read. A timer would try again, too, and start a server that died."""
    for _ in range(3):
        code, told = forwarding(peer, rsyslog, *options)
        if code == 0:
            return told
        rsyslog.revive()
    raise AssertionError(told)


def exported(peer, path):
    """The messages of the whole log."""
    done = peer.run("audit", "export", "--format", "dicom", path)
    assert done.returncode == 0, done.stderr
    return path.read_text().splitlines()


def test_a_server_reads_everything_once_and_in_order(sender, rsyslog, log, tmp_path):
    rsyslog.start()
    told = forwarded(sender, rsyslog)
    assert told == f"{rsyslog.name} has read 21 entries, as 21 messages.\n"
    assert forwarded(sender, rsyslog).endswith(" has read 1 entry, as 1 message.\n")  # of that
    assert forwarded(sender, rsyslog) == f"Nothing new for {rsyslog.name}.\n"
    log.audit.append("listed", {})  # makes no message
    log.audit.append("contact_removed", {"peer": "key-1"})
    assert forwarded(sender, rsyslog) == f"{rsyslog.name} has read 1 entry, as 1 message.\n"
    rsyslog.stop()
    found = rsyslog.messages()
    assert [message for _, message in found] == exported(sender, tmp_path / "messages")
    for header, message in found:
        priority, moment, *rest = header.split()
        assert (priority, rest) == ("85", ["handover", "DICOM+RFC3881"])
        root = etree.fromstring(message.encode())
        assert root.find("EventIdentification").get("EventDateTime") == moment


def test_what_a_dead_server_did_not_read_waits_in_the_log(sender, rsyslog, log):
    code, told = forwarding(sender, rsyslog)
    assert code == 1
    assert (
        "has not confirmed that it has read new entries: connection refused. Nothing is lost"
        in told
    )
    rsyslog.start()
    for _ in range(2):
        assert forwarded(sender, rsyslog)
    rsyslog.stop(signal.SIGKILL)  # between two
    log.audit.append("contact_removed", {"peer": "key-1"})
    assert forwarding(sender, rsyslog)[0] == 1
    rsyslog.start()
    assert forwarded(sender, rsyslog) == f"{rsyslog.name} has read 1 entry, as 1 message.\n"


def test_a_server_that_dies_while_it_reads_is_sent_it_again(sender, rsyslog, log, tmp_path):
    for number in range(900):
        log.audit.append("contact_added", {"peer": "k" * 200 + str(number)})
    rsyslog.start()
    server = SyslogServer("localhost", rsyslog.port, rsyslog.authority)
    failures = []

    def run():
        try:
            forward_audit(server, sender.home)
        except SyslogFailed as failed:
            failures.append(failed)

    stopped = threading.Timer(0.3, rsyslog.send_signal, (signal.SIGSTOP,))
    stopped.start()
    thread = threading.Thread(target=run)
    stopped.join()
    thread.start()
    time.sleep(1)
    assert thread.is_alive()  # nobody reads
    rsyslog.stop(signal.SIGKILL)
    thread.join(SECONDS)
    assert len(failures) == 1
    rsyslog.start()
    assert forwarded(sender, rsyslog)
    rsyslog.stop()
    wanted = exported(sender, tmp_path / "messages")
    assert {message for _, message in rsyslog.messages()} >= set(
        wanted[:-1]
    )  # all but of the forwarding itself


def test_a_log_that_was_rewritten_is_told_and_sent_whole(sender, rsyslog, log):
    rsyslog.start()
    assert forwarded(sender, rsyslog)
    log.audit.path.unlink()
    log.audit.append("contact_added", {"peer": "another"})
    told = forwarded(sender, rsyslog)
    assert f"This is not the log that {rsyslog.name} knew" in told
    rsyslog.stop()
    assert "another" in rsyslog.messages()[-1][1]


def test_nothing_is_sent_to_a_server_that_is_not_trusted(sender, rsyslog, log, tmp_path):
    rsyslog.start()
    done = sender.run("audit", "forward", rsyslog.name)
    assert done.returncode == 1
    assert "its certificate is not trusted here: " in done.stderr
    done = sender.run("audit", "forward", f"127.0.0.1:{rsyslog.port}", "--ca", rsyslog.authority)
    assert done.returncode == 1  # by another name
    rsyslog.stop()
    assert rsyslog.messages() == []


def test_a_server_that_asks_for_a_certificate_is_shown_one(sender, log, tmp_path):
    rsyslog = Rsyslog(tmp_path / "strict", "x509/certvalid")
    rsyslog.start()
    try:
        assert forwarding(sender, rsyslog)[0] == 1
        own = (
            "--tls-cert",
            rsyslog.folder / "client.pem",
            "--tls-key",
            rsyslog.folder / "client.key",
        )
        assert forwarded(sender, rsyslog, *own)
    finally:
        rsyslog.stop()
    assert len(rsyslog.messages()) == 21


def test_a_server_that_closes_without_a_word_has_not_confirmed(sender, log, tmp_path):
    """As rsyslog does with GnuTLS."""
    rsyslog = Rsyslog(tmp_path / "gnutls", driver="gtls")
    rsyslog.start()
    try:
        code, told = forwarding(sender, rsyslog)
        assert code == 1
        assert "without confirming that it has read them. If it never confirms" in told
        code, told = forwarding(sender, rsyslog, "--unconfirmed")
    finally:
        rsyslog.stop()
    assert (code, told) == (
        0,
        f"Sent to {rsyslog.name}: 21 entries, as 21 messages. It has closed the connection "
        "without confirming that it has read all of it.\n",
    )
    assert len(rsyslog.messages()) == 42


class Cutter:
    """Stands between the two, passes on a part, and closes as if all had been read."""

    def __init__(self, port, passed):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._port, self._passed = port, passed
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        client, _ = self._listening.accept()
        with client, self._listening, socket.create_connection(("127.0.0.1", self._port)) as server:
            back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            left = self._passed
            client.settimeout(2)
            while True:  # everything is taken
                try:
                    data = client.recv(65536)
                except TimeoutError:
                    break
                if not data:
                    break
                server.sendall(data[:left])
                left -= min(left, len(data))
            client.shutdown(socket.SHUT_WR)

    @staticmethod
    def _pass(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass


def test_a_connection_that_was_cut_is_no_confirmation(sender, rsyslog, log):
    rsyslog.start()
    cutter = Cutter(rsyslog.port, 12_000)
    done = sender.run("audit", "forward", f"localhost:{cutter.port}", "--ca", rsyslog.authority)
    assert done.returncode == 1
    assert "Nothing is lost" in done.stderr
    rsyslog.stop()
    assert len(rsyslog.messages()) < 21


def test_what_was_not_sent_yet_is_not_pruned(sender, rsyslog, log):
    rsyslog.start()
    assert forwarded(sender, rsyslog)
    for number in range(5):
        log.audit.append("contact_added", {"peer": f"later-{number}"})
    prune = ("audit", "prune", "--before", "2999-01-01", "--yes")
    done = sender.run(*prune)
    assert done.returncode == 0
    assert f"Entries that {rsyslog.name} has not read yet are kept." in done.stderr
    assert forwarded(sender, rsyslog)
    rsyslog.stop()
    told = "".join(message for _, message in rsyslog.messages())
    assert [number for number in range(5) if f"later-{number}" in told] == [0, 1, 2, 3, 4]
    log.audit.append("contact_added", {"peer": "kept back"})
    before = len(log.audit.path.read_bytes().splitlines())
    done = sender.run("audit", "forward", "localhost", "--forget")
    assert done.returncode == 1
    assert done.stderr.endswith(f" is not among the servers that are known: {rsyslog.name}.\n")
    done = sender.run("audit", "forward", rsyslog.name, "--forget")
    assert done.stdout.startswith(f"{rsyslog.name} is forgotten.")
    assert sender.run(*prune).returncode == 0
    assert len(log.audit.path.read_bytes().splitlines()) < before


def test_a_bad_line_keeps_back_nothing_before_it(sender, rsyslog, log):
    rsyslog.start()
    lines = log.audit.path.read_bytes().splitlines(keepends=True)
    log.audit.path.write_bytes(b"".join([*lines[:15], b'{"event":"forged"}\n', *lines[15:]]))
    code, told = forwarding(sender, rsyslog)
    assert code == 1
    assert "line 16" in told
    for _ in range(2):  # and it is told each time
        assert forwarding(sender, rsyslog)[0] == 1
    rsyslog.stop()
    assert len(rsyslog.messages()) == 15  # once each


def test_two_at_once_do_not_wait_for_each_other(sender, rsyslog, log):
    rsyslog.start()
    with locked(sender.home / ".forwarding"):
        code, told = forwarding(sender, rsyslog)
    assert code == 1
    assert "another run of this command is at it" in told


def test_what_a_server_never_read_is_not_pruned(sender, rsyslog, log):
    """Not even what it was to be sent first."""
    assert forwarding(sender, rsyslog)[0] == 1
    done = sender.run("audit", "prune", "--before", "2999-01-01", "--yes")
    assert "has not read yet are kept" in done.stderr
    rsyslog.start()
    assert " has read 21 entries" in forwarded(sender, rsyslog)


class Hasty:
    """A server that ends the session by itself after some octets: at a restart, or at a limit."""

    def __init__(self, rsyslog, taken, version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(rsyslog.folder / "server.pem", rsyslog.folder / "server.key")
        context.minimum_version = context.maximum_version = version
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port, self._taken = self._listening.getsockname()[1], taken
        self._thread = threading.Thread(target=self._run, args=(context,), daemon=True)
        self._thread.start()

    def _run(self, context):
        connection, _ = self._listening.accept()
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(into, out, server_side=True)
        with connection, self._listening:
            taken, shaken = 0, False
            while not shaken or taken < self._taken:
                try:
                    if not shaken:
                        tls.do_handshake()
                        shaken = True
                    else:
                        taken += len(tls.read(min(64, self._taken - taken)))
                except ssl.SSLWantReadError:
                    connection.sendall(out.read())
                    into.write(connection.recv(256))
            with contextlib.suppress(ssl.SSLError):
                tls.unwrap()
            with contextlib.suppress(OSError):  # the other side may be gone
                connection.sendall(out.read())
            time.sleep(0.3)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("taken", [0, 300, 5000])
def test_a_server_that_ends_the_session_by_itself_confirms_nothing(rsyslog, version, taken):
    hasty = Hasty(rsyslog, taken, version)
    messages = [Message("2026-11-27T10:00:00.000Z", "X", "x" * 1000)] * 20
    with pytest.raises(SyslogFailed):
        send(SyslogServer("localhost", hasty.port, rsyslog.authority), messages)


def test_an_authority_that_is_empty_trusts_nobody(sender, rsyslog, log, tmp_path):
    """Not everybody."""
    empty = tmp_path / "empty"
    for content in ("", "ä"):
        empty.write_text(content)
        done = sender.run("audit", "forward", rsyslog.name, "--ca", empty)
        assert done.returncode == 1
        assert done.stderr.startswith("Cannot read the certificate")


def test_entries_without_a_message_ask_nobody(sender, log):
    log.audit.path.unlink()
    log.audit.append("listed", {})
    done = sender.run("audit", "forward", "nowhere.invalid")
    assert (done.returncode, done.stdout) == (0, "Nothing new for nowhere.invalid:6514.\n")
    assert not (sender.home / "forwarded.json").exists()


def test_a_pipe_is_not_waited_for(sender, rsyslog, log, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = sender.run("audit", "forward", rsyslog.name, "--ca", pipe)
    assert done.returncode == 1
    assert done.stderr.startswith("Cannot read the certificate ")
    both = ("--tls-cert", pipe, "--tls-key", pipe)
    done = sender.run("audit", "forward", rsyslog.name, "--ca", rsyslog.authority, *both)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
