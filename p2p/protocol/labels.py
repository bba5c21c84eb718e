"""What a peer calls itself: how it is shown, and which labels a person takes for each other.

Two labels are alike if UTS #39 says so (`toSkeleton`, from the table of `confusables.json`), and
more: a person sees neither case, nor invisible characters, nor how wide a blank is, and reads past
a mark on a letter.
"""

from __future__ import annotations

import json
import pkgutil
import re
import unicodedata
from functools import cache

from .paths import MAX_SHOWN, shown

# Default_Ignorable_Code_Point (UAX #44): nothing is drawn for these.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# White space, and what is drawn as nothing though Unicode counts it among symbols and letters.
_BLANK = re.compile(
    "[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2800\u3000"
    "\U00013441\U00013442\U00016fe4\U0001d159]+"
)
# Marks that go on any letter (the five blocks of combining diacritical marks, and Cyrillic ones).
_MARK = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
_QUOTE = re.compile(
    '["\u00ab\u00bb\u02ba\u02dd\u02ee\u02f6\u05f4\u201c-\u201f\u2033\u2036\u275d\u275e'
    "\u301d-\u301f\uff02]"
)


def shown_label(text: str, limit: int = MAX_SHOWN) -> str:
    """A label made safe to show between quotation marks: nothing unseen, single blanks, and no
    quotation mark that could end it early."""
    seen = _BLANK.sub(" ", INVISIBLE.sub("", text)).strip()
    return shown(_QUOTE.sub("'", seen), limit)


def alike(one: str, other: str) -> bool:
    """Whether a person might take one for the other."""
    return any(a == b for a, b in zip(skeletons(one), skeletons(other), strict=True))


def skeletons(label: str) -> tuple[str, str, str]:
    """Three keys; labels are alike if any is the same.

    Some letters look like others in one case only: what is seen is compared as it is written, in
    small letters and in capitals.
    """
    plain = unicodedata.normalize("NFKC", INVISIBLE.sub("", label))
    capitals = "".join(char.upper() for char in plain)
    return (
        _skeleton(_fold(_skeleton(label))),
        _skeleton(_fold(plain)),
        _skeleton(_fold(_skeleton(capitals))),
    )


def _fold(text: str) -> str:
    """Without case, as every language can say it: `str.casefold` is not in JavaScript."""
    return "".join(char.lower().upper().lower() for char in text)


def _skeleton(text: str) -> str:
    text = INVISIBLE.sub("", unicodedata.normalize("NFD", text))
    text = unicodedata.normalize("NFD", "".join(map(_look, text)))
    return _BLANK.sub("", _MARK.sub("", text))


def _look(char: str) -> str:
    """What a character looks like."""
    table = _table()
    if char in table:
        return table[char]
    return "".join(table.get(part, part) for part in unicodedata.normalize("NFKD", char))


@cache
def _table() -> dict[str, str]:
    """Character by what it looks like; read when labels are first compared."""
    data = pkgutil.get_data(__package__, "confusables.json")
    assert data is not None
    alike: dict[str, str] = json.loads(data)["alike"]
    return {source: target for target, sources in alike.items() for source in sources}
