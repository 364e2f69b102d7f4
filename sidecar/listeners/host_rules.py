"""What a Route may ask for of the hosts, looked at alone: its effective host, path and wildcard.

Says what OpenShift's router and API server say of a Route that they refuse. Must not know who else
asks for the host (`sidecar.listeners.hosts`). Pure.
"""

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sidecar.common.text import one_line, shown
from sidecar.model.objects import Route
from sidecar.model.verdicts import Reason, Refusal

Termination = Literal["http", "edge", "reencrypt", "passthrough"]

#: What becomes of requests in clear for a Route with TLS.
InsecurePolicy = Literal["None", "Allow", "Redirect"]

_TERMINATIONS: dict[str, Termination] = {
    "": "edge",  # what the API server makes of it
    "edge": "edge",
    "reencrypt": "reencrypt",
    "passthrough": "passthrough",
}

#: A lower-case name of DNS-1123.
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST_MAX_CHARACTERS = 253

#: A path is, with its host, a key in HAProxy's maps (see `sidecar.haproxy.maps`).
_PATH_MAX_BYTES = 1700

#: What a key cannot have, or no request's path has.
_UNFIT = re.compile(r"[^!-~]|[?#;\\\"']|<<")


@dataclass(frozen=True, slots=True)
class HostRules:
    """Which hosts Routes may have, of the settings ``web``.

    ``domain``: what is appended to ``spec.subdomain`` of a Route without a host.
    ``hostname_template``: the host of a Route that has neither, with ``${name}`` and
    ``${namespace}`` in it; "": it gets none.
    ``allowed_domains``, ``denied_domains``: themselves and all below them; denied beats allowed,
    and none allowed means all.
    ``wildcards``: whether ``wildcardPolicy: Subdomain`` is admitted.
    ``namespace_ownership``: a host belongs to one namespace at a time.
    """

    domain: str
    hostname_template: str
    allowed_domains: tuple[str, ...]
    denied_domains: tuple[str, ...]
    wildcards: bool
    namespace_ownership: bool


class WebClaim(NamedTuple):
    """What a Route asks for. ``host``: the effective one, in lower case. ``path``: as written.
    ``wildcard``: all hosts beside ``host`` in its domain, too. ``termination``: ``http`` without
    TLS. ``insecure``: of one with TLS."""

    host: str
    path: str
    wildcard: bool
    termination: Termination
    insecure: InsecurePolicy = "None"

    @property
    def pattern(self) -> str:
        """The host that clients name, or ``*.domain``."""
        return f"*.{self.domain}" if self.wildcard else self.host

    @property
    def domain(self) -> str:
        """The host without its first label; "" where it has one only."""
        return self.host.partition(".")[2]


class Asked(NamedTuple):
    """The host (``*.domain`` for a wildcard) and path that a Route names, whether or not it may
    have them: to be shown and looked for, never to be programmed. "" for none."""

    host: str
    path: str


def asked(route: Route, rules: HostRules) -> Asked:
    """What ``route`` names: a line each, whatever is written there."""
    host = one_line(_effective_host(route, rules), _HOST_MAX_CHARACTERS).lower()
    if route.wildcard_policy == "Subdomain" and "." in host:
        host = f"*.{host.partition('.')[2]}"
    return Asked(host, one_line(route.path, _PATH_MAX_BYTES))


def termination_of(route: Route) -> Termination | None:
    """Where its TLS ends, if it has any; None if what is written there is none of them."""
    return "http" if route.tls is None else _TERMINATIONS.get(route.tls.termination.lower())


def judge(route: Route, rules: HostRules) -> WebClaim | Refusal:
    """What ``route`` asks for, or why it may not. Looks at it alone; the first failure counts, in
    the order of OpenShift's router."""
    host = _effective_host(route, rules)
    wildcard = route.wildcard_policy == "Subdomain"
    path = route.path
    termination = termination_of(route)
    if termination is None:
        written = route.tls and route.tls.termination
        return Refusal(
            Reason.UNSUPPORTED_TERMINATION,
            f"spec.tls.termination: {shown(written)} is not a valid termination;"
            " use edge, reencrypt or passthrough",
        )
    return (
        _domain_refusal(host, rules)
        or _wildcard_refusal(route.wildcard_policy, rules)
        or _host_refusal(host, wildcard=wildcard)
        or _path_refusal(path, termination)
        or WebClaim(host.lower(), path, wildcard, termination, insecure_of(route, termination))
    )


def insecure_of(route: Route, termination: Termination) -> InsecurePolicy:
    """What becomes of requests in clear for ``route``, as OpenShift's router has it: what it does
    not know is None, and so is Allow of passthrough, whose servers speak nothing that a request in
    clear could be sent to."""
    policy = route.tls.insecure_policy if route.tls else ""
    if policy == "Redirect":
        return "Redirect"
    return "Allow" if policy == "Allow" and termination != "passthrough" else "None"


def _effective_host(route: Route, rules: HostRules) -> str:
    if route.host:
        return route.host
    if route.subdomain and rules.domain:
        return f"{route.subdomain}.{rules.domain.strip('.')}"
    # A dot would make another level of the name.
    names = {"name": route.name.replace(".", "-"), "namespace": route.namespace}
    try:
        return string.Template(rules.hostname_template).substitute(names)
    except (KeyError, ValueError):
        return ""


def _domain_refusal(host: str, rules: HostRules) -> Refusal | None:
    if not host:
        return None
    if _within(host, rules.denied_domains):
        return Refusal(Reason.ROUTE_NOT_ADMITTED, "host in list of denied domains")
    if rules.allowed_domains and not _within(host, rules.allowed_domains):
        return Refusal(Reason.ROUTE_NOT_ADMITTED, "host not in the allowed list of domains")
    return None


def _within(host: str, domains: Iterable[str]) -> bool:
    return any(f".{host.lower()}".endswith(f".{item.lower().strip('.')}") for item in domains)


def _wildcard_refusal(policy: str, rules: HostRules) -> Refusal | None:
    if policy in ("", "None") or (policy == "Subdomain" and rules.wildcards):
        return None
    return Refusal(
        Reason.ROUTE_NOT_ADMITTED,
        "wildcard routes are not allowed"
        if policy == "Subdomain"
        else f"unknown wildcard policy {shown(policy)}; use None or Subdomain",
    )


def _host_refusal(host: str, *, wildcard: bool) -> Refusal | None:
    if not host:
        return Refusal(Reason.NO_HOST_VALUE, "no host value was defined for the route")
    # Some letters beyond ASCII turn into ASCII in lower case.
    named = host.isascii() and _HOST.fullmatch(host.lower()) is not None
    if not named or len(host) > _HOST_MAX_CHARACTERS:
        problem = (
            "not a valid host name: labels of a-z, 0-9 and -, joined by dots, each beginning and"
            f" ending with a letter or digit, of at most 63 characters; {_HOST_MAX_CHARACTERS} in"
            " all"
        )
    elif wildcard and "." not in host:
        problem = "wildcardPolicy Subdomain needs a host with a domain, like www.example.com"
    else:
        return None
    return Refusal(
        Reason.INVALID_HOST, f"host name validation errors: spec.host: {shown(host)}: {problem}"
    )


def _path_refusal(path: str, termination: Termination) -> Refusal | None:
    if not path:
        return None
    if termination == "passthrough":
        problem = "passthrough termination does not support paths"
    elif not path.startswith("/"):
        problem = "path must begin with /"
    elif found := _UNFIT.search(path):
        what = "white space" if found[0].isspace() else shown(found[0])
        problem = (
            f"path cannot contain {what}; a client can only ask for it percent-encoded"
            if found[0] in " ?#" or not found[0].isascii()
            else f"path cannot contain {what}: HAProxy cannot be told of it at runtime"
        )
    elif len(path.encode()) > _PATH_MAX_BYTES:
        problem = f"path cannot be longer than {_PATH_MAX_BYTES} bytes"
    else:
        return None
    return Refusal(Reason.INVALID_PATH, f"spec.path: {shown(path)}: {problem}")
