"""Every sentence that a person reads, in every language: one catalogue for all programs.

`en.json` and `de.json` beside this file hold groups of sentences by code; the web client is built
with the same files. `{name}` stands for what fills a sentence in; it is safe to show already, and
may be a phrase of the catalogue itself (`Detail`).
"""

from __future__ import annotations

import errno
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

    def fill(place: re.Match[str]) -> str:
        value = values.get(place[1], place[0])
        return value.text_in(language) if isinstance(value, Detail) else str(value)

    # In one pass: what fills a sentence in may itself look like a place.
    return _PLACE.sub(fill, groups[group][code])


class Detail(str):
    """A phrase that fills a failure's sentence in, from the catalogue's group `detail`. As text it
    is English, as `--json` prints it; `text_in` has it in other languages."""

    code: str
    values: dict[str, str | int]

    def __new__(cls, code: str, **values: str | int) -> Detail:
        """Raises `KeyError` for what the catalogue does not hold."""
        made = super().__new__(cls, text("detail", code, "en", **values))
        made.code, made.values = code, values
        return made

    def text_in(self, language: Language) -> str:
        """The phrase in a language."""
        return text("detail", self.code, language, **self.values)


def detail_of(code: str) -> str:
    """The phrase of a code that somebody else told; the code itself, where it is not known."""
    return Detail(code) if code in CATALOGUE["en"]["detail"] else code


def os_detail(error: OSError, otherwise: str = "disk_failed") -> str:
    """What the system says, or we do in its place, without any path; `otherwise` is the phrase
    where it says nothing."""
    if isinstance(error.strerror, Detail):
        return error.strerror
    name = errno.errorcode.get(error.errno or 0, "").lower()
    if name in CATALOGUE["en"]["detail"]:
        return Detail(name)
    return error.strerror.lower() if error.strerror else Detail(otherwise)
