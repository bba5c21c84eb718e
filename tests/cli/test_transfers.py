"""`send`, `receive`, `resume`, `transfers`: every event, question and failure, in both languages."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from p2p import api
from p2p.api import PeerMet, Progressed, Question, QuestionDropped, StateChanged, Unfinished, Warned
from p2p.cli.terminal import Human, Terminal, _progress_line
from p2p.events import BOTTLENECKS, STATES
from p2p.protocol.errors import EXIT_CODES, FAILURES
from p2p.protocol.manifest import STATUSES
from p2p.protocol.sentences import CATALOGUE, Detail

from .conftest import (
    ACCEPT,
    ADMIT,
    COMPARE,
    COMPLETE,
    DIGITS,
    LINK,
    MADE,
    OFFER,
    PEER,
    SHOWN,
    Dropped,
    failed,
)

PASSPHRASE_LINK = "https://host.example/#1.aaaa.p"


def told(language, english, german):
    return german if language == "de" else english


# --- what happens


def test_a_transfer_that_is_sent(line, language, tmp_path):
    """The link alone goes to standard output; all else is said on standard error."""
    person = line.types("perhaps", told(language, "y", "j"))
    line.script = [
        MADE,
        StateChanged("waiting"),
        PEER,
        SHOWN,
        ADMIT,
        StateChanged("admitted"),
        COMPLETE,
    ]
    done = line.run("send", tmp_path)
    assert done.exit_code == 0
    assert done.stdout == f"{LINK}\n"
    sentences = CATALOGUE[language]
    for sentence in (
        sentences["terminal"]["link"],
        sentences["terminal"]["for_browser"],
        "https://10.0.0.1/#1.secret",
        sentences["state"]["waiting"],
        told(
            language,
            "Recipient (new, never met before): “Reading room”",
            "Empfänger (neu, bisher unbekannt): „Reading room“",
        ),
        told(language, "  key ab12 cd34", "  Schlüssel ab12 cd34"),
        told(language, f"  check digits {DIGITS}", f"  Prüfziffern {DIGITS}"),
        sentences["ending"]["complete"],
        told(language, "Receipt: receipt.json", "Quittung: receipt.json"),
    ):
        assert sentence in done.stderr
    question = f"{sentences['question']['admit']} {sentences['answer']['choice']} "
    assert person.asked == [question, question]  # only a clear answer is one
    assert line.answers == [True]


def test_a_transfer_that_is_received(line, language, tmp_path):
    """Who sends it, what it is, and where it now lies."""
    person = line.types("n")
    line.script = [PEER, SHOWN, OFFER, ACCEPT, failed("declined")]
    done = line.run("receive", "--output", tmp_path, LINK)
    assert line.given["arguments"] == (LINK, tmp_path)
    assert done.exit_code == EXIT_CODES[api.Ending.DECLINED]
    assert (
        told(
            language,
            "From (new, never met before): “Reading room”",
            "Von (neu, bisher unbekannt): „Reading room“",
        )
        in done.stderr
    )
    assert (
        told(
            language,
            "Offered: 3 files in 1 folder, 150.0 kB\n  study",
            "Angeboten: 3 Dateien in 1 Ordner, 150,0 kB\n  study",
        )
        in done.stderr
    )
    assert person.asked[-1].startswith(CATALOGUE[language]["question"]["accept"])


@pytest.mark.parametrize("answer", ["y", "yes", "Y", "n", "no"])
def test_answers_in_english(line, tmp_path, answer):
    line.types(answer)
    line.script = [ADMIT, COMPLETE]
    line.run("send", tmp_path)
    assert line.answers == [answer.lower().startswith("y")]


@pytest.mark.parametrize("answer", ["j", "ja", "Ja", "y", "n", "nein", "no"])
def test_answers_in_german(line, monkeypatch, tmp_path, answer):
    """An English yes is one too."""
    monkeypatch.setenv("HANDOVER_LANG", "de")
    line.types(answer)
    line.script = [ADMIT, COMPLETE]
    line.run("send", tmp_path)
    assert line.answers == [answer.lower()[0] in "jy"]


def test_a_question_that_is_dropped_is_not_answered(line, language, tmp_path):
    """The next one is asked anew, and the answer is its own."""
    person = line.types()
    line.script = [Dropped(ADMIT), StateChanged("lost"), COMPLETE]
    assert line.run("send", tmp_path).exit_code == 0
    assert len(person.asked) == 1
    assert line.answers == []


def test_check_digits_are_in_the_question(line, language, tmp_path):
    person = line.types("n")
    line.script = [COMPARE, failed("digits_rejected")]
    assert line.run("send", "--verify", tmp_path).exit_code == 8
    assert DIGITS in person.asked[0]
    assert line.given["verify"] is True


@pytest.mark.parametrize("state", STATES)
def test_every_state(line, language, tmp_path, state):
    """Said once, however often it comes."""
    line.script = [StateChanged(state), StateChanged(state), COMPLETE]
    said = line.run("send", tmp_path).stderr
    assert said.count(CATALOGUE[language]["state"][state]) == 1


def test_a_recipient_is_not_told_that_all_was_sent(line):
    """It is its own disk that is read back, and the progress bar shows how far that is."""
    line.script = [StateChanged("verifying"), COMPLETE]
    assert line.run("receive", LINK).stderr.startswith("Delivered")


@pytest.mark.parametrize("code", FAILURES)
def test_every_failure(line, language, tmp_path, code):
    """Its sentence, and its exit code."""
    line.script = [failed(code, Detail("eacces"))]
    done = line.run("send", tmp_path)
    detail = Detail("eacces").text_in(language)
    assert done.stderr == api.Failure(code, detail).sentence_in(language) + "\n"
    expected = 2 if code == "needs_answer" else EXIT_CODES[FAILURES[code].ending]
    assert done.exit_code == expected


@pytest.mark.parametrize("code", [*CATALOGUE["en"]["warning"], "disarmed"])
def test_every_warning(line, language, tmp_path, code):
    """With the path that it is about."""
    line.script = [Warned(code, "a/b", "this"), Warned(code, "", "this"), COMPLETE]
    said = line.run("send", tmp_path).stderr.splitlines()
    message = Warned(code, "", "this").message_in(language)
    note = told(language, "Note", "Hinweis")
    assert said[:2] == [f"{note}: a/b: {message}", f"{note}: {message}"]


def test_what_did_not_arrive_is_listed(line, language, tmp_path):
    """Up to ten, and how many more."""
    lost = tuple((f"{number}.dcm", 1 + 15 * (number % 2)) for number in range(1200))
    line.script = [failed("incomplete", "1200", failed=lost, receipt=Path("r.json"))]
    said = line.run("send", tmp_path).stderr.splitlines()
    assert said[1] == f"  0.dcm: {CATALOGUE[language]['status'][STATUSES[1]]}"
    assert len(said) == 1 + 10 + 2
    assert told(language, "and 1,190 more", "und 1.190 weitere") in said[-2]
    assert said[-1].endswith(": r.json")


SINCE = "2026-11-02T08:00:00.000Z"


@pytest.mark.parametrize(
    ("peer", "english", "german"),
    [
        (
            PeerMet("", "ab", "", False, ""),
            "Recipient (new, never met before): (no name)",
            "Empfänger (neu, bisher unbekannt): (ohne Namen)",
        ),
        (
            PeerMet("M", "ab", "Mary", False, "", SINCE),
            "Recipient (known as “Mary” since 2026-11-02, check digits never compared): “M”",
            "Empfänger (bekannt als „Mary“ seit 02.11.2026, Prüfziffern nie verglichen): „M“",
        ),
        (
            PeerMet("M", "ab", "Mary", True, "", SINCE),
            "Recipient (known as “Mary” since 2026-11-02, check digits compared before): “M”",
            "Empfänger (bekannt als „Mary“ seit 02.11.2026, Prüfziffern schon verglichen): „M“",
        ),
        (
            PeerMet("Mаry", "ab", "", False, "Mary"),
            "Recipient (WARNING: not the “Mary” you know): “Mаry”",
            "Empfänger (WARNUNG: nicht der bekannte Kontakt „Mary“): „Mаry“",
        ),
        (
            PeerMet("M (known as M, checked before)", "ab", "", False, ""),
            "Recipient (new, never met before): “M (known as M, checked before)”",
            "Empfänger (neu, bisher unbekannt): „M (known as M, checked before)“",
        ),
        (
            PeerMet("M” (known as “M”", "ab", "", False, ""),
            "Recipient (new, never met before): “M' (known as 'M'”",
            "Empfänger (neu, bisher unbekannt): „M' (known as 'M'“",
        ),
    ],
)
@pytest.mark.parametrize("role", ["send", "receive"])
def test_who_is_there(line, language, tmp_path, peer, english, german, role):
    """What this computer knows of them stands before what they say of themselves, in quotation
    marks that nothing they say can end."""
    line.script = [peer, COMPLETE]
    expected = told(language, english, german)
    if role == "receive":
        for theirs, ours in (("Recipient (", "From ("), ("Empfänger (", "Von (")):
            expected = expected.replace(theirs, ours)
    done = line.run("send", tmp_path) if role == "send" else line.run("receive", LINK)
    assert expected in done.stderr.splitlines()


IMITATOR = PeerMet("Mаry", "ab", "", False, "Mary")


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_an_imitated_name_is_warned_of_loudly(capsys, monkeypatch, language, environment, coloured):
    """On a line of its own, in colour where there are colours."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", Screen(sys.stderr))
    human, warned = Human("sender"), Warned("contact_changed", detail="Mary")
    human(IMITATOR)
    human(warned)
    lines = capsys.readouterr().err.split("\n")
    (at,) = [number for number, text in enumerate(lines) if warned.message_in(language) in text]
    assert lines[at - 1] == lines[at + 1] == ""
    assert told(language, "WARNING: ", "WARNUNG: ") in lines[at]
    assert lines[at].startswith("\x1b[") == coloured
    human(Progressed(1, 0, 2, 1.0))  # the same beside a progress bar
    human(warned)
    human(COMPLETE)
    assert told(language, "WARNING: ", "WARNUNG: ") in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["admit", "digits", "accept"])
@pytest.mark.parametrize("answer", ["", "n", "y"])
def test_of_someone_who_imitates_nothing_is_a_no(line, language, tmp_path, kind, answer):
    """Enter alone is a no, and the question says so."""
    person = line.types(answer)
    line.script = [IMITATOR, Question(kind, IMITATOR, DIGITS, OFFER), COMPLETE]
    line.run("send", tmp_path)
    assert line.answers == [answer == "y"]
    assert told(language, "[y/N]", "[j/N]") in person.asked[0]


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_the_line_beside_the_progress_bar(language, bottleneck):
    """How much, how fast, by which way, and what holds it up."""
    event = Progressed(1_500_000, 0, 3_000_000, 250_000.0, "tls", 2, 1, bottleneck)
    shown = _progress_line(event)
    assert shown.startswith(told(language, "1.5 MB of 3.0 MB  250.0 kB/s", "1,5 MB von 3,0 MB"))
    assert told(language, "direct, TLS x2", "direkt, TLS x2") in shown
    assert shown.endswith(CATALOGUE[language]["bottleneck"].get(bottleneck, "x2"))
    assert _progress_line(Progressed(0, 0, 0, 0.0)).endswith(told(language, "  direct", "  direkt"))


class Screen:
    """Standard error as a terminal."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def isatty(self):
        return True


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_progress_bar_loses_nothing_on_a_narrow_terminal(
    capsys, monkeypatch, language, columns
):
    """Its line wraps."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Screen(sys.stderr))
    human = Human("sender")
    human(Progressed(1_500_000, 0, 3_000_000, 250_000.0, "tls", 2, 1, "other_disk"))
    human(StateChanged("silent"))
    human(COMPLETE)
    said = capsys.readouterr().err
    assert "50%" in said
    for word in CATALOGUE[language]["bottleneck"]["other_disk"].split():
        assert word in said


# --- JSON


def test_json_lines_are_english_and_never_ask(line, language, tmp_path):
    """Whatever the person's language is."""
    line.types("y")
    line.script = [
        MADE,
        PEER,
        StateChanged("waiting"),
        Warned("disarmed"),
        QuestionDropped(),
        COMPLETE,
    ]
    done = line.run("send", "--json", tmp_path)
    events = [json.loads(row) for row in done.stdout.splitlines()]
    assert [one["event"] for one in events] == ["link", "peer", "state", "warning", "complete"]
    assert events[-1]["message"] == CATALOGUE["en"]["ending"]["complete"]
    assert events[3]["message"].startswith("WARNING")
    assert line.given["interactive"] is False
    assert line.person.asked == []
    assert done.stderr == ""


def test_a_failure_before_the_transfer_is_a_json_line(line, language, tmp_path):
    done = line.run("send", "--json", "--passphrase", tmp_path)
    (event,) = [json.loads(row) for row in done.stdout.splitlines()]
    assert done.exit_code == 2
    assert event["code"] == "needs_answer"
    assert event["detail"] == "the passphrase"
    assert event["message"] == api.Failure("needs_answer", api.Detail("passphrase")).sentence


# --- the passphrase and the link


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_relay_alone_needs_a_server_that_may_have_one(line, tmp_path, monkeypatch, language):
    monkeypatch.setenv("HANDOVER_LANG", language)
    done = line.run("send", tmp_path, "--auto", "--relay-only")
    assert done.exit_code == 2
    assert CATALOGUE[language]["usage"]["relay_server"] in done.stderr
    with_server = ("send", tmp_path, "--auto", "--relay-only", "--server", "https://a.example")
    assert line.run(*with_server).exit_code == 0
    # What is typed counts for more than what is configured: this one has a server of its own.
    configured = {"HANDOVER_SERVER": "https://a.example"}
    done = line.run("send", tmp_path, "--auto", "--relay-only", "--listen", ":0", env=configured)
    assert done.exit_code == 2


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_passphrase_from_a_file(line, tmp_path, ending):
    file = tmp_path / "secret"
    file.write_bytes(f"six random words{ending}".encode())
    line.run("send", "--passphrase-file", file, tmp_path)
    assert line.given["passphrase"] == "six random words"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
@pytest.mark.parametrize("ending", ["", "\r\n", " ", " \n"])
def test_a_passphrase_file_as_editors_save_it(line, tmp_path, encoding, ending):
    text = f"sechs zufällige Wörter{ending}"
    file = tmp_path / "secret"
    if encoding.endswith("-bom"):
        file.write_bytes(f"\ufeff{text}".encode(encoding.removesuffix("-bom")))
    else:
        file.write_text(text, encoding=encoding, newline="")
    line.run("send", "--passphrase-file", file, tmp_path)
    assert line.given["passphrase"] == "sechs zufällige Wörter"


@pytest.mark.parametrize("content", [b"", b"\n", b" ", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_passphrase_is_refused_at_once(line, language, tmp_path, monkeypatch, content):
    file = tmp_path / "secret"
    file.write_bytes(content)
    done = line.run("send", "--passphrase-file", file, tmp_path)
    assert done.exit_code == 2
    assert told(language, "is empty", "ist leer") in done.stderr
    monkeypatch.setenv("HANDOVER_PASSPHRASE", "")
    done = line.run("send", tmp_path)
    assert done.exit_code == 2
    assert told(language, "is empty", "ist leer") in done.stderr


def test_a_passphrase_file_that_cannot_be_read(line, language, tmp_path):
    done = line.run("send", "--passphrase-file", tmp_path / "none", tmp_path)
    assert done.exit_code == 1
    assert told(language, "Cannot read", "Nicht lesbar") in done.stderr


def test_a_passphrase_from_the_environment(line, monkeypatch, tmp_path):
    """It also means that one is wanted."""
    monkeypatch.setenv("HANDOVER_PASSPHRASE", "words")
    line.run("send", tmp_path)
    assert line.given["passphrase"] == "words"


def test_a_passphrase_that_is_typed(line, language, tmp_path):
    """Twice, until both are the same; it is never shown."""
    line.types()
    done = line.run("send", "--passphrase", tmp_path, input="one\ntwo\nsix\nsix\n")
    assert line.given["passphrase"] == "six"
    assert told(language, "the two entries do not match", "stimmen nicht überein") in done.stderr
    assert told(language, "Repeat to confirm", "Zur Bestätigung wiederholen") in done.stderr
    assert "six" not in done.output


def test_nobody_is_there_to_type_it(line, language, tmp_path):
    done = line.run("send", "--passphrase", tmp_path)
    assert done.exit_code == 2
    assert told(language, "(the passphrase)", "(das Passwort)") in done.stderr


def test_a_link_with_a_passphrase_asks_for_it(line, monkeypatch):
    monkeypatch.setattr(api, "needs_passphrase", lambda link: link == PASSPHRASE_LINK)
    line.types()
    line.run("receive", PASSPHRASE_LINK, input="words\n")
    assert line.given["passphrase"] == "words"


def test_where_the_link_comes_from(line, monkeypatch):
    """An argument, standard input, the environment, in this order of what is preferred."""
    line.run("receive", input=f"{LINK}1\n")
    assert line.given["arguments"][0] == f"{LINK}1\n"
    monkeypatch.setenv("HANDOVER_LINK", f"{LINK}2")
    line.run("receive", input=f"{LINK}1\n")
    assert line.given["arguments"][0] == f"{LINK}2"
    line.run("receive", f"{LINK}3", input=f"{LINK}1\n")
    assert line.given["arguments"][0] == f"{LINK}3"


# --- unfinished ones

ONE = Unfinished(
    id="ab" * 16,
    short_id="abababab",
    role="sender",
    state="unfinished",
    peer="Mary",
    passphrase=False,
    options=("limit", "compress"),
    began="2026-11-26T04:00:00Z",
    durable=10,
    total=20,
)


def test_unfinished_transfers(line, language, monkeypatch):
    """Their state and their peer, or that there are none."""
    damaged = Unfinished("cd" * 16, "cdcdcdcd", "", "damaged", "", False, (), "", 0, 0)
    monkeypatch.setattr(api, "unfinished", lambda: [ONE, damaged])
    rows = line.run("transfers").stdout.splitlines()
    assert told(language, "to “Mary”, 10 B of 20 B", "an „Mary“, 10 B von 20 B") in rows[0]
    assert told(language, "damaged     with (nobody yet)", "mit (noch niemand)") in rows[1]
    monkeypatch.setattr(api, "unfinished", list)
    assert line.run("transfers").stderr.strip() == CATALOGUE[language]["transfers"]["none"]


def test_unfinished_transfers_as_json(line, language, monkeypatch):
    monkeypatch.setattr(api, "unfinished", lambda: [ONE])
    (row,) = line.run("transfers", "--json").stdout.splitlines()
    assert json.loads(row)["state"] == "unfinished"


def test_resuming_the_only_one(line, monkeypatch):
    monkeypatch.setattr(api, "unfinished", lambda: [ONE])
    monkeypatch.setattr(api, "find_unfinished", lambda wanted: ONE)
    assert line.run("resume").exit_code == 0
    assert line.given["arguments"] == (ONE.id,)


def test_resuming_one_of_several(line, language, monkeypatch):
    """They are listed, and the person has to say which."""
    monkeypatch.setattr(api, "unfinished", lambda: [ONE, ONE])
    done = line.run("resume")
    assert done.exit_code == 2
    assert done.stderr.strip() == CATALOGUE[language]["transfers"]["choose"]
    assert line.given == {}


def test_one_that_is_unknown(line, language):
    done = line.run("resume", "0123")
    assert done.exit_code == 1
    assert "0123" in done.stderr
    assert "handover transfers" in done.stderr


def test_what_it_was_begun_with_counts_for_more_than_what_is_configured(line, monkeypatch):
    """And what is typed for more than both."""
    monkeypatch.setattr(api, "find_unfinished", lambda wanted: ONE)
    monkeypatch.setenv("HANDOVER_LIMIT", "10M")
    line.run("resume", "ab")
    assert not {"limit", "compress"} & line.given.keys()
    line.run("resume", "ab", "--limit", "4M", "--no-compress")
    assert (line.given["limit"], line.given["compress"]) == (4e6, False)
    monkeypatch.setattr(api, "find_unfinished", lambda wanted: replace(ONE, options=()))
    line.run("resume", "ab")
    assert line.given["limit"] == 10e6


def test_a_passphrase_nobody_asks_for_is_refused(line, language, monkeypatch):
    """Whoever gives one counts on it."""
    link = f"https://handover.test/#1.{'A' * 43}.{'A' * 22}"
    monkeypatch.setattr(api, "find_unfinished", lambda wanted: ONE)
    for command in (("resume", "ab"), ("receive", link)):
        done = line.run(*command, "--passphrase-file", "file")
        assert done.exit_code == 2
        assert CATALOGUE[language]["usage"]["passphrase_unused"] in done.stderr


def test_discarding(line, language, monkeypatch):
    monkeypatch.setattr(api, "discard", lambda wanted: "" if wanted == "a" else ".handover-x.part")
    assert line.run("transfers", "discard", "a").stderr.strip() == told(
        language, "Erased.", "Gelöscht."
    )
    assert ".handover-x.part" in line.run("transfers", "discard", "b").stderr


# --- the terminal itself


async def test_a_terminal_that_is_gone_says_no(language):
    """Whoever hangs up has not agreed."""
    ours, theirs = socket.socketpair()
    terminal = Terminal(ours.detach())
    theirs.shutdown(socket.SHUT_WR)
    assert await asyncio.wait_for(terminal.ask(ADMIT), 5) is False
    terminal.close()
    theirs.close()


async def test_a_question_on_a_terminal(language):
    """It is asked there, wherever standard output goes."""
    master, slave = os.openpty()
    terminal = Terminal(slave)
    os.write(master, told(language, "y\n", "j\n").encode())
    assert await asyncio.wait_for(terminal.ask(ADMIT), 5) is True
    said = ""
    while CATALOGUE[language]["question"]["admit"] not in said:  # behind what was typed
        said += os.read(master, 1024).decode()
    terminal.close()
    os.close(master)
