"""The wheel in environments where nothing else is, as pip makes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from p2p.version import VERSION
from run import SUPPORTED, installed_python

from .harness import ROOT, Peer

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
RUNNING = "{}.{}".format(*sys.version_info)
# What is not on this machine is said by run.py.
PYTHONS = {one: found for one in SUPPORTED if (found := installed_python(one))}
PYTHONS[RUNNING] = sys.executable


def call(*command):
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(command, check=True, env=kept, cwd=ROOT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as the README says, but by what `requirements.txt` pins."""
    folder = tmp_path_factory.mktemp("dist")
    call(*PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def pins(tmp_path_factory):
    """The versions of `requirements.txt`, for what is required; nothing more is installed."""
    file = tmp_path_factory.mktemp("pins") / "constraints.txt"
    pinned = re.findall(r"(?m)^[^#\s].*==.*?(?= \\$)", (ROOT / "requirements.txt").read_text())
    file.write_text("\n".join(pinned))
    return file


class Installed(Peer):
    """A machine that has the program from the wheel, and no checkout."""

    def __init__(self, folder, environment):
        super().__init__(folder)
        self.programs = environment / "bin"

    def environment(self, **more):
        return super().environment(**more, PYTHONPATH="")

    def command(self, *arguments):
        return [str(self.programs / "handover"), *map(str, arguments)]


@pytest.fixture
def machines(tmp_path):
    """Two machines, and the environment that both use."""
    fresh = tmp_path / "environment"
    one, other = (Installed(tmp_path / name, fresh) for name in ("one", "other"))
    yield fresh, one, other
    one.close()
    other.close()


@pytest.mark.parametrize("version", PYTHONS)
def test_what_pip_installs_is_whole(
    version, wheel, pins, machines, recipient, tmp_path, unused_tcp_port
):
    fresh, one, other = machines
    call(PYTHONS[version], "-m", "venv", "--without-pip", fresh)
    into = [*PIP, "--python", fresh / "bin" / "python"]
    call(*into, "install", "--constraint", pins, wheel)

    assert one.run("--version").stdout == f"handover {VERSION}\n"
    done = one.run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every delivered file is unchanged" in done.stdout

    # The page is in it: the checkout's program finds it the same as its own.
    with one.serving("serve", "--listen", f"127.0.0.1:{unused_tcp_port}"):
        compared = recipient.run("verify-web", f"http://127.0.0.1:{unused_tcp_port}")
    assert compared.returncode == 0, compared.stdout

    # FFmpeg may go, for its size: the portable engine takes and gives no media.
    call(*into, "uninstall", "--yes", "av")
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    portable = ("--auto", "--no-direct", "--engine", "aiortc")
    sending, link = one.send(*portable, tmp_path / "file")
    receiving = other.receive(link, tmp_path / "out", *portable)
    assert (receiving.end()[0], sending.end()[0]) == (0, 0)
    assert (tmp_path / "out" / "file").read_bytes() == (tmp_path / "file").read_bytes()
