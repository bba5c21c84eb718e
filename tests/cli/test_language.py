"""Which language it is, and that every sentence of it stands in the catalogue."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import p2p
from p2p.cli.language import counted, language, number, size
from p2p.protocol.sentences import CATALOGUE, LANGUAGES

SOURCES = sorted(Path(p2p.__file__).parent.joinpath("cli").glob("*.py"))
SENTENCE = re.compile(r"[^\W_]{2,}[,:;]? +[^\W_]{2,}|^[^\W\d_]{2,}[.:?!] ?$")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de"}, "de"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LC_MESSAGES": "de_AT", "LANG": "en_US.UTF-8"}, "de"),
        ({"LC_ALL": "", "LANG": "de_CH.UTF-8"}, "de"),
        ({"LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"}, "en"),
        ({"HANDOVER_LANG": "en", "LANG": "de_DE.UTF-8"}, "en"),
        ({"HANDOVER_LANG": "de", "LC_ALL": "C"}, "de"),
        ({"HANDOVER_LANG": "DE"}, "de"),
        ({"HANDOVER_LANG": "", "LANG": "de_DE"}, "de"),
        ({"HANDOVER_LANG": "nl", "LANG": "de_DE"}, "en"),
    ],
)
def test_the_language(monkeypatch, environment, expected):
    """The program's own variable first, then the locale as everywhere, then English."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language() == expected


def test_numbers_and_counts(language):
    """As the language writes them."""
    german = language == "de"
    assert number(1_234_567) == ("1.234.567" if german else "1,234,567")
    assert counted(1, "file") == ("1 Datei" if german else "1 file")
    assert counted(2000, "entry") == ("2.000 Einträge" if german else "2,000 entries")
    sizes = [size(count) for count in (0, 999, 1000, 1_500_000, 2_500_000_000, 3e12)]
    expected = ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.5 GB", "3.00 TB"]
    assert sizes == [one.replace(".", ",") if german else one for one in expected]


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one.name)
def test_the_command_line_holds_no_sentence(source):
    """Only docstrings are prose; what a person reads comes from the catalogue."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    prose = {
        id(one.body[0].value)
        for one in ast.walk(tree)
        if isinstance(one, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(one.body[0], ast.Expr)
    }
    found = [
        one.value
        for one in ast.walk(tree)
        if isinstance(one, ast.Constant)
        and isinstance(one.value, str)
        and id(one) not in prose
        and SENTENCE.search(one.value)
        and one.value not in CATALOGUE["en"]["click"]
    ]
    assert not found


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one.name)
def test_every_code_that_is_named_is_in_the_catalogue(source):
    """Of those that are written out."""
    for one in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(one, ast.Call) and getattr(one.func, "id", "") in ("words", "text"):
            group, code = one.args[:2]
            if isinstance(group, ast.Constant) and isinstance(code, ast.Constant):
                assert code.value in CATALOGUE["en"][str(group.value)]


def test_the_words_of_the_parser_keep_their_places():
    """Also those with a conversion, which the check of the whole catalogue does not see."""
    for tongue in LANGUAGES:
        for original, sentence in CATALOGUE[tongue]["click"].items():
            places = [sorted(re.findall(r"\{[^}]*\}", one)) for one in (original, sentence)]
            assert places[0] == places[1], original
