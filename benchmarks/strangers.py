"""Strangers at the server of a running transfer: what they cost it, and who wants to join.

Each row is one transfer over loopback. It runs undisturbed at first; then hostile sockets come, and
stay to its end. The rate in their presence is a share of the rate before, in the same run. The
newcomer holds the link and takes a guest's seat, a few times before and a few times after.

The strangers are one process of niceness 19 that does a fixed number of things a second
(`--paces`): a thing is one write, or one new connection in the place of one that was cut off. They
come from several addresses (`--addresses`) of 127.0.0.0/8. What they take of the machine's CPU for
themselves is in the figures all the same: on two cores, a transfer without a limit feels any third
process. The row of no sockets runs that process too, with nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import queue
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from p2p.connect.seats import GuestSeat
from p2p.protocol.errors import HandoverError
from p2p.protocol.link import derive_keys, parse_link

from .data import random_file
from .measure import MB, Failed, machine, say, spread, table
from .transfer import HANDOVER, Lines

KINDS = ("pings", "silence", "half TLS", "slow headers", "giant frames")
COUNTS = (0, 1, 40, 1000)
SETTLE_SECONDS = 1.0  # after the accept, and after the strangers came
QUIET_SECONDS = 4.0
END_SECONDS = 5.0  # between the recipient's end and the sender's
NEWCOMERS = 3

_UPGRADE = (
    b"GET /signal HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def strangers(options: argparse.Namespace) -> None:
    """Hostile sockets against the server of a running transfer."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = random_file(Path(folder) / "file", options.size << 20)
        for kind in options.kinds:
            for count in options.counts:
                say(f"{kind}: {count}")
                try:
                    rows.append(_row(kind, count, source, options))
                except Failed as failure:
                    rows.append([kind, str(count), str(failure), *[""] * 4])
    print(machine())
    head = ("strangers", "sockets", "MB/s before", "share", "ended", "newcomer, ms before", "after")
    table(head, rows)


def _row(kind: str, count: int, source: Path, options: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
        tls = ["--local-ca"] if kind == "half TLS" else []

        def start(side: str, *words: str, **more: str) -> subprocess.Popen[str]:
            environment = {
                **kept,
                "HANDOVER_CONFIG": os.devnull,
                "HANDOVER_HOME": f"{folder}/{side}",
                **more,
            }
            process = subprocess.Popen(
                [*HANDOVER, *words, "--auto", "--json"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            stack.callback(_end, process)
            return process

        limit = ["--limit", options.limit] if options.limit else []
        listen = ["--listen", "127.0.0.1:0"]
        sending = start("sender", "send", *listen, *tls, *limit, str(source))
        lines = Lines(sending)
        first = lines.next(30)
        if first is None or "link" not in first:
            raise Failed("no link")
        out = Path(folder) / "out"
        out.mkdir()
        receiving = start("recipient", "receive", "--output", str(out), HANDOVER_LINK=first["link"])
        events = Lines(receiving)
        seen: list[tuple[float, int]] = []  # when, and how many bytes were durable
        ended = _follow(events, seen, lambda: False, "accepted")
        quiet = time.perf_counter() + SETTLE_SECONDS + QUIET_SECONDS
        _follow(events, seen, lambda: time.perf_counter() > ended + SETTLE_SECONDS)
        begun = time.perf_counter()
        before = _newcomers(first["link"])
        _follow(events, seen, lambda: time.perf_counter() > quiet)
        came = time.perf_counter()
        port = parse_link(first["link"]).origin.rpartition(":")[2]
        paces = (str(options.paces), str(options.addresses))
        module = (sys.executable, "-m", "benchmarks.strangers", kind, str(count), port, *paces)
        hostile = subprocess.Popen(module, preexec_fn=lambda: os.nice(19))
        stack.callback(_end, hostile)
        _follow(events, seen, lambda: time.perf_counter() > came + SETTLE_SECONDS)
        after = _newcomers(first["link"])
        done = _follow(events, seen, lambda: False, "complete")
        try:
            sending.wait(END_SECONDS)
            said = f"{time.perf_counter() - done:.1f} s later"
        except subprocess.TimeoutExpired:
            said = "not in time"
        undisturbed = _rate(seen, begun, came)
        share = _rate(seen, came + SETTLE_SECONDS, done) / undisturbed
        return [
            kind,
            str(count),
            f"{undisturbed / MB:.0f}",
            f"{share:.2f}",
            said,
            spread(before, 0),
            spread(after, 0),
        ]


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


def _follow(events: Lines, seen: list[tuple[float, int]], over: Any, until: str = "") -> float:
    """Note the progress until `over()`, or an event; when that was. Raises `Failed`."""
    while not over():
        try:
            event = events.next(0.1)
        except queue.Empty:
            continue
        if event is None or event["event"] == "error":
            raise Failed("the transfer failed")
        if event["event"] == "progress":
            seen.append((event["at"], event["durable"]))
        if until and until in (event["event"], event.get("state")):
            return float(event["at"])
        if event["event"] == "complete":
            raise Failed("too short a transfer: give a larger --size")
    return time.perf_counter()


def _rate(seen: list[tuple[float, int]], begin: float, end: float) -> float:
    """Bytes a second between two moments."""
    inside = [one for one in seen if begin <= one[0] <= end]
    if len(inside) < 3:
        raise Failed("too short a transfer: give a larger --size")
    (first, least), (last, most) = inside[0], inside[-1]
    return (most - least) / (last - first)


def _newcomers(link: str) -> list[float]:
    """How long a guest needs for its seat, in ms; a failure counts as 10 s."""

    async def join() -> float:
        parsed = parse_link(link)
        began = time.perf_counter()
        try:
            async with GuestSeat(parsed.origin, derive_keys(parsed.secret)):
                took = time.perf_counter() - began
        except HandoverError:
            return 10_000.0
        return 1000 * took

    return [asyncio.run(join()) for _ in range(NEWCOMERS)]


# --- the strangers, a process of their own


class _Stranger:
    """One hostile socket, and what it does whenever its turn comes."""

    def __init__(self, kind: str, address: str, port: int, hello: bytes) -> None:
        self._kind, self._from, self._port, self._hello = kind, address, port, hello
        self._socket: socket.socket | None = None

    def act(self) -> None:
        """One write, or a new connection."""
        try:
            if self._socket is None:
                self._connect()
            else:
                self._go_on(self._socket)
        except BlockingIOError:
            pass
        except OSError:
            if self._socket is not None:
                self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self._socket = socket.socket()
        self._socket.bind((self._from, 0))
        self._socket.settimeout(0.5)
        self._socket.connect(("127.0.0.1", self._port))
        self._socket.setblocking(False)
        opening = {
            "silence": b"",
            "half TLS": self._hello,
            "slow headers": b"GET / HTTP/1.1\r\nHost: x\r\n",
        }
        self._socket.send(opening.get(self._kind, _UPGRADE))

    def _go_on(self, one: socket.socket) -> None:
        if self._kind == "pings":
            one.send(100 * b"\x89\x80mask")
            one.recv(1 << 16)  # else it would be stopped by its own full pipe
        elif self._kind == "giant frames":
            one.send(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask" + bytes(1 << 14))
        elif self._kind == "slow headers":
            one.send(b"X: 1\r\n")
        elif one.recv(4096) == b"":
            raise ConnectionResetError


def _hello() -> bytes:
    """A TLS client's first message, whole: so that the server has work with it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def attack(kind: str, count: int, port: int, paces: float, addresses: int) -> None:
    """Do `paces` things a second until killed."""
    hello = _hello()
    names = [f"127.1.{number // 250}.{1 + number % 250}" for number in range(addresses)]
    every = [_Stranger(kind, names[n % addresses], port, hello) for n in range(count)]
    while not every:
        time.sleep(1)
    due = time.perf_counter()
    while True:
        for one in every:
            one.act()
            due += 1 / paces
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter() - 0.1)


if __name__ == "__main__":
    what, sockets, where, pace, own = sys.argv[1:]
    attack(what, int(sockets), int(where), float(pace), int(own))
