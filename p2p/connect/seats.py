"""A peer's seat at the signaling server: a WebSocket, sealed envelopes in and out, and coming back.

The host keeps its seat: when the server is gone it tries again, for as long as the link lives,
and takes its room anew (a server restarted with an empty memory is enough). What this module
carries it cannot read; sealing is `protocol.signal`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.protocol import Event

from signaling import messages

from ..protocol.errors import Failure, HandoverError, PeerError
from ..protocol.ice import IceServers, read_ice
from ..protocol.link import LinkKeys
from ..protocol.policy import Policy, read_policy
from ..protocol.sentences import Detail, detail_of, os_detail
from ..tasks import stop, uncancelled
from .addresses import is_loopback
from .proxies import (
    DIRECT_SECONDS,
    NONE,
    STAGGER_SECONDS,
    Proxies,
    first_that_reaches,
    open_socket,
)

logger = logging.getLogger("handover.connect")

OPEN_SECONDS = 10.0
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 5.0
PING_SECONDS = 5.0  # between pings, and until an answer to one is missed
OWNER = messages.OWNER  # bytes of the token that a room is taken again with
_REFUSED = Detail("econnrefused")  # why a server cannot be reached
MAX_WAITING = 256  # messages that nobody has read, or sent, yet
# What one attempt may bring: four times what a server passes on.
MAX_ENVELOPES, MAX_ENVELOPE_BYTES = 256, 256 * 1024
NO_SERVERS, NO_POLICY, NO_PROXIES = IceServers(), Policy(), Proxies(NONE)
MAX_ATTEMPTS = 8  # that the host knows of, or has not looked at yet
# What a server may send: as much at once, and so much a second for as long as it lasts. It holds
# for everything that arrives, control frames and pieces of frames included.
BURST_FRAMES, FRAMES_PER_SECOND = 1024, 32.0
BURST_BYTES, BYTES_PER_SECOND = 1024 * 1024, 32 * 1024.0


class ServerConnection(ClientConnection):
    """A connection that is cut off once the server has sent more than it may."""

    proxy = ""  # that it goes through

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._frames = _Allowance(BURST_FRAMES, FRAMES_PER_SECOND)
        self._bytes = _Allowance(BURST_BYTES, BYTES_PER_SECOND)

    def data_received(self, data: bytes) -> None:
        if self._bytes.take(len(data)):
            super().data_received(data)
        else:
            self._hang_up()

    def process_event(self, event: Event) -> None:
        if self._frames.take(1):
            super().process_event(event)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        logger.warning("the server sends more than it may; hanging up")
        self.transport.abort()


class _Allowance:
    """How much may still come: `most` at once, and `rate` a second."""

    def __init__(self, most: float, rate: float) -> None:
        self._most, self._rate, self._left = most, rate, most
        self._at = time.monotonic()

    def take(self, amount: float) -> bool:
        """Whether so much may come now; if so, it has."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


async def open_connection(origin: str, proxies: Proxies = NO_PROXIES) -> ServerConnection:
    """A connection to the server, by way of a proxy where there is one. Raises `Failure`."""
    url = urlsplit(origin)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    ways = proxies.ways(url.scheme, host, port)
    return await first_that_reaches(
        ways, lambda proxy: _open_by(origin, proxy, host, port), DIRECT_SECONDS
    )


async def _open_by(origin: str, proxy: str, host: str, port: int) -> ServerConnection:
    """A connection to the server, whether or not its certificate is trusted here.

    This peer runs no code that the server hands out, so it needs no trust in it: envelopes are
    sealed and `C` in the link proves the host (PROTOCOL.md, Threat model). Without it, a local
    certificate authority would have to be installed for the command line too. Whoever stands in
    between then can do what the server can, deny service, and no more; a trusted certificate is
    preferred.
    """
    try:
        try:
            return await _connect(origin, proxy, host, port)
        except ssl.SSLCertVerificationError:
            logger.warning("the server's certificate is not trusted here; going on without")
            unverified = ssl.create_default_context()
            unverified.check_hostname = False
            unverified.verify_mode = ssl.CERT_NONE
            return await _connect(origin, proxy, host, port, ssl=unverified)
    except InvalidStatus as error:
        raise Failure(
            "server_refused", Detail("status", status=error.response.status_code)
        ) from None
    except (OSError, TimeoutError, WebSocketException, ValueError) as error:
        silent = origin.startswith("http:") and isinstance(error.__cause__, EOFError)
        why = Detail("no_http") if silent else _reason(error)
        raise Failure("server_unreachable", why) from None


async def _connect(
    origin: str, proxy: str, host: str, port: int, **options: Any
) -> ServerConnection:
    url = urlsplit(origin)
    scheme = "wss" if url.scheme == "https" else "ws"
    if proxy:
        options["sock"] = await open_socket(proxy, host, port)
    else:
        options["happy_eyeballs_delay"] = STAGGER_SECONDS
    connection: Any = await connect(
        f"{scheme}://{url.netloc}{messages.PATH}",
        subprotocols=[messages.SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        open_timeout=OPEN_SECONDS,
        close_timeout=1,
        ping_interval=PING_SECONDS,
        ping_timeout=2 * PING_SECONDS,
        max_size=messages.MAX_FRAME,
        user_agent_header=None,
        create_connection=ServerConnection,
        proxy=None,  # it is chosen here
        **options,
    )
    made: ServerConnection = connection  # of `create_connection`
    made.proxy = proxy
    return made


def _reason(error: BaseException) -> str:
    """A few words without any address."""
    if isinstance(error, TimeoutError):
        return Detail("no_answer")
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's
        return Detail("no_tls")
    if isinstance(error, OSError):
        return os_detail(error, "no_answer")
    return Detail("no_handover_server")


_CODES = {
    "busy": "busy",
    "expired": "expired",
    "rate_limited": "server_refused",
    "full": "server_refused",
    "room_taken": "server_refused",
    "bad_message": "server_refused",
    "token_required": "token_required",
}


def _scattered(seconds: float) -> float:
    """Half of it to all: those whom a server lost at once are not all back at once."""
    return seconds * (0.5 + random.random() / 2)  # noqa: S311 - nobody gains by guessing it


_FINAL = ("expired", "not_allowed")  # for a host, whatever comes back
_CLOSE_CODES = {outcome: code for code, outcome in messages.OUTCOMES.items()}
_REASONS = {"expired": Detail("link_expired"), "closed": Detail("link_closed")}


def is_nobody_there(failure: HandoverError) -> bool:
    """Whether somebody answered that nobody is waiting, or that nothing listens there any more."""
    return failure.code == "not_found" or failure.detail == _REFUSED


def _failure(error: messages.Message) -> Failure:
    """What an error of the server's means."""
    code = error.get("code", "bad_message")
    if code == "not_found":
        return Failure(code, _REASONS.get(error["reason"] or "", Detail("link_unknown")))
    known = _CODES.get(code, "server_unreachable")
    return Failure(known, "" if known == code else detail_of(code[:32]))


class Attempt:
    """One attempt's envelopes. `recv` gives None once the server says that it is over."""

    def __init__(
        self,
        attempt: bytes,
        say: Callable[[str], None],
        ice: IceServers = NO_SERVERS,
        policy: Policy = NO_POLICY,
        *,
        local: bool = False,
    ) -> None:
        """`ice`: which the server told of; `policy`: what its operator asks; `local`: it is this
        very machine."""
        self.id = attempt
        self.ice, self.policy, self.local = ice, policy, local
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()  # `put` bounds it
        self.over = False
        self.outcome = ""  # of `messages.OUTCOMES`: what a guest tells the server, if anything
        self._say = say
        self._envelopes = self._bytes = 0

    async def recv(self) -> bytes | None:
        """The next envelope."""
        return await self.inbox.get()

    async def send(self, envelope: bytes) -> None:
        """Pass an envelope to the other side."""
        self._say(messages.encode("envelope", attempt=self.id, body=envelope))

    async def leave(self) -> None:
        """The attempt is over: it failed, or the peers have met."""
        self._say(messages.encode("leave", attempt=self.id))

    def put(self, envelope: bytes | None) -> None:
        """From the server; None, and a flood, end the attempt."""
        if self.over:
            return
        if envelope is not None:
            self._envelopes += 1
            self._bytes += len(envelope)
            if self._envelopes > MAX_ENVELOPES or self._bytes > MAX_ENVELOPE_BYTES:
                envelope = None
                self._say(messages.encode("leave", attempt=self.id))
        self.over = envelope is None
        self.inbox.put_nowait(envelope)


class HostSeat:
    """The host's seat. `run` keeps it; attempts come through `attempts`."""

    def __init__(
        self,
        origin: str,
        keys: LinkKeys,
        ttl: float,
        owner: bytes,
        proxies: Proxies = NO_PROXIES,
        token: str = "",
    ) -> None:
        """`token`: what the server is given where it asks for one, and not before."""
        self._token, self._asked = token, False
        self._origin, self._keys, self._owner = origin, keys, owner
        self._proxies = proxies
        self._ends = asyncio.get_running_loop().time() + ttl
        self._attempts: dict[bytes, Attempt] = {}
        self._outbox: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
        self.attempts: asyncio.Queue[Attempt] = asyncio.Queue(MAX_ATTEMPTS)
        self.ready = asyncio.Event()
        self.policy = NO_POLICY

    async def run(
        self,
        on_state: Callable[[bool], None],
        on_policy: Callable[[Policy], None] = lambda policy: None,
    ) -> None:
        """Hold the seat until cancelled. `on_state` says when the server goes and comes, and
        `on_policy` before it comes what its operator asks; it may raise `Failure`.

        Raises `Failure` when the room cannot be had in the first place, or has expired.
        """
        backoff = FIRST_BACKOFF
        while True:
            try:
                async with await open_connection(self._origin, self._proxies) as socket:
                    await self._take(socket)
                    try:
                        on_policy(self.policy)
                    except Failure:
                        await socket.send(messages.encode("close"))
                        raise
                    backoff = FIRST_BACKOFF
                    self.ready.set()
                    on_state(True)
                    await self._converse(socket)
            except Failure as failure:
                if failure.code == "token_required" and self._token and not self._asked:
                    self._asked = True
                    continue
                # Once it was there, a server that refuses may be a proxy whose server restarts.
                if failure.code in _FINAL or not self.ready.is_set():
                    raise
            except (WebSocketException, TimeoutError):
                if not self.ready.is_set():
                    raise Failure("server_unreachable", Detail("no_answer")) from None
            for attempt in self._attempts.values():
                attempt.put(None)
            self._attempts.clear()
            self._outbox = asyncio.Queue(MAX_WAITING)
            on_state(False)
            await asyncio.sleep(_scattered(backoff))
            backoff = min(backoff * 2, LAST_BACKOFF)

    @property
    def left(self) -> float:
        """Seconds that the room is to live yet."""
        return max(0.0, self._ends - asyncio.get_running_loop().time())

    def extend(self, ttl: float) -> None:
        """The room is to live so long from now on, or as long as the operator lets it."""
        most = self.policy.max_expires or ttl
        self._ends = asyncio.get_running_loop().time() + min(ttl, most)

    def shorten(self, ttl: float) -> None:
        """The room is to live no longer than that from now on."""
        self._ends = min(self._ends, asyncio.get_running_loop().time() + ttl)

    async def close(self) -> None:
        """The room is finished: tell the server, if it is there, and forget it."""
        self._say(messages.encode("close"))
        for _ in range(20):
            if self._outbox.empty():
                break
            await asyncio.sleep(0.01)

    async def _take(self, socket: ClientConnection) -> None:
        left = self.left
        if left < 1:
            raise Failure("expired")
        await socket.send(
            messages.encode(
                "create",
                room=self._keys.room,
                join_hash=hashlib.sha256(self._keys.join).digest(),
                owner=self._owner,
                ttl=min(int(left), messages.MAX_TTL),
                token=self._token if self._asked else None,
            )
        )
        async with asyncio.timeout(OPEN_SECONDS):
            answer = _decode(await socket.recv())
        if answer["type"] == "error":
            raise _failure(answer)
        if answer["type"] != "created":
            raise Failure("server_refused", Detail("unexpected_answer"))
        self.policy = _policy(answer)

    async def _converse(self, socket: ClientConnection) -> None:
        async def write() -> None:
            with suppress(WebSocketException):
                while True:
                    await socket.send(await self._outbox.get())

        writer = asyncio.create_task(write())
        try:
            async for text in socket:
                self._take_in(_decode(text))
        finally:
            writer.cancel()

    def _say(self, text: str) -> None:
        with suppress(asyncio.QueueFull):  # a server that takes nothing is about to be given up
            self._outbox.put_nowait(text)

    def _take_in(self, message: messages.Message) -> None:
        kind = message["type"]
        if kind == "attempt" and len(self._attempts) < MAX_ATTEMPTS and not self.attempts.full():
            local = _is_local(self._origin)
            ice, policy = _ice(message, local), self.policy
            attempt = Attempt(message["attempt"], self._say, ice, policy, local=local)
            self._attempts[attempt.id] = attempt
            self.attempts.put_nowait(attempt)
        elif kind == "envelope" and message["attempt"] in self._attempts:
            attempt = self._attempts[message["attempt"]]
            attempt.put(message["body"])
            if attempt.over:  # it flooded; the others go on
                del self._attempts[attempt.id]
        elif kind == "left" and message["attempt"] in self._attempts:
            self._attempts.pop(message["attempt"]).put(None)
        elif kind == "error":
            raise _failure(message)


class GuestSeat:
    """A guest's attempt, as an async context: `async with GuestSeat(..) as attempt`."""

    def __init__(self, origin: str, keys: LinkKeys, proxies: Proxies = NO_PROXIES) -> None:
        self._origin, self._keys, self._proxies = origin, keys, proxies
        self._outbox: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)

    async def __aenter__(self) -> Attempt:
        """Join. Raises `Failure`."""
        self._socket = await open_connection(self._origin, self._proxies)
        local = _is_local(self._origin)
        try:
            answer = await self._join()
            ice, policy = _ice(answer, local), _policy(answer)
        except BaseException:
            await uncancelled(self._socket.close())
            raise
        say = self._say
        attempt = self._attempt = Attempt(answer["attempt"], say, ice, policy, local=local)
        self._tasks = [
            asyncio.create_task(self._read(attempt)),
            asyncio.create_task(self._write()),
        ]
        return attempt

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        try:
            await stop(*self._tasks)
        finally:
            outcome = self._attempt.outcome
            if outcome and isinstance(error, HandoverError):
                outcome = "failed"
            code = _CLOSE_CODES.get(outcome, CloseCode.NORMAL_CLOSURE)
            await uncancelled(self._socket.close(code))

    async def _join(self) -> messages.Message:
        try:
            await self._socket.send(
                messages.encode("join", room=self._keys.room, join=self._keys.join)
            )
            async with asyncio.timeout(OPEN_SECONDS):
                answer = _decode(await self._socket.recv())
        except (WebSocketException, TimeoutError):
            raise Failure("server_unreachable", Detail("closed")) from None
        if answer["type"] != "joined":
            raise _failure(answer)
        return answer

    def _say(self, text: str) -> None:
        with suppress(asyncio.QueueFull):
            self._outbox.put_nowait(text)

    async def _read(self, attempt: Attempt) -> None:
        with suppress(WebSocketException, Failure):
            async for text in self._socket:
                message = _decode(text)
                if message["type"] == "envelope" and message["attempt"] == attempt.id:
                    attempt.put(message["body"])
                    if attempt.over:
                        break
                elif message["type"] in ("left", "error"):
                    break
        attempt.put(None)

    async def _write(self) -> None:
        with suppress(WebSocketException):
            while True:
                await self._socket.send(await self._outbox.get())


def _is_local(origin: str) -> bool:
    return is_loopback(urlsplit(origin).hostname or "")


def _ice(message: messages.Message, local: bool) -> IceServers:
    """Raises `Failure`."""
    try:
        return read_ice(message["ice"], local=local)
    except PeerError:
        raise Failure("server_refused", Detail("unexpected_answer")) from None


def _policy(message: messages.Message) -> Policy:
    """Raises `Failure`."""
    try:
        return read_policy(message["policy"])
    except PeerError:
        raise Failure("server_refused", Detail("unexpected_answer")) from None


def _decode(text: str | bytes) -> messages.Message:
    try:
        return messages.decode(text, messages.FROM_SERVER)
    except messages.BadMessage:
        raise Failure("server_refused", Detail("unexpected_answer")) from None
