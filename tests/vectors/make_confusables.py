"""Writes `p2p/protocol/confusables.json` from Unicode's `confusables.txt` (UTS #39):

`python tests/vectors/make_confusables.py confusables.txt`, and then `make.py`. The file is at
https://www.unicode.org/Public/ under `security/`; its licence lies beside the written one.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from unicodedata import ucd_3_2_0 as oldest  # what it decomposes, every later version does too

TARGET = Path(__file__).parents[2] / "p2p" / "protocol" / "confusables.json"


def read(text: str) -> dict[str, str]:
    """Character by what it looks like, as Unicode has it."""
    rows = [line.split("#")[0].split(";") for line in text.splitlines() if ";" in line]
    found = {
        chr(int(source, 16)): "".join(chr(int(one, 16)) for one in target.split())
        for source, target, *_ in rows
    }
    # Unicode says `I` is like `l`, and whoever reads past case takes `I` for `i`.
    return {**found, "i": "l"}


def settled(table: dict[str, str]) -> dict[str, str]:
    """The same with every target decomposed, and as far along as the table leads."""

    def follow(text: str) -> str:
        while True:
            last = text
            text = "".join(table.get(one, one) for one in oldest.normalize("NFD", text))
            if text == last:
                return text

    return {source: follow(target) for source, target in table.items()}


def needed(table: dict[str, str]) -> dict[str, str]:
    """Without what decomposition alone brings about (`p2p/protocol/labels.py`)."""

    def derived(source: str) -> bool:
        parts = oldest.normalize("NFKD", source)
        return parts != source and "".join(table.get(one, one) for one in parts) == table[source]

    return {
        source: target
        for source, target in table.items()
        if oldest.normalize("NFD", source) == source and not derived(source)
    }


def main(path: str) -> None:
    text = Path(path).read_text(encoding="utf-8-sig")
    sources: dict[str, str] = {}
    for source, target in sorted(needed(settled(read(text))).items()):
        sources[target] = sources.get(target, "") + source
    (version,) = re.findall(r"^# Version: (.+)$", text, re.MULTILINE)
    (notice,) = re.findall(r"^# (© .+)$", text, re.MULTILINE)
    value = {"version": version, "notice": notice, "alike": dict(sorted(sources.items()))}
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    TARGET.write_text(written + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
