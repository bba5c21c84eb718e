"""What labels are taken for, and how they are shown."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import labels

from .vectors import cases

LIKE: dict[str, list[str]] = {}  # character -> what looks like it, or like its other case
for source, target in labels._table().items():
    LIKE.setdefault(target.lower(), []).append(source)
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u17b4\u180b\u200b\u200d\u2060\u3164\ufe0f\ufeff\uffa0\U000e0041"
)
BLANKS = " \u00a0\u2003\u200a\u202f\u2800\u3000\t"
MARKS = "\u0301\u0323\u0335\u20dd"
NAMES = st.text("abdefghijklmnopqrstuvwxyz ABDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1)


@cases("labels")
def test_labels_follow_the_vectors(case):
    if "pair" in case:
        assert labels.alike(*case["pair"]) == case["expect"]
    elif "text" in case:
        assert labels.shown_label(case["text"]) == case["expect"]
    else:
        assert list(labels.skeletons(case["label"])) == case["expect"]


@given(NAMES, st.data())
def test_whatever_imitates_a_name_is_alike(name, data):
    """Each character as it is, in its other case, as one that looks like either; and between them
    what nobody sees."""
    imitation = ""
    for char in name:
        lookalikes = [char, char.swapcase(), *LIKE.get(char.lower(), [])]
        imitation += data.draw(st.sampled_from(BLANKS if char == " " else lookalikes))
        imitation += data.draw(st.sampled_from(["", *INVISIBLE, *MARKS, " "]))
    assert labels.alike(name, imitation)


@given(st.text(max_size=40))
def test_every_label_is_like_itself_and_like_what_is_shown_of_it(label):
    assert labels.alike(label, label)
    assert labels.shown_label(labels.shown_label(label)) == labels.shown_label(label)


@pytest.mark.parametrize("char", INVISIBLE)
def test_what_nobody_sees_is_not_shown(char):
    assert labels.shown_label(f"{char}a{char}b{char}") == "ab"


@given(st.text(st.characters(), max_size=80))
def test_nothing_shown_ends_its_quotation_or_is_unseen(label):
    shown = labels.shown_label(label)
    assert len(shown) <= 64
    assert shown == shown.strip()
    assert "  " not in shown
    assert not set('"\u201c\u201d\u201e\u00ab\u00bb') & set(shown)
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in shown)
    assert not re.search("[\u00a0\u034f\u2800\u3164\ufe0f]", shown)
