"""Binding requests (STUN, RFC 8489): which address this side has outside, seen from a server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

ASK_AGAIN_SECONDS = 0.25  # for UDP loses
MAX_ANSWER = 1500  # bytes
Endpoint = tuple[str, int]  # IP address and port


class Binding:
    """One binding request, and what its answer says."""

    def __init__(self) -> None:
        from aioice import stun

        made = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        self.request, self._id = bytes(made), made.transaction_id

    def read(self, data: bytes) -> Endpoint | None:
        """The outer address; None for what is no answer to this request. Never raises."""
        from aioice import stun

        try:
            said = stun.parse_message(data)
        except (ValueError, struct.error):  # the second for an attribute cut short
            return None
        if said.transaction_id != self._id or said.message_class is not stun.Class.RESPONSE:
            return None
        found = said.attributes.get("XOR-MAPPED-ADDRESS") or said.attributes.get("MAPPED-ADDRESS")
        return (str(found[0]), int(found[1])) if found else None


class Asking(asyncio.DatagramProtocol):
    """Asks several servers from one port."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Binding, asyncio.Future[Endpoint]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Before Python 3.12 the event loop's own is no `DatagramTransport`.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        for binding, answered in self._waiting:
            if not answered.done() and (found := binding.read(data)):
                answered.set_result(found)

    @property
    def own(self) -> Endpoint:
        """Where it asks from."""
        found = self._transport.get_extra_info("sockname")
        return found[0], found[1]

    async def ask(self, server: Endpoint) -> Endpoint:
        """The outer address as `server` sees it; asks until it is cancelled."""
        binding = Binding()
        answered: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        one = binding, answered
        self._waiting.append(one)
        try:
            while not answered.done():
                self._transport.sendto(binding.request, server)
                await asyncio.wait([answered], timeout=ASK_AGAIN_SECONDS)
            return answered.result()
        finally:
            self._waiting.remove(one)


@asynccontextmanager
async def asking(family: socket.AddressFamily) -> AsyncIterator[Asking]:
    """A port to ask from, by UDP. Raises `OSError`."""
    everywhere = "::" if family is socket.AF_INET6 else "0.0.0.0"
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Asking, local_addr=(everywhere, 0)
    )
    try:
        yield protocol
    finally:
        transport.close()
