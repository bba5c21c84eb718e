"""Failures that no other test makes happen as people meet them: the situation, and its sentence."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import closing, suppress

import pytest
from websockets.sync.server import serve

from p2p.connect.seats import GuestSeat
from p2p.events import Warned
from p2p.lanes.webrtc import available
from p2p.protocol.codec import encode_base64url
from p2p.protocol.link import derive_keys, parse_link
from tests.confined import mount, small_disk

from .harness import ROOT, Peer, Terminal, kill_hard, sha256sums
from .test_endings import ended
from .test_resume import SIZE, begin, big, noted  # noqa: F401
from .test_strangers import Transfer
from .test_web import copied

# --- what is asked for cannot be


@pytest.mark.parametrize(
    ("link", "code", "said"),
    [
        ("hello", "link_invalid", "not a Handover link"),
        ("http://127.0.0.1/#2.x.y", "link_unsupported", "newer version"),
        (f"http://127.0.0.1:1/#1.{'A' * 43}.{'A' * 22}", "server_unreachable", "cannot be reached"),
    ],
)
def test_a_link_that_leads_nowhere(recipient, out, link, code, said):
    assert said in ended(recipient.receive(link, out, "--auto"), 1, code)["message"]


def test_a_server_that_serves_one_link_alone(sender, third, some):
    _, link = sender.send("--auto", some)
    origin = link.split("/#")[0]
    last = ended(third.start("send", "--auto", "--server", origin, some), 1, "server_refused")
    assert "single link of another computer" in last["message"]


def test_a_server_that_wants_a_token(sender, some):
    """This one never does; others may."""

    def refuse(asking):
        asking.recv()
        asking.send(json.dumps({"type": "error", "code": "token_required"}))

    with serve(refuse, "127.0.0.1", 0, select_subprotocol=lambda _, offered: offered[0]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        last = ended(sender.start("send", "--auto", "--server", origin, some), 1, "token_required")
        server.shutdown()
    assert "lets only some people" in last["message"]


def test_what_is_no_address_of_a_server(recipient):
    done = recipient.run("verify-web", "ftp://x")
    assert (done.returncode, "is not a server address" in done.stderr) == (1, True)


def test_a_server_or_a_name_that_no_link_can_have(sender, some):
    """Not a word of a link that is not whole: nobody has pasted one."""
    for server in ("ftp://x", "https://h/handover", "https://h:0", "https://h:x", "h"):
        last = ended(sender.start("send", "--auto", "--server", server, some), 1, "address_invalid")
        assert last["message"].startswith(f"{server} is not a server address.")
    for host in ("a b", "fe80::1%eth0", "x/y"):
        sending = sender.start("send", "--auto", "--listen", ":0", "--address", host, some)
        assert "is not a host name" in ended(sending, 1, "host_invalid")["message"]
    for host in ("pacs_2", "klinik-münchen.example"):
        _, link = sender.send("--auto", "--address", host, some)
        assert re.match(r"http://(pacs_2|xn--klinik-mnchen-3ob\.example):[0-9]+/#1", link)


def test_a_port_that_somebody_else_has(sender, some):
    """It is this computer's own affair: neither a network nor a server is to blame."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        last = ended(sender.start("send", "--auto", "--listen", address, some), 1, "cannot_listen")
        assert "already in use" in last["message"]
        done = sender.run("serve", "--listen", address)
    assert (done.returncode, "cannot listen at the address" in done.stderr) == (1, True)


# --- an installation that lacks something


def test_an_installation_without_the_page(recipient, tmp_path):
    tree = copied(tmp_path / "tree")
    shutil.rmtree(tree / "signaling" / "web")
    done = recipient.run("verify-web", "http://127.0.0.1:1", PYTHONPATH=str(tree))
    assert (done.returncode, "does not include the web client" in done.stderr) == (1, True)


def test_an_installation_without_any_engine(sender, some, tmp_path):
    gone = "import sys\nfor one in ('aiortc', 'aiolibdatachannel'): sys.modules[one] = None\n"
    (tmp_path / "sitecustomize.py").write_text(gone)
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    last = ended(sender.start("send", "--auto", "--listen", ":0", some, **path), 1)
    assert last["code"] == "engine_missing"
    assert "none is installed; install Handover again" in last["message"]


# --- what is sent


def test_a_file_that_consists_of_holes(sender, tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(5 << 40)
    sending = sender.start("send", "--auto", "--listen", ":0", tmp_path / "sparse")
    ended(sending, 1, "too_many_holes")


def test_more_entries_than_a_transfer_can_have(sender, tmp_path):
    (tmp_path / "tree" / "leaf").mkdir(parents=True)
    for number in range(1000):
        (tmp_path / "tree" / "leaf" / str(number)).touch()
    for number in range(201):
        (tmp_path / "tree" / f"again-{number}").symlink_to("leaf")
    sending = sender.start("send", "--auto", "--follow", "--listen", ":0", tmp_path / "tree")
    assert "200,000" in ended(sending, 1, "too_many_entries")["message"]


def test_hidden_names_with_nobody_to_ask(sender, recipient, out, tmp_path):
    (tmp_path / ".profile").write_bytes(b"x")
    sending, link = sender.send("--auto", tmp_path / ".profile")
    last = ended(recipient.receive(link, out, "--auto"), 1, "hidden_names")
    assert "--allow-hidden" in last["message"]
    told = sending.wait_for("warning", code="peer_failed")
    assert "(files with hidden names are refused there" in told["message"]


# --- this computer's own data


def test_a_data_folder_that_is_somebody_elses(machine, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "invoices").touch()
    done = machine(tmp_path / "home").run("transfers")
    assert (done.returncode, "cannot be used as the data folder" in done.stderr) == (1, True)


def test_a_data_folder_that_is_a_file(machine, tmp_path):
    (tmp_path / "home").touch()
    done = machine(tmp_path / "home").run("identity", "show")
    assert (done.returncode, "The data folder" in done.stderr) == (1, True)


def test_a_key_that_others_can_read(recipient):
    recipient.run("identity", "show")
    (recipient.home / "identity.json").chmod(0o644)
    done = recipient.run("identity", "show")
    assert (done.returncode, "chmod 600" in done.stderr) == (1, True)


# --- what was begun is not there any more, or not the same


def test_parts_that_somebody_removed_or_opened_to_others(sender, recipient, big, out):  # noqa: F811
    _, receiving, link = begin(sender, recipient, big, out)
    kill_hard(receiving)
    (parts,) = out.iterdir()
    parts.chmod(0o777)
    last = ended(recipient.receive(link, out, "--auto"), 1, "parts_foreign")
    assert parts.name in last["message"]
    shutil.rmtree(parts)
    last = ended(recipient.receive(link, out, "--auto"), 1, "parts_missing")
    assert parts.name in last["message"]


def test_another_offer_behind_the_same_link(sender, recipient, big, out):  # noqa: F811
    """No sender of ours does that: what is noted was changed by hand."""
    for process in begin(sender, recipient, big, out)[:2]:
        kill_hard(process)
    folder = noted(sender)
    head, _, rest = (folder / "manifest").read_bytes().partition(b"\n")
    salted = json.loads(head) | {"salt": encode_base64url(os.urandom(32))}
    manifest = json.dumps(salted, separators=(",", ":")).encode() + b"\n" + rest
    (folder / "manifest").write_bytes(manifest)
    digest = encode_base64url(hashlib.sha256(manifest).digest())
    record = json.loads((folder / "journal.json").read_bytes()) | {"manifest_sha256": digest}
    (folder / "journal.json").write_text(json.dumps(record))
    again = sender.start("resume", "--auto")
    again.wait_for("link")
    last = ended(recipient.start("resume", "--auto"), 1, "offer_changed")
    assert "something else" in last["message"]
    ended(again, 1, "peer_failed")


# --- while it runs


@pytest.mark.parametrize("killed", ["sender", "recipient"])
def test_a_side_that_is_gone_while_the_other_is_asked(sender, recipient, some, out, killed):
    sending, link = sender.send("--auto", some)
    receiving = Terminal(recipient, "receive", "--output", str(out), HANDOVER_LINK=link)
    receiving.expect("Receive these files")
    if killed == "sender":
        kill_hard(sending)
        receiving.expect("was lost before any file was sent")
    else:
        os.kill(receiving.pid, signal.SIGKILL)
        told = sending.wait_for("warning", code="connection_lost_early")
        assert "was lost before any file was sent" in told["message"]
    receiving.end()


async def test_a_recipient_that_never_comes_back(tmp_path, monkeypatch):
    """It is waited for a day; here for three seconds."""
    monkeypatch.setattr("p2p.invitation.CUT_SECONDS", 3.0)
    one = Transfer(tmp_path, size=SIZE, limit=8e6)
    with closing(Peer(tmp_path / "other")) as peer:
        receiving = peer.receive(await one.link, tmp_path / "out", "--auto")
        await one.accepted()
        await asyncio.to_thread(receiving.wait_for, "progress")
        kill_hard(receiving)
        outcome = await one.sent.result()
    assert outcome.code == "connection_lost"
    assert "connection" in outcome.message


def test_a_disk_that_somebody_else_fills(sender, recipient, tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(50_000_000))
    with small_disk(tmp_path / "disk", 60) as disk:
        sending, link = sender.send("--auto", tmp_path / "file")
        receiving = recipient.receive(link, disk / "out", "--auto")
        receiving.wait_for("state", state="accepted")
        sending.signal(signal.SIGSTOP)
        with suppress(OSError):
            (disk / "filling").write_bytes(bytes(60_000_000))
        sending.signal(signal.SIGCONT)
        told = receiving.wait_for("warning", code="disk_paused")
        assert "continues" in told["message"]
        (disk / "filling").unlink()
        assert receiving.end()[0] == sending.end()[0] == 0


def test_no_file_descriptor_is_left(sender, recipient, tmp_path, out):
    root = tmp_path / "study"
    root.mkdir()
    for number in range(400):
        (root / f"{number:03d}").write_bytes(os.urandom(50_000))
    sending, link = sender.send("--auto", "--limit", "4M", root)
    receiving = recipient.receive(link, out, "--auto")
    receiving.wait_for("progress")
    usual = resource.prlimit(receiving.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(receiving.process.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
    told = receiving.wait_for("warning", code="descriptors_short")
    assert "open files" in told["message"]
    resource.prlimit(receiving.process.pid, resource.RLIMIT_NOFILE, usual)
    assert receiving.end()[0] == sending.end()[0] == 0


@pytest.mark.parametrize("engine", available())
def test_few_file_descriptors_are_enough(tmp_path, out, engine):
    """Whatever a system gives a process, at least 64: for its server, its lanes and its files."""
    root = tmp_path / "study"
    root.mkdir()
    for number in range(300):
        (root / f"{number:03d}").write_bytes(os.urandom(30_000))
    few = ("sh", "-c", 'ulimit -n 64; exec "$0" "$@"')
    here, there = (Peer(tmp_path / side, side, few) for side in ("sender", "recipient"))
    with closing(here), closing(there):
        sending, link = here.send("--auto", "--engine", engine, root)
        receiving = there.receive(link, out, "--auto", "--engine", engine)
        assert [one.end()[0] for one in (receiving, sending)] == [0, 0]
    assert sha256sums(out / "study") == sha256sums(root)


@pytest.mark.parametrize("named", ["folder", "files"])
def test_a_share_that_is_away_for_a_moment(sender, recipient, tmp_path, out, named):
    """What is sent lies on it: nothing is given up, and it goes on by itself. What was removed
    meanwhile is no more than that."""
    share = tmp_path / "share"
    share.mkdir()
    with small_disk(tmp_path / "disk", 80) as disk:
        (disk / "study").mkdir()
        for number in range(60):
            (disk / "study" / f"{number:02d}").write_bytes(os.urandom(1_000_000))
        mount("--bind", disk, share)
        study = share / "study"
        sent = [study] if named == "folder" else sorted(study.iterdir())
        sending, link = sender.send("--auto", "--limit", "8M", *sent)
        receiving = recipient.receive(link, out, "--auto")
        while receiving.wait_for("progress")["durable"] < 5_000_000:
            pass
        subprocess.run(["umount", "-l", share], check=True)
        told = sending.wait_for("warning", code="source_away")
        assert "cannot be read for now" in told["message"]
        receiving.wait_for("state", state="sender_paused")
        (disk / "study" / "55").unlink()
        mount("--bind", disk, share)
        (code, last), (sent_code, _) = receiving.end(), sending.end()
        assert (code, sent_code, last["code"]) == (3, 3, "incomplete")
        assert [path.removeprefix("study/") for path, _ in last["failed"]] == ["55"]
        warned = [one["code"] for one in sending.events if one["event"] == "warning"]
        assert warned.count("source_away") == 1
        kept = out / "study" if named == "folder" else out
        assert sha256sums(kept) == sha256sums(disk / "study")
        subprocess.run(["umount", "-l", share], check=True)


async def test_more_at_once_than_a_link_takes(tmp_path):
    one = Transfer(tmp_path, size=1000)
    link = parse_link(await one.link)
    keys = derive_keys(link.secret)
    async with GuestSeat(link.origin, keys), GuestSeat(link.origin, keys):
        outcome = await one.receive("late")
    assert outcome.code == "busy"
    one.sent.transfer.cancel()
    await one.sent.result()


async def test_a_guess_while_the_link_is_somebodys(tmp_path):
    one = Transfer(tmp_path, passphrase="right", limit=20e6)
    received = asyncio.create_task(one.receive())
    await one.accepted()
    await one.receive("guessing", "wrong")
    (warned,) = [e for e in one.told if isinstance(e, Warned) and e.code == "guest_unproven"]
    assert "link" in warned.message
    one.sent.transfer.cancel()
    await one.both(received)
