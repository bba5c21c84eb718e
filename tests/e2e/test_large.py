"""Gigabytes, minutes and a slow network: real files of real sizes, memory measured from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

import psutil
import pytest

from .harness import Peer, sha256sums

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


def test_20_gb_with_flat_memory(sender, recipient, out, tmp_path):
    """Sparse with islands of data: 20 GB are read, hashed, written, read back and hashed again."""
    with open(tmp_path / "huge.img", "wb") as file:
        file.truncate(20 * 10**9)
        for island in range(20):
            file.seek(island * 10**9 + 12_345)
            file.write(os.urandom(5_000_000))
    transfer(sender, recipient, tmp_path / "huge.img", out)
    assert (out / "huge.img").stat().st_blocks * 512 < 3 * 10**8
    assert subprocess.run(["cmp", tmp_path / "huge.img", out / "huge.img"]).returncode == 0


def test_2_gib_of_random_data(sender, recipient, out, tmp_path):
    subprocess.run(
        ["dd", "if=/dev/urandom", f"of={tmp_path}/two.bin", "bs=1M", "count=2048", "status=none"],
        check=True,
    )
    transfer(sender, recipient, tmp_path / "two.bin", out)
    digest = subprocess.run(
        ["sha256sum", tmp_path / "two.bin", out / "two.bin"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len({line.split()[0] for line in digest.stdout.splitlines()}) == 1


def test_a_ct_of_1500_slices(sender, recipient, out, tmp_path):
    """Real DICOM instances, written by pydicom: 512 x 512, 16 bit, one file a slice."""
    make_ct(tmp_path / "CT", 1500)
    transfer(sender, recipient, tmp_path / "CT", out)
    assert sha256sums(out / "CT") == sha256sums(tmp_path / "CT")


def make_ct(folder, slices):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    noise = os.urandom(512 * 512 * 2 + 4096)
    for number in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.Modality, one.PatientID, one.InstanceNumber = "CT", "TEST", number
        one.Rows = one.Columns = 512
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
        one.PhotometricInterpretation = "MONOCHROME2"
        one.PixelData = noise[number : number + 512 * 512 * 2]
        one.save_as(folder / f"IM{number:05d}.dcm", enforce_file_format=True)


def test_200_000_files_is_the_limit_and_20_000_go_through(sender, recipient, out, tmp_path):
    root = tmp_path / "many"
    root.mkdir()
    for number in range(20_000):
        (root / f"{number:06d}").write_bytes(b"%d" % number)
    transfer(sender, recipient, root, out)
    assert sha256sums(out / "many") == sha256sums(root)


@pytest.fixture
def slow_network():
    """Two network namespaces joined by a link of 0.05 MB/s each way."""
    names, addresses = ("hand-a", "hand-b"), ("10.90.0.1/24", "10.90.0.2/24")

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True)

    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        ip("netns", "add", name)
    ip(
        "link",
        "add",
        "va",
        "netns",
        names[0],
        "type",
        "veth",
        "peer",
        "name",
        "vb",
        "netns",
        names[1],
    )
    for name, device, address in zip(names, ("va", "vb"), addresses, strict=True):
        ip("-n", name, "addr", "add", address, "dev", device)
        ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "link", "set", "lo", "up")
        subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                name,
                "tc",
                "qdisc",
                "add",
                "dev",
                device,
                "root",
                "tbf",
                "rate",
                "400kbit",
                "burst",
                "3000",
                "latency",
                "400ms",
            ],
            check=True,
        )
    yield names
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_a_path_of_0_05_mb_a_second_crawls_for_a_minute_and_does_not_flap(
    slow_network, tmp_path, out
):
    prefixes = [("ip", "netns", "exec", name) for name in slow_network]
    sender = Peer(tmp_path / "s", prefix=prefixes[0])
    recipient = Peer(tmp_path / "r", prefix=prefixes[1])
    (tmp_path / "slow.bin").write_bytes(os.urandom(3_000_000))
    began = time.monotonic()
    sending, link = sender.send("--auto", "--address", "10.90.0.1", tmp_path / "slow.bin")
    receiving = recipient.receive(link, out, "--auto")
    (code, last), (sent_code, _) = receiving.end(300), sending.end(300)
    took = time.monotonic() - began
    assert (code, sent_code) == (0, 0), (last, sending.events[-3:])
    assert took > 60, "the network was not slow"
    for process in (sending, receiving):
        assert "silent" not in process.states()
        assert not [e for e in process.events if e["event"] == "warning"]
    print(f"\n{3 / took:.3f} MB/s over {took:.0f} s")
    sender.close()
    recipient.close()
