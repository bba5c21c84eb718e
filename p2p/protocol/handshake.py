"""The handshake on the control channel: who is there, proven both ways, before anything else.

The guest, who opened the link, initiates; the host, who made it, is proven first (message 2); the
guest proves the link's secret and the passphrase with message 3; message 4 confirms. Which of the
two sends files is another question (`ChannelBinding.host_sends`): the recipient's session key x_R
stands in message 3 where the guest is the recipient, and in message 4 where the host is. DTLS is
authenticated by its two fingerprints standing in the prologue (libp2p WebRTC-direct does the same).
Each party is a small machine: bytes in, bytes out; keys and random bytes are arguments
(PROTOCOL.md, The handshake).
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
    optional,
    prefixed,
    read_as,
    sha256,
    text,
)
from .errors import Failure, PeerError
from .link import PskSecrets, host_commitment
from .suite import SUITE_1, SUITES, Suite

PROTOCOL = b"handover/1"
LABEL_HOST_PROOF = b"handover/1 host proof"
LABEL_GUEST_PROOF = b"handover/1 guest proof"
LABEL_COMMIT = b"handover/1 commit"
LABEL_DIGITS = b"handover/1 digits"

VERSIONS = (1,)
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

_FLAG_PASSPHRASE, _FLAG_HOST_RECEIVES = 0x01, 0x02
_REFUSALS = ("claimed", "not_for_you", "contact_changed")


@dataclass(frozen=True)
class ChannelBinding:
    """What both sides of one attempt know before the handshake, and the handshake is bound to (RFC
    5056): it is the Noise prologue."""

    room: bytes
    attempt: bytes
    nonce_guest: bytes
    nonce_host: bytes
    fingerprint_host: bytes
    fingerprint_guest: bytes
    passphrase: bool
    host_sends: bool = True  # else the host is the recipient

    def prologue(self) -> bytes:
        """Every length-prefixed field, then one byte of flags."""
        flags = _FLAG_PASSPHRASE if self.passphrase else 0
        flags |= 0 if self.host_sends else _FLAG_HOST_RECEIVES
        return prefixed(
            PROTOCOL,
            self.room,
            self.attempt,
            self.nonce_guest,
            self.nonce_host,
            self.fingerprint_host,
            self.fingerprint_guest,
        ) + bytes([flags])

    @property
    def fingerprints(self) -> tuple[bytes, bytes]:
        """The sender's and the recipient's."""
        pair = self.fingerprint_host, self.fingerprint_guest
        return pair if self.host_sends else pair[::-1]


@dataclass(frozen=True, repr=False)
class Entropy:
    """The fresh random bytes a party needs: Noise static and ephemeral key, and a nonce, 32 each.

    `session`, of whichever side is the recipient, is the private half of x_R, to which all file
    data is sealed.
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
    suite: Suite
    send: noise.CipherState = field(repr=False)
    receive: noise.CipherState = field(repr=False)
    session_key: bytes  # x_R, public


_hello_1 = members(
    {
        "versions": list_of(integer(1, 255), 16, least=1),
        "suites": list_of(integer(1, 255), 16, least=1),
        "commit": base64url(32),
    }
)
_capabilities = list_of(text(32, empty=False), 32)
_host_2 = members(
    {
        "version": integer(1, 255),
        "suite": integer(1, 255),
        "identity": base64url(32),
        "nonce": base64url(32),
        "verify": boolean,
        "capabilities": _capabilities,
    }
)
_guest_3 = members(
    {
        "identity": base64url(32),
        "nonce": base64url(32),
        "session_key": optional(base64url(32)),
        "label": text(MAX_LABEL),
        "software": text(MAX_SOFTWARE),
        "verify": boolean,
        "capabilities": _capabilities,
    }
)
_welcome_4 = members(
    {
        "type": one_of("welcome"),
        "label": text(MAX_LABEL),
        "software": text(MAX_SOFTWARE),
        "session_key": optional(base64url(32)),
    }
)
_refuse_4 = members({"type": one_of("refuse"), "code": one_of(*_REFUSALS)})


def commitment(static: bytes, body: bytes) -> bytes:
    """What message 1 commits the guest to: its Noise static key and the body of message 3."""
    return sha256(LABEL_COMMIT, prefixed(static, body))


def check_digits(
    state: noise.SymmetricState,
    binding: ChannelBinding,
    ephemerals: tuple[bytes, bytes],
    statics: tuple[bytes, bytes],
    bodies: tuple[bytes, bytes],
) -> str:
    """Twelve digits from values that were all committed to before either side could see them.

    Pairs are (guest's, host's). No signature goes in: its signer could grind it, and with it
    the digits. 10^12 against one guess, after the commitment (RFC 6189 4.4.1.1).
    """
    material = prefixed(binding.prologue(), *ephemerals, *statics, *bodies)
    key = hkdf_extract(LABEL_DIGITS, state.chaining_key)
    number = int.from_bytes(hkdf_expand(key, sha256(material), 16), "big") % 10**12
    text12 = f"{number:012d}"
    return f"{text12[:4]}-{text12[4:8]}-{text12[8:]}"


def _signed(label: bytes, key: SigningKey, h: bytes, body: bytes) -> bytes:
    return prefixed(body) + key.sign(label + h + sha256(body)).signature


def _read_signed(payload: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(payload[:4], "big")
    if len(payload) != 4 + length + SIGNATURE:
        raise PeerError("handshake_payload_malformed")
    return payload[4 : 4 + length], payload[4 + length :]


def _verify(label: bytes, identity: bytes, h: bytes, body: bytes, signature: bytes) -> None:
    try:
        VerifyKey(identity).verify(label + h + sha256(body), signature)
    except (BadSignatureError, ValueError):
        raise PeerError("handshake_signature_invalid") from None


def _body(fields: dict[str, Any]) -> bytes:
    octets = {k: encode_base64url(v) if isinstance(v, bytes) else v for k, v in fields.items()}
    return encode_json(octets)


def _session_key(value: bytes | None, *, expected: bool, probe: bytes) -> bytes:
    """x_R of the other side, where it is the recipient. Raises `PeerError`."""
    if (value is not None) != expected:
        raise PeerError("session_key_not_allowed")
    if value is None:
        return b""
    try:
        bindings.crypto_scalarmult(probe, value)
    except SodiumError:
        raise PeerError("session_key_low_order") from None
    return value


class GuestHandshake:
    """Call `message_1`, `receive_2`, `receive_4`, in this order, once each."""

    def __init__(
        self,
        binding: ChannelBinding,
        *,
        secrets: PskSecrets,
        secret: bytes,
        commitment: bytes,
        identity: SigningKey,
        label: str,
        software: str,
        verify: bool,
        entropy: Entropy,
        capabilities: Sequence[str] = (),
    ) -> None:
        self._binding, self._secrets, self._identity = binding, secrets, identity
        self._secret, self._commitment = secret, commitment
        self._noise = noise.Initiator(
            SUITE_1.noise, binding.prologue(), entropy.static, entropy.ephemeral
        )
        self._entropy = entropy
        self._session_key = noise.public_key(entropy.session) if binding.host_sends else b""
        own_key = {"session_key": self._session_key} if binding.host_sends else {}
        self._body = _body(
            {
                "identity": bytes(identity.verify_key),
                "nonce": entropy.nonce,
                "label": label,
                "software": software,
                "verify": verify,
                "capabilities": list(capabilities),
                **own_key,
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
        """Check the host against the link, then message 3.

        Raises `PeerError`, or `Failure` host_unproven: then nothing of this side was revealed.
        """
        payload, h = self._noise.read_2(message)
        body, signature = _read_signed(payload)
        fields = read_as(_host_2, decode_json(body, MAX_HANDSHAKE_MESSAGE), "message 2")
        identity = fields["identity"]
        if not bindings.sodium_memcmp(host_commitment(self._secret, identity), self._commitment):
            raise Failure("host_unproven")
        _verify(LABEL_HOST_PROOF, identity, h, body, signature)
        if fields["version"] not in VERSIONS or fields["suite"] not in SUITES:
            raise Failure("version_unsupported")
        self._peer_fields, self._peer_body = fields, body
        self._suite = SUITES[fields["suite"]]
        head, h = self._noise.begin_3(self._suite.psk(self._secrets))
        proof = _signed(LABEL_GUEST_PROOF, self._identity, h, self._body)
        message_3 = self._noise.finish_3(head, proof)
        self._send, self._receive = self._noise.state.split()
        return message_3

    def receive_4(self, message: bytes) -> Secured:
        """The host's welcome. Raises `PeerError`, or `Failure` with the reason of a refusal."""
        value = decode_json(self._receive.decrypt(message), MAX_HANDSHAKE_MESSAGE)
        if isinstance(value, dict) and value.get("type") == "refuse":
            raise Failure(read_as(_refuse_4, value, "message 4")["code"])
        welcome = read_as(_welcome_4, value, "message 4")
        theirs = _session_key(
            welcome["session_key"],
            expected=not self._binding.host_sends,
            probe=self._entropy.static,
        )
        fields, state = self._peer_fields, self._noise.state
        digits = check_digits(
            state,
            self._binding,
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
        key = theirs or self._session_key
        return Secured(peer, digits, state.h, self._suite, self._send, self._receive, key)


class HostHandshake:
    """Call `receive_1`, `receive_3`, then `message_4` or `refuse_4`, once each.

    Message 2 has at least `fill` bytes: an answer to it shows that the path carries such packets.
    """

    def __init__(
        self,
        binding: ChannelBinding,
        *,
        secrets: PskSecrets,
        identity: SigningKey,
        label: str,
        software: str,
        verify: bool,
        entropy: Entropy,
        capabilities: Sequence[str] = (),
        fill: int = 0,
    ) -> None:
        self._fill, self._capabilities = fill, list(capabilities)
        self._binding, self._secrets, self._identity = binding, secrets, identity
        self._label, self._software = label, software
        self._noise = noise.Responder(
            SUITE_1.noise, binding.prologue(), entropy.static, entropy.ephemeral
        )
        self._entropy, self._verify_wanted = entropy, verify
        self._session_key = b"" if binding.host_sends else noise.public_key(entropy.session)

    def receive_1(self, message: bytes) -> bytes:
        """Choose version and suite, then message 2. Raises `PeerError`, `Failure`."""
        value = decode_json(self._noise.read_1(message), MAX_HANDSHAKE_MESSAGE)
        fields = read_as(_hello_1, value, "message 1")
        versions = set(VERSIONS) & set(fields["versions"])
        suites = set(SUITES) & set(fields["suites"])
        if not versions or not suites:
            raise Failure("version_unsupported")
        self._commit, self._suite = fields["commit"], SUITES[max(suites)]
        self._body = _body(
            {
                "version": max(versions),
                "suite": self._suite.number,
                "identity": bytes(self._identity.verify_key),
                "nonce": self._entropy.nonce,
                "verify": self._verify_wanted,
                "capabilities": self._capabilities,
            }
        ).ljust(self._fill)  # JSON may end in spaces
        head, h = self._noise.begin_2()
        proof = _signed(LABEL_HOST_PROOF, self._identity, h, self._body)
        return self._noise.finish_2(head, proof)

    def receive_3(self, message: bytes) -> Secured:
        """The guest, proven. Raises `PeerError`; code guest_unproven counts as a guess."""
        try:
            payload, h = self._noise.read_3(message, self._suite.psk(self._secrets))
        except PeerError:
            raise PeerError("", code="guest_unproven") from None
        body, signature = _read_signed(payload)
        static = self._noise.remote_static
        if not bindings.sodium_memcmp(commitment(static, body), self._commit):
            raise PeerError("commitment_mismatch")
        fields = read_as(_guest_3, decode_json(body, MAX_HANDSHAKE_MESSAGE), "message 3")
        _verify(LABEL_GUEST_PROOF, fields["identity"], h, body, signature)
        theirs = _session_key(
            fields["session_key"],
            expected=self._binding.host_sends,
            probe=self._entropy.static,
        )
        state = self._noise.state
        receive, self._send = state.split()
        digits = check_digits(
            state,
            self._binding,
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
        key = theirs or self._session_key
        return Secured(peer, digits, state.h, self._suite, self._send, receive, key)

    def message_4(self) -> bytes:
        """Welcome the guest; only now does it learn the host's label."""
        fields = {"type": "welcome", "label": self._label, "software": self._software}
        own_key = {} if self._binding.host_sends else {"session_key": self._session_key}
        return self._send.encrypt(_body({**fields, **own_key}))

    def refuse_4(self, code: str) -> bytes:
        """Turn it away: `claimed`, `not_for_you` or `contact_changed`."""
        assert code in _REFUSALS
        return self._send.encrypt(encode_json({"type": "refuse", "code": code}))
