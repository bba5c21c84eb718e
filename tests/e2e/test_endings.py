"""Every ending, every refusal, every Ctrl-C: one sentence, the right exit code, nothing lost."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from tests.confined import mount, small_disk

from .harness import Peer, Terminal, sha256sums


def ended(process, code, failure=None):
    found, last = process.end()
    assert found == code, (last, process.stderr())
    assert last["event"] == "error"
    if failure:
        assert last["code"] == failure, last
    assert last["message"].endswith(".")
    assert process.stderr() == ""
    return last


def nothing_arrived(out):
    assert not out.exists() or not list(out.iterdir())


def test_without_anyone_to_ask_it_says_so_at_once(sender, recipient, some, out):
    last = ended(sender.start("send", str(some)), 2, "needs_answer")
    assert "--auto" in last["message"]
    sending, link = sender.send("--auto", some)
    ended(recipient.receive(link, out), 2, "needs_answer")
    ended(recipient.receive(link, out, "--auto", "--verify"), 2, "needs_answer")
    ended(sender.start("send", "--auto", "--verify", str(some)), 2, "needs_answer")
    done = recipient.run("receive", link)  # no terminal, and not --json
    assert done.returncode == 2
    assert done.stdout == ""
    sending.signal(signal.SIGINT)
    ended(sending, 8, "cancelled")
    protected, link = sender.send("--auto", some, HANDOVER_PASSPHRASE="secret")
    ended(recipient.receive(link, out, "--auto"), 2, "needs_answer")
    nothing_arrived(out)
    protected.signal(signal.SIGINT)
    ended(protected, 8)


@pytest.mark.parametrize(
    "bad",
    ["hello", "http://127.0.0.1/#2.x.y", "http://127.0.0.1:1/#1." + "A" * 43 + "." + "A" * 22],
)
def test_a_bad_link_or_a_dead_server_is_one_sentence(recipient, out, bad):
    last = ended(recipient.receive(bad, out, "--auto"), 1)
    assert last["code"] in ("link_invalid", "link_unsupported", "server_unreachable")
    assert recipient.audit()[-1]["ending"] == "failed"


@pytest.mark.parametrize(
    "arguments",
    [
        ("send",),
        ("send", "--nonsense"),
        ("receive", "--engine", "x"),
        ("send", "--expires", "2d", "x"),
        ("send", "--listen", "x", "y"),
        ("serve", "--tls-cert", "x"),
    ],
)
def test_wrong_usage_is_exit_code_2(sender, arguments):
    done = sender.run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_what_cannot_be_sent_is_said_before_anything(sender, some, tmp_path):
    (tmp_path / "other" / "study").mkdir(parents=True)
    ended(
        sender.start("send", "--auto", str(some), str(tmp_path / "other" / "study")), 1, "same_name"
    )
    ended(sender.start("send", "--auto", str(tmp_path / "none")), 1, "nothing_to_send")
    for name in ("A", "a"):
        (some / name).touch()
    strict = ("send", "--auto", "--strict-names", str(some))
    assert f"{some / 'a'}." in ended(sender.start(*strict), 1, "name_collision")["message"]
    ended(sender.start("send", "--auto", "--to", "Nobody", str(some)), 1, "contact_unknown")
    ended(sender.start("send", "--auto", "--server", "ftp://x", str(some)), 1, "address_invalid")


def test_where_nothing_can_arrive_is_said_before_the_link_is_opened(
    sender, recipient, some, out, tmp_path
):
    """Nobody is asked for nothing, and the link stays."""
    sending, link = sender.send("--auto", some)
    occupied = tmp_path / "occupied"
    occupied.write_bytes(b"")
    for output in (occupied, occupied / "below"):
        last = ended(recipient.receive(link, output, "--auto"), 1, "not_writable")
        assert "not a folder" in last["message"]
    fixed = tmp_path / "fixed"
    with small_disk(fixed, 1):
        mount("-o", "remount,ro", fixed)
        last = ended(recipient.receive(link, fixed / "new", "--auto"), 1, "not_writable")
        assert "read-only" in last["message"]
    assert "opened" not in sending.states()
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    assert sending.end()[0] == 0


def test_a_data_folder_that_takes_no_files_is_said_before_anything(
    sender, recipient, machine, some, out, tmp_path
):
    """One that is read-only can still be read; of a full one the other side need not know."""
    sending, link = sender.send("--auto", some)
    with small_disk(tmp_path / "disk", 1) as disk:
        home = disk / "home"
        there = machine(home)
        assert there.run("identity", "show").returncode == 0
        (disk / "filling").write_bytes(bytes(2_000_000)[: shutil.disk_usage(disk).free])
        for command in (("receive", link, "--auto"), ("send", "--auto", some)):
            ended(there.start(*command), 1, "home_unwritable")
        (disk / "filling").unlink()
        mount("-o", "remount,ro", disk)
        for command in (("receive", link, "--auto"), ("send", "--auto", some)):
            done = there.run(*command)
            assert "read-only" in done.stderr.splitlines()[-1]
        for words in ("identity show", "contacts list", "transfers", "audit verify"):
            done = there.run(*words.split())
            assert (done.returncode, "cannot" in done.stderr) == (0, False), done.stderr
    assert "opened" not in sending.states()
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    assert sending.end()[0] == 0


def test_an_expired_link_ends_the_sender_and_is_unknown_to_the_recipient(
    sender, recipient, some, out
):
    sending, link = sender.send("--auto", "--expires", "6s", some)
    ended(sending, 7, "expired")
    last = ended(recipient.receive(link, out, "--auto"), 1)
    assert last["code"] in ("server_unreachable", "not_found")
    assert sender.audit()[-1]["ending"] == "expired"


def test_a_passphrase_is_needed_and_three_wrong_ones_disarm_the_link_loudly(
    sender, recipient, some, out
):
    sending, link = sender.send("--auto", some, HANDOVER_PASSPHRASE="correct horse")
    assert link.endswith(".p")
    for number in range(3):
        last = ended(
            recipient.receive(link, out, "--auto", HANDOVER_PASSPHRASE=f"guess {number}"),
            1,
            "passphrase_wrong" if number < 2 else "not_found",
        )
    assert "three failed attempts disable it" in last["message"]
    last = ended(sending, 1, "disarmed")
    assert last["message"].startswith("WARNING")
    nothing_arrived(out)
    file = some.parent / "passphrase"
    file.write_text("correct horse\n")
    sending, link = sender.send("--auto", "--passphrase-file", file, some)
    receiving = recipient.receive(link, out, "--auto", HANDOVER_PASSPHRASE="correct horse")
    assert receiving.end()[0] == 0
    assert sending.end()[0] == 0


def test_two_wrong_passphrases_do_not_hurt_the_right_one(sender, recipient, some, out):
    sending, link = sender.send("--auto", some, HANDOVER_PASSPHRASE="right")
    for _ in range(2):
        ended(
            recipient.receive(link, out, "--auto", HANDOVER_PASSPHRASE="wrong"),
            1,
            "passphrase_wrong",
        )
    assert recipient.receive(link, out, "--auto", HANDOVER_PASSPHRASE="right").end()[0] == 0
    assert sending.end()[0] == 0


def test_a_link_whose_sender_is_someone_else_reveals_nothing(sender, recipient, some, out):
    sending, link = sender.send("--auto", some)
    forged = link[:-4] + ("AAAA" if link[-4:] != "AAAA" else "AAAE")
    forged = forged[:-1] + "A"
    ended(recipient.receive(forged, out, "--auto"), 1, "host_unproven")
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    assert sending.end()[0] == 0


def test_only_the_contact_named_by_to_can_receive(sender, recipient, third, some, out):
    sending, link = sender.send("--auto", some)
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    sending.end()
    (name,) = [line.split("\t")[0] for line in sender.run("contacts", "list").stdout.splitlines()]
    assert sender.run("contacts", "rename", name, "St. Mary").returncode == 0
    sending, link = sender.send("--to", "st. mary", some)  # nobody is asked: the contact is pinned
    ended(third.receive(link, out, "--auto"), 1, "not_for_you")
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    assert sending.end()[0] == 0


def test_a_known_name_with_another_key_is_a_loud_warning_on_both_sides(tmp_path, some, out):
    peers = [
        Peer(tmp_path / f"{i}", label)
        for i, label in enumerate(["Sender", "Mary", "Mary", "Sender"])
    ]
    one, mary, other_mary, other_sender = peers
    known, link = one.send("--auto", some)
    assert mary.receive(link, out, "--auto").end()[0] == 0
    assert known.end()[0] == 0
    sending = Terminal(one, "send", str(some))  # whoever has a contact's name and another key
    link = sending.expect(r"(http://\S+)")
    receiving = other_mary.receive(link, tmp_path / "out2", "--auto")
    sending.expect("WARNING: .*Mary")
    sending.expect(r"\[y/N\]")
    sending.type("\n")  # no is the default
    ended(receiving, 6, "declined")
    sending.interrupt()  # it waits on: the link was not used up
    assert sending.end() == 8
    nothing_arrived(tmp_path / "out2")
    unknown, link = other_sender.send("--auto", some)
    terminal = Terminal(mary, "receive", "--output", str(tmp_path / "out2"), HANDOVER_LINK=link)
    terminal.expect("WARNING: .*Sender.*contacts remove")
    terminal.expect(r"Receive these files\? \[y/N\]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert unknown.end()[0] == 0
    for peer in peers:
        peer.close()


def test_no_room_is_said_before_anything_is_accepted(sender, recipient, tmp_path):
    with small_disk(tmp_path / "small", 1) as small:
        (tmp_path / "big").write_bytes(os.urandom(3_000_000))
        sending, link = sender.send("--auto", tmp_path / "big")
        last = ended(recipient.receive(link, small / "out", "--auto"), 1, "no_space")
        assert "0.0 GB needed" in last["message"] or "GB free" in last["message"]
        assert "other side" in sending.wait_for("warning", code="no_space")["message"]
        nothing_arrived(small / "out")
        again = recipient.receive(link, tmp_path / "out", "--auto")  # where there is room
        assert again.end()[0] == sending.end()[0] == 0


def test_ctrl_c_while_waiting_ends_cleanly(sender, some):
    sending, _ = sender.send("--auto", some)
    sending.wait_for("state", state="waiting")
    sending.signal(signal.SIGINT)
    ended(sending, 8, "cancelled")


@pytest.mark.parametrize("who", ["sender", "recipient"])
def test_ctrl_c_ends_cleanly_on_both_sides_with_one_sentence_each(
    sender, recipient, out, tmp_path, who
):
    (tmp_path / "big").write_bytes(os.urandom(150_000_000))
    sending, link = sender.send("--auto", tmp_path / "big")
    receiving = recipient.receive(link, out, "--auto")
    receiving.wait_for("progress")
    mine, other = (sending, receiving) if who == "sender" else (receiving, sending)
    mine.signal(signal.SIGINT)
    assert "stopped on this side" in ended(mine, 8, "cancelled")["message"]
    assert "other side stopped" in ended(other, 8, "peer_cancelled")["message"]
    nothing_arrived(out)
    for peer in (sender, recipient):
        assert peer.audit()[-1]["ending"] == "aborted"


def test_a_person_is_asked_on_both_sides_and_sees_who_what_and_digits(tmp_path, some, out):
    sender, recipient = Peer(tmp_path / "s", "Klinik Süd"), Peer(tmp_path / "r", "Reading room")
    sending = Terminal(sender, "send", str(some))
    link = sending.expect(r"(http://\S+#\S+)")
    receiving = Terminal(recipient, "receive", "--output", str(out))
    receiving.expect("Link")
    receiving.type(link + "\n")
    digits = receiving.expect(r"check digits (\d{4}-\d{4}-\d{4})")
    sending.expect(r"Recipient \(new, never met before\): “Reading room”")
    assert sending.expect(r"check digits (\d{4}-\d{4}-\d{4})") == digits
    sending.expect(r"Let this recipient have the files\? \[y/n\]")
    sending.type("maybe\n")
    sending.type("y\n")
    receiving.expect(r"From \(new, never met before\): “Klinik Süd”")
    receiving.expect(r"Offered: 3 files in 1 folder, 150\.0 kB")
    receiving.expect(r"Receive these files\? \[y/n\]")
    receiving.type("y\n")
    assert receiving.end() == 0
    assert sending.end() == 0
    assert "Delivered and verified" in receiving.text
    assert "Receipt: " in sending.text
    assert (out / "study" / "2.dcm").exists()


def test_a_person_may_decline_on_either_side(sender, recipient, some, out):
    sending = Terminal(sender, "send", str(some))
    link = sending.expect(r"(http://\S+#\S+)")
    first = Terminal(recipient, "receive", "--output", str(out), HANDOVER_LINK=link)
    sending.expect(r"Let this recipient")
    sending.type("n\n")
    assert first.end() == 6
    assert "declined" in first.text
    # The link is still good for the one who was meant.
    second = Terminal(recipient, "receive", "--output", str(out), HANDOVER_LINK=link)
    sending.text = sending.text.split("Let this recipient")[-1]
    sending.expect(r"Let this recipient")
    sending.type("y\n")
    second.expect(r"Receive these files")
    second.type("no\n")
    assert second.end() == 6
    assert sending.end() == 6
    nothing_arrived(out)


def test_digits_are_confirmed_by_both_where_one_side_wants_it(tmp_path, some, out):
    sender, recipient = Peer(tmp_path / "s"), Peer(tmp_path / "r")
    for answer, code in (("y", 0), ("n", 8)):
        sending = Terminal(sender, "send", "--verify", str(some))
        link = sending.expect(r"(http://\S+#\S+)")
        receiving = Terminal(
            recipient, "receive", "--auto", "--output", str(out), HANDOVER_LINK=link
        )
        receiving.expect(r"Are the check digits \d{4}-\d{4}-\d{4} on both sides")
        sending.expect(r"Are the check digits \d{4}-\d{4}-\d{4} on both sides")
        sending.type("y\n")
        receiving.type(answer + "\n")
        assert receiving.end() == code
        assert sending.end() == code
        if answer == "n":
            assert "Someone may be intercepting the connection" in sending.text
    (receipt,) = recipient.receipts()
    assert "digits       confirmed" in recipient.run("receipt", "show", str(receipt)).stdout
    assert "\tchecked" in sender.run("contacts", "list").stdout


@pytest.mark.parametrize("where", ["prompt for the link", "admission", "acceptance"])
def test_ctrl_c_at_a_question_ends_it_too(sender, recipient, some, out, where):
    sending = Terminal(sender, "send", str(some))
    link = sending.expect(r"(http://\S+#\S+)")
    if where == "prompt for the link":
        receiving = Terminal(recipient, "receive")
        receiving.expect("Link")
        receiving.interrupt()
        assert receiving.end() == 8
        sending.interrupt()
        assert sending.end() == 8
        return
    receiving = Terminal(recipient, "receive", "--output", str(out), HANDOVER_LINK=link)
    sending.expect("Let this recipient")
    if where == "admission":
        sending.interrupt()
        assert sending.end() == 8
        assert receiving.end() == 8
        assert "other side stopped" in receiving.text
    else:
        sending.type("y\n")
        receiving.expect("Receive these files")
        receiving.interrupt()
        assert receiving.end() == 8
        sending.expect("other side stopped")  # and the link is good for another try
        sending.interrupt()
        assert sending.end() == 8
    nothing_arrived(out)


def test_a_second_recipient_is_turned_away_and_learns_nothing(tmp_path, some, out):
    sender, recipient, third = (
        Peer(tmp_path / name, label) for name, label in (("s", "Klinik"), ("r", "R"), ("t", "T"))
    )
    sending = Terminal(sender, "send", str(some))
    link = sending.expect(r"(http://\S+#\S+)")
    first = Terminal(recipient, "receive", "--auto", "--output", str(out), HANDOVER_LINK=link)
    sending.expect("Let this recipient")
    late = third.receive(link, tmp_path / "late", "--auto")
    ended(late, 1, "claimed")
    assert not [e for e in late.events if e["event"] in ("peer", "digits", "offer")]
    sending.type("y\n")
    assert first.end() == 0
    assert sending.end() == 0
    nothing_arrived(tmp_path / "late")
    third.close()


def test_a_scanner_that_opens_the_link_consumes_nothing(sender, recipient, some, out):
    import urllib.request

    sending, link = sender.send("--auto", some)
    for _ in range(5):
        with urllib.request.urlopen(link.split("#")[0]) as answer:
            assert b"handover receive" in answer.read()
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    assert sending.end()[0] == 0


def test_identity_and_contacts_on_the_command_line(sender):
    assert sender.run("identity", "set-label", "Radiology, St. Mary").returncode == 0
    shown = sender.run("identity", "show").stdout
    assert "Radiology, St. Mary" in shown
    assert "fingerprint" in shown
    assert sender.run("identity", "set-label", "a\nb").returncode == 1
    assert sender.run("contacts", "remove", "nobody").returncode == 1
    assert sender.run("receipt", "verify", "/nonexistent").returncode == 1
    assert "Exit codes" in sender.run("--help").stdout
    assert sender.run("audit", "verify").returncode == 0


def receive_by_shell(recipient, link, out, output, **environment):
    """What a shell makes of the program's output; its exit code."""
    words = [sys.executable, "-m", "p2p", "receive", "--auto", "--output", str(out)]
    command = f"set -o pipefail; {shlex.join(words)} {output}"
    told = recipient.environment(HANDOVER_LINK=link, **environment)
    return subprocess.run(["bash", "-c", command], env=told, timeout=60).returncode


@pytest.mark.parametrize(
    "output",
    [">&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full", "2>&1 | head -n 1 >/dev/null"],
)
def test_output_that_nobody_can_read_decides_nothing(sender, recipient, some, out, output):
    """Closed descriptors, a full disk, a pipe whose reader is gone: it arrives, and both know."""
    sending, link = sender.send("--auto", some)
    assert receive_by_shell(recipient, link, out, output) == 0
    assert sending.end()[0] == 0
    assert sha256sums(out / some.name) == sha256sums(some)


def test_names_are_utf_8_whatever_the_locale(sender, recipient, tmp_path, out):
    source = tmp_path / "Größe"
    source.mkdir()
    (source / "日本 🩻.dcm").write_bytes(b"pixels")
    sending, link = sender.send("--auto", source)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert receive_by_shell(recipient, link, out, "2>/dev/null", **ascii_only) == 0
    assert sending.end()[0] == 0
    assert (out / source.name / "日本 🩻.dcm").read_bytes() == b"pixels"


@pytest.mark.parametrize("listen", [":0", "0.0.0.0:0", "[::]:0"])
def test_a_sender_that_listens_everywhere_is_reached(sender, recipient, some, out, listen):
    """Whichever way everywhere is written: its own program reaches it by IPv4."""
    sending, link = sender.send("--auto", "--listen", listen, some)
    assert recipient.receive(link, out, "--auto").end()[0] == 0
    assert sending.end()[0] == 0


def test_a_wrong_passphrase_is_asked_for_again_in_front_of_a_person(
    sender, recipient, some, tmp_path
):
    """And what is sent stands above the link, with how much it is."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse")
    sending = Terminal(sender, "send", "--passphrase-file", str(passphrase), str(some))
    link = sending.expect(r"(http://\S+#\S+)")
    assert "Sending 3 files in 1 folder, 150.0 kB: study" in sending.text
    out = tmp_path / "out"
    receiving = Terminal(recipient, "receive", "--output", str(out), HANDOVER_LINK=link)
    receiving.expect(r"Passphrase: ")
    receiving.type("wrong horse\n")
    receiving.expect(r"The passphrase is wrong[\s\S]*(Passphrase: )$")
    receiving.type("correct horse\n")
    sending.expect(r"\[y/n\]")
    sending.type("y\n")
    receiving.expect(r"\[y/n\]")
    receiving.type("y\n")
    assert receiving.end() == sending.end() == 0
    assert sha256sums(out / some.name) == sha256sums(some)
