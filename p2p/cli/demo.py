"""`handover demo`: two real processes, real DICOM files, and the receipt verified at the end."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 120


HANDOVER = [sys.executable, "-m", "p2p"]


def _environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
    return {**kept, "HANDOVER_HOME": str(home)}


def run() -> int:
    """0 when everything was delivered and verified."""
    found = importlib.util.find_spec("pydicom")
    if found is None or found.origin is None:
        print("The demo sends the DICOM files that ship with pydicom: pip install pydicom")
        return 1
    source = Path(found.origin).parent / "data" / "test_files"
    with tempfile.TemporaryDirectory(prefix="handover-demo-") as folder:
        place = Path(folder)
        output = place / "received"
        sender_home, recipient_home = place / "sender", place / "recipient"
        for home, label in ((sender_home, "Sending hospital"), (recipient_home, "Reading room")):
            subprocess.run(
                [*HANDOVER, "identity", "set-label", label],
                env=_environment(home),
                check=True,
                stdout=subprocess.DEVNULL,
            )
        print(f"$ handover send {source.name}", flush=True)
        sender = subprocess.Popen(
            [*HANDOVER, "send", "--auto", str(source)],
            env=_environment(sender_home),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sender.stdout is not None
        link = sender.stdout.readline().strip()
        print(link, flush=True)
        print("$ handover receive", flush=True)
        recipient = subprocess.run(
            [*HANDOVER, "receive", "--auto", "--output", str(output)],
            env={**_environment(recipient_home), "HANDOVER_LINK": link},
            timeout=SECONDS,
        )
        if recipient.returncode or sender.wait(SECONDS):
            print("The transfer did not complete; see above.")
            return 1
        (receipt,) = (recipient_home / "receipts").iterdir()
        print("$ handover receipt verify RECEIPT --files received", flush=True)
        verified = subprocess.run(
            [*HANDOVER, "receipt", "verify", str(receipt), "--files", str(output)],
            env=_environment(recipient_home),
        )
        signatures = len(json.loads(receipt.read_bytes())["signatures"])
        print(f"The receipt carries {signatures} signatures.")
        return verified.returncode
