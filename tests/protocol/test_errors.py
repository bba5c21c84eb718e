"""Endings, exit codes and sentences."""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path

import pytest

import p2p
from p2p.protocol.errors import EXIT_CODES, EXIT_USAGE, FAILURES, Ending, Failure, Next, PeerError
from p2p.protocol.manifest import STATUSES
from p2p.protocol.sentences import CATALOGUE, LANGUAGES, Detail, detail_of, os_detail, text

from .vectors import cases


def test_every_ending_has_an_exit_code_of_its_own():
    assert set(EXIT_CODES) == set(Ending)
    assert len({*EXIT_CODES.values(), EXIT_USAGE}) == len(Ending) + 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_failure_is_one_readable_sentence(language):
    for code in FAILURES:
        failure = Failure(code, "this")
        sentence = failure.sentence_in(language)
        assert sentence.endswith(".")
        assert "{" not in sentence
        assert failure.ending == FAILURES[code].ending
        assert str(failure) == failure.sentence


def test_both_languages_have_the_same_sentences_with_the_same_places_to_fill_in():
    english, german = (CATALOGUE[language] for language in LANGUAGES)
    assert english.keys() == german.keys()
    for group in english:
        assert english[group].keys() == german[group].keys(), group
        for code, sentence in english[group].items():
            places = [sorted(re.findall(r"{\w+}", one)) for one in (sentence, german[group][code])]
            assert places[0] == places[1], code


def test_the_catalogue_holds_every_code_and_nothing_else():
    for catalogue in CATALOGUE.values():
        assert catalogue["failure"].keys() == FAILURES.keys()
        assert catalogue["status"].keys() == set(STATUSES.values())


@cases("failures")
def test_failures_mean_the_same_in_every_implementation(case):
    kind = FAILURES[case["code"]]
    found = kind.ending.value, int(kind.next), kind.shared
    assert found == (case["ending"], case["next"], case["shared"])


def test_a_warning_may_be_any_failure():
    assert text("warning", "disarmed") == text("failure", "disarmed")
    with pytest.raises(KeyError):
        text("warning", "nothing of ours")


def test_what_fills_a_sentence_in_is_no_place():
    """A peer chooses its own name."""
    assert text("terminal", "sender", name="{known}", known="new") == "From (new): {known}"


def test_only_a_failure_that_is_no_end_can_go_on():
    ends = {Ending.COMPLETE, Ending.INCOMPLETE, Ending.DECLINED, Ending.EXPIRED, Ending.ABORTED}
    for code, kind in FAILURES.items():
        assert Failure(code).next is kind.next
        assert kind.next is Next.NOTHING or kind.ending not in ends, code
    assert {code for code in FAILURES if FAILURES[code].next is Next.WAIT} == {
        "connection_lost",
        "disk_paused",
        "home_unwritable",
        "descriptors_short",
        "source_away",
    }


def test_a_peers_error_is_a_protocol_error_unless_said_otherwise():
    assert PeerError("x").code == "protocol"
    assert PeerError("", code="guest_unproven").ending is Ending.FAILED


def test_a_phrase_that_fills_a_sentence_in_is_in_the_language_of_the_sentence():
    failure = Failure("nothing_to_send", Detail("missing", path="/a/{b}"))
    assert failure.detail == "/a/{b} does not exist"
    assert failure.sentence == "There is nothing to send: /a/{b} does not exist."
    assert failure.sentence_in("de") == "Es gibt nichts zu senden: /a/{b} existiert nicht."
    nested = Detail("because", name="x", why=Detail("too_deep"))
    assert nested == "x (nested too deeply)"
    assert nested.text_in("de") == "„x“ (zu tief verschachtelt)"
    with pytest.raises(KeyError):
        Detail("nothing of ours")


def test_what_somebody_else_told_is_shown_as_it_is_where_it_is_not_known():
    assert detail_of("full") == "it is fully occupied; try again in a minute"
    assert detail_of("of a later version") == "of a later version"


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (OSError(errno.ENOSPC, "x"), "no space left on the disk"),
        (OSError(errno.ENOTEMPTY, "Directory not empty"), "directory not empty"),
        (OSError("x"), "the disk failed"),
        (OSError(0, "Success of a kind"), "success of a kind"),
        (OSError(errno.EPERM, Detail("eacces")), "permission denied"),
    ],
)
def test_what_the_system_says_is_a_phrase_where_it_is_known(error, detail):
    assert os_detail(error) == detail


SOURCES = sorted(Path(p2p.__file__).parent.rglob("*.py"))
PAGE = Path(p2p.__file__).parent.parent / "web_client" / "src"
RAISED = ("Failure", "PeerError", "BadReceipt", "BadLine", "UnsafePath", "Warned", "Detail")


def calls(source, names):
    for one in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(one, ast.Call) and getattr(one.func, "id", "") in names:
            yield one


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one.stem)
def test_no_sentence_stands_where_it_is_raised(source):
    """It stands in the catalogue; a code stands there instead."""
    for call in calls(source, RAISED):
        for given in [*call.args, *(one.value for one in call.keywords)]:
            words = [w for w in ast.walk(given) if isinstance(w, ast.Constant)]
            if not isinstance(given, ast.Call):
                for word in words:
                    if isinstance(word.value, str) and word.value:
                        assert re.fullmatch(r"[a-z0-9_.]+|[ (),]+|message [1-4]", word.value), (
                            word.value
                        )


def test_every_phrase_is_said_somewhere_and_every_phrase_that_is_said_is_there():
    python = " ".join(source.read_text(encoding="utf-8") for source in SOURCES)
    page = " ".join(source.read_text(encoding="utf-8") for source in PAGE.rglob("*.ts"))
    system = [name.lower() for name in errno.errorcode.values()]
    server = [
        "rate_limited",
        "full",
        "room_taken",
        "bad_message",
        "unavailable",
    ]  # PROTOCOL.md names them
    for code in CATALOGUE["en"]["detail"]:
        said = f'"{code}"' in python or f'"{code}"' in page
        peer = code.startswith("peer_") and code.removeprefix("peer_") in FAILURES
        assert said or peer or code in system or code in server, code
    for source in SOURCES:
        for call in calls(source, ["Detail"]):
            if isinstance(call.args[0], ast.Constant):
                assert call.args[0].value in CATALOGUE["en"]["detail"], source


def test_a_violation_has_one_name_in_both_languages():
    """The page names none that the command line does not know."""
    written = r'new PeerError\(\s*"(\w+)"'
    page = {
        name
        for source in PAGE.rglob("*.ts")
        for name in re.findall(written, source.read_text(encoding="utf-8"))
    }
    ours = {
        given.value
        for source in SOURCES
        for call in calls(source, ["PeerError", "unexpected"])  # which names it behind the signal
        for given in call.args[:2]
        if isinstance(given, ast.Constant)
    }
    only_here = {"range_too_long", "zstd_frame_truncated", "zstd_frame_end"}  # its own frame reader
    assert page - ours == only_here
