"""What the settings make of the parts: routing, DNS, the loop. Commands that only look use some.

Owns which setting goes where; the parts themselves do not know that there are settings.
"""

import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

from sidecar.common.errors import CertificateError, SettingsError
from sidecar.common.metrics import Metrics
from sidecar.control.certificate_files import read_authority
from sidecar.control.certificate_keeper import CertificateKeeper
from sidecar.control.certificate_writer import CertificateWriter
from sidecar.control.client_files import CLIENTS, read_authorities, read_revocations
from sidecar.control.client_trust import ClientTrust, TrustFile, Verifying
from sidecar.control.commit_mark import CommitMark
from sidecar.control.default_certificate import WatchedCertificate
from sidecar.control.reconciler import Reconciler
from sidecar.control.watched_files import WatchedFiles
from sidecar.daemon.persistence import answers_file, programmed_file, read_programmed
from sidecar.haproxy import authorities, revocations
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.naming import backends_of, verified_backends
from sidecar.haproxy.own_certificates import placeholder_authority
from sidecar.haproxy.state import ProcessInfo
from sidecar.haproxy.web_files import WebFiles
from sidecar.listeners.attributes import AttributeMap, FieldsMap, PartsMap
from sidecar.listeners.base import ListenerKind
from sidecar.listeners.kinds import Kinds
from sidecar.listeners.mapped import EntryMap, MappedBackends
from sidecar.listeners.port_maps import PortMaps
from sidecar.listeners.tcp import TCPPorts, unit_of
from sidecar.listeners.trust import TrustFiles
from sidecar.listeners.web_keys import ended_host, key_of_entry
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import MAXCONN, BackendClass, ClaimKey, Unit
from sidecar.model.header_actions import MESSAGES
from sidecar.model.pool import TLSBackend, WebClass, WebPool
from sidecar.policies.allowed_sources import ALLOWED_SOURCES
from sidecar.policies.base import POLICIES_ATTRIBUTE
from sidecar.policies.cookies import COOKIES
from sidecar.policies.headers import ATTRIBUTES as HEADERS
from sidecar.policies.hsts import HSTS
from sidecar.policies.rate_limits import LIMITS
from sidecar.policies.rewrite_target import CHANGED_PATHS
from sidecar.policies.timeouts import SERVER, TUNNEL
from sidecar.routing.balanced_leases import Backends
from sidecar.routing.host_certificates import Shown
from sidecar.routing.own_addresses import denier
from sidecar.routing.table import Routing
from sidecar.routing.web import Web
from sidecar.routing.web_places import (
    AUTHORITY,
    FLAGS,
    HOSTS,
    NO_FLAGS,
    PORTS,
    ROUTES,
    SERVER_NAME,
    SNI,
)
from sidecar.routing.web_strays import strays
from sidecar.settings.schema import Settings
from sidecar.sources.dns.resolver import Resolver
from sidecar.sources.inbox import Inbox


@dataclass(frozen=True, slots=True)
class Listeners:
    """All kinds of them. ``web``: None without a listener for Routes by host. ``kind``: all as
    one."""

    ports: TCPPorts
    web: MappedBackends | None
    kind: ListenerKind
    #: Of commits that HAProxy may not have carried out yet.
    marks: CommitMark

    @property
    def leads(self) -> Mapping[ClaimKey, Unit]:
        """Entry -> the backend that it leads to, as last read."""
        return self.web.leads if self.web else {}


def make_ports(settings: Settings) -> TCPPorts:
    """The pool's ports as a kind of listener."""
    pool, files = settings.pool(), WebFiles.beside(settings.haproxy.state_file)
    paths = map(str, files.port_maps)
    maps = PortMaps(map(unit_of, pool.ports), *paths, is_known=not files.unfit)
    return TCPPorts(pool, settings.timing.close_after, maps)


def make_listeners(settings: Settings) -> Listeners:
    ports, files = make_ports(settings), WebFiles.beside(settings.haproxy.state_file)
    marks = CommitMark(settings.haproxy.state_file)
    pool = ports.pool.web
    if pool is None:
        return Listeners(ports, None, ports, marks)
    kinds = {item.kind for item in pool.listeners}
    shared = any(item.shared_by_sni for item in ports.pool.classes)
    maps = [
        EntryMap(name, str(file), describe)
        for name, file, describe, used in (
            (HOSTS, files.hosts_map, _host_title, bool(kinds)),
            (SNI, files.sni_map, "SNI {}".format, "tls" in kinds),
            (PORTS, files.ports_map, _port_title, shared),
        )
        if used
    ]
    classes: dict[Unit, BackendClass] = {}
    for item in pool.all_classes:
        for unit in backends_of(item):
            verified = item.name == "reencrypt"
            classes[unit] = TLSBackend(item.slots, files.server_tls(unit)) if verified else item
    # Shared ports have these alone.
    attributes = [
        AttributeMap(FLAGS, str(files.flags_map), needed=True, otherwise=NO_FLAGS),
        PartsMap(ALLOWED_SOURCES, str(files.allowed_sources_map), classes, needed=True),
        AttributeMap(MAXCONN, str(files.pod_connections_map), needed=False),
        AttributeMap(LIMITS, str(files.limits_map), needed=False),
    ]
    if kinds:
        attributes += [
            AttributeMap(ROUTES, str(files.routes_map), needed=False),
            AttributeMap(CHANGED_PATHS, str(files.changed_paths_map), needed=False),
            AttributeMap(COOKIES, str(files.cookies_map), needed=False),
            AttributeMap(POLICIES_ATTRIBUTE, str(files.policies_map), needed=False),
            AttributeMap(SERVER, str(files.timeouts_map), needed=False),
            AttributeMap(TUNNEL, str(files.tunnel_timeouts_map), needed=False),
            *(
                FieldsMap(HEADERS[messages], str(files.headers_map(messages)), needed=False)
                for messages in MESSAGES
            ),
        ]
    trust = None
    if pool.ends_tls:
        attributes.append(AttributeMap(SERVER_NAME, str(files.server_names_map), needed=True))
        attributes.append(AttributeMap(HSTS, str(files.hsts_map), needed=False))
        trust = _make_trust(files, pool)
        trust.meets = partial(marks.problem, "ca-file")
    web = MappedBackends(maps, classes, attributes, trust)
    return Listeners(ports, web, Kinds(ports, web), marks)


def _make_trust(files: WebFiles, pool: WebPool) -> TrustFiles:
    units = verified_backends(pool)
    nobody = read_authority(files.no_authority) or placeholder_authority(time.time())
    return TrustFiles(AUTHORITY, {unit: str(files.authority(unit)) for unit in units}, nobody)


def _service_ca(settings: Settings) -> CertificateAuthority | None:
    """Raises SettingsError if there is to be one, and the file has none."""
    path = settings.web.service_ca
    if path is None:
        return None
    try:
        return read_authorities(path, "certificates of Services")
    except CertificateError as exc:
        raise SettingsError("web", [f"web.service_ca: {exc}"]) from exc


def _host_title(entry: str) -> str:
    key = key_of_entry(entry)
    return f"host {key.name}{key.path}" if key else f"entry {entry}"


def _port_title(entry: str) -> str:
    port, _, name = entry.partition("/")
    return f"SNI {name} on port {port}"


def _backends(item: WebClass, pool: WebPool) -> Backends:
    others = (other for other in pool.further if other.name == item.name)
    further = {other.balance: backends_of(other) for other in others}
    return Backends(backends_of(item), item.balance, further)


def make_routing(
    settings: Settings, listeners: Listeners, kept: Mapping[str, int] | None
) -> Routing:
    """``kept``: see `PortAllocator`."""
    web = None
    if pool := listeners.ports.pool.web:
        web = Web(
            settings.web.rules(),
            {item.name: _backends(item, pool) for item in pool.classes},
            {item.kind for item in pool.listeners},
            _service_ca(settings),
            reads_secrets=settings.reads_secrets,
            header_names=pool.route_headers,
            cookie_name=pool.cookie_name,
        )
    if web and listeners.web and (trust := listeners.web.trust):
        asked = web.trust
        trust.wanted = lambda unit: found.authority if (found := asked(unit)) else None
    return Routing(
        listeners.ports,
        settings.router_name,
        denier(settings.endpoints.deny),
        kept,
        settings.listening(),
        web,
        settings.web.routes,
    )


def _ends_tls(listeners: Listeners, routing: Routing) -> bool:
    pool = listeners.ports.pool.web
    return bool(pool and pool.ends_tls and listeners.web and routing.web)


def make_certificates(
    settings: Settings,
    listeners: Listeners,
    routing: Routing,
    client: RuntimeClient,
    saved: Callable[[str], Mapping[str, str]],
    process: Callable[[], ProcessInfo | None],
    is_there: Callable[[Unit], bool],
    metrics: Metrics | None = None,
) -> CertificateKeeper | None:
    """``metrics``: where it counts. ``saved``: see `Persistence.saved`. ``process``: the HAProxy
    that answers; ``is_there``: whether it has a backend. None where no listener ends TLS."""
    backends, web = listeners.web, routing.web
    if not (_ends_tls(listeners, routing) and backends and web):
        return None
    files = WebFiles.beside(settings.haproxy.state_file)

    def waiting(hosts: AbstractSet[str]) -> AbstractSet[str]:
        found = strays(hosts, backends.entries(HOSTS), web.ended_host, is_there)
        # Of a host without any Route HAProxy may restart before it is saved that an entry is gone.
        if gone := hosts - web.certificates.hosts:
            found |= gone & frozenset(map(ended_host, saved(HOSTS)))
        return found

    def is_default_fixed() -> bool:
        found = process()
        fits = found and Dialect(found.version_tuple).replaces_beside_authorities
        return asks_clients and not fits

    asks_clients = settings.web.client_certificates.mode != "none"
    configured = settings.web.default_certificate
    return CertificateKeeper(
        CertificateWriter(
            client,
            files.certificate_list,
            files.certificates,
            files.default_certificate,
            # After a change of what clients are verified by.
            forgets_use=is_default_fixed,
        ),
        web.certificates,
        files.certificates,
        waiting,
        settings.timing.resync,
        default=(files.default_certificate, WatchedCertificate(configured)) if configured else None,
        saved_default=WatchedCertificate(files.default_certificate),
        metrics=metrics,
        is_default_fixed=is_default_fixed,
        http2=settings.web.tls.http2,
    )


def make_client_trust(
    settings: Settings, client: RuntimeClient, marks: CommitMark
) -> ClientTrust | None:
    """None where no client is asked for a certificate."""
    named, files = settings.web.client_certificates, WebFiles.beside(settings.haproxy.state_file)
    ca, crl = named.ca, named.crl
    if ca is None:
        return None
    made: list[TrustFile] = []
    # First, so that a CA is not trusted before it is known what it has revoked.
    if crl is not None:
        lists: WatchedFiles[Verifying] = WatchedFiles(lambda: (crl,), lambda: read_revocations(crl))
        key, file = "web.client_certificates.crl", files.client_revocations
        made.append(TrustFile(key, "crl-file", file, lists, revocations.parse_mark))
    trusted: WatchedFiles[Verifying] = WatchedFiles(
        lambda: (ca,), lambda: read_authorities(ca, CLIENTS)
    )
    key, file = "web.client_certificates.ca", files.client_authorities
    made.append(TrustFile(key, "ca-file", file, trusted, authorities.parse_mark))
    return ClientTrust(client, made, settings.timing.resync, marks)


def make_resolver(settings: Settings, inbox: Inbox) -> Resolver:
    """Its answers go to ``inbox``."""
    dns = settings.dns
    return Resolver(answers_file(settings), inbox, dns.servers, dns.timeout, dns.keep)


def make_reconciler(
    settings: Settings,
    listeners: Listeners,
    routing: Routing,
    client: RuntimeClient,
    metrics: Metrics,
) -> Reconciler:
    """One that knows what its predecessor has done."""
    prepares = _ends_tls(listeners, routing)

    def adopt() -> None:
        # What the HAProxy before had is no reason to lead anybody anywhere in this one.
        if prepares and routing.web:
            routing.serve(Shown())
            routing.web.certificates.forget()
        routing.adopt(listeners.leads)

    reconciler = Reconciler(
        client,
        listeners.kind,
        metrics,
        settings.schedule(),
        is_own=lambda address: address in routing.denied.own,
        # Where the other one fails, what is left here serves nobody any more.
        is_handed=lambda key, unit: routing.is_handed(key, unit, reconciler.known.works),
        adopt=adopt,
        prepares=prepares,
    )
    if routing.web and listeners.web:
        routing.web.is_clean = reconciler.known.is_clean
        routing.web.leads_to = listeners.web.leads_to
    reconciler.known.programmed = read_programmed(programmed_file(settings))
    return reconciler
