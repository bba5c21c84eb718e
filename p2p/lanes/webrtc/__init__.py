"""WebRTC: the seam behind which an engine works, and the engines there are.

An engine imports no text of the peer's and knows nothing of links, roles or sessions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple, Protocol

from ...protocol.errors import Failure
from ...protocol.ice import IceServer
from ...protocol.sentences import Detail
from ...protocol.signal import Candidate, Description
from .. import Pair

EngineName = Literal["libdatachannel", "aiortc"]
ENGINES: tuple[EngineName, ...] = ("libdatachannel", "aiortc")  # the fastest first
# Largest IP packets, in bytes: what every path carries (RFC 8200, 5), and what most carry, with an
# eighth less work for each byte. libdatachannel forbids fragments and does not probe.
SMALL_PACKET, LARGE_PACKET = 1280, 1500
CONTROL_CHANNEL, DATA_CHANNEL = 0, 1  # pre-negotiated stream ids (RFC 8832 is not used)


class Connection(Pair, Protocol):
    """One WebRTC connection: two lanes over one association, described by typed fields.

    The offerer calls `describe`, then `set_remote`; the answerer the other way round. Candidates
    that come later go through `add_candidates`. `opened` returns once both lanes carry messages.
    """

    fingerprint: bytes  # sha-256 of this side's DTLS certificate; known after `describe`

    async def describe(self, nonce_guest: bytes, nonce_host: bytes) -> Description:
        """This side's description, without candidates."""

    def candidates(self) -> AsyncIterator[Candidate]:
        """This side's candidates as they are found; ends when there are no more."""

    async def set_remote(self, description: Description) -> None:
        """Take the peer's description."""

    async def add_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        """Take further candidates of the peer's."""

    async def opened(self) -> None:
        """Wait until both lanes are open. Raises `LaneLost`."""


class MakeConnection(Protocol):
    """Makes a connection of an engine that sends packets up to `packet` bytes, and finds its outer
    addresses by the servers `ice`: any number of STUN, and of TURN what the engine takes. With
    `relay_only` it uses relays alone. Needs a running event loop."""

    def __call__(
        self,
        *,
        offerer: bool,
        packet: int = SMALL_PACKET,
        ice: Sequence[IceServer] = (),
        relay_only: bool = False,
    ) -> Connection:
        """A new connection."""


class Engine(NamedTuple):
    """An engine that is loaded."""

    name: EngineName
    make: MakeConnection

    @property
    def reaches_turn_by_tcp(self) -> bool:
        """Whether it reaches TURN servers by TCP and TLS too, not by UDP alone."""
        return self.name == "aiortc"


def available() -> list[EngineName]:
    """The engines whose libraries are installed here, without importing them."""
    packages = {"libdatachannel": "aiolibdatachannel", "aiortc": "aiortc"}
    return [name for name in ENGINES if importlib.util.find_spec(packages[name]) is not None]


def choose_engine(wanted: EngineName | None = None) -> EngineName:
    """The engine to use: the one that is wanted, or the fastest. Raises `Failure`
    (engine_missing)."""
    found = available()
    if wanted is None and found:
        return found[0]
    if wanted is None or wanted not in found:
        missing = Detail("engine_not_installed", engine=wanted) if wanted else None
        raise Failure("engine_missing", missing or Detail("no_engine"))
    return wanted


def load(engine: EngineName) -> Engine:
    """An engine, ready: `load(engine).make(offerer=True, packet=LARGE_PACKET)`.

    Imports the engine's library, which takes 0.1 to 1 s. Raises `Failure` (engine_missing).
    """
    try:
        module = importlib.import_module(f"{__name__}.{engine}")
    except ImportError as error:
        raise Failure(
            "engine_missing",
            Detail("module_not_installed", engine=engine, module=error.name or engine),
        ) from None
    return Engine(engine, module.open_connection)
