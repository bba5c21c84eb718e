"""Checkpoints: trees, proofs that one begins with another, notes, and what a witness signs."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from p2p.protocol import checkpoint
from p2p.protocol.audit import entry, make_base, read_base, verify, walk
from p2p.protocol.codec import decode_base64url

from .vectors import cases

KEY, WITNESS = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
TIME = 1_700_000_000


def tree_of(leaves):
    tree = checkpoint.Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree


@cases("checkpoint")
def test_checkpoints_follow_the_vectors(case):
    expect = case["expect"]
    if "lines" in case:
        assert tree_of(line.encode() for line in case["lines"]).root().hex() == expect
    elif "proof" in case:
        old_root, new_root = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
        proof = [bytes.fromhex(node) for node in case["proof"]]
        check = (case["old"], old_root, case["new"], new_root, proof)
        if expect == "ok":
            checkpoint.check_consistency(*check)
        else:
            with pytest.raises(checkpoint.BadCheckpoint) as caught:
                checkpoint.check_consistency(*check)
            assert caught.value.reason.code == expect
    else:
        follow_note(case["note"].encode("latin-1"), expect)


def follow_note(data, expect):
    if "error" in expect:
        with pytest.raises(checkpoint.BadCheckpoint) as caught:
            note = checkpoint.decode(data)
            checkpoint.check(note)
            checkpoint.witnesses(note)
        assert caught.value.reason.code == expect["error"]
        return
    note = checkpoint.decode(data)
    assert note.encode() == data
    assert checkpoint.check(note).hex() == expect["owner"]
    witnesses = {key.hex(): time for key, time in checkpoint.witnesses(note).items()}
    assert witnesses == expect["witnesses"]
    assert note.checkpoint.size == expect["size"]
    assert note.checkpoint.root.hex() == expect["root"]


@given(st.data())
def test_a_tree_begins_with_every_earlier_one_and_with_no_other(data):
    """Whatever was pruned meanwhile, as long as the proof does not reach behind it."""
    leaves = data.draw(st.lists(st.binary(max_size=4), min_size=1, max_size=70))
    old = data.draw(st.integers(1, len(leaves)))
    ranges = checkpoint.proof_ranges(old, len(leaves))
    proof = [tree_of(leaves[begin:end]).root() for begin, end in ranges]
    before, after = tree_of(leaves[:old]).root(), tree_of(leaves).root()
    checkpoint.check_consistency(old, before, len(leaves), after, proof)
    place = data.draw(st.integers(0, old - 1))
    other = [*leaves]
    other[place] += b"changed"
    with pytest.raises(checkpoint.BadCheckpoint):
        forged = tree_of(other[:old]).root()
        checkpoint.check_consistency(old, forged, len(leaves), after, proof)


@given(st.lists(st.binary(max_size=4), max_size=70), st.integers(0, 70))
def test_a_tree_goes_on_from_its_subtrees(leaves, at):
    at = min(at, len(leaves))
    first = tree_of(leaves[:at])
    again = checkpoint.Tree(first.size, first.nodes)
    for leaf in leaves[at:]:
        again.append(leaf)
    assert again.root() == tree_of(leaves).root()
    spans = [(begin, end) for begin, end, _ in first.subtrees()]
    assert spans == [] or (spans[0][0], spans[-1][1]) == (0, at)
    with pytest.raises(ValueError, match="subtrees"):
        checkpoint.Tree(first.size + 1, [*first.nodes, bytes(32), bytes(32)])


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_no_note_and_no_request(data):
    for read in (checkpoint.decode, checkpoint.decode_request):
        with pytest.raises(checkpoint.BadCheckpoint):
            read(data)


def test_signatures_hold_by_another_library():
    """As C2SP's signed-note and tlog-cosignature say what is signed, and how keys are called."""
    note = checkpoint.cosign(WITNESS, checkpoint.sign(KEY, 5, b"\x07" * 32), TIME)
    text, signatures = note.encode().decode().split("\n\n")
    body = f"{text}\n".encode()
    signed = [
        (b"\x01", KEY, body, 0),
        (b"\x04", WITNESS, f"cosignature/v1\ntime {TIME}\n".encode() + body, 8),
    ]
    for line, (kind, key, message, skip) in zip(signatures.splitlines(), signed, strict=True):
        dash, name, data = line.split(" ")
        assert dash == "\u2014"
        public = bytes(key.verify_key)
        assert decode_base64url(name.partition("/")[2]) == public
        found = base64.b64decode(data)
        assert found[:4] == hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]
        Ed25519PublicKey.from_public_bytes(public).verify(found[4 + skip :], message)
    again = checkpoint.cosign(WITNESS, note, TIME + 1)
    assert len(again.signatures) == 2  # the later takes the place of the earlier
    assert checkpoint.witnesses(again) == {bytes(WITNESS.verify_key): TIME + 1}
    assert again.only({note.checkpoint.origin}) == checkpoint.sign(KEY, 5, b"\x07" * 32)


def test_a_request_comes_back_as_it_was():
    note = checkpoint.sign(KEY, 5, b"\x07" * 32)
    proof = (b"\x01" * 32, b"\x02" * 32)
    data = checkpoint.encode_request(3, proof, note)
    assert checkpoint.decode_request(data) == (3, proof, note)
    for changed in (
        data.replace(b"old 3", b"old 03"),
        data.replace(b"old", b"new"),
        checkpoint.encode_request(3, [bytes(32)] * 65, note),
        data + b"\0",
    ):
        with pytest.raises(checkpoint.BadCheckpoint):
            checkpoint.decode_request(changed)


def log(count):
    lines, head = [], "0" * 64
    for number in range(1, count + 1):
        lines.append(entry(head, number, "2026-01-02T03:04:05.000Z", "test", {}))
        head = hashlib.sha256(lines[-1][:-1]).hexdigest()
    return lines


def base_of(lines, at):
    tree = tree_of(line[:-1] for line in lines[:at])
    return make_base(KEY, at, hashlib.sha256(lines[at - 1][:-1]).hexdigest(), tree)


def test_a_base_stands_for_what_was_pruned():
    lines = log(9)
    base = base_of(lines, 5)
    assert read_base(base.encode()[:-1]) == base
    assert verify([base.encode(), *lines[5:]]) == (*verify(lines)[:2], 5)
    first, *rest = walk([base.encode(), *lines[5:]])
    assert (first.number, first.base) == (5, base)
    assert first.base is not None
    tree = first.base.tree()
    for line in rest:
        tree.append(line.data)
    assert tree.root() == tree_of(line[:-1] for line in lines).root()


@pytest.mark.parametrize(
    "change",
    [
        {"lines": 4},
        {"head": "1" * 64},
        {"nodes": (bytes(32), bytes(32))},
        {"nodes": (bytes(32),)},
        {"note": checkpoint.sign(KEY, 5, bytes(32))},
        {"note": checkpoint.sign(KEY, 6, bytes(32))},
        {"signature": bytes(64)},
    ],
)
def test_a_base_that_does_not_hold_is_none(change):
    lines = log(9)
    with pytest.raises(ValueError, match="line"):
        verify([base_of(lines, 5)._replace(**change).encode(), *lines[5:]])
    with pytest.raises(ValueError, match="line"):  # nor anywhere but first
        verify([*lines[:5], base_of(lines, 5).encode(), *lines[5:]])
