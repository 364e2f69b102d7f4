"""`sidecar.settings.schema`: every key of the design is understood; for mistakes see
test_mistakes."""

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand import route

from sidecar.model.header_actions import HeaderNames
from sidecar.model.objects import RouteTLS, secret_key
from sidecar.model.pool import (
    Address,
    ClientCertificates,
    HealthCheck,
    RouterHeaders,
    TLSOptions,
    WebClass,
    WebListener,
    WebPool,
)
from sidecar.routing.own_addresses import Listener
from sidecar.settings.parsing import parse_settings
from sidecar.settings.pools import PoolSettings
from sidecar.settings.schema import DENIED_BY_DEFAULT, Settings

#: The settings of the design, word for word.
DESIGN = """\
router_name: wzh-router-1          # or env WZH_ROUTER_NAME
haproxy:
  socket: run/admin.sock           # Runtime API, unix path or host:port
  config: run/haproxy.cfg          # what render and up write
  state_file: run/servers.state
  template: null                   # your own jinja2 template instead of ours; gets the pool
  maxconn: null                    # HAProxy's own choice
source:
  kind: directory                  # or kubernetes
  path: examples/                  # directory: *.yaml, *.yml, *.json, multi-document, List kinds
  namespaces: []                   # kubernetes: empty means all; route_labels: selector
pools:
  - name: default
    ports: ["13306", "18080", "6620", "30000-30099"]
    bind: ["127.0.0.1"]
    slots: 6
    balance: leastconn
    namespaces: ["*"]
    timeouts: {connect: 500ms, client: 1h, server: 1h}
    check: {enabled: false, interval: 5s, rise: 1, fall: 3}
    accept_proxy: false
    send_proxy: none               # v1, v2
drain: {deadline: 0s}              # 0: sessions of a removed endpoint end by themselves
endpoints: {deny: []}              # networks no server may be in; the default denies loopback, link-local, multicast
http: {listen: "127.0.0.1:8405"}   # /healthz /readyz /metrics
"""  # noqa: E501

#: All keys, none with its default.
EVERYTHING = """\
router_name: edge-2
haproxy:
  socket: 127.0.0.1:9999
  config: /etc/haproxy/haproxy.cfg
  state_file: /shared/servers.state
  template: mine.j2
  maxconn: 5000
  metrics_listen: "[::1]:8406"
  timeout: 2s
source:
  kind: kubernetes
  path: /manifests
  namespaces: [a, b]
  namespace_labels: team
  route_labels: "tier=edge,shard in (a, b)"
  route_fields: spec.host!=x
  endpoints: endpoints
  kubeconfig: /kube
  context: east
annotations: {router_name: r, port: p, drain_deadline: d, kept_port: k}
kubernetes:
  write_status: false
  canonical_hostname: router.example.com
  events: false
  lease: {namespace: ingress, name: router.a}
  publish_service: ingress/edge
  writes_per_second: 2.5
pools:
  - name: brokers
    ports: [1883, "9092-9094"]
    bind: [0.0.0.0, "::"]
    slots: 4
    balance: source
    namespaces: [team-a, team-b]
    auto_ports_per_namespace: 3
    timeouts: {connect: 1s, client: 30m, server: 1d}
    check: {enabled: true, interval: 250ms, rise: 2, fall: 5}
    accept_proxy: true
    send_proxy: v2
    source: "2001:DB8::0:7"
    maxconn: 300
  # Not where the PROXY protocol is sent.
  - {name: brokers-tls, ports: [8883], shared_by_sni: true}
listeners:
  - {name: clear, kind: http, bind: ["0.0.0.0:80", "[::0]:80"]}
  - {name: sni, kind: tls, bind: ["127.0.0.1:443"], accept_proxy: true}
web:
  routes: annotated
  backends: {http: 5, reencrypt: 6, passthrough: 7}
  slots: 3
  balance: {http: leastconn, reencrypt: source, passthrough: random}
  further_backends:
    http: {roundrobin: 1, leastconn: 2, random: 0, source: 3}
    reencrypt: {roundrobin: 0, leastconn: 4, random: 0, source: 5}
    passthrough: {roundrobin: 6, leastconn: 0, random: 7, source: 0}
  cookie_name: SRV
  domain: apps.example.com
  hostname_template: "${name}-${namespace}.apps.example.com"
  allowed_domains: [example.com]
  denied_domains: [internal.example.com]
  wildcards: true
  unmatched_status: 404
  forwarded_headers: if-none
  route_headers: {request: [X-One], response: [X-Two, x_three]}
  headers:
    request: {set: {X-Four: "%[req.hdr(X-Five)]"}, delete: [X-Six]}
    response: {set: {X-Seven: a b}, delete: [X-Eight]}
  compression: {types: [text/html]}
  error_pages: {503: 503.http, "404": pages/404.http}
  tls:
    min_version: TLSv1.3
    max_version: TLSv1.3
    ciphers: HIGH
    ciphersuites: TLS_AES_256_GCM_SHA384
    curves: X25519:P-256
    strict_sni: true
    http2: false
  default_certificate: tls
  client_certificates: {mode: optional, ca: ca.pem, crl: run/crl.pem, subject_filter: "CN=.*"}
  namespace_ownership: false
  service_ca: run/service-ca.crt
  external_certificates: true
  timeouts: {client: 1s, server: 2s, tunnel: 3s, http_request: 4s, keep_alive: 5s, inspect: 6s}
drain: {deadline: 90s}
endpoints: {deny: [10.0.0.0/8, "fe80::/10"]}
dns: {servers: ["10.0.0.10:53", "[fd00::a]:53"], timeout: 2s, keep: 10m}
http: {listen: null, token_file: run/token}
timing: {close_after: 0, resync: 1m, grace: 1h}
log: {format: json, level: debug}
"""


def parse(text: str, environment: Mapping[str, str] | None = None) -> Settings:
    return parse_settings(text, environment or {}, "sidecar.yaml")


def test_the_settings_of_the_design_are_the_defaults() -> None:
    designed, default = parse(DESIGN), parse("")
    assert default == Settings()
    assert designed == default.model_copy(update={"endpoints": designed.endpoints})
    assert designed.endpoints.deny == ()
    assert [str(network) for network in default.endpoints.deny] == list(DENIED_BY_DEFAULT)
    (only,) = designed.pool().classes
    assert only.ports == (6620, 13306, 18080, *range(30000, 30100))
    assert (only.name, only.bind, only.slots, only.balance) == (
        *("default", ("127.0.0.1",), 6, "leastconn"),
    )
    assert (only.namespaces, only.check) == (("*",), None)
    assert only.connect_timeout_seconds == 0.5
    assert (only.client_timeout_seconds, only.server_timeout_seconds) == (3600.0, 3600.0)
    assert (only.accept_proxy, only.send_proxy) == (False, "none")
    assert only.maxconn is None
    assert not only.shared_by_sni


def test_every_key_means_what_it_says() -> None:
    settings = parse(EVERYTHING)
    assert settings.model_dump() == {
        "router_name": "edge-2",
        "haproxy": {
            "socket": "127.0.0.1:9999",
            "config": Path("/etc/haproxy/haproxy.cfg"),
            "state_file": Path("/shared/servers.state"),
            "template": Path("mine.j2"),
            "maxconn": 5000,
            "metrics_listen": "[::1]:8406",
            "timeout": 2.0,
        },
        "source": {
            "kind": "kubernetes",
            "path": Path("/manifests"),
            "namespaces": ("a", "b"),
            "namespace_labels": "team",
            "route_labels": "tier=edge,shard in (a, b)",
            "route_fields": "spec.host!=x",
            "endpoints": "endpoints",
            "kubeconfig": Path("/kube"),
            "context": "east",
        },
        "annotations": {"router_name": "r", "port": "p", "drain_deadline": "d", "kept_port": "k"},
        "pools": (
            {
                "name": "brokers",
                "ports": (1883, 9092, 9093, 9094),
                "bind": ("0.0.0.0", "::"),
                "slots": 4,
                "balance": "source",
                "namespaces": ("team-a", "team-b"),
                "auto_ports_per_namespace": 3,
                "timeouts": {"connect": 1.0, "client": 1800.0, "server": 86400.0},
                "check": {"enabled": True, "interval": 0.25, "rise": 2, "fall": 5},
                "accept_proxy": True,
                "send_proxy": "v2",
                "source": "2001:db8::7",
                "maxconn": 300,
                "shared_by_sni": False,
            },
            {
                **PoolSettings.model_validate({"ports": ["8883"]}).model_dump(),
                "name": "brokers-tls",
                "shared_by_sni": True,
            },
        ),
        "listeners": (
            {
                "name": "clear",
                "kind": "http",
                "bind": ("0.0.0.0:80", "[::]:80"),
                "accept_proxy": False,
            },
            {"name": "sni", "kind": "tls", "bind": ("127.0.0.1:443",), "accept_proxy": True},
        ),
        "web": {
            "routes": "annotated",
            "backends": {"http": 5, "reencrypt": 6, "passthrough": 7},
            "slots": 3,
            "balance": {"http": "leastconn", "reencrypt": "source", "passthrough": "random"},
            "further_backends": {
                "http": {"roundrobin": 1, "leastconn": 2, "random": 0, "source": 3},
                "reencrypt": {"roundrobin": 0, "leastconn": 4, "random": 0, "source": 5},
                "passthrough": {"roundrobin": 6, "leastconn": 0, "random": 7, "source": 0},
            },
            "cookie_name": "SRV",
            "domain": "apps.example.com",
            "hostname_template": "${name}-${namespace}.apps.example.com",
            "allowed_domains": ("example.com",),
            "denied_domains": ("internal.example.com",),
            "wildcards": True,
            "unmatched_status": 404,
            "forwarded_headers": "if-none",
            "route_headers": {"request": ("X-One",), "response": ("X-Two", "x_three")},
            "headers": {
                "request": {"set": {"X-Four": "%[req.hdr(X-Five)]"}, "delete": ("X-Six",)},
                "response": {"set": {"X-Seven": "a b"}, "delete": ("X-Eight",)},
            },
            "compression": {"types": ("text/html",)},
            "error_pages": {503: Path("503.http"), 404: Path("pages/404.http")},
            "tls": {
                "min_version": "TLSv1.3",
                "max_version": "TLSv1.3",
                "ciphers": "HIGH",
                "ciphersuites": "TLS_AES_256_GCM_SHA384",
                "curves": "X25519:P-256",
                "strict_sni": True,
                "http2": False,
            },
            "default_certificate": Path("tls"),
            "client_certificates": {
                "mode": "optional",
                "ca": Path("ca.pem"),
                "crl": Path("run/crl.pem"),
                "subject_filter": "CN=.*",
            },
            "namespace_ownership": False,
            "service_ca": Path("run/service-ca.crt"),
            "external_certificates": True,
            "timeouts": {
                "client": 1.0,
                "server": 2.0,
                "tunnel": 3.0,
                "http_request": 4.0,
                "keep_alive": 5.0,
                "inspect": 6.0,
            },
        },
        "drain": {"deadline": 90.0, "sessions_per_second": 100},
        "limits": {"max_servers": 1024},
        "endpoints": {
            "deny": (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fe80::/10"))
        },
        "dns": {"servers": ("10.0.0.10:53", "[fd00::a]:53"), "timeout": 2.0, "keep": 600.0},
        "http": {"listen": None, "token_file": Path("run/token")},
        "kubernetes": {
            "write_status": False,
            "canonical_hostname": "router.example.com",
            "events": False,
            "lease": {"namespace": "ingress", "name": "router.a"},
            "publish_service": "ingress/edge",
            "writes_per_second": 2.5,
        },
        "timing": {"close_after": 0.0, "resync": 60.0, "grace": 3600.0},
        "log": {"format": "json", "level": "debug"},
    }
    assert settings.pool().classes[0].check == HealthCheck(0.25, 2, 5)
    assert settings.pool().web == WebPool(
        listeners=(
            WebListener("clear", "http", (Address("0.0.0.0", 80), Address("::", 80))),
            WebListener("sni", "tls", (Address("127.0.0.1", 443),), accept_proxy=True),
        ),
        classes=(
            WebClass("http", 5, 3, 2.0, 3.0, "leastconn"),
            WebClass("reencrypt", 6, 3, 2.0, 3.0, "source"),
            WebClass("passthrough", 7, 3, 2.0, 3.0, "random"),
        ),
        further=(
            WebClass("http", 1, 3, 2.0, 3.0, "roundrobin", further=True),
            WebClass("http", 3, 3, 2.0, 3.0, "source", further=True),
            WebClass("reencrypt", 4, 3, 2.0, 3.0, "leastconn", further=True),
            WebClass("passthrough", 6, 3, 2.0, 3.0, "roundrobin", further=True),
        ),
        cookie_name="SRV",
        client_timeout_seconds=1.0,
        http_request_timeout_seconds=4.0,
        keep_alive_timeout_seconds=5.0,
        unmatched_status=404,
        forwarded_headers="if-none",
        inspect_timeout_seconds=6.0,
        client_certificates=ClientCertificates("optional", True, "CN=.*"),
        route_headers=HeaderNames(("X-One",), ("X-Two", "x_three")),
        headers=RouterHeaders(
            (("X-Four", "%[req.hdr(X-Five)]"),),
            ("X-Six",),
            (("X-Seven", "%[str(a%20b),url_dec]"),),
            ("X-Eight",),
        ),
        compression_types=("text/html",),
        pages=(404, 503),
        tls=TLSOptions(
            "TLSv1.3", "TLSv1.3", "HIGH", "TLS_AES_256_GCM_SHA384", "X25519:P-256", strict_sni=True
        ),
    )


#: The design's settings of Routes by host.
WEB_DESIGN = """\
listeners: []
web:
  routes: all
  backends: {http: 500, reencrypt: 50, passthrough: 100}
  slots: 8
  domain: ""
  allowed_domains: []
  denied_domains: []
  wildcards: false
  namespace_ownership: true
  service_ca: null
  timeouts: {client: 30s, server: 30s, tunnel: 1h, http_request: 10s, keep_alive: 300s, inspect: 5s}
"""


def test_routes_by_host_have_the_designs_defaults_and_need_a_listener() -> None:
    assert parse(WEB_DESIGN) == Settings()
    assert Settings().pool().web is None


@pytest.mark.parametrize(
    ("kind", "of"), [("http", ["http"]), ("tls", ["http", "reencrypt", "passthrough"])]
)
def test_only_backends_that_a_listener_leads_to(kind: str, of: list[str]) -> None:
    web = parse(f'listeners: [{{name: l, kind: {kind}, bind: ["127.0.0.1:80"]}}]').pool().web
    assert web is not None
    assert [item.name for item in web.classes] == of
    only = web.classes[0]
    assert only.slot_names == ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
    assert only.slot_set == set(only.slot_names)
    assert (only.check, only.server_options) == (None, ())


@pytest.mark.parametrize(
    ("kind", "chosen", "reads"),
    [
        ("directory", "null", True),
        ("kubernetes", "null", False),
        ("directory", "false", False),
        ("kubernetes", "true", True),
    ],
)
def test_secrets_are_read_in_a_folder_and_in_a_cluster_if_it_is_said(
    kind: str, chosen: str, *, reads: bool
) -> None:
    listeners = 'listeners: [{name: l, kind: tls, bind: ["127.0.0.1:443"]}]'
    text = f"{listeners}\nweb: {{external_certificates: {chosen}}}\nsource: {{kind: {kind}}}"
    assert parse(text).reads_secrets is reads
    tls = RouteTLS("edge", external_certificate="web-tls")
    item = replace(route("web", None, router_name=None), tls=tls)
    refers = parse(text).refers()
    assert (refers(item) if refers else None) == (secret_key("demo", "web-tls") if reads else None)
    assert parse(f"source: {{kind: {kind}}}").refers() is None


def test_the_router_is_where_its_listeners_are() -> None:
    listening = parse(EVERYTHING).listening()
    assert Listener("0.0.0.0", frozenset({80})) in listening.listeners
    assert Listener("::", frozenset({80})) in listening.listeners
    assert Listener("127.0.0.1", frozenset({443})) in listening.listeners


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "{}", "null", "drain:\nhttp:\n", "\ufeff"]
)
def test_what_is_left_empty_has_its_defaults(text: str) -> None:
    assert parse(text) == Settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[6620]", (6620,)),
        ("6620", (6620,)),
        ('"30000-30002"', (30000, 30001, 30002)),
        ('[" 6620 ", 1]', (1, 6620)),
        # An octal for YAML 1.1, a port for everybody else.
        ("[06620, 0777]", (777, 6620)),
        ("[1, 65535]", (1, 65535)),
        ('["5-5"]', (5,)),
    ],
)
def test_ports_are_taken_as_people_write_them(text: str, expected: tuple[int, ...]) -> None:
    assert parse(f"pools: [{{ports: {text}}}]").pools[0].ports == expected


@pytest.mark.parametrize("written", ["true", "True", "yes", "on"])
def test_yaml_has_many_words_for_true(written: str) -> None:
    assert parse(f"pools: [{{ports: [1], accept_proxy: {written}}}]").pools[0].accept_proxy is True


def test_the_environment_names_the_router_before_the_file_does() -> None:
    environment = {"WZH_ROUTER_NAME": "wzh-router-9", "ROUTER_NAME": "not this"}
    assert parse("router_name: mine", environment).router_name == "wzh-router-9"
    assert parse("", environment).router_name == "wzh-router-9"
    assert parse("router_name: mine", {"WZH_ROUTER_NAME": ""}).router_name == "mine"


@given(st.lists(st.sets(st.integers(1, 2000), min_size=1), min_size=1, max_size=4))
def test_pools_may_share_the_ports_out_in_any_way(sets: list[set[int]]) -> None:
    apart = [ports.difference(*sets[:index]) for index, ports in enumerate(sets)]
    pools = [{"name": f"p{n}", "ports": sorted(ports)} for n, ports in enumerate(apart) if ports]
    made = parse(f"pools: {pools}").pool()
    assert set(made.ports) == set().union(*sets)
    for item in made.classes:
        assert {made.by_port[port] for port in item.ports} == {item}


def test_ports_that_may_be_shared_have_backends_without_any_listener() -> None:
    ports = {"ports": ["6620"], "shared_by_sni": True}
    web = Settings.model_validate({"pools": [ports]}).pool().web
    assert web is not None
    assert web.listeners == ()
    assert [(item.name, item.count) for item in web.classes] == [("passthrough", 100)]
    listener = {"name": "http", "kind": "http", "bind": ["127.0.0.1:80"]}
    both = Settings.model_validate({"pools": [ports], "listeners": [listener]}).pool().web
    assert both is not None
    assert [item.name for item in both.classes] == ["http", "passthrough"]
