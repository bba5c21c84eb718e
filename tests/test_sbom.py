"""The bill of materials has all that is shipped, and what is written by hand in it is so."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.backends.openssl import backend
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from deploy import sbom
from p2p.version import VERSION

pytestmark = [
    pytest.mark.process,
    # There, other versions are pinned, of which nobody has looked what is in them.
    pytest.mark.skipif(sys.version_info < (3, 12), reason="made with Python 3.12 or newer"),
]


@pytest.fixture(scope="module")
def made():
    """The file, as the command writes it."""
    command = [sys.executable, "-m", "deploy.sbom"]
    return subprocess.run(command, check=True, capture_output=True, cwd=sbom.ROOT).stdout


@pytest.fixture
def bom(made):
    return json.loads(made)


def inside(bom, name):
    """The libraries within a component: name and version."""
    (component,) = (one for one in bom["components"] if one["name"].lower() == name)
    return {one["name"]: one.get("version") for one in component["components"]}


def test_it_follows_the_schema_and_tells_nothing_of_this_machine(made):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made.decode()) is None
    text = made.decode()
    assert str(sbom.ROOT) not in text
    assert "file:" not in text
    assert not re.search(r"simple/|registry\.", text)
    assert not re.search(r'"(serialNumber|timestamp)"', text)


def test_it_has_the_package_the_page_and_what_both_need(bom):
    root = bom["metadata"]["component"]
    assert (root["name"], root["version"]) == ("handover", VERSION)
    there = {canonicalize_name(one["name"]): one for one in bom["components"]}
    assert sbom.needed() <= there.keys()
    assert not {"pytest", "hypothesis", "mypy", "ruff"} & there.keys()
    page = json.loads((sbom.CLIENT / "package.json").read_bytes())
    full = {
        f"{one['group']}/{one['name']}" if one.get("group") else one["name"]
        for one in bom["components"]
    }
    assert page["dependencies"].keys() <= full
    assert not page["devDependencies"].keys() & full
    refs = {one["bom-ref"] for one in bom["components"]} | {root["bom-ref"]}
    assert {one["ref"] for one in bom["dependencies"]} == refs
    assert all(set(one.get("dependsOn", ())) <= refs for one in bom["dependencies"])
    assert all(one.get("licenses") for one in bom["components"] if one["type"] == "library")


def test_libraries_that_can_be_asked_say_the_same(bom):
    assert inside(bom, "cryptography")["openssl"] == backend.openssl_version_text().split()[1]
    assert inside(bom, "zstandard")["zstd"] == ".".join(map(str, zstandard.ZSTD_VERSION))
    asked = ctypes.CDLL(str(only("pylibsrtp", r"_binding.*\.so")))
    asked.OpenSSL_version.restype = ctypes.c_char_p
    assert inside(bom, "pylibsrtp")["openssl"] == asked.OpenSSL_version(0).decode().split()[1]
    crypto = only("aiolibdatachannel", r"libcrypto.*")
    crypto_says = re.search(rb"OpenSSL (\d+\.\d+\.\d+) ", crypto.read_bytes())
    assert crypto_says
    assert inside(bom, "aiolibdatachannel")["openssl"] == crypto_says[1].decode()


def only(distribution: str, pattern: str) -> Path:
    """The one file of it that is named so."""
    files = metadata.files(distribution) or []
    (found,) = (file for file in files if re.fullmatch(pattern, file.name))
    return Path(str(found.locate()))


def test_a_pin_that_changed_has_to_be_looked_at():
    component = {"name": "cryptography", "version": "999", "bom-ref": "x"}
    known = json.loads((sbom.HERE / "bundled.json").read_bytes())["pypi"]
    others = [
        {"name": name, "version": one["version"], "bom-ref": name}
        for name, one in known.items()
        if name != "cryptography"
    ]
    with pytest.raises(sbom.Outdated, match="cryptography is 999 now"):
        sbom.bundle({"components": [*others, component]}, "pypi")
    with pytest.raises(sbom.Outdated, match="cryptography is not shipped any more"):
        sbom.bundle({"components": others}, "pypi")


def test_machine_code_that_nobody_has_looked_at_is_told():
    known = json.loads((sbom.HERE / "bundled.json").read_bytes())["pypi"]
    there = [
        {"name": name, "version": one["version"], "bom-ref": name} for name, one in known.items()
    ]
    new = {"name": "psutil", "version": "1", "bom-ref": "psutil"}
    with pytest.raises(sbom.Outdated, match="nothing on psutil"):
        sbom.bundle({"components": [*there, new]}, "pypi")
