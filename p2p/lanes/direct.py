"""TLS 1.3 over TCP between two command lines (PROTOCOL.md 6 and 25).

Each side makes a certificate and hands it to the other; it is the other's only trust anchor, in
both directions (Python's `ssl` cannot pin a client by fingerprint). Nobody else gets through the
TLS handshake. Messages stand behind their length (u32, big-endian).

Two uses: *direct lanes* beside the connection, set up inside its control channel, fast and one way;
and, where no UDP comes through, *the connection itself*, set up by signals as WebRTC is.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import os
import socket
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

from ..protocol.seal import Message
from ..protocol.signal import MAX_MESSAGE_SIZE
from ..tasks import race
from . import LaneLost

logger = logging.getLogger("handover.direct")

STAGGER_SECONDS = 0.25  # between attempts at one address and the next (RFC 8305 5)
TLS_SECONDS = 5.0  # for a TLS handshake
HANDSHAKES, BACKLOG = 8, 64  # at once: strangers may connect, though they come to nothing
HIGH_WATER = 2 * 1024 * 1024  # queued bytes above which `send` waits
READ_AHEAD = 8 * 1024 * 1024  # bytes in memory above which nothing is read
LENGTH = 4
# Seconds of silence, between probes, and probes, until a connection that says nothing is given up.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
CONGESTION_CONTROL = b"bbr"  # keeps its rate when packets are lost, where the kernel has it
CLOSE_SECONDS = 2.0  # for what is queued
AGAIN_SECONDS = 2.0  # before it is tried again
ALONE_SECONDS = 0.5  # that the sender may try alone, before the recipient connects too
HELLO_SECONDS = 5.0  # for the message that says which lane a connection is
FEW_ADDRESSES, FEW_TRIES = 4, 3  # where nobody is proven yet
NAMES = (b"control", b"data")  # of a connection's lanes


class _Tls:
    """TLS over a blocking socket, in few system calls: the sockets of `ssl` make one or two for
    each record of 16 KiB (measured: 1.8 CPU seconds for a GB at both ends, against 1.2)."""

    def __init__(self, context: ssl.SSLContext, plain: socket.socket, *, server: bool) -> None:
        self.plain = plain
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=server)
        self._buffer = memoryview(bytearray(MAX_MESSAGE_SIZE))

    def shake_hands(self) -> bytes:
        """The TLS handshake, in TLS_SECONDS at most, however slowly somebody sends: the other end's
        certificate (DER). Raises `OSError`."""
        until = time.monotonic() + TLS_SECONDS
        while True:
            self.plain.settimeout(max(0.001, until - time.monotonic()))
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._fill()
            except ssl.SSLError:
                self._flush()  # what says why
                raise
            else:
                self._flush()
                self.plain.settimeout(None)
                return self._tls.getpeercert(True) or b""

    def write(self, *parts: Message) -> None:
        """Send all of it. Raises `OSError`."""
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[self._tls.write(view) :]
        self._flush()

    def read(self, length: int) -> bytearray:
        """The next so many bytes. Raises `OSError`."""
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = int(self._tls.read(len(view), view))
            except ssl.SSLWantReadError:
                self._fill()
                continue
            if not count:
                raise OSError("the connection was closed")
            view = view[count:]
        return data

    def _flush(self) -> None:
        if self._leaving.pending:
            self.plain.sendall(self._leaving.read())

    def _fill(self) -> None:
        self._flush()  # what TLS itself has to say
        count = self.plain.recv_into(self._buffer)
        if not count:
            raise OSError("the connection was closed")
        self._arrived.write(self._buffer[:count])


class DirectLane:
    """One TLS connection, one way: the sender writes and the recipient reads, for a TLS connection
    is not made for two threads.

    A thread of its own moves the messages, so that encryption, the network and the other work
    overlap; the event loop is woken only when somebody waits.
    """

    max_message_size = MAX_MESSAGE_SIZE

    def __init__(self, tls: _Tls, address: str) -> None:
        self.address = address  # of the other end
        self._tls, self._lost = tls, False
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._messages: deque[Message] = deque()  # to be sent, or received
        self._bytes = 0  # of these
        self._changed = threading.Condition()  # guards the three above
        self._waiter: asyncio.Future[None] | None = None

    async def send(self, message: Message) -> None:
        """Queue a message; waits while more than HIGH_WATER bytes are queued."""
        if len(message) > self.max_message_size:
            raise ValueError("message too long for the lane")
        self._begin(self._write)
        while True:
            with self._changed:
                if self._lost:
                    raise LaneLost
                if self._bytes <= HIGH_WATER:
                    self._put(message)
                    return
                waiter = self._waiter = self._loop.create_future()
            await waiter  # the thread may have forgotten it by now

    async def recv(self) -> Message:
        """The next message."""
        self._begin(self._read)
        while True:
            with self._changed:
                if self._messages:
                    return self._get()
                if self._lost:
                    raise LaneLost
                waiter = self._waiter = self._loop.create_future()
            await waiter

    @property
    def lost(self) -> bool:
        """Whether nothing goes through any more."""
        return self._lost

    def close(self) -> None:
        """Close it, whatever is queued. Never raises."""
        with self._changed:
            self._lost = True
            self._changed.notify()
        with contextlib.suppress(OSError):  # wakes the thread
            self._tls.plain.shutdown(socket.SHUT_RDWR)
        if self._thread is None:
            self._tls.plain.close()

    # -- both sides, with `_changed` held

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._bytes += len(message)
        self._changed.notify()

    def _get(self) -> Message:
        message = self._messages.popleft()
        self._bytes -= len(message)
        self._changed.notify()
        return message

    # -- the thread

    def _begin(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            name = "handover-direct"
            self._thread = threading.Thread(target=self._until_lost, args=(work,), name=name)
            self._thread.daemon = True  # a peer that hangs must not hold up the end
            self._thread.start()

    def _until_lost(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, ValueError):  # the second: it was closed
            logger.debug("a direct lane was lost", exc_info=True)
        finally:
            with self._changed:
                self._lost = True
                self._tell()
            self._tls.plain.close()

    def _tell(self) -> None:
        """Wake whoever waits on the event loop."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(_wake, waiter)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._messages:
                    if self._lost:
                        return
                    self._changed.wait()
                message = self._get()
                if self._bytes <= HIGH_WATER // 2:
                    self._tell()
            self._tls.write(len(message).to_bytes(LENGTH, "big"), message)

    def _read(self) -> None:
        while True:
            length = int.from_bytes(self._tls.read(LENGTH), "big")
            if length > self.max_message_size:
                return
            message = self._tls.read(length)
            with self._changed:
                self._put(message)
                self._tell()
                while self._bytes > READ_AHEAD and not self._lost:
                    self._changed.wait()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class StreamLane:
    """One TLS connection, both ways, on the event loop: simpler than a direct lane, and slower."""

    max_message_size = MAX_MESSAGE_SIZE

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> None:
        self.address = address  # of the other end
        self._reader, self._writer = reader, writer
        writer.transport.set_write_buffer_limits(HIGH_WATER)

    async def send(self, message: Message) -> None:
        """Queue a message; waits while more than HIGH_WATER bytes are queued."""
        if len(message) > self.max_message_size:
            raise ValueError("message too long for the lane")
        if self._writer.is_closing():
            raise LaneLost
        self._writer.write(len(message).to_bytes(LENGTH, "big") + message)
        try:
            await self._writer.drain()
        except OSError:
            raise LaneLost from None

    async def recv(self) -> bytes:
        """The next message."""
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH), "big")
            if length > self.max_message_size:
                raise LaneLost
            return await self._reader.readexactly(length)
        except (OSError, EOFError):
            raise LaneLost from None

    def close(self) -> None:
        """Close it, whatever is queued. Never raises."""
        with contextlib.suppress(AttributeError):  # Python 3.11.2's, where it is closed already
            self._writer.transport.abort()

    async def finish(self) -> None:
        """Close it once what is queued is sent, if that is soon. Never raises."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        self.close()


L = TypeVar("L", DirectLane, StreamLane)


async def hello(lane: L) -> bytes:
    """The first message, which says what a connection is for; "" when none comes."""
    try:
        with contextlib.suppress(LaneLost, TimeoutError):
            async with asyncio.timeout(HELLO_SECONDS):
                return bytes(await lane.recv())
    except asyncio.CancelledError:
        lane.close()
        raise
    return b""


class _End(Generic[L]):
    """One end of TLS connections that only two certificates make: a listener, and who connects."""

    def __init__(self, listener: socket.socket, key: bytes, certificate: bytes) -> None:
        self._listener = listener
        self.port: int = listener.getsockname()[1]
        self._key, self.certificate = key, certificate
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
        self._peer = b""
        self._handshakes = asyncio.Semaphore(HANDSHAKES)  # both bind to the loop when first used
        self._accepted: asyncio.Queue[L] = asyncio.Queue(HANDSHAKES)

    @classmethod
    async def open(cls, ports: Iterable[int] = (0,)) -> Self:
        """Listen on the first of the TCP ports that is free, IPv6 and IPv4. Raises `OSError`."""
        listener = _listen(ports)
        try:
            return cls(listener, *await asyncio.to_thread(_certificate))
        except BaseException:
            listener.close()
            raise

    def trust(self, certificate: bytes) -> None:
        """The peer's certificate (DER). Raises `ValueError` when it is none."""
        try:
            self._contexts = tuple(  # type: ignore[assignment]
                self._context(role, certificate)
                for role in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
            )
        except ssl.SSLError:
            raise ValueError("not a certificate") from None
        self._peer = certificate

    def _context(self, role: int, certificate: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(role)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if role == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # nothing to read for who only writes
        own = ssl.DER_cert_to_PEM_cert(self.certificate).encode()
        with tempfile.NamedTemporaryFile() as file:  # `ssl` takes a path only; 0600, gone at once
            file.write(self._key + own)
            file.flush()
            context.load_cert_chain(file.name)
        context.load_verify_locations(cadata=certificate)
        return context

    async def serve(self) -> None:
        """Take connections until cancelled; `accept` gives those whose other end is the peer."""
        new: set[socket.socket] = set()  # whose tasks have not begun
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._handshakes.acquire()
                    await self._arrival()
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
        loop.add_reader(self._listener, _wake, arrived)
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
        attempts: set[asyncio.Task[L]] = {
            asyncio.create_task(self._try(address, port, number * STAGGER_SECONDS))
            for number, address in enumerate(_interleaved(addresses))
        }
        made: list[L] = []
        try:
            while attempts and not made:
                done, _ = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
                attempts -= done
                made = [one.result() for one in done if one.exception() is None]
            for attempt in attempts:
                attempt.cancel()
            late = await asyncio.gather(*attempts, return_exceptions=True)
            made += [one for one in late if not isinstance(one, BaseException)]
        except BaseException:
            for attempt in attempts:
                attempt.cancel()
            for one in (*made, *await asyncio.gather(*attempts, return_exceptions=True)):
                if not isinstance(one, BaseException):
                    one.close()
            raise
        for second in made[1:]:
            second.close()
        if not made:
            raise LaneLost
        return made[0]

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
        self._listener.close()
        while not self._accepted.empty():
            self._accepted.get_nowait().close()


class Direct(_End[DirectLane]):
    """This side's end of a session's direct lanes."""

    def __init__(self, listener: socket.socket, key: bytes, certificate: bytes) -> None:
        super().__init__(listener, key, certificate)
        # Threads of their own: strangers must not hold up what else this process does.
        self._threads = ThreadPoolExecutor(HANDSHAKES + 2, "handover-tls")
        self._shaking: set[socket.socket] = set()

    async def _secure(self, plain: socket.socket, address: str, *, server: bool) -> DirectLane:
        assert self._contexts is not None
        context = self._contexts[server]

        def shake_hands() -> _Tls:
            self._shaking.add(plain)
            try:
                _tune(plain)
                tls = _Tls(context, plain, server=server)
                if tls.shake_hands() != self._peer:
                    raise OSError("another certificate")
            except BaseException:
                plain.close()
                raise
            finally:
                self._shaking.discard(plain)
            return tls

        try:
            loop = asyncio.get_running_loop()
            shaking = loop.run_in_executor(self._threads, shake_hands)
            tls = await asyncio.shield(shaking)
        except (OSError, RuntimeError):  # the second: it was closed meanwhile
            plain.close()
            raise LaneLost from None
        except asyncio.CancelledError:
            shaking.add_done_callback(_close)
            raise
        return DirectLane(tls, address)

    def close(self) -> None:
        super().close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for plain in list(self._shaking):
            with contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_RDWR)


def _close(shaken: asyncio.Future[_Tls]) -> None:
    if not shaken.cancelled() and shaken.exception() is None:
        shaken.result().plain.close()


class _Streams(_End[StreamLane]):
    """This side's end of a connection's lanes."""

    async def _secure(self, plain: socket.socket, address: str, *, server: bool) -> StreamLane:
        assert self._contexts is not None
        loop, context = asyncio.get_running_loop(), self._contexts[server]
        reader = asyncio.StreamReader(HIGH_WATER)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            _tune(plain)
            if server:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    plain,
                    ssl=context,
                    ssl_handshake_timeout=TLS_SECONDS,
                    ssl_shutdown_timeout=CLOSE_SECONDS,
                )
            else:
                transport, _ = await loop.create_connection(
                    lambda: protocol,
                    sock=plain,
                    ssl=context,
                    server_hostname="",
                    ssl_handshake_timeout=TLS_SECONDS,
                    ssl_shutdown_timeout=CLOSE_SECONDS,
                )
        except (OSError, asyncio.CancelledError) as error:
            plain.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise LaneLost from None
        if transport.get_extra_info("ssl_object").getpeercert(True) != self._peer:
            transport.abort()
            raise LaneLost
        return StreamLane(reader, asyncio.StreamWriter(transport, protocol, reader, loop), address)

    async def keep_connecting(self, addresses: Sequence[str], port: int) -> None:
        """Make connections, two at a time, as if they had been accepted. Not for long, and not to
        many addresses: whoever has the link may have named them."""
        best = list(addresses)[:FEW_ADDRESSES]
        for _ in range(FEW_TRIES):
            with contextlib.suppress(LaneLost):
                for _ in NAMES:
                    lane = await self.connect(best, port)
                    best = [lane.address]
                    self._keep(lane)
            await asyncio.sleep(AGAIN_SECONDS)


class DirectConnection:
    """A connection for where no UDP comes through: its two lanes are TLS connections.

    Whoever can connect makes them; the sender's first message on each says which lane it is.
    """

    control: StreamLane
    data: StreamLane

    def __init__(self, end: _Streams) -> None:
        self._end, self.port, self.certificate = end, end.port, end.certificate
        self._lanes: dict[bytes, StreamLane] = {}

    @classmethod
    async def open(cls, ports: Iterable[int] = (0,)) -> Self:
        """Listen on the first of the TCP ports that is free. Raises `OSError`."""
        return cls(await _Streams.open(ports))

    async def opened(
        self, addresses: Sequence[str], port: int, certificate: bytes, *, sender: bool
    ) -> None:
        """Connect to the peer, or let it; then listen no more. Raises `ValueError`."""
        await asyncio.to_thread(self._end.trust, certificate)
        try:
            await race(
                self._name_lanes() if sender else self._read_names(),
                self._end.serve(),
                self._connect(usable(addresses), port, 0 if sender else ALONE_SECONDS),
            )
        finally:
            self._end.close()
        self.control, self.data = (self._lanes[name] for name in NAMES)

    async def _connect(self, addresses: Sequence[str], port: int, after: float) -> None:
        await asyncio.sleep(after)
        await self._end.keep_connecting(addresses, port)

    async def _name_lanes(self) -> None:
        """The sender takes whatever is there first."""
        for name in NAMES:
            while name not in self._lanes:
                lane = await self._end.accept()
                with contextlib.suppress(LaneLost):
                    await lane.send(name)
                    self._lanes[name] = lane

    async def _read_names(self) -> None:
        while len(self._lanes) < len(NAMES):
            lane = await self._end.accept()
            name = await hello(lane)
            if name in NAMES and name not in self._lanes:
                self._lanes[name] = lane
            else:  # the sender has enough
                lane.close()

    async def close(self, *, heard: bool = False) -> None:
        """Send what is queued (for two seconds at most), then close. Never raises."""
        self._end.close()
        await asyncio.gather(*(lane.finish() for lane in self._lanes.values()))


def _tune(plain: socket.socket) -> None:
    """What both ends ask of a TCP connection."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_CONGESTION"):
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)


def has_congestion_control() -> bool:
    """Whether one connection keeps its rate when packets are lost; else it takes several."""
    if not hasattr(socket, "TCP_CONGESTION"):
        return False
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)
        except OSError:
            return False
    return True


def usable(addresses: Iterable[str]) -> list[str]:
    """Those of a peer's addresses that may be connected to: as with ICE candidates, nothing on
    this machine or its link, and no names to look up."""
    found = []
    for text in addresses:
        with contextlib.suppress(ValueError):
            ip = ipaddress.ip_address(text)
            if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip.ipv4_mapped):
                continue
            own = ip.is_loopback or ip.is_link_local or ip.is_unspecified
            if not (own or ip.is_multicast or text == "255.255.255.255"):
                found.append(text)
    return found


def _interleaved(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 in turn (RFC 8305 4)."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    mixed: list[str] = []
    while six or four:
        mixed += [family.pop(0) for family in (six, four) if family]
    return mixed


def _listen(ports: Iterable[int]) -> socket.socket:
    failure: OSError | None = None
    for port in ports:
        try:
            return _listen_on(port)
        except OSError as error:
            failure = error
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


def _certificate() -> tuple[bytes, bytes]:
    """A key (PEM) and its certificate (DER), for one session. Its times say nothing: clocks of
    hospitals are a day apart, and a session knows itself when it ends."""
    from cryptography import x509  # a tenth of a second, which no link should wait for
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "handover")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(os.urandom(16), "big") >> 1 or 1)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2099, 1, 1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, built.public_bytes(serialization.Encoding.DER)
