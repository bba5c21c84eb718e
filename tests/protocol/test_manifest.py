"""The manifest, the results and their tree."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import codec, manifest
from p2p.protocol.codec import encode_json, sha256
from p2p.protocol.errors import Failure, PeerError

from .vectors import cases

SALT = bytes(32)


def deep_tree(head, deep, files, sha256, **_):
    """Paths of 64 segments that have nothing in common, then files: too long to be written down."""
    paths = ["/".join([str(i)] * 64) for i in range(deep)] + [f"file {i}" for i in range(files)]
    lines = [encode_json({"path": p, "kind": "file", "size": 1, "modified": 0}) for p in paths]
    data = b"\n".join([head.encode(), *lines, b""])
    assert codec.sha256(data).hex() == sha256
    return data


@cases("manifest")
def test_manifests_follow_the_vectors(case):
    data = bytes.fromhex(case["data"]) if "data" in case else deep_tree(**case)
    if "error" in case["expect"]:
        with pytest.raises(PeerError):
            manifest.decode_manifest(data).tape()
    else:
        found = manifest.decode_manifest(data)
        assert {
            "entries": len(found.entries),
            "total": found.tape().total,
            "space": found.space(),
            "salt": found.salt.hex(),
            "skipped": found.skipped,
            "purpose": found.purpose,
            "reason": found.reason,
            "originals": [entry.original.hex() for entry in found.entries if entry.original],
        } == case["expect"]
        assert manifest.decode_manifest(manifest.encode_manifest(found)) == found


@cases("manifest_lines")
def test_the_bytes_of_a_manifest_follow_the_vectors(case):
    entries = tuple(
        manifest.Entry(**{**entry, "original": bytes.fromhex(entry.get("original", ""))})
        for entry in case["entries"]
    )
    said = case["skipped"], case["purpose"], case["reason"]
    whole = manifest.Manifest(entries, bytes.fromhex(case["salt"]), *said)
    if "error" in case["expect"]:
        with pytest.raises(Failure) as caught:
            manifest.encode_manifest(whole)
        assert caught.value.code == case["expect"]["error"]
    else:
        assert manifest.encode_manifest(whole).decode() == case["expect"]


def follow_notes(case):
    """What a side notes of entries, and keeps."""
    if "kept" in case:
        kept, count = bytes.fromhex(case["kept"]), case["count"]
        if "error" in case["expect"]:
            with pytest.raises(PeerError):
                manifest.Results.recall(kept, count)
        else:
            found = manifest.Results.recall(kept, count).failures()
            assert [list(f) for f in found] == case["expect"]
        return
    results = manifest.Results(case["count"])
    for entry, what in case["noted"]:
        if isinstance(what, int):
            results.failed(entry, what)
        else:
            results.delivered(entry, bytes.fromhex(what))
    assert case["expect"] == {
        "results": results.encode().hex(),
        "failures": [list(f) for f in results.failures()],
        "known": [results.known(i) for i in range(len(results))],
    }


@cases("results")
def test_results_and_trees_follow_the_vectors(case):
    if "count" in case:
        follow_notes(case)
        return
    if "leaves" in case:
        assert (
            manifest.merkle_root([bytes.fromhex(x) for x in case["leaves"]]).hex() == case["expect"]
        )
        return
    whole, data = (
        manifest.decode_manifest(bytes.fromhex(case["manifest"])),
        bytes.fromhex(case["results"]),
    )
    if "error" in case["expect"]:
        with pytest.raises(PeerError):
            manifest.Results.decode(data, whole)
        return
    found = manifest.Results.decode(data, whole)
    assert found.encode() == data
    assert manifest.results_root(whole, found).hex() == case["expect"]["root"]
    assert [list(f) for f in found.failures()] == case["expect"]["failures"]
    assert [manifest.leaf(whole, found, i).hex() for i in range(len(found))] == case["expect"][
        "leaves"
    ]


def rfc_9162_root(leaves):
    """The definition of RFC 9162 2.1.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01", rfc_9162_root(leaves[:k]), rfc_9162_root(leaves[k:]))


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_the_root_is_that_of_rfc_9162(leaves):
    assert manifest.merkle_root(leaves) == rfc_9162_root(leaves)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_a_peer_error(data):
    for candidate in (data, b'{"salt":"' + b"A" * 43 + b'"}\n' + data + b"\n"):
        try:
            manifest.decode_manifest(candidate)
        except PeerError:
            pass


def test_absurd_manifests_are_refused_before_they_are_built():
    many = tuple(manifest.Entry(str(i), "file", 0, 0) for i in range(manifest.MAX_ENTRIES + 1))
    with pytest.raises(Failure) as caught:
        manifest.encode_manifest(manifest.Manifest(many, SALT))
    assert caught.value.code == "too_many_entries"
    with pytest.raises(PeerError):
        manifest.decode_manifest(b"x\n" * (manifest.MAX_ENTRIES + 2))


def test_an_entry_is_equal_to_one_of_the_same_and_keeps_its_path():
    folder = manifest.Entry("d/\u00e9", "directory", 0, 0)
    assert folder.path == "d/\u00e9"
    assert folder == manifest.Entry("d/\u00e9", "directory", 0, 0)
    assert folder != manifest.Entry("d/\u00e9", "file", 0, 0)


def test_a_manifest_takes_no_more_memory_than_it_is_long_and_a_little_for_each_entry():
    """Whatever characters it has."""
    entries = tuple(
        manifest.Entry(f"{i:05}{'x' * 240}\U0001f4be", "file", 1, 0) for i in range(5000)
    )
    data = manifest.encode_manifest(manifest.Manifest(entries, SALT))
    tracemalloc.start()
    try:
        manifest.decode_manifest(data)
        assert tracemalloc.get_traced_memory()[1] < len(data) + 5000 * 500
    finally:
        tracemalloc.stop()


def test_holes_that_would_take_days_to_hash_are_refused_on_both_sides():
    entry = manifest.Entry("a", "file", manifest.MAX_HOLES + 10, 0, 10)
    data = manifest.encode_manifest(manifest.Manifest((entry,), SALT))
    assert manifest.decode_manifest(data).holes() == manifest.MAX_HOLES
    with pytest.raises(Failure) as caught:
        one_more = manifest.Entry("b", "file", 1, 0, 0)
        manifest.encode_manifest(manifest.Manifest((entry, one_more), SALT))
    assert caught.value.code == "too_many_holes"


def test_a_leaf_tells_nothing_without_its_salt():
    entry = manifest.Entry("name", "file", 0, 0)
    roots = set()
    for salt in (bytes(32), b"\x01" * 32):
        one = manifest.Manifest((entry,), salt)
        roots.add(manifest.results_root(one, manifest.Results(1)))
    assert len(roots) == 2


def test_results_that_are_cleared_tell_of_no_entry():
    results = manifest.Results(2)
    results.delivered(0, b"\x01" * 32)
    results.failed(1, 17)
    results.clear()
    assert results.encode() == manifest.Results(2).encode()


def test_kept_results_read_back_and_nothing_else():
    results = manifest.Results(2)
    results.delivered(0, b"\x01" * 32)
    results.failed(1, 17)
    assert manifest.Results.recall(results.encode(), 2).encode() == results.encode()
    with pytest.raises(PeerError):
        manifest.Results.recall(results.encode(), 3)
