"""The matrix: every pair of sites, which way carries a transfer between them, and how soon.

python -m tests.reach [--engines libdatachannel aiortc] [--servers turn|stun|none] [SITE ...]
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

from tests.confined import confine

from .cells import Cell, internet, transfer
from .network import SITES


def shown(cell: Cell) -> str:
    then = f", then {cell.ended}" if cell.ended not in ("", cell.path) else ""
    return f"{cell.path} {cell.accepted:.1f} s{then}"


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.reach", description=__doc__)
    parser.add_argument("sites", nargs="*", choices=SITES, default=SITES)
    parser.add_argument("--engines", nargs=2, default=("libdatachannel", "libdatachannel"))
    parser.add_argument("--servers", choices=("turn", "stun", "none"), default="turn")
    options = parser.parse_args()
    confine()
    print(f"| sender ({options.engines[0]}) \\ recipient ({options.engines[1]}) |", end="")
    print(" | ".join(options.sites), "|")
    print("|---" * (1 + len(options.sites)) + "|")
    found: dict[tuple[str, str], str] = {}
    for pair in itertools.product(options.sites, repeat=2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with internet(pair, folder, servers=options.servers) as net:
                found[pair] = shown(transfer(net, folder, options.engines))
        if pair[1] == options.sites[-1]:
            row = [found[pair[0], one] for one in options.sites]
            print(f"| {pair[0]} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
