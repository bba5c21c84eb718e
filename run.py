#!/usr/bin/env python3
"""Sets up an environment in .venv and runs a task in it: `python3 run.py demo`, `... test`.

Needs Python 3.11 and pip, nothing else: it gets uv, picks the newest Python that runs here (or that
uv can fetch), and installs exactly what requirements.txt pins, by hash.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PREFERRED = ("3.13", "3.12")  # those with wheels of both WebRTC engines
FETCH_SECONDS = 120

REST = ("tests", "--ignore=tests/protocol")
# The test command, step by step; each stops the rest when it fails.
TEST = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
    ("python", "hatch_build.py", "run", "check"),
    ("python", "hatch_build.py", "test"),
    ("pytest", "tests/protocol", "--cov", "--cov-fail-under=100", "--cov-report=term"),
    # Each worker takes neighbours, which share browsers; who is done takes over from the others.
    ("pytest", *REST, "-m", "not large and not faults", "-n", "3", "--dist", "worksteal"),
    # Apart, for networks that come and go would disturb the browsers' tests.
    ("pytest", *REST, "-m", "large or smoke", "-n", "3", "--dist", "worksteal"),
)


def quiet(*command: str) -> str | None:
    """What a command prints, or None when it does not run."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_SECONDS, cwd=ROOT
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def get_uv() -> list[str]:
    """How to call uv; installs it with pip where it is missing."""
    if shutil.which("uv"):
        return ["uv"]
    module = [sys.executable, "-m", "uv"]
    if quiet(*module, "--version") is None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        outside = sys.prefix == sys.base_prefix
        flags = ["--user", "--break-system-packages"] if outside else []
        subprocess.run([*pip, *flags, "uv"], check=True)
    return module


def find_python(uv: list[str]) -> str:
    """The newest usable interpreter. A name on the path may be a shim that does not run."""
    tell = "import sys; print(sys.executable)"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in PREFERRED:
        places = [str(p / "bin" / "python3") for p in sorted(pyenv.glob(f"{version}*"))]
        for name in [f"python{version}", *places]:
            found = quiet(name, "-c", tell)
            if found:
                return found
    for version in PREFERRED:
        found = quiet(*uv, "python", "find", "--no-project", version)
        if found and quiet(found, "-c", tell):
            return found
    if quiet(*uv, "python", "install", PREFERRED[-1]) is not None:
        found = quiet(*uv, "python", "find", "--no-project", PREFERRED[-1])
        if found:
            return found
    return sys.executable


def set_up() -> None:
    """Make .venv what requirements.txt says."""
    uv = get_uv()
    python = VENV / "bin" / "python"
    if quiet(str(python), "-c", "") is None:
        chosen = find_python(uv)
        subprocess.run(
            [*uv, "venv", "--quiet", "--clear", "--no-project", "-p", chosen, VENV], check=True
        )
    version = quiet(str(python), "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])")
    engines = "both WebRTC engines" if str(version) >= "3.12" else "the portable engine only"
    print(f"Using Python {version} ({engines}).", flush=True)
    pip = [*uv, "pip"]
    where = ["--quiet", "-p", str(python)]
    subprocess.run(
        [*pip, "sync", *where, "--require-hashes", ROOT / "requirements.txt"], check=True
    )
    subprocess.run(
        [*pip, "install", *where, "--no-deps", "--no-build-isolation", "-e", ROOT], check=True
    )


def call(*command: str) -> int:
    """Run a program of the environment."""
    program = VENV / "bin" / command[0]
    return subprocess.run([program, *command[1:]], cwd=ROOT).returncode


def main() -> int:
    """The task's exit code."""
    task, *rest = sys.argv[1:] or ["help"]
    if task not in ("demo", "test", "bench", "setup"):
        print("usage: python3 run.py setup | demo | test | bench")
        return 2
    if sys.version_info < (3, 11):
        print("Handover needs Python 3.11 or newer.")
        return 2
    set_up()
    if task == "demo":
        return call("handover", "demo")
    if task == "bench":
        return call("python", "-m", "benchmarks", *rest)
    if task == "test":
        for step in TEST:
            print("$", *step, flush=True)
            if code := call(*step):
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
