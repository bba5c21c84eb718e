"""How many connections: more as long as that helps, on paths whose rate is a function of them."""

from __future__ import annotations

import random

import pytest

from p2p.lanes.connection_count import ConnectionCount


def run(
    rate,
    most=24,
    seconds=120.0,
    opening=0.5,
    noise=0.0,
    opens=True,
    busy=False,
    spare=False,
    far=False,
):
    """The count over time on a path that carries `rate(count)` bytes a second."""
    count, dice = ConnectionCount(most, far=far), random.Random(1)
    now, carried, there, due, counts = 0.0, 0.0, 1, 0.0, []
    while now < seconds:
        wanted = count.look(now, int(carried), there, busy=busy, spare=spare)
        if wanted < there:
            there = wanted
        elif wanted > there and opens:
            due = due or now + opening
            if now >= due:
                there, due = wanted, 0.0
        counts.append(there)
        carried += 0.25 * rate(there) * (1 + noise * dice.uniform(-1, 1))
        now += 0.25
    return counts


def seconds_until(count, counts):
    return counts.index(count) * 0.25


def test_a_path_with_losses_gets_all_of_them_within_some_seconds():
    counts = run(lambda count: 170_000 * count)
    assert seconds_until(24, counts) < 20
    assert counts[-1] == 24


def test_where_the_processor_has_time_to_spare_it_gets_them_sooner():
    counts = run(lambda count: 170_000 * count, spare=True)
    assert seconds_until(24, counts) < 7
    assert 4 not in counts
    assert counts[-1] == 24


def test_to_a_peer_far_away_it_begins_with_several():
    counts = run(lambda count: 170_000 * count, spare=True, far=True)
    assert seconds_until(8, counts) < 1
    assert seconds_until(24, counts) < 4
    assert counts[-1] == 24


@pytest.mark.parametrize("spare", [False, True])
def test_to_a_peer_far_away_those_that_do_not_help_go_again(spare):
    counts = run(lambda count: 6_000_000, spare=spare, far=True)
    assert seconds_until(4, counts) < 30
    assert counts[-1] == 1
    assert sum(count == 1 for count in counts) > 0.6 * len(counts)


@pytest.mark.parametrize("spare", [False, True])
def test_to_a_peer_far_away_those_that_help_stay(spare):
    counts = run(lambda count: min(count, 8) * 500_000, seconds=300, spare=spare, far=True)
    assert counts[-1] == 8
    assert counts.count(4) < 20, "it is tried once whether fewer do"
    assert sum(count == 8 for count in counts) > 0.7 * len(counts)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("spare", [False, True])
def test_many_do_not_share_a_slow_link(spare, far):
    """Ranges arrive one by one: a rate over a second or two is a rough one."""
    counts = run(lambda count: 120_000, seconds=300, noise=0.2, spare=spare, far=far)
    assert sum(count == 1 for count in counts) > 0.7 * len(counts)
    assert max(counts) <= 8


@pytest.mark.parametrize("far", [False, True])
def test_losses_that_leave_each_but_little_are_no_slow_link(far):
    counts = run(lambda count: 30_000 * count, spare=True, far=far)
    assert seconds_until(24, counts) < 30
    assert counts[-1] == 24


@pytest.mark.parametrize("spare", [False, True])
def test_a_rate_that_did_not_last_is_no_measure_of_more(spare):
    """At first eight seem to fill the path, for none of them has lost anything yet."""
    now = 0.0

    def rate(count):
        nonlocal now
        now += 0.25
        return min(count * (750_000 if now < 6 else 500_000), 6_000_000)

    counts = run(rate, spare=spare, far=True)
    more = 24 if spare else 16
    assert seconds_until(more, counts) < 6
    assert 8 in counts[counts.index(more) :]
    assert 4 not in counts
    assert counts[4 * 14] >= more


@pytest.mark.parametrize("spare", [False, True])
def test_where_one_fills_the_path_it_stays_at_one_but_for_few_tries(spare):
    counts = run(lambda count: 10_000_000, spare=spare)
    assert counts[-1] == 1
    assert sum(count == 1 for count in counts) > 0.8 * len(counts)


def test_it_stops_where_it_helps_no_more():
    counts = run(lambda count: min(count, 8) * 500_000, seconds=300)
    assert counts[-1] == 8
    assert sum(count == 8 for count in counts) > 0.7 * len(counts)


def test_more_that_only_cost_are_dropped_again():
    counts = run(lambda count: 10_000_000 / count**0.5)
    assert counts[-1] == 1


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("most", [1, 4, 8])
def test_no_more_than_allowed(most, far):
    assert max(run(lambda count: 170_000 * count, most=most, far=far)) == most


def test_noise_of_a_fifth_does_not_hide_a_fourfold_gain():
    assert run(lambda count: 170_000 * count, noise=0.2)[-1] == 24


def test_connections_that_never_open_are_given_up():
    assert run(lambda count: 170_000 * count, opens=False)[-1] == 1


def test_nothing_is_tried_while_nothing_moves():
    assert set(run(lambda count: 0)) == {1}


def test_nothing_is_tried_while_there_is_no_time_for_more():
    assert set(run(lambda count: 170_000 * count, busy=True)) == {1}
    assert run(lambda count: 170_000 * count, busy=True, far=True)[-1] == 8
