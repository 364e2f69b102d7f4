"""Web Routes: those by host, at the listeners or on a port that they share. Which of them is
served, and by which backend. Pure.

Joins the admission of hosts (`sidecar.listeners.hosts`) and the leases of backends. Must not look
at Services or endpoints.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from sidecar.haproxy.authorities import fault
from sidecar.listeners.host_rules import Asked
from sidecar.listeners.hosts import HostRules, Refusal, WebClaim
from sidecar.listeners.web_keys import CLEAR, ENDED, hosts_entries, port_entry, sni_entry, web_key
from sidecar.model.certificate_rules import GoodTLS, judge_tls
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import NO_ATTRIBUTES, Attributes, ClaimKey, Unit
from sidecar.model.objects import Key, Route, RouteTLS
from sidecar.model.pool import ListenerProtocol, WebClassName
from sidecar.model.verdicts import Reason, Verdict
from sidecar.routing.claims import claim_of
from sidecar.routing.host_certificates import HostCertificates, Shown
from sidecar.routing.host_spaces import HostSpaces
from sidecar.routing.leases import Leases

#: Which Routes without a port are ours, if they name no router.
WebRoutes = Literal["all", "annotated"]

#: The maps, by what finds a Route there: host and path of a request, SNI, a shared port and SNI.
HOSTS, SNI, PORTS = "hosts", "sni", "ports"

#: What HAProxy is told of a Route's backend: who it is, for its log; and what rules are to do with
#: its requests, a letter each.
ROUTES, FLAGS = "routes", "flags"

#: Of one whose servers speak TLS: by which CAs they are verified, and as whom.
AUTHORITY, SERVER_NAME = "authority", "server_name"

_DESTINATION_CA = "spec.tls.destinationCACertificate"

_UNTRUSTED = (
    f"{_DESTINATION_CA}: missing, and without it nobody could tell the Route's"
    " servers from others; write the PEM of the CA that signed their certificates, or set"
    " web.service_ca of the router to the CA of all Services"
)

#: A request in clear is sent to where TLS is.
_REDIRECTS = "r"


class Trust(NamedTuple):
    """By which CAs a Route's servers are verified, and by which name in their certificates: "" for
    any. ``source``: where the CAs come from, for a person."""

    authority: CertificateAuthority
    server_name: str
    source: str


class Place(NamedTuple):
    """Where a Route is served: by a backend of the class ``of``, to which ``entries`` lead.
    ``trust``: None where its servers are not verified."""

    of: WebClassName
    entries: tuple[ClaimKey, ...]
    trust: Trust | None = None


class Web:
    """``classes``: the backends of each class; one that nothing leads to is absent.
    ``listeners``: what their clients speak; ports may be shared without any. ``service_ca``: of
    the servers of Routes that are re-encrypted and bring no CA."""

    def __init__(
        self,
        rules: HostRules,
        classes: Mapping[WebClassName, Sequence[Unit]],
        listeners: Collection[ListenerProtocol] = ("http", "tls"),
        service_ca: CertificateAuthority | None = None,
    ) -> None:
        #: Where an entry leads, as HAProxy was last seen.
        self.leads_to: Callable[[ClaimKey], Unit | None] = lambda _: None
        self.certificates = HostCertificates()
        # Route -> its spec.tls, and what that was found to be
        self._judged: dict[Key, tuple[RouteTLS, GoodTLS | Refusal]] = {}
        #: Whether HAProxy shows that nothing of its last Route is left on a backend; None where it
        #: lacks the backend.
        self.is_clean: Callable[[Unit], bool | None] = lambda _: True
        self._hosts = HostSpaces(rules)
        self._listeners = frozenset(listeners)
        self._service_ca = service_ca
        self._leases = {name: Leases(units, self._may_take) for name, units in classes.items()}
        # backends that lost their Route since HAProxy's state and maps were saved: from what is
        # saved, a HAProxy that restarts alone would lead the former Route's hosts to the next one
        self._unsaved: set[Unit] = set()
        self._class = {unit: name for name, units in classes.items() for unit in units}
        self._routes: dict[Key, Route] = {}
        self._placed: dict[Key, Place] = {}
        # key -> the Routes that it is an entry of, with the length of their paths: /a and /a/ have
        # one in common, which is the longer one's
        self._wanting: dict[ClaimKey, dict[Key, int]] = {}

    def update(self, changed: Mapping[Key, Route | None]) -> tuple[set[Unit], set[Key]]:
        """Take Routes as they are now (None: gone, or none of ours): the units that changed hands
        or entries, and the Routes of which something else is to be said."""
        units: set[Unit] = set()
        for key, route in changed.items():
            if route is None:
                self._routes.pop(key, None)
            else:
                self._routes[key] = route
            self._judge(key, route.tls if route else None)
        restated = self._hosts.update(changed)
        # Of those that changed nothing else may be said, but that they are older or younger.
        for key in restated | changed.keys():
            units |= self._replace(key)
        return units | self.settle(), restated

    def settle(self) -> set[Unit]:
        """Give backends to those who wait for one; the units that changed hands or entries."""
        changed: dict[Unit, Key] = {}
        for leases in self._leases.values():
            changed |= leases.settle()
        self._changed_hands(changed)
        return changed.keys() | self._units_beside(changed.values())

    def adopt(self, leads: Mapping[ClaimKey, Unit]) -> set[Unit]:
        """HAProxy was met. ``leads``: entry -> where it leads."""
        for leases in self._leases.values():
            leases.adopt(leads)
        return self.settle()

    def was_saved(self, units: Iterable[Unit]) -> None:
        """Entries of the maps that a predecessor saved lead to ``units``."""
        self._unsaved.update(units)

    def waits_for_saving(self) -> bool:
        """Whether a backend could be another's, were its state saved."""
        return any(self.is_clean(unit) for unit in self._unsaved)

    def saved(self) -> None:
        """HAProxy's state and maps were saved as they are now."""
        self._unsaved = {unit for unit in self._unsaved if not self.is_clean(unit)}

    def __contains__(self, route: Key) -> bool:
        return route in self._routes

    @property
    def has_listeners(self) -> bool:
        """Whether there is any for Routes without a port."""
        return bool(self._listeners)

    def port(self, route: Key) -> int | None:
        """The one that the Route shares; None for one at the listeners."""
        return self._hosts.port(route)

    @property
    def routes(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def unit(self, route: Key) -> Unit | None:
        """The backend that the Route has."""
        placed = self._placed.get(route)
        return self._leases[placed.of].unit(route) if placed else None

    def owner(self, unit: Unit) -> Key | None:
        """The Route that has ``unit``."""
        name = self._class.get(unit)
        return self._leases[name].holder(unit) if name else None

    def keys(self, unit: Unit) -> frozenset[ClaimKey]:
        """Those that should lead to ``unit``."""
        owner = self.owner(unit)
        if owner is None:
            return frozenset()
        return frozenset(
            key
            for key in self._entries(owner)
            if self._of(key) == owner and self._may_lead(key, owner, unit)
        )

    def serve(self, shown: Shown) -> tuple[set[Unit], set[Key]]:
        """The certificates that HAProxy serves are other ones: the units whose entries may be
        others by it, and the Routes of which something else is to be said."""
        routes = self.certificates.show(shown)
        return {unit for route in routes if (unit := self.unit(route)) is not None}, routes

    def attributes(self, unit: Unit) -> Attributes:
        """What HAProxy is to know of ``unit``; its listeners use it."""
        owner = self.owner(unit) if self._listeners else None
        claim = self._hosts.active(owner) if owner else None
        return _attributes(owner, claim, self.trust(unit)) if owner and claim else NO_ATTRIBUTES

    def trust(self, unit: Unit) -> Trust | None:
        """By whom the servers of ``unit`` are verified; None where they are not, or nobody has
        it."""
        owner = self.owner(unit)
        placed = self._placed.get(owner) if owner else None
        return placed.trust if placed else None

    def granted(self, key: ClaimKey) -> Unit | None:
        """Where ``key`` should lead."""
        of = self._of(key)
        unit = None if of is None else self.unit(of)
        return unit if of and unit and self._may_lead(key, of, unit) else None

    def claim(self, route: Key) -> WebClaim | None:
        """The host and path that the Route has."""
        return self._hosts.active(route)

    def found(self, route: Key) -> WebClaim | Refusal | None:
        """What the admission of hosts says of it."""
        return self._hosts.verdict(route)

    def verdict(self, route: Key) -> Verdict | None:
        """None for one that is no web Route of ours."""
        if route not in self._routes:
            return None
        return Verdict(route, self._hosts.port(route), *self._says(route), *self.asked(route))

    def asked(self, route: Key) -> Asked:
        """The host and path that a Route of ours names, be it refused."""
        return self._hosts.asked(self._routes[route])

    def _says(self, route: Key) -> Refusal:
        """The reason and the message of a Route's verdict."""
        found = self._hosts.verdict(route)
        if isinstance(found, Refusal):
            return found
        judged = self._good(route)
        if isinstance(judged, Refusal):
            return judged
        placed = self._placed.get(route)
        if placed is None:
            trusts = found is None or self._trust(route, found) is not None
            if "tls" in self._listeners and found and not trusts:
                return Refusal(Reason.EXTENDED_VALIDATION_FAILED, _UNTRUSTED)
            return Refusal(Reason.UNSUPPORTED_TERMINATION, _unserved(found))
        leases = self._leases[placed.of]
        if leases.adopted and leases.unit(route) is None:
            return Refusal(Reason.POOL_EXHAUSTED, _exhausted(placed.of, leases))
        failure = self.certificates.failure(route)
        if failure and not any(map(self.leads_to, self._entries(route))):
            return Refusal(Reason.EXTENDED_VALIDATION_FAILED, failure)
        return Refusal(Reason.ADMITTED, failure)

    def _judge(self, key: Key, tls: RouteTLS | None) -> None:
        judged = self._judged.pop(key, None)
        if tls is not None:
            self._judged[key] = judged if judged and judged[0] == tls else (tls, _judge(tls))

    def _good(self, route: Key) -> GoodTLS | Refusal:
        """What HAProxy needs for the Route's TLS."""
        return self._judged[route][1] if route in self._judged else GoodTLS()

    def _may_lead(self, key: ClaimKey, route: Key, unit: Unit) -> bool:
        """Whether an entry of the Route may lead to its ``unit``: where TLS ends here, not before
        its host has its certificate; but one that leads there already goes on while that is
        renewed."""
        if not _is_ended(key) or self.certificates.is_served(route):
            return True
        return self.leads_to(key) == unit

    def _replace(self, key: Key) -> set[Unit]:
        """What the Route may have is another, or nothing; the units that are touched by it."""
        before, now = self._placed.get(key), self._place(key)
        route, unit = self._routes.get(key), self.unit(key)
        touched = set() if unit is None else {unit}
        touched |= self._units_beside([key])
        for entry in self._entries(key):
            self._wanting[entry].pop(key)
            if not self._wanting[entry]:
                del self._wanting[entry]
        if before and not (now and now.of == before.of):
            del self._placed[key]
            self._leases[before.of].leave(key)
            self._changed_hands(set() if unit is None else {unit})
        claim = self._hosts.active(key)
        if now and route and claim:
            self._placed[key] = now
            leases = self._leases[now.of]
            if before and before.of == now.of:
                # Those who are verified by other CAs are not served beside those who were by
                # the former ones: while they come, these serve.
                moves = _authority(before) != _authority(now)
                touched |= leases.renew(claim_of(route), now.entries, moves=moves)
                self._changed_hands(touched)
            else:
                leases.enter(claim_of(route), now.entries)
            for entry in self._entries(key):
                self._wanting.setdefault(entry, {})[key] = len(claim.path)
        if now and route and claim and any(map(_is_ended, now.entries)):
            good = self._good(key)
            own = good.certificate if isinstance(good, GoodTLS) else None
            self.certificates.put(claim_of(route), claim.pattern, own)
        else:
            self.certificates.remove(key)
        return touched | self._units_beside([key])

    def _place(self, key: Key) -> Place | None:
        """Where the Route would be served; None where no listener is for it."""
        claim, port = self._hosts.active(key), self._hosts.port(key)
        if claim is None or isinstance(self._good(key), Refusal):
            return None
        if port is not None:
            entry = port_entry(web_key(claim.host, wildcard=claim.wildcard), port)
            return Place("passthrough", (ClaimKey(PORTS, entry),))
        trust = self._trust(key, claim)
        if claim.termination == "reencrypt" and trust is None:
            return None
        place = _place(claim, self._listeners, trust)
        return place if place and place.of in self._leases else None

    def _trust(self, key: Key, claim: WebClaim) -> Trust | None:
        """By whom the servers of a Route are to be verified; None where nobody says it."""
        route, good = self._routes.get(key), self._good(key)
        if claim.termination != "reencrypt" or route is None or isinstance(good, Refusal):
            return None
        if good.destination_ca:
            return Trust(good.destination_ca, "", _DESTINATION_CA)
        name = f"{route.targets[0].name}.{key.namespace}.svc"
        return Trust(self._service_ca, name, "web.service_ca") if self._service_ca else None

    def _changed_hands(self, units: Iterable[Unit]) -> None:
        """Of these backends, those whom nobody has now are not to be another's at once."""
        self._unsaved |= {unit for unit in units if self.owner(unit) is None}

    def _may_take(self, unit: Unit) -> bool | None:
        return False if unit in self._unsaved else self.is_clean(unit)

    def _entries(self, route: Key) -> Sequence[ClaimKey]:
        """Of the Route, whoever has them."""
        placed = self._placed.get(route)
        return placed.entries if placed else ()

    def _of(self, key: ClaimKey) -> Key | None:
        """Whose ``key`` is: of those who have a backend, the one with the longest path."""
        wanting = self._wanting.get(key, {})
        served = [route for route in wanting if self.unit(route) is not None]
        return max(served, key=wanting.__getitem__, default=None)

    def _units_beside(self, routes: Iterable[Key]) -> set[Unit]:
        """The units of all that have an entry in common with one of ``routes``."""
        beside = {
            other
            for route in routes
            for entry in self._entries(route)
            for other in self._wanting.get(entry, {})
        }
        return {unit for route in beside if (unit := self.unit(route)) is not None}


def _judge(tls: RouteTLS) -> GoodTLS | Refusal:
    """What HAProxy needs for it, or why it cannot be had."""
    found = judge_tls(tls)
    if isinstance(found, GoodTLS) and tls.external_certificate:
        return Refusal(
            Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED,
            "spec.tls.externalCertificate: this router reads no Secrets; use spec.tls.certificate"
            " and spec.tls.key",
        )
    authority = found.destination_ca if isinstance(found, GoodTLS) else None
    if authority and (problem := fault(_DESTINATION_CA, authority)):
        return Refusal(Reason.EXTENDED_VALIDATION_FAILED, problem)
    return found


def _is_ended(entry: ClaimKey) -> bool:
    """Whether it is for requests whose TLS ended here."""
    return entry.listener == HOSTS and entry.name.startswith(ENDED)


def _authority(place: Place) -> str:
    """By what its CAs are known; "" without any."""
    return place.trust.authority.mark if place.trust else ""


def _attributes(route: Key, claim: WebClaim, trust: Trust | None) -> Attributes:
    """What HAProxy is to know of the backend of a Route by host."""
    found = {ROUTES: f"{route.namespace}/{route.name}"}
    if claim.insecure == "Redirect":
        found[FLAGS] = _REDIRECTS
    if trust:
        found[AUTHORITY] = trust.authority.mark
    if trust and trust.server_name:
        found[SERVER_NAME] = trust.server_name
    return found


def _place(
    claim: WebClaim, listeners: Collection[ListenerProtocol], trust: Trust | None
) -> Place | None:
    """Where a Route that has ``claim`` is served; None where nothing of it is."""
    key = web_key(claim.host, claim.path, wildcard=claim.wildcard)
    passes = claim.termination == "passthrough"
    prefixes: list[str] = []
    if "http" in listeners and (claim.termination == "http" or claim.insecure != "None"):
        prefixes.append(CLEAR)
    if "tls" in listeners and claim.termination in ("edge", "reencrypt"):
        prefixes.append(ENDED)
    found = (entry for prefix in prefixes for entry in hosts_entries(key, prefix))
    entries = tuple(ClaimKey(HOSTS, entry) for entry in found)
    if "tls" in listeners and passes:
        entries += (ClaimKey(SNI, sni_entry(key)),)
    of: WebClassName = "passthrough" if passes else "reencrypt" if trust else "http"
    return Place(of, entries, trust) if entries else None


def _unserved(claim: WebClaim | None) -> str:
    """Of a Route that no listener is for."""
    termination = claim.termination if claim else "http"
    what = "HTTP without TLS" if termination == "http" else f"TLS termination {termination!r}"
    return f"{what} is not served by this router: it has no listener for it"


def _exhausted(of: WebClassName, leases: Leases) -> str:
    """Of a Route that has no backend, once all that HAProxy has is known."""
    setting = f"web.backends.{of}"
    if missing := leases.missing:
        return (
            f"no backend is free: HAProxy lacks {missing} of {leases.total} ({setting}); render"
            " haproxy.cfg from these settings and restart HAProxy"
        )
    if unclean := leases.unclean:
        return (
            f"no backend is free yet: {unclean} of {leases.total} ({setting}) are still used by"
            " sessions of former Routes, or in the last saved state of HAProxy"
        )
    return (
        f"all {leases.total} backends ({setting}) are in use by older Routes; this one gets the"
        f" next that is free, or raise {setting} and restart HAProxy"
    )
