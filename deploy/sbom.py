"""The bill of materials of what is shipped: the Python package with all it needs on this platform,
the web client, and the libraries that lie inside both without a name of their own.

    python3 run.py sbom [FILE]

CycloneDX 1.6 (ECMA-424), JSON. The first two come from the tools of CycloneDX and npm; the third,
`bundled.json`, is written by hand, for no wheel tells all of it: for each version of a distribution
or npm package, name, version where it is known, and licence of what is in it (Linux, x86-64, Python
3.12 and newer). Where a pin changes, this ends with an error until somebody has looked again. Two
runs give the same bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_build import node
from p2p.version import VERSION

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CLIENT = ROOT / "web_client"
OWN, PAGE = "handover", "handover-web-client"
NATIVE = (".so", ".pyd", ".dylib", ".dll")

Json = dict[str, Any]


class Outdated(Exception):
    """What is written by hand is not of what is shipped now."""


def needed() -> set[str]:
    """The distributions that the package needs here, itself not counted."""
    found: set[str] = set()
    left = [OWN]
    while left:
        for text in metadata.requires(left.pop()) or []:
            one = Requirement(text)
            name = canonicalize_name(one.name)
            if (one.marker is None or one.marker.evaluate({"extra": ""})) and name not in found:
                found.add(name)
                left.append(name)
    return found


def is_native(distribution: str) -> bool:
    """Whether it has machine code."""
    files = metadata.files(distribution) or []
    return any(file.suffix in NATIVE or ".so." in file.name for file in files)


def python_part() -> Json:
    """What `cyclonedx-py` says of this environment, without what only tests and tools need."""
    program = Path(sys.executable).with_name("cyclonedx-py")
    words = ("environment", "--sv", "1.6", "--output-reproducible", "--no-validate")
    made = subprocess.run(
        [program, *words, "--pyproject", ROOT / "pyproject.toml", sys.executable],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    bom: Json = json.loads(made.stdout)
    shipped = needed()
    bom["components"] = [
        one for one in bom["components"] if canonicalize_name(one["name"]) in shipped
    ]
    root = bom["metadata"]["component"]
    root["version"] = VERSION
    kept = {one["bom-ref"] for one in bom["components"]} | {root["bom-ref"]}
    bom["dependencies"] = [
        {**one, "dependsOn": sorted(set(one.get("dependsOn", ())) & kept)}
        for one in bom["dependencies"]
        if one["ref"] in kept
    ]
    return bom


def page_part() -> Json:
    """What npm says of the packages that the web client is built of."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PAGE  # npm names the whole by its folder, and wants a version
        copy.mkdir()
        for name in ("package.json", "package-lock.json"):
            read = json.loads((CLIENT / name).read_bytes())
            read["version"] = VERSION
            if "packages" in read:
                read["packages"][""]["version"] = VERSION
            (copy / name).write_text(json.dumps(read))
        words = ("--offline", "--package-lock-only", "--omit", "dev", "--sbom-format", "cyclonedx")
        made = subprocess.run(
            [*map(str, node()), "sbom", *words, "--sbom-type", "application"],
            check=True,
            capture_output=True,
            cwd=copy,
        )
    bom: Json = json.loads(made.stdout)
    return bom


def bundle(bom: Json, kind: str) -> None:
    """Put inside each component what `bundled.json` has of it. Raises `Outdated`."""
    known = json.loads((HERE / "bundled.json").read_bytes())[kind]
    there = {}
    for one in bom["components"]:
        group = f"{one['group']}/" if one.get("group") else ""
        there[group + (canonicalize_name(one["name"]) if kind == "pypi" else one["name"])] = one
    for name, said in known.items():
        if name not in there:
            raise Outdated(f"{name} is not shipped any more: take it out of bundled.json")
        component = there[name]
        if component["version"] != said["version"]:
            raise Outdated(
                f"{name} is {component['version']} now; bundled.json has {said['version']}: "
                "look what is in it"
            )
        inside = [
            {
                "type": "library",
                "bom-ref": f"{component['bom-ref']}#{library}",
                "name": library,
                **({"version": version} if version else {}),
                "licenses": [{"expression": licence}],
                **({"purl": f"pkg:generic/{library}@{version}"} if version else {}),
            }
            for library, version, licence in said["libraries"]
        ]
        if inside:
            component["components"] = inside
    if kind == "pypi":
        unknown = {name for name in there if is_native(name)} - known.keys()
        if unknown:
            raise Outdated(f"bundled.json has nothing on {', '.join(sorted(unknown))}")


def make() -> bytes:
    """The whole, as JSON. Raises `Outdated`, `CalledProcessError`."""
    bom, page = python_part(), page_part()
    bundle(bom, "pypi")
    bundle(page, "npm")
    root, client = bom["metadata"]["component"]["bom-ref"], page["metadata"]["component"]
    inside = {"bom-ref": client["bom-ref"], "type": "application", "name": PAGE}
    bom["components"] += [{**inside, "version": VERSION}, *page["components"]]
    bom["dependencies"] += page["dependencies"]
    for one in bom["dependencies"]:
        if one["ref"] == root:
            one["dependsOn"] = sorted({*one["dependsOn"], client["bom-ref"]})
    bom["metadata"]["tools"]["components"].append({"type": "application", "name": "npm"})
    return (json.dumps(bom, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def main() -> int:
    """Write it to the file that is named, else to standard output."""
    try:
        made = make()
    except Outdated as error:
        print(error, file=sys.stderr)
        return 1
    if sys.argv[1:]:
        Path(sys.argv[1]).write_bytes(made)
    else:
        sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
