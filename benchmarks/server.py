"""A signaling server under load, over loopback: what a waiting peer takes, and an introduction.

Hosts wait at the server. Then pairs are introduced, while they wait: a guest joins, four envelopes
go each way in turns, and the guest leaves. First one pair after the other, for the times; then many
at once, for the rate. "In floods" is how many times as long an introduction takes, by the median,
while one address sends pings, opens silent connections, or announces giant frames. At the end the
server is killed and started again, and every host comes back as the program does (after 0.5 s,
doubling to 5, or half of that). CPU seconds are the server's own, with Redis's.

The peers are bare WebSockets of this process, from many addresses of 127.0.0.0/8. The mailbox
server is magic-wormhole's, with its own messages for the same: both sides claim a nameplate, open
the mailbox, say four things in turns, and close; it tells each side its own words as well.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from signaling import messages

from .measure import Missing, cpu_of_tree, machine, say, table
from .rivals import WORMHOLE, _free_port, _serving, environment

TURNS = 4  # envelopes each way
SIZE = 700  # bytes of one, as descriptions have
AT_ONCE = 100
MOST_SOCKETS, FIRST_OF_CROWD = 15_000, 20_000_000  # of a process; a number
PAIRS, TIMED = 3000, 400
FLOODS = ("pings", "silence", "giant frames")
SOCKETS, PACES = 100, 3000.0  # of a flood, and things that it does a second
BACKOFF, LAST_BACKOFF = 0.5, 5.0


class Wire(asyncio.Protocol):
    """A WebSocket client that does what it must."""

    def __init__(self, path: str) -> None:
        self._path, self._data = path, b""
        self.open = asyncio.get_running_loop().create_future()
        self.inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.open.done():
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:20]:
                self.open.set_exception(ConnectionError(head[:20]))
                return
            self._data = rest
            self.open.set_result(None)
        while len(self._data) >= 2:
            length, at = self._data[1], 2
            if length == 126:
                length, at = int.from_bytes(self._data[2:4], "big"), 4
            if len(self._data) < at + length:
                return
            kind, body = self._data[0] & 15, self._data[at : at + length]
            self._data = self._data[at + length :]
            if kind == 1:
                self.inbox.put_nowait(json.loads(body))
            elif kind == 9:
                self._send(10, body)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(ConnectionError())
            self.open.exception()
        self.inbox.put_nowait(None)

    def say(self, text: str) -> None:
        """One message."""
        self._send(1, text.encode())

    def _send(self, kind: int, body: bytes) -> None:
        length = bytes([len(body) | 128]) if len(body) < 126 else b"\xfe%b" % len(body).to_bytes(2)
        self._transport.write(bytes([128 | kind]) + length + bytes(4) + body)  # masked with zeros

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds. Raises `ConnectionError`."""
        while (said := await self.inbox.get()) is not None:
            if said["type"] in kinds:
                return said
            if said["type"] == "error":
                raise ConnectionError(said)
        raise ConnectionError

    def close(self) -> None:
        """At once."""
        self._transport.abort()


class Load:
    """Peers of one kind of server. `ports` are its nodes; hosts are at each in turn, and guests at
    the next one."""

    path = messages.PATH

    def __init__(self, ports: list[int], first: int = 0) -> None:
        """`first`: the number of the first address."""
        self.ports, self._addresses = ports, itertools.count(first)

    async def wire(self, node: int) -> Wire:
        """Connected, from the next address."""
        n = next(self._addresses) % 60_000
        loop = asyncio.get_running_loop()
        port = self.ports[node % len(self.ports)]
        local = (f"127.{1 + n // 15_000}.{n // 250 % 250}.{1 + n % 250}", 0)
        _, wire = await loop.create_connection(
            lambda: Wire(self.path), "127.0.0.1", port, local_addr=local
        )
        try:
            await wire.open
        except BaseException:
            wire.close()
            raise
        return wire

    async def host(self, number: int) -> Wire:
        """One that waits."""
        room, join = _names(number)
        wire = await self.wire(number)
        wire.say(
            messages.encode(
                "create",
                room=room,
                join_hash=hashlib.sha256(join).digest(),
                owner=hashlib.sha256(room).digest(),
                ttl=3600,
            )
        )
        await wire.hear("created")
        return wire

    async def introduce(self, number: int, host: Wire) -> list[float]:
        """One pair; seconds of each envelope."""
        room, join = _names(number)
        guest = await self.wire(number + 1)
        try:
            guest.say(messages.encode("join", room=room, join=join))
            attempt = (await guest.hear("joined"))["attempt"]
            while (await host.hear("attempt"))["attempt"] != attempt:
                pass
            body = base64.urlsafe_b64encode(bytes(SIZE)).decode().rstrip("=")
            text = json.dumps({"type": "envelope", "attempt": attempt, "body": body})
            times = []
            for one, other in ((guest, host), (host, guest)) * TURNS:
                began = time.perf_counter()
                one.say(text)
                await other.hear("envelope")
                times.append(time.perf_counter() - began)
            return times
        finally:
            guest.close()


class Mailbox(Load):
    """magic-wormhole's."""

    path = "/v1"

    async def host(self, number: int) -> Wire:
        """One that waits in a mailbox."""
        wire = await self.wire(number)
        await self._claim(wire, number, "host")
        return wire

    async def _claim(self, wire: Wire, number: int, side: str) -> None:
        for said in (
            {"type": "bind", "appid": "benchmark", "side": side},
            {"type": "claim", "nameplate": str(number)},
        ):
            wire.say(json.dumps(said))
        mailbox = (await wire.hear("claimed"))["mailbox"]
        wire.say(json.dumps({"type": "open", "mailbox": mailbox}))

    async def introduce(self, number: int, host: Wire) -> list[float]:
        """One pair, in a mailbox of its own: one is for two and no more."""
        pair = [await self.wire(number), await self.wire(number)]
        try:
            for wire, side in zip(pair, "ab", strict=True):
                await self._claim(wire, 1_000_000 + number, side)
            times = []
            for turn in range(2 * TURNS):
                one, other = pair if turn % 2 else pair[::-1]
                began = time.perf_counter()
                said = {"type": "add", "phase": str(turn), "body": "00" * SIZE}
                one.say(json.dumps(said))
                while (await other.hear("message"))["phase"] != str(turn):
                    pass
                times.append(time.perf_counter() - began)
            for wire in pair:
                wire.say(json.dumps({"type": "release"}))
                wire.say(json.dumps({"type": "close", "mood": "happy"}))
            for wire in pair:
                await wire.hear("closed")
            return times
        finally:
            for wire in pair:
                wire.close()


def _names(number: int) -> tuple[bytes, bytes]:
    seed = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return seed[:16], hashlib.sha256(seed).digest()


async def _many(count: int, act: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """All of them, some at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Any:
        async with turn:
            return await act(number)

    return await asyncio.gather(*(one(number) for number in range(count)))


def _raise_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def server(options: argparse.Namespace) -> None:
    """A signaling server with many who wait, one node and several, beside a mailbox server."""
    _raise_descriptors()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, Callable[[], AbstractContextManager[_Place]]] = {
            "one node": lambda: _nodes(Path(folder), 1),
            f"{options.nodes} nodes, Redis": lambda: _nodes(Path(folder), options.nodes),
            "mailbox server": lambda: _mailbox(Path(folder)),
        }
        for name, running in kinds.items():
            if options.only and not any(word in name for word in options.only):
                continue
            for count in options.counts:
                say(f"{name}: {count} wait")
                with contextlib.ExitStack() as stack:
                    try:
                        place = stack.enter_context(running())
                    except Missing as missing:
                        say(str(missing))
                        continue
                    if options.crowd:
                        stack.enter_context(_crowd(place.load.ports, options.crowd))
                    waiting = str(count + options.crowd)
                    rows.append([name, waiting, *asyncio.run(_row(place, count, options))])
    print(f"{machine()}\n")
    table(
        (
            *("server", "wait", "KB each", "created/CPU s", "introduced/CPU s", "at once/s"),
            *("envelope p50, p99 ms", "introduction p50, p99 ms", "in floods", "all back s"),
        ),
        rows,
    )


class _Place:
    """A server that runs: its processes, and how it is started again."""

    def __init__(self, load: Load, start: Callable[[], list[int]], stop: Callable[[], None]):
        self.load, self.start, self.stop = load, start, stop
        self.pids = start()

    def cpu(self) -> float:
        """Seconds, so far."""
        return sum(cpu_of_tree(pid) for pid in self.pids)

    def memory(self) -> float:
        """Bytes that are resident."""
        return float(sum(psutil.Process(pid).memory_info().rss for pid in self.pids))


@contextlib.contextmanager
def _crowd(ports: list[int], count: int) -> Iterator[None]:
    """So many more hosts wait, in processes of their own: one has not so many sockets."""
    begins = range(0, count, MOST_SOCKETS)
    command = (sys.executable, "-m", "benchmarks.server", *map(str, ports))
    with contextlib.ExitStack() as stack:
        for begin in begins:
            some = min(MOST_SOCKETS, count - begin)
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, str(FIRST_OF_CROWD + begin), str(some)], stdout=subprocess.PIPE
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline(), "they could not wait"
        yield


async def _wait(ports: list[int], first: int, count: int) -> None:
    """Be a part of the crowd until killed."""
    load = Load(ports, first)
    hosts = await _many(count, lambda number: load.host(first + number))
    print(len(hosts), flush=True)
    await asyncio.Event().wait()


async def _row(place: _Place, count: int, options: argparse.Namespace) -> list[str]:
    load = place.load
    for number in range(20):  # what it loads at the first use is no peer's
        (await load.host(10_000_000 + number)).close()
    await asyncio.sleep(0.5)
    cpu, memory = place.cpu(), place.memory()
    hosts = await _many(count, load.host)
    created = count / (place.cpu() - cpu)
    each = (place.memory() - memory) / count / 1e3
    timed: list[list[float]] = []
    whole: list[float] = []
    for number in range(min(TIMED, count)):
        began = time.perf_counter()
        timed.append(await load.introduce(number, hosts[number]))
        whole.append(time.perf_counter() - began)
    floods = [
        f"{await _flooded(load, hosts, kind) / statistics.median(whole):.1f}"
        for kind in (FLOODS if type(load) is Load else ())
    ]
    cpu, began = place.cpu(), time.perf_counter()
    # Each host once: an address may join one room 30 times a minute.
    pairs = min(options.pairs, count)
    await _many(pairs, lambda number: load.introduce(number, hosts[number]))
    spent, seconds = place.cpu() - cpu, time.perf_counter() - began
    back = "-"
    if type(load) is Load and not options.crowd:  # which does not come back
        back = f"{await _reconnect(place, count):.1f}"
    for host in hosts:
        host.close()
    return [
        *(f"{each:.1f}", f"{created:.0f}", f"{pairs / spent:.0f}", f"{pairs / seconds:.0f}"),
        *(_quantiles([one for some in timed for one in some]), _quantiles(whole)),
        ", ".join(floods) or "-",
        back,
    ]


async def _flooded(load: Load, hosts: list[Wire], kind: str) -> float:
    """The median of an introduction, in seconds, while one address sends what it can."""
    module = (sys.executable, "-m", "benchmarks.strangers", kind, str(SOCKETS))
    flood = subprocess.Popen([*module, str(load.ports[0]), str(PACES), "1"])
    try:
        await asyncio.sleep(2)
        times = []
        for number in range(min(TIMED, len(hosts))):
            began = time.perf_counter()
            await load.introduce(number, hosts[number])
            times.append(time.perf_counter() - began)
        return statistics.median(times)
    finally:
        flood.kill()
        flood.wait()


async def _reconnect(place: _Place, count: int) -> float:
    """Seconds until all hosts have their seats again, after every node was killed."""
    place.stop()
    began = time.perf_counter()
    starting = asyncio.create_task(asyncio.to_thread(place.start))

    async def back(number: int) -> Wire:
        wait = BACKOFF
        while True:
            await asyncio.sleep(wait * (0.5 + random.random() / 2))
            wait = min(2 * wait, LAST_BACKOFF)
            with contextlib.suppress(OSError):
                return await place.load.host(number)

    hosts = await asyncio.gather(*map(back, range(count)))
    seconds = time.perf_counter() - began
    place.pids = await starting
    for host in hosts:
        host.close()
    return seconds


def _quantiles(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"{cuts[49] * 1e3:.1f}, {cuts[98] * 1e3:.1f}"


@contextlib.contextmanager
def _nodes(folder: Path, count: int) -> Iterator[_Place]:
    with contextlib.ExitStack() as always, contextlib.ExitStack() as running:
        url, ports = "", [_free_port() for _ in range(count)]
        redis: list[int] = []
        if count > 1:
            if not shutil.which("redis-server"):
                raise Missing("redis-server is not installed (apt install redis-server)")
            port = _free_port()
            command = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "")
            process = always.enter_context(_serving(port, *command, place=folder))
            url, redis = f"redis://127.0.0.1:{port}/0", [process.pid]
        os.environ["HANDOVER_SERVE_REDIS_URL"], os.environ["HANDOVER_CONFIG"] = url, os.devnull
        os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

        def start() -> list[int]:
            pids = []
            for port in ports:
                listen = ("serve", "--listen", f"127.0.0.1:{port}", "--log-level", "error")
                command = (sys.executable, "-m", "p2p", *listen)
                own = folder / str(port)
                own.mkdir(exist_ok=True)
                process = running.enter_context(_serving(port, *command, place=own))
                pids.append(process.pid)
            return pids + redis

        def stop() -> None:
            for pid in place.pids:
                if pid not in redis:
                    psutil.Process(pid).kill()
            running.close()

        place = _Place(Load(ports), start, stop)
        yield place


@contextlib.contextmanager
def _mailbox(folder: Path) -> Iterator[_Place]:
    programs, port = environment("wormhole", WORMHOLE), _free_port()
    command = (programs / "twist", "wormhole-mailbox", "--port", f"tcp:{port}:interface=127.0.0.1")
    with tempfile.TemporaryDirectory(dir=folder) as place, contextlib.ExitStack() as running:

        def start() -> list[int]:
            process: subprocess.Popen[bytes] = running.enter_context(
                _serving(port, *command, place=Path(place))
            )
            return [process.pid]

        yield _Place(Mailbox([port]), start, running.close)


if __name__ == "__main__":  # a part of a crowd
    _raise_descriptors()
    *ports, first, count = map(int, sys.argv[1:])
    asyncio.run(_wait(ports, first, count))
