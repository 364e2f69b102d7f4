"""Where one Route by host is served, looked at alone: by which class of backends, what leads there,
and what HAProxy is to know of it.

Owns the names of HAProxy's maps and attributes, and what a termination, the listeners and the
Route's own TLS (`sidecar.routing.web_tls`) make of them. Must not know other Routes, nor which
backend it gets (`sidecar.routing.web`). Pure.
"""

from collections.abc import Collection
from typing import NamedTuple

from sidecar.listeners.host_rules import WebClaim
from sidecar.listeners.web_keys import CLEAR, ENDED, hosts_entries, port_entry, sni_entry, web_key
from sidecar.model.certificate_rules import GoodTLS
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import Attributes, ClaimKey
from sidecar.model.objects import Key, Route
from sidecar.model.pool import ListenerProtocol, WebClassName
from sidecar.policies.base import (
    GUARDING_FLAGS,
    HTTP,
    POLICIES_ATTRIBUTE,
    TLS_ENDED,
    Policies,
    add_letters,
)
from sidecar.policies.cookies import COOKIES, NAMED, own_cookie
from sidecar.policies.rate_limits import LIMITS, limits_of
from sidecar.policies.rewrite_target import CHANGED_PATHS, changed_path

#: The maps, by what finds a Route there: host and path of a request, SNI, a shared port and SNI.
HOSTS, SNI, PORTS = "hosts", "sni", "ports"

#: What HAProxy is told of a Route's backend: who it is, for its log; and what rules are to do with
#: its requests, a letter each.
ROUTES, FLAGS = "routes", GUARDING_FLAGS

#: The letters of one of which nothing is to be heeded, which a HAProxy without such a map does.
#: Told, since a backend of which nothing is said gets nobody: its entry may have been lost.
NO_FLAGS = "-"

#: Of one whose servers speak TLS: by which CAs they are verified, and as whom.
AUTHORITY, SERVER_NAME = "authority", "server_name"

#: The latter, where it does not matter: said, since a backend of which nothing is said gets no
#: request.
_ANY_NAME = "*"

_DESTINATION_CA = "spec.tls.destinationCACertificate"

UNTRUSTED = (
    f"{_DESTINATION_CA}: missing, and without it nobody could tell the Route's"
    " servers from others; write the PEM of the CA that signed their certificates, or set"
    " web.service_ca of the router to the CA of all Services"
)

#: A request in clear is sent to where TLS is.
_REDIRECTS = "r"

#: Among the letters of policies: the session cookie is for TLS only.
_SECURE = "s"


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


def is_ended(entry: ClaimKey) -> bool:
    """Whether it is for requests whose TLS ended here."""
    return entry.listener == HOSTS and entry.name.startswith(ENDED)


def authority_of(place: Place) -> str:
    """By what its CAs are known; "" without any."""
    return place.trust.authority.mark if place.trust else ""


def attributes_of(
    route: Key, claim: WebClaim, trust: Trust | None, policies: Policies, cookie_name: str
) -> Attributes:
    """What HAProxy is to know of the backend of a Route by host. ``cookie_name``: of Routes that
    have none of their own."""
    found = {ROUTES: route.title, **policies.told}
    if target := found.get(CHANGED_PATHS):
        found[CHANGED_PATHS] = changed_path(claim.path, target)
    if limits := found.get(LIMITS):
        found[LIMITS] = limits_of(route, limits)
    if claim.insecure == "Redirect":
        add_letters(found, FLAGS, _REDIRECTS)
    found.setdefault(FLAGS, NO_FLAGS)
    own = own_cookie(route, claim.path, policies, cookie_name)
    if own and claim.termination in HTTP:
        found[COOKIES] = own
        add_letters(found, POLICIES_ATTRIBUTE, NAMED)
    if claim.termination in TLS_ENDED and claim.insecure != "Allow":
        add_letters(found, POLICIES_ATTRIBUTE, _SECURE)
    if trust:
        found[AUTHORITY] = trust.authority.mark
        found[SERVER_NAME] = trust.server_name or _ANY_NAME
    return found


def trust_of(
    route: Route, claim: WebClaim, good: GoodTLS, service_ca: CertificateAuthority | None
) -> Trust | None:
    """By whom the servers of ``route`` are to be verified; None where nobody says it."""
    if claim.termination != "reencrypt":
        return None
    if good.destination_ca:
        return Trust(good.destination_ca, "", _DESTINATION_CA)
    name = f"{route.targets[0].name}.{route.key.namespace}.svc"
    return Trust(service_ca, name, "web.service_ca") if service_ca else None


def place_on_port(claim: WebClaim, port: int) -> Place:
    """Where a Route that shares ``port`` is served."""
    entry = port_entry(web_key(claim.host, wildcard=claim.wildcard), port)
    return Place("passthrough", (ClaimKey(PORTS, entry),))


def place_at_listeners(
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


def unserved(claim: WebClaim | None) -> str:
    """Of a Route that no listener is for."""
    termination = claim.termination if claim else "http"
    what = "HTTP without TLS" if termination == "http" else f"TLS termination {termination!r}"
    return f"{what} is not served by this router: it has no listener for it"
