"""A real Redis, on loopback, that tests may stop, empty and cut off."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.confined import die_with_parent


class RedisServer:
    """`redis-server` on a port of its own, without a disk."""

    def __init__(self, folder: Path, *options: str, pem: Path | None = None) -> None:
        """With `pem`, a certificate and its key, it speaks TLS and nothing else."""
        self.folder, self.options, self.pem = folder, options, pem
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Empty; back when it answers."""
        port: tuple[str, ...] = ("--port", str(self.port))
        if self.pem is not None:
            pem = str(self.pem)
            port = ("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no")
            port += ("--tls-cert-file", pem, "--tls-key-file", pem)
        self.process = subprocess.Popen(
            [
                *("redis-server", *port, "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self.folder), *self.options),
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except OSError:
                assert time.monotonic() < ends, "redis-server does not answer"
                time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *command: str) -> str:
        """A command, by hand; the first line of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as wire:
            wire.sendall((" ".join(command) + "\r\n").encode())
            return wire.recv(65536).decode(errors="replace").splitlines()[0]

    def everything(self) -> bytes:
        """All keys and values that it holds."""
        names = self._cli("--raw", "KEYS", "*").split()
        shown: list[list[bytes]] = [names]
        for name in names:
            kind = self._cli("TYPE", name).strip()
            read: tuple[str | bytes, ...] = {
                b"string": ("GET",),
                b"hash": ("HGETALL",),
                b"zset": ("ZRANGE",),
            }[kind]
            rest = ("0", "-1") if kind == b"zset" else ()
            shown.append([self._cli("--raw", *read, name, *rest)])
        return b"\n".join(b"\n".join(some) for some in shown)

    def _cli(self, *arguments: str | bytes) -> bytes:
        command = ["redis-cli", "-p", str(self.port), *arguments]
        return subprocess.run(command, capture_output=True, check=True).stdout

    def pause(self) -> None:
        """It takes connections, and answers nothing."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """At once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
