"""The rules of rooms."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.rooms import Limits, Rates, Refused, Rooms

JOIN, OWNER = b"j" * 32, b"o" * 32
HASH = hashlib.sha256(JOIN).digest()


def rooms(**limits):
    made = Rooms(Limits(**limits))
    made.create(b"room", HASH, OWNER, 100, b"address", 0.0)
    return made


def refused(call, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_only_the_owner_takes_the_seat_again_and_attempts_begin_anew():
    made = rooms()
    made.join(b"room", JOIN, b"a", 1.0)
    made.create(b"room", HASH, OWNER, 98, b"address", 2.0)
    assert refused(made.pass_on, b"room", b"a", 1, from_host=True) == "not_found"
    assert refused(made.create, b"room", HASH, b"x" * 32, 100, b"address", 2.0) == "room_taken"


def test_a_wrong_token_an_unknown_and_an_expired_room_look_the_same():
    made = rooms()
    assert refused(made.join, b"room", b"x" * 32, b"a", 1.0) == "not_found"
    assert refused(made.join, b"none", JOIN, b"a", 1.0) == "not_found"
    assert refused(made.join, b"room", JOIN, b"a", 100.0) == "not_found"


def test_two_attempts_at_once_and_no_third():
    made = rooms()
    made.join(b"room", JOIN, b"a", 1.0)
    made.join(b"room", JOIN, b"b", 1.0)
    assert refused(made.join, b"room", JOIN, b"c", 1.0) == "busy"
    made.leave(b"room", b"a")
    made.join(b"room", JOIN, b"c", 1.0)
    assert made.overdue(500.0) == [(b"room", b"b"), (b"room", b"c")]


def test_envelopes_are_counted_per_side():
    made = rooms(attempt_messages=2, attempt_bytes=10)
    made.join(b"room", JOIN, b"a", 1.0)
    for _ in range(2):
        made.pass_on(b"room", b"a", 1, from_host=True)
        made.pass_on(b"room", b"a", 1, from_host=False)
    assert refused(made.pass_on, b"room", b"a", 1, from_host=True) == "rate_limited"
    made.leave(b"room", b"a")
    made.join(b"room", JOIN, b"b", 1.0)
    assert refused(made.pass_on, b"room", b"b", 11, from_host=True) == "rate_limited"


def test_rooms_are_limited_in_all_and_per_address():
    made = rooms(rooms=3, rooms_per_address=2)
    made.create(b"2", HASH, OWNER, 100, b"address", 0.0)
    assert refused(made.create, b"3", HASH, OWNER, 100, b"address", 0.0) == "rate_limited"
    made.create(b"3", HASH, OWNER, 100, b"other", 0.0)
    assert refused(made.create, b"4", HASH, OWNER, 100, b"third", 0.0) == "full"
    made.create(b"4", HASH, OWNER, 100, b"address", 200.0)
    assert len(made) == 1
    made.close(b"4")
    made.leave(b"4", b"a")
    assert len(made) == 0


def test_a_room_whose_sender_is_away_is_kept_for_a_while():
    made = rooms(away_seconds=10.0)
    made.away(b"room", 5.0)
    made.away(b"none", 5.0)
    assert made.expire(14.0) == []
    made.create(b"room", HASH, OWNER, 100, b"address", 14.0)
    assert made.expire(20.0) == []
    made.away(b"room", 20.0)
    assert made.expire(30.0) == [b"room"]


def test_an_expired_room_is_free_for_anyone():
    made = rooms()
    made.create(b"room", HASH, b"x" * 32, 100, b"address", 100.0)
    assert made.expire(150.0) == []
    assert made.expire(200.0) == [b"room"]


def test_rates_count_by_the_minute_and_forget():
    rates = Rates(Limits(addresses=2))
    assert [rates.count(b"a", "join", 2, 1000.0) for _ in range(3)] == [True, True, False]
    assert rates.exceeded(b"a", "join", 2, 1001.0)
    assert not rates.exceeded(b"a", "join", 2, 1061.0)
    assert rates.count(b"a", "join", 2, 1061.0)
    assert rates.count(b"b", "join", 2, 1061.0)
    assert not rates.count(b"c", "join", 2, 1061.0)


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
                made.create(name, HASH, OWNER, 100, bytes([which % 2]), now)
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
        assert all(len(room.attempts) <= limits.attempts_per_room for room in made._rooms.values())
