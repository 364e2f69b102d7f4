"""Why a Route by host works or not: from the host to HAProxy's map. Pure.

Calls the same functions that decide, so that explanations cannot differ from decisions.
"""

from collections.abc import Iterator

from sidecar.listeners.hosts import Refusal, WebClaim
from sidecar.listeners.tcp import port_number
from sidecar.model.objects import Key, Route
from sidecar.reporting.explain_parts import World, haproxy_links, service_links
from sidecar.reporting.explanation import Link
from sidecar.routing.table import Routing
from sidecar.routing.web import Trust, Web

#: Of a backend in HAProxy.
_STATES = ("has its entries", "has no entry yet")


def route_by_url(subject: str, routing: Routing) -> Key | None:
    """The Route that a request for ``subject`` gets to: the longest path of the host, else of its
    wildcard; or one that wants to have it and is refused. None where no Route by host is meant."""
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
    claims = [
        (route, claim)
        for route in web.routes
        if web.port(route.key) == at and (claim := web.claim(route.key))
    ]
    patterns = (host, f"*.{host.partition('.')[2]}")
    for pattern in patterns:
        found = [
            (len(claim.path), route.key)
            for route, claim in claims
            if claim.pattern == pattern
            and _hears(scheme.lower(), claim.termination, claim.insecure)
            and _is_below(path, claim.path)
        ]
        if found:
            return max(found)[1]
    wanting = [
        (patterns.index(its_host), not _is_below(path, asked.path), -len(asked.path), route.key)
        for route in web.routes
        if web.port(route.key) == at
        and isinstance(web.found(route.key), Refusal)
        and (its_host := _host_in((asked := web.asked(route.key)).host)) in patterns
        and _hears(scheme.lower(), *_tls_of(route))
    ]
    return min(wanting)[-1] if wanting else None


def _host_in(place: str) -> str:
    """The host that a client asks for at ``place``; a Route may be refused for what is beside."""
    return place.partition(":")[0].rstrip(".").lower()


def _tls_of(route: Route) -> tuple[str, str]:
    """The termination and the policy for requests in clear that a Route asks for."""
    tls = route.tls
    return ("http", "") if tls is None else (tls.termination, tls.insecure_policy)


def _hears(scheme: str, termination: str, insecure: str) -> bool:
    """Whether a request of the scheme, if it is said, is one for such a Route."""
    if scheme == "http":
        return termination == "http" or insecure in ("Allow", "Redirect")
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
        message = verdict.message if verdict and verdict.message else "it is being assigned one"
        yield Link("backend", "bad", "it has none", (), message)
        yield from service_links(route, None, world)
        return
    keys = sorted(key.name for key in web.keys(unit))
    yield Link("backend", "ok", f"it has {unit}, found by {', '.join(keys)}")
    if route.key in web.certificates:
        yield _certificate_link(route, web)
    if trust := web.trust(unit):
        yield _trust_link(trust)
    seen = (world.observed or {}).get(unit)
    yield from service_links(route, seen, world)
    yield from haproxy_links(
        unit, f"backend {unit}", world, claimed=True, release="", states=_STATES
    )


def _certificate_link(route: Route, web: Web) -> Link:
    """What clients of its host are shown, where TLS ends here."""
    certificates = web.certificates
    certificate = certificates.of(route.key)
    title = certificate.title if certificate else "the default one"
    if not certificates.is_known or certificates.is_served(route.key):
        return Link("certificate", "ok", title)
    failure = certificates.failure(route.key) or "it is being loaded"
    return Link("certificate", "bad", f"{title}: not served yet", (), failure)


def _trust_link(trust: Trust) -> Link:
    of = " + ".join(trust.authority.subjects)
    name = f"the name {trust.server_name}" if trust.server_name else "any name"
    return Link("CA", "ok", f"servers need a certificate by {of} ({trust.source}), for {name}")


def _served(claim: WebClaim) -> str:
    return "HTTP" if claim.termination == "http" else f"TLS {claim.termination}"
