"""The rule for names, and showing them."""

from __future__ import annotations

import unicodedata

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
        segments = paths.check_path(path)
    except paths.UnsafePath:
        return
    assert "/".join(segments) == path
    assert all(
        part not in ("", ".", "..") and "/" not in part and "\\" not in part for part in segments
    )
    assert not path.startswith("/")


@pytest.mark.parametrize(
    "path", ["/".join(["a"] * 65), "/".join(["x" * 200] * 6), "\ud800", "a//b"]
)
def test_long_deep_and_broken_paths_are_refused(path):
    with pytest.raises(paths.UnsafePath):
        paths.check_path(path)


@given(st.text(st.characters(), max_size=100))
def test_nothing_shown_can_move_the_cursor_or_turn_the_text(text):
    shown = paths.shown(text)
    assert len(shown) <= paths.MAX_SHOWN
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)


@pytest.mark.parametrize(
    ("entries", "pairs"),
    [
        ([("a", False), ("b", False)], []),
        ([("d", True), ("d/a", False), ("d/b", False), ("e/x", False)], []),
        ([("d/a", False), ("d", True)], []),
        ([("a", False), ("A", False)], [("a", "A")]),
        ([("A/x", False), ("a/y", False)], [("A", "a")]),
        ([("a", False), ("a/b", False)], [("a", "a")]),
        ([("a/b", False), ("a", False)], [("a", "a")]),
        ([("a", False), ("a", False)], [("a", "a")]),
        ([("d", True), ("d", True)], [("d", "d")]),
        ([("\u00e9", False), ("e\u0301", False)], [("\u00e9", "e\u0301")]),
        ([("\ufb01le", False), ("file", False)], [("\ufb01le", "file")]),
    ],
)
def test_collisions_are_found(entries, pairs):
    assert paths.collisions(entries) == pairs


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "A", "b", "a/x", "A/y", "b/x"]), st.booleans()), max_size=6
    )
)
def test_collisions_are_a_matter_of_keys(entries):
    """No pair means: a file system that folds case could hold them all."""
    if paths.collisions(entries):
        return
    keys = [paths.collision_key(path) for path, _ in entries]
    assert len(set(keys)) == len(keys)
