"""The world of a chaos run of Routes by host: what there is, and who serves what, in plain Python.

Who owns a host and path, `HostIndex` says, made anew for each state; which Route a request is for,
OpenShift's own patterns (`by_host`). Of HAProxy it knows nothing.

A Route stands at the listeners, or at one of `PORTS`, which it claims for its host or as a whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import stand
from by_host import OriginalRoute, host_app, originals_choice
from parts import host_rules
from shapes import KEYS, PORT, ROUTER
from whole_map import holders

from sidecar.listeners.host_rules import WebClaim
from sidecar.listeners.hosts import HostIndex
from sidecar.listeners.web_keys import CLEAR, ENDED, WebKey, port_entry, sni_entry, web_key
from sidecar.model.objects import Route
from sidecar.model.parsing import project

NAMESPACES = ("n1", "n2", "n3")
HOSTS = ("one.example", "two.example", "w.apps.example", "x.apps.example", "y.apps.example")
PATHS = ("", "", "/a", "/a/", "/b")
TERMINATIONS = ("", "", "passthrough", "edge", "edge", "reencrypt")
TARGETS = ("/", "/a", "/a/", "/a/x", "/ab", "/b", "/b/y")
NAMES = tuple(f"r{number}" for number in range(12))
#: Those that may be shared by SNI.
PORTS = ("30000", "30001")
#: A Route leads to one of two Services, which have no pod in common.
VERSIONS = ("a", "b")
PODS_EACH = 3
#: A Route has none, or one of those of its name.
CERTIFICATES = (0, 1, 2, 3)
RULES = host_rules(wildcards=True)


class Question(NamedTuple):
    """What a client asks for. ``target``: None for a passthrough connection. ``secured``: over TLS
    that HAProxy ends. ``port``: "" for the listeners."""

    host: str
    target: str | None
    secured: bool = False
    port: str = ""


QUESTIONS = (
    *(Question(host, target) for host in HOSTS for target in (*TARGETS, None)),
    *(Question(host, target, secured=True) for host in HOSTS for target in TARGETS),
)

#: What a client of a port says who is closed by HAProxy.
NONE = "(none)"

#: Also by a name that no Route has, unless as one of a wildcard, and, with "", by none.
PORT_QUESTIONS = tuple(
    Question(host, None, port=port) for port in PORTS for host in (*HOSTS, "zero.example", "")
)

#: Termination -> the class of its backends.
CLASS_OF = {"http": "http", "edge": "http", "passthrough": "passthrough"}


@dataclass(frozen=True, slots=True)
class WebRoute:
    """A Route, and which of its Services it leads to. ``host``: "" if it names none. ``port``: of
    its annotation; "" without."""

    name: str
    namespace: str
    host: str
    path: str
    wildcard: bool
    termination: str
    born: int
    version: str
    #: Which of the certificates of its name it brings; 0: none.
    certificate: int
    port: str

    @property
    def for_host(self) -> bool:
        """Whether it would share its port."""
        return self.termination == "passthrough" and self.host != ""

    @property
    def label(self) -> str:
        """Of its own certificate; "" where it has none."""
        has_one = self.certificate and self.termination == "edge"
        return f"{self.name}.{self.certificate}" if has_one else ""

    @property
    def service(self) -> str:
        return f"{self.name}{self.version}"

    @property
    def spec(self) -> tuple[object, ...]:
        """What makes it another to its clients."""
        if self.port and not self.for_host:
            return (self.name, self.namespace, self.port)
        what = (self.host, self.path, self.wildcard, self.termination, self.port)
        return (self.name, self.namespace, *what)


def pods_of(service: str) -> tuple[str, ...]:
    return tuple(f"{service}{number}" for number in range(PODS_EACH))


PODS = tuple(pod for name in NAMES for version in VERSIONS for pod in pods_of(f"{name}{version}"))

#: pod -> "ready" or "leaving"; others are not there.
Ends = Mapping[str, str]


class Served(NamedTuple):
    """Who serves a question: the Route, and its pods that are ready. ``pods``: all who may answer.
    ``matching``: of all Routes that match, who may answer while it changes hands; ``is_wanted``:
    whether any does. ``otherwise``: what HAProxy answers while no pod does."""

    route: WebRoute | None
    ready: frozenset[str]
    pods: frozenset[str]
    matching: frozenset[str]
    is_wanted: bool
    otherwise: str = "(503)"


NOBODY = Served(None, frozenset(), frozenset(), frozenset(), is_wanted=False)
_MANY = 1000


@dataclass
class WebWorld:
    """``backends``: how many Routes of a class can be served at a time. ``tls_of``: a certificate's
    label -> what a Route has of it."""

    ips: Mapping[str, str]
    backends: Mapping[str, int]
    tls_of: Callable[[str], Mapping[str, str]]
    routes: dict[str, WebRoute] = field(default_factory=dict)
    ends: dict[str, Ends] = field(default_factory=dict)
    #: What is so now.
    served: dict[Question, Served] = field(
        default_factory=lambda: dict.fromkeys((*QUESTIONS, *PORT_QUESTIONS), NOBODY)
    )

    def manifests(
        self, routes: Mapping[str, WebRoute | None], ends: Mapping[str, Ends]
    ) -> list[tuple[dict[str, Any], bool]]:
        """Take these as they are now; what to tell a sidecar: objects, and whether they exist."""
        told: list[tuple[dict[str, Any], bool]] = []
        for name, route in routes.items():
            former = self.routes.pop(name, None)
            if former and not (route and route.namespace == former.namespace):
                told.append((self._route(former), False))
            if route:
                self.routes[name] = route
                told.append((self._route(route), True))
        for service, pods in ends.items():
            self.ends[service] = pods
            told += [(data, True) for space in NAMESPACES for data in self._slice(service, space)]
        self._think()
        return told

    def _route(self, route: WebRoute) -> dict[str, Any]:
        data, _, _ = host_app(
            route.name,
            route.host,
            (),
            path=route.path,
            namespace=route.namespace,
            termination=route.termination or None,
            wildcard=route.wildcard,
            tls=self.tls_of(route.label),
            created=f"2024-01-01T{route.born // 60:02d}:{route.born % 60:02d}:00Z",
            annotations={PORT: route.port, ROUTER: stand.ROUTER} if route.port else {},
        )
        data["metadata"]["uid"] = f"{route.namespace}-{route.name}"
        data["spec"]["to"]["name"] = route.service
        return data

    def _slice(self, service: str, namespace: str) -> Iterator[dict[str, Any]]:
        states = {"ready": {}, "leaving": {"ready": False, "serving": True, "terminating": True}}
        ends = [
            {"addresses": [self.ips[pod]], "conditions": states[state]}
            for pod, state in self.ends[service].items()
        ]
        yield stand.service_manifest(service, namespace=namespace)
        yield stand.slice_manifest(service, ends, namespace=namespace)

    def claims(self, *, limited: bool = True) -> Mapping[str, dict[WebRoute, WebClaim]]:
        """The Routes that have a host and path, with these: by class at the listeners, and by port;
        if ``limited``, the oldest of them that there are backends for."""
        found: dict[str, dict[WebRoute, WebClaim]] = {
            place: {} for place in ("http", "passthrough", *PORTS)
        }
        left = dict(self.backends) if limited else dict.fromkeys(self.backends, _MANY)
        active = self._active([route for route in self.routes.values() if not route.port])
        for port in PORTS:
            active |= self._active(self.sharing(port))
        for route in sorted(active, key=_age):
            claim = active[route]
            of = CLASS_OF.get(claim.termination)
            if of is not None and left[of]:
                left[of] -= 1
                found[route.port or of][route] = claim
        return found

    def _active(self, routes: Iterable[WebRoute]) -> dict[WebRoute, WebClaim]:
        """Of all Routes of one place, those who have a host and path there."""
        objects = [(route, project(self._route(route), KEYS)) for route in routes]
        index = HostIndex(RULES)
        index.update({item.key: item for _, item in objects if isinstance(item, Route)})
        return {route: claim for route, item in objects if (claim := index.active(item.key))}

    def _queue(self, port: str) -> list[WebRoute]:
        """Who claims it, in whichever way; the oldest says what it is for."""
        claiming = [
            route
            for route in self.routes.values()
            if route.port == port and route.termination in ("", "passthrough")
        ]
        return sorted(claiming, key=_age)

    def whole(self, port: str) -> WebRoute | None:
        """Who has all of it."""
        first = next(iter(self._queue(port)), None)
        return None if first is None or first.for_host else first

    def sharing(self, port: str) -> list[WebRoute]:
        """Who may share it, be their hosts another's."""
        queue = self._queue(port)
        return [item for item in queue if item.for_host] if queue and queue[0].for_host else []

    def entries(self, kind: str) -> Mapping[str, WebRoute]:
        """The map of a class, or of ``ports``: entry -> whose it is."""
        if kind == "ports":
            return {
                port_entry(key_of(claim), int(port)): route
                for port, claims in self.claims().items()
                if port in PORTS
                for route, claim in claims.items()
            }
        claims = self.claims()[kind]
        if kind == "passthrough":
            return {sni_entry(key_of(claim)): route for route, claim in claims.items()}
        found: dict[str, WebRoute] = {}
        for termination, prefix in (("http", CLEAR), ("edge", ENDED)):
            keys = {
                key_of(claim): route
                for route, claim in claims.items()
                if claim.termination == termination
            }
            found |= {entry: keys[key] for entry, key in holders(keys, prefix).items()}
        return found

    def certificates(self) -> Mapping[str, str]:
        """Host, or ``*.domain`` -> the label of its certificate: its oldest Route's that has one,
        whether there is a backend for that or not."""
        found: dict[str, str] = {}
        for route, claim in self.claims(limited=False)["http"].items():
            if route.label:
                found.setdefault(claim.pattern, route.label)
        return found

    def certificate(self, host: str) -> str:
        """The label of what its clients are shown; "" for the default one."""
        found = self.certificates()
        return found.get(host) or found.get(f"*.{host.partition('.')[2]}") or ""

    def _think(self) -> None:
        limited, everybody = self.claims(), self.claims(limited=False)
        for question in (*QUESTIONS, *PORT_QUESTIONS):
            whole = self.whole(question.port) if question.port else None
            route = whole or _chosen(limited, question)
            ready = frozenset() if route is None else self.ready(route)
            wanting = [whole] if whole else list(_matching(everybody, question))
            matching = self._pods(wanting)
            # Where backends are few, another may wait for one still; a whole port has its own.
            waits = whole is None and limited != everybody
            pods = matching if waits else self._pods([route] if route else [])
            # Who is passed through has no place where TLS ended.
            passed = question.secured and _passes(limited["passthrough"], question.host)
            misdirected = bool(passed) and route is None
            otherwise = NONE if question.port else "(421)" if misdirected else "(503)"
            self.served[question] = Served(route, ready, pods, matching, bool(wanting), otherwise)

    def pods_now(self, route: WebRoute | None) -> frozenset[str]:
        """Those of what became of ``route``."""
        now = self.routes.get(route.name) if route else None
        return self._pods([now] if now and route and now.namespace == route.namespace else [])

    def _pods(self, routes: Iterable[WebRoute]) -> frozenset[str]:
        return frozenset(pod for route in routes for pod in self.ends.get(route.service, {}))

    def ready(self, route: WebRoute) -> frozenset[str]:
        """The pods that new requests get to. Those that leave serve while there are no others, as
        with Kubernetes' own Services."""
        pods = self.ends.get(route.service, {})
        return frozenset(pod for pod, state in pods.items() if state == "ready") or frozenset(pods)


def _chosen(
    claims: Mapping[str, Mapping[WebRoute, WebClaim]], question: Question
) -> WebRoute | None:
    """Whose ``question`` is."""
    host, target, secured, port = question
    if target is None:
        return _passes(claims[port or "passthrough"], host)
    passed = _passes(claims.get("passthrough", {}), host) if secured else None
    if passed and not passed.wildcard:
        return None
    originals = {
        _original(claim): route
        for route, claim in claims["http"].items()
        if claim.termination == ("edge" if secured else "http")
    }
    choice = originals_choice(originals, host, target)
    return originals[choice] if choice else None


def _passes(claims: Mapping[WebRoute, WebClaim], host: str) -> WebRoute | None:
    """To whom TLS for ``host`` is passed through, at one place."""
    names = {key_of(claim).name: route for route, claim in claims.items()}
    return names.get(host) or names.get(f"*.{host.partition('.')[2]}")


def _matching(
    claims: Mapping[str, Mapping[WebRoute, WebClaim]], question: Question
) -> Iterator[WebRoute]:
    """Whose it could be, if others were not there."""
    kind = question.port or ("passthrough" if question.target is None else "http")
    for route, claim in claims[kind].items():
        if _chosen({kind: {route: claim}}, question):
            yield route


def _original(claim: WebClaim) -> OriginalRoute:
    return OriginalRoute(claim.host, claim.path, claim.wildcard, "be")


def key_of(claim: WebClaim) -> WebKey:
    return web_key(claim.host, claim.path, wildcard=claim.wildcard)


def _age(route: WebRoute) -> tuple[int, str]:
    return route.born, f"{route.namespace}-{route.name}"
