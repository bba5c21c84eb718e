"""Handover's peer: send and receive files between two machines, sealed, verified and receipted.

`send` and `receive` are coroutines; `Options.watch` gets every event of `p2p.events` as it happens,
`Options.ask` answers questions. `verify_receipt` checks a receipt file. The command line uses
nothing else.
"""

from .events import Event, Question
from .home import Home
from .protocol.errors import Ending, Failure
from .protocol.receipt import BadReceipt, Receipt
from .protocol.receipt import verify as verify_receipt
from .receiving import receive
from .running import Options, Outcome
from .sending import resume, send

__all__ = [
    "BadReceipt",
    "Ending",
    "Event",
    "Failure",
    "Home",
    "Options",
    "Outcome",
    "Question",
    "Receipt",
    "receive",
    "resume",
    "send",
    "verify_receipt",
]
