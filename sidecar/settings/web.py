"""The settings of Routes by host: the listeners that they share, and what they may do there.

Owns these defaults. What they mean together with other sections is `sidecar.settings.schema`'s.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, StrictBool

from sidecar.common.hostport import split_host_port
from sidecar.listeners.host_rules import HostRules
from sidecar.model.pool import (
    CLASSES_OF,
    Address,
    ClientCertificates,
    WebBalance,
    WebClass,
    WebListener,
    WebPool,
)
from sidecar.policies.forwarded_headers import ForwardedHeaders
from sidecar.settings.section import Section
from sidecar.settings.types import (
    CookieName,
    Count,
    Domain,
    DomainOrNone,
    FilePath,
    HostnameTemplate,
    PlainName,
    PositiveDuration,
    RegexOrNone,
    SharedBind,
)
from sidecar.settings.web_headers import HeaderSettings, RouteHeaderSettings
from sidecar.settings.web_pages import CompressionSettings, ErrorPages
from sidecar.settings.web_tls import TLSSettings, versions_fit

_BALANCES: tuple[WebBalance, ...] = get_args(WebBalance)

#: Most backends of a class.
_Backends = Annotated[Count, Field(le=100_000)]

#: The same, where there may be none.
_FurtherBackends = Annotated[int, Field(strict=True, ge=0, le=100_000)]


class ListenerSettings(Section):
    """One frontend that Routes share. ``tls``: passed through where the SNI is one of a passthrough
    Route, else ended here."""

    name: PlainName
    kind: Literal["http", "tls"]
    bind: SharedBind
    #: Whether a load balancer in front tells by the PROXY protocol who the client is.
    accept_proxy: StrictBool = False

    def listener(self) -> WebListener:
        bind = tuple(Address(*split_host_port(listen)) for listen in self.bind)
        return WebListener(self.name, self.kind, bind, self.accept_proxy)


class BackendSettings(Section):
    """How many Routes of each class there can be at a time."""

    http: _Backends = 500
    #: A slot of these takes HAProxy some 15 kB more.
    reencrypt: _Backends = 50
    passthrough: _Backends = 100


class BalanceSettings(Section):
    """How the servers of a Route are chosen, for each class."""

    #: OpenShift's router has ``random``, since each of its reloads makes ``roundrobin`` begin anew
    #: at the first server; here nothing does, and it gives every server exactly its share, without
    #: the memory of a hash.
    http: WebBalance = "roundrobin"
    reencrypt: WebBalance = "roundrobin"
    #: As OpenShift's router: no cookie can keep a client on its server.
    passthrough: WebBalance = "source"


class OtherBalanceSettings(Section):
    """How many Routes of a class can have each balance at a time because they say so; that of the
    class takes none of these."""

    roundrobin: _FurtherBackends = 10
    leastconn: _FurtherBackends = 10
    random: _FurtherBackends = 10
    source: _FurtherBackends = 10


class FewerOtherBalanceSettings(OtherBalanceSettings):
    """For the class whose slots take more memory."""

    roundrobin: _FurtherBackends = 5
    leastconn: _FurtherBackends = 5
    random: _FurtherBackends = 5
    source: _FurtherBackends = 5


class FurtherBackendSettings(Section):
    """Backends for Routes that want another balance than that of their class. Without a free one a
    Route is served with that of its class."""

    http: OtherBalanceSettings = OtherBalanceSettings()
    reencrypt: FewerOtherBalanceSettings = FewerOtherBalanceSettings()
    passthrough: OtherBalanceSettings = OtherBalanceSettings()


class WebTimeoutSettings(Section):
    """Timeouts of connections that Routes share; the defaults are OpenShift's router's."""

    client: PositiveDuration = 30.0
    server: PositiveDuration = 30.0
    #: Of upgraded connections (WebSocket) and of passthrough.
    tunnel: PositiveDuration = 3600.0
    #: For a request's headers, so that slow clients do not fill HAProxy.
    http_request: PositiveDuration = 10.0
    keep_alive: PositiveDuration = 300.0
    #: For the ClientHello, of which the SNI is read.
    inspect: PositiveDuration = 5.0


class ClientCertificateSettings(Section):
    """Certificates that clients show where TLS ends here, as ROUTER_MUTUAL_TLS_AUTH and what
    begins so of OpenShift's router."""

    #: ``optional``: a client may have none. One that is not good is refused by both.
    mode: Literal["none", "optional", "required"] = "none"
    #: A PEM file of the CAs that sign them.
    ca: FilePath | None = None
    #: A PEM file with a revocation list of each CA in a chain; None: nobody takes any back.
    crl: FilePath | None = None
    #: What their subject, as /C=…/O=…/CN=…, must have somewhere; else 403. "" for any.
    subject_filter: RegexOrNone = ""

    def of_haproxy(self) -> ClientCertificates | None:
        if self.mode == "none":
            return None
        return ClientCertificates(self.mode, self.crl is not None, self.subject_filter)

    def problem(self) -> str:
        """What does not go together: key, value and remedy."""
        if self.mode != "none" and self.ca is None:
            return (
                f"ca: {self.mode!r} as mode needs the CAs that sign clients' certificates; write"
                " the path of a PEM file with them"
            )
        for key in ("ca", "crl", "subject_filter"):
            if self.mode == "none" and (value := getattr(self, key)):
                return (
                    f"{key}: {str(value)!r} is of no use with mode: none; use optional or"
                    " required, or leave the key out"
                )
        return ""


class WebSettings(Section):
    """Routes by host; of no effect without ``listeners`` or ports that are shared by SNI."""

    #: ``annotated``: only those that name this router by the router-name annotation.
    routes: Literal["all", "annotated"] = "all"
    backends: BackendSettings = BackendSettings()
    slots: Annotated[Count, Field(le=4096)] = 8
    balance: BalanceSettings = BalanceSettings()
    further_backends: FurtherBackendSettings = FurtherBackendSettings()
    #: Of the cookie that keeps a client of HTTP on its server. HAProxy takes it out of requests, so
    #: it must not be one that an application has.
    cookie_name: CookieName = "haproxy-sidecar"
    #: What a Route's spec.subdomain is put in front of; "" for none.
    domain: DomainOrNone = ""
    #: The host of a Route that has neither a host nor a subdomain; "" for none.
    hostname_template: HostnameTemplate = ""
    #: Each stands for itself and what is below it; none allows all, and denied wins.
    allowed_domains: tuple[Domain, ...] = ()
    denied_domains: tuple[Domain, ...] = ()
    #: Whether spec.wildcardPolicy may be Subdomain.
    wildcards: StrictBool = False
    #: Whether servers are told of the client, where a Route does not say.
    forwarded_headers: ForwardedHeaders = "append"
    route_headers: RouteHeaderSettings = RouteHeaderSettings()
    headers: HeaderSettings = HeaderSettings()
    compression: CompressionSettings = CompressionSettings()
    #: Of HAProxy's own answers 503 and 404: files. With one for 404 that is the answer to a request
    #: that no Route is for, as in OpenShift's router.
    error_pages: ErrorPages = {}  # noqa: RUF012  pydantic copies it
    #: Of the answer to a request that no Route is for.
    unmatched_status: Literal[503, 404] = 503
    #: Whether the oldest Route of a host keeps other namespaces off all of its paths.
    namespace_ownership: StrictBool = True
    #: A PEM file of the CAs that sign the certificates of Services, for reencrypt Routes without a
    #: destinationCACertificate; their servers are verified as SERVICE.NAMESPACE.svc.
    service_ca: FilePath | None = None
    #: For clients whose SNI has none: a PEM file with certificate, chain and key, or a folder with
    #: tls.crt and tls.key, as a Secret is mounted. None: a self-signed one, which `render` makes.
    default_certificate: FilePath | None = None
    tls: Annotated[TLSSettings, AfterValidator(versions_fit)] = TLSSettings()
    client_certificates: ClientCertificateSettings = ClientCertificateSettings()
    #: Whether Secrets are read that spec.tls.externalCertificate of Routes names. None: in a folder
    #: they are, in a cluster not, where the router needs permission for each of them.
    external_certificates: StrictBool | None = None
    timeouts: WebTimeoutSettings = WebTimeoutSettings()

    def rules(self) -> HostRules:
        return HostRules(
            domain=self.domain,
            hostname_template=self.hostname_template,
            allowed_domains=self.allowed_domains,
            denied_domains=self.denied_domains,
            wildcards=self.wildcards,
            namespace_ownership=self.namespace_ownership,
        )

    def web_pool(
        self, listeners: Iterable[ListenerSettings], *, shared_ports: bool
    ) -> WebPool | None:
        """What HAProxy has for ``listeners``, and for ports that are shared by SNI if there are
        any; None if it needs nothing."""
        made = tuple(item.listener() for item in listeners)
        timeouts = self.timeouts.server, self.timeouts.tunnel
        classes = (
            WebClass("http", self.backends.http, self.slots, *timeouts, self.balance.http),
            WebClass(
                "reencrypt",
                self.backends.reencrypt,
                self.slots,
                *timeouts,
                self.balance.reencrypt,
            ),
            WebClass(
                "passthrough",
                self.backends.passthrough,
                self.slots,
                *timeouts,
                self.balance.passthrough,
            ),
        )
        further = tuple(
            replace(item, count=count, balance=balance, further=True)
            for item in classes
            for balance in _BALANCES
            if (count := getattr(getattr(self.further_backends, item.name), balance))
            and balance != item.balance
        )
        wanted = {name for item in made for name in CLASSES_OF[item.kind]}
        if shared_ports:
            wanted.add("passthrough")
        if not wanted:
            return None
        return WebPool(
            listeners=made,
            classes=tuple(item for item in classes if item.name in wanted),
            cookie_name=self.cookie_name,
            client_timeout_seconds=self.timeouts.client,
            http_request_timeout_seconds=self.timeouts.http_request,
            keep_alive_timeout_seconds=self.timeouts.keep_alive,
            inspect_timeout_seconds=self.timeouts.inspect,
            unmatched_status=404 if 404 in self.error_pages else self.unmatched_status,
            forwarded_headers=self.forwarded_headers,
            client_certificates=self.client_certificates.of_haproxy(),
            route_headers=self.route_headers.names(),
            headers=self.headers.rules(),
            compression_types=self.compression.types,
            pages=tuple(sorted(self.error_pages)),
            tls=self.tls.options(),
            further=tuple(item for item in further if item.name in wanted),
        )
