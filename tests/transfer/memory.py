"""Transfers whose lanes and disks are in memory: real handshakes, sessions, drivers and journals.

    world = World(tmp_path, contents)
    sent, received = await world.run()

A `World` can cut its lanes (`cut`), and goes on with the next connection as real peers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from p2p.events import Event, PathKind, PeerMet, Warned
from p2p.invitation import CAPABILITIES, GuestInvitation, new_entropy
from p2p.lanes import LaneLost
from p2p.protocol.errors import Failure, HandoverError
from p2p.protocol.handshake import ChannelBinding, GuestHandshake, HostHandshake
from p2p.protocol.link import PskSecrets, host_commitment, make_link
from p2p.protocol.manifest import Entry
from p2p.protocol.seal import Message
from p2p.state.home import Home
from p2p.state.identity import Identity
from p2p.state.journal import SenderRecord
from p2p.storage.listing import Listing, Warn
from p2p.storage.memory import MemoryDestination, MemoryDisk, MemorySource
from p2p.storage.ports import Stopped
from p2p.tasks import stop
from p2p.transfer.driver import Connected
from p2p.transfer.options import Options
from p2p.transfer.outcome import Outcome, conclude
from p2p.transfer.receive import ReceiveDriver
from p2p.transfer.recipient import RecipientTransfer
from p2p.transfer.send import SendDriver
from p2p.transfer.sender import SenderTransfer
from p2p.version import SOFTWARE

SECRET = b"\x05" * 32
RESUMABLE = [one for one in CAPABILITIES if "lanes" not in one]  # no further connections
QUEUE = 32  # messages that a lane keeps before its sender waits

Role = Literal["sender", "recipient"]
T = TypeVar("T")
E = TypeVar("E", bound=Event)


class MemoryLane:
    """One end of a lane; `peer` is the other."""

    max_message_size = 65_536

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue(QUEUE)
        self.peer = self
        self.gone = asyncio.Event()
        # True: the message never arrives
        self.swallow: Callable[[Message], bool] = lambda message: False

    async def _unless_gone(self, work: Coroutine[Any, Any, T]) -> T:
        doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise LaneLost
            return doing.result()
        finally:
            doing.cancel()
            gone.cancel()

    async def send(self, message: Message) -> None:
        if len(message) > self.max_message_size:
            raise ValueError("message too long for the lane")
        if self.gone.is_set():
            raise LaneLost
        if not self.swallow(message):
            await self._unless_gone(self.peer.inbox.put(bytes(message)))

    async def recv(self) -> Message:
        if not self.inbox.empty():
            return self.inbox.get_nowait()
        return await self._unless_gone(self.inbox.get())

    def lose(self) -> None:
        for one in (self, self.peer):
            one.gone.set()


def lanes() -> tuple[MemoryLane, MemoryLane]:
    """Both ends of a new lane."""
    one, other = MemoryLane(), MemoryLane()
    one.peer, other.peer = other, one
    return one, other


class MemoryCarrier:
    """A connection's own two lanes."""

    path: PathKind = "direct"
    relay_only = False
    peer_addresses = ()
    open_pipe = None
    max_message_size = MemoryLane.max_message_size

    def __init__(self, control: MemoryLane, data: MemoryLane) -> None:
        self.control, self.data = control, data

    def lose(self) -> None:
        self.control.lose()
        self.data.lose()

    async def open_outer_port(self) -> None:
        return None

    async def close(self, *, heard: bool = False) -> None:
        await asyncio.sleep(0)
        self.lose()


def no_more(*, offerer: bool, packet: int = 0) -> NoReturn:
    raise RuntimeError("no further connections in memory")


def connect(
    host: Identity,
    guest: Identity,
    *,
    verify: Sequence[bool] = (False, False),
    host_sends: bool = True,
    number: int = 0,
) -> tuple[Connected, Connected]:
    """A finished handshake and its lanes: (the host's, the guest's) `Connected`."""
    binding = ChannelBinding(
        room=b"r" * 16,
        attempt=number.to_bytes(16, "big"),
        nonce_guest=b"n" * 16,
        nonce_host=b"m" * 16,
        fingerprint_host=b"f" * 32,
        fingerprint_guest=b"g" * 32,
        passphrase=False,
        host_sends=host_sends,
    )
    entropy = new_entropy(), new_entropy()
    shared: dict[str, Any] = {
        "secrets": PskSecrets(bytes(32)),
        "software": SOFTWARE,
        "capabilities": RESUMABLE,
    }
    h = HostHandshake(
        binding,
        identity=host.key,
        label=host.label,
        verify=verify[0],
        entropy=entropy[0],
        **shared,
    )
    g = GuestHandshake(
        binding,
        secret=SECRET,
        commitment=host_commitment(SECRET, host.public),
        identity=guest.key,
        label=guest.label,
        verify=verify[1],
        entropy=entropy[1],
        **shared,
    )
    at_host = h.receive_3(g.receive_2(h.receive_1(g.message_1())))
    at_guest = g.receive_4(h.message_4())
    (control_h, control_g), (data_h, data_g) = lanes(), lanes()
    recipient = entropy[1] if host_sends else entropy[0]
    common: dict[str, Any] = {"binding": binding, "open": no_more, "addresses": list}
    return (
        Connected(
            carrier=MemoryCarrier(control_h, data_h),
            secured=at_host,
            session_private=b"" if host_sends else recipient.session,
            **common,
        ),
        Connected(
            carrier=MemoryCarrier(control_g, data_g),
            secured=at_guest,
            session_private=recipient.session if host_sends else b"",
            **common,
        ),
    )


def carrier_of(connected: Connected) -> MemoryCarrier:
    assert isinstance(connected.carrier, MemoryCarrier)
    return connected.carrier


class MemoryInvitation(GuestInvitation):
    """The recipient's, whose connections are a world's."""

    def __init__(self, world: World) -> None:
        recipient = world.recipient
        super().__init__(
            recipient.options,
            recipient,
            lambda connected: ReceiveDriver(recipient, connected),
            world.link,
            sends=not world.host_sends,
        )
        self.connected = world.connected  # type: ignore[method-assign]


class World:
    """Two machines, and connections between them one after the other."""

    def __init__(
        self,
        tmp_path: Path,
        contents: Sequence[tuple[str, bytes | None]],
        *,
        host_sends: bool = True,
        sender: Mapping[str, Any] | None = None,
        recipient: Mapping[str, Any] | None = None,
        verify: Sequence[Role] = (),
    ) -> None:
        """`contents`: by path, None for a folder; `sender`, `recipient`: more of their `Options`;
        `verify`: who wants the check digits compared."""
        self.contents, self.host_sends = contents, host_sends
        self.told: dict[Role, list[Event]] = {"sender": [], "recipient": []}
        self.disk = MemoryDisk()
        self.homes = {role: Home(tmp_path / role) for role in self.told}
        given: dict[Role, Mapping[str, Any]] = {
            "sender": sender or {},
            "recipient": recipient or {},
        }
        self.options = {
            role: Options(
                home=self.homes[role],
                emit=self.told[role].append,
                auto=True,
                direct_ports=None,
            )
            for role in self.told
        }
        for role, more in given.items():
            self.options[role] = Options(**{**self.options[role].__dict__, **more})
        self.link = make_link("http://192.0.2.1", SECRET, bytes(32), passphrase=False)
        # The sender's and the recipient's, the latest last.
        self.connections: list[tuple[Connected, Connected]] = []
        self.on_connection: Callable[[Connected, Connected], object] = lambda sends, receives: None
        self._waiting: asyncio.Queue[Connected] = asyncio.Queue()  # connections for the sender
        self.sender = SenderTransfer(
            self.options["sender"],
            SenderRecord(
                transfer_id=b"\x11" * 16,
                link=str(self.link),
                owner=bytes(32),
                verify="sender" in verify,
            ),
            self._list,
            open_source=lambda listing, tape, headroom: MemorySource(
                [data for _, data in self.contents], tape, headroom
            ),
        )
        self.recipient = self.new_recipient(verify="recipient" in verify)

    def new_recipient(self, *, verify: bool = False) -> RecipientTransfer:
        """A recipient's transfer, as each process of its has one; the disk is the same."""
        return RecipientTransfer(
            self.options["recipient"],
            self.homes["recipient"].path / "out",
            verify=verify,
            open_destination=lambda output, manifest, tape, transfer, marked: MemoryDestination(
                self.disk, manifest, tape, marked
            ),
        )

    def _list(self, warn: Warn, stopped: Stopped) -> Listing:
        entries = tuple(
            Entry(path, "directory" if data is None else "file", len(data or b""), 0)
            for path, data in self.contents
        )
        return Listing(entries, tuple(None for _ in entries))

    async def _admit(self, met: PeerMet, digits: str, compared: bool) -> None:
        """Everybody is let in."""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connected]:
        """The recipient's end of a new connection."""
        sends, receives = self.sender.identity, self.recipient.identity
        host, guest = (sends, receives) if self.host_sends else (receives, sends)
        verify = [self.sender.verify, self.recipient.verify]
        if not self.host_sends:
            verify.reverse()
        ends = connect(
            host,
            guest,
            verify=verify,
            host_sends=self.host_sends,
            number=len(self.connections),
        )
        sender, recipient = ends if self.host_sends else ends[::-1]
        self.connections.append((sender, recipient))
        self.on_connection(sender, recipient)
        await self._waiting.put(sender)
        try:
            yield recipient
        finally:
            await carrier_of(recipient).close()

    def cut(self) -> None:
        """The latest connection is gone."""
        for one in self.connections[-1]:
            carrier_of(one).lose()

    async def _send(self) -> Outcome:
        self.sender.identify(self.homes["sender"].identity.load())
        preparing = self.sender.prepare()
        try:
            while True:
                connected = await self._waiting.get()
                driver = SendDriver(self.sender, connected, self._admit)
                try:
                    ended = await driver.run()
                except HandoverError as error:
                    if not await self.sender.outlives(error, can_resume=driver.can_resume):
                        raise
                    continue
                finally:
                    await carrier_of(connected).close()
                return self.sender.summary.outcome(ended)
        finally:
            self.sender.stop()
            await stop(preparing)

    async def _receive(self) -> Outcome:
        self.recipient.identify(self.homes["recipient"].identity.load())
        await self.recipient.recall(str(self.link), self.link.secret)
        return await self.recipient.run(MemoryInvitation(self).run)

    def sending(self) -> asyncio.Task[Outcome]:
        """The sender, as a task."""
        audit, emit = self.homes["sender"].audit, self.options["sender"].emit
        return asyncio.create_task(conclude(self._send(), self.sender, "sender", audit, emit))

    def receiving(self) -> asyncio.Task[Outcome]:
        """The recipient, as a task; after an earlier one, another process of its."""
        audit, emit = self.homes["recipient"].audit, self.options["recipient"].emit
        work = conclude(self._receive(), self.recipient, "recipient", audit, emit)
        return asyncio.create_task(work)

    async def run(self, seconds: float = 30) -> Sequence[Outcome]:
        """Both, until both have ended: their outcomes."""
        async with asyncio.timeout(seconds):
            sending = self.sending()
            while not hasattr(self.sender, "identity"):
                await asyncio.sleep(0)
            return await asyncio.gather(sending, self.receiving())

    async def visit(self, seconds: float = 30) -> Outcome:
        """A recipient that ends before it has accepted: its outcome. The sender stays open."""
        async with asyncio.timeout(seconds):
            sending = self.sending()
            while not hasattr(self.sender, "identity"):
                await asyncio.sleep(0)
            outcome = await self.receiving()
            while self.sender.peer or not self.saw("sender", Warned):
                await asyncio.sleep(0.01)
            assert not sending.done()
            await stop(sending)
            return outcome

    def saw(self, role: Role, kind: type[E]) -> list[E]:
        return [event for event in self.told[role] if isinstance(event, kind)]

    def states(self, role: Role) -> list[str]:
        """The states that were told, in order."""
        return [event.state for event in self.told[role] if hasattr(event, "state")]


__all__ = ["Failure", "MemoryLane", "World", "connect", "lanes"]
