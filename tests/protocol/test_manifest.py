"""The manifest, the results and their tree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import manifest
from p2p.protocol.codec import sha256
from p2p.protocol.errors import Failure, PeerError

from .vectors import cases

SALT = bytes(32)


@cases("manifest")
def test_manifests_follow_the_vectors(case):
    data = bytes.fromhex(case["data"])
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
            "originals": [entry.original.hex() for entry in found.entries if entry.original],
        } == case["expect"]
        assert manifest.decode_manifest(manifest.encode_manifest(found)) == found


@cases("results")
def test_results_and_trees_follow_the_vectors(case):
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


def test_a_leaf_tells_nothing_without_its_salt():
    entry = manifest.Entry("name", "file", 0, 0)
    roots = set()
    for salt in (bytes(32), b"\x01" * 32):
        one = manifest.Manifest((entry,), salt)
        roots.add(manifest.results_root(one, manifest.Results(1)))
    assert len(roots) == 2


def test_kept_results_read_back_and_nothing_else():
    results = manifest.Results(2)
    results.delivered(0, b"\x01" * 32)
    results.failed(1, 17)
    assert manifest.Results.recall(results.encode(), 2).encode() == results.encode()
    with pytest.raises(PeerError):
        manifest.Results.recall(results.encode(), 3)
