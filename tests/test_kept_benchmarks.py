"""Tables of benchmarks: kept, read again, and held against a new one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.kept import FLOOR, README, Comparison, Kept, compare, read, write
from benchmarks.measure import COLUMNS, FAILED, Missing

TEXT = """# Figures

<!-- table: quick -->
<!-- end of quick -->

Between.

<!-- table: local -->
<!-- end of local -->
"""


def row(name: str, cpu: str, *, rate: str = "50.0 [49.0-51.0]", size: str = "268 x 3") -> list[str]:
    return [name, rate, "", "60.0", "0.50", cpu, "100 / 90", "0.0-0.1", size]


def kept(*rows: list[str]) -> Kept:
    return Kept("2026-11-28", "python3 run.py bench --quick", "2 x CPU, 8 GiB", list(rows))


def change(old: str, new: str, name: str = "handover") -> Comparison:
    return compare(kept(row(name, old)), kept(row(name, new)))


# --- reading and writing


def test_what_is_written_is_read():
    table = kept(row("handover", "10.00 / 5.00"), row("curl, https from nginx", "0.70 / 1.40"))
    assert read(write(TEXT, "quick", table), "quick") == table


def test_only_its_own_table_changes():
    first = write(TEXT, "local", kept(row("handover", "1.00 / 1.00")))
    both = write(first, "quick", kept(row("handover", "10.00 / 5.00")))
    assert both.split("Between.")[1] == first.split("Between.")[1]
    again = write(both, "quick", kept(row("handover", "10.00 / 5.00")))
    assert again == both
    assert len(write(both, "quick", kept(row("new row", "1.00 / 1.00"))).split("new row")) == 2


def test_none_is_kept_at_first():
    assert read(TEXT, "quick") is None
    assert read("", "quick") is None


def test_a_table_needs_a_place():
    with pytest.raises(Missing, match="no one place"):
        write("", "quick", kept(row("handover", "10.00 / 5.00")))


def test_a_table_of_an_older_form_is_refused():
    text = write(TEXT, "quick", kept(row("handover", "10.00 / 5.00")))
    with pytest.raises(Missing, match="other columns"):
        read(text.replace(COLUMNS[-1], "MB"), "quick")


def test_the_kept_tables_can_be_read_and_have_their_places():
    text = README.read_text()
    for what in ("quick", "local", "small"):
        if (table := read(text, what)) is not None:
            assert write(text, what, table) == text
            assert compare(table, table).passed
        else:
            assert read(write(text, what, kept(row("handover", "1.00 / 1.00"))), what)


# --- comparing


@pytest.mark.parametrize(
    ("old", "new", "sides"),
    [
        ("10.00 / 5.00", "11.00 / 5.50", []),  # 10 % each
        ("0.70 / 2.20", "0.77 / 2.42", []),  # as floats, a little more
        ("10.00 / 5.00", "11.01 / 5.00", ["sender"]),  # 10.1 %
        ("10.00 / 10.00", "9.00 / 11.01", ["recipient"]),
        ("10.00 / 5.00", "20.00 / 10.00", ["sender", "recipient"]),
        ("0.00 / 5.00", "0.10 / 5.00", ["sender"]),
    ],
)
def test_more_than_ten_per_cent_is_a_regression(old, new, sides):
    found = change(old, new)
    assert [one.split(", ")[1] for one in found.regressions] == sides
    assert found.passed == (not sides)


def test_the_change_is_shown():
    assert change("10.00 / 5.00", "11.01 / 4.00").lines == [
        ["handover", "MB/s", "50.00", "50.00", "+0.0 %"],
        ["handover", "sender, CPU s/GB", "10.00", "11.01", "+10.1 %"],
        ["handover", "recipient, CPU s/GB", "5.00", "4.00", "-20.0 %"],
    ]


def test_a_rate_is_not_judged():
    then = kept(row("handover", "1.00 / 1.00"))
    now = kept(row("handover", "1.00 / 1.00", rate="5.0 [4.0-6.0]"))
    found = compare(then, now)
    assert found.passed
    assert found.lines[0][-1] == "-90.0 %"


def test_a_baseline_that_changed_tells_of_the_machine():
    same = row("handover", "1.00 / 1.00")
    then, now = (kept(same, row("engine, bare", cpu)) for cpu in ("1.00 / 1.00", "1.50 / 1.00"))
    found = compare(then, now)
    assert found.passed
    assert len(found.notes) == 1
    assert found.notes[0].startswith("engine, bare, sender, CPU s/GB: +50.0 %")


def test_missing_rows_are_named():
    same = row("handover", "1.00 / 1.00")
    found = compare(kept(same, row("scp", "1.00 / 1.00")), kept(same, row("curl", "1.00 / 1.00")))
    assert found.notes == ["scp: in the table, but not measured now.", "curl: not in the table."]
    assert found.passed


def test_another_size_is_not_compared():
    found = compare(
        kept(row("handover", "1.00 / 1.00")), kept(row("handover", "1.00 / 1.00", size="67 x 3"))
    )
    assert found.notes == ["handover: not compared, 268 MB in the table and 67 MB now."]
    assert not found.passed, "nothing was compared"


def test_fewer_rounds_are_compared():
    now = kept(row("handover", "1.00 / 1.00", size="268 x 1"))
    assert compare(kept(row("handover", "1.00 / 1.00")), now).passed


def test_a_transfer_that_fails_now_is_a_regression():
    then = kept(row("handover", "1.00 / 1.00"), row("handover, small", "1.00 / 1.00"))
    failed = ["handover, small", FAILED, *[""] * (len(COLUMNS) - 2)]
    found = compare(then, kept(row("handover", "1.00 / 1.00"), failed))
    assert found.regressions == ["handover, small: failed."]


@pytest.mark.parametrize(("cpu", "passed"), [("20.00 / 10.00", True), ("23.00 / 10.00", False)])
def test_on_another_machine_the_floor_is_the_measure(cpu, passed):
    """It is half as quick: twice the seconds are no regression."""
    then = kept(row("handover", "10.00 / 5.00"), row(FLOOR, "2.00 / 2.00"))
    now = kept(row("handover", cpu), row(FLOOR, "4.00 / 4.00"))
    found = compare(then, replace(now, machine="4 x other CPU, 16 GiB"))
    assert found.passed == passed
    assert found.notes[0].startswith("Another machine: the table is from 2 x CPU, 8 GiB; this is 4")
    assert found.lines[1][:3] == ["handover", "sender, CPU s/GB", "5.00"]
    assert not compare(then, now).passed, "on the same machine they are one"


def test_another_machine_without_the_floor_does_not_compare():
    one = kept(row("handover", "1.00 / 1.00"))
    with pytest.raises(Missing, match="nothing compares"):
        compare(one, replace(one, machine="another"))
