"""``import router-env``: settings from the variables and flags of OpenShift's router.

They go to stdout; what was left out, and why, is reported on stderr.
"""

import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from typer import Exit

from sidecar.cli.importing import given
from sidecar.common.errors import SettingsError, UsageError
from sidecar.common.text import few
from sidecar.importers.router_env import Converted, convert
from sidecar.importers.router_env_sources import (
    Configured,
    from_environment,
    from_objects,
    not_there,
)
from sidecar.importers.settings_text import Path, settings_text
from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import Settings

#: Most references that are told where there is no router: a dump of a cluster has many.
_MISSED_MAX = 10


def import_router_env(files: Sequence[str]) -> None:
    """Write the settings for the router in ``files`` ("-" is stdin): Kubernetes objects, or lines
    of an environment. Exits with 1 if anything of it is left out that may be missed.

    Raises UsageError for a file that cannot be read, and unless there is one router.
    """
    objects, environments = given(files)
    routers: list[Configured] = []
    for name, content in environments:
        if (one := from_environment(content, "stdin" if name == "-" else name)).variables:
            routers.append(one)
    found = list(from_objects(objects))
    broken = [item for item in found if isinstance(item, str)]
    routers += [item for item in found if not isinstance(item, str)]
    if not routers:
        missed = few(list(not_there(objects)), _MISSED_MAX, "\n")
        lines = [f"no router of OpenShift in {', '.join(files)}", *broken, missed]
        raise UsageError("\n".join(filter(None, lines)))
    if len(routers) > 1:
        raise UsageError(_several(routers))
    router = routers[0]
    done = convert(router.variables)
    text, refused = written(done)
    sys.stdout.write(f"# From {' '.join(router.title.split())}, by import router-env.\n{text}")
    lines = [f"needless {line}" for line in done.needless]
    lines += [f"review {line}" for line in done.doubts]
    problems = [*broken, *router.problems, *done.problems, *refused]
    sys.stderr.writelines(f"{line}\n" for line in [*lines, *problems])
    if problems:
        raise Exit(1)


def _several(routers: Sequence[Configured]) -> str:
    titles = ", ".join(
        f"{router.title} (container {router.container})" if router.container else router.title
        for router in routers
    )
    remedies = ["pass one"] if len({router.title for router in routers}) > 1 else []
    if any(router.container for router in routers):
        remedies.append("leave its other containers out of the file")
    remedy = ", and ".join(remedies)
    return f"{len(routers)} routers, which have settings each: {titles}; {remedy}"


def written(done: Converted) -> tuple[str, list[str]]:
    """The settings as YAML, without what is the default anyway; and what they do not take."""
    tree: dict[str, Any] = {}
    origins: dict[Path, str] = {}
    problems: list[str] = []
    default = Settings()
    for group in done.groups:
        candidate, beside = deepcopy(tree), dict(origins)
        for chosen in group:
            _put(candidate, beside, chosen.path, chosen.value, chosen.origin)
        try:
            settings = _parsed(candidate)
        except SettingsError as exc:
            origin = ", ".join(dict.fromkeys(chosen.origin for chosen in group))
            problems += [f"{origin}: {problem}" for problem in exc.problems]
            continue
        if not all(_at(settings, it.path) == _at(default, it.path) for it in group):
            tree, origins = candidate, beside
    return settings_text(_ordered(tree), origins), problems


def _put(
    tree: dict[str, Any], origins: dict[Path, str], path: Path, value: Any, origin: str
) -> None:
    *sections, key = path
    inner = tree
    for section in sections:
        inner = inner.setdefault(section, {})
    if isinstance(value, list):
        items = inner.setdefault(key, [])
        for item in value:
            origins[*path, str(len(items))] = origin
            items.append(item)
    else:
        inner[key] = value
        origins[path] = origin


def _parsed(tree: Mapping[str, Any]) -> Settings:
    """As the file will be read, without what the environment here says."""
    return parse_settings(settings_text(tree, {}), {}, "import")


def _at(settings: Any, path: Path) -> Any:
    """The value there; None where a user's own key is not."""
    for key in path:
        if isinstance(settings, Mapping):
            settings = settings.get(int(key) if key.isdigit() else key)
        else:
            settings = getattr(settings, key)
    return settings


def _ordered(tree: Mapping[str, Any]) -> dict[str, Any]:
    """In the order of the README's."""
    return {key: tree[key] for key in Settings.model_fields if key in tree}
