"""What browsers are served, and the headers it comes with.

Two pages. The *client* is the built web client in the folder `web` (made by `hatch_build.py`,
absent in a tree that was not built). The *notice* is one page without any script; it stands
wherever a client could not be trusted or would not work: on plain http, where whoever alters the
page reads the secret in the link and browsers withhold the disk and WebCrypto.

Nothing here is read from the disk while serving, so no path of a request ever meets the disk.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

_TYPES = {
    "html": "text/html; charset=utf-8",
    "txt": "text/plain; charset=utf-8",  # the licences
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "wasm": "application/wasm",  # anything else and the browser will not compile it as it arrives
    "woff2": "font/woff2",
}

# A link whose `#` a mail filter has encoded, perhaps twice: the browser then asks for all of it,
# and the page repairs it. (A pattern of aiohttp, which decodes a path once, but for `%25`.)
MANGLED_LINK = "/{link:(?:#|%(?:25)+23).*}"

NOTICE = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
_STYLE = re.findall(r"<style>(.*?)</style>", NOTICE, re.DOTALL)[0]
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
NOTICE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# libsodium is WebAssembly; everything else is closed, and no string becomes script.
CLIENT_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types default"
)
# On every response, whatever it is. No Strict-Transport-Security: it would outlive a certificate
# of the local authority and lock people out of a host that later serves plain http.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": NOTICE_POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-store",
    }
)


def client_headers(path: str) -> dict[str, str]:
    """All headers that the client's file at this path is served with.

    Every file carries the policy, because a worker is held to that of its own response. The names
    under /assets/ hold a hash of what they name, so those never need to be asked for again.
    """
    kept = "public, max-age=31536000, immutable" if path != "/" else HEADERS["Cache-Control"]
    return {
        **HEADERS,
        "Content-Security-Policy": CLIENT_POLICY,
        "Cache-Control": kept,
        "Content-Type": _TYPES["html" if path == "/" else path.rpartition(".")[2]],
    }


@cache
def shipped() -> Mapping[str, bytes]:
    """The client by path, `/` being its page; empty in a tree that was not built."""
    return _read(files(__package__).joinpath("web"))


def _read(web: Traversable) -> Mapping[str, bytes]:
    page, assets = web.joinpath("index.html"), web.joinpath("assets")
    if not page.is_file():
        return MappingProxyType({})
    found = {"/": page.read_bytes()}
    if assets.is_dir():
        for one in assets.iterdir():
            # A kind without a type is none of ours; a file of the system (.DS_Store) even less.
            if one.is_file() and one.name.rpartition(".")[2] in _TYPES and one.name[0] != ".":
                found[f"/assets/{one.name}"] = one.read_bytes()
    return MappingProxyType(found)
