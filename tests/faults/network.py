"""Three machines in network namespaces: the sender's, a router between, and the recipient's.

    sender 10.77.1.2 -- 10.77.1.1 router 10.77.2.1 -- 10.77.2.2 recipient

`Network` pulls and plugs cables, moves a machine to another address, and puts the emulator between
the two: the router then routes what comes in by either cable into a TUN device, where a program in
C (`emulator.c`) delays, drops, doubles and reorders packets. The kernel's own netem is often not
there; and a relay in Python would take a whole core for 20 MB/s, which is 17,000 packets a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Literal

from tests.confined import die_with_parent
from tests.e2e.harness import output

SIDES = ("sender", "recipient")
Side = Literal["sender", "recipient"]
ADDRESSES = {"sender": "10.77.1.2", "recipient": "10.77.2.2"}
GATEWAYS = {"sender": "10.77.1.1", "recipient": "10.77.2.1"}
TUN, TABLE = "bad", "77"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Network:
    """Namespaces of this process's own, until `close`."""

    def __init__(self, emulator: Path) -> None:
        self._program = emulator
        self._emulator: subprocess.Popen[str] | None = None
        self._names = {one: f"hand-{os.getpid()}-{one}" for one in (*SIDES, "router")}
        self.prefixes = {k: ("ip", "netns", "exec", name) for k, name in self._names.items()}
        self.addresses = dict(ADDRESSES)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for name in self._names.values():
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
                self._set(name, "net.ipv6.conf.all.disable_ipv6", 1)
                self._set(name, "net.ipv6.conf.default.disable_ipv6", 1)
                self._set(name, "net.ipv4.conf.all.rp_filter", 0)
                self._set(name, "net.ipv4.conf.default.rp_filter", 0)
            router = self._names["router"]
            self._set(router, "net.ipv4.ip_forward", 1)
            for side in SIDES:
                name = self._names[side]
                run(
                    *("ip", "link", "add", "wire", "netns", name, "type", "veth"),
                    *("peer", "name", side, "netns", router),
                )
                run("ip", "-n", router, "addr", "add", f"{GATEWAYS[side]}/24", "dev", side)
                run("ip", "-n", router, "link", "set", side, "up")
                run("ip", "-n", name, "addr", "add", f"{ADDRESSES[side]}/24", "dev", "wire")
                run("ip", "-n", name, "link", "set", "wire", "up")
                run("ip", "-n", name, "route", "add", "default", "via", GATEWAYS[side])
            run("ip", "-n", router, "tuntap", "add", "dev", TUN, "mode", "tun")
            run("ip", "-n", router, "link", "set", TUN, "txqueuelen", "4000", "up")
            run("ip", "-n", router, "route", "add", "default", "dev", TUN, "table", TABLE)
            undo.pop_all()

    def _set(self, name: str, key: str, value: int) -> None:
        run("ip", "netns", "exec", name, "sysctl", "-qw", f"{key}={value}")

    def _router(self, *words: str) -> None:
        run("ip", "-n", self._names["router"], *words)

    # --- cables

    def cut(self, *sides: Side, silently: bool = False) -> None:
        """Pull cables (of both sides when none is named). Silently: the machines keep a link that
        leads nowhere, as behind a switch whose uplink is gone."""
        for side in sides or SIDES:
            if silently:
                self._router("rule", "add", "priority", "5", "iif", side, "blackhole")
            else:
                self._router("link", "set", side, "down")

    def mend(self) -> None:
        """Plug everything in again."""
        for side in SIDES:
            self._router("link", "set", side, "up")
            with contextlib.suppress(subprocess.CalledProcessError):
                self._router("rule", "del", "priority", "5", "iif", side)

    def block(self, protocol: Literal["udp", "tcp"], port: int | None = None) -> None:
        """From now on packets of this kind (to this port) are dropped, as by a firewall."""
        to = ("dport", str(port)) if port else ()
        for side in SIDES:
            words = ("priority", "4", "iif", side, "ipproto", protocol, *to, "blackhole")
            self._router("rule", "add", *words)

    def move(self, side: Side, address: str) -> None:
        """Another address, as after a change of network or a new lease; the old one is gone."""
        name, old = self._names[side], self.addresses[side]
        run("ip", "-n", name, "addr", "del", f"{old}/24", "dev", "wire")
        run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "wire")
        run("ip", "-n", name, "route", "replace", "default", "via", GATEWAYS[side])
        self.addresses[side] = address

    # --- the emulator

    def impair(self, **knobs: float) -> None:
        """Put the emulator between the two, or turn its knobs (`emulator.c` lists them). What goes
        to the router itself, where a server may be, does not pass it."""
        self.repair()
        words = [f"{name}={value}" for name, value in knobs.items()]
        self._emulator = subprocess.Popen(
            [*self.prefixes["router"], str(self._program), TUN, *words],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert output(self._emulator).readline() == "ready\n", words
        for side in SIDES:
            self._router("rule", "add", "priority", "10", "iif", side, "lookup", TABLE)

    def repair(self) -> dict[str, int]:
        """Take the emulator away; what became of the packets."""
        if self._emulator is None:
            return {}
        for _ in SIDES:
            self._router("rule", "del", "priority", "10")
        self._emulator.send_signal(signal.SIGTERM)
        told, _ = self._emulator.communicate(timeout=10)
        self._emulator = None
        return dict(json.loads(told))

    def close(self) -> None:
        if self._emulator is not None:
            self._emulator.kill()
            self._emulator.communicate()
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
