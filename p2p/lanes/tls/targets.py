"""Which of the addresses that a peer announces are connected to, over a whole transfer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress

from ...protocol.signal import may_connect

AT_ONCE = 4  # addresses in one session
MAX_ADDRESSES = 8  # in all sessions
MAX_IN_VAIN = 16  # sessions in a row in which none of them answered as the peer


class Targets:
    """A peer may be admitted and still lie: it must not have this machine knock at the doors of
    others. What it announces has to be an address that the session's own connection was offered
    too, and there are few of them, however many sessions a transfer has."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._in_vain = 0

    def choose(self, announced: Iterable[str], offered: Iterable[str]) -> list[str]:
        """For a new session: those that may be connected to. `offered` are the addresses of the
        peer's candidates, and of the connection that came through."""
        if self._in_vain >= MAX_IN_VAIN:
            return []
        self._in_vain += 1
        plausible = _normal(offered)
        chosen: list[str] = []
        for address in map(str, map(ipaddress.ip_address, may_connect(announced))):
            room = address in self._known or len(self._known) < MAX_ADDRESSES
            if address in plausible and room and len(chosen) < AT_ONCE:
                self._known.add(address)
                chosen.append(address)
        return chosen

    def answered(self) -> None:
        """One of them was the peer."""
        self._in_vain = 0


def _normal(addresses: Iterable[str]) -> set[str]:
    found = set()
    for address in addresses:
        with suppress(ValueError):  # a name
            found.add(str(ipaddress.ip_address(address)))
    return found
