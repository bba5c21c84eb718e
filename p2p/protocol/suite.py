"""Cipher suites: all that belongs to one stands in one object, so that another can follow.

The first message of the handshake goes out before a suite is agreed, so all suites share its Noise
name; what a later one adds (a KEM's secret, say) goes into the psk, which is mixed in with message
3, when the suite is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import noise
from .codec import hkdf_extract, prefixed
from .link import PskSecrets
from .seal import OVERHEAD, Header, Opener, seal_range


@dataclass(frozen=True)
class Suite:
    """One way to protect a transfer. `number` is its name in the handshake, `name` in a receipt."""

    number: int
    name: str
    noise: bytes  # the Noise protocol name
    hash: str  # of files, as a receipt calls it
    overhead: int  # bytes that a sealed range has before its payload
    seal: Callable[[bytes, Header, bytearray], bytearray]  # see `seal_range`
    opener: Callable[[bytes], Opener]  # from the private half of the session key

    def psk(self, secrets: PskSecrets) -> bytes:
        """The Noise psk, 32 bytes: the link's own, with what the passphrase gave mixed in."""
        return hkdf_extract(secrets.link, prefixed(secrets.passphrase))


SUITE_1 = Suite(
    number=1,
    name="noise-xxpsk3-25519-chachapoly-sha256+nacl-sealed-box+ed25519",
    noise=noise.NAME,
    hash="sha-256",
    overhead=OVERHEAD,
    seal=seal_range,
    opener=Opener,
)
SUITES = {suite.number: suite for suite in (SUITE_1,)}
