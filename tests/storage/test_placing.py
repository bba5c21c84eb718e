"""Final names: each is this transfer's alone, whatever other programs do at the same time."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.protocol.errors import Failure
from p2p.protocol.manifest import NOT_PLACED, Entry, Manifest, Results
from p2p.storage.destination import FolderDestination
from p2p.storage.durable import disk_failure
from p2p.storage.parts import remove_parts, staging_folder
from p2p.storage.placing import free_names

ENTRIES = (
    Entry("DICOM", "directory", 0, 10**15),
    Entry("DICOM/1.dcm", "file", 3, 10**15),
    Entry("DICOM/series/2.dcm", "file", 3, 10**15),
    Entry("report.pdf", "file", 3, 10**15),
)
OURS = {"1.dcm": b"one", "series/2.dcm": b"two"}


def arrived(out, transfer=bytes(16), entries=ENTRIES, data=b"onetwopdf"):
    """A destination in which everything has arrived, and what became of each entry."""
    import hashlib

    manifest = Manifest(tuple(entries), bytes(32))
    one = FolderDestination(out, manifest, manifest.tape(), transfer)
    one.check_space()
    one.prepare()
    one.begin(0)
    one.write(0, data)
    one.sync(len(data))
    one.read_back(len(data))
    claimed, at = Results(len(entries)), 0
    for index, entry in enumerate(entries):
        if entry.kind == "file":
            digest = hashlib.sha256(data[at : at + entry.size]).digest()
            claimed.delivered(index, digest)
            at += entry.size
    return one, one.compare(claimed)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


# What another program puts under a name that was free when it was chosen.
def a_folder_in_use(path):
    path.mkdir()
    (path / "theirs.dcm").write_bytes(b"theirs")


def a_folder_that_is_used_next(path):
    path.mkdir()


def a_file(path):
    path.write_bytes(b"theirs")


def a_link(path):
    (path.parent / "elsewhere").mkdir(exist_ok=True)
    path.symlink_to("elsewhere")


def a_dangling_link(path):
    path.symlink_to("nowhere")


def a_pipe(path):
    os.mkfifo(path)


OTHERS = [
    a_folder_in_use,
    a_folder_that_is_used_next,
    a_file,
    a_link,
    a_dangling_link,
    a_pipe,
]


@pytest.mark.parametrize("appears", OTHERS)
@pytest.mark.parametrize("name", ["DICOM", "report.pdf"])
def test_what_appears_under_a_chosen_name_is_left_alone_and_the_rest_arrives(
    tmp_path, appears, name
):
    one, results = arrived(tmp_path)
    renamed = one.choose_names()
    appears(tmp_path / name)
    before = (tmp_path / name).lstat()
    one.place(results, renamed)
    if appears is a_folder_that_is_used_next:
        (tmp_path / name / "theirs.dcm").write_bytes(b"theirs")  # it must still be theirs
    after = (tmp_path / name).lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert not list(results.failures())
    folder, report = ("DICOM (1)", "report.pdf") if name == "DICOM" else ("DICOM", "report (1).pdf")
    assert tree(tmp_path / folder) == OURS
    assert (tmp_path / report).read_bytes() == b"pdf"
    assert one.placed == {
        0: folder,
        1: f"{folder}/1.dcm",
        2: f"{folder}/series/2.dcm",
        3: report,
    }
    if (tmp_path / "elsewhere").exists():
        assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("appears", OTHERS)
def test_what_appears_at_the_very_moment_is_left_alone(tmp_path, monkeypatch, appears):
    """Between the making of the name and what comes to lie under it."""
    one, results = arrived(tmp_path)
    renamed, real = one.choose_names(), os.rename
    done: list[bool] = []

    def rename(source, name, **folders):
        if name == "DICOM" and not done and folders["dst_dir_fd"] != folders["src_dir_fd"]:
            done.append(True)
            os.rmdir(tmp_path / "DICOM")
            appears(tmp_path / "DICOM")
        return real(source, name, **folders)

    monkeypatch.setattr(os, "rename", rename)
    one.place(results, renamed)
    assert done
    assert not list(results.failures())
    if appears is not a_folder_that_is_used_next:  # an empty folder is as good as none
        assert tree(tmp_path / "DICOM (1)") == OURS
        if (tmp_path / "DICOM").is_dir():
            assert "1.dcm" not in tree(tmp_path / "DICOM")


def test_a_folder_in_use_before_its_content_is_there_is_nobodys_but_theirs(tmp_path, monkeypatch):
    """Another program may take the empty folder for its own, and write into it."""
    one, results = arrived(tmp_path)
    real = os.mkdir

    def mkdir(name, *arguments, **named):
        real(name, *arguments, **named)
        if name == "DICOM" and (tmp_path / "DICOM").is_dir():
            (tmp_path / "DICOM" / "theirs.dcm").write_bytes(b"theirs")

    monkeypatch.setattr(os, "mkdir", mkdir)
    one.place(results, one.choose_names())
    assert tree(tmp_path / "DICOM") == {"theirs.dcm": b"theirs"}
    assert tree(tmp_path / "DICOM (1)") == OURS


def test_transfers_into_one_folder_at_once_never_share_a_folder(tmp_path):
    """Of two patients, say: 10 at once, each with a folder of the same name."""
    count = 10
    entries = (
        *(Entry(f"DICOM/{n}.dcm", "file", 1, 10**15) for n in range(40)),
        *(Entry(f"A/{n}.dcm", "file", 1, 10**15) for n in range(40)),
    )
    ready = [
        arrived(tmp_path, bytes([number]) * 16, entries, bytes([number]) * 80)
        for number in range(count)
    ]
    chosen = [one.choose_names() for one, _ in ready]
    together = threading.Barrier(count)

    def place(number):
        one, results = ready[number]
        together.wait()
        one.place(results, chosen[number])

    threads = [threading.Thread(target=place, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, results in ready:
        assert not list(results.failures())
        one.finish(results)
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 2 * count
    for folder in folders:
        contents = set(tree(folder).values())
        assert len(contents) == 1, folder
        assert len(tree(folder)) == 40
    for number, (one, _) in enumerate(ready):
        for path in one.placed.values():
            assert (tmp_path / path).read_bytes() == bytes([number])


def test_names_that_a_file_system_takes_for_one_are_not_merged(tmp_path, monkeypatch):
    """One that folds more than the manifest's rule knows: the second has no place, and is kept."""
    entries = (Entry("d/one", "file", 3, 10**15), Entry("d/two", "file", 3, 10**15))
    one, results = arrived(tmp_path, entries=entries, data=b"onetwo")
    real_stat, real_rename = os.stat, os.rename

    def folded(name):
        return "one" if name == "two" else name

    monkeypatch.setattr(os, "stat", lambda name, **named: real_stat(folded(name), **named))
    monkeypatch.setattr(
        os, "rename", lambda source, name, **named: real_rename(source, folded(name), **named)
    )
    one.place(results, {})
    monkeypatch.undo()
    assert list(results.failures()) == [(1, NOT_PLACED)]
    assert tree(tmp_path / "d") == {"one": b"one"}
    one.finish(results)
    assert (Path(one.where) / "00000001").read_bytes() == b"two"


@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
    .map(lambda name: name * (250 // len(name) + 1))
    .map(lambda name: name.encode()[:255].decode(errors="ignore")),
    at=st.integers(0, 255),
    directory=st.booleans(),
)
@settings(max_examples=300)
def test_a_numbered_name_always_fits_and_is_another(name, at, directory):
    """Wherever its ending begins."""
    name = (name[:at] + "." + name[at:]).encode()[:255].decode(errors="ignore")
    found = [
        one for one, _ in zip(free_names(name, directory=directory), range(1000), strict=False)
    ]
    assert len(set(found)) == len(found) == 1000
    assert all(0 < len(one.encode()) <= 255 for one in found)


def test_a_name_that_is_all_ending_is_numbered_too(tmp_path):
    name = "a." + "x" * 253
    (tmp_path / name).write_bytes(b"mine")
    entries = (Entry(name, "file", 3, 10**15), Entry("other", "file", 3, 10**15))
    one, results = arrived(tmp_path, entries=entries, data=b"onetwo")
    one.place(results, one.choose_names())
    assert not list(results.failures())
    assert (tmp_path / name).read_bytes() == b"mine"
    assert (tmp_path / one.placed[0]).read_bytes() == b"one"
    assert (tmp_path / "other").read_bytes() == b"two"


# --- what is ours ---------------------------------------------------------------------------------


def swapped_for_a_link(part):
    part.rename(part.with_name("moved"))
    part.symlink_to("moved")


def with_a_second_name(part):
    os.link(part, part.with_name("second"))


def swapped_for_a_pipe(part):
    part.unlink()
    os.mkfifo(part)


def somebody_elses(part):
    os.chown(part, 12345, 12345)


@pytest.mark.parametrize(
    "done", [swapped_for_a_link, with_a_second_name, swapped_for_a_pipe, somebody_elses]
)
def test_a_part_that_somebody_else_has_is_not_written_nor_taken_for_ours(tmp_path, done):
    manifest = Manifest((Entry("a", "file", 4, 10**15),), bytes(32))
    one = FolderDestination(tmp_path, manifest, manifest.tape(), bytes(16))
    one.prepare()
    one.write(0, b"aa")
    one.sync(2)
    one.close()
    done(Path(one.where) / "00000000")
    one = FolderDestination(tmp_path, manifest, manifest.tape(), bytes(16))
    one.prepare(again=True)
    with pytest.raises(OSError) as caught:
        one.write(2, b"aa")
    assert caught.value.errno in (errno.EPERM, errno.ELOOP)
    assert one.read_back(2) in (0, 2)
    assert not one._read_back.digests
    one.close()


def as_somebody_else(folder):
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


def open_to_all(folder):
    folder.mkdir()
    folder.chmod(0o777)


def a_link_elsewhere(folder):
    target = folder.with_name("victim")
    target.mkdir()
    (target / "precious").write_bytes(b"precious")
    folder.symlink_to(target)


@pytest.mark.parametrize("made", [as_somebody_else, open_to_all, a_link_elsewhere])
def test_a_folder_of_parts_that_somebody_else_made_is_not_used_nor_removed(tmp_path, made):
    manifest = Manifest((Entry("a", "file", 4, 10**15),), bytes(32))
    where = staging_folder(tmp_path, bytes(16))
    made(where)
    (where / "theirs").write_bytes(b"theirs")
    one = FolderDestination(tmp_path, manifest, manifest.tape(), bytes(16))
    with pytest.raises(Failure) as caught:
        one.prepare(again=True)
    assert caught.value.code in ("parts_foreign", "not_writable")
    one.discard()
    assert not remove_parts(where)
    assert (where / "theirs").read_bytes() == b"theirs"


def test_parts_of_our_own_are_removed(tmp_path):
    one, _ = arrived(tmp_path)
    one.close()
    where = Path(one.where)
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert remove_parts(where)
    assert not where.exists()
    assert remove_parts(where)


def test_what_is_discarded_is_what_was_made_whatever_its_path_leads_to_now(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    one, _ = arrived(out)
    moved = tmp_path / "moved"
    out.rename(moved)
    victim = out / Path(one.where).name
    victim.mkdir(parents=True)
    (victim / "precious").write_bytes(b"precious")
    one.discard()
    assert (victim / "precious").read_bytes() == b"precious"
    assert not list(moved.iterdir())


# --- the reserve ----------------------------------------------------------------------------------


@given(
    free=st.integers(0, 4 * 10**9),
    steps=st.lists(st.integers(1, 8 * 1024**2), min_size=1, max_size=300),
    others=st.integers(0, 1024**2),
)
@settings(max_examples=200)
def test_the_reserve_holds_at_every_moment(free, steps, others):
    """Whatever the manifest says of holes; other programs write `others` bytes each time."""
    reserve = 290_000_000
    manifest = Manifest((Entry("a", "file", 2**40, 0, 0),), bytes(32))
    one = FolderDestination(Path("/nowhere"), manifest, manifest.tape(), bytes(16))
    disk = {"free": free}
    one._space = lambda: (disk["free"], reserve)  # type: ignore[method-assign]
    for step in steps:
        try:
            one._keep_reserve(step)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return
        disk["free"] -= step + others
        assert disk["free"] >= reserve - others * 64


# --- found by a review


def test_an_empty_file_of_another_program_is_not_taken_for_ours_when_placing_goes_on(
    tmp_path, monkeypatch
):
    """After a pause for a full disk, say."""
    one, results = arrived(tmp_path)
    renamed, real = one.choose_names(), os.link

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(OSError, match="space"):
            one.place(results, renamed)
    with open(tmp_path / "report.pdf", "w") as theirs:
        one.place(results, renamed, again=True)
        theirs.write("theirs")
    assert (tmp_path / "report.pdf").read_text() == "theirs"
    assert (tmp_path / "report (1).pdf").read_bytes() == b"pdf"
    assert os.link is real


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_claim_of_before_a_crash_is_taken_up_whatever_the_umask(tmp_path, monkeypatch, umask):
    class Died(BaseException):
        """The process is gone."""

    def dying(source, name, **folders):
        if folders["dst_dir_fd"] != folders["src_dir_fd"] and name == "DICOM":
            raise Died
        return real(source, name, **folders)

    real, before = os.rename, os.umask(umask)
    try:
        one, results = arrived(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", dying)
            with pytest.raises(Died):
                one.place(results, {})
        one.close()
        manifest = Manifest(ENTRIES, bytes(32))
        again = FolderDestination(tmp_path, manifest, manifest.tape(), bytes(16))
        again.prepare(again=True)
        again.place(results, {}, again=True)
        again.finish(results)
    finally:
        os.umask(before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DICOM", "report.pdf"]


def test_what_is_in_the_tree_counts_as_held(tmp_path):
    one, results = arrived(
        tmp_path, entries=[Entry("d/a", "file", 200_000, 0)], data=bytes(200_000)
    )
    before = one._parts.held()
    one.place(results, {})
    one.finish(results)
    one, results = arrived(
        tmp_path, entries=[Entry("d/a", "file", 200_000, 0)], data=bytes(200_000)
    )
    (Path(one.where) / "tree" / "d").mkdir(parents=True)
    (Path(one.where) / "00000000").rename(Path(one.where) / "tree" / "d" / "a")
    assert one._parts.held() >= before - 8192
    one.discard()


def refuse(monkeypatch, name, number, when=lambda *args: True):
    """A call of the system fails in this way, as on a share that does not have it."""
    real = getattr(os, name)

    def call(*args, **kwargs):
        if when(*args):
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def is_part(*args):
    return str(args[0]).isdigit()


ANY = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO, errno.EINVAL)
LINKS = (*ANY, errno.EXDEV, errno.ENOTTY, errno.EMLINK)


@pytest.mark.parametrize("number", ANY)
@pytest.mark.parametrize("call", ["fchmod", "utime"])
def test_what_a_share_does_not_let_be_set_is_left(tmp_path, monkeypatch, call, number):
    """Permissions and times cost no file its place; somebody is told."""
    one, results = arrived(tmp_path)
    assert not one.refused
    refuse(monkeypatch, call, number)
    one.place(results, one.choose_names())
    assert not list(results.failures())
    assert tree(tmp_path / "DICOM") == OURS
    assert (tmp_path / "report.pdf").read_bytes() == b"pdf"
    assert one.refused


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("number", LINKS)
def test_without_links_a_file_is_renamed_and_without_that_copied(
    tmp_path, monkeypatch, number, moved
):
    one, results = arrived(tmp_path)
    refuse(monkeypatch, "link", number)
    if not moved:
        refuse(monkeypatch, "rename", number, is_part)
    one.place(results, one.choose_names())
    assert not list(results.failures())
    one.finish(results)
    assert tree(tmp_path / "DICOM") == OURS
    assert (tmp_path / "report.pdf").read_bytes() == b"pdf"
    assert {path.name for path in tmp_path.iterdir()} == {"DICOM", "report.pdf"}
    times = {path.stat().st_mtime for path in tmp_path.rglob("*.*") if path.is_file()}
    assert times == {1e9}


def test_a_copy_that_is_not_what_was_verified_is_not_left_in_its_place(tmp_path, monkeypatch):
    """Nor one that the disk cut off: the part is kept, and nothing else bears its name."""
    one, results = arrived(tmp_path)
    refuse(monkeypatch, "link", errno.EPERM)
    refuse(monkeypatch, "rename", errno.EXDEV, is_part)
    copy = shutil.copyfileobj

    def spoil(content, made, length):
        if content.name == "00000002":
            made.write(b"tw?")
        elif content.name == "00000003":
            raise OSError(errno.EIO, "the disk failed")
        else:
            copy(content, made, length)

    monkeypatch.setattr(shutil, "copyfileobj", spoil)
    one.place(results, one.choose_names())
    assert [index for index, _ in results.failures()] == [2, 3]
    assert tree(tmp_path / "DICOM") == {"1.dcm": b"one"}
    assert not (tmp_path / "report.pdf").exists()
    one.finish(results)
    kept = staging_folder(tmp_path, bytes(16))
    assert [(kept / name).read_bytes() for name in ("00000002", "00000003")] == [b"two", b"pdf"]


def test_where_nobody_may_delete_all_gets_its_place(tmp_path, monkeypatch):
    one, results = arrived(tmp_path)
    refuse(monkeypatch, "unlink", errno.EPERM)
    one.place(results, one.choose_names())
    assert not list(results.failures())
    assert tree(tmp_path / "DICOM") == OURS
    assert (tmp_path / "report.pdf").read_bytes() == b"pdf"


def test_a_copy_that_a_crash_cut_off_is_made_again_under_its_own_name(tmp_path, monkeypatch):
    one, results = arrived(tmp_path)
    renamed = one.choose_names()
    real = shutil.copyfileobj

    def crash(content, made, length):
        made.write(content.read(2))
        made.flush()
        raise KeyboardInterrupt

    with monkeypatch.context() as until:
        refuse(until, "link", errno.EPERM)
        refuse(until, "rename", errno.EXDEV, lambda name, *_: name == "00000003")
        until.setattr(shutil, "copyfileobj", crash)
        with pytest.raises(KeyboardInterrupt):
            one.place(results, renamed)
    assert shutil.copyfileobj is real
    one.close()
    again = FolderDestination(tmp_path, one._manifest, one._tape, bytes(16))
    again.prepare(again=True)
    again.place(results, renamed, again=True)
    assert not list(results.failures())
    again.finish(results)
    assert (tmp_path / "report.pdf").read_bytes() == b"pdf"
    assert {path.name for path in tmp_path.iterdir()} == {"DICOM", "report.pdf"}


def test_a_file_system_that_tells_no_sizes_is_not_taken_for_a_full_one(tmp_path, monkeypatch):
    """As FUSE file systems without `statfs` answer."""
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 0))
    one, results = arrived(tmp_path)
    assert one.takes_data()
    one.place(results, one.choose_names())
    assert not list(results.failures())


def is_folder(*args):
    """A folder of the tree, on its way to its final name."""
    return args[0] == "DICOM"


FOLDERS = (*ANY, errno.EXDEV, errno.ENOTTY)


@pytest.mark.parametrize("number", FOLDERS)
@pytest.mark.parametrize("links", [True, False])
def test_where_no_folder_can_be_moved_it_is_filled(tmp_path, monkeypatch, number, links):
    (tmp_path / "DICOM").mkdir()
    (tmp_path / "DICOM" / "theirs").write_bytes(b"theirs")
    one, results = arrived(tmp_path)
    refuse(monkeypatch, "rename", number, is_folder)
    if not links:
        refuse(monkeypatch, "link", number)
    one.place(results, one.choose_names())
    assert not list(results.failures())
    one.finish(results)
    assert tree(tmp_path / "DICOM (1)") == OURS
    assert tree(tmp_path / "DICOM") == {"theirs": b"theirs"}
    assert {path.name for path in tmp_path.iterdir()} == {"DICOM", "DICOM (1)", "report.pdf"}
    files = [path for path in (tmp_path / "DICOM (1)").rglob("*") if path.is_file()]
    assert {path.stat().st_mtime for path in files} == {1e9}
    assert stat.S_IMODE((tmp_path / "DICOM (1)").stat().st_mode) & 0o055
    assert (tmp_path / "DICOM (1)").stat().st_mtime == 1e9


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_that_a_crash_left_half_filled_is_filled_on(tmp_path, monkeypatch, links):
    one, results = arrived(tmp_path)
    renamed = one.choose_names()
    with monkeypatch.context() as until:
        refuse(until, "rename", errno.EXDEV, is_folder)
        if not links:
            refuse(until, "link", errno.EPERM)
        count = 0

        def crash(*args, **kwargs):
            nonlocal count
            count += 1
            if count == 2:
                raise KeyboardInterrupt

        until.setattr("p2p.storage.filling.check_digest" if not links else "os.unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            one.place(results, renamed)
    one.close()
    again = FolderDestination(tmp_path, one._manifest, one._tape, bytes(16))
    again.prepare(again=True)
    refuse(monkeypatch, "rename", errno.EXDEV, is_folder)
    again.place(results, renamed, again=True)
    assert not list(results.failures())
    again.finish(results)
    assert tree(tmp_path / "DICOM") == OURS
    assert {path.name for path in tmp_path.iterdir()} == {"DICOM", "report.pdf"}


def test_what_somebody_else_puts_into_a_folder_that_is_filled_is_left_alone(tmp_path, monkeypatch):
    one, results = arrived(tmp_path)

    def theirs(name, *_):
        if is_folder(name):
            (tmp_path / "DICOM" / "1.dcm").write_bytes(b"theirs")
        return is_folder(name)

    refuse(monkeypatch, "rename", errno.EXDEV, theirs)
    one.place(results, one.choose_names())
    assert (tmp_path / "DICOM" / "1.dcm").read_bytes() == b"theirs"
    assert {index for index, _ in results.failures()} >= {1}
    assert (tmp_path / "report.pdf").read_bytes() == b"pdf"


@pytest.mark.parametrize("number", [errno.EHOSTDOWN, errno.ENOTCONN, errno.EACCES, errno.ENOENT])
def test_a_share_that_goes_away_while_names_are_given_costs_no_place(tmp_path, monkeypatch, number):
    """It is waited for; then all is placed."""
    one, results = arrived(tmp_path)
    renamed = one.choose_names()
    with monkeypatch.context() as until:
        for call in ("rename", "link", "fsync"):
            refuse(until, call, number)
        with pytest.raises(OSError) as caught:
            one.place(results, renamed)
        assert disk_failure(caught.value).code == "disk_paused"
        assert not list(results.failures())
        assert not one.takes_data()
    assert one.takes_data()
    one.place(results, renamed, again=True)
    one.finish(results)
    assert tree(tmp_path / "DICOM") == OURS
    assert {path.name for path in tmp_path.iterdir()} == {"DICOM", "report.pdf"}


def test_where_nobody_may_delete_a_disk_still_is_known_to_take_data(tmp_path, monkeypatch):
    one, _ = arrived(tmp_path)
    refuse(monkeypatch, "unlink", errno.EPERM)
    assert one.takes_data()
    assert one.takes_data()


def test_what_somebody_else_put_there_is_not_taken_for_a_copy_of_ours_later(tmp_path, monkeypatch):
    """By a file system without links, where it is tried again after a pause."""
    one, results = arrived(tmp_path)
    renamed = one.choose_names()

    def theirs(name, *_):
        if is_folder(name):
            (tmp_path / "DICOM" / "1.dcm").write_bytes(b"theirs")
        return is_folder(name)

    refuse(monkeypatch, "link", errno.EPERM)
    refuse(monkeypatch, "rename", errno.EXDEV, theirs)
    again = Results.recall(results.encode(), len(ENTRIES))
    one.place(results, renamed)
    one.place(again, renamed, again=True)
    assert (tmp_path / "DICOM" / "1.dcm").read_bytes() == b"theirs"
