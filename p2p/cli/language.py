"""The person's language: which one it is, and every word and number in it."""

from __future__ import annotations

import gettext
import os
import sys
from collections.abc import Callable
from typing import Any

from ..protocol.sentences import CATALOGUE, LANGUAGES, Language, text


def language() -> Language:
    """HANDOVER_LANG; else what the locale says, where that is one of ours; else English."""
    chosen = os.environ.get("HANDOVER_LANG", "").lower()
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    for one in LANGUAGES:
        if one in (chosen, chosen or locale[:2]):
            return one
    return "en"


def words(group: str, code: str, **values: str | int) -> str:
    """The sentence of a code, in the person's language. Raises `KeyError`."""
    return text(group, code, language(), **values)


def found(group: str, code: str, otherwise: str) -> str:
    """The same where the catalogue holds the code."""
    return words(group, code) if code in CATALOGUE["en"][group] else otherwise


def number(value: float, digits: int = 0) -> str:
    """A number with separators."""
    written = f"{value:,.{digits}f}"
    if language() == "de":
        written = written.translate(str.maketrans(",.", ".,"))
    return written


def size(count: float) -> str:
    """Bytes in decimal units, as download dialogs show them."""
    if count < 1000:
        return f"{number(count)} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{number(count, 1)} {unit}"
    return f"{number(count / 1000, 2)} TB"


def day(time: str) -> str:
    """The day of a time in RFC 3339."""
    date = time[:10]
    return ".".join(reversed(date.split("-"))) if language() == "de" else date


def quoted(label: str) -> str:
    """What somebody calls itself, between quotation marks."""
    from ..api import shown_label

    clean = shown_label(label)
    return words("terminal", "label", label=clean) if clean else words("terminal", "nameless")


def counted(count: int, noun: str, **values: str) -> str:
    """A count and its noun."""
    code = f"{noun}.one" if count == 1 else f"{noun}.many"
    return words("count", code, count=number(count), **values)


def _translated(message: str) -> str:
    return found("click", message, message)


def _translated_number(one: str, many: str, count: int) -> str:
    return _translated(one if count == 1 else many)


def speak_to_click() -> None:
    """Give click our sentences: it looks up its own by gettext, and brings no translation."""
    ours: dict[Any, Callable[..., str]] = {
        gettext.gettext: _translated,
        gettext.ngettext: _translated_number,
    }
    for module in [one for name, one in sys.modules.items() if name.split(".")[0] == "click"]:
        for name in ("_", "ngettext"):
            theirs = getattr(module, name, None)
            if theirs in ours:
                setattr(module, name, ours[theirs])
