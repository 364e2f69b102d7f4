"""Web Routes: those by host, at the listeners or on a port that they share. Which of them is
served, and by which backend. Pure.

Joins the admission of hosts (`sidecar.listeners.hosts`), the place of each Route
(`sidecar.routing.web_places`) and the leases of backends. Must not look at Services or endpoints.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from sidecar.listeners.host_rules import Asked, HostRules, WebClaim
from sidecar.model.certificate_rules import GoodTLS
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import NO_ATTRIBUTES, Attributes, ClaimKey, Unit
from sidecar.model.header_actions import NO_HEADER_NAMES, HeaderNames
from sidecar.model.objects import Key, Route
from sidecar.model.pool import ListenerProtocol, WebClassName
from sidecar.model.verdicts import Reason, Refusal, Verdict
from sidecar.policies.allowed_sources import refusal
from sidecar.policies.balance import wished_balance
from sidecar.policies.base import Policies
from sidecar.routing.balanced_leases import Backends, BalancedLeases
from sidecar.routing.claims import claim_of
from sidecar.routing.host_certificates import HostCertificates, Shown
from sidecar.routing.host_spaces import HostSpaces
from sidecar.routing.leases import Leases
from sidecar.routing.web_places import (
    UNTRUSTED,
    Place,
    Trust,
    attributes_of,
    authority_of,
    is_ended,
    place_at_listeners,
    place_on_port,
    trust_of,
    unserved,
)
from sidecar.routing.web_tls import WebRoutes, WebTLS, is_ours_by_host

__all__ = ["Trust", "Web", "WebRoutes"]


class Web:
    """``classes``: the backends of each class; one that nothing leads to is absent.
    ``listeners``: what their clients speak; ports may be shared without any. ``service_ca``: of
    the servers of Routes that are re-encrypted and bring no CA. ``reads_secrets``: see `WebTLS`.
    ``header_names``: those that its Routes may set. ``cookie_name``: of the session cookies of
    Routes that have none of their own."""

    def __init__(
        self,
        rules: HostRules,
        classes: Mapping[WebClassName, Backends],
        listeners: Collection[ListenerProtocol],
        service_ca: CertificateAuthority | None,
        *,
        reads_secrets: bool,
        header_names: HeaderNames = NO_HEADER_NAMES,
        cookie_name: str,
    ) -> None:
        #: Which hosts Routes may have, at listeners and on ports that they share.
        self.rules = rules
        self.header_names = header_names
        #: Where an entry leads, as HAProxy was last seen.
        self.leads_to: Callable[[ClaimKey], Unit | None] = lambda _: None
        self.certificates = HostCertificates()
        self.tls = WebTLS(reads_secrets=reads_secrets)
        #: Whether HAProxy shows that nothing of its last Route is left on a backend; None where it
        #: lacks the backend.
        self.is_clean: Callable[[Unit], bool | None] = lambda _: True
        self._hosts = HostSpaces(rules)
        self._listeners = frozenset(listeners)
        self._service_ca = service_ca
        self._cookie_name = cookie_name
        self._leases = {
            name: BalancedLeases(name, found, self._may_take) for name, found in classes.items()
        }
        # backends that lost their Route since HAProxy's state and maps were saved: from what is
        # saved, a HAProxy that restarts alone would lead the former Route's hosts to the next one
        self._unsaved: set[Unit] = set()
        self._class = {
            unit: name
            for name, found in classes.items()
            for units in (found.units, *found.further.values())
            for unit in units
        }
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
            self.tls.judge(key, route)
        restated = self._hosts.update(changed)
        # Of those that changed nothing else may be said, but that they are older or younger.
        touched = restated | changed.keys()
        active = [claim for key in touched if (claim := self._hosts.active(key))]
        self.certificates.remember(touched, {claim.pattern for claim in active})
        for key in touched:
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

    def is_for(self, route: Route, router_name: str, web_routes: WebRoutes) -> bool:
        """Whether it is one of ours for the listeners."""
        return bool(self._listeners) and is_ours_by_host(route, router_name, web_routes)

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

    def unmet_balance(self, route: Key) -> str:
        """See `BalancedLeases.unmet`."""
        placed = self._placed.get(route)
        return self._leases[placed.of].unmet(route) if placed else ""

    def ended_host(self, unit: Unit | None) -> str | None:
        """The host, or ``*.domain``, of the Route that has ``unit``, if its TLS ends here."""
        owner = self.owner(unit) if unit else None
        return self.certificates.host(owner) if owner else None

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

    def attributes(self, unit: Unit, policies: Policies) -> Attributes:
        """What HAProxy is to know of ``unit``, whose Route has ``policies``."""
        owner = self.owner(unit)
        claim = self._hosts.active(owner) if owner else None
        if owner is None or claim is None:
            return NO_ATTRIBUTES
        return attributes_of(owner, claim, self.trust(unit), policies, self._cookie_name)

    def trust(self, unit: Unit) -> Trust | None:
        """By whom the servers of ``unit`` are verified; None where they are not, or nobody has
        it."""
        owner = self.owner(unit)
        placed = self._placed.get(owner) if owner else None
        return placed.trust if placed else None

    @property
    def trusts(self) -> Iterator[tuple[Unit, Trust]]:
        """The units whose servers are verified, and by whom."""
        for route, placed in self._placed.items():
            if placed.trust and (unit := self.unit(route)) is not None:
                yield unit, placed.trust

    def granted(self, key: ClaimKey) -> Unit | None:
        """Where ``key`` should lead."""
        of = self._of(key)
        unit = None if of is None else self.unit(of)
        return unit if of and unit and self._may_lead(key, of, unit) else None

    def finds(self, keys: Iterable[ClaimKey]) -> Key | None:
        """The Route that the first of ``keys`` that anybody with a backend wants is of."""
        return next((route for key in keys if (route := self._of(key))), None)

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
                return Refusal(Reason.EXTENDED_VALIDATION_FAILED, UNTRUSTED)
            return Refusal(Reason.UNSUPPORTED_TERMINATION, unserved(found))
        leases = self._leases[placed.of]
        if leases.adopted and leases.unit(route) is None:
            return Refusal(Reason.POOL_EXHAUSTED, _exhausted(placed.of, leases.common))
        failure = self.certificates.failure(route)
        if failure and not any(map(self.leads_to, self._entries(route))):
            return Refusal(Reason.EXTENDED_VALIDATION_FAILED, failure)
        notes = filter(None, (failure, self.unmet_balance(route)))
        return Refusal(Reason.ADMITTED, "; ".join(notes))

    def _good(self, route: Key) -> GoodTLS | Refusal:
        """What HAProxy needs for the Route's TLS, or why it is not to be served. Like this, and
        not in the admission of hosts, since a Route that is refused for what it wishes keeps its
        host: another namespace's must not get it by that."""
        its = self._routes.get(route)
        if its and (refused := refusal(its)):
            return refused
        return self.tls.found(route)

    def _may_lead(self, key: ClaimKey, route: Key, unit: Unit) -> bool:
        """Whether an entry of the Route may lead to its ``unit``: where TLS ends here, not before
        its host has its certificate; but while that is renewed it goes on, as does an entry that
        leads there already."""
        certificates = self.certificates
        if not is_ended(key) or certificates.is_served(route) or certificates.goes_on(route):
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
                moves = authority_of(before) != authority_of(now)
                balance = wished_balance(route)
                touched |= leases.renew(claim_of(route), now.entries, balance, moves=moves)
                self._changed_hands(touched)
            else:
                leases.enter(claim_of(route), now.entries, wished_balance(route))
            for entry in self._entries(key):
                self._wanting.setdefault(entry, {})[key] = len(claim.path)
        if now and route and claim and any(map(is_ended, now.entries)):
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
            return place_on_port(claim, port)
        trust = self._trust(key, claim)
        if claim.termination == "reencrypt" and trust is None:
            return None
        place = place_at_listeners(claim, self._listeners, trust)
        return place if place and place.of in self._leases else None

    def _trust(self, key: Key, claim: WebClaim) -> Trust | None:
        """By whom the servers of a Route are to be verified; None where nobody says it."""
        route, good = self._routes.get(key), self._good(key)
        if route is None or isinstance(good, Refusal):
            return None
        return trust_of(route, claim, good, self._service_ca)

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
