"""requirements/: all that pyproject.toml asks for is pinned, by hash, and nothing of a machine; and
pyproject.toml asks for all that is used."""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = PROJECT["build-system"]["requires"]
RUN = PROJECT["project"]["dependencies"]
DEV = PROJECT["project"]["optional-dependencies"]["dev"]
DOCS = PROJECT["project"]["optional-dependencies"]["docs"]

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
    ("name", "needs"),
    [
        ("build.txt", BUILD),
        ("run.txt", RUN),
        ("dev.txt", BUILD + RUN + DEV),
        ("docs.txt", DOCS),
    ],
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


def used(source: str) -> Iterator[str]:
    """The packages that are imported anywhere in it, or started by `-m`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield module.partition(".")[0]
            case ast.List() | ast.Tuple():
                words = [word.value if isinstance(word, ast.Constant) else "" for word in node.elts]
                if "-m" in words[:-1]:
                    yield str(words[words.index("-m") + 1])


@pytest.mark.parametrize(
    ("folder", "needs"),
    [
        ("sidecar", RUN),
        *((folder, RUN + DEV) for folder in ("tests", "bench", "examples", "docs", "package")),
    ],
)
def test_what_is_used_is_asked_for(folder: str, needs: Iterable[str]) -> None:
    """And does not come by chance with something else, as hatchling once did: with `make lock`, but
    not with `make test-newest`."""
    asked = {canonicalize_name(Requirement(need).name) for need in needs} | {"pip"}
    known = packages_distributions()
    for file in (ROOT / folder).rglob("*.py"):
        for name in set(used(file.read_text())):
            there = {canonicalize_name(item) for item in known.get(name, ())}
            missing = there - {"haproxy-sidecar"}
            assert not missing or missing & asked, f"{file}: pyproject.toml does not ask for {name}"
