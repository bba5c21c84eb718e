"""How a transfer ended: told to the audit log first, and then as the last event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..events import Completed, Event, Failed, Warned
from ..protocol import receipt as receipts
from ..protocol.codec import encode_base64url, sha256
from ..protocol.errors import FAILURES, Ending, HandoverError, Next
from ..protocol.manifest import Manifest, Results, Skipped
from ..protocol.paths import shown
from ..protocol.sentences import Language, os_detail, text
from ..protocol.session import Ended
from ..state.audit import AuditLog
from ..storage.strict import read_strictly
from ..tasks import finish, in_thread
from .trail import Trail

logger = logging.getLogger("handover.transfer")


@dataclass(frozen=True)
class Outcome:
    """How it ended. `code` is a key of FAILURES, or "" when it is complete."""

    ending: Ending
    code: str
    detail: str = ""
    receipt: Path | None = None

    def sentence_in(self, language: Language) -> str:
        """What a person reads."""
        if not self.code:
            return text("ending", "complete", language)
        return text("failure", self.code, language, detail=self.detail)

    @property
    def message(self) -> str:
        """The same in English."""
        return self.sentence_in("en")


@dataclass
class Summary:
    """What the audit log and the last event say of a transfer, as far as it got."""

    transfer_id: bytes = b""
    peer: bytes = b""
    manifest: Manifest | None = None
    manifest_sha256: bytes = b""
    results: Results | None = None
    receipt: Path | None = None
    places: tuple[str, ...] = field(default=())  # recipient: what lies in the output folder, ...
    folder: Path | None = None  # ... and which that is

    @property
    def skipped(self) -> Skipped:
        """What was left out on purpose, by kind."""
        return self.manifest.skipped if self.manifest else {}

    def parties(self) -> dict[str, Any]:
        """Members of every audit entry of the transfer."""
        found: dict[str, Any] = {}
        if self.transfer_id:
            found["transfer_id"] = encode_base64url(self.transfer_id)
        if self.peer:
            found["peer"] = receipts.thumbprint(self.peer)
        if self.manifest is not None and self.manifest.purpose:
            found["purpose"] = self.manifest.purpose
        return found

    def members(self) -> dict[str, Any]:
        """Members of the last one: no name, no path, no label. In a thread."""
        found = self.parties()
        if self.manifest is not None:
            found["entries"] = len(self.manifest.entries)
            found["bytes"] = sum(entry.size for entry in self.manifest.entries)
            found["manifest_sha256"] = encode_base64url(self.manifest_sha256)
        if self.receipt is not None:
            with suppress(OSError):  # it is not there, or is none of ours any more
                receipt = read_strictly(self.receipt, receipts.MAX_FILE)
                found["receipt_sha256"] = sha256(receipt).hex()
        return found

    def failed(self) -> tuple[tuple[str, int], ...]:
        """(shown path, status) of what did not arrive."""
        if self.results is None or self.manifest is None:
            return ()
        entries = self.manifest.entries
        return tuple((shown(entries[i].path, 256), status) for i, status in self.results.failures())

    def outcome(self, ended: Ended) -> Outcome:
        """How it ended, when both sides agree."""
        if ended.ending == Ending.INCOMPLETE:
            detail = str(len(self.failed()))
            return Outcome(ended.ending, "incomplete", detail, self.receipt)
        return Outcome(ended.ending, ended.code, "", self.receipt)


class Summarized(Protocol):
    """A transfer, as far as its end is concerned."""

    @property
    def summary(self) -> Summary:
        """What is known of it."""

    def conclude(self, code: str, *, noted: bool) -> None:
        """It has ended with this code: keep what can be taken up again, forget the rest. Nothing is
        forgotten that is not `noted` in the audit log. In a thread. Raises `OSError`."""


async def conclude(
    work: Coroutine[Any, Any, Outcome],
    transfer: Summarized,
    role: str,
    audit: AuditLog,
    emit: Callable[[Event], None],
    trail: Trail | None = None,
) -> Outcome:
    """Do the work, turn any failure into an outcome, and tell it: the audit log first.

    Raises nothing that FAILURES names, and `CancelledError` when it was cancelled.
    """
    cancelled: asyncio.CancelledError | None = None
    if trail is not None:
        trail.begin(lambda: transfer.summary.parties())
    try:
        outcome = await work
    except HandoverError as error:
        outcome = Outcome(error.ending, error.code, error.detail, transfer.summary.receipt)
    except asyncio.CancelledError as error:
        cancelled = error
        outcome = Outcome(Ending.ABORTED, "cancelled", "", transfer.summary.receipt)
    except Exception as error:
        logger.debug("internal error", exc_info=True)
        name = type(error).__name__
        outcome = Outcome(Ending.FAILED, "internal", name, transfer.summary.receipt)
    summary = transfer.summary
    if trail is not None:
        trail.close()

    async def settle() -> str | None:
        before = await trail.settle() if trail is not None else None
        always = {"role": role} | ({"run": trail.run} if trail is not None else {})
        return await in_thread(_conclude, transfer, always, outcome, summary, audit) or before

    concluding = asyncio.create_task(settle())
    try:
        await finish(concluding)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and cancelled is None:
            task.uncancel()  # it had ended before
    unnoted = concluding.result()
    if unnoted is not None:
        emit(Warned("audit_unwritable", detail=unnoted))
    if outcome.ending == Ending.COMPLETE and outcome.receipt is not None:
        places = summary.places, summary.folder, summary.skipped
        emit(Completed(outcome.ending, outcome.code, outcome.receipt, *places))
    else:
        failed = summary.failed()
        left = failed, summary.skipped
        emit(Failed(outcome.ending, outcome.code, outcome.detail, outcome.receipt, *left))
    if cancelled is not None:
        raise cancelled
    return outcome


def _conclude(
    transfer: Summarized,
    always: Mapping[str, str],
    outcome: Outcome,
    summary: Summary,
    audit: AuditLog,
) -> str | None:
    """Note how it ended, and put it away; why it could not be noted. In a thread."""
    members = {**always, "ending": outcome.ending.value, "code": outcome.code}
    unnoted = None
    try:
        audit.append("transfer", members | summary.members())
    except (OSError, HandoverError) as error:
        unnoted = os_detail(error) if isinstance(error, OSError) else error.detail
    try:
        transfer.conclude(outcome.code, noted=unnoted is None)
    except OSError:  # what lies there is found, and erased, another time
        logger.debug("what is left was not put away", exc_info=True)
    return unnoted


def may_go_on(code: str) -> bool:
    """Whether a transfer that ended so can be taken up again."""
    return bool(code) and FAILURES[code].next >= Next.RESUME
