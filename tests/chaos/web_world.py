"""The world of a chaos run of Routes by host: what there is, and who serves what, in plain Python.

Who owns a host and path, `HostIndex` says, made anew for each state; which Route a request is for,
OpenShift's own patterns (`by_host`). Of HAProxy it knows nothing.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import stand
from by_host import OriginalRoute, host_app, originals_choice
from parts import host_rules
from shapes import KEYS
from whole_map import holders

from sidecar.listeners.host_rules import WebClaim
from sidecar.listeners.hosts import HostIndex
from sidecar.listeners.web_keys import CLEAR, ENDED, WebKey, sni_entry, web_key
from sidecar.model.objects import Route
from sidecar.model.parsing import project

NAMESPACES = ("n1", "n2", "n3")
HOSTS = ("one.example", "two.example", "w.apps.example", "x.apps.example", "y.apps.example")
PATHS = ("", "", "/a", "/a/", "/b")
TERMINATIONS = ("", "", "passthrough", "edge", "edge", "reencrypt")
TARGETS = ("/", "/a", "/a/", "/a/x", "/ab", "/b", "/b/y")
NAMES = tuple(f"r{number}" for number in range(8))
#: A Route leads to one of two Services, which have no pod in common.
VERSIONS = ("a", "b")
PODS_EACH = 3
#: A Route has none, or one of those of its name.
CERTIFICATES = (0, 1, 2, 3)
RULES = host_rules(wildcards=True)


class Question(NamedTuple):
    """What a client asks for. ``target``: None for a passthrough connection. ``secured``: over TLS
    that HAProxy ends."""

    host: str
    target: str | None
    secured: bool = False


QUESTIONS = (
    *(Question(host, target) for host in HOSTS for target in (*TARGETS, None)),
    *(Question(host, target, secured=True) for host in HOSTS for target in TARGETS),
)

#: Termination -> the class of its backends.
CLASS_OF = {"http": "http", "edge": "http", "passthrough": "passthrough"}


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A method of the run, with what it is given."""

    action: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class WebRoute:
    """A Route, and which of its Services it leads to."""

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
        return (self.name, self.namespace, self.host, self.path, self.wildcard, self.termination)


def pods_of(service: str) -> tuple[str, ...]:
    return tuple(f"{service}{number}" for number in range(PODS_EACH))


PODS = tuple(pod for name in NAMES for version in VERSIONS for pod in pods_of(f"{name}{version}"))

#: pod -> "ready" or "leaving"; others are not there.
Ends = Mapping[str, str]


class Served(NamedTuple):
    """Who serves a question: the Route, and its pods that are ready. ``pods``: all who may answer.
    ``matching``: of all Routes that match, who may answer while it changes hands. ``otherwise``:
    what HAProxy answers while no pod does."""

    route: WebRoute | None
    ready: frozenset[str]
    pods: frozenset[str]
    matching: frozenset[str]
    otherwise: str = "(503)"


NOBODY = Served(None, frozenset(), frozenset(), frozenset())
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
    served: dict[Question, Served] = field(default_factory=lambda: dict.fromkeys(QUESTIONS, NOBODY))

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
        """Class -> the Routes that have a host and path, with these; if ``limited``, the oldest of
        them that there are backends for."""
        objects = {name: project(self._route(route), KEYS) for name, route in self.routes.items()}
        known = {item.key: item for item in objects.values() if isinstance(item, Route)}
        index = HostIndex(RULES)
        index.update(known)
        found: dict[str, dict[WebRoute, WebClaim]] = {"http": {}, "passthrough": {}}
        for name, route in sorted(self.routes.items(), key=lambda item: _age(item[1])):
            claim = index.active(objects[name].key)
            of = CLASS_OF.get(claim.termination) if claim else None
            if claim is None or of is None:
                continue
            if len(found[of]) < (self.backends[of] if limited else _MANY):
                found[of][route] = claim
        return found

    def entries(self, kind: str) -> Mapping[str, WebRoute]:
        """The map of a class: entry -> whose it is."""
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
        for question in QUESTIONS:
            route = _chosen(limited, question)
            ready = frozenset() if route is None else self.ready(route)
            matching = self._pods(_matching(everybody, question))
            # Where backends are few, another may wait for one still.
            pods = self._pods([route] if route else []) if limited == everybody else matching
            # Who is passed through has no place where TLS ended.
            misdirected = question.secured and route is None and _passes(limited, question.host)
            otherwise = "(421)" if misdirected else "(503)"
            self.served[question] = Served(route, ready, pods, matching, otherwise)

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
    host, target, secured = question
    if target is None:
        return _passes(claims, host)
    if secured and (passed := _passes(claims, host)) and not passed.wildcard:
        return None
    originals = {
        _original(claim): route
        for route, claim in claims["http"].items()
        if claim.termination == ("edge" if secured else "http")
    }
    choice = originals_choice(originals, host, target)
    return originals[choice] if choice else None


def _passes(claims: Mapping[str, Mapping[WebRoute, WebClaim]], host: str) -> WebRoute | None:
    """To whom TLS for ``host`` is passed through."""
    names = {key_of(claim).name: route for route, claim in claims.get("passthrough", {}).items()}
    return names.get(host) or names.get(f"*.{host.partition('.')[2]}")


def _matching(
    claims: Mapping[str, Mapping[WebRoute, WebClaim]], question: Question
) -> Iterator[WebRoute]:
    """Whose it could be, if others were not there."""
    kind = "passthrough" if question.target is None else "http"
    for route, claim in claims[kind].items():
        if _chosen({kind: {route: claim}}, question):
            yield route


def _original(claim: WebClaim) -> OriginalRoute:
    return OriginalRoute(claim.host, claim.path, claim.wildcard, "be")


def key_of(claim: WebClaim) -> WebKey:
    return web_key(claim.host, claim.path, wildcard=claim.wildcard)


def _age(route: WebRoute) -> tuple[int, str]:
    return route.born, f"{route.namespace}-{route.name}"


class WebDice(random.Random):
    """What happens next."""

    def route(self, world: WebWorld, name: str) -> WebRoute | None:
        """Another state of a Route: gone, or with something changed."""
        former = world.routes.get(name)
        if former is None:
            passthrough = self.random() < 0.2
            return WebRoute(
                name,
                self.choice(NAMESPACES),
                self.choice(HOSTS),
                "" if passthrough else self.choice(PATHS),
                self.random() < 0.2,
                "passthrough" if passthrough else self.choice(("", "", "edge", "edge")),
                self.randrange(600),
                self.choice(VERSIONS),
                self.choice(CERTIFICATES),
            )
        changes: dict[str, Any] = {}
        if self.random() < 0.3:
            return None
        for what, values in (
            ("host", HOSTS),
            ("path", PATHS),
            ("namespace", NAMESPACES),
            ("termination", TERMINATIONS),
            ("born", range(600)),
            ("wildcard", (False, False, True)),
            ("version", VERSIONS),
            ("certificate", CERTIFICATES),
        ):
            if self.random() < 0.25:
                changes[what] = self.choice(values)
        changed = replace(former, **changes)
        return replace(changed, path="") if changed.termination == "passthrough" else changed

    def ends(self, world: WebWorld, service: str) -> Ends:
        """Other endpoints of a Service: mostly some are ready."""
        pods = pods_of(service)
        match self.randrange(6):
            case 0:
                return {}
            case 1:
                return dict.fromkeys(pods, "leaving")
            case 2 | 3:
                # All that were there leave, others come.
                old = world.ends.get(service, {})
                return {pod: "ready" for pod in pods if pod not in old} or {pods[0]: "ready"}
            case _:
                states = {pod: self.choice(("ready", "ready", "leaving", "")) for pod in pods}
                return {pod: state for pod, state in states.items() if state}

    def step(self, world: WebWorld) -> Step:
        """What happens next: a method of the run, and its arguments."""
        names = self.sample(NAMES, self.choice((1, 1, 1, 2, 3)))
        routes = {name: self.route(world, name) for name in names}
        services = {
            world.routes[name].service if name in world.routes else f"{name}a"
            for name in self.sample(NAMES, self.choice((1, 1, 1, 2, 3)))
        }
        ends = {service: self.ends(world, service) for service in sorted(services)}
        roll = self.random()
        steps: dict[Step, float] = {
            Step("tell", (routes, {})): 30,
            Step("tell", ({}, ends)): 25,
            Step("tell", (routes, ends)): 12,
            Step("pause", (roll**2 * 0.3,)): 15,
            Step("be_quiet", (False,)): 8,
            Step("be_quiet", (True,)): 1,
            Step("sidecar.kill_worker"): 3,
            Step("sidecar.kill"): 2,
            Step("sidecar.start"): 4,
            Step("trip", (int(roll * 20) + 1, self.choice(("", "worker", "sidecar")))): 5,
            Step("relay.fault", ("slow",)): 3,
            Step("relay.fault", ("pass",)): 3,
            Step("tamper", (roll, self.choice(({}, routes)))): 2,
            Step("tamper_certificates", (roll, self.choice(({}, routes)))): 2,
            Step("kill_haproxy"): 1,
            Step("restart_alone"): 0.4,
        }
        (step,) = self.choices(list(steps), list(steps.values()))
        return step
