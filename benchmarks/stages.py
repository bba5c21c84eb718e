"""What each stage of a transfer costs, in CPU seconds for a gigabyte, each alone.

What a whole run takes beyond their sum is Python, thread hops, signaling and the start. With a core
for each thread the stages overlap, and the slowest is as fast as a transfer can be.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import statistics
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nacl import bindings

from p2p.lanes.multipath import DIRECT_LANES
from p2p.lanes.tls.direct import DirectLanes
from p2p.lanes.tls.socket import TlsSocket
from p2p.protocol.manifest import SALT, Manifest
from p2p.protocol.seal import (
    OVERHEAD,
    TRANSFER_ID,
    Header,
    Opener,
    Stream,
    seal_range,
    with_headroom,
)
from p2p.storage.destination import FolderDestination
from p2p.storage.listing import walk
from p2p.storage.source import FolderSource

from .data import random_file
from .measure import machine, spread, table
from .transfer import handover

LANE_STAGES = {"seal", "TLS, send", "TLS, receive", "open"}  # a thread of each for each lane
WHOLE, BEYOND = "a whole run", "of that beyond these"
RANGE = 258_048  # what a direct lane's ranges have, in bytes
Costs = dict[tuple[str, str], float]


def stages(options: Namespace) -> None:
    """Reading, sealing, TLS, opening, writing, reading back: each alone, and a whole run."""
    rounds: list[Costs] = []
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        place = Path(folder)
        source = random_file(place / "random.bin", options.size << 20)
        for number in range(options.rounds):
            costs = _stages(source, place / str(number))
            run = handover(source, place)
            for side, whole in (("sender", run.cpu[0]), ("recipient", run.cpu[1])):
                parts = sum(cost for (whose, _), cost in costs.items() if whose == side)
                costs[side, WHOLE] = whole
                costs[side, BEYOND] = whole - parts
            rounds.append(costs)
    print(f"{machine()}; {options.size} MiB, {options.rounds} rounds\n")
    rates: dict[tuple[str, str], float] = {}
    lines = []
    for key in sorted(rounds[0], key=lambda key: key[0] != "sender"):
        values = [one[key] for one in rounds]
        lanes = DIRECT_LANES if key[1] in LANE_STAGES else 1
        if key[1] not in (WHOLE, BEYOND):
            rates[key] = lanes * 1000 / statistics.median(values)
        rate = f"{rates[key]:.0f}" if key in rates else ""
        lines.append([*key, spread(values, 2), str(lanes) if rate else "", rate])
    table(["side", "stage", "CPU s/GB", "threads", "MB/s with a core each"], lines)
    side, stage = slowest = min(rates, key=lambda key: rates[key])
    print(f"\nthe slowest: {stage}, at the {side}, {rates[slowest]:.0f} MB/s")


def _stages(path: Path, place: Path) -> Costs:
    costs: Costs = {}
    size = path.stat().st_size

    @contextmanager
    def cost(
        side: str, stage: str, clock: Callable[[], float] = time.process_time
    ) -> Iterator[None]:
        began = clock()
        yield
        costs[side, stage] = (clock() - began) / (size / 1e9)

    listing = walk([str(path)], follow=False, warn=lambda code, path, detail: None)
    manifest = Manifest(listing.entries, os.urandom(SALT))
    tape, transfer = manifest.tape(), os.urandom(TRANSFER_ID)
    public, private = bindings.crypto_box_keypair()
    reading = FolderSource(listing, tape, OVERHEAD)
    with cost("sender", "read, SHA-256"):
        for at in range(0, size, RANGE):
            reading.read(at, RANGE)
    reading.close()
    payload = os.urandom(RANGE)
    header = Header(transfer, Stream.DATA, 0, 0, RANGE)
    plain = [with_headroom(payload) for _ in range(0, size, RANGE)]
    with cost("sender", "seal"):
        messages = [seal_range(public, header, one) for one in plain]
    _tls(messages, cost)
    opener = Opener(private)
    with cost("recipient", "open"):
        for message in messages:
            opener.open(message)
    del messages, plain
    destination = FolderDestination(place, manifest, tape, transfer)
    destination.check_space()
    destination.prepare()
    with cost("recipient", "write, fsync"):
        for at in range(0, size, RANGE):
            destination.write(at, payload[: size - at])
        destination.sync(size)
    with cost("recipient", "read back, SHA-256"):
        destination.read_back(size)
    destination.discard()
    return costs


def _tls(messages: list[bytearray], cost: Callable[..., object]) -> None:
    """One lane between two threads; each counts its own time."""
    contexts = asyncio.run(_contexts())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
    client = TlsSocket(contexts[0], there, server=False)
    server = TlsSocket(contexts[1], here, server=True)

    def receive() -> None:
        server.shake_hands()
        with cost("recipient", "TLS, receive", time.thread_time):  # type: ignore[attr-defined]
            for message in messages:
                server.read(len(message))

    receiving = threading.Thread(target=receive)
    receiving.start()
    client.shake_hands()
    with cost("sender", "TLS, send", time.thread_time):  # type: ignore[attr-defined]
        for message in messages:
            client.write(message)
    receiving.join()
    for plain in (there, here):
        plain.close()


async def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of two ends that trust each other: who connects, who is connected to."""
    one, other = await DirectLanes.open(), await DirectLanes.open()
    one.trust(other.certificate)
    other.trust(one.certificate)
    one.close()
    other.close()
    assert one._contexts is not None
    assert other._contexts is not None
    return one._contexts[False], other._contexts[True]
