"""One cell of the matrix: a transfer between two sites, by which way, and how soon."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness import Peer

from .network import INTERNET, SECRET, SIDES, Internet, Site

NO_PATH_SECONDS = 60.0  # more than a transfer tries for
SIZE = 2_000_000


@dataclass(frozen=True)
class Cell:
    """What became of it."""

    path: str  # direct, tls, relayed, or the code of the failure
    accepted: float  # seconds from the recipient's start to the accept, or to the failure
    ended: str  # the path at the end


@contextlib.contextmanager
def internet(sites: Sequence[Site], folder: Path, *, relay: bool = True) -> Iterator[Internet]:
    """Two sites, a signaling server and a relay."""
    net = Internet(sites, folder)
    try:
        urls = net.relay() if relay else ()
        secret = folder / "secret"
        secret.write_text(SECRET)
        server = Peer(folder / "server", prefix=net.prefixes["internet"])
        ice = [word for url in urls for word in ("--ice", url)]
        secrets = ("--turn-secret-file", secret) if relay else ()
        with server.serving("serve", "--listen", f"{INTERNET}:443", *ice, *secrets):
            yield net
    finally:
        net.close()


def transfer(
    net: Internet,
    folder: Path,
    engines: Sequence[str],
    *words: str,
    sender: Sequence[str] = (),
    recipient: Sequence[str] = (),
    size: int = SIZE,
) -> Cell:
    """A file from one site to the other, by the command line: with these words for both, and those
    of each."""
    here, there = (Peer(folder / side, side, net.prefixes[side]) for side in SIDES)
    file = folder / "file"
    file.write_bytes(os.urandom(size))
    try:
        server = ("--server", f"http://{INTERNET}:443")
        engine = ("--engine", engines[0])
        sending, link = here.send(
            "--auto", *engine, *server, *words, *sender, file, **net.environment
        )
        began = time.monotonic()
        engine = ("--engine", engines[1])
        more = {"HANDOVER_LINK": link, **net.environment}
        receiving = there.start(
            "receive", "--auto", "--output", folder / "out", *engine, *words, *recipient, **more
        )
        while (event := receiving.next(NO_PATH_SECONDS)) is not None:
            if event["event"] == "error":
                return Cell(event["code"], time.monotonic() - began, "")
            if event["event"] == "state" and event["state"] == "accepted":
                break
        accepted = time.monotonic() - began
        paths = []
        while (event := receiving.next(NO_PATH_SECONDS)) is not None:
            if event["event"] == "progress":
                paths.append(event["path"])
            if event["event"] in ("complete", "error"):
                break
        assert event is not None, receiving.stderr()
        assert event["event"] == "complete", event
        sending.end()
        return Cell(paths[0], accepted, paths[-1])
    finally:
        here.close()
        there.close()
