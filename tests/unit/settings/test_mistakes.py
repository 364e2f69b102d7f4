"""`sidecar.settings.schema`: every mistake is told so that the person who made it can mend it."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import SettingsError
from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import Settings


def told(text: str) -> tuple[str, ...]:
    try:
        parse_settings(text, {}, "sidecar.yaml")
    except SettingsError as exc:
        return exc.problems
    return ()


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, {}, "sidecar.yaml")
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("settings sidecar.yaml:\n  ")
    return caught.value.problems


def problem(text: str) -> str:
    (only,) = problems(text)
    assert "\n" not in only
    return only


def pool(line: str) -> str:
    """A pool with this line in it."""
    ports = "" if line.startswith("ports:") else "ports: [6620], "
    return f"pools: [{{{ports}{line}}}]"


def listener(line: str, *more: str) -> str:
    """Listeners with these lines in them, each with what it does not say itself."""
    given = {"name": "name: l", "kind": "kind: http", "bind": "bind: ['127.0.0.1:80']"}
    items = []
    for text in (line, *more):
        rest = [word for key, word in given.items() if f"{key}:" not in text]
        items.append(f"{{{', '.join([text, *rest])}}}")
    return f"listeners: [{', '.join(items)}]"


# What is refused, and in which words: (settings, key, all that the line must say beside it)

UNKNOWN = [
    ("nonsense: 1", "nonsense", ["no such key", "router_name, haproxy, source"]),
    ("haproxy: {sockets: x}", "haproxy.sockets", ["did you mean socket?", "socket, config"]),
    (pool("slot: 1"), "pools[0].slot", ["did you mean slots?", "name, ports, bind"]),
    (pool("check: {on: yes}"), "pools[0].check.on", ["enabled, interval, rise, fall"]),
    ("on: 1", "on", ["no such key"]),
    ("8080: 1", "8080", ["no such key"]),
    ("pools: [{}]", "pools[0].ports", ["missing"]),
]
TYPES: list[tuple[str, str, list[str]]] = [
    # What YAML makes of words and numbers without quotes.
    ("router_name: on", "router_name", ["true", "write a string", "quote"]),
    ("router_name: 5", "router_name", ["5", "write a string", "quote"]),
    ("router_name: null", "router_name", ["null", "write a string"]),
    ("router_name: ''", "router_name", ["''", "must not be empty"]),
    ("annotations: {port: 5}", "annotations.port", ["5", "write a string"]),
    (pool("slots: yes"), "pools[0].slots", ["true", "write a whole number"]),
    (pool("slots: '16'"), "pools[0].slots", ["'16'", "write a whole number, without quotes"]),
    (pool("slots: 1.5"), "pools[0].slots", ["1.5", "write a whole number"]),
    (pool("slots: 0"), "pools[0].slots", ["0", "at least 1"]),
    (pool("slots: 5000"), "pools[0].slots", ["5000", "at most 4096"]),
    ("haproxy: {maxconn: -1}", "haproxy.maxconn", ["-1", "at least 1"]),
    ("haproxy: {maxconn: many}", "haproxy.maxconn", ["'many'", "write a whole number"]),
    (pool("accept_proxy: 'yes'"), "pools[0].accept_proxy", ["'yes'", "true or false"]),
    (pool("check: {enabled: 1}"), "pools[0].check.enabled", ["1", "true or false"]),
    (pool("shared_by_sni: 1"), "pools[0].shared_by_sni", ["1", "true or false"]),
    (pool("balance: fastest"), "pools[0].balance", ["'fastest'", "'leastconn'", "'source'"]),
    (pool("source: eth1"), "pools[0].source", ["'eth1'", "an IP address of this machine"]),
    (pool("source: 192.0.2.7:0"), "pools[0].source", ["'192.0.2.7:0'", "like 192.0.2.7"]),
    (pool("source: 10"), "pools[0].source", ["10", "write a string"]),
    (pool("source: '::'"), "pools[0].source", ["'::'", "the unspecified address"]),
    (pool("source: 224.0.0.1"), "pools[0].source", ["'224.0.0.1'", "a multicast address"]),
    (pool("source: 'fe80::1%eth0'"), "pools[0].source", ["scope IDs"]),
    (pool("maxconn: 0"), "pools[0].maxconn", ["0", "at least 1"]),
    (pool("maxconn: '5'"), "pools[0].maxconn", ["'5'", "write a whole number"]),
    (pool("send_proxy: v3"), "pools[0].send_proxy", ["'v3'", "'none', 'v1' or 'v2'"]),
    ("source: {kind: consul}", "source.kind", ["'consul'", "'directory' or 'kubernetes'"]),
    (pool("namespaces: demo"), "pools[0].namespaces", ["'demo'", "a list, like ['demo']"]),
    (pool("namespaces: []"), "pools[0].namespaces", ["[]", "must not be empty"]),
    (pool("namespaces: [no]"), "pools[0].namespaces[0]", ["false", "write a string", "quote"]),
    (pool("name: a b"), "pools[0].name", ["'a b'", "letters, digits"]),
    ("pools: []", "pools", ["[]", "must not be empty"]),
    ("pools:", "pools", ["null", "write a list"]),
    ("pools: {ports: 1}", "pools", ["{'ports': 1}", "write a list"]),
    ("pools: [6620]", "pools[0]", ["6620", "write keys below it", "name, ports"]),
    ("drain: 5s", "drain", ["'5s'", "write keys below it", "deadline"]),
    ("haproxy: {config: ''}", "haproxy.config", ["''", "write the path"]),
    ("haproxy: {template: 5}", "haproxy.template", ["5", "write the path"]),
]
TIMES = [
    (
        f"drain: {{deadline: {value}}}",
        "drain.deadline",
        [shown, "a number and a unit", "500ms or 5s"],
    )
    for value, shown in (
        *(("5", "5"), ("1.5", "1.5"), ("-5s", "'-5s'"), ("-5", "-5"), ("5 s", "'5 s'")),
        *(("1h30m", "'1h30m'"), ("soon", "'soon'"), ("null", "null"), ("yes", "true")),
        # Minutes and seconds for YAML 1.1, and then 630.
        ("10:30", "'10:30'"),
    )
]
RANGES = [
    ("drain: {deadline: 30d}", "drain.deadline", ["'30d'", "at most 24d", "HAProxy"]),
    (pool("timeouts: {connect: 0s}"), "pools[0].timeouts.connect", ["'0s'", "at least 1ms"]),
    (pool("timeouts: {connect: 0}"), "pools[0].timeouts.connect", ["0", "at least 1ms"]),
    ("timing: {resync: 500ms}", "timing.resync", ["'500ms'", "at least 1s"]),
    (
        pool("shared_by_sni: true, send_proxy: v2"),
        "pools[0].shared_by_sni",
        ["true", "send_proxy: v2", "use send_proxy: none"],
    ),
    (
        pool("shared_by_sni: true, source: 192.0.2.7"),
        "pools[0].source",
        ["'192.0.2.7'", "shared_by_sni: true", "into a pool of their own"],
    ),
    (
        "dns: {servers: [dns.example.com:53]}",
        "dns.servers[0]",
        ["'dns.example", "an IP with a port"],
    ),
    ("dns: {servers: [10.0.0.10]}", "dns.servers[0]", ["'10.0.0.10'", "an IP with a port"]),
    ("haproxy: {maxconn: 1000000001}", "haproxy.maxconn", ["1000000001", "at most 1000000000"]),
    (pool("check: {rise: 1001}"), "pools[0].check.rise", ["1001", "at most 1000"]),
    (pool("check: {fall: 1001}"), "pools[0].check.fall", ["1001", "at most 1000"]),
    ("limits: {max_servers: '9'}", "limits.max_servers", ["'9'", "without quotes"]),
    ("drain: {sessions_per_second: yes}", "drain.sessions_per_second", ["true", "whole number"]),
    ("kubernetes: {writes_per_second: yes}", "kubernetes.writes_per_second", ["true", "a number"]),
    (pool("timeouts: {client: 1000000000000s}"), "pools[0].timeouts.client", ["at most 24d"]),
    (pool(f"timeouts: {{client: {'9' * 400}d}}"), "pools[0].timeouts.client", ["at most 24d"]),
    (pool(f"name: {'x' * 64}"), "pools[0].name", ["at most 63 characters"]),
    (f"router_name: {'x' * 254}", "router_name", ["at most 253 characters"]),
]
CONTROL: list[tuple[str, str, list[str]]] = [
    (text, key, ["has a control character", "remove it"])
    for text, key in (
        ('router_name: "a\\nb"', "router_name"),
        ('haproxy: {socket: "/run/a\\n    user root"}', "haproxy.socket"),
        ('haproxy: {state_file: "a\\0b"}', "haproxy.state_file"),
        ('haproxy: {config: "a\\0b"}', "haproxy.config"),
        ('haproxy: {template: "a\\r"}', "haproxy.template"),
        ('source: {path: "\\e[31m"}', "source.path"),
        ('source: {kubeconfig: "a\\0"}', "source.kubeconfig"),
        ('source: {context: "a\\x7f"}', "source.context"),
        ('source: {namespaces: [a, "b\\n"]}', "source.namespaces[1]"),
        ('annotations: {port: "a\\u2028"}', "annotations.port"),
        ('http: {token_file: "\\u0085"}', "http.token_file"),
        (pool('bind: ["fe80::1%lo\\n    user root"]'), "pools[0].bind[0]"),
        (pool('name: "a\\n"'), "pools[0].name"),
    )
]
PORTS = [
    (pool(f"ports: {value}"), "pools[0].ports", words)
    for value, words in (
        ("[abc]", ["'abc' is not a valid port", '"13306"', '"30000-30099"']),
        ("['0']", ["'0' is outside 1-65535"]),
        ("[65536]", ["65536 is outside 1-65535"]),
        ("['65000-70000']", ["'65000-70000' is outside 1-65535"]),
        ("['30099-30000']", ["'30099-30000' runs backwards"]),
        ("[-1]", ["-1 is not a valid port"]),
        ("[10:30]", ["'10:30' is not a valid port"]),
        ("[6620.0]", ["6620.0 is not a valid port"]),
        ("[yes]", ["True is not a valid port"]),
        ("['\uff11\uff13']", ["is not a valid port"]),
        (f"['{'9' * 5000}']", ["is not a valid port"]),
        ("[6620, 6620]", ["repeats 6620", "each port once"]),
        ("['1-9', '5-20']", ["'5-20' repeats 5-9"]),
        ("[]", ["must not be empty"]),
        ("null", ["is not a valid port"]),
        ("{a: 1}", ["is not a valid port"]),
    )
]
ADDRESSES: list[tuple[str, str, list[str]]] = [
    (pool("bind: [localhost]"), "pools[0].bind[0]", ["'localhost'", "IP address", "0.0.0.0"]),
    (pool("bind: ['127.0.0.1:80']"), "pools[0].bind[0]", ["IP address"]),
    (pool("bind: []"), "pools[0].bind", ["must not be empty"]),
    (
        pool("bind: ['fe80::1%eth0']"),
        "pools[0].bind[0]",
        ["does not support scope IDs", "link-local"],
    ),
    (pool("bind: ['fe80::1']"), "pools[0].bind[0]", ["does not support scope IDs", "link-local"]),
    (pool("bind: [224.0.0.1]"), "pools[0].bind[0]", ["'224.0.0.1'", "multicast"]),
    (pool("bind: [127.0.0.1, 127.0.0.1]"), "pools[0].bind", ["repeats 127.0.0.1", "once"]),
    (pool("bind: ['::1', '0::1']"), "pools[0].bind", ["repeats ::1", "once"]),
    (pool("bind: [127.0.0.1, '::ffff:127.0.0.1']"), "pools[0].bind", ["repeats 127.0.0.1"]),
    (pool("namespaces: [Team]"), "pools[0].namespaces[0]", ["'Team'", "name of a namespace"]),
    ("annotations: {port: 'a b'}", "annotations.port", ["'a b'", "like example.com/port"]),
    ("annotations: {port: ''}", "annotations.port", ["''", "like example.com/port"]),
    ("haproxy: {metrics_listen: 'metrics:80'}", "haproxy.metrics_listen", ["an IP with a port"]),
    (
        "haproxy: {metrics_listen: '[::1%lo]:80'}",
        "haproxy.metrics_listen",
        ["does not support scope IDs"],
    ),
    ("haproxy: {socket: '10.0.0:9999'}", "haproxy.socket", ["'10.0.0:9999'", "host:port"]),
    (f"haproxy: {{config: {'x' * 300}}}", "haproxy.config", ["240 bytes", "shorten"]),
    (f"source: {{path: {'x/' * 3000}}}", "source.path", ["4000 bytes", "shorten"]),
    ("endpoints: {deny: [loopback]}", "endpoints.deny[0]", ["'loopback'", "10.0.0.0/8"]),
    ("endpoints: {deny: [10.0.0.1/8]}", "endpoints.deny[0]", ["'10.0.0.1/8'", "host bits"]),
    ("endpoints: {deny: [10]}", "endpoints.deny[0]", ["10", "10.0.0.0/8"]),
    *(
        (
            f"http: {{listen: '{value}'}}",
            "http.listen",
            [repr(value), "host:port", "127.0.0.1:8405"],
        )
        for value in ("8405", ":8405", "*:8405", "localhost:70000")
    ),
    ("haproxy: {socket: ''}", "haproxy.socket", ["unix socket, or host:port"]),
    ("haproxy: {socket: 'host:99999'}", "haproxy.socket", ["'host:99999'", "1 to 65535"]),
    (f"haproxy: {{socket: /{'x' * 95}}}", "haproxy.socket", ["95 bytes", "shorter"]),
]

WEB: list[tuple[str, str, list[str]]] = [
    ("listeners: {name: a}", "listeners", ["write a list"]),
    ("listeners: [a]", "listeners[0]", ["'a'", "write keys below it", "name, kind, bind"]),
    (listener("bnid: x"), "listeners[0].bnid", ["did you mean bind?"]),
    (listener("name: a b"), "listeners[0].name", ["'a b'", "letters, digits"]),
    (listener("kind: https"), "listeners[0].kind", ["'https'", "'http' or 'tls'"]),
    (listener("bind: []"), "listeners[0].bind", ["must not be empty"]),
    (listener("bind: ['80']"), "listeners[0].bind[0]", ["'80'", "host:port"]),
    (listener("bind: ['localhost:80']"), "listeners[0].bind[0]", ["IP address", "0.0.0.0"]),
    (listener("bind: ['[fe80::1]:80']"), "listeners[0].bind[0]", ["link-local"]),
    (listener("bind: ['224.0.0.1:80']"), "listeners[0].bind[0]", ["multicast"]),
    (
        listener("bind: ['[::]:80', '[0::0]:80']"),
        "listeners[0].bind",
        ["repeats [::]:80", "each address once"],
    ),
    ("web: {route: all}", "web.route", ["did you mean routes?"]),
    ("web: {routes: some}", "web.routes", ["'some'", "'all' or 'annotated'"]),
    ("web: {backends: 500}", "web.backends", ["500", "http, reencrypt, passthrough"]),
    ("web: {backends: {http: 0}}", "web.backends.http", ["0", "at least 1"]),
    ("web: {backends: {edge: 1}}", "web.backends.edge", ["http, reencrypt, passthrough"]),
    ("web: {balance: random}", "web.balance", ["'random'", "http, reencrypt, passthrough"]),
    ("web: {balance: {http: first}}", "web.balance.http", ["'first'", "'roundrobin'", "'source'"]),
    (
        "web: {balance: {passthrough: static-rr}}",
        "web.balance.passthrough",
        ["'static-rr'", "'leastconn'", "'random'"],
    ),
    ("web: {cookie_name: ''}", "web.cookie_name", ["''", "the name of a cookie"]),
    ("web: {cookie_name: a b}", "web.cookie_name", ["'a b'", "letters, digits"]),
    ("web: {cookie_name: a=b}", "web.cookie_name", ["'a=b'", "letters, digits"]),
    ("web: {slots: '8'}", "web.slots", ["'8'", "without quotes"]),
    ("web: {domain: Apps.example.com}", "web.domain", ["'Apps.example.com'", "lower-case"]),
    ("web: {allowed_domains: a.com}", "web.allowed_domains", ["a list, like ['a.com']"]),
    ("web: {denied_domains: ['*.a.com']}", "web.denied_domains[0]", ["'*.a.com'", "a domain"]),
    ("web: {allowed_domains: ['']}", "web.allowed_domains[0]", ["''", "a domain"]),
    ("web: {hostname_template: '${nmae}.a'}", "web.hostname_template", ["${name}-${namespace}"]),
    # One host for all Routes of a namespace that have none, or even for all of them.
    (
        "web: {hostname_template: '${namespace}.a.com'}",
        "web.hostname_template",
        ["'${namespace}.a.com'", "${name} in it"],
    ),
    ("web: {hostname_template: apps.a.com}", "web.hostname_template", ["${name}-${namespace}"]),
    ("web: {wildcards: 'yes'}", "web.wildcards", ["'yes'", "true or false"]),
    ("web: {timeouts: {inspect: 0s}}", "web.timeouts.inspect", ["'0s'", "at least 1ms"]),
]


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [*UNKNOWN, *TYPES, *TIMES, *RANGES, *CONTROL, *PORTS, *ADDRESSES, *WEB],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_mistake_is_told_with_key_value_and_remedy(text: str, key: str, words: list[str]) -> None:
    line = problem(text)
    assert line.startswith(f"{key}: ")
    for word in words:
        assert word in line.removeprefix(f"{key}: ")
    for jargon in (
        "Input",
        "input should",
        "valid tuple",
        "instance of",
        "pydantic",
        "Value error",
    ):
        assert jargon not in line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "pools: [{name: a, ports: ['1-9']}, {name: b, ports: [5, 6, 20]}]",
            ["pools: 'a' and 'b' both have 5-6", "belongs to one pool"],
        ),
        ("pools: [{ports: [1]}, {ports: [2]}]", ["pools: two have the name 'default'"]),
        ("http: {listen: 127.0.0.1:30005}", ["http.listen: '127.0.0.1:30005'", "choose another"]),
        ("haproxy: {metrics_listen: 127.0.0.1:6620}", ["haproxy.metrics_listen", "port of a pool"]),
        ("haproxy: {socket: 127.0.0.1:6620}", ["haproxy.socket: '127.0.0.1:6620'"]),
        (
            "haproxy: {metrics_listen: 127.0.0.1:8405}",
            ["haproxy.metrics_listen: '127.0.0.1:8405'", "http.listen", "choose another"],
        ),
        (
            "{http: {listen: 'localhost:1'}, haproxy: {metrics_listen: '127.0.0.1:1'}}",
            ["haproxy.metrics_listen: '127.0.0.1:1'", "http.listen", "choose another"],
        ),
        (
            "{http: {listen: '[::]:1'}, haproxy: {metrics_listen: '127.0.0.1:1'}}",
            ["haproxy.metrics_listen: '127.0.0.1:1'", "http.listen", "choose another"],
        ),
        (
            "{http: {listen: '127.0.0.1:1'}, haproxy: {socket: '0.0.0.0:1'}}",
            ["haproxy.socket: '0.0.0.0:1'", "http.listen", "choose another"],
        ),
        (listener("name: a", "name: a, bind: ['127.0.0.1:81']"), ["two have the name 'a'"]),
        (listener("bind: ['127.0.0.1:6620']"), ["listeners[0].bind: '127.0.0.1:6620'", "a pool"]),
        (
            listener("bind: ['127.0.0.1:8405']"),
            ["listeners[0].bind: '127.0.0.1:8405'", "http.listen", "choose another"],
        ),
        (
            listener("name: a", "name: b, bind: ['0.0.0.0:80']"),
            ["listeners[1].bind: '0.0.0.0:80' is also used by listeners[0].bind"],
        ),
        (
            listener("bind: ['0.0.0.0:80', '127.0.0.1:80']"),
            ["listeners[0].bind: '127.0.0.1:80' is also used by listeners[0].bind"],
        ),
        (
            listener("kind: tls") + "\nweb: {backends: {passthrough: 100000}, slots: 16}",
            ["pools, web: 1610618 slots", "fewer ports, backends or slots, 1048576 at most"],
        ),
        # A slot whose server speaks TLS takes HAProxy 18 to 23 kB.
        (
            listener("kind: tls") + "\nweb: {backends: {reencrypt: 30000}}",
            ["pools, web: 246018 slots", "4 GB", "of reencrypt counts as 5"],
        ),
        (
            "{http: {listen: null}, pools: [{ports: 1-65535, slots: 17}]}",
            ["pools: 1114095 slots", "1048576 at most"],
        ),
    ],
)
def test_ports_belong_to_one_thing(text: str, words: list[str]) -> None:
    for word in words:
        assert word in problem(text)


@pytest.mark.parametrize("key", ["service_ca", "default_certificate"])
@pytest.mark.parametrize("listeners", ["listeners: []", listener("kind: http")])
def test_a_certificate_that_nothing_would_use_is_a_mistake(key: str, listeners: str) -> None:
    line = problem(f"{listeners}\nweb: {{{key}: ca.pem}}")
    assert line.startswith(f"web.{key}: 'ca.pem'")
    assert "listener of kind tls" in line
    assert told(f"{listener('kind: tls')}\nweb: {{{key}: ca.pem}}") == ()


@pytest.mark.parametrize("listeners", ["listeners: []", listener("kind: http")])
def test_nor_is_there_a_use_for_secrets(listeners: str) -> None:
    line = problem(f"{listeners}\nweb: {{external_certificates: true}}")
    assert line.startswith("web.external_certificates: true is of no use")
    for value in ("false", "null"):
        assert told(f"{listeners}\nweb: {{external_certificates: {value}}}") == ()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("mode: required", ["ca: 'required' as mode needs the CAs", "path of a PEM file"]),
        ("mode: optional, crl: x.pem", ["ca: 'optional' as mode needs the CAs"]),
        ("ca: x.pem", ["ca: 'x.pem' is of no use with mode: none", "optional or required"]),
        ("crl: x.pem", ["crl: 'x.pem' is of no use"]),
        ("subject_filter: CN=a", ["subject_filter: 'CN=a' is of no use"]),
        ("mode: yes", ["mode: "]),
        ("mode: required, ca: x, subject_filter: '('", ["subject_filter: ", "regular expression"]),
        (f"mode: required, ca: x, subject_filter: {'x' * 501}", ["subject_filter: ", "501", "500"]),
    ],
)
def test_client_certificates_are_asked_for_with_all_that_it_takes(
    section: str, words: list[str]
) -> None:
    line = problem(f"{listener('kind: tls')}\nweb: {{client_certificates: {{{section}}}}}")
    assert line.startswith("web.client_certificates.")
    for word in words:
        assert word in line


def test_client_certificates_that_nobody_would_ask_for_are_a_mistake() -> None:
    section = "web: {client_certificates: {mode: required, ca: ca.pem}}"
    line = problem(f"{listener('kind: http')}\n{section}")
    assert line.startswith("web.client_certificates.mode: 'required' is of no use")
    assert told(f"{listener('kind: tls')}\n{section}") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", ["mapping of keys", "[1, 2]"]),
        ("just text", ["mapping of keys", "'just text'"]),
        ("a: [1", ["invalid YAML", "line "]),
        ("router_name: a\n\tb: c", ["invalid YAML", "line 2"]),
        ("drain: {}\nhttp: {}\ndrain: {}\n", ["'drain' occurs twice", "line 3"]),
        ("router_name: a\n---\nrouter_name: b\n", ["one YAML document"]),
        ("router_name: *nobody", ["*nobody", "line 1"]),
        ("x: \x00", ["invalid YAML"]),
        ("x: !!python/object/apply:os.system [id]", ["python", "line 1"]),
        ("x: " + "[" * 100_000, ["nest", "line 1"]),
    ],
)
def test_what_is_no_settings_file_is_told_with_its_line(text: str, words: list[str]) -> None:
    for word in words:
        assert word in problem(text)


@pytest.mark.parametrize("value", ["2024-99-99", "9" * 5000, "0b_", "1:2:3", "=", "<<"])
def test_no_odd_scalar_is_more_than_a_wrong_value(value: str) -> None:
    assert problem(f"haproxy: {{maxconn: {value}}}").startswith("haproxy.maxconn: ")


def test_all_mistakes_are_told_at_once() -> None:
    text = """
        router_name: 5
        pools: [{ports: [abc], slots: 0, balance: x}, {ports: [1], nmae: a}]
        drain: {deadline: 5}
        nonsense: 1
    """
    keys = ["router_name", "pools[0].ports", "pools[0].slots", "pools[0].balance", "pools[1].nmae"]
    assert [line.split(": ")[0] for line in problems(text)] == [*keys, "drain.deadline", "nonsense"]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
SECTIONS = st.sampled_from(sorted(Settings.model_fields))


@given(st.dictionaries(SECTIONS | st.text(max_size=8), VALUES, max_size=4))
def test_nothing_that_a_file_can_hold_is_more_than_a_settings_error(data: dict[str, Any]) -> None:
    assert all(line.isprintable() and line for line in told(yaml.safe_dump(data)))
