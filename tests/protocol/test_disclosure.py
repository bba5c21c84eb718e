"""Proof for one entry: it holds for that entry of that receipt, and for nothing else."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import disclosure, receipt
from p2p.protocol.codec import decode_base64url, encode_base64url, encode_json
from p2p.protocol.disclosure import BadDisclosure, Disclosed, check, disclose
from p2p.protocol.manifest import (
    Entry,
    Manifest,
    Results,
    leaves_of,
    merkle_path,
    merkle_root,
    merkle_root_of,
    results_root,
)
from tests.receipts import GOOD

from .vectors import cases

TRANSFER = bytes(range(16))
NAMES = ("a/secret one.dcm", "a/secret two.dcm", "a folder", "c/secret four", "secret five")


def things():
    entries = [Entry(name, "file", 10 * i, 0) for i, name in enumerate(NAMES)]
    entries[2] = Entry(NAMES[2], "directory", 0, 0)
    manifest, results = Manifest(tuple(entries), bytes(range(32))), Results(len(entries))
    for i, entry in enumerate(entries):
        if i == 1:
            results.failed(i, 16)
        elif entry.kind == "file":
            results.delivered(i, hashlib.sha256(bytes([i])).digest())
        else:
            results.delivered(i, bytes(32))
    return manifest, results


def of(manifest: Any, results: Any, transfer: bytes = TRANSFER) -> Any:
    """A receipt, as far as a disclosure is held against it."""
    root = results_root(manifest, results)
    content = {"entries": len(manifest.entries), "root": root}
    return SimpleNamespace(payload={"transfer_id": transfer, "content": content})


def test_each_entry_can_be_shown_alone():
    manifest, results = things()
    for index, entry in enumerate(manifest.entries):
        document = disclose(TRANSFER, manifest, results, index)
        status, digest = results[index]
        found = check(document, of(manifest, results))
        assert found == Disclosed(entry.path, entry.kind, entry.size, status, digest)
        for other in NAMES:
            assert (other in document.decode()) == (other == entry.path)
        assert encode_base64url(manifest.salt) not in document.decode()


CHANGES = [
    ("path", "a/another.dcm"),
    ("kind", "directory"),
    ("size", 1),
    ("status", "changed"),
    ("sha256", encode_base64url(bytes(32))),
    ("salt", encode_base64url(bytes(16))),
    ("entry", 1),
    ("entry", 4),
    ("entry", 1000),
    ("audit_path", []),
    ("audit_path", [encode_base64url(bytes(32))] * 3),
]


@pytest.mark.parametrize(("member", "value"), CHANGES)
def test_what_was_changed_shows_nothing(member, value):
    manifest, results = things()
    document = json.loads(disclose(TRANSFER, manifest, results, 0)) | {member: value}
    with pytest.raises(BadDisclosure) as caught:
        check(encode_json(document), of(manifest, results))
    assert caught.value.reason.code == "disclosure_differs"


def test_nor_does_one_with_more_or_fewer_nodes_or_of_another_transfer():
    manifest, results = things()
    document = json.loads(disclose(TRANSFER, manifest, results, 0))
    for path in (document["audit_path"][:-1], document["audit_path"] + document["audit_path"][:1]):
        with pytest.raises(BadDisclosure):
            check(encode_json(document | {"audit_path": path}), of(manifest, results))
    with pytest.raises(BadDisclosure) as caught:
        check(encode_json(document), of(manifest, results, bytes(16)))
    assert caught.value.reason.code == "disclosure_foreign"


@pytest.mark.parametrize(
    "change",
    [
        {"typ": "x"},
        {"version": 2},
        {"entry": -1},
        {"entry": True},
        {"size": 2**60},
        {"status": "well"},
        {"salt": "AAAA"},
        {"audit_path": ["AAAA"]},
        {"audit_path": [encode_base64url(bytes(32))] * 19},
        {"path": ""},
        {"path": None},
        {"more": 1},
    ],
)
def test_what_has_not_the_form_is_none(change):
    manifest, results = things()
    document = {**json.loads(disclose(TRANSFER, manifest, results, 0)), **change}
    if change == {"more": 1}:
        del document["salt"]
    with pytest.raises(BadDisclosure) as caught:
        check(json.dumps(document).encode(), of(manifest, results))
    assert caught.value.reason.code == "no_disclosure"


@given(st.binary(max_size=200))
def test_any_octets_are_none(data):
    with pytest.raises(BadDisclosure):
        check(data, receipt.verify(GOOD.encode()))


@given(st.integers(1, 70), st.data())
def test_a_path_leads_from_its_leaf_to_the_root_and_from_no_other(count, data):
    leaves = [hashlib.sha256(bytes([i])).digest() for i in range(count)]
    index = data.draw(st.integers(0, count - 1))
    path = merkle_path(leaves, index)
    root = merkle_root(leaves)
    assert merkle_root_of(leaves[index], index, count, path) == root
    assert len(path) <= disclosure.MAX_PATH_LENGTH
    for other in range(count):
        if other != index:
            assert merkle_root_of(leaves[index], other, count, path) != root
            assert merkle_root_of(leaves[other], index, count, path) != root
    assert merkle_root_of(leaves[index], count, count, path) is None
    assert merkle_root_of(leaves[index], index, count, [*path, root]) is None
    if path:
        assert merkle_root_of(leaves[index], index, count, path[:-1]) != root


def test_the_leaves_are_those_of_the_root():
    manifest, results = things()
    assert merkle_root(leaves_of(manifest, results)) == results_root(manifest, results)


@cases("disclosure")
def test_vectors(case):
    content = {"entries": case["entries"], "root": bytes.fromhex(case["root"])}
    transfer = decode_base64url(case["transfer_id"])
    said: Any = SimpleNamespace(payload={"transfer_id": transfer, "content": content})
    document = encode_json(case["document"])
    if case["expect"] == "ok":
        assert check(document, said).path == case["document"]["path"]
        return
    with pytest.raises(BadDisclosure) as caught:
        check(document, said)
    assert caught.value.reason.code == case["expect"]
