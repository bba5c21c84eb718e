"""Over emulated links, between two network namespaces: the emulator of the fault tests.

Rates are those of the payload from the accept to the receipt, or to the last byte of a plain
connection, slow start included. A link of 50 Mbit/s is one of 50 Mbit/s of IP packets; TCP's
payload can have 1,448 of each 1,500 bytes of it, and that is what the shares are of. Random loss
meets packets of both directions. What has not ended at the deadline is stopped and marked with *:
its rate is what had arrived by then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from p2p.lanes.webrtc import available
from tests.faults.harness import compile_c
from tests.faults.network import Network

from .data import ct_folder, dicom_samples, random_file, squeezed, total
from .measure import Case, Missing, Run, interleave, machine, say, spread, table
from .rivals import environment
from .transfer import Prefixes, direct_can_be_off, handover, iroh, raw, tcp

NET = 1448 / 1500  # TCP's part of a full packet, with timestamps
QUEUE = 50  # ms
PATIENCE = 3  # times the seconds that a full link would take, then a transfer is stopped


@contextmanager
def emulated() -> Iterator[tuple[Network, Path]]:
    """Two machines with a router between them, and a folder."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "cc"))):
        raise Missing("emulated links need root, ip and cc")
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        network = Network(compile_c("emulator.c", Path(folder) / "emulator"))
        with contextlib.closing(network):
            yield network, Path(folder)


def _prefixes(network: Network) -> Prefixes:
    return network.prefixes["sender"], network.prefixes["recipient"]


def links(options: Namespace) -> None:
    """A grid of round trips and losses."""
    rate = options.rate / 8  # MB/s
    net = rate * NET
    size, deadline = int(net * 1e6 * options.seconds), options.seconds * PATIENCE
    lines, others = [], []
    with emulated() as (network, place):
        source = random_file(place / "random.bin", size)
        cases = _ways(network, source, place, deadline)
        if only := options.only:
            cases = [case for case in cases if any(word in case.name for word in only)]
        for rtt in options.rtt:
            for loss in options.loss:
                network.impair(rate=rate, delay=rtt / 2, loss=loss, queue=QUEUE)
                done = interleave(cases, options.rounds)
                network.repair()
                cells = [
                    _cell([one[case.name] for one in done if case.name in one], net)
                    for case in cases
                ]
                lines.append([f"{rtt:g} ms", f"{loss:g} %", *cells])
                others += [run.others for one in done for run in one.values()]
    print(f"{machine()}; {options.rounds} rounds, {size / 1e6:.0f} MB each, queue {QUEUE} ms")
    print(
        f"link: {options.rate:g} Mbit/s = {rate:.2f} MB/s of IP packets, {net:.2f} MB/s net for "
        f"TCP; MB/s and share of the net rate; others' cores (the emulator's with them) "
        f"{min(others, default=0):.1f}-{max(others, default=0):.1f}\n"
    )
    table(["RTT", "loss", *(case.name for case in cases)], lines)


def _ways(network: Network, source: Path, place: Path, deadline: float) -> list[Case]:
    prefixes, size = _prefixes(network), source.stat().st_size
    ours = partial(handover, source, place, prefixes=prefixes, deadline=deadline)
    cases = [Case("handover", ours)]
    if without := direct_can_be_off():
        lanes = partial(ours, send=without[0], receive=without[1])
        cases.append(Case("WebRTC lanes only", lanes))
    host = network.addresses["recipient"]
    for congestion in ("cubic", "bbr"):
        plain = partial(tcp, congestion, size, host=host, prefixes=prefixes, deadline=deadline)
        cases.append(Case(f"TCP {congestion}", plain))
    engine = available()[0]
    bare = partial(raw, engine, size, prefixes=prefixes, deadline=deadline)
    cases.append(Case(f"{engine}, bare", bare))
    try:
        environment("iroh", ("iroh",))
    except Missing as missing:
        say(f"iroh is left out: {missing}")
    else:
        quic = partial(iroh, size, host=host, prefixes=prefixes, deadline=deadline)
        cases.append(Case("iroh, bare", quic))
    return cases


def _cell(runs: list[Run], net: float) -> str:
    if not runs:
        return "failed"
    rates = [run.phase_rate for run in runs]
    share = statistics.median(rates) / net
    stopped = "*" if any(run.stopped for run in runs) else ""
    return f"{spread(rates, 2)}{stopped} {share:.0%}"


def slow(options: Namespace) -> None:
    """A CT over a slow line: how much quicker than the line its true bytes arrive."""
    rate = options.rate / 8
    net = rate * NET
    with emulated() as (network, place):
        ct = ct_folder(place / "CT", max(1, options.size * 2))  # half a MiB each
        sources = {"CT-like, uncompressed": ct}
        if samples := dicom_samples():
            sources["pydicom's test files"] = samples
        sources["random bytes"] = random_file(place / "random.bin", total(ct))
        cases = [
            Case(name, partial(handover, source, place, prefixes=_prefixes(network)))
            for name, source in sources.items()
        ]
        network.impair(rate=rate, delay=options.rtt / 2, queue=QUEUE)
        done = interleave(cases, options.rounds)
        lines = []
        for case in cases:
            source = sources[case.name]
            runs = [one[case.name] for one in done if case.name in one]
            rates = [run.phase_rate for run in runs]
            zlib = squeezed(source) if source.is_dir() else 1.0
            line = [case.name, f"{total(source) / 1e6:.1f}", f"{zlib:.2f}", spread(rates, 2)]
            lines.append([*line, spread([each / net for each in rates], 2)])
    print(
        f"{machine()}; {options.rounds} rounds; link: {options.rate:g} Mbit/s = {net:.2f} MB/s "
        f"net for TCP, RTT {options.rtt:g} ms\n"
    )
    head = ("what", "MB", "zlib -1 makes it x smaller", "true MB/s, accept to receipt")
    table([*head, "x the link's net rate"], lines)
