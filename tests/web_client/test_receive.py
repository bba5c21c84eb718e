"""Files that arrive in a browser are those that were sent, and the receipt says so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from p2p.protocol import receipt as receipts
from p2p.protocol.codec import encode_base64url
from tests.e2e.harness import sha256sums
from tests.e2e.test_web import serving

from .recipient import NAME, Recipient, digest, finish, transfer_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTEN = ("--listen", "127.0.0.1:0")
TIMES = (1_000_000_001, 1_700_000_007, 1_751_364_059, 2_000_000_001)  # odd seconds, summer, 2033


@pytest.fixture
def study(tmp_path, dicom):
    """A folder as it comes: DICOM of many kinds, umlauts, empty files and folders."""
    root = tmp_path / "Größe Ä & Co"
    shutil.copytree(dicom, root / "DICOM", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "leer").mkdir()
    (root / "Müller, Jörg").mkdir()
    (root / "Müller, Jörg" / "Überweisung.txt").write_text("Grüße")
    (root / "Müller, Jörg" / "nichts").write_bytes(b"")
    (root / "日本 🩻.dcm").write_bytes(os.urandom(70_000))
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, (0, TIMES[number % len(TIMES)]))
    return root


def unpacked(archive: Path, folder: Path) -> Path:
    """By Python's own reader, which checks names and sizes; then, where it is, by Info-ZIP."""
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        file.extractall(folder)
    if program := shutil.which("unzip"):
        again = folder.with_name(f"{folder.name}-again")
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        subprocess.run([program, "-q", archive, "-d", again], check=True, env=environment)
        assert sha256sums(again) == sha256sums(folder)
        right_times(again)
    return folder


def right_times(folder: Path) -> None:
    """Each as the sender had it, to the two seconds of the format."""
    top = next(folder.iterdir())
    for number, path in enumerate(sorted(top.rglob("*"))):
        if path.is_file():
            assert abs(path.stat().st_mtime - TIMES[number % len(TIMES)]) <= 2, path


async def test_a_folder_arrives_as_an_archive(sender, visitor, study, tmp_path, engine):
    """Every name, byte and time of it, empty folders too."""
    sending, link = sender.send(study, "--auto", *LISTEN, "--engine", engine)
    await visitor.take(link)
    count = sum(path.is_file() for path in study.rglob("*"))
    assert (await visitor.delivered()).startswith(f"Delivered and verified: {count} files in")
    archive = await visitor.save(f"{study.name}.zip")
    assert (await finish(sending))[0] == 0
    out = unpacked(archive, tmp_path / "out")
    assert sha256sums(out / study.name) == sha256sums(study)
    assert sorted(p.relative_to(out / study.name) for p in (out / study.name).rglob("*")) == sorted(
        p.relative_to(study) for p in study.rglob("*")
    )
    with zipfile.ZipFile(archive) as file:
        for number, path in enumerate(sorted(study.rglob("*"))):
            name = f"{study.name}/{path.relative_to(study)}{'/' * path.is_dir()}"
            said = time.mktime((*file.getinfo(name).date_time, 0, 0, -1))
            if path.is_file():
                assert abs(said - TIMES[number % len(TIMES)]) <= 2, name
    assert visitor.page.errors == []


async def test_a_large_file_arrives_as_itself(sender, visitor, tmp_path):
    """Under its own name; 120 MB, of which only parts are on their way or unsynced at a time."""
    source = tmp_path / "CT Thorax.dcm"
    source.write_bytes(os.urandom(1_000_000) * 120)
    sending, link = sender.send(source, "--auto", *LISTEN)
    await visitor.take(link)
    ending = finish(sending, 150)
    await visitor.delivered(150)
    path = await visitor.save(source.name)
    assert (await ending)[0] == 0
    assert digest(path) == digest(source)
    assert visitor.page.errors == []


async def test_a_sparse_file_arrives_whole(sender, visitor, tmp_path):
    """Its holes are not sent, and read as zeros; 120 MB with three islands."""
    source = tmp_path / "image.raw"
    with open(source, "wb") as file:
        file.truncate(120_000_000)
        for place in (0, 60_000_123, 119_000_000):
            file.seek(place)
            file.write(os.urandom(1_000_000))
    sending, link = sender.send(source, "--auto", *LISTEN)
    await visitor.take(link)
    ending = finish(sending, 150)
    await visitor.delivered(150)
    path = await visitor.save(source.name)
    assert (await ending)[0] == 0
    assert digest(path) == digest(source)


def joserfc_verifies(document: bytes) -> None:
    """Both signatures, by a library that is not ours."""
    value, payload = json.loads(document), transfer_of(json.loads(document))
    parties = (payload["recipient"], payload["sender"])
    for signature, party in zip(value["signatures"], parties, strict=True):
        one: jws.GeneralJSONSerialization = {
            "payload": value["payload"],
            "signatures": [signature],
        }
        key = OKPKey.import_key(party["jwk"])
        assert jws.deserialize_json(one, key, algorithms=["Ed25519"]).payload


KEY = """({ kind, pair }) => kind === "webcrypto" && crypto.subtle
  .exportKey("pkcs8", pair.privateKey).then(() => "taken out", (error) => error.name)"""


async def test_the_receipt_holds_and_both_know_each_other_the_next_time(
    sender, visitor, study, tmp_path, unused_tcp_port
):
    """Twice from one address: the same key of the recipient's, which no script can take out."""
    keys, page = [], visitor.page
    listen = ("--listen", f"127.0.0.1:{unused_tcp_port}")
    for number in range(2):
        sending, link = sender.send(study, "--auto", *listen)
        await visitor.open(link)
        assert await page.evaluate("document.querySelector('#label').value") == NAME * number
        if number:
            await page.click("form .primary")
        else:
            await visitor.start()
        await visitor.offered()
        assert await page.text(".who") == "“Klinik Süd, Radiologie”"
        assert (await page.text(".trust")).startswith("Known as" if number else "New")
        await visitor.accept()
        await visitor.delivered()
        code, last = await finish(sending)
        assert code == 0, last
        kept = Path(last["receipt"])
        transfer_id = encode_base64url(bytes.fromhex(kept.name.split(".")[0]))
        saved = await visitor.save_receipt(transfer_id)
        assert saved.read_bytes() == kept.read_bytes()
        joserfc_verifies(saved.read_bytes())
        done = sender.run("receipt", "verify", str(saved), "--files", str(study.parent))
        assert done.returncode == 0, done.stderr
        assert "every delivered file is unchanged" in done.stdout
        payload = transfer_of(json.loads(saved.read_bytes()))
        assert payload["stored"] == "browser"
        assert payload["recipient"]["label"] == NAME
        keys.append(payload["recipient"]["jwk"])
    assert keys[0] == keys[1]
    assert receipts.verify(saved.read_bytes()).confirmed
    assert await visitor.records("settings", 'get("keys")', KEY) == "InvalidAccessError"
    assert page.errors == []


CHOOSE = """void (window.showDirectoryPicker = async () =>
  (await navigator.storage.getDirectory()).getDirectoryHandle("chosen", { create: true }))"""
READ = """(async () => {
  const found = {};
  const walk = async (folder, path) => {
    for await (const [name, handle] of folder.entries()) {
      if (handle.kind === "directory") { await walk(handle, `${path}${name}/`); continue; }
      const bytes = await (await handle.getFile()).arrayBuffer();
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      found[`${path}${name}`] = Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
    }
  };
  await walk(await (await navigator.storage.getDirectory()).getDirectoryHandle("chosen"), "./");
  return found;
})()"""


async def test_straight_into_a_folder_nothing_is_replaced(at, sender, study):
    """Twice into one folder. No dialog can be clicked here: it chooses one of the page's own."""
    visitor = await at("chromium")
    with serving(sender) as (port, _):
        for title in (study.name, f"{study.name} (1)"):
            sending, link = sender.send(study, "--auto", "--server", f"http://127.0.0.1:{port}")
            await visitor.open(link)
            await visitor.start()
            await visitor.offered()
            await visitor.page.evaluate(CHOOSE)
            await visitor.page.click(".card.offer .choices .quiet")
            await visitor.delivered()
            code, last = await finish(sending)
            assert code == 0, last
            payload = transfer_of(json.loads(Path(last["receipt"]).read_text()))
            assert payload["stored"] == "file"
            found = await visitor.page.evaluate(READ)
            top = f"./{title}/"
            arrived = {p.removeprefix(top): d for p, d in found.items() if p.startswith(top)}
            sent = {p.removeprefix("./"): d for p, d in sha256sums(study).items()}
            assert arrived == sent
    assert await visitor.containers() == []
    assert visitor.page.errors == []


@pytest.mark.parametrize("failing", [("0.dcm",), ("0.dcm", "1.dcm"), ("1.dcm",), ("3.dcm",)])
async def test_an_archive_opens_everywhere_whatever_failed(browser, sender, tmp_path, failing):
    """Several loose files, some of which are changed before they are read."""
    files = [tmp_path / f"{number}.dcm" for number in range(4)]
    for number, file in enumerate(files):
        file.write_bytes(os.urandom(200_000 + number))
    visitor = Recipient(browser.page, browser)
    sending, link = sender.send(*files, "--auto", "--listen", "127.0.0.1:0")
    ending = finish(sending)
    await visitor.open(link)
    await visitor.start()
    await visitor.offered()
    rest = {file.name: file.read_bytes() for file in files if file.name not in failing}
    for name in failing:
        (tmp_path / name).write_bytes(os.urandom(100_000))
    await visitor.accept()
    await visitor.delivered()
    assert (await ending)[0] == 3  # complete, but not all of it
    text = await visitor.text()
    archive = await visitor.save("handover.zip")
    size = archive.stat().st_size
    assert f"Save handover.zip ({size / 1e3:.0f} kB)" in text
    assert size < sum(map(len, rest.values())) + 2000
    with zipfile.ZipFile(archive) as file:
        assert {name: file.read(name) for name in file.namelist()} == rest
    for program in (("unzip", "-tqq"), ("7z", "t"), ("bsdtar", "-tf")):
        done = subprocess.run([*program, archive], capture_output=True, text=True)
        assert done.returncode == 0, (program, done.stdout, done.stderr)
        assert not re.search("warning|error", done.stdout + done.stderr, re.I), (program, done)
