"""How many connections: more as long as that helps, on paths whose rate is a function of them."""

from __future__ import annotations

import random

import pytest

from p2p.lanes.connection_count import ConnectionCount


def run(rate, most=16, seconds=120.0, opening=0.5, noise=0.0, opens=True, busy=False):
    """The count over time on a path that carries `rate(count)` bytes a second."""
    count, dice = ConnectionCount(most), random.Random(1)
    now, carried, there, due, counts = 0.0, 0.0, 1, 0.0, []
    while now < seconds:
        wanted = count.look(now, int(carried), there, busy=busy)
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


def test_a_path_with_losses_gets_all_of_them_within_some_seconds():
    counts = run(lambda count: 170_000 * count)
    assert counts.index(16) * 0.25 < 20
    assert counts[-1] == 16


def test_where_one_fills_the_path_it_stays_at_one_but_for_few_tries():
    counts = run(lambda count: 10_000_000)
    assert counts[-1] == 1
    assert sum(count == 1 for count in counts) > 0.8 * len(counts)


def test_it_stops_where_it_helps_no_more():
    counts = run(lambda count: min(count, 8) * 500_000, seconds=300)
    assert counts[-1] == 8
    assert sum(count == 8 for count in counts) > 0.7 * len(counts)


def test_more_that_only_cost_are_dropped_again():
    counts = run(lambda count: 10_000_000 / count**0.5)
    assert counts[-1] == 1


@pytest.mark.parametrize("most", [1, 4, 8])
def test_no_more_than_allowed(most):
    assert max(run(lambda count: 170_000 * count, most=most)) == most


def test_noise_of_a_fifth_does_not_hide_a_fourfold_gain():
    assert run(lambda count: 170_000 * count, noise=0.2)[-1] == 16


def test_connections_that_never_open_are_given_up():
    assert run(lambda count: 170_000 * count, opens=False)[-1] == 1


def test_nothing_is_tried_while_nothing_moves():
    assert set(run(lambda count: 0)) == {1}


def test_nothing_is_tried_while_there_is_no_time_for_more():
    assert set(run(lambda count: 170_000 * count, busy=True)) == {1}
