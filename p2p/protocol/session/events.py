"""What happened in a session, as facts in the past tense."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Ending
from ..signal import DirectEndpoint, Signal
from .messages import Bottleneck


@dataclass(frozen=True)
class Confirmed:
    """The peer said that the check digits are the same."""


@dataclass(frozen=True)
class Offered:
    """Recipient: the signed offer is there; its manifest is being fetched."""

    entries: int
    size: int


@dataclass(frozen=True)
class ManifestArrived:
    """Recipient: the manifest's bytes are whole and what the offer says; decode and decide."""

    data: bytes


@dataclass(frozen=True)
class Accepted:
    """Sender: the recipient's signed accept is there; it holds the tape up to `offset` already."""

    offset: int


@dataclass(frozen=True)
class Progressed:
    """True bytes on the recipient's disk for good (`durable`), and read back from it."""

    durable: int
    verified: int
    total: int


@dataclass(frozen=True)
class Withdrawn:
    """Recipient: the sender gave up these entries."""

    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Delivered:
    """Recipient: closing and digests are there and every byte is durable and read back."""

    digests: bytes


@dataclass(frozen=True)
class Receipted:
    """Sender: the recipient's signed receipt; check it with `countersign`."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True)
class Countersigned:
    """Recipient: the sender's signature of the receipt."""

    signature: bytes


@dataclass(frozen=True)
class DirectAnnounced:
    """The peer says where it listens for direct lanes."""

    endpoint: DirectEndpoint


@dataclass(frozen=True)
class LaneSignalled:
    """The peer says how a further WebRTC connection, the lane `number`, is to be reached."""

    number: int
    signal: Signal


@dataclass(frozen=True)
class BottleneckReported:
    """What the peer says holds it up."""

    by: Bottleneck


@dataclass(frozen=True)
class Suspected:
    """Nothing was heard for a while (True), or the peer is back (False)."""

    silent: bool


@dataclass(frozen=True)
class Ended:
    """The session is over as agreed by both. `code` is a key of FAILURES or ""."""

    ending: Ending
    code: str = ""


Event = (
    Confirmed
    | Offered
    | ManifestArrived
    | Accepted
    | Progressed
    | Withdrawn
    | Delivered
    | Receipted
    | Countersigned
    | DirectAnnounced
    | LaneSignalled
    | BottleneckReported
    | Suspected
    | Ended
)
