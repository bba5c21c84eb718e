"""Whether a signaling server would serve as it is configured: `handover serve --check`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..protocol.sentences import os_detail
from ..version import VERSION
from .certificates import Tls
from .doctor import Check

if TYPE_CHECKING:
    from signaling.ice import IceConfiguration
    from signaling.store import Store

STORE_SECONDS = 5.0


async def check_server(
    listen: tuple[str, int],
    tls: Tls | None,
    ice: IceConfiguration,
    store: Store | None,
    others: Sequence[tuple[str, int]],
    *,
    proxied: bool,
    ready_days: int,
) -> AsyncIterator[Check]:
    """One thing after the other. `others` are further addresses that it is to listen on; `proxied`:
    whether a proxy is trusted."""
    from signaling import web_assets

    shipped = web_assets.shipped()
    page = {"version": VERSION}
    yield Check("page", "works" if shipped else "fails", "page" if shipped else "no_page", page)
    for host, port in (listen, *others):
        yield _listens(host, port)
    yield _certificate(tls, proxied, ready_days)
    if store is not None:
        answers = await _answers(store)
        yield Check("redis", "works", "redis") if answers else Check("redis", "fails", "no_redis")
    yield _ice(ice)


def _listens(host: str, port: int) -> Check:
    from signaling.apart import listen

    where = f"{host}:{port}"
    try:
        listen(host, port).close()
    except OSError as error:
        return Check("listen", "fails", "listen_fails", {"where": where, "why": os_detail(error)})
    return Check("listen", "works", "listen", {"where": where})


def _certificate(tls: Tls | None, proxied: bool, ready_days: int) -> Check:
    if tls is None:
        return Check("certificate", "note", "proxied" if proxied else "no_certificate")
    left = tls.expires - datetime.now(UTC)
    values: dict[str, str | int] = {"hosts": ", ".join(tls.hosts), "day": f"{tls.expires:%Y-%m-%d}"}
    if left < timedelta(0):
        return Check("certificate", "fails", "expired", values)
    if left < timedelta(days=ready_days):
        return Check("certificate", "fails", "expires_soon", values)
    return Check("certificate", "works", "expires", values)


async def _answers(store: Store) -> bool:
    from signaling.store import Node

    await store.start(Node(lambda word: None, lambda key: None, lambda: None))
    try:
        async with asyncio.timeout(STORE_SECONDS):
            while not store.ready():
                await asyncio.sleep(0.05)
        return True
    except TimeoutError:
        return False
    finally:
        await store.stop()


def _ice(ice: IceConfiguration) -> Check:
    if not ice.urls:
        return Check("ice", "note", "ice_none")
    servers = {"servers": ", ".join(ice.urls)}
    if not ice.relays:
        return Check("ice", "note", "ice_no_relay", servers)
    return Check("ice", "works", "ice", servers)
