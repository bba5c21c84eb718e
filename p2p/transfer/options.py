"""What whoever starts a transfer chose, gathered for the inside; `api` has each as an argument."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..events import Event, Question
from ..lanes.webrtc import EngineName, choose_engine
from ..state.home import Home
from .trail import Trail

Emit = Callable[[Event], None]
Ask = Callable[[Question], Awaitable[bool]]
USUAL: Mapping[str, Any] = {
    "limit": None,
    "compress": True,
    "direct": True,
    "direct_ports": [0, 0],
    "proxy": "",
    "no_relay": False,
    "relay_only": False,
    "label": "",
    "engine": None,
}


@dataclass(frozen=True)
class Options:
    """What both roles have in common."""

    home: Home
    emit: Emit = lambda event: None
    trail: Trail | None = None  # None: only how it ends is noted
    ask: Ask | None = None  # None: nobody is there to answer
    engine: EngineName | None = None  # None: the fastest that is installed
    passphrase: str | None = None
    auto: bool = False
    allow_hidden: bool = False  # a recipient's `auto` takes hidden names as well
    limit: float | None = None  # bytes a second
    compress: bool = True  # where it pays
    # TCP, to listen on; 0: any; None: no direct lanes
    direct_ports: tuple[int, int] | None = (0, 0)
    proxy: str = ""  # to servers, by TCP; "": as the environment says; "none": none
    no_relay: bool = False  # by no relay at all
    label: str = ""  # for this transfer, in the place of the identity's
    relay_only: bool = False  # by relays alone: the peer does not learn an address of this side
    purpose: str = ""  # a sender's: a key of `PURPOSES`, or ""
    reason: str = ""  # a sender's, in its own words
    token: str = ""  # that a server lets a host create rooms by

    def begun_with(self) -> dict[str, Any]:
        """What the transfer goes on with when it is taken up again: by the API's names, and none
        that was left as usual. JSON."""
        found: dict[str, Any] = {
            "limit": self.limit and round(self.limit),
            "compress": self.compress,
            "direct": self.direct_ports is not None,
            "direct_ports": list(self.direct_ports or USUAL["direct_ports"]),
            "proxy": self.proxy,
            "no_relay": self.no_relay,
            "relay_only": self.relay_only,
            "label": self.label,
            "engine": self.engine,
        }
        return {name: value for name, value in found.items() if value != USUAL[name]}

    def taken_up(self, begun_with: Mapping[str, Any]) -> Self:
        """These, and those the transfer was begun with, but where others were chosen now."""
        own = self.begun_with()
        if {"relay_only", "no_relay"} & own.keys():
            own |= {"relay_only": self.relay_only, "no_relay": self.no_relay}
        if {"direct", "direct_ports"} & own.keys():
            own |= {"direct": None, "direct_ports": None}
        kept = {name: value for name, value in begun_with.items() if name not in own}
        if not kept.pop("direct", True):
            kept["direct_ports"] = None
        elif "direct_ports" in kept:
            kept["direct_ports"] = tuple(kept["direct_ports"])
        return replace(self, **kept)

    def choose_engine(self) -> EngineName:
        """The WebRTC engine to use. Raises `Failure` (engine_missing)."""
        return choose_engine(self.engine)
