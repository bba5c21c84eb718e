"""What an operator's own machines ask, at an address of its own: `/healthz` whether the process
works, `/readyz` whether peers should be sent to it, `/metrics` what it has counted (Prometheus's
text format). Nothing here names a peer; let it listen where the public does not come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from .apart import listen
from .connections import SILENT
from .tally import CONNECT_SECONDS

if TYPE_CHECKING:
    from .app import Server

DAY = 86_400.0

# name -> (the label, what it counts)
_COUNTERS = {
    "rooms_created": ("", "Rooms that hosts made, coming back included"),
    "attempts": ("", "Attempts that guests began"),
    "envelopes": ("", "Envelopes that were passed on from here"),
    "refusals": ("reason", "Requests that were refused"),
    "outcomes": ("outcome", "How attempts ended, as guests report it when they leave"),
}


@dataclass(frozen=True)
class Check:
    """Whether one thing that readiness needs is so; `reason` says why not."""

    name: str
    reason: str = ""


class Operations:
    """The answers, and the address that they are given at."""

    def __init__(self, server: Server, days: int) -> None:
        """`days`: how long the certificate must be good at least, for the node to be ready."""
        self._server, self._days = server, days
        self._registry = CollectorRegistry()
        self._registry.register(_Counted(server))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises `OSError` when the address is not to be had."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, logger=SILENT, handle_signals=False)
        await self._runner.setup()
        listener = listen(host, port)
        self.port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Answer no more."""
        await self._runner.cleanup()

    def checks(self) -> list[Check]:
        """What readiness needs."""
        server = self._server
        checks = [
            Check("accepting", "draining" if server.draining else ""),
            Check("store", "" if server.store_ready else "unreachable"),
        ]
        expires = server.certificate_expires
        if expires is not None:
            left = (expires - datetime.now(UTC)).total_seconds() / DAY
            late = f"{left:.1f} days left" if left < self._days else ""
            checks.append(Check("certificate", late))
        return checks

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        checks = self.checks()
        ready = not any(check.reason for check in checks)
        told = {check.name: check.reason or "ok" for check in checks}
        status = "ok" if ready else "not ready"
        return web.json_response({"status": status, **told}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(self._registry), headers=headers)


class _Counted(Collector):
    """A server's tally, as Prometheus reads it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterable[Metric]:
        server, tally = self._server, self._server.tally
        for name, value, text in (
            ("rooms", server.rooms, "Rooms whose host is at this node"),
            ("connections", server.connections, "Open connections"),
            ("store_up", server.store_ready, "Whether what the nodes share answers"),
        ):
            yield GaugeMetricFamily(f"handover_{name}", text, value=float(value))
        if server.certificate_expires is not None:
            name = "handover_certificate_expiry_timestamp_seconds"
            expires = server.certificate_expires.timestamp()
            yield GaugeMetricFamily(name, "When the certificate expires", value=expires)
        for name, (label, text) in _COUNTERS.items():
            labels = [label] if label else []
            family = CounterMetricFamily(f"handover_{name}", text, labels=labels)
            counts = {key[1]: n for key, n in tally.counts.items() if key[0] == name}
            for one, number in (counts if label else {"": counts.get("", 0)}).items():
                family.add_metric([one] if label else [], number)
            yield family
        total, buckets = 0, []
        for bound, number in zip((*CONNECT_SECONDS, float("inf")), tally.connects, strict=True):
            total += number
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        text = "Seconds from a guest's joining to its leaving connected"
        histogram = HistogramMetricFamily("handover_connect_seconds", text)
        histogram.add_metric([], buckets, tally.connect_seconds)
        yield histogram
