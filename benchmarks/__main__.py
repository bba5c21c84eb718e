"""`python3 run.py bench [WHAT]`: Handover measured, beside what it can be compared with.

local   whole runs of two command lines on this machine, in turns with magic-wormhole, scp, curl
        and the bare WebRTC engines
small   5,000 small files against one of the same size
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
import sys

from . import links, local, relay, stages
from . import server as signaling
from . import strangers as hostile
from .measure import Missing

WHATS = {
    "local": local.compared,
    "small": local.small,
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
        ("local", 5),
        ("small", 3),
        ("memory", 1),
        ("links", 3),
        ("slow", 3),
        ("stages", 3),
        ("relay", 3),
    ):
        own[name].add_argument("--rounds", type=int, default=count)
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
    own["memory"].add_argument("--gigabytes", type=float, default=20)
    add = own["links"].add_argument
    add("--rate", type=float, default=50, help="Mbit/s")
    add("--rtt", type=float, nargs="+", default=[20, 80], help="ms")
    add("--loss", type=float, nargs="+", default=[0, 0.1, 1], help="per cent")
    add("--seconds", type=float, default=15, help="that a full link would take for the file")
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
    if not words or (words[0].startswith("--") and words[0] != "--help"):
        words = ["local", *words]
    options = parser.parse_args(words)
    try:
        WHATS[options.what](options)
    except Missing as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
