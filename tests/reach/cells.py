"""One cell of the matrix: a transfer between two sites, by which way, and how soon."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.e2e.harness import SECONDS, Peer, Process
from tests.web_client.browsers import KINDS

from .network import IPV4_ONLY, MTU, SECRET, SIDES, Family, Internet, Site

Servers = Literal["turn", "stun", "own", "both", "none"]
NO_PATH_SECONDS = 60.0  # more than a transfer tries for
SIZE = 2_000_000


@dataclass(frozen=True)
class Cell:
    """What became of it."""

    path: str  # direct, tls, relayed, or the code of the failure
    accepted: float  # seconds from the link's being opened to the accept, or to the failure
    ended: str  # the path at the end
    message: str = ""  # of the failure, for people


@contextlib.contextmanager
def internet(
    sites: Sequence[Site],
    folder: Path,
    *,
    servers: Servers = "turn",
    ttl: str = "1h",
    families: Sequence[Family] = IPV4_ONLY,
    mtu: int = MTU,
    icmp: bool = True,
    asked: Sequence[str] = (),
) -> Iterator[Internet]:
    """Two sites, a signaling server, and a relay whose credentials are good for so long; of it,
    peers are told as a STUN server only, or not at all. `own`: the signaling server answers STUN
    itself, `both`: so does the relay. `asked`: what its operator asks, as options. The rest: see
    `Internet`."""
    net = Internet(sites, folder, families, mtu, icmp=icmp)
    try:
        urls = net.relay() if servers in ("turn", "stun", "both") else ()
        urls = urls[:1] if servers == "stun" else urls
        secret = folder / "secret"
        secret.write_text(SECRET)
        server = Peer(folder / "server", prefix=net.prefixes["internet"])
        ice = [word for url in urls for word in ("--ice", url)]
        ice += ["--stun-listen", ":3478"] if servers in ("own", "both") else []
        secrets = ("--turn-secret-file", secret, "--turn-ttl", ttl)
        tls = ("--tls-cert", net.certificate, "--tls-key", net.key)
        with server.serving("serve", "--listen", ":443", *tls, *ice, *secrets, *asked):
            yield net
    finally:
        net.close()


def transfer(
    net: Internet,
    folder: Path,
    ends: Sequence[str],
    *words: str,
    sender: Sequence[str] = (),
    recipient: Sequence[str] = (),
    size: int = SIZE,
) -> Cell:
    """A file from one site to the other, with these words for both and those of each. An end is an
    engine of the command line; the recipient's may be a browser."""
    here, there = (Peer(folder / side, side, net.prefixes[side]) for side in SIDES)
    file = folder / "file"
    file.write_bytes(os.urandom(size))
    server = ("--auto", "--engine", ends[0], "--server", f"https://{net.server}:443")
    try:
        sending, link = here.send(*server, *words, *sender, file, **net.environments["sender"])
        more = {"HANDOVER_LINK": link, **net.environments["recipient"]}
        if ends[1] in KINDS:
            page = (sys.executable, "-m", "tests.reach.page", ends[1])
            receiving = Process([*there.prefix, *page], there.environment(**more))
            there.started.append(receiving)
        else:
            own = ("--auto", "--output", folder / "out", "--engine", ends[1])
            receiving = there.start("receive", *own, *words, *recipient, **more)
        cell = _watch(sending, receiving)
        if cell.ended:
            assert receiving.process.wait(SECONDS) == 0, receiving.stderr()
        return cell
    finally:
        here.close()
        there.close()


def _watch(sending: Process, receiving: Process) -> Cell:
    """By what the sender tells, or the recipient's failure."""
    opened = accepted = 0.0
    paths: list[str] = []
    while (event := sending.next(NO_PATH_SECONDS)) is not None:
        now = time.monotonic()
        kind = event.get("state") or event["event"]
        if kind == "opened":
            opened = opened or now
        elif kind == "accepted":
            accepted = now
        elif kind == "progress":
            paths.append(event["path"])
        elif kind == "complete":
            return Cell(paths[0], accepted - opened, paths[-1])
        elif kind == "warning" and event["code"] == "no_connection":
            last = receiving.end()[1]
            return Cell(last["code"], time.monotonic() - opened, "", last["message"])
    raise AssertionError((sending.events, receiving.stderr()))
