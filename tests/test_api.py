"""The API as somebody in a notebook guesses it, over real connections on this machine."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

import p2p
from p2p import Home, api
from p2p.protocol.link import make_link
from p2p.state.journal import Journal, Journals, SenderRecord


async def answering(transfer, *answers):
    """Iterate to the end and answer each question; the questions."""
    asked, left = [], list(answers)
    async for event in transfer:
        if isinstance(event, p2p.Question):
            asked.append(event)
            await transfer.answer(left.pop(0))
    return asked


@pytest.fixture
def homes(tmp_path):
    return {"sender": tmp_path / "s", "recipient": tmp_path / "r"}


def test_every_public_name_is_there():
    """Though it may be loaded only now, each is there, and the package's are those of the API."""
    assert len(api.__all__) == len({*api.__all__})
    assert {name for name in api.__all__ if not hasattr(api, name)} == set()
    assert {*vars(api)["_LATER"]} <= {*api.__all__}
    assert {name for name in p2p.__all__ if getattr(p2p, name) is not getattr(api, name)} == set()
    assert {*p2p.__all__} <= {*dir(p2p)}
    assert p2p.api is api
    for module in (p2p, api):
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            getattr(module, "nonsense")  # noqa: B009


async def test_send_receive_answer_result(tmp_path, some, homes):
    transfer = await p2p.send(some, home=homes["sender"])
    assert transfer.link in transfer.links
    other = await p2p.receive(transfer.link, tmp_path / "inbox", home=homes["recipient"])
    questions = await asyncio.gather(answering(transfer, True), answering(other, True))
    assert [[one.kind for one in asked] for asked in questions] == [["admit"], ["accept"]]
    assert questions[1][0].offer.files == 3
    sent, received = await asyncio.gather(transfer.result(), other.result())
    assert sent.ending is received.ending is p2p.Ending.COMPLETE
    assert sent.message.startswith("Delivered and verified")
    assert received.receipt
    assert p2p.verify_receipt(received.receipt.read_bytes()).confirmed
    assert {p.name for p in (tmp_path / "inbox" / some.name).iterdir()} == {
        p.name for p in some.iterdir()
    }
    assert (await transfer.result()) == sent  # as often as one likes


async def test_nobody_iterates_and_nobody_is_asked_with_auto(tmp_path, some, homes):
    """Paths as text, alone or in a list; the handle is a context manager too."""
    async with p2p.send([str(some)], auto=True, home=homes["sender"]) as transfer:
        link = (await transfer).link
        other = p2p.receive(link, str(tmp_path / "inbox"), auto=True, home=homes["recipient"])
        outcomes = await asyncio.gather(transfer.result(), other.result())
    assert [one.code for one in outcomes] == ["", ""]
    events = [event async for event in transfer]  # they were kept
    assert isinstance(events[0], p2p.LinkMade)
    assert (events[0].files, events[0].folders) == (3, 1)
    assert isinstance(events[-1], p2p.Completed)


async def test_a_question_that_nobody_can_see_ends_it(some, homes, tmp_path):
    transfer = await p2p.send(some, home=homes["sender"])
    other = p2p.receive(transfer.link, tmp_path / "inbox", home=homes["recipient"])
    sent, received = await asyncio.wait_for(asyncio.gather(transfer.result(), other.result()), 30)
    assert sent.code == "needs_answer"
    assert received.ending is p2p.Ending.FAILED


async def test_what_ends_it_before_there_is_a_link_is_raised(tmp_path, homes):
    with pytest.raises(p2p.Failure, match="does not exist") as caught:
        await p2p.send(tmp_path / "nothing", home=homes["sender"])
    assert caught.value.code == "nothing_to_send"
    transfer = p2p.send(tmp_path / "nothing", home=homes["sender"])  # not awaited: an outcome
    assert (await transfer.result()).code == "nothing_to_send"
    with pytest.raises(ValueError, match="no link"):
        _ = transfer.link


async def test_a_link_that_is_none_is_an_outcome(tmp_path, homes):
    transfer = await p2p.receive("https://example.org/", tmp_path, home=homes["recipient"])
    outcome = await transfer.result()
    assert outcome.code == "link_invalid"
    assert [type(event) async for event in transfer] == [p2p.Failed]


async def test_cancelling_ends_it_and_leaving_the_context_does_too(some, homes):
    transfer = await p2p.send(some, home=homes["sender"])
    with pytest.raises(TimeoutError):  # giving up waiting is not cancelling
        await asyncio.wait_for(transfer.result(), 0.2)
    transfer.cancel()
    assert (await transfer.result()).code == "cancelled"
    async with await p2p.send(some, home=homes["sender"]) as second:
        pass
    assert (await second.result()).ending is p2p.Ending.ABORTED


async def test_cancelled_at_once_it_still_says_how_it_ended(some, homes):
    transfer = p2p.send(some, home=homes["sender"])
    transfer.cancel()
    assert (await transfer.result()).code == "cancelled"
    for _ in range(2):  # the events are read once, and nobody waits for more
        events = [event async for event in transfer]
        assert not events or isinstance(events[-1], p2p.Failed)
    with pytest.raises(p2p.Failure, match=r"cancelled|stopped"):
        await transfer


async def test_an_error_of_the_program_is_an_outcome_too(some, homes, monkeypatch):
    async def broken(work, *_):
        work.close()
        raise KeyError("broken")

    monkeypatch.setattr(api, "conclude", broken)
    transfer = p2p.send(some, home=homes["sender"])
    assert (await transfer.result()).code == "internal"
    assert isinstance([event async for event in transfer][-1], p2p.Failed)


@pytest.mark.parametrize("role", ["sender", "recipient"])
async def test_without_an_engine_nothing_is_begun(some, homes, monkeypatch, tmp_path, role):
    link = make_link("http://192.0.2.1", bytes(32), bytes(32), passphrase=False)
    monkeypatch.setattr("p2p.lanes.webrtc.available", tuple)
    monkeypatch.setattr("p2p.transfer.options.available", tuple, raising=False)
    if role == "sender":
        transfer = p2p.send(some, home=homes[role])
    else:
        transfer = p2p.receive(str(link), tmp_path / "inbox", auto=True, home=homes[role])
    outcome = await asyncio.wait_for(transfer.result(), 10)
    assert outcome.code == "engine_missing"
    await asyncio.sleep(0.1)
    assert p2p.unfinished(homes[role]) == []


async def test_the_data_folder_may_be_named_from_here(some, tmp_path, monkeypatch):
    """And the working directory may change afterwards."""
    monkeypatch.chdir(tmp_path)
    transfer = await p2p.send(some, auto=True, home="sender")
    other = p2p.receive(transfer.link, "inbox", auto=True, home="recipient")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcomes = await asyncio.wait_for(asyncio.gather(transfer.result(), other.result()), 30)
    assert [one.code for one in outcomes] == ["", ""]
    assert len(list((tmp_path / "recipient" / "receipts").iterdir())) == 1
    assert len(list((tmp_path / "recipient" / "annexes").iterdir())) == 1


def begun(home, **more):
    """The journal of a sender's transfer, as a process that died has left it."""
    record = SenderRecord(
        transfer_id=bytes(16),
        link=str(make_link("http://192.0.2.1", bytes(32), bytes(32), passphrase=False)),
        identity=bytes(32),
        manifest_sha256=bytes(32),
        began="2026-01-01T00:00:00Z",
        owner=bytes(32),
        expires="2030-01-01T00:00:00+00:00",
        **more,
    )
    journal = Journal(Journals(home).path(record), record)
    Journals(home).begin(journal, b"{}")
    journal.write()
    journal.release()
    return journal


async def test_what_could_not_be_resumed_can_be_tried_again(homes):
    """The certificate is gone: the transfer is not held for good."""
    journal = begun(Home(homes["sender"]), tls="files", certificate=b"/no", key=b"/no")
    kept = []  # as a notebook keeps the last one
    for _ in range(2):
        with pytest.raises(p2p.Failure) as caught:
            p2p.resume(journal.short_id, home=homes["sender"])
        kept.append(caught.value)
    assert [one.code for one in kept] == ["certificate_unusable"] * 2


async def test_a_look_at_what_is_unfinished_erases_nothing(homes, monkeypatch):
    begun(Home(homes["sender"]))
    monkeypatch.setattr(Journal, "expired", True)
    assert [one.role for one in p2p.unfinished(homes["sender"])] == ["sender"]
    p2p.tidy(homes["sender"])
    assert p2p.unfinished(homes["sender"]) == []


async def test_a_question_is_dropped_when_whom_it_is_about_is_gone(some, homes, tmp_path):
    transfer = await p2p.send(some, home=homes["sender"])
    other = p2p.receive(transfer.link, tmp_path / "inbox", auto=True, home=homes["recipient"])
    seen = []
    async with asyncio.timeout(30):
        async for event in transfer:
            seen.append(event)
            if isinstance(event, p2p.Question):
                other.cancel()
            elif isinstance(event, p2p.QuestionDropped):
                break
    with pytest.raises(ValueError, match="nothing was asked"):
        await transfer.answer(True)
    transfer.cancel()
    await transfer.result()


async def test_nobody_can_answer_where_that_is_said(some, homes):
    transfer = p2p.send(some, home=homes["sender"], interactive=False)
    outcome = await asyncio.wait_for(transfer.result(), 10)
    assert outcome.code == "needs_answer"


async def test_what_cannot_be_resumed_is_raised(homes):
    with pytest.raises(p2p.Failure) as caught:
        p2p.resume("12345678", home=homes["sender"])
    assert caught.value.code == "transfer_unknown"
    assert p2p.unfinished(homes["sender"]) == []


def test_the_arguments_stand_in_the_signatures():
    """No options object to find: the same names everywhere, keyword-only, with defaults."""
    common = {
        "passphrase", "verify", "auto", "limit", "compress", "direct", "direct_ports", "engine",
        "home", "interactive",
    }  # fmt: skip
    for call in (p2p.send, p2p.receive, p2p.resume):
        given = inspect.signature(call).parameters
        assert common <= given.keys()
        assert all(given[name].kind is inspect.Parameter.KEYWORD_ONLY for name in common)
        assert given["auto"].default is False


def test_everything_the_module_names_is_there():
    for name in [*p2p.__all__]:
        assert getattr(p2p, name) is not None
    for name in api.__all__:
        assert getattr(api, name) is not None


@pytest.mark.parametrize(
    ("purpose", "reason"), [("curiosity", ""), ("emergency", " "), ("treatment", "ö" * 129)]
)
async def test_a_purpose_is_one_that_there_is_and_an_emergency_has_a_reason(
    some, homes, purpose, reason
):
    with pytest.raises(ValueError, match=r"purpose|reason"):
        p2p.send(some, home=homes["sender"], purpose=purpose, reason=reason)


async def test_a_relay_alone_needs_a_server_that_may_have_one(some, homes):
    with pytest.raises(ValueError, match="server"):
        p2p.send(some, home=homes["sender"], relay_only=True)


async def test_relays_alone_and_no_relay_leave_no_way(some, homes):
    both: dict[str, Any] = {"relay_only": True, "no_relay": True}
    link = "https://a.example/#1.A.A"
    for start in (
        lambda home: p2p.send(some, server="https://a.example", home=home, **both),
        lambda home: p2p.receive(link, home=home, **both),
        lambda home: p2p.resume("ab", home=home, **both),
    ):
        with pytest.raises(ValueError, match="no way"):
            start(homes["sender"])
