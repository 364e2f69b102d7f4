"""What containers of Kubernetes objects have in their environment.

Owns which objects are in files, which of them says what another does, and where a container's
variables have their values: beside them, or in ConfigMaps. Must not know what a variable means, nor
read a Secret. Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sidecar.common.errors import ObjectError
from sidecar.common.text import few, one_line
from sidecar.importers.environment import Variable
from sidecar.model.fields import Field

#: (kind, namespace, name) of each object that there is.
Objects = Mapping[tuple[str, str, str], Field]

#: The kinds with containers: a Pod's are in ``spec``, others have a template of Pods.
WITH_PODS = frozenset(
    {
        *("Pod", "Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController"),
        *("DeploymentConfig", "Job", "CronJob"),
    }
)

#: Most of a key that is shown, in characters, and most keys.
_KEY_MAX, _KEYS_MAX = 80, 10


class Unread(NamedTuple):
    """What gives no value. ``place``: the variable, or ``envFrom``; ``text``: what stands there;
    ``problem``: what is wrong, and what would be right."""

    place: str
    text: str
    problem: str


class Wanted(NamedTuple):
    """What somebody reads of an environment. ``is_ours``: whether this variable is any of it.
    ``elsewhere``: of one whose value does not stand beside it, what it is if nobody needs to look;
    else what to do if it is in no ConfigMap. ``of_a_secret``: what to do about a whole Secret."""

    is_ours: Callable[[str], bool]
    elsewhere: Callable[[str], Variable | str]
    of_a_secret: str


@dataclass(slots=True)
class Environment:
    """A container's. ``unread``: variables without a value. ``references``: whole ConfigMaps and
    Secrets that are not there to read, which may have any variable. ``used``: the ConfigMaps
    (``namespace/name``) and keys that something was read of."""

    variables: dict[str, Variable] = field(default_factory=dict)
    unread: list[Unread] = field(default_factory=list)
    references: list[Unread] = field(default_factory=list)
    used: set[tuple[str, str]] = field(default_factory=set)


def by_key(objects: Iterable[Any], kinds: Iterable[str]) -> tuple[Objects, list[str]]:
    """The objects of these kinds, the first of each name; and what is wrong with others."""
    there: dict[tuple[str, str, str], Field] = {}
    problems = []
    for number, data in enumerate(objects, 1):
        kind = data.get("kind") if isinstance(data, Mapping) else None
        if not isinstance(kind, str) or kind not in kinds:
            continue
        root = Field("", data)
        try:
            name, at = root.at("metadata").at("name").name(), root.at("metadata").at("namespace")
            there.setdefault((kind, at.name() if at.value is not None else "default", name), root)
        except ObjectError as exc:
            problems.append(f"object {number}, {kind}: {exc}")
    return there, problems


def is_said_by_its_owner(root: Field, namespace: str, there: Objects) -> bool:
    """Whether the object that made this one, and says the same, is there. Raises ObjectError."""
    for owner in root.at("metadata").at("ownerReferences").each():
        if owner.at("controller").value is True:
            key = (str(owner.at("kind").value), namespace, str(owner.at("name").value))
            return key in there
    return False


def containers(root: Field, *lists: str) -> Iterator[Field]:
    """Those in these lists of a Pod, or of a template of Pods. Raises ObjectError."""
    spec = root.at("spec")
    for step in ("jobTemplate", "spec", "template", "spec"):
        inner = spec.at(step)
        spec = inner if isinstance(inner.value, Mapping) else spec
    for name in lists:
        yield from spec.at(name).each()


def environment(container: Field, namespace: str, there: Objects, wanted: Wanted) -> Environment:
    """What of a container's environment is wanted; its ``env`` comes before its ``envFrom``.

    Raises ObjectError for one that has no such shape.
    """
    found = Environment()
    for source in container.at("envFrom").each():
        _read_all(source, namespace, there, wanted, found)
    for entry in container.at("env").each():
        name = entry.at("name").value
        if not isinstance(name, str) or not wanted.is_ours(name):
            continue
        try:
            value = _value(entry, name, namespace, there, wanted, found)
        except ObjectError as exc:
            text = entry.at("value").value
            value = Unread(name, "valueFrom" if text is None else str(text), exc.problem)
        if isinstance(value, Variable):
            found.variables[name] = value
        elif value:
            # What `envFrom` has by this name is not what the container has.
            found.variables.pop(name, None)
            found.unread.append(value)
    return found


def _read_all(
    source: Field, namespace: str, there: Objects, wanted: Wanted, found: Environment
) -> None:
    """Add an entry of ``envFrom``."""
    prefix = str(source.at("prefix").value or "")
    for kind, reference in (
        ("ConfigMap", source.at("configMapRef")),
        ("Secret", source.at("secretRef")),
    ):
        if reference.value is None:
            continue
        is_optional = reference.at("optional").value is True
        try:
            title = f"{namespace}/{reference.at('name').name()}"
        except ObjectError as exc:
            found.references.append(Unread("envFrom", kind, str(exc)))
            continue
        data = _data(there, title) if kind == "ConfigMap" else None
        if data is None and not is_optional:
            not_read = f"Secret {title} is not read; {wanted.of_a_secret}"
            problem = _missing(title) if kind == "ConfigMap" else not_read
            found.references.append(Unread("envFrom", f"{kind} {title}", problem))
        for key, value in (data or {}).items():
            name = f"{prefix}{key}"
            if wanted.is_ours(name):
                found.used.add((title, key))
                place = f"{name} (ConfigMap {title})"
                found.variables[name] = Variable(name, str(value), place)


def _value(
    entry: Field,
    name: str,
    namespace: str,
    there: Objects,
    wanted: Wanted,
    found: Environment,
) -> Variable | Unread | None:
    """An entry of ``env``; None if it may be without a value, and is. Raises ObjectError."""
    source = entry.at("valueFrom")
    if source.value is None:
        rule = "write the value as text"
        return Variable(name, entry.at("value").optional_text(rule) or "", name)
    elsewhere = wanted.elsewhere(name)
    if isinstance(elsewhere, Variable):
        return elsewhere
    reference = source.at("configMapKeyRef")
    if reference.value is None:
        return Unread(name, "valueFrom", f"its value is not in a ConfigMap, and {elsewhere}")
    title, key = f"{namespace}/{reference.at('name').name()}", str(reference.at("key").value)
    data = _data(there, title)
    if data is not None and key in data:
        found.used.add((title, key))
        return Variable(name, str(data[key]), f"{name} (ConfigMap {title}, key {key})")
    if reference.at("optional").value is True:
        return None
    text = f"{title}, key {key}"
    if data is None:
        return Unread(name, text, _missing(title))
    keys = one_line(few(sorted(map(str, data)), _KEYS_MAX), _KEY_MAX * 3) or "none"
    problem = f"ConfigMap {title} has no key {one_line(key, _KEY_MAX)}; available: {keys}"
    return Unread(name, text, problem)


def _missing(title: str) -> str:
    return f"there is no ConfigMap {title} in the files; pass it, too"


def _data(there: Objects, title: str) -> Mapping[str, Any] | None:
    """What a ConfigMap has; None if it is not there."""
    namespace, _, name = title.partition("/")
    root = there.get(("ConfigMap", namespace, name))
    data = root.at("data").value if root else None
    return data if isinstance(data, Mapping) else None if root is None else {}
