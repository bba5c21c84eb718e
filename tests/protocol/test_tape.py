"""The address space and the frontier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.errors import PeerError
from p2p.protocol.tape import MAX_PENDING, Frontier, Tape

SIZES = st.lists(st.integers(0, 20), max_size=12)


@given(SIZES, st.data())
def test_pieces_cover_a_range_exactly_once(sizes, data):
    tape = Tape(sizes)
    assert tape.total == sum(sizes)
    offset = data.draw(st.integers(0, tape.total))
    length = data.draw(st.integers(0, tape.total - offset))
    at = offset
    for piece in tape.pieces(offset, length):
        assert piece.length > 0
        assert tape.start(piece.entry) + piece.offset == at
        assert at + piece.length <= tape.end(piece.entry)
        assert tape.entry_at(at) == piece.entry
        at += piece.length
    assert at == offset + length


def test_entries_of_size_0_are_passed_over():
    assert [piece.entry for piece in Tape([0, 2, 0, 0, 3, 0]).pieces(0, 5)] == [1, 4]
    assert list(Tape([0, 2]).pieces(1, 0)) == []


def test_sizes_that_add_up_to_too_much_are_refused():
    with pytest.raises(PeerError):
        Tape([2**53 - 1, 1])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_the_frontier_is_the_longest_whole_beginning(lengths, random):
    cuts, at = [], 0
    for length in lengths:
        cuts.append((at, at + length))
        at += length
    order = cuts[:]
    random.shuffle(order)
    frontier, have = Frontier(), set()
    for start, end in order:
        assert not frontier.holds(start, end)
        frontier.add(start, end)
        assert frontier.holds(start, end)
        have |= set(range(start, end))
        whole = next(i for i in range(at + 1) if i not in have)
        assert frontier.offset == whole


@given(SIZES, st.integers(1, 4), st.data())
def test_portions_make_the_range_and_touch_few_entries(sizes, entries, data):
    tape = Tape(sizes)
    start = data.draw(st.integers(0, tape.total))
    end = data.draw(st.integers(start, tape.total))
    found = list(tape.portions(start, end - start, entries))
    assert [at for at, _ in found] == [start, *[to for _, to in found]][: len(found)]
    assert (found[-1][1] if found else start) == end
    for at, to in found:
        assert len(list(tape.pieces(at, to - at))) <= entries


def test_part_of_a_range_may_be_there_before_the_whole():
    frontier = Frontier()
    frontier.add(10, 20)
    frontier.advance(4)
    frontier.advance(3)
    assert frontier.offset == 4
    frontier.add(0, 10)
    assert (frontier.offset, len(frontier)) == (20, 0)


def test_overlaps_are_refused():
    frontier = Frontier()
    frontier.add(0, 10)
    frontier.add(20, 30)
    for start, end in ((5, 15), (25, 35), (15, 25), (29, 31), (15, 40)):
        with pytest.raises(PeerError):
            frontier.holds(start, end)
    assert frontier.holds(3, 7)
    assert frontier.holds(20, 30)
    assert frontier.holds(21, 22)
    assert not frontier.holds(10, 20)


def test_what_may_be_out_of_order_is_bounded():
    frontier = Frontier()
    for i in range(MAX_PENDING):
        frontier.add(2 * i + 1, 2 * i + 2)
    with pytest.raises(PeerError):
        frontier.add(10**6, 10**6 + 1)


def test_what_touches_takes_no_room():
    """Thousands of withdrawn entries behind one range that is under way are one gap."""
    frontier = Frontier()
    for i in range(1, 3 * MAX_PENDING):
        frontier.add(i, i + 1)
    assert (frontier.offset, len(frontier)) == (0, 1)
    frontier.add(0, 1)
    assert (frontier.offset, len(frontier)) == (3 * MAX_PENDING, 0)
