"""The sender's half of a byte's walk, within one session:

    disk -> Source.read -> compress -> seal -> lane

woken by what the session lets happen. What the recipient is promised stands in the journal first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from ..compression import compress
from ..lanes import Lane, LaneLost, hear_nothing
from ..lanes.multipath import SenderMultipath
from ..protocol import session as sessions
from ..protocol.errors import Failure
from ..protocol.handshake import RESUME, ZSTD_FRAMES
from ..protocol.manifest import CHANGED, Manifest, results_root
from ..protocol.seal import HOLE, Header, Message, Stream, with_headroom
from ..protocol.session import Plan, SenderSession
from ..state.folder import now_text
from ..storage.ports import Block, Source
from ..version import SOFTWARE
from .driver import Admit, Connected, Driver
from .rates import Meter
from .sender import SenderTransfer

NOTE_SECONDS = 2.0
ANSWER_SECONDS = 600.0  # for a person to look at an offer, and to compare the digits
COMPRESS_RATE = 150e6  # bytes a second on the lanes, above which compressing would hold them up
HELP_SECONDS = 0.5  # between two looks whether a lane can help another


class SendDriver(Driver):
    """The sender's session, from the admission on."""

    session: SenderSession
    lanes: SenderMultipath

    def __init__(self, transfer: SenderTransfer, connected: Connected, admit: Admit) -> None:
        """`admit` is told whom it is about, the check digits and whether both sides have compared
        them; it raises `Failure` for no."""
        super().__init__(transfer.options, transfer.identity, connected, transfer.targets)
        self._transfer, self._admit = transfer, admit
        transfer.met(self._secured.peer.identity)
        suite = self._secured.suite
        self._overhead, self._seal_range = suite.overhead, suite.seal
        largest = connected.carrier.max_message_size - suite.overhead
        self.session = SenderSession(
            self._secured,
            transfer.identity.key,
            transfer.record.transfer_id,
            largest & ~4095,
            time.monotonic(),
            verify=transfer.verify,
        )
        self.lanes = SenderMultipath(
            self.session, connected.carrier.data, self._step, self._carry, self._lane_context
        )
        self._wire = Meter()
        self._source: Source | None = None
        self._reading = asyncio.Lock()  # entries are read in order, whatever lane it is for
        self._fresh = True  # nothing of the tape was read in this session yet
        self._superseded = asyncio.Event()

    @property
    def can_resume(self) -> bool:
        """Whether the recipient can take up again what was broken off."""
        return RESUME in self._secured.peer.capabilities

    def give_way(self) -> None:
        """The same recipient is there by a new connection: this one is over."""
        self._superseded.set()

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        data = self._connected.carrier.data
        return [
            self._conduct(),
            self._watch_successor(),
            self._note_progress(),
            hear_nothing(data),
        ]

    async def _watch_successor(self) -> None:
        await self._superseded.wait()
        self._lose()

    def _clean_up(self) -> None:
        if self._source is not None:
            self._source.close()

    def _on_progress(self, event: sessions.Progressed) -> None:
        self._transfer.progressed(event.durable)

    # -- from the admission to the offer

    async def _conduct(self) -> None:
        """Admission, offer, and at the end the receipt."""
        session, transfer, peer = self.session, self._transfer, self._secured.peer
        met = await self._introduce()
        if session.needs_confirmation:
            again = transfer.peer == peer.identity and transfer.record.confirmed
            async with self._answer():
                if not again:
                    await self._confirm_digits(met)
                self._step(session.confirm_digits)
                while not session.may_offer:
                    await self._next(sessions.Confirmed)
        confirmed = session.needs_confirmation
        await self._admit(met, self._secured.digits, confirmed)
        prepared = await asyncio.shield(transfer.prepare())
        await transfer.admitted(peer.identity, peer.label, confirmed=confirmed)
        tape, manifest = prepared.tape, prepared.manifest
        self._source = transfer.open_source(prepared.listing, tape, self._overhead)
        self._tell("offered")
        offer = manifest, prepared.data, tape, now_text(), time.monotonic(), prepared.results
        self._step(session.offer, *offer, transfer.reached)
        self.lanes.admitted.set()
        async with self._answer():
            answer = await self._next(sessions.Accepted, sessions.Receipted)
        if isinstance(answer, sessions.Receipted):
            receipted = answer  # signed in an earlier session, if there was one
        else:
            transfer.accepted()
            self._tell("accepted")
            receipted = await self._next(sessions.Receipted)
        self._tell("signing")
        await self._sign(manifest, receipted)

    @asynccontextmanager
    async def _answer(self) -> AsyncIterator[None]:
        """A visitor that answers nothing does not keep others out for ever. Who has accepted before
        may take as long as reading back what is there does."""
        try:
            async with asyncio.timeout(None if self._transfer.is_accepted else ANSWER_SECONDS):
                yield
        except TimeoutError:
            raise Failure("no_answer") from None

    # -- bytes

    async def _carry(self, number: int, lane: Lane) -> None:
        """Disk -> read, seal, a few ranges at a time in threads -> lane."""
        lanes = self.session.lanes
        while self._ended is None and number in lanes.windows:
            plan, blocks = await self._plan(number)
            if plan is None:
                with self._waits.on(self._bottleneck(number)):
                    await self._woken(HELP_SECONDS if len(lanes.windows) > 1 else None)
                continue
            if isinstance(plan, Plan):
                sealed = await self._thread(self._seal, blocks)
            else:
                sealed = [plan]
            # Once it is the lane's, another can help out; so not before it may be sent.
            step = 1 if self._options.limit else max(len(sealed), 1)
            for at in range(0, len(sealed), step):
                await self._send(number, lane, sealed[at : at + step])

    async def _plan(
        self, number: int
    ) -> tuple[Plan | tuple[Header, Message] | None, list[tuple[Block, Header]]]:
        """What a lane is to carry next, and a stretch of it that was read."""
        session = self.session
        blocks: list[tuple[Block, Header]] = []
        async with self._reading:
            if self._fresh and session.begins >= 0:
                self._fresh = False
                await self._skip_to(session.begins)
            if session.all_sent:
                await self._close()
            plan = session.plan(number, time.monotonic())
            if isinstance(plan, Plan):
                with self._waits.on("disk"):
                    blocks = await self._thread(self._read, plan)
                for block, header in blocks:
                    if block.length:
                        session.taken(header)
                    self._note_ends(block)
            await self._transfer.reach(session.reached)
        return plan, blocks

    def _bottleneck(self, number: int) -> sessions.Bottleneck:
        """Why a lane has nothing to do."""
        window = self.session.lanes.windows.get(number)
        if window is None or not window.flights:
            return ""  # it is gone, or others do it
        return "other_side" if self.session.at_limit else "network"

    async def _send(self, number: int, lane: Lane, sealed: list[tuple[Header, Message]]) -> None:
        session, windows = self.session, self.session.lanes.windows
        with self._waits.on("limit"):
            await self._limiter.take(sum(len(message) for _, message in sealed))
        for header, message in sealed:
            session.sent(number, header, message, time.monotonic())
        try:
            for _, message in sealed if number in windows else ():
                with self._waits.on("network"):
                    await lane.send(message)
        except LaneLost:
            if number == 0:
                self._lose()
            elif number in windows:
                self._step(session.lanes.drop, number)

    async def _skip_to(self, offset: int) -> None:
        """Take up an earlier session where the recipient stands."""
        source, known = self._source, self.session.results.known
        assert source is not None
        with self._waits.on("disk"):
            skipped = await self._thread(source.skip, offset, known, self._is_over)
        self._note_ends(skipped)

    def _read(self, plan: Plan) -> list[tuple[Block, Header]]:
        """A stretch, cut into ranges; it ends early at a hole or a withdrawn entry."""
        found, offset, end = [], plan.offset, plan.offset + plan.length
        while offset < end:
            length = min(plan.step, end - offset)
            if plan.stream == Stream.DATA:
                assert self._source is not None
                block = self._source.read(offset, length, compress=self._compresses)
            else:
                payload = self.session.bytes_of(plan.stream, offset, length)
                message = with_headroom(payload)
                block = Block(offset, len(payload), False, message, self._overhead)
            flags = HOLE if block.hole else 0
            transfer_id = self.session.transfer_id
            header = Header(transfer_id, plan.stream, flags, offset, block.length)
            found.append((block, header))
            offset += block.length
            if block.hole or block.withdrawn or not block.length:
                break
        return found

    @property
    def _compresses(self) -> bool:
        """Whether compression pays: not where the lanes are faster than it is."""
        able = ZSTD_FRAMES in self._secured.peer.capabilities and self._options.compress
        return able and self._wire.rate(self.session.lanes.carried) < COMPRESS_RATE

    def _seal(self, blocks: list[tuple[Block, Header]]) -> list[tuple[Header, Message]]:
        """Compress where that pays, and seal."""
        sealed: list[tuple[Header, Message]] = []
        for block, header in blocks:
            if not block.length:
                continue
            message = block.message
            if smaller := compress(block.payload, block.compression, block.phase):
                header, message = header._replace(flags=smaller[0]), with_headroom(smaller[1])
            sealed.append((header, self._seal_range(self._secured.session_key, header, message)))
        return sealed

    def _note_ends(self, block: Block) -> None:
        for entry, digest in block.finished:
            self.session.hashed(entry, digest)
        if block.withdrawn:
            self._step(self.session.withdraw, block.withdrawn, time.monotonic())

    # -- the end

    async def _close(self) -> None:
        """The tape is through: entries of size 0 that lie at its end, then the closing."""
        source, session = self._source, self.session
        assert source is not None
        block = await self._thread(source.read, 0, 0)
        self._note_ends(block)
        if block.finished or block.withdrawn:
            return
        with self._waits.on("disk"):
            changed = [] if self._was_closed else await self._thread(self._find_changed, source)
        if changed:
            withdrawn = [(entry, CHANGED) for entry in changed]
            self._step(session.withdraw, withdrawn, time.monotonic())
        else:
            session.draw_up(now_text(), await self._thread(self._options.home.audit.head))
            own = {"label": self._identity.label, "software": SOFTWARE}
            closed = session.closed(own, self._security())
            await self._transfer.note_closing(closed)
            self._step(session.close, time.monotonic())
            self._tell("verifying")

    @property
    def _was_closed(self) -> bool:
        """Whether an earlier session said the closing of all that the recipient has: it may have
        settled by that one, so it stays as it was."""
        whole = self.session.begins >= 0 and self.session.begins == self.session.total
        return whole and bool(self._transfer.record.closings)

    def _find_changed(self, source: Source) -> list[int]:
        results = self.session.results
        return source.changed(lambda entry: results[entry], self._is_over)

    async def _sign(self, manifest: Manifest, receipted: sessions.Receipted) -> None:
        session, transfer, key = self.session, self._transfer, self._identity.key
        root = await self._thread(results_root, manifest, session.results)
        signature = session.countersign(receipted, root, transfer.record.closings)
        recipient = self._secured.peer.identity, receipted.signature
        sender = bytes(key.verify_key), signature
        await transfer.keep_receipt(receipted.payload, recipient, sender)
        await self._pin()
        self._step(session.countersigned, signature, time.monotonic())

    async def _note_progress(self) -> None:
        """For people who look at it after a crash; the recipient alone knows where to go on."""
        transfer, noted = self._transfer, self._transfer.durable
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            if transfer.peer and transfer.durable != noted:
                noted = transfer.durable
                with suppress(OSError):
                    await transfer.note(durable=noted)
