"""A page that a person can hand over: what was transferred, with whom, and whether the log holds.

One file of HTML without any other resource, for a screen and for paper (A4 and Letter). Texts that
came from others stand in it as text only.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .language import language, words

Row = tuple[str, str]

STYLE = """
:root { color-scheme: light; }
body { font: 11pt/1.45 system-ui, sans-serif; color: #111; margin: 2rem auto; max-width: 46rem;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
section { border-top: 1px solid #bbb; padding: 1rem 0; break-inside: avoid; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .15rem 1rem;
  margin: 0; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
p.state { border: 2px solid #1a6b3c; padding: .6rem .8rem; }
p.state.bad { border-color: #a11; color: #a11; font-weight: bold; }
ol { margin: .4rem 0 0; padding-left: 1.2rem; }
small, .small { font-size: .85rem; color: #444; }
@page { margin: 18mm; }
@media print { body { margin: 0; max-width: none; padding: 0; } }
"""


FOOT = "</html>\n"


def head(title: str) -> str:
    """How a page begins, up to its heading."""
    return (
        f'<!doctype html>\n<html lang="{language()}">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        f"<h1>{escape(title)}</h1>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def table(rows: Sequence[Row]) -> str:
    """Names and values."""
    inside = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"<dl>{inside}</dl>"


def section(heading: str, rows: Sequence[Row], steps: Sequence[Row] = ()) -> str:
    """A part of the page; `steps` are what happened, in order."""
    listed = "".join(f"<li>{escape(time)} {escape(what)}</li>" for time, what in steps)
    more = (
        f'<p class="small">{escape(words("report", "steps"))}</p><ol class="small">{listed}</ol>'
        if steps
        else ""
    )
    return f"<section><h2>{escape(heading)}</h2>{table(rows)}{more}</section>\n"
