"""A page that a person can hand over: what was transferred, with whom, and whether the log holds.

One file of HTML without any other resource, for a screen and for paper (A4 and Letter). Texts that
came from others stand in it as text only.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from html import escape

from .language import language, words

Row = tuple[str, str]
FOOT = "</html>\n"


def head(title: str) -> str:
    """How a page begins, up to its heading."""
    template = pkgutil.get_data(__name__, "report.html")
    assert template is not None
    values = {"language": language(), "title": escape(title)}
    text = template.decode()
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def element(name: str, *inside: str, kind: str = "") -> str:
    """An element; what is `inside` is HTML already. `kind` is its class."""
    begin = f'{name} class="{escape(kind)}"' if kind else name
    return f"<{begin}>{''.join(inside)}</{name}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text."""
    return element("p", escape(text), kind=kind) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Names and values."""
    inside = [element("dt", escape(name)) + element("dd", escape(value)) for name, value in rows]
    return element("dl", *inside)


def section(heading: str, rows: Sequence[Row], steps: Sequence[Row] = ()) -> str:
    """A part of the page; `steps` are what happened, in order."""
    listed = [element("li", escape(time), " ", escape(what)) for time, what in steps]
    more = paragraph(words("report", "steps"), "small") + element("ol", *listed, kind="small")
    title = element("h2", escape(heading))
    return element("section", title, table(rows), more if steps else "") + "\n"
