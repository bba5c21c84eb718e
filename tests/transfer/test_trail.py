"""What of a transfer gets into the audit log, in which order, and how much of it at most."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from p2p.events import (
    LinkMade,
    Listed,
    Offered,
    PeerMet,
    Progressed,
    Question,
    StateChanged,
    Warned,
)
from p2p.protocol.errors import Failure
from p2p.state.home import Home
from p2p.transfer.trail import MOST, Trail, entry_of

MET = PeerMet("Dr. Somebody", "ab12", "", False, "")
QUESTION = Question("admit", MET, "1234-5678-9012")


class Log:
    """An audit log that only remembers; `fails` is what the next entry fails with."""

    def __init__(self):
        self.entries, self.fails = [], None

    def append(self, event, members):
        if self.fails is not None:
            raise self.fails
        self.entries.append((event, dict(members)))


def made(log: Any = None) -> tuple[Trail, list[Any]]:
    told: list[Any] = []
    given: Any = log or Log()
    trail = Trail(given, "sender", told.append)
    trail.begin(lambda: {"transfer_id": "x"})
    return trail, told


@pytest.mark.parametrize(
    ("event", "entry"),
    [
        (LinkMade("secret", (), False, 2, 1, 5), ("link_made", {"entries": 3, "bytes": 5})),
        (LinkMade("secret", (), False), ("link_made", {})),
        (Listed(2, 0, 5), ("listed", {"entries": 2, "bytes": 5})),
        (StateChanged("opened"), ("link_opened", {})),
        (StateChanged("admitted"), ("admitted", {})),
        (StateChanged("lost"), ("interrupted", {"reason": "lost"})),
        (StateChanged("resumed"), ("resumed", {})),
        (StateChanged("verifying"), None),
        (MET, ("authenticated", {"known": "new", "digits_before": False})),
        (
            PeerMet("M", "ab", "Mary", True, ""),
            ("authenticated", {"known": "contact", "digits_before": True}),
        ),
        (
            PeerMet("M", "ab", "", False, "Mary"),
            ("authenticated", {"known": "changed", "digits_before": False}),
        ),
        (Offered(2, 1, 9, ("name",)), ("offered", {"entries": 3, "bytes": 9})),
        (
            Warned("guesses_left", detail="2"),
            ("authentication_failed", {"reason": "guest_unproven"}),
        ),
        (Warned("not_for_you"), ("authentication_failed", {"reason": "not_for_you"})),
        (Warned("contact_changed", detail="Mary"), None),  # it is authenticated, as another key
        (Warned("unreadable", "path"), None),
        (Progressed(1, 1, 2, 3.0, "direct", 0, 1, ""), None),
    ],
)
def test_what_an_event_leaves_in_the_log(event, entry):
    """No link, no name of a file or a person."""
    assert entry_of(event) == entry


async def test_entries_come_in_order_with_whose_they_are_and_events_are_passed_on():
    log = Log()
    trail, told = made(log)
    for event in (StateChanged("opened"), MET, StateChanged("verifying")):
        trail.emit(event)
    trail.answered(QUESTION, True)  # which is an event of its own
    trail.answered(QUESTION, False)
    assert await trail.settle() is None
    assert told == [StateChanged("opened"), MET, StateChanged("verifying")]
    assert [event for event, _ in log.entries] == ["link_opened", "authenticated", "refused"]
    (run,) = {members["run"] for _, members in log.entries}
    assert len(run) == 16
    assert all(members["transfer_id"] == "x" for _, members in log.entries)
    assert all(members["role"] == "sender" for _, members in log.entries)


async def test_strangers_and_bad_networks_fill_no_disk():
    log = Log()
    trail, _ = made(log)
    for _ in range(3 * MOST):
        trail.emit(StateChanged("lost"))
        trail.emit(StateChanged("lost"))  # said twice on end
        trail.emit(StateChanged("resumed"))
    await trail.settle()
    names = [event for event, _ in log.entries]
    assert names.count("interrupted") == names.count("resumed") == MOST
    left_out = [members["reason"] for event, members in log.entries if event == "left_out"]
    assert left_out == ["interrupted", "resumed"]


async def test_nothing_is_noted_after_the_end():
    log = Log()
    trail, told = made(log)
    trail.close()
    trail.emit(StateChanged("opened"))
    await trail.settle()
    assert (log.entries, told) == ([], [StateChanged("opened")])


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Failure("home_unwritable", "full")]
)
async def test_a_log_that_cannot_be_written_holds_nothing_up_and_is_told_at_the_end(error):
    log = Log()
    trail, told = made(log)
    log.fails = error
    trail.emit(StateChanged("opened"))
    await asyncio.sleep(0)
    trail.emit(StateChanged("admitted"))
    assert await trail.settle()
    assert len(told) == 2


def test_changes_of_identity_and_contacts_are_noted(tmp_path):
    home = Home(tmp_path / "home")
    home.identity.load()
    home.identity.load()
    home.identity.set_label("Radiology")
    for verified in (False, False, True, True):
        home.contacts.pin(b"\x02" * 32, "Klinik", verified=verified)
    home.contacts.rename("Klinik", "Klinik Nord")
    home.contacts.remove("Klinik Nord")
    told = [line.fields["event"] for line in home.audit.walk() if line.fields]
    assert told == [
        "identity_made",
        "label_changed",
        "contact_added",
        "contact_compared",
        "contact_renamed",
        "contact_removed",
    ]
    assert b"Klinik" not in home.audit.path.read_bytes()
