"""The handshake on the control channel: who is there, proven both ways, before anything else.

The recipient initiates, the sender is proven first (message 2), the recipient proves the link's
secret and the passphrase with message 3, message 4 confirms. DTLS is authenticated by its two
fingerprints standing in the prologue (libp2p WebRTC-direct does the same). Each party is a small
machine: bytes in, bytes out; keys and random bytes are arguments (PROTOCOL.md, Handshake).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nacl import bindings
from nacl.exceptions import BadSignatureError
from nacl.exceptions import RuntimeError as SodiumError
from nacl.signing import SigningKey, VerifyKey

from . import noise
from .codec import (
    base64url,
    boolean,
    decode_json,
    encode_base64url,
    encode_json,
    hkdf_expand,
    hkdf_extract,
    integer,
    list_of,
    members,
    one_of,
    prefixed,
    read_as,
    sha256,
    text,
)
from .errors import Failure, PeerError
from .link import sender_commitment

PROTOCOL = b"handover/1"
LABEL_SENDER_PROOF = b"handover/1 sender proof"
LABEL_RECIPIENT_PROOF = b"handover/1 recipient proof"
LABEL_COMMIT = b"handover/1 commit"
LABEL_DIGITS = b"handover/1 digits"

VERSIONS = (1,)
SUITES = (1,)  # 1 = XXpsk3_25519_ChaChaPoly_SHA256 + NaCl sealed boxes + Ed25519
SUITE_NAMES = {1: "noise-xxpsk3-25519-chachapoly-sha256+nacl-sealed-box+ed25519"}
MAX_HANDSHAKE_MESSAGE = 8192  # before anybody is proven
MAX_LABEL = 128  # bytes of the name its owner chose
MAX_SOFTWARE = 64  # bytes of a program's name and version
HANDSHAKE_SECONDS = 20.0  # for an attempt, from joining to message 4
MAX_FAILED_ATTEMPTS = 3  # then the link is disarmed
DIRECT = "direct"  # capability of a recipient that takes part in direct lanes
LANES, MANY_LANES = "lanes", "many-lanes"  # that answers further WebRTC connections, 8 or more
ZSTD_FRAMES = "zstd"  # of one that reads compressed ranges
RESUME = "resume"  # capability of a recipient that takes a transfer up again after a cut
SIGNATURE = 64

_FLAG_PASSPHRASE = 1
_REFUSALS = ("claimed", "not_for_you", "contact_changed")


@dataclass(frozen=True)
class Attempt:
    """What both sides of one attempt know before the handshake; it is the Noise prologue."""

    room: bytes
    attempt: bytes
    nonce_r: bytes
    nonce_s: bytes
    fingerprint_s: bytes
    fingerprint_r: bytes
    passphrase: bool

    def prologue(self) -> bytes:
        """Every length-prefixed field, then one byte of flags."""
        return prefixed(
            PROTOCOL,
            self.room,
            self.attempt,
            self.nonce_r,
            self.nonce_s,
            self.fingerprint_s,
            self.fingerprint_r,
        ) + bytes([_FLAG_PASSPHRASE if self.passphrase else 0])


@dataclass(frozen=True, repr=False)
class Entropy:
    """The fresh random bytes a party needs: Noise static and ephemeral key, and a nonce, 32 each.

    The recipient's `session` is the private half of x_R, to which all file data is sealed.
    """

    static: bytes
    ephemeral: bytes
    nonce: bytes
    session: bytes = b""


@dataclass(frozen=True)
class Peer:
    """The other side, proven."""

    identity: bytes  # Ed25519 public key
    label: str
    software: str
    verify: bool  # it wants the check digits confirmed by both
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Secured:
    """What a finished handshake leaves behind."""

    peer: Peer
    digits: str  # twelve, as 4-4-4
    transcript: bytes  # the Noise handshake hash
    suite: int
    send: noise.CipherState = field(repr=False)
    receive: noise.CipherState = field(repr=False)
    session_key: bytes  # x_R, public


_offer_1 = members(
    {
        "versions": list_of(integer(1, 255), 16, least=1),
        "suites": list_of(integer(1, 255), 16, least=1),
        "commit": base64url(32),
    }
)
_capabilities = list_of(text(32, empty=False), 32)
_sender_2 = members(
    {
        "version": integer(1, 255),
        "suite": integer(1, 255),
        "identity": base64url(32),
        "nonce": base64url(32),
        "verify": boolean,
        "capabilities": _capabilities,
    }
)
_recipient_3 = members(
    {
        "identity": base64url(32),
        "nonce": base64url(32),
        "session_key": base64url(32),
        "label": text(MAX_LABEL),
        "software": text(MAX_SOFTWARE),
        "verify": boolean,
        "capabilities": _capabilities,
    }
)
_welcome_4 = members(
    {"type": one_of("welcome"), "label": text(MAX_LABEL), "software": text(MAX_SOFTWARE)}
)
_refuse_4 = members({"type": one_of("refuse"), "code": one_of(*_REFUSALS)})


def commitment(static: bytes, body: bytes) -> bytes:
    """What message 1 commits the recipient to: its Noise static key and the body of message 3."""
    return sha256(LABEL_COMMIT, prefixed(static, body))


def check_digits(
    state: noise.SymmetricState,
    attempt: Attempt,
    ephemerals: tuple[bytes, bytes],
    statics: tuple[bytes, bytes],
    bodies: tuple[bytes, bytes],
) -> str:
    """Twelve digits from values that were all committed to before either side could see them.

    Pairs are (recipient's, sender's). No signature goes in: its signer could grind it, and with it
    the digits. 10^12 against one guess, after the commitment (RFC 6189 4.4.1.1).
    """
    material = prefixed(attempt.prologue(), *ephemerals, *statics, *bodies)
    key = hkdf_extract(LABEL_DIGITS, state.chaining_key)
    number = int.from_bytes(hkdf_expand(key, sha256(material), 16), "big") % 10**12
    text12 = f"{number:012d}"
    return f"{text12[:4]}-{text12[4:8]}-{text12[8:]}"


def _signed(label: bytes, key: SigningKey, h: bytes, body: bytes) -> bytes:
    return prefixed(body) + key.sign(label + h + sha256(body)).signature


def _read_signed(payload: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(payload[:4], "big")
    if len(payload) != 4 + length + SIGNATURE:
        raise PeerError("a handshake payload is malformed")
    return payload[4 : 4 + length], payload[4 + length :]


def _verify(label: bytes, identity: bytes, h: bytes, body: bytes, signature: bytes) -> None:
    try:
        VerifyKey(identity).verify(label + h + sha256(body), signature)
    except (BadSignatureError, ValueError):
        raise PeerError("a handshake signature is wrong") from None


def _body(fields: dict[str, Any]) -> bytes:
    octets = {k: encode_base64url(v) if isinstance(v, bytes) else v for k, v in fields.items()}
    return encode_json(octets)


class RecipientHandshake:
    """Call `message_1`, `receive_2`, `receive_4`, in this order, once each."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        psk: bytes,
        secret: bytes,
        commitment: bytes,
        identity: SigningKey,
        label: str,
        software: str,
        verify: bool,
        entropy: Entropy,
        capabilities: Sequence[str] = (),
    ) -> None:
        self._attempt, self._psk, self._identity = attempt, psk, identity
        self._secret, self._commitment = secret, commitment
        self._noise = noise.Initiator(attempt.prologue(), entropy.static, entropy.ephemeral)
        self._entropy = entropy
        self._session_key = noise.public_key(entropy.session)
        self._body = _body(
            {
                "identity": bytes(identity.verify_key),
                "nonce": entropy.nonce,
                "session_key": self._session_key,
                "label": label,
                "software": software,
                "verify": verify,
                "capabilities": list(capabilities),
            }
        )

    def message_1(self) -> bytes:
        """The first message, with the commitment to everything message 3 will say."""
        static = noise.public_key(self._entropy.static)
        return self._noise.write_1(
            _body(
                {
                    "versions": list(VERSIONS),
                    "suites": list(SUITES),
                    "commit": commitment(static, self._body),
                }
            )
        )

    def receive_2(self, message: bytes) -> bytes:
        """Check the sender against the link, then message 3.

        Raises `PeerError`, or `Failure` sender_unproven: then nothing of this side was revealed.
        """
        payload, h = self._noise.read_2(message)
        body, signature = _read_signed(payload)
        fields = read_as(_sender_2, decode_json(body, MAX_HANDSHAKE_MESSAGE), "message 2")
        identity = fields["identity"]
        if not bindings.sodium_memcmp(sender_commitment(self._secret, identity), self._commitment):
            raise Failure("sender_unproven")
        _verify(LABEL_SENDER_PROOF, identity, h, body, signature)
        if fields["version"] not in VERSIONS or fields["suite"] not in SUITES:
            raise Failure("version_unsupported")
        self._peer_fields, self._peer_body = fields, body
        head, h = self._noise.begin_3(self._psk)
        proof = _signed(LABEL_RECIPIENT_PROOF, self._identity, h, self._body)
        message_3 = self._noise.finish_3(head, proof)
        self._send, self._receive = self._noise.state.split()
        return message_3

    def receive_4(self, message: bytes) -> Secured:
        """The sender's welcome. Raises `PeerError`, or `Failure` with the reason of a refusal."""
        value = decode_json(self._receive.decrypt(message), MAX_HANDSHAKE_MESSAGE)
        if isinstance(value, dict) and value.get("type") == "refuse":
            raise Failure(read_as(_refuse_4, value, "message 4")["code"], "this side")
        welcome = read_as(_welcome_4, value, "message 4")
        fields, state = self._peer_fields, self._noise.state
        digits = check_digits(
            state,
            self._attempt,
            (noise.public_key(self._entropy.ephemeral), self._noise.remote_ephemeral),
            (noise.public_key(self._entropy.static), self._noise.remote_static),
            (self._body, self._peer_body),
        )
        peer = Peer(
            fields["identity"],
            welcome["label"],
            welcome["software"],
            fields["verify"],
            tuple(fields["capabilities"]),
        )
        suite = fields["suite"]
        return Secured(peer, digits, state.h, suite, self._send, self._receive, self._session_key)


class SenderHandshake:
    """Call `receive_1`, `receive_3`, then `message_4` or `refuse_4`, once each.

    Message 2 has at least `fill` bytes: an answer to it shows that the path carries such packets.
    """

    def __init__(
        self,
        attempt: Attempt,
        *,
        psk: bytes,
        identity: SigningKey,
        label: str,
        software: str,
        verify: bool,
        entropy: Entropy,
        fill: int = 0,
    ) -> None:
        self._fill = fill
        self._attempt, self._psk, self._identity = attempt, psk, identity
        self._label, self._software = label, software
        self._noise = noise.Responder(attempt.prologue(), entropy.static, entropy.ephemeral)
        self._entropy, self._verify_wanted = entropy, verify

    def receive_1(self, message: bytes) -> bytes:
        """Choose version and suite, then message 2. Raises `PeerError`, `Failure`."""
        value = decode_json(self._noise.read_1(message), MAX_HANDSHAKE_MESSAGE)
        fields = read_as(_offer_1, value, "message 1")
        versions = set(VERSIONS) & set(fields["versions"])
        suites = set(SUITES) & set(fields["suites"])
        if not versions or not suites:
            raise Failure("version_unsupported")
        self._commit, self._suite = fields["commit"], max(suites)
        self._body = _body(
            {
                "version": max(versions),
                "suite": self._suite,
                "identity": bytes(self._identity.verify_key),
                "nonce": self._entropy.nonce,
                "verify": self._verify_wanted,
                "capabilities": [],
            }
        ).ljust(self._fill)  # JSON may end in spaces
        head, h = self._noise.begin_2()
        proof = _signed(LABEL_SENDER_PROOF, self._identity, h, self._body)
        return self._noise.finish_2(head, proof)

    def receive_3(self, message: bytes) -> Secured:
        """The recipient, proven. Raises `PeerError`; code recipient_unproven counts as a guess."""
        try:
            payload, h = self._noise.read_3(message, self._psk)
        except PeerError:
            raise PeerError("", "recipient_unproven") from None
        body, signature = _read_signed(payload)
        static = self._noise.remote_static
        if not bindings.sodium_memcmp(commitment(static, body), self._commit):
            raise PeerError("message 3 is not what was committed to")
        fields = read_as(_recipient_3, decode_json(body, MAX_HANDSHAKE_MESSAGE), "message 3")
        _verify(LABEL_RECIPIENT_PROOF, fields["identity"], h, body, signature)
        try:
            bindings.crypto_scalarmult(self._entropy.static, fields["session_key"])
        except SodiumError:
            raise PeerError("a session key of low order") from None
        state = self._noise.state
        receive, self._send = state.split()
        digits = check_digits(
            state,
            self._attempt,
            (self._noise.remote_ephemeral, noise.public_key(self._entropy.ephemeral)),
            (static, noise.public_key(self._entropy.static)),
            (body, self._body),
        )
        peer = Peer(
            fields["identity"],
            fields["label"],
            fields["software"],
            fields["verify"],
            tuple(fields["capabilities"]),
        )
        return Secured(
            peer, digits, state.h, self._suite, self._send, receive, fields["session_key"]
        )

    def message_4(self) -> bytes:
        """Welcome the recipient; only now does it learn the sender's label."""
        fields = {"type": "welcome", "label": self._label, "software": self._software}
        return self._send.encrypt(encode_json(fields))

    def refuse_4(self, code: str) -> bytes:
        """Turn it away: `claimed`, `not_for_you` or `contact_changed`."""
        assert code in _REFUSALS
        return self._send.encrypt(encode_json({"type": "refuse", "code": code}))
