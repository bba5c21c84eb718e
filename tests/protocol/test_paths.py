"""The rule for names, and showing them."""

from __future__ import annotations

import tracemalloc
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import paths

from .vectors import cases

ANY = st.text(st.characters(), max_size=40)


@cases("paths")
def test_names_follow_the_vectors(case):
    if "pair" in case:
        one, other = map(paths.collision_key, case["pair"])
        assert (one == other) == case["expect"]
    elif "found" in case:
        names = paths.FolderNames()
        kept = [names.add(one.rstrip("/"), directory=one[-1] == "/") for one in case["found"]]
        assert kept == case["expect"]
        assert len(set(map(paths.check_segment, kept))) == len(kept)
    elif "text" in case:
        assert paths.shown(case["text"]) == case["expect"]
    elif isinstance(case["expect"], dict):
        with pytest.raises(paths.UnsafePath):
            paths.escape_segment(case["segment"])
    else:
        assert paths.escape_segment(case["segment"]) == case["expect"]


@given(ANY)
def test_what_is_escaped_is_safe_and_escaping_again_changes_nothing(name):
    try:
        safe = paths.escape_segment(name)
    except paths.UnsafePath:
        return
    paths.check_segment(safe)
    assert paths.escape_segment(safe) == safe


@given(ANY)
def test_a_safe_path_stays_below_its_root(path):
    try:
        paths.check_tree([path.encode()])
    except (paths.UnsafePath, UnicodeEncodeError):
        return
    assert all(
        part not in ("", ".", "..") and "\\" not in part
        for part in path.removesuffix("/").split("/")
    )


@pytest.mark.parametrize(
    "path",
    [
        "/".join(["a"] * 65),
        "/".join(["x" * 200] * 6),
        "",
        "a//b",
        "/",
        "/a",
        "d//",
        "e" + "\u0301" * 31,
        "\ufdfa" * 24,
    ],
)
def test_long_deep_and_broken_paths_are_refused(path):
    with pytest.raises(paths.UnsafePath) as caught:
        paths.check_tree([b"0", path.encode(), b"z"])
    assert caught.value.path == path


def test_half_a_character_is_no_name():
    with pytest.raises(paths.UnsafePath):
        paths.check_segment("\ud800")


def test_marks_are_counted_by_their_category_and_in_a_row():
    every = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"]
    for mark in every[:: len(every) // 50]:
        paths.check_segment("x" + mark * 30)
        with pytest.raises(paths.UnsafePath, match="too_many_marks"):
            paths.check_segment("x" + mark * 31)
    # In one run with 40 signs, but no 31 in a row.
    paths.check_segment(("\u0301" * 10 + "\u00a1") * 4 + "\u00a1" * 36)


@given(st.text(st.characters(), max_size=100))
def test_nothing_shown_can_move_the_cursor_or_turn_the_text(text):
    shown = paths.shown(text)
    assert len(shown) <= paths.MAX_SHOWN
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)


@pytest.mark.parametrize(
    ("tree", "pair"),
    [
        ("a b", None),
        ("d/ d/a d/b e/x", None),
        ("d/a d/", None),
        ("d/ d! d/a d- d/b", None),
        ("a A", ("A", "a")),
        ("A/x a/y", ("A", "a")),
        ("a a/b", ("a", "a")),
        ("a/b a", ("a", "a")),
        ("a a! a/b", ("a", "a")),
        ("a a", ("a", "a")),
        ("a a/", ("a", "a")),
        ("d/ d/", ("d", "d")),
        ("d/e/F/x d/e/f", ("d/e/F", "d/e/f")),
        ("\u00e9 e\u0301", ("e\u0301", "\u00e9")),
        ("\ufb01le file", ("file", "\ufb01le")),
        ("a\uff0fb a/b", None),  # no file system takes the one for the other
    ],
)
def test_collisions_are_found(tree, pair):
    try:
        paths.check_tree(path.encode() for path in tree.split())
    except paths.NamesCollide as caught:
        assert caught.pair == pair
    else:
        assert pair is None


def whole_paths_collide(tree):
    """The rule of PROTOCOL.md, word for word: every parent and path, each by its own whole key."""
    kinds: dict[str, set[str]] = {}
    for path in tree:
        named = path.removesuffix("/")
        parts = named.split("/")
        for end in range(1, len(parts)):
            kinds.setdefault("/".join(parts[:end]), set()).add("implied directory")
        kind = "directory" if path.endswith("/") else "file"
        if kind in kinds.setdefault(named, set()):
            return True  # listed twice
        kinds[named].add(kind)
    if any("file" in found and len(found) > 1 for found in kinds.values()):
        return True
    keys = [tuple(map(paths.collision_key, path.split("/"))) for path in kinds]
    return any(one == other for one, other in pairwise(sorted(keys)))


SEGMENT = st.sampled_from(["a", "A", "b", "a!", "\u00e9", "e\u0301", "\ufb01", "Fi", "\uff21"])
TREE = st.lists(
    st.tuples(st.lists(SEGMENT, min_size=1, max_size=4).map("/".join), st.sampled_from(["", "/"])),
    max_size=7,
).map(lambda all_of_it: ["".join(one) for one in all_of_it])


@given(TREE)
def test_trees_collide_as_whole_paths_do(tree):
    try:
        paths.check_tree(path.encode() for path in tree)
    except paths.NamesCollide as caught:
        assert whole_paths_collide(tree)
        one, other = caught.pair
        assert paths.collision_key(one) == paths.collision_key(other)
    else:
        assert not whole_paths_collide(tree)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=10))
def test_a_name_collides_with_itself_however_it_is_normalised(name):
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        normal = unicodedata.normalize(form, name)
        assert paths.collision_key(normal) == paths.collision_key(name)


def test_each_name_is_looked_at_once(monkeypatch):
    """However many paths lead through it, and in whatever order they are listed."""
    looked_at = []
    real = paths.check_segment

    def counting(name):
        looked_at.append(name)
        return real(name)

    monkeypatch.setattr(paths, "check_segment", counting)
    deep = ["/".join(f"{top}{depth}" for depth in range(60)) for top in "ab"]
    paths.check_tree(f"{deep[i % 2]}/{i}".encode() for i in range(1000))
    assert len(looked_at) == len(set(looked_at)) == 2 * 60 + 1000


def test_a_tree_takes_little_memory_for_each_name(monkeypatch):
    """Whatever its names grow to, and however deep they lie."""
    grown = [f"{i:05}{chr(0xFDFA) * 22}/{i:05}".encode() for i in range(5000)]
    deep = ["/".join([f"{i:08}" * 10] * 10).encode() for i in range(1000)]
    for tree, names in (grown, 10_000), (deep, 10_000):
        tracemalloc.start()
        try:
            paths.check_tree(tree)
            assert tracemalloc.get_traced_memory()[1] < names * 300
        finally:
            tracemalloc.stop()


def test_what_is_slow_to_normalize_is_bounded(monkeypatch):
    """Each name by itself is within every limit: 200,000 of them took 6 s."""
    monkeypatch.setattr(paths, "MAX_NON_ASCII", 40)
    paths.check_tree(["ä".encode() * 10 + b"a" * 100 + b"/b", b"c/" + "一".encode() * 6])
    paths.check_tree(["ä".encode() * 20 + b"/" + b"%d" % number for number in range(9)])
    with pytest.raises(paths.TooManyNames):
        paths.check_tree(["ä".encode() * 10, "ö".encode() * 10 + b"/b", "é".encode()])


def test_folders_that_paths_imply_count_as_names(monkeypatch):
    monkeypatch.setattr(paths, "MAX_NAMES", 10)
    paths.check_tree([b"a/b/c/d", b"a/b/c/e", b"a/b/f/g/h", b"a/i", b"a/"])
    with pytest.raises(paths.TooManyNames):
        paths.check_tree([b"a/b/c/d", b"a/b/c/e", b"a/b/f/g/h", b"a/i", b"a/", b"j/k"])
