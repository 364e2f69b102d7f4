"""The Python packages of an environment, by their metadata: for slim.py and sbom.py beside it.

Python finds it there only without -P. Must not change anything.
"""

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def site_packages(environment: Path) -> Path:
    (site,) = environment.glob("lib/python3*/site-packages")
    return site


def installed(environment: Path) -> dict[str, Distribution]:
    """By canonical name, in its order."""
    found = distributions(path=[str(site_packages(environment))])
    return dict(sorted({canonicalize_name(item.name): item for item in found}.items()))


def requirements(distribution: Distribution) -> Iterator[str]:
    """The canonical names of what it requires here: without extras, and not on other systems."""
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if not requirement.marker or requirement.marker.evaluate():
            yield canonicalize_name(requirement.name)
