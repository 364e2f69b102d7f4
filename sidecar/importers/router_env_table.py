"""What each variable and flag of OpenShift's router is here: the table of docs/reference.md.

Owns the names, and in words what there is instead; a test compares it with the document. How values
are read is `sidecar.importers.router_env`'s. Pure.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

#: How the value of a row becomes that of its key. "by hand": by more than this variable.
How = Literal["text", "words", "flag", "not", "time", "span", "count", "file", "headers", "by hand"]

_PREFIX = "ROUTER_"


class Row(NamedTuple):
    """``names``: variables and flags, with blanks between them; one that ends in ``*`` stands for
    all that begin so. ``here``: keys of our settings, or needless, not offered or template."""

    names: str
    here: str
    note: str = ""
    how: How = "by hand"

    @property
    def keys(self) -> tuple[str, ...]:
        """``web.tls.ciphers``; none where there is no setting."""
        return tuple(self.here.strip("`").split("`, `")) if self.here.startswith("`") else ()

    @property
    def variable(self) -> str:
        return self.names.split()[0]

    def matches(self, name: str) -> bool:
        return any(
            name.startswith(it[:-1]) if it.endswith("*") else name == it
            for it in self.names.split()
        )

    def line(self) -> str:
        """As it stands in the document."""
        names = ", ".join(map(_written, self.names.split()))
        return f"| {names} | {self.here} |{f' {self.note}' if self.note else ''} |"


def _written(name: str) -> str:
    if name.startswith(("--", _PREFIX)):
        return f"`{name.removeprefix(_PREFIX)}`"
    return f"`{name}`\\*"


def row_of(name: str) -> Row | None:
    """Of a variable; the first that has it."""
    return next((row for row in TABLE if row.matches(name)), None)


def variable_of(flag: str) -> str | None:
    """The variable that says the same as ``--flag``, or the flag where only it exists; None: the
    router has no such flag."""
    for row in TABLE:
        words = row.names.split()
        if flag in words:
            at = words.index(flag)
            return words[at - 1] if at and not words[at - 1].startswith("--") else flag
    plain = flag.removeprefix("--").replace("-", "_").upper()
    return next((name for name in (plain, _PREFIX + plain) if row_of(name)), None)


def variables() -> Iterator[str]:
    """All of them, flags included."""
    for row in TABLE:
        yield from row.names.split()


TABLE: tuple[Row, ...] = (
    Row(
        "ROUTER_SERVICE_NAME --name",
        "`router_name`",
        "the name in `status.ingress`: while both routers run, give this one another",
        "text",
    ),
    Row(
        "ROUTER_CANONICAL_HOSTNAME --router-canonical-hostname",
        "`kubernetes.canonical_hostname`",
        "",
        "text",
    ),
    Row("ROUTER_DOMAIN --router-domain", "`web.domain`", "", "text"),
    Row("ROUTER_SUBDOMAIN --hostname-template", "`web.hostname_template`", "", "text"),
    Row(
        "ROUTER_OVERRIDE_HOSTNAME ROUTER_OVERRIDE_DOMAINS",
        "not offered",
        "a Route has the host that it names",
    ),
    Row("ROUTE_LABELS --labels", "`source.route_labels`", "", "text"),
    Row("ROUTE_FIELDS --fields", "`source.route_fields`", "", "text"),
    Row("NAMESPACE_LABELS --namespace-labels", "`source.namespace_labels`", "", "text"),
    Row(
        "PROJECT_LABELS --project-labels",
        "`source.namespace_labels`",
        "a Project has its Namespace's labels",
    ),
    Row("--namespace", "`source.namespaces`", "", "text"),
    Row("ROUTER_ALLOWED_DOMAINS", "`web.allowed_domains`", "", "words"),
    Row("ROUTER_DENIED_DOMAINS", "`web.denied_domains`", "", "words"),
    Row("ROUTER_ALLOW_WILDCARD_ROUTES", "`web.wildcards`", "", "flag"),
    Row(
        "ROUTER_DISABLE_NAMESPACE_OWNERSHIP_CHECK",
        "`web.namespace_ownership`",
        "`true` there is `false` here",
        "not",
    ),
    Row("EXTENDED_VALIDATION", "needless", "always on"),
    Row("UPGRADE_VALIDATION", "needless", "it checks nothing"),
    Row("ROUTER_UPDATE_STATUS", "`kubernetes.write_status`", "", "flag"),
    Row(
        "ROUTER_ENABLE_EXTERNAL_CERTIFICATE --allow-external-certificates",
        "`web.external_certificates`",
        "`null`: not in a cluster, where each Secret needs a permission",
        "flag",
    ),
    Row("ROUTER_WATCH_ENDPOINTS", "`source.endpoints`", "`true` there is `endpoints` here"),
    Row("--resync-interval", "needless", "watches are renewed; `timing.resync` is about HAProxy"),
    Row("--include-udp-endpoints", "not offered", "HAProxy balances TCP only"),
    Row(
        "ROUTER_SERVICE_NAMESPACE",
        "needless",
        "the Lease is in the pod's own namespace, or `kubernetes.lease.namespace`",
    ),
    Row(
        "ROUTER_SERVICE_SNI_PORT ROUTER_SERVICE_NO_SNI_PORT",
        "needless",
        "HAProxy hands connections to itself over a socket",
    ),
    Row(
        "--working-dir --enable-ingress --v --loglevel --kubeconfig",
        "needless",
        "`source.kubeconfig` and `log.level` are the sidecar's own",
    ),
    Row(
        "RELOAD_INTERVAL --interval COMMIT_INTERVAL ROUTER_HAPROXY_CONFIG_MANAGER "
        "ROUTER_BLUEPRINT_ROUTE_* ROUTER_MAX_DYNAMIC_SERVERS RELOAD_SCRIPT --reload "
        "ROUTER_HARD_STOP_AFTER",
        "needless",
        "nothing is reloaded",
    ),
    Row(
        "TEMPLATE_FILE --template",
        "`haproxy.template`",
        "another template: Jinja2, and rendered once",
    ),
    Row("ROUTER_SERVICE_HTTP_PORT", "`listeners[].bind`", "of `kind: http`"),
    Row("ROUTER_SERVICE_HTTPS_PORT", "`listeners[].bind`", "of `kind: tls`"),
    Row(
        "ROUTER_IP_V4_V6_MODE",
        "`listeners[].bind`",
        "`v4`: `0.0.0.0:80`, `v6`: `[::]:80`, `v4v6`: both",
    ),
    Row("ROUTER_USE_PROXY_PROTOCOL", "`listeners[].accept_proxy`", "of each listener"),
    Row(
        "ROUTER_BIND_PORTS_AFTER_SYNC",
        "needless",
        "HAProxy serves at once what was saved; `/readyz` is 503 until all is programmed",
    ),
    Row("ROUTER_MAX_CONNECTIONS", "`haproxy.maxconn`", "20,000 by default; no `auto`", "count"),
    Row("ROUTER_THREADS", "template", "HAProxy has as many as there are CPUs"),
    Row(
        "ROUTER_BUF_SIZE ROUTER_MAX_REWRITE_SIZE",
        "template",
        "as much as `web.headers`, `web.route_headers` and `web.client_certificates` need",
    ),
    Row(
        "ROUTER_IDLE_CLOSE_ON_RESPONSE",
        "needless",
        "about connections that are idle during a reload",
    ),
    Row(
        "ROUTER_ABORT_ON_CLOSE ROUTER_HTTP_IGNORE_PROBES ROUTER_DONT_LOG_NULL "
        "ROUTER_HAPROXY_CONTSTATS",
        "template",
        "options of HAProxy",
    ),
    Row(
        "ROUTER_DEFAULT_CONNECT_TIMEOUT",
        "template",
        "500 ms for Routes by host; `pools[].timeouts` for ports",
    ),
    Row("ROUTER_DEFAULT_CLIENT_TIMEOUT", "`web.timeouts.client`", "", "time"),
    Row("ROUTER_DEFAULT_SERVER_TIMEOUT", "`web.timeouts.server`", "", "time"),
    Row("ROUTER_DEFAULT_TUNNEL_TIMEOUT", "`web.timeouts.tunnel`", "", "time"),
    Row(
        "ROUTER_CLIENT_FIN_TIMEOUT ROUTER_DEFAULT_SERVER_FIN_TIMEOUT",
        "template",
        "without, the others hold",
    ),
    Row("ROUTER_SLOWLORIS_TIMEOUT", "`web.timeouts.http_request`", "", "time"),
    Row("ROUTER_SLOWLORIS_HTTP_KEEPALIVE", "`web.timeouts.keep_alive`", "", "time"),
    Row("ROUTER_INSPECT_DELAY", "`web.timeouts.inspect`", "", "time"),
    Row(
        "ROUTER_LOAD_BALANCE_ALGORITHM",
        "`web.balance.http`, `web.balance.reencrypt`",
        "`roundrobin` by default",
        "text",
    ),
    Row("ROUTER_TCP_BALANCE_SCHEME", "`web.balance.passthrough`", "", "text"),
    Row(
        "ROUTER_BACKEND_CHECK_INTERVAL",
        "not offered",
        "readiness comes from Kubernetes; for ports `pools[].check`",
    ),
    Row("ROUTER_BACKEND_PROCESS_ENDPOINTS", "needless", "a pod keeps its slot, whatever the order"),
    Row("ROUTER_COOKIE_NAME", "`web.cookie_name`", "", "text"),
    Row("ROUTER_SET_FORWARDED_HEADERS", "`web.forwarded_headers`", "", "text"),
    Row("ROUTER_DISABLE_HTTP2", "`web.tls.http2`", "`true` there is `false` here", "not"),
    Row(
        "DEFAULT_CERTIFICATE DEFAULT_CERTIFICATE_PATH DEFAULT_CERTIFICATE_DIR",
        "`web.default_certificate`",
        "a file or a folder, followed",
    ),
    Row("DEFAULT_DESTINATION_CA_PATH", "`web.service_ca`", "", "file"),
    Row(
        "ROUTER_CIPHERS",
        "`web.tls.ciphers`",
        "names of ciphers; not `modern`, `intermediate` or `old`",
    ),
    Row("ROUTER_CIPHERSUITES", "`web.tls.ciphersuites`", "", "text"),
    Row("ROUTER_CURVES", "`web.tls.curves`", "", "text"),
    Row("SSL_MIN_VERSION", "`web.tls.min_version`", "not below `TLSv1.2`", "text"),
    Row("SSL_MAX_VERSION", "`web.tls.max_version`", "", "text"),
    Row("ROUTER_STRICT_SNI", "`web.tls.strict_sni`", "", "flag"),
    Row("ROUTER_MUTUAL_TLS_AUTH", "`web.client_certificates.mode`"),
    Row("ROUTER_MUTUAL_TLS_AUTH_CA", "`web.client_certificates.ca`"),
    Row("ROUTER_MUTUAL_TLS_AUTH_CRL", "`web.client_certificates.crl`"),
    Row("ROUTER_MUTUAL_TLS_AUTH_FILTER", "`web.client_certificates.subject_filter`"),
    Row(
        "ROUTER_MUTUAL_TLS_HEADER_FILTER",
        "needless",
        "clients' own `X-SSL` headers are always removed",
    ),
    Row(
        "ROUTER_HTTP_REQUEST_HEADERS --set-delete-http-request-header",
        "`web.headers.request`",
        "`NAME:VALUE:Set` is in `set`, `NAME:Delete` in `delete`; nothing is percent-encoded",
        "headers",
    ),
    Row(
        "ROUTER_HTTP_RESPONSE_HEADERS --set-delete-http-response-header",
        "`web.headers.response`",
        "the same",
        "headers",
    ),
    Row(
        "ROUTER_CAPTURE_HTTP_REQUEST_HEADERS ROUTER_CAPTURE_HTTP_RESPONSE_HEADERS "
        "ROUTER_CAPTURE_HTTP_COOKIE",
        "template",
        "the log has [fixed fields](#haproxys-access-log)",
    ),
    Row(
        "ROUTER_H1_CASE_ADJUST --http-header-name-case-adjustments",
        "not offered",
        "names of headers are sent in lower case, as HTTP allows",
    ),
    Row("ROUTER_UNIQUE_ID_HEADER_NAME ROUTER_UNIQUE_ID_FORMAT", "template"),
    Row(
        "ROUTER_ENABLE_COMPRESSION ROUTER_COMPRESSION_MIME",
        "`web.compression.types`",
        "without types, none; there `text/html text/plain text/css`",
    ),
    Row(
        "ROUTER_ERRORFILE_503 ROUTER_ERRORFILE_404",
        "`web.error_pages`",
        "with one for 404, no match is 404, as there",
    ),
    Row(
        "ROUTER_SYSLOG_ADDRESS ROUTER_SYSLOG_FORMAT ROUTER_LOG_LEVEL ROUTER_LOG_FACILITY "
        "ROUTER_LOG_MAX_LENGTH",
        "template",
        "HAProxy logs to stdout; `log.level` is the sidecar's own",
    ),
    Row(
        "STATS_PORT ROUTER_LISTEN_ADDR",
        "`http.listen`",
        "`/healthz`, `/readyz`, which is `/healthz/ready`, too, and `/metrics`; "
        "`haproxy.metrics_listen` has HAProxy's own",
    ),
    Row(
        "STATS_USERNAME --stats-user STATS_USERNAME_FILE --stats-user-file STATS_PASSWORD"
        " STATS_PASSWORD_FILE",
        "needless",
        "HAProxy's page of statistics is not served; the sidecar's page and `/api` have a"
        " token, `http.token_file`",
    ),
    Row(
        "ROUTER_METRICS_TLS_CERT_FILE ROUTER_METRICS_TLS_KEY_FILE",
        "not offered",
        "`http.listen` has no TLS; put a proxy that has it in front",
    ),
    Row("ROUTER_METRICS_*", "needless", "HAProxy is asked with `haproxy.timeout`"),
    Row("ROUTER_GRACEFUL_SHUTDOWN_DELAY", "`timing.grace`", "", "span"),
    Row("ROUTER_MAX_SHUTDOWN_TIMEOUT", "not offered", "the pod's `terminationGracePeriodSeconds`"),
)
