"""Invitations: who is let in behind a link, who is turned away, and what keeps the link open.

A host and its guests meet at a real signaling server on loopback and connect in memory, in virtual
time. What is served to a guest is scripted: a session that lasts until a test ends it.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import p2p
from p2p import invitation
from p2p.connect.rendezvous import Rendezvous
from p2p.connect.seats import GuestSeat, HostSeat
from p2p.events import LinkMade, PeerMet, PolicyTold, StateChanged, StateName, Warned
from p2p.invitation import GuestInvitation, HostInvitation
from p2p.lanes.webrtc import LARGE_PACKET, SMALL_PACKET
from p2p.protocol import link as links
from p2p.protocol.errors import Ending, Failure, HandoverError
from p2p.protocol.handshake import HANDSHAKE_SECONDS, MAX_FAILED_ATTEMPTS, HostHandshake
from p2p.protocol.link import derive_keys, make_link, parse_link
from p2p.protocol.manifest import Entry
from p2p.protocol.sentences import Detail
from p2p.protocol.session import Ended
from p2p.state.contacts import Contact
from p2p.state.home import Home
from p2p.state.journal import SenderRecord
from p2p.storage.listing import Listing
from p2p.transfer.options import Options
from p2p.transfer.sender import SenderTransfer
from signaling.app import Server
from signaling.policy import Policy
from signaling.rooms import Limits
from tests.lanes.memory import Network
from tests.virtual_time import virtual_time

SECRET, OWNER = b"\x05" * 32, b"\x06" * 32
KEYS = derive_keys(SECRET)
PASSPHRASE = "the right one"
COMPLETE = Ended(Ending.COMPLETE)


class ScriptedSession:
    """A session with a guest: it asks for admission, and lasts until `ends`."""

    can_resume = True
    ended: Ended | None = None

    def __init__(self, host, connected, admit):
        self.host, self.connected, self.admit = host, connected, admit
        self.admitted = asyncio.Event()
        self.ends: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.gave_way = False

    def give_way(self):
        self.gave_way = True
        self.fail("connection_lost")

    def fail(self, code):
        self.ends.set_exception(Failure(code))

    async def run(self):
        peer, transfer = self.connected.secured.peer, self.host.transfer
        if self.host.lost_early:
            raise Failure("connection_lost_early")
        met = PeerMet(peer.label, "fingerprint", self.host.contact, False, "")
        await self.admit(met, self.connected.secured.digits, self.host.compared)
        await asyncio.shield(transfer.prepare())
        await transfer.admitted(peer.identity, peer.label, confirmed=False)
        transfer.accepted()
        self.admitted.set()
        try:
            return await asyncio.shield(self.ends)
        except asyncio.CancelledError:
            if self.host.settling:
                return COMPLETE
            raise


class Joined:
    """A guest's transfer: what each of its sessions brings stands in `script`."""

    verify = False
    cut: StateName = "lost"

    def __init__(self, identity, again=False):
        self.identity, self.underway = identity, again or None
        self.script: list[tuple[bool, HandoverError | Ended]] = []  # (moved, how it ends)
        self.broken: list[tuple[str, bool, float, float]] = []
        self.lasts: Ended | None = None  # what a broken session means
        self.readied = 0

    def session(self, connected):
        moved, ends = self.script.pop(0)
        return JoinedScript(moved, ends)

    def compare_digits(self, why):
        self.verify = True

    def broke_off(self, failure, *, proven, silence, away, idle):
        self.broken.append((failure.code if failure else "", proven, silence, away))
        return self.lasts

    async def ready(self):
        self.readied += 1


class JoinedScript:
    """A session that is over at once."""

    def __init__(self, moved, ends):
        self.moved, self.ends = moved, ends

    async def run(self):
        if isinstance(self.ends, HandoverError):
            raise self.ends
        return self.ends


class Host:
    """Somebody who waits behind a link; `sessions` are those with guests, the latest last."""

    def __init__(
        self,
        place,
        *,
        sends=True,
        expires=3600.0,
        age=0.0,
        to=None,
        shown="",
        name="host",
        **options,
    ):
        self.told: list[Any] = []
        self.sessions: list[ScriptedSession] = []
        self.contact, self.compared = "", False  # what the next guest turns out to be
        self.lost_early = self.settling = False  # and what its session does
        home = Home(place.folder / name)
        given = {"home": home, "emit": self.told.append, "auto": True, "direct_ports": None}
        record = SenderRecord(transfer_id=b"\x11" * 16, owner=OWNER)
        self.transfer = SenderTransfer(Options(**{**given, **options}), record, self.list)
        self.transfer.identify(home.identity.load())
        self.listing: Listing | Failure = Listing((Entry("a", "file", 3, 0),), (None,))
        self.invitation = HostInvitation(
            self.transfer.options,
            self.transfer,
            self.open_session,
            Rendezvous(place.origin, (), place.origin, False),
            SECRET,
            sends=sends,
            link=shown,
            owner=OWNER,
            expires=expires,
            age=age,
            to=to,
        )
        self.link = self.invitation.link
        self.transfer.linked(str(self.link), 0)
        self.task = asyncio.create_task(self.invitation.run())

    def list(self, warn, stopped):
        if isinstance(self.listing, Failure):
            raise self.listing
        return self.listing

    def open_session(self, connected, admit):
        self.sessions.append(ScriptedSession(self, connected, admit))
        return self.sessions[-1]

    def states(self):
        return [event.state for event in self.told if isinstance(event, StateChanged)]

    def warned(self):
        return [(event.code, event.detail) for event in self.told if isinstance(event, Warned)]

    async def until(self, met, seconds=60.0):
        async with asyncio.timeout(seconds):
            while not met():
                await asyncio.sleep(0.05)

    async def waiting(self):
        """The link stands."""
        await self.until(lambda: "waiting" in self.states())
        return self

    async def admitted(self):
        """The latest guest is let in; its session."""
        await self.until(lambda: self.sessions and self.sessions[-1].admitted.is_set())
        return self.sessions[-1]

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Place:
    """A server, a network, and all who came."""

    def __init__(self, tmp_path, monkeypatch, limits=None, policy=None):
        self.folder, self.limits, self.policy = tmp_path, limits, policy
        self.network = Network()
        self.server, self.port = Server(limits, policy=policy), 0
        self.hosts: list[Host] = []
        self.stack = AsyncExitStack()  # of guests
        monkeypatch.setattr(invitation, "load", lambda engine: self.network.engine)
        monkeypatch.setattr(links, "PASSPHRASE_MEMORY", 1024 * 1024)  # stretched in no time

    async def __aenter__(self):
        await self.server.start("127.0.0.1", self.port)
        self.port = self.server.port
        return self

    async def __aexit__(self, *_):
        await self.stack.aclose()
        for host in self.hosts:
            await host.stop()
        await self.server.stop()
        assert all(one.closed.is_set() for one in self.network.made), "a connection is left"

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

    async def restart(self, pause):
        """The server is gone for so long, and has forgotten everything."""
        await self.server.stop()
        await asyncio.sleep(pause)
        self.server = Server(self.limits, policy=self.policy)
        await self.server.start("127.0.0.1", self.port)

    async def host(self, **options):
        self.hosts.append(Host(self, **options))
        return await self.hosts[-1].waiting()

    def visitor(self, host, name="guest", *, again=False, sends=False, told=None, **options):
        """Somebody who has the link; `again`: and has received something behind it."""
        home = Home(self.folder / name)
        emit = (told if told is not None else []).append
        given = Options(home=home, emit=emit, direct_ports=None, **options)
        transfer = Joined(home.identity.load(), again)
        return GuestInvitation(given, transfer, transfer.session, host.link, sends=sends)

    async def guest(self, host, name="guest", *, again=False, **options):
        """Somebody who opens the link, and stays connected."""
        visitor = self.visitor(host, name, again=again, **options)
        return await self.stack.enter_async_context(visitor.connected())

    async def turned_away(self, host, name="guest", **options):
        """The code that somebody is turned away with."""
        with pytest.raises(HandoverError) as caught:
            await self.guest(host, name, **options)
        return caught.value.code


@pytest.fixture
def place(tmp_path, monkeypatch):
    """For each test a server of its own, whose event loop is the test's."""
    return Place(tmp_path, monkeypatch)


# --- the link and the room ------------------------------------------------------------------------


@virtual_time
async def test_a_link_is_told_once_the_seat_is_had_and_before_anybody_waits(place):
    async with place:
        host = await place.host()
        assert [type(event) for event in host.told] == [LinkMade, StateChanged]
        assert host.told[0].link == str(
            make_link(place.origin, SECRET, host.transfer.identity.public, passphrase=False)
        )
        assert place.server.rooms == 1


@virtual_time
async def test_no_link_is_told_where_no_room_is_to_be_had(place):
    async with place:
        await place.server.stop()
        host = Host(place)
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "server_unreachable"
        assert not host.told


@virtual_time
async def test_the_link_that_was_shown_before_a_restart_stays_the_first(place):
    async with place:
        identity = Home(place.folder / "host").identity.load()
        shown = str(make_link("http://192.0.2.1", SECRET, identity.public, passphrase=False))
        host = await place.host(shown=shown)
        made = host.told[0]
        assert made.link == shown
        assert len(made.others) == 1
        assert made.others[0].startswith(place.origin)


@virtual_time
async def test_a_link_that_needs_a_passphrase_is_not_taken_up_without_it(place):
    async with place:
        shown = str(make_link(place.origin, SECRET, bytes(32), passphrase=True))
        with pytest.raises(Failure) as caught:
            Host(place, shown=shown)
        assert caught.value.code == "needs_answer"


@virtual_time
async def test_a_server_that_goes_and_comes_back_is_told_and_the_room_taken_again(place):
    async with place:
        host = await place.host()
        await place.restart(pause=20)
        await host.until(lambda: host.states().count("waiting") == 2)
        states = host.states()
        assert states[0] == states[-1] == "waiting"
        assert set(states[1:-1]) == {"server_lost"}
        assert sum(isinstance(event, LinkMade) for event in host.told) == 1
        await place.guest(host)
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""


@virtual_time
async def test_a_transfer_under_way_does_not_need_the_server(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        session = await host.admitted()
        await place.restart(pause=20)
        await asyncio.sleep(10)
        assert "server_lost" not in host.states()
        session.ends.set_result(COMPLETE)
        assert (await host.task).ending == Ending.COMPLETE


@virtual_time
async def test_a_seat_that_cannot_be_kept_ends_no_transfer_and_is_taken_again_for_a_cut_one(
    place, monkeypatch
):
    async with place:
        host = await place.host()
        await place.guest(host)
        session = await host.admitted()
        with monkeypatch.context() as patched:
            patched.setattr(HostSeat, "_take", refuse_rooms)
            await place.restart(pause=1)
            await asyncio.sleep(30)
            assert not host.task.done()
            session.fail("connection_lost")
            await asyncio.sleep(30)
            assert not host.task.done(), "a cut one needs the room again, and waits for it"
        await host.until(lambda: place.server.rooms == 1)
        await place.guest(host, again=True)
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""


async def refuse_rooms(seat, socket):
    raise Failure("expired")


@virtual_time
async def test_a_link_that_nobody_opens_expires(place):
    async with place:
        host, began = await place.host(expires=30.0), time.monotonic()
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "expired"
        assert time.monotonic() - began == pytest.approx(30, abs=1)


@virtual_time
async def test_a_link_that_expires_during_its_transfer_does_not_end_it(place):
    async with place:
        host = await place.host(expires=30.0)
        await place.guest(host)
        session = await host.admitted()
        await asyncio.sleep(60)
        session.ends.set_result(COMPLETE)
        assert (await host.task).ending == Ending.COMPLETE


@virtual_time
async def test_a_guest_that_was_cut_off_has_longer_to_come_back_than_the_link_lives(
    place, monkeypatch
):
    monkeypatch.setattr(invitation, "CUT_SECONDS", 100.0)
    async with place:
        host = await place.host(expires=30.0)
        await place.guest(host)
        (await host.admitted()).fail("connection_lost")
        await asyncio.sleep(90)
        assert host.states()[-1] == "lost"
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "connection_lost"


@virtual_time
async def test_a_stop_closes_the_room(place):
    async with place:
        host = await place.host()
        host.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await host.task
        await asyncio.sleep(0.5)
        assert place.server.rooms == 0


@virtual_time
async def test_what_cannot_be_sent_ends_it_before_anybody_comes(place):
    async with place:
        host = Host(place)
        host.listing = Failure("nothing_to_send")
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "nothing_to_send"


@virtual_time
async def test_an_engine_that_does_not_load_ends_it_too(place, monkeypatch):
    def fail(engine):
        raise Failure("engine_missing", engine)

    async with place:
        monkeypatch.setattr(invitation, "load", fail)
        host = Host(place)
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "engine_missing"


# --- one guest ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host_sends", [True, False], ids=["host sends", "host receives"])
@virtual_time
async def test_a_guest_is_let_in_and_both_know_who_it_is(place, host_sends):
    async with place:
        host = await place.host(sends=host_sends)
        told: list[p2p.Event] = []
        guest = await place.guest(host, sends=not host_sends, told=told)
        session = await host.admitted()
        there = session.connected
        assert there.binding == guest.binding
        assert there.binding.host_sends == host_sends
        assert there.secured.digits == guest.secured.digits
        assert there.secured.session_key == guest.secured.session_key
        assert bool(guest.session_private) == host_sends
        assert bool(there.session_private) != host_sends
        assert guest.secured.peer.identity == host.transfer.identity.public
        assert there.secured.peer.identity == host.transfer.peer
        for here, other in ((guest, there), (there, guest)):
            await here.carrier.data.send(b"data")
            assert await other.carrier.data.recv() == b"data"
        assert told == [StateChanged("opened")]
        session.ends.set_result(COMPLETE)
        outcome = await host.task
        assert (outcome.ending, outcome.code) == (Ending.COMPLETE, "")
        assert host.states() == ["waiting", "opened", "admitted"]
        assert not host.warned()
        heard = {one.offerer: one.heard for one in place.network.made}
        assert heard[True], "all was said: nobody waits for what is queued"


@virtual_time
async def test_a_server_is_left_once_both_have_met(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        await host.admitted()
        await asyncio.sleep(1)
        (room,) = place.server._store._rooms._rooms.values()
        assert not room.attempts


@virtual_time
async def test_a_guest_that_goes_before_it_is_let_in_leaves_the_link_to_others(place):
    async with place:
        host = await place.host()
        host.lost_early = True
        await place.guest(host)
        await host.until(lambda: host.warned() == [("connection_lost_early", "")])
        assert host.states()[-1] == "waiting"
        host.lost_early = False
        await place.guest(host, "another")
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""


@virtual_time
async def test_a_guest_that_goes_when_it_is_welcomed_can_come_again(place, monkeypatch):
    welcome = HostHandshake.message_4

    def lose(self):
        if len(place.network.made) == 2:
            place.network.made[0].lose()
        return welcome(self)

    monkeypatch.setattr(HostHandshake, "message_4", lose)
    async with place:
        host = await place.host()
        await place.guest(host)
        await host.admitted()
        assert len(host.sessions) == 1
        assert host.warned() == [("connection_lost_early", "")]


@virtual_time
async def test_a_stop_while_only_signatures_are_missing_is_none(place):
    async with place:
        host = await place.host()
        host.settling = True
        await place.guest(host)
        await host.admitted()
        host.task.cancel()
        assert (await host.task).ending == Ending.COMPLETE


@virtual_time
async def test_a_stop_after_the_end_changes_nothing_of_it(place):
    """While connections and threads are still being closed."""
    async with place:
        host = await place.host()
        await place.guest(host)
        (await host.admitted()).ended = COMPLETE
        host.task.cancel()
        assert (await host.task).ending == Ending.COMPLETE


@virtual_time
async def test_a_last_word_that_never_comes_leaves_it_complete(place):
    """The receipt stands, signed by both; only the guest's word that it has it is missing."""
    async with place:
        host = await place.host()
        await place.guest(host)
        session = await host.admitted()
        host.transfer.receipt = place.folder / "receipt"
        session.fail("connection_lost")
        outcome = await host.task
        assert asyncio.get_running_loop().time() < invitation.CUT_SECONDS  # it waits no day for it
        assert (outcome.ending, outcome.code) == (Ending.COMPLETE, "receipt_unconfirmed")


@virtual_time
async def test_a_guest_that_was_cut_off_comes_back_and_goes_on(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        (await host.admitted()).fail("connection_lost")
        await host.until(lambda: host.states()[-1] == "lost")
        await place.guest(host, again=True)
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""
        assert host.states()[-2:] == ["opened", "resumed"]


@virtual_time
async def test_a_guest_that_comes_back_before_it_is_missed_gives_way_to_itself(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        first = await host.admitted()
        await place.guest(host, again=True)
        await host.until(lambda: len(host.sessions) == 2)
        assert first.gave_way
        second = await host.admitted()
        assert second is not first
        assert not host.task.done()
        second.ends.set_result(COMPLETE)
        assert (await host.task).code == ""


@virtual_time
async def test_a_failure_that_ends_the_transfer_ends_the_invitation(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        (await host.admitted()).fail("peer_cancelled")
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "peer_cancelled"


# --- admission ------------------------------------------------------------------------------------


def met(contact="", changed=""):
    return PeerMet("Dr A", "fingerprint", contact, False, changed)


@pytest.mark.parametrize("answer", [True, False])
@virtual_time
async def test_admission_is_asked_for_once_and_no_turns_away(place, answer):
    asked = []

    async def ask(question):
        asked.append(question)
        return answer

    async with place:
        host = await place.host(auto=False, ask=ask)
        guest = await place.guest(host)
        if answer:
            (await host.admitted()).ends.set_result(COMPLETE)
            assert (await host.task).code == ""
        else:
            await host.until(lambda: host.states()[-1] == "waiting")
            assert host.warned() == [("declined", "")]
            assert not host.task.done(), "the link stays open for others"
        (question,) = asked
        assert (question.kind, question.digits) == ("admit", guest.secured.digits)


@virtual_time
async def test_a_question_that_nobody_can_answer_ends_it(place):
    async with place:
        host = await place.host(auto=False, ask=None)
        await place.guest(host)
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "needs_answer"


@pytest.mark.parametrize("why", ["auto", "compared", "to", "let in before"])
@virtual_time
async def test_nothing_is_asked_where_something_else_has_decided_it(place, why):
    async def ask(question):
        raise AssertionError("it was asked")

    async with place:
        to = Contact("Dr A", bytes(32), "", False) if why == "to" else None
        host = await place.host(auto=why == "auto", ask=ask, to=to)
        if why == "let in before":
            await asyncio.shield(host.transfer.prepare())
            await host.transfer.admitted(b"\x09" * 32, "Dr A", confirmed=False)
            host.invitation._serving = b"\x09" * 32
        await host.invitation._admit(met(), "1234-5678-9012", why == "compared")


@virtual_time
async def test_that_another_was_let_in_lets_nobody_in(place):
    async def ask(question):
        return False

    async with place:
        host = await place.host(auto=False, ask=ask)
        await asyncio.shield(host.transfer.prepare())
        await host.transfer.admitted(b"\x09" * 32, "Dr A", confirmed=False)
        host.invitation._serving = b"\x08" * 32
        assert host.invitation._is_anothers(host.invitation._serving)
        with pytest.raises(Failure, match="declined"):
            await host.invitation._admit(met(""), "1234-5678-9012", False)


@virtual_time
@pytest.mark.parametrize("changed", ["", "Dr B"])
async def test_a_contact_is_asked_about_like_anybody_else(place, changed):
    """To have met before is no right to these files."""
    async with place:
        host = await place.host(auto=False, ask=None)
        with pytest.raises(Failure) as caught:
            await host.invitation._admit(met("Dr A", changed), "1234-5678-9012", False)
        assert caught.value.code == "needs_answer"
        host.task.cancel()


@virtual_time
async def test_a_link_for_one_contact_turns_everybody_else_away(place):
    async with place:
        identity = Home(place.folder / "guest").identity.load()
        to = Contact("Dr A", identity.public, "", False)
        host = await place.host(auto=False, to=to)
        assert await place.turned_away(host, "another") == "not_for_you"
        assert not host.sessions
        await place.guest(host)
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""


@virtual_time
async def test_whoever_comes_second_is_told_that_the_link_is_somebodys(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        session = await host.admitted()
        assert await place.turned_away(host, "second") == "claimed"
        session.fail("connection_lost")
        await host.until(lambda: host.states()[-1] == "lost")
        assert await place.turned_away(host, "third") == "claimed", "also while nobody is there"
        assert len(host.sessions) == 1
        assert host.states().count("opened") == 2, "who comes during a transfer is no news"


@virtual_time
async def test_whoever_comes_while_another_is_being_asked_about_is_turned_away(place):
    answer = asyncio.Event()

    async def ask(question):
        await answer.wait()
        return True

    async with place:
        host = await place.host(auto=False, ask=ask)
        await place.guest(host)
        await host.until(lambda: host.sessions)
        assert await place.turned_away(host, "second") == "claimed"
        answer.set()
        await host.admitted()


# --- guesses --------------------------------------------------------------------------------------


@virtual_time
async def test_who_guesses_three_times_is_told_that_the_link_is_disabled(place):
    """And to look whether it still is good is no attempt to the host."""
    told = []

    def give_up(failure, **_):
        raise failure

    async with place:
        host = await place.host(passphrase=PASSPHRASE)
        for number in range(MAX_FAILED_ATTEMPTS):
            visitor = place.visitor(host, f"guess{number}", passphrase="wrong")
            visitor._transfer.broke_off = give_up
            with pytest.raises(Failure) as caught:
                await visitor.run()
            told.append((caught.value.code, getattr(caught.value.detail, "code", "")))
        with pytest.raises(Failure):
            await host.task
        assert host.warned() == [("guesses_left", "2"), ("guesses_left", "1")]
    wrong, disabled = ("passphrase_wrong", ""), ("not_found", "link_disabled")
    assert told == [wrong, wrong, disabled]


async def guess(place, host, number):
    return await place.turned_away(host, f"guess{number}", passphrase="wrong")


@virtual_time
async def test_three_wrong_passphrases_disarm_the_link(place):
    async with place:
        host = await place.host(passphrase=PASSPHRASE)
        for number in range(MAX_FAILED_ATTEMPTS):
            assert await guess(place, host, number) == "passphrase_wrong"
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "disarmed"
        assert host.warned() == [("guesses_left", "2"), ("guesses_left", "1")]


@virtual_time
async def test_two_wrong_ones_do_not_and_the_right_one_is_let_in(place):
    async with place:
        host = await place.host(passphrase=PASSPHRASE)
        for number in range(MAX_FAILED_ATTEMPTS - 1):
            await guess(place, host, number)
        await place.guest(host, passphrase=PASSPHRASE)
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""


@virtual_time
async def test_guesses_while_somebody_is_being_asked_about_count_once_it_is_turned_away(place):
    answer = asyncio.Event()

    async def ask(question):
        await answer.wait()
        return False

    async with place:
        host = await place.host(passphrase=PASSPHRASE, auto=False, ask=ask)
        await place.guest(host, passphrase=PASSPHRASE)
        await host.until(lambda: host.sessions)
        for number in range(MAX_FAILED_ATTEMPTS):
            assert await guess(place, host, number) == "passphrase_wrong"
        assert not host.task.done(), "they end nothing that is under way"
        answer.set()
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "disarmed"


@virtual_time
async def test_once_somebody_is_let_in_guesses_gain_nothing_and_cost_it_nothing(place):
    async with place:
        host = await place.host(passphrase=PASSPHRASE)
        await place.guest(host, passphrase=PASSPHRASE)
        session = await host.admitted()
        for number in range(MAX_FAILED_ATTEMPTS + 1):
            assert await guess(place, host, number) == "passphrase_wrong"
        right = await place.turned_away(host, "late", passphrase=PASSPHRASE)
        assert right == "passphrase_wrong", "no word on whether a guess was right"
        session.fail("connection_lost")
        await host.until(lambda: host.states()[-1] == "lost")
        await place.guest(host, passphrase=PASSPHRASE, again=True)
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""


@virtual_time
async def test_a_link_says_whether_it_needs_a_passphrase(place):
    async with place:
        host = await place.host(passphrase=PASSPHRASE)
        assert parse_link(host.told[0].link).passphrase


def unwelcoming(connection):
    """The host's messages get lost from the welcome on."""
    said: list[bytes] = []

    def swallow(message):
        said.append(message)
        return len(said) > 1

    if connection.offerer:
        connection.control.swallow = swallow


@virtual_time
async def test_silence_after_a_passphrase_means_that_it_is_wrong_unless_it_was_right_before(place):
    async with place:
        host = await place.host(passphrase=PASSPHRASE)
        visitor = place.visitor(host, passphrase=PASSPHRASE, again=True)
        codes = []
        for welcome in (False, True, False):
            place.network.on_made = (lambda one: None) if welcome else unwelcoming
            try:
                async with visitor.connected():
                    codes.append("")
            except Failure as failure:
                codes.append(failure.code)
        assert codes == ["passphrase_wrong", "", "connection_lost_early"]


# --- strangers ------------------------------------------------------------------------------------


@virtual_time
async def test_garbage_in_an_envelope_is_a_warning_and_the_link_stays_open(place):
    async with place:
        host = await place.host()
        async with GuestSeat(place.origin, KEYS) as attempt:
            await attempt.send(os.urandom(2000))
            assert await attempt.recv() is None
        await host.until(host.warned)
        assert [code for code, _ in host.warned()] == ["protocol"]
        await place.guest(host)
        await host.admitted()


@virtual_time
async def test_a_stranger_that_says_nothing_is_waited_for_only_so_long(place):
    async with place:
        host, began = await place.host(), time.monotonic()
        async with GuestSeat(place.origin, KEYS) as attempt:
            assert await attempt.recv() is None
        assert time.monotonic() - began == pytest.approx(HANDSHAKE_SECONDS, abs=1)
        await host.until(lambda: not host.invitation._attempts)
        assert host.warned() == []  # it did not even want to connect
        assert not host.task.done()


@virtual_time
async def test_a_third_attempt_at_once_is_left(tmp_path, monkeypatch):
    """Whatever a server lets through."""
    place = Place(tmp_path, monkeypatch, Limits(attempts_per_room=8))
    async with place:
        host = await place.host()
        async with GuestSeat(place.origin, KEYS) as first, GuestSeat(place.origin, KEYS) as second:
            await asyncio.sleep(1)
            assert len(host.invitation._attempts) == invitation.MAX_ATTEMPTS
            async with GuestSeat(place.origin, KEYS) as third:
                assert await third.recv() is None
            for one in (first, second):
                assert one.inbox.empty()
        await host.until(lambda: not host.invitation._attempts)
        await place.guest(host)
        await host.admitted()


@virtual_time
async def test_what_nobody_expected_of_a_stranger_is_a_warning_too(place, monkeypatch):
    def fail(self, message):
        raise RuntimeError("a bug")

    async with place:
        host = await place.host()
        with monkeypatch.context() as patched:
            patched.setattr(HostHandshake, "receive_1", fail)
            code = await place.turned_away(host)
        assert code == "connection_lost_early"
        assert host.warned() == [("internal", "RuntimeError")] * invitation.PROBES
        await place.guest(host)
        await host.admitted()


# --- paths ----------------------------------------------------------------------------------------


@virtual_time
async def test_a_path_that_carries_only_small_packets_is_found_out_and_lived_with(place):
    """The answer to message 2, which fills a large packet, does not come: both connect anew."""
    async with place:
        host, began = await place.host(), time.monotonic()
        place.network.carries = SMALL_PACKET
        await place.guest(host)
        session = await host.admitted()
        at_host = [one for one in place.network.made if one.offerer]
        assert [one.packet for one in at_host] == [LARGE_PACKET, SMALL_PACKET]
        assert at_host[0].swallowed == 1
        assert invitation.PROBE_SECONDS <= time.monotonic() - began < 2 * invitation.PROBE_SECONDS
        assert not host.warned(), "nothing that anybody has to know"
        session.connected.open(offerer=True)
        assert place.network.made[-1].packet == SMALL_PACKET, "further connections know it too"
        await place.network.made[-1].close()


@virtual_time
async def test_a_path_that_carries_large_packets_gets_them(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        session = await host.admitted()
        assert [one.packet for one in place.network.made if one.offerer] == [LARGE_PACKET]
        session.connected.open(offerer=True)
        assert place.network.made[-1].packet == LARGE_PACKET
        await place.network.made[-1].close()


@pytest.mark.parametrize("again", [False, True])
@virtual_time
async def test_a_connection_that_comes_to_nothing_is_tried_only_so_often(place, again):
    """By somebody new; who was connected before has a way of its own to try again."""
    async with place:
        host = await place.host()
        place.network.on_made = swallow_all
        code = await place.turned_away(host, again=again)
        assert code == "connection_lost_early"
        assert sum(not one.offerer for one in place.network.made) == (
            1 if again else invitation.PROBES
        )


def swallow_all(connection):
    if connection.offerer:
        connection.control.swallow = lambda message: True


@virtual_time
async def test_no_path_at_all_is_said_on_both_sides(place):
    async with place:
        host = await place.host()
        place.network.fails_after = 3.0
        assert await place.turned_away(host) == "no_connection"
        await host.until(host.warned)
        assert host.warned() == [("no_connection", Detail("no_relay"))]
        assert not host.task.done()


# --- a guest, without a host ----------------------------------------------------------------------


@virtual_time
async def test_a_link_behind_which_nobody_waits_says_so(place):
    async with place:
        host = await place.host()
        await host.stop()
        await asyncio.sleep(0.5)
        assert await place.turned_away(host) == "not_found"
        await place.server.stop()
        assert await place.turned_away(host) == "server_unreachable"


@virtual_time
async def test_a_host_that_is_not_the_links_is_found_out(place):
    async with place:
        host = await place.host()
        host.link = make_link(place.origin, SECRET, b"\x09" * 32, passphrase=False)
        assert await place.turned_away(host) == "host_unproven"
        assert not host.sessions


# --- a guest, one session after the other ---------------------------------------------------------


class Away:
    """A guest whose connections are scripted: each a failure, or None for a host that is proven."""

    def __init__(self, tmp_path, transfer, connections):
        self.told: list[Any] = []
        self.connections, self.began = list(connections), []
        link = make_link("http://192.0.2.1", SECRET, bytes(32), passphrase=False)
        options = Options(home=Home(tmp_path), emit=self.told.append)
        self.invitation = GuestInvitation(options, transfer, transfer.session, link, sends=False)
        self.invitation.connected = self.connected  # type: ignore[method-assign]

    @asynccontextmanager
    async def connected(self):
        self.began.append(time.monotonic())
        failure = self.connections.pop(0)
        if failure is not None:
            raise failure
        yield None

    @property
    def pauses(self):
        """Seconds between the tries."""
        return [round(b - a, 3) for a, b in pairwise(self.began)]


@virtual_time
async def test_a_guest_comes_back_ever_later_and_soon_again_once_something_moved(tmp_path):
    transfer, lost = Joined(None), Failure("connection_lost")
    transfer.script = [(True, lost), (False, lost), (True, lost), (False, COMPLETE)]
    gone = Failure("not_found")
    away = Away(tmp_path, transfer, [None, gone, gone, gone, gone, gone, None, None, None])
    assert await away.invitation.run() == COMPLETE
    assert away.pauses == [0.5, 1, 2, 4, 6, 6, 6, 0.5]
    assert transfer.readied == 8
    assert [event.state for event in away.told] == ["lost"] * 8


@virtual_time
async def test_how_long_the_host_is_away_counts_only_while_it_is_known_to_be(tmp_path):
    transfer, lost = Joined(None), Failure("connection_lost")
    transfer.script = [(False, lost), (False, COMPLETE)]
    nobody, nothing = Failure("not_found"), Failure("no_connection")
    away = Away(tmp_path, transfer, [None, nobody, nothing, nobody, None])
    await away.invitation.run()
    assert transfer.broken == [
        ("connection_lost", True, 0, 0),
        ("not_found", False, 0.5, 0.5),
        ("no_connection", False, 1.5, 0),
        ("not_found", False, 3.5, 2),
    ]


@virtual_time
async def test_only_a_missing_signature_is_no_end_and_the_transfer_says_what_is(tmp_path):
    transfer = Joined(None)
    unconfirmed = Ended(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")
    transfer.script, transfer.lasts = [(False, unconfirmed)], COMPLETE
    assert await Away(tmp_path, transfer, [None]).invitation.run() == COMPLETE
    assert transfer.broken == [("", True, 0, 0)]


# --- what a server's operator asks ----------------------------------------------------------------


@pytest.fixture
def under(tmp_path, monkeypatch):
    """A server whose operator asks this."""

    def make(**asked):
        return Place(tmp_path, monkeypatch, policy=Policy(**asked))

    return make


async def refusal(place, **options):
    """What ends a host before its link is told."""
    host = Host(place, name="refused", **options)
    with pytest.raises(Failure) as caught:
        await host.task
    assert place.server.rooms == 0
    assert not any(isinstance(event, LinkMade) for event in host.told)
    return caught.value.code, caught.value.detail


def asked(told):
    return [event for event in told if isinstance(event, PolicyTold)]


@virtual_time
async def test_both_are_told_once_what_is_asked(under):
    async with under(operator="The “Example”", max_expires=600) as place:
        host, told = await place.host(), list[Any]()
        assert type(host.told[0]) is PolicyTold, "before the link is"
        await place.guest(host, told=told)
        (await host.admitted()).ends.set_result(COMPLETE)
        said = PolicyTold("The 'Example'", 600, None, None)
        assert asked(host.told) == asked(told) == [said]


@virtual_time
async def test_a_server_that_asks_for_nothing_is_not_mentioned(place):
    async with place:
        host, told = await place.host(), list[Any]()
        await place.guest(host, told=told)
        assert asked(host.told) == asked(told) == []


@virtual_time
async def test_no_link_is_made_without_the_passphrase_that_is_required(under):
    async with under(require="passphrase") as place:
        assert await refusal(place) == ("not_allowed", Detail("policy_passphrase"))
        host = await place.host(passphrase="correct horse")
        assert not host.transfer.verify
        await place.guest(host, passphrase="correct horse")
        assert not (await host.admitted()).connected.secured.peer.verify


@virtual_time
async def test_no_link_without_a_passphrase_is_opened_where_one_is_required(under):
    """The host may be one that does not care."""
    async with under() as place:
        host = await place.host()
        place.server._rooms._policy = Policy(require="passphrase")
        assert await place.turned_away(host) == "not_allowed"
        place.server._rooms._policy = Policy()


@pytest.mark.parametrize(
    ("require", "passphrase", "compared"),
    [
        ("digits", None, True),
        ("digits", "correct horse", True),
        ("either", None, True),
        ("either", "correct horse", False),
    ],
)
@virtual_time
async def test_digits_that_are_required_are_asked_for_by_both(under, require, passphrase, compared):
    async def answer(question):
        return True

    async with under(require=require) as place:
        host = await place.host(ask=answer, passphrase=passphrase)
        await place.guest(host, passphrase=passphrase)
        session = await host.admitted()
        assert host.transfer.verify is session.connected.secured.peer.verify is compared


@pytest.mark.parametrize("require", ["digits", "either"])
@virtual_time
async def test_nobody_who_could_compare_them_makes_no_link(under, require):
    async with under(require=require) as place:
        assert await refusal(place, ask=None) == ("not_allowed", Detail(f"policy_{require}"))


@pytest.mark.parametrize(
    ("relay", "options", "detail"),
    [
        ("required", {"no_relay": True}, "policy_relay"),
        ("forbidden", {"relay_only": True}, "policy_no_relay"),
    ],
)
@virtual_time
async def test_options_that_contradict_it_are_refused_on_both_sides(under, relay, options, detail):
    async with under(relay=relay) as place:
        assert await refusal(place, **options) == ("not_allowed", Detail(detail))
        host = await place.host()
        assert await place.turned_away(host, **options) == "not_allowed"


@pytest.mark.parametrize(("age", "left"), [(0.0, 60), (45.0, 15)], ids=["new", "started again"])
@virtual_time
async def test_a_link_lives_no_longer_than_the_operator_lets_it(under, age, left):
    """In all, though its program is started again."""
    async with under(max_expires=60) as place:
        host, began = await place.host(age=age), time.monotonic()
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "expired"
        assert time.monotonic() - began == pytest.approx(left, abs=1.5)


@virtual_time
async def test_a_guest_that_was_cut_off_has_so_long_to_come_back(under):
    async with under(max_expires=60) as place:
        host = await place.host()
        await place.guest(host)
        session = await host.admitted()
        await asyncio.sleep(100)
        session.fail("connection_lost")
        began = time.monotonic()
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "connection_lost"
        assert time.monotonic() - began == pytest.approx(60, abs=7)


@virtual_time
async def test_relays_go_by_what_is_asked_now_whatever_was_agreed_before(place):
    async with place:
        host = await place.host(no_relay=True)
        await place.guest(host)
        session = await host.admitted()
        session.fail("connection_lost")
        await host.until(lambda: host.states()[-1] == "lost")
        place.policy = Policy(relay="required")
        await place.restart(pause=1)
        with pytest.raises(Failure) as caught:
            await host.task
        assert (caught.value.code, caught.value.detail) == ("not_allowed", Detail("policy_relay"))


@virtual_time
async def test_nor_has_it_longer_when_its_program_is_started_again(under):
    async with under(max_expires=60) as place:
        host, began = Host(place, age=45.0), time.monotonic()
        known = host.transfer._record
        host.transfer._record = replace(known, peer=b"\x01" * 32)
        with pytest.raises(Failure):
            await host.task
        assert time.monotonic() - began == pytest.approx(15, abs=2)


@virtual_time
async def test_a_transfer_under_way_outlives_rules_that_came_later(place):
    async with place:
        host = await place.host()
        await place.guest(host)
        session = await host.admitted()
        place.policy = Policy(require="passphrase")
        await place.restart(pause=1)
        await asyncio.sleep(30)
        assert not host.task.done()
        session.fail("connection_lost")
        await host.until(lambda: host.states()[-1] == "lost")
        await place.guest(host, again=True)
        (await host.admitted()).ends.set_result(COMPLETE)
        assert (await host.task).code == ""
        assert len(asked(host.told)) == 1


@virtual_time
async def test_who_waits_under_rules_that_came_later_is_told_and_stops(place):
    async with place:
        host = await place.host()
        place.policy = Policy(require="passphrase")
        await place.restart(pause=1)
        with pytest.raises(Failure) as caught:
            await host.task
        assert caught.value.code == "not_allowed"
