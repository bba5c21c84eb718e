"""Where the peers meet: the server that was named, or one that this process starts."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..protocol.errors import Failure
from ..protocol.link import read_origin
from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from ..tasks import stop
from .addresses import is_loopback, reachable
from .certificates import Tls, renewed

if TYPE_CHECKING:
    from signaling.access import Access
    from signaling.app import Server
    from signaling.ice import IceConfiguration
    from signaling.policy import Policy
    from signaling.proxies import Network
    from signaling.store import Store

READY_DAYS = 7  # that a certificate is good for at least
EVERYWHERE = ("", "0.0.0.0", "::")
# Of a transfer's own server, where it is free: a page finds what an earlier one left, and erases
# it, only at the same address. Below every system's range for outgoing connections.
PORT = 4263


@dataclass(frozen=True)
class Rendezvous:
    """Where the peers meet."""

    origin: str  # the link's
    others: tuple[str, ...]  # the same by other addresses of this machine
    reached: str  # where this process reaches it
    browser: bool  # whether a browser may open the link and gets a client there
    port: int = 0  # of the server that this process started; 0 where it is another's
    # A lane to a page that this server has served: its token (32 bytes), and its pipe.
    open_pipe: Callable[[], Awaitable[tuple[bytes, socket.socket]]] | None = None


@asynccontextmanager
async def open_server(
    listen: tuple[str, int],
    tls: Tls | None,
    trusted: Sequence[Network] = (),
    ice: IceConfiguration | None = None,
    store: Store | None = None,
    access: Access | None = None,
    policy: Policy | None = None,
    metrics: tuple[str, int] | None = None,
    ready_days: int = READY_DAYS,
    local_ca: Path | None = None,
    drain: float = 0.0,
) -> AsyncIterator[Server]:
    """A signaling server in this process, which believes proxies in the networks `trusted`, tells
    peers of the STUN and TURN servers `ice`, shares `store` with other nodes, and has rooms for
    those whom `access` allows. `policy`: what is asked of transfers. `metrics`: where its
    operator's machines ask; it is not ready there with a certificate that expires in less than
    `ready_days`. The certificate is renewed by what `tls` names, or by the authority in `local_ca`.
    In the end it drains for so many seconds at most. Raises `Failure` when it cannot listen."""
    from signaling.app import Server

    server = Server(trusted=trusted, ice=ice, store=store, access=access, policy=policy)
    try:
        await server.start(*listen, tls.context if tls else None)
    except OSError as error:
        raise Failure("cannot_listen", os_detail(error)) from None
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        if metrics is not None:
            await stack.enter_async_context(_open_operations(server, metrics, ready_days))
        if tls is not None:
            keeping = asyncio.create_task(_keep_certificate(server, tls, local_ca or Path()))
            stack.push_async_callback(stop, keeping)
        yield server
        if drain:
            await server.drain(drain)


@asynccontextmanager
async def _open_operations(
    server: Server, listen: tuple[str, int], ready_days: int
) -> AsyncIterator[None]:
    from signaling.operations import Operations

    operations = Operations(server, ready_days)
    try:
        await operations.start(*listen)
    except OSError as error:
        raise Failure("cannot_listen", os_detail(error)) from None
    try:
        yield
    finally:
        await operations.stop()


async def _keep_certificate(server: Server, tls: Tls, local_ca: Path) -> None:
    """Serve what replaces it, and log how long it is good."""
    server.certificate(tls.expires)
    async for renewal in renewed(tls, local_ca):
        server.certificate(renewal.expires, renewal.context)


@asynccontextmanager
async def open_stun(listen: tuple[str, int] | None) -> AsyncIterator[None]:
    """A STUN server in this process, where there is to be one. Raises `Failure` when it cannot
    listen."""
    if listen is None:
        yield
        return
    from signaling.stun import serve_stun

    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serve_stun(*listen))
        except OSError as error:
            raise Failure("cannot_listen", os_detail(error)) from None
        yield


async def open_rendezvous(
    stack: AsyncExitStack,
    server: str | None,
    listen: tuple[str, int] | None,
    address: str | None,
    tls: Tls | None,
    owner: bytes,
    *,
    reserved: Collection[int] = (),
) -> Rendezvous:
    """The server named, or one of this transfer's own until `stack` closes. Raises `Failure`.

    The own one runs in a process of its own, and `owner` is the token of the host it serves. It
    listens where `listen` says; None is every address, and `PORT` where that is free and not
    `reserved` (for a link that is to be taken up again), else any. At a port that was asked for it
    ends with the transfer in any case: the next one may want it.
    """
    if server is not None:
        origin = read_origin(server)
        url = urlsplit(origin)
        browser = url.scheme == "https" or is_loopback(url.hostname or "")
        return Rendezvous(origin, (), origin, browser)
    from signaling import apart, web_assets

    hosts = tls.hosts if tls else ()
    try:
        listener = apart.listen(*listen) if listen else _listen_anywhere(reserved)
        port = listener.getsockname()[1]
        owner_hash = hashlib.sha256(owner).digest()
        serving = apart.serve_apart(
            listener, owner_hash, tls.pem if tls else None, stay=not (listen and listen[1])
        )
        own = await stack.enter_async_context(serving)
    except OSError as error:
        detail = os_detail(error)
        if error.errno == errno.EADDRINUSE and listen and listen[1] == PORT:
            minutes = int(apart.STAY_SECONDS / 60)
            detail = Detail("port_kept", port=PORT, minutes=minutes)
        raise Failure("cannot_listen", detail) from None
    listening = listen[0] if listen else ""
    named = _link_hosts(listening, address, hosts)
    scheme = "http" if tls is None else "https"
    origins = [f"{scheme}://{_bracketed(host)}:{port}" for host in named]
    here = listening if listening not in EVERYWHERE else "127.0.0.1"
    trusted = is_loopback(named[0]) if tls is None else _certified(named[0], hosts)
    return Rendezvous(
        origins[0],
        tuple(origins[1:]),
        f"{scheme}://{_bracketed(here)}:{port}",
        trusted and bool(web_assets.shipped()),
        port,
        own.open_pipe,
    )


def _listen_anywhere(reserved: Collection[int]) -> socket.socket:
    from signaling import apart

    if PORT not in reserved:
        with suppress(OSError):
            return apart.listen("", PORT)
    return apart.listen("", 0)


def _link_hosts(listening: str, address: str | None, certified: Sequence[str]) -> list[str]:
    """Hosts for the link, the likeliest to work first: those a browser accepts before others."""
    if address:
        return [_host(address)]
    found = reachable() if listening in EVERYWHERE else [listening]
    found = found or ["127.0.0.1"]
    if certified and not any(_certified(host, certified) for host in found):
        names = [host for host in certified if not is_loopback(host) and "*" not in host]
        found = names + found
    return sorted(found, key=lambda host: not _certified(host, certified)) if certified else found


def _host(host: str) -> str:
    """As links name it. Raises `Failure` (host_invalid) where none can."""
    try:
        return read_origin(f"http://{_bracketed(host)}").partition("//")[2]
    except Failure:
        raise Failure("host_invalid", shown(host, 128)) from None


def _certified(host: str, certified: Sequence[str]) -> bool:
    """Whether a certificate for these is one for this host; `*` stands for one label (RFC 9525)."""
    host = host.lower().strip("[]")
    below = host.partition(".")[2]
    return host in certified or (bool(below) and f"*.{below}" in certified)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
