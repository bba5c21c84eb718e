"""What every source and every destination promises: one suite over folders and over memory."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from p2p.protocol.errors import Failure
from p2p.protocol.manifest import CHANGED, NOT_WRITTEN, Entry, Manifest, Results
from p2p.storage.destination import FolderDestination
from p2p.storage.listing import walk
from p2p.storage.memory import MemoryDestination, MemoryDisk, MemorySource
from p2p.storage.source import FolderSource

TRANSFER = b"\x07" * 16
HEADROOM = 82
CONTENTS = (
    ("study", None),
    ("study/1.dcm", b"a" * 70_000),
    ("study/2.dcm", b""),
    ("study/3.dcm", os.urandom(5)),
    ("study/deep", None),
    ("study/deep/4.dcm", bytes(200_000)),
)


def manifest_of(contents=CONTENTS):
    entries = (
        Entry(
            path, "directory" if data is None else "file", len(data or b""), 1_700_000_000_000_000
        )
        for path, data in contents
    )
    return Manifest(tuple(entries), bytes(32))


# What only some systems have.
FEW = [
    "preadv",
    "pread",
    "pwrite",
    "statvfs",
    "fchmod",
    "link",
    "SEEK_DATA",
    "SEEK_HOLE",
    "posix_fadvise",
    "O_DIRECT",
]


@pytest.fixture(params=["folder", "folder on a system with less", "memory"])
def kind(request, monkeypatch):
    """Which of them it is."""
    if request.param.endswith("less"):
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)  # by other means there
        for name in FEW:
            monkeypatch.delattr(os, name)
        monkeypatch.setattr("p2p.storage.parts.DIRECT", 0)
    return request.param.split()[0]


# --- sources ---------------------------------------------------------------------------------------


@pytest.fixture
def source(kind, tmp_path):
    """Makes a source of CONTENTS, as often as called."""
    manifest = manifest_of()
    tape = manifest.tape()
    if kind == "memory":
        return lambda: (MemorySource([data for _, data in CONTENTS], tape, HEADROOM), tape)
    for path, data in CONTENTS:
        if data is None:
            (tmp_path / path).mkdir()
        else:
            (tmp_path / path).write_bytes(data)
    listing = walk([str(tmp_path / "study")], follow=False, warn=lambda *_: None)
    assert [(e.path, e.size) for e in listing.entries] == [(p, len(d or b"")) for p, d in CONTENTS]
    return lambda: (FolderSource(listing, tape, HEADROOM), tape)


def read_all(one, tape, step):
    tape_bytes, finished, offset = bytearray(), {}, 0
    while True:
        block = one.read(offset, step)
        assert block.length <= step or block.hole
        assert block.headroom == HEADROOM
        tape_bytes += bytes(block.length) if block.hole else block.payload
        finished.update(block.finished)
        assert not block.withdrawn
        offset += block.length
        if not block.length and not block.finished:
            one.close()
            return bytes(tape_bytes), finished


@pytest.mark.parametrize("step", [1000, 65_536, 10**6])
def test_a_source_gives_the_tape_in_order_and_each_files_digest_once(source, step):
    one, tape = source()
    whole, finished = read_all(one, tape, step)
    assert whole == b"".join(data for _, data in CONTENTS if data)
    assert finished == {
        index: hashlib.sha256(data).digest()
        for index, (_, data) in enumerate(CONTENTS)
        if data is not None
    }


@pytest.mark.parametrize("offset", [1, 69_999, 70_000, 70_003, 100_000])
@pytest.mark.parametrize("known", [False, True])
def test_a_source_goes_on_anywhere_and_hashes_what_is_not_known(source, offset, known):
    one, tape = source()
    block = one.skip(offset, lambda entry: known)
    rest, finished = bytearray(), dict(block.finished)
    at = offset
    while at < tape.total or not block.finished:
        block = one.read(at, 4096)
        rest += bytes(block.length) if block.hole else block.payload
        finished.update(block.finished)
        at += block.length
        if not block.length and not block.finished:
            break
    one.close()
    assert bytes(rest) == b"".join(data for _, data in CONTENTS if data)[offset:]
    for index, (_, data) in enumerate(CONTENTS):
        if data and (not known or tape.end(index) > offset):
            assert finished[index] == hashlib.sha256(data).digest()


def test_skipping_ends_when_told(source):
    one, tape = source()
    with pytest.raises(Failure):
        one.skip(tape.total, lambda entry: False, lambda: True)
    one.close()


# --- destinations ----------------------------------------------------------------------------------


class Place:
    """Somewhere to receive into, again and again."""

    def __init__(self, kind, tmp_path):
        self.kind, self.output = kind, tmp_path / "out"
        self.disk, self.marks = MemoryDisk(), {}

    def make(self, manifest):
        tape = manifest.tape()
        if self.kind == "memory":
            return MemoryDestination(self.disk, manifest, tape, self.marks.__setitem__)
        return FolderDestination(self.output, manifest, tape, TRANSFER, self.marks.__setitem__)

    def begun(self, manifest, *, again=False):
        one = self.make(manifest)
        one.check_space()
        one.prepare(again=again)
        one.begin(0)
        return one

    def files(self):
        """Path -> content of everything that has a final name; None: a folder."""
        if self.kind == "memory":
            return dict(self.disk.files)
        found = {}
        for path in sorted(self.output.rglob("*")):
            name = path.relative_to(self.output).as_posix()
            if not name.startswith(".handover-"):
                found[name] = path.read_bytes() if path.is_file() else None
        return found


@pytest.fixture
def place(kind, tmp_path):
    return Place(kind, tmp_path)


def fill(one, tape, upto=None, step=30_000):
    """Write the tape, sync, and read it back."""
    whole = b"".join(data for _, data in CONTENTS if data)
    upto = tape.total if upto is None else upto
    for at in range(0, upto, step):
        one.write(at, whole[at : min(at + step, upto)])
    one.sync(upto)
    assert one.read_back(upto) == upto


def claims(manifest, **wrong):
    results = Results(len(manifest.entries))
    for index, (_, data) in enumerate(CONTENTS):
        if data is not None:
            results.delivered(index, hashlib.sha256(data).digest())
    return results


def test_what_was_written_and_read_back_gets_its_final_names(place):
    manifest = manifest_of()
    one = place.begun(manifest)
    assert one.is_there()
    fill(one, manifest.tape())
    assert place.files() == {}, "something has its final name before it is verified"
    results = one.compare(claims(manifest))
    assert not list(results.failures())
    one.place(results, one.choose_names())
    one.finish(results)
    assert place.files() == dict(CONTENTS)
    assert one.placed == {index: path for index, (path, _) in enumerate(CONTENTS)}
    assert not place.make(manifest).is_there()


def test_nothing_that_is_there_is_replaced(place):
    for expected in ("study", "study (1)"):
        manifest = manifest_of()
        one = place.begun(manifest)
        fill(one, manifest.tape())
        results = one.compare(claims(manifest))
        renamed = one.choose_names()
        one.place(results, renamed)
        one.finish(results)
        assert set(one.placed.values()) == {
            path.replace("study", expected, 1) for path, _ in CONTENTS
        }
    files = place.files()
    assert files["study/1.dcm"] == files["study (1)/1.dcm"] == CONTENTS[1][1]


def test_ranges_may_come_in_any_order_and_as_holes(place):
    manifest = manifest_of()
    one, tape = place.begun(manifest), manifest_of().tape()
    whole = b"".join(data for _, data in CONTENTS if data)
    start = tape.start(5)
    one.hole(start, 200_000)
    one.write(60_000, whole[60_000:start])
    one.write(0, whole[:60_000])
    one.sync(tape.total)
    one.read_back(tape.total)
    assert not list(one.compare(claims(manifest)).failures())
    one.discard()


def test_what_differs_fails_by_name_and_what_never_came_too(place):
    manifest = manifest_of()
    one, tape = place.begun(manifest), manifest_of().tape()
    one.write(0, b"x" * 70_000)
    one.withdraw(3)
    one.sync(tape.total)
    one.read_back(tape.total)
    failed = dict(one.compare(claims(manifest)).failures())
    assert failed == {1: CHANGED, 3: NOT_WRITTEN, 5: NOT_WRITTEN}
    assert one.gone == [3]
    one.begin(10)  # a session begins before it: it is open again
    assert one.gone == []
    one.discard()


def test_a_later_process_claims_what_is_still_as_it_was_noted(place):
    manifest = manifest_of()
    one, tape = place.begun(manifest), manifest_of().tape()
    fill(one, tape, 100_000)
    tail, mark = one.tail
    assert tail == 100_000
    one.close()
    again = place.make(manifest)
    assert again.is_there()
    again.prepare(again=True)
    assert again.recheck(tail, mark, []) == tail
    again.close()
    other = place.make(manifest)
    other.prepare(again=True)
    assert other.recheck(tail, b"\0" * 32, []) == 0, "damage was claimed"
    other.discard()
    assert not place.make(manifest).is_there()


def test_rechecking_ends_when_told(place):
    manifest = manifest_of()
    one = place.begun(manifest)
    fill(one, manifest.tape(), 100_000)
    with pytest.raises(Failure):
        one.recheck(*one.tail, [], lambda: True)
    one.discard()


def test_somebody_elses_parts_are_not_shared(place):
    manifest = manifest_of()
    one = place.begun(manifest)
    with pytest.raises(Failure) as caught:
        place.make(manifest).prepare()
    assert caught.value.code == "not_writable"
    assert one.takes_data()
    one.discard()


def test_discarding_leaves_nothing(place):
    manifest = manifest_of()
    one = place.begun(manifest)
    fill(one, manifest.tape(), 50_000)
    one.discard()
    assert place.files() == {}
    assert not one.is_there()
