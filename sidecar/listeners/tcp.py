"""A TCP port as a kind of listener: what a Route's annotation may ask for, looked at alone, and the
frontend that opens it.

Each port has a frontend and a backend of its own, which haproxy.cfg ties together for good: a port
leads to its backend or nowhere. Must not know who else asks for it (`sidecar.routing.claims`), nor
Services or endpoints. Pure.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from sidecar.common.text import shown
from sidecar.haproxy.dialect import OTHER_CONFIG, is_no_proxy
from sidecar.haproxy.naming import (
    backend_name,
    frontend_name,
    port_of_backend,
    port_of_frontend,
)
from sidecar.haproxy.operations import ClosePort, KeyOperation, OpenPort
from sidecar.haproxy.state import ObservedUnit, parse_frontends
from sidecar.listeners.base import ExposureRules
from sidecar.listeners.port_maps import PortMaps, judged_by, judges
from sidecar.model.desired import Attributes, ClaimKey, Unit
from sidecar.model.objects import Route
from sidecar.model.pool import Pool, PortPool, format_ports
from sidecar.model.verdicts import Reason, Verdict

#: The kind's name.
TCP = "tcp"

#: A port that was just opened or closed stays so: HAProxy does not like it to flap (#2222).
TOGGLE_SECONDS = 1.0

#: HAProxy's clock is another one.
_MARGIN_SECONDS = 0.1

#: HAProxy waits so long before it tries another server in place of one that refused, or for as long
#: as an attempt may take, if that is less.
_TURN_AROUND_SECONDS = 1.0

_ALL = "show stat -1 1 -1"

_NOTHING: frozenset[ClaimKey] = frozenset()

#: The value of the port annotation that leaves the choice to us.
AUTO = "auto"

#: HAProxy passes the bytes of these through untouched; the others would need us to speak TLS.
_RAW_TERMINATIONS = frozenset({"", "passthrough"})

#: ASCII, and never more digits than a port has: what users send may be of any length.
_NUMBER = re.compile(r"[0-9]{1,5}")


def key_of(port: int) -> ClaimKey:
    return ClaimKey(TCP, str(port))


def unit_of(port: int) -> Unit:
    return backend_name(port)


def _let_in_seconds(connect_timeout_seconds: float) -> float:
    """A client waits in a queue for as long as an attempt may take; the attempt may fail at its
    end, and another server is chosen after a pause."""
    pause = min(_TURN_AROUND_SECONDS, connect_timeout_seconds)
    return connect_timeout_seconds + pause + _MARGIN_SECONDS


def port_of(unit: Unit) -> int:
    """Raises ValueError if it is the unit of another kind."""
    port = port_of_backend(unit)
    if port is None:
        raise ValueError(f"no port's backend: {unit!r}")
    return port


def ports_of(units: Iterable[Unit]) -> list[int]:
    """In ascending order."""
    return sorted(map(port_of, units))


class TCPPorts:
    """All ports of ``pool``; a `ListenerKind`. ``close_after_seconds``: how long one may be open
    without a server that takes connections. ``maps``: what else HAProxy is told of them."""

    def __init__(
        self, pool: Pool, close_after_seconds: float = 5.0, maps: PortMaps | None = None
    ) -> None:
        self.pool = pool
        self.maps = maps or PortMaps()
        self._rules = {
            item.name: ExposureRules(
                close_after_seconds,
                TOGGLE_SECONDS,
                _let_in_seconds(item.connect_timeout_seconds),
            )
            for item in pool.classes
        }
        self.classes: Mapping[Unit, PortPool] = {
            unit_of(port): item for port, item in pool.by_port.items()
        }
        self._keys = {unit_of(port): frozenset({key_of(port)}) for port in pool.ports}
        # of the ports that HAProxy has, as last read: for "show stat" of one it walks all proxies
        self._exposed: dict[Unit, frozenset[ClaimKey]] = {}

    @property
    def names(self) -> Collection[str]:
        return [TCP, *self.maps.names]

    def rules(self, unit: Unit, /) -> ExposureRules:
        return self._rules[self.classes[unit].name]

    def unit(self, key: ClaimKey) -> Unit:
        """What ``key`` leads to when it is exposed."""
        return unit_of(int(key.name))

    def source(self, unit: Unit | None) -> str | None:
        """The IP that the servers of ``unit`` are connected to from; None where that is any."""
        pool = self.classes.get(unit) if unit is not None else None
        return pool.source if pool else None

    def keys(self, unit: Unit) -> frozenset[ClaimKey]:
        """Those that lead to ``unit`` when it is exposed."""
        return self._keys[unit]

    def expose(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        return OpenPort(unit, key, frontend_name(int(key.name)))

    def conceal(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        return ClosePort(unit, key, frontend_name(int(key.name)))

    def takes(self, attribute: str, value: str, /) -> bool:
        return self.maps.takes(attribute, value)

    def lacks(self, attribute: str, value: str, /) -> bool:
        return self.maps.lacks(attribute, value)

    def guards(self, _attribute: str, /) -> bool:
        return False

    def judges(self, attribute: str) -> bool:
        return judges(attribute)

    def judged_by(self, attributes: Attributes) -> str:
        return judged_by(attributes)

    def describe(self, unit: Unit, attribute: str, value: str) -> Sequence[KeyOperation]:
        return self.maps.change(unit, attribute, value)

    def forget(self, unit: Unit, attribute: str) -> Sequence[KeyOperation]:
        return self.maps.remove(unit, attribute)

    def questions(
        self, units: Collection[Unit] | None, touched: Collection[ClaimKey], /
    ) -> list[str]:
        if units is None:
            return [_ALL, *self.maps.questions(None)]
        asked = [self.unit(key) for key in touched if key.listener == TCP]
        asked += [unit for unit in units if unit not in self._exposed]
        ports = dict.fromkeys(map(port_of, asked))
        lines = [f"show stat {frontend_name(port)} 1 -1" for port in ports]
        return [*lines, *self.maps.questions(touched)]

    def parse(
        self, answers: Mapping[str, str], units: Collection[Unit], /
    ) -> dict[Unit, frozenset[ClaimKey]]:
        self.maps.parse(answers)
        for question, reply in answers.items():
            if not question.startswith("show stat ") or is_no_proxy(reply):
                continue
            if question == _ALL:
                self._exposed = {}
            for name, listens in parse_frontends(reply).items():
                port = port_of_frontend(name)
                if port is not None and (keys := self._keys.get(unit_of(port))):
                    self._exposed[unit_of(port)] = keys if listens else _NOTHING
        return {unit: self._exposed[unit] for unit in units if unit in self._exposed}

    def attributes(self, unit: Unit) -> Attributes:
        return self.maps.of(unit)

    def absence(self, unit: Unit) -> str:
        return f"HAProxy has no frontend {frontend_name(port_of(unit))}; {OTHER_CONFIG}"

    def problems(self, observed: Mapping[Unit, ObservedUnit]) -> Iterable[str]:
        if absent := [unit for unit in self.classes if unit not in observed]:
            missing = format_ports(ports_of(absent))
            yield (
                f"HAProxy has no frontend {frontend_name(port_of(absent[0]))} with backend"
                f" {absent[0]} (missing ports: {missing}); {OTHER_CONFIG}"
            )
        for unit, seen in observed.items():
            pool = self.classes[unit]
            if lacking := [name for name in pool.slot_names if name not in seen.servers]:
                yield (
                    f"HAProxy's backend {unit} lacks {len(lacking)} of {pool.slots} slots, first"
                    f" {lacking[0]}; {OTHER_CONFIG}"
                )

    def title(self, unit: Unit) -> str:
        return f"port {port_of(unit)}"

    def port(self, unit: Unit) -> int:
        return port_of(unit)

    def log_fields(self, unit: Unit) -> Mapping[str, object]:
        return {"port": port_of(unit)}


def judge(route: Route, pool: Pool) -> int | PortPool | Verdict:
    """The port that ``route`` may claim, the class of which it may have any port, or why it may
    claim none. Looks at it alone."""

    def refuse(reason: Reason, message: str, port: int | None = None) -> Verdict:
        return Verdict(route.key, port, reason, message)

    termination = route.tls.termination if route.tls else ""
    if termination not in _RAW_TERMINATIONS:
        return refuse(
            Reason.UNSUPPORTED_TERMINATION,
            f"spec.tls.termination: {shown(termination)} is not supported on a TCP"
            " port; use passthrough, or omit spec.tls",
        )
    text = (route.port or "").strip()
    if text == AUTO:
        # One class only: the others may have other timeouts or speak the PROXY protocol, which
        # nobody should get by chance.
        first = next((item for item in pool.classes if item.allows(route.namespace)), None)
        return first or refuse(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"no pool of this router is open to namespace {route.namespace!r}",
        )
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= 65535:
        given = (
            "the port annotation is missing" if not text else f"{shown(text)} is not a valid port"
        )
        return refuse(
            Reason.INVALID_PORT,
            f'{given}; write a number from 1 to 65535, like "13306", or "{AUTO}"',
        )
    port = int(text)
    if port not in pool:
        return refuse(
            Reason.PORT_NOT_IN_POOL,
            f"port {port} is in no pool of this router; namespace {route.namespace!r}"
            f" may use {pool.open_to(route.namespace) or 'none'}",
            port,
        )
    if not pool.by_port[port].allows(route.namespace):
        return refuse(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"port {port} is not open to namespace {route.namespace!r}; it may use"
            f" {pool.open_to(route.namespace) or 'none'}",
            port,
        )
    return port


def is_for_host(route: Route, port: int, pool: Pool) -> bool:
    """Whether ``route`` asks for ``port`` only for the clients that name its host by SNI: where
    the port may be shared, and its author wrote a host and passthrough."""
    wrote_host = bool(route.host) and not route.host_generated
    passthrough = route.tls is not None and route.tls.termination == "passthrough"
    return pool.by_port[port].shared_by_sni and wrote_host and passthrough


def port_number(text: str | None) -> int | None:
    """A port as text, where it is one."""
    return int(text) if text and _NUMBER.fullmatch(text) else None
