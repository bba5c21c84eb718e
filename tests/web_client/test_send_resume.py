"""What was cut while a page sent goes on behind the same link, and ends byte for byte as it was chosen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.e2e.harness import Peer, kill_hard

from .page_sender import PageSender
from .recipient import digest, finish, transfer_of
from .test_memory import renderers

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZE = 40_000_000
LIMIT = ("--limit", "6M")  # so slow that a part of it can be met


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(host_at):
    return await host_at("chromium")


@pytest.fixture
def scan(tmp_path):
    """Large enough to be caught half-way."""
    path = tmp_path / "source" / "scan.raw"
    path.parent.mkdir()
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def series(tmp_path):
    """Several, of which one can be missed."""
    root = tmp_path / "source" / "series"
    root.mkdir(parents=True)
    for number in range(6):
        (root / f"{number}.dcm").write_bytes(os.urandom(10_000_000))
    return root


def going_on(receiving, part=0.0):
    """It never went back, and what was on the disk was not sent again."""
    told = [e for e in receiving.events if e["event"] == "progress"]
    durable = [e["durable"] for e in told]
    assert durable == sorted(durable)
    assert durable[-1] == told[-1]["total"]
    states = [e.get("state") for e in receiving.events]
    assert "resumed" in states
    at = states.index("resumed")
    after = [e["durable"] for e in receiving.events[at:] if e["event"] == "progress"]
    assert after[0] >= 0.8 * part * told[-1]["total"]


async def half_way(host, origin, receiver, paths, out, part=0.4, limit="6M"):
    """A transfer of which this part is there; and how it ends at the other side."""
    link = await host.send(origin, paths)
    receiving = receiver.receive(link, out, "--auto", "--limit", limit)
    ending = finish(receiving, 150)
    await host.admit()
    await host.come_to(part)
    return link, receiving, ending


async def test_a_reload_goes_on_once_the_same_is_chosen_again(
    host, origin, receiver, scan, tmp_path
):
    """The recipient waits, and is not asked; the page knows how far it was."""
    _, receiving, ending = await half_way(host, origin, receiver, [scan], tmp_path / "out")
    await host.reload()
    await host.page.wait_for(".card.choose_again")
    assert "1 file, 40 MB" in await host.text()
    await host.choose_again(scan)
    await host.sent(120)
    assert (await ending)[0] == 0
    going_on(receiving, 0.4)
    assert digest(tmp_path / "out" / scan.name) == digest(scan)
    assert host.page.errors == []


@pytest.mark.parametrize("how", ["chosen", "dropped"])
async def test_what_differs_is_named_and_left_out(
    chromium, origin, receiver, series, tmp_path, how
):
    """One has changed and one is gone; the receipts of both count them."""
    out = tmp_path / "out"
    await chromium.open(origin)
    if how == "dropped":
        await chromium.drop(series)
    else:
        await chromium.choose(series)
    link = await chromium.make_link()
    receiving = receiver.receive(link, out, "--auto", *LIMIT)
    ending = finish(receiving, 150)
    await chromium.admit()
    await chromium.come_to(0.2)
    (series / "4.dcm").write_bytes(os.urandom(10_000_000))
    (series / "5.dcm").unlink()
    await chromium.reload()
    await chromium.choose_again(
        series
    )  # a dropped one too, where the browser does not let us read it
    await chromium.page.wait_for(".card.differences", 30)
    said = await chromium.text()
    assert "Not as you chose before: 2 files" in said
    assert "Missing: series/5.dcm" in said
    assert "Changed since then: series/4.dcm" in said
    await chromium.page.click(".card.differences .choices .primary")
    assert await chromium.sent(120) == "Finished, but 2 files did not arrive"
    failed = await chromium.page.text(".card.sent .failed")
    assert "series/4.dcm" in failed
    assert "series/5.dcm" in failed
    code, last = await ending
    assert (code, last["ending"]) == (3, "incomplete")
    payload = transfer_of(json.loads(Path(last["receipt"]).read_text()))
    assert payload["outcome"] == "incomplete"
    assert payload["content"]["entries"] - payload["content"]["delivered_entries"] == 2
    assert sorted(path.name for path in (out / "series").iterdir()) == [
        f"{number}.dcm" for number in range(4)
    ]
    for number in range(4):
        assert digest(out / "series" / f"{number}.dcm") == digest(series / f"{number}.dcm")
    assert chromium.page.errors == []


async def test_dropped_files_go_on_by_their_handles_or_are_chosen_again(
    chromium, origin, receiver, scan, tmp_path
):
    """The browser asks whether the page may read them, which nobody answers here; so there is another
    way."""
    await chromium.open(origin)
    await chromium.drop(scan)
    link = await chromium.make_link()
    receiving = receiver.receive(link, tmp_path / "out", "--auto", *LIMIT)
    ending = finish(receiving, 150)
    await chromium.admit()
    await chromium.come_to(0.4)
    await chromium.reload()
    await chromium.page.wait_for(".card.choose_again")
    assert "The browser asks once more whether this page may read 1 file" in await chromium.text()
    await chromium.choose_again(scan)
    await chromium.sent(120)
    assert (await ending)[0] == 0
    going_on(receiving, 0.4)
    assert digest(tmp_path / "out" / scan.name) == digest(scan)


@pytest.mark.faults
async def test_a_killed_browser_goes_on_from_the_start_screen(
    browser, origin, receiver, scan, tmp_path
):
    """In the same profile; what is there is said before anything is chosen."""
    host = PageSender(browser.page, browser)
    out = tmp_path / "out"
    _, receiving, ending = await half_way(host, origin, receiver, [scan], out, 0.2, "4M")
    await asyncio.sleep(2.5)  # it notes how far it is every two seconds
    await browser.kill()
    host = PageSender(await browser.start(), browser)
    await host.open(origin)
    await host.page.wait_for(".card.home .note .choices")
    said = await host.text()
    assert "Not finished: 1 file, 40 MB to “Klinik Nord, Befundung”." in said
    assert "of 40 MB are on the recipient’s disk already" in said
    await host.page.click(".card.home .note .choices .primary")
    await host.choose_again(scan)
    await host.sent(120)
    assert (await ending)[0] == 0
    going_on(receiving, 0.4)
    assert digest(tmp_path / "out" / scan.name) == digest(scan)


async def test_a_killed_tab_goes_on_after_a_reload(open_browser, origin, receiver, scan, tmp_path):
    """The process that runs the page is gone, as when memory is short."""
    browser = await open_browser("chromium")
    host = PageSender(browser.page, browser)
    _, receiving, ending = await half_way(host, origin, receiver, [scan], tmp_path / "out")
    killed = renderers(browser)
    for process in killed:
        process.kill()
    await asyncio.to_thread(psutil.wait_procs, killed)
    await asyncio.sleep(1)  # it starts one to have in reserve
    host = PageSender(await browser.new_page(), browser)
    await host.open(origin)
    await host.page.click(".card.home .note .choices .primary")
    await host.choose_again(scan)
    await host.sent(120)
    assert (await ending)[0] == 0
    going_on(receiving, 0.4)
    assert digest(tmp_path / "out" / scan.name) == digest(scan)


@pytest.mark.faults
async def test_a_recipient_that_falls_silent_and_comes_back(
    chromium, origin, receiver, scan, tmp_path
):
    """For longer than the connection lives: the page says so, and waits."""
    _, receiving, ending = await half_way(chromium, origin, receiver, [scan], tmp_path / "out")
    receiving.signal(signal.SIGSTOP)
    note = "document.querySelector('.card.running .note').textContent"
    await chromium.page.wait_until(f"{note}.includes('Nothing heard from the recipient')", 30)
    await chromium.page.wait_until(f"{note}.includes('Waiting for the recipient')", 60)
    assert await chromium.records("receipts") == []
    receiving.signal(signal.SIGCONT)
    await chromium.sent(120)
    assert (await ending)[0] == 0
    going_on(receiving, 0.4)
    assert digest(tmp_path / "out" / scan.name) == digest(scan)
    assert chromium.page.errors == []


@pytest.mark.faults
async def test_a_recipient_that_died_and_is_started_again_is_let_in_without_a_question(
    chromium, origin, receiver, scan, tmp_path
):
    """And nobody else in the meantime."""
    link, receiving, ending = await half_way(chromium, origin, receiver, [scan], tmp_path / "out")
    kill_hard(receiving)
    with contextlib.suppress(AssertionError, ValueError):
        await ending
    stranger = Peer(tmp_path / "stranger", "Klinik Nord, Befundung")
    last = (await finish(stranger.receive(link, tmp_path / "no", "--auto")))[1]
    assert last["code"] == "claimed"
    again = receiver.start("resume", "--auto")
    ending = finish(again, 120)
    await chromium.sent(120)
    assert (await ending)[0] == 0
    told = [e["durable"] for e in again.events if e["event"] == "progress"]
    assert told[0] >= 0.8 * 0.4 * SIZE
    assert digest(tmp_path / "out" / scan.name) == digest(scan)
    stranger.close()
    assert chromium.page.errors == []


async def test_a_page_that_receives_goes_on_after_the_sender_s_reload(chromium, at, origin, scan):
    """Browser to browser, without a hand at the recipient's side."""
    visitor = await at("chromium")
    link = await chromium.send(origin, [scan])
    await visitor.open(link.replace("localhost", "127.0.0.1"))
    await visitor.start()
    await chromium.admit()
    await visitor.accept()
    await chromium.come_to(0.05)
    await chromium.reload()
    await chromium.choose_again(scan)
    await chromium.sent(120)
    await visitor.delivered()
    assert digest(await visitor.save(scan.name)) == digest(scan)
    assert chromium.page.errors == visitor.page.errors == []


# --- what changes on the disk


async def test_a_file_that_changes_while_it_is_sent_is_withdrawn_by_name(
    chromium, origin, receiver, series, tmp_path
):
    """Chosen by the page's field, so without handles: Chromium refuses to read what has changed."""
    paths = sorted(series.iterdir())
    _, _, ending = await half_way(chromium, origin, receiver, paths, tmp_path / "out", part=0.1)
    time.sleep(0.01)
    (series / "4.dcm").write_bytes(os.urandom(10_000_000))
    with open(series / "5.dcm", "ab") as file:
        file.write(b"more")
    await withdrawn(chromium, ending, tmp_path / "out", ["4.dcm", "5.dcm"])


async def test_a_file_that_shrinks_or_is_gone_is_withdrawn_by_name(
    host, origin, receiver, series, tmp_path
):
    """That Firefox notices as well; of one that was changed in place or has grown it tells no page."""
    paths = sorted(series.iterdir())
    out = tmp_path / "out"
    _, _, ending = await half_way(host, origin, receiver, paths, out, 0.1, "8M")
    os.truncate(series / "4.dcm", 1_000_000)
    (series / "5.dcm").unlink()
    await withdrawn(host, ending, out, ["4.dcm", "5.dcm"])


async def test_a_dropped_file_that_changes_after_it_was_sent_is_withdrawn_by_name(
    chromium, origin, receiver, series, tmp_path
):
    """With handles it is looked at again at the end."""
    await chromium.open(origin)
    await chromium.drop(*sorted(series.iterdir()))
    link = await chromium.make_link()
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto", *LIMIT), 150)
    await chromium.admit()
    await chromium.come_to(0.4)
    (series / "0.dcm").write_bytes(os.urandom(10_000_000))
    await withdrawn(chromium, ending, tmp_path / "out", ["0.dcm"])


async def withdrawn(host, ending, out, names):
    """These are named at both sides and not there; the others are."""
    count = f"{len(names)} file{'s' * (len(names) > 1)}"
    assert await host.sent(120) == f"Finished, but {count} did not arrive"
    failed = await host.page.text(".card.sent .failed")
    for name in names:
        assert f"{name}: " in failed
    code, last = await ending
    assert (code, last["ending"]) == (3, "incomplete")
    there = {path.name for path in out.iterdir()}
    assert not there & set(names)
    assert len(there) == 6 - len(names)
    assert host.page.errors == []
