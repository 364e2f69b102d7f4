"""Removes from an environment what the sidecar never imports: two thirds of it.

    python package/image/slim.py ENVIRONMENT

Owns the list of what goes, with its reasons. Must not decide that by what some run imported: the
list is written by hand, and package/image/prove.py shows that what stays is enough.
"""

import shutil
import sys
from importlib.metadata import Distribution
from pathlib import Path

from environment import installed, requirements, site_packages

#: What is wanted by none but parts that go below: they are removed with all that only they require.
NOT_REQUIRED = {"kubernetes": {"aiohttp", "aiohttp-retry"}}

#: Of the client we use what reads kubeconfigs and credentials, and its transport: requests and
#: objects are our own. It loads APIs and models one by one, when they are asked for.
REMOVED = {
    "kubernetes": [
        "aio",  # all of it once more, for asyncio
        "client/api/[!_]*",  # a method for each request
        "client/models/[!_]*",  # a class for each kind of object
    ]
}


def required(root: str, among: dict[str, Distribution]) -> set[str]:
    """``root``, and whatever it needs, directly or not."""
    found: set[str] = set()
    open_ends = [root]
    while open_ends:
        name = open_ends.pop()
        if name not in found and name in among:
            found.add(name)
            open_ends.extend({*requirements(among[name])} - NOT_REQUIRED.get(name, set()))
    return found


def tops(distribution: Distribution) -> set[str]:
    """The folders and modules of site-packages that it has; `..` is for its commands."""
    return {file.parts[0] for file in distribution.files or ()}


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size(path: Path) -> int:
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


def main(environment: Path) -> None:
    site = site_packages(environment)
    before = size(site)
    packages = installed(environment)
    needed = required("haproxy-sidecar", packages)
    unneeded = packages.keys() - needed
    shared = {"..", "__pycache__"}.union(*(tops(packages[name]) for name in needed))
    for name in unneeded:
        for top in tops(packages[name]) - shared:
            remove(site / top)
    for package, patterns in REMOVED.items():
        for pattern in patterns:
            paths = list((site / package).glob(pattern))
            if not paths:
                sys.exit(f"slim.py: {package} has no {pattern} any more: what is to go now?")
            for path in paths:
                remove(path)
        # What was compiled of them.
        for cache in (site / package).rglob("__pycache__"):
            for compiled in cache.glob("*.pyc"):
                if not (cache.parent / f"{compiled.name.split('.')[0]}.py").exists():
                    compiled.unlink()
    # Commands of other packages, and what activates an environment in a shell.
    for command in (environment / "bin").iterdir():
        if command.name != "haproxy-sidecar" and not command.name.startswith("python"):
            remove(command)
    gone = ", ".join(sorted(unneeded))
    print(f"slim.py: {gone}; {before:,} bytes before, {size(site):,} now")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
