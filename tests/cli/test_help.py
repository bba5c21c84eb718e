"""What `--help` says, what is said of wrong usage, and the manual page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from p2p.cli import main
from p2p.cli.help import TASKS, translate
from p2p.cli.manual import manual
from p2p.protocol.sentences import CATALOGUE

ROOT = Path(__file__).parents[2]
PLACES = {name: place for places in TASKS.values() for name, place in places.items()}


def commands(group: click.Group, name: str = "") -> dict[str, click.Command]:
    """Every command by its words, the program itself by "handover"."""
    found: dict[str, click.Command] = {name or "handover": group}
    for word, command in group.commands.items():
        full = f"{name} {word}".strip()
        found |= commands(command, full) if isinstance(command, click.Group) else {full: command}
    return found


def words_of(command: click.Command) -> list[str]:
    options = (one for one in command.params if isinstance(one, click.Option))
    return [max(one.opts, key=len).removeprefix("--") for one in options]


def test_every_command_belongs_to_a_task(line, language):
    """And they are listed in the order of the tasks, each with a whole sentence."""
    assert sorted(main.commands) == sorted(name for names in TASKS.values() for name in names)
    shown = line.run("--help").stdout
    sections = CATALOGUE[language]["section"]
    wanted = [word for task, names in TASKS.items() for word in (f"{sections[task]}:", *names)]
    found = re.findall(r"(?m)^([^\s-].*:|  [a-z-]+)(?:  .*)?$", shown)
    assert [one.strip() for one in found][: len(wanted)] == wanted
    for name in main.commands:
        summary = CATALOGUE[language]["command"][name].partition("\n")[0]
        assert summary in re.sub(r"\s+", " ", shown)
    assert "..." not in shown.split("\n", 1)[1]


def test_the_catalogue_describes_every_command_and_option_and_nothing_else():
    """Whoever adds an option adds its help."""
    found = commands(main)
    catalogue = CATALOGUE["en"]
    assert catalogue["command"].keys() == found.keys()
    options = {"help"}
    for name, command in found.items():
        for word in words_of(command):
            options |= {word, f"{name} {word}"}
    assert catalogue["option"].keys() | catalogue["default"].keys() <= options


@pytest.mark.parametrize("name", commands(main))
def test_every_help_is_made_of_sentences(line, language, name):
    """In either language, with what every option does."""
    words = [] if name == "handover" else name.split()
    long, short = line.run(*words, "--help"), line.run(*words, "-h")
    assert long.exit_code == short.exit_code == 0
    assert long.stdout == short.stdout
    command = commands(main)[name]
    described = [
        command.help,
        *(one.help for one in command.params if one.param_type_name == "option"),
    ]
    assert all(sentence and sentence.endswith((".", '".')) for sentence in described)
    for option in command.params:
        if option.param_type_name == "option":
            assert max(option.opts, key=len) in long.stdout


def test_exit_codes_are_sorted(line):
    """With what each means."""
    found = re.findall(r"(?m)^  (\d)  \S", line.run("--help").stdout)
    assert found == [str(code) for code in range(9)]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_keeps_to_the_terminal(line, language, monkeypatch, columns):
    """Only a name may be wider."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in ([], ["send"], ["serve"]):
        for row in line.run(*words, "--help").stdout.splitlines():
            assert len(row) <= columns or " " not in row.strip() or columns == 40


@pytest.mark.parametrize(
    ("arguments", "english", "german"),
    [
        (["nothing"], "No such command 'nothing'.", "Es gibt keinen Befehl 'nothing'."),
        (["send", "--nothing"], "No such option '--nothing'.", "Es gibt keine Option '--nothing'."),
        (["send"], "Name the files and folders to send.", "Geben Sie die Dateien und Ordner an"),
        (["send", "x", "--limit"], "requires an argument", "braucht einen Wert"),
        (["send", "x", "--limit", "1"], "10k is the smallest", "10k ist das Kleinste"),
        (["send", "x", "--expires", "25h"], "24h is the longest", "24h ist die längste"),
        (["send", "x", "--listen", "host:x"], "Use HOST:PORT", "Geben Sie HOST:PORT"),
        (["send", "x", "--direct-ports", "80"], "from 1024 to 65535", "von 1024 bis 65535"),
        (["send", "x", "--engine", "y"], "is not one of", "ist keiner von"),
        (["send", "x", "--tls-key", "y"], "together", "zusammen"),
        (["send", "x", "--local-ca", "--server", "y"], "without --server", "ohne --server"),
        (["send", "--resume", "0123", "x"], "same files", "denselben Dateien"),
        (
            ["send", "--resume", "0123", "--follow"],
            "Leave out --follow.",
            "Lassen Sie --follow weg.",
        ),
        (
            ["serve", "--name", "x"],
            "--name requires --local-ca.",
            "--name setzt --local-ca voraus.",
        ),
        (
            ["send", "--purpose", "emergency", "."],
            'An emergency needs a reason: add --reason "..." in a few words.',
            'Ein Notfall braucht eine Begründung: --reason "..." in wenigen Worten.',
        ),
        (
            ["send", "--reason", "ö" * 129, "."],
            "The reason is too long: 256 bytes at most.",
            "Die Begründung ist zu lang: höchstens 256 Bytes.",
        ),
        (["receipt", "show"], "Missing argument 'FILE'.", "Es fehlt das Argument 'FILE'."),
        (
            ["receipt", "show", "a", "b"],
            "Unexpected extra argument (b)",
            "Unerwartetes Argument (b)",
        ),
    ],
)
def test_wrong_usage(line, language, arguments, english, german):
    """Its exit code is 2, and the sentence says what to do instead."""
    done = line.run(*arguments)
    assert done.exit_code == 2
    assert (german if language == "de" else english) in done.stderr
    assert ("zeigt die Hilfe" if language == "de" else "for help") in done.stderr or (
        "--limit" in arguments
    )


def test_the_manual_is_the_stored_one(language):
    """HANDOVER_LANG=en python -m p2p.cli.manual > docs/man/handover.1 (de: handover.de.1)."""
    name = "handover.1" if language == "en" else "handover.de.1"
    stored = ROOT / "docs" / "man" / name
    assert stored.read_text(encoding="utf-8") == manual()


def test_the_manual_has_everything(language):
    """Every command, option, exit code and variable; no line that troff takes for a request."""
    page = manual().replace("\\-", "-")
    for name, command in commands(main).items():
        if not isinstance(command, click.Group):
            assert f".SS handover {name}" in page
        assert all(f"--{word}" in page for word in words_of(command))
    for name in CATALOGUE[language]["environment"]:
        assert f".B {name}\n" in page
    requests = {row.split()[0] for row in page.splitlines() if row.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".EX", ".EE"}


def test_completion_in_bash(tmp_path):
    """The shell is told commands and options."""
    done = subprocess.run(
        [sys.executable, "-m", "p2p"],
        env={
            "_HANDOVER_COMPLETE": "bash_complete",
            "COMP_WORDS": "handover send --no-",
            "COMP_CWORD": "2",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )
    assert {"plain,--no-compress", "plain,--no-direct"} <= set(done.stdout.split())


def test_the_help_that_is_described_is_in_the_language(language):
    """Again and again, in whatever language comes next."""
    translate(main)
    assert main.help == CATALOGUE[language]["command"]["handover"]


@pytest.mark.process
@pytest.mark.parametrize("word", ["--help", "--version", "nonsense"])
def test_what_help_does_not_need_is_not_loaded(word, tmp_path):
    """Whoever asks for help does not wait for the machinery of a transfer, or for a command."""
    program = """if True:
        import contextlib, io, sys
        from p2p.cli import main
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with contextlib.suppress(SystemExit):
                main(sys.argv[1:])
        print(*sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", program, word],
        env={"HOME": str(tmp_path), "HANDOVER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "p2p.cli.help" in loaded
    heavy = {"asyncio", "ssl", "websockets", "nacl", "numpy", "logging", "signaling", "p2p.api"}
    assert not loaded & heavy
    assert not loaded & {f"p2p.cli.{place.partition(':')[0]}" for place in PLACES.values()}


@pytest.mark.process
def test_a_transfer_loads_no_http_server():
    """That is in the process beside it, and a tenth of a second to load."""
    program = "import sys, p2p.api, signaling.apart, signaling.web_assets; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {"aiohttp", "numpy", "redis"}
