"""The session: the whole line, every ending, every rule of the table and of the streams."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from p2p.protocol import codec, handshake, noise, receipt, session
from p2p.protocol.errors import Ending, Failure, PeerError
from p2p.protocol.manifest import (
    CHANGED,
    NOT_PLACED,
    Entry,
    Manifest,
    Results,
    decode_manifest,
    results_root,
)
from p2p.protocol.seal import Header, Stream
from p2p.protocol.session import RecipientState, SenderState, flow, table
from p2p.protocol.session.machine import LONGEST_STILL_SECONDS, STILL_SECONDS
from p2p.protocol.signal import Candidate, Candidates, DirectEndpoint
from p2p.protocol.suite import SUITE_1

from .pair import OWN, R_KEY, S_KEY, SECURITY, TIME, TRANSFER, Pair, secured
from .vectors import cases

SHAPES = {
    **session.MESSAGES,
    "offer body": session.OFFER_BODY,
    "accept body": session.ACCEPT_BODY,
    "closing body": session.CLOSING_BODY,
}


@cases("messages")
def test_messages_follow_the_vectors(case):
    if case["expect"] == "ok":
        codec.read_as(SHAPES[case["kind"]], case["message"], "x")
    else:
        with pytest.raises(PeerError):
            codec.read_as(SHAPES[case["kind"]], case["message"], "x")


@cases("sender")
def test_a_sender_follows_the_vectors(case):
    own, other = (
        SigningKey(bytes.fromhex(case[f"{role}_seed"])) for role in ("sender", "recipient")
    )
    content = decode_manifest(bytes.fromhex(case["manifest"]))
    noted = Results.recall(bytes.fromhex(case["results"]), len(content.entries))
    peer = handshake.Peer(bytes(other.verify_key), **case["recipient"], verify=False)
    says, hears, tells, listens = (noise.CipherState(bytes(32)) for _ in range(4))
    transcript = bytes.fromhex(case["transcript"])
    ends = handshake.Secured(peer, "", transcript, SUITE_1, says, hears, bytes(32))
    transfer_id, times = bytes.fromhex(case["transfer_id"]), case["times"]
    sender = session.SenderSession(ends, own, transfer_id, 4096, 0.0, verify=False)

    def said():
        (frame,) = sender.frames()
        return codec.decode_json(listens.decrypt(frame), session.MAX_CONTROL)

    data = bytes.fromhex(case["manifest"])
    empty = Results(len(noted))
    sender.offer(content, data, content.tape(), times["offered"], 0.0, empty)
    assert said() == case["expect"]["offer"]
    sender.receive_frame(tells.encrypt(case["accept"].encode()), 0.0)
    for entry in range(len(noted)):
        status, digest = noted[entry]
        if status:
            sender.results.failed(entry, status)
        elif noted.known(entry):
            sender.hashed(entry, digest)
    sender.draw_up(times["closed"], case["audit_head"])
    sender.close(0.0)
    assert said() == case["expect"]["closing"]
    assert sender.closed(case["own"], case["security"]) == case["expect"]["closed"]
    assert results_root(content, sender.results).hex() == case["expect"]["root"]


def endings(pair):
    return [pair.saw(role, session.Ended)[-1].ending for role in ("sender", "recipient")]


def offered(**options):
    pair = Pair(**options)
    pair.offer()
    return pair


def deciding(**options):
    """A pair whose recipient has the manifest and is asked."""
    pair = offered(**options)
    while pair.recipient.state != RecipientState.DECIDING:
        if not (
            pair.deliver_control("recipient")
            or pair.send_range()
            or pair.deliver_data()
            or pair.deliver_control("sender")
        ):
            pair.tick()
    return pair


def receiving(**options):
    """A pair right after the accept."""
    pair = deciding(**options)
    pair.accept()
    while pair.sender.state != SenderState.SENDING:
        pair.deliver_control("sender")
    return pair


def signed(**options):
    """A pair whose recipient has just sent its receipt, the sender not having it yet."""
    pair = receiving(**options)
    while pair.recipient.state != RecipientState.SIGNED:
        if not (
            pair.deliver_control("recipient")
            or pair.send_range()
            or pair.deliver_data()
            or pair.sync()
            or pair.read_back()
        ):
            if pair.sender.state in (SenderState.SENDING, SenderState.CLOSING) and pair.to_sender:
                pair.deliver_control("sender")
            else:
                pair.tick()
    return pair


def countersigning():
    """A pair whose sender has the receipt and has to check it."""
    pair = signed()
    pair._countersign = lambda event: None
    while pair.sender.state != SenderState.COUNTERSIGNING:
        pair.deliver_control("sender")
    return pair


def say(pair, role, kind, **fields):
    """Have a side say what it would not."""
    one = pair.sender if role == "sender" else pair.recipient
    one._say(kind, pair.now, **fields)
    pair.flush()


# --- the whole line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        (b"hello", b"world"),
        (b"",),
        (None,),
        (None, b"", b"x" * 100_000, b"", None),
        (b"y" * 3_000_000,),
        tuple(bytes([i]) * (i * 7) for i in range(200)),
        (b"a" * 10, 500_000, b"b" * 10),
        (100_000_000,),
    ],
)
def test_everything_arrives_and_both_end_complete(files):
    pair = offered(files=files, largest=60_000).run()
    assert endings(pair) == [Ending.COMPLETE, Ending.COMPLETE]
    if not any(isinstance(f, int) for f in files):
        assert b"".join(payload for _, payload in sorted(pair.disk.items())) == pair.content
    assert len(pair.receipts) == 1
    whole = receipt.verify(
        receipt.assemble(
            pair.receipts[0],
            [
                (bytes(R_KEY.verify_key), pair.saw("sender", session.Receipted)[0].signature),
                (bytes(S_KEY.verify_key), pair.signature),
            ],
        )
    )
    assert whole.confirmed
    assert whole.payload["content"]["delivered_bytes"] == pair.tape.total


def test_a_withdrawn_entry_leaves_the_others_and_makes_it_incomplete():
    pair = offered(files=(b"a" * 50_000, b"b" * 50_000, b"c" * 50_000))
    pair.withdraw_at = {1: CHANGED}
    pair.run()
    assert endings(pair) == [Ending.INCOMPLETE, Ending.INCOMPLETE]
    assert pair.saw("recipient", session.Withdrawn)[0].entries == ((1, CHANGED),)
    content = receipt.read_payload(pair.receipts[0])["content"]
    assert (content["delivered_entries"], content["delivered_bytes"]) == (2, 100_000)


def test_a_range_of_many_files_counts_as_far_as_it_is_written():
    pair = receiving(files=(b"a" * 100, b"b" * 100, b"c" * 100))
    first = Header(TRANSFER, Stream.DATA, 0, 0, 200)
    last, payload = Header(TRANSFER, Stream.DATA, 0, 200, 100), b"c" * 100
    assert pair.recipient.admit(first, pair.now)
    assert pair.recipient.admit(last, pair.now)
    pair.recipient.partly_written(last, 250, pair.now)  # behind a gap
    assert pair.recipient.frontier == 0
    pair.recipient.partly_written(first, 100, pair.now)
    pair.recipient.synced(100, pair.now)
    assert pair.recipient.frontier == 100
    pair.recipient.written(last, payload, pair.now)
    pair.recipient.written(first, bytes(200), pair.now)
    assert pair.recipient.frontier == 300


def test_a_recipient_whose_disk_stalls_keeps_its_connection():
    """As long as it says so, and for ten minutes at most."""
    pair = receiving(files=(b"a" * 50_000,))
    pair.send_range()
    pair.recipient.report_bottleneck("disk", pair.now)
    pair.flush()
    for _ in range(60):
        while pair.deliver_control("sender") or pair.deliver_control("recipient"):
            pass
        pair.tick(1.0)
    assert pair.sender.peer_is_slow
    assert not pair.sender.over
    with pytest.raises(Failure) as caught:
        for _ in range(600):
            while pair.deliver_control("sender") or pair.deliver_control("recipient"):
                pass
            pair.tick(1.0)
    assert caught.value.code == "connection_lost"


def test_a_sender_whose_digests_never_come_is_given_up():
    """It pings, and its last ranges were acknowledged long ago."""
    pair = receiving(files=(b"a" * 5000,))
    while pair.send_range() or pair.deliver_data() or pair.sync() or pair.read_back():
        if pair.sender.all_sent:
            break
    pair.now += 1
    with pytest.raises(Failure) as caught:
        for _ in range(700):
            pair.to_sender.clear()
            pair.recipient.tick(pair.now)
            pair.recipient.heard(pair.now)
            pair.now += 1.0
    assert caught.value.code == "connection_lost"
    assert pair.now > STILL_SECONDS


def test_a_recipient_that_never_comes_to_an_end_is_given_up():
    """It says that its disk holds it up, for a day."""
    pair = receiving(files=(b"a" * 10,))
    with pytest.raises(Failure) as caught:
        for _ in range(200):
            pair.sender.tick(pair.now)
            pair.sender.heard(pair.now)
            pair.now += 900.0
            pair.sender._spoke = pair.now
            pair.sender.heard(pair.now)
    assert caught.value.code == "connection_lost"
    assert LONGEST_STILL_SECONDS < pair.now < LONGEST_STILL_SECONDS + 10_000


def test_a_person_may_think_about_an_offer_for_as_long_as_they_like():
    pair = deciding(files=(b"a" * 10,))
    for _ in range(100):
        pair.recipient.heard(pair.now)
        pair.recipient.tick(pair.now)
        pair.now += 5000.0
        pair.recipient.heard(pair.now)
    assert not pair.recipient.over


def test_thousands_withdrawn_while_one_write_takes_long_are_no_crime():
    """Files that vanished after they were listed; what is on its way before them is not written."""
    count = 5000
    pair = receiving(files=(b"a" * 4000, *[b"b"] * count))
    pair.send_range()  # and it stays on its way
    for entry in range(1, count + 1):
        pair.sender.withdraw([(entry, CHANGED)], pair.now)
        pair.digested.add(entry)
    pair.flush()
    while pair.deliver_control("recipient"):
        pass
    pair.run()
    assert endings(pair) == [Ending.INCOMPLETE, Ending.INCOMPLETE]


def test_an_entry_withdrawn_after_its_last_byte_counts_as_well():
    pair = receiving(files=(b"a" * 10, b"b" * 10))
    pair.send_range()
    pair.sender.withdraw([(0, CHANGED)], pair.now)
    pair.digested.add(0)
    pair.flush()
    pair.run()
    assert endings(pair) == [Ending.INCOMPLETE, Ending.INCOMPLETE]


def test_an_entry_the_recipient_could_not_place_is_told_and_receipted():
    pair = offered(files=tuple(b"x" for _ in range(600)))
    pair.refuse = [(i, NOT_PLACED) for i in range(300)]
    pair.run()
    assert endings(pair) == [Ending.INCOMPLETE, Ending.INCOMPLETE]
    assert list(pair.sender.results.failures()) == pair.refuse


def test_exactly_one_batch_of_failures():
    pair = offered(files=tuple(b"x" for _ in range(session.BATCH)))
    pair.refuse = [(i, NOT_PLACED) for i in range(session.BATCH)]
    pair.run()
    assert endings(pair) == [Ending.INCOMPLETE, Ending.INCOMPLETE]


def test_declining_ends_it_on_both_sides():
    pair = deciding()
    pair.recipient.decline(pair.now)
    pair.flush()
    while pair.to_sender:
        pair.deliver_control("sender")
    assert endings(pair) == [Ending.DECLINED, Ending.DECLINED]


def test_digits_have_to_be_confirmed_by_both_where_one_wants_it():
    pair = Pair(verify=True)
    assert pair.sender.needs_confirmation
    assert pair.recipient.needs_confirmation
    with pytest.raises(ValueError, match="digits"):
        pair.offer()
    pair.sender.confirm_digits()
    assert not pair.sender.may_offer
    pair.recipient.confirmed(pair.now)
    pair.flush()
    pair.deliver_control("sender")
    assert pair.saw("sender", session.Confirmed)
    pair.offer()
    pair.run()


@pytest.mark.parametrize("wanted", [True, False])
def test_digits_that_are_confirmed_again_are_no_news(wanted):
    """Somebody who is let in only later could say so for ever."""
    pair = Pair(verify=wanted)
    for _ in range(3):
        pair.recipient.confirmed(pair.now)
    pair.flush()
    while pair.deliver_control("sender"):
        pass
    assert len(pair.saw("sender", session.Confirmed)) == wanted


def test_progress_is_what_is_durable_and_read_back():
    pair = offered(files=(b"z" * 500_000,), largest=60_000).run()
    for role in ("sender", "recipient"):
        seen = pair.saw(role, session.Progressed)
        assert seen[-1] == session.Progressed(500_000, 500_000, 500_000)
        assert all(one.verified <= one.durable for one in seen)


# --- aborts and losses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("cancelled", "peer_cancelled"),
        ("no_space", "no_space"),
        ("internal", "peer_failed"),
        ("nonsense", "peer_failed"),
    ],
)
def test_an_abort_is_told_in_the_others_words(said, heard):
    pair = offered()
    say(pair, "recipient", "abort", code=said)
    with pytest.raises(Failure) as caught:
        pair.deliver_control("sender")
    assert caught.value.code == heard
    assert pair.sender.over


def test_an_abort_is_sent_once_and_what_follows_is_ignored():
    pair = offered()
    pair.sender.abort("cancelled", pair.now)
    pair.sender.abort("cancelled", pair.now)
    assert len(pair.sender.frames()) == 1
    say(pair, "recipient", "decline")
    pair.deliver_control("sender")
    assert not pair.saw("sender", session.Ended)
    pair.sender.tick(pair.now + 100)
    assert pair.sender.plan(0, pair.now) is None


@pytest.mark.parametrize("role", ["sender", "recipient"])
def test_silence_is_told_after_6_s_and_ends_it_after_10(role):
    pair = receiving()
    one = getattr(pair, role)
    one.tick(pair.now + 6.1)
    assert one.events()[-1] == session.Suspected(True)
    one.tick(pair.now + 7)
    assert not one.events()
    one.heard(pair.now + 7)
    assert one.events() == [session.Suspected(False)]
    with pytest.raises(Failure) as caught:
        one.tick(pair.now + 17.1)
    assert caught.value.code == "connection_lost"


@pytest.mark.parametrize("role", ["sender", "recipient"])
def test_a_loss_before_the_accept_is_another_failure(role):
    pair = offered()
    with pytest.raises(Failure) as caught:
        getattr(pair, role).lost()
    assert caught.value.code == "connection_lost_early"


def test_both_sides_ping_when_idle_and_so_stay_alive_for_hours():
    pair = offered()
    for _ in range(300):
        pair.tick(1.9)
        for to in ("sender", "recipient"):
            while getattr(pair, f"to_{to}"):
                pair.deliver_control(to)
    assert not pair.saw("sender", session.Suspected)


@pytest.mark.parametrize("state", [RecipientState.FINISHING, RecipientState.SIGNED])
def test_an_abort_after_the_delivery_is_no_more_than_a_missing_last_word(state):
    pair = signed()
    pair.recipient.state = state
    assert pair.recipient.settling
    say(pair, "sender", "abort", code="cancelled")
    while pair.to_recipient:
        pair.deliver_control("recipient")
    if state == RecipientState.SIGNED:
        assert pair.saw("recipient", session.Ended)[0].ending == Ending.DELIVERED_UNCONFIRMED
    else:
        assert not pair.recipient.over


@pytest.mark.parametrize("when", ["countersigning", "signed"])
def test_an_abort_of_the_recipient_after_its_receipt_leaves_the_sender_complete(when):
    pair = signed()
    say(pair, "recipient", "abort", code="cancelled")
    if when == "countersigning":
        countersign, pair._countersign = pair._countersign, lambda event: None
    while pair.to_sender:
        pair.deliver_control("sender")
    assert pair.sender.settling
    if when == "countersigning":
        countersign(pair.saw("sender", session.Receipted)[0])
    assert pair.saw("sender", session.Ended) == [
        session.Ended(Ending.COMPLETE, "receipt_unconfirmed")
    ]


def test_nothing_of_the_manifest_is_sent_before_the_recipient_has_the_offer():
    pair = offered()
    assert pair.sender.plan(0, pair.now) is None
    pair.deliver_control("recipient")
    assert pair.sender.plan(0, pair.now) is None
    pair.deliver_control("sender")
    assert pair.sender.plan(0, pair.now).stream == Stream.MANIFEST


def test_a_lost_countersignature_leaves_the_recipient_delivered_unconfirmed():
    pair = signed()
    pair.recipient.lost()
    pair.flush()
    assert pair.saw("recipient", session.Ended) == [
        session.Ended(Ending.DELIVERED_UNCONFIRMED, "unconfirmed")
    ]


def test_silence_after_the_signature_is_no_failure_either():
    pair = signed()
    assert pair.recipient.transfer_id == TRANSFER
    pair.recipient.tick(pair.now + 11)
    pair.flush()
    assert pair.saw("recipient", session.Ended)[0].code == "unconfirmed"


def test_a_countersignature_that_does_not_come_in_10_s_as_well():
    pair = signed()
    for _ in range(6):  # the sender is alive, but never signs
        pair.now += 1.9
        pair.recipient.heard(pair.now)
        pair.recipient.tick(pair.now)
        pair.flush()
    assert pair.saw("recipient", session.Ended)[0].code == "unconfirmed"


def test_a_connection_lost_while_placing_ends_the_same_way():
    pair = receiving()
    finish = pair._finish
    pair._finish = lambda event: (pair.recipient.lost(), finish(event))
    while not pair.recipient.over:
        if not (
            pair.deliver_control("recipient")
            or pair.send_range()
            or pair.deliver_data()
            or pair.sync()
            or pair.read_back()
            or pair.deliver_control("sender")
        ):
            pair.tick()
    assert pair.saw("recipient", session.Ended)[0].ending == Ending.DELIVERED_UNCONFIRMED


@pytest.mark.parametrize("how", ["lost", "timeout"])
def test_a_lost_last_word_leaves_the_sender_complete_but_says_so(how):
    pair = signed()
    while pair.sender.state != SenderState.SIGNED:
        pair.deliver_control("sender")
    if how == "lost":
        pair.sender.lost()
    else:
        for _ in range(6):
            pair.now += 1.9
            pair.sender.heard(pair.now)
            pair.sender.tick(pair.now)
    pair.flush()
    assert pair.saw("sender", session.Ended) == [
        session.Ended(Ending.COMPLETE, "receipt_unconfirmed")
    ]


# --- what may not come ----------------------------------------------------------------------------


def test_a_message_out_of_turn_is_refused():
    for role, kind, fields in (
        ("sender", "confirmed", {}),
        ("sender", "withdraw", {"entries": [[0, CHANGED, 0]]}),
        ("recipient", "done", {}),
        ("recipient", "failed", {"entries": [[0, NOT_PLACED]]}),
    ):
        pair = offered()
        pair.to_recipient.clear()
        pair = Pair()
        say(pair, role, kind, **fields)
        with pytest.raises(PeerError, match="protocol"):
            pair.deliver_control("recipient" if role == "sender" else "sender")


@pytest.mark.parametrize(
    "frame",
    [
        b"[]",
        b"{}",
        b'{"type":1}',
        b'{"type":"hello"}',
        b'{"type":"ping"}',
        b'{"type":"ping","bottleneck":"x"}',
        b"\xff",
    ],
)
def test_an_unknown_or_malformed_message_is_refused(frame):
    pair = Pair()
    with pytest.raises(PeerError):
        pair.recipient.receive_frame(pair.sender.secured.send.encrypt(frame), pair.now)


def test_a_frame_that_does_not_authenticate_is_refused():
    with pytest.raises(PeerError):
        Pair().recipient.receive_frame(b"x" * 40, 0)


@pytest.mark.parametrize(
    "change", [{"sender": b"x" * 32}, {"recipient": b"x" * 32}, {"transcript": b"x" * 32}]
)
def test_an_offer_for_someone_else_is_refused(change):
    pair = Pair()
    pair.sender.offer(pair.manifest, pair.data, pair.tape, TIME, pair.now, Results(1))
    pair.sender.frames()
    fields = codec.decode_json(pair.sender._offer, 10_000)
    fields.update({k: codec.encode_base64url(v) for k, v in change.items()})
    # The frame that was dropped counted: say a ping first for the cipher's sake.
    pair = Pair()
    body = codec.encode_json(fields)
    pair.sender._say_signed("offer", session.LABEL_OFFER, body, pair.now)
    pair.flush()
    with pytest.raises(PeerError, match="protocol"):
        pair.deliver_control("recipient")


def test_an_offer_signed_by_another_key_is_refused():
    pair = Pair()
    pair.sender._identity = R_KEY
    pair.offer()
    with pytest.raises(PeerError):
        pair.deliver_control("recipient")


def test_an_accept_of_another_offer_is_refused():
    pair = offered()
    body = session.encode_body(
        {
            "type": "accept",
            "offset": 0,
            "transfer_id": TRANSFER,
            "transcript": pair.recipient.secured.transcript,
            "offer_sha256": bytes(32),
            "time": TIME,
        }
    )
    pair.recipient._say_signed("accept", session.LABEL_ACCEPT, body, pair.now)
    pair.flush()
    with pytest.raises(PeerError):
        pair.deliver_control("sender")


def test_a_manifest_that_is_not_the_offers_is_refused():
    pair = offered()
    while not pair.lane:
        pair.deliver_control("recipient") or pair.deliver_control("sender") or pair.send_range()
    header, payload = pair.lane.popleft()
    pair.lane.appendleft((header, payload[:-2] + b" \n"))
    with pytest.raises(PeerError):
        while True:
            pair.deliver_data() or pair.send_range()


def test_a_manifest_with_other_counts_than_the_offer_is_refused():
    pair = offered()
    while pair.recipient.state != RecipientState.DECIDING:
        pair.deliver_control("recipient") or pair.deliver_control(
            "sender"
        ) or pair.send_range() or pair.deliver_data()
    other = Manifest((Entry("x", "file", 1, 0),), bytes(32))
    with pytest.raises(PeerError):
        pair.recipient.read(other, other.tape())


def header(offset=0, length=10, stream=Stream.DATA, transfer=TRANSFER, hole=False):
    return Header(transfer, stream, hole, offset, length)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (header(transfer=bytes(16)), "range_of_another_transfer"),
        (header(offset=3_000_000, length=1), "range_past_end"),
        (header(length=3_000_001), "range_past_end"),
        (header(hole=True, length=3_000_001), "range_past_end"),
        (header(offset=session.INITIAL_LIMIT, length=1), "range_beyond_limit"),
        (header(offset=session.INITIAL_LIMIT - 5, length=10), "range_beyond_limit"),
        (header(offset=session.INITIAL_LIMIT, length=10, hole=True), "range_beyond_limit"),
    ],
)
def test_a_range_that_may_not_come_is_refused(bad, why):
    pair = receiving(files=(b"a" * 3_000_000,))
    with pytest.raises(PeerError, match="protocol") as caught:
        pair.recipient.admit(bad, pair.now)
    assert why in caught.value.detail


def test_a_range_before_the_offer_or_the_accept_is_refused():
    with pytest.raises(PeerError):
        Pair().recipient.admit(header(), 0)
    pair = offered()
    pair.deliver_control("recipient")
    with pytest.raises(PeerError):
        pair.recipient.admit(header(), 0)


def test_a_hole_may_reach_beyond_the_limit_and_moves_it():
    pair = receiving(files=(10**12,))
    assert pair.recipient.admit(header(hole=True, length=10**12), pair.now)
    pair.recipient.written(header(hole=True, length=10**12), b"", pair.now)
    assert pair.recipient.frontier == 10**12


def test_repeated_ranges_are_dropped_until_they_are_too_many():
    pair = receiving(files=(b"a" * 100,))
    assert pair.recipient.admit(header(length=100), pair.now)
    pair.recipient.written(header(length=100), b"a" * 100, pair.now)
    for _ in range(2):
        assert not pair.recipient.admit(header(length=100), pair.now)
    with pytest.raises(PeerError):
        pair.recipient.admit(header(length=100), pair.now)


@pytest.mark.parametrize(
    "entry",
    [[2, CHANGED, 0], [0, 99, 0], [0, NOT_PLACED, 0], [1, CHANGED, 0], [0, CHANGED, 11]],
)
def test_a_withdrawal_of_what_is_not_there_is_refused(entry):
    pair = receiving(files=(b"a" * 10, b"b" * 10))
    say(pair, "sender", "withdraw", entries=[entry])
    with pytest.raises(PeerError):
        while pair.deliver_control("recipient"):
            pass


def test_a_withdrawal_of_what_was_sent_is_refused():
    pair = receiving(files=(b"a" * 10, b"b" * 10))
    pair.send_range()
    pair.deliver_data()
    say(pair, "sender", "withdraw", entries=[[0, CHANGED, 0]])
    with pytest.raises(PeerError):
        while pair.deliver_control("recipient"):
            pass


def closing(pair, **changes):
    fields = {
        "type": "closing",
        "transfer_id": TRANSFER,
        "manifest_sha256": codec.sha256(pair.data),
        "digests_sha256": bytes(32),
        "audit_head": "",
        "time": TIME,
        **changes,
    }
    pair.sender._say_signed("closing", session.LABEL_CLOSING, session.encode_body(fields), pair.now)
    pair.flush()


def test_a_closing_of_another_transfer_is_refused():
    for change in ({"transfer_id": bytes(16)}, {"manifest_sha256": bytes(32)}):
        pair = receiving()
        closing(pair, **change)
        with pytest.raises(PeerError):
            pair.deliver_control("recipient")


def test_a_second_closing_is_refused():
    pair = receiving()
    closing(pair)
    closing(pair)
    pair.deliver_control("recipient")
    with pytest.raises(PeerError):
        pair.deliver_control("recipient")


def test_digests_that_are_not_the_closings_are_refused():
    pair = receiving(files=(b"",))
    closing(pair)
    while pair.to_recipient:
        pair.deliver_control("recipient")
    pair.recipient.verified(0, pair.now)
    digests = header(stream=Stream.DIGESTS, length=33)
    assert pair.recipient.admit(digests, pair.now)
    with pytest.raises(PeerError):
        pair.recipient.written(digests, bytes(33), pair.now)


@pytest.mark.parametrize(
    "change",
    [
        {"written": 20},
        {"durable": 11, "written": 10},
        {"verified": 11, "durable": 10, "written": 10},
        {"written": 10, "limit": 1},
        {"stream": 2, "written": 0, "durable": 0, "verified": 0},
    ],
)
def test_an_acknowledgement_that_cannot_be_is_refused(change):
    pair = receiving(files=(b"a" * 10,))
    pair.send_range()
    say(
        pair,
        "recipient",
        "ack",
        **{
            "stream": 1,
            "written": 10,
            "limit": session.INITIAL_LIMIT,
            "durable": 0,
            "verified": 0,
            "lanes": [],
            **change,
        },
    )
    with pytest.raises(PeerError):
        while pair.deliver_control("sender"):
            pass


@pytest.mark.parametrize("back", [{"written": 9}, {"durable": 4, "verified": 4}])
def test_an_acknowledgement_that_goes_back_is_refused(back):
    pair = receiving(files=(b"a" * 10,))
    pair.send_range()
    good = {
        "stream": 1,
        "written": 10,
        "limit": session.INITIAL_LIMIT,
        "durable": 5,
        "verified": 5,
        "lanes": [[0, 1]],
    }
    say(pair, "recipient", "ack", **good)
    while pair.to_sender:
        pair.deliver_control("sender")
    low = {"durable": 5, "verified": 5}
    say(pair, "recipient", "ack", **{**good, **low, **back})
    with pytest.raises(PeerError):
        pair.deliver_control("sender")


def test_a_late_acknowledgement_of_the_manifest_is_nothing():
    pair = receiving()
    say(pair, "recipient", "ack", stream=0, written=0, limit=0, durable=0, verified=0, lanes=[])
    while pair.to_sender:
        pair.deliver_control("sender")
    assert pair.sender.state == SenderState.SENDING


@pytest.mark.parametrize("entry", [[99, NOT_PLACED], [0, 2]])
def test_a_failure_of_what_is_not_there_is_refused(entry):
    pair = signed()
    pair.to_sender.clear()
    with pytest.raises(PeerError):
        pair.sender._on_failed({"entries": [tuple(entry)]}, pair.now)


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "incomplete"},
        {"transfer_id": codec.encode_base64url(bytes(16))},
        {"manifest_sha256": codec.encode_base64url(bytes(32))},
        {"purpose": "HRESCH"},  # the sender stated none
    ],
)
def test_a_receipt_that_says_something_else_is_not_countersigned(change):
    pair = countersigning()
    results = Results(2)
    for i in range(2):
        results.delivered(i, codec.sha256(pair.files[i]))
    payload = pair.payload(results, **change)
    event = session.Receipted(payload, receipt.sign(R_KEY, payload))
    with pytest.raises(PeerError, match="protocol") as caught:
        pair.sender.countersign(event, bytes(32), [pair.sender.closed(OWN, SECURITY)])
    assert next(iter(change)) in caught.value.detail


def test_a_receipt_signed_by_another_key_is_not_countersigned():
    pair = countersigning()
    event = session.Receipted(pair.recipient._payload, receipt.sign(S_KEY, pair.recipient._payload))
    with pytest.raises(PeerError):
        pair.sender.countersign(event, bytes(32), [])


def test_a_receipt_of_a_session_that_was_never_closed_is_not_countersigned():
    pair = countersigning()
    payload = pair.recipient._payload
    event = session.Receipted(payload, receipt.sign(R_KEY, payload))
    root = results_root(pair.manifest, pair.sender.results)
    closed = pair.sender.closed(OWN, SECURITY)
    other = {**closed, "security": {**closed["security"], "transcript": "A" * 43}}
    with pytest.raises(PeerError, match="transcript"):
        pair.sender.countersign(event, root, [other])
    assert pair.sender.countersign(event, root, [other, closed])


def test_ranges_that_nobody_acknowledges_are_a_lost_connection_though_the_peer_is_heard():
    pair = receiving(files=(b"x" * 300_000,))
    while pair.send_range():
        pass
    pair.to_recipient.clear()
    pair.lane.clear()
    began = pair.now
    assert pair.sender.deadline() <= began + session.STALL_SECONDS
    with pytest.raises(Failure, match="lost"):
        while pair.now < began + 2 * session.STALL_SECONDS:
            pair.now += 1
            pair.sender.heard(pair.now)
            pair.sender.tick(pair.now)
    assert session.STALL_SECONDS <= pair.now - began <= session.STALL_SECONDS + 1


def test_one_acknowledgement_in_time_keeps_a_crawling_path_alive():
    pair = receiving(files=(b"x" * 300_000,))
    for _ in range(5):
        pair.send_range()
        pair.deliver_data()
        pair.now += session.STALL_SECONDS - 1
        pair.sender.heard(pair.now)
        pair.recipient.heard(pair.now)
        pair.tick(0.1)
        while pair.deliver_control("sender"):
            pass
        pair.send_range()
        pair.sync()  # says nothing new about what was written
        pair.tick(0.1)
        while pair.deliver_control("sender"):
            pass
        pair.deliver_data()
    assert pair.sender.state == SenderState.SENDING


def test_a_countersignature_that_does_not_fit_is_refused():
    pair = signed()
    say(pair, "sender", "countersignature", signature=bytes(64))
    with pytest.raises(PeerError):
        while pair.deliver_control("recipient"):
            pass


# --- window -----------------------------------------------------------------------------------------


def fly(window, now):
    """Send what may be sent."""
    while length := window.headroom():
        for _ in range(length // window.length()):
            header = Header(TRANSFER, Stream.DATA, False, 0, window.length())
            window.sent(session.Flight(header, bytes(window.length()), now))


def test_a_slow_path_settles_at_one_smallest_range_and_a_fast_one_grows():
    """0.05 MB/s: the queue never holds more than about a second and a half; nothing flaps."""
    window, now, count = session.CongestionWindow(256 * 1024), 0.0, 0
    for _ in range(60):
        fly(window, now)
        now += sum(len(flight.message) for flight in window.flights) / 50_000
        count += len(window.flights)
        assert list(window.acknowledged(count, now))
    assert window.size == session.MIN_RANGE
    for _ in range(200):
        fly(window, now)
        now += 0.01
        count += len(window.flights)
        assert list(window.acknowledged(count, now))
    assert window.size > 16 * 1024 * 1024
    assert window.length() == 256 * 1024


def test_no_more_than_512_ranges_are_under_way():
    window = session.CongestionWindow(4096)
    window.size = session.WINDOW
    fly(window, 0.0)
    assert len(window.flights) == session.MAX_UNACKNOWLEDGED


def test_one_smallest_range_is_always_allowed():
    window = session.CongestionWindow(100_000)
    assert window.headroom() == session.MIN_RANGE
    fly(window, 0.0)
    assert (window.headroom(), len(window.flights)) == (0, 1)


def test_a_pace_narrows_once_a_second_and_not_in_between():
    window = session.CongestionWindow(100_000)
    window.size = 10_000_000
    for when in (0.0, 0.0, 0.0, 2.0):
        window.sent(session.Flight(header(), b"1", when))
    assert len(list(window.acknowledged(1, 2.0))) == 1
    assert len(list(window.acknowledged(2, 2.1))) == 1
    assert window.size == 7_000_000
    assert len(list(window.acknowledged(3, 0.7))) == 1
    assert window.size == 7_000_000


@pytest.mark.parametrize("count", [-1, 3])
def test_a_count_of_what_was_not_sent_is_refused(count):
    window = session.CongestionWindow(100_000)
    for _ in range(2):
        window.sent(session.Flight(header(), b"1", 0.0))
    with pytest.raises(PeerError):
        list(window.acknowledged(count, 1.0))


# --- small things ---------------------------------------------------------------------------------


def test_the_deadline_is_the_next_thing_to_do():
    pair = receiving()
    pair.recipient.frames()
    assert pair.recipient.deadline() <= pair.now + session.IDLE_SECONDS
    pair.recipient.synced(0, pair.now)
    assert pair.recipient.deadline() == pair.now + session.ACK_SECONDS
    pair.sender.tick(pair.now + 6.5)
    assert pair.sender.deadline() <= pair.now + session.LOST_SECONDS
    after = signed()
    assert after.recipient.deadline() <= after.now + session.DONE_SECONDS


def test_a_body_of_bytes_is_written_as_base64url():
    assert session.encode_body({"a": b"\x00", "b": 1}) == b'{"a":"AA","b":1}'


def test_handshake_ends_agree():
    one, other = secured()
    assert one.transcript == other.transcript


# --- a later session of the same transfer ---------------------------------------------------------


def test_a_later_session_begins_where_the_recipient_stands():
    pair = receiving(files=(b"a" * 10_000, b"b" * 90_000, b"c" * 10))
    for _ in range(12):
        pair.send_range()
        pair.deliver_data()
    pair.sync()
    assert 10_000 < pair.recipient.frontier < 100_000
    pair.reconnect().offer()
    durable = pair.durable
    pair.run()
    assert durable > 10_000
    assert pair.saw("sender", session.Accepted)[-1].offset == durable
    assert b"".join(payload for _, payload in sorted(pair.disk.items())) == pair.content
    assert pair.saw("recipient", session.Ended)[-1].ending == Ending.COMPLETE
    assert len(pair.receipts) == 1


def test_what_was_given_up_before_is_told_again():
    pair = receiving(files=(b"a" * 10_000, b"b" * 90_000))
    pair.withdraw_at = {0: CHANGED}
    for _ in range(12):
        pair.send_range()
        pair.deliver_control("recipient")
        pair.deliver_data()
    pair.sync()
    pair.reconnect().offer()
    pair.run()
    assert pair.saw("recipient", session.Withdrawn)[-1].entries == ((0, CHANGED),)
    assert pair.saw("recipient", session.Ended)[-1].ending == Ending.INCOMPLETE


def test_what_the_earlier_recipient_refused_is_open_again():
    pair = receiving(files=(b"a" * 10_000, b"b" * 10_000))
    earlier = Results(2)
    earlier.failed(0, NOT_PLACED)
    earlier.failed(1, CHANGED)
    pair.reconnect()
    pair.earlier = earlier
    pair.offer()
    assert not pair.sender.results.known(0)
    assert pair.sender.results.known(1)


def test_an_accept_of_more_than_there_is_is_refused():
    pair = receiving()
    pair.reconnect()
    pair.durable = pair.tape.total + 1
    pair.offer()
    with pytest.raises(PeerError):
        pair.run()


def test_what_was_given_up_beyond_is_tried_again():
    pair = receiving(files=(b"a" * 10_000, b"b" * 10_000))
    pair.reconnect()
    pair.durable, pair.earlier = 5_000, Results(2)
    pair.earlier.failed(1, CHANGED)
    pair.offer()
    pair.run()
    assert not pair.saw("recipient", session.Withdrawn)
    assert pair.saw("recipient", session.Ended)[-1].ending == Ending.COMPLETE


@pytest.mark.parametrize("role", ["sender", "recipient"])
def test_a_side_that_heard_nothing_for_too_long_does_not_end_the_other(role):
    """Both are told the same: the connection was lost, which can be taken up again."""
    pair = receiving()
    other = "recipient" if role == "sender" else "sender"
    getattr(pair, role).abort("connection_lost", pair.now)
    assert not getattr(pair, role).frames()
    say(pair, role, "abort", code="connection_lost")  # as an older version would
    with pytest.raises(Failure) as caught:
        pair.deliver_control(other)
    assert caught.value.code == "connection_lost"


def test_a_loss_after_the_countersignature_came_changes_nothing():
    pair = signed()
    while not pair.to_recipient:
        pair.deliver_control("sender")
    pair.recipient.receive_frame(pair.to_recipient.popleft(), pair.now)
    pair.recipient.lost()  # while the receipt is being kept
    assert not pair.recipient.over
    pair.flush()
    assert pair.saw("recipient", session.Ended)[0].ending == Ending.COMPLETE


def test_nothing_is_closed_over_a_file_without_a_digest():
    pair = receiving(files=(b"a" * 10, b""))
    pair._finish_digests = lambda: pair.sender.hashed(0, codec.sha256(b"a" * 10))
    with pytest.raises(ValueError, match="digest"):
        pair.run()


# --- several lanes --------------------------------------------------------------------------------


def ack(pair, *lanes):
    fields = {"stream": 1, "written": 0, "limit": session.INITIAL_LIMIT, "durable": 0}
    say(pair, "recipient", "ack", **fields, verified=0, lanes=list(lanes))
    while pair.deliver_control("sender"):
        pass


def test_what_is_said_does_not_wait_behind_data():
    pair = receiving(files=(b"x" * 500_000,))
    pair.send_range()
    pair.sender.signal(1, Candidates(()), pair.now)
    assert pair.sender.plan(0, pair.now) is None
    other = pair.add_lane()
    assert pair.sender.plan(other, pair.now) is not None
    pair.deliver_data()
    pair.tick()
    pair.tick()
    while pair.deliver_control("sender"):
        pass
    assert pair.sender.plan(0, pair.now) is not None
    pair.run()


def test_each_lane_carries_other_ranges():
    pair = receiving(files=(b"x" * 500_000,))
    other = pair.add_lane()
    while pair.send_range(0) | pair.send_range(other):
        pass
    offsets = [{h.offset for h, _ in pair.lanes[lane]} for lane in (0, other)]
    assert all(offsets)
    assert not offsets[0] & offsets[1]
    pair.run()
    assert b"".join(p for _, p in sorted(pair.disk.items())) == pair.content


def test_what_a_dropped_lane_held_goes_to_the_others_once():
    pair = receiving(files=(b"x" * 500_000,))
    other = pair.add_lane()
    pair.send_range(other)
    pair.send_range(other)
    held = [h for h, _ in pair.lanes[other]]
    pair.drop_lane(other)
    assert [pair.sender.plan(0, pair.now)[0] for _ in held[:1]] == held[:1]
    pair.sender.sent(other, held[0], b"late", pair.now)  # it was being sealed when the lane went
    pair.run()
    assert len(pair.disk) == len(set(pair.disk))


def test_a_lane_that_brings_nothing_lends_its_ranges_to_the_others():
    pair = receiving(files=(b"x" * 300_000,))
    other = pair.add_lane()
    pair.send_range(other)
    (stuck, _), *_ = pair.lanes[other]
    assert pair.sender.deadline() <= pair.now + flow.REINJECT_LANE_SECONDS
    for _ in range(62):
        pair.tick()
        while pair.deliver_control("sender") or pair.deliver_control("recipient"):
            pass
    assert pair.sender.plan(other, pair.now) is None
    assert pair.sender.plan(0, pair.now)[0] == stuck
    assert pair.sender.lanes.windows[other].stalled
    pair.deliver_data(other)  # there it is, after all
    pair.run()
    assert not pair.sender.lanes.windows[other].stalled


def test_an_idle_lane_helps_with_what_the_others_wait_for():
    pair = receiving(files=(b"x" * 60_000,))
    while not pair.sender.all_sent:
        pair.send_range()
    other = pair.add_lane()
    assert pair.sender.plan(other, pair.now) is None
    pair.now += flow.REINJECT_RANGE_SECONDS
    header, payload = pair.sender.plan(other, pair.now)
    assert (header, payload) == pair.lane[0]
    pair._put(other, header, payload, again=True)
    pair.deliver_data(0)
    pair.deliver_data(other)
    pair.run()


def test_a_range_that_two_lanes_carry_is_not_sent_a_third_time_when_one_is_dropped():
    pair = receiving(files=(b"x" * 60_000,))
    other = pair.add_lane()
    pair.send_range(other)
    held = [header for header, _ in pair.lanes[other]]
    pair.sender.sent(0, held[0], b"", pair.now)
    pair.drop_lane(other)
    assert [header for header, _ in pair.sender.lanes.reinjection._waiting.values()] == held[1:]


def test_a_sender_knows_whether_the_recipient_holds_it_up():
    pair = receiving(files=(b"x" * 3_000_000,), largest=250_000)
    assert not pair.sender.at_limit
    pair.sender.lanes.windows[0].size = session.WINDOW
    while pair.send_range():
        pass
    assert pair.sender.at_limit
    assert not Pair().sender.at_limit


def test_a_range_is_reinjected_once_however_long_it_takes():
    pair = receiving(files=(b"x" * 60_000,))
    while not pair.sender.all_sent:
        pair.send_range()
    other = pair.add_lane()
    for _ in range(20):
        pair.now += flow.REINJECT_RANGE_SECONDS
        pair.send_range(other)
        while pair.deliver_data(other):
            pass
        pair.tick(0.06)
        while pair.deliver_control("sender"):
            pass
    assert pair.sender.lanes.reinjection._repeated[Stream.DATA] == 60_000
    assert pair.sender.lanes.reinjection._got == {header.key for header, _ in pair.lane}


def test_what_came_by_another_lane_is_not_sent_again_when_its_first_lane_is_dropped():
    pair = receiving(files=(b"x" * 60_000,))
    other = pair.add_lane()
    pair.send_range(other)
    flights = list(pair.sender.lanes.windows[other].flights)
    pair.sender.lanes._reinject(flights[0])
    pair.send_range(0)
    pair.deliver_data(0)
    pair.tick(0.06)
    while pair.deliver_control("sender"):
        pass
    pair.drop_lane(other)
    assert [key for key in pair.sender.lanes.reinjection._waiting] == [
        f.header.key for f in flights[1:]
    ]
    pair.run()


def test_what_a_gone_lane_brought_after_all_is_not_sent_again():
    pair = receiving(files=(b"x" * 60_000,))
    other = pair.add_lane()
    pair.send_range(other)
    late = list(pair.lanes[other])
    pair.drop_lane(other)
    for header, payload in late:
        assert pair.recipient.admit(header, pair.now, other)
        pair.recipient.written(header, payload, pair.now, other)
    pair.flush()
    pair.tick(0.06)
    while pair.deliver_control("sender"):
        pass
    assert not pair.sender.lanes.reinjection._waiting
    pair.run()


def test_what_came_after_all_is_not_sent_again():
    pair = receiving(files=(b"x" * 60_000,))
    other = pair.add_lane()
    pair.send_range(other)
    pair.sender.lanes._reinject(pair.sender.lanes.windows[other].flights[0])
    pair.deliver_data(other)
    pair.tick()
    pair.tick()
    while pair.deliver_control("sender"):
        pass
    plan = pair.sender.plan(0, pair.now)
    assert plan is None or isinstance(plan, session.Plan)


def test_a_lane_of_a_higher_rank_rests_until_the_better_one_fails():
    pair = receiving(files=(b"x" * 300_000,))
    assert pair.sender.plan(0, pair.now) is not None
    better = pair.add_lane(session.DIRECT)
    assert pair.sender.plan(0, pair.now) is not None, "it has brought nothing yet"
    pair.send_range(better)
    pair.deliver_data(better)
    pair.tick(0.06)
    while pair.deliver_control("sender"):
        pass
    assert pair.sender.plan(0, pair.now) is None
    pair.send_range(better)
    for _ in range(62):
        pair.tick()
        while pair.deliver_control("sender") or pair.deliver_control("recipient"):
            pass
    assert pair.sender.plan(0, pair.now) is not None


def test_a_retired_lane_gets_nothing_new():
    pair = receiving(files=(b"x" * 300_000,))
    other = pair.add_lane(session.DIRECT)
    pair.sender.lanes.retire(other)
    assert pair.sender.plan(other, pair.now) is None
    assert pair.sender.plan(0, pair.now) is not None


def test_ranges_are_reinjected_no_more_often_than_a_recipient_bears():
    pair = receiving(files=(b"x" * 10_000,))
    flight = session.Flight(header(length=6_000), b"", 0.0)
    pair.sender.lanes._reinject(flight)
    pair.sender.lanes.reinjection._waiting.clear()
    pair.sender.lanes._reinject(flight)
    assert not pair.sender.lanes.reinjection._waiting


def test_lanes_are_numbered_once_and_not_without_end():
    pair = receiving()
    numbers = [pair.add_lane() for _ in range(session.MAX_LANES - 1)]
    with pytest.raises(ValueError, match="too many"):
        pair.sender.lanes.number()
    for number in numbers:
        pair.drop_lane(number)
    ack(pair, [numbers[-1], 5])  # late, of a lane that is gone
    while pair.sender.lanes._numbered <= session.MAX_LANE_NUMBER:
        pair.sender.lanes.number()
    with pytest.raises(ValueError, match="too many"):
        pair.sender.lanes.number()
    with pytest.raises(PeerError):
        pair.recipient.add_lane(numbers[0])


def test_an_acknowledgement_of_a_lane_that_never_was_is_refused():
    with pytest.raises(PeerError):
        ack(receiving(), [1, 0])


def test_each_side_learns_what_holds_the_other_up_when_it_changes():
    pair = receiving()
    for by in ("", "disk", "disk", "network", ""):
        pair.sender.report_bottleneck(by, pair.now)
        pair.recipient.report_bottleneck(by, pair.now)
        pair.now += session.IDLE_SECONDS
    pair.sender.report_bottleneck("limit", pair.now)
    pair.sender.report_bottleneck("disk", pair.now + 1)  # so soon is not worth a word
    pair.flush()
    while pair.deliver_control("recipient") or pair.deliver_control("sender"):
        pass
    by_recipient, by_sender = (
        [e.by for e in pair.saw(side, session.BottleneckReported)]
        for side in ("sender", "recipient")
    )
    assert by_recipient == ["disk", "network", ""]
    assert by_sender == ["disk", "network", "", "limit"]


def test_the_peers_talk_about_further_lanes():
    pair = receiving()
    there = ("192.0.2.1", 4000, b"certificate")
    pair.sender.announce_direct(DirectEndpoint.of([there[0]] * 20, *there[1:]), pair.now)
    found = Candidates((Candidate("1", 1, "192.0.2.1", 5000, "host"),))
    pair.recipient.signal(1, found, pair.now)
    pair.flush()
    while pair.deliver_control("recipient") or pair.deliver_control("sender"):
        pass
    (announced,) = pair.saw("recipient", session.DirectAnnounced)
    assert announced.endpoint == DirectEndpoint((there[0],) * 16, *there[1:])
    assert pair.saw("sender", session.LaneSignalled) == [session.LaneSignalled(1, found)]
    pair.sender.announce_direct(DirectEndpoint((), *there[1:]), pair.now)
    pair.flush()
    with pytest.raises(PeerError, match="direct_announced_twice"):
        while pair.deliver_control("recipient"):
            pass


def test_only_a_page_is_offered_lanes_to_fetch():
    """A program has no use for them, and takes it for a breach."""
    pair = receiving()
    token = bytes(range(32))
    pair.sender.offer_https(token, pair.now)
    (frame,) = pair.sender.frames()
    with pytest.raises(PeerError, match="message_out_of_turn"):
        pair.recipient.receive_frame(frame, pair.now)
    with pytest.raises(session.OutOfTurn, match="offer_https in state admitting"):
        Pair().sender.offer_https(token, 0.0)


def test_nobody_talks_about_lanes_before_the_offer():
    pair = Pair()
    with pytest.raises(session.OutOfTurn, match="signal in state waiting"):
        pair.recipient.signal(1, Candidates(()), pair.now)
    say(pair, "recipient", "lane", lane=1, signal="{}")
    with pytest.raises(PeerError, match="message_out_of_turn"):
        pair.deliver_control("sender")


@pytest.mark.parametrize("machine", [session.SenderSession, session.RecipientSession])
def test_every_state_says_what_a_lost_connection_means(machine):
    states = session.SenderState if machine is session.SenderSession else session.RecipientState
    assert all((state, table.LOST) in machine.table for state in states)


def decide(pair):
    """As far as the recipient's answer."""
    for _ in range(200):
        if pair.recipient.state is session.RecipientState.DECIDING:
            return
        for to in ("recipient", "sender"):
            pair.deliver_control(to)
        pair.send_range(0)
        if pair.lanes[0]:
            pair.deliver_data(0)
    raise AssertionError(pair.recipient.state)


@pytest.mark.parametrize("claimed", [1, 5_001, 100_000])
@pytest.mark.parametrize("reached", [0, 5_000])
def test_an_accept_of_more_than_was_ever_handed_over_is_refused(reached, claimed):
    """Else a receipt would state what never went over the wire."""
    pair = Pair([b"x" * 100_000])
    pair.durable = reached
    pair.offer()
    decide(pair)
    pair.recipient.read(pair.manifest, pair.tape)
    pair.recipient.accept(TIME, pair.now, claimed)
    pair.flush()
    if claimed <= reached:
        while pair.deliver_control("sender"):
            pass
        assert pair.sender.begins == claimed
        return
    with pytest.raises(PeerError, match="accept_of_unsent_range"):
        while pair.deliver_control("sender"):
            pass


def test_what_was_handed_over_counts_also_as_long_as_nothing_acknowledged_it():
    pair = Pair([b"x" * 100_000], largest=4096)
    pair.offer()
    assert (pair.sender.reached, pair.sender.total) == (0, 100_000)
    decide(pair)
    pair.accept()
    while pair.deliver_control("sender"):
        pass
    assert pair.sender.reached == 0
    pair.send_range()
    assert pair.sender.reached > 0


@pytest.mark.parametrize("machine", [session.SenderSession, session.RecipientSession])
def test_the_table_names_calls_that_ask_it_and_messages_that_exist(machine):
    for (_, given), row in machine.table.items():
        if isinstance(given, str):
            assert given in (table.LOST, table.RANGE) or given in session.MESSAGES
        else:
            assert given is row.handler
            assert given is getattr(machine, given.__name__)
            assert given.__wrapped__
