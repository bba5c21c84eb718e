"""One end of TLS connections between two peers: a listener, and who connects (RFC 8305)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from ...tasks import stop, wake
from .. import Lane, LaneLost
from .certificate import make_certificate, make_context
from .socket import TLS_SECONDS

STAGGER_SECONDS = 0.25  # between attempts at one address and the next (RFC 8305 5)
HANDSHAKES, BACKLOG = 8, 64  # at once: strangers may connect, though they come to nothing
HELLO_SECONDS = 5.0  # for the message that says which lane a connection is


class TlsLane(Lane, Protocol):
    """A lane that is one TLS connection."""

    address: str  # of the other end

    def close(self) -> None:
        """Close it, whatever is queued. Never raises."""


L = TypeVar("L", bound=TlsLane)


async def hello(lane: TlsLane) -> bytes:
    """The first message, which says what a connection is for; "" when none comes."""
    try:
        with contextlib.suppress(LaneLost, TimeoutError):
            async with asyncio.timeout(HELLO_SECONDS):
                return bytes(await lane.recv())
    except asyncio.CancelledError:
        lane.close()
        raise
    return b""


class Endpoint(Generic[L]):
    """One end of TLS connections that only two certificates make: a listener, and who connects."""

    def __init__(self, listener: socket.socket, key: bytes, certificate: bytes) -> None:
        self._listener, self._open = listener, True
        self._foremost = asyncio.Event()  # no later one shares its port
        self.port: int = listener.getsockname()[1]
        self._key, self.certificate = key, certificate
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
        self._peer = b""
        self._handshakes = asyncio.Semaphore(HANDSHAKES)  # both bind to the loop when first used
        self._accepted: asyncio.Queue[L] = asyncio.Queue(HANDSHAKES)
        self._sharing = _SHARED.setdefault((asyncio.get_running_loop(), self.port), [])
        self._sharing.append(self)
        self._take_turns()

    @classmethod
    async def open(cls, ports: Iterable[int] = (0,)) -> Self:
        """Listen on the first of the TCP ports that is free, IPv6 and IPv4. Raises `OSError`.

        Where none is, one that this process listens on already is shared: a peer that comes back
        needs it before the connection that it had is known to be dead. Who came last accepts, until
        it is closed; nobody else gets through its handshakes.
        """
        made = await asyncio.to_thread(make_certificate)
        return cls(_listen(list(ports)), *made)

    def _take_turns(self) -> None:
        for one in self._sharing:
            one._foremost.clear()
        if self._sharing:
            self._sharing[-1]._foremost.set()

    def trust(self, certificate: bytes) -> None:
        """The peer's certificate (DER). Raises `ValueError` when it is none."""
        try:
            self._contexts = tuple(  # type: ignore[assignment]
                make_context(role, self._key, self.certificate, certificate)
                for role in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
            )
        except ssl.SSLError:
            raise ValueError("not a certificate") from None
        self._peer = certificate

    async def serve(self) -> None:
        """Take connections until cancelled; `accept` gives those whose other end is the peer."""
        new: set[socket.socket] = set()  # whose tasks have not begun
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._handshakes.acquire()
                    await self._foremost.wait()
                    await self._arrival()
                    if not self._foremost.is_set():  # meanwhile
                        self._handshakes.release()
                        continue
                    try:
                        plain, address = self._listener.accept()
                    except OSError:  # that one is gone already, or too many files are open
                        self._handshakes.release()
                        await asyncio.sleep(STAGGER_SECONDS)
                        continue
                    new.add(plain)
                    group.create_task(self._take(plain, str(address[0]), new))
        finally:
            for plain in new:
                plain.close()

    async def _arrival(self) -> None:
        """Wait until somebody connects. (`loop.sock_accept`, cancelled, may lose a connection.)"""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._listener, wake, arrived)
        try:
            await arrived
        finally:
            loop.remove_reader(self._listener)

    async def _take(self, plain: socket.socket, address: str, new: set[socket.socket]) -> None:
        new.remove(plain)
        try:
            self._keep(await self._secure(plain, address, server=True))
        except LaneLost:
            pass
        finally:
            self._handshakes.release()

    def _keep(self, lane: L) -> None:
        """For whoever accepts it, unless too many wait already."""
        try:
            self._accepted.put_nowait(lane)
        except asyncio.QueueFull:
            lane.close()

    async def accept(self) -> L:
        """The next connection that the peer has made."""
        return await self._accepted.get()

    async def connect(self, addresses: Sequence[str], port: int) -> L:
        """Connect to whichever address answers first (RFC 8305). Raises `LaneLost`."""
        attempts = {
            asyncio.create_task(self._try(address, port, number * STAGGER_SECONDS))
            for number, address in enumerate(_interleaved(addresses))
        }
        waiting, first = attempts, None
        try:
            try:
                while waiting and first is None:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    made = (one.result() for one in done if one.exception() is None)
                    first = next(made, None)
            finally:
                await stop(*waiting)
        except BaseException:
            first = None
            raise
        finally:
            for one in attempts:
                if not one.cancelled() and one.exception() is None and one.result() is not first:
                    one.result().close()
        if first is None:
            raise LaneLost
        return first

    async def _try(self, address: str, port: int, after: float) -> L:
        await asyncio.sleep(after)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        plain = socket.socket(family, socket.SOCK_STREAM)
        plain.setblocking(False)
        try:
            async with asyncio.timeout(TLS_SECONDS):
                await asyncio.get_running_loop().sock_connect(plain, (address, port))
        except (OSError, TimeoutError, asyncio.CancelledError) as error:
            plain.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise LaneLost from None
        return await self._secure(plain, address, server=False)

    async def _secure(self, plain: socket.socket, address: str, *, server: bool) -> L:
        """The TLS handshake: both ends prove their certificates. Raises `LaneLost`."""
        raise NotImplementedError

    def close(self) -> None:
        """Listen no more; lanes that are open stay so. Never raises."""
        if self._open:
            self._open = False
            self._sharing.remove(self)
            self._take_turns()
            if not self._sharing:
                del _SHARED[asyncio.get_running_loop(), self.port]
        self._listener.close()
        while not self._accepted.empty():
            self._accepted.get_nowait().close()


def _interleaved(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 in turn (RFC 8305 4)."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    mixed: list[str] = []
    while six or four:
        mixed += [family.pop(0) for family in (six, four) if family]
    return mixed


# By event loop and port: those that listen there, the latest last.
_SHARED: dict[tuple[asyncio.AbstractEventLoop, int], list[Endpoint[Any]]] = {}


def _listen(ports: Sequence[int]) -> socket.socket:
    failure: OSError | None = None
    for port in ports:
        try:
            return _listen_on(port)
        except OSError as error:
            failure = error
    for port in ports:
        if sharing := _SHARED.get((asyncio.get_running_loop(), port)):
            return sharing[-1]._listener.dup()
    raise failure or OSError("no port to listen on")


def _listen_on(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            both = socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
            both.setblocking(False)
            return both
    four = socket.create_server(("", port), backlog=BACKLOG)
    four.setblocking(False)
    return four
