"""Handover's peer: send and receive files between two machines, sealed, verified and receipted.

`send`, `receive` and `resume` give a `Transfer`: iterate over its events, answer its questions,
await its result (`p2p.api`). The command line uses nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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
    "Listed",
    "LogCheck",
    "Offered",
    "Outcome",
    "Party",
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
    "parties",
    "read_receipt",
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

if TYPE_CHECKING:
    from .api import *
else:

    def __getattr__(name: str) -> object:
        """A public name, from the API, which is loaded when the first is asked for (PEP 562)."""
        if name not in (*__all__, "api", "events"):  # modules that come with it
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        loaded = import_module(".api", __name__)
        return getattr(loaded, name) if name in __all__ else globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
