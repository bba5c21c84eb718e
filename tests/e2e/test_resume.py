"""Cut, killed, out of room: nothing is lost, and the transfer goes on from where the disk stood."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing, suppress
from dataclasses import asdict
from urllib.parse import urlsplit

import pytest

import p2p
from p2p import Home
from p2p.api import _reserved_ports
from p2p.state.journal import Journals
from tests.confined import small_disk

from .harness import Peer, Terminal, kill_hard, sha256sums

SIZE = 60_000_000
SLOWLY = ("--limit", "20M")  # so that a part of it can be met


@pytest.fixture
def big(tmp_path):
    """A folder of one large and some small files, and an empty one."""
    root = tmp_path / "study"
    (root / "deep").mkdir(parents=True)
    (root / "volume").write_bytes(os.urandom(SIZE))
    for number in range(20):
        (root / "deep" / f"{number:03d}").write_bytes(os.urandom(1000 * number))
    return root


def unfinished(peer):
    return [asdict(one) for one in p2p.unfinished(peer.home)]


def noted(peer):
    """The folder of its one journal."""
    (folder,) = (peer.home / "transfers").iterdir()
    return folder


def halfway(process):
    """Wait until some of it is on the disk for good, and read back."""
    while process.wait_for("progress")["verified"] < SIZE // 10:
        pass


def begin(sender, recipient, big, out, *options):
    sending, link = sender.send("--auto", *SLOWLY, *options, big)
    receiving = recipient.receive(link, out, "--auto")
    halfway(receiving)
    sending.signal(signal.SIGSTOP)  # it does not run to its end meanwhile
    return sending, receiving, link


def finished(sender, recipient, big, out, *processes):
    """Both at their end, byte for byte the same, one receipt each, nothing left over."""
    for process in processes:
        code, last = process.end()
        assert (code, last["event"]) == (0, "complete"), (last, process.states())
    assert sha256sums(out / big.name) == sha256sums(big)
    assert [path.name for path in out.iterdir()] == [big.name]
    for peer in (sender, recipient):
        assert len(peer.receipts()) == 1
        assert unfinished(peer) == []
    assert sender.receipts()[0].read_bytes() == recipient.receipts()[0].read_bytes()


def resumed_at(process):
    """Where the first word about progress says that it stands."""
    return next(e["durable"] for e in process.events if e["event"] == "progress")


def test_a_killed_sender_goes_on_under_the_same_link(sender, recipient, big, out):
    sending, receiving, link = begin(sender, recipient, big, out)
    kill_hard(sending)
    receiving.wait_for("state", state="lost", seconds=20)
    (one,) = unfinished(sender)
    assert (one["role"], one["state"]) == ("sender", "unfinished")
    again = sender.start("send", "--resume", one["id"][:8], "--auto")
    assert again.wait_for("link")["link"] == link
    finished(sender, recipient, big, out, receiving, again)


def test_a_transfer_goes_on_with_what_it_was_begun_with(sender, recipient, big, out):
    """Whatever was chosen, on either side; and what is chosen now counts for more."""
    said = ("--limit", "4M", "--no-direct", "--no-compress", "--label", "Ward 3")
    sending, link = sender.send("--auto", *said, big)
    receiving = recipient.receive(link, out, "--auto", *said)
    halfway(receiving)
    for peer, process in ((sender, sending), (recipient, receiving)):
        kill_hard(process)
        (one,) = Journals(Home(peer.home))
        assert one.record.options == {
            "limit": 4_000_000,
            "direct": False,
            "compress": False,
            "label": "Ward 3",
        }
    again = sender.start("resume", "--limit", "900M"), recipient.start("resume", "--auto")
    met = again[0].wait_for("peer")
    assert met["label"] == "Ward 3"
    wire = again[1].wait_for("progress")
    assert (wire["direct"], wire["webrtc"] > 0) == (0, True)
    (journal,) = Journals(Home(sender.home))
    finished(sender, recipient, big, out, *again)
    assert journal.record.options["limit"] == 900_000_000


def test_a_link_that_nobody_opened_yet_outlives_its_sender(sender, recipient, big, out):
    """And a try to resume it that cannot be."""
    sending, link = sender.send("--auto", big)
    sending.wait_for("state", state="waiting")
    while not unfinished(sender):
        time.sleep(0.02)
    kill_hard(sending)
    code, last = sender.start("resume", "--verify").end()  # nobody is there to compare digits
    assert (code, last["code"]) == (2, "needs_answer")
    again = sender.start("resume")  # it lets in whoever comes, as it was told first
    assert again.wait_for("link")["link"] == link
    finished(sender, recipient, big, out, recipient.receive(link, out, "--auto"), again)


def test_digits_that_were_to_be_compared_still_are(sender, big):
    first = Terminal(sender, "send", "--listen", ":0", "--verify", str(big))
    first.expect(r"Waiting for the recipient")
    while not unfinished(sender):
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.end()
    code, last = sender.start("resume", "--auto").end()
    assert (code, last["code"]) == (2, "needs_answer")


def test_digits_that_were_compared_stay_so(sender, recipient, big, out):
    """Neither side says --verify again, nobody is asked again, and the receipt tells it."""
    sending = Terminal(sender, "send", "--listen", ":0", "--verify", *SLOWLY, str(big))
    link = sending.expect(r"(http://\S+)\s")
    receiving = Terminal(
        recipient, "receive", "--output", str(out), "--verify", "--auto", HANDOVER_LINK=link
    )
    for one in (receiving, sending):
        one.expect(r"on both sides\? \[y/n\]")
        one.type("y\n")
    while not (there := unfinished(recipient)) or there[0]["durable"] < SIZE // 10:
        time.sleep(0.02)
    for one in (receiving, sending):
        os.kill(one.pid, signal.SIGKILL)
        one.end()
    finished(sender, recipient, big, out, sender.start("resume"), recipient.start("resume"))
    shown = sender.run("receipt", "show", sender.receipts()[0]).stdout
    assert "digits       confirmed" in shown


def test_both_killed_go_on(sender, recipient, big, out):
    sending, receiving, _ = begin(sender, recipient, big, out)
    kill_hard(sending)
    kill_hard(receiving)
    there = recipient.start("resume", "--auto")  # the only one: no id is needed
    here = sender.start("resume", unfinished(sender)[0]["id"], "--auto")
    finished(sender, recipient, big, out, there, here)
    assert resumed_at(there) >= SIZE // 20


def test_a_visitor_that_never_accepted_does_not_keep_the_link_over_a_restart(
    sender, recipient, third, big, out, tmp_path
):
    sending, link = sender.send("--auto", big)
    visitor = Terminal(third, "receive", "--output", str(tmp_path / "v"), HANDOVER_LINK=link)
    visitor.expect("Receive these files")
    while not unfinished(sender)[0]["peer"]:
        time.sleep(0.02)
    kill_hard(sending)
    os.kill(visitor.pid, signal.SIGKILL)
    visitor.end()
    assert unfinished(sender)[0]["peer"] == ""
    again = sender.start("resume")
    assert again.wait_for("link")["link"] == link
    finished(sender, recipient, big, out, recipient.receive(link, out, "--auto"), again)


def test_the_port_of_a_link_that_is_to_be_taken_up_again_is_known(sender, big):
    sending, link = sender.send("--auto", big)
    while not unfinished(sender):
        time.sleep(0.02)
    kill_hard(sending)
    assert _reserved_ports(p2p.Home(sender.home)) == {urlsplit(link).port}


@pytest.mark.parametrize(
    "option",
    [
        ("--server", "https://192.0.2.1"),
        ("--listen", ":0"),
        ("--address", "192.0.2.1"),
        ("--expires", "5m"),
        ("--to", "Reading room"),
        ("--follow",),
        ("--no-local-ca",),
        ("--tls-key", "key.pem"),
    ],
)
def test_what_stands_since_it_was_begun_is_not_said_again(sender, option):
    done = sender.run("send", "--resume", "0123", *option)
    assert done.returncode == 2
    assert "keeps the settings" in done.stderr
    named = "--local-ca" if "local" in option[0] else option[0]
    assert done.stderr.rstrip().endswith(f"Leave out {named}.")


def test_what_may_be_said_again_is_no_reason_against_it(sender):
    """Nor what the environment says for every `send`."""
    said = ("--auto", "--verify", "--engine", "aiortc", "--passphrase-file", "none")
    done = sender.run("send", "--resume", "0123", *said, HANDOVER_SERVER="https://192.0.2.1")
    assert done.returncode == 1
    assert "No unfinished transfer has the ID 0123" in done.stderr


def test_guesses_while_the_recipient_is_away_cost_it_nothing(
    sender, recipient, third, big, out, tmp_path
):
    """Others have the link too; once it is the recipient's they cannot disarm it."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("right")
    said = ("--passphrase-file", passphrase)
    sending, link = sender.send("--auto", *said, *SLOWLY, big)
    receiving = recipient.receive(link, out, "--auto", *said)
    halfway(receiving)
    kill_hard(receiving)
    sending.wait_for("state", state="lost", seconds=20)
    passphrase.write_text("wrong")
    for _ in range(4):
        code, last = third.receive(link, tmp_path / "other", "--auto", *said).end()
        assert (code, last["code"]) == (1, "passphrase_wrong"), last
    passphrase.write_text("right")
    finished(sender, recipient, big, out, recipient.receive(link, out, "--auto", *said), sending)


def test_a_shutdown_is_no_end(sender, recipient, big, out):
    """The same command again goes on."""
    sending, receiving, link = begin(sender, recipient, big, out)
    receiving.signal(signal.SIGTERM)
    sending.signal(signal.SIGCONT)
    again = recipient.receive(link, out, "--auto")
    finished(sender, recipient, big, out, again, sending)
    assert resumed_at(again) >= SIZE // 20
    assert "resumed" in sending.states()


def test_damage_on_the_disk_moves_it_back_to_where_all_is_well(sender, recipient, big, out):
    sending, receiving, link = begin(sender, recipient, big, out)
    sending.signal(signal.SIGCONT)
    while receiving.wait_for("progress")["verified"] < SIZE * 3 // 5:
        pass
    kill_hard(receiving)
    (staging,) = out.iterdir()
    part = max(staging.iterdir(), key=lambda path: path.stat().st_size)
    with open(part, "r+b") as file:
        file.seek(SIZE // 4)
        file.write(b"damage")
    again = recipient.receive(link, out, "--auto")
    finished(sender, recipient, big, out, again, sending)
    assert "checking" in again.states()
    assert resumed_at(again) <= SIZE // 4


def test_a_full_disk_is_waited_out(sender, recipient, tmp_path):
    with small_disk(tmp_path / "small", 60) as small:
        (tmp_path / "big").write_bytes(os.urandom(50_000_000))
        sending, link = sender.send("--auto", tmp_path / "big")
        receiving = recipient.receive(link, small / "out", "--auto")
        receiving.wait_for("state", state="accepted")
        sending.signal(signal.SIGSTOP)
        with suppress(OSError):
            (small / "thief").write_bytes(bytes(60_000_000))  # all that is left
        sending.signal(signal.SIGCONT)
        receiving.wait_for("state", state="paused")
        sending.wait_for("state", state="paused")
        assert [path.name[:10] for path in (small / "out").iterdir()] == [".handover-"]
        (small / "thief").unlink()
        assert receiving.end()[0] == sending.end()[0] == 0
        assert (small / "out" / "big").read_bytes() == (tmp_path / "big").read_bytes()


def test_a_full_disk_of_the_sender_is_told_as_that(recipient, tmp_path, out):
    """On which it notes how far it is."""
    with small_disk(tmp_path / "small", 4) as small, closing(Peer(small / "home")) as sender:
        (tmp_path / "big").write_bytes(os.urandom(50_000_000))
        sending, link = sender.send("--auto", tmp_path / "big")
        receiving = recipient.receive(link, out, "--auto")
        receiving.wait_for("state", state="accepted")
        sending.signal(signal.SIGSTOP)
        with suppress(OSError), open(small / "thief", "wb", buffering=0) as thief:
            while True:
                thief.write(bytes(4096))
        sending.signal(signal.SIGCONT)
        sending.wait_for("state", state="sender_paused")
        receiving.wait_for("state", state="sender_paused")
        (small / "thief").unlink()
        assert receiving.end()[0] == sending.end()[0] == 0
        assert "paused" not in sending.states() + receiving.states()
        assert (out / "big").read_bytes() == (tmp_path / "big").read_bytes()


def test_what_is_discarded_is_erased_and_noted(sender, recipient, big, out):
    sending, receiving, _ = begin(sender, recipient, big, out)
    kill_hard(receiving)
    (one,) = unfinished(recipient)
    assert recipient.run("transfers", "discard", one["id"][:8]).returncode == 0
    assert list(out.iterdir()) == []
    assert unfinished(recipient) == []
    assert recipient.audit()[-1]["event"] == "erased"
    sending.signal(signal.SIGCONT)
    sending.signal(signal.SIGINT)
    assert sending.end()[0] == 8


def test_what_was_noted_and_is_damaged_is_told_and_can_be_begun_anew(sender, recipient, big, out):
    sending, receiving, link = begin(sender, recipient, big, out)
    kill_hard(receiving)
    (one,) = unfinished(recipient)
    (noted(recipient) / "journal.json").write_bytes(bytes(4096))
    (told,) = unfinished(recipient)
    assert told == {**one, "state": "damaged", "durable": 0}
    assert f"{one['id'][:8]}  {one['began'][:19]}  damaged " in recipient.run("transfers").stdout
    for again in (lambda: recipient.receive(link, out), lambda: recipient.start("resume")):
        code, last = again().end()
        assert (code, last["code"]) == (1, "journal_damaged")
        assert f"handover transfers discard {one['id'][:8]}" in last["message"]
    assert recipient.run("transfers", "discard", one["id"][:8]).returncode == 0
    assert list(out.iterdir()) == []
    sending.signal(signal.SIGCONT)
    finished(sender, recipient, big, out, recipient.receive(link, out, "--auto"), sending)


def test_what_was_noted_and_is_all_damaged_ends_at_a_word_of_what_to_do(
    sender, recipient, big, out
):
    sending, receiving, link = begin(sender, recipient, big, out)
    kill_hard(receiving)
    (one,) = unfinished(recipient)
    for name in ("journal.json", "begun"):
        (noted(recipient) / name).write_bytes(bytes(4096))
    (told,) = unfinished(recipient)
    assert (told["id"], told["role"], told["state"]) == (one["id"], "", "damaged")
    sending.signal(signal.SIGCONT)
    code, last = recipient.receive(link, out, "--auto").end()
    assert (code, last["code"]) == (1, "journal_damaged")
    assert unfinished(recipient) == [told]
    (parts,) = out.iterdir()
    done = recipient.run("transfers", "discard", one["id"][:8])
    assert (done.returncode, parts.name in done.stderr) == (0, True)
    assert unfinished(recipient) == []


def test_what_is_under_way_is_not_discarded_nor_taken_over(sender, recipient, big, out):
    sending, receiving, link = begin(sender, recipient, big, out)
    running = unfinished(recipient)[0]
    assert running["state"] == "running"
    told = json.loads(recipient.run("transfers", "--json").stdout)
    assert told.items() - {("durable", told["durable"])} <= running.items()
    assert "is running" in recipient.run("transfers", "discard", running["id"]).stderr
    code, last = recipient.receive(link, out, "--auto").end()
    assert (code, last["code"]) == (1, "transfer_running")
    sending.signal(signal.SIGCONT)
    finished(sender, recipient, big, out, receiving, sending)


def test_what_cannot_go_on_is_refused_by_name(sender, recipient, big, out):
    sending, receiving, _ = begin(sender, recipient, big, out)
    for process in (sending, receiving):
        kill_hard(process)
    (mine,), (theirs,) = unfinished(sender), unfinished(recipient)
    (big / "deep" / "007").write_bytes(b"another")
    code, last = sender.start("send", "--resume", mine["id"], "--auto").end()
    assert (code, last["code"]) == (1, "source_changed")
    assert "007" in last["message"]
    (recipient.home / "identity.json").unlink()
    code, last = recipient.start("resume", theirs["id"], "--auto").end()
    assert (code, last["code"]) == (1, "journal_foreign")
    (noted(sender) / "manifest").write_bytes(b"")
    code, last = sender.start("resume", mine["id"], "--auto").end()
    assert (code, last["code"]) == (1, "journal_damaged")
    assert sender.run("resume", "0123").returncode == 1
    assert unfinished(sender) == [mine]  # nothing of this has lost anything
