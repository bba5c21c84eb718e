"""The session: two machines, one for each role, between a finished handshake and an ending.

In go control frames, headers of ranges, answers of the disk, decisions of people and the time; out
come control frames (`frames`), past-tense events (`events`), the next range to read (`plan`) and
the next moment to call `tick` (`deadline`). Nothing here does I/O, draws randomness or reads a
clock.

**The one invariant: after every call, send all `frames` and handle all `events` before the next.**

What may happen in which state stands in one table per role, at the end of its class. A machine that
raised is of no more use, except for `abort`.
"""

from .events import (
    Accepted,
    BottleneckReported,
    Confirmed,
    Countersigned,
    Delivered,
    DirectAnnounced,
    Ended,
    Event,
    LaneSignalled,
    ManifestArrived,
    Offered,
    Progressed,
    Receipted,
    Suspected,
    Withdrawn,
)
from .flow import (
    DIRECT,
    INITIAL_LIMIT,
    MAX_UNACKNOWLEDGED,
    MIN_RANGE,
    RELAYED,
    WEBRTC,
    WINDOW,
    CongestionWindow,
    Flight,
    Plan,
)
from .machine import AT_PEER, DONE_SECONDS, IDLE_SECONDS, LOST_SECONDS, SUSPECT_SECONDS
from .messages import (
    ACCEPT_BODY,
    BATCH,
    BOTTLENECKS,
    CLOSING_BODY,
    LABEL_ACCEPT,
    LABEL_CLOSING,
    LABEL_OFFER,
    MAX_CONTROL,
    MAX_LANE_NUMBER,
    MAX_LANES,
    MESSAGES,
    OFFER_BODY,
    Bottleneck,
    encode_body,
    plain,
)
from .recipient import ACK_SECONDS, RecipientSession, RecipientState
from .sender import STALL_SECONDS, SenderSession, SenderState
from .table import OutOfTurn

__all__ = [
    "ACCEPT_BODY",
    "ACK_SECONDS",
    "AT_PEER",
    "BATCH",
    "BOTTLENECKS",
    "CLOSING_BODY",
    "DIRECT",
    "DONE_SECONDS",
    "IDLE_SECONDS",
    "INITIAL_LIMIT",
    "LABEL_ACCEPT",
    "LABEL_CLOSING",
    "LABEL_OFFER",
    "LOST_SECONDS",
    "MAX_CONTROL",
    "MAX_LANES",
    "MAX_LANE_NUMBER",
    "MAX_UNACKNOWLEDGED",
    "MESSAGES",
    "MIN_RANGE",
    "OFFER_BODY",
    "RELAYED",
    "STALL_SECONDS",
    "SUSPECT_SECONDS",
    "WEBRTC",
    "WINDOW",
    "Accepted",
    "Bottleneck",
    "BottleneckReported",
    "Confirmed",
    "CongestionWindow",
    "Countersigned",
    "Delivered",
    "DirectAnnounced",
    "Ended",
    "Event",
    "Flight",
    "LaneSignalled",
    "ManifestArrived",
    "Offered",
    "OutOfTurn",
    "Plan",
    "Progressed",
    "Receipted",
    "RecipientSession",
    "RecipientState",
    "SenderSession",
    "SenderState",
    "Suspected",
    "Withdrawn",
    "encode_body",
    "plain",
]
