"""Where OpenShift's router is configured: which variables and flags its container is started with.

Owns that of Deployments and the like, with the ConfigMaps that they refer to, and of files with
``KEY=VALUE`` lines. Secrets are not read, and no message shows what may be in one. Must not know
what a value means (`sidecar.importers.router_env`). Pure.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sidecar.common.errors import ObjectError
from sidecar.importers.containers import (
    WITH_PODS,
    Environment,
    Objects,
    Wanted,
    by_key,
    containers,
    environment,
    is_said_by_its_owner,
)
from sidecar.importers.environment import Variable, assignments
from sidecar.importers.router_env_table import row_of, variable_of
from sidecar.model.fields import Field

#: Jobs end.
_KINDS = WITH_PODS - {"Job", "CronJob"}

#: Flags that need no value: these, and those of rows that are read as one.
_SWITCHES = (
    *("--include-udp-endpoints", "--enable-ingress", "ROUTER_BIND_PORTS_AFTER_SYNC"),
    *("ROUTER_HAPROXY_CONFIG_MANAGER", "EXTENDED_VALIDATION", "UPGRADE_VALIDATION"),
    *("ROUTER_OVERRIDE_HOSTNAME", "ROUTER_WATCH_ENDPOINTS"),
)

#: How `oc set env --list` shows a variable whose value is not in the Deployment.
_ELSEWHERE = re.compile(
    r"^#[ \t]*([A-Z_][A-Z0-9_]*)[ \t]+from[ \t]+((?:configmap|secret)[ \t]+[\w.-]{1,253})",
    re.MULTILINE,
)

#: What a variable has that is read nowhere, and need not be.
UNREAD = "(not read)"


@dataclass(slots=True)
class Configured:
    """One router. ``variables``: by name; a flag that only exists as such has its own.
    ``problems``: what could not be read. ``container``: its name, where others of the same Pod
    are routers, too."""

    title: str
    variables: dict[str, Variable] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    container: str = ""


def from_environment(text: str, title: str) -> Configured:
    """The router of a file with ``KEY=VALUE`` lines."""
    found = Configured(title)
    for number, _, at in assignments(text):
        if isinstance(at, str):
            # Not what it says: a private key has many lines.
            found.problems.append(f"{title}, line {number}: {at}")
        elif _is_ours(at.name):
            found.variables[at.name] = at
    for name, where in _ELSEWHERE.findall(text):
        row = row_of(name)
        if _is_ours(name) and not (row and row.here == "needless"):
            found.problems.append(f"{name}: its value is in {where}, not here; write {name}=VALUE")
    return found


def from_objects(objects: Iterable[Any]) -> Iterator[Configured | str]:
    """The routers among Kubernetes objects; or what cannot be read."""
    there, broken = by_key(objects, {*_KINDS, "ConfigMap"})
    yield from broken
    for (kind, namespace, name), root in there.items():
        title = f"{kind} {namespace}/{name}"
        try:
            if kind != "ConfigMap" and not is_said_by_its_owner(root, namespace, there):
                yield from _routers(root, title, namespace, there)
        except ObjectError as exc:
            yield f"{title}: {exc}"


def not_there(objects: Iterable[Any]) -> Iterator[str]:
    """Whole ConfigMaps and Secrets that cannot be read, of containers without any variable of a
    router: one may have all of its in them."""
    there, _ = by_key(objects, {*_KINDS, "ConfigMap"})
    for (kind, namespace, name), root in there.items():
        with suppress(ObjectError):  # from_objects tells of it
            if kind == "ConfigMap" or is_said_by_its_owner(root, namespace, there):
                continue
            for container, env in _environments(root, namespace, there):
                at = f"{kind} {namespace}/{name}, container {_name_of(container)}"
                if not _is_routers(env):
                    yield from (f"{at}: {it.place}: {it.problem}" for it in env.references)


def _is_ours(name: str) -> bool:
    return name.startswith("ROUTER_") or row_of(name) is not None


def _elsewhere(name: str) -> Variable | str:
    row = row_of(name)
    if row and row.here == "needless":
        return Variable(name, UNREAD, name)
    keys = f" ({', '.join(row.keys)})" if row and row.keys else ""
    return f"is not read; write what it is for into the settings{keys}"


_WANTED = Wanted(_is_ours, _elsewhere, "write what its variables are for into the settings")


def _environments(
    root: Field, namespace: str, there: Objects
) -> Iterator[tuple[Field, Environment]]:
    for container in containers(root, "containers"):
        yield container, environment(container, namespace, there, _WANTED)


def _is_routers(env: Environment) -> bool:
    return bool(env.variables or env.unread)


def _name_of(container: Field) -> str:
    return container.at("name").label() or container.path


def _routers(root: Field, title: str, namespace: str, there: Objects) -> list[Configured]:
    """Those of a Pod's containers that are one."""
    routers = []
    for container, env in _environments(root, namespace, there):
        if not _is_routers(env):
            continue
        # Not what stands there: it may be a private key in the wrong place.
        problems = [f"{it.place}: {it.problem}" for it in (*env.references, *env.unread)]
        found = Configured(title, env.variables, problems, _name_of(container))
        words = [*container.at("command").each(), *container.at("args").each()]
        _flags([str(word.value) for word in words], found)
        routers.append(found)
    if len(routers) == 1:
        routers[0].container = ""
    return routers


def _flags(words: list[str], found: Configured) -> None:
    """Add what the command line says, which comes before the environment."""
    at = 0
    while at < len(words):
        word, _, value = words[at].partition("=")
        given = "=" in words[at]
        at += 1
        if not word.startswith("-") or len(word) < 2:
            continue
        flag = f"--{word.lstrip('-')}"
        variable = variable_of(flag)
        row = row_of(variable) if variable else None
        switch = variable in _SWITCHES or bool(row and row.how in ("flag", "not"))
        if not given and switch:
            value = "true"
        elif not given and at < len(words) and (variable or not words[at].startswith("-")):
            # A flag's value may begin with "-", as a password can; of one that nobody knows it is
            # not known whether there is any.
            value = words[at]
            at += 1
        if variable is None:
            found.problems.append(f"{flag}: OpenShift's router has no such flag; look what it is")
        else:
            found.variables[variable] = Variable(variable, value, flag)
