"""What whoever starts a transfer chose, gathered for the inside; `api` has each as an argument."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..events import Event, Question
from ..lanes.webrtc import EngineName, choose_engine
from ..state.home import Home

Emit = Callable[[Event], None]
Ask = Callable[[Question], Awaitable[bool]]


@dataclass(frozen=True)
class Options:
    """What both roles have in common."""

    home: Home
    emit: Emit = lambda event: None
    ask: Ask | None = None  # None: nobody is there to answer
    engine: EngineName | None = None  # None: the fastest that is installed
    passphrase: str | None = None
    auto: bool = False
    allow_hidden: bool = False  # a recipient's `auto` takes hidden names as well
    limit: float | None = None  # bytes a second
    compress: bool = True  # where it pays
    direct_ports: tuple[int, int] | None = (
        0,
        0,
    )  # TCP, to listen on; 0: any; None: no direct lanes
    proxy: str = ""  # to servers, by TCP; "": as the environment says; "none": none
    no_relay: bool = False  # by no relay at all
    label: str = ""  # for this transfer, in the place of the identity's
    relay_only: bool = False  # by relays alone: the peer does not learn an address of this side

    def choose_engine(self) -> EngineName:
        """The WebRTC engine to use. Raises `Failure` (engine_missing)."""
        return choose_engine(self.engine)
