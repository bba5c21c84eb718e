"""An invitation: a link, its room at the signaling server, the attempts of guests, and admission.

The *host* made the link and waits; the *guest* opened it and knocks. Which of them sends files is
the transfer's matter: it is handed a peer that is proven (`Connected`) and nothing else. An
invitation lives as long as its link and may see many attempts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .connect.addresses import reachable
from .connect.proxies import NONE, Proxies
from .connect.rendezvous import Rendezvous
from .connect.seats import Attempt, GuestSeat, HostSeat, is_nobody_there
from .connect.transports import Transports, receive_early
from .events import LinkMade, Listed, PeerMet, PolicyTold, Question, StateChanged, StateName, Warned
from .lanes import Lane, LaneLost
from .lanes.webrtc import LARGE_PACKET, SMALL_PACKET, Engine, load
from .protocol import session as sessions
from .protocol.errors import Failure, HandoverError
from .protocol.handshake import (
    DIRECT,
    HANDSHAKE_SECONDS,
    LANES,
    MANY_LANES,
    MAX_FAILED_ATTEMPTS,
    RESUME,
    ZSTD_FRAMES,
    ChannelBinding,
    Entropy,
    GuestHandshake,
    HostHandshake,
    Secured,
)
from .protocol.link import Link, PskSecrets, derive_keys, make_link, parse_link, psk_secrets
from .protocol.policy import Policy
from .protocol.sentences import Detail
from .state.contacts import Contact
from .state.identity import Identity
from .tasks import race, stop, uncancelled
from .transfer.driver import Admit, Connected
from .transfer.options import Options
from .transfer.outcome import Outcome, Summary
from .version import SOFTWARE

logger = logging.getLogger("handover.invitation")

CUT_SECONDS = 24 * 3600.0  # how long a recipient that was cut off may take to come back
LAST_WORD_SECONDS = 60.0  # after a restart, when only the recipient's last word is missing
MAX_ATTEMPTS = 2  # unproven guests at once
PROBE_SECONDS = 4.0  # for the answer to the handshake's large packet
LOOK_SECONDS = 1.0  # between two looks whether the link is good yet
RETAKE_SECONDS = 5.0  # before a room is asked for anew
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 6.0  # a server lets an address knock in vain ten times a minute
LISTED_SECONDS = 0.3  # that a link waits for the list of what is sent
DISARM_SECONDS = 1.0  # for a host to withdraw a link after the last guess
LEFT_SECONDS = 10.0  # in which an introduction that broke off is tried again; a server may be gone
PROBES = 3  # connections that may come to nothing before the handshake is through
LATE_SECONDS = 2.0  # well before a host takes large packets for lost
CAPABILITIES = [RESUME, LANES, MANY_LANES, ZSTD_FRAMES]  # of a recipient, ...


def capabilities(options: Options, *, relay_only: bool) -> list[str]:
    """... and direct lanes, where they are allowed."""
    allowed = options.direct_ports is not None and not relay_only
    return CAPABILITIES + ([DIRECT] if allowed else [])


def _keep_to_relays(policy: Policy, options: Options) -> None:
    """Raises `Failure` where these options do not allow what the server's operator asks."""
    if policy.relay == "required" and options.no_relay:
        raise Failure("not_allowed", Detail("policy_relay"))
    if policy.relay == "forbidden" and options.relay_only:
        raise Failure("not_allowed", Detail("policy_no_relay"))


def _keep_to(policy: Policy, transfer: HostedTransfer | JoinedTransfer, no_passphrase: str) -> None:
    """Do what the server's operator asks of who may receive. `no_passphrase`: why it cannot be done
    where one is required, a code of the catalogue under `detail`; "" where there is one. Raises
    `Failure`."""
    if policy.require == "passphrase" and no_passphrase:
        raise Failure("not_allowed", Detail(no_passphrase))
    if policy.require == "digits":
        transfer.compare_digits("policy_digits")
    if policy.require == "either" and no_passphrase:
        transfer.compare_digits("policy_either")


def new_entropy() -> Entropy:
    """The fresh random bytes of a handshake."""
    return Entropy(os.urandom(32), os.urandom(32), os.urandom(32), os.urandom(32))


# --- the host ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Greeted:
    """A guest that is proven and may come in, once it is its turn."""

    transports: Transports
    binding: ChannelBinding
    handshake: HostHandshake
    secured: Secured
    private: bytes  # of this side's session key, where it is the recipient


class HostedTransfer(Protocol):
    """What a host serves to the guest that it lets in; a sender's today."""

    @property
    def identity(self) -> Identity:
        """This side's."""

    @property
    def verify(self) -> bool:
        """Whether this side wants the check digits compared."""

    def compare_digits(self, why: str) -> None:
        """This side has to want that; `why` is a code of the catalogue under `detail`. Raises
        `Failure` where nobody is there to do so."""

    @property
    def peer(self) -> bytes:
        """The identity of the guest that was let in, or b"": from then on the link is theirs."""

    @property
    def cut(self) -> StateName | None:
        """Why that guest is not there any more, once something was under way."""

    @property
    def durable(self) -> int:
        """How far it is; it only ever grows."""

    @property
    def summary(self) -> Summary:
        """What is known of it."""

    def prepare(self) -> asyncio.Task[Any]:
        """Be ready for a guest; begun once. What fails ends the invitation."""

    def tell_link(self) -> Listed | None:
        """The link is told now, with what is listed; None where that is told later."""

    def stop(self) -> None:
        """Nobody waits for what is prepared any more."""

    async def outlives(self, error: HandoverError, *, can_resume: bool) -> bool:
        """Whether it goes on, or stays open for others, after a session that ended so."""

    def give_up(self) -> Outcome:
        """Nobody came, or came back, in time. Raises `Failure`."""


class HostedSession(Protocol):
    """A session with the guest that is being served."""

    @property
    def ended(self) -> sessions.Ended | None:
        """How it ended, once it has; what is left to do then changes nothing of that."""

    @property
    def can_resume(self) -> bool:
        """Whether the guest can take up again what was broken off."""

    def give_way(self) -> None:
        """The same guest is there by a new connection: this one is over."""

    async def run(self) -> sessions.Ended:
        """Until it ends. Raises `HandoverError`."""


class HostInvitation:
    """A link of this side's own, until one of its guests' transfers has ended.

    Until a guest is admitted, hardly anything one does can end it; and what a second guest does
    never touches a transfer that is under way.
    """

    def __init__(
        self,
        options: Options,
        transfer: HostedTransfer,
        open_session: Callable[[Connected, Admit], HostedSession],
        rendezvous: Rendezvous,
        secret: bytes,
        *,
        sends: bool,
        link: str,
        owner: bytes,
        expires: float,
        age: float = 0.0,
        to: Contact | None = None,
    ) -> None:
        """`open_session` makes the session with a guest that is proven. `sends`: whether the host
        is the sender. `link`: what was shown before a restart, or "". `owner`: the token that the
        room is taken again with. `expires`: seconds that the link is good for; `age`: that it has
        been, or of an accepted one, since it was cut. `to`: the only contact it is for. Raises
        `Failure`."""
        self._options, self._transfer, self._open_session = options, transfer, open_session
        self._identity, self._sends = transfer.identity, sends
        self._keys = derive_keys(secret)
        self._began, self._to = time.monotonic() - age, to
        self._policy = Policy()
        self._failed_attempts = 0
        self._packet = LARGE_PACKET
        self._claimed = asyncio.Lock()  # held by the guest that is being admitted or served
        self._serving = b""  # the identity of whoever holds `_claimed`, ...
        self._session: HostedSession | None = None  # ... and its session
        self._attempts: set[asyncio.Task[sessions.Ended | None]] = set()
        self._ended: Outcome | None = None
        self._link_made: LinkMade | None = self._make_links(rendezvous, secret, link)
        self._open_pipe = rendezvous.open_pipe
        own = rendezvous.port != 0  # a server of this machine is never behind a proxy
        proxies = Proxies(NONE if own else options.proxy)
        token = "" if own else options.token
        self._seat = HostSeat(rendezvous.reached, self._keys, expires, owner, proxies, token)

    def _make_links(self, rendezvous: Rendezvous, secret: bytes, link: str) -> LinkMade:
        """The links to show; the one that was shown before a restart stays the first."""
        passphrase = self._options.passphrase is not None
        made = [
            str(make_link(origin, secret, self._identity.public, passphrase=passphrase))
            for origin in [rendezvous.origin, *rendezvous.others]
        ]
        link = link or made[0]
        self.link: Link = parse_link(link)
        if self.link.passphrase != passphrase:
            raise Failure("needs_answer", Detail("passphrase"))
        return LinkMade(link, tuple(one for one in made if one != link), rendezvous.browser)

    async def run(self) -> Outcome:
        """Until the transfer has ended. Raises `HandoverError`."""
        try:
            await race(self._meet(), self._hold())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._ended is None or task is None:
                raise
            task.uncancel()  # it had come to its end, or did while it was only signing
        assert self._ended is not None
        return self._ended

    # -- the room

    async def _hold(self) -> None:
        """Keep the host's seat until cancelled."""
        # Whoever makes a link is told first what it stands for, where that is known soon.
        await asyncio.wait({self._transfer.prepare()}, timeout=LISTED_SECONDS)
        while True:
            try:
                await self._seat.run(self._on_server, self._on_policy)
            except Failure as failure:
                # A transfer under way does not need the server, a cut one needs it again.
                while (self._attempts and not self._transfer.cut) or self._ended:
                    await asyncio.sleep(0.2)
                if not self._transfer.cut or failure.code == "not_allowed":
                    raise failure from None
                self._on_server(False)
                await asyncio.sleep(RETAKE_SECONDS)

    def _on_server(self, there: bool) -> None:
        if self._link_made is not None:  # not before: a link that nobody waits behind is no link
            listed = self._transfer.tell_link()
            counts = listed.as_json() if listed else {}
            counts.pop("event", None)
            self._options.emit(replace(self._link_made, **counts))
            self._link_made = None
        if not self._claimed.locked():
            waiting = self._transfer.cut or "waiting"
            self._options.emit(StateChanged(waiting if there else "server_lost"))

    def _on_policy(self, policy: Policy) -> None:
        """The server says what its operator asks. Raises `Failure`."""
        options, transfer = self._options, self._transfer
        if policy != self._policy:
            self._policy = policy
            options.emit(PolicyTold.of(policy))
        _keep_to_relays(policy, options)
        let_in = bool(transfer.peer)
        if policy.max_expires is not None and not (let_in and self._seat.ready.is_set()):
            age = time.monotonic() - self._began
            self._seat.shorten(policy.max_expires - age)
        if not let_in:  # else it was agreed on before
            missing = "policy_passphrase" if options.passphrase is None else ""
            _keep_to(policy, transfer, missing)

    async def _meet(self) -> None:
        """Take attempts as they come, until one has become the transfer and ended."""
        options, transfer, attempts = self._options, self._transfer, self._attempts
        engine = options.choose_engine()
        preparing = transfer.prepare()
        stretching = asyncio.to_thread(psk_secrets, self._keys, options.passphrase)
        secrets = asyncio.create_task(stretching)
        loading = asyncio.create_task(asyncio.to_thread(load, engine))
        reached = -1
        taking = asyncio.create_task(self._seat.attempts.get())
        try:
            while True:
                every: list[asyncio.Task[Any]] = [preparing, secrets, loading]
                needed = [task for task in every if not task.done()]
                waiting: set[asyncio.Task[Any]] = {taking, *attempts, *needed}
                # Now and then: the server's operator may let it live less long.
                left = None if attempts else min(self._seat.left, LOOK_SECONDS)
                done, _ = await asyncio.wait(
                    waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                for task in needed:
                    if task in done:
                        task.result()  # what cannot be sent ends it before anyone comes
                for one in [a for a in attempts if a in done]:
                    attempts.discard(one)
                    self._conclude(one.result())
                    if self._ended:
                        return
                    if not self._claimed.locked():
                        options.emit(StateChanged(transfer.cut or "waiting"))
                    # The link is this guest's alone, and stays good while it gets further.
                    further = transfer.durable > reached and transfer.summary.receipt is None
                    if transfer.cut and further:
                        reached = transfer.durable
                        self._seat.extend(CUT_SECONDS)
                if not attempts and not self._seat.left:
                    self._ended = transfer.give_up()
                    return
                disarmed = self._guesses_left <= 0
                if disarmed and not self._claimed.locked():
                    raise Failure("disarmed")
                if taking in done:
                    attempt = taking.result()
                    taking = asyncio.create_task(self._seat.attempts.get())
                    if disarmed or len(attempts) >= MAX_ATTEMPTS:
                        await attempt.leave()
                    else:
                        work = self._attempt(attempt, loading, secrets)
                        attempts.add(asyncio.create_task(work))
        finally:
            transfer.stop()
            pending: list[asyncio.Task[Any]] = [taking, preparing, secrets, loading, *attempts]
            try:
                await stop(*pending)
            finally:
                for one in attempts:  # one that was only signing may have come to its end
                    if not one.cancelled() and one.exception() is None:
                        self._conclude(one.result())
                with suppress(asyncio.CancelledError):
                    await self._seat.close()

    def _conclude(self, ended: sessions.Ended | None) -> None:
        if ended is not None:
            self._ended = self._transfer.summary.outcome(ended)

    # -- one guest

    async def _attempt(
        self,
        attempt: Attempt,
        loading: asyncio.Task[Engine],
        secrets: asyncio.Task[PskSecrets],
    ) -> sessions.Ended | None:
        """One guest, from its knock to its end; None when the link stays open for others."""

        def opened() -> None:
            if not self._claimed.locked():
                self._options.emit(StateChanged("opened"))

        # The host writes the first description, whoever sends the files.
        transports = Transports(
            await loading,
            self._options.direct_ports,
            offerer=True,
            packet=self._packet,
            relay_only=self._options.relay_only,
            no_relay=self._options.no_relay,
            proxies=Proxies(self._options.proxy),
            open_pipe=self._open_pipe,
        )
        transports.on_knock = opened
        ended = None
        try:
            greeted = await self._greet(transports, attempt, await secrets)
            if greeted is None:
                return None
            if self._session is not None and self._serving == greeted.secured.peer.identity:
                self._session.give_way()  # it came back before its old connection was known dead
            async with self._claimed:
                if self._is_anothers(greeted.secured.peer.identity):  # by now
                    await transports.control.send(greeted.handshake.refuse_4("claimed"))
                    return None
                self._serving = greeted.secured.peer.identity
                await transports.control.send(greeted.handshake.message_4())
                ended = await self._serve(greeted)
                return ended
        except LaneLost:
            self._warn("connection_lost_early")
            return None
        finally:
            await uncancelled(transports.close(heard=ended is not None and not ended.code))

    async def _greet(
        self, transports: Transports, attempt: Attempt, secrets: PskSecrets
    ) -> _Greeted | None:
        """Connect and shake hands; None when it came to nothing. Raises `Failure` when the link is
        disarmed."""
        options, packet = self._options, self._packet
        binding = None
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                binding, message_1 = await transports.connect_host(
                    attempt,
                    self._keys,
                    passphrase=options.passphrase is not None,
                    host_sends=self._sends,
                )
                entropy, path = new_entropy(), transports.path
                # What a relay adds makes a full packet too long for its path.
                fill = packet if path == "direct" and packet > SMALL_PACKET else 0
                handshake = HostHandshake(
                    binding,
                    secrets=secrets,
                    identity=self._identity.key,
                    label=self._identity.label,
                    software=SOFTWARE,
                    verify=self._transfer.verify,
                    entropy=entropy,
                    capabilities=()
                    if self._sends
                    else capabilities(options, relay_only=transports.relay_only),
                    fill=fill,
                )
                control = transports.control
                await control.send(handshake.receive_1(message_1))
                early = self._answered if fill else receive_early
                message_3 = await race(early(control), transports.hear_no_data())
                secured = handshake.receive_3(message_3)
                refusal = self._refusal(secured.peer.identity)
                if refusal and self._failed_attempts >= MAX_FAILED_ATTEMPTS:
                    raise Failure("guest_unproven")  # no word on whether a guess was right
                if not refusal:
                    return _Greeted(transports, binding, handshake, secured, entropy.session)
                await control.send(handshake.refuse_4(refusal))
        except HandoverError as error:
            self._count(error)
        except (LaneLost, TimeoutError):
            if transports.knocked and self._packet == packet:
                found = binding is not None
                code = "connection_lost_early" if found else "no_connection"
                self._warn(code, "" if found else Detail(transports.obstacle))
        except Exception as error:  # a stranger must not end it, whatever it found
            logger.debug("an attempt failed", exc_info=True)
            self._warn("internal", type(error).__name__)
        finally:
            await attempt.leave()
        return None

    def _count(self, error: HandoverError) -> None:
        """An attempt failed; it may have been a guess. Raises `Failure` when that was the last."""
        guess = error.code == "guest_unproven"
        self._failed_attempts += guess
        left = self._guesses_left
        if left <= 0 and not self._claimed.locked():
            raise Failure("disarmed") from None
        if self._failed_attempts <= MAX_FAILED_ATTEMPTS:
            if guess and not self._transfer.peer:
                self._warn("guesses_left", str(left))
            else:
                self._warn(error.code, error.detail)

    async def _answered(self, control: Lane) -> bytes:
        """The answer to message 2, which filled a packet. Where none comes, the path may carry only
        small ones: the next connection uses them, and the guest tries again by itself."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await receive_early(control)
        except TimeoutError:
            self._packet = SMALL_PACKET
            raise

    async def _serve(self, greeted: _Greeted) -> sessions.Ended | None:
        """The session with a proven guest. Raises what ends the whole invitation."""
        private = b"" if self._sends else greeted.private
        connected = Connected(
            carrier=greeted.transports,
            binding=greeted.binding,
            secured=greeted.secured,
            open=greeted.transports.open,
            addresses=reachable,
            session_private=private,
        )
        self._session = session = self._open_session(connected, self._admit)
        try:
            return await session.run()
        except Exception as error:  # whatever it is, it may be this guest's doing
            failure = error if isinstance(error, HandoverError) else None
            if failure is None:
                logger.debug("a session failed", exc_info=True)
                failure = Failure("internal", type(error).__name__)
            if not await self._transfer.outlives(failure, can_resume=session.can_resume):
                raise
            return None
        finally:
            self._conclude(session.ended)  # though it may be stopped before all is closed
            self._serving, self._session = b"", None

    # -- admission

    @property
    def _guesses_left(self) -> int:
        """Failed attempts until the link is disarmed. Once it is one guest's alone they gain
        nothing, and must not cost that one its way back."""
        failed = 0 if self._transfer.peer else self._failed_attempts
        return MAX_FAILED_ATTEMPTS - failed

    def _refusal(self, identity: bytes) -> str:
        """Why this guest is turned away, or ""."""
        if self._is_anothers(identity):
            return "claimed"
        if self._claimed.locked() and self._serving != identity:  # the same one may come back
            return "claimed"
        if self._to is not None and identity != self._to.identity:
            return "not_for_you"
        return ""

    def _is_anothers(self, identity: bytes) -> bool:
        """Whether somebody else was let in."""
        return self._transfer.peer not in (b"", identity)

    async def _admit(self, met: PeerMet, digits: str, compared: bool) -> None:
        """Let this guest in, or raise `Failure`: asked only where nothing else has decided it."""
        options = self._options
        # To have met before gives a peer a name, and no right to these files.
        back = self._transfer.peer != b"" and self._transfer.peer == self._serving
        expected = self._to is not None or back
        if options.auto or expected or compared:
            return
        if options.ask is None:
            raise Failure("needs_answer", Detail("admit"))
        if not await options.ask(Question("admit", met, digits)):
            raise Failure("declined")

    def _warn(self, code: str, detail: str = "") -> None:
        self._options.emit(Warned(code, detail=detail))


# --- the guest -----------------------------------------------------------------------------------


class JoinedTransfer(Protocol):
    """What a guest takes part in; a recipient's today."""

    @property
    def identity(self) -> Identity:
        """This side's."""

    @property
    def verify(self) -> bool:
        """Whether this side wants the check digits compared."""

    def compare_digits(self, why: str) -> None:
        """This side has to want that; `why` is a code of the catalogue under `detail`. Raises
        `Failure` where nobody is there to do so."""

    @property
    def underway(self) -> object | None:
        """What was agreed on with the host; None while nothing was."""

    @property
    def cut(self) -> StateName:
        """Why the host is not there any more, once something was under way."""

    def broke_off(
        self,
        failure: HandoverError | None,
        *,
        proven: bool,
        silence: float,
        away: float,
        idle: float,
    ) -> sessions.Ended | None:
        """A session came to no end, or to none at all: None when another may. Raises `failure` when
        none may. `silence`, `away` and `idle` count the seconds since the host was there, since it
        was not known to be gone, and since a session brought anything."""

    async def ready(self) -> None:
        """Wait until another session makes sense."""


class JoinedSession(Protocol):
    """A session with the host."""

    moved: bool  # whether it brought anything

    async def run(self) -> sessions.Ended:
        """Until it ends. Raises `HandoverError`."""


class GuestInvitation:
    """A link that somebody else made: one connection to its host after the other, until a session
    has come to an end that is one."""

    def __init__(
        self,
        options: Options,
        transfer: JoinedTransfer,
        open_session: Callable[[Connected], JoinedSession],
        link: Link,
        *,
        sends: bool,
    ) -> None:
        """`open_session` makes the session with the host once it is proven. `sends`: whether the
        guest is the sender."""
        self._options, self._transfer, self._open_session = options, transfer, open_session
        self.link, self._sends = link, sends
        self._keys, self._proxies = derive_keys(link.secret), Proxies(options.proxy)
        self._loaded: tuple[PskSecrets, Engine] | None = None
        self._policy = Policy()
        self._proven = False  # the host was, and so the passphrase is right
        self._left = False  # the last attempt was over before a connection was open

    async def prepare(self) -> tuple[PskSecrets, Engine]:
        """Stretch the passphrase and load the engine; once. Raises `Failure` (engine_missing)."""
        if self._loaded is None:
            passphrase = self._options.passphrase if self.link.passphrase else None
            engine = self._options.choose_engine()
            self._loaded = await asyncio.gather(
                asyncio.to_thread(psk_secrets, self._keys, passphrase),
                asyncio.to_thread(load, engine),
            )
        return self._loaded

    async def run(self) -> sessions.Ended:
        """Wait for the end of the last session. Raises `HandoverError`."""
        transfer, backoff = self._transfer, FIRST_BACKOFF
        heard = there = moved = time.monotonic()
        while True:
            session: JoinedSession | None = None
            failure: HandoverError | None = None
            try:
                async with self.connected() as connected:
                    session = self._open_session(connected)
                    ended = await session.run()
                if ended.code != "unconfirmed":
                    return ended
            except HandoverError as error:
                failure = error
            now = time.monotonic()
            if session is not None:
                heard = now
                if session.moved:
                    backoff, moved = FIRST_BACKOFF, now
            if failure is None or not is_nobody_there(failure):
                there = now
            waited = {"silence": now - heard, "away": now - there, "idle": now - moved}
            try:
                last = transfer.broke_off(failure, proven=session is not None, **waited)
            except Failure as given_up:
                raise await self._diagnosed(given_up) from None
            if last is not None:
                return last
            self._options.emit(StateChanged(transfer.cut))
            await asyncio.sleep(backoff)
            await transfer.ready()
            backoff = min(2 * backoff, LAST_BACKOFF)

    async def _diagnosed(self, failure: Failure) -> Failure:
        """What a failure means to who has a link and nothing else."""
        if failure.code == "server_unreachable":
            return Failure(failure.code, Detail("of_link", why=failure.detail))
        if failure.code == "passphrase_wrong" and not await self._is_open():
            return Failure("not_found", Detail("link_disabled"))
        return failure

    async def _is_open(self) -> bool:
        """Whether the link still leads to somebody, after a guess."""
        await asyncio.sleep(DISARM_SECONDS)
        try:
            async with GuestSeat(self.link.origin, self._keys, self._proxies):
                return True
        except Failure as failure:
            return not is_nobody_there(failure)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connected]:
        """A host that is proven, until the context ends. Raises `Failure`."""
        secrets, engine = await self.prepare()
        again = self._transfer.underway is not None
        began = time.monotonic()
        for left in reversed(range(1 if again else PROBES)):
            # The host writes the first description, whoever sends the files.
            transports = Transports(
                engine,
                self._options.direct_ports,
                offerer=False,
                relay_only=self._options.relay_only,
                no_relay=self._options.no_relay,
                proxies=self._proxies,
            )
            try:
                try:
                    binding, secured, private = await self._shake_hands(transports, secrets, again)
                except Failure as failure:
                    # The path may carry only small packets, which the host now uses.
                    if failure.code == "connection_lost_early" and left:
                        continue
                    if self._left and left and time.monotonic() - began < LEFT_SECONDS:
                        await asyncio.sleep(FIRST_BACKOFF)
                        continue
                    raise
                self._proven = True
                yield Connected(transports, binding, secured, transports.open, reachable, private)
                return
            finally:
                await uncancelled(transports.close())

    def _note_policy(self, policy: Policy) -> None:
        """The server says what its operator asks. Raises `Failure`."""
        if policy != self._policy:
            self._policy = policy
            self._options.emit(PolicyTold.of(policy))
        _keep_to_relays(policy, self._options)
        if self._transfer.underway is None:
            missing = "" if self.link.passphrase else "policy_passphrase_link"
            _keep_to(policy, self._transfer, missing)

    async def _shake_hands(
        self, transports: Transports, secrets: PskSecrets, again: bool
    ) -> tuple[ChannelBinding, Secured, bytes]:
        link, options = self.link, self._options
        began = time.monotonic()
        passed_3 = opened = self._left = False
        attempt: Attempt | None = None
        try:
            async with (
                asyncio.timeout(HANDSHAKE_SECONDS) as timeout,
                GuestSeat(link.origin, self._keys, self._proxies) as attempt,
            ):
                attempt.outcome = "no_connection"
                self._note_policy(attempt.policy)
                try:
                    if not again:
                        options.emit(StateChanged("opened"))
                    binding = await transports.connect_guest(
                        attempt, self._keys, passphrase=link.passphrase, host_sends=not self._sends
                    )
                    opened, began = True, time.monotonic()
                    attempt.outcome = "connection_lost_early"
                    entropy = new_entropy()
                    handshake = GuestHandshake(
                        binding,
                        secrets=secrets,
                        secret=link.secret,
                        commitment=link.commitment,
                        identity=self._transfer.identity.key,
                        label=self._transfer.identity.label,
                        software=SOFTWARE,
                        verify=self._transfer.verify,
                        entropy=entropy,
                        capabilities=()
                        if self._sends
                        else capabilities(options, relay_only=transports.relay_only),
                    )
                    control = transports.control
                    await control.send(handshake.message_1())
                    message_2 = await race(receive_early(control), transports.hear_no_data())
                    await control.send(handshake.receive_2(message_2))
                    # A late one may have crossed the host's decision to connect anew.
                    passed_3 = time.monotonic() - began < LATE_SECONDS
                    if passed_3 and link.passphrase and not self._proven:
                        attempt.outcome = "passphrase_wrong"
                    message_4 = await race(receive_early(control), transports.hear_no_data())
                    secured = handshake.receive_4(message_4)
                    attempt.outcome = transports.path
                    return binding, secured, b"" if self._sends else entropy.session
                except asyncio.CancelledError:
                    if not timeout.expired():
                        attempt.outcome = "cancelled"
                    raise
        except (LaneLost, TimeoutError):
            if passed_3 and link.passphrase and not self._proven:
                raise Failure("passphrase_wrong") from None
            if opened:
                raise Failure("connection_lost_early") from None
            self._left = attempt is not None and attempt.over
            raise Failure("no_connection", Detail(transports.obstacle)) from None
