"""A sender that lies, in a real transfer: one clear sentence, nothing outside the destination.

Named after the lines of the hostile-input table in PROTOCOL.md. The sender is the real one with one
part replaced; the recipient is untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

import p2p
from p2p import events
from p2p.lanes import LaneLost
from p2p.protocol import manifest as manifests
from p2p.protocol import session
from p2p.protocol.codec import encode_json
from p2p.protocol.errors import PeerError
from p2p.protocol.manifest import Entry, Manifest, encode_manifest
from p2p.protocol.seal import OVERHEAD, Header, Stream, seal_range, with_headroom
from p2p.protocol.session import Plan, RecipientSession, SenderSession, SenderState
from p2p.storage.source import FolderSource
from p2p.transfer import sender as transfers
from p2p.transfer.send import SendDriver

from . import inprocess


async def run(tmp_path, *, timeout=60, content=b"x" * 100_000, send=(), receive=()):
    """One transfer in this process over real WebRTC: (sender's, recipient's) outcome."""
    source = tmp_path / "study"
    source.mkdir(exist_ok=True)
    (source / "a.dcm").write_bytes(content)
    async with asyncio.timeout(timeout):
        sender = inprocess.send(source, tmp_path / "s", **dict(send))
        link = (await sender.transfer).link
        recipient = inprocess.receive(link, tmp_path / "out", tmp_path / "r", **dict(receive))
        received = await recipient.result()
        sent = None
        if any(event.state == "accepted" for event in recipient.saw(events.StateChanged)):
            with contextlib.suppress(TimeoutError):
                sent = await asyncio.wait_for(sender.result(), 30)
        if sent is None:  # it stays open for others
            sender.transfer.cancel()
            await sender.result()
    return sent, received, {"sender": sender.told, "recipient": recipient.told}


def untouched(tmp_path):
    out = tmp_path / "out"
    found = (
        [p for p in out.iterdir() if not p.name.startswith(".handover-")] if out.exists() else []
    )
    assert not found
    assert (
        sorted(p.name for p in tmp_path.iterdir() if p.name not in ("s", "r", "out", "study")) == []
    )


def refused(outcome, tmp_path, *words):
    assert outcome.code == "protocol", outcome
    assert outcome.ending is p2p.Ending.FAILED
    assert "\x1b" not in outcome.message
    for word in words:
        assert word in outcome.message
    untouched(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "../escape",
        "/tmp/escape",
        "C:\\escape",
        "a/../../escape",
        "\\\\host\\share",
        ".",
        "a//b",
        "a\x00b",
        "CON",
        "x:y",
        "dot.",
        "\x1b[2J\x1b]0;owned\x07",
        "a\nb",
        "n" * 256,
    ],
)
async def test_unsafe_paths(tmp_path, monkeypatch, path):
    def lie(manifest):
        lines = encode_manifest(Manifest(manifest.entries, manifest.salt)).split(b"\n")
        return b"\n".join(
            [lines[0], encode_json({"path": path, "kind": "file", "size": 1, "modified": 0}), b""]
        )

    monkeypatch.setattr(transfers, "encode_manifest", lie)
    _, received, _ = await run(tmp_path)
    refused(received, tmp_path, "name_unsafe")


@pytest.mark.parametrize("pair", [("a", "A"), ("\u00e9", "e\u0301"), ("x", "x/y")])
async def test_case_and_unicode_collisions(tmp_path, monkeypatch, pair):
    def lie(manifest):
        head = encode_manifest(manifest).split(b"\n")[0]
        return b"\n".join(
            [
                head,
                *(encode_json({"path": p, "kind": "file", "size": 1, "modified": 0}) for p in pair),
                b"",
            ]
        )

    monkeypatch.setattr(transfers, "encode_manifest", lie)
    _, received, _ = await run(tmp_path)
    refused(received, tmp_path, "names_collide")


async def test_absurd_manifests_sum_overflow(tmp_path, monkeypatch):
    def lie(manifest):
        head = encode_manifest(manifest).split(b"\n")[0]
        return b"\n".join(
            [
                head,
                *(
                    encode_json({"path": p, "kind": "file", "size": 2**53 - 1, "modified": 0})
                    for p in "ab"
                ),
                b"",
            ]
        )

    monkeypatch.setattr(transfers, "encode_manifest", lie)
    _, received, _ = await run(tmp_path)
    refused(received, tmp_path, "manifest_sizes_too_large")


async def test_absurd_manifests_counts_that_lie(tmp_path, monkeypatch):
    real = SenderSession.offer

    def lie(self, manifest, data, tape, *rest):
        more = Manifest((*manifest.entries, Entry("more", "file", 5, 0)), manifest.salt)
        real(self, more, data, more.tape(), *rest)

    monkeypatch.setattr(SenderSession, "offer", lie)
    _, received, _ = await run(tmp_path)
    refused(received, tmp_path, "manifest_mismatch")


def inject(monkeypatch, make):
    """The sender sends something of `make(run)` before its first range of data; what was slipped in
    does not count as sent, and it is no matter to it that more is acknowledged."""
    real, real_ack = SendDriver._send, SenderSession._on_ack

    def on_ack(self, message, now):
        with contextlib.suppress(PeerError):
            real_ack(self, message, now)

    for state in SenderState:  # the table holds the handler itself
        if (row := SenderSession.table.get((state, "ack"))) and row.handler is real_ack:
            monkeypatch.setitem(SenderSession.table, (state, "ack"), row._replace(handler=on_ack))

    async def send(self, number, lane, sealed):
        if any(header.stream == Stream.DATA and not header.offset for header, _ in sealed):
            with contextlib.suppress(LaneLost):  # the recipient may have closed it by now
                for header, payload in make(self):
                    key = self._secured.session_key
                    await lane.send(seal_range(key, header, with_headroom(payload)))
        await real(self, number, lane, sealed)

    monkeypatch.setattr(SendDriver, "_send", send)


def data(run, offset, length, hole=False, transfer_id=None):
    header = Header(transfer_id or run.session.transfer_id, Stream.DATA, hole, offset, length)
    return header, b"" if hole else bytes(length)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda run: [data(run, 50_000_000, 10)], "range_beyond_limit"),
        (lambda run: [data(run, 100_000_000, 1)], "range_past_end"),
        (lambda run: [data(run, 0, 100_000_001, hole=True)], "range_past_end"),
        (lambda run: [data(run, 0, 10, transfer_id=bytes(16))], "range_of_another_transfer"),
        (lambda run: [data(run, 0, 100), data(run, 50, 100)], "overlap"),
        (
            lambda run: (
                [(Header(run.session.transfer_id, Stream.MANIFEST, False, 0, 10), bytes(10))] * 3000
            ),
            "too_many_repeated_ranges",
        ),
    ],
    ids=[
        "beyond the limit",
        "past the end",
        "hole past the end",
        "another transfer",
        "overlap",
        "duplicate flood",
    ],
)
async def test_ranges_beyond_the_limit_past_the_end_or_overlapping(
    tmp_path, monkeypatch, what, words
):
    inject(monkeypatch, what)
    _, received, _ = await run(tmp_path, content=bytes(os.urandom(1000)) * 100_000)
    refused(received, tmp_path, words)


async def test_chunk_flood_without_acknowledgement(tmp_path, monkeypatch):
    """A sender that ignores the limit cannot make the recipient hold more than it allowed."""
    monkeypatch.setattr(SenderSession, "plan", lambda self, lane, now: flood(self))

    def flood(session):
        state = session.state.value
        stream = {
            "offering": Stream.MANIFEST,
            "sending": Stream.DATA,
            "closing": Stream.DIGESTS,
        }.get(state)
        if stream is None:
            return None
        out = session._streams[stream]
        length = min(200_000, out.total - out.next)
        return Plan(stream, out.next, length, length) if length else None

    _, received, _ = await run(tmp_path, content=os.urandom(1000) * 60_000)
    assert received.code in ("protocol", "")
    if received.code:
        refused(received, tmp_path, "range_beyond_limit")


async def test_a_message_that_does_not_open(tmp_path, monkeypatch):
    real = SendDriver._seal

    def seal(self, blocks):
        return [(header, os.urandom(OVERHEAD + 10)) for header, _ in real(self, blocks)]

    monkeypatch.setattr(SendDriver, "_seal", seal)
    _, received, _ = await run(tmp_path)
    refused(received, tmp_path, "range_not_authentic")


async def test_data_before_the_accept(tmp_path, monkeypatch):
    async def carry(self, number, lane):
        await asyncio.sleep(0.2)
        header, payload = data(self, 0, 10)
        await lane.send(seal_range(self._secured.session_key, header, with_headroom(payload)))
        await asyncio.Event().wait()

    monkeypatch.setattr(SendDriver, "_carry", carry)

    def silent(self, *args):
        self._results = None  # nothing is offered
        self.state = SenderState.OFFERING

    monkeypatch.setattr(SenderSession, "offer", silent)
    _, received, _ = await run(tmp_path, send={"direct": False})  # it says nothing else either
    refused(received, tmp_path, "range_out_of_turn")


async def test_control_characters_in_a_label_never_reach_the_terminal(tmp_path, monkeypatch):
    store = p2p.Home(tmp_path / "s").identity
    identity = store.load()
    store._store(type(identity)(identity.key, "\x1b[2Jevil\u202e\nname"))
    _, received, told = await run(tmp_path)
    assert received.ending is p2p.Ending.COMPLETE
    (met,) = [e for e in told["recipient"] if isinstance(e, events.PeerMet)]
    assert met.label == "\\u{1b}[2Jevil name"


async def test_digests_that_lie_fail_that_file_and_it_is_not_placed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        SenderSession,
        "hashed",
        lambda self, entry, digest: self._results.delivered(entry, b"\1" * 32),
    )
    sent, received, told = await run(tmp_path)
    assert received.code == "incomplete"
    assert sent.code == "incomplete"
    assert not (tmp_path / "out" / "study" / "a.dcm").exists()
    assert told["recipient"][-1].reasons == (("study/a.dcm", "changed while being sent"),)


async def test_a_closing_that_lies_about_the_digests(tmp_path, monkeypatch):
    real = SenderSession.close

    def lie(self, *args):
        real(self, *args)
        self._digests = bytes(len(self._digests))

    monkeypatch.setattr(SenderSession, "close", lie)
    _, received, _ = await run(tmp_path)
    refused(received, tmp_path, "digests")


async def test_a_receipt_that_lies_is_not_countersigned(tmp_path, monkeypatch):
    real = RecipientSession.receipt_members

    def lie(self, results, root, time):
        return {**real(self, results, root, time), "outcome": "incomplete"}

    monkeypatch.setattr(RecipientSession, "receipt_members", lie)
    monkeypatch.setattr("p2p.transfer.recipient.CONFIRM_SECONDS", 2.0)
    sent, received, _ = await run(tmp_path)
    assert sent.code == "protocol"
    assert "outcome" in sent.message
    assert sent.receipt is None
    assert received.code == "unconfirmed"


async def test_delivered_unconfirmed_when_the_countersignature_is_lost(tmp_path, monkeypatch):
    """The sender dies between the receipt and its countersignature."""

    async def die(self, manifest, receipted):
        await self._connected.carrier.close()
        raise p2p.Failure("internal", "it died")

    monkeypatch.setattr(SendDriver, "_sign", die)
    monkeypatch.setattr("p2p.transfer.recipient.CONFIRM_SECONDS", 2.0)
    _, received, _ = await run(tmp_path)
    assert received.ending is p2p.Ending.DELIVERED_UNCONFIRMED
    assert received.code == "unconfirmed"
    assert (tmp_path / "out" / "study" / "a.dcm").exists()
    half = p2p.verify_receipt(received.receipt.read_bytes())
    assert not half.confirmed
    ends = p2p.Home(tmp_path / "r").audit.recent("transfer", 9)
    assert len(ends) == 1


async def test_a_lost_last_word_leaves_the_sender_complete(tmp_path, monkeypatch):
    """The recipient has the countersigned receipt, but its `done` is lost."""

    def swallow(self, now):
        self.state = session.RecipientState.CONFIRMED
        self._end(p2p.Ending.COMPLETE)

    monkeypatch.setattr(RecipientSession, "confirm", swallow)
    sent, received, told = await run(tmp_path)
    assert (sent.ending, received.ending) == (p2p.Ending.COMPLETE, p2p.Ending.COMPLETE)
    assert sent.code == "receipt_unconfirmed"
    assert isinstance(told["sender"][-1], events.Completed)
    assert p2p.verify_receipt(sent.receipt.read_bytes()).confirmed


async def test_an_error_of_our_own_is_one_sentence_and_told_to_the_peer(tmp_path, monkeypatch):
    def broken(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(FolderSource, "read", broken)
    sent, received, _ = await run(tmp_path)
    assert sent.code == "internal"
    assert received.code == "peer_failed"
    untouched(tmp_path)


def test_the_limits_of_the_manifest_are_those_of_the_design():
    assert manifests.MAX_ENTRIES == 200_000
    assert manifests.MAX_MANIFEST == 64 * 1024 * 1024
