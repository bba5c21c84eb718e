"""The server's edge: HTTP and WebSockets (aiohttp). The rules are in `rooms`.

Logs say what happened and how often, never to whom: no address, path, room, token or link.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import ssl
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from . import messages
from . import web_assets as pages
from .apart import listen
from .connections import Connection, Connections
from .ice import IceConfiguration
from .proxies import Network, Proxies
from .rooms import Limits, Origin, Rates, Refused, Rooms

logger = logging.getLogger("handover.signaling")

SWEEP_SECONDS = 1.0
PING_SECONDS = 20.0


class _Seat:
    """One WebSocket: a host with a room, or a guest with an attempt.

    What it is told waits here, so that nobody waits for a peer that does not read.
    """

    def __init__(self, socket: web.WebSocketResponse, connection: Connection, limits: Limits):
        self.connection = connection
        self.room = b""
        self.attempt = b""  # a guest's
        self.stays = False  # a page that has something to save
        self.strays = 0
        self.guests: dict[bytes, _Seat] = {}  # a host's
        self._socket, self._limits = socket, limits
        self._unsent: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._unsent_bytes, self.hung_up = 0, False
        self._code = WSCloseCode.OK

    @property
    def origin(self) -> Origin:
        assert self.connection.origin is not None  # known since its request was
        return self.connection.origin

    def say(self, kind: str, **members: object) -> None:
        """Tell it, soon."""
        self._put(messages.encode(kind, **members))

    def pong(self, data: bytes) -> None:
        """Answer a ping, soon."""
        self._put(data)

    def hang_up(self, code: WSCloseCode = WSCloseCode.OK) -> None:
        """Close it once it was told everything."""
        if not self.hung_up:
            self.hung_up, self._code = True, code
            self._unsent.put_nowait(None)

    def _put(self, item: str | bytes) -> None:
        self._unsent_bytes += len(item)
        if (
            self._unsent.qsize() >= self._limits.unsent_messages
            or self._unsent_bytes > self._limits.unsent_bytes
        ):
            self.connection.abort()
        elif not self.hung_up:
            self._unsent.put_nowait(item)

    async def write(self) -> None:
        """Send what it is told, until it is hung up or does not take it in time."""
        try:
            while (item := await self._unsent.get()) is not None:
                async with asyncio.timeout(self._limits.write_seconds):
                    if isinstance(item, str):
                        await self._socket.send_str(item)
                    else:
                        await self._socket.pong(item)
                self._unsent_bytes -= len(item)
            async with asyncio.timeout(self._limits.shutdown_seconds):
                await self._socket.close(code=self._code)
        except TimeoutError:
            self.connection.abort()
        except (ConnectionError, RuntimeError):  # it is gone
            pass


class Server:
    """A running signaling server. `port` is the one it listens on."""

    def __init__(
        self,
        limits: Limits | None = None,
        trusted: Sequence[Network] = (),
        owner_hash: bytes | None = None,
        guest: tuple[bytes, bytes] | None = None,
        ice: IceConfiguration | None = None,
    ) -> None:
        """`trusted` are networks of proxies whose word on who asks is taken. With `owner_hash`,
        SHA-256 of an owner token, there is no room for any other host, and pages of its guest may
        `stay`. `guest` is the room, and the SHA-256 of its join token. `ice`: what peers are told
        of STUN and TURN servers."""
        self.limits = limits or Limits()
        self.port = 0
        self.guest = guest
        self._own = owner_hash is not None
        self._ice = ice or IceConfiguration()
        self._rooms = Rooms(self.limits, owner_hash)
        self._rates = Rates(self.limits)
        self._proxies = Proxies(trusted)
        self._connections = Connections(self.limits, self._rates, self._proxies)
        self._hosts: dict[bytes, _Seat] = {}
        self._seats: set[_Seat] = set()
        self._told_of_proxy = False

    # --- starting and stopping

    def application(self) -> web.Application:
        """The aiohttp application: `/` (also for links that a filter has mangled), its assets,
        `/healthz` and the WebSocket."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.on_response_prepare.append(self._protect)
        app.router.add_get("/", self._page)
        app.router.add_get("/assets/{name}", self._asset)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get(messages.PATH, self._signal)
        app.router.add_get(pages.MANGLED_LINK, self._page)
        return app

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises `OSError` when the address is not to be had."""
        await self.serve(listen(host, port), tls)

    async def serve(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Begin to accept from a socket that listens already; it is closed at the end."""
        self._listener = listener
        self.port = listener.getsockname()[1]
        listener.setblocking(False)
        self._runner = web.AppRunner(
            self.application(), handle_signals=False, shutdown_timeout=self.limits.shutdown_seconds
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._tasks = [
            asyncio.create_task(self._connections.accept(listener, self._runner.server, tls)),
            asyncio.create_task(self._sweep()),
        ]
        logger.info("listening on port %d", self.port)

    async def stop(self, *, replaced: bool = False) -> None:
        """Tell everyone, and close, within `shutdown_seconds` twice. Where it is not `replaced`,
        pages that stay need not come back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        for seat in self._seats:
            seat.say("error", code="going_away" if replaced or not seat.stays else "not_found")
            seat.hang_up(WSCloseCode.GOING_AWAY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.shutdown_seconds):
                while self._seats:
                    await asyncio.sleep(0.01)
        await self._connections.end()
        await self._runner.cleanup()
        logger.info("stopped")

    @property
    def staying(self) -> bool:
        """Whether there is a page that has something to save."""
        return any(seat.stays for seat in self._seats)

    async def deserted(self, seconds: float) -> None:
        """Wait until there has been no such page for so long: one that is loaded anew is back by
        then."""
        seen = time.monotonic()
        while time.monotonic() - seen < seconds:
            if self.staying:
                seen = time.monotonic()
            await asyncio.sleep(min(SWEEP_SECONDS, seconds / 4))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for name in self._rooms.expire(now):
                self._end_room(name, "expired")
            for room, attempt in self._rooms.overdue(now):
                self._end_attempt(room, attempt)

    # --- HTTP

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Whose request it is, and whether that one may still ask."""
        connection = _connection(request)
        seen = connection.seen = self._proxies.look(request)
        if seen.proxy == "foreign" and not self._told_of_proxy:
            self._told_of_proxy = True
            logger.warning("a proxy that is not trusted passes requests on (--trusted-proxy)")
        if request.path != messages.PATH:
            shared = seen.proxy == "trusted"  # for many people, one after the other
            began = asyncio.get_running_loop().time() if shared else connection.accepted
            connection.end_at(began + self.limits.page_seconds)
        origin = self._connections.origin_of(seen.address)
        if seen.proxy == "trusted" and not self._connections.readdress(connection, origin):
            raise web.HTTPTooManyRequests
        if not self._connections.take_frame(connection):
            raise web.HTTPTooManyRequests
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception as error:  # aiohttp would log it, and the address with it
            where = "".join(traceback.format_tb(error.__traceback__))  # its text may hold a path
            logger.error("a request failed: %s\n%s", type(error).__name__, where)
            raise web.HTTPInternalServerError from None

    async def _protect(self, request: web.Request, response: web.StreamResponse) -> None:
        """The security headers on every response, refusals and failures included."""
        for name, value in pages.HEADERS.items():
            response.headers.setdefault(name, value)

    async def _page(self, request: web.Request) -> web.Response:
        if pages.shipped() and _connection(request).seen.trustworthy:
            return self._client(request, "/")
        return web.Response(text=pages.NOTICE, content_type="text/html")

    async def _asset(self, request: web.Request) -> web.Response:
        if request.path not in pages.shipped() or not _connection(request).seen.trustworthy:
            raise web.HTTPNotFound
        return self._client(request, request.path)

    def _client(self, request: web.Request, path: str) -> web.Response:
        body, origin = pages.shipped()[path], _connection(request).origin
        most = self.limits.served_per_minute
        if origin is not None and not self._connections.take(origin, "served", most, len(body)):
            raise web.HTTPTooManyRequests
        return web.Response(body=body, headers=pages.client_headers(path))

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "rooms": len(self._rooms)})

    # --- WebSocket

    async def _signal(self, request: web.Request) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and _netloc(origin) != _connection(request).seen.host:
            raise web.HTTPForbidden(text="another origin")
        offered = request.headers.get("Sec-WebSocket-Protocol", messages.SUBPROTOCOL)
        if messages.SUBPROTOCOL not in [one.strip() for one in offered.split(",")]:
            raise web.HTTPBadRequest(text="another subprotocol")  # aiohttp logs the address
        ws = web.WebSocketResponse(
            timeout=self.limits.shutdown_seconds,
            max_msg_size=messages.MAX_FRAME,
            autoping=False,  # control frames are counted like others
            compress=False,  # a small frame could blow up to a large one
            heartbeat=PING_SECONDS,
            protocols=(messages.SUBPROTOCOL,),
        )
        await ws.prepare(request)
        connection = _connection(request)
        seat = _Seat(ws, connection, self.limits)
        self._seats.add(seat)
        writing = asyncio.create_task(seat.write())
        try:
            await self._serve(seat, ws)
        finally:
            self._vacate(seat)
            seat.hang_up()
            connection.end_within(2 * self.limits.shutdown_seconds + self.limits.write_seconds)
            try:
                await asyncio.wait([writing])
            finally:
                writing.cancel()
                self._seats.discard(seat)
        return ws

    async def _serve(self, seat: _Seat, ws: web.WebSocketResponse) -> None:
        """One frame after the other, until the peer goes or breaks the rules."""
        while True:
            frame = await ws.receive()
            if seat.hung_up:
                return
            if not self._connections.take_frame(seat.connection):
                seat.connection.abort()
                return
            if frame.type is WSMsgType.PING:
                seat.pong(frame.data)
                continue
            if frame.type is WSMsgType.PONG:
                continue
            if frame.type is not WSMsgType.TEXT:
                return
            try:
                self._act(seat, messages.decode(frame.data, messages.FROM_PEER))
            except messages.BadMessage:
                seat.say("error", code="bad_message")
                return
            except Refused as refusal:
                logger.info("refused: %s", refusal.code)
                seat.say("error", code=refusal.code, reason=refusal.reason)
                return
            if not seat.room and not seat.stays:
                return
            self._connections.seat(seat.connection)

    def _act(self, seat: _Seat, message: messages.Message) -> None:
        kind = message["type"]
        if seat.stays:
            raise messages.BadMessage
        if not seat.room:
            if kind == "create":
                self._create(seat, message)
            elif kind == "join":
                self._join(seat, message)
            elif kind == "stay":
                self._stay(seat, message)
            else:
                raise messages.BadMessage
        elif kind == "envelope":
            self._pass_on(seat, message["attempt"], message["body"])
        elif kind == "leave":
            self._stray(seat, message["attempt"])
            if seat.attempt not in (b"", message["attempt"]):
                raise messages.BadMessage
            self._end_attempt(seat.room, message["attempt"])
        elif kind == "close" and not seat.attempt:
            self._rooms.finish(seat.room, time.monotonic())
        else:
            raise messages.BadMessage

    def _create(self, seat: _Seat, message: messages.Message) -> None:
        now, room = time.monotonic(), message["room"]
        gone = self._rooms.create(
            room, message["join_hash"], message["owner"], message["ttl"], seat.origin, now
        )
        if gone is not None:
            self._end_room(gone, "full")
        former = self._hosts.get(room)
        if former is not None:
            for attempt in list(former.guests):  # they wait for somebody who is gone
                self._end_attempt(room, attempt)
            former.room = b""
            former.hang_up()
        self._hosts[room], seat.room = seat, room
        if self._own:
            self.guest = (room, message["join_hash"])
        logger.info("room created, %d in all", len(self._rooms))
        seat.say("created")

    def _join(self, seat: _Seat, message: messages.Message) -> None:
        now, limits = time.monotonic(), self.limits
        room, attempt = message["room"], os.urandom(messages.ATTEMPT)
        address, host = seat.origin.address, self._hosts.get(room)
        try:
            self._rooms.join(room, message["join"], attempt, now)
        except Refused as refusal:
            most = limits.failed_joins_per_minute
            if refusal.code == "not_found" and not self._rates.count(address, "failed", most, now):
                raise Refused("rate_limited") from None
            raise
        if not self._rates.count(address + room, "join", limits.joins_per_minute, now):
            self._rooms.leave(room, attempt)
            raise Refused("rate_limited")
        if host is None:  # the host's connection is down; it will be back
            self._rooms.leave(room, attempt)
            raise Refused("not_found")
        seat.room, seat.attempt = room, attempt
        host.guests[attempt] = seat
        for one, kind in ((seat, "joined"), (host, "attempt")):
            ice = self._ice.told(time.time(), one.connection.seen.host)
            one.say(kind, attempt=attempt, ice=ice)

    def _stay(self, seat: _Seat, message: messages.Message) -> None:
        known = self.guest == (message["room"], hashlib.sha256(message["join"]).digest())
        if not known:  # nor of a server that outlives its transfers
            raise Refused("not_found")
        seat.stays = True

    def _pass_on(self, seat: _Seat, attempt: bytes, body: bytes) -> None:
        host = self._hosts.get(seat.room)
        from_host = host is seat
        if host is None or (not from_host and attempt != seat.attempt):
            raise messages.BadMessage
        other = host.guests.get(attempt) if from_host else host
        self._stray(seat, attempt)
        try:
            self._rooms.pass_on(seat.room, attempt, len(body), from_host=from_host)
        except Refused as refusal:
            self._end_attempt(seat.room, attempt)
            if refusal.code == "not_found" and from_host:
                return  # it crossed the end of the attempt
            raise
        if other is not None:
            other.say("envelope", attempt=attempt, body=body)

    def _stray(self, seat: _Seat, attempt: bytes) -> None:
        """Messages cross the end of an attempt, but not for ever."""
        if attempt not in seat.guests and attempt != seat.attempt:
            seat.strays += 1
            if seat.strays > self.limits.stray_messages:
                raise messages.BadMessage

    def _end_attempt(self, room: bytes, attempt: bytes) -> None:
        self._rooms.leave(room, attempt)
        host = self._hosts.get(room)
        if host is None:
            return
        guest = host.guests.pop(attempt, None)
        if guest is not None:
            host.say("left", attempt=attempt)
            guest.say("left", attempt=attempt)
            guest.room = b""
            guest.hang_up()

    def _end_room(self, room: bytes, code: str) -> None:
        """The rules have forgotten a room: tell who is in it."""
        host = self._hosts.pop(room, None)
        if host is None:
            return
        for guest in host.guests.values():
            guest.say("left", attempt=guest.attempt)
            guest.room = b""
            guest.hang_up()
        host.guests.clear()
        host.room = b""
        host.say("error", code=code)
        host.hang_up()

    def _vacate(self, seat: _Seat) -> None:
        """A connection is gone. A room outlives its host's, so that it can come back."""
        if seat.attempt:
            if seat.room:
                self._end_attempt(seat.room, seat.attempt)
        elif seat.room and self._hosts.get(seat.room) is seat:
            for attempt in list(seat.guests):
                self._end_attempt(seat.room, attempt)
            del self._hosts[seat.room]
            self._rooms.away(seat.room, time.monotonic())


def _netloc(url: str) -> str | None:
    """Host and port of a URL; None where it is none."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


def _connection(request: web.Request) -> Connection:
    connection = request.protocol
    assert isinstance(connection, Connection)
    return connection
