"""Whether a server gives browsers the web client that this installation ships.

A browser runs whatever page the server hands it, and that page reads the secret in the link. This
compares what one server hands out now, here, with what is installed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import urljoin, urlsplit

import aiohttp

from ..protocol.link import read_origin
from ..protocol.paths import shown
from ..protocol.sentences import Detail
from .http import body, session
from .proxies import NONE, Proxies, first_that_reaches

NO_PROXIES = Proxies(NONE)
ALL_SECONDS = 120.0
MAX_PAGE = 1 << 18  # of a page that is not ours, as far as it is searched for references
MAX_REFERENCES = 20  # that are listed
# With one of these the same bytes make another page: another script or place is brought in, or
# what is compared here is not what a browser unpacks.
_UNWANTED = ("Link", "Refresh", "Content-Encoding", "Service-Worker-Allowed")
_REFERRING = {"src", "href", "srcset", "imagesrcset", "data", "action", "formaction", "poster"}


@dataclass(frozen=True)
class Finding:
    """What was found about one path. `detail` is safe to show."""

    path: str
    verdict: Literal["same", "differs", "missing", "not shipped"]
    detail: str = ""


async def compare(
    url: str,
    shipped: Mapping[str, bytes],
    headers: Callable[[str], Mapping[str, str]],
    ca: Path | None = None,
    proxies: Proxies = NO_PROXIES,
) -> list[Finding]:
    """Each shipped file beside what the server at `url` gives for it, and what its page refers to.

    `headers` are those expected with a path, `ca` a further certificate to trust. Only the origin
    of `url` is used: a whole link may be given, and its secret goes nowhere. Redirects are not
    followed. The server is reached as `proxies` says. Raises `Failure`.
    """
    origin = read_origin(url)
    parts = urlsplit(origin)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    ways = proxies.ways(parts.scheme, parts.hostname or "", port)
    return await first_that_reaches(
        ways, lambda proxy: _compare(origin, shipped, headers, ca, proxy), None
    )


async def _compare(
    origin: str,
    shipped: Mapping[str, bytes],
    headers: Callable[[str], Mapping[str, str]],
    ca: Path | None,
    proxy: str,
) -> list[Finding]:
    # The second is what browsers say where they hold the origin for secure.
    headers_sent = {"Accept-Encoding": "identity", "Sec-Fetch-Mode": "navigate"}
    async with session(origin, ca, proxy, ALL_SECONDS, headers_sent) as client:
        findings = []
        for path, wanted in shipped.items():
            async with client.get(origin + path, allow_redirects=False) as answer:
                limit = max(len(wanted), MAX_PAGE if path == "/" else 0)
                got = await body(answer, limit)
                findings.append(_judge(path, wanted, headers(path), answer, got))
            if path == "/":
                findings += _references(origin, got, shipped)
        return findings


def _judge(
    path: str,
    wanted: bytes,
    headers: Mapping[str, str],
    answer: aiohttp.ClientResponse,
    got: bytes,
) -> Finding:
    if answer.status != 200:
        return Finding(path, "missing", Detail("status", status=answer.status))
    wrong = [name for name, value in headers.items() if answer.headers.getall(name, []) != [value]]
    wrong += [name for name in _UNWANTED if name in answer.headers]
    parts = ["content"] * (got != wanted) + wrong
    return Finding(path, "differs" if parts else "same", ", ".join(parts))


def _references(origin: str, page: bytes, shipped: Mapping[str, bytes]) -> list[Finding]:
    """What the page refers to and this installation does not ship."""
    parser = _References()
    parser.feed(page.decode(errors="replace"))
    parser.close()
    foreign: dict[str, None] = {}
    for reference in parser.found:
        try:
            whole = urlsplit(urljoin(f"{origin}/", reference))
        except ValueError:
            foreign[reference] = None
            continue
        ours = f"{whole.scheme}://{whole.netloc}" == origin and not whole.query
        if whole.scheme != "data" and not (ours and (whole.path or "/") in shipped):
            foreign[reference] = None
    return [Finding(shown(one, 128), "not shipped") for one in list(foreign)[:MAX_REFERENCES]]


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name.rpartition(":")[2] in _REFERRING and value:
                self.found.append(value.strip())
