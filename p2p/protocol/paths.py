"""The one rule for names that come from elsewhere, the same on every system, and how to show them.

A path in a manifest is relative, of segments separated by `/`, and safe on Linux, macOS and
Windows alike, so that both sides' receipts speak of the same names. The sender escapes what it can
(`escape_segment`) and keeps apart names that would fall together on a case-insensitive or
normalising file system (`FolderNames`); the recipient refuses what is left (`check_tree`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from .codec import sha256

MAX_SEGMENT = 255  # bytes: NAME_MAX of every common file system
MAX_DECOMPOSED = 3 * MAX_SEGMENT  # bytes in NFKD: NFD takes thrice as many, U+FDFA eleven times
MAX_MARKS = 30  # in a row (UAX #15, Stream-Safe Text Format): sorting them takes quadratic time
MAX_PATH = 1024  # bytes: PATH_MAX of macOS, the smallest of the Unix ones
MAX_SEGMENTS = 64
MAX_NAMES = 200_000  # in one tree: bounded time, however deep the paths
MAX_NON_ASCII = 16 * 2**20  # bytes of the names of one tree: what is slow to normalize
MAX_SHOWN = 64  # characters of a foreign string that a terminal line gets

_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)
# Windows forbids these; `:` would also name an alternate data stream there.
_ASCII = bytes(range(128))
_NO_TEXT = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\/]')
# Marks are neither letters nor digits; what else is not, `re` cannot tell apart.
_PERHAPS_MARKS = re.compile(
    rf"(?<![^\w\x00-\x7f])[^\w\x00-\x7f]{{{MAX_MARKS + 1},}}"  # looked for once a run
)
_MARKS = re.compile(rf"(M[a-z]){{{MAX_MARKS + 1}}}")  # among general categories
# Shown escaped though allowed in names: format characters, bidi controls among them.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class UnsafePath(ValueError):
    """A path that must not be used. `code` says why, a key of the catalogue under `detail`."""

    def __init__(self, code: str, path: str = "") -> None:
        """`path` is the whole path, where there is more than a segment."""
        self.code = code
        self.path = path
        super().__init__(code)


class NamesCollide(ValueError):
    """Two paths that some file system would take for one."""

    def __init__(self, one: str, other: str) -> None:
        self.pair = one, other
        super().__init__(one, other)


class TooManyNames(ValueError):
    """A tree of more than `MAX_NAMES` files and folders, or `MAX_NON_ASCII` bytes of names."""


def _reserved(segment: str) -> bool:
    """Windows reserves `NUL`, `nul.txt` and even `NUL .txt`."""
    return _RESERVED.fullmatch(segment.split(".")[0].rstrip(" ")) is not None


def _has_too_many_marks(segment: str) -> bool:
    for run in _PERHAPS_MARKS.finditer(segment):
        categories = "".join(map(unicodedata.category, run[0]))
        if categories.count("M") > MAX_MARKS and _MARKS.search(categories):
            return True
    return False


def check_segment(segment: str) -> str:
    """What a safe name is compared by (`collision_key`). Raises `UnsafePath`."""
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
    # A mark has at least one byte more than an ASCII character.
    if length - len(segment) > MAX_MARKS and _has_too_many_marks(segment):
        raise UnsafePath("too_many_marks")
    decomposed = unicodedata.normalize("NFKD", segment)
    if len(decomposed.encode()) > MAX_DECOMPOSED:
        raise UnsafePath("name_grows")
    return _fold(decomposed)


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


def collision_key(name: str) -> str:
    """Equal for two names that some file system would take for one: NFKD and case folding."""
    return _fold(unicodedata.normalize("NFKD", name))


def _fold(decomposed: str) -> str:
    return unicodedata.normalize("NFKD", decomposed.casefold())


class FolderNames:
    """The names in one folder, kept apart: one that some file system would take for an earlier one
    gets a number, `scan~2.dcm`."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # what a name is compared by -> its last number

    def add(self, name: str, *, directory: bool) -> str:
        """A safe name, or the one it gets."""
        key = collision_key(name)
        given, number = name, self._numbers.get(key, 0)
        stem, dot, ending = ("", "", "") if directory else name.rpartition(".")
        while (taken := collision_key(given)) in self._numbers:
            number = max(number, 1) + 1
            end = f"~{number}{dot}{ending}"
            given = _fit(stem, end) or _fit(name, f"~{number}")
        self._numbers[key] = number
        self._numbers.setdefault(taken, 1)
        return given


def _fit(stem: str, end: str) -> str:
    """Both, the stem cut to what a name may have; "" where nothing is left of it."""
    while stem and len((stem + end).encode()) > MAX_SEGMENT:
        stem = stem[:-1]
    return stem and stem + end


class _Folder(NamedTuple):
    path: bytes  # with `/` at its end
    names: dict[bytes, bytes]  # digest of the key of what lies in it -> path of who named it


def check_tree(paths: Iterable[bytes]) -> None:
    """Hold all paths of a tree against the rule for names; in UTF-8, those of directories with `/`
    at their end.

    Parents are implied. A file and a directory of one name collide, and so do `A/x` and `a/y`:
    their parents would. Raises `UnsafePath`, `NamesCollide`, `TooManyNames`.
    """
    # In this order what lies in a folder comes in one go, itself first: so every name is looked at
    # once, and only of the folders above it has anything to be kept.
    above, count, non_ascii, last = [_Folder(b"", {})], 0, 0, b""
    for path in sorted(paths):
        if not path:
            raise UnsafePath("path_part")
        if path == last:
            raise _collide(path.rstrip(b"/"), path.rstrip(b"/"))
        last = path
        while not path.startswith(above[-1].path):
            above.pop()
        at = len(above[-1].path)
        while at < len(path):
            name, slash, _ = path[at:].partition(b"/")
            count += 1
            non_ascii += 0 if name.isascii() else len(name.translate(None, _ASCII))
            if count > MAX_NAMES or non_ascii > MAX_NON_ASCII:
                raise TooManyNames
            end = at + len(name)
            try:
                if end > MAX_PATH or len(above) > MAX_SEGMENTS:
                    raise UnsafePath("path_too_long")
                key = check_segment(name.decode())
            except UnsafePath as reason:
                raise UnsafePath(reason.code, path.decode()) from None
            # A digest: names of any length take the same room.
            other = above[-1].names.setdefault(sha256(key.encode()), path)
            if other is not path:
                raise _collide(other[:at] + other[at:].partition(b"/")[0], path[:end])
            if slash:
                above.append(_Folder(path[: end + 1], {}))
            at = end + 1


def _collide(one: bytes, other: bytes) -> NamesCollide:
    return NamesCollide(one.decode(), other.decode())


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
