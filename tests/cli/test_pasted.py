"""What is pasted at the prompt, at a real terminal: understood or asked for again, and none left."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from p2p.cli.pasted import Pasted
from p2p.protocol.codec import encode_base64url
from p2p.protocol.link import make_link

LINK = str(make_link("https://host.example", bytes(range(32)), bytes(32), passphrase=False))
HALF = len(LINK) // 2
PROGRAM = "from p2p.cli.terminal import ask_link; print(ask_link().encode().hex())"
START, END = "\x1b[200~", "\x1b[201~"


class Shell:
    """A terminal in which a program asks for the link, and what a shell would read behind it."""

    def __init__(self, monkeypatch):
        self.ours, self.theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=self.theirs,
            stdout=subprocess.PIPE,
            stderr=self.theirs,
            env={**os.environ, "HANDOVER_LANG": "en"},
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )
        self.screen = ""

    def expect(self, text, times=1):
        ends = time.monotonic() + 20
        while self.screen.count(text) < times:
            assert time.monotonic() < ends, self.screen
            if select.select([self.ours], [], [], 0.1)[0]:
                self.screen += os.read(self.ours, 65536).decode(errors="replace")

    def type(self, text):
        os.write(self.ours, text.encode())

    def end(self):
        """The link that was understood, what is left for the shell, and the exit code."""
        out, _ = self.process.communicate(timeout=20)
        while select.select([self.ours], [], [], 0.1)[0]:
            self.screen += os.read(self.ours, 65536).decode(errors="replace")
        left = b""
        os.set_blocking(self.theirs, False)
        try:
            left = os.read(self.theirs, 65536)
        except BlockingIOError:
            pass
        os.close(self.ours)
        os.close(self.theirs)
        return bytes.fromhex(out.decode().strip()).decode(), left, self.process.returncode


@pytest.fixture
def shell(monkeypatch):
    return Shell(monkeypatch)


PASTES = {
    "plain": LINK,
    "wrapped": f"{LINK[:HALF]}\n{LINK[HALF:]}",
    "a whole mail": f"Hello,\n\n> {LINK[:HALF]}\n> {LINK[HALF:]}\n\ntouch owned\nRegards\n",
    "in a sentence": f"Open <{LINK}>, please.\nrm -rf x\n",
    "escaped": LINK.replace("#", "%23"),
}


@pytest.mark.process
@pytest.mark.parametrize("bracketed", [True, False])
@pytest.mark.parametrize("paste", PASTES.values(), ids=PASTES)
def test_a_pasted_link_is_understood_and_nothing_is_left(shell, paste, bracketed):
    """Whether or not the terminal says where the paste ends; the secret is not echoed."""
    shell.expect("\x1b[?2004h")
    text = paste.replace("\n", "\r")
    shell.type(f"{START}{text}{END}\r" if bracketed else f"{text}\r")
    assert shell.end() == (LINK, b"", 0)
    assert encode_base64url(bytes(range(32)))[:8] not in shell.screen
    assert "\x1b[?2004l" in shell.screen


@pytest.mark.process
def test_it_is_asked_again_and_what_is_wrong_is_said(shell):
    shell.expect("\x1b[?2004h")
    shell.type(f"{START}{LINK[:-4]}\rtouch owned{END}\r")
    shell.expect("the part after # has a typing error")
    shell.expect("\x1b[?2004h", 2)
    shell.type(f"{LINK}\r")
    assert shell.end() == (LINK, b"", 0)


@pytest.mark.process
def test_it_is_asked_three_times_at_most(shell):
    for asked in (1, 2, 3):
        shell.expect("\x1b[?2004h", asked)
        shell.type(f"{START}{LINK[:-4]}\rmore{END}\r")
    assert shell.end() == ("", b"", 1)
    assert shell.screen.count("not a Handover link") == 3
    assert LINK[-30:-10] not in shell.screen


@pytest.mark.process
@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_it_can_be_cancelled(shell, key):
    shell.expect("\x1b[?2004h")
    shell.type(f"some{key}thing\r")
    assert shell.end()[1:] == (b"", 8)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("ab\x7fc\n", "ac\n"),
        ("ab\x15c\n", "c\n"),
        ("a\x1b[Db\x1bOA\n", "ab\n"),
        ("\x7f\x7fa\n", "a\n"),
        (f"{START}a\nb{END}c\n", "a\nbc\n"),
    ],
)
def test_what_was_typed(typed, text):
    pasted = Pasted()
    for octet in typed.encode():
        assert not pasted.ended
        pasted.take(bytes([octet]))
    assert pasted.ended
    assert not pasted.cancelled
    assert pasted.text == text


def test_a_key_in_a_paste_is_no_key():
    pasted = Pasted()
    pasted.take(f"{START}a\x03\x04\nb".encode())
    assert (pasted.pasting, pasted.ended, pasted.cancelled) == (True, False, False)
    pasted.take(END.encode())
    assert (pasted.pasting, pasted.ended, pasted.cancelled) == (False, False, False)
