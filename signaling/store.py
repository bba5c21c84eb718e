"""What the nodes of one server share: the contract that `memory_store` and `redis_store` keep.

A store knows which rooms there are, where their peers sit, and how often an address did what; and
it takes word from one seat to another. It never sees a token, only hashes of them, and keeps no
envelope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .rooms import Kind, Origin, Seat, Told


class Unavailable(Exception):
    """The store does not answer. Nothing has ended; the peer may come again."""


@dataclass(frozen=True)
class Word:
    """What a seat of this node is told. `attempt` and `body` are empty where they say nothing;
    `node` is where it comes from."""

    kind: Kind
    seat: bytes
    attempt: bytes = b""
    body: bytes = b""
    node: bytes = b""


@dataclass(frozen=True)
class Node:
    """What a store tells of this node's own. `take` gives a word to its seat. `rekey` sets the key
    that addresses are counted under. `cut_off`: other nodes could not be heard for a while, so
    attempts with peers there may have missed something."""

    take: Callable[[Word], None]
    rekey: Callable[[bytes], None]
    cut_off: Callable[[], None]


class Store(Protocol):
    """Seats are named by the caller: `host` is 16 random bytes, as `attempt` is for a guest.

    Each of `create`, `away`, `lost` and `finish` returns who is to be told what on account of it;
    the caller sends that. Everything may raise `Unavailable`.
    """

    name: bytes  # of this node

    async def start(self, node: Node) -> None:
        """Begin; nothing else is called before. It does not wait for other machines."""

    async def stop(self) -> None:
        """End; nothing else is called after."""

    async def create(
        self,
        room: bytes,
        join_hash: bytes,
        owner_hash: bytes,
        ttl: int,
        origin: Origin,
        host: bytes,
        *,
        again: bool = False,
    ) -> Told:
        """Take the host's seat of a room for `ttl` seconds; again with the same owner's hash, from
        any node, and with `again` only so. Raises `Refused` (room_taken, rate_limited, full,
        token_required)."""

    async def join(self, room: bytes, join_hash: bytes, origin: Origin, attempt: bytes) -> Seat:
        """Begin an attempt; where the host sits. Raises `Refused`: not_found also for a wrong
        token, and with a reason for the right one of a room that is over; busy; rate_limited."""

    async def leave(self, room: bytes, seat: Seat) -> None:
        """The attempt of this guest's seat is over."""

    async def away(self, room: bytes, host: bytes) -> Told:
        """This seat's host is gone, perhaps to come back."""

    async def lost(self, room: bytes, host: Seat) -> Told:
        """Nobody was found at this host's seat, at whichever node: as if it had gone now."""

    async def finish(self, room: bytes, host: bytes) -> Told:
        """This seat's host says that the room is finished."""

    async def send(self, to: Seat, kind: Kind, attempt: bytes, body: bytes = b"") -> bool:
        """Take a word to a seat; whether its node is there to be told."""

    def ready(self) -> bool:
        """Whether it answers, as far as is known."""
