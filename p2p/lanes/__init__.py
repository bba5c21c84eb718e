"""Lanes: authenticated message pipes, and the seam behind which a WebRTC engine works.

`tests/lanes/` holds one conformance suite that every engine passes, the clogged pipe included.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

from ..protocol.errors import Failure
from ..protocol.seal import Message
from ..protocol.signal import Candidate, Description

EngineName = Literal["libdatachannel", "aiortc"]
ENGINES: tuple[EngineName, ...] = ("libdatachannel", "aiortc")  # the fastest first
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# Largest IP packets, in bytes: what every path carries (RFC 8200, 5), and what most carry, with an
# eighth less work for each byte. libdatachannel forbids fragments and does not probe.
SMALL_PACKET, LARGE_PACKET = 1280, 1500
CONTROL_CHANNEL, DATA_CHANNEL = 0, 1  # pre-negotiated stream ids (RFC 8832 is not used)


class LaneLost(Exception):
    """The lane is gone; whatever was not acknowledged by the peer may not have arrived."""


class Lane(Protocol):
    """A pipe of whole messages, in order, authenticated by the handshake.

    `send` returns when the message is queued and waits while the pipe is full, so a caller may not
    assume arrival: only the peer's acknowledgement tells. `recv` gives the next message. Both
    raise `LaneLost` once the lane is gone, at once for waiters too. One sender and one receiver
    task at a time. A message longer than `max_message_size` raises `ValueError`.
    """

    @property
    def max_message_size(self) -> int:
        """Largest message both ends take, in bytes."""

    async def send(self, message: Message) -> None:
        """Queue a message."""

    async def recv(self) -> Message:
        """The next message."""


class Pair(Protocol):
    """What a session runs over: a control lane and its first data lane."""

    @property
    def control(self) -> Lane:
        """Carries control messages."""

    @property
    def data(self) -> Lane:
        """Carries ranges."""

    async def close(self, *, heard: bool = False) -> None:
        """Send what is queued (for two seconds at most), then close. Never raises.

        `heard`: the other side is known to have it all.
        """


class Connection(Pair, Protocol):
    """One WebRTC connection: two lanes over one association, described by typed fields.

    The offerer calls `describe`, then `set_remote`; the answerer the other way round. Candidates
    that come later go through `add_candidates`. `opened` returns once both lanes carry messages.
    """

    fingerprint: bytes  # sha-256 of this side's DTLS certificate; known after `describe`

    async def describe(self, nonce_r: bytes, nonce_s: bytes) -> Description:
        """This side's description, without candidates."""

    def candidates(self) -> AsyncIterator[Candidate]:
        """This side's candidates as they are found; ends when there are no more."""

    async def set_remote(self, description: Description) -> None:
        """Take the peer's description."""

    async def add_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        """Take further candidates of the peer's."""

    async def opened(self) -> None:
        """Wait until both lanes are open. Raises `LaneLost`."""


def keep_buffers() -> None:
    """Let glibc keep freed message buffers instead of giving their pages back at once.

    A range is allocated several times on its way; new pages for each cost a tenth of the rate. For
    a program that owns its process, before it starts threads; where there is no glibc, nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt  # malloc.h of glibc, mallopt(3)
        for option, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 128 << 20)):
            mallopt(option, value)
        mallopt(M_ARENA_MAX, 1)


def available() -> list[EngineName]:
    """The engines whose libraries are installed here, without importing them."""
    packages = {"libdatachannel": "aiolibdatachannel", "aiortc": "aiortc"}
    return [name for name in ENGINES if importlib.util.find_spec(packages[name]) is not None]


def load(engine: EngineName) -> Callable[..., Connection]:
    """What makes a connection of this engine: `load(engine)(offerer=True, packet=LARGE_PACKET)`.

    Imports the engine's library, which takes 0.1 to 1 s. Raises `Failure` (engine_missing).
    """
    try:
        module = importlib.import_module(f"{__name__}.{engine}")
    except ImportError as error:
        raise Failure("engine_missing", f"{engine} ({error.name} is not installed)") from None
    make: Callable[..., Connection] = module.open_connection
    return make
