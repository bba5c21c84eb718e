"""`python3 run.py bench [WHAT]`: Handover measured, beside what it can be compared with.

`bench --quick --compare` says in two minutes whether a change costs CPU time. README.md says what
each measures and keeps the tables that --record writes and --compare reads.

quick   (or --quick) transfers of 256 MiB, beside curl, the bare engine and the bare primitives
local   whole runs of two command lines on this machine, in turns with magic-wormhole, scp, curl
        and the bare WebRTC engines
small   5,000 small files against one of the same size, and tar through ssh
lanes   1, 2 and 4 direct lanes, each end on a core of its own
memory  20 GB of random bytes, and whether memory grows on the way
links   emulated links with delay and loss, beside TCP and the bare engine
slow    a CT over a slow line
stages  CPU seconds for a gigabyte, by stage and side
strangers  hostile sockets at the server of a running transfer
server  a signaling server with many who wait, one node and two, beside a mailbox server
relay   two sites behind NAT through coturn, beside coturn's own load generator
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from datetime import date

from . import kept, lanes, links, local, relay, stages
from . import server as signaling
from . import strangers as hostile
from .measure import FAILED, Missing, machine, table

KEPT: dict[str, Callable[[argparse.Namespace], list[list[str]]]] = {
    "quick": local.quick,
    "local": local.compared,
    "small": local.small,
    "lanes": lanes.curve,
}
WHATS: dict[str, Callable[[argparse.Namespace], list[list[str]] | None]] = {
    **KEPT,
    "memory": local.memory,
    "links": links.links,
    "slow": links.slow,
    "stages": stages.stages,
    "strangers": hostile.strangers,
    "server": signaling.server,
    "relay": relay.relay,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whats = parser.add_subparsers(dest="what", required=True)
    own = {name: whats.add_parser(name, description=what.__doc__) for name, what in WHATS.items()}
    for name, count in (
        ("quick", 3),
        ("local", 5),
        ("small", 5),
        ("lanes", 5),
        ("memory", 1),
        ("links", 3),
        ("slow", 5),
        ("stages", 5),
        ("relay", 5),
    ):
        own[name].add_argument("--rounds", type=int, default=count)
    for name in KEPT:
        add = own[name].add_mutually_exclusive_group().add_argument
        add("--record", action="store_true", help="keep this table in benchmarks/README.md")
        add("--compare", action="store_true", help="with the one kept; exit code 1: a regression")
    own["quick"].add_argument("--size", type=int, default=256, help="MiB")
    add = own["local"].add_argument
    add("--size", type=int, default=1024, help="MiB")
    add("--slow-size", type=int, default=64, help="MiB at most for aiortc; 0: not at all")
    add("--only", nargs="+", metavar="WORD", help="rows with one of these words in the name")
    add("--send", default="", help='more arguments for the sender: --send="--expires 30m"')
    add("--receive", default="", help="and for the recipient")
    add(
        "--also",
        action="append",
        default=[],
        metavar="'NAME: ARGUMENTS / ARGUMENTS'",
        help="one more row of Handover, with these arguments for the sender and the recipient",
    )
    own["small"].add_argument("--files", type=int, default=5000)
    own["small"].add_argument("--size", type=int, default=local.SMALL, help="bytes of each")
    own["lanes"].add_argument("--size", type=int, default=1024, help="MiB")
    own["memory"].add_argument("--gigabytes", type=float, default=20)
    add = own["links"].add_argument
    add("--rate", type=float, default=50, help="Mbit/s")
    add("--rtt", type=float, nargs="+", default=[20, 80], help="ms")
    add("--loss", type=float, nargs="+", default=[0, 0.1, 1], help="per cent")
    add("--seconds", type=float, default=15, help="that a full link would take for the file")
    add("--only", nargs="+", metavar="WORD", help="rows with one of these words in the name")
    add = own["slow"].add_argument
    add("--rate", type=float, default=20, help="Mbit/s")
    add("--rtt", type=float, default=20, help="ms")
    add("--size", type=int, default=48, help="MiB")
    own["stages"].add_argument("--size", type=int, default=512, help="MiB")
    own["relay"].add_argument("--size", type=int, default=128, help="MiB")
    add = own["strangers"].add_argument
    add("--size", type=int, default=2048, help="MiB")
    add("--limit", default="", help="of the transfer, as of `send`: 50M")
    add("--kinds", nargs="+", choices=hostile.KINDS, default=hostile.KINDS)
    add("--counts", nargs="+", type=int, default=hostile.COUNTS, help="of sockets")
    add("--paces", type=float, default=1000, help="things that all strangers do, a second")
    add("--addresses", type=int, default=20, help="that they come from")
    add = own["server"].add_argument
    add("--counts", nargs="+", type=int, default=(1000, 9000), help="of hosts that wait")
    add("--pairs", type=int, default=signaling.PAIRS, help="that are introduced, many at once")
    add("--nodes", type=int, default=2, help="of the server that has several")
    add("--crowd", type=int, default=0, help="further hosts that wait, in processes of their own")
    add("--only", nargs="+", metavar="WORD", help="servers with one of these words in the name")
    words = sys.argv[1:]
    if "--quick" in words:
        words = ["quick", *(word for word in words if word != "--quick")]
    elif not words or (words[0].startswith("--") and words[0] != "--help"):
        words = ["local", *words]
    options = parser.parse_args(words)
    try:
        if options.what not in KEPT:
            WHATS[options.what](options)
        else:
            sys.exit(measure_and_keep(options))
    except Missing as missing:
        sys.exit(str(missing))


def measure_and_keep(options: argparse.Namespace) -> int:
    """Measure, and record or compare if asked to: the exit code."""
    what, then = options.what, None
    if options.compare and (then := kept.read(kept.README.read_text(), what)) is None:
        raise Missing(f"no table of {what} is kept yet: measure one with --record, before a change")
    lines = KEPT[what](options)
    command = f"python3 run.py bench {shlex.join(sys.argv[1:])}"
    now = kept.Kept(date.today().isoformat(), command, machine(), lines)
    if options.record:
        if failed := [line[0] for line in lines if line[1] == FAILED]:
            sys.exit(f"not recorded, for this failed: {'; '.join(failed)}")
        kept.README.write_text(kept.write(kept.README.read_text(), what, now))
    if then is None:
        return 0
    found = kept.compare(then, now)
    print(f"\nHeld against the table of {then.date} (`{then.command}`):\n")
    if found.lines:
        table(("case", "measure", "then", "now", "change"), found.lines)
    for note in found.notes:
        print(f"\n{note}")
    for one in found.regressions:
        print(f"\nRegression: {one}")
    if not found.compared:
        print("\nNothing of Handover could be compared.")
    elif found.passed:
        print(f"\nNo regression: nothing takes over {kept.LIMIT:g} % more CPU seconds for a GB.")
    return int(not found.passed)


if __name__ == "__main__":
    main()
