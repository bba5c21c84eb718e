"""Noise_XXpsk3_25519_ChaChaPoly_SHA256 (noiseprotocol.org, revision 34), and nothing else of Noise.

One pattern, so the three messages are written out instead of interpreted from a table:

    -> e                          (payload in the clear: the psk comes last)
    <- e, ee, s, es
    -> s, se, psk

`SymmetricState` and `CipherState` are those of the specification, sections 5.1 and 5.2. With a psk
in the pattern every `e` is also mixed into the chaining key (section 9.2).
"""

from __future__ import annotations

from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.exceptions import RuntimeError as SodiumError

from .codec import hkdf_expand, hkdf_extract, sha256
from .errors import PeerError

NAME = b"Noise_XXpsk3_25519_ChaChaPoly_SHA256"
MAX_MESSAGE = 65535  # specification section 3
KEY = 32
TAG = 16


def _dh(private: bytes, public: bytes) -> bytes:
    try:
        return bindings.crypto_scalarmult(private, public)
    except SodiumError:  # an all-zero result: a low-order public key (RFC 7748 6.1)
        raise PeerError("public_key_low_order") from None


def public_key(private: bytes) -> bytes:
    """The X25519 public key of a private one (32 bytes each)."""
    return bindings.crypto_scalarmult_base(private)


class CipherState:
    """ChaCha20-Poly1305 with a counter nonce: no message can be replayed, dropped or reordered."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._counter = 0

    def _nonce(self) -> bytes:
        nonce = bytes(4) + self._counter.to_bytes(8, "little")
        self._counter += 1
        return nonce

    def encrypt(self, plaintext: bytes, associated: bytes = b"") -> bytes:
        """Seal the next message."""
        return bindings.crypto_aead_chacha20poly1305_ietf_encrypt(
            plaintext, associated, self._nonce(), self._key
        )

    def decrypt(self, ciphertext: bytes, associated: bytes = b"") -> bytes:
        """Open the next message. Raises `PeerError`; the state is then of no more use."""
        try:
            return bindings.crypto_aead_chacha20poly1305_ietf_decrypt(
                ciphertext, associated, self._nonce(), self._key
            )
        except (CryptoError, ValueError):
            raise PeerError("message_not_authentic") from None


class SymmetricState:
    """The chaining key and the handshake hash (specification section 5.2)."""

    def __init__(self, name: bytes, prologue: bytes) -> None:
        self.h = sha256(name)  # longer than 32 bytes, hence hashed (section 5.2)
        self.chaining_key = self.h
        self._cipher: CipherState | None = None
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h, data)

    def mix_key(self, material: bytes) -> None:
        output = hkdf_expand(hkdf_extract(self.chaining_key, material), b"", 64)
        self.chaining_key, self._cipher = output[:32], CipherState(output[32:])

    def mix_key_and_hash(self, material: bytes) -> None:
        output = hkdf_expand(hkdf_extract(self.chaining_key, material), b"", 96)
        self.chaining_key, self._cipher = output[:32], CipherState(output[64:])
        self.mix_hash(output[32:64])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        assert self._cipher is not None  # with a psk there is a key from the first `e` on
        ciphertext = self._cipher.encrypt(plaintext, self.h)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        assert self._cipher is not None
        plaintext = self._cipher.decrypt(ciphertext, self.h)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """The transport ciphers: initiator to responder, and back."""
        output = hkdf_expand(hkdf_extract(self.chaining_key, b""), b"", 64)
        return CipherState(output[:32]), CipherState(output[32:])


def _cut(message: bytes, *lengths: int) -> list[bytes]:
    if not sum(lengths) <= len(message) <= MAX_MESSAGE:
        raise PeerError("handshake_message_length")
    parts = []
    for length in lengths:
        parts.append(message[:length])
        message = message[length:]
    return [*parts, message]


class Party:
    """What initiator and responder share. Private keys are arguments: this module draws nothing."""

    def __init__(self, name: bytes, prologue: bytes, static: bytes, ephemeral: bytes) -> None:
        self.state = SymmetricState(name, prologue)
        self.static, self.ephemeral = static, ephemeral
        self.remote_static = b""
        self.remote_ephemeral = b""

    def _mix_ephemeral(self, public: bytes) -> None:
        self.state.mix_hash(public)
        self.state.mix_key(public)

    def _mix_dh(self, private: bytes, public: bytes) -> None:
        self.state.mix_key(_dh(private, public))


class Initiator(Party):
    """The guest's side. Call `write_1`, `read_2`, `write_3`, in this order, once each."""

    def write_1(self, payload: bytes) -> bytes:
        public = public_key(self.ephemeral)
        self._mix_ephemeral(public)
        return public + self.state.encrypt_and_hash(payload)

    def read_2(self, message: bytes) -> tuple[bytes, bytes]:
        """The payload, and the handshake hash as it was before the payload. Raises `PeerError`."""
        public, static, payload = _cut(message, KEY, KEY + TAG)
        self.remote_ephemeral = public
        self._mix_ephemeral(public)
        self._mix_dh(self.ephemeral, public)
        self.remote_static = self.state.decrypt_and_hash(static)
        self._mix_dh(self.ephemeral, self.remote_static)
        h = self.state.h
        return self.state.decrypt_and_hash(payload), h

    def begin_3(self, psk: bytes) -> tuple[bytes, bytes]:
        """The head of message 3, and the handshake hash its payload is signed over."""
        head = self.state.encrypt_and_hash(public_key(self.static))
        self._mix_dh(self.static, self.remote_ephemeral)
        self.state.mix_key_and_hash(psk)
        return head, self.state.h

    def finish_3(self, head: bytes, payload: bytes) -> bytes:
        return head + self.state.encrypt_and_hash(payload)


class Responder(Party):
    """The host's side. Call `read_1`, `begin_2`, `finish_2`, `read_3`, once each."""

    def read_1(self, message: bytes) -> bytes:
        """The payload. Raises `PeerError`."""
        public, payload = _cut(message, KEY)
        self.remote_ephemeral = public
        self._mix_ephemeral(public)
        return self.state.decrypt_and_hash(payload)

    def begin_2(self) -> tuple[bytes, bytes]:
        """The head of message 2, and the handshake hash its payload is signed over."""
        public = public_key(self.ephemeral)
        self._mix_ephemeral(public)
        self._mix_dh(self.ephemeral, self.remote_ephemeral)
        head = public + self.state.encrypt_and_hash(public_key(self.static))
        self._mix_dh(self.static, self.remote_ephemeral)
        return head, self.state.h

    def finish_2(self, head: bytes, payload: bytes) -> bytes:
        return head + self.state.encrypt_and_hash(payload)

    def read_3(self, message: bytes, psk: bytes) -> tuple[bytes, bytes]:
        """The payload, and the handshake hash as it was before the payload. Raises `PeerError`."""
        static, payload = _cut(message, KEY + TAG)
        self.remote_static = self.state.decrypt_and_hash(static)
        self._mix_dh(self.ephemeral, self.remote_static)
        self.state.mix_key_and_hash(psk)
        h = self.state.h
        return self.state.decrypt_and_hash(payload), h
