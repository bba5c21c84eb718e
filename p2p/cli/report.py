"""A page that a person can hand over: what was transferred, with whom, and whether the log holds.

One file of HTML without any other resource, for a screen and for paper (A4 and Letter). Texts that
came from others stand in it as text only.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import click

from ..api import Failure, os_detail, replace_with
from .language import language, words
from .terminal import fail

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


def section(
    heading: str, rows: Sequence[Row], steps: Sequence[Row] = (), texts: Sequence[str] = ()
) -> str:
    """A part of the page; `steps` are what happened, in order. Without a heading where it is ""."""
    listed = [element("li", escape(time), " ", escape(what)) for time, what in steps]
    more = paragraph(words("report", "steps"), "small") + element("ol", *listed, kind="small")
    title = element("h2", escape(heading)) if heading else ""
    said = "".join(map(paragraph, texts))
    rest = (table(rows) if rows else "", said, more if steps else "")
    return element("section", title, *rest) + "\n"


def grid(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A part of the page that is a table, row by row, for there may be very many."""
    yield element("h2", escape(heading)) + "\n<table>"
    yield element("thead", element("tr", *(element("th", escape(one)) for one in columns)))
    for row in rows:
        yield element("tr", *(element("td", escape(cell)) for cell in row)) + "\n"
    yield "</table>\n"


def write(file: Path, lines: Iterable[str | bytes]) -> None:
    """Write what is handed over, for its owner alone; `-` is standard output. Fails with a
    sentence."""
    try:
        if str(file) == "-":
            for line in lines:
                click.echo(line, nl=False)
        else:
            parts = (line.encode() if isinstance(line, str) else line for line in lines)
            replace_with(file.absolute(), parts)
    except OSError as error:
        fail(Failure("not_writable", os_detail(error)))
