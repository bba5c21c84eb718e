"""A message as RFC 5424 has it, and its frame as RFC 5425."""

from __future__ import annotations

import re
import socket

import pytest

from p2p.connect.syslog import Message, encode, own_name


def test_a_message_is_framed_by_its_octets():
    text = "<?xml version='1.0'?><Ä/>"
    framed = encode(Message("2026-11-27T10:00:00.000Z", "DICOM+RFC3881", text), "scanner")
    length, _, line = framed.partition(b" ")
    assert int(length) == len(line)
    found = re.fullmatch(rb"<85>1 (\S+) (\S+) handover \d+ DICOM\+RFC3881 - \xef\xbb\xbf(.*)", line)
    assert found is not None
    assert found.groups() == (b"2026-11-27T10:00:00.000Z", b"scanner", text.encode())


@pytest.mark.parametrize(
    ("name", "written"),
    [("ct-1.klinik", "ct-1.klinik"), ("", "-"), ("räume 2", "rume2"), ("x" * 300, "x" * 255)],
)
def test_a_machines_name_is_printable(monkeypatch, name, written):
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert own_name() == written
