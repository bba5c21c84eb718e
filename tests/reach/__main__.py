"""The matrix: every pair of sites, which way carries a transfer between them, and how soon.

python -m tests.reach [--engines libdatachannel aiortc] [--servers turn|stun|none]
                      [--families v4 v6 both broken6] [--mtu 1280] [SITE ...]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.confined import confine

from .cells import Cell, internet, transfer
from .network import FAMILIES, MTU, SITES, Family, Site

End = tuple[Site, Family]


def shown(cell: Cell) -> str:
    then = f", then {cell.ended}" if cell.ended not in ("", cell.path) else ""
    return f"{cell.path} {cell.accepted:.1f} s{then}"


def ends(sites: Sequence[Site], families: Sequence[Family]) -> list[End]:
    """Every site with every family that makes a difference: in IPv6 there is no NAT, and the
    proxy is reached by IPv4."""
    same = {("symmetric", "v6"), ("proxy", "v6")}
    return [end for family in families for site in sites if (end := (site, family)) not in same]


def named(end: End) -> str:
    site, family = end
    return site if family == "v4" else f"{site} {family}"


def found(here: End, there: End, options: argparse.Namespace) -> str:
    """What carries a transfer from one to the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with internet(
            (here[0], there[0]),
            folder,
            servers=options.servers,
            families=(here[1], there[1]),
            mtu=options.mtu,
            icmp=not options.no_icmp,
        ) as net:
            return shown(transfer(net, folder, options.engines))


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.reach", description=__doc__)
    parser.add_argument("sites", nargs="*", choices=SITES, default=SITES)
    parser.add_argument("--engines", nargs=2, default=("libdatachannel", "libdatachannel"))
    parser.add_argument("--servers", choices=("turn", "stun", "none"), default="turn")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=("v4",))
    parser.add_argument("--mtu", type=int, default=MTU)
    parser.add_argument("--no-icmp", action="store_true", help="nobody hears of the MTU")
    options = parser.parse_args()
    confine()
    print(f"| sender ({options.engines[0]}) \\ recipient ({options.engines[1]}) |", end="")
    every = ends(options.sites, options.families)
    print(" | ".join(map(named, every)), "|")
    print("|---" * (1 + len(every)) + "|")
    for here in every:
        row = [found(here, there, options) for there in every]
        print(f"| {named(here)} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
