"""What else moves a file from one command line to another, each with servers of its own on this
machine: `with scp(place) as copy: run = copy(source, digest)`.

None of them syncs what arrives or reads it back, as Handover does before it signs; so beside the
time of the tool alone stands the time with that: `fsync` and SHA-256 of the file that arrived.
Entering raises `Missing` where a program is not installed.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from .data import set_aside, total
from .measure import Failed, Meter, Missing, Run, say, tree

Copy = Callable[[Path, str], Run]  # a file and its SHA-256
START_SECONDS = 30.0
CIPHER = "aes128-gcm@openssh.com"  # the quickest of OpenSSH
CURL = "curl, https from nginx"
WORMHOLE = ("magic-wormhole", "magic-wormhole-mailbox-server", "magic-wormhole-transit-relay")


def find(program: str, debian: str) -> str:
    """A program's path; servers are not always on the path of a user."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{program} is not here: apt-get install {debian}")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def _serving(port: int, *command: str | Path, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in `place`, once it listens."""
    with (place / "server.log").open("w+") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=place)
        try:
            ends = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None or time.monotonic() > ends:
                    log.seek(0)
                    raise Missing(f"{command[0]} does not start: {log.read()[-500:]}")
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait()


def digest(path: Path) -> str:
    """SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored(meter: Meter, arrived: Path, wanted: str) -> float:
    """Seconds of the run with what Handover does besides; the file goes."""
    began = time.perf_counter()
    with arrived.open("rb") as file:
        os.fsync(file.fileno())
    found = digest(arrived)
    took = time.perf_counter() - began
    arrived.unlink()
    if found != wanted:
        raise Failed("what arrived is not what was sent")
    return meter.seconds + took


@contextmanager
def wormhole(place: Path) -> Iterator[Copy]:
    """magic-wormhole with a mailbox and a transit relay of its own; it then connects directly."""
    programs = environment("wormhole", WORMHOLE)
    mailbox, relay = _free_port(), _free_port()
    folders = [place / "mailbox", place / "relay"]
    for folder in folders:
        folder.mkdir()

    def serve(number: int, port: int, plugin: str) -> AbstractContextManager[object]:
        where = f"tcp:{port}:interface=127.0.0.1"
        command = (programs / "twist", plugin, "--port", where)
        return _serving(port, *command, place=folders[number])

    common = (
        *(str(programs / "wormhole"), "--relay-url", f"ws://127.0.0.1:{mailbox}/v1"),
        *("--transit-helper", f"tcp:127.0.0.1:{relay}"),
    )

    def copy(source: Path, wanted: str) -> Run:
        arrived = place / "arrived"
        with Meter() as meter:
            send = (*common, "send", "--hide-progress", str(source))
            sending = meter.start("sender", *send, cwd=place, stderr=subprocess.PIPE)
            assert sending.stderr
            code = next((line for line in sending.stderr if "code is:" in line), "").split()[-1:]
            receive = ("receive", "--hide-progress", "--accept-file", "-o", str(arrived), *code)
            receiving = meter.start("recipient", *common, *receive, cwd=place)
            meter.wait(receiving)
            sending.stderr.read()
            meter.wait(sending)
            meter.stop()
            return meter.run(source.stat().st_size, stored=_stored(meter, arrived, wanted))

    with serve(0, mailbox, "wormhole-mailbox"), serve(1, relay, "transitrelay"):
        yield copy


def environment(name: str, packages: Sequence[str]) -> Path:
    """Programs from PyPI, in an environment made once: their versions are no business of ours."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "handover-benchmarks" / name
    if not (place / "made").exists():
        say(f"installing {', '.join(packages)} into {place}")
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
            subprocess.run(pip, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise Missing(f"it cannot be installed: {str(error.stderr)[-500:]}") from None
        (place / "made").touch()
    return place / "bin"


@contextmanager
def _sshd(place: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, tuple[str, ...]]]:
    """OpenSSH with a server and keys of its own: the server, its port, and a client's options."""
    server, keygen = find("sshd", "openssh-server"), find("ssh-keygen", "openssh-client")
    port = _free_port()
    for name in ("host", "user"):
        key = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)]
        subprocess.run(key, check=True)
    (place / "known").write_text(f"[127.0.0.1]:{port} {(place / 'host.pub').read_text()}")
    configuration = place / "sshd_config"
    configuration.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nPidFile none\n"
        f"AuthorizedKeysFile {place}/user.pub\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        "Subsystem sftp internal-sftp\n"
    )
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself in
    options = (
        *("-q", "-F", "none", "-c", CIPHER, "-i", str(place / "user")),
        *("-o", f"UserKnownHostsFile={place}/known", "-o", "BatchMode=yes"),
    )
    with _serving(port, server, "-D", "-e", "-f", configuration, place=place) as listening:
        yield listening, port, options


def _end_of_session(server: subprocess.Popen[bytes]) -> None:
    """Wait for the server's part of it, which counts as well."""
    ended = time.perf_counter() + 5
    while len(list(tree(server.pid))) > 1 and time.perf_counter() < ended:
        time.sleep(0.01)


@contextmanager
def scp(place: Path) -> Iterator[Copy]:
    """A file by OpenSSH."""
    client = find("scp", "openssh-client")
    with _sshd(place) as (listening, port, options):

        def copy(source: Path, wanted: str) -> Run:
            arrived = place / "arrived"
            with Meter() as meter:
                meter.watch("recipient", listening.pid)
                target = f"{getpass.getuser()}@127.0.0.1:{arrived}"
                words = (*options, "-P", str(port), str(source), target)
                meter.wait(meter.start("sender", client, *words))
                _end_of_session(listening)
                meter.stop()
                return meter.run(source.stat().st_size, stored=_stored(meter, arrived, wanted))

        yield copy


@contextmanager
def ssh_tar(place: Path) -> Iterator[Callable[[Path], Run]]:
    """A folder by tar through OpenSSH. Synced, and hashed, in the time beside the tools' own."""
    client, shell = find("ssh", "openssh-client"), find("sh", "dash")
    with _sshd(place) as (listening, port, options):

        def copy(source: Path) -> Run:
            arrived = place / "arrived"
            arrived.mkdir()
            far = shlex.join(("tar", "-x", "-C", str(arrived)))
            ssh = (client, *options, "-p", str(port), f"{getpass.getuser()}@127.0.0.1", far)
            near = shlex.join(("tar", "-c", "-C", str(source.parent), source.name))
            with Meter() as meter:
                meter.watch("recipient", listening.pid)
                meter.wait(meter.start("sender", shell, "-c", f"{near} | {shlex.join(ssh)}"))
                _end_of_session(listening)
                meter.stop()
                began = time.perf_counter()
                subprocess.run(("sync", "-f", str(arrived)), check=True)
                found = [digest(one) for one in files(arrived / source.name)]
                took = meter.seconds + time.perf_counter() - began
                if found != [digest(one) for one in files(source)]:
                    raise Failed("what arrived is not what was sent")
                set_aside(arrived, place)
                return meter.run(total(source), stored=took)

        yield copy


def files(folder: Path) -> list[Path]:
    """All files in a folder, in order."""
    return sorted(one for one in folder.rglob("*") if one.is_file())


@contextmanager
def https(place: Path) -> Iterator[Copy]:
    """curl from nginx, TLS 1.3 with a certificate of its own."""
    server, client = find("nginx", "nginx-light"), find("curl", "curl")
    port, openssl = _free_port(), find("openssl", "openssl")
    certificate, key = place / "certificate.pem", place / "key.pem"
    request = [
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
    ]
    subprocess.run(request, check=True, capture_output=True)
    served = place / "served"
    served.mkdir()
    folders = "\n".join(
        f"{name}_temp_path {place}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = place / "nginx.conf"
    configuration.write_text(
        f"daemon off;\nworker_processes 1;\npid {place}/pid;\nerror_log stderr;\n"
        f"{'' if os.geteuid() else 'user root;'}\n"
        f"events {{}}\nhttp {{\naccess_log off;\nsendfile on;\n{folders}\nserver {{\n"
        f"listen 127.0.0.1:{port} ssl;\nssl_certificate {certificate};\n"
        f"ssl_certificate_key {key};\nssl_protocols TLSv1.3;\nroot {served};\n}}\n}}\n"
    )

    def copy(source: Path, wanted: str) -> Run:
        arrived, offered = place / "arrived", served / source.name
        if not offered.exists():
            offered.hardlink_to(source)
        with Meter() as meter:
            meter.watch("sender", listening.pid)
            address = f"https://127.0.0.1:{port}/{source.name}"
            get = (client, "--fail", "--silent", "--cacert", certificate, "-o", arrived, address)
            meter.wait(meter.start("recipient", *get))
            meter.stop()
            return meter.run(source.stat().st_size, stored=_stored(meter, arrived, wanted))

    with _serving(port, server, "-p", place, "-c", configuration, place=place) as listening:
        yield copy


RIVALS: dict[str, Callable[[Path], AbstractContextManager[Copy]]] = {
    "magic-wormhole": wormhole,
    f"scp -c {CIPHER.split('@')[0]}": scp,
    CURL: https,
}
