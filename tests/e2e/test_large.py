"""Gigabytes, minutes and a slow network: real files of real sizes, memory measured from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import psutil
import pytest

from benchmarks.data import ct_folder

from .harness import sha256sums

pytestmark = [pytest.mark.large, pytest.mark.timeout(600)]
MEMORY = 200 * 1024 * 1024


class Watch:
    """The largest resident size of processes, looked at twenty times a second."""

    def __init__(self, *processes):
        self._processes = [psutil.Process(p.process.pid) for p in processes]
        self.peaks = [0] * len(processes)

    def until(self, process):
        while process.process.poll() is None:
            for i, one in enumerate(self._processes):
                with contextlib.suppress(psutil.Error):
                    self.peaks[i] = max(self.peaks[i], one.memory_info().rss)
            if (
                process._next(time.monotonic() + 0.05) is None
                and process.process.poll() is not None
            ):
                break
        return self.peaks


def transfer(sender, recipient, source, out):
    sending, link = sender.send("--auto", source)
    receiving = recipient.receive(link, out, "--auto")
    peaks = Watch(sending, receiving).until(receiving)
    (code, last), (sent_code, _) = receiving.end(300), sending.end(300)
    assert (code, sent_code) == (0, 0), last
    print(f"\npeak memory: sender {peaks[0] / 1e6:.0f} MB, recipient {peaks[1] / 1e6:.0f} MB")
    assert max(peaks) < MEMORY
    return peaks


def test_10_gb_with_flat_memory(sender, recipient, out, tmp_path):
    """Sparse with islands of data: 10 GB are read, hashed, written, read back and hashed again."""
    with open(tmp_path / "huge.img", "wb") as file:
        file.truncate(10 * 10**9)
        for island in range(10):
            file.seek(island * 10**9 + 12_345)
            file.write(os.urandom(5_000_000))
    transfer(sender, recipient, tmp_path / "huge.img", out)
    assert (out / "huge.img").stat().st_blocks * 512 < 3 * 10**8
    assert subprocess.run(["cmp", tmp_path / "huge.img", out / "huge.img"]).returncode == 0


def test_a_gib_of_random_data(sender, recipient, out, tmp_path):
    subprocess.run(
        ["dd", "if=/dev/urandom", f"of={tmp_path}/one.bin", "bs=1M", "count=1024", "status=none"],
        check=True,
    )
    transfer(sender, recipient, tmp_path / "one.bin", out)
    digest = subprocess.run(
        ["sha256sum", tmp_path / "one.bin", out / "one.bin"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len({line.split()[0] for line in digest.stdout.splitlines()}) == 1


def test_a_ct_of_1500_slices(sender, recipient, out, tmp_path):
    """Real DICOM instances, written by pydicom: 512 x 512, 16 bit, one file a slice."""
    noise = os.urandom(512 * 512 * 2 + 4096)
    ct_folder(tmp_path / "CT", 1500, lambda number, _: noise[number : number + 512 * 512 * 2])
    transfer(sender, recipient, tmp_path / "CT", out)
    assert sha256sums(out / "CT") == sha256sums(tmp_path / "CT")


def test_200_000_files_is_the_limit_and_20_000_go_through(sender, recipient, out, tmp_path):
    root = tmp_path / "many"
    root.mkdir()
    for number in range(20_000):
        (root / f"{number:06d}").write_bytes(b"%d" % number)
    transfer(sender, recipient, root, out)
    assert sha256sums(out / "many") == sha256sums(root)


def test_nobody_waits_for_what_is_being_read_back(sender, recipient, out, tmp_path):
    """Ctrl-C while what had arrived of 10 GB is checked."""
    with open(tmp_path / "huge.img", "wb") as file:
        file.truncate(10 * 10**9)
        file.seek(10**10 - 1)
        file.write(b"x")
    sending, link = sender.send("--auto", tmp_path / "huge.img")
    receiving = recipient.receive(link, out, "--auto")
    while receiving.wait_for("progress")["verified"] < 8 * 10**9:
        pass
    for one in (receiving, sending):
        one.signal(signal.SIGKILL)
        one.process.wait()
    sending = sender.start("resume")
    assert sending.wait_for("link")["link"] == link
    receiving = recipient.receive(link, out, "--auto")
    receiving.wait_for("state", state="checking")
    receiving.signal(signal.SIGINT)
    began = time.monotonic()
    code, last = receiving.end()
    assert (code, last["code"]) == (8, "cancelled")
    assert time.monotonic() - began < 5
    assert list(out.iterdir()) == []
    assert sending.end()[1]["code"] == "peer_cancelled"
