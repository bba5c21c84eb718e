"""What a server's operator asks of transfers. Peers are told, and keep to it: the server sees no
passphrase and no relay. It keeps to the time that links live itself, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .messages import MAX_OPERATOR, MAX_TTL, MIN_EXPIRES

Require = Literal["passphrase", "digits", "either"]
Relay = Literal["forbidden", "required"]


@dataclass(frozen=True)
class Policy:
    """`operator`: who runs the server, as people know it. `max_expires`: seconds that a link may
    live, whole minutes. `require`: what proves the right recipient beside the link. Raises
    `ValueError`."""

    operator: str = ""
    max_expires: int = MAX_TTL
    require: Require | None = None
    relay: Relay | None = None

    def __post_init__(self) -> None:
        if not self.operator.isprintable() or len(self.operator.encode()) > MAX_OPERATOR:
            raise ValueError("operator")
        if not MIN_EXPIRES <= self.max_expires <= MAX_TTL or self.max_expires % 60:
            raise ValueError("max_expires")

    def told(self) -> dict[str, Any] | None:
        """What peers and pages are told; None where there is nothing to tell."""
        told = {
            "operator": self.operator,
            "max_expires": self.max_expires if self.max_expires < MAX_TTL else None,
            "require": self.require,
            "relay": self.relay,
        }
        return {name: value for name, value in told.items() if value} or None
