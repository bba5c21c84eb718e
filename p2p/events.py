"""What a caller can watch: frozen facts, in order. `--json` prints exactly these."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from .protocol.errors import Ending

StateName = Literal[
    "waiting",
    "server_lost",
    "opened",
    "connected",
    "admitted",
    "offered",
    "accepted",
    "silent",
    "lost",
    "paused",
    "sender_paused",
    "resumed",
    "checking",
    "verifying",
    "signing",
]


# What a transfer waits for: this side's disk or `--limit`, the other's, the network, the other side
# for whatever reason, or nothing for long.
Bottleneck = Literal["disk", "limit", "other_disk", "other_limit", "network", "other_side", ""]


@dataclass(frozen=True)
class _Fact:
    event: ClassVar[str]

    def as_json(self) -> dict[str, Any]:
        """The members of one `--json` line."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
        return {
            "event": self.event,
            **{k: v.value if isinstance(v, Ending) else v for k, v in plain.items()},
        }


@dataclass(frozen=True)
class LinkMade(_Fact):
    """The link stands. `others` are the same link by other addresses of this machine."""

    event: ClassVar[str] = "link"
    link: str
    others: tuple[str, ...]
    browser: bool  # whether a browser may open it (https, or this machine itself)


@dataclass(frozen=True)
class StateChanged(_Fact):
    """What is going on now."""

    event: ClassVar[str] = "state"
    state: StateName


@dataclass(frozen=True)
class PeerMet(_Fact):
    """Who is at the other end, proven; `contact` is the name it is pinned under, or ""."""

    event: ClassVar[str] = "peer"
    label: str
    fingerprint: str
    contact: str
    verified: bool  # check digits were compared with it before
    changed: str  # the contact whose name this is, with another key, or ""


@dataclass(frozen=True)
class DigitsShown(_Fact):
    """The twelve check digits to compare by voice."""

    event: ClassVar[str] = "digits"
    digits: str


@dataclass(frozen=True)
class Offer(_Fact):
    """Recipient: what is offered. `names` are the first few, safe to show."""

    event: ClassVar[str] = "offer"
    files: int
    folders: int
    size: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Warned(_Fact):
    """Something that was left out or done otherwise; not the end of the transfer."""

    event: ClassVar[str] = "warning"
    path: str
    message: str


@dataclass(frozen=True)
class Progress(_Fact):
    """Bytes that are on the recipient's disk for good, and read back from it."""

    event: ClassVar[str] = "progress"
    durable: int
    verified: int
    total: int
    rate: float  # bytes a second, over the last few seconds
    direct: int = 0  # TLS connections that carry it, and ...
    webrtc: int = 1  # ... WebRTC connections, which rest beside those
    bottleneck: Bottleneck = ""  # by what, mostly


@dataclass(frozen=True)
class Complete(_Fact):
    """The last event of a transfer that went well."""

    event: ClassVar[str] = "complete"
    ending: Ending
    receipt: Path
    message: str
    places: tuple[str, ...]  # recipient: what now lies in the output folder


@dataclass(frozen=True)
class Error(_Fact):
    """The last event of any other."""

    event: ClassVar[str] = "error"
    ending: Ending
    code: str
    message: str
    receipt: Path | None
    failed: tuple[tuple[str, str], ...]  # entries that did not arrive, and why


Event = (
    LinkMade | StateChanged | PeerMet | DigitsShown | Offer | Warned | Progress | Complete | Error
)


@dataclass(frozen=True)
class Question:
    """What a person has to decide, and what they should see before."""

    kind: Literal["admit", "digits", "accept"]
    peer: PeerMet
    digits: str
    offer: Offer | None = None
