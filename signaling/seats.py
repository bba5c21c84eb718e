"""The seats of this node: what peers say at them, and what they are told.

A host's seat has a room, a guest's has an attempt in one. The two of an attempt may sit at
different nodes; what one says reaches the other by the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import WSCloseCode, web

from . import messages, rooms, store
from .access import Access
from .connections import Connection
from .ice import IceConfiguration
from .policy import Policy
from .rooms import Kind, Limits, Refused, Told
from .tally import Tally

logger = logging.getLogger("handover.signaling")

AGAIN_SECONDS = 1.0  # until the store is told again what it has not heard


@dataclass(slots=True)
class _Link:
    """What one side of an attempt knows: where the other one sits, and what it has sent there."""

    other: rooms.Seat
    messages: int = 0
    size: int = 0


class Seat:
    """One WebSocket: a host with a room, or a guest with an attempt.

    What it is told waits here, so that nobody waits for a peer that does not read.
    """

    def __init__(self, socket: web.WebSocketResponse, connection: Connection, limits: Limits):
        self.connection = connection
        self.id = os.urandom(messages.ATTEMPT)  # a guest's is its attempt
        self.room = b""
        self.is_host = self.stays = False  # the latter: a page that has something to save
        self.strays = 0
        self.links: dict[bytes, _Link] = {}  # by attempt
        self.timer: asyncio.TimerHandle | None = None  # of its room, or of its attempt
        self.hung_up = self.over = False  # the latter: a guest's attempt is
        self.joined = 0.0  # when a guest did, by the loop's clock
        self._created = False
        self._socket, self._limits = socket, limits
        self._unsent: list[str | bytes] = []
        self._unsent_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._code = WSCloseCode.OK

    @property
    def origin(self) -> rooms.Origin:
        """Whose it is."""
        assert self.connection.origin is not None  # known since its request was
        return self.connection.origin

    def say(self, kind: str, **members: object) -> None:
        """Tell it, soon."""
        self._put(messages.encode(kind, **members))

    def say_created(self, policy: dict[str, Any] | None) -> None:
        """Before anything else, once."""
        if not self._created:
            self._created = True
            self.say("created", policy=policy)

    def pong(self, data: bytes) -> None:
        """Answer a ping, soon."""
        self._put(data)

    def hang_up(self, code: WSCloseCode = WSCloseCode.OK) -> None:
        """Close it once it was told everything."""
        if not self.hung_up:
            self.hung_up, self._code = True, code
            self._write_on()

    async def closed(self) -> None:
        """Hang up, and wait until that is done; it takes a bounded time."""
        self.hang_up()
        writing = self._writing
        if writing is not None:
            try:
                await asyncio.wait([writing])
            finally:
                writing.cancel()

    def _put(self, item: str | bytes) -> None:
        self._unsent_bytes += len(item)
        if (
            len(self._unsent) >= self._limits.unsent_messages
            or self._unsent_bytes > self._limits.unsent_bytes
        ):
            self.connection.abort()
        elif not self.hung_up:
            self._unsent.append(item)
            self._write_on()

    def _write_on(self) -> None:
        """Have what is there sent; who waits takes no task."""
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Send what it is told, until there is nothing more, or it does not take it in time."""
        try:
            while self._unsent:
                item = self._unsent.pop(0)
                async with asyncio.timeout(self._limits.write_seconds):
                    if isinstance(item, str):
                        await self._socket.send_str(item)
                    else:
                        await self._socket.pong(item)
                self._unsent_bytes -= len(item)
            if self.hung_up:
                async with asyncio.timeout(self._limits.shutdown_seconds):
                    await self._socket.close(code=self._code)
        except TimeoutError:
            self.connection.abort()
        except (ConnectionError, RuntimeError):  # it is gone
            pass
        finally:
            self._writing = None


class Seats:
    """All of them, and what may be said at one."""

    def __init__(
        self,
        limits: Limits,
        shared: store.Store,
        ice: IceConfiguration,
        tally: Tally,
        access: Access | None = None,
        policy: Policy | None = None,
        guest: tuple[bytes, bytes] | None = None,
        *,
        own: bool = False,
    ) -> None:
        """`access`: who may create rooms; without, anyone. `policy`: what peers are told. Pages
        of the `guest` may `stay`: the room, and the SHA-256 of its join token. With `own`, a
        transfer's own server, that is the guest of whatever room is made."""
        self.guest, self._own = guest, own
        self.draining = False
        self._access, self._policy = access, policy or Policy()
        self._limits, self._store, self._ice, self._tally = limits, shared, ice, tally
        self._by_id: dict[bytes, Seat] = {}
        self._rooms = 0
        self._errands: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many rooms have their host here."""
        return self._rooms

    # --- what a peer says

    async def act(self, seat: Seat, message: messages.Message) -> None:
        """Raises `BadMessage`, `Refused`, `Unavailable`."""
        kind = message["type"]
        if seat.over:  # it has yet to hear so
            return
        if seat.stays:
            raise messages.BadMessage
        if not seat.room:
            if self.draining and kind in ("create", "join"):
                raise Refused("going_away")
            if kind == "create":
                await self._create(seat, message)
            elif kind == "join":
                await self._join(seat, message)
            elif kind == "stay":
                self._stay(seat, message)
            else:
                raise messages.BadMessage
        elif kind == "envelope":
            await self._pass_on(seat, message["attempt"], message["body"])
        elif kind == "leave":
            self._stray(seat, message["attempt"])
            await self._leave(seat, message["attempt"])
        elif kind == "close" and seat.is_host:
            self._finish(seat)
        else:
            raise messages.BadMessage

    async def _create(self, seat: Seat, message: messages.Message) -> None:
        room, join_hash = message["room"], message["join_hash"]
        ttl = min(message["ttl"], self._policy.max_expires)
        owner_hash = hashlib.sha256(message["owner"]).digest()
        # Who has the room already may come back when a token has expired.
        again = self._access is not None and not await self._access.allows(message["token"] or "")
        self._by_id[seat.id] = seat  # before: a guest may be quicker than the store's answer
        try:
            told = await self._store.create(
                room, join_hash, owner_hash, ttl, seat.origin, seat.id, again=again
            )
        except BaseException as error:
            self._by_id.pop(seat.id, None)
            if isinstance(error, store.Unavailable):  # it may have been done all the same
                seat.room = room
                self._soon(self._persist, self._store.away, seat)
            raise
        seat.room = room
        if seat.id not in self._by_id:  # it has been taken from there already
            await self._send(told)
            self._soon(self._persist, self._store.away, seat)
            return
        seat.is_host = True
        seat.timer = asyncio.get_running_loop().call_later(ttl, self._end, seat, "expired")
        self._rooms += 1
        if self._own:
            self.guest = (room, join_hash)
        logger.info("room created, %d in all", self._rooms)
        self._tally.count("rooms_created")
        seat.say_created(self._policy.told())
        await self._send(told)

    async def _join(self, seat: Seat, message: messages.Message) -> None:
        room, join_hash = message["room"], hashlib.sha256(message["join"]).digest()
        host = await self._store.join(room, join_hash, seat.origin, seat.id)
        seat.room = room
        seat.links[seat.id] = _Link(host)
        self._by_id[seat.id] = seat
        seconds = self._limits.attempt_seconds
        loop = asyncio.get_running_loop()
        seat.timer = loop.call_later(seconds, self._soon, self._leave, seat, seat.id)
        seat.joined = loop.time()
        self._tally.count("attempts")
        told = self._policy.told()
        seat.say("joined", attempt=seat.id, ice=self._told(seat), policy=told)
        if not await self._store.send(host, Kind.ATTEMPT, seat.id):
            await self._send(await self._store.lost(room, host))
            raise Refused("not_found")

    def _stay(self, seat: Seat, message: messages.Message) -> None:
        room, join_hash = self.guest or (b"", b"")  # none of a server that outlives its transfers
        same = hmac.compare_digest(hashlib.sha256(message["join"]).digest(), join_hash)
        if not same or message["room"] != room:
            raise Refused("not_found")
        seat.stays = True

    async def _pass_on(self, seat: Seat, attempt: bytes, body: bytes) -> None:
        link = seat.links.get(attempt)
        if link is None:  # it crossed the end of the attempt
            self._stray(seat, attempt)
            return
        link.messages += 1
        link.size += len(body)
        limits = self._limits
        if link.messages > limits.attempt_messages or link.size > limits.attempt_bytes:
            await self._leave(seat, attempt)
            raise Refused("rate_limited")
        self._tally.count("envelopes")
        if not await self._store.send(link.other, Kind.ENVELOPE, attempt, body):
            await self._leave(seat, attempt)

    def _stray(self, seat: Seat, attempt: bytes) -> None:
        """Messages cross the end of an attempt, but not for ever; a guest knows of its own only."""
        if attempt not in seat.links:
            seat.strays += 1
            if not seat.is_host or seat.strays > self._limits.stray_messages:
                raise messages.BadMessage

    def _finish(self, seat: Seat) -> None:
        self._forget(seat)
        self._leave_all(seat)
        self._soon(self._persist, self._store.finish, seat)

    async def _leave(self, seat: Seat, attempt: bytes) -> None:
        """End an attempt, from here."""
        link = seat.links.get(attempt)
        if link is None:
            return
        self._left(seat, attempt)
        guest = link.other if seat.is_host else rooms.Seat(self._store.name, seat.id)
        with suppress(store.Unavailable):
            await self._store.send(link.other, Kind.LEFT, attempt)
            await self._store.leave(seat.room, guest)

    # --- what a seat is told

    def take(self, word: store.Word) -> None:
        """Give a word to its seat, if that is here yet."""
        seat = self._by_id.get(word.seat)
        if seat is None:
            if word.kind is Kind.ATTEMPT:  # it came as the host went
                self._soon(self._send, [(rooms.Seat(word.node, word.attempt), Kind.LEFT)])
            return
        if word.kind is Kind.ENVELOPE:
            if word.attempt in seat.links:
                seat.say("envelope", attempt=word.attempt, body=word.body)
        elif word.kind is Kind.LEFT:
            self._left(seat, word.attempt or seat.id)
        elif word.kind is Kind.ATTEMPT:
            if word.attempt not in seat.links:
                seat.say_created(self._policy.told())
                seat.links[word.attempt] = _Link(rooms.Seat(word.node, word.attempt))
                seat.say("attempt", attempt=word.attempt, ice=self._told(seat))
        else:
            self._end(seat, "full" if word.kind is Kind.FULL else None)

    def cut_off(self) -> None:
        """Attempts with peers at other nodes may have missed something: they begin anew."""
        for seat in list(self._by_id.values()):
            for attempt, link in list(seat.links.items()):
                if link.other.node != self._store.name:
                    self._soon(self._leave, seat, attempt)

    def _left(self, seat: Seat, attempt: bytes) -> None:
        """An attempt is over: say so to the seat. A guest then hangs up, and says how it went."""
        if seat.links.pop(attempt, None) is None:
            return
        seat.say("left", attempt=attempt)
        if not seat.is_host:
            self._forget(seat)
            seat.over = True
            loop = asyncio.get_running_loop()
            seat.timer = loop.call_later(self._limits.shutdown_seconds, seat.hang_up)
        elif self.draining and not seat.links:
            self._send_away(seat)

    def _end(self, seat: Seat, code: str | None) -> None:
        """A host's seat is nobody's any more."""
        self._forget(seat)
        self._leave_all(seat)
        if code is not None:
            seat.say("error", code=code)
        seat.hang_up()
        self._soon(self._persist, self._store.away, seat)

    def _leave_all(self, seat: Seat) -> None:
        for attempt in list(seat.links):
            self._soon(self._leave, seat, attempt)

    def drain(self) -> None:
        """Take nobody new, and send away who has no attempt under way; others once it is over."""
        self.draining = True
        for seat in list(self._by_id.values()):
            if not seat.links:
                self._send_away(seat)

    @property
    def under_way(self) -> bool:
        """Whether there is an attempt."""
        return any(seat.links for seat in self._by_id.values())

    def _send_away(self, seat: Seat) -> None:
        seat.say("error", code="going_away")
        seat.hang_up(WSCloseCode.GOING_AWAY)

    def vacate(self, seat: Seat, code: int | None = None) -> None:
        """Its connection is gone, by this code. A room outlives its host's, so that it can come
        back."""
        outcome = messages.OUTCOMES.get(code or 0)
        if outcome is not None and seat.joined:
            self._tally.count("outcomes", outcome)
            if outcome in messages.CONNECTED:
                self._tally.connected(asyncio.get_running_loop().time() - seat.joined)
        if self._by_id.get(seat.id) is not seat:
            return
        self._forget(seat)
        self._leave_all(seat)
        if seat.is_host:
            self._soon(self._persist, self._store.away, seat)

    async def _persist(self, say: Callable[[bytes, bytes], Awaitable[Told]], seat: Seat) -> None:
        """Say to the store what becomes of a host's seat, until it has heard."""
        while True:
            with suppress(store.Unavailable):
                await self._send(await say(seat.room, seat.id))
                return
            await asyncio.sleep(AGAIN_SECONDS)

    def _forget(self, seat: Seat) -> None:
        """Nothing more reaches this seat."""
        if self._by_id.pop(seat.id, None) is not None:
            self._rooms -= seat.is_host
        if seat.timer is not None:
            seat.timer.cancel()

    def _told(self, seat: Seat) -> dict[str, Any] | None:
        return self._ice.told(time.time(), seat.connection.seen.host)

    # --- errands

    async def _send(self, told: Told) -> None:
        for seat, kind in told:
            with suppress(store.Unavailable):
                await self._store.send(seat, kind, b"")

    def _soon(self, act: Any, *arguments: object) -> None:
        """Do what may take a while, when nobody waits for it."""
        doing: Coroutine[Any, Any, None] = act(*arguments)
        errand = asyncio.create_task(doing)
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    async def end(self, seconds: float) -> None:
        """Wait for errands, not for long."""
        if self._errands:
            await asyncio.wait(set(self._errands), timeout=seconds)
        for errand in self._errands:
            errand.cancel()
