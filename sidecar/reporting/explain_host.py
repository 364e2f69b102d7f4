"""Why a Route by host works or not: from the host to HAProxy's map. Pure.

Calls the same functions that decide, so that explanations cannot differ from decisions. Only which
Route was meant where none is served, no other function knows.
"""

from collections.abc import Iterator

from sidecar.haproxy.naming import balance_of
from sidecar.listeners.host_rules import insecure_of, termination_of
from sidecar.listeners.hosts import Refusal, WebClaim
from sidecar.listeners.tcp import port_number
from sidecar.listeners.web_keys import (
    CLEAR,
    ENDED,
    request_entries,
    request_names,
    request_port_entry,
)
from sidecar.model.desired import ClaimKey
from sidecar.model.objects import Key, Route
from sidecar.reporting.certificate_reports import LOADING, AuthorityReport
from sidecar.reporting.explain_parts import World, haproxy_links, service_links
from sidecar.reporting.explanation import Link
from sidecar.reporting.reports import ASSIGNED_SOON
from sidecar.reporting.tls_facts import source_of
from sidecar.routing.table import Routing
from sidecar.routing.web import Web
from sidecar.routing.web_places import HOSTS, PORTS, SNI

#: Of a backend in HAProxy.
_STATES = ("has its entries", "has no entry yet")

#: How entries for requests of a scheme begin.
_PREFIXES = {"http": (CLEAR,), "https": (ENDED,)}


def route_by_url(subject: str, routing: Routing) -> Key | None:
    """The Route that a request for ``subject`` gets to by the maps as they should be; or, where
    there is none, one that is not served and names this host. None where no Route by host is
    meant."""
    web = routing.web
    scheme, is_url, rest = subject.rpartition("://")
    place, slash, path = rest.partition("/")
    host = _host_in(place)
    path = slash + path.partition("?")[0].partition("#")[0]
    if web is None or not (is_url or "." in host):
        return None
    number = port_number(place.partition(":")[2])
    # One that a port is shared for is found by it; at the listeners, Routes have any.
    at = number if any(web.port(route.key) == number for route in web.routes) else None
    entries = _entries(scheme.lower(), host, path, at)
    return web.finds(entries) or _unserved(scheme.lower(), host, path, at, web)


def _entries(scheme: str, host: str, path: str, port: int | None) -> Iterator[ClaimKey]:
    """The entries that find a request, in the order in which HAProxy looks for them; where the
    scheme is not said, the most specific one first."""
    names = request_names(host)
    if port is not None:
        if scheme != "http":
            yield from (ClaimKey(PORTS, request_port_entry(name, port)) for name in names)
        return
    if scheme == "https":
        yield from (ClaimKey(SNI, name) for name in names)
    for name in names:
        prefixes = _PREFIXES.get(scheme, (CLEAR, ENDED))
        yield from (ClaimKey(HOSTS, entry) for entry in request_entries(name, path, prefixes))
        if scheme not in _PREFIXES:
            yield ClaimKey(SNI, name)


def _unserved(scheme: str, host: str, path: str, port: int | None, web: Web) -> Key | None:
    """Of the Routes that have no backend, the one that a request would most likely be for: a path
    or a host that it may not have is no key of a map."""
    patterns = request_names(host)
    wanting = [
        (patterns.index(its_host), not _is_below(path, asked.path), -len(asked.path), route.key)
        for route in web.routes
        if web.port(route.key) == port
        and web.unit(route.key) is None
        and (its_host := _host_in((asked := web.asked(route.key)).host)) in patterns
        and _hears(scheme, route)
    ]
    return min(wanting)[-1] if wanting else None


def _host_in(place: str) -> str:
    """The host that a client asks for at ``place``; a Route may be refused for what is beside."""
    return place.partition(":")[0].rstrip(".").lower()


def _hears(scheme: str, route: Route) -> bool:
    """Whether a request of the scheme, if it is said, is one for such a Route."""
    termination = termination_of(route)
    if termination is None:
        return True  # whatever was meant
    if scheme == "http":
        return termination == "http" or insecure_of(route, termination) != "None"
    return scheme != "https" or termination != "http"


def _is_below(path: str, of: str) -> bool:
    """Whether a Route with the path ``of`` has ``path``, too."""
    if not of.strip("/"):
        return True
    return path == of or path.startswith(of if of.endswith("/") else f"{of}/")


def host_links(route: Route, web: Web, world: World) -> Iterator[Link]:
    """All after the first: the Route is there, and one by host of this router."""
    named = route.router_name is not None
    yield Link("router", "ok", "it names this router" if named else "it is for any router")
    found = web.found(route.key)
    if isinstance(found, Refusal):
        yield Link("host", "bad", f"{found.reason}: {found.message}")
        yield from service_links(route, None, world)
        return
    verdict, unit = web.verdict(route.key), web.unit(route.key)
    if found:
        port = web.port(route.key)
        where = f" on port {port}" if port else ""
        yield Link("host", "ok", f"it has {found.pattern}{found.path}{where}, {_served(found)}")
    if unit is None:
        message = verdict.message if verdict and verdict.message else ASSIGNED_SOON
        yield Link("backend", "bad", "it has none", (), message)
        yield from service_links(route, None, world)
        return
    keys = sorted(key.name for key in web.keys(unit))
    yield Link("backend", "ok", f"it has {unit}, found by {', '.join(keys)}")
    unmet = web.unmet_balance(route.key)
    balance = balance_of(unit, world.pool.web) or ""
    yield Link("balance", "info" if unmet else "ok", unmet or balance)
    if route.key in web.certificates:
        yield _certificate_link(route, web)
    if trust := web.trust(unit):
        yield Link("CA", "ok", AuthorityReport.of(trust).text)
    seen = (world.observed or {}).get(unit)
    yield from service_links(route, seen, world)
    yield from haproxy_links(
        unit, f"backend {unit}", world, claimed=True, release="", states=_STATES
    )


def _certificate_link(route: Route, web: Web) -> Link:
    """What clients of its host are shown, where TLS ends here."""
    found = web.certificates.facts[web.certificates.host(route.key) or ""]
    title = "the default one"
    if found.certificate:
        title = f"{found.certificate.title} ({source_of(found.route, web.tls.origins)})"
    if found.served is None:
        unseen = "not compared with what HAProxy serves, which the running sidecar does"
        return Link("certificate", "info", f"{title} should be shown; {unseen}")
    if found.served:
        return Link("certificate", "ok", title)
    return Link("certificate", "bad", f"{title}: not served yet", (), found.failure or LOADING)


def _served(claim: WebClaim) -> str:
    return "HTTP" if claim.termination == "http" else f"TLS {claim.termination}"
