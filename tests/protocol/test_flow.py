"""Flow control by itself: windows, ranges that are sent twice, streams and lanes, without a session."""

from __future__ import annotations

import pytest

from p2p.protocol.errors import PeerError
from p2p.protocol.seal import HOLE, Header, Stream
from p2p.protocol.session import flow
from p2p.protocol.session.messages import MAX_LANES

from .vectors import cases

TRANSFER = b"\x77" * 16
LARGEST = flow.MIN_RANGE


def header(offset=0, length=LARGEST, stream=Stream.DATA, flags=0):
    return Header(TRANSFER, stream, flags, offset, length)


def flight(offset=0, when=0.0, length=LARGEST):
    return flow.Flight(header(offset, length), bytes(length), when)


# --- a lane's window ------------------------------------------------------------------------------


@cases("window")
def test_windows_follow_the_vectors(case):
    window, found = flow.CongestionWindow(case["largest"]), []

    def happen(when, what, count, length="0"):
        if what == "sends":
            for _ in range(int(count)):
                window.sent(flight(0, float(when), int(length)))
        else:
            list(window.acknowledged(int(count), float(when)))
        found.append(f"{window.size} {window.headroom()} {window.length()}")

    if "error" in case["expect"]:
        with pytest.raises(PeerError):
            for event in case["events"]:
                happen(*event.split())
    else:
        for event in case["events"]:
            happen(*event.split())
        assert found == case["expect"]


def test_an_idle_lane_may_always_carry_one_range():
    window = flow.CongestionWindow(LARGEST)
    assert window.headroom() == LARGEST
    window.sent(flight())
    assert window.headroom() == 0


def test_fast_answers_widen_a_window_up_to_what_a_recipient_takes():
    window = flow.CongestionWindow(LARGEST)
    for number in range(2 * flow.WINDOW // LARGEST):
        window.sent(flight(number, when=0.0))
        list(window.acknowledged(number + 1, 0.1))
    assert window.size == flow.WINDOW
    assert window.headroom() == flow.STRETCH * LARGEST


def test_slow_answers_narrow_it_once_a_second_and_never_below_a_range():
    window = flow.CongestionWindow(LARGEST)
    window.size = flow.WINDOW
    for number in range(3):
        window.sent(flight(number))
    list(window.acknowledged(2, 5.0))
    assert window.size == flow.WINDOW * 7 // 10
    window.size = flow.MIN_RANGE
    list(window.acknowledged(3, 50.0))
    assert window.size == flow.MIN_RANGE


def test_answers_that_are_neither_leave_it_as_it_is():
    window = flow.CongestionWindow(LARGEST)
    window.sent(flight())
    list(window.acknowledged(1, (flow.FAST_SECONDS + flow.SLOW_SECONDS) / 2))
    assert window.size == flow.MIN_RANGE


def test_it_remembers_its_quickest_answer():
    window = flow.CongestionWindow(LARGEST)
    assert window.quickest == float("inf")
    for number, when in enumerate((0.3, 0.08, 0.2)):
        window.sent(flight(number))
        list(window.acknowledged(number + 1, when))
    assert window.quickest == 0.08


def test_a_range_is_an_eighth_of_the_window_between_the_least_and_the_largest():
    window = flow.CongestionWindow(4 * LARGEST)
    assert window.length() == flow.MIN_RANGE
    window.size = 16 * LARGEST
    assert window.length() == 2 * LARGEST
    window.size = flow.WINDOW
    assert window.length() == 4 * LARGEST
    assert flow.CongestionWindow(4096).length() == 4096


def test_no_more_ranges_are_under_way_than_an_engine_keeps():
    window = flow.CongestionWindow(LARGEST)
    window.size = flow.WINDOW
    for number in range(flow.MAX_UNACKNOWLEDGED):
        window.sent(flight(number, length=1))
    assert window.headroom() == 0


@pytest.mark.parametrize("count", [-1, 2])
def test_more_or_less_than_was_sent_cannot_be_acknowledged(count):
    window = flow.CongestionWindow(LARGEST)
    window.sent(flight())
    with pytest.raises(PeerError, match="ack_of_unsent_range"):
        list(window.acknowledged(count, 0.0))


# --- ranges that are sent twice -------------------------------------------------------------------


def test_a_range_whose_lane_is_gone_waits_for_another_unless_one_has_it():
    lost = flow.Reinjection()
    lost.sent(header().key)
    lost.dropped(flight())
    assert lost
    assert lost.waiting == [header()]
    assert lost.take() == (header(), bytes(LARGEST))
    assert not lost
    assert lost.take() is None
    lost.sent(header().key)
    lost.sent(header().key)
    lost.dropped(flight())
    assert not lost.waiting


def test_a_range_is_given_away_once_and_not_when_it_has_arrived():
    held = flow.Reinjection()
    held.sent(header().key)
    assert held.give(flight(), 10 * LARGEST)
    assert not held.give(flight(), 10 * LARGEST)
    assert held.take() is not None
    held.sent(header().key)
    held.arrived(header().key)
    assert not held.give(flight(), 10 * LARGEST)
    held.dropped(flight())  # the other copy, which nobody needs
    assert not held.waiting


def test_of_a_stream_no_more_bytes_are_given_than_it_has():
    held = flow.Reinjection()
    for offset in (0, LARGEST):
        held.sent(header(offset).key)
    assert held.give(flight(0), LARGEST)
    assert not held.give(flight(LARGEST), LARGEST)


def test_what_the_recipient_has_written_waits_for_nobody():
    held = flow.Reinjection()
    for one in (header(0), header(LARGEST), header(0, stream=Stream.MANIFEST)):
        held.put(one, bytes(LARGEST))
    held.written(Stream.DATA, LARGEST)
    assert held.waiting == [header(LARGEST), header(0, stream=Stream.MANIFEST)]


# --- a stream -------------------------------------------------------------------------------------


def test_a_stream_is_sent_in_whole_ranges_up_to_its_limit():
    out = flow.OutgoingStream(10 * flow.INITIAL_LIMIT)
    step = 3 * LARGEST
    plan = out.stretch(Stream.DATA, 10 * flow.INITIAL_LIMIT, step)
    assert plan is not None
    assert plan.length == flow.INITIAL_LIMIT // step * step
    out.next = flow.INITIAL_LIMIT - 1
    assert out.stretch(Stream.DATA, step, step) is None


def test_a_stream_that_goes_on_begins_where_the_recipient_stands():
    out = flow.OutgoingStream(10 * flow.INITIAL_LIMIT)
    out.begin(5 * LARGEST)
    plan = out.stretch(Stream.DATA, LARGEST, LARGEST)
    assert plan == flow.Plan(Stream.DATA, 5 * LARGEST, LARGEST, LARGEST)
    assert out.limit == 5 * LARGEST + flow.INITIAL_LIMIT


def ack(written=0, limit=flow.INITIAL_LIMIT, durable=0, verified=0):
    return {"written": written, "limit": limit, "durable": durable, "verified": verified}


@pytest.mark.parametrize(
    "wrong",
    [ack(written=101), ack(100, durable=101), ack(100, durable=50, verified=51)],
    ids=["written", "durable", "verified"],
)
def test_an_ack_of_what_was_not_sent_is_an_error(wrong):
    out = flow.OutgoingStream(1000)
    out.next = 100
    with pytest.raises(PeerError, match="ack_of_unsent_range"):
        out.acknowledge(wrong)


@pytest.mark.parametrize(
    "back",
    [ack(49, durable=40), ack(50, limit=1, durable=40), ack(50, durable=39)],
    ids=["written", "limit", "durable"],
)
def test_an_ack_that_goes_back_is_an_error(back):
    out = flow.OutgoingStream(1000)
    out.next = 100
    out.acknowledge(ack(50, durable=40))
    with pytest.raises(PeerError, match="ack_goes_back"):
        out.acknowledge(back)


def test_a_recipient_takes_a_range_once_and_bears_few_repeats():
    incoming = flow.IncomingStream(Stream.DATA, 100, 0)
    assert incoming.admit(header(0, 100))
    assert not incoming.admit(header(0, 100))
    assert not incoming.admit(header(0, 100))
    with pytest.raises(PeerError, match="too_many_repeated_ranges"):
        incoming.admit(header(0, 100))


def test_a_recipient_takes_nothing_past_the_end_or_the_limit_but_a_hole_that_crosses_it():
    incoming = flow.IncomingStream(Stream.DATA, 10 * flow.INITIAL_LIMIT, 0)
    with pytest.raises(PeerError, match="range_past_end"):
        incoming.admit(header(10 * flow.INITIAL_LIMIT, 1))
    for offset, length in ((flow.INITIAL_LIMIT, 1), (flow.INITIAL_LIMIT - 1, 2)):
        with pytest.raises(PeerError, match="range_beyond_limit"):
            incoming.admit(header(offset, length))
    assert incoming.admit(header(0, 2 * flow.INITIAL_LIMIT, flags=HOLE))


# --- the lanes of a sender ------------------------------------------------------------------------


def sending(*ranks):
    """Lanes of these ranks beside the connection's own, and a long stream."""
    found = flow.SendingLanes(LARGEST, {Stream.DATA: flow.OutgoingStream(100 * LARGEST)})
    for rank in ranks:
        found.add(found.number(), rank)
    return found


def send(lanes, number, offset, now):
    lanes.sent(number, header(offset), bytes(LARGEST), now)


def test_a_number_is_used_once_and_there_are_only_so_many(monkeypatch):
    lanes = sending(flow.WEBRTC)
    lanes.drop(1)
    assert lanes.number() == 2
    monkeypatch.setattr(flow, "MAX_LANE_NUMBER", 2)
    with pytest.raises(ValueError, match="too many"):
        lanes.number()


def test_only_so_many_lanes_are_open_at_once():
    crowded = sending(*[flow.WEBRTC] * (MAX_LANES - 1))
    with pytest.raises(ValueError, match="too many"):
        crowded.number()


def test_what_is_under_way_on_a_lane_that_goes_waits_for_the_others():
    lanes = sending(flow.WEBRTC)
    send(lanes, 1, 0, 0.0)
    send(lanes, 1, LARGEST, 0.0)
    lanes.drop(1)
    assert lanes.reinjection.waiting == [header(0), header(LARGEST)]
    assert lanes.moved == float("inf"), "nothing is under way"
    send(lanes, 1, 2 * LARGEST, 0.0)  # it was sealed when its lane went
    assert lanes.reinjection.waiting[-1] == header(2 * LARGEST)


def test_acks_count_what_was_carried_and_ignore_lanes_that_are_gone():
    lanes = sending(flow.WEBRTC)
    for number in (0, 1):
        send(lanes, number, number * LARGEST, 0.0)
    lanes.drop(1)
    lanes.acknowledged([(0, 1), (1, 1)], 1.0)
    assert lanes.carried == LARGEST
    with pytest.raises(PeerError, match="ack_of_unknown_lane"):
        lanes.acknowledged([(2, 0)], 1.0)


def test_the_lanes_of_a_connection_rest_while_a_direct_one_brings_something():
    lanes = sending(flow.DIRECT)
    own, direct = lanes.windows[0], lanes.windows[1]
    assert not lanes.rests(own), "it has brought nothing yet"
    send(lanes, 1, 0, 0.0)
    lanes.acknowledged([(1, 1)], 0.1)
    assert lanes.rests(own)
    assert not lanes.rests(direct)
    lanes.retire(1)
    assert not direct.works
    assert not lanes.rests(own)


def test_an_own_lane_by_a_relay_rests_while_any_other_brings_something():
    lanes = sending(flow.WEBRTC)
    lanes.rank_own(flow.RELAYED)
    assert not lanes.rests(lanes.windows[0])
    send(lanes, 1, 0, 0.0)
    lanes.acknowledged([(1, 1)], 0.1)
    assert lanes.rests(lanes.windows[0])
    lanes.drop(1)
    assert not lanes.rests(lanes.windows[0]), "the relay carries it again"


def test_a_lane_that_stalls_gives_all_it_has_to_the_others_once():
    lanes = sending(flow.WEBRTC)
    for offset in (0, LARGEST):
        send(lanes, 1, offset, 0.0)
    assert lanes.deadline() == flow.REINJECT_LANE_SECONDS
    lanes.stall(flow.REINJECT_LANE_SECONDS - 0.1)
    assert not lanes.reinjection
    lanes.stall(flow.REINJECT_LANE_SECONDS)
    assert lanes.reinjection.waiting == [header(0), header(LARGEST)]
    assert not lanes.windows[1].works
    assert lanes.deadline() == float("inf")
    lanes.acknowledged([(1, 1)], 4.0)
    assert lanes.windows[1].works, "it brings something again"


def test_a_single_lane_has_nobody_to_give_anything_to():
    lanes = sending()
    send(lanes, 0, 0, 0.0)
    lanes.stall(100.0)
    assert not lanes.reinjection
    assert lanes.deadline() == float("inf")


def test_an_idle_lane_helps_with_one_old_range_of_each_other():
    lanes = sending(flow.WEBRTC, flow.WEBRTC)
    for number, offset in ((0, 0), (0, LARGEST), (1, 2 * LARGEST)):
        send(lanes, number, offset, 0.0)
    lanes.help(lanes.windows[2], flow.REINJECT_RANGE_SECONDS / 2)
    assert not lanes.reinjection
    lanes.help(lanes.windows[2], flow.REINJECT_RANGE_SECONDS)
    assert lanes.reinjection.waiting == [header(0), header(2 * LARGEST)]
    lanes.help(lanes.windows[2], flow.REINJECT_RANGE_SECONDS)
    assert lanes.reinjection.waiting[-1] == header(LARGEST)
