"""An internet with two sites, in network namespaces of this process's own.

    sender 10.66.1.2 -- gateway 203.0.1.2 -- internet 203.0.113.1 -- gateway 203.0.2.2 -- recipient
                                                 |
                                            relay 203.0.113.2

The signaling server stands in the internet itself. What a gateway does is its `Site`, and which
addresses the computer behind it has, its `Family`. In IPv6 there is no NAT: a site's network is
2001:db8:1:1::/64 or 2001:db8:2:1::/64, and its gateway a stateful firewall.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from tests.confined import die_with_parent, mount

Site = Literal["open", "cone", "symmetric", "no udp", "443 only", "proxy", "shut"]
SITES: tuple[Site, ...] = ("open", "cone", "symmetric", "no udp", "443 only", "proxy")
# broken6: IPv4, and an IPv6 address and route with which nothing comes through, nor any error back.
Family = Literal["v4", "v6", "both", "broken6"]
FAMILIES: tuple[Family, ...] = ("v4", "v6", "both", "broken6")
IPV4_ONLY: tuple[Family, Family] = ("v4", "v4")
# Of the signaling server, and of coturn.
INTERNET, RELAY = "203.0.113.1", "203.0.113.2"
INTERNET6, RELAY6 = "2001:db8::1", "2001:db8::2"
TURN = "turn.test"
NAMES = {"handover.test": (INTERNET, INTERNET6), TURN: (RELAY, RELAY6)}
# Every gateway answers for these names. Browsers ask a DNS server for the address of a STUN or TURN
# server, and look into no file.
RESOLVERS = ("192.0.2.53", "2001:db8:53::53")
RESOLVER_FILE = Path("/etc/resolv.conf")
MTU = 1500  # bytes
START_SECONDS = 30.0  # of a server, on a busy machine
SIDES = ("sender", "recipient")
SECRET = "a secret that only tests have"
SHIPPED = Path(__file__).parents[2] / "deploy" / "coturn.conf"


def _at_once(address: str) -> tuple[str, ...]:
    """Nobody is asked whether they have an IPv6 address already; that takes a second."""
    return ("nodad",) if ":" in address else ()


def run(*command: str, **options: object) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload,no-any-return]


@contextlib.contextmanager
def cable() -> Iterator[dict[str, tuple[str, ...]]]:
    """One between two computers, which have given themselves addresses (RFC 3927): how to run a
    command on either. Only in a process that is confined."""
    names = {side: f"cable-{os.getpid()}-{side}" for side in SIDES}
    try:
        for number, name in enumerate(names.values(), 1):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            if number == 2:
                there = ("peer", "name", "wire", "netns", name)
                run("ip", "-n", names["sender"], "link", "add", "wire", "type", "veth", *there)
        for number, name in enumerate(names.values(), 1):
            run("ip", "-n", name, "addr", "add", f"169.254.{number}.7/16", "dev", "wire")
            run("ip", "-n", name, "link", "set", "wire", "up")
        yield {side: ("ip", "netns", "exec", name) for side, name in names.items()}
    finally:
        for name in names.values():
            subprocess.run(("ip", "netns", "del", name), capture_output=True)


class Internet:
    """Namespaces until `close`. Only in a process that is confined (`tests.confined`)."""

    def __init__(
        self,
        sites: Sequence[Site],
        folder: Path,
        families: Sequence[Family] = IPV4_ONLY,
        mtu: int = MTU,
        *,
        icmp: bool = True,
    ) -> None:
        """`mtu`: between gateways and the internet, in bytes; without `icmp` nobody learns of it
        ("packet too big" is dropped), but by TCP, whose segments gateways bound then, as those in
        front of a narrow link do: without that no page loads either."""
        self._names = {
            one: f"reach-{os.getpid()}-{one}"
            for one in ("internet", "relay", *SIDES, *(f"{side}-gateway" for side in SIDES))
        }
        self.prefixes = {k: ("ip", "netns", "exec", name) for k, name in self._names.items()}
        # Peers reach the servers by address where there is one family, else by name.
        by_name = tuple(families) != IPV4_ONLY
        self.server, self._turn = NAMES if by_name else (INTERNET, RELAY)
        self.certificate, self.key = folder / "servers.pem", folder / "servers.key"
        self.authority = folder / "authority.pem"
        trusted = {"SSL_CERT_FILE": str(self.authority)}
        self.environments = {side: dict(trusted) for side in SIDES}  # of peers
        self.socks: dict[
            str, str
        ] = {}  # SOCKS5 servers of sites with a proxy: login, host and port
        self._folder, self._processes = folder, list[subprocess.Popen[bytes]]()
        self._mtu, self._icmp, self._named = mtu, icmp, False
        self._ways: dict[str, list[tuple[str, str]]] = {}  # to each site: network, gateway
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for name in self._names.values():
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
                self._set(name, "net.ipv4.ip_forward", 1)
                self._set(name, "net.ipv6.conf.all.forwarding", 1)
            for side, family in zip(SIDES, families, strict=True):
                self._set(self._names[side], "net.ipv6.conf.all.disable_ipv6", family == "v4")
                self._set(self._names[side], "net.ipv6.conf.default.disable_ipv6", family == "v4")
            self._certify()
            self._name()
            here, there = ("internet", "relay"), ("relay", "wire")
            self._link(here, there, "203.0.113", "2001:db8::")
            self._route("relay", "203.0.113", "2001:db8::")
            for number, (side, site, family) in enumerate(
                zip(SIDES, sites, families, strict=True), 1
            ):
                self._connect(side, site, family, number)
            undo.pop_all()

    def _certify(self) -> None:
        """As browsers want it: an authority, and a certificate of the servers that is none itself."""
        made = (
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2"),
        )
        key = str(self._folder / "authority.key")
        own = ("-subj", "/CN=authority", "-addext", "keyUsage=critical,keyCertSign")
        run(*made, *own, "-keyout", key, "-out", str(self.authority))
        names = [f"DNS:{name}" for name in NAMES]
        names += [f"IP:{address}" for both in NAMES.values() for address in both]
        run(
            *(*made, "-subj", "/CN=servers", "-CA", str(self.authority), "-CAkey", key),
            *("-addext", f"subjectAltName={','.join(names)}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", "extendedKeyUsage=serverAuth"),
            *("-keyout", str(self.key), "-out", str(self.certificate)),
        )

    def _name(self) -> None:
        """Have all ask their gateway for names; like most programs, they ask for both families."""
        own = self._folder / "resolv.conf"
        own.write_text("".join(f"nameserver {address}\n" for address in RESOLVERS))
        mount("--bind", own, RESOLVER_FILE)
        self._named = True

    def _start_resolver(self, gateway: str) -> None:
        name = self._names[gateway]
        for address in RESOLVERS:
            run("ip", "-n", name, "addr", "add", address, "dev", "lo", *_at_once(address))
        known = [f"--address=/{host}/{one}" for host, both in NAMES.items() for one in both]
        own = ("--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts")
        self.start(gateway, "dnsmasq", *own, *known)
        self._await(gateway, "udp 0.0.0.0", "udp ::", port=53)

    def _set(self, name: str, key: str, value: int) -> None:
        run("ip", "netns", "exec", name, "sysctl", "-qw", f"{key}={int(value)}")

    def _link(
        self,
        here: tuple[str, str],
        there: tuple[str, str],
        net: str,
        net6: str,
        mtu: int = MTU,
    ) -> None:
        """A wire between two devices, each of a namespace; the first is .1 of both networks."""
        ends = [(self._names[name], device) for name, device in (here, there)]
        run(
            *("ip", "link", "add", ends[0][1], "netns", ends[0][0], "type", "veth"),
            *("peer", "name", ends[1][1], "netns", ends[1][0]),
        )
        for number, (name, device) in enumerate(ends, 1):
            for address in filter(
                None, (net and f"{net}.{number}/24", net6 and f"{net6}{number}/64")
            ):
                run("ip", "-n", name, "addr", "add", address, "dev", device, *_at_once(address))
            run("ip", "-n", name, "link", "set", device, "mtu", str(mtu), "up")

    def _route(self, name: str, net: str, net6: str) -> None:
        """To everywhere, by the first of these networks."""
        for gateway in filter(None, (net and f"{net}.1", net6 and f"{net6}1")):
            run("ip", "-n", self._names[name], "route", "add", "default", "via", gateway)

    def _connect(self, side: str, site: Site, family: Family, number: int) -> None:
        gateway = f"{side}-gateway"
        outer, outer6 = f"203.0.{number}", f"2001:db8:{number}::"
        inner = f"192.0.{1 + number}" if site == "open" else f"10.66.{number}"
        inner6 = f"2001:db8:{number}:1::"
        self._link(("internet", side), (gateway, "outer"), outer, outer6, self._mtu)
        self._route(gateway, outer, outer6)
        own = ("" if family == "v6" else inner, "" if family == "v4" else inner6)
        self._link((gateway, "inner"), (side, "wire"), *own)
        self._route(side, *own)
        self._ways[side] = [(f"{inner6}/64", f"{outer6}2")]
        if site == "open":
            self._ways[side].append((f"{inner}.0/24", f"{outer}.2"))
        self._lead_to(side)
        self._filter(gateway, site, broken6=family == "broken6")
        self._start_resolver(gateway)
        if site == "proxy":
            self._start_proxy(side, f"{inner}.1")

    def _lead_to(self, side: str) -> None:
        """The internet's ways to a site."""
        for net, gateway in self._ways[side]:
            run("ip", "-n", self._names["internet"], "route", "replace", net, "via", gateway)

    def _filter(self, gateway: str, site: Site, *, broken6: bool) -> None:
        """Nothing comes in unasked, not even to the gateway: there a connection tracker would give
        a port to it, and a hole could not be punched where a real router's could."""
        ports = "random,fully-random" if site == "symmetric" else ""
        out = {
            "no udp": ["meta l4proto udp drop"],
            "443 only": ["tcp dport != 443 drop", "meta l4proto udp drop"],
            "proxy": ["drop"],
            "shut": [f"ip daddr != {INTERNET} drop", f"ip6 daddr != {INTERNET6} drop"],
        }.get(site, [])
        unasked = (
            ""
            if site == "open"
            else """
            iifname "outer" ct state established,related accept
            iifname "outer" drop"""
        )
        nat = "" if site == "open" else f'meta nfproto ipv4 oifname "outer" masquerade {ports}'
        silent = (
            ""
            if self._icmp
            else """
            icmp type destination-unreachable drop
            icmpv6 type packet-too-big drop"""
        )
        bounded = "" if self._icmp else "tcp flags syn tcp option maxseg size set rt mtu"
        rules = f"""
        table inet site {{
          chain nat {{
            type nat hook postrouting priority 100
            {nat}
          }}
          chain forward {{
            type filter hook forward priority 0
            {"meta nfproto ipv6 drop" if broken6 else ""}
            {silent}
            {bounded}
            {"".join(f'iifname "inner" {rule}{chr(10)}' for rule in out)}
            {unasked}
          }}
          chain input {{
            type filter hook input priority 0
            icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
            {unasked}
          }}
          chain output {{
            type filter hook output priority 0
            {silent}
          }}
        }}"""
        run(*self.prefixes[gateway], "nft", "-f", "-", input=rules)

    def start(self, where: str, *command: str) -> subprocess.Popen[bytes]:
        """A server, until `close`."""
        log = open(self._folder / f"{where}-{len(self._processes)}.log", "wb")  # noqa: SIM115
        with log:
            process = subprocess.Popen(
                (*self.prefixes[where], *command),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        self._processes.append(process)
        return process

    def _await(self, where: str, *sockets: str, port: int) -> None:
        """Until a server has these ("tcp" or "udp", and the address)."""
        ends = time.monotonic() + START_SECONDS
        while missing := [one for one in sockets if not self._has(where, one, port)]:
            assert time.monotonic() < ends, (where, missing, port)
            time.sleep(0.05)

    def _has(self, where: str, one: str, port: int) -> bool:
        kind, address = one.split()
        own = ("ss", "-Hln", f"--{kind}", f"src [{address}]:{port}")
        return bool(run(*self.prefixes[where], *own))

    def _start_proxy(self, side: str, address: str) -> None:
        settings = self._folder / f"{side}-tinyproxy.conf"
        settings.write_text(
            f"Port 8888\nListen {address}\nTimeout 600\nConnectPort 443\nBasicAuth staff secret\n"
        )
        self.start(f"{side}-gateway", "tinyproxy", "-d", "-c", str(settings))
        self.environments[side]["HTTPS_PROXY"] = f"http://staff:secret@{address}:8888"
        own = ("-i", address, "-u", "staff", "-P", "secret")
        self.start(f"{side}-gateway", "microsocks", *own)
        self.socks[side] = f"staff:secret@{address}:1080"

    def relay(self) -> tuple[str, ...]:
        """Start coturn as it is shipped; its URLs."""
        settings = self._folder / "coturn.conf"
        own = f"""
listening-ip={RELAY}
listening-ip={RELAY6}
relay-ip={RELAY}
relay-ip={RELAY6}
static-auth-secret={SECRET}
allowed-peer-ip={RELAY}
allowed-peer-ip={RELAY6}
cert={self.certificate}
pkey={self.key}
pidfile={self._folder}/coturn.pid
"""
        settings.write_text(SHIPPED.read_text() + own)
        self._start_relay()
        return (
            f"stun:{self._turn}",
            f"turn:{self._turn}?transport=udp",
            f"turn:{self._turn}?transport=tcp",
            f"turns:{TURN}:443",  # Firefox takes no address here
        )

    def _start_relay(self) -> None:
        own = ("-c", str(self._folder / "coturn.conf"), "--userdb", str(self._folder / "db"))
        self._relay = self.start("relay", "turnserver", *own)
        # It opens one socket after another, and a relay whose TCP is refused is given up.
        every = (f"{kind} {one}" for kind in ("tcp", "udp") for one in (RELAY, RELAY6))
        self._await("relay", *every, port=443)

    def restart_relay(self) -> None:
        """It forgets all allocations."""
        self._relay.kill()
        self._relay.wait()
        self._start_relay()

    def cut(self, side: str) -> None:
        """Pull the cable between a site and the internet."""
        internet = self._names["internet"]
        self._set(internet, f"net.ipv6.conf.{side}.keep_addr_on_down", 1)
        run("ip", "-n", internet, "link", "set", side, "down")

    def mend(self, side: str) -> None:
        """Plug it in again; the kernel has forgotten what led over it."""
        run("ip", "-n", self._names["internet"], "link", "set", side, "up")
        self._lead_to(side)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for name in self._names.values():
            subprocess.run(("ip", "netns", "del", name), capture_output=True)
        if self._named:
            subprocess.run(("umount", "-l", RESOLVER_FILE), check=True)
            self._named = False
