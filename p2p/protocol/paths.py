"""The one rule for names that come from elsewhere, the same on every system, and how to show them.

A path in a manifest is relative, of segments separated by `/`, and safe on Linux, macOS and
Windows alike, so that both sides' receipts speak of the same names. The sender escapes what it can
(`escape_segment`), the recipient refuses what is left (`check_path`); names that would fall
together on a case-insensitive or normalising file system are refused whole (`collisions`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_SEGMENT = 255  # bytes: NAME_MAX of every common file system
MAX_PATH = 1024  # bytes: PATH_MAX of macOS, the smallest of the Unix ones
MAX_SEGMENTS = 64
MAX_SHOWN = 64  # characters of a foreign string that a terminal line gets

_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)
# Windows forbids these; `:` would also name an alternate data stream there.
_NO_TEXT = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\/]')
# Shown escaped though allowed in names: format characters, bidi controls among them.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class UnsafePath(ValueError):
    """A path that must not be used. `code` says why, a key of the catalogue under `detail`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def _reserved(segment: str) -> bool:
    """Windows reserves `NUL`, `nul.txt` and even `NUL .txt`."""
    return _RESERVED.fullmatch(segment.split(".")[0].rstrip(" ")) is not None


def check_segment(segment: str) -> None:
    """Raise `UnsafePath` unless the name is safe everywhere."""
    if segment in ("", ".", ".."):
        raise UnsafePath("path_part")
    try:
        length = len(segment.encode())
    except UnicodeEncodeError:
        raise UnsafePath("not_unicode") from None
    if length > MAX_SEGMENT:
        raise UnsafePath("name_too_long")
    if _FORBIDDEN.search(segment):
        raise UnsafePath("forbidden_character")
    if segment[-1] in " .":
        raise UnsafePath("trailing_dot_or_space")
    if _reserved(segment):
        raise UnsafePath("reserved_name")


def check_path(path: str) -> tuple[str, ...]:
    """The segments of a safe relative path. Raises `UnsafePath`."""
    segments = tuple(path.split("/"))
    for segment in segments:
        check_segment(segment)
    if len(path.encode()) > MAX_PATH or len(segments) > MAX_SEGMENTS:
        raise UnsafePath("path_too_long")
    return segments


def escape_segment(segment: str) -> str:
    """A safe name as like the given one as can be: what is not allowed becomes `_`.

    Bytes that are not UTF-8, as `os.fsdecode` gives them (U+DC80 to U+DCFF), become `%E9` and so
    on, and a `%` in such a name `%25`. What has become too long is cut off at its end. Raises
    `UnsafePath` where no spelling helps: other surrogates, above 255 bytes, empty, `.`, `..`.
    """
    safe = segment
    if segment not in ("", ".", ".."):
        if _NO_TEXT.search(safe):
            safe = safe.replace("%", "%25")
            safe = _NO_TEXT.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", safe)
        safe = _end_safely(_FORBIDDEN.sub("_", safe))
        if _reserved(safe):
            safe = "_" + safe
        if safe != segment:
            safe = _cut_off(safe)
    check_segment(safe)
    return safe


def _end_safely(name: str) -> str:
    """Each trailing space or dot becomes `_`."""
    stripped = name.rstrip(" .")
    return stripped + "_" * (len(name) - len(stripped))


def _cut_off(name: str) -> str:
    while len(name.encode(errors="surrogatepass")) > MAX_SEGMENT:
        name = name[:-1]
    return _end_safely(name)


def collision_key(path: str) -> str:
    """Equal for two paths that some file system would take for one: NFKC and case folding."""
    folded = unicodedata.normalize("NFKC", path).casefold()
    return unicodedata.normalize("NFKC", folded)


def collisions(paths: Iterable[tuple[str, bool]]) -> list[tuple[str, str]]:
    """Pairs of paths that fall together; given (path, is a directory), parents are implied.

    A file and a directory of one name collide, and so do `A/x` and `a/y`: their parents would.
    """
    seen: dict[str, list[object]] = {}  # key -> [path, is a directory, is listed itself]
    implied: set[str] = set()
    pairs: list[tuple[str, str]] = []

    def meet(path: str, directory: bool, listed: bool) -> None:
        known = seen.setdefault(collision_key(path), [path, directory, False])
        if known[0] != path or known[1] != directory or (listed and known[2]):
            pairs.append((str(known[0]), path))
        known[2] = known[2] or listed

    for path, directory in paths:
        end = path.find("/")
        while end >= 0:
            if path[:end] not in implied:
                implied.add(path[:end])
                meet(path[:end], True, False)
            end = path.find("/", end + 1)
        meet(path, directory, True)
    return pairs


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """A foreign string made safe for a terminal, a log or a page.

    Control, format and bidi characters become `\\u{..}`; a long one loses its middle.
    """
    clean = "".join(
        f"\\u{{{ord(char):x}}}" if unicodedata.category(char) in _UNSEEN else char for char in text
    )
    if len(clean) > limit:
        head = limit // 2 - 1
        clean = clean[:head] + "…" + clean[-(limit - head - 1) :]
    return clean
