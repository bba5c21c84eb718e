"""What a caller can watch: frozen events in the past tense, in order, as `--json` prints them.

An event carries a code and what fills it in, never a sentence: `message` looks that up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from .protocol.errors import Ending
from .protocol.labels import shown_label
from .protocol.manifest import STATUSES, Skipped
from .protocol.policy import Policy, Relay, Require
from .protocol.sentences import Language, text

PathKind = Literal["direct", "tls", "https", "relayed"]  # what carries a connection
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
STATES: tuple[StateName, ...] = get_args(StateName)

# What a transfer waits for: this side's disk or limit, the other's, the network, the other side for
# whatever reason, or nothing for long.
Bottleneck = Literal["disk", "limit", "other_disk", "other_limit", "network", "other_side", ""]
BOTTLENECKS: tuple[Bottleneck, ...] = get_args(Bottleneck)


@dataclass(frozen=True)
class _Event:
    event: ClassVar[str]

    def as_json(self) -> dict[str, Any]:
        """The members of one `--json` line."""
        return {
            "event": self.event,
            **{one.name: _plain(getattr(self, one.name)) for one in fields(self)},
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Ending):
        return value.value
    return value


@dataclass(frozen=True)
class LinkMade(_Event):
    """The link stands. `others` are the same link by other addresses of this machine. What is sent
    is counted as in `Listed`; None where it is not listed yet."""

    event: ClassVar[str] = "link"
    link: str
    others: tuple[str, ...]
    browser: bool  # whether a browser may open it (https, or this machine itself)
    files: int | None = None
    folders: int | None = None
    size: int | None = None  # bytes


@dataclass(frozen=True)
class PolicyTold(_Event):
    """What the signaling server's operator asks of transfers; None for what it does not. `operator`
    is what it calls itself, safe to show between quotation marks, or ""."""

    event: ClassVar[str] = "policy"
    operator: str
    max_expires: int | None  # seconds that a link may live
    require: Require | None
    relay: Relay | None

    @classmethod
    def of(cls, policy: Policy) -> PolicyTold:
        """What a server said."""
        operator = shown_label(policy.operator)
        return cls(operator, policy.max_expires, policy.require, policy.relay)


@dataclass(frozen=True)
class Listed(_Event):
    """Sender: all that is sent is listed, where it was not yet when the link stood."""

    event: ClassVar[str] = "listed"
    files: int
    folders: int
    size: int  # bytes


@dataclass(frozen=True)
class StateChanged(_Event):
    """What is going on now."""

    event: ClassVar[str] = "state"
    state: StateName


@dataclass(frozen=True)
class PeerMet(_Event):
    """Who is at the other end, proven; `contact` is the name it is pinned under, or "". `label` is
    what it calls itself, safe to show between quotation marks."""

    event: ClassVar[str] = "peer"
    label: str
    fingerprint: str
    contact: str
    verified: bool  # check digits were compared with it before
    changed: str  # the contact whose name this is or looks like, with another key, or ""
    since: str = ""  # when the contact was first met, RFC 3339, or ""


@dataclass(frozen=True)
class DigitsShown(_Event):
    """The twelve check digits to compare by voice."""

    event: ClassVar[str] = "digits"
    digits: str


@dataclass(frozen=True)
class Offered(_Event):
    """Recipient: what is offered. `names` are the first few, safe to show. `hidden` counts names
    that begin with a dot, each with all that is in it, and `hidden_names` are the first few paths
    of these. `skipped` is what the sender left out, by kind. `purpose` is what the sender says it
    is for, a name of `PURPOSES` or "", and `reason` why it is sent, safe to show, or ""."""

    event: ClassVar[str] = "offer"
    files: int
    folders: int
    size: int
    names: tuple[str, ...]
    hidden: int = 0
    hidden_names: tuple[str, ...] = ()
    skipped: Skipped = field(default_factory=dict)
    purpose: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Warned(_Event):
    """Something that was left out or done otherwise; not the end of the transfer.

    `code` is a key of the catalogue under `warning`, or one of FAILURES; `path` and `detail` are
    safe to show, or "".
    """

    event: ClassVar[str] = "warning"
    code: str
    path: str = ""
    detail: str = ""

    @property
    def message(self) -> str:
        """The sentence, in English."""
        return self.message_in("en")

    def message_in(self, language: Language) -> str:
        """The sentence."""
        return text("warning", self.code, language, detail=self.detail)

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "message": self.message}


@dataclass(frozen=True)
class Progressed(_Event):
    """Bytes that are on the recipient's disk for good, and read back from it."""

    event: ClassVar[str] = "progress"
    durable: int
    verified: int
    total: int
    rate: float  # bytes a second, over the last few seconds
    # What carries it now: WebRTC, TLS over TCP, HTTPS to a page, or WebRTC by a relay.
    path: PathKind = "direct"
    direct: int = 0  # connections by TLS or HTTPS that carry it, and ...
    webrtc: int = 1  # ... WebRTC connections, which rest beside those
    bottleneck: Bottleneck = ""  # what mostly holds it up


@dataclass(frozen=True)
class Question(_Event):
    """A person has to decide, and this is what they should see before.

    `admit` (sender): whether the recipient may have the files. `digits`: whether the check digits
    are the same on both sides. `accept` (recipient): whether to receive what `offer` says.
    """

    event: ClassVar[str] = "question"
    kind: Literal["admit", "digits", "accept"]
    peer: PeerMet
    digits: str
    offer: Offered | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "event": self.event,
            "kind": self.kind,
            "peer": self.peer.as_json(),
            "digits": self.digits,
            "offer": self.offer and self.offer.as_json(),
        }


@dataclass(frozen=True)
class QuestionDropped(_Event):
    """The last question needs no answer any more: whoever it was about is gone."""

    event: ClassVar[str] = "question_dropped"


@dataclass(frozen=True)
class Completed(_Event):
    """The last event of a transfer that went well. `code` is "" when both signed and said so."""

    event: ClassVar[str] = "complete"
    ending: Ending
    code: str
    receipt: Path
    places: tuple[str, ...]  # recipient: what now lies in the output folder, ...
    folder: Path | None = None  # ... and which that is
    skipped: Skipped = field(default_factory=dict)  # what the sender left out, by kind

    @property
    def message(self) -> str:
        """The sentence, in English."""
        return self.message_in("en")

    def message_in(self, language: Language) -> str:
        """The sentence."""
        return (
            text("failure", self.code, language)
            if self.code
            else text("ending", "complete", language)
        )

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "message": self.message}


@dataclass(frozen=True)
class Failed(_Event):
    """The last event of any other: how it ended, why, and which entries did not arrive."""

    event: ClassVar[str] = "error"
    ending: Ending
    code: str
    detail: str
    receipt: Path | None
    failed: tuple[tuple[str, int], ...]  # (path, status) of entries that did not arrive
    skipped: Skipped = field(default_factory=dict)  # what the sender left out, by kind

    @property
    def message(self) -> str:
        """The sentence, in English."""
        return self.message_in("en")

    def message_in(self, language: Language) -> str:
        """The sentence."""
        return text("failure", self.code, language, detail=self.detail)

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """(path, why) of what did not arrive, in English."""
        return self.reasons_in("en")

    def reasons_in(self, language: Language) -> tuple[tuple[str, str], ...]:
        """(path, why) of what did not arrive."""
        why = {status: text("status", STATUSES[status], language) for _, status in self.failed}
        return tuple((path, why[status]) for path, status in self.failed)

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "message": self.message, "failed": self.reasons}


Event = (
    LinkMade
    | PolicyTold
    | Listed
    | StateChanged
    | PeerMet
    | DigitsShown
    | Offered
    | Warned
    | Progressed
    | Question
    | QuestionDropped
    | Completed
    | Failed
)
EVENTS: tuple[type[Event], ...] = get_args(Event)
