"""The server's edge: HTTP and WebSockets (aiohttp). The rules are in `rooms`.

Logs say what happened and how often, never to whom: no address, room, token or link.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from . import messages
from . import web_assets as pages
from .rooms import Limits, Rates, Refused, Rooms

logger = logging.getLogger("handover.signaling")

SWEEP_SECONDS = 1.0
PING_SECONDS = 20.0


class _Seat:
    """One WebSocket: a host with a room, or a guest with an attempt."""

    def __init__(self, socket: web.WebSocketResponse, address: bytes) -> None:
        self.socket, self.address = socket, address
        self.room = b""
        self.attempt = b""  # a guest's
        self.strays = 0
        self.guests: dict[bytes, _Seat] = {}  # a host's

    async def say(self, kind: str, **members: object) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.socket.send_str(messages.encode(kind, **members))


class Server:
    """A running signaling server. `port` is the one it listens on."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.port = 0
        self._rooms = Rooms(self.limits)
        self._rates = Rates(self.limits)
        self._hosts: dict[bytes, _Seat] = {}
        self._seats: set[_Seat] = set()
        self._closing: set[asyncio.Task[bool]] = set()
        self._silent: dict[int, asyncio.TimerHandle] = {}  # connections without a request yet
        self._key, self._key_day = os.urandom(32), 0.0

    @property
    def has_client(self) -> bool:
        """Whether browsers get a client here, where they may have one at all."""
        return bool(pages.shipped())

    # --- starting and stopping

    def application(self) -> web.Application:
        """The aiohttp application: `/`, its assets, `/healthz` and the WebSocket."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.on_response_prepare.append(self._protect)
        app.router.add_get("/", self._page)
        app.router.add_get("/assets/{name}", self._asset)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get(messages.PATH, self._signal)
        return app

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises `OSError` when the address is not to be had."""
        self._runner = web.AppRunner(
            self.application(), access_log=None, handle_signals=False, keepalive_timeout=15
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.BaseProtocol:
            protocol = server()
            self._silent[id(protocol)] = loop.call_later(
                self.limits.first_message_seconds, self._drop_silent, protocol
            )
            return protocol

        sock = _listen(host, port)
        self.port = sock.getsockname()[1]
        self._listener = await loop.create_server(
            connection, sock=sock, ssl=tls, start_serving=False
        )
        try:
            await self._listener.start_serving()
        except BaseException:  # cancelled: nobody else knows of it yet
            self._listener.close()
            raise
        self._sweeper = asyncio.create_task(self._sweep())
        logger.info("listening on port %d", self.port)

    async def stop(self) -> None:
        """Tell everyone, and close."""
        self._listener.close()
        self._sweeper.cancel()
        for seat in list(self._seats):
            await seat.say("error", code="going_away")
            await seat.socket.close(code=WSCloseCode.GOING_AWAY)
        await self._runner.cleanup()
        logger.info("stopped")

    def _drop_silent(self, protocol: web.RequestHandler) -> None:
        """A connection that has not sent whole headers by now never will (slow headers)."""
        del self._silent[id(protocol)]
        if protocol.transport is not None:
            protocol.transport.abort()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for name in self._rooms.expire(now):
                host = self._hosts.pop(name, None)
                if host is not None:
                    await host.say("error", code="expired")
                    await host.socket.close()
            for room, attempt in self._rooms.overdue(now):
                await self._end_attempt(room, attempt)

    # --- HTTP

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        timer = self._silent.pop(id(request.protocol), None)
        if timer is not None:
            timer.cancel()
        return await handler(request)

    async def _protect(self, request: web.Request, response: web.StreamResponse) -> None:
        """The security headers on every response, refusals and failures included."""
        for name, value in pages.HEADERS.items():
            response.headers.setdefault(name, value)

    async def _page(self, request: web.Request) -> web.Response:
        if pages.shipped() and _trustworthy(request):
            return self._client("/")
        return web.Response(text=pages.NOTICE, content_type="text/html")

    async def _asset(self, request: web.Request) -> web.Response:
        if request.path not in pages.shipped() or not _trustworthy(request):
            raise web.HTTPNotFound
        return self._client(request.path)

    def _client(self, path: str) -> web.Response:
        return web.Response(body=pages.shipped()[path], headers=pages.client_headers(path))

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "rooms": len(self._rooms)})

    # --- WebSocket

    def _address(self, request: web.Request) -> bytes:
        """A key for the client's /24 or /56 that means nothing tomorrow and is never written."""
        now = time.monotonic()
        if now - self._key_day > 86_400:
            self._key, self._key_day = os.urandom(32), now
        address = ipaddress.ip_address((request.remote or "::").split("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        octets = address.packed[:3] if address.version == 4 else address.packed[:7]
        return hmac.digest(self._key, octets, "sha256")

    async def _signal(self, request: web.Request) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="another origin")
        if len(self._seats) >= self.limits.connections:
            raise web.HTTPServiceUnavailable(text="full")
        ws = web.WebSocketResponse(
            max_msg_size=messages.MAX_FRAME,
            compress=False,  # a small frame could blow up to a large one
            heartbeat=PING_SECONDS,
            protocols=(messages.SUBPROTOCOL,),
        )
        await ws.prepare(request)
        seat = _Seat(ws, self._address(request))
        self._seats.add(seat)
        try:
            await self._serve(seat)
        finally:
            self._seats.discard(seat)
            await self._vacate(seat)
        return ws

    async def _serve(self, seat: _Seat) -> None:
        """One message after the other, until the peer goes or breaks the rules."""
        timeout: float | None = self.limits.first_message_seconds
        while True:
            try:
                frame = await seat.socket.receive(timeout)
            except TimeoutError:
                break
            if frame.type is not WSMsgType.TEXT:
                break
            timeout = None
            try:
                await self._act(seat, messages.decode(frame.data, messages.FROM_PEER))
            except messages.BadMessage:
                await seat.say("error", code="bad_message")
                break
            except Refused as refusal:
                logger.info("refused: %s", refusal.code)
                await seat.say("error", code=refusal.code)
                break
            if not seat.room:
                break
        await seat.socket.close()

    async def _act(self, seat: _Seat, message: messages.Message) -> None:
        kind = message["type"]
        if not seat.room:
            if kind == "create":
                await self._create(seat, message)
            elif kind == "join":
                await self._join(seat, message)
            else:
                raise messages.BadMessage
        elif kind == "envelope":
            await self._pass_on(seat, message["attempt"], message["body"])
        elif kind == "leave":
            self._stray(seat, message["attempt"])
            if seat.attempt not in (b"", message["attempt"]):
                raise messages.BadMessage
            await self._end_attempt(seat.room, message["attempt"])
        elif kind == "close" and not seat.attempt:
            self._rooms.close(seat.room)
        else:
            raise messages.BadMessage

    async def _create(self, seat: _Seat, message: messages.Message) -> None:
        now, room = time.monotonic(), message["room"]
        self._rooms.create(
            room, message["join_hash"], message["owner"], message["ttl"], seat.address, now
        )
        former = self._hosts.get(room)
        if former is not None:
            for attempt in list(former.guests):  # they wait for somebody who is gone
                await self._end_attempt(room, attempt)
            former.room = b""
            closing = asyncio.create_task(former.socket.close())  # a dead peer lets it wait
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._hosts[room], seat.room = seat, room
        logger.info("room created, %d in all", len(self._rooms))
        await seat.say("created")

    async def _join(self, seat: _Seat, message: messages.Message) -> None:
        now, limits = time.monotonic(), self.limits
        if self._rates.exceeded(seat.address, "failed", limits.failed_joins_per_minute, now):
            raise Refused("rate_limited")
        if not self._rates.count(seat.address, "join", limits.joins_per_minute, now):
            raise Refused("rate_limited")
        room, attempt = message["room"], os.urandom(messages.ATTEMPT)
        host = self._hosts.get(room)
        try:
            self._rooms.join(room, message["join"], attempt, now)
        except Refused as refusal:
            if refusal.code == "not_found":
                self._rates.count(seat.address, "failed", limits.failed_joins_per_minute, now)
            raise
        if host is None:  # the host's connection is down; it will be back
            self._rooms.leave(room, attempt)
            raise Refused("not_found")
        seat.room, seat.attempt = room, attempt
        host.guests[attempt] = seat
        await seat.say("joined", attempt=attempt)
        await host.say("attempt", attempt=attempt)

    async def _pass_on(self, seat: _Seat, attempt: bytes, body: bytes) -> None:
        host = self._hosts.get(seat.room)
        from_host = host is seat
        if host is None or (not from_host and attempt != seat.attempt):
            raise messages.BadMessage
        other = host.guests.get(attempt) if from_host else host
        self._stray(seat, attempt)
        try:
            self._rooms.pass_on(seat.room, attempt, len(body), from_host=from_host)
        except Refused as refusal:
            await self._end_attempt(seat.room, attempt)
            if refusal.code == "not_found" and from_host:
                return  # it crossed the end of the attempt
            raise
        if other is not None:
            await other.say("envelope", attempt=attempt, body=body)

    def _stray(self, seat: _Seat, attempt: bytes) -> None:
        """Messages cross the end of an attempt, but not for ever."""
        if attempt not in seat.guests and attempt != seat.attempt:
            seat.strays += 1
            if seat.strays > self.limits.stray_messages:
                raise messages.BadMessage

    async def _end_attempt(self, room: bytes, attempt: bytes) -> None:
        self._rooms.leave(room, attempt)
        host = self._hosts.get(room)
        if host is None:
            return
        guest = host.guests.pop(attempt, None)
        if guest is not None:
            await host.say("left", attempt=attempt)
            await guest.say("left", attempt=attempt)
            guest.room = b""
            await guest.socket.close()

    async def _vacate(self, seat: _Seat) -> None:
        """A connection is gone. A room outlives its host's, so that it can come back."""
        if seat.attempt:
            if seat.room:
                await self._end_attempt(seat.room, seat.attempt)
        elif seat.room and self._hosts.get(seat.room) is seat:
            for attempt in list(seat.guests):
                await self._end_attempt(seat.room, attempt)
            del self._hosts[seat.room]
            self._rooms.away(seat.room, time.monotonic())


def _trustworthy(request: web.Request) -> bool:
    """Whether the page reaches the browser as it leaves here, and the browser will believe that.

    Browsers call https so, and plain http to this very machine (W3C Secure Contexts 3.1). `Host`
    alone would be the client's word; that the connection arrived on a loopback address is not.
    """
    if request.secure:
        return True
    transport = request.transport
    arrived = transport.get_extra_info("sockname", [""])[0] if transport is not None else ""
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return False
    return _is_loopback(host) and _is_loopback(arrived)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; an empty host means every address, IPv6 and IPv4 alike."""
    if not host and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
