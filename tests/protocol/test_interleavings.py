"""Two sessions under a scheduler that hates them: lanes run apart, disks lag, ranges reorder.

The invariant: whatever the order, nothing is sent beyond the limit (`Pair.deliver_data` checks),
neither side raises, both end complete with the same bytes and exactly one receipt.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from p2p.protocol import session
from p2p.protocol.errors import Ending, HandoverError
from p2p.protocol.manifest import CHANGED

from .pair import Pair

CONTENT = st.one_of(
    st.none(),
    st.binary(max_size=30),
    st.integers(100, 300_000).map(lambda n: bytes([n % 251]) * n),
    st.integers(100_000, 10**7),
)


class Interleavings(RuleBasedStateMachine):
    @initialize(
        files=st.lists(CONTENT, min_size=1, max_size=6),
        largest=st.sampled_from([4096, 60_000, 250_000]),
        withdrawn=st.sets(st.integers(0, 5)),
    )
    def start(self, files, largest, withdrawn):
        self.pair = Pair(files, largest=largest)
        self.pair.withdraw_at = {i: CHANGED for i in withdrawn if i < len(files) and files[i]}
        self.withdrawn = set(self.pair.withdraw_at)
        self.pair.offer()

    @rule(to=st.sampled_from(["sender", "recipient"]))
    def deliver_control(self, to):
        self.pair.deliver_control(to)

    @rule(lane=st.integers(0, 7))
    def send_range(self, lane):
        self.pair.send_range(self.pick(lane))

    @rule(lane=st.integers(0, 7), count=st.integers(1, 8))
    def deliver_data(self, lane, count):
        """Ranges overtake each other on several lanes."""
        for _ in range(count):
            self.pair.deliver_data(self.pick(lane))

    def pick(self, number):
        return list(self.pair.lanes)[number % len(self.pair.lanes)]

    @rule(rank=st.integers(0, 1))
    def add_lane(self, rank):
        if self.pair.may_add_lane and len(self.pair.lanes) < 6:
            self.pair.add_lane(rank)

    @rule(lane=st.integers(1, 7))
    def drop_lane(self, lane):
        """What was on its way there is lost, or arrived and nobody knows."""
        if (number := self.pick(lane)) and len(self.pair.lanes) > 1:
            self.pair.drop_lane(number)

    @rule()
    def accept(self):
        if self.pair.recipient.state.value == "deciding":
            self.pair.accept()

    @rule()
    def sync(self):
        self.pair.sync()

    @rule()
    def read_back(self):
        self.pair.read_back()

    @rule(seconds=st.floats(0.001, 0.5))
    def tick(self, seconds):
        self.pair.tick(seconds)
        for to in ("sender", "recipient"):  # a network that is alive
            self.pair.deliver_control(to)

    @invariant()
    def memory_is_bounded(self):
        if hasattr(self, "pair"):
            for stream in self.pair.recipient._streams.values():
                assert len(stream.frontier) <= 6 * session.MAX_UNACKNOWLEDGED
        if hasattr(self, "pair"):
            flights = [f for p in self.pair.sender.lanes.windows.values() for f in p.flights]
            assert sum(len(f.message) for f in flights) <= 2 * (session.WINDOW + 10**6)

    def teardown(self):
        if not hasattr(self, "pair"):
            return
        pair = self.pair.run()
        gone = self.withdrawn - set(pair.withdraw_at)
        ending = Ending.INCOMPLETE if gone else Ending.COMPLETE
        assert [pair.saw(r, session.Ended)[-1].ending for r in ("sender", "recipient")] == [
            ending,
            ending,
        ]
        assert len(pair.receipts) == 1
        for entry, content in enumerate(pair.files):
            if entry in gone or not isinstance(content, bytes):
                continue
            start, end = pair.tape.start(entry), pair.tape.end(entry)
            got = b"".join(p for o, p in sorted(pair.disk.items()) if start <= o < end)
            assert got == content


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=60, stateful_step_count=60, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("attack", ["drop", "repeat", "swap", "forge"])
@pytest.mark.parametrize("to", ["sender", "recipient"])
def test_a_network_that_tampers_with_control_frames_can_only_end_it(attack, to):
    """Frames are Noise transport messages: whatever is done to them, the next one fails."""
    pair = Pair((b"x" * 100_000,))
    pair.offer()
    queue = getattr(pair, f"to_{to}")
    with pytest.raises(HandoverError):
        for _ in range(200):
            if len(queue) >= 2:
                first = queue.popleft()
                if attack == "repeat":
                    queue.extendleft([first, first])
                elif attack == "swap":
                    queue.insert(1, first)
                elif attack == "forge":
                    queue.appendleft(first[:-1] + bytes([first[-1] ^ 1]))
            pair.tick(2.1)
            if pair.recipient.state.value == "deciding":
                pair.accept()
            for step in (pair.send_range, pair.deliver_data, pair.sync, pair.read_back):
                step()
            if len(queue) >= 2 or pair.over:
                pair.deliver_control(to)
            pair.deliver_control("sender" if to == "recipient" else "recipient")
    assert not pair.receipts
