"""Disk: walking, reading, writing, reading back, placing. Real files, real links, real holes."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import shutil
import socket
import stat
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p.protocol.errors import Failure
from p2p.protocol.manifest import (
    CHANGED,
    NOT_PLACED,
    NOT_WRITTEN,
    UNREADABLE,
    Entry,
    Manifest,
    Results,
)
from p2p.protocol.paths import check_tree, escape_segment
from p2p.protocol.sentences import Detail
from p2p.storage import destination as destinations
from p2p.storage import durable, read_back
from p2p.storage.comparison import compare
from p2p.storage.destination import FolderDestination
from p2p.storage.durable import disk_failure
from p2p.storage.listing import check_paths, find_again, walk
from p2p.storage.ports import never
from p2p.storage.read_back import TapeDigest
from p2p.storage.source import FolderSource

TRANSFER = b"\x07" * 16
HEADROOM = 82


@contextmanager
def descriptor_of(path):
    folder = os.open(path, os.O_RDONLY)
    yield folder
    os.close(folder)


def set_mark(monkeypatch, length):
    """Have a running digest noted every so many bytes of tape."""
    for module in (destinations, read_back):
        monkeypatch.setattr(module, "MARK", length)


def listed(*paths, follow=False, strict_names=False):
    warnings = []
    found = walk(
        [str(p) for p in paths],
        follow=follow,
        strict_names=strict_names,
        warn=lambda code, path, detail: warnings.append((os.path.basename(path), code)),
    )
    return found, warnings


def read_all(listing, step=4096):
    """Everything a source gives: blocks, finished entries, withdrawn entries."""
    tape = Manifest(listing.entries, bytes(32)).tape()
    source, offset, blocks = FolderSource(listing, tape, HEADROOM), 0, []
    finished: dict[int, bytes] = {}
    withdrawn: dict[int, int] = {}
    while True:
        block = source.read(offset, step)
        blocks.append(block)
        finished.update(block.finished)
        withdrawn.update(block.withdrawn)
        offset += block.length
        for entry, _ in block.withdrawn:
            offset = max(offset, tape.end(entry))
        if not (block.length or block.finished or block.withdrawn):
            source.close()
            return blocks, finished, withdrawn


@given(
    sizes=st.lists(st.sampled_from([0, 1, 5000, 70_000, 300_000]), min_size=1, max_size=6),
    share=st.floats(0, 1),
    holes=st.booleans(),
    known=st.sets(st.integers(0, 5)),
)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_a_source_takes_up_again_anywhere(tmp_path_factory, sizes, share, holes, known):
    """What is skipped is hashed unless it is known; the rest reads as if from the beginning."""
    root = tmp_path_factory.mktemp("study")
    for number, size in enumerate(sizes):
        path = root / f"{number}"
        if holes and size > 100_000:
            with path.open("wb") as file:
                file.truncate(size)
                file.write(b"head")
        else:
            path.write_bytes(os.urandom(size))
    listing, _ = listed(root)
    tape = Manifest(listing.entries, bytes(32)).tape()
    offset = int(share * tape.total)
    whole = b"".join(path.read_bytes() for path in sorted(root.iterdir()))
    source = FolderSource(listing, tape, HEADROOM)
    block = source.skip(offset, lambda entry: entry in known)
    finished, rest, at = dict(block.finished), b"", offset
    while True:
        block = source.read(at, 65_536)
        rest += bytes(block.length) if block.hole else block.payload
        finished.update(block.finished)
        at += block.length
        if not (block.length or block.finished or block.withdrawn):
            break
    assert rest == whole[offset:]
    for entry, one in enumerate(listing.entries):
        if one.kind == "file":
            digest = hashlib.sha256((root / one.path.split("/")[1]).read_bytes()).digest()
            passed = tape.end(entry) <= offset and tape.start(entry) < offset
            if not (passed and entry in known):
                assert finished[entry] == digest


def test_a_source_that_changed_before_the_place_to_go_on_is_given_up(tmp_path):
    root = tmp_path / "study"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(b"x" * 10_000)
    listing, _ = listed(root)
    (root / "a").write_bytes(b"y" * 10_000)
    (root / "b").unlink()
    source = FolderSource(listing, Manifest(listing.entries, bytes(32)).tape(), HEADROOM)
    assert source.skip(15_000, lambda entry: False).withdrawn == ((1, CHANGED), (2, UNREADABLE))


def destination(tmp_path, entries, digests=None):
    manifest = Manifest(tuple(entries), bytes(32))
    made = FolderDestination(tmp_path / "out", manifest, manifest.tape(), TRANSFER)
    made.check_space()
    made.prepare()
    return made


def results(manifest_entries, contents):
    claimed = Results(len(manifest_entries))
    for index, content in enumerate(contents):
        if content is not None:
            claimed.delivered(index, hashlib.sha256(content).digest())
    return claimed


def settle(made, claimed):
    """Hold against what was read back, place, tidy: (results, what failed on this side)."""
    final = made.compare(claimed)
    made.place(final, made.choose_names())
    made.finish(final)
    return final, [(i, status) for i, status in final.failures() if not claimed[i][0]]


def deliver(made, contents):
    """Write all contents as one stretch of tape, sync, read back, settle."""
    data = b"".join(content or b"" for content in contents)
    for at in range(0, len(data), 1000):
        made.write(at, data[at : at + 1000])
    made.sync(len(data))
    assert made.read_back(len(data)) == len(data)
    return settle(made, results(made._manifest.entries, contents))


class Died(BaseException):
    """The process is gone."""


ENTRIES = [
    Entry("study", "directory", 0, 10**15),
    Entry("study/a", "file", 5, 10**15),
    Entry("study/empty", "file", 0, 10**15),
    Entry("study/deep/b", "file", 3, 10**15),
    Entry("loose", "file", 4, 10**15),
    Entry("nothing", "file", 0, 10**15),
]
CONTENTS = [None, b"aaaaa", b"", b"bbb", b"cccc", b""]


def no_links(*args, **kwargs):
    raise OSError(errno.EPERM, "Operation not permitted")  # as a FAT says it


@pytest.mark.parametrize(
    ("call", "links"),
    [
        *(
            (call, True)
            for call in ("mkdir", "link", "unlink", "utime", "fsync", "open", "rename", "rmdir")
        ),
        *((call, False) for call in ("rename", "open", "unlink", "mkdir")),
    ],
)
def test_whoever_dies_while_names_are_given_finishes_at_the_next_start(
    tmp_path_factory, monkeypatch, call, links
):
    """At every single call of the system: nothing is lost, doubled or replaced."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    died = 0
    for count in range(200):
        tmp_path = tmp_path_factory.mktemp("died")
        made = destination(tmp_path, ENTRIES)
        for taken in ("loose", "study"):
            (tmp_path / "out" / taken).mkdir()
        (tmp_path / "out" / "nothing").write_bytes(b"mine")
        data = b"".join(content or b"" for content in CONTENTS)
        made.write(0, data)
        made.sync(len(data))
        made.read_back(len(data))
        final = made.compare(results(ENTRIES, CONTENTS))
        renamed, left, real = made.choose_names(), count, getattr(os, call)

        def dying(*arguments, real=real, **named):
            nonlocal left
            left -= 1
            if left < 0:
                raise Died
            return real(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, dying)
            try:
                placed = False
                made.place(final, renamed)
                placed = True
                made.finish(final)
            except Died:
                died += 1
        if left >= 0:
            break
        manifest = Manifest(tuple(ENTRIES), bytes(32))
        again = FolderDestination(tmp_path / "out", manifest, manifest.tape(), TRANSFER)
        again.prepare(again=True)
        if not placed:  # else the receipt is signed, and nothing is placed any more
            again.place(final, renamed, again=True)
        again.finish(final)
        assert not list(final.failures())
        found = {
            str(path.relative_to(tmp_path / "out")): path.read_bytes()
            for path in (tmp_path / "out").rglob("*")
            if path.is_file()
        }
        assert found == {
            "study (1)/a": b"aaaaa",
            "study (1)/empty": b"",
            "study (1)/deep/b": b"bbb",
            "loose (1)": b"cccc",
            "nothing": b"mine",
            "nothing (1)": b"",
        }
        assert (tmp_path / "out" / "nothing (1)").stat().st_mtime == 10**9
    assert died, "nothing was interrupted"


@given(
    sizes=st.lists(st.sampled_from([0, 1, 70, 300]), min_size=1, max_size=6),
    tail=st.floats(0, 1),
    damage=st.none() | st.floats(0, 0.999),
)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_only_what_is_as_it_was_noted_is_claimed_after_a_restart(
    tmp_path_factory, monkeypatch, sizes, tail, damage
):
    set_mark(monkeypatch, 64)
    tmp_path = tmp_path_factory.mktemp("recheck")
    entries = [Entry(f"{i}", "file", size, 0) for i, size in enumerate(sizes)]
    manifest = Manifest(tuple(entries), bytes(32))
    marks: list[bytes] = []
    tape, data = manifest.tape(), os.urandom(sum(sizes))

    def marked(index, mark):
        assert index == len(marks)
        marks.append(mark)

    made = FolderDestination(tmp_path / "out", manifest, tape, TRANSFER, marked)
    made.check_space()
    made.prepare()
    made.write(0, data) if data else None
    made.sync(len(data))
    made.read_back(int(tail * len(data)))
    upto, mark = made.tail
    made.close()
    hurt = None if damage is None or not upto else int(damage * upto)
    if hurt is not None:
        entry = tape.entry_at(hurt)
        part = Path(made.where) / f"{entry:08d}"
        content = bytearray(part.read_bytes())
        content[hurt - tape.start(entry)] ^= 1
        part.write_bytes(content)
    again = FolderDestination(tmp_path / "out", manifest, tape, TRANSFER)
    again.prepare(again=True)
    good = again.recheck(upto, mark, marks)
    assert good == (upto if hurt is None else hurt // 64 * 64)
    again.write(good, data[good:]) if data[good:] else None
    again.sync(len(data))
    assert again.read_back(len(data)) == len(data)
    final = again.compare(
        results(entries, [data[tape.start(i) : tape.end(i)] for i in range(len(entries))])
    )
    assert not list(final.failures())
    again.discard()


# --- walking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [100, 250_000, 399_000])  # before, within and after the island
def test_damage_in_a_hole_heals_when_it_comes_again(tmp_path, monkeypatch, where):
    """Its bytes have to be zeros again, though a hole writes nothing."""
    every = 64 * 1024
    set_mark(monkeypatch, every)
    manifest, marks = Manifest((Entry("s", "file", 400_000, 0, 4096),), bytes(32)), []

    def arrive(made, at):
        for begin, end in ((0, 200_000), (200_006, 400_000)):
            if end > at:
                made.hole(max(at, begin), end - max(at, begin))
        if at < 200_006:
            made.write(max(at, 200_000), b"island"[max(0, at - 200_000) :])
        made.sync(400_000)

    def opened(marked=lambda index, mark: None):
        return FolderDestination(tmp_path, manifest, manifest.tape(), TRANSFER, marked)

    made = opened(lambda index, mark: marks.append(mark))
    made.prepare()
    arrive(made, 0)
    made.read_back(390_000)
    upto, mark = made.tail
    made.close()
    with open(Path(made.where) / "00000000", "r+b") as part:
        part.seek(where)
        part.write(b"damage")
    again = opened()
    again.prepare(again=True)
    good = again.recheck(upto, mark, marks)
    assert good == (upto if where > upto else where // every * every)
    arrive(again, good)
    again.read_back(400_000)
    whole = bytes(200_000) + b"island" + bytes(199_994)
    _, refused = settle(again, results(manifest.entries, [whole]))
    assert not refused
    assert (tmp_path / "s").read_bytes() == whole


def test_reading_back_what_is_there_ends_when_told(tmp_path, monkeypatch):
    """And begins anew the next time."""
    set_mark(monkeypatch, 64 * 1024)
    monkeypatch.setattr(read_back, "RECALL_STEP", 1024)
    manifest, marks = Manifest((Entry("a", "file", 300_000, 0),), bytes(32)), []
    content = os.urandom(300_000)
    made = FolderDestination(
        tmp_path, manifest, manifest.tape(), TRANSFER, lambda index, mark: marks.append(mark)
    )
    made.prepare()
    made.write(0, content)
    made.sync(300_000)
    made.read_back(300_000)
    noted = *made.tail, marks
    for patience in range(0, 290, 17):
        left = iter([False] * patience)
        with pytest.raises(Failure) as stopped:
            made.recheck(*noted, partial(next, left, True))
        assert stopped.value.code == "cancelled"
        assert made.tail[0] == patience * 1024
    assert made.recheck(*noted, lambda: False) == 300_000
    _, refused = settle(made, results(manifest.entries, [content]))
    assert not refused


def test_what_is_skipped_of_a_very_large_source_ends_when_told(tmp_path):
    """A hole of a terabyte would take ten minutes to hash."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10**12)
    listing, _ = listed(tmp_path / "huge")
    source = FolderSource(listing, Manifest(listing.entries, bytes(32)).tape(), HEADROOM)
    ends = time.monotonic() + 0.5
    with pytest.raises(Failure) as stopped:
        source.skip(10**12 - 1, lambda entry: False, lambda: time.monotonic() > ends)
    assert stopped.value.code == "cancelled"
    assert time.monotonic() < ends + 2
    source.close()


def test_links_fifos_sockets_and_devices_are_skipped_with_a_listed_warning(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"x")
    (root / "link").symlink_to(root / "file")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
        found, warnings = listed(root)
    assert [entry.path for entry in found.entries] == ["root", "root/file"]
    assert dict(warnings).keys() == {"link", "dangling", "fifo", "socket"}
    warned = []
    with pytest.raises(Failure):
        walk(["/dev/null"], follow=False, warn=lambda code, path, detail: warned.append(code))
    assert warned == ["not_a_file"]


def test_links_are_followed_only_when_asked_and_only_inside_the_root(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    (root / "sub" / "file").write_bytes(b"y")
    (root / "in").symlink_to("sub")
    (root / "out").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "sub" / "loop").symlink_to("..")
    found, warnings = listed(root, follow=True)
    paths = [entry.path for entry in found.entries]
    assert "root/in/file" in paths
    assert not any("secret" in path for path in paths)
    assert {name for name, _ in warnings} == {"out", "up", "loop"}


def test_names_that_are_not_safe_elsewhere_are_escaped_and_listed(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for name in ("scan 12:30.dcm", "CON", "dot.", "fine"):
        (root / name).write_bytes(b"x")
    found, warnings = listed(root)
    assert {entry.path for entry in found.entries} == {
        "root",
        "root/scan 12_30.dcm",
        "root/_CON",
        "root/dot_",
        "root/fine",
    }
    assert len(warnings) == 3


@pytest.mark.parametrize(
    ("original", "sent"),
    [
        (b"M\xfcller.dcm", "M%FCller.dcm"),
        (b"\xff\xfe", "%FF%FE"),
        (b"100 % \xe9", "100 %25 %E9"),
        (b"\xe9" * 200, "%E9" * 85),
        (b"a\xe9.", "a%E9_"),
    ],
)
def test_a_name_that_is_no_text_is_sent_under_another_and_listed(tmp_path, original, sent):
    root = os.fsencode(tmp_path / "root")
    os.mkdir(root)
    with open(root + b"/" + original, "wb") as file:
        file.write(b"x")
    os.mkdir(root + b"/d\xe9")
    with open(root + b"/d\xe9/inside", "wb") as file:
        file.write(b"y")
    found, warnings = listed(tmp_path / "root")
    entries = {entry.path: entry for entry in found.entries}
    assert entries[f"root/{sent}"].original == original
    assert entries["root/d%E9"].original == b"d\xe9"
    assert entries["root/d%E9/inside"].original == b""
    assert [code for _, code in warnings] == ["renamed", "renamed"]
    _, finished, withdrawn = read_all(found)
    assert len(finished) == 2
    assert not withdrawn


def test_what_is_left_out_on_purpose_is_counted_by_its_kind(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"x")
    os.symlink("file", root / "link")
    os.symlink("nowhere", root / "dangling")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    found, _ = listed(root)
    assert found.skipped == {"links": 2, "special": 2}
    assert listed(root / "file")[0].skipped == {}


def no_entry(monkeypatch, *names):
    """As for a user who may not: opening and looking at these is refused."""
    real_open, real_stat = os.open, os.stat

    def refuse(real):
        def call(path, *arguments, **named):
            if os.path.basename(os.fsdecode(path)) in names and (
                real is real_open or named.get("dir_fd") is None or "x" in os.fsdecode(path)
            ):
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, *arguments, **named)

        return call

    monkeypatch.setattr(os, "open", refuse(real_open))
    monkeypatch.setattr(os, "stat", refuse(real_stat))


def test_what_cannot_be_read_fails_by_name_folders_too(tmp_path, monkeypatch):
    """Nothing arrives empty that was not."""
    root = tmp_path / "root"
    for name in ("closed", "open"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_bytes(b"x")
    (root / "fx").write_bytes(b"secret")
    (root / "dx").mkdir()
    with monkeypatch.context() as patch:
        no_entry(patch, "closed", "fx", "dx")  # the last two cannot even be looked at
        found, warnings = listed(root)
        _, finished, withdrawn = read_all(found)
    entries = {entry.path: (index, entry) for index, entry in enumerate(found.entries)}
    kinds = {path: entry.kind for path, (_, entry) in entries.items()}
    assert kinds == {
        "root": "directory",
        "root/closed": "directory",
        "root/dx": "directory",
        "root/fx": "file",
        "root/open": "directory",
        "root/open/file": "file",
    }
    unread = [entries[f"root/{name}"][0] for name in ("closed", "dx", "fx")]
    assert withdrawn == dict.fromkeys(unread, UNREADABLE)
    assert list(finished) == [entries["root/open/file"][0]]
    assert sorted(warnings) == [(name, "unreadable") for name in ("closed", "dx", "fx")]


@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/version", "/proc/cpuinfo"])
def test_a_file_that_is_said_to_be_empty_and_has_content_is_never_read_as_empty(path):
    found, _ = listed(path)
    assert found.entries[0].size == 0
    _, finished, withdrawn = read_all(found)
    assert not finished
    assert withdrawn == {0: UNREADABLE}


def test_an_empty_file_is_read_as_empty(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    _, finished, withdrawn = read_all(listed(tmp_path / "empty")[0])
    assert finished == {0: hashlib.sha256().digest()}
    assert not withdrawn


@pytest.mark.parametrize("where", ["before", "behind"])
def test_an_edit_in_place_whose_time_was_set_back_is_noticed(tmp_path, where):
    """Wherever the reading stands."""
    path = tmp_path / "scan.dcm"
    path.write_bytes(b"a" * 20_000)
    modified = path.stat().st_mtime_ns
    found, _ = listed(path)
    tape = Manifest(found.entries, bytes(32)).tape()
    source = FolderSource(found, tape, HEADROOM)
    source.read(0, 10_000)
    time.sleep(0.02)
    with open(path, "r+b") as file:
        file.seek(0 if where == "behind" else 15_000)
        file.write(b"b" * 10)
    os.utime(path, ns=(modified, modified))
    assert path.stat().st_mtime_ns == modified
    old = hashlib.sha256(b"a" * 20_000).digest()
    assert source.changed(lambda entry: (0, old), never) == [0]
    # What is read now is the beginning of the old and the rest of what is there.
    block = source.read(10_000, 10_000)
    if where == "behind":
        assert block.withdrawn == ((0, CHANGED),)
    else:  # everything read is the new one's, whose digest it gets
        assert block.finished == ((0, hashlib.sha256(path.read_bytes()).digest()),)
    source.close()


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: path.chmod(0o640),
        lambda path: os.link(path, path.with_name("backup")),
        lambda path: os.utime(path, ns=(1, path.stat().st_mtime_ns)),
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("moved")),
        lambda path: path.with_name("new").rename(path),
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_what_is_only_touched_is_delivered(tmp_path, touch, early):
    """By a backup or new permissions, or replaced as a whole: what was read was of one version."""
    path = tmp_path / "scan.dcm"
    path.write_bytes(b"a" * 20_000)
    path.with_name("new").write_bytes(b"b" * 20_000)
    found, _ = listed(path)
    source = FolderSource(found, Manifest(found.entries, bytes(32)).tape(), HEADROOM)
    if early:
        source.read(0, 10_000)
    time.sleep(0.01)
    if early:
        touch(path)
    digest = hashlib.sha256(b"a" * 20_000).digest()
    block = source.read(10_000 * early, 20_000 - 10_000 * early)
    assert block.finished == ((0, digest),)
    if not early:
        touch(path)
    assert source.changed(lambda entry: (0, digest), never) == []
    source.close()
    described = found.sources[0]
    if path.exists() and path.stat().st_ino == described.inode:
        assert find_again(described) == described


def test_a_folder_that_is_swapped_for_a_link_while_it_is_walked_leads_nowhere(
    tmp_path, monkeypatch
):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "a" / "file").write_bytes(b"x")
    for follow in (False, True):
        for moment in range(12):  # after so many looks at the disk
            calls, real = [0], os.stat

            def swapping(path, *arguments, moment=moment, real=real, calls=calls, **named):
                found = real(path, *arguments, **named)
                calls[0] += 1
                if calls[0] == moment and not (root / "a").is_symlink():
                    (root / "a").rename(tmp_path / "moved")
                    (root / "a").symlink_to(outside)
                return found

            with monkeypatch.context() as patch:
                patch.setattr(os, "stat", swapping)
                found, _ = listed(root, follow=follow)
            assert not any("secret" in entry.path for entry in found.entries)
            if (root / "a").is_symlink():
                (root / "a").unlink()
                (tmp_path / "moved").rename(root / "a")


@pytest.mark.parametrize("names", [("a", "A"), ("\u00e9", "e\u0301"), ("x:", "x?")])
def test_names_that_would_fall_together_are_kept_apart(tmp_path, names):
    """And said to be changed, on both sides; or refused, where that is asked for."""
    root = tmp_path / "root"
    root.mkdir()
    for name in names:
        (root / name).write_bytes(name.encode())
    found, warned = listed(root)
    check_tree(one.encoded for one in found.entries)
    kept = {one.original.decode() or one.path.removeprefix("root/") for one in found.entries[1:]}
    assert kept == set(names)
    last = found.entries[-1]
    assert last.path.endswith("~2")
    assert (last.original.decode(), "renamed") in warned
    with pytest.raises(Failure) as caught:
        listed(root, strict_names=True)
    assert caught.value.code in ("name_collision", "name_refused")


def test_a_descriptor_that_is_dead_is_replaced(tmp_path):
    """As all are when the program that serves a share was killed and begun anew; once at a place,
    for a disk may be broken there."""
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    found, _ = listed(tmp_path / "file")
    tape = Manifest(found.entries, bytes(32)).tape()
    source = FolderSource(found, tape, HEADROOM)
    read = bytearray()
    with descriptor_of(tmp_path) as folder:
        while len(read) < len(content):
            block = source.read(len(read), 100_000)
            read += block.message[HEADROOM:]
            if not block.finished:
                os.dup2(folder, source._file)  # nothing can be read from one
        assert block.finished == ((0, hashlib.sha256(content).digest()),)
        assert read == content
        source = FolderSource(found, tape, HEADROOM)
        source.read(0, 100_000)
        os.dup2(folder, source._file)
        (tmp_path / "file").unlink()
        assert source.read(100_000, 100_000).withdrawn == ((0, UNREADABLE),)
    source.close()


def test_two_paths_of_one_base_name_are_refused_by_name(tmp_path):
    for folder in ("1", "2"):
        (tmp_path / folder / "same").mkdir(parents=True)
    with pytest.raises(Failure) as caught:
        check_paths([str(tmp_path / "1" / "same"), str(tmp_path / "2" / "same")])
    assert caught.value.code == "same_name"
    assert "same" in caught.value.sentence


@pytest.mark.parametrize("paths", [[], ["/nonexistent/x"], ["/"]])
def test_nothing_to_send_is_said(paths):
    with pytest.raises(Failure) as caught:
        check_paths(paths)
    assert caught.value.code == "nothing_to_send"


def test_a_path_that_is_too_long_is_refused_by_name(tmp_path):
    deep = tmp_path / "root"
    for _ in range(5):
        deep /= "d" * 220
    deep.mkdir(parents=True)
    with pytest.raises(Failure) as caught:
        listed(tmp_path / "root")
    assert caught.value.code == "name_refused"


def test_a_folder_that_is_too_deep_is_refused_by_name(tmp_path):
    deep = tmp_path / "root"
    for _ in range(100):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(Failure) as caught:
        listed(tmp_path / "root")
    assert caught.value.code == "name_refused"


@pytest.mark.parametrize(
    ("name", "why"), [("\ufdfa" * 24, "name_grows"), ("e" + "\u0301" * 31, "too_many_marks")]
)
def test_a_name_that_is_hard_to_compare_is_refused_by_name(tmp_path, name, why):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / name).write_bytes(b"x")
    with pytest.raises(Failure) as caught:
        listed(tmp_path / "root")
    assert caught.value.code == "name_refused"
    assert Detail(why) in caught.value.detail


def test_walking_stops_when_told(tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(Failure):
        walk([str(tmp_path / "root")], follow=False, warn=lambda *_: None, stopped=lambda: True)


def test_a_dot_means_the_folder_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path / "study")
    assert list(check_paths(["."])) == ["study"]


# --- reading ---------------------------------------------------------------------------------------


def tree(tmp_path, **contents):
    root = tmp_path / "root"
    root.mkdir()
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return root


def test_a_source_reads_the_tape_and_hashes_each_file(tmp_path):
    contents = {"a": b"x" * 10_000, "b": b"", "c": b"y" * 3, "d": os.urandom(5000)}
    found, _ = listed(tree(tmp_path, **contents))
    blocks, finished, withdrawn = read_all(found)
    assert b"".join(block.payload for block in blocks) == b"".join(contents.values())
    assert list(finished.values()) == [hashlib.sha256(c).digest() for c in contents.values()]
    assert not withdrawn
    assert [block.offset for block in blocks if block.length] == [0, 4096, 8192, 12288]


def change(path):
    path.write_bytes(b"other content of this file")


def shrink(path):
    os.truncate(path, 10)


def replace(path):
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.replace(new, path)


def become_a_fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("do", "status"),
    [
        (change, CHANGED),
        (shrink, CHANGED),
        (replace, CHANGED),
        (os.unlink, UNREADABLE),
        (become_a_fifo, CHANGED),
    ],
)
def test_a_file_that_changed_before_it_was_read_is_withdrawn_and_the_others_arrive(
    tmp_path, do, status
):
    root = tree(tmp_path, a=b"a" * 100, b=b"b" * 100, c=b"c" * 100)
    found, _ = listed(root)
    do(root / "b")
    blocks, finished, withdrawn = read_all(found)
    assert withdrawn == {2: status}
    assert set(finished) == {1, 3}
    assert b"".join(block.payload for block in blocks) == b"a" * 100 + b"c" * 100


def test_thousands_that_vanish_are_withdrawn_by_few_blocks(tmp_path):
    """Each is a message to the recipient; what is behind them is sent all the same."""
    names = [f"{number:04d}" for number in range(1000)]
    root = tree(tmp_path, **dict.fromkeys(names, b"x"), y=b"y" * 100)
    found, _ = listed(root)
    for name in names:
        (root / name).unlink()
    blocks, finished, withdrawn = read_all(found)
    assert withdrawn == dict.fromkeys(range(1, 1001), UNREADABLE)
    assert list(finished) == [1001]
    assert b"".join(block.payload for block in blocks) == b"y" * 100
    assert len([block for block in blocks if block.withdrawn]) == 4


@pytest.mark.parametrize(
    "do",
    [
        lambda p: os.truncate(p, 5000),
        lambda p: p.write_bytes(bytes(10_000)),
        lambda p: os.truncate(p, 20_000),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_withdrawn(tmp_path, do):
    root = tree(tmp_path, a=b"a" * 10_000, b=b"b")
    found, _ = listed(root)
    source = FolderSource(found, Manifest(found.entries, bytes(32)).tape(), HEADROOM)
    assert source.read(0, 4096).payload == b"a" * 4096
    do(root / "a")
    gone: list[tuple[int, int]] = []
    for _ in range(5):
        gone += source.read(4096, 4096).withdrawn
    assert gone == [(1, CHANGED)]


def test_a_file_that_is_edited_by_a_memory_mapping_while_it_is_read_is_withdrawn():
    """Its pages are dirty before, so that the edit alone would not move its times."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # has a disk, unlike some /tmp
        root = tree(Path(folder), a=os.urandom(8 * mmap.PAGESIZE))
        with open(root / "a", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:] = bytes(mapped)
            found, _ = listed(root)
            source = FolderSource(found, Manifest(found.entries, bytes(32)).tape(), HEADROOM)
            source.read(0, 4 * mmap.PAGESIZE)
            time.sleep(0.05)  # the system's clock for files has ticks
            for place in (0, -1):  # before and behind where it is read
                mapped[place] ^= 1
            block = source.read(4 * mmap.PAGESIZE, 4 * mmap.PAGESIZE)
            assert (block.finished, block.withdrawn) == ((), ((1, CHANGED),))


def test_holes_are_read_as_holes(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with open(root / "sparse", "wb") as file:
        file.truncate(10_000_000)
        file.seek(4_194_304)
        file.write(b"island")
    found, _ = listed(root)
    assert found.entries[1].data < 100_000
    blocks, finished, _ = read_all(found, 65_536)
    assert sum(block.length for block in blocks if block.hole) > 9_000_000
    assert sum(block.length for block in blocks) == 10_000_000
    assert finished[1] == hashlib.sha256((root / "sparse").read_bytes()).digest()


# --- writing and placing -----------------------------------------------------------------------------


def file(path, content, modified=1_600_000_000_123_456):
    return Entry(path, "file", len(content), modified)


def folder(path, modified=1_500_000_000_000_000):
    return Entry(path, "directory", 0, modified)


def test_everything_gets_its_place_time_and_ordinary_permissions(tmp_path):
    contents = [None, b"x" * 2500, b"", None, b"z"]
    entries = [
        folder("d"),
        file("d/\u00fcn\u00ef.dcm", contents[1]),
        file("d/empty", b""),
        folder("d/none"),
        file("top", b"z"),
    ]
    made = destination(tmp_path, entries)
    assert stat.S_IMODE(Path(made.where).stat().st_mode) == 0o700
    final, refused = deliver(made, contents)
    out = tmp_path / "out"
    assert not refused
    assert not list(final.failures())
    assert (out / "d/\u00fcn\u00ef.dcm").read_bytes() == contents[1]
    assert (out / "d/empty").read_bytes() == b""
    assert (out / "d/none").is_dir()
    assert (out / "top").stat().st_mtime_ns == 1_600_000_000_123_456_000
    assert (out / "d").stat().st_mtime_ns == 1_500_000_000_000_000_000
    assert (out / "top").stat().st_mode & 0o111 == 0
    assert (out / "top").stat().st_nlink == 1
    assert sorted(p.name for p in out.iterdir()) == ["d", "top"]
    assert made.placed == {0: "d", 1: "d/\u00fcn\u00ef.dcm", 2: "d/empty", 3: "d/none", 4: "top"}


def test_nothing_is_ever_overwritten(tmp_path):
    out = tmp_path / "out"
    (out / "d").mkdir(parents=True)
    (out / "d" / "a").write_bytes(b"mine")
    (out / "x.dcm").write_bytes(b"mine")
    (out / "x (1).dcm").write_bytes(b"mine too")
    made = destination(tmp_path, [folder("d"), file("d/a", b"theirs"), file("x.dcm", b"theirs")])
    deliver(made, [None, b"theirs", b"theirs"])
    assert (out / "d" / "a").read_bytes() == b"mine"
    assert (out / "x.dcm").read_bytes() == b"mine"
    assert (out / "d (1)" / "a").read_bytes() == b"theirs"
    assert (out / "x (2).dcm").read_bytes() == b"theirs"
    assert made.placed == {0: "d (1)", 1: "d (1)/a", 2: "x (2).dcm"}


def test_a_symlink_swapped_into_the_destination_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.mkdir()
    made = destination(
        tmp_path, [folder("d"), folder("d/sub"), file("d/sub/a", b"x"), file("b", b"y")]
    )
    made.write(0, b"xy")
    made.sync(2)
    made.read_back(2)
    real_mkdir = os.mkdir

    def swapped(name, *args, **kwargs):
        real_mkdir(name, *args, **kwargs)
        if name == "sub":
            os.rmdir(name, dir_fd=kwargs["dir_fd"])
            os.symlink(victim, name, dir_fd=kwargs["dir_fd"])

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", swapped)
        final, refused = settle(made, results(made._manifest.entries, [None, None, b"x", b"y"]))
    assert refused == [(1, NOT_PLACED), (2, NOT_PLACED)]
    assert not list(victim.iterdir())
    assert (tmp_path / "out" / "b").read_bytes() == b"y"
    assert list(final.failures()) == refused


def test_what_reads_back_otherwise_than_it_was_sent_fails_by_name(tmp_path):
    made = destination(tmp_path, [file("a", b"aaaa"), file("b", b"bbbb")])
    made.write(0, b"aaaabbbb")
    made.sync(8)
    with open(Path(made.where) / "00000000", "r+b") as part:
        part.write(b"X")
    made.read_back(8)
    final, refused = settle(made, results(made._manifest.entries, [b"aaaa", b"bbbb"]))
    assert refused == [(0, CHANGED)]
    assert not (tmp_path / "out" / "a").exists()
    assert (tmp_path / "out" / "b").exists()
    assert list(final.failures()) == refused


def test_a_part_that_vanishes_or_shrinks_is_not_written(tmp_path):
    for damage in (lambda p: p.unlink(), lambda p: os.truncate(p, 1)):
        made = destination(tmp_path, [file("a", b"aaaa"), file("b", b"bbbb")])
        made.write(0, b"aaaabbbb")
        made.sync(8)
        damage(Path(made.where) / "00000000")
        assert made.read_back(6) == 6
        assert made.read_back(8) == 8
        _, refused = settle(made, results(made._manifest.entries, [b"aaaa", b"bbbb"]))
        assert refused == [(0, NOT_WRITTEN)]


def test_a_withdrawn_entry_leaves_nothing_behind(tmp_path):
    made = destination(tmp_path, [file("a", b"aaaa"), file("b", b"bbbb")])
    made.write(0, b"aa")
    made.withdraw(0)
    made.write(4, b"bbbb")
    made.sync(8)
    made.read_back(8)
    claimed = results(made._manifest.entries, [b"aaaa", b"bbbb"])
    claimed.failed(0, CHANGED)
    final, refused = settle(made, claimed)
    assert not refused
    assert list(final.failures()) == [(0, CHANGED)]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b"]


def test_a_hole_stays_a_hole(tmp_path):
    size = 50_000_000
    made = destination(tmp_path, [Entry("s", "file", size, 0, 4096), file("t", b"t")])
    made.hole(0, 20_000_000)
    made.write(20_000_000, b"island")
    made.hole(20_000_006, size - 20_000_006)
    made.write(size, b"t")
    made.sync(size + 1)
    assert made.read_back(size + 1) == size + 1
    whole = bytearray(size)
    whole[20_000_000:20_000_006] = b"island"
    _, refused = settle(made, results(made._manifest.entries, [bytes(whole), b"t"]))
    assert not refused
    assert (tmp_path / "out" / "s").stat().st_blocks * 512 < 1_000_000
    assert (tmp_path / "out" / "s").read_bytes() == whole


def test_more_files_than_may_be_open_are_written(tmp_path):
    contents = [bytes([i % 256]) for i in range(700)]
    made = destination(tmp_path, [file(f"f{i}", c) for i, c in enumerate(contents)])
    _, refused = deliver(made, contents)
    assert not refused
    assert len(list((tmp_path / "out").iterdir())) == 700


def test_a_range_is_durable_only_when_it_was_synced_after_it_was_written(tmp_path, monkeypatch):
    """A sync between choosing the file and writing to it must not count for the write."""
    made = destination(tmp_path, [file("a", b"aaaa"), file("b", b"bbbb")])
    real_pwrite, real_fsync, steps = os.pwrite, os.fsync, []

    def pwrite(*args):
        made.sync(8)
        steps.append("write")
        return real_pwrite(*args)

    def fsync(descriptor):
        steps.append("fsync")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("p2p.storage.parts.MAX_OPEN", 1)
    made.write(0, b"aaaabbbb")
    monkeypatch.setattr(os, "pwrite", real_pwrite)
    made.sync(8)
    assert steps[-1] == "fsync"
    assert steps.count("write") == 2
    made.read_back(8)
    _, refused = settle(made, results(made._manifest.entries, [b"aaaa", b"bbbb"]))
    assert not refused


def test_a_name_of_255_bytes_that_is_taken_gets_a_shorter_one(tmp_path):
    name = "x" * 251 + ".dcm"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    made = destination(tmp_path, [file(name, b"aaaa")])
    _, refused = deliver(made, [b"aaaa"])
    assert not refused
    assert (tmp_path / "out" / ("x" * 247 + " (1).dcm")).read_bytes() == b"aaaa"


def test_what_is_verified_but_has_no_place_is_kept(tmp_path, monkeypatch):
    made = destination(tmp_path, [file("a", b"aaaa"), file("b", b"bbbb")])
    links, opens = os.link, os.open

    def link(source, name, **kwargs):
        if name == "a":
            raise OSError(5, "Input/output error")
        links(source, name, **kwargs)

    def open_(name, *args, **kwargs):
        if name == "a":
            raise OSError(5, "Input/output error")
        return opens(name, *args, **kwargs)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "open", open_)
    _, refused = deliver(made, [b"aaaa", b"bbbb"])
    assert refused == [(0, NOT_PLACED)]
    assert (Path(made.where) / "00000000").read_bytes() == b"aaaa"
    assert (tmp_path / "out" / "b").exists()


def test_the_reserve_is_kept_while_writing_too(tmp_path, monkeypatch):
    """A manifest may say that a file is all holes and then send data."""
    made = destination(tmp_path, [file("a", bytes(3000))])
    monkeypatch.setattr(FolderDestination, "_space", lambda self: (5, 10))
    with pytest.raises(OSError, match="reserve"):
        made.write(0, bytes(3000))
    made.discard()


def test_a_destination_that_is_swapped_on_the_way_is_not_followed(tmp_path):
    made = destination(tmp_path, [file("a", b"aaaa")])
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    deliver(made, [b"aaaa"])
    assert not list((tmp_path / "victim").iterdir())
    assert (tmp_path / "moved" / "a").read_bytes() == b"aaaa"


def test_a_file_system_without_hard_links_is_served_too(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"mine")
    made = destination(tmp_path, [file("a", b"aaaa")])
    monkeypatch.setattr(os, "link", no_links)
    deliver(made, [b"aaaa"])
    assert (tmp_path / "out" / "a").read_bytes() == b"mine"
    assert (tmp_path / "out" / "a (1)").read_bytes() == b"aaaa"


def test_a_time_out_of_range_fails_that_file_only(tmp_path):
    made = destination(tmp_path, [file("a", b"a", modified=2**53 - 1), file("b", b"b")])
    _, refused = deliver(made, [b"a", b"b"])
    assert [entry for entry, _ in refused] in ([], [0])
    assert (tmp_path / "out" / "b").exists()


def test_space_is_checked_and_holes_do_not_count(tmp_path):
    big = Manifest((Entry("a", "file", 2**50, 0),), bytes(32))
    with pytest.raises(Failure) as caught:
        FolderDestination(tmp_path, big, big.tape(), TRANSFER).check_space()
    assert caught.value.code == "no_space"
    assert "GB free" in caught.value.sentence
    sparse = Manifest((Entry("a", "file", 2**50, 0, 4096),), bytes(32))
    FolderDestination(tmp_path, sparse, sparse.tape(), TRANSFER).check_space()


@pytest.mark.parametrize(
    "make", [lambda p: p.write_bytes(b"a file"), lambda p: p.symlink_to("/nonexistent/x")]
)
def test_a_destination_that_is_no_folder_is_said(tmp_path, make):
    make(tmp_path / "out")
    one = Manifest((file("a", b""),), bytes(32))
    with pytest.raises(Failure) as caught:
        FolderDestination(tmp_path / "out", one, one.tape(), TRANSFER).check_space()
    assert caught.value.code == "not_writable"


def test_a_staging_folder_that_is_already_there_is_not_shared(tmp_path):
    made = destination(tmp_path, [file("a", b"")])
    with pytest.raises(Failure):
        made.prepare()
    made.discard()


NAMES = st.text(st.characters(categories=["L", "N"], max_codepoint=0x2000), min_size=1, max_size=8)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(NAMES, st.one_of(st.none(), st.binary(max_size=300)), max_size=8),
    st.integers(1, 200),
)
def test_any_tree_goes_through_unaltered(tmp_path_factory, contents, step):
    tmp_path = tmp_path_factory.mktemp("tree")
    root = tmp_path / "root"
    root.mkdir()
    for name, content in contents.items():
        if content is None:
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).write_bytes(content)
    found, _ = listed(root)
    blocks, finished, _ = read_all(found, step)
    manifest = Manifest(found.entries, bytes(32))
    made = FolderDestination(tmp_path / "out", manifest, manifest.tape(), TRANSFER)
    made.check_space()
    made.prepare()
    for block in blocks:
        made.write(block.offset, block.payload)
    made.sync(manifest.tape().total)
    made.read_back(manifest.tape().total)
    claimed = Results(len(found.entries))
    for entry, digest in finished.items():
        claimed.delivered(entry, digest)
    final, refused = settle(made, claimed)
    assert not refused
    assert not list(compare(tmp_path / "out", made.placed, manifest, final))
    for source in root.rglob("*"):
        names = (escape_segment(one) for one in source.relative_to(root).parts)
        twin = (tmp_path / "out" / "root").joinpath(*names)
        assert twin.is_dir() == source.is_dir()
        assert abs(twin.stat().st_mtime_ns - source.stat().st_mtime_ns) < 1000
        if source.is_file():
            assert twin.read_bytes() == source.read_bytes()
    (tmp_path / "out" / "root" / "extra").mkdir(exist_ok=True)


def test_compare_names_what_is_not_as_it_was(tmp_path):
    entries = [folder("d"), file("d/a", b"a"), file("d/b", b"b"), folder("e"), file("w", b"w")]
    made = destination(tmp_path, entries)
    claimed = results(entries, [None, b"a", b"b", None, b"w"])
    claimed.failed(4, CHANGED)
    made.write(0, b"abw")
    made.sync(3)
    made.read_back(3)
    final, _ = settle(made, claimed)
    out = tmp_path / "out"
    (out / "d" / "a").write_bytes(b"A")
    (out / "d" / "b").unlink()
    (out / "e").rmdir()
    wrong = dict(compare(out, made.placed | {4: "w"}, made._manifest, final))
    assert set(wrong) == {"d/a", "d/b", "e"}


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_compare_neither_waits_for_a_pipe_nor_reads_a_device(tmp_path, put):
    put(tmp_path / "a")
    manifest = Manifest((file("a", b"a"),), bytes(32))
    one = results(list(manifest.entries), [b"a"])
    assert list(compare(tmp_path, {0: "a"}, manifest, one)) == [("a", Detail("no_ordinary_file"))]


@pytest.mark.parametrize("most", [1_000_000, 100_000, 9000])
@pytest.mark.parametrize("direct", [True, False])
def test_reading_back_in_small_pieces_gives_the_same(tmp_path, monkeypatch, most, direct):
    """As over FUSE or a network; and where there are no direct reads."""
    content = os.urandom(3 * read_back.READ_BACK // 2 + 12_345)
    made = destination(tmp_path, [file("a", content), file("b", b"short")])
    made.write(0, content)
    made.write(len(content), b"short")
    made.sync(len(content) + 5)
    real, real_open = os.preadv, os.open

    def preadv(number, buffers, at):
        return real(number, [memoryview(buffers[0])[: most if at % 3 else most // 2]], at)

    def opened(path, flags, *args, **kwargs):
        if not direct and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct reads")
        return real_open(path, flags & ~os.O_DIRECT, *args, **kwargs)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "open", opened)
    assert made.read_back(100_000) == 100_000
    assert made.read_back(len(content) + 5) == len(content) + 5
    both = content, b"short"
    assert made._read_back.digests == {i: hashlib.sha256(c).digest() for i, c in enumerate(both)}


def test_no_more_is_read_back_than_there_is(tmp_path, monkeypatch):
    """Behind a file's end the kernel fills a buffer with zeros: for small files, most of the work."""
    asked = []
    was = durable.read_at

    def counted(file, buffer, offset):
        asked.append(len(buffer))
        return was(file, buffer, offset)

    monkeypatch.setattr(read_back, "read_at", counted)
    both = [b"x" * 5000, os.urandom(read_back.READ_BACK + 1)]
    made = destination(tmp_path, [file(f"{i}", c) for i, c in enumerate(both)])
    made.write(0, b"".join(both))
    made.sync(sum(map(len, both)))
    made.read_back(sum(map(len, both)))
    assert asked == [8192, read_back.READ_BACK, read_back.ALIGNMENT]


def test_a_share_that_goes_away_while_it_is_read_back_is_not_taken_for_a_bad_file(
    tmp_path, monkeypatch
):
    """It is waited for, and what was noted is read again; a file that alone cannot be read fails."""
    data = random.Random(3).randbytes(500_000)
    manifest = Manifest((Entry("a", "file", 200_000, 0), Entry("b", "file", 300_000, 0)), bytes(32))
    marks: list[bytes] = []
    tape = manifest.tape()
    one = FolderDestination(tmp_path, manifest, tape, bytes(16), lambda _, mark: marks.append(mark))
    one.prepare()
    one.begin(0)
    one.write(0, data)
    one.sync(len(data))
    one.read_back(250_000)
    noted = one.tail
    with monkeypatch.context() as until:

        def fail(*args, **kwargs):
            raise OSError(errno.EHOSTDOWN, "the host is down")

        for call in ("preadv", "fsync"):
            until.setattr(os, call, fail)
        with pytest.raises(OSError) as caught:
            one.read_back(len(data))
        assert disk_failure(caught.value).code == "disk_paused"
        assert one.doubtful
        assert not one.takes_data()
    assert one.takes_data()
    assert one.recheck(*noted, marks) == 250_000
    assert not one.doubtful
    one.begin(250_000)
    one.write(250_000, data[250_000:])
    one.sync(len(data))
    assert one.read_back(len(data)) == len(data)
    claimed = Results(2)
    claimed.delivered(0, hashlib.sha256(data[:200_000]).digest())
    claimed.delivered(1, hashlib.sha256(data[200_000:]).digest())
    assert not list(one.compare(claimed).failures())
    one.discard()


def test_a_destination_that_came_back_as_another_file_system_is_opened_anew(tmp_path):
    """As after its server was killed: what was open leads nowhere, and nothing is made in its place."""
    manifest = Manifest((Entry("a", "file", 3, 0),), bytes(32))
    one = FolderDestination(tmp_path, manifest, manifest.tape(), bytes(16))
    one.prepare()
    one.begin(0)
    one.write(0, b"one")
    one.sync(3)
    where, aside = Path(one.where), tmp_path / "aside"
    shutil.copytree(where, aside)
    shutil.rmtree(where)  # so that the descriptors are dead
    assert not one.takes_data()
    assert not where.exists()
    aside.rename(where)
    assert not one.takes_data()  # it is opened now
    assert one.takes_data()
    assert one.doubtful
    one.recheck(0, TapeDigest().mark(), [])
    one.begin(0)
    one.write(0, b"one")
    one.sync(3)
    assert one.read_back(3) == 3
    one.discard()
