"""Endings, exit codes and sentences."""

from __future__ import annotations

import re

import pytest

from p2p.protocol.errors import EXIT_CODES, EXIT_USAGE, FAILURES, Ending, Failure, Next, PeerError
from p2p.protocol.manifest import STATUSES
from p2p.protocol.sentences import CATALOGUE, LANGUAGES, text

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
    assert text("terminal", "sender", name="{known}", known="new") == "From: {known} (new)"


def test_only_a_failure_that_is_no_end_can_go_on():
    ends = {Ending.COMPLETE, Ending.INCOMPLETE, Ending.DECLINED, Ending.EXPIRED, Ending.ABORTED}
    for code, kind in FAILURES.items():
        assert Failure(code).next is kind.next
        assert kind.next is Next.NOTHING or kind.ending not in ends, code
    assert {code for code in FAILURES if FAILURES[code].next is Next.WAIT} == {
        "connection_lost",
        "disk_paused",
        "home_unwritable",
    }


def test_a_peers_error_is_a_protocol_error_unless_said_otherwise():
    assert PeerError("x").code == "protocol"
    assert PeerError("", "guest_unproven").ending is Ending.FAILED
