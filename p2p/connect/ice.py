"""The STUN and TURN servers of an attempt: which of them answer here, and the connections made with
them. A direct connection asks STUN servers for its outer address; a relayed one goes by a TURN
server, by UDP where that comes through, else by TCP or TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from ..lanes import LaneLost
from ..lanes.webrtc import SMALL_PACKET, Connection, Engine, available, load
from ..protocol.errors import Failure
from ..protocol.ice import IceServer, IceServers, may_ask
from ..tasks import stop
from .proxies import NONE, STAGGER_SECONDS, Proxies, open_socket
from .stun import Endpoint, asking

RESOLVE_SECONDS = 1.0  # for the names of servers that a direct connection asks
NAME_SECONDS = 6.0  # for the name of a relay: most resolvers ask a second time after five
ANSWER_SECONDS = 1.5  # for an answer by UDP
CONNECT_SECONDS = 5.0  # for a connection by TCP or TLS, also by satellite
CHOICE_SECONDS = 0.3  # to find one of several STUN servers that answers, before the first is taken
CHUNK = 64 * 1024
NO_PROXIES = Proxies(NONE)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay(NamedTuple):
    """A TURN server that was found to answer, and what reaches it."""

    engine: Engine
    server: IceServer


class Ice:
    """What one attempt makes its WebRTC connections with."""

    def __init__(
        self,
        told: IceServers,
        engine: Engine,
        packet: int,
        *,
        local: bool,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        """`told` by the signaling server; `local`: that is this very machine. `packet`: see
        `MakeConnection`."""
        self._told, self._engine, self._packet, self._local = told, engine, packet, local
        self._proxies, self._tunnels = proxies, list[Tunnel]()
        self._stun: tuple[IceServer, ...] = ()

    @property
    def has_relay(self) -> bool:
        """Whether there is any TURN server."""
        return bool(self._told.turn)

    def open(self, *, offerer: bool) -> Connection:
        """A further direct connection, with the servers that the first one had."""
        return self._engine.make(offerer=offerer, packet=self._packet, ice=self._stun)

    async def open_direct(self, *, offerer: bool) -> Connection:
        """A connection without any relay."""
        by_udp = [one for one in self._told.turn if one.transport == "udp"]
        # TURN servers answer as STUN servers do (RFC 8656).
        asked = [*self._told.stun, *(IceServer("stun", t.host, t.port, "udp") for t in by_udp)]
        found = await self.resolved(asked)
        # In IPv6 a host's own address is the outer one; only for IPv4 has a server to be asked.
        found = [one for one in found if ":" not in one.host] or found
        if self._engine.reaches_turn_by_tcp:  # aiortc waits 5 s for one that does not answer
            found = await _answering(found)
        elif len(found) > 1:  # libdatachannel asks one of them, at random
            found = await _answering(found, CHOICE_SECONDS) or found
        self._stun = tuple(found[:1])
        return self.open(offerer=offerer)

    async def find_stun_by_tcp(self) -> list[Endpoint]:
        """Where a STUN server may answer by TCP too: at the TCP port that a TURN server has, or at
        the port that any has by UDP, which is the same number (RFC 8489 8.1)."""
        by_tcp = [one for one in self._told.turn if one.scheme == "turn"]
        by_tcp.sort(key=lambda one: one.transport != "tcp")
        found = await self.resolved([*by_tcp, *self._told.stun])
        return list(dict.fromkeys((one.host, one.port) for one in found))

    async def find_relay(self) -> Relay | None:
        """A TURN server that answers, and an engine that reaches it: by UDP if possible, else by
        TCP or TLS, else by these through a proxy. All are asked at once, and no name that is slow
        to look up holds the others up."""
        turn = self._told.turn
        by_udp = [self._by_udp(one) for one in turn if one.transport == "udp"]
        by_tcp = [self._by_tcp(one) for one in turn if one.transport == "tcp"]
        asking = [asyncio.create_task(one) for one in (*by_udp, *by_tcp, self._through_a_proxy())]
        try:
            found: list[IceServer] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(RESOLVE_SECONDS + ANSWER_SECONDS):
                    found = await _first_found(*asking[: len(by_udp)])
            found = found or await _first_found(*asking)
            portable = await self._portable() if found and found[0].transport == "tcp" else None
            if portable is not None and not portable.reaches_turn_by_tcp:  # so UDP, or none
                found = await _first_found(*asking[: len(by_udp)])
        finally:
            await stop(*asking)
        for tunnel in [one for one in self._tunnels if one.end not in found]:
            self._tunnels.remove(tunnel)
            tunnel.close()
        if not found:
            return None
        if found[0].transport == "udp":
            # A relay's addresses are IPv4 unless asked (RFC 8656 7.2), and libdatachannel drops a
            # peer's where this machine has none itself.
            by_ipv6 = ":" in found[0].host
            return Relay(await self._portable() if by_ipv6 else self._engine, found[0])
        assert portable is not None
        return Relay(portable, found[0])

    async def _by_udp(self, server: IceServer) -> list[IceServer]:
        return await _answering(await self._resolve(server, NAME_SECONDS))

    async def _by_tcp(self, server: IceServer) -> list[IceServer]:
        """The server if it takes a connection; by TLS, as the end of a tunnel to it. An engine
        would look its name up and try one address after the other, each until the system gives it
        up."""
        found = await _connecting(await self._resolve(server, NAME_SECONDS))
        if not found or found[0].scheme != "turns":
            return found[:1]
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                tunnel = await Tunnel.open("", found[0])
            self._tunnels.append(tunnel)
            return [tunnel.end]
        return []

    async def _through_a_proxy(self) -> list[IceServer]:
        """One that is reached so, as the end of a tunnel to it."""
        for server in self._told.turn:
            if server.transport == "tcp":
                with suppress(Failure, OSError):
                    for proxy in filter(
                        None, self._proxies.ways("https", server.host, server.port)
                    ):
                        tunnel = await Tunnel.open(proxy, server)
                        self._tunnels.append(tunnel)
                        return [tunnel.end]
        return []

    def close(self) -> None:
        """Close the tunnels. Never raises."""
        for tunnel in self._tunnels:
            tunnel.close()

    async def _portable(self) -> Engine:
        """The engine that reaches TURN servers by TCP too, where it is installed."""
        if not self._engine.reaches_turn_by_tcp and "aiortc" in available():
            with suppress(Failure):
                return await asyncio.to_thread(load, "aiortc")
        return self._engine

    async def open_relayed(
        self, relay: Relay | None, *, offerer: bool, relay_only: bool, from_relay: bool = False
    ) -> Connection:
        """A connection by way of a relay; with `relay_only` by no other, else this side may have
        none. Raises `LaneLost` where it must have one and has not.

        `from_relay`: the other side is a browser that needs a relay as well. Chromium's checks from
        a relay have a tie-breaker of 0 (RFC 8445 7.1.3), which libjuice answers with an error.
        """
        if relay is not None and from_relay:
            relay = relay._replace(engine=await self._portable())
        if relay is None:
            if relay_only:
                raise LaneLost
            return self._engine.make(offerer=offerer, packet=SMALL_PACKET, ice=self._stun)
        # Where only TCP gets out, no STUN server answers; aiortc would wait 5 s for it.
        by_udp = relay.server.transport == "udp" and not relay_only
        servers = (relay.server, *(self._stun if by_udp else ()))
        return relay.engine.make(
            offerer=offerer, packet=SMALL_PACKET, ice=servers, relay_only=relay_only
        )

    async def resolved(self, servers: Iterable[IceServer]) -> list[IceServer]:
        """With addresses in the place of names, so that it is known whom an engine talks to: one of
        each family, IPv4 first, for either may be dead. By TLS the name stays, for its certificate.
        Those that may not be asked are left out."""
        found = await asyncio.gather(*(self._resolve(one) for one in servers))
        return [one for several in found for one in several]

    async def _resolve(
        self, server: IceServer, seconds: float = RESOLVE_SECONDS
    ) -> list[IceServer]:
        try:
            async with asyncio.timeout(seconds):
                addresses = await _addresses(server)
        except (OSError, TimeoutError, UnicodeError):
            return []
        fitting = [one for one in addresses if may_ask(one, local=self._local) and _routed(one)]
        if server.scheme == "turns":
            return [server] if fitting else []
        families = {":" in one: one for one in reversed(fitting)}  # the first of each
        return [replace(server, host=families[six]) for six in sorted(families)]


async def _first_found(*tasks: asyncio.Task[list[IceServer]]) -> list[IceServer]:
    """What the first task finds that finds anything; of several at once, the earlier one's."""
    left = list(tasks)
    while left:
        await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for task in [one for one in left if one.done()]:
            left.remove(task)
            if found := task.result():
                return found
    return []


async def _addresses(server: IceServer) -> list[str]:
    """Of its name; an address is its own, and waits for no resolver. Raises `OSError`,
    `UnicodeError`."""
    with suppress(ValueError):
        return [str(ipaddress.ip_address(server.host))]
    kind = socket.SOCK_DGRAM if server.transport == "udp" else socket.SOCK_STREAM
    hits = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=kind)
    return [str(hit[4][0]) for hit in hits]


def _routed(address: str) -> bool:
    """Whether this machine would know where to send it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # sends nothing
    except OSError:
        return False
    return True


class Tunnel:
    """To a TURN server, by TLS or by way of a proxy. Engines know nothing of proxies, so one
    connects to the near end, on this machine, once."""

    def __init__(self, server: IceServer, far: Streams, listener: asyncio.Server) -> None:
        port = listener.sockets[0].getsockname()[1]
        self.end = replace(server, scheme="turn", host="127.0.0.1", port=port)
        self._far, self._listener = far, listener
        self._passing: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, proxy: str, server: IceServer) -> Tunnel:
        """`proxy`: "" for none. Raises `Failure`, `OSError`."""
        secure: dict[str, Any] = {}
        if server.scheme == "turns":
            secure = {"ssl": ssl.create_default_context(), "server_hostname": server.host}
        if proxy:
            sock = await open_socket(proxy, server.host, server.port)
            try:
                far = await asyncio.open_connection(sock=sock, **secure)
            except BaseException:
                sock.close()
                raise
        else:
            far = await _open(server, **secure)
        tunnel: Tunnel

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tunnel._take((reader, writer))

        try:
            listener = await asyncio.start_server(take, "127.0.0.1", 0, backlog=1)
        except BaseException:
            far[1].close()
            raise
        tunnel = cls(server, far, listener)
        return tunnel

    def _take(self, near: Streams) -> None:
        if self._passing:  # whoever else is on this machine
            near[1].close()
            return
        self._listener.close()
        self._passing = [
            asyncio.create_task(_pass_on(near[0], self._far[1])),
            asyncio.create_task(_pass_on(self._far[0], near[1])),
        ]

    def close(self) -> None:
        """Never raises."""
        self._listener.close()
        for task in self._passing:
            task.cancel()
        self._far[1].close()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


async def _first(
    asking: Sequence[Coroutine[Any, Any, IceServer]], seconds: float = ANSWER_SECONDS
) -> list[IceServer]:
    """Those of the servers that answer until the first one has, in time."""
    going = {asyncio.create_task(one) for one in asking}
    tasks = list(going)
    try:
        async with asyncio.timeout(seconds):
            while going:
                done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                found = [one.result() for one in tasks if one in done and not one.exception()]
                if found:
                    return found
    except TimeoutError:
        pass
    finally:
        await stop(*tasks)
    return []


async def _answering(
    servers: Sequence[IceServer], seconds: float = ANSWER_SECONDS
) -> list[IceServer]:
    """By UDP: a binding request to each (RFC 8489)."""
    return await _first([_ask(one) for one in servers], seconds)


async def _connecting(servers: Sequence[IceServer]) -> list[IceServer]:
    """By TCP, or by TLS with a certificate that is trusted here."""
    return await _first([_connect(one) for one in servers], CONNECT_SECONDS)


async def _ask(server: IceServer) -> IceServer:
    async with asking(socket.AF_INET6 if ":" in server.host else socket.AF_INET) as port:
        await port.ask((server.host, server.port))
    return server


async def _connect(server: IceServer) -> IceServer:
    _, writer = await _open(server, ssl=True if server.scheme == "turns" else None)
    writer.close()
    return server


async def _open(server: IceServer, **secure: Any) -> Streams:
    return await asyncio.open_connection(
        server.host, server.port, happy_eyeballs_delay=STAGGER_SECONDS, **secure
    )
