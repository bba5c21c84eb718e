"""What every store does, and Redis among several nodes."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from signaling import redis_store
from signaling.memory_store import MemoryStore
from signaling.redis_store import RedisStore
from signaling.rooms import Kind, Limits, Origin, Refused, Seat
from signaling.store import Node, Unavailable, Word
from tests.redis_server import RedisServer

JOIN, OWNER = (hashlib.sha256(token).digest() for token in (b"j" * 32, b"o" * 32))
HERE, OTHER = (Origin(name * 32, name * 32) for name in (b"1", b"2"))
ROOM = b"r" * 16

pytestmark = pytest.mark.process


class Heard:
    """What one node is told."""

    def __init__(self, store):
        self.words: asyncio.Queue[Word] = asyncio.Queue()
        self.store, self.keys, self.cuts = store, [], 0

    async def start(self):
        def cut_off():
            self.cuts += 1

        await self.store.start(Node(self.words.put_nowait, self.keys.append, cut_off))
        async with asyncio.timeout(10):
            while not self.store.ready():
                await asyncio.sleep(0.01)
        return self

    async def word(self):
        async with asyncio.timeout(5):
            return await self.words.get()


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
async def node(request, redis):
    """Makes nodes; a store in memory has one."""
    made: list[Heard] = []
    if request.param == "redis":
        redis.ask("FLUSHALL")

    async def make(**limits):
        if request.param == "memory":
            made[:] = made or [await Heard(MemoryStore(Limits(**limits))).start()]
            return made[0]
        made.append(await Heard(RedisStore(redis.url, Limits(**limits))).start())
        return made[-1]

    yield make
    for one in made:
        await one.store.stop()


each = pytest.mark.parametrize("node", ["memory", "redis"], indirect=True)
shared = pytest.mark.parametrize("node", ["redis"], indirect=True)


def seat_of(node):
    return Seat(node.store.name, os.urandom(16))


async def create(node, room=ROOM, owner=OWNER, ttl=60, origin=HERE, join=JOIN, again=False):
    """The seat that was taken, and who is to be told."""
    seat = seat_of(node)
    return seat, await node.store.create(room, join, owner, ttl, origin, seat.id, again=again)


async def join(node, room=ROOM, token=JOIN, origin=HERE):
    """The guest's seat, and the host's."""
    seat = seat_of(node)
    return seat, await node.store.join(room, token, origin, seat.id)


async def refusal(doing):
    with pytest.raises(Refused) as caught:
        await doing
    return caught.value.code, caught.value.reason


@each
async def test_a_guest_finds_the_host_and_one_reaches_the_other(node):
    one, two = await node(), await node()
    host, told = await create(one)
    assert told == []
    guest, found = await join(two)
    assert found == host
    assert await two.store.send(host, Kind.ATTEMPT, guest.id)
    word = await one.word()
    assert (word.kind, word.seat, word.attempt, word.node) == (
        Kind.ATTEMPT,
        host.id,
        guest.id,
        guest.node,
    )
    body = os.urandom(9 * 1024)
    assert await one.store.send(Seat(word.node, word.attempt), Kind.ENVELOPE, guest.id, body)
    word = await two.word()
    assert (word.kind, word.seat, word.body) == (Kind.ENVELOPE, guest.id, body)


@each
async def test_only_the_owner_takes_the_seat_again_and_who_was_there_is_named(node):
    one, two = await node(), await node()
    host, _ = await create(one)
    guest, _ = await join(two)
    assert await refusal(create(two, owner=JOIN)) == ("room_taken", None)
    again, told = await create(two)
    assert sorted(told) == sorted([(guest, Kind.LEFT), (host, Kind.REPLACED)])
    assert (await join(one))[1] == again
    assert await one.store.away(ROOM, host.id) == [], "it has nothing to say any more"
    assert (await join(one))[1] == again


@each
async def test_who_may_make_no_room_may_come_back_to_one_that_is_there(node):
    one, two = await node(), await node()
    assert await refusal(create(one, again=True)) == ("token_required", None)
    await create(one)
    again, _ = await create(two, again=True)
    assert (await join(one))[1] == again
    assert await refusal(create(two, owner=JOIN, again=True)) == ("room_taken", None)
    await two.store.finish(ROOM, again.id)
    assert await refusal(create(one, again=True)) == ("token_required", None)


@each
async def test_of_many_who_want_a_seat_at_once_one_gets_it(node):
    nodes = [await node() for _ in range(4)]
    owners = [hashlib.sha256(bytes([n])).digest() for n in range(40)]
    tries = [create(nodes[n % 4], owner=owner) for n, owner in enumerate(owners)]
    got = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, Refused) for one in got) == 1
    tries = [join(nodes[n % 4]) for n in range(20)]
    got = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, Refused) for one in got) == 2
    assert {one.code for one in got if isinstance(one, Refused)} == {"busy"}


@each
async def test_a_wrong_token_and_an_unknown_room_look_the_same(node):
    one = await node()
    await create(one)
    assert await refusal(join(one, token=OWNER)) == ("not_found", None)
    assert await refusal(join(one, room=b"x" * 16)) == ("not_found", None)


@each
async def test_an_attempt_makes_room_when_it_is_left_and_when_its_time_is_up(node):
    one = await node(attempt_seconds=1.0)
    await create(one)
    guest, _ = await join(one)
    await join(one)
    assert await refusal(join(one)) == ("busy", None)
    await one.store.leave(ROOM, guest)
    await join(one)
    assert await refusal(join(one)) == ("busy", None)
    await asyncio.sleep(1.1)
    await join(one)


@each
async def test_a_room_ends_with_its_time_and_is_free_for_anyone(node):
    one = await node()
    await create(one, ttl=1)
    await asyncio.sleep(1.1)
    assert await refusal(join(one)) == ("not_found", "expired")
    assert await refusal(join(one, token=OWNER)) == ("not_found", None)
    seat, told = await create(one, owner=JOIN)
    assert [kind for _, kind in told if kind is not Kind.REPLACED] == []
    assert (await join(one))[1] == seat


@each
async def test_a_room_that_was_finished_says_so_to_who_has_its_token(node):
    one, two = await node(), await node()
    host, _ = await create(one)
    guest, _ = await join(two)
    assert await one.store.finish(ROOM, os.urandom(16)) == []
    assert await one.store.finish(ROOM, host.id) == [(guest, Kind.LEFT)]
    assert await one.store.finish(ROOM, host.id) == []
    assert await refusal(join(two)) == ("not_found", "closed")
    assert await refusal(join(two, token=OWNER)) == ("not_found", None)
    host, _ = await create(two)
    assert (await join(one))[1] == host


@each
async def test_a_host_that_sees_its_time_up_a_little_early_has_not_withdrawn_the_link(node):
    one = await node()
    host, _ = await create(one, ttl=3)
    await one.store.finish(ROOM, host.id)
    assert await refusal(join(one)) == ("not_found", "expired")


@each
async def test_a_create_that_is_done_twice_displaces_nobody(node):
    """As when the answer to the first comes too late."""
    one = await node()
    seat = seat_of(one)
    for _ in range(2):
        assert await one.store.create(ROOM, JOIN, OWNER, 60, HERE, seat.id) == []
    assert (await join(one))[1] == seat


@each
async def test_who_may_make_no_room_any_more_gets_no_more_time(node):
    one = await node()
    await create(one, ttl=2)
    await create(one, ttl=60, again=True)
    await join(one)
    await asyncio.sleep(2.1)
    assert await refusal(join(one)) == ("not_found", "expired")


@each
async def test_a_seat_where_nobody_was_found_is_left(node):
    one, two = await node(away_seconds=1.0), await node(away_seconds=1.0)
    host, _ = await create(one)
    guest, found = await join(two)
    assert await two.store.lost(ROOM, found) == [(guest, Kind.LEFT)]
    assert await refusal(join(two)) == ("not_found", None)
    assert await two.store.lost(ROOM, host) == []
    await asyncio.sleep(1.1)
    await create(two, owner=JOIN)


@each
async def test_a_host_that_is_away_is_waited_for_but_not_for_ever(node):
    one, two = await node(away_seconds=1.0), await node(away_seconds=1.0)
    host, _ = await create(one)
    guest, _ = await join(two)
    assert await one.store.away(ROOM, host.id) == [(guest, Kind.LEFT)]
    assert await refusal(join(two)) == ("not_found", None)
    assert await refusal(create(two, owner=JOIN)) == ("room_taken", None)
    again, told = await create(two)
    assert told == []
    assert (await join(one))[1] == again
    await two.store.away(ROOM, again.id)
    await asyncio.sleep(1.1)
    assert await refusal(join(one)) == ("not_found", None), "nobody knows why"
    await create(one, owner=JOIN)


@each
async def test_an_address_has_so_many_rooms_and_no_more_wherever_it_makes_them(node):
    limits = {"rooms_per_address": 3, "away_seconds": 1.0}
    one, two = await node(**limits), await node(**limits)
    await create(one, room=b"1" * 16)
    for name, where in ((b"2", two), (b"3", one)):
        await create(where, room=name * 16)
    assert await refusal(create(two, room=b"4" * 16)) == ("rate_limited", None)
    await create(two, room=b"1" * 16)  # it has that one
    await create(two, room=b"5" * 16, origin=OTHER)
    again, _ = await create(one, room=b"1" * 16)
    await one.store.finish(b"1" * 16, again.id)
    await create(two, room=b"4" * 16)
    assert await refusal(create(one, room=b"6" * 16)) == ("rate_limited", None)


@each
async def test_guesses_are_counted_by_address_wherever_they_are_made(node):
    limits = {"failed_joins_per_minute": 4}
    one, two = await node(**limits), await node(**limits)
    await create(one)
    for n in range(4):
        assert (await refusal(join((one, two)[n % 2], token=OWNER)))[0] == "not_found"
    assert (await refusal(join(two, token=OWNER)))[0] == "rate_limited"
    assert (await refusal(join(one, room=b"x" * 16)))[0] == "rate_limited"
    assert (await refusal(join(one, token=OWNER, origin=OTHER)))[0] == "not_found"
    await join(one)  # a right one passes all the same


@each
async def test_right_joins_are_counted_by_address_and_room(node):
    one = await node(joins_per_minute=3)
    await create(one)
    for _ in range(3):
        guest, _ = await join(one)
        await one.store.leave(ROOM, guest)
    assert await refusal(join(one)) == ("rate_limited", None)
    await join(one, origin=OTHER)


@shared
async def test_nodes_count_addresses_under_one_key(node):
    one, two = await node(), await node()
    for _ in range(100):
        if one.keys and two.keys:
            break
        await asyncio.sleep(0.02)
    assert one.keys == two.keys
    assert len(one.keys[0]) == 32


@shared
async def test_nobody_is_reached_at_a_node_that_is_gone(node):
    one, two = await node(), await node()
    host, _ = await create(one)
    await one.store.stop()
    guest, found = await join(two)
    assert found == host
    assert not await two.store.send(host, Kind.ATTEMPT, guest.id)
    await create(two)


@shared
async def test_a_redis_that_restarts_empty_is_told_which_rooms_there_are(node, redis):
    one, two = await node(), await node()
    host, _ = await create(one)
    redis.stop()
    with pytest.raises(Unavailable):
        await two.store.send(host, Kind.ATTEMPT, b"a" * 16)
    redis.start()
    async with asyncio.timeout(20):
        while True:
            try:
                _, found = await join(two)
                break
            except (Refused, Unavailable):
                await asyncio.sleep(0.5)
    assert found == host
    assert (one.cuts, two.cuts) == (2, 2)


@shared
async def test_a_host_that_has_moved_meanwhile_is_not_taken_back(node, redis):
    one, two = await node(), await node()
    old, _ = await create(one)
    new, _ = await create(two)
    await one.store._register()
    assert (await one.word()).kind is Kind.REPLACED
    assert (await join(one))[1] == new
    assert old.id != new.id


@shared
async def test_rooms_are_registered_until_all_are(node, monkeypatch):
    """A replica that takes over takes no writes for a while."""
    one, two = await node(rooms_per_address=200), await node()
    rooms = [bytes([n]) * 16 for n in range(120)]
    for room in rooms:
        await create(one, room=room)
    await one.store._command("FLUSHALL")
    refused: list[bytes] = []
    call = one.store._call

    async def at_first_not(script, room, *arguments):
        if len(refused) < 70:
            refused.append(room)
            raise Unavailable
        return await call(script, room, *arguments)

    monkeypatch.setattr(one.store, "_call", at_first_not)
    await one.store._register()
    for room in rooms:
        await join(two, room=room, origin=OTHER)


@shared
async def test_a_room_that_was_finished_elsewhere_is_not_made_again(node):
    one, two = await node(), await node()
    await create(one)
    new, _ = await create(two)
    await two.store.finish(ROOM, new.id)
    await one.store._register()
    assert await refusal(join(one)) == ("not_found", "closed")


@shared
async def test_of_two_creates_at_once_the_later_one_is_kept(node, redis):
    """Also where the earlier one is answered last; and none is kept that was refused."""
    one, two = await node(), await node()
    call, late = one.store._call, asyncio.Event()

    async def slowly(script, room, *arguments):
        answer = await call(script, room, *arguments)
        if not late.is_set():
            late.set()
            await asyncio.sleep(0.5)
        return answer

    one.store._call = slowly
    first = asyncio.create_task(create(one))
    await late.wait()
    later, _ = await create(one)
    await first
    await one.store._command("FLUSHALL")
    await one.store._register()
    assert (await join(two))[1] == later
    await refusal(create(two, owner=JOIN))
    assert not two.store._own
    await one.store.away(ROOM, later.id)
    assert not one.store._own


@shared
async def test_a_redis_that_does_not_answer_is_waited_for_a_little(node, redis):
    one = await node()
    redis.pause()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Unavailable):
        await create(one)
    assert 1.5 < loop.time() - began < 30
    waiting = asyncio.create_task(create(one))
    await asyncio.sleep(1)
    redis.go_on()
    assert {kind for _, kind in (await waiting)[1]} <= {Kind.REPLACED}, "the first was late"


@shared
async def test_a_redis_that_is_full_takes_no_room_and_forgets_none(node, redis):
    one = await node()
    host, _ = await create(one)
    redis.ask("CONFIG", "SET", "maxmemory", "100kb")
    try:
        assert await refusal(create(one, room=b"x" * 16)) == ("full", None)
        assert await refusal(create(one, room=b"x" * 16, origin=OTHER)) == ("full", None)
    finally:
        redis.ask("CONFIG", "SET", "maxmemory", "0")
    assert (await join(one))[1] == host
    assert list(one.store._own) == [ROOM]


@shared
async def test_words_that_are_none_are_dropped(node, redis):
    one = await node()
    for data in (b"", b"\x00", b"\x02" * 30, b"\x63" + bytes(60), bytes(70)):
        await one.store._ask("PUBLISH", f"handover:node:{one.store.name.hex()}", data)
    host, _ = await create(one)
    assert await one.store._ask(
        "PUBLISH",
        f"handover:node:{one.store.name.hex()}",
        b"\x01" + one.store.name + host.id + b"a" * 16,
    )
    assert (await one.word()).attempt == b"a" * 16
    assert one.words.empty()


@shared
async def test_redis_holds_no_token_no_room_and_no_envelope(node, redis):
    one, two = await node(), await node()
    host, _ = await create(one)
    guest, _ = await join(two)
    await one.store.send(guest, Kind.ENVELOPE, guest.id, b"envelope")
    await two.word()
    held = redis.everything()
    assert JOIN in held
    for planted in (b"j" * 32, b"o" * 32, ROOM, ROOM.hex().encode(), b"envelope"):
        assert planted not in held
    await one.store.finish(ROOM, host.id)


async def test_a_redis_with_tls_and_a_password(tmp_path):
    from signaling.certificates import open_authority

    authority = open_authority(tmp_path / "ca", [], [])
    (tmp_path / "redis.pem").write_bytes(authority.issue([], ["127.0.0.1"]).pem)
    (tmp_path / "users.acl").write_text(
        "user default off\n"
        "user handover on >secret ~handover:* &handover:* +@all -@admin -@dangerous\n"
    )
    acl = ("--aclfile", str(tmp_path / "users.acl"))
    server = RedisServer(tmp_path, *acl, pem=tmp_path / "redis.pem")
    url = f"rediss://handover:secret@127.0.0.1:{server.port}/0?ssl_ca_certs={authority.path}"
    try:
        one = await Heard(RedisStore(url)).start()
        host, _ = await create(one)
        assert (await join(one))[1] == host
        await one.store.stop()
    finally:
        server.stop()


@each
async def test_of_a_network_so_many_rooms_that_are_over_are_remembered(node):
    one = await node(former_rooms_per_network=2)
    for name, origin in ((b"1", HERE), (b"2", HERE), (b"3", HERE), (b"4", OTHER)):
        host, _ = await create(one, room=name * 16, origin=origin)
        await one.store.finish(name * 16, host.id)
    told = [(await refusal(join(one, room=name * 16)))[1] for name in (b"1", b"2", b"3", b"4")]
    assert told == ["closed", "closed", None, "closed"]


@each
async def test_why_a_room_is_over_is_remembered_for_a_while(node):
    one = await node(former_seconds=0.5)
    host, _ = await create(one)
    await one.store.finish(b"r" * 16, host.id)
    assert await refusal(join(one)) == ("not_found", "closed")
    await asyncio.sleep(0.6)
    assert await refusal(join(one)) == ("not_found", None)


@shared
async def test_redis_forgets_a_room_that_is_over(node, redis):
    one = await node(former_seconds=0.5)
    host, _ = await create(one, ttl=1)
    await one.store.finish(b"r" * 16, host.id)
    assert b"room:" in redis.everything()
    await asyncio.sleep(0.6)
    held = redis.everything()
    assert b"handover:room:" not in held
    assert JOIN not in held


@each
async def test_a_full_node_lets_a_waiting_room_go_and_none_that_somebody_came_to(node):
    one = await node(rooms=2)
    await create(one, room=b"1" * 16)
    second, _ = await create(one, room=b"2" * 16)
    guest, host = await join(one, room=b"1" * 16)
    await one.store.send(host, Kind.ATTEMPT, guest.id)
    assert (await one.word()).kind is Kind.ATTEMPT
    _, told = await create(one, room=b"3" * 16, origin=OTHER)
    for seat, kind in told:
        await one.store.send(seat, kind, b"")
    word = await one.word()
    assert (word.kind, word.seat) == (Kind.FULL, second.id)
    guest, host = await join(one, room=b"3" * 16)
    await one.store.send(host, Kind.ATTEMPT, guest.id)
    assert await refusal(create(one, room=b"4" * 16)) == ("full", None)


@shared
async def test_rooms_of_a_node_that_died_make_way_where_an_address_has_too_many(node, monkeypatch):
    monkeypatch.setattr(redis_store, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(redis_store, "ALIVE_SECONDS", 0.5)
    one, other = await node(rooms_per_address=2), await node(rooms_per_address=2)
    await create(one, room=b"1" * 16)
    await create(other, room=b"2" * 16)
    await asyncio.sleep(0.8)
    assert await refusal(create(other, room=b"3" * 16)) == ("rate_limited", None)
    await one.store.stop()
    await asyncio.sleep(0.8)
    await create(other, room=b"3" * 16)
    assert await refusal(create(other, room=b"4" * 16)) == ("rate_limited", None)
    assert await refusal(join(other, room=b"1" * 16)) == ("not_found", None)
    await join(other, room=b"2" * 16)


@shared
async def test_nobody_is_taken_for_dead_after_redis_was_restarted(node, tmp_path, monkeypatch):
    """Its signs of life are gone with the rest, and rooms may be back before them."""
    monkeypatch.setattr(redis_store, "BEAT_SECONDS", 3600.0)
    own = RedisServer(tmp_path)
    monkeypatch.setattr(redis_store, "RETRY_SECONDS", 0.05)
    nodes = [await Heard(RedisStore(own.url, Limits(rooms_per_address=2))).start() for _ in "ab"]
    try:
        for name, one in zip((b"1", b"2"), nodes, strict=True):
            await create(one, room=name * 16)
        own.stop()
        async with asyncio.timeout(10):
            while any(one.store.ready() for one in nodes):
                await asyncio.sleep(0.02)
        own.start()
        async with asyncio.timeout(10):
            while own.everything().count(b"owner") < 2:
                await asyncio.sleep(0.02)
        assert await refusal(create(nodes[0], room=b"3" * 16)) == ("rate_limited", None)
        for name in (b"1", b"2"):
            await join(nodes[0], room=name * 16)
    finally:
        for one in nodes:
            await one.store.stop()
        own.stop()


@shared
async def test_nobody_is_taken_for_dead_while_redis_is_full(node, redis, monkeypatch):
    monkeypatch.setattr(redis_store, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(redis_store, "ALIVE_SECONDS", 0.4)
    one = await node(rooms_per_address=1)
    await create(one, room=b"1" * 16)
    redis.ask("CONFIG SET maxmemory 1")
    try:
        await asyncio.sleep(1.0)
        assert (await refusal(create(one, room=b"2" * 16)))[0] in ("full", "rate_limited")
    finally:
        redis.ask("CONFIG SET maxmemory 0")
    await asyncio.sleep(0.5)
    await join(one, room=b"1" * 16)


@each
async def test_who_is_refused_pushes_nobody_out(node):
    one = await node(rooms=1)
    await create(one, room=b"1" * 16)
    for name in (b"2", b"3"):
        refused = create(one, room=name * 16, origin=OTHER, again=True)
        assert await refusal(refused) == ("token_required", None)
    assert one.words.empty()
    await join(one, room=b"1" * 16)


@shared
async def test_a_room_that_was_refused_is_nobodys(node):
    """Though two asked for it at once; and one that somebody has come to stays one."""
    one = await node(rooms=1)
    asked = [create(one, room=b"1" * 16, again=True) for _ in range(2)]
    assert [type(said) for said in await asyncio.gather(*asked, return_exceptions=True)] == [
        Refused
    ] * 2
    await create(one, room=b"2" * 16)
    guest, host = await join(one, room=b"2" * 16)
    await one.store.send(host, Kind.ATTEMPT, guest.id)
    wrong = create(one, room=b"2" * 16, owner=b"x" * 32)
    assert await refusal(wrong) == ("room_taken", None)
    assert await refusal(create(one, room=b"3" * 16)) == ("full", None)
