"""Two sessions back to back over a simulated network, with simulated disks and time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar

from nacl.signing import SigningKey

from p2p.protocol import handshake, link, receipt, session
from p2p.protocol.codec import encode_base64url, encode_json, sha256
from p2p.protocol.manifest import (
    Entry,
    Manifest,
    Results,
    decode_manifest,
    encode_manifest,
    results_root,
)
from p2p.protocol.seal import Header, Message, Stream

SECRET = b"\x05" * 32
S_KEY, R_KEY = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
TRANSFER = b"\x77" * 16
OWN = {"label": "s", "software": "t"}
TIME = "2026-01-02T03:04:05.000Z"
SECURITY: dict[str, Any] = {
    "fingerprint_sender": b"f" * 32,
    "fingerprint_recipient": b"g" * 32,
    "digits_confirmed": False,
    "passphrase": False,
}


Role = Literal["sender", "recipient"]
Content = bytes | int | None
E = TypeVar("E", bound=session.Event)


def entropy(seed: int, session: int = 0) -> handshake.Entropy:
    return handshake.Entropy(
        *(bytes([seed + i]) * 28 + session.to_bytes(4, "big") for i in range(4))
    )


def secured(verify: bool = False, session: int = 0) -> tuple[handshake.Secured, handshake.Secured]:
    """Both ends of a finished handshake, the `session`-th: (sender's, recipient's)."""
    secrets = link.psk_secrets(link.derive_keys(SECRET), None)
    where = handshake.ChannelBinding(
        b"r" * 16, b"a" * 16, b"n" * 16, b"m" * 16, b"f" * 32, b"g" * 32, False
    )
    r = handshake.GuestHandshake(
        where,
        secrets=secrets,
        secret=SECRET,
        commitment=link.host_commitment(SECRET, bytes(S_KEY.verify_key)),
        identity=R_KEY,
        label="r",
        software="t",
        verify=verify,
        entropy=entropy(10, session),
    )
    s = handshake.HostHandshake(
        where,
        secrets=secrets,
        identity=S_KEY,
        label="s",
        software="t",
        verify=False,
        entropy=entropy(20, session),
    )
    at_sender = s.receive_3(r.receive_2(s.receive_1(r.message_1())))
    return at_sender, r.receive_4(s.message_4())


class Pair:
    """`files` are contents; None is a directory, an int a file that is one hole of that length."""

    def __init__(
        self,
        files: Sequence[Content] = (b"hello", b"world"),
        *,
        largest: int = 4096,
        verify: bool = False,
    ):
        self.now, self.sessions = 100.0, 0
        at_sender, at_recipient = secured(verify)
        self.sender = session.SenderSession(
            at_sender, S_KEY, TRANSFER, largest, self.now, verify=False
        )
        self.recipient = session.RecipientSession(at_recipient, R_KEY, self.now, verify=verify)
        self.files = list(files)
        entries = [
            Entry(
                f"f{i}",
                "directory" if f is None else "file",
                f if isinstance(f, int) else len(f or b""),
                0,
            )
            for i, f in enumerate(files)
        ]
        self.manifest = Manifest(tuple(entries), bytes(32))
        self.data, self.tape = encode_manifest(self.manifest), self.manifest.tape()
        self.content = b"".join(f for f in files if isinstance(f, bytes))
        self.to_recipient: deque[bytes] = deque()
        self.to_sender: deque[bytes] = deque()
        self.lanes: dict[int, deque[tuple[Header, Message]]] = {0: deque()}
        self.disk: dict[int, Message] = {}  # offset -> payload
        self.facts: dict[Role, list[session.Event]] = {"sender": [], "recipient": []}
        self.withdraw_at: dict[int, int] = {}  # entry -> status, when its turn comes
        self.refuse: list[tuple[int, int]] = []  # (entry, status) of the recipient
        self.digested: set[int] = set()
        self.receipts: list[bytes] = []
        self.durable = 0  # what an earlier session left behind
        self.earlier: Results | None = None  # likewise

    @property
    def lane(self) -> deque[tuple[Header, Message]]:
        return self.lanes[0]

    # --- plumbing

    def flush(self) -> None:
        self.to_recipient.extend(self.sender.frames())
        self.to_sender.extend(self.recipient.frames())
        for event in self.sender.events():
            self.facts["sender"].append(event)
            if isinstance(event, session.Receipted):
                self._countersign(event)
        for event in self.recipient.events():
            self.facts["recipient"].append(event)
            if isinstance(event, session.ManifestArrived):
                assert decode_manifest(event.data) == self.manifest
            elif isinstance(event, session.Delivered):
                self._finish(event)
            elif isinstance(event, session.Countersigned):
                self.recipient.confirm(self.now)
                self.flush()

    def saw(self, role: Role, kind: type[E]) -> list[E]:
        return [event for event in self.facts[role] if isinstance(event, kind)]

    def _countersign(self, event: session.Receipted) -> None:
        root = results_root(self.manifest, self.sender.results)
        self.signature = self.sender.countersign(event, root, [self.sender.closed(OWN, SECURITY)])
        self.sender.countersigned(self.signature, self.now)
        self.receipts.append(event.payload)
        self.flush()

    def _finish(self, event: session.Delivered) -> None:
        claimed = Results.decode(event.digests, self.manifest)
        results = Results(len(claimed))
        for index in range(len(claimed)):
            status, digest = claimed[index]
            if status:
                results.failed(index, status)
            else:
                results.delivered(index, digest)
        for index, status in self.refuse:
            results.failed(index, status)
        payload = self.payload(results)
        self.recipient.finish(results, self.refuse, payload, receipt.sign(R_KEY, payload), self.now)
        self.flush()

    def payload(self, results: Results, **changes: Any) -> bytes:
        root = results_root(self.manifest, results)
        text = {k: encode_base64url(v) if isinstance(v, bytes) else v for k, v in SECURITY.items()}
        fields = {
            "type": receipt.TYPE,
            "sender": receipt.party(
                bytes(S_KEY.verify_key), "s", "t", self.recipient.sender_audit_head
            ),
            "recipient": receipt.party(bytes(R_KEY.verify_key), "r", "t", "0" * 64),
            "stored": "file",
            "security": {
                "suite": "x",
                "transcript": encode_base64url(self.recipient.secured.transcript),
                "path": "direct",
                **text,
            },
            **self.recipient.receipt_members(results, root, TIME),
            **changes,
        }
        return encode_json(fields)

    # --- one step each; True when it did something

    def offer(self) -> None:
        results = self.earlier or Results(len(self.manifest.entries))
        self.sender.offer(
            self.manifest, self.data, self.tape, TIME, self.now, results, self.durable
        )
        self.flush()

    def reconnect(self) -> Self:
        """Cut, and there again: new sessions, and the recipient has what was durable."""
        self.durable = self.recipient._streams[Stream.DATA].durable
        self.earlier = self.sender.results
        self.sessions += 1
        at_sender, at_recipient = secured(False, self.sessions)
        largest = self.sender.lanes.largest
        self.sender = session.SenderSession(
            at_sender, S_KEY, TRANSFER, largest, self.now, verify=False
        )
        self.recipient = session.RecipientSession(at_recipient, R_KEY, self.now, verify=False)
        for queue in (self.to_recipient, self.to_sender):
            queue.clear()
        self.lanes = {0: deque()}
        self.disk = {at: data for at, data in self.disk.items() if at < self.durable}
        return self

    def accept(self) -> None:
        self.recipient.read(self.manifest, self.tape)
        self.recipient.accept(TIME, self.now, self.durable)
        self.flush()

    @property
    def may_add_lane(self) -> bool:
        """A lane opens once both have told how it is reached, the recipient in its table's states."""
        return self.recipient.state is not session.RecipientState.WAITING

    def add_lane(self, rank: int = session.WEBRTC) -> int:
        number = self.sender.lanes.number()
        self.sender.lanes.add(number, rank)
        self.recipient.add_lane(number)
        self.lanes[number] = deque()
        return number

    def drop_lane(self, number: int) -> None:
        self.sender.lanes.drop(number)
        del self.lanes[number]

    def send_range(self, lane: int = 0) -> bool:
        if self.sender.all_sent:
            self._finish_digests()
            self.sender.draw_up(TIME, "0" * 64)
            self.sender.close(self.now)
            self.flush()
            return True
        plan = self.sender.plan(lane, self.now)
        if plan is None:
            return False
        if not isinstance(plan, session.Plan):  # another lane holds it up
            self._put(lane, *plan, again=True)
            return True
        if plan.stream != Stream.DATA:
            payload = self.sender.bytes_of(plan.stream, plan.offset, min(plan.step, plan.length))
            self._put(
                lane, Header(TRANSFER, plan.stream, False, plan.offset, len(payload)), payload
            )
            return True
        entry = self.tape.entry_at(plan.offset)
        if entry in self.withdraw_at:
            self.sender.withdraw([(entry, self.withdraw_at.pop(entry))], self.now)
            self.digested.add(entry)
            self.flush()
            return True
        here, end = self.files[entry], self.tape.end(entry)
        assert here is not None  # a directory has no bytes
        if isinstance(here, int):
            self._put(
                lane, Header(TRANSFER, Stream.DATA, True, plan.offset, end - plan.offset), b""
            )
            return True
        length = min(plan.step, plan.length, end - plan.offset)
        start = plan.offset - self.tape.start(entry)
        header = Header(TRANSFER, Stream.DATA, False, plan.offset, length)
        self._put(lane, header, here[start : start + length])
        return True

    def _put(self, lane: int, header: Header, payload: Message, again: bool = False) -> None:
        if not again:
            self.sender.taken(header)
        self.sender.sent(lane, header, payload, self.now)
        self.lanes[lane].append((header, payload))
        self.flush()

    def _finish_digests(self) -> None:
        for index, content in enumerate(self.files):
            if content is not None and index not in self.digested:
                whole = bytes(content) if isinstance(content, int) else content
                self.sender.hashed(index, sha256(whole))

    def deliver_control(self, to: Role) -> bool:
        queue, other = (
            (self.to_recipient, self.recipient)
            if to == "recipient"
            else (self.to_sender, self.sender)
        )
        if not queue:
            return False
        frame = queue.popleft()
        other.receive_frame(frame, self.now)
        self.flush()
        return True

    def deliver_data(self, lane: int = 0) -> bool:
        queue = self.lanes.get(lane)
        if not queue:
            return False
        header, payload = queue[0]
        if header.stream == Stream.DATA and self.recipient.state.value == "deciding":
            return False
        queue.popleft()
        if self.recipient.admit(header, self.now, lane):
            if header.stream == Stream.DATA:
                assert header.hole or header.end <= self.recipient._streams[Stream.DATA].limit
                self.disk[header.offset] = bytes(header.length) if header.hole else payload
            self.recipient.written(header, payload, self.now, lane)
        self.flush()
        return True

    def sync(self) -> bool:
        if (
            self.recipient.state.value != "receiving"
            or self.recipient.frontier == self.recipient._streams[Stream.DATA].durable
        ):
            return False
        self.recipient.synced(self.recipient.frontier, self.now)
        self.flush()
        return True

    def read_back(self) -> bool:
        if self.recipient.state.value != "receiving":
            return False
        stream = self.recipient._streams[Stream.DATA]
        if self.recipient._whole or stream.verified == stream.durable < stream.total:
            return False
        self.recipient.verified(stream.durable, self.now)
        self.flush()
        return True

    def tick(self, seconds: float = 0.05) -> None:
        self.now += seconds
        for one in (self.sender, self.recipient):
            one.tick(self.now)
            self.flush()

    @property
    def over(self) -> bool:
        return self.sender.over and self.recipient.over

    def run(self, limit: int = 20_000) -> Self:
        """Everything in the obvious order until both are over."""
        for _ in range(limit):
            if self.over:
                return self
            if self.recipient.state.value == "deciding":
                self.accept()
            did = [
                self.deliver_control("recipient"),
                self.deliver_control("sender"),
                any(map(bool, [self.send_range(lane) for lane in self.lanes])),
                any(map(bool, [self.deliver_data(lane) for lane in self.lanes])),
                self.sync(),
                self.read_back(),
            ]
            if not any(did):
                self.tick()
        raise AssertionError("it does not end")
