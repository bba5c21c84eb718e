#!/usr/bin/env python3
"""usage: python3 run.py TASK

Sets up an environment in .venv, then runs a task in it.

  setup          only sets up
  demo           sends DICOM files from one process to another
  test           runs the checks and all tests; installs the Debian packages they need (as root)
  test --quick   leaves out what needs processes, browsers, WebRTC engines or broken networks
  bench ...      measures transfers; `bench --help` lists what
  bench --quick --compare
                 says in two minutes whether a change costs CPU time
  sbom [FILE]    writes the bill of materials of what is shipped (CycloneDX)
  audit          asks PyPI and npm for known vulnerabilities of what is pinned

Needs Python 3.11 and pip, nothing else: it gets uv, picks the newest Python that runs here (or that
uv can fetch), and installs exactly what requirements.txt pins, by hash.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PREFERRED = ("3.13", "3.12")  # those with wheels of both WebRTC engines
SUPPORTED = ("3.11", "3.13")  # the wheel is installed into each of these, where it is there
TELL = "import sys; print(sys.executable)"
FETCH_SECONDS = 120

# What the tests call, or read where it is a path, and the Debian package that has it.
PACKAGES = {
    "7z": "p7zip-full",
    "bsdtar": "libarchive-tools",
    "cc": "gcc",
    "certutil": "libnss3-tools",
    "chromium": "chromium",
    "dbus-run-session": "dbus-daemon",
    "dnsmasq": "dnsmasq-base",
    "firefox-esr": "firefox-esr",
    "gnome-keyring-daemon": "gnome-keyring",
    "ip": "iproute2",
    "jq": "jq",
    "microsocks": "microsocks",
    "openssl": "openssl",
    "redis-server": "redis-server",
    "rsyslogd": "rsyslog",
    "nft": "nftables",
    "nginx": "nginx-light",
    "sysctl": "procps",
    "systemd-analyze": "systemd",
    "tinyproxy": "tinyproxy",
    "turnserver": "coturn",
    "unzip": "unzip",
    "/etc/protocols": "netbase",  # what `ip rule` calls UDP
    "/usr/share/doc/rsyslog-gnutls": "rsyslog-gnutls",
    "/usr/share/doc/rsyslog-openssl": "rsyslog-openssl",
    "/usr/include/stdio.h": "libc6-dev",
    # Without any font a page's text has no size, and nothing on it can be clicked.
    "/usr/share/fonts/truetype": "fonts-dejavu-core",
}

# The steps of the test command, the cheap ones first; each stops the rest when it fails.
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
    ("python", "hatch_build.py", "run", "check"),
    ("python", "hatch_build.py", "test"),
)
# Each worker takes neighbours, which share browsers; who is done takes over from the others.
PYTEST = ("pytest", "tests", "--dist", "worksteal")
REST = (*PYTEST, "--ignore=tests/protocol", "-n", "4")
TEST = (
    *CHECKS,
    ("pytest", "tests/protocol", "-n", "2", "--cov", "--cov-fail-under=100", "--cov-report=term"),
    (*REST, "-m", "not large and not faults"),
    # Apart, for networks that come and go would disturb the browsers' tests.
    (*REST, "-m", "large or smoke"),
)
BROAD = ("e2e", "faults", "web_client")  # whole transfers, by processes, networks and browsers
UNITS = tuple(f"--ignore=tests/{folder}" for folder in BROAD)
QUICK = (*CHECKS, (*PYTEST, *UNITS, "-m", "not process and not engine", "-n", "4"))


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


def installed_python(version: str) -> str | None:
    """An interpreter of this version. A name on the path may be a shim that does not run."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [str(p / "bin" / "python3") for p in sorted(pyenv.glob(f"{version}.*"))]
    for name in [f"python{version}", *places]:
        found = quiet(name, "-c", TELL)
        if found:
            return found
    return None


def find_python(uv: list[str]) -> str:
    """The newest usable interpreter."""
    for version in PREFERRED:
        found = installed_python(version)
        if found:
            return found
    for version in PREFERRED:
        found = quiet(*uv, "python", "find", "--no-project", version)
        if found and quiet(found, "-c", TELL):
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


def get_packages() -> bool:
    """Install the Debian packages that the tests need; False where somebody else has to."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [
        package
        for need, package in PACKAGES.items()
        if not Path(need).exists() and not shutil.which(need, path=path)
    ]
    if not missing:
        return True
    update = ["apt-get", "update"]
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print("The tests need packages that are not installed. Run this as root:")
        print(shlex.join(update), "&&", shlex.join(install))
        return False
    print("Installing", *missing, flush=True)
    for command in (update, install):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*command, "-qq"], check=True, env=environment)
    return True


def call(*command: str) -> int:
    """Run a program of the environment."""
    program = VENV / "bin" / command[0]
    # Whatever a machine's image says: the tests start Python thousands of times.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([program, *command[1:]], cwd=ROOT, env=environment).returncode


def audit() -> int:
    """Ask for known vulnerabilities; where nobody answers, that is a failure too. For a person to
    read: a registry must be reached, so no test depends on it."""
    audit = [*get_uv(), "tool", "run", "pip-audit", "--strict", "--disable-pip", "--require-hashes"]
    found = subprocess.run([*audit, "-r", "requirements.txt"], cwd=ROOT).returncode
    page = call("python", "hatch_build.py", "audit", "--omit", "dev")
    return found or page


def main() -> int:
    """The task's exit code."""
    task, *rest = sys.argv[1:] or [""]
    if task in ("-h", "--help"):
        print(__doc__, end="")
        return 0
    quick = (task, *rest) == ("test", "--quick")
    tasks = ("setup", "demo", "test", "bench", "sbom", "audit")
    if task not in tasks or (rest and task not in ("bench", "sbom") and not quick):
        print(__doc__, end="", file=sys.stderr)
        return 2
    if sys.version_info < (3, 11):
        print("Handover needs Python 3.11 or newer.")
        return 2
    if task == "test" and not quick and not get_packages():
        return 2
    set_up()
    if task == "demo":
        return call("handover", "demo")
    if task == "bench":
        return call("python", "-m", "benchmarks", *rest)
    if task == "sbom":
        return call("python", "-m", "deploy.sbom", *map(os.path.abspath, rest))
    if task == "audit":
        return audit()
    if task == "test":
        missing = [one for one in SUPPORTED if not installed_python(one)]
        if missing and not quick:
            print("Not here, so the wheel is not tested with it: Python", *missing, flush=True)
        for step in QUICK if quick else TEST:
            print("$", *step, flush=True)
            if code := call(*step):
                return code
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:  # it has said why
        sys.exit(error.returncode)
