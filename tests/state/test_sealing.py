"""A sealed annex, as PROTOCOL.md 21 has it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from nacl.public import PrivateKey, SealedBox

from p2p.protocol.codec import encode_base64url
from p2p.protocol.errors import PeerError
from p2p.state import sealing

ROOT = Path(__file__).parents[2]
PRIVATE = PrivateKey(bytes(range(32)))
PUBLIC = bytes(PRIVATE.public_key)
# Sealed once, by libsodium; so that years later it can be opened without this program.
SEALED = b'{"box":"aCxJHAG7+xe49o3XWuWXTFY9sbcq93sFyObFcN+DZWOShMHs9RPk8tJ5Nmtk9J7hrAQVjAg3G6SJiTlhH/Q=","sealed_for":"j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8"}'


class Keyring:
    priority = 5

    def get_password(self, service, username):
        assert (service, username) == ("Handover annexes", encode_base64url(PUBLIC))
        return encode_base64url(bytes(PRIVATE))


@pytest.fixture(autouse=True)
def logged_in(monkeypatch):
    monkeypatch.setattr(sealing, "_keyring", Keyring)


def test_what_was_sealed_once_is_opened():
    assert sealing.opened(SEALED) == b'{"entries":[]}'


def test_it_is_a_sealed_box_and_the_key_it_is_for():
    found = json.loads(sealing.seal(b"{}", PUBLIC))
    assert set(found) == {"box", "sealed_for"}
    assert found["sealed_for"] == encode_base64url(PUBLIC)
    assert SealedBox(PRIVATE).decrypt(base64.b64decode(found["box"])) == b"{}"
    assert sealing.opened(b"{}") == b"{}"  # one that is open


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data.replace(b'"sealed_for":', b'"sealed":'),
        lambda data: data[:-1] + b',"more":1}',
        lambda data: data.replace(b'"box":"', b'"box":"A'),
        lambda data: data.replace(b'"box":"', b'"box":"*'),
        lambda data: data.replace(b"KF8", b"KF"),
        lambda data: data.replace(b'{"box":"', b'{"box":1,"a":"'),
    ],
)
def test_what_is_malformed_is_refused(change):
    with pytest.raises(PeerError):
        sealing.opened(change(SEALED))


def test_each_keyring_is_one_of_the_library():
    """By the names that the library says are there."""
    from keyring import core

    for names in sealing.KEYRINGS.values():
        for name in names:
            module, _, kind = name.rpartition(".")
            assert core._load_keyring_class(f"keyring.backends.{module}.{kind}")


@pytest.mark.process
@pytest.mark.parametrize("chosen", ["", "variable", "file"])
def test_where_no_keyring_can_be_none_is_looked_for(tmp_path, chosen):
    """On a server without a desktop that cost a fifth of a second, and a compiler was run."""
    program = """
import sys
from pathlib import Path
from p2p.state.folder import Folder
from p2p.state.sealing import Sealing
print(Sealing(Folder(Path(sys.argv[1]))).key() == b"", "keyring" in sys.modules)
"""
    config = tmp_path / "python_keyring" / "keyringrc.cfg"
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path)}
    if chosen == "variable":
        env["PYTHON_KEYRING_BACKEND"] = "tests.keyrings.Forgetful"
    elif chosen == "file":
        config.parent.mkdir()
        config.write_text("[backend]\ndefault-keyring=tests.keyrings.Forgetful\n")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "home")],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", str(bool(chosen))]
