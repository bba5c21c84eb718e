"""The store that many nodes share: Redis, or Valkey, by redis-py.

It holds hashes, names of nodes and expiries. What one seat says to another passes by publish and
subscribe, a channel for each node, and is kept nowhere. Every operation is one script, so no two
nodes can take the same seat, and times are Redis's own, so clocks of nodes do not matter. Keys are
not known beforehand in all scripts: no Redis Cluster. A node that has shown no sign of life for a
while is dead: where it matters how many rooms there are, those of its hosts count no more.

Redis may restart empty, or be another machine that has missed the last writes. Each node therefore
registers its rooms anew whenever it has heard nothing for a while, unless their hosts have moved.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis import asyncio as redis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from .rooms import SAME_TIME, Kind, Limits, Origin, Refused, Seat, Told, Waiting
from .store import Node, Unavailable, Word

logger = logging.getLogger("handover.signaling")

NAME = 16  # bytes of a node's name, and of a seat's id
PREFIX = "handover:"
ANSWER_SECONDS = 2.0  # for a command to be answered
WAIT_SECONDS = 7.0  # for Redis to come back, while a peer waits; for 10 s at most
BEAT_SECONDS = 5.0  # between signs of life; three missed ones on the channel are too many
ALIVE_SECONDS = 60.0  # that a node is taken to be after the last one
RETRY_SECONDS = 0.5
POOL = 16  # connections
KEY_SECONDS = 86_400  # that addresses are counted under one key
RENEWED_AT_ONCE = 50

# KEYS: room. ARGV: prefix, join hash, owner hash, seat, ttl ms, rooms of an address, its key, that
# of its network, former ms, former rooms of a network, whether it must be there already, whether
# all nodes have had the time to show that they are alive. Answers with the seats of those who were
# in the room: guests, and at the end the host's, or nothing.
_CREATE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local p, room = ARGV[1], KEYS[1]
local known = redis.call('HMGET', room, 'owner', 'ends', 'seat', 'address', 'keep', 'until')
local live = known[2] and tonumber(known[2]) > now and known[1]
if live and known[1] ~= ARGV[3] then return {'room_taken'} end
local function hex(bytes)
  return (bytes:gsub('.', function(char) return string.format('%02x', char:byte()) end))
end
local address, keep = known[4], known[5]
local answer = {'ok'}
if live then
  for _, guest in ipairs(redis.call('ZRANGE', room .. ':attempts', 0, -1)) do
    table.insert(answer, guest)
  end
  table.insert(answer, known[3] ~= ARGV[4] and known[3] or '')
elseif ARGV[11] == '1' then
  return {'token_required'}
else
  address = ARGV[7]
  local rooms = p .. 'rooms:' .. address
  local others = redis.call('ZCOUNT', rooms, '(' .. now, '+inf')
  if others >= tonumber(ARGV[6]) and ARGV[12] == '1' then
    redis.call('SET', p .. 'purged', 1, 'PX', 1000) -- which a full Redis refuses, before the rest
    for _, other in ipairs(redis.call('ZRANGE', rooms, 0, -1)) do
      local seat = redis.call('HGET', other, 'seat')
      local node = seat and seat ~= '' and hex(seat:sub(1, 16))
      if node and redis.call('EXISTS', p .. 'alive:' .. node) == 0 then
        redis.call('DEL', other, other .. ':attempts')
        redis.call('ZREM', rooms, other)
      end
    end
    others = redis.call('ZCOUNT', rooms, '(' .. now, '+inf')
  end
  if others >= tonumber(ARGV[6]) then return {'rate_limited'} end
  -- The first to write, for a full Redis refuses that one only.
  local count = redis.call('INCR', p .. 'former:' .. ARGV[8])
  if count == 1 then redis.call('PEXPIRE', p .. 'former:' .. ARGV[8], ARGV[9]) end
  keep = count <= tonumber(ARGV[10]) and ARGV[9] or '0'
  redis.call('ZREMRANGEBYSCORE', rooms, '-inf', now)
  redis.call('DEL', room)
  redis.call('HSET', room, 'join', ARGV[2], 'owner', ARGV[3], 'address', address, 'keep', keep)
  table.insert(answer, '')
end
local ends = now + tonumber(ARGV[5])
if ARGV[11] == '1' then ends = math.min(ends, tonumber(known[6])) end
redis.call('HSET', room, 'seat', ARGV[4], 'ends', ends)
if ARGV[11] ~= '1' then redis.call('HSET', room, 'until', ends) end
redis.call('HDEL', room, 'away')
redis.call('PEXPIREAT', room, ends + tonumber(keep))
redis.call('DEL', room .. ':attempts')
local rooms = p .. 'rooms:' .. address
redis.call('ZADD', rooms, ends, room)
if redis.call('PTTL', rooms) < ends - now then redis.call('PEXPIREAT', rooms, ends) end
return answer
"""
# KEYS: room. ARGV: prefix, join hash, owner hash, seat, ttl ms, the address's key.
_RENEW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local room = KEYS[1]
local known = redis.call('HMGET', room, 'owner', 'ends', 'seat', 'reason')
local live = known[2] and tonumber(known[2]) > now and known[1]
if known[4] then return 0 end
if live and (known[1] ~= ARGV[3] or (known[3] ~= '' and known[3] ~= ARGV[4])) then return 0 end
local ends = now + tonumber(ARGV[5])
if not live then
  redis.call('DEL', room)
  redis.call('HSET', room, 'join', ARGV[2], 'owner', ARGV[3], 'address', ARGV[6], 'keep', 0,
    'until', ends)
  local rooms = ARGV[1] .. 'rooms:' .. ARGV[6]
  redis.call('ZADD', rooms, ends, room)
  if redis.call('PTTL', rooms) < ends - now then redis.call('PEXPIREAT', rooms, ends) end
end
redis.call('HSET', room, 'seat', ARGV[4], 'ends', ends)
redis.call('HDEL', room, 'away')
redis.call('PEXPIREAT', room, ends + tonumber(redis.call('HGET', room, 'keep')))
return 1
"""
# KEYS: room. ARGV: prefix, join hash, guest's seat, attempt ms, attempts of a room, joins of an
# address into this room, right ones a minute, failed ones of an address, so many a minute.
_JOIN = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local p, room = ARGV[1], KEYS[1]
local function count(key)
  local n = redis.call('INCR', key)
  if n == 1 then redis.call('PEXPIRE', key, 60000) end
  return n
end
local known = redis.call('HMGET', room, 'join', 'ends', 'seat', 'away', 'reason')
local same = known[1] == ARGV[2]
if not same or known[5] or tonumber(known[2]) <= now then
  if count(p .. 'failed:' .. ARGV[8]) > tonumber(ARGV[9]) then return {'rate_limited'} end
  if not same or known[4] then return {'not_found', ''} end
  return {'not_found', known[5] or 'expired'}
end
if count(p .. 'joins:' .. ARGV[6]) > tonumber(ARGV[7]) then return {'rate_limited'} end
if known[3] == '' then return {'not_found', ''} end
local attempts = room .. ':attempts'
redis.call('ZREMRANGEBYSCORE', attempts, '-inf', now)
if not redis.call('ZSCORE', attempts, ARGV[3]) then
  if redis.call('ZCARD', attempts) >= tonumber(ARGV[5]) then return {'busy'} end
end
redis.call('ZADD', attempts, now + tonumber(ARGV[4]), ARGV[3])
redis.call('PEXPIRE', attempts, ARGV[4])
return {'ok', known[3]}
"""
# KEYS: room. ARGV: prefix, seat, ms that it is kept.
_AWAY = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local room = KEYS[1]
local known = redis.call('HMGET', room, 'seat', 'ends', 'address')
if known[1] ~= ARGV[2] or known[1] == '' then return {} end
redis.call('HSET', room, 'seat', '')
local ends = now + tonumber(ARGV[3])
if ends < tonumber(known[2]) then
  redis.call('HSET', room, 'ends', ends, 'away', 1)
  redis.call('PEXPIREAT', room, ends)
  redis.call('ZADD', ARGV[1] .. 'rooms:' .. known[3], ends, room)
end
local guests = redis.call('ZRANGE', room .. ':attempts', 0, -1)
redis.call('DEL', room .. ':attempts')
return guests
"""
# KEYS: room. ARGV: prefix, seat, former ms, ms that two clocks may differ.
_FINISH = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local room = KEYS[1]
local known = redis.call('HMGET', room, 'seat', 'ends', 'address', 'keep')
if known[1] ~= ARGV[2] or known[1] == '' then return {} end
local guests = redis.call('ZRANGE', room .. ':attempts', 0, -1)
redis.call('DEL', room .. ':attempts')
redis.call('ZREM', ARGV[1] .. 'rooms:' .. known[3], room)
if known[4] == '0' then
  redis.call('DEL', room)
else
  local reason = tonumber(known[2]) > now + tonumber(ARGV[4]) and 'closed' or 'expired'
  redis.call('HDEL', room, 'owner', 'address', 'keep')
  redis.call('HSET', room, 'seat', '', 'reason', reason, 'ends', now)
  redis.call('PEXPIRE', room, ARGV[3])
end
return guests
"""


@dataclass(frozen=True, slots=True, eq=False)
class _Registration:
    """What this node has to say of a room whose host it has, or is about to have."""

    join_hash: bytes
    owner_hash: bytes
    ends: float  # by the loop's clock
    address: bytes
    network: bytes
    host: Seat


class RedisStore:
    """A `Store`, which see."""

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        """`url`: `redis://`, `rediss://` (TLS) or `unix://`, with user, password and parameters as
        redis-py has them. Raises `ValueError` for one that is none."""
        self.name = os.urandom(NAME)
        self._limits = limits or Limits()
        self._pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=POOL,
            timeout=WAIT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # whether to try again is decided here
        )
        try:
            make: Any = self._pool.make_connection  # which connects to nothing yet
            make()
        except (TypeError, exceptions.RedisError) as error:  # for unknown parameters
            raise ValueError(str(error)) from None
        self._redis = redis.Redis(connection_pool=self._pool)
        self._command: Any = self._redis.execute_command
        self._listening_redis = redis.Redis.from_url(
            url, socket_connect_timeout=ANSWER_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._create, self._renew, self._join, self._away, self._finish = map(
            self._redis.register_script, (_CREATE, _RENEW, _JOIN, _AWAY, _FINISH)
        )
        self._own: dict[bytes, list[_Registration]] = {}  # by room; what counts is the last
        self._room_of: dict[bytes, bytes] = {}  # by seat
        self._waiting = Waiting()  # rooms of this node, ...
        self._networks: dict[bytes, bytes] = {}  # ... and under which network each is there
        self._up_since = 0.0  # by the loop's clock
        self._key = b""
        self._up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, node: Node) -> None:
        self._node = node
        works = self._listen(), self._keep_key(), self._show_life()
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(exceptions.RedisError, OSError):
            await self._redis.aclose()
            await self._pool.aclose()
            await self._listening_redis.aclose()

    def ready(self) -> bool:
        return self._up.is_set()

    # --- rooms

    async def create(
        self,
        room: bytes,
        join_hash: bytes,
        owner_hash: bytes,
        ttl: int,
        origin: Origin,
        host: bytes,
        *,
        again: bool = False,
    ) -> Told:
        seat = Seat(self.name, host)
        ends = asyncio.get_running_loop().time() + ttl
        own = _Registration(join_hash, owner_hash, ends, origin.address, origin.network, seat)
        new, most = room not in self._own, self._limits.rooms
        if new and len(self._own) >= most and self._waiting.oldest_of_most() is None:
            raise Refused("full")
        self._note(room, own)  # before a later one can be answered
        try:
            told = await self._created(room, own, ttl, origin, again=again)
        except BaseException:
            self._drop(room, own)
            raise
        some = self._own.get(room, [])
        for older in some[: some.index(own)] if own in some else []:
            self._drop(room, older)
        if new and len(self._own) > most:
            self._make_room()
        return told

    def _note(self, room: bytes, own: _Registration) -> None:
        """A room has its host here, or is about to."""
        some = self._own.setdefault(room, [])
        if not some:
            self._waiting.add(own.network, room)
            self._networks[room] = own.network
        some.append(own)
        self._room_of[own.host.id] = room

    def _drop(self, room: bytes, own: _Registration) -> None:
        """It has not, any more, or not there."""
        some = self._own.get(room, [])
        if own not in some:
            return
        some.remove(own)
        if all(one.host != own.host for one in some):
            del self._room_of[own.host.id]
        if not some:
            del self._own[room]
            self._came(room)

    def _came(self, room: bytes) -> None:
        """Somebody came, or nobody will: it is no waiting room."""
        network = self._networks.pop(room, None)
        if network is not None:
            self._waiting.remove(network, room)

    def _make_room(self) -> None:
        """One of this node's gives way; perhaps the newest."""
        room = self._waiting.oldest_of_most()
        if room is not None:
            some = list(self._own[room])
            for own in some:
                self._drop(room, own)
            self._node.take(Word(Kind.FULL, some[-1].host.id))

    def _give(self, word: Word) -> None:
        """A word to a seat of this node; a room that somebody has come to is no waiting one."""
        if word.kind is Kind.ATTEMPT and word.seat in self._room_of:
            self._came(self._room_of[word.seat])
        self._node.take(word)

    async def _created(
        self, room: bytes, own: _Registration, ttl: int, origin: Origin, *, again: bool
    ) -> Told:
        limits = self._limits
        answer = await self._call(
            self._create,
            room,
            own.join_hash,
            own.owner_hash,
            _packed(own.host),
            ttl * 1000,
            limits.rooms_per_address,
            origin.address.hex(),
            origin.network.hex(),
            int(limits.former_seconds * 1000),
            limits.former_rooms_per_network,
            int(again),
            int(asyncio.get_running_loop().time() - self._up_since > ALIVE_SECONDS),
        )
        if answer[0] != b"ok":
            raise Refused(answer[0].decode())
        *guests, former = answer[1:]
        told = _left(guests)
        if former:
            told.append((_seat(former), Kind.REPLACED))
        return told

    async def join(self, room: bytes, join_hash: bytes, origin: Origin, attempt: bytes) -> Seat:
        limits = self._limits
        answer = await self._call(
            self._join,
            room,
            join_hash,
            _packed(Seat(self.name, attempt)),
            int(limits.attempt_seconds * 1000),
            limits.attempts_per_room,
            _named(origin.address + room),
            limits.joins_per_minute,
            origin.address.hex(),
            limits.failed_joins_per_minute,
        )
        if answer[0] != b"ok":
            reason = answer[1].decode() if len(answer) > 1 else ""
            raise Refused(answer[0].decode(), reason or None)
        return _seat(answer[1])

    async def leave(self, room: bytes, seat: Seat) -> None:
        attempts = f"{_room(room)}:attempts"
        await self._ask("ZREM", attempts, _packed(seat))

    async def away(self, room: bytes, host: bytes) -> Told:
        seat = self._deregister(room, host)
        keep = int(self._limits.away_seconds * 1000)
        return _left(await self._call(self._away, room, _packed(seat), keep))

    async def lost(self, room: bytes, host: Seat) -> Told:
        keep = int(self._limits.away_seconds * 1000)
        return _left(await self._call(self._away, room, _packed(host), keep))

    async def finish(self, room: bytes, host: bytes) -> Told:
        seat = self._deregister(room, host)
        keep, same = int(self._limits.former_seconds * 1000), int(SAME_TIME * 1000)
        return _left(await self._call(self._finish, room, _packed(seat), keep, same))

    def _deregister(self, room: bytes, host: bytes) -> Seat:
        seat = Seat(self.name, host)
        for own in list(self._own.get(room, [])):
            if own.host == seat:
                self._drop(room, own)
        return seat

    async def _call(self, script: Any, room: bytes, *arguments: object) -> Any:
        """Run a script on a room; while Redis is away, wait for it a little."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + WAIT_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(ends):
                    await self._up.wait()
                return await script(keys=[_room(room)], args=[PREFIX, *arguments])
            except TimeoutError:
                raise Unavailable from None
            except exceptions.OutOfMemoryError:
                raise Refused("full") from None
            except (exceptions.RedisError, OSError) as error:
                if loop.time() + RETRY_SECONDS > ends:
                    raise Unavailable from error
                await asyncio.sleep(RETRY_SECONDS)

    async def _ask(self, *command: object) -> Any:
        """One command, once."""
        if not self._up.is_set():
            raise Unavailable
        try:
            return await self._command(*command)
        except (exceptions.RedisError, OSError) as error:
            raise Unavailable from error

    # --- from node to node

    async def send(self, to: Seat, kind: Kind, attempt: bytes, body: bytes = b"") -> bool:
        if to.node == self.name:
            self._give(Word(kind, to.id, attempt, body, self.name))
            return True
        parts = (bytes([kind]), self.name, to.id, attempt or bytes(NAME), body)
        return bool(await self._ask("PUBLISH", _channel(to.node), b"".join(parts)))

    async def _listen(self) -> None:
        """Hear what other nodes say, for as long as the server runs."""
        told = False
        while True:
            try:
                await self._hear()
            except (exceptions.RedisError, OSError) as error:
                if self._up.is_set() or not told:
                    told = True
                    logger.warning("Redis does not answer (%s)", type(error).__name__)
            except Exception as error:  # one word must not make this node deaf
                logger.error("a word of another node failed: %s", type(error).__name__)
            if self._up.is_set():
                self._up.clear()
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self) -> None:
        """Raises what redis-py does, once the channel is broken or silent."""
        loop = asyncio.get_running_loop()
        async with self._listening_redis.pubsub() as channel:
            await channel.subscribe(_channel(self.name))
            heard, subscribed, renewing = loop.time(), False, None
            try:
                while True:
                    said = await channel.get_message(timeout=BEAT_SECONDS)
                    if said is None:
                        if loop.time() - heard > 3 * BEAT_SECONDS:
                            raise exceptions.TimeoutError
                        await channel.ping()
                        continue
                    heard = loop.time()
                    if said["type"] == "message":
                        self._take(said["data"])
                    elif said["type"] == "subscribe":
                        if subscribed:  # redis-py has connected anew by itself
                            raise exceptions.ConnectionError
                        subscribed = True
                        await self._show_alive()
                        self._up_since = loop.time()
                        self._up.set()
                        logger.info("Redis answers")
                        self._node.cut_off()
                        renewing = asyncio.create_task(self._register())
            finally:
                if renewing is not None:
                    renewing.cancel()
                    await asyncio.gather(renewing, return_exceptions=True)

    def _take(self, data: bytes) -> None:
        with suppress(ValueError, IndexError):
            kind, rest = Kind(data[0]), data[1:]
            node, seat, attempt = (rest[n * NAME : (n + 1) * NAME] for n in range(3))
            if len(attempt) == NAME:
                said = b"" if attempt == bytes(NAME) else attempt
                self._give(Word(kind, seat, said, rest[3 * NAME :], node))

    async def _register(self) -> None:
        """Say again which rooms have their host here: Redis may have forgotten them."""
        left = list(self._own)
        while left:
            some, left = left[:RENEWED_AT_ONCE], left[RENEWED_AT_ONCE:]
            done = await asyncio.gather(*map(self._register_one, some), return_exceptions=True)
            failed = [room for room, one in zip(some, done, strict=True) if one is not None]
            if failed:  # it is slow, full, or a replica still
                logger.warning("rooms are not registered yet: %d", len(failed) + len(left))
                left += failed
                await asyncio.sleep(RETRY_SECONDS)

    async def _register_one(self, room: bytes) -> None:
        if room not in self._own:
            return
        known = self._own[room][-1]
        left = int((known.ends - asyncio.get_running_loop().time()) * 1000)
        if left <= 0:
            self._drop(room, known)
            return
        kept = await self._call(
            self._renew,
            room,
            known.join_hash,
            known.owner_hash,
            _packed(known.host),
            left,
            known.address.hex(),
        )
        if not kept and known in self._own.get(room, []):  # its host has come back elsewhere
            self._drop(room, known)
            self._node.take(Word(Kind.REPLACED, known.host.id))

    async def _show_life(self) -> None:
        """Say that this node is there, as long as it is."""
        while True:
            await self._up.wait()
            with suppress(exceptions.RedisError, OSError):
                await self._show_alive()
            await asyncio.sleep(BEAT_SECONDS)

    async def _show_alive(self) -> None:
        """Once. A full Redis takes no new key, and lets an old one live on."""
        alive, milliseconds = f"{PREFIX}alive:{self.name.hex()}", int(ALIVE_SECONDS * 1000)
        if not await self._command("PEXPIRE", alive, milliseconds):
            with suppress(exceptions.OutOfMemoryError):
                await self._command("SET", alive, 1, "PX", milliseconds)

    async def _keep_key(self) -> None:
        """The key that all nodes count addresses under, which is another one every day."""
        while True:
            await self._up.wait()
            with suppress(Unavailable):
                await self._ask("SET", f"{PREFIX}key", os.urandom(32), "NX", "EX", KEY_SECONDS)
                key = await self._ask("GET", f"{PREFIX}key")
                if key and key != self._key:
                    self._key = key
                    self._node.rekey(key)
            await asyncio.sleep(60)


def _room(room: bytes) -> str:
    """Its key, which is a hash: who reads Redis learns no name of a room."""
    return f"{PREFIX}room:{_named(room)}"


def _named(what: bytes) -> str:
    return hashlib.sha256(what).hexdigest()[:32]


def _channel(node: bytes) -> str:
    return f"{PREFIX}node:{node.hex()}"


def _packed(seat: Seat) -> bytes:
    return seat.node + seat.id


def _seat(packed: bytes) -> Seat:
    return Seat(packed[:NAME], packed[NAME:])


def _left(guests: Sequence[bytes]) -> Told:
    return [(_seat(guest), Kind.LEFT) for guest in guests]
