"""requirements/: all that pyproject.toml asks for is pinned, by hash, and nothing of a machine."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = PROJECT["build-system"]["requires"]
RUN = PROJECT["project"]["dependencies"]
DEV = PROJECT["project"]["optional-dependencies"]["dev"]

_PINNED = re.compile(
    r"([a-z0-9-]+)==([^ ]+)(?: ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)"
)


def pins(name: str) -> dict[str, str]:
    """The package's name -> its version, of one file."""
    text = (ROOT / "requirements" / name).read_text()
    lines = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    found = _PINNED.sub("", lines).strip()
    assert not found, f"requirements/{name}: no version with its hashes: {found}"
    return {match[1]: match[2] for match in _PINNED.finditer(lines)}


@pytest.mark.parametrize(
    ("name", "needs"), [("build.txt", BUILD), ("run.txt", RUN), ("dev.txt", BUILD + RUN + DEV)]
)
def test_the_lock_has_what_pyproject_asks_for(name: str, needs: Iterable[str]) -> None:
    pinned = pins(name)
    for need in map(Requirement, needs):
        version = pinned.get(canonicalize_name(need.name), "none")
        fits = version != "none" and need.specifier.contains(version)
        assert fits, f"requirements/{name} has {version} of {need}; run `make lock`"


def test_what_is_tested_is_what_is_shipped() -> None:
    tested = pins("dev.txt").items()
    assert pins("run.txt").items() <= tested
    assert pins("build.txt").items() <= tested
