"""The hash chain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import audit

from .vectors import cases


@cases("audit")
def test_logs_follow_the_vectors(case):
    lines = [line.encode() for line in case["lines"]]
    if "bad_line" in case["expect"]:
        with pytest.raises(audit.BadLine) as caught:
            audit.verify(lines)
        assert caught.value.number == case["expect"]["bad_line"]
    else:
        assert audit.verify(lines)._asdict() == case["expect"] | {"pruned": 0}


def log(count):
    lines, head = [], audit.GENESIS
    for number in range(1, count + 1):
        lines.append(audit.entry(head, number, "2026-01-02T03:04:05Z", "transfer", {"n": number}))
        head = audit.line_hash(lines[-1][:-1])
    return lines


@given(st.integers(2, 6), st.data())
def test_any_changed_octet_is_found_at_its_line_or_the_next(count, data):
    lines = log(count)
    index = data.draw(st.integers(0, count - 2))
    place = data.draw(st.integers(0, len(lines[index]) - 2))
    changed = bytearray(lines[index])
    changed[place] ^= data.draw(st.integers(1, 255))
    if b"\n" in changed[:-1]:
        return
    with pytest.raises(audit.BadLine) as caught:
        audit.verify([*lines[:index], bytes(changed), *lines[index + 1 :]])
    assert caught.value.number in (index + 1, index + 2)


def test_a_line_tells_its_own_number_where_it_is_an_entry():
    first, second = log(2)[:2]
    assert [audit.sequence(line.removesuffix(b"\n")) for line in (first, second)] == [1, 2]
    for line in (b"", b"{}", b"nonsense", first[:-5]):
        assert audit.sequence(line) is None
