"""Through a TURN server, between two sites behind NAT: namespaces of `tests.reach`, real coturn.

The baseline is coturn's own load generator, `turnutils_uclient`, through the same gateway: eight
sessions that send messages of 1,200 bytes to each other by UDP as fast as they may; its rate is
that of the messages that came, over the best 3 s. Rates of transfers are those from the accept to
the receipt. Everything shares this machine's cores, coturn too. How soon each pair of sites
connects, `python -m tests.reach` prints.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.confined import confine
from tests.e2e.harness import Peer
from tests.reach.cells import Servers, internet
from tests.reach.network import INTERNET, RELAY, SECRET, Site

from .data import random_file
from .measure import MB, Failed, machine, say, spread, table

RAW_SESSIONS, RAW_MESSAGES, RAW_BYTES = 8, 30_000, 1200
BEST_SECONDS = 3
_LINE = re.compile(r"^(\d+): : start_mclient: msz=\d+.*tot_recv_bytes ~ (\d+)", re.MULTILINE)
Sites = Sequence[Site]
# Name, sites, servers, words, and the path that has to carry it.
ROWS: tuple[tuple[str, Sites, Servers, tuple[str, ...], str], ...] = (
    ("direct, WebRTC", ("cone", "cone"), "stun", ("--no-direct",), "direct"),
    ("relayed by UDP", ("symmetric", "symmetric"), "turn", (), "relayed"),
    ("relayed by TCP", ("no udp", "no udp"), "turn", (), "relayed"),
    ("relayed by TLS", ("443 only", "443 only"), "turn", (), "relayed"),
)


def relay(options: argparse.Namespace) -> None:
    """Relayed transfers beside the relay alone."""
    confine()
    found: dict[str, list[tuple[float, float]]] = {}  # MB/s, and of coturn alone in that round
    with tempfile.TemporaryDirectory() as name:
        source = random_file(Path(name) / "file", options.size << 20)
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            alone = _raw()
            found.setdefault("coturn alone", []).append((alone, 1))
            for row, sites, servers, words, path in ROWS:
                try:
                    rate = _transfer(source, sites, servers, words, path)
                    found.setdefault(row, []).append((rate, rate / alone))
                except Failed as failure:
                    say(f"{row}: {failure}")
    print(f"{machine()}; {options.rounds} rounds, {options.size} MiB each")
    rows = []
    for row, pairs in found.items():
        rates, shares = zip(*pairs, strict=True)
        rows.append([row, spread(rates), spread(shares, 2)])
    table(("", "MB/s", "of coturn alone"), rows)


def _raw() -> float:
    """MB/s of the relay's own load generator."""
    with tempfile.TemporaryDirectory() as name, internet(("cone", "open"), Path(name)) as net:
        counts = ("-m", str(RAW_SESSIONS), "-n", str(RAW_MESSAGES), "-l", str(RAW_BYTES))
        words = ("turnutils_uclient", "-y", "-c", "-z", "0", "-W", SECRET, *counts, RELAY)
        done = subprocess.run(
            [*net.prefixes["sender"], *words], capture_output=True, text=True, timeout=120
        )
    seen = {int(second): int(count) for second, count in _LINE.findall(done.stdout + done.stderr)}
    spans = [
        (seen[at + BEST_SECONDS] - count) / BEST_SECONDS / MB
        for at, count in seen.items()
        if at + BEST_SECONDS in seen
    ]
    if not spans:
        raise Failed("turnutils_uclient came to nothing")
    return max(spans)


def _transfer(
    source: Path, sites: Sites, servers: Servers, words: tuple[str, ...], path: str
) -> float:
    """MB/s from the accept to the receipt."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with internet(sites, folder, servers=servers) as net:
            here, there = (Peer(folder / one, one, net.prefixes[one]) for one in net.environments)
            try:
                server = ("--auto", *words, "--server", f"https://{INTERNET}:443")
                sending, link = here.send(*server, source, **net.environments["sender"])
                more = {"HANDOVER_LINK": link, **net.environments["recipient"]}
                there.start("receive", "--auto", "--output", folder / "out", **more)
                began, paths = 0.0, set()
                while (event := sending.next(60)) is not None:
                    if event.get("state") == "accepted":
                        began = time.perf_counter()
                    elif event["event"] == "progress":
                        paths.add(event["path"])
                    elif event["event"] == "complete":
                        if paths != {path}:
                            raise Failed(f"carried by {paths}")
                        return source.stat().st_size / (time.perf_counter() - began) / MB
            finally:
                here.close()
                there.close()
    raise Failed("no end")
