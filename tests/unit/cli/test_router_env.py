"""``import router-env``: how each variable is read, and that the settings take what is written."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli.import_router_env import written
from sidecar.importers.environment import Variable
from sidecar.importers.router_env import convert
from sidecar.importers.router_env_sources import from_environment, from_objects
from sidecar.importers.router_env_table import TABLE, row_of, variable_of, variables
from sidecar.settings.parsing import parse_settings

LISTENERS = [
    {"name": "http", "kind": "http", "bind": ["0.0.0.0:80"]},
    {"name": "tls", "kind": "tls", "bind": ["0.0.0.0:443"]},
]
BASE = {"source": {"kind": "kubernetes"}, "listeners": LISTENERS}

#: Two words, as the tests have no others: those of HAProxy's that OpenSSL knows everywhere.
CIPHERS = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"


LONGEST = "2147483647ms"


def imported(env: Mapping[str, str]) -> tuple[dict[str, Any], list[str], list[str], list[str]]:
    """The settings but for those of any router, problems, doubts, and what is needless."""
    done = convert({name: Variable(name, value, name) for name, value in env.items()})
    text, refused = written(done)
    parse_settings(text, {}, "test")
    data = yaml.safe_load(text)
    assert data.pop("source")["kind"] == "kubernetes" or "ROUTER_WATCH_ENDPOINTS" in env
    return data, [*done.problems, *refused], done.doubts, done.needless


def with_listeners(**more: Any) -> dict[str, Any]:
    return {"listeners": LISTENERS, **more}


GOOD: tuple[tuple[Mapping[str, str], dict[str, Any]], ...] = (
    ({"ROUTER_SERVICE_NAME": "sharded"}, {"router_name": "sharded"}),
    ({"ROUTER_SERVICE_NAME": "wzh-router-1"}, {}),
    ({"ROUTER_CANONICAL_HOSTNAME": "r.x"}, {"kubernetes": {"canonical_hostname": "r.x"}}),
    ({"ROUTER_DOMAIN": "apps.x"}, {"web": {"domain": "apps.x"}}),
    ({"ROUTER_DOMAIN": ""}, {}),
    ({"ROUTER_SUBDOMAIN": "${name}.x"}, {"web": {"hostname_template": "${name}.x"}}),
    ({"ROUTER_ALLOWED_DOMAINS": "a.x, b.x,,"}, {"web": {"allowed_domains": ["a.x", "b.x"]}}),
    ({"ROUTER_DENIED_DOMAINS": "a.x"}, {"web": {"denied_domains": ["a.x"]}}),
    ({"ROUTER_ALLOW_WILDCARD_ROUTES": "T"}, {"web": {"wildcards": True}}),
    ({"ROUTER_ALLOW_WILDCARD_ROUTES": "0"}, {}),
    ({"ROUTER_DISABLE_NAMESPACE_OWNERSHIP_CHECK": "1"}, {"web": {"namespace_ownership": False}}),
    ({"ROUTER_UPDATE_STATUS": "false"}, {"kubernetes": {"write_status": False}}),
    ({"ROUTER_ENABLE_EXTERNAL_CERTIFICATE": "true"}, {"web": {"external_certificates": True}}),
    ({"ROUTER_MAX_CONNECTIONS": "50000"}, {"haproxy": {"maxconn": 50000}}),
    ({"ROUTER_DEFAULT_CLIENT_TIMEOUT": "10"}, {"web": {"timeouts": {"client": "10ms"}}}),
    ({"ROUTER_DEFAULT_SERVER_TIMEOUT": "30000ms"}, {}),
    ({"ROUTER_DEFAULT_SERVER_TIMEOUT": "100d"}, {"web": {"timeouts": {"server": LONGEST}}}),
    ({"ROUTER_DEFAULT_TUNNEL_TIMEOUT": "24d"}, {"web": {"timeouts": {"tunnel": "24d"}}}),
    ({"ROUTER_SLOWLORIS_TIMEOUT": "2s"}, {"web": {"timeouts": {"http_request": "2s"}}}),
    ({"ROUTER_SLOWLORIS_HTTP_KEEPALIVE": "1m"}, {"web": {"timeouts": {"keep_alive": "1m"}}}),
    ({"ROUTER_INSPECT_DELAY": "1s"}, {"web": {"timeouts": {"inspect": "1s"}}}),
    ({"ROUTER_GRACEFUL_SHUTDOWN_DELAY": "1m30s"}, {"timing": {"grace": "90s"}}),
    (
        {"ROUTER_LOAD_BALANCE_ALGORITHM": "leastconn"},
        {"web": {"balance": {"http": "leastconn", "reencrypt": "leastconn"}}},
    ),
    (
        {"ROUTER_TCP_BALANCE_SCHEME": "roundrobin"},
        {"web": {"balance": {"passthrough": "roundrobin"}}},
    ),
    ({"ROUTER_COOKIE_NAME": "sid"}, {"web": {"cookie_name": "sid"}}),
    ({"ROUTER_SET_FORWARDED_HEADERS": "never"}, {"web": {"forwarded_headers": "never"}}),
    ({"ROUTER_DISABLE_HTTP2": "true"}, {"web": {"tls": {"http2": False}}}),
    ({"DEFAULT_CERTIFICATE_DIR": "/etc/x"}, {"web": {"default_certificate": "/etc/x"}}),
    ({"DEFAULT_CERTIFICATE_PATH": "/a.pem"}, {"web": {"default_certificate": "/a.pem"}}),
    ({"DEFAULT_DESTINATION_CA_PATH": "/ca.crt"}, {"web": {"service_ca": "/ca.crt"}}),
    ({"ROUTER_CIPHERS": CIPHERS}, {"web": {"tls": {"ciphers": CIPHERS}}}),
    (
        {"ROUTER_CIPHERSUITES": "TLS_AES_128_GCM_SHA256"},
        {"web": {"tls": {"ciphersuites": "TLS_AES_128_GCM_SHA256"}}},
    ),
    ({"ROUTER_CURVES": "X25519:P-256"}, {"web": {"tls": {"curves": "X25519:P-256"}}}),
    ({"SSL_MIN_VERSION": "TLSv1.3"}, {"web": {"tls": {"min_version": "TLSv1.3"}}}),
    ({"SSL_MAX_VERSION": "TLSv1.2"}, {"web": {"tls": {"max_version": "TLSv1.2"}}}),
    ({"ROUTER_STRICT_SNI": "true"}, {"web": {"tls": {"strict_sni": True}}}),
    (
        {
            "ROUTER_MUTUAL_TLS_AUTH": "optional",
            "ROUTER_MUTUAL_TLS_AUTH_CA": "/ca.pem",
            "ROUTER_MUTUAL_TLS_AUTH_FILTER": "/CN=a",
        },
        {
            "web": {
                "client_certificates": {
                    "mode": "optional",
                    "ca": "/ca.pem",
                    "subject_filter": "/CN=a",
                }
            }
        },
    ),
    (
        {"ROUTER_HTTP_REQUEST_HEADERS": "X-A:a%2Cb+c:Set,X-B:Delete,X-C::Delete"},
        {"web": {"headers": {"request": {"set": {"X-A": "a,b c"}, "delete": ["X-B", "X-C"]}}}},
    ),
    (
        {"ROUTER_HTTP_RESPONSE_HEADERS": "X-A:%25%5Bres.hdr%28B%29%5D:Set"},
        {"web": {"headers": {"response": {"set": {"X-A": "%[res.hdr(B)]"}}}}},
    ),
    (
        {"ROUTER_ENABLE_COMPRESSION": "true"},
        {"web": {"compression": {"types": ["text/html", "text/plain", "text/css"]}}},
    ),
    (
        {"ROUTER_ENABLE_COMPRESSION": "true", "ROUTER_COMPRESSION_MIME": "text/html a/b"},
        {"web": {"compression": {"types": ["text/html", "a/b"]}}},
    ),
    ({"ROUTER_ERRORFILE_503": "/503.http"}, {"web": {"error_pages": {503: "/503.http"}}}),
    ({"ROUTER_MUTUAL_TLS_AUTH": "none", "ROUTER_MUTUAL_TLS_AUTH_CA": "/ca.pem"}, {}),
    ({"ROUTER_DEFAULT_SERVER_TIMEOUT": "9" * 5000}, {"web": {"timeouts": {"server": LONGEST}}}),
    ({"STATS_PORT": "0"}, {}),
    ({"STATS_PORT": "-1"}, {}),
    ({"STATS_PORT": "1936"}, {"http": {"listen": "0.0.0.0:1936"}}),
    ({"ROUTER_LISTEN_ADDR": ":1936"}, {"http": {"listen": "0.0.0.0:1936"}}),
    ({"ROUTER_LISTEN_ADDR": "127.0.0.1:8405", "STATS_PORT": "1"}, {}),
)


@pytest.mark.parametrize(("env", "more"), GOOD, ids=",".join)
def test_a_value_that_is_taken(env: Mapping[str, str], more: dict[str, Any]) -> None:
    data, problems, _, _ = imported(env)
    assert problems == []
    assert data == with_listeners(**more)


@pytest.mark.parametrize(
    ("env", "binds", "proxy"),
    [
        ({"ROUTER_IP_V4_V6_MODE": "v6"}, (["[::]:80"], ["[::]:443"]), False),
        (
            {"ROUTER_IP_V4_V6_MODE": "v4v6", "ROUTER_SERVICE_HTTP_PORT": "8080"},
            (["0.0.0.0:8080", "[::]:8080"], ["0.0.0.0:443", "[::]:443"]),
            False,
        ),
        (
            {"ROUTER_SERVICE_HTTPS_PORT": "8443", "ROUTER_USE_PROXY_PROTOCOL": "true"},
            (["0.0.0.0:80"], ["0.0.0.0:8443"]),
            True,
        ),
    ],
)
def test_the_listeners(
    env: Mapping[str, str], binds: tuple[list[str], list[str]], proxy: bool
) -> None:
    data, problems, _, _ = imported(env)
    assert problems == []
    assert tuple(item["bind"] for item in data["listeners"]) == binds
    assert [item.get("accept_proxy", False) for item in data["listeners"]] == [proxy, proxy]


def test_what_is_watched() -> None:
    env = {"ROUTE_LABELS": "a=b", "ROUTE_FIELDS": "metadata.name!=x", "PROJECT_LABELS": "c"}
    env |= {"--namespace": "shop", "ROUTER_WATCH_ENDPOINTS": "true"}
    done = convert({name: Variable(name, value, name) for name, value in env.items()})
    text, refused = written(done)
    assert [*done.problems, *refused] == []
    source = parse_settings(text, {}, "test").source
    assert (source.route_labels, source.route_fields) == ("a=b", "metadata.name!=x")
    assert (source.namespaces, source.endpoints) == (("shop",), "endpoints")
    assert source.namespace_labels == "c"
    # All projects.
    done = convert({"PROJECT_LABELS": Variable("PROJECT_LABELS", "*", "PROJECT_LABELS")})
    text, refused = written(done)
    assert [*done.problems, *refused] == []
    assert parse_settings(text, {}, "test").source.namespace_labels == ""


BAD: tuple[tuple[Mapping[str, str], str], ...] = (
    (
        {"ROUTER_DEFAULT_CLIENT_TIMEOUT": "1.5s"},
        "ROUTER_DEFAULT_CLIENT_TIMEOUT: '1.5s': OpenShift's",
    ),
    ({"ROUTER_DEFAULT_CLIENT_TIMEOUT": "9us"}, "web.timeouts.client: '9us': must be at least 1ms"),
    (
        {"ROUTER_STRICT_SNI": "yes"},
        "ROUTER_STRICT_SNI: 'yes': OpenShift's router takes it for false",
    ),
    ({"ROUTER_MAX_CONNECTIONS": "auto"}, "ROUTER_MAX_CONNECTIONS: 'auto': there is no auto here"),
    ({"ROUTER_MAX_CONNECTIONS": "many"}, "ROUTER_MAX_CONNECTIONS: 'many': OpenShift's router"),
    ({"SSL_MIN_VERSION": "TLSv1.0"}, "web.tls.min_version: 'TLSv1.0': choose 'TLSv1.2' or"),
    ({"ROUTER_ALLOWED_DOMAINS": "a_b.x"}, "web.allowed_domains[0]: 'a_b.x': write a domain"),
    ({"ROUTER_IP_V4_V6_MODE": "both"}, "ROUTER_IP_V4_V6_MODE: 'both': OpenShift's router takes"),
    ({"ROUTER_SERVICE_HTTP_PORT": "http"}, "ROUTER_SERVICE_HTTP_PORT: 'http': write a port from"),
    ({"ROUTER_SERVICE_HTTP_PORT": "443"}, "ROUTER_SERVICE_HTTPS_PORT: 443 is that of HTTP, too"),
    ({"ROUTER_COOKIE_NAME": "a b"}, "web.cookie_name: 'a b': write the name of a cookie"),
    ({"ROUTER_LOAD_BALANCE_ALGORITHM": "first"}, "web.balance.http: 'first': choose 'roundrobin'"),
    (
        {"ROUTER_GRACEFUL_SHUTDOWN_DELAY": "45"},
        "ROUTER_GRACEFUL_SHUTDOWN_DELAY: '45': write a time",
    ),
    ({"ROUTER_HTTP_REQUEST_HEADERS": "X-A"}, "ROUTER_HTTP_REQUEST_HEADERS: 'X-A': 'X-A' is no"),
    ({"ROUTER_HTTP_REQUEST_HEADERS": "X:%:Set"}, "has a % without two hexadecimal digits"),
    ({"ROUTER_HTTP_REQUEST_HEADERS": "Cookie:a:Set"}, "not for this, as OpenShift has it"),
    ({"ROUTER_MUTUAL_TLS_AUTH": "required"}, "needs the CAs that sign clients' certificates"),
    ({"DEFAULT_CERTIFICATE": "-----BEGIN PRIVATE KEY-----"}, "DEFAULT_CERTIFICATE: write the"),
    ({"STATS_PORT": "http"}, "http.listen: '0.0.0.0:http': write host:port"),
    ({"TEMPLATE_FILE": "/my.template"}, "a template of OpenShift's router cannot be used"),
    ({"ROUTER_NO_SUCH": "1"}, "ROUTER_NO_SUCH: '1': not known of OpenShift's router"),
    (
        {"ROUTER_OVERRIDE_HOSTNAME": "true"},
        "ROUTER_OVERRIDE_HOSTNAME: 'true': not offered: a Route",
    ),
    ({"ROUTER_DOMAIN": "a\x07b"}, "has a control character"),
    ({"NAMESPACE_LABELS": "a", "PROJECT_LABELS": "b"}, "PROJECT_LABELS: 'b': NAMESPACE_LABELS is"),
)


@pytest.mark.parametrize(("env", "said"), BAD, ids=lambda it: ",".join(it) if it else None)
def test_a_value_that_is_not_taken_stops_no_other(env: Mapping[str, str], said: str) -> None:
    other = {"ROUTER_ALLOW_WILDCARD_ROUTES": "true"}
    data, problems, _, _ = imported({**env, **other})
    assert len(problems) == (2 if "LOAD_BALANCE" in str(env) else 1)
    assert said in problems[0]
    assert data["web"]["wildcards"] is True


def test_what_is_needless_and_what_should_be_looked_at() -> None:
    env = {"RELOAD_INTERVAL": "5s", "STATS_PASSWORD": "geheim", "ROUTER_BUF_SIZE": "65536"}
    env |= {"ROUTER_METRICS_TYPE": "haproxy", "ROUTER_CIPHERS": "intermediate"}
    _, problems, doubts, needless = imported(env)
    assert problems == []
    assert needless[0] == "RELOAD_INTERVAL: '5s': nothing is reloaded"
    assert len(needless) == 3
    assert "geheim" not in "".join(needless)
    assert doubts[0].startswith("listeners: 80, 443: a pod with a network of its own")
    assert doubts[1].startswith("ROUTER_CIPHERS: 'intermediate': here ciphers are named")
    assert doubts[2].startswith("ROUTER_BUF_SIZE: '65536': only by a template of your own")


def test_each_variable_with_a_setting_is_tried_here() -> None:
    tried = {name for env, _ in GOOD for name in env} | {"DEFAULT_CERTIFICATE", "TEMPLATE_FILE"}
    tried |= {"ROUTER_SERVICE_HTTP_PORT", "ROUTER_SERVICE_HTTPS_PORT", "ROUTER_IP_V4_V6_MODE"}
    tried |= {"ROUTER_USE_PROXY_PROTOCOL", "ROUTE_LABELS", "ROUTE_FIELDS", "NAMESPACE_LABELS"}
    tried |= {"PROJECT_LABELS", "--namespace", "ROUTER_WATCH_ENDPOINTS", "ROUTER_ERRORFILE_404"}
    tried |= {"ROUTER_MUTUAL_TLS_AUTH_CRL"}
    names = [name for row in TABLE if row.keys for name in row.names.split()]
    assert {variable_of(it) if it.startswith("--") else it for it in names} - tried == set()


NAMES = st.sampled_from([name.replace("*", "X") for name in variables()])
TEXT = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "true",
            "v6",
            "10s",
            "99999999999999999999d",
            "1e5",
            "0x1",
            "null",
            "~",
            "a: b",
            "# x",
            "'",
        ]
    ),
)


@given(st.dictionaries(NAMES, TEXT, max_size=6))
def test_any_text_gives_settings(env: dict[str, str]) -> None:
    done = convert({name: Variable(name, value, name) for name, value in env.items()})
    text, refused = written(done)
    settings = parse_settings(text, {}, "test")
    assert settings.source.kind == "kubernetes"
    lines = [*done.problems, *done.doubts, *done.needless, *refused]
    assert all(line.isprintable() for line in lines)


@given(st.text(max_size=200))
def test_any_file_is_read(text: str) -> None:
    written(convert(from_environment(text, "f").variables))


def test_values_that_a_list_of_variables_has_not() -> None:
    text = """\
# deployments/router-default, container router
ROUTER_THREADS=4
# ROUTER_DOMAIN from configmap settings, key domain
# STATS_PASSWORD from secret stats, key password
# OTHER from secret other, key x
"""
    found = from_environment(text, "f")
    assert list(found.variables) == ["ROUTER_THREADS"]
    assert found.problems == [
        "ROUTER_DOMAIN: its value is in configmap settings, not here; write ROUTER_DOMAIN=VALUE"
    ]


def test_flags_come_before_variables() -> None:
    container = {
        "command": ["/usr/bin/openshift-router"],
        "args": ["--v=4", "--strict-sni", "--denied-domains", "a.x", "--name=b", "--nothing"],
        "env": [{"name": "ROUTER_SERVICE_NAME", "value": "a"}],
    }
    [found] = from_objects([deployment(container)])
    assert not isinstance(found, str)
    assert {name: it.value for name, it in found.variables.items()} == {
        "--v": "4",
        "ROUTER_STRICT_SNI": "true",
        "ROUTER_DENIED_DOMAINS": "a.x",
        "ROUTER_SERVICE_NAME": "b",
    }
    assert found.problems == ["--nothing: OpenShift's router has no such flag; look what it is"]


def test_a_password_that_looks_like_a_flag_is_not_told() -> None:
    arguments = ["--stats-password", "-secret", "--name", "-x"]
    [found] = from_objects(
        [deployment({"args": arguments, "env": [{"name": "STATS_PORT", "value": "0"}]})]
    )
    assert not isinstance(found, str)
    values = {name: it.value for name, it in found.variables.items()}
    assert values == {
        "STATS_PORT": "0",
        "STATS_PASSWORD": "-secret",
        "ROUTER_SERVICE_NAME": "-x",
    }
    assert found.problems == []


def deployment(container: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "router-default", "namespace": "openshift-ingress"},
        "spec": {"template": {"spec": {"containers": [{"name": "logs"}, dict(container)]}}},
    }


def test_values_from_elsewhere() -> None:
    def entry(name: str, source: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": name, "valueFrom": source}

    container = {
        "env": [
            entry("ROUTER_DOMAIN", {"configMapKeyRef": {"name": "c", "key": "domain"}}),
            entry("ROUTER_SUBDOMAIN", {"configMapKeyRef": {"name": "c", "key": "no"}}),
            entry("ROUTER_COOKIE_NAME", {"configMapKeyRef": {"name": "d", "key": "k"}}),
            entry("DEFAULT_CERTIFICATE", {"secretKeyRef": {"name": "s", "key": "pem"}}),
            entry("STATS_PASSWORD", {"secretKeyRef": {"name": "s", "key": "password"}}),
            entry("POD_NAME", {"fieldRef": {"fieldPath": "metadata.name"}}),
        ],
        "envFrom": [{"configMapRef": {"name": "c"}}],
    }
    data = {"domain": "apps.x", "ROUTER_THREADS": "4", "other": "x"}
    at = {"name": "c", "namespace": "openshift-ingress"}
    config_map = {"kind": "ConfigMap", "metadata": at, "data": data}
    [found] = from_objects([deployment(container), config_map, {"kind": "Secret"}, 3])
    assert not isinstance(found, str)
    assert sorted(found.variables) == ["ROUTER_DOMAIN", "ROUTER_THREADS", "STATS_PASSWORD"]
    assert found.variables["ROUTER_DOMAIN"].value == "apps.x"
    assert found.problems == [
        (
            "ROUTER_SUBDOMAIN: ConfigMap openshift-ingress/c has no key no; available:"
            " ROUTER_THREADS, domain, other"
        ),
        "ROUTER_COOKIE_NAME: there is no ConfigMap openshift-ingress/d in the files; pass it, too",
        (
            "DEFAULT_CERTIFICATE: its value is not in a ConfigMap, and is not read; write what it"
            " is for into the settings (web.default_certificate)"
        ),
    ]


def test_whole_config_maps_and_secrets_that_are_not_there() -> None:
    references = [
        {"configMapRef": {"name": "none"}},
        {"configMapRef": {"name": "maybe", "optional": True}},
        {"secretRef": {"name": "s"}},
        {"secretRef": {"name": "maybe", "optional": True}},
    ]
    threads = {"name": "ROUTER_THREADS", "value": "4"}
    [found] = from_objects([deployment({"env": [threads], "envFrom": references})])
    assert not isinstance(found, str)
    assert list(found.variables) == ["ROUTER_THREADS"]
    assert found.problems == [
        "envFrom: there is no ConfigMap openshift-ingress/none in the files; pass it, too",
        (
            "envFrom: Secret openshift-ingress/s is not read; write what its variables are for"
            " into the settings"
        ),
    ]
    assert list(from_objects([deployment({"envFrom": references})])) == []


def test_what_ends_is_no_router() -> None:
    for kind in ("Job", "CronJob"):
        job = deployment({"env": [{"name": "ROUTER_THREADS", "value": "4"}]}) | {"kind": kind}
        assert list(from_objects([job])) == []


def test_a_row_is_found_by_each_of_its_names() -> None:
    assert row_of("ROUTER_METRICS_HAPROXY_TIMEOUT") == row_of("ROUTER_METRICS_TYPE")
    assert variable_of("--name") == "ROUTER_SERVICE_NAME"
    assert variable_of("--commit-interval") == "COMMIT_INTERVAL"
    assert variable_of("--max-connections") == "ROUTER_MAX_CONNECTIONS"
    assert variable_of("--no-such") is None
