"""What happens next in a chaos run of Routes by host."""

import random
from dataclasses import dataclass, replace
from typing import Any

from web_world import (
    CERTIFICATES,
    HOSTS,
    NAMES,
    NAMESPACES,
    PATHS,
    PORTS,
    TERMINATIONS,
    VERSIONS,
    Ends,
    WebRoute,
    WebWorld,
    pods_of,
)

#: How many Routes are to be at ports, and with which termination.
_AT_PORTS = 0.33
_AT_A_PORT = (*["passthrough"] * 8, "", "edge")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A method of the run, with what it is given."""

    action: str
    arguments: tuple[Any, ...] = ()


class WebDice(random.Random):
    """What happens next."""

    def route(self, world: WebWorld, name: str) -> WebRoute | None:
        """Another state of a Route: gone, or with something changed."""
        former = world.routes.get(name)
        if former is None:
            passthrough = self.random() < 0.2
            return self._fit(
                WebRoute(
                    name,
                    self.choice(NAMESPACES),
                    self.choice(HOSTS),
                    self.choice(PATHS),
                    self.random() < 0.2,
                    "passthrough" if passthrough else self.choice(("", "", "edge", "edge")),
                    self.randrange(600),
                    self.choice(VERSIONS),
                    self.choice(CERTIFICATES),
                    self.choice(PORTS) if self.random() < _AT_PORTS else "",
                ),
                is_new=True,
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
            ("port", (*[""] * 4, *PORTS)),
        ):
            if self.random() < 0.25:
                changes[what] = self.choice(values)
        changed = replace(former, **changes)
        anew = changed.port != former.port or changed.termination != former.termination
        return self._fit(changed, is_new=anew)

    def _fit(self, route: WebRoute, *, is_new: bool) -> WebRoute:
        """At ports, mostly passthrough with a host, sometimes a whole port, seldom what is none.
        ``is_new``: at its place, or of its termination."""
        if route.port and is_new:
            host = "" if self.random() < 0.15 else route.host or self.choice(HOSTS)
            route = replace(route, termination=self.choice(_AT_A_PORT), host=host)
        return replace(route, path="") if route.termination == "passthrough" else route

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
