"""The tables that README.md keeps, and what has changed since.

CPU seconds for a GB are judged, for they depend less than rates on what else a machine does. Those
of another machine say nothing, so there each figure is taken in multiples of the floor's, which
was measured in the same run and has no line of Handover in it (`primitives.py`). That is sound as
far as Python and the libraries grow quicker alike: a hint, not a measurement.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .measure import COLUMNS, CPU, FAILED, RATE, SIZE, Missing, markdown

README = Path(__file__).with_name("README.md")
LIMIT = 10.0  # per cent of CPU seconds for a GB; what is more is a regression
FLOOR = "primitives, bare"
OURS = "handover"  # how the names of its rows begin; the others are baselines
BARE = ", bare"  # how those end that tell of the machine; other programs take too little CPU for it
MEASURES = ("MB/s", "sender, CPU s/GB", "recipient, CPU s/GB")
Lines = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Kept:
    """A table and where it is from."""

    date: str
    command: str
    machine: str
    lines: Lines  # under COLUMNS


@dataclass
class Comparison:
    """What has changed, and what could not be compared."""

    lines: list[list[str]] = field(default_factory=list)  # name, measure, then, now, change
    notes: list[str] = field(default_factory=list)
    regressions: list[str] = field(default_factory=list)
    compared: int = 0  # rows of Handover

    @property
    def passed(self) -> bool:
        """Something was compared, and none of it is worse."""
        return bool(self.compared) and not self.regressions


# --- the tables in a text


def _place(what: str) -> re.Pattern[str]:
    return re.compile(rf"(?s)(?<=<!-- table: {what} -->\n).*?(?=<!-- end of {what} -->)")


def read(text: str, what: str) -> Kept | None:
    """The table of that name; None where none was kept yet. Raises `Missing` for one in another
    form."""
    place = _place(what).search(text)
    found = (
        re.match(r"\n(\S+): `(.*)`\n\n(.*)\n\n(\|.*\n)\n\Z", place[0], re.DOTALL) if place else None
    )
    if found is None:
        return None
    date, command, machine, table = found.groups()
    head, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    )
    if tuple(head) != COLUMNS:
        raise Missing(f"the table of {what} has other columns: measure it again with --record")
    return Kept(date, command, machine, lines)


def write(text: str, what: str, kept: Kept) -> str:
    """The text with this table in the place of the one before, and nothing else changed."""
    block = (
        f"\n{kept.date}: `{kept.command}`\n\n{kept.machine}\n\n{markdown(COLUMNS, kept.lines)}\n\n"
    )
    changed, count = _place(what).subn(lambda _: block, text)
    if count != 1:
        raise Missing(f"there is no one place for a table of {what}")
    return changed


# --- what has changed


def compare(then: Kept, now: Kept) -> Comparison:
    """Row by row. Raises `Missing` where another machine leaves nothing to compare by."""
    found = Comparison()
    old, new = _figures(then), _figures(now)
    same = then.machine == now.machine
    if not same:
        old, new = _by_floor(old), _by_floor(new)
        found.notes.append(
            f"Another machine: the table is from {then.machine}; this is {now.machine}. Absolute "
            f'figures do not compare, so all are multiples of those of "{FLOOR}" in the same run.'
        )
    sizes = [{line[0]: _size(line) for line in one.lines} for one in (then, now)]
    tried = sizes[1].keys()
    for name in old | new:
        if name not in old:
            found.notes.append(f"{name}: not in the table.")
        elif name not in new and name in tried:
            failed = found.regressions if name.startswith(OURS) else found.notes
            failed.append(f"{name}: failed.")
        elif name not in new:
            found.notes.append(f"{name}: in the table, but not measured now.")
        elif sizes[0][name] != sizes[1][name]:
            was, is_now = (size[name] for size in sizes)
            found.notes.append(f"{name}: not compared, {was} MB in the table and {is_now} MB now.")
        else:
            found.compared += name.startswith(OURS)
            _judge(found, name, old[name], new[name], same=same)
    return found


def _judge(
    found: Comparison, name: str, old: Sequence[float], new: Sequence[float], *, same: bool
) -> None:
    for measure, was, is_now in zip(MEASURES, old, new, strict=True):
        change = _per_cent(was, is_now)
        words = (f"{was:.2f}", f"{is_now:.2f}", f"{change:+.1f} %")
        found.lines.append([name, measure, *words])
        if measure == MEASURES[0]:
            continue
        told = f"{name}, {measure}: {words[2]} ({words[0]}, now {words[1]})."
        if name.startswith(OURS):
            if change > LIMIT:
                found.regressions.append(told)
        elif same and name.endswith(BARE) and abs(change) > LIMIT:
            found.notes.append(
                f"{told} A baseline: the machine was not as it was then. Measure again."
            )


def _per_cent(old: float, new: float) -> float:
    """Rounded as it is printed: what reads as 10.0 % is no more than that."""
    if not old:
        return math.inf if new else 0.0
    return round((new / old - 1) * 100, 1)


def _figures(kept: Kept) -> dict[str, list[float]]:
    """MEASURES of each row that did not fail."""
    rate, cpu = COLUMNS.index(RATE), COLUMNS.index(CPU)
    return {
        line[0]: [float(line[rate].split()[0]), *map(float, line[cpu].split(" / "))]
        for line in kept.lines
        if line[rate] != FAILED
    }


def _size(line: Sequence[str]) -> str:
    return line[COLUMNS.index(SIZE)].partition(" x ")[0]


def _by_floor(rows: dict[str, list[float]]) -> dict[str, list[float]]:
    floor = rows.get(FLOOR, [0.0])
    if not all(floor):
        raise Missing(f'another machine, and no row "{FLOOR}" in both runs: nothing compares')
    return {
        name: [figure / unit for figure, unit in zip(figures, floor, strict=True)]
        for name, figures in rows.items()
        if name != FLOOR
    }
