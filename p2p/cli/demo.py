"""`handover demo`: two real processes, a made-up CT, and the receipt verified at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from .language import language, words
from .terminal import show

SECONDS = 120
HANDOVER = [sys.executable, "-m", "p2p"]


def _environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
    # The demo shows the program as it comes, whatever this computer's settings are.
    own = {"HANDOVER_HOME": str(home), "HANDOVER_CONFIG": os.devnull}
    return {**kept, **own, "HANDOVER_LANG": language()}


@click.command()
def demo() -> None:
    """`handover demo`."""
    raise SystemExit(_run())


def _run() -> int:
    """0 when everything was delivered and verified."""
    from . import phantom  # and with it numpy

    with tempfile.TemporaryDirectory(prefix="handover-demo-") as folder:
        place = Path(folder)
        source, output = place / "study", place / "received"
        phantom.write(source / "CT")
        homes = {role: place / role for role in ("sender", "recipient")}
        for role, home in homes.items():
            subprocess.run(
                [*HANDOVER, "identity", "set-label", words("demo", role)],
                env=_environment(home),
                check=True,
                stdout=subprocess.DEVNULL,
            )
        show(words("demo", "send", folder=source.name))
        sender = subprocess.Popen(
            [*HANDOVER, "send", "--auto", str(source)],
            env=_environment(homes["sender"]),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sender.stdout is not None
        link = sender.stdout.readline().strip()
        show(link)
        show(words("demo", "receive"))
        recipient = subprocess.run(
            [*HANDOVER, "receive", "--auto", "--output", str(output)],
            env={**_environment(homes["recipient"]), "HANDOVER_LINK": link},
            timeout=SECONDS,
        )
        if recipient.returncode or sender.wait(SECONDS):
            show(words("demo", "failed"))
            return 1
        (receipt,) = (homes["recipient"] / "receipts").iterdir()
        show(words("demo", "verify"))
        verified = subprocess.run(
            [*HANDOVER, "receipt", "verify", str(receipt), "--files", str(output)],
            env=_environment(homes["recipient"]),
        )
        signatures = len(json.loads(receipt.read_bytes())["signatures"])
        show(words("demo", "signatures", count=signatures))
        return verified.returncode
