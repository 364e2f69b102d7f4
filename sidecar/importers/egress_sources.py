"""Where egress routers are configured: which objects, or lines of a file, have which values.

Owns that of Pods and what makes Pods, of ConfigMaps that they or nobody refers to, of the
EgressRouter (network.operator.openshift.io/v1), and of files with ``KEY=VALUE`` lines. Must not
know what the values mean beyond their names (`sidecar.importers.egress_values`). Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecar.common.errors import ObjectError
from sidecar.common.hostport import canonical_ip
from sidecar.common.text import shown
from sidecar.importers.containers import (
    WITH_PODS,
    Objects,
    Unread,
    Wanted,
    by_key,
    containers,
    environment,
    is_said_by_its_owner,
)
from sidecar.importers.egress_values import (
    Item,
    Leads,
    Skipped,
    dns_proxy,
    fallback,
    generic,
    guess,
    http_proxy,
    redirect,
    redirect_rule,
)
from sidecar.importers.environment import Variable, assignments
from sidecar.model.fields import Field

#: The variables with destinations, a line each.
_BY_LINE = {
    "EGRESS_DESTINATION": redirect,
    "EGRESS_DNS_PROXY_DESTINATION": dns_proxy,
    "EGRESS_HTTP_PROXY_DESTINATION": http_proxy,
}
_MODES = ("legacy", "init", "http-proxy", "dns-proxy")
_GATEWAY = "connections go by the routing table of the machine, or pod, that HAProxy is on"
_CHECKED = (
    ": HAProxy checked the destinations; if it shall here, too, set check: {enabled: true} in the"
    " port's pool"
)

#: Variables that say something of how, and what there is here instead.
_HOW = {
    "EGRESS_GATEWAY": _GATEWAY,
    "DNS_SRV001": "names are resolved by dns.servers of the settings, by default /etc/resolv.conf",
    "DNS_SRV002": "names are resolved by dns.servers of the settings, by default /etc/resolv.conf",
    "SYSLOG_ADDRESS": "HAProxy's log goes to stdout here",
}
_GENERIC = ("SERVICE_DEST", "SERVICE_DEST_PORT", "SERVICE_TCP_PORT")
_DESTINATIONS = {*_BY_LINE, "SERVICE_DEST"}
_KNOWN = {*_BY_LINE, *_HOW, *_GENERIC, "EGRESS_SOURCE", "EGRESS_ROUTER_MODE", "CONFIG_FILE"}

#: What others than egress routers do not have.
_TELLING = {*_DESTINATIONS, *(name for name in _KNOWN if name.startswith("EGRESS_"))}


_WANTED = Wanted(
    _KNOWN.__contains__,
    lambda _: "cannot be read here; write it as a value",
    "write those of its variables that are for an egress router as values",
)
_KINDS = {*WITH_PODS, "ConfigMap", "EgressRouter"}


@dataclass(slots=True)
class Configured:
    """One egress router. ``sources``: where its connections came from, with the place that says so.
    ``notes``: what should be looked at."""

    title: str
    namespace: str
    name: str
    items: list[Item] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def from_environment(text: str, title: str, namespace: str, name: str) -> Configured | None:
    """The egress router of a file with ``KEY=VALUE`` lines; None if none of them is for one."""
    found = Configured(title, namespace, name)
    variables: list[Variable] = []
    known = False
    for number, line, at in assignments(text):
        if isinstance(at, str):
            found.items.append(Skipped(f"line {number}", line, at))
        elif at.name in _KNOWN:
            known = known or at.name in _DESTINATIONS
            variables.append(at)
        if isinstance(at, Variable) and at.name == "SERVICE_NAME" and at.value:
            found.name = at.value
    _understand(found, variables)
    return found if known else None


def from_objects(objects: Sequence[Any]) -> Iterator[Configured | str]:
    """The egress routers of Kubernetes objects, in their order; or what cannot be read."""
    there, broken = by_key(objects, _KINDS)
    yield from broken
    used: set[tuple[str, str]] = set()  # ConfigMaps, and their keys
    found: list[Configured | str] = []
    for (kind, namespace, name), root in there.items():
        title = f"{kind} {namespace}/{name}"
        try:
            if kind == "EgressRouter":
                found.append(_egress_router(root, Configured(title, namespace, name)))
            elif kind in WITH_PODS and not is_said_by_its_owner(root, namespace, there):
                it = _pods(root, Configured(title, namespace, name), there, used)
                found += [it] if it else []
        except ObjectError as exc:
            found.append(f"{title}: {exc}")
    yield from found
    for (kind, namespace, name), root in there.items():
        if kind == "ConfigMap":
            yield from _config_map(root, namespace, name, used)


def _pods(
    root: Field, found: Configured, there: Objects, used: set[tuple[str, str]]
) -> Configured | None:
    """What the containers of a Pod, or of a template of Pods, are told; None if they are no egress
    router."""
    is_one = False
    for container in containers(root, "initContainers", "containers"):
        env = environment(container, found.namespace, there, _WANTED)
        used |= env.used
        names = {*env.variables, *(it.place for it in env.unread)}
        # Where it leads may be in what is not there to read.
        if not names.isdisjoint(_DESTINATIONS) or (
            env.references and not names.isdisjoint(_TELLING)
        ):
            is_one = True
            found.items += map(_skipped, env.references)
        found.items += map(_skipped, env.unread)
        _understand(found, list(env.variables.values()))
    return found if is_one else None


def _skipped(unread: Unread) -> Skipped:
    return Skipped(unread.place, unread.text, unread.problem)


def _config_map(
    root: Field, namespace: str, name: str, used: set[tuple[str, str]]
) -> Iterator[Configured]:
    """One that no Pod in the files refers to: its Pods may be elsewhere."""
    data = root.at("data").value
    if not isinstance(data, Mapping):
        return
    title = f"{namespace}/{name}"
    variables, notes = [], []
    for key, value in data.items():
        if (title, key) in used or not isinstance(value, str):
            continue
        if key == "destination":
            variable = guess(value)
            notes.append(f"key destination: taken for {variable}, since no Pod here refers to it")
            variables.append(Variable(variable, value, "key destination"))
        elif key in _KNOWN:
            variables.append(Variable(key, value, f"key {key}"))
    if any(variable.name in _DESTINATIONS for variable in variables):
        found = Configured(f"ConfigMap {title}", namespace, name, notes=notes)
        _understand(found, variables)
        yield found


def _egress_router(root: Field, found: Configured) -> Configured:
    spec = root.at("spec")
    mode = spec.at("mode").value
    if mode not in (None, "Redirect"):
        found.items.append(Skipped("spec.mode", str(mode), "write Redirect, the only one there is"))
    rules = spec.at("redirect")
    ports: dict[int, str] = {}
    for rule in rules.at("redirectRules").each():
        try:
            item = redirect_rule(rule)
        except ObjectError as exc:
            item = Skipped(rule.path, str(rule.value), exc.problem)
        if isinstance(item, Leads) and item.port in ports:
            problem = f"port {item.port} is that of {ports[item.port]}; a port leads to one place"
            item = Skipped(item.place, item.text, problem)
        elif isinstance(item, Leads):
            ports[item.port] = item.place
        found.items.append(item)
    ip = rules.at("fallbackIP")
    if ip.value:
        found.items.append(fallback(ip.value, ip.path))
    for address in spec.at("addresses").each():
        source, gateway = address.at("ip"), address.at("gateway")
        if source.value is not None:
            _source(found, str(source.value), source.path)
        if gateway.value is not None:
            found.notes.append(f"{gateway.path}: {shown(gateway.value)}: {_GATEWAY}")
    return found


def _understand(found: Configured, variables: Iterable[Variable]) -> None:
    """Add what the variables of one container say."""
    by_name = {variable.name: variable for variable in variables}
    mode = by_name.get("EGRESS_ROUTER_MODE", Variable("", "legacy", "")).value or "legacy"
    if mode not in _MODES:
        problem = f"write one of {', '.join(_MODES)}"
        found.items.append(Skipped(by_name["EGRESS_ROUTER_MODE"].place, mode, problem))
    for name, value, place in by_name.values():
        if name == "EGRESS_DESTINATION" and mode in ("http-proxy", "dns-proxy"):
            found.notes.append(f"{place}: has no effect in mode {mode}, and was not converted")
        elif name in _BY_LINE:
            found.items += _BY_LINE[name](value, place)
        elif name == "EGRESS_SOURCE":
            _source(found, value, place)
        elif name == "CONFIG_FILE" and value:
            problem = "what it says is not converted; write a Route for each of its ports"
            found.items.append(Skipped(place, value, problem))
        elif name in _HOW and value:
            found.notes.append(f"{place}: {shown(value)}: {_HOW[name]}")
    if dest := by_name.get("SERVICE_DEST"):
        env = {name: variable.value for name, variable in by_name.items()}
        found.items.append(generic(env, dest.place))
    checked = dest or by_name.get("EGRESS_DNS_PROXY_DESTINATION")
    if checked:
        found.notes.append(checked.name + _CHECKED)


def _source(found: Configured, value: str, place: str) -> None:
    """Where connections came from: ``IP`` or ``IP/LENGTH``."""
    ip, slash, length = value.strip().partition("/")
    canonical = canonical_ip(ip)
    if canonical is None or (slash and not re.fullmatch(r"[0-9]{1,3}", length)):
        problem = "write an IP address, with or without the length of its network behind a '/'"
        found.items.append(Skipped(place, value, problem))
    else:
        found.sources.append((place, canonical))
