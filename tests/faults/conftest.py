"""The network, the machines on it, and the table that the whole run ends with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from .harness import Faults, Machine, Server, Transfer, compile_c
from .network import Network

COLUMNS = ("fault", "how", "recovered", "peak MB s/r", "seen", "equal", "receipts", "took")


def pytest_collection_modifyitems(items):
    """Everything here is a fault test; a `smoke` mark says which part runs always."""
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker("faults")


@pytest.fixture(scope="session", autouse=True)
def able():
    """Root, namespaces and a compiler are needed; without them nothing here says anything."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "cc", "cmp", "diff"))):
        pytest.skip("needs root, ip, cc, cmp and diff")


@pytest.fixture(scope="session")
def built(able, tmp_path_factory):
    """The two programs in C: (emulator, shim)."""
    folder = tmp_path_factory.mktemp("built")
    emulator = compile_c("emulator.c", folder / "emulator")
    return emulator, compile_c("shim.c", folder / "shim.so", "-shared", "-fPIC")


@pytest.fixture
def network(built):
    made = Network(built[0])
    yield made
    made.close()


class World:
    """What a test begins with: a network and the machines on it, by name."""

    def __init__(self, network, shim, folder):
        self.network, self.folder, self._shim = network, folder, shim
        self.machines = []
        self.out = folder / "out"

    def machine(self, side, name=None, *, faults=False, label=None):
        name = name or side
        shim = Faults(self._shim, self.folder / f"{name}.faults") if faults else None
        made = Machine(self.folder / name, self.network.prefixes[side], shim, label)
        self.machines.append(made)
        return made

    def server(self):
        """A signaling server beside the router: (it, the option that names it)."""
        made = Server(self.machine("router"))
        self.machines.append(made)
        return made, ("--server", "http://10.77.1.1:8080")

    def transfer(self, source, *, sender=None, recipient=None, send=(), receive=(), out=None):
        return Transfer(
            sender or self.machine("sender"),
            recipient or self.machine("recipient"),
            source,
            out or self.out,
            send=send,
            receive=receive,
        )

    def close(self):
        for one in self.machines:
            one.kill() if isinstance(one, Server) else one.close()


@pytest.fixture
def world(network, built, tmp_path):
    made = World(network, built[1], tmp_path)
    yield made
    made.close()
    shutil.rmtree(tmp_path, ignore_errors=True)  # a full run would fill the disk


@pytest.fixture
def small_disk(tmp_path):
    """Make a file system of so many MB; to grow it, mount it again."""
    mounted = []

    def mount(megabytes):
        folder = tmp_path / "disk"
        again = "remount," if mounted else ""
        folder.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{again}size={megabytes}m", "tmpfs", folder], check=True
        )
        mounted.append(folder)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", mounted[0]], check=True)


@pytest.fixture
def row(record_property):
    """Put a line into the table."""

    def add(fault, how, facts):
        record_property("row", json.dumps({"fault": fault, "how": how, **facts}))

    return add


def pytest_terminal_summary(terminalreporter):
    """The table, of whatever ran."""
    rows = []
    for outcome in ("passed", "failed", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            told = [json.loads(v) for k, v in getattr(report, "user_properties", ()) if k == "row"]
            if report.when == "call" and "tests/faults/" in report.nodeid.replace(os.sep, "/"):
                rows += [_cells(one) for one in told]
                if outcome == "failed":
                    name = report.nodeid.split("::")[-1]
                    rows.append(("FAILED", name, *("",) * (len(COLUMNS) - 2)))
    if not rows:
        return
    widths = [max(len(row[i]) for row in (COLUMNS, *rows)) for i in range(len(COLUMNS))]
    terminalreporter.section("faults")
    for line in (COLUMNS, *rows):
        cells = zip(line, widths, strict=True)
        terminalreporter.write_line("  ".join(text.ljust(width) for text, width in cells).rstrip())


def _cells(one):
    peaks = one.get("peaks")
    return (
        one["fault"],
        one["how"],
        f"{one['seconds']:.1f} s" if one.get("seconds") else "-",
        "/".join(map(str, peaks)) if peaks else "-",
        one.get("message", "-")[:60],
        {True: "yes", False: "no"}.get(one.get("same"), "-"),
        str(one.get("receipts", "-")),
        f"{one['took']:.0f} s" if one.get("took") else "-",
    )
