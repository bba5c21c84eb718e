"""An internet with two sites, in network namespaces of this process's own.

    sender 10.66.1.2 -- gateway 203.0.1.2 -- internet 203.0.113.1 -- gateway 203.0.2.2 -- recipient

The signaling server and the relay stand in the internet. What a gateway does is its `Site`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.confined import die_with_parent

Site = Literal["open", "cone", "symmetric", "no udp", "443 only", "proxy", "shut"]
SITES: tuple[Site, ...] = ("open", "cone", "symmetric", "no udp", "443 only", "proxy")
INTERNET, RELAY = "203.0.113.1", "203.0.113.2"  # of the signaling server, and of coturn
SIDES = ("sender", "recipient")
SECRET = "a secret that only tests have"
SHIPPED = Path(__file__).parents[2] / "deploy" / "coturn.conf"


def run(*command: str, **options: object) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload,no-any-return]


class Internet:
    """Namespaces until `close`."""

    def __init__(self, sites: Sequence[Site], folder: Path) -> None:
        self._names = {
            one: f"reach-{os.getpid()}-{one}"
            for one in ("internet", *SIDES, *(f"{side}-gateway" for side in SIDES))
        }
        self.prefixes = {k: ("ip", "netns", "exec", name) for k, name in self._names.items()}
        self.certificate, self.key = folder / "servers.pem", folder / "servers.key"
        trusted = {"SSL_CERT_FILE": str(self.certificate)}
        self.environments = {side: dict(trusted) for side in SIDES}  # of peers
        self._folder, self._processes = folder, list[subprocess.Popen[bytes]]()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for name in self._names.values():
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
                self._set(name, "net.ipv6.conf.all.disable_ipv6", 1)
                self._set(name, "net.ipv6.conf.default.disable_ipv6", 1)
                self._set(name, "net.ipv4.ip_forward", 1)
            internet = self._names["internet"]
            self._certify()
            for address in (INTERNET, RELAY):
                run("ip", "-n", internet, "addr", "add", f"{address}/32", "dev", "lo")
            for number, (side, site) in enumerate(zip(SIDES, sites, strict=True), 1):
                self._connect(side, site, number)
            undo.pop_all()

    def _certify(self) -> None:
        names = f"subjectAltName=IP:{INTERNET},IP:{RELAY}"
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=servers", "-addext", names),
            *("-keyout", str(self.key), "-out", str(self.certificate)),
        )

    def _set(self, name: str, key: str, value: int) -> None:
        run("ip", "netns", "exec", name, "sysctl", "-qw", f"{key}={value}")

    def _connect(self, side: str, site: Site, number: int) -> None:
        internet, gateway = self._names["internet"], self._names[f"{side}-gateway"]
        inner, outer = self._names[side], f"203.0.{number}"
        run(
            *("ip", "link", "add", "outer", "netns", gateway, "type", "veth"),
            *("peer", "name", side, "netns", internet),
        )
        run("ip", "-n", internet, "addr", "add", f"{outer}.1/24", "dev", side)
        run("ip", "-n", internet, "link", "set", side, "up")
        run("ip", "-n", gateway, "addr", "add", f"{outer}.2/24", "dev", "outer")
        run("ip", "-n", gateway, "link", "set", "outer", "up")
        run(
            *("ip", "link", "add", "inner", "netns", gateway, "type", "veth"),
            *("peer", "name", "wire", "netns", inner),
        )
        net = f"192.0.{1 + number}" if site == "open" else f"10.66.{number}"
        run("ip", "-n", gateway, "addr", "add", f"{net}.1/24", "dev", "inner")
        run("ip", "-n", gateway, "link", "set", "inner", "up")
        run("ip", "-n", inner, "addr", "add", f"{net}.2/24", "dev", "wire")
        run("ip", "-n", inner, "link", "set", "wire", "up")
        run("ip", "-n", inner, "route", "add", "default", "via", f"{net}.1")
        run("ip", "-n", gateway, "route", "add", "default", "via", f"{outer}.1")
        if site == "open":
            run("ip", "-n", internet, "route", "add", f"{net}.0/24", "via", f"{outer}.2")
            return
        self._filter(gateway, site)
        if site == "proxy":
            self._start_proxy(side, f"{net}.1")

    def _filter(self, gateway: str, site: Site) -> None:
        """Nothing comes in unasked, not even to the gateway: there a connection tracker would give
        a port to it, and a hole could not be punched where a real router's could."""
        ports = "random,fully-random" if site == "symmetric" else ""
        out = {
            "no udp": 'iifname "inner" meta l4proto udp drop',
            "443 only": 'iifname "inner" tcp dport != 443 drop; iifname "inner" meta l4proto udp drop',
            "proxy": 'iifname "inner" drop',
            "shut": f'iifname "inner" ip daddr != {INTERNET} drop',
        }.get(site, "")
        rules = f"""
        table ip site {{
          chain nat {{
            type nat hook postrouting priority 100; oifname "outer" masquerade {ports};
          }}
          chain forward {{
            type filter hook forward priority 0;
            {out.replace(";", chr(10))}
            iifname "outer" ct state established,related accept
            iifname "outer" drop
          }}
          chain input {{
            type filter hook input priority 0;
            iifname "outer" ct state established,related accept
            iifname "outer" drop
          }}
        }}"""
        run("ip", "netns", "exec", gateway, "nft", "-f", "-", input=rules)

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

    def _start_proxy(self, side: str, address: str) -> None:
        settings = self._folder / f"{side}-tinyproxy.conf"
        settings.write_text(
            f"Port 8888\nListen {address}\nTimeout 600\nConnectPort 443\nBasicAuth staff secret\n"
        )
        self.start(f"{side}-gateway", "tinyproxy", "-d", "-c", str(settings))
        self.environments[side]["HTTPS_PROXY"] = f"http://staff:secret@{address}:8888"

    def relay(self) -> tuple[str, ...]:
        """Start coturn as it is shipped; its URLs."""
        settings = self._folder / "coturn.conf"
        own = f"""
listening-ip={RELAY}
relay-ip={RELAY}
static-auth-secret={SECRET}
allowed-peer-ip={RELAY}
cert={self.certificate}
pkey={self.key}
pidfile={self._folder}/coturn.pid
"""
        settings.write_text(SHIPPED.read_text() + own)
        self._start_relay()
        return (
            f"stun:{RELAY}",
            f"turn:{RELAY}?transport=udp",
            f"turn:{RELAY}?transport=tcp",
            f"turns:{RELAY}:443",
        )

    def _start_relay(self) -> None:
        own = ("-c", str(self._folder / "coturn.conf"), "--userdb", str(self._folder / "db"))
        self._relay = self.start("internet", "turnserver", *own)

    def restart_relay(self) -> None:
        """It forgets all allocations."""
        self._relay.kill()
        self._relay.wait()
        self._start_relay()

    def cut(self, side: str) -> None:
        """Pull the cable between a site and the internet."""
        run("ip", "-n", self._names["internet"], "link", "set", side, "down")

    def mend(self, side: str) -> None:
        """Plug it in again."""
        run("ip", "-n", self._names["internet"], "link", "set", side, "up")

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for name in self._names.values():
            subprocess.run(("ip", "netns", "del", name), capture_output=True)
