"""Nothing fails to import, and a transfer in memory runs, where the system has less than Linux."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

SCRIPT = """
import asyncio, importlib, os, pkgutil, select, selectors, signal, socket, subprocess, sys, tempfile

sys.modules["fcntl"] = None
for module, names in {
    os: (
        *("O_DIRECT", "O_NOFOLLOW", "O_DIRECTORY", "SEEK_DATA", "SEEK_HOLE", "posix_fadvise"),
        *("setpriority", "preadv", "pread", "pwrite", "link"),
    ),
    socket: ("AF_UNIX", "TCP_CONGESTION", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"),
}.items():
    for name in names:
        delattr(module, name)
import time
del time.CLOCK_BOOTTIME

def socketpair():  # the event loop's own, as it is where there is no AF_UNIX
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return one, other

socket.socketpair = socketpair

import p2p, signaling
for package in (p2p, signaling):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith(("__main__", "libdatachannel", "aiortc")):  # others' engines
            importlib.import_module(found.name)

from pathlib import Path
from tests.transfer.memory import World

async def main():
    contents = (("study", None), ("study/1.dcm", os.urandom(300_000)))
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), contents)
        sent, received = await world.run()
        assert (sent.code, received.code) == ("", ""), (sent, received)
        assert world.disk.files == dict(contents)

asyncio.run(main())
print("delivered")
"""


def test_everything_imports_and_a_transfer_runs_without_what_only_some_systems_have():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.stdout.strip().endswith("delivered"), done.stderr[-2000:]
