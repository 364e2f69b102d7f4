"""Converts the variables and flags of OpenShift's router to settings of this one.

Owns how each value is read, which is as OpenShift's router reads it: an empty one is none, and what
it would ignore in silence is named. What there is here is in `sidecar.importers.router_env_table`;
whether the settings take a value, they say themselves. Pure.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sidecar.common.text import shown
from sidecar.importers.environment import Variable
from sidecar.importers.router_env_table import Row, row_of
from sidecar.importers.router_env_values import READERS, boolean, decoded

#: Sets of ciphers that the router has names for.
_CIPHER_SETS = ("modern", "intermediate", "old")

#: What no message shows.
_HIDDEN = ("STATS_USERNAME", "STATS_PASSWORD", "DEFAULT_CERTIFICATE")

_PROBED = "this router's own manifests probe port 8405; leave http.listen there, or change both"

_TEMPLATE = "only by a template of your own (haproxy.template)"


class Chosen(NamedTuple):
    """A value for a key of the settings; ``origin``: the variables that say so. A list is added to
    one that is there."""

    path: tuple[str, ...]
    value: Any
    origin: str


#: Values that have a meaning only together.
Group = tuple[Chosen, ...]


@dataclass(slots=True)
class Converted:
    """The settings, in the order in which they can be taken; ``problems``: what was left out;
    ``doubts``: what should be looked at; ``needless``: what has no use here."""

    groups: list[Group] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    needless: list[str] = field(default_factory=list)


def convert(variables: Mapping[str, Variable]) -> Converted:
    """What these say."""
    done = Converted()
    given = {name: it for name, it in variables.items() if it.value}
    done.groups.append((Chosen(("source", "kind"), "kubernetes", "it watches a cluster"),))
    used = {name for part in _BY_HAND for name in part(given, done)}
    for name, variable in given.items():
        if name in used:
            continue
        row = row_of(name)
        if row is None:
            done.problems.append(
                f"{variable.place}: {shown(variable.value)}: not known of OpenShift's router; look"
                " what it is for"
            )
        elif row.keys and row.how != "by hand":
            try:
                done.groups += _read(row, variable)
            except ValueError as exc:
                done.problems.append(f"{variable.place}: {shown(variable.value)}: {exc}")
            if row.how == "file":
                done.doubts.append(_file(variable))
            if row.variable == "ROUTER_SERVICE_NAME":
                done.doubts.append(
                    f"{variable.place}: {shown(variable.value)}: while both routers run, give this"
                    " one another router_name; with the same, each overwrites what the other one"
                    " says in the status of Routes"
                )
        else:
            _without(row, variable, done)
    return done


def _without(row: Row, variable: Variable, done: Converted) -> None:
    """Name what has no setting here."""
    value = "" if variable.name in _HIDDEN else f" {shown(variable.value)}:"
    note = f": {_plain(row.note)}" if row.note else ""
    if row.here == "needless":
        done.needless.append(f"{variable.place}:{value} {_plain(row.note)}")
    elif row.here == "template":
        done.doubts.append(f"{variable.place}:{value} {_TEMPLATE}{note}")
    else:
        done.problems.append(f"{variable.place}:{value} not offered{note}")


def _plain(note: str) -> str:
    """Without Markdown."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", note).replace("`", "")


def _file(variable: Variable) -> str:
    return f"{variable.place}: {shown(variable.value)}: this router needs the file there, too"


def _read(row: Row, variable: Variable) -> Iterator[Group]:
    """By the row alone. Raises ValueError, which says what would be right."""
    value = variable.value
    paths = [tuple(key.split(".")) for key in row.keys]
    if row.how == "headers":
        yield from ((chosen,) for chosen in _headers(paths[0], variable))
    elif row.how == "words":
        words = [word.strip() for word in value.split(",") if word.strip()]
        yield from ((Chosen(paths[0], [word], variable.name),) for word in words)
    else:
        read = READERS[row.how](value)
        if row.keys == ("source.namespaces",):
            read = [read]
        yield tuple(Chosen(path, read, variable.name) for path in paths)


def _headers(path: tuple[str, ...], variable: Variable) -> Iterator[Chosen]:
    for item in variable.value.split(","):
        parts = [decoded(part) for part in item.split(":")]
        match parts:
            case [name, value, "Set"]:
                yield Chosen((*path, "set", name), value, variable.name)
            case [name, "Delete"] | [name, _, "Delete"]:
                yield Chosen((*path, "delete"), [name], variable.name)
            case _:
                raise ValueError(
                    f"{shown(item)} is no header, with which OpenShift's router does not start;"
                    " write NAME:VALUE:Set or NAME:Delete, with %XX for what has a meaning"
                )


def _listeners(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    """Both, which the router has in any case, since there is none here without being named."""
    names = ("ROUTER_IP_V4_V6_MODE", "ROUTER_USE_PROXY_PROTOCOL")
    mode = given.get(names[0])
    if mode and mode.value not in ("v4", "v6", "v4v6"):
        done.problems.append(
            f"{mode.place}: {shown(mode.value)}: OpenShift's router takes it for v4; write v4, v6"
            " or v4v6"
        )
    word = mode.value if mode else "v4"
    hosts = {"v6": ("[::]",), "v4v6": ("0.0.0.0", "[::]")}.get(word, ("0.0.0.0",))  # noqa: S104
    proxy = _switch(given, names[1], done)
    ports = (("http", "ROUTER_SERVICE_HTTP_PORT", 80), ("tls", "ROUTER_SERVICE_HTTPS_PORT", 443))
    items, taken = [], []
    for kind, name, default in ports:
        variable = given.get(name)
        port = default
        if variable and re.fullmatch(r"0*[0-9]{1,5}", variable.value):
            port = int(variable.value)
        if variable and (str(port) != variable.value.lstrip("0") or not 1 <= port <= 65535):
            done.problems.append(
                f"{variable.place}: {shown(variable.value)}: write a port from 1 to 65535; here is"
                f" {default}"
            )
            port = default
        taken.append(port)
        item: dict[str, Any] = {"name": kind, "kind": kind}
        item["bind"] = [f"{host}:{port}" for host in hosts]
        items.append(item | ({"accept_proxy": True} if proxy else {}))
    if low := sorted(port for port in set(taken) if port < 1024):
        done.doubts.append(
            f"listeners: {', '.join(map(str, low))}: a pod with a network of its own may bind ports"
            " below 1024 with a sysctl only; or bind 8080 and 8443, and let the Service lead there"
        )
    if taken[0] == taken[1]:
        done.problems.append(f"ROUTER_SERVICE_HTTPS_PORT: {taken[1]} is that of HTTP, too")
        items.pop()
    for item, (_, name, _) in zip(items, ports, strict=False):
        said = [it for it in (name, *names) if it in given]
        done.groups.append((Chosen(("listeners",), [item], ", ".join(said or [name])),))
    return (*names, *(name for _, name, _ in ports))


def _switch(given: Mapping[str, Variable], name: str, done: Converted) -> bool:
    """A boolean that is part of something else."""
    variable = given.get(name)
    try:
        return bool(variable and boolean(variable.value))
    except ValueError as exc:
        done.problems.append(f"{name}: {shown(variable.value if variable else '')}: {exc}")
        return False


def _namespaces(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    names = ("NAMESPACE_LABELS", "PROJECT_LABELS")
    both = all(name in given for name in names)
    projects = given.get("PROJECT_LABELS")
    if both and projects:
        done.problems.append(
            f"{projects.place}: {shown(projects.value)}: NAMESPACE_LABELS is there, too, and"
            " source.namespace_labels is one selector; write both into it"
        )
    elif projects and projects.value != "*":
        path = ("source", "namespace_labels")
        done.groups.append((Chosen(path, projects.value, projects.name),))
    return ("PROJECT_LABELS",)


def _endpoints(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    name = "ROUTER_WATCH_ENDPOINTS"
    if _switch(given, name, done):
        done.groups.append((Chosen(("source", "endpoints"), "endpoints", name),))
    return (name,)


def _certificate(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    names = ("DEFAULT_CERTIFICATE", "DEFAULT_CERTIFICATE_PATH", "DEFAULT_CERTIFICATE_DIR")
    first, *others = [given.get(name) for name in names if name in given] or [None]
    if first and first.name == "DEFAULT_CERTIFICATE":
        done.problems.append(
            f"{first.place}: write the certificate, its chain and key into a file, and that into"
            " web.default_certificate"
        )
    elif first:
        path = ("web", "default_certificate")
        done.groups.append((Chosen(path, first.value, first.name),))
        done.doubts.append(_file(first))
    for other in others:
        if other and first:
            done.needless.append(f"{other.place}: {first.name} comes before it")
    return names


def _ciphers(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    name = "ROUTER_CIPHERS"
    variable = given.get(name)
    if variable and variable.value in _CIPHER_SETS:
        done.doubts.append(
            f"{variable.place}: {shown(variable.value)}: here ciphers are named, in"
            " web.tls.ciphers; left at HAProxy's own"
        )
    elif variable:
        done.groups.append((Chosen(("web", "tls", "ciphers"), variable.value, name),))
    return (name,)


def _mutual_tls(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    """All of it or nothing: without a mode the files mean nothing, nor a mode without CAs."""
    prefix, section = "ROUTER_MUTUAL_TLS_AUTH", ("web", "client_certificates")
    keys = {"": "mode", "_CA": "ca", "_CRL": "crl", "_FILTER": "subject_filter"}
    names = tuple(prefix + suffix for suffix in keys)
    mode = given.get(prefix)
    if mode is None or mode.value == "none":
        for name in names[1:]:
            if name in given:
                done.needless.append(f"{given[name].place}: clients are asked for no certificate")
        return names
    group = [
        Chosen((*section, key), given[prefix + suffix].value, prefix + suffix)
        for suffix, key in keys.items()
        if prefix + suffix in given
    ]
    done.groups.append(tuple(group))
    done.doubts += [_file(given[name]) for name in names[1:3] if name in given]
    return names


def _compression(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    names = ("ROUTER_ENABLE_COMPRESSION", "ROUTER_COMPRESSION_MIME")
    types = given.get(names[1])
    if _switch(given, names[0], done):
        words = (types.value if types else "text/html text/plain text/css").split()
        said = ", ".join(name for name in names if name in given)
        done.groups += [(Chosen(("web", "compression", "types"), [it], said),) for it in words]
    elif types:
        done.needless.append(f"{types.place}: without {names[0]} nothing is compressed")
    return names


def _pages(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    names = ("ROUTER_ERRORFILE_503", "ROUTER_ERRORFILE_404")
    for name in names:
        if variable := given.get(name):
            path = ("web", "error_pages", name[-3:])
            done.groups.append((Chosen(path, variable.value, name),))
            done.doubts.append(_file(variable))
    return names


def _own_http(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    names = ("ROUTER_LISTEN_ADDR", "STATS_PORT")
    address, port = (given.get(name) for name in names)
    if address:
        host, _, number = address.value.rpartition(":")
        listen = f"{host or '0.0.0.0'}:{number}"  # noqa: S104
        done.groups.append((Chosen(("http", "listen"), listen, address.name),))
        done.doubts.append(f"{address.place}: {shown(address.value)}: {_PROBED}")
        if port:
            done.needless.append(f"{port.place}: {address.name} comes before it")
    elif port and port.value in ("0", "-1"):
        done.doubts.append(
            f"{port.place}: {shown(port.value)}: http.listen is left as it is, since probes and"
            " metrics are there"
        )
    elif port:
        listen = f"0.0.0.0:{port.value}"
        done.groups.append((Chosen(("http", "listen"), listen, port.name),))
        done.doubts.append(f"{port.place}: {shown(port.value)}: {_PROBED}")
    return names


def _template(given: Mapping[str, Variable], done: Converted) -> tuple[str, ...]:
    if variable := given.get("TEMPLATE_FILE"):
        done.problems.append(
            f"{variable.place}: {shown(variable.value)}: a template of OpenShift's router cannot be"
            " used; what it was changed for may be a setting here, or go into haproxy.template"
        )
    return ("TEMPLATE_FILE",)


#: What is made of several variables, or of one in a way of its own: each gives their names. The
#: listeners come first, since others are of no use without them.
_BY_HAND: tuple[Callable[[Mapping[str, Variable], Converted], tuple[str, ...]], ...] = (
    _listeners,
    _namespaces,
    _endpoints,
    _certificate,
    _ciphers,
    _mutual_tls,
    _compression,
    _pages,
    _own_http,
    _template,
)
