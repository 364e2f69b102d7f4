"""Who owns which port: a pure allocator over the claims of our Routes.

A claim is a Route's wish for a port. The oldest claim wins (creationTimestamp, then UID); the
others wait, and the next oldest gets the port when the owner goes. Whether an owner has servers
plays no part, or a port would change hands whenever somebody scales to zero.

Ports given to ``auto`` claims are kept for as long as the Route lives: pass `Ledger.auto_ports`
of the last life as ``kept``. Must not look at Services or endpoints, and imports no I/O.
"""

import bisect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sidecar.model import Key, Route
from sidecar.pool import Pool, PortPool, format_ports
from sidecar.verdicts import Reason, Verdict

#: The value of the port annotation that leaves the choice to us.
AUTO = "auto"

#: HAProxy passes the bytes of these through untouched; the others would need us to speak TLS.
_RAW_TERMINATIONS = frozenset({None, "", "passthrough"})

#: ASCII, and never more digits than a port has: what users send may be of any length.
_NUMBER = re.compile(r"[0-9]{1,5}")


def judge(route: Route, pool: Pool) -> int | str | Verdict:
    """The port that ``route`` may claim, `AUTO`, or why it may claim none. Looks at it alone."""

    def refuse(reason: Reason, message: str, port: int | None = None) -> Verdict:
        return Verdict(route.key, port, reason, message)

    if route.tls_termination not in _RAW_TERMINATIONS:
        return refuse(
            Reason.UNSUPPORTED_TERMINATION,
            f"spec.tls.termination: {route.tls_termination!r} is not done on a TCP port;"
            " use passthrough, or leave spec.tls out",
        )
    text = (route.port or "").strip()
    if text == AUTO:
        if _auto_pool(route.namespace, pool):
            return AUTO
        return refuse(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"no pool of this router is open to namespace {route.namespace!r}",
        )
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= 65535:
        given = "the port annotation is missing" if not text else f"{text[:80]!r} is no port"
        return refuse(
            Reason.INVALID_PORT,
            f'{given}; write a number from 1 to 65535, like "13306", or "{AUTO}"',
        )
    port = int(text)
    if port not in pool:
        return refuse(
            Reason.PORT_NOT_IN_POOL,
            f"port {port} is in no pool of this router; namespace {route.namespace!r}"
            f" may use {_open_to(route.namespace, pool) or 'none'}",
            port,
        )
    if not pool.by_port[port].allows(route.namespace):
        return refuse(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"port {port} is not open to namespace {route.namespace!r}; it may use"
            f" {_open_to(route.namespace, pool) or 'none'}",
            port,
        )
    return port


def _auto_pool(namespace: str, pool: Pool) -> PortPool | None:
    """The class that ``auto`` takes from. One only: the others may have other timeouts or speak
    the PROXY protocol, which nobody should get by chance."""
    return next((item for item in pool.classes if item.allows(namespace)), None)


def _open_to(namespace: str, pool: Pool) -> str:
    """The ports that the namespace may use, for a person."""
    allowed = (pool_class for pool_class in pool.classes if pool_class.allows(namespace))
    return format_ports(port for pool_class in allowed for port in pool_class.ports)


@dataclass(frozen=True, slots=True, order=True)
class _Claim:
    """A Route's place in the queue of a port; smaller is older."""

    created_seconds: float
    uid: str
    route: Key


class Ledger:
    """All claims, and who owns what.

    ``router_name``: whose Routes are ours. ``kept``: Route UID -> the port that it got as
    ``auto`` before; it counts when a Route of that UID is first seen.
    """

    def __init__(self, router_name: str, pool: Pool, kept: Mapping[str, int]) -> None:
        self._router_name = router_name
        self._pool = pool
        self._routes: dict[Key, Route] = {}
        self._refused: dict[Key, Verdict] = {}
        # Route -> the port in whose queue it stands; None for an `auto` Route that found no port
        self._places: dict[Key, int | None] = {}
        # port -> its claims, oldest first
        self._queues: dict[int, list[_Claim]] = {}
        self._kept = dict(kept)
        self._auto: set[Key] = set()
        # `auto` Route without a port -> whether it was looked for since it has none
        self._homeless: dict[Key, bool] = {}

    def update(self, changed: Mapping[Key, Route | None]) -> set[int]:
        """Take Routes as they are now (None: gone); the ports whose queue is different."""
        ports: set[int] = set()
        # `auto` Route that is still the same one -> its port
        had: dict[Key, int] = {}
        for key, route in changed.items():
            port = self._places.get(key)
            if key in self._auto and route and route.uid == self._routes[key].uid and port:
                had[key] = port
            ports |= self._leave(key)
        for key, route in changed.items():
            if route is not None and route.router_name == self._router_name:
                self._routes[key] = route
                ports |= self._enter(route, had.get(key, self._kept.pop(route.uid, None)))
        # Last, so that at a first sync `auto` does not take what somebody else names.
        return ports | self._place_autos(ports)

    def owner(self, port: int) -> Route | None:
        """The Route that has ``port``."""
        queue = self._queues.get(port)
        return self._routes[queue[0].route] if queue else None

    def owned(self, key: Key) -> int | None:
        """The port that the Route has, or None."""
        port = self._places.get(key)
        return port if port is not None and self._queues[port][0].route == key else None

    def queue(self, port: int) -> list[Key]:
        """The Routes that claim ``port``, its owner first."""
        return [claim.route for claim in self._queues.get(port, ())]

    @property
    def auto_ports(self) -> Mapping[str, int]:
        """Route UID -> port, of the ``auto`` Routes that exist now."""
        return {
            route.uid: port
            for key in self._auto
            if (port := self._places[key]) is not None and (route := self._routes[key])
        }

    @property
    def routes(self) -> Iterable[Route]:
        """All Routes that name this router."""
        return self._routes.values()

    def verdict(self, key: Key) -> Verdict | None:
        """Whether the Route owns its port; None when it is not ours."""
        route = self._routes.get(key)
        if route is None:
            return None
        if refused := self._refused.get(key):
            return refused
        port = self._places[key]
        if port is None:
            pool = _auto_pool(route.namespace, self._pool)
            ports = f" of pool {pool.name!r} ({format_ports(pool.ports)})" if pool else ""
            return Verdict(
                key,
                None,
                Reason.POOL_EXHAUSTED,
                f'all ports{ports} are taken, where "{AUTO}" takes from; free one,'
                " give the pool more, or write a port of another pool",
            )
        owner = self._queues[port][0].route
        if owner == key:
            return Verdict(key, port, Reason.ADMITTED, "")
        who = (
            f"the older Route {owner.name!r}"
            if owner.namespace == key.namespace
            else "an older Route of another namespace"
        )
        return Verdict(
            key,
            port,
            Reason.PORT_ALREADY_CLAIMED,
            f"port {port} is claimed by {who}; this one gets it when that goes,"
            f' or ask for another port or "{AUTO}"',
        )

    def _leave(self, key: Key) -> set[int]:
        route = self._routes.pop(key, None)
        if route is None:
            return set()
        self._refused.pop(key, None)
        self._auto.discard(key)
        self._homeless.pop(key, None)
        port = self._places.pop(key, None)
        return set() if port is None else self._dequeue(route, port)

    def _enter(self, route: Route, had: int | None) -> set[int]:
        """``had``: the port that it has had until now, should it be `auto`."""
        judged = judge(route, self._pool)
        if isinstance(judged, Verdict):
            self._refused[route.key] = judged
            return set()
        if isinstance(judged, int):
            return self._enqueue(route, judged)
        self._auto.add(route.key)
        self._places[route.key] = None
        pool_class = None if had is None else self._pool.by_port.get(had)
        if had is None or pool_class is None or not pool_class.allows(route.namespace):
            self._homeless[route.key] = False
            return set()
        return self._enqueue(route, had)

    def _place_autos(self, ports: set[int]) -> set[int]:
        """Give a port to each ``auto`` Route that has none, or lost its own to an older claim.

        ``ports``: those whose queue just changed; only there can one have lost, or one be free.
        """
        moved: set[int] = set()
        for port in ports if self._auto else ():
            for key in self.queue(port)[1:]:
                if key in self._auto:
                    moved |= self._dequeue(self._routes[key], port)
                    self._places[key] = None
                    self._homeless[key] = False
        tried_all = all(self._homeless.values()) and all(port in self._queues for port in ports)
        if not self._homeless or tried_all:
            return moved
        full: set[str] = set()
        for key in sorted(self._homeless, key=lambda key: _claim(self._routes[key])):
            self._homeless[key] = True
            route = self._routes[key]
            pool = _auto_pool(route.namespace, self._pool)
            if pool is None or pool.name in full:
                continue
            free = next((port for port in pool.ports if port not in self._queues), None)
            if free is None:
                full.add(pool.name)
            else:
                moved |= self._enqueue(route, free)
        return moved

    def _enqueue(self, route: Route, port: int) -> set[int]:
        bisect.insort(self._queues.setdefault(port, []), _claim(route))
        self._places[route.key] = port
        self._homeless.pop(route.key, None)
        return {port}

    def _dequeue(self, route: Route, port: int) -> set[int]:
        queue = self._queues[port]
        del queue[bisect.bisect_left(queue, _claim(route))]
        if not queue:
            del self._queues[port]
        return {port}


def _claim(route: Route) -> _Claim:
    return _Claim(route.created_seconds, route.uid, route.key)
