"""The network, the machines on it, and the table that the whole run ends with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import Any

import pytest

from tests import confined

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

    def transfer(self, source, *, sender=None, recipient=None, out=None, **options):
        return Transfer(
            sender or self.machine("sender"),
            recipient or self.machine("recipient"),
            source,
            out or self.out,
            **options,
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
    with contextlib.ExitStack() as mounted:
        folder = tmp_path / "disk"

        def mount(megabytes):
            if folder.exists():
                confined.grow(folder, megabytes)
            else:
                mounted.enter_context(confined.small_disk(folder, megabytes))
            return folder

        yield mount


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
                rows += told
                if outcome == "failed":
                    rows.append({"fault": "FAILED", "how": report.nodeid.split("::")[-1]})
    if not rows:
        return
    lines = [COLUMNS, *_grouped(rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    terminalreporter.section("faults")
    for line in lines:
        cells = zip(line, widths, strict=True)
        terminalreporter.write_line("  ".join(text.ljust(width) for text, width in cells).rstrip())


def _grouped(rows):
    """One line for many rounds of one fault: how many, the middle and the worst of each figure."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in rows:
        groups.setdefault((one["fault"], one["how"]), []).append(one)
    for (fault, how), ones in groups.items():
        peaks = [one["peaks"] for one in ones if one.get("peaks")]
        said = dict.fromkeys(word for one in ones for word in one.get("message", "-").split())
        yield (
            fault,
            how + (f" ({len(ones)} rounds)" if len(ones) > 1 else ""),
            _figures([one["seconds"] for one in ones if one.get("seconds")]),
            "/".join(str(max(column)) for column in zip(*peaks, strict=True)) or "-",
            (ones[0].get("message", "-") if len(ones) == 1 else " ".join(said))[:60],
            "-" if "same" not in ones[0] else "yes" if all(one["same"] for one in ones) else "NO",
            str(ones[0].get("receipts", "-")),
            _figures([one["took"] for one in ones if one.get("took")]),
        )


def _figures(found):
    if not found:
        return "-"
    middle, worst = sorted(found)[len(found) // 2], max(found)
    return f"{middle:.1f} s" if len(found) == 1 else f"{middle:.1f}, {worst:.1f} s"
