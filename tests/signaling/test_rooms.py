"""The rules of rooms."""

from __future__ import annotations

import contextlib
import hashlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.rooms import Kind, Limits, Origin, Rates, Refused, Seat
from signaling.rooms import Rooms as Made

JOIN, OWNER = (hashlib.sha256(token).digest() for token in (b"j" * 32, b"o" * 32))
HOST, ELSEWHERE = Seat(b"", b"h"), Seat(b"", b"e")
HERE, OTHER, THIRD = (Origin(name, name) for name in (b"address", b"other", b"third"))


class Rooms(Made):
    """Every room's host at one seat, attempts by their name."""

    def create(self, room, owner, ttl, origin, now, host=HOST):  # type: ignore[override]
        return super().create(room, JOIN, owner, ttl, origin, host, now)

    def join(self, room, join_hash, attempt, now):
        return super().join(room, join_hash, Seat(b"", attempt), now)

    def away(self, room, now, host=HOST):  # type: ignore[override]
        return super().away(room, host, now)

    def finish(self, room, now, host=HOST):  # type: ignore[override]
        return super().finish(room, host, now)


def rooms(**limits):
    made = Rooms(Limits(**limits))
    made.create(b"room", OWNER, 100, HERE, 0.0)
    return made


def refused(call, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_only_the_owner_takes_the_seat_again_and_attempts_begin_anew():
    made = rooms()
    made.join(b"room", JOIN, b"a", 1.0)
    told = made.create(b"room", OWNER, 98, HERE, 2.0, ELSEWHERE)
    assert told == [(Seat(b"", b"a"), Kind.LEFT), (HOST, Kind.REPLACED)]
    assert made.join(b"room", JOIN, b"b", 2.0) == ELSEWHERE
    assert made.join(b"room", JOIN, b"c", 2.0) == ELSEWHERE
    assert refused(made.create, b"room", b"x" * 32, 100, HERE, 2.0) == "room_taken"


def test_a_wrong_token_an_unknown_and_an_expired_room_look_the_same():
    made = rooms()
    assert refused(made.join, b"room", b"x" * 32, b"a", 1.0) == "not_found"
    assert refused(made.join, b"none", JOIN, b"a", 1.0) == "not_found"
    assert refused(made.join, b"room", JOIN, b"a", 100.0) == "not_found"


def reason(made, token, now, room=b"room"):
    with pytest.raises(Refused) as caught:
        made.join(room, token, b"a", now)
    assert caught.value.code == "not_found"
    return caught.value.reason


def test_who_has_the_right_token_is_told_why_a_room_is_over():
    made = rooms()
    made.finish(b"room", 50.0)
    assert reason(made, JOIN, 60.0) == "closed"
    assert reason(made, b"x" * 32, 60.0) is None
    made.create(b"room", OWNER, 100, HERE, 60.0)
    made.join(b"room", JOIN, b"a", 61.0)
    assert made.expire(160.0) == [b"room"]
    assert reason(made, JOIN, 161.0) == "expired"
    assert reason(made, JOIN, 161.0 + 24 * 3600) is None


def test_a_host_that_says_itself_that_its_time_is_up_has_not_withdrawn_the_link():
    made = rooms()
    made.finish(b"room", 96.0)
    assert reason(made, JOIN, 97.0) == "expired"


def test_why_a_room_is_over_is_not_known_where_its_host_went_away():
    made = rooms(away_seconds=10.0)
    made.away(b"room", 1.0)
    assert made.expire(11.0) == [b"room"]
    assert reason(made, JOIN, 12.0) is None


def test_rooms_that_are_over_are_remembered_up_to_a_number_and_a_time():
    made = rooms(former_rooms=2, rooms_per_address=9)
    for name in (b"2", b"3"):
        made.create(name, OWNER, 100, HERE, 0.0)
    for now, name in enumerate((b"room", b"2", b"3")):
        made.finish(name, float(now))
    assert [reason(made, JOIN, 5.0, name) for name in (b"room", b"2", b"3")] == [
        None,
        "closed",
        "closed",
    ]
    made.expire(24 * 3600 + 1.5)
    assert list(made._former) == [b"3"]


def test_a_room_whose_time_is_up_says_so_before_it_is_swept_out():
    assert reason(rooms(), JOIN, 100.0) == "expired"
    assert reason(rooms(), b"x" * 32, 100.0) is None


def test_no_network_pushes_out_why_the_rooms_of_others_are_over():
    made = rooms(former_rooms_per_network=2, rooms_per_address=99)
    made.finish(b"room", 1.0)
    for number in range(9):
        made.create(bytes([number]), OWNER, 100, OTHER, 2.0)
        made.finish(bytes([number]), 3.0)
    told = [reason(made, JOIN, 4.0, bytes([number])) for number in range(9)]
    assert told == ["closed"] * 2 + [None] * 7
    assert reason(made, JOIN, 4.0) == "closed"
    made.expire(24 * 3600 + 4.0)
    assert made._former == made._former_of == {}


def test_two_attempts_at_once_and_no_third():
    made = rooms()
    made.join(b"room", JOIN, b"a", 1.0)
    made.join(b"room", JOIN, b"b", 1.0)
    assert refused(made.join, b"room", JOIN, b"c", 1.0) == "busy"
    made.leave(b"room", b"a")
    made.join(b"room", JOIN, b"c", 1.0)


def test_an_attempt_that_has_had_its_time_is_in_nobodys_way():
    made = rooms(attempt_seconds=30.0)
    for attempt in (b"a", b"b"):
        made.join(b"room", JOIN, attempt, 1.0)
    assert refused(made.join, b"room", JOIN, b"c", 30.9) == "busy"
    made.join(b"room", JOIN, b"c", 31.0)


def test_a_seat_that_the_host_has_left_says_nothing_of_the_room_any_more():
    made = rooms()
    made.create(b"room", OWNER, 100, HERE, 1.0, ELSEWHERE)
    made.join(b"room", JOIN, b"a", 1.0)
    assert made.away(b"room", 2.0) == made.finish(b"room", 2.0) == []
    assert made.finish(b"room", 2.0, ELSEWHERE) == [(Seat(b"", b"a"), Kind.LEFT)]


def test_nobody_joins_while_the_host_is_away():
    made = rooms()
    made.join(b"room", JOIN, b"a", 1.0)
    assert made.away(b"room", 2.0) == [(Seat(b"", b"a"), Kind.LEFT)]
    assert made.join(b"room", JOIN, b"b", 3.0) is None
    assert made.create(b"room", OWNER, 100, HERE, 4.0, ELSEWHERE) == []
    assert made.join(b"room", JOIN, b"b", 5.0) == ELSEWHERE


def test_a_host_that_comes_back_again_and_again_leaves_nothing_behind():
    made = rooms()
    for now in range(5000):
        made.create(b"room", OWNER, 86_400, HERE, float(now))
    assert len(made._ends) < 1100
    assert made.expire(86_400.0 + 4999) == [b"room"]


def test_rooms_are_limited_in_all_and_per_address():
    made = rooms(rooms=3, rooms_per_address=2)
    made.create(b"2", OWNER, 100, HERE, 0.0)
    assert refused(made.create, b"3", OWNER, 100, HERE, 0.0) == "rate_limited"
    made.create(b"3", OWNER, 100, OTHER, 0.0)
    for room in (b"room", b"2", b"3"):
        made.join(room, JOIN, b"a", 0.0)
    assert refused(made.create, b"4", OWNER, 100, THIRD, 0.0) == "full"
    made.expire(200.0)
    made.create(b"4", OWNER, 100, HERE, 200.0)
    assert len(made) == 1
    made.close(b"4")
    made.leave(b"4", b"a")
    assert len(made) == 0


def test_a_room_whose_sender_is_away_is_kept_for_a_while():
    made = rooms(away_seconds=10.0)
    made.away(b"room", 5.0)
    made.away(b"none", 5.0)
    assert made.expire(14.0) == []
    made.create(b"room", OWNER, 100, HERE, 14.0)
    assert made.expire(20.0) == []
    made.away(b"room", 20.0)
    assert made.expire(30.0) == [b"room"]


def test_an_expired_room_is_free_for_anyone():
    made = rooms()
    made.create(b"room", b"x" * 32, 100, HERE, 100.0)
    assert made.expire(150.0) == []
    assert made.expire(200.0) == [b"room"]


def test_the_oldest_room_that_nobody_joined_gives_way_of_the_network_that_has_most():
    made = Rooms(Limits(rooms=5, rooms_per_address=3))
    crowd = Origin(b"1", b"crowd"), Origin(b"2", b"crowd")
    made.create(b"honest", OWNER, 100, HERE, 0.0)
    for number, origin in enumerate((crowd[0], crowd[1], crowd[0], crowd[1])):
        assert made.create(b"%d" % number, OWNER, 100, origin, 1.0, Seat(b"", b"%d" % number)) == []
    made.join(b"0", JOIN, b"a", 1.0)
    assert made.create(b"new", OWNER, 100, OTHER, 2.0) == [(Seat(b"", b"1"), Kind.FULL)]
    assert made.create(b"4", OWNER, 100, crowd[0], 2.0) == [(Seat(b"", b"2"), Kind.FULL)]
    for name in (b"honest", b"new", b"0"):  # still there; joined, they stay
        made.join(name, JOIN, b"b", 3.0)
    assert len(made) == 5


@contextlib.contextmanager
def counted_lines():
    """How many lines run within; loops in one line count each turn, functions in C do not."""
    count = [0]

    def trace(frame, event, _):
        count[0] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def test_ten_thousand_rooms_of_500_networks_shut_nobody_out_and_slow_nothing():
    made, limits = Rooms(Limits()), Limits()
    made.create(b"honest", OWNER, 100, HERE, 0.0)
    steps = []  # that a thousand rooms take, by lines of ours that run
    for start in range(0, 2 * limits.rooms, 1000):
        with counted_lines() as lines:
            for number in range(start, start + 1000):
                network = b"network %d" % (number % 500)
                address = network + b" host %d" % (number // 500 // 20)
                made.create(b"%d" % number, OWNER, 100, Origin(address, network), 0.0)
        steps.append(lines[0])
    assert len(made) == limits.rooms
    made.join(b"honest", JOIN, b"a", 1.0)
    assert made.create(b"newcomer", OWNER, 100, OTHER, 1.0)
    made.join(b"newcomer", JOIN, b"a", 1.0)
    assert max(steps[10:]) < 5 * min(steps[:5])  # a full server takes no longer than an empty one


def test_rates_count_by_the_minute_and_forget():
    rates = Rates(Limits(addresses=2))
    assert [rates.count(b"a", "join", 2, 1000.0) for _ in range(3)] == [True, True, False]
    assert not rates.count(b"a", "join", 2, 1001.0)
    assert rates.count(b"a", "join", 2, 1061.0)
    assert not rates.count(b"a", "join", 10, 1061.0, 10)


def test_many_addresses_shut_out_nobody():
    """The one counted first is forgotten: what is remembered is bounded."""
    rates = Rates(Limits(addresses=2))
    for name in (b"a", b"b", b"c"):
        assert rates.count(name, "join", 1, 1000.0)
    assert not rates.count(b"c", "join", 1, 1000.0)
    assert len(rates._counts) == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "join", "leave", "close", "expire"]),
            st.integers(0, 3),
            st.integers(0, 200),
        ),
        max_size=40,
    )
)
def test_no_order_of_requests_breaks_a_limit(steps):
    limits = Limits(rooms=3, rooms_per_address=2)
    made, now = Rooms(limits), 0.0
    for kind, which, seconds in steps:
        now += seconds
        name, attempt = bytes([which]), bytes([which, len(steps)])
        try:
            if kind == "create":
                made.create(name, OWNER, 100, (HERE, OTHER)[which % 2], now)
            elif kind == "join":
                made.join(name, JOIN, attempt, now)
            elif kind == "leave":
                made.leave(name, attempt)
            elif kind == "close":
                made.close(name)
            else:
                made.expire(now)
        except Refused:
            pass
        assert len(made) <= limits.rooms
        waiting = {n for rooms in made._waiting._of.values() for n in rooms}
        assert waiting <= made._rooms.keys()
        counted = {count: set(some) for count, some in made._waiting._by_count.items()}
        for network, some in made._waiting._of.items():
            assert network in counted[len(some)]
        assert made._waiting._most == max(counted, default=0)
        assert all(len(room.attempts) <= limits.attempts_per_room for room in made._rooms.values())
