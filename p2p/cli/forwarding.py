"""`audit forward`: the log to a syslog server."""

from __future__ import annotations

import re
from pathlib import Path

import click

from .. import api
from ..api import Home, shown
from .language import counted, words
from .options import both_or_none
from .terminal import say, show, told, whole

_SERVER = re.compile(
    r"(?P<host>[^:\[\]\s]+)(:(?P<port>[0-9]{1,5}))?"
    r"|\[(?P<host6>[0-9A-Fa-f:.]+)\](:(?P<port6>[0-9]{1,5}))?"
    r"|(?P<alone6>(?=.*:.*:)[0-9A-Fa-f:.]+)"
)


@click.command("forward")
@click.argument("server", metavar="HOST[:PORT]")
@click.option("--ca", type=click.Path(path_type=Path))
@click.option("--tls-cert", type=click.Path(path_type=Path))
@click.option("--tls-key", type=click.Path(path_type=Path))
@click.option("--unconfirmed", is_flag=True)
@click.option("--forget", is_flag=True)
def audit_forward(
    server: str,
    ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    unconfirmed: bool,
    forget: bool,
) -> None:
    """`handover audit forward`."""
    certificate, key = both_or_none(tls_cert, tls_key) or (None, None)
    to = api.SyslogServer(*_address(server), ca, certificate, key)
    name = shown(to.name, 256)
    with told():
        home = Home()
        if forget:
            if home.forwarded.forget(to.name):
                show(words("audit", "forward_forgotten", server=name))
                return
            known = ", ".join(home.forwarded.servers()) or words("audit", "forward_nobody")
            say(words("audit", "forward_unknown", server=name, known=shown(known, 512)))
            raise SystemExit(1)

    def rewritten() -> None:
        say(words("audit", "forward_rewritten", server=name))

    with whole(home.audit.path):
        try:
            done = api.forward_audit(to, home, unconfirmed=unconfirmed, rewritten=rewritten)
        except api.SyslogFailed as failed:
            say(words("audit", "forward_failed", server=name, reason=failed.reason))
            raise SystemExit(1) from None
    if not done.messages:
        show(words("audit", "forward_nothing", server=name))
        return
    entries, messages = counted(done.entries, "entry"), counted(done.messages, "message")
    sentence = "forwarded" if done.confirmed else "forward_unconfirmed"
    show(words("audit", sentence, entries=entries, messages=messages, server=name))


def _address(server: str) -> tuple[str, int]:
    """Host and port; an IPv6 address with a port stands in brackets. Raises `UsageError`."""
    found = _SERVER.fullmatch(server)
    port = int(found["port"] or found["port6"] or api.SYSLOG_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise click.UsageError(words("usage", "address"))
    return found["host"] or found["host6"] or found["alone6"], port
