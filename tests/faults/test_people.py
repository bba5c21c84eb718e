"""Others at the same link: who comes second, who only looks, who guesses."""

from __future__ import annotations

import subprocess

import pytest

from .harness import PYTHON, random_file, same, study


def learned(process):
    """What a recipient was told of the sender and of what is sent."""
    return [e for e in process.events if e["event"] in ("peer", "digits", "offer", "progress")]


@pytest.mark.smoke
def test_two_race_for_one_link_and_one_wins(world, row):
    world.network.impair(delay=10)
    sender = world.machine("sender", label="Klinik Süd")
    source = study(world.folder / "study", 5, 4_000_000)
    sending, link = sender.send("--auto", source)
    runners = [world.machine("recipient", f"recipient{n}") for n in range(2)]
    racing = [
        one.receive(link, world.folder / f"out{n}", "--auto") for n, one in enumerate(runners)
    ]
    codes = [one.end(120)[0] for one in racing]
    assert sorted(codes) == [0, 1], [one.events for one in racing]
    won, late = codes.index(0), codes.index(1)
    assert racing[late].events[-1]["code"] in ("claimed", "busy", "not_found")
    assert learned(racing[late]) == []
    assert "Klinik" not in str(racing[late].events)
    assert sending.end()[0] == 0
    same(source, world.folder / f"out{won}" / "study")
    assert not list(world.folder.glob(f"out{late}/*"))
    facts = {"message": racing[late].events[-1]["message"], "same": True, "receipts": 2}
    row("two recipients", "at once", facts)


@pytest.mark.smoke
def test_a_scanner_that_opens_the_link_first_takes_nothing(world, row):
    source = random_file(world.folder / "scan.raw", 1_000_000)
    moved = world.transfer(source, come=False)
    scan = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=9).status)"
    for _ in range(20):
        done = subprocess.run(
            [*world.network.prefixes["recipient"], PYTHON, "-c", scan, moved.link.split("#")[0]],
            capture_output=True,
            text=True,
        )
        assert done.stdout == "200\n", done.stderr
    moved.come()
    row("a scanner", "20 times before", moved.finish())


def test_three_wrong_passphrases_disarm_and_two_do_not_on_a_bad_network(world, row):
    world.network.impair(delay=10, loss=2)
    sender, recipient = world.machine("sender"), world.machine("recipient")
    source = random_file(world.folder / "scan.raw", 1_000_000)
    for wrong in (2, 3):
        sending, link = sender.send("--auto", source, HANDOVER_PASSPHRASE="right")
        for number in range(wrong):
            guess = recipient.receive(link, world.out, "--auto", HANDOVER_PASSPHRASE=f"no{number}")
            code, last = guess.end(90)
            assert code == 1
            assert last["code"] == ("passphrase_wrong" if number < 2 else "not_found"), last
            assert learned(guess) == []
        if wrong == 2:
            right = recipient.receive(link, world.out, "--auto", HANDOVER_PASSPHRASE="right")
            assert right.end(90)[0] == sending.end(90)[0] == 0
            same(source, world.out / source.name)
        else:
            code, last = sending.end(90)
            assert (code, last["code"]) == (1, "disarmed")
            row("wrong passphrase", "three times", {"message": last["message"]})
