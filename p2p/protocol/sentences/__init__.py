"""Every sentence that a person reads, in every language: one catalogue for all programs.

`en.json` and `de.json` beside this file hold groups of sentences by code; the web client is built
with the same files. `{name}` stands for what fills a sentence in; it is safe to show already.
"""

from __future__ import annotations

import json
import pkgutil
import re
from typing import Literal, get_args

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
_PLACE = re.compile(r"\{(\w+)\}")


def _load(language: Language) -> dict[str, dict[str, str]]:
    data = pkgutil.get_data(__name__, f"{language}.json")
    assert data is not None
    catalogue: dict[str, dict[str, str]] = json.loads(data)
    return catalogue


CATALOGUE = {language: _load(language) for language in LANGUAGES}


def text(group: str, code: str, language: Language = "en", **values: str | int) -> str:
    """The sentence of a code. A warning may be any failure as well.

    Raises `KeyError` for what the catalogue does not hold.
    """
    groups = CATALOGUE[language]
    if group == "warning" and code not in groups["warning"]:
        group = "failure"
    # In one pass: what fills a sentence in may itself look like a place.
    return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), groups[group][code])
