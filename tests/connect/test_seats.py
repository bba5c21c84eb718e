"""A peer's end of the signaling: seats that are kept, floods, and what each failure is called."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import json
import ssl
from types import SimpleNamespace

import pytest
import websockets.asyncio.server as websockets
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    InvalidHandshake,
    InvalidStatus,
)

from p2p.connect import seats
from p2p.connect.proxies import NONE, Proxies
from p2p.connect.seats import Attempt, GuestSeat, HostSeat, is_nobody_there
from p2p.lanes import LaneLost
from p2p.protocol.errors import Failure, PeerError
from p2p.protocol.link import derive_keys
from p2p.protocol.sentences import Detail
from signaling import messages
from tests.virtual_time import virtual_time

ORIGIN = "http://192.0.2.1"
KEYS = derive_keys(b"\x05" * 32)
OWNER = b"\x06" * messages.OWNER
ATTEMPT, OTHER = b"\x03" * 16, b"\x04" * 16


class Socket:
    """A WebSocket to a server that says what a test wants; None: it goes away."""

    def __init__(self, *says):
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self.sent: list[messages.Message] = []
        self.closed = False
        for text in says:
            self.inbox.put_nowait(text)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    def say(self, kind, **members):
        self.inbox.put_nowait(messages.encode(kind, **members))

    def go(self):
        self.inbox.put_nowait(None)

    async def send(self, text):
        if self.closed:
            raise ConnectionClosedError(None, None)
        self.sent.append(messages.decode(text, messages.FROM_PEER))

    async def recv(self):
        text = await self.inbox.get()
        if text is None:
            raise ConnectionClosedError(None, None)
        return text

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.recv()

    async def close(self, code=1000):
        self.closed, self.code = True, code


CREATED = messages.encode("created")
JOINED = messages.encode("joined", attempt=ATTEMPT)


class Servers:
    """What each try to connect finds, in order: a socket, or a failure. `tries` are when."""

    def __init__(self, monkeypatch, *found):
        self.found, self.tries = list(found), []
        monkeypatch.setattr(seats, "open_connection", self.open)

    async def open(self, origin, proxies):
        assert (origin, proxies) == (ORIGIN, Proxies(NONE))
        self.tries.append(asyncio.get_running_loop().time())
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, Exception):
            raise found
        return found

    @property
    def waits(self):
        """Seconds between one try and the next."""
        return [later - now for now, later in zip(self.tries, self.tries[1:], strict=False)]


class Holding:
    """A host's seat that is held, and what was told of the server."""

    def __init__(self, ttl=3600.0):
        self.seat = HostSeat(ORIGIN, KEYS, ttl, OWNER)
        self.told: list[bool] = []
        self.task = asyncio.create_task(self.seat.run(self.told.append))

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


# --- an attempt -----------------------------------------------------------------------------------


async def test_an_attempt_passes_envelopes_both_ways_and_can_be_left():
    said: list[str] = []
    attempt = Attempt(ATTEMPT, said.append)
    attempt.put(b"one")
    attempt.put(None)
    assert [await attempt.recv(), await attempt.recv()] == [b"one", None]
    await attempt.send(b"two")
    await attempt.leave()
    assert [messages.decode(text, messages.FROM_PEER) for text in said] == [
        {"type": "envelope", "attempt": ATTEMPT, "body": b"two"},
        {"type": "leave", "attempt": ATTEMPT},
    ]


@pytest.mark.parametrize("size", [1, messages.MAX_BODY])
async def test_a_flood_ends_the_attempt(size):
    """Whoever reads it comes to an end; nothing grows with what a server sends."""
    said: list[str] = []
    attempt = Attempt(ATTEMPT, said.append)
    for _ in range(2 * seats.MAX_ENVELOPES):
        attempt.put(b"x" * size)
    read = [attempt.inbox.get_nowait() for _ in range(attempt.inbox.qsize())]
    assert read[-1] is None
    assert len(read) <= seats.MAX_ENVELOPES + 1
    assert sum(len(one or b"") for one in read) <= seats.MAX_ENVELOPE_BYTES
    assert [messages.decode(text, messages.FROM_PEER)["type"] for text in said] == ["leave"]


async def test_an_attempt_that_is_read_while_it_floods_ends_too():
    attempt = Attempt(ATTEMPT, lambda text: None)
    for _ in range(seats.MAX_ENVELOPES):
        attempt.put(b"x")
        assert await attempt.recv() == b"x"
    attempt.put(b"x")
    assert await attempt.recv() is None


async def flooding(kind):
    """A server that gives a seat, and then sends what it can of one kind; what it has sent."""
    sent = {"connections": 0, "frames": 0}
    attempt = itertools.count()

    async def serve(socket):
        sent["connections"] += 1
        if json.loads(await socket.recv())["type"] == "create":
            await socket.send(CREATED)
            await socket.send(messages.encode("attempt", attempt=ATTEMPT))
        else:
            await socket.send(messages.encode("joined", attempt=ATTEMPT))
        with contextlib.suppress(ConnectionClosed):
            while True:
                if kind == "pings":
                    await socket.ping()
                elif kind == "attempts":
                    other = next(attempt).to_bytes(16, "big")
                    await socket.send(messages.encode("attempt", attempt=other))
                    await socket.send(messages.encode("left", attempt=other))
                else:
                    who = ATTEMPT if kind == "envelopes" else OTHER
                    body = b"x" * messages.MAX_BODY
                    await socket.send(messages.encode("envelope", attempt=who, body=body))
                sent["frames"] += 1
                await asyncio.sleep(0)

    return await websockets.serve(serve, "127.0.0.1", 0, compression=None), sent


@pytest.mark.parametrize("kind", ["pings", "attempts", "envelopes", "strays"])
@pytest.mark.parametrize("role", ["host", "guest"])
async def test_a_server_that_floods_is_hung_up_on(kind, role, monkeypatch):
    monkeypatch.setattr(seats, "FIRST_BACKOFF", 60.0)
    server, sent = await flooding(kind)
    async with server:
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(20):
            if role == "guest":
                async with GuestSeat(origin, KEYS) as attempt:
                    while await attempt.recv() is not None:
                        pass
            else:
                told: list[bool] = []
                seat = HostSeat(origin, KEYS, 60, OWNER)
                holding = asyncio.create_task(seat.run(told.append))
                while told != [True, False]:
                    await asyncio.sleep(0.01)
                holding.cancel()
                assert seat.attempts.qsize() <= seats.MAX_ATTEMPTS
                first = seat.attempts.get_nowait()
                assert first.inbox.qsize() <= seats.MAX_ENVELOPES + 1
    assert sent["connections"] == 1


@virtual_time
async def test_the_flood_of_one_attempt_ends_only_that_attempt(monkeypatch):
    socket = Socket(CREATED)
    Servers(monkeypatch, socket)
    holding = Holding(ttl=100)
    for attempt in (ATTEMPT, OTHER):
        socket.say("attempt", attempt=attempt)
    for _ in range(seats.MAX_ENVELOPES + 50):
        socket.say("envelope", attempt=ATTEMPT, body=b"x")
    socket.say("envelope", attempt=OTHER, body=b"knock")
    flooded, other = await holding.seat.attempts.get(), await holding.seat.attempts.get()
    assert await other.recv() == b"knock"
    while await flooded.recv() is not None:
        pass
    await asyncio.sleep(1)
    assert socket.sent[1:] == [{"type": "leave", "attempt": ATTEMPT}]
    assert holding.told == [True]
    await holding.stop()


# --- the host's seat ------------------------------------------------------------------------------


@virtual_time
async def test_a_host_takes_its_room_and_is_given_attempts(monkeypatch):
    socket = Socket(CREATED)
    Servers(monkeypatch, socket)
    holding = Holding(ttl=100)
    socket.say("attempt", attempt=ATTEMPT)
    socket.say("envelope", attempt=ATTEMPT, body=b"knock")
    socket.say("envelope", attempt=OTHER, body=b"of nobody")
    attempt = await holding.seat.attempts.get()
    assert await attempt.recv() == b"knock"
    assert holding.told == [True]
    assert holding.seat.ready.is_set()
    await attempt.send(b"answer")
    socket.say("left", attempt=ATTEMPT)
    assert await attempt.recv() is None
    assert attempt.inbox.empty()
    assert socket.sent == [
        {
            "type": "create",
            "room": KEYS.room,
            "join_hash": hashlib.sha256(KEYS.join).digest(),
            "owner": OWNER,
            "ttl": 100,
            "token": None,
        },
        {"type": "envelope", "attempt": ATTEMPT, "body": b"answer"},
    ]
    await holding.stop()


@virtual_time
async def test_a_room_lives_no_longer_than_a_server_allows(monkeypatch):
    socket = Socket(CREATED)
    Servers(monkeypatch, socket)
    holding = Holding(ttl=10 * messages.MAX_TTL)
    await holding.seat.ready.wait()
    assert socket.sent[0]["ttl"] == messages.MAX_TTL
    await holding.stop()


@virtual_time
async def test_a_host_comes_back_more_and_more_slowly_and_at_once_after_it_was_there(monkeypatch):
    gone = Failure("server_unreachable", Detail("no_answer"))
    first, second = Socket(CREATED), Socket(CREATED)
    servers = Servers(monkeypatch, first, *[gone] * 6, second)
    holding = Holding()
    await holding.seat.ready.wait()
    first.go()
    while len(holding.told) < 9:
        await asyncio.sleep(0.1)
    longest = [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert all(most / 2 <= wait <= most for wait, most in zip(servers.waits, longest, strict=True))
    assert len({wait / most for wait, most in zip(servers.waits, longest, strict=True)}) > 5
    assert holding.told == [True, *[False] * 7, True]
    servers.found = [Socket(CREATED)]
    second.go()
    while len(servers.tries) < 9:
        await asyncio.sleep(0.1)
    assert servers.waits[-1] < 1
    await holding.stop()


@virtual_time
async def test_a_server_that_goes_takes_its_attempts_with_it(monkeypatch):
    first, second = Socket(CREATED), Socket(CREATED)
    Servers(monkeypatch, first, second)
    holding = Holding()
    first.say("attempt", attempt=ATTEMPT)
    before = await holding.seat.attempts.get()
    first.go()
    assert await before.recv() is None
    while holding.told != [True, False, True]:
        await asyncio.sleep(0.1)
    second.say("attempt", attempt=OTHER)
    assert (await holding.seat.attempts.get()).id == OTHER
    await holding.stop()


@virtual_time
async def test_what_a_server_that_is_gone_did_not_take_is_not_said_to_the_next(monkeypatch):
    first, second = Socket(CREATED), Socket(CREATED)
    Servers(monkeypatch, first, second)
    holding = Holding()
    first.say("attempt", attempt=ATTEMPT)
    attempt = await holding.seat.attempts.get()
    first.closed = True
    for _ in range(3):
        await attempt.send(b"of an attempt that is over")
    first.go()
    await asyncio.sleep(5)
    assert [one["type"] for one in second.sent] == ["create"]
    await holding.stop()


@virtual_time
async def test_a_room_that_is_taken_again_is_asked_for_what_is_left_of_its_time(monkeypatch):
    first, second = Socket(CREATED), Socket(CREATED)
    Servers(monkeypatch, first, second)
    holding = Holding(ttl=100)
    await asyncio.sleep(40)
    first.go()
    await asyncio.sleep(1)
    assert second.sent[0]["ttl"] == 59
    await holding.stop()


@virtual_time
async def test_a_room_whose_time_is_extended_lives_from_now_on(monkeypatch):
    first, second = Socket(CREATED), Socket(CREATED)
    Servers(monkeypatch, first, second)
    holding = Holding(ttl=100)
    await asyncio.sleep(40)
    holding.seat.extend(1000)
    first.go()
    await asyncio.sleep(1)
    assert second.sent[0]["ttl"] == 999
    await holding.stop()


@virtual_time
async def test_a_room_whose_time_is_over_is_not_taken_again(monkeypatch):
    first = Socket(CREATED)
    Servers(monkeypatch, first, Socket(CREATED))
    holding = Holding(ttl=100)
    await asyncio.sleep(100)
    first.go()
    with pytest.raises(Failure) as caught:
        await holding.task
    assert caught.value.code == "expired"


@virtual_time
async def test_a_server_that_says_expired_ends_it_and_one_that_refuses_later_does_not(monkeypatch):
    first, second = Socket(CREATED), Socket(CREATED)
    Servers(monkeypatch, first, Failure("server_refused", "status 502"), second)
    holding = Holding()
    await holding.seat.ready.wait()
    first.go()
    await asyncio.sleep(5)
    assert holding.told == [True, False, False, True]
    second.say("error", code="expired")
    with pytest.raises(Failure) as caught:
        await holding.task
    assert caught.value.code == "expired"


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (messages.encode("error", code="room_taken"), "server_refused"),
        (messages.encode("error", code="rate_limited"), "server_refused"),
        (messages.encode("error", code="full"), "server_refused"),
        (messages.encode("error", code="going_away"), "server_unreachable"),
        (JOINED, "server_refused"),
        ("gibberish", "server_refused"),
        (None, "server_unreachable"),
    ],
)
@virtual_time
async def test_a_room_that_cannot_be_had_at_first_is_a_failure_at_once(monkeypatch, says, code):
    Servers(monkeypatch, Socket(says))
    holding = Holding()
    with pytest.raises(Failure) as caught:
        await holding.task
    assert caught.value.code == code
    assert not holding.told


@virtual_time
async def test_a_server_that_never_answers_is_unreachable(monkeypatch):
    servers = Servers(monkeypatch, Socket())
    holding = Holding()
    with pytest.raises(Failure) as caught:
        await holding.task
    assert (caught.value.code, caught.value.detail) == ("server_unreachable", "no answer")
    assert len(servers.tries) == 1


@virtual_time
async def test_only_so_many_attempts_are_known_at_once(monkeypatch):
    socket = Socket(CREATED)
    Servers(monkeypatch, socket)
    holding = Holding()
    for number in range(20):
        socket.say("attempt", attempt=number.to_bytes(16, "big"))
    await asyncio.sleep(1)
    assert holding.seat.attempts.qsize() == 8
    await holding.stop()


@virtual_time
async def test_a_seat_that_is_closed_tells_the_server(monkeypatch):
    socket = Socket(CREATED)
    Servers(monkeypatch, socket)
    holding = Holding()
    await holding.seat.ready.wait()
    await holding.seat.close()
    assert socket.sent[-1] == {"type": "close"}
    await holding.stop()


@virtual_time
async def test_closing_waits_a_moment_only_where_no_server_is(monkeypatch):
    loop = asyncio.get_running_loop()
    seat = HostSeat(ORIGIN, KEYS, 100, OWNER)
    began = loop.time()
    await seat.close()
    assert loop.time() - began < 0.5


# --- a guest's attempt ----------------------------------------------------------------------------


@virtual_time
async def test_a_guest_joins_and_talks_and_is_told_when_it_is_over(monkeypatch):
    socket = Socket(JOINED)
    Servers(monkeypatch, socket)
    async with GuestSeat(ORIGIN, KEYS) as attempt:
        assert attempt.id == ATTEMPT
        await attempt.send(b"knock")
        socket.say("envelope", attempt=OTHER, body=b"not for us")
        socket.say("envelope", attempt=ATTEMPT, body=b"answer")
        socket.say("left", attempt=ATTEMPT)
        assert [await attempt.recv(), await attempt.recv()] == [b"answer", None]
    assert socket.sent == [
        {"type": "join", "room": KEYS.room, "join": KEYS.join},
        {"type": "envelope", "attempt": ATTEMPT, "body": b"knock"},
    ]
    assert socket.closed


@virtual_time
async def test_a_token_is_given_where_it_is_asked_for_and_not_before(monkeypatch):
    asks = Socket(messages.encode("error", code="token_required"))
    takes = Socket(CREATED)
    Servers(monkeypatch, asks, takes)
    seat = HostSeat(ORIGIN, KEYS, 60.0, OWNER, token="a token")
    task = asyncio.create_task(seat.run(lambda there: None))
    await seat.ready.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asks.sent[0]["token"] is None
    assert takes.sent[0]["token"] == "a token"


@virtual_time
async def test_a_token_that_is_not_known_is_the_end(monkeypatch):
    no = messages.encode("error", code="token_required")
    for token in ("", "a token"):
        Servers(monkeypatch, Socket(no), Socket(no))
        with pytest.raises(Failure) as caught:
            await HostSeat(ORIGIN, KEYS, 60.0, OWNER, token=token).run(lambda there: None)
        assert caught.value.code == "token_required"


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        ("expired", "it has expired"),
        ("closed", "the transfer is over, or the sender has withdrawn the link"),
        (None, "the transfer is over, or the link has expired or was mistyped"),
        ("of a later server", "the transfer is over, or the link has expired or was mistyped"),
    ],
)
@virtual_time
async def test_a_guest_is_told_why_a_link_leads_to_nobody(monkeypatch, reason, detail):
    Servers(monkeypatch, Socket(messages.encode("error", code="not_found", reason=reason)))
    with pytest.raises(Failure) as caught:
        async with GuestSeat(ORIGIN, KEYS):
            pass
    assert caught.value.detail == detail


@pytest.mark.parametrize(
    ("outcome", "error", "code"),
    [
        ("", None, 1000),
        ("direct", None, 4000),
        ("tls", None, 4001),
        ("relayed", None, 4002),
        ("no_connection", TimeoutError(), 4010),
        ("passphrase_wrong", LaneLost(), 4012),
        ("no_connection", PeerError("knock_missing"), 4014),
        ("", PeerError("knock_missing"), 1000),
    ],
)
@virtual_time
async def test_a_guest_tells_the_server_how_it_went(monkeypatch, outcome, error, code):
    socket = Socket(JOINED)
    Servers(monkeypatch, socket)
    with pytest.raises(type(error)) if error else contextlib.nullcontext():
        async with GuestSeat(ORIGIN, KEYS) as attempt:
            attempt.outcome = outcome
            if error:
                raise error
    assert socket.code == code


@pytest.mark.parametrize("end", [None, "gibberish", messages.encode("error", code="going_away")])
@virtual_time
async def test_a_server_that_goes_ends_a_guests_attempt(monkeypatch, end):
    Servers(monkeypatch, Socket(JOINED, end))
    async with GuestSeat(ORIGIN, KEYS) as attempt:
        assert await attempt.recv() is None


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (messages.encode("error", code="not_found"), "not_found"),
        (messages.encode("error", code="busy"), "busy"),
        (messages.encode("error", code="expired"), "expired"),
        (messages.encode("error", code="rate_limited"), "server_refused"),
        (CREATED, "server_refused"),
        (None, "server_unreachable"),
    ],
)
@virtual_time
async def test_a_guest_that_cannot_join_is_told_why(monkeypatch, says, code):
    socket = Socket(says)
    Servers(monkeypatch, socket)
    with pytest.raises(Failure) as caught:
        async with GuestSeat(ORIGIN, KEYS):
            pass
    assert caught.value.code == code
    assert socket.closed


@virtual_time
async def test_a_guest_waits_for_an_answer_only_so_long(monkeypatch):
    loop, socket = asyncio.get_running_loop(), Socket()
    Servers(monkeypatch, socket)
    began = loop.time()
    with pytest.raises(Failure) as caught:
        async with GuestSeat(ORIGIN, KEYS):
            pass
    assert caught.value.code == "server_unreachable"
    assert loop.time() - began == pytest.approx(seats.OPEN_SECONDS)
    assert socket.closed


# --- what a failure to connect is called ----------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "server_unreachable", "refused"),
        (OSError("several addresses"), "server_unreachable", "no answer"),
        (TimeoutError(), "server_unreachable", "no answer"),
        (ssl.SSLError(1, "wrong version number"), "server_unreachable", "does not use TLS"),
        (InvalidHandshake("secret.example"), "server_unreachable", "not a Handover server"),
        (ValueError("secret.example"), "server_unreachable", "not a Handover server"),
        (InvalidStatus(SimpleNamespace(status_code=502)), "server_refused", "status 502"),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_a_failure_to_connect_is_said_without_any_address(monkeypatch, error, code, detail):
    async def fail(*args, **options):
        raise error

    monkeypatch.setattr(seats, "connect", fail)
    with pytest.raises(Failure) as caught:
        await seats.open_connection(ORIGIN)
    assert caught.value.code == code
    assert detail in caught.value.detail
    assert "example" not in caught.value.detail


async def test_a_server_that_takes_https_alone_is_said_to_give_no_answer_by_http():
    """It ends the connection without a word; asked by https, it may end it as well."""

    async def end(reader, writer):
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(end, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for scheme, detail in ("http", "no_http"), ("https", None):
            with pytest.raises(Failure) as caught:
                await seats.open_connection(f"{scheme}://127.0.0.1:{port}", Proxies(NONE))
            assert caught.value.code == "server_unreachable"
            assert (caught.value.detail == Detail("no_http")) is (detail is not None)


async def test_a_certificate_that_nobody_here_trusts_is_no_obstacle(monkeypatch):
    """What the server says is sealed or proven by the link; see `open_connection`."""
    tried: list[tuple[str, ssl.SSLContext | None]] = []

    connected = SimpleNamespace(proxy="")

    async def connect(address, **options):
        tried.append((address, options.get("ssl")))
        if "ssl" not in options:
            raise ssl.SSLCertVerificationError(1, "self-signed")
        return connected

    monkeypatch.setattr(seats, "connect", connect)
    found: object = await seats.open_connection("https://192.0.2.1:8443")
    assert found is connected
    assert [address for address, _ in tried] == [f"wss://192.0.2.1:8443{messages.PATH}"] * 2
    context = tried[1][1]
    assert context is not None
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("host", "working", "tried"),
    [
        ("server.example", "http://p:1", ["http://p:1"]),
        ("server.example", "", ["http://p:1", ""]),
        ("10.0.0.1", "", [""]),
        ("10.0.0.1", "http://p:1", ["", "http://p:1"]),
    ],
)
async def test_a_proxy_is_one_way_and_none_another(monkeypatch, host, working, tried):
    ways: list[str] = []

    async def open_by(origin, proxy, *_):
        ways.append(proxy)
        if proxy != working:
            raise Failure("server_unreachable", Detail("proxy_refused"))
        return "connected"

    monkeypatch.setattr(seats, "_open_by", open_by)
    proxies = Proxies("http://p:1", {})
    found: object = await seats.open_connection(f"https://{host}", proxies)
    assert found == "connected"
    assert ways == tried


def test_nobody_is_there_where_the_room_or_the_server_is_gone():
    refused = OSError(errno.ECONNREFUSED, "x")
    assert is_nobody_there(Failure("not_found"))
    assert is_nobody_there(Failure("server_unreachable", seats._reason(refused)))
    assert not is_nobody_there(Failure("server_unreachable", Detail("no_answer")))
    assert not is_nobody_there(PeerError("x"))


def test_a_code_that_is_not_known_is_said_in_few_words():
    failure = seats._failure({"code": "a_code_of_a_later_server_that_is_very_long_indeed"})
    assert failure.code == "server_unreachable"
    assert failure.detail == "a_code_of_a_later_server_that_is"
