"""Files that a page sends arrive as they are, whoever receives them, and both have one receipt."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from p2p.protocol import receipt as receipts
from p2p.protocol.codec import decode_base64url, encode_base64url
from tests.e2e.harness import Peer, sha256sums
from tests.e2e.test_web import serving

from .browsers import KINDS
from .page_sender import NAME
from .recipient import Recipient, digest, finish, transfer_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARTS = 3


@pytest.fixture
def study(tmp_path):
    """A folder as it comes: umlauts, empty files, folders in folders."""
    root = tmp_path / "source" / "Größe Ä & Co"
    (root / "Müller, Jörg" / "CT 1").mkdir(parents=True)
    (root / "Müller, Jörg" / "Überweisung.txt").write_text("Grüße")
    (root / "Müller, Jörg" / "nichts").write_bytes(b"")
    (root / "Müller, Jörg" / "CT 1" / "日本 🩻.dcm").write_bytes(os.urandom(70_000))
    (root / "IM000001").write_bytes(os.urandom(3_000_000))
    return root


@pytest.fixture
def files(study):
    """Some that lie beside each other."""
    root = study.parent / "files"
    root.mkdir()
    for name, size in (("Übersicht.pdf", 2_000_000), ("leer.txt", 0), ("CT Thorax.dcm", 70_000)):
        (root / name).write_bytes(os.urandom(size))
    return sorted(root.iterdir())


def receipt_of(last):
    """Where the command line keeps it, and the transfer's id as a page says it."""
    kept = Path(last["receipt"])
    return kept, encode_base64url(bytes.fromhex(kept.name.split(".")[0]))


PUBLIC = """async ({ pair }) =>
  [...new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey))]"""
LINES = "(lines) => lines.map((line) => new TextDecoder().decode(line))"


async def test_a_server_asks_the_page_for_a_token(host, sender, receiver, files, tmp_path):
    """Again where it does not know the one it is given; the recipient needs none."""
    tokens = tmp_path / "tokens"
    made = sender.run("token", "Notaufnahme", "--add-to", tokens)
    with serving(sender, "--allowed-tokens", str(tokens)) as (port, _):
        await host.open(f"http://127.0.0.1:{port}")
        await host.choose(files[0])
        await host.page.wait_for(".card.choose")
        await host.read()
        await host.page.fill("#label", NAME)
        await host.page.click("form .primary")
        await host.page.wait_for("#token")
        assert not await host.shows("[role=alert]")
        await host.page.fill("#token", "a wrong one")
        await host.page.click("form .primary")
        await host.page.wait_for(".card.token [role=alert]")
        assert "did not accept that token" in await host.text()
        await host.page.fill("#token", made.stdout.strip())
        await host.page.click("form .primary")
        await host.page.wait_for(".card.link")
        link = str(await host.page.evaluate("document.querySelector('#made').value"))
        ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
        await host.admit()
        assert (await host.sent()).startswith("Delivered and verified: 1 file")
        assert (await ending)[0] == 0
    assert digest(tmp_path / "out" / files[0].name) == digest(files[0])


EXPIRES = "[...document.querySelectorAll('#expires option')].map((one) => one.value).join()"


async def test_a_page_keeps_to_what_the_operator_asks(host, at, sender, receiver, files, tmp_path):
    """It says who runs the server, offers no longer time, and has the digits compared."""
    asked = ("--operator", "Example Hospital", "--max-expires", "90m", "--require", "either")
    with serving(sender, *asked) as (port, _):
        origin = f"http://127.0.0.1:{port}"
        await host.open(origin)
        await host.page.wait_for(".operator:not([hidden])")
        said = await host.page.evaluate("document.querySelector('.operator').textContent")
        assert said == "This server is run by “Example Hospital”."
        await host.choose(files[0])
        await host.page.wait_for(".card.choose .options[open]")
        assert "or that both sides compare the check digits" in await host.text()
        assert await host.page.evaluate(EXPIRES) == "3600,5400"
        link = await host.make_link()
        visitor = await at(host.browser.kind)
        await visitor.open(link)
        await visitor.page.wait_for(".operator:not([hidden])")
        await visitor.start()
        await visitor.page.wait_for(".card.digits")
        await visitor.page.click(".card.digits .choices .primary")
        await host.compared(same=True)
        await visitor.accept()
        assert (await host.sent()).startswith("Delivered and verified: 1 file")
        noted = [one for one in await log_of(host) if one["event"] == "policy"]  # of one browser
        told = {"operator": "Example Hospital", "max_expires": 5400, "require": "either"}
        assert [one["role"] for one in noted] == ["sender", "recipient"]
        assert all(told.items() <= one.items() for one in noted)
        code, last = receiver.receive(link, tmp_path / "out", "--auto").end()
        assert (code, last["code"]) in ((1, "not_found"), (1, "not_allowed"))
    assert host.page.errors == visitor.page.errors == []


async def test_a_page_asks_for_the_passphrase_that_the_operator_requires(
    host, sender, receiver, files, tmp_path
):
    with serving(sender, "--require", "passphrase") as (port, _):
        await host.open(f"http://127.0.0.1:{port}")
        await host.choose(files[0])
        await host.page.wait_for(".card.choose .options[open]")
        await host.read()
        await host.page.fill("#label", NAME)
        await host.page.click("form .primary")
        assert await host.shows(".card.choose #passphrase:invalid")
        link = await host.make_link(passphrase="correct horse")
        secret = {"HANDOVER_PASSPHRASE": "correct horse"}
        ending = finish(receiver.receive(link, tmp_path / "out", "--auto", **secret))
        await host.admit()
        assert (await host.sent()).startswith("Delivered and verified: 1 file")
        assert (await ending)[0] == 0


async def log_of(person):
    """The entries of a browser's audit log."""
    return [json.loads(line) for line in await person.records("audit", then=LINES)]


async def test_a_folder_and_files_arrive_at_the_command_line(
    host, origin, receiver, study, files, tmp_path, engine
):
    """Bit for bit, by the name of who sent it; one receipt, which holds, with the keys of both."""
    await host.open(origin)
    await host.choose(study)
    await host.page.wait_for(".card.choose")
    await host.choose(*files)
    await host.page.wait_until("document.querySelectorAll('.tree li').length === 4")
    link = await host.make_link()
    receiving = receiver.receive(link, tmp_path / "out", "--auto", "--engine", engine)
    ending = finish(receiving)
    await host.admit()
    assert (await host.sent()).startswith("Delivered and verified: 7 files")
    code, last = await ending
    assert code == 0, last
    arrived = sha256sums(tmp_path / "out")
    beside = {f"./{path.name}": digest(path) for path in files}
    inside = {
        f"./{study.name}/{path.removeprefix('./')}": value
        for path, value in sha256sums(study).items()
    }
    assert arrived == beside | inside
    for path in files:  # to the millisecond, which is what a page is told
        there = (tmp_path / "out" / path.name).stat().st_mtime_ns
        assert abs(there - path.stat().st_mtime_ns) < 1_000_000
    kept, transfer_id = receipt_of(last)
    saved = await host.save_receipt(transfer_id)
    assert saved.read_bytes() == kept.read_bytes()
    done = receiver.run("receipt", "verify", str(saved), "--files", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert receipts.verify(saved.read_bytes()).confirmed
    payload = transfer_of(json.loads(saved.read_bytes()))
    assert payload["sender"]["label"] == NAME
    assert payload["recipient"]["label"] == "Klinik Nord, Befundung"
    own = bytes(await host.records("settings", 'get("keys")', PUBLIC))
    assert payload["sender"]["jwk"]["x"] == encode_base64url(own)
    await host.nothing_left()
    assert host.page.errors == []


@pytest.mark.parametrize("other", KINDS)
async def test_a_page_receives_what_a_page_sends(host, at, origin, files, other):
    """In all pairs. Storage is by origin, so who receives is by another address somebody else."""
    await host.open(origin)
    await host.choose(*files)
    await host.page.wait_for(".card.choose")
    await host.page.fill("#label", NAME)
    await host.state_purpose("ETREAT")
    await host.page.click("form .primary")
    assert await host.shows(".card.choose")  # an emergency needs a reason
    await host.choose(files[0])  # once more, and the form is made anew with what stands in it
    await host.page.wait_for(".card.choose [role=alert]")  # it is there already
    await host.page.click("details.options > summary")
    await host.page.click("form .primary")
    await host.page.wait_until("document.querySelector('details.options').open")  # for the reason
    assert await host.shows(".card.choose")
    await host.page.fill("#reason", "Schlaganfall, im OP")
    link = await host.make_link()
    visitor = await at(other)
    await visitor.open(link.replace("localhost", "127.0.0.1"))
    await visitor.start()
    await host.admit()
    await visitor.offered()
    text = await visitor.text()
    assert "Purpose: EMERGENCY treatment" in text
    assert "Reason: “Schlaganfall, im OP”" in text
    await visitor.accept()
    assert (await visitor.delivered()).startswith("Delivered and verified: 3 files")
    assert (await host.sent()).startswith("Delivered and verified: 3 files")
    archive = await visitor.save(await title_of(visitor))
    with zipfile.ZipFile(archive) as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == {
            path.name: path.read_bytes() for path in files
        }
    for side in (host, visitor):
        lines = await side.records("audit", then=LINES)
        entry = next(one for one in map(json.loads, lines) if one["event"] == "transfer")
        assert entry["purpose"] == "ETREAT"
    (record,) = await visitor.records("receipts", "getAllKeys()")
    saved = await host.save_receipt(str(record))
    assert receipts.verify(saved.read_bytes()).confirmed
    await visitor.page.click(".card.done .receipt")
    theirs = await visitor.browser.downloaded(f"{decode_base64url(record).hex()}.receipt.json")
    assert saved.read_bytes() == theirs.read_bytes()
    assert host.page.errors == visitor.page.errors == []


async def title_of(visitor):
    """The name that what arrived is saved under."""
    words = await visitor.page.text(".card.done .choices .primary")
    return words.removeprefix("Save ").rsplit(" (", 1)[0]


async def test_dropped_files_are_sent(host, origin, receiver, study, files, tmp_path):
    """In Chromium a folder too, whose empty folders are sent as well."""
    chromium = host.browser.kind == "chromium"
    (study / "leer").mkdir()
    await host.open(origin)
    await host.drop(*files, *([study] if chromium else []))
    await host.page.wait_for(".card.choose")
    link = await host.make_link()
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
    await host.admit()
    await host.sent()
    assert (await ending)[0] == 0
    names = {path.name for path in files}
    if chromium:
        there = tmp_path / "out" / study.name
        assert sha256sums(there) == sha256sums(study)
        assert (there / "leer").is_dir()
        names.add(study.name)
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert host.page.errors == []


PICKERS = """void (async () => {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("Aufnahme", { create: true });
  const deep = await folder.getDirectoryHandle("Serie 1", { create: true });
  const put = async (where, name, size) => {
    const file = await where.getFileHandle(name, { create: true });
    const stream = await file.createWritable();
    const bytes = new Uint8Array(65536);
    for (let at = 0; at < size; at += bytes.length) {
      crypto.getRandomValues(bytes); // else compression outruns the limit
      await stream.write(bytes.subarray(0, Math.min(bytes.length, size - at)));
    }
    await stream.close();
    return file;
  };
  await put(folder, "a.dcm", 1000);
  await put(deep, "b.dcm", 40_000_000);
  const single = await put(root, "Befund.txt", 70_000);
  window.showOpenFilePicker = async () => [single];
  window.showDirectoryPicker = async () => folder;
  window.picked = true;
})()"""


async def test_what_is_picked_by_handles_goes_on_after_a_reload_by_itself(
    host_at, origin, receiver, tmp_path
):
    """Behind the same link. Pickers cannot be clicked, so they give handles of the page's own file
    system."""
    host = await host_at("chromium")
    await host.open(origin)
    await host.page.evaluate(PICKERS)
    await host.page.wait_until("window.picked")
    await host.page.click(".card > .choices .primary")
    await host.page.wait_for(".card.choose")
    await host.page.click(".card > .choices button:nth-child(2)")
    await host.page.wait_until("document.querySelectorAll('.tree li').length === 2")
    link = await host.make_link()
    await host.reload()
    await host.page.wait_for(".card.link")
    assert await host.page.evaluate("document.querySelector('#made').value") == link
    receiving = receiver.receive(link, tmp_path / "out", "--auto", "--limit", "12M")
    ending = finish(receiving)
    await host.admit()
    await host.come_to(0.4)
    await host.reload()
    assert (await host.sent()).startswith("Delivered and verified: 3 files")
    assert (await ending)[0] == 0
    told = [event["durable"] for event in receiving.events if event["event"] == "progress"]
    assert told == sorted(told)
    out = tmp_path / "out"
    assert (out / "Aufnahme" / "a.dcm").stat().st_size == 1000
    assert (out / "Aufnahme" / "Serie 1" / "b.dcm").stat().st_size == 40_000_000
    assert (out / "Befund.txt").stat().st_size == 70_000
    assert host.page.errors == []


async def test_a_dropped_folder_of_20_000_is_listed_while_the_page_answers(
    host_at, origin, tmp_path
):
    """Before all is listed, whoever looks is told how far it is."""
    root = tmp_path / "many"
    for folder in range(20):
        (root / f"{folder:02d}").mkdir(parents=True)
        for number in range(1000):
            (root / f"{folder:02d}" / f"{number:04d}.dcm").write_bytes(b"%d" % number)
    host = await host_at("chromium")
    await host.open(origin)
    await host.page.evaluate(HEADINGS)
    await host.drop(root)
    await host.page.wait_for(".card.choose")
    await host.page.wait_until("/20,000.files/.test(document.querySelector('h1').innerText)", 60)
    await host.page.wait_until("document.querySelector('.busy').hidden")
    assert "20,000 files in 21 folders" in await host.title()
    assert await host.page.evaluate("window.seen.size") > 2  # how far it is, meanwhile
    assert host.page.errors == []


# What the heading said, as often as a timer of the page's own came round.
HEADINGS = """void (() => {
  window.seen = new Set();
  const look = () => {
    window.seen.add(document.querySelector("h1")?.innerText);
    setTimeout(look, 20);
  };
  look();
})()"""


async def test_the_link_does_not_wait_for_the_browser_s_question(host_at, origin, files):
    """Firefox asks whether the page may keep data, which nobody answers here: for 20 seconds, and for
    longer."""
    host = await host_at("firefox")
    await host.open(origin)
    await host.choose(*files)
    await host.make_link(seconds=15)


async def test_one_is_left_out_again_and_a_name_is_taken_once(host, origin, files, tmp_path):
    """What bears the name of something else that was chosen is named, and not added."""
    other = tmp_path / "other" / files[0].name
    other.parent.mkdir()
    other.write_bytes(b"another")
    await host.open(origin)
    await host.choose(*files)
    await host.page.wait_for(".card.choose")
    await host.choose(other)
    await host.page.wait_for(".card.choose [role=alert]")
    assert f"already: {other.name}." in await host.text()
    await host.read()
    await host.page.click(f"[aria-label='Leave out {other.name}']")
    await host.page.wait_until("document.querySelectorAll('.tree li').length === 2")
    assert (await host.title()).startswith("Send 2 files, ")
    await host.choose(other)
    await host.page.wait_until("document.querySelectorAll('.tree li').length === 3")


async def test_past_transfers_are_listed_saved_and_erased(host, origin, receiver, files, tmp_path):
    """One that was sent and one that was received; and the log of both, which the command line
    takes."""
    page, visitor = host.page, Recipient(host.page, host.browser)
    link = await host.send(origin, files)
    ending = finish(receiver.receive(link, tmp_path / "out", "--auto"))
    await host.admit()
    await host.sent()
    code, last = await ending
    assert code == 0, last
    kept, transfer_id = receipt_of(last)
    sending, link = receiver.send(*files, "--auto", "--server", origin)
    await page.evaluate("sessionStorage.clear()")
    await visitor.take(link)
    await visitor.delivered()
    assert (await finish(sending))[0] == 0
    await page.evaluate("sessionStorage.clear()")
    await page.evaluate("void navigator.locks")
    await visitor.page.goto("about:blank")
    await host.open(origin)
    await host.history()
    assert await page.evaluate("[...document.querySelectorAll('h2')].map((h) => h.innerText)") == [
        "Received from “Klinik Nord, Befundung”",
        "Sent to “Klinik Nord, Befundung”",
    ]
    await page.click(".past-transfer:nth-of-type(2) .choices button:first-child")
    saved = await host.browser.downloaded(f"{decode_base64url(transfer_id).hex()}.receipt.json")
    assert saved.read_bytes() == kept.read_bytes()
    done = receiver.run("receipt", "verify", str(saved))
    assert done.returncode == 0, done.stderr
    await page.click(".card.history > .choices button:first-child")
    told = (await host.browser.downloaded("handover-receipts.html")).read_text()
    assert told.startswith("<!doctype html>\n<html")
    assert told.count("<section>") == 2
    for text in ("Sent to “Klinik Nord, Befundung”", decode_base64url(transfer_id).hex(), "(UTC)"):
        assert text in told
    assert "src=" not in told  # it loads nothing
    assert not [path.name for path in files if path.name in told]
    await page.click(".past-transfer:nth-of-type(2) .choices button:last-child")
    await page.click(".past-transfer .note .quiet")
    await page.wait_until("document.querySelectorAll('.past-transfer').length === 1")
    assert len(await host.records("receipts")) == 1
    await page.click(".card.history > .choices button:nth-child(3)")
    assert "It cannot be undone" in await page.text(".card.history > .choices .note")
    await page.click(".card.history > .choices .note .primary")  # keep it
    await page.click(".card.history > .choices button:nth-child(3)")
    await page.click(".card.history > .choices .note .quiet")
    await page.wait_until("document.querySelectorAll('.past-transfer').length === 0")
    assert "No receipts are kept here." in await host.text()
    assert await host.records("receipts") == []
    await page.click(".card.history > .choices button:first-child")
    log = await host.browser.downloaded("audit.jsonl")
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    sent = ["link_made", "link_opened", "authenticated", "admitted", "accepted"]
    received = ["link_opened", "authenticated", "offered", "accepted"]
    assert [one for one in events if one in {*sent, *received}] == [*sent, *received]
    assert events[0] == "identity_made"
    exported = ["exported", "exported"]  # a receipt, and all of them as a page
    assert events[-5:] == ["log_read", *exported, "receipts_erased", "receipts_erased"]
    assert events.count("transfer") == 2
    assert events.count("contact_added") == 1
    done = Peer(tmp_path / "auditor", "Revision").run("audit", "verify", log)
    assert done.returncode == 0, done.stderr
    assert not {path.name for path in files} & set(log.read_text().split('"'))
    assert page.errors == []
