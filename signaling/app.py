"""The server's edge: HTTP and WebSockets (aiohttp). What peers may say is in `seats`.

Logs say what happened and how often, never to whom: no address, path, room, token or link.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from . import lanes, messages
from . import web_assets as pages
from .access import Access
from .apart import inherited, listen
from .connections import Connection, Connections
from .ice import IceConfiguration
from .memory_store import MemoryStore
from .policy import Policy
from .proxies import Network, Proxies
from .rooms import Limits, Rates, Refused
from .seats import Seat, Seats
from .store import Node, Store, Unavailable
from .tally import Tally

logger = logging.getLogger("handover.signaling")

LOOK_SECONDS = 1.0
WARN_DAYS = 14
PING_SECONDS = 20.0


class Server:
    """A running signaling server. `port` is the one it listens on."""

    def __init__(
        self,
        limits: Limits | None = None,
        trusted: Sequence[Network] = (),
        owner_hash: bytes | None = None,
        guest: tuple[bytes, bytes] | None = None,
        ice: IceConfiguration | None = None,
        store: Store | None = None,
        access: Access | None = None,
        policy: Policy | None = None,
    ) -> None:
        """`trusted` are networks of proxies whose word on who asks is taken. With `owner_hash`,
        SHA-256 of an owner token, there is no room for any other host, pages of its guest may
        `stay`, and its transfer may have `lanes`. `guest` is the room, and the SHA-256 of its join
        token. `ice`: what peers are told of STUN and TURN servers. `store`: what is shared with
        other nodes; without, there are none. `access`: who may create rooms; without, anyone.
        `policy`: what is asked of transfers; without, nothing."""
        self.limits = limits or Limits()
        self.port = 0
        self._store = store or MemoryStore(self.limits, owner_hash)
        self._own = own = owner_hash is not None
        self.lanes = lanes.Lanes()  # of the transfer whose own server this is
        self.tally = Tally()
        self.certificate_expires: datetime | None = None
        ice = ice or IceConfiguration()
        self._rooms = Seats(
            self.limits, self._store, ice, self.tally, access, policy, guest, own=own
        )
        self._policy = policy or Policy()
        self._proxies = Proxies(trusted)
        self._connections = Connections(self.limits, Rates(self.limits), self._proxies)
        self._seats: set[Seat] = set()
        self._told_of_proxy = False

    @property
    def guest(self) -> tuple[bytes, bytes] | None:
        """Whose pages may stay: the room, and the SHA-256 of its join token."""
        return self._rooms.guest

    @property
    def rooms(self) -> int:
        """How many rooms have their host here."""
        return len(self._rooms)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def store_ready(self) -> bool:
        """Whether what is shared with other nodes answers."""
        return self._store.ready()

    @property
    def draining(self) -> bool:
        """Whether it takes nobody new."""
        return self._rooms.draining

    # --- starting and stopping

    def application(self) -> web.Application:
        """The aiohttp application: `/` (also for links that a filter has mangled), its assets,
        `/policy`, `/healthz`, the WebSocket, and where it is a transfer's own, its lanes."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.on_response_prepare.append(self._protect)
        app.router.add_get("/", self._page)
        app.router.add_get("/assets/{name}", self._asset)
        app.router.add_get("/policy", self._tell_policy)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get(messages.PATH, self._signal)
        if self._own:
            app.router.add_get(lanes.PATH, self._carry, allow_head=False)
        app.router.add_get(pages.MANGLED_LINK, self._page)
        return app

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen, at the socket that systemd gives where it does. Raises `OSError` when the address
        is not to be had."""
        await self.serve(inherited() or listen(host, port), tls)

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
        rekey, rooms = self._connections.rekey, self._rooms
        await self._store.start(Node(rooms.take, rekey, rooms.cut_off))
        self._connections.tls = tls
        self._accepting = asyncio.create_task(
            self._connections.accept(listener, self._runner.server)
        )
        logger.info("listening on port %d", self.port)

    def certificate(self, expires: datetime, tls: ssl.SSLContext | None = None) -> None:
        """Until when the certificate is good. With `tls`, that is what connections get that come
        from now on: a context of its own, for one keeps a certificate for each type of key."""
        self.certificate_expires = expires
        if tls is not None:
            self._connections.tls = tls
        left = (expires - datetime.now(UTC)).total_seconds() / 86_400
        level = logging.INFO if left > WARN_DAYS else logging.WARNING
        logger.log(level, "certificate expires %s", expires.isoformat())

    async def drain(self, seconds: float) -> None:
        """Take nobody new, send away who waits, and let attempts that are under way end, but not
        for longer than this."""
        logger.info("draining")
        self._rooms.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._rooms.under_way:
                    await asyncio.sleep(0.05)

    async def stop(self, *, replaced: bool = False) -> None:
        """Tell everyone, and close, within `shutdown_seconds` twice. Where it is not `replaced`,
        pages that stay need not come back."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        for seat in self._seats:
            seat.say("error", code="going_away" if replaced or not seat.stays else "not_found")
            seat.hang_up(WSCloseCode.GOING_AWAY)
        self.lanes.forget()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.shutdown_seconds):
                while self._seats or self.lanes.open:  # pages hear what was said last
                    await asyncio.sleep(0.01)
        self.lanes.close()
        await self._connections.end()
        await self._runner.cleanup()
        await self._rooms.end(self.limits.shutdown_seconds)
        await self._store.stop()
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
            await asyncio.sleep(min(LOOK_SECONDS, seconds / 4))

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
        else:
            connection.end_at(connection.accepted + self.limits.first_message_seconds)
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

    async def _tell_policy(self, request: web.Request) -> web.Response:
        return web.json_response(self._policy.told() or {})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "rooms": len(self._rooms)})

    async def _carry(self, request: web.Request) -> web.StreamResponse:
        """A lane of the transfer, to whoever has its token."""
        _refuse_other_origins(request)
        pipe = self.lanes.take(request.match_info["token"])
        if pipe is None:
            raise web.HTTPNotFound
        connection = _connection(request)
        self._connections.seat(connection)
        connection.metered = False  # it carries files now
        with self.lanes.opened(pipe):
            if "Upgrade" not in request.headers:
                try:
                    return await lanes.download(request, pipe)
                except (ConnectionError, TimeoutError):  # the page is gone
                    connection.abort()
                    return web.Response()
            ws = web.WebSocketResponse(max_msg_size=lanes.MAX_MESSAGE + 1, compress=False)
            await ws.prepare(request)
            await lanes.exchange(ws, pipe, lambda: connection.end_within(lanes.WRITE_SECONDS))
            return ws

    # --- WebSocket

    async def _signal(self, request: web.Request) -> web.StreamResponse:
        _refuse_other_origins(request)
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
        seat = Seat(ws, connection, self.limits)
        self._seats.add(seat)
        ws.headers.clear()  # they were sent; who waits takes no more memory than it must
        try:
            await self._serve(seat, ws)
        finally:
            self._rooms.vacate(seat, ws.close_code)
            connection.end_within(2 * self.limits.shutdown_seconds + self.limits.write_seconds)
            try:
                await seat.closed()
            finally:
                self._seats.discard(seat)
        return ws

    async def _serve(self, seat: Seat, ws: web.WebSocketResponse) -> None:
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
                message = messages.decode(frame.data, messages.FROM_PEER)
                if not seat.room:  # what follows takes as long as the store does
                    seat.connection.end_within(self.limits.first_message_seconds)
                await self._rooms.act(seat, message)
            except messages.BadMessage:
                self.tally.count("refusals", "bad_message")
                seat.say("error", code="bad_message")
                return
            except Refused as refusal:
                logger.info("refused: %s", refusal.code)
                self.tally.count("refusals", refusal.code)
                seat.say("error", code=refusal.code, reason=refusal.reason)
                return
            except Unavailable:
                logger.warning("refused: unavailable")
                self.tally.count("refusals", "unavailable")
                seat.say("error", code="unavailable")
                return
            if not seat.room and not seat.stays:
                return
            self._connections.seat(seat.connection)


def _refuse_other_origins(request: web.Request) -> None:
    """Raises `HTTPForbidden` for a page of another one."""
    origin = request.headers.get("Origin")
    if origin is not None and _netloc(origin) != _connection(request).seen.host:
        raise web.HTTPForbidden(text="another origin")


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
