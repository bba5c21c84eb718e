"""Two sides that die at any write, over a network that is cut, and a stranger who replays.

What each side has on its disk survives, nothing else does. The invariant: both come to an end, the
bytes are the sender's, exactly one receipt was countersigned, nothing passed the window (checked in
`Pair.deliver_data`), and no signature was ever made over two receipts.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from p2p.protocol import receipt, session
from p2p.protocol.codec import sha256
from p2p.protocol.errors import Ending, Failure, HandoverError
from p2p.protocol.manifest import Results, results_root
from p2p.protocol.seal import Message, Stream
from p2p.protocol.session import flow

from .pair import OWN, R_KEY, SECURITY, TIME, Pair

CONTENT = st.one_of(
    st.none(),
    st.binary(max_size=30),
    st.integers(100, 300_000).map(lambda n: bytes([n % 251]) * n),
)


class Crash(Exception):
    """A side died, just before or just after a write became durable."""


class World(Pair):
    """A `Pair` whose sides have disks and can be restarted (what p2p/sending and receiving do)."""

    def __init__(self, files, largest):
        super().__init__(files, largest=largest)
        self.stable: dict[int, Message] = {}  # recipient's disk, as a restart finds it
        self.journal: dict[str, Any] = {"durable": 0, "phase": "receiving"}
        self.closings: list[dict[str, Any]] = []  # in the sender's journal
        self.noted: bytes | None = None  # results, in the sender's journal
        self.signed_here: set[bytes] = set()  # payloads the recipient has signed
        self.confirmed = False  # the whole receipt is on the recipient's disk
        self.sender_ended = False
        self.stale: list[bytes] = []  # control frames of earlier sessions
        self.fuel: int | None = None  # durable writes until the next crash

    def durably(self, role, write):
        """A write that is fsynced; a crash may come before or after it."""
        if self.fuel is not None:
            self.fuel -= 1
            if self.fuel == 0:
                raise Crash(role)
        write()
        if self.fuel is not None:
            self.fuel -= 1
            if self.fuel == 0:
                raise Crash(role)

    # --- the recipient

    def accept(self):
        self.recipient.read(self.manifest, self.tape)
        if self.journal["phase"] == "signed":
            self._present()
        else:
            durable = self.journal["durable"]
            self.recipient.accept(TIME, self.now, durable)
            if self.journal["phase"] == "placing":
                self.recipient.verified(durable, self.now)
        self.flush()

    def sync(self):
        if self.recipient.state.value != "receiving":
            return False
        if self.recipient.frontier == self.recipient._streams[Stream.DATA].durable:
            return False
        frontier = self.recipient.frontier
        self.durably("recipient", lambda: self.stable.update(self.disk))
        self.durably("recipient", lambda: self.journal.update(durable=frontier))
        self.recipient.synced(frontier, self.now)
        self.flush()
        return True

    def _finish(self, event):
        claimed = Results.decode(event.digests, self.manifest)
        for entry, content in enumerate(self.files):
            if content is not None:  # what is read back from the disk is what the sender sent
                start, end = self.tape.start(entry), self.tape.end(entry)
                there = b"".join(p for o, p in sorted(self.stable.items()) if start <= o < end)
                assert sha256(there) == claimed[entry][1]
        self.durably("recipient", lambda: self.journal.update(phase="placing"))
        payload = self.payload(claimed)
        self.signed_here.add(payload)
        signature = receipt.sign(R_KEY, payload)
        signed = {"phase": "signed", "payload": payload, "signature": signature, "all": claimed}
        self.durably("recipient", lambda: self.journal.update(signed))
        self._present()

    def _present(self):
        payload, signature = self.journal["payload"], self.journal["signature"]
        self.recipient.finish(self.journal["all"], [], payload, signature, self.now)

    def flush(self):
        self.to_recipient.extend(self.sender.frames())
        self.to_sender.extend(self.recipient.frames())
        for event in self.sender.events():
            self.facts["sender"].append(event)
            if isinstance(event, session.Receipted):
                self._countersign(event)
            elif isinstance(event, session.Ended):
                self.sender_ended = True
        for event in self.recipient.events():
            self.facts["recipient"].append(event)
            if isinstance(event, session.Delivered):
                self._finish(event)
                self.flush()
            elif isinstance(event, session.Countersigned):
                self.durably("recipient", lambda: setattr(self, "confirmed", True))
                self.recipient.confirm(self.now)
                self.flush()

    # --- the sender

    def send_range(self, lane=0):
        if lane not in self.lanes:  # of before the cut
            return False
        if not self.sender.all_sent:
            return super().send_range(lane)
        self._finish_digests()
        self.sender.draw_up(TIME, "0" * 64)
        closed = self.sender.closed(OWN, SECURITY)
        results = self.sender.results.encode()
        self.durably("sender", lambda: setattr(self, "noted", results))
        self.durably("sender", lambda: self.closings.append(closed))
        self.sender.close(self.now)
        self.flush()
        return True

    def _countersign(self, event):
        root = results_root(self.manifest, self.sender.results)
        signature = self.sender.countersign(event, root, self.closings)
        self.durably("sender", lambda: self.receipts.append(event.payload))
        self.sender.countersigned(signature, self.now)
        self.flush()

    # --- ends of sessions

    def lose(self, *dead):
        """The connection breaks; `dead` sides are started again. Then a new session, if any."""
        for role in ("sender", "recipient"):
            if role not in dead:
                try:
                    getattr(self, role).lost()
                except Failure:
                    pass
        self.flush_ends()
        self.stale += [*self.to_recipient, *self.to_sender]
        if self.done:
            return
        if self.sender_ended:
            return
        if "recipient" in dead:
            self.disk = dict(self.stable)
        if "sender" in dead:
            self.digested.clear()
        earlier: Results | None = self.sender.results
        if "sender" in dead:
            earlier = Results.recall(self.noted, len(self.files)) if self.noted else None
        self.reconnect()
        self.earlier = earlier
        self.disk = {at: p for at, p in self.disk.items() if at < self.journal["durable"]}
        self.stable = dict(self.disk)
        self.offer()

    def reconnect(self):
        noted = flow.IncomingStream(Stream.DATA, self.tape.total, self.journal["durable"])
        self.recipient._streams[Stream.DATA] = noted  # what `Pair` takes the disk to hold
        return super().reconnect()

    def flush_ends(self):
        for event in self.sender.events():
            self.sender_ended |= isinstance(event, session.Ended)

    @property
    def done(self):
        # Nobody is there any more to countersign: the recipient ends unconfirmed, with its half.
        alone = self.sender_ended and self.journal["phase"] == "signed"
        # Or both receipts are whole: whoever was killed now ends at its next start, or waits a
        # minute in vain for a last word.
        return self.confirmed or alone

    def attempt(self, step, *arguments):
        """One step; whoever dies in it is started again, whoever is deceived connects anew."""
        if self.done:
            return False
        try:
            return step(*arguments)
        except Crash as crash:
            self.fuel = None
            self.lose(str(crash))
        except HandoverError:
            self.lose()
        return True

    def drive(self):
        """Everything in the obvious order until it has ended."""
        for _ in range(20_000):
            if self.done:
                return
            if self.recipient.state.value == "deciding":
                self.attempt(self.accept)
            did = [
                self.attempt(self.deliver_control, "recipient"),
                self.attempt(self.deliver_control, "sender"),
                any(map(bool, [self.attempt(self.send_range, lane) for lane in list(self.lanes)])),
                any(
                    map(bool, [self.attempt(self.deliver_data, lane) for lane in list(self.lanes)])
                ),
                self.attempt(self.sync),
                self.attempt(self.read_back),
            ]
            if not any(did):
                self.attempt(self.tick)
        raise AssertionError("it does not end")


class Crashes(RuleBasedStateMachine):
    @initialize(
        files=st.lists(CONTENT, min_size=1, max_size=5), largest=st.sampled_from([4096, 250_000])
    )
    def start(self, files, largest):
        self.world = World(files, largest)
        self.world.offer()

    @rule(steps=st.integers(1, 40))
    def go_on(self, steps):
        world = self.world
        for _ in range(steps):
            if world.recipient.state.value == "deciding":
                world.attempt(world.accept)
            for lane in list(world.lanes):
                for carry in (world.send_range, world.deliver_data):
                    if lane in world.lanes:
                        world.attempt(carry, lane)
            for step in (world.sync, world.read_back):
                world.attempt(step)
            for to in ("sender", "recipient"):
                world.attempt(world.deliver_control, to)
            world.attempt(world.tick)

    @rule(rank=st.integers(0, 1))
    def add_lane(self, rank):
        world = self.world
        if not world.done and world.may_add_lane and len(world.lanes) < 4:
            self.world.attempt(self.world.add_lane, rank)

    @rule()
    def drop_lane(self):
        if len(self.world.lanes) > 1:
            self.world.attempt(self.world.drop_lane, max(self.world.lanes))

    @rule()
    def cut(self):
        self.world.attempt(self.world.lose)

    @rule(dead=st.sampled_from([("sender",), ("recipient",), ("sender", "recipient")]))
    def kill(self, dead):
        self.world.attempt(self.world.lose, *dead)

    @rule(fuel=st.integers(1, 12))
    def die_at_a_write(self, fuel):
        self.world.fuel = fuel

    @rule(to=st.sampled_from(["to_sender", "to_recipient"]), which=st.integers(0, 50))
    def replay(self, to, which):
        """A frame of an earlier session: it can only end this one."""
        if self.world.stale:
            frame = self.world.stale[which % len(self.world.stale)]
            getattr(self.world, to).appendleft(frame)

    def teardown(self):
        if not hasattr(self, "world"):
            return
        world = self.world
        world.fuel = None
        world.drive()
        assert set(world.receipts) == world.signed_here & set(world.receipts)
        assert len(set(world.receipts)) == 1
        assert world.journal["payload"] in world.receipts
        ends = world.saw("sender", session.Ended)
        assert {end.ending for end in ends} <= {Ending.COMPLETE}
        for entry, content in enumerate(world.files):
            if content is not None:
                start, end = world.tape.start(entry), world.tape.end(entry)
                got = b"".join(p for o, p in sorted(world.stable.items()) if start <= o < end)
                assert got == content


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(
    max_examples=150, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
