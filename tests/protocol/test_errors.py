"""Endings, exit codes and sentences."""

from __future__ import annotations

from p2p.protocol.errors import EXIT_CODES, EXIT_USAGE, FAILURES, Ending, Failure, PeerError


def test_every_ending_has_an_exit_code_of_its_own():
    assert set(EXIT_CODES) == set(Ending)
    assert len({*EXIT_CODES.values(), EXIT_USAGE}) == len(Ending) + 1


def test_every_failure_is_one_readable_sentence():
    for code in FAILURES:
        failure = Failure(code, "this")
        assert str(failure) == failure.sentence
        assert failure.sentence.endswith(".")
        assert "{" not in failure.sentence
        assert failure.ending == FAILURES[code].ending


def test_a_peers_error_is_a_protocol_error_unless_said_otherwise():
    assert PeerError("x").code == "protocol"
    assert PeerError("", "recipient_unproven").ending is Ending.FAILED
