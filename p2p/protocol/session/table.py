"""The table of a role: what may happen in which state, and the state that follows.

A session has one table. Its keys are (state, input); an input is the type of a received message,
`LOST`, `RANGE`, or a method of the session that the program around it, or the session itself,
calls. What is not in the table is an error: the peer's for what was received, the program's for a
call (after h11's `_state.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

# No message has these types.
LOST = "lost"  # the connection is gone
RANGE = "range"  # came by a lane

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")
Method = Callable[..., Any]


class OutOfTurn(RuntimeError):
    """The program around the session called what its state does not allow."""


class Row(NamedTuple):
    """What handles an input, and the state that follows; None: the state stays."""

    handler: Method
    follows: Enum | None = None


Table = Mapping[tuple[Enum, "str | Method"], Row]


def in_turn(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Let the table of the session decide whether this method may be called now, and what state
    follows once it has returned. Raises `OutOfTurn`."""

    @functools.wraps(method)
    def checked(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        session: Any = self
        row = session.table.get((session.state, checked))
        if row is None:
            raise OutOfTurn(f"{method.__name__} in state {session.state.value}")
        result = method(self, *args, **kwargs)
        if row.follows is not None:
            session.state = row.follows
        return result

    return checked


def rows(states: Sequence[Enum], *calls: Method) -> dict[tuple[Enum, str | Method], Row]:
    """Rows for calls that each of these states allows, and that do not change it."""
    return {(state, call): Row(call) for state in states for call in calls}
