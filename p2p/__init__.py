"""Handover's peer: send and receive files between two machines, sealed, verified and receipted.

`send`, `receive` and `resume` give a `Transfer`: iterate over its events, answer its questions,
await its result (`p2p.api`). The command line uses nothing else.
"""

from .api import (
    AnnexEntry,
    BadLine,
    LogCheck,
    Tls,
    Transfer,
    Unfinished,
    annex,
    check_audit,
    compare_files,
    discard,
    find_unfinished,
    local_authority,
    needs_passphrase,
    receive,
    resume,
    send,
    serve,
    tidy,
    tls_from_files,
    tls_from_local_ca,
    unfinished,
    verify_web,
)
from .events import (
    Completed,
    DigitsShown,
    Event,
    Failed,
    LinkMade,
    Offered,
    PeerMet,
    Progressed,
    Question,
    QuestionDropped,
    StateChanged,
    Warned,
)
from .protocol.errors import Ending, Failure
from .protocol.receipt import BadReceipt, Receipt
from .protocol.receipt import verify as verify_receipt
from .state.home import Home
from .transfer.outcome import Outcome
from .version import VERSION

__version__ = VERSION
__all__ = [
    "AnnexEntry",
    "BadLine",
    "BadReceipt",
    "Completed",
    "DigitsShown",
    "Ending",
    "Event",
    "Failed",
    "Failure",
    "Home",
    "LinkMade",
    "LogCheck",
    "Offered",
    "Outcome",
    "PeerMet",
    "Progressed",
    "Question",
    "QuestionDropped",
    "Receipt",
    "StateChanged",
    "Tls",
    "Transfer",
    "Unfinished",
    "Warned",
    "annex",
    "check_audit",
    "compare_files",
    "discard",
    "find_unfinished",
    "local_authority",
    "needs_passphrase",
    "receive",
    "resume",
    "send",
    "serve",
    "tidy",
    "tls_from_files",
    "tls_from_local_ca",
    "unfinished",
    "verify_receipt",
    "verify_web",
]
