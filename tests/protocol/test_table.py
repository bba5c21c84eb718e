"""The table by itself: what may be called in which state, and what follows."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

import pytest

from p2p.protocol.session.table import OutOfTurn, Row, Table, in_turn, rows


class Light(Enum):
    OFF = "off"
    ON = "on"


class Lamp:
    """A machine with one table."""

    def __init__(self):
        self.state, self.watts = Light.OFF, 0

    @in_turn
    def switch_on(self, watts: int, *, broken: bool = False) -> str:
        """Shine."""
        if broken:
            raise RuntimeError("the bulb")
        self.watts = watts
        return "lit"

    @in_turn
    def dim(self) -> None:
        """Shine less."""
        self.watts //= 2

    table: ClassVar[Table] = {
        (Light.OFF, switch_on): Row(switch_on, Light.ON),
        **rows([Light.ON], dim),
    }


def test_a_call_in_its_turn_gives_its_result_and_the_state_that_follows():
    lamp = Lamp()
    assert lamp.switch_on(60) == "lit"
    assert (lamp.state, lamp.watts) == (Light.ON, 60)


def test_a_call_out_of_turn_says_which_and_where_and_changes_nothing():
    lamp = Lamp()
    with pytest.raises(OutOfTurn, match="dim in state off"):
        lamp.dim()
    assert lamp.state == Light.OFF


def test_a_call_without_a_state_that_follows_leaves_the_state():
    lamp = Lamp()
    lamp.switch_on(60)
    lamp.dim()
    assert (lamp.state, lamp.watts) == (Light.ON, 30)


def test_a_call_that_raised_leaves_the_state():
    lamp = Lamp()
    with pytest.raises(RuntimeError):
        lamp.switch_on(60, broken=True)
    assert lamp.state == Light.OFF


def test_rows_of_several_states_keep_each():
    made = rows(list(Light), Lamp.dim)
    assert set(made) == {(Light.OFF, Lamp.dim), (Light.ON, Lamp.dim)}
    assert {row.follows for row in made.values()} == {None}


def test_a_call_keeps_its_name_and_its_words():
    assert (Lamp.dim.__name__, Lamp.dim.__doc__) == ("dim", "Shine less.")
