"""Endings, exit codes and sentences."""

from __future__ import annotations

from p2p.protocol.errors import EXIT_CODES, EXIT_USAGE, FAILURES, Ending, Failure, Next, PeerError


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
    assert PeerError("", "recipient_unproven").ending is Ending.FAILED
