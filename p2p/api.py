"""Handover as a library: send, receive, and what this machine remembers.

    transfer = await send("study")
    print(transfer.link)
    async for event in transfer:
        if isinstance(event, Question):
            await transfer.answer(True)
    outcome = await transfer.result()

`send`, `receive` and `resume` begin at once, in the running event loop, and give a `Transfer`; to
await it is to wait until it is under way. The data folder, the engine and the server are found by
themselves. The command line uses this module and nothing below it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import pkgutil
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from signaling.ice import TTL_SECONDS as TURN_TTL
from signaling.ice import BadIce, IceConfiguration, SecretFile
from signaling.messages import MAX_TTL as MAX_EXPIRES

from .connect.certificates import Tls, local_authority, tls_from_files, tls_from_local_ca
from .connect.proxies import Proxies
from .connect.rendezvous import READY_DAYS, open_rendezvous, open_server, open_stun
from .connect.seats import OWNER
from .events import (
    Completed,
    DigitsShown,
    Event,
    Failed,
    LinkMade,
    Listed,
    Offered,
    PeerMet,
    PolicyTold,
    Progressed,
    Question,
    QuestionDropped,
    StateChanged,
    Warned,
)
from .invitation import CUT_SECONDS, LAST_WORD_SECONDS, GuestInvitation, HostInvitation
from .lanes.webrtc import ENGINES, EngineName, available, choose_engine
from .protocol import checkpoint
from .protocol.audit import BadLine, Verified
from .protocol.audit import verify as verify_log
from .protocol.checkpoint import BadCheckpoint
from .protocol.codec import encode_base64url, encode_json
from .protocol.errors import EXIT_CODES, EXIT_USAGE, Ending, Failure, HandoverError
from .protocol.labels import shown_label
from .protocol.link import SECRET_BYTES, find_link, parse_link, read_origin
from .protocol.manifest import EMERGENCY, MAX_REASON, PURPOSES, STATUSES
from .protocol.paths import shown
from .protocol.receipt import MAX_FILE, BadReceipt, Receipt, fingerprint, thumbprint
from .protocol.receipt import verify as verify_receipt
from .protocol.seal import TRANSFER_ID
from .protocol.sentences import CATALOGUE, LANGUAGES, Detail, Language, os_detail, text
from .state.audit import lines_of
from .state.folder import now_text, stamp_of, utc_text
from .state.home import Home
from .state.journal import Journal, Journals, SenderRecord
from .state.receipts import Annex, read_annex, read_opened
from .state.receipts import beside as annex_beside
from .storage.comparison import compare
from .storage.durable import replace_with
from .storage.listing import Listing, Warn, check_paths, walk
from .storage.parts import staging_folder
from .storage.ports import Stopped
from .storage.strict import open_strictly, read_strictly
from .tasks import in_thread
from .transfer.options import Ask, Options
from .transfer.outcome import Outcome, conclude
from .transfer.rates import MIN_LIMIT
from .transfer.receive import ReceiveDriver
from .transfer.recipient import RecipientTransfer
from .transfer.send import SendDriver
from .transfer.sender import SenderTransfer
from .transfer.trail import Trail
from .version import SOFTWARE, VERSION

if TYPE_CHECKING:
    from signaling.access import Access, BadAccess, new_token
    from signaling.policy import Policy, Relay, Require
    from signaling.store import Store

    from .connect import timestamps
    from .connect.doctor import Check, Doctor, Opening
    from .connect.syslog import PORT as SYSLOG_PORT
    from .connect.syslog import Server as SyslogServer
    from .connect.syslog import SyslogFailed
    from .connect.timestamps import BadStamp, Stamp, StampFailed
    from .connect.verify_web import Finding
    from .forwarding import Forwarding
    from .protocol import disclosure
    from .stamping import StampCheck, Stamped
    from .state import fhir, retention, witness
    from .state.dicom_audit import AuditMessage
    from .state.evidence import LogCheck
    from .state.history import Account, Filter, Transfers
    from .state.history import Entry as LogEntry
else:  # what no transfer needs is loaded when it is first asked for (PEP 562)
    _LATER = {
        "Access": "signaling.access:Access",
        "Account": "p2p.state.history:Account",
        "BadAccess": "signaling.access:BadAccess",
        "BadStamp": "p2p.connect.timestamps:BadStamp",
        "Check": "p2p.connect.doctor:Check",
        "Doctor": "p2p.connect.doctor:Doctor",
        "Filter": "p2p.state.history:Filter",
        "LogCheck": "p2p.state.evidence:LogCheck",
        "LogEntry": "p2p.state.history:Entry",
        "Opening": "p2p.connect.doctor:Opening",
        "Policy": "signaling.policy:Policy",
        "Relay": "signaling.policy:Relay",
        "Require": "signaling.policy:Require",
        "SYSLOG_PORT": "p2p.connect.syslog:PORT",
        "Stamp": "p2p.connect.timestamps:Stamp",
        "StampCheck": "p2p.stamping:StampCheck",
        "StampFailed": "p2p.connect.timestamps:StampFailed",
        "Stamped": "p2p.stamping:Stamped",
        "Store": "signaling.store:Store",
        "SyslogFailed": "p2p.connect.syslog:SyslogFailed",
        "SyslogServer": "p2p.connect.syslog:Server",
        "Transfers": "p2p.state.history:Transfers",
        "disclosure": "p2p.protocol.disclosure",
        "fhir": "p2p.state.fhir",
        "new_token": "signaling.access:new_token",
        "retention": "p2p.state.retention",
        "timestamps": "p2p.connect.timestamps",
        "witness": "p2p.state.witness",
    }

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return pkgutil.resolve_name(_LATER[name])


__all__ = [
    "CATALOGUE",
    "DEFAULT_EXPIRES",
    "ENGINES",
    "EXIT_CODES",
    "EXIT_USAGE",
    "LANGUAGES",
    "MAX_EXPIRES",
    "MAX_REASON",
    "MIN_LIMIT",
    "PURPOSES",
    "READY_DAYS",
    "SOFTWARE",
    "STATUSES",
    "SYSLOG_PORT",
    "TURN_TTL",
    "VERSION",
    "Access",
    "Account",
    "AnnexEntry",
    "Annexes",
    "BadAccess",
    "BadCheckpoint",
    "BadIce",
    "BadLine",
    "BadReceipt",
    "BadStamp",
    "Check",
    "Completed",
    "Detail",
    "DigitsShown",
    "Doctor",
    "Ending",
    "EngineName",
    "Event",
    "Failed",
    "Failure",
    "Filter",
    "HandoverError",
    "Home",
    "IceConfiguration",
    "Language",
    "LinkMade",
    "Listed",
    "LogCheck",
    "LogEntry",
    "Offered",
    "Opening",
    "Outcome",
    "Party",
    "PeerMet",
    "Policy",
    "PolicyTold",
    "Progressed",
    "Question",
    "QuestionDropped",
    "Receipt",
    "Relay",
    "Require",
    "Stamp",
    "StampCheck",
    "StampFailed",
    "Stamped",
    "StateChanged",
    "Store",
    "SyslogFailed",
    "SyslogServer",
    "Tls",
    "Transfer",
    "Transfers",
    "Unfinished",
    "Warned",
    "accounts",
    "annex",
    "annex_beside",
    "annexes",
    "check_audit",
    "check_server",
    "check_stamp",
    "check_stamps",
    "checkpoint",
    "compare_files",
    "dicom_messages",
    "discard",
    "disclose",
    "disclosure",
    "doctor",
    "encode_base64url",
    "encode_json",
    "fhir",
    "find_link",
    "find_unfinished",
    "fingerprint",
    "forward_audit",
    "has_annex",
    "ice_configuration",
    "local_authority",
    "log_entries",
    "needs_passphrase",
    "new_token",
    "open_annex",
    "os_detail",
    "parties",
    "read_document",
    "read_receipt",
    "receive",
    "redis_store",
    "replace_with",
    "resume",
    "retention",
    "seal_annexes",
    "send",
    "serve",
    "server_access",
    "shown",
    "shown_label",
    "signed_evidence",
    "stamp_audit",
    "stamp_authority",
    "stamp_of",
    "text",
    "thumbprint",
    "tidy",
    "timestamps",
    "tls_from_files",
    "tls_from_local_ca",
    "unfinished",
    "utc_text",
    "verify_receipt",
    "verify_web",
    "witness",
    "write_new",
]

MAX_TRUSTED = 1024 * 1024  # bytes of certificates
DEFAULT_EXPIRES = 24 * 3600.0

FileLike = str | os.PathLike[str] | None
HomeLike = Home | str | os.PathLike[str] | None  # None: the default data folder
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


# --- the handle ----------------------------------------------------------------------------------


class Transfer:
    """A transfer under way: its events, answers to its questions, and how it ended.

    `async for event in transfer` gives the events of `p2p.events` in order, from the first on, and
    stops after the last (`Completed` or `Failed`); progress that nobody has looked at yet is
    replaced by newer progress. Only one task at a time may iterate.
    """

    def __init__(self, *, has_link: bool) -> None:
        self._has_link = has_link
        self._unread: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._linked: asyncio.Future[LinkMade] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[bool] | None = None
        self._watched = self._alone = False
        self._over = False  # the last event is there
        self._ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[Outcome]  # once `_start` was called

    @property
    def link(self) -> str:
        """The link to pass on. Raises `ValueError` for a transfer that has none (yet)."""
        return self._made.link

    @property
    def links(self) -> tuple[str, ...]:
        """The same link by all addresses of this machine, the likeliest to work first."""
        return self._made.link, *self._made.others

    @property
    def _made(self) -> LinkMade:
        if not self._linked.done() or self._linked.cancelled():
            raise ValueError("this transfer has no link")
        return self._linked.result()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Event]:
        self._watched = True
        while True:
            while not self._unread:
                if self._over:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            yield self._unread.popleft()

    async def answer(self, yes: bool) -> None:
        """Answer the question that was asked last. Raises `ValueError` when there is none."""
        if self._answer is None or self._answer.done():
            raise ValueError("nothing was asked")
        self._answer.set_result(bool(yes))
        await asyncio.sleep(0)

    async def result(self) -> Outcome:
        """Wait until it has ended, and how. Never raises what FAILURES names.

        Where nobody iterates, nobody sees a question: one then ends the transfer as `needs_answer`.
        """
        if not self._watched:
            self._alone = True
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(_unanswered())
        return await asyncio.shield(self._ended)

    def cancel(self) -> None:
        """Stop it on both sides, as Ctrl-C does; what had arrived is erased."""
        # Not before its first step, which is due: it must be able to say how it ended.
        asyncio.get_running_loop().call_soon(self._task.cancel)

    def __await__(self) -> Generator[Any, None, Self]:
        """Wait until it is under way; a sender's, until its link stands. Raises `Failure` when it
        ended before."""
        return self._under_way().__await__()

    async def _under_way(self) -> Self:
        if self._has_link:
            waiting: list[asyncio.Future[Any]] = [self._ended, self._linked]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not self._linked.done() or self._linked.cancelled():
                outcome = await self.result()
                raise Failure(outcome.code, outcome.detail)
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what still runs, and wait until it has."""
        if not self._ended.done():
            self.cancel()
            await asyncio.wait([self._ended])

    # -- for those who make one

    def _start(self, work: Coroutine[Any, Any, Outcome]) -> None:
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._conclude)

    def _conclude(self, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():
            outcome = Outcome(Ending.ABORTED, "cancelled")
        elif error := task.exception():
            outcome = Outcome(Ending.FAILED, "internal", type(error).__name__)
        else:
            outcome = task.result()
        if not self._over:  # it did not come to say so itself
            self._emit(Failed(outcome.ending, outcome.code, outcome.detail, None, ()))
        self._linked.cancel()
        self._ended.set_result(outcome)

    def _emit(self, event: Event) -> None:
        if isinstance(event, LinkMade) and not self._linked.done():
            self._linked.set_result(event)
        last = self._unread[-1] if self._unread else None
        if isinstance(event, Progressed) and isinstance(last, Progressed):
            self._unread.pop()
        self._unread.append(event)
        self._over = isinstance(event, Completed | Failed)
        self._arrived.set()

    async def _ask(self, question: Question) -> bool:
        if self._alone and not self._watched:
            raise _unanswered()
        self._answer = asyncio.get_running_loop().create_future()
        self._emit(question)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self._emit(QuestionDropped())
            raise


def _asking(transfer: Transfer, trail: Trail) -> Ask:
    """Asks, and notes what is answered."""

    async def ask(question: Question) -> bool:
        yes = await transfer._ask(question)
        trail.answered(question, yes)
        return yes

    return ask


def _unanswered() -> Failure:
    return Failure("needs_answer", Detail("nobody_asked"))


# --- sending -------------------------------------------------------------------------------------


def send(
    paths: Paths,
    *,
    server: str | None = None,
    listen: tuple[str, int] | None = None,
    address: str | None = None,
    expires: float = DEFAULT_EXPIRES,
    to: str | None = None,
    follow: bool = False,
    strict_names: bool = False,
    tls: Tls | None = None,
    passphrase: str | None = None,
    verify: bool = False,
    auto: bool = False,
    limit: float | None = None,
    compress: bool = True,
    direct: bool = True,
    direct_ports: tuple[int, int] | None = None,
    relay_only: bool = False,
    no_relay: bool = False,
    proxy: str = "",
    label: str = "",
    purpose: str = "",
    reason: str = "",
    token: str = "",
    engine: EngineName | None = None,
    home: HomeLike = None,
    interactive: bool = True,
) -> Transfer:
    """Send files and folders to whoever opens the link; awaited, it has its link.

    `server` is an http(s) origin; without one a process beside this one serves on `listen` (host,
    port; None: every address, and port 4263 or any other if that is taken), by https with `tls`,
    and the link names `address` or the likeliest of this machine's. `expires`: seconds the link is
    good for. `to`: the only contact it is for. `follow`: symbolic links inside the folder.
    `strict_names`: refuse a name that another system could not keep, instead of changing it.
    `limit`: bytes a second. `direct_ports`: TCP ports to listen on, first and last. `relay_only`:
    the peer does not learn this side's addresses. `no_relay`: no relay is used. `proxy`: to
    servers, by TCP, as a URL; "none" for none, else as the environment says. `label`: what the
    other side sees, in the place of this machine's. `purpose`: what it is for, a name of
    `PURPOSES` or ""; both sides sign it, and `reason`, at most 256 bytes, is shown to the other
    side with it.
    `token`: what `server` lets people create links by, where it asks for one.
    `interactive`: whether anybody can answer; else a question that is needed ends it at once.

    Raises `Failure` when the data folder cannot be used, and `ValueError` for a purpose that is
    none, for an emergency without a reason, for `relay_only` with `no_relay`, or without a
    `server`, for one of its own offers no relay.
    """
    code = _purpose_code(purpose, reason)
    _check_relay(relay_only, no_relay)
    if relay_only and not server:
        raise ValueError("relay_only needs a server that offers a relay")
    transfer, own = Transfer(has_link=True), _home(home)
    trail = Trail(own.audit, "sender", transfer._emit)
    options = Options(
        home=own,
        emit=trail.emit,
        trail=trail,
        ask=_asking(transfer, trail) if interactive else None,
        engine=engine,
        passphrase=passphrase,
        auto=auto,
        limit=limit,
        compress=compress,
        direct_ports=(direct_ports or (0, 0)) if direct else None,
        relay_only=relay_only,
        no_relay=no_relay,
        proxy=proxy,
        label=label,
        purpose=code,
        reason=reason,
        token=token,
    )
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    named = [os.fspath(path) for path in several]
    record = SenderRecord(
        transfer_id=os.urandom(TRANSFER_ID),
        began=now_text(),
        owner=os.urandom(OWNER),
        expires=(datetime.now(UTC) + timedelta(seconds=expires)).isoformat(),
        server=server or "",
        host=listen[0] if listen else "",
        port=listen[1] if listen else 0,
        address=address or "",
        tls=tls.kind if tls else "none",
        certificate=os.fsencode(os.path.abspath(tls.certificate)) if tls else b"",
        key=os.fsencode(os.path.abspath(tls.key)) if tls else b"",
        to=to or "",
        verify=verify,
        auto=auto,
        options=options.begun_with(),
    )

    def check() -> None:
        for path in check_paths(named).values():
            if not os.access(path, os.R_OK):
                raise Failure("not_readable", shown(path))

    def list_sources(warn: Warn, stopped: Stopped) -> Listing:
        return walk(named, follow=follow, strict_names=strict_names, warn=warn, stopped=stopped)

    sender = SenderTransfer(options, record, list_sources)
    transfer._start(_host(sender, listen, expires, tls, check))
    return transfer


def _check_relay(relay_only: bool, no_relay: bool) -> None:
    """Raises `ValueError` where no way to the other side is left."""
    if relay_only and no_relay:
        raise ValueError("relay_only and no_relay leave no way to the other side")


def _purpose_code(purpose: str, reason: str) -> str:
    """HL7's code of a purpose. Raises `ValueError`."""
    try:
        length = len(reason.encode())
    except UnicodeEncodeError:
        raise ValueError("the reason is no text") from None
    if length > MAX_REASON:
        raise ValueError("the reason is too long")
    code = next((code for code, name in PURPOSES.items() if name == purpose), "")
    if purpose and not code:
        raise ValueError("no purpose of that name")
    if code == EMERGENCY and not reason.strip():
        raise ValueError("an emergency needs a reason")
    return code


def _reserved_ports(home: Home) -> set[int]:
    """Ports of links that may be taken up again. In a thread."""
    records = [journal.record for journal in Journals(home)]
    return {record.port for record in records if isinstance(record, SenderRecord)}


async def _host(
    transfer: SenderTransfer,
    listen: tuple[str, int] | None,
    expires: float,
    tls: Tls | None,
    check: Callable[[], None],
    age: float = 0.0,
) -> Outcome:
    """Wait behind a link until its transfer has ended."""
    options, home = transfer.options, transfer.options.home

    async def work() -> Outcome:
        left = expires
        if transfer.recalled and await in_thread(transfer.confirmed_before):
            left = LAST_WORD_SECONDS
        if left <= 0:
            raise Failure("expired")
        await in_thread(check)
        await in_thread(home.check)
        record = transfer.record
        to = await in_thread(home.contacts.get, record.to) if record.to else None
        compare = transfer.verify and not record.confirmed
        if options.ask is None and (compare or not (options.auto or to or transfer.peer)):
            raise Failure("needs_answer", Detail("admit"))
        transfer.identify(await in_thread(home.identity.load, options.label))
        secret = parse_link(record.link).secret if record.link else os.urandom(SECRET_BYTES)
        outcome: Outcome | None = None
        try:
            async with AsyncExitStack() as stack:
                rendezvous = await open_rendezvous(
                    stack,
                    record.server or None,
                    listen,
                    record.address or None,
                    tls,
                    record.owner,
                    reserved=await in_thread(_reserved_ports, home),
                )
                invitation = HostInvitation(
                    options,
                    transfer,
                    lambda connected, admit: SendDriver(transfer, connected, admit),
                    rendezvous,
                    secret,
                    sends=True,
                    link=record.link,
                    owner=record.owner,
                    expires=left,
                    age=age,
                    to=to,
                )
                if not transfer.recalled:
                    transfer.linked(str(invitation.link), rendezvous.port)
                outcome = await invitation.run()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if outcome is None or task is None:
                raise
            task.uncancel()  # it had ended: only its server was still being closed
        assert outcome is not None
        return outcome

    return await conclude(work(), transfer, "sender", home.audit, options.emit, options.trail)


# --- receiving -----------------------------------------------------------------------------------


def receive(
    link: str,
    output: str | os.PathLike[str] | None = None,
    *,
    passphrase: str | None = None,
    verify: bool = False,
    auto: bool = False,
    allow_hidden: bool = False,
    limit: float | None = None,
    compress: bool = True,
    direct: bool = True,
    direct_ports: tuple[int, int] | None = None,
    relay_only: bool = False,
    no_relay: bool = False,
    proxy: str = "",
    label: str = "",
    engine: EngineName | None = None,
    home: HomeLike = None,
    interactive: bool = True,
) -> Transfer:
    """Receive what a link offers into the folder `output`; None makes a new one in the working
    directory. With `auto`, an offer with hidden names is taken only with `allow_hidden`.

    What was begun under this link before, in this process or an earlier one, goes on, in the folder
    it was begun in. The other arguments are those of `send`. Raises `Failure` when the data folder
    cannot be used, and `ValueError` for `relay_only` with `no_relay`.
    """
    _check_relay(relay_only, no_relay)
    transfer, own = Transfer(has_link=False), _home(home)
    trail = Trail(own.audit, "recipient", transfer._emit)
    options = Options(
        home=own,
        emit=trail.emit,
        trail=trail,
        ask=_asking(transfer, trail) if interactive else None,
        engine=engine,
        passphrase=passphrase,
        auto=auto,
        allow_hidden=allow_hidden,
        limit=limit,
        compress=compress,
        direct_ports=(direct_ports or (0, 0)) if direct else None,
        relay_only=relay_only,
        no_relay=no_relay,
        proxy=proxy,
        label=label,
    )
    where = None if output is None else Path(output)
    transfer._start(_join(RecipientTransfer(options, where, verify=verify), link))
    return transfer


def needs_passphrase(link: str) -> bool:
    """Whether a link says that a passphrase is needed; False for what is no link."""
    try:
        return parse_link(link).passphrase
    except Failure:
        return False


async def _join(transfer: RecipientTransfer, text: str) -> Outcome:
    """Receive behind a link until the transfer has ended."""
    options, home = transfer.options, transfer.options.home

    async def work() -> Outcome:
        link = parse_link(text)
        if link.passphrase and options.passphrase is None:
            raise Failure("needs_answer", Detail("passphrase"))
        transfer.identify(await in_thread(home.identity.load, options.label))
        await transfer.recall(str(link), link.secret)
        alone = options.ask is None and (transfer.verify or not options.auto)
        if alone and transfer.underway is None:
            raise Failure("needs_answer", Detail("accept"))
        await in_thread(transfer.check)
        invitation = GuestInvitation(
            options,
            transfer,
            lambda connected: ReceiveDriver(transfer, connected),
            link,
            sends=False,
        )
        await invitation.prepare()  # what fails here would fail at every try
        return await transfer.run(invitation.run)

    return await conclude(work(), transfer, "recipient", home.audit, options.emit, options.trail)


# --- taking up again -----------------------------------------------------------------------------


def resume(
    wanted: str,
    *,
    passphrase: str | None = None,
    verify: bool = False,
    auto: bool = False,
    limit: float | None = None,
    compress: bool = True,
    direct: bool = True,
    direct_ports: tuple[int, int] | None = None,
    relay_only: bool = False,
    no_relay: bool = False,
    proxy: str = "",
    label: str = "",
    token: str = "",
    engine: EngineName | None = None,
    home: HomeLike = None,
    interactive: bool = True,
) -> Transfer:
    """Go on with an unfinished transfer, in either role; `wanted` is how its id begins. Options
    that are left as usual are as the transfer was begun.

    Awaited, a sender's has its link again. Raises `Failure`, also for an id that is not known, and
    `ValueError` for `relay_only` with `no_relay`.
    """
    _check_relay(relay_only, no_relay)
    own = _home(home)
    journal = Journals(own).find(wanted)
    if not journal.hold():
        raise Failure("transfer_running", journal.short_id)
    try:
        if journal.damaged:
            raise Failure("journal_damaged", journal.short_id)
        record = journal.record
        tls = _tls_again(record, own) if isinstance(record, SenderRecord) else None
    except BaseException:
        journal.release()
        raise
    sends = isinstance(record, SenderRecord)
    transfer = Transfer(has_link=sends)
    trail = Trail(own.audit, record.role, transfer._emit)
    options = Options(
        home=own,
        emit=trail.emit,
        trail=trail,
        ask=_asking(transfer, trail) if interactive else None,
        engine=engine,
        passphrase=passphrase,
        auto=auto or (isinstance(record, SenderRecord) and record.auto),
        limit=limit,
        compress=compress,
        direct_ports=(direct_ports or (0, 0)) if direct else None,
        relay_only=relay_only,
        no_relay=no_relay,
        proxy=proxy,
        label=label,
        token=token,
    ).taken_up(record.options)
    journal.record = record = replace(record, options=options.begun_with())
    if not isinstance(record, SenderRecord):
        journal.release()
        transfer._start(_join(RecipientTransfer(options, None, verify=verify), record.link))
        return transfer
    now = journal.written + journal.age
    left = datetime.fromisoformat(record.expires).timestamp() - now
    age = now - datetime.fromisoformat(record.began).timestamp()
    if record.accepted:  # the link is that one's alone, and stays good for it
        left, age = journal.left, journal.age
    sender = SenderTransfer(options, record, _no_sources, journal=journal, verify=verify)
    listen = (record.host, record.port)
    transfer._start(_host(sender, listen, min(left, CUT_SECONDS), tls, lambda: None, age))
    return transfer


def _tls_again(record: SenderRecord, home: Home) -> Tls | None:
    """The certificate that a transfer began with. Raises `Failure`."""
    if record.tls == "local-ca":
        return tls_from_local_ca(home.local_ca, [record.address] if record.address else [])
    if record.tls == "files":
        certificate, key = os.fsdecode(record.certificate), os.fsdecode(record.key)
        return tls_from_files(Path(certificate), Path(key))
    return None


def _no_sources(warn: Warn, stopped: Stopped) -> Listing:
    raise AssertionError("what is sent was listed before")


@dataclass(frozen=True)
class Unfinished:
    """A transfer that can be taken up again, or erased. Sizes are in bytes."""

    id: str  # hex
    short_id: str
    role: str  # "sender", "recipient", or "" where that cannot be read any more
    state: Literal["running", "unfinished", "damaged"]
    peer: str  # its label, safe to show
    passphrase: bool  # whether it needs one
    options: tuple[str, ...]  # arguments of `resume` that it was begun with
    began: str
    durable: int
    total: int


def unfinished(home: HomeLike = None) -> list[Unfinished]:
    """All unfinished transfers of this machine, the oldest first. Raises `Failure`."""
    return [_unfinished(one) for one in Journals(_home(home))]


def find_unfinished(wanted: str, home: HomeLike = None) -> Unfinished:
    """The one whose id begins so. Raises `Failure` (transfer_unknown)."""
    return _unfinished(Journals(_home(home)).find(wanted))


def _unfinished(journal: Journal) -> Unfinished:
    record = journal.record
    return Unfinished(
        id=record.transfer_id.hex(),
        short_id=journal.short_id,
        role=record.role,
        state="running" if journal.running else "damaged" if journal.damaged else "unfinished",
        peer=shown_label(record.label) if record.accepted or journal.running else "",
        passphrase=record.link.endswith(".p"),
        options=tuple(record.options),
        began=record.began,
        durable=record.durable,
        total=record.total,
    )


def discard(wanted: str, home: HomeLike = None) -> str:
    """Erase what has arrived of an unfinished transfer, and forget it; "" or, where it cannot be
    told where it was arriving, the name of the folder to remove there. Raises `Failure`."""
    own = _home(home)
    journal = Journals(own).find(wanted)
    journal.erase(own)
    if journal.record.role:
        return ""
    return shown(staging_folder(Path(), journal.record.transfer_id).name)


def log_entries(wanted: Filter | None = None, home: HomeLike = None) -> Iterator[LogEntry]:
    """The entries of this machine's audit log, the oldest first, each once the chain is known to
    hold up to it. Raises `BadLine`, `Failure`."""
    from .state import history

    return history.entries(_home(home).audit, wanted)


def accounts(
    since: str = "", until: str = "", home: HomeLike = None, *, broken: bool = False
) -> Transfers:
    """The transfers whose last entry lies in this time (RFC 3339, UTC; "": open), in the order of
    those entries; of a log that is `broken` as far as it holds. Each time they are told, the log is
    read. Raises `BadLine`, `Failure`, also while they are told."""
    from .state import history

    return history.accounts(_home(home), since, until, broken=broken)


def dicom_messages(home: HomeLike = None) -> Iterator[tuple[LogEntry, list[AuditMessage]]]:
    """The entries of this machine's audit log, each with the DICOM audit messages it makes. Raises
    `BadLine`, `Failure`."""
    from .connect.syslog import own_name
    from .state import history
    from .state.dicom_audit import messages  # 0.02 s

    own = _home(home)
    return messages(history.entries(own.audit), own, own_name())


def forward_audit(
    server: SyslogServer,
    home: HomeLike = None,
    *,
    unconfirmed: bool = False,
    rewritten: Callable[[], None] = lambda: None,
) -> Forwarding:
    """Send a syslog server what it has not read yet of the audit log, as DICOM audit messages, and
    wait until it confirms that; or, `unconfirmed`, until it closes the connection. `rewritten` is
    called where it knew another log; then all is sent. Raises `SyslogFailed`, `BadLine`,
    `Failure`."""
    from .forwarding import forward  # 0.02 s

    try:
        return forward(_home(home), server, rewritten, unconfirmed=unconfirmed)
    except OSError as error:
        raise Failure("home_unwritable", os_detail(error)) from None


def stamp_authority(
    url: str, trusted: Path, ca: Path | None = None, proxy: str = ""
) -> timestamps.Authority:
    """A time stamp authority (RFC 3161). `trusted`: a file of the certificates that vouch for its
    stamps, PEM. `ca`: a further certificate to trust for https. `proxy`: as of `send`. Raises
    `Failure`."""
    from .connect import timestamps

    return timestamps.Authority(url, _trusted(trusted), ca, Proxies(proxy))


async def stamp_audit(authority: timestamps.Authority, home: HomeLike = None) -> Stamped:
    """Have an authority stamp this machine's audit log as it is now, and every receipt that has no
    time stamp. Raises `StampFailed`, `BadLine`, `Failure`."""
    from . import stamping

    try:
        return await stamping.stamp(_home(home), authority)
    except OSError as error:
        raise Failure("home_unwritable", os_detail(error)) from None


async def signed_evidence(
    since: str = "",
    until: str = "",
    home: HomeLike = None,
    *,
    certificate: tuple[Path, Path] | None = None,
    authority: timestamps.Authority | None = None,
) -> AsyncIterator[bytes]:
    """What became of the transfers whose last entry lies in this time, as signed evidence of
    electronic registered delivery (ETSI EN 319 522-3, JAdES), a line of JSON for each event. Signed
    with `certificate` and its key (PEM), else with this machine's identity; with an `authority`,
    each with a time stamp. Raises `BadLine`, `Failure`, `StampFailed`."""
    from . import stamping
    from .state import erds, history, jades  # 0.1 s

    own = _home(home)
    identity = own.identity.load()
    by_files = certificate and jades.signer_of_files(*certificate)
    signer = by_files or jades.signer_of_identity(identity.key)
    issuer, now = thumbprint(identity.public), int(time.time())
    records = (
        record
        for account in history.accounts(own, since, until, unreadable=True)
        if account.transfer
        for record in erds.evidence(account, issuer, SOFTWARE)
    )
    async for line in stamping.sign_evidence(records, signer, now, authority):
        yield line


def check_stamps(trusted: Path, home: HomeLike = None) -> StampCheck:
    """Check the time stamps of this machine's receipts and audit log. `trusted`: a file of the
    authority's certificates, PEM. Raises `Failure`."""
    from . import stamping

    try:
        return stamping.check(_home(home), _trusted(trusted))
    except OSError as error:
        raise Failure("not_readable", os_detail(error)) from None


def check_stamp(receipt_file: Path, trusted: Path) -> Stamp | None:
    """What the time stamp beside a receipt says; None where there is none. Raises `BadStamp`,
    `Failure`."""
    from . import stamping
    from .connect import timestamps

    path = stamp_of(receipt_file)
    if not os.path.lexists(path):
        return None
    answer = stamping.read_stamp(path, own=False)
    if not isinstance(answer, bytes):
        why = answer or Detail("no_stamp")
        raise Failure("not_readable", Detail("unusable", file=shown(str(path), 1024), why=why))
    return timestamps.check(
        answer, read_strictly(receipt_file, MAX_FILE, own=False), _trusted(trusted)
    )


def _trusted(file: Path) -> bytes:
    try:
        return read_strictly(file, MAX_TRUSTED, own=False)
    except OSError:
        raise Failure("not_readable", Detail("certificate_file", path=shown(str(file)))) from None


def tidy(home: HomeLike = None) -> None:
    """Erase what nobody will come back for. Raises `Failure`."""
    Journals(_home(home)).tidy()


# --- evidence ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Party:
    """A party of a receipt. Whose key it is, this machine knows or does not; the label is whatever
    the receipt says. Texts are safe to show."""

    role: Literal["sender", "recipient"]
    fingerprint: str
    known: Literal["own", "contact", "unknown"]
    contact: str  # whose key it is: the contact's name here
    compared: bool  # whether check digits were compared with that contact
    label: str
    posing_as: str  # the contact, with another key, that the label names
    signed: bool


def read_receipt(file: str | os.PathLike[str]) -> Receipt:
    """The receipt in a file. Raises `Failure`, and `BadReceipt` when it is not valid."""
    path = Path(file)
    try:
        return verify_receipt(read_strictly(path, MAX_FILE, own=False))
    except OSError as error:
        if error.errno == errno.EFBIG:  # larger than any receipt
            raise BadReceipt(Detail("no_receipt")) from None
        name, why = shown(str(path), 1024), os_detail(error)
        raise Failure("not_readable", Detail("unusable", file=name, why=why)) from None


def parties(receipt: Receipt, home: HomeLike = None) -> tuple[Party, Party]:
    """The sender and the recipient of a receipt, as far as this machine knows them. Raises
    `Failure`."""
    own = _home(home)
    identity = own.identity.existing()

    def party(role: Literal["sender", "recipient"], key: bytes, signed: bool) -> Party:
        label: str = receipt.payload[role]["label"]
        contact, posing_as = None, ""
        ours = identity is not None and identity.public == key
        if not ours:
            contact, posing_as = own.contacts.known(key, label)
        return Party(
            role=role,
            fingerprint=fingerprint(key),
            known="own" if ours else "contact" if contact else "unknown",
            contact=shown(contact.name) if contact else "",
            compared=contact is not None and contact.verified,
            label=shown(label),
            posing_as=shown(posing_as),
            signed=signed,
        )

    sender = party("sender", receipt.sender, receipt.confirmed)
    return sender, party("recipient", receipt.recipient, True)


def read_document(file: str | os.PathLike[str]) -> bytes:
    """A small document that somebody handed over. Raises `Failure`."""
    from .protocol import disclosure

    path = Path(file)
    try:
        return read_strictly(path, disclosure.MAX_FILE, own=False)
    except OSError as error:
        name, why = shown(str(path), 1024), os_detail(error)
        raise Failure("not_readable", Detail("unusable", file=name, why=why)) from None


def write_new(file: str | os.PathLike[str], document: bytes) -> None:
    """Write a document that is to be handed over, readable by this user alone, replacing none.
    Raises `Failure`."""
    try:
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(made, "wb") as stream:
            stream.write(document)
    except OSError as error:
        raise Failure("not_writable", os_detail(error)) from None


def has_annex(receipt: Receipt, home: HomeLike = None) -> bool:
    """Whether this machine has the annex of a receipt. Raises `Failure`."""
    return os.path.lexists(_home(home).receipts.annex_path(receipt.payload["transfer_id"]))


def open_annex(receipt: Receipt, home: HomeLike = None, *, annex_file: FileLike = None) -> bytes:
    """The annex of a receipt, from this file, else this machine's, as a file that anybody can read.
    Raises `Failure`, and `BadReceipt` for an annex that is not this receipt's."""
    _annex(receipt, home, annex_file)
    path = _home(home).receipts.annex_path(receipt.payload["transfer_id"])
    return read_opened(Path(annex_file) if annex_file is not None else path)


@dataclass(frozen=True)
class Annexes:
    """How many annexes this machine keeps sealed, and how many open; whether new ones are sealed, a
    state of `Sealing`; and what could not be read or changed, by the name of its file, and why."""

    sealed: int
    open: int
    state: str
    failed: tuple[tuple[str, str], ...] = ()


def annexes(home: HomeLike = None) -> Annexes:
    """How this machine keeps annexes. Asks the keyring, which may ask a person. Raises
    `Failure`."""
    own = _home(home)
    return _annexes(own, {}, own.receipts.sealing.state())


def _annexes(home: Home, failed: dict[str, str], state: str) -> Annexes:
    found = list(home.receipts.annexes())
    failed = failed | {path.name: one for path, one in found if isinstance(one, Detail)}
    sealed = sum(one is True for _, one in found)
    still_open = sum(one is False for _, one in found)
    return Annexes(sealed, still_open, state, tuple(failed.items()))


def seal_annexes(sealed: bool, home: HomeLike = None) -> Annexes:
    """Seal this machine's annexes, those there are and those to come, or open them. Where there is
    no keyring, none is sealed. Raises `Failure`."""
    own = _home(home)
    receipts, failed = own.receipts, dict[str, str]()
    key = receipts.sealing.begin() if sealed else b""
    if key or not sealed:
        for path, found in list(receipts.annexes()):
            if found is not sealed and not isinstance(found, Detail):
                try:
                    receipts.reseal(path, key)
                except Failure as failure:
                    failed[path.name] = failure.detail or str(failure)
    if not sealed:
        receipts.sealing.stop()
    state = receipts.sealing.state(ask=False) if key or not sealed else "locked"
    return _annexes(own, failed, state)


def _annex(receipt: Receipt, home: HomeLike, file: FileLike) -> Annex:
    """What belongs to a receipt: from this file, else this machine's. Raises `Failure`, and
    `BadReceipt` for an annex that is not this receipt's."""
    if file is None:
        found = _home(home).receipts.annex(receipt.payload["transfer_id"])
    else:
        found = read_annex(Path(file), own=False)
    found.require_of(receipt)
    return found


def disclose(
    receipt: Receipt, path: str, home: HomeLike = None, *, annex_file: FileLike = None
) -> bytes:
    """Proof for one entry of a receipt, which shows no other name, as a document of JSON. The names
    come from this annex, else from this machine's. Raises `Failure`, and `BadReceipt` for an annex
    that is not this receipt's."""
    from .protocol import disclosure

    transfer = receipt.payload["transfer_id"]
    manifest, results, placed = _annex(receipt, home, annex_file)
    names = {entry.path: index for index, entry in enumerate(manifest.entries)}
    names |= {name: index for index, name in placed.items() if name not in names}
    if path.rstrip("/") not in names:
        raise Failure("not_readable", Detail("no_such_entry", path=shown(path, 1024)))
    return disclosure.disclose(transfer, manifest, results, names[path.rstrip("/")])


def compare_files(
    receipt: Receipt,
    directory: str | os.PathLike[str],
    home: HomeLike = None,
    *,
    annex_file: FileLike = None,
) -> list[tuple[str, str]]:
    """(path, what is wrong) of every delivered file below `directory` that is not as it was.
    `directory` holds what was delivered, or is itself the one folder that was.

    The names come from this annex, else from this machine's. Raises `Failure`, and `BadReceipt` for
    an annex that is not this receipt's.
    """
    manifest, results, placed = _annex(receipt, home, annex_file)
    return list(compare(*_level(Path(directory), placed), manifest, results))


def _level(directory: Path, placed: dict[int, str]) -> tuple[Path, dict[int, str]]:
    """Where the paths of `placed` begin, for a person may well give the folder that was sent."""
    tops = {path.split("/")[0] for path in placed.values()}
    below = {index: path.partition("/")[2] for index, path in placed.items()}
    missed = len(tops) == 1 and not os.path.lexists(directory / next(iter(tops)))
    if missed and any(rest and os.path.lexists(directory / rest) for rest in below.values()):
        return directory, below
    return directory, placed


@dataclass(frozen=True)
class AnnexEntry:
    """An entry of a receipt, by the name that this machine knows it under."""

    path: str  # safe to show
    size: int
    sha256: str  # hex; "" of a folder or of what did not arrive
    status: str  # a key of the catalogue under `status`


def annex(
    receipt: Receipt, home: HomeLike = None, *, annex_file: FileLike = None
) -> tuple[list[AnnexEntry], str]:
    """The entries of a receipt, from this annex, else from this machine's; and why they were sent,
    in the sender's words, safe to show, or "". Raises `Failure`, and `BadReceipt` for an annex that
    is not this receipt's."""
    manifest, results, _ = _annex(receipt, home, annex_file)
    found = []
    for index, entry in enumerate(manifest.entries):
        status, digest = results[index]
        delivered = not status and entry.kind == "file"
        name, hexed = shown(entry.path, 1024), digest.hex() if delivered else ""
        found.append(AnnexEntry(name, entry.size, hexed, STATUSES[status]))
    return found, shown_label(manifest.reason, MAX_REASON)


def check_audit(home: HomeLike = None) -> LogCheck:
    """Check the chain of this machine's audit log, and hold it against every receipt here. It holds
    where there are no misfits. Raises `BadLine` where the chain does not hold, and `Failure`."""
    from .state.evidence import check_log

    return check_log(_home(home))


def check_audit_file(file: str | os.PathLike[str]) -> Verified:
    """Check the chain of a log that lies in a file, such as a browser's, and nothing else. Raises
    `BadLine` where it does not hold, and `Failure`."""
    path = Path(file)
    try:
        with open(open_strictly(path, own=False), "rb") as log:
            return verify_log(lines_of(log))
    except OSError as error:
        name, why = shown(str(path), 1024), os_detail(error)
        raise Failure("not_readable", Detail("unusable", file=name, why=why)) from None


# --- the server ----------------------------------------------------------------------------------


@asynccontextmanager
async def serve(
    listen: tuple[str, int] = ("", 8080),
    tls: Tls | None = None,
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
    ice: IceConfiguration | None = None,
    stun: tuple[str, int] | None = None,
    store: Store | None = None,
    access: Access | None = None,
    policy: Policy | None = None,
    *,
    metrics: tuple[str, int] | None = None,
    ready_days: int = READY_DAYS,
    drain: float = 0.0,
    home: HomeLike = None,
) -> AsyncIterator[int]:
    """The signaling server on its own, for as long as the context lasts; gives its port.

    Who asks, by which name and by which scheme is told by proxies in the networks
    `trusted_proxies`, and else by the connection alone. `ice`: the STUN and TURN servers that peers
    are told of. `stun`: where it answers STUN binding requests itself. `store`: what it shares with
    other nodes (`redis_store`), for one server. `access`: who may create links (`server_access`);
    without, anyone. `policy`: what is asked of transfers. `metrics`:
    where `/metrics`, `/healthz` and `/readyz` are answered; a node is not ready with a certificate
    that expires in less than `ready_days`. The certificate is read anew when its files change, and
    one of the local authority in `home` is renewed. When the context ends, nobody new is taken, and
    attempts under way have `drain` seconds to end. Raises `Failure` (cannot_listen) when it cannot
    listen.
    """
    local_ca = _home(home).local_ca if tls is not None and tls.kind == "local-ca" else None
    asked = metrics, ready_days, local_ca, drain
    async with (
        open_stun(stun),
        open_server(listen, tls, trusted_proxies, ice, store, access, policy, *asked) as server,
    ):
        yield server.port


def check_server(
    listen: tuple[str, int],
    tls: Tls | None,
    ice: IceConfiguration,
    store: Store | None,
    others: Sequence[tuple[str, int]] = (),
    *,
    proxied: bool = False,
    ready_days: int = READY_DAYS,
) -> AsyncIterator[Check]:
    """Whether a server would serve as it is configured, one check after the other. Takes what
    `serve` takes; `others` are further addresses that it is to listen on, `proxied` whether it
    trusts a proxy. A store is not to be used again."""
    from .connect import server_check

    return server_check.check_server(
        listen, tls, ice, store, others, proxied=proxied, ready_days=ready_days
    )


def server_access(
    tokens: Path | None = None,
    issuer: str = "",
    audience: str = "",
    claim: tuple[str, str] | None = None,
) -> Access | None:
    """Who may create links, for `serve`: holders of a token whose hash is in the file `tokens`
    (`new_token`), and of tokens of the OpenID provider `issuer` for `audience`, with this claim
    where it is given. None for anyone. Raises `BadAccess`."""
    from signaling.access import AnyOf, OpenIdProvider, TokenFile

    accesses: list[Access] = []
    if tokens is not None:
        accesses.append(TokenFile(tokens))
    if issuer:
        accesses.append(OpenIdProvider(issuer, audience, claim))
    return AnyOf(accesses) if accesses else None


def redis_store(url: str) -> Store:
    """What several nodes share, for `serve`: a Redis or Valkey server, by its URL (`redis://`,
    `rediss://` or `unix://`, with user, password and parameters as redis-py has them). Raises
    `ValueError` for what is none. It is connected to later, and waited for if it is not there."""
    from signaling.redis_store import RedisStore

    return RedisStore(url)


def ice_configuration(
    urls: Sequence[str],
    secret_file: Path | None = None,
    ttl: int = TURN_TTL,
    stun_port: int = 0,
) -> IceConfiguration:
    """STUN and TURN servers by their URLs (RFC 7064, RFC 7065), for `serve`.

    `secret_file` has the secrets that are shared with the TURN servers, one a line, the one in use
    first; credentials made with it are good for `ttl` seconds. `stun_port`: where the server itself
    answers STUN, at the name that a peer reached it by. Raises `BadIce`.
    """
    secret = SecretFile(secret_file) if secret_file is not None else None
    return IceConfiguration(tuple(urls), secret, ttl, stun_port)


def check_machine(home: HomeLike = None) -> list[Check]:
    """What a transfer needs of this machine: a data folder, room on the disk, an engine."""
    from .connect.doctor import Check

    checks: list[Check] = []
    try:
        own = _home(home)
        good = own.takes_files()
        free = shutil.disk_usage(own.path).free
        folder: dict[str, str | int] = {"path": shown(str(own.path), 256), "bytes": free}
        checks.append(
            Check("home", "works" if good else "fails", "home" if good else "home_full", folder)
        )
    except Failure as failure:
        checks.append(Check("home", "fails", "home_fails", {"why": failure}))
    with suppress(OSError):
        here = Path.cwd()
        free = shutil.disk_usage(here).free
        values: dict[str, str | int] = {"path": shown(str(here), 256), "bytes": free}
        writable = os.access(here, os.W_OK)
        checks.append(
            Check(
                "disk",
                "works" if writable else "note",
                "disk" if writable else "disk_fixed",
                values,
            )
        )
    engines = available()
    names = {"engines": ", ".join(engines)}
    checks.append(
        Check(
            "engine", "works" if engines else "fails", "engine" if engines else "no_engine", names
        )
    )
    return checks


def doctor(
    server: str | None = None,
    *,
    proxy: str = "",
    direct: bool = True,
    direct_ports: tuple[int, int] | None = None,
    engine: EngineName | None = None,
    relay_only: bool = False,
    no_relay: bool = False,
) -> Doctor:
    """Try the ways of connecting from here one by one; the arguments are those of `send`. Raises
    `Failure` for an address that is none, and where there is no engine."""
    from .connect.doctor import Doctor

    origin = read_origin(server) if server is not None else None
    chosen = choose_engine(engine)
    ports = (direct_ports or (0, 0)) if direct else None
    proxies = Proxies(proxy)
    return Doctor(origin, proxies, chosen, ports, relay_only=relay_only, no_relay=no_relay)


async def verify_web(url: str, ca: Path | None = None, proxy: str = "") -> list[Finding]:
    """What the server at `url` gives browsers, beside what this installation ships.

    `ca`: a further certificate to trust. `proxy`: as of `send`. Raises `Failure`.
    """
    from signaling import web_assets

    from .connect import verify_web as web  # its HTTP client is a third of what a start takes

    shipped = web_assets.shipped()
    if not shipped:
        raise Failure("no_web_client")
    return await web.compare(url, shipped, web_assets.client_headers, ca, Proxies(proxy))


def _home(home: HomeLike) -> Home:
    if isinstance(home, Home):
        return home
    return Home(Path(home) if home is not None else None)
