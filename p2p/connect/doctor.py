"""Whether a transfer would connect from here, before anybody needs it: each of the ways that
`transports` tries, tried alone, and what to tell IT where one does not work.

What it says of servers is what they did now: names resolved, connections made, addresses learned,
relays allocated and sent through. It says nothing of the other side's network.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from ..lanes.webrtc import EngineName, load
from ..protocol.errors import Failure
from ..protocol.ice import IceServer, IceServers
from ..protocol.link import derive_keys
from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from ..tasks import stop
from .addresses import is_loopback, reachable
from .ice import Ice, Tunnel
from .proxies import Proxies
from .rendezvous import PORT
from .seats import OWNER, GuestSeat, HostSeat, ServerConnection, open_connection
from .stun import Asking, Endpoint, asking

Verdict = Literal["works", "fails", "note"]
# "unasked": there is no server to ask by UDP.
Nat = Literal["none", "cone", "symmetric", "unknown", "blocked", "unasked"]
# Directly; directly or by a relay, which depends on the NAT; by a relay; directly with some sites;
# inside one network alone; or not at all.
Path = Literal["direct", "either", "relayed", "some", "network", ""]
OTHERS = Detail("room_taken")
SERVER_SECONDS = 20.0  # to meet oneself at the server
ANSWER_SECONDS = 2.0  # of a STUN server
RELAY_SECONDS = 6.0  # to allocate
RATE_SECONDS = 1.0  # to send through a relay
PACKET, WINDOW = 1200, 128  # bytes; packets under way
LOST_SECONDS = 0.3  # without an arrival, after which what is under way counts as lost
CLOCK_SECONDS = 60.0  # of difference that is worth a word
TTL = 60.0  # of the room


@dataclass(frozen=True)
class Check:
    """One thing that was tried. `code` names its sentence in the catalogue's group `doctor`, which
    `values` fill in."""

    name: str  # what it is about, a code of the group `doctor_name`
    verdict: Verdict
    code: str
    values: Mapping[str, str | int | Failure] = field(default_factory=dict)


class Opening(NamedTuple):
    """What a firewall has to let out, of one use."""

    host: str  # "*" is any
    port: str
    protocol: Literal["TCP", "UDP"]
    purpose: str  # a code of the group `doctor_purpose`


class Doctor:
    """One examination. `checks` gives what was tried, in order; then the rest can be asked."""

    def __init__(
        self,
        origin: str | None,
        proxies: Proxies,
        engine: EngineName,
        ports: tuple[int, int] | None,
        *,
        relay_only: bool = False,
        no_relay: bool = False,
    ) -> None:
        """`origin`: the signaling server's, or None where this machine serves its links itself.
        `ports`: what may be listened on by TCP, first and last; None: nothing. The rest as of
        `send`: what a transfer would not try is not tried."""
        self._origin, self._proxies, self._engine = origin, proxies, engine
        self._ports = None if relay_only else ports
        self._relay_only, self._no_relay = relay_only, no_relay
        self._told, self._local = IceServers(), False
        self._met = self._relays = False
        self._nat: Nat = "unasked"

    @property
    def path(self) -> Path:
        """How a transfer would connect."""
        if not self._met:
            return ""
        if self._relay_only:
            return "relayed" if self._relays else ""
        if self._nat in ("none", "cone"):
            return "direct"
        if self._nat == "unknown":
            return "either" if self._relays else "some"
        if self._relays:
            return "relayed"
        return "some" if self._nat == "symmetric" else "network"

    def openings(self) -> list[Opening]:
        """What a firewall has to let out for all of this."""
        found: list[Opening] = []
        if self._origin is not None:
            url = urlsplit(self._origin)
            port = url.port or (443 if url.scheme == "https" else 80)
            found.append(Opening(url.hostname or "", str(port), "TCP", "signaling"))
        asked = [(one, one.transport == "udp") for one in (*self._told.turn, *self._told.stun)]
        if self._ports is not None:  # STUN servers are asked by TCP as well
            asked += [(one, False) for one in self._told.stun]
        for one, udp in asked:
            purpose = "outer_address" if one.scheme == "stun" else "relay"
            new = Opening(one.host, str(one.port), "UDP" if udp else "TCP", purpose)
            if new[:3] not in [known[:3] for known in found]:  # a relay is a STUN server too
                found.append(new)
        if not self._relay_only:
            found.append(Opening("*", "1024-65535", "UDP", "direct"))
        if self._ports is not None:
            found.append(Opening("*", "1024-65535", "TCP", "direct"))
        return found

    async def checks(self) -> AsyncIterator[Check]:
        """Try everything, which takes some seconds. Never raises what FAILURES names."""
        if self._ports is not None:
            yield self._listens(self._ports)
        addresses = ", ".join(reachable())
        yield Check(
            "addresses",
            "works" if addresses else "fails",
            "addresses" if addresses else "no_address",
            {"addresses": addresses},
        )
        if self._origin is None:
            yield self._serves()
        else:
            async for check in self._server(self._origin):
                yield check
        if not self._met or self._origin is None:
            return
        if not self._told.servers:
            yield Check("relay", "note", "no_ice")
            return
        ice = Ice(self._told, load(self._engine), PACKET, local=self._local, proxies=self._proxies)
        if not self._relay_only:
            async for check in self._outside(ice):
                yield check
        for server in () if self._no_relay else self._told.turn:
            yield await self._relay(ice, server)

    # -- this machine

    def _listens(self, ports: tuple[int, int]) -> Check:
        for port in range(ports[0], ports[1] + 1):
            with contextlib.suppress(OSError), socket.create_server(("", port)) as server:
                return Check("ports", "works", "listens", {"port": server.getsockname()[1]})
        return Check("ports", "fails", "listens_not", {"first": ports[0], "last": ports[1]})

    def _serves(self) -> Check:
        self._met = True
        try:
            with socket.create_server(("", PORT)):
                return Check("server", "works", "serves", {"port": PORT})
        except OSError:
            return Check("server", "note", "serves_elsewhere", {"port": PORT})

    # -- the signaling server

    async def _server(self, origin: str) -> AsyncIterator[Check]:
        url = urlsplit(origin)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        if not _is_address(host):
            yield await self._name(host, port)
        began = time.monotonic()
        try:
            connection = await open_connection(origin, self._proxies)
        except Failure as failure:
            yield Check("server", "fails", "server_fails", _why(failure))
            return
        took = round((time.monotonic() - began) * 1000)
        try:
            yield self._reached(connection, took)
            yield _certificate(connection, url.scheme)
            clock = _clock(connection)
        finally:
            await connection.close()
        if clock is not None:
            yield clock
        yield await self._meet(origin)

    async def _name(self, host: str, port: int) -> Check:
        try:
            async with asyncio.timeout(SERVER_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host, port, type=socket.SOCK_STREAM
                )
        except (OSError, TimeoutError, UnicodeError):
            return Check("name", "note", "name_unknown", {"host": shown(host)})
        addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
        return Check("name", "works", "name", {"host": shown(host), "addresses": addresses})

    def _reached(self, connection: ServerConnection, took: int) -> Check:
        if not connection.proxy:
            return Check("server", "works", "server", {"ms": took})
        proxy = urlsplit(connection.proxy)
        where = shown(f"{proxy.scheme}://{proxy.hostname}:{proxy.port or ''}".rstrip(":"))
        return Check("server", "works", "server_by_proxy", {"ms": took, "proxy": where})

    async def _meet(self, origin: str) -> Check:
        """Make a room, come to it, and so learn what peers are told of ICE servers."""
        keys = derive_keys(os.urandom(32))
        seat = HostSeat(origin, keys, TTL, os.urandom(OWNER), self._proxies)
        keeping = asyncio.create_task(seat.run(lambda there: None))
        ready = asyncio.create_task(seat.ready.wait())
        try:
            async with asyncio.timeout(SERVER_SECONDS):
                await asyncio.wait({keeping, ready}, return_when=asyncio.FIRST_COMPLETED)
                if keeping.done():
                    keeping.result()  # it says why
                async with GuestSeat(origin, keys, self._proxies) as attempt:
                    self._told, self._local = attempt.ice, attempt.local
            await seat.close()
        except Failure as failure:
            if failure.detail == OTHERS:  # of a sender that serves its link itself
                self._met = True
                return Check("room", "note", "room_of_one")
            return Check("room", "fails", "room_fails", _why(failure))
        except TimeoutError:
            return Check("room", "fails", "room_fails", {"why": Detail("no_answer")})
        finally:
            await stop(keeping, ready)
        self._met = True
        return Check("room", "works", "room", {"servers": len(self._told.servers)})

    # -- outside

    async def _outside(self, ice: Ice) -> AsyncIterator[Check]:
        """Every server that answers binding requests by UDP, asked from one port."""
        by_udp = [*self._told.stun, *(one for one in self._told.turn if one.transport == "udp")]
        named = list({(one.host, one.port): one for one in reversed(by_udp)}.values())[::-1]
        if not named:
            yield Check("nat", "note", "nat_unasked")
            return
        seen: dict[IceServer, Endpoint] = {}
        from_where: dict[Endpoint, Endpoint] = {}  # the same by the address that was asked
        own = 0
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # a machine without this family
                async with asking(family) as port:
                    own = port.own[1]
                    for one, found, answer in await self._ask_all(ice, named, port, family):
                        seen[one] = from_where[found] = answer
            if seen:
                break
        for one in named:
            host, number = shown(one.host), one.port
            if one in seen:
                values: dict[str, str | int] = {"host": host, "port": number, "outer": seen[one][0]}
                yield Check("outer_address", "works", "stun", values)
            else:
                yield Check("outer_address", "fails", "stun_silent", {"host": host, "port": number})
        self._nat = nat_of(list(from_where.values()), own, reachable())
        verdict: Verdict = "works" if self._nat in ("none", "cone") else "note"
        yield Check("nat", "fails" if self._nat == "blocked" else verdict, f"nat_{self._nat}")

    async def _ask_all(
        self, ice: Ice, named: list[IceServer], port: Asking, family: socket.AddressFamily
    ) -> list[tuple[IceServer, Endpoint, Endpoint]]:
        """(server, its address, the outer address that it saw) of those that answer."""
        resolved = [(one, await ice.resolved([one])) for one in named]
        fitting = [
            (one, (by.host, by.port))
            for one, found in resolved
            for by in found
            if (":" in by.host) == (family is socket.AF_INET6)
        ]
        answers = await asyncio.gather(*(_asked(port.ask(address)) for _, address in fitting))
        return [
            (one, address, answer)
            for (one, address), answer in zip(fitting, answers, strict=True)
            if answer is not None
        ]

    # -- relays

    async def _relay(self, ice: Ice, server: IceServer) -> Check:
        values: dict[str, str | int] = {
            "host": shown(server.host),
            "port": server.port,
            "how": {"turns": "TLS"}.get(server.scheme, server.transport.upper()),
        }
        began = time.monotonic()
        try:
            async with asyncio.timeout(RELAY_SECONDS):
                found = await ice.resolved([server])
                if not found:
                    raise OSError(Detail("no_such_host"))
                ends, tunnels = await self._allocated(found[0])
        except (OSError, ssl.SSLError, TimeoutError, Failure) as error:
            why = _why(error)
            return Check("relay", "fails", "relay_fails", values | why)
        except Exception as error:  # a library's own: an answer that is an error, or none
            code = getattr(getattr(error, "response", None), "attributes", {}).get("ERROR-CODE")
            why = {"why": Detail("relay_refuses" if code else "no_answer")}
            return Check("relay", "fails", "relay_fails", values | why)
        took = round((time.monotonic() - began) * 1000 / 2)  # of two that were made
        try:
            rate = await _rate(*ends)
        finally:
            for transport, _ in ends:
                transport.close()
            await asyncio.sleep(0.1)  # the allocations are given back
            for tunnel in tunnels:
                tunnel.close()
        values |= {"ms": took, "rate": round(rate)}
        if not rate:
            return Check("relay", "note", "relay_unproven", values)
        self._relays = True
        return Check("relay", "works", "relay", values)

    async def _allocated(self, server: IceServer) -> tuple[list[Any], list[Tunnel]]:
        """Two relayed addresses, directly, or where that fails through the proxy there is."""
        by_tcp = server.transport == "tcp"
        ways = self._proxies.ways("https", server.host, server.port) if by_tcp else []
        proxy = next(filter(None, ways), "")
        try:
            async with asyncio.timeout(ANSWER_SECONDS if proxy else None):
                if server.scheme == "turns":  # as a transfer does it
                    return await self._tunnelled("", server)
                return await _allocate_both(server, server), []
        except (OSError, TimeoutError, ssl.SSLError):
            if not proxy:
                raise
        return await self._tunnelled(proxy, server)

    async def _tunnelled(
        self, proxy: str, server: IceServer
    ) -> tuple[list[tuple[Any, _Arrivals]], list[Tunnel]]:
        tunnels: list[Tunnel] = []
        try:
            for _ in range(2):
                tunnels.append(await Tunnel.open(proxy, server))  # noqa: PERF401 - what was made is closed
            return await _allocate_both(*(one.end for one in tunnels)), tunnels
        except BaseException:
            for one in tunnels:
                one.close()
            raise


def nat_of(seen: list[Endpoint], own_port: int, addresses: list[str]) -> Nat:
    """What stands between, by how different servers saw one port of this machine: nothing, a
    translator that gives every destination the same port (RFC 4787, endpoint-independent mapping),
    or another."""
    if not seen:
        return "blocked"
    own = [is_loopback(address) or address in addresses for address, _ in seen]
    if all(own) and all(port == own_port for _, port in seen):
        return "none"
    if len(set(seen)) > 1:
        return "symmetric"
    return "cone" if len(seen) > 1 else "unknown"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _why(error: BaseException) -> dict[str, str | int]:
    if isinstance(error, Failure):
        return {"why": error.detail or Detail("no_answer")}
    if isinstance(error, ssl.SSLCertVerificationError):
        return {"why": Detail("certificate_foreign")}
    if isinstance(error, ssl.SSLError):
        return {"why": Detail("no_tls")}
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        first = error.args[0] if error.args else ""
        return {"why": first if isinstance(first, Detail) else os_detail(error, "no_answer")}
    return {"why": Detail("no_answer")}


async def _asked(asking: Any) -> Endpoint | None:
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(ANSWER_SECONDS):
            found: Endpoint = await asking
            return found
    return None


def _certificate(connection: ServerConnection, scheme: str) -> Check:
    if scheme != "https":
        return Check("certificate", "note", "plain")
    tls = connection.transport.get_extra_info("ssl_object")
    issuer = _issuer(tls.getpeercert(binary_form=True))
    trusted = tls.context.verify_mode is ssl.CERT_REQUIRED
    verdict: Verdict = "works" if trusted else "note"
    return Check("certificate", verdict, "trusted" if trusted else "untrusted", {"issuer": issuer})


def _issuer(certificate: bytes) -> str:
    """Who vouches for a certificate, as it calls itself."""
    from cryptography import x509  # 0.05 s

    try:
        name = x509.load_der_x509_certificate(certificate).issuer
        for kind in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME):
            if found := name.get_attributes_for_oid(kind):
                return shown(str(found[0].value), 128)
    except ValueError:
        pass
    return "?"


def _clock(connection: ServerConnection) -> Check | None:
    """This machine's clock beside the server's, by its header `Date` (RFC 9110 6.6.1)."""
    assert connection.response is not None
    try:
        there = parsedate_to_datetime(connection.response.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None
    ahead = round(time.time() - there)
    if abs(ahead) <= CLOCK_SECONDS:
        return Check("clock", "works", "clock")
    return Check(
        "clock", "note", "clock_ahead" if ahead > 0 else "clock_behind", {"seconds": abs(ahead)}
    )


class _Arrivals(asyncio.DatagramProtocol):
    """Counts what comes by a relay."""

    def __init__(self) -> None:
        self.count, self.last = 0, time.monotonic()
        self.failed = False

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.count, self.last = self.count + 1, time.monotonic()

    def error_received(self, error: Exception) -> None:
        self.failed = True  # a relay that lets nobody reach itself


async def _allocate(server: IceServer) -> tuple[Any, _Arrivals]:
    from aioice import turn

    made: tuple[Any, _Arrivals] = await turn.create_turn_endpoint(
        _Arrivals,
        (server.host, server.port),
        server.username,
        server.credential,
        transport=server.transport,
    )
    return made


async def _allocate_both(*servers: IceServer) -> list[tuple[Any, _Arrivals]]:
    made: list[tuple[Any, _Arrivals]] = []
    try:
        for server in servers:
            made.append(await _allocate(server))  # noqa: PERF401 - what was made is given back
    except BaseException:
        for transport, _ in made:
            transport.close()
        raise
    return made


async def _rate(sender: tuple[Any, _Arrivals], recipient: tuple[Any, _Arrivals]) -> float:
    """Bytes a second from one relayed address to another, so both up and down; 0 where nothing
    came: a relay may let none of its own be reached."""
    target, arrivals = recipient[0].get_extra_info("sockname"), recipient[1]
    packet, sent, lost = bytes(PACKET), 0, 0
    back, theirs = sender[0].get_extra_info("sockname"), recipient[0]
    theirs.sendto(b"", back)  # opens the way for what comes from there (RFC 8656 9)
    sender[0].sendto(b"", target)
    await asyncio.sleep(0.2)
    began = arrivals.last = time.monotonic()
    first = arrivals.count
    while (now := time.monotonic()) - began < RATE_SECONDS and not sender[1].failed:
        under_way = sent - lost - (arrivals.count - first)
        if under_way < WINDOW:
            sender[0].sendto(packet, target)
            sent += 1
        elif now - arrivals.last > LOST_SECONDS:
            lost += under_way
            arrivals.last = now
        await asyncio.sleep(0)
    return (arrivals.count - first) * PACKET / (time.monotonic() - began)
