"""`why` and the status of Routes by host: whose a URL is, and which link breaks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from core import DENIED, POOL
from parts import host_rules, routing_for, web_for
from stand import ROUTER, changes, route, service, slice_

from sidecar.common.errors import UsageError
from sidecar.common.secret_text import SecretText
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.own_certificates import self_signed
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import TLS_SECRET, Route, RouteTLS, Secret
from sidecar.model.pool import Address, WebClassName
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_host import route_by_url
from sidecar.reporting.explain_parts import World
from sidecar.reporting.explanation import Link, Why
from sidecar.reporting.reading import narrowed, report_json
from sidecar.reporting.reports import HostReport, Report, SourceReport
from sidecar.reporting.status import Facts, build_report
from sidecar.reporting.tls_facts import TLSFacts
from sidecar.routing.host_certificates import Shown
from sidecar.routing.table import Routing
from sidecar.routing.web_places import HOSTS

UNITS: dict[WebClassName, list[Unit]] = {
    "http": [web_backend_name("http", number) for number in range(1, 7)],
    "passthrough": [web_backend_name("passthrough", 1)],
}
RULES = host_rules(
    domain="apps.test",
    hostname_template="${name}-${namespace}.made.test",
    wildcards=True,
    denied_domains=("denied.test", "www.apps.test", "made.test"),
)


def by_host(name: str, host: str = "a.test", path: str = "", **rest: Any) -> Route:
    policy = rest.pop("policy", "")
    item = route(name, None, **{"router_name": None, **rest})
    return replace(item, host=host, path=path, wildcard_policy=policy)


def routing_of(*objects: Any, units: Mapping[WebClassName, Sequence[Unit]] = UNITS) -> Routing:
    routing = routing_for(TCPPorts(POOL), denied=DENIED, web=web_for(units, RULES))
    routing.apply(changes(*objects))
    routing.adopt({})
    return routing


ALL = routing_of(
    by_host("root"),
    by_host("cart", path="/cart", created_seconds=1),
    by_host("below", path="/cart/"),
    by_host("wild", "any.b.test", policy="Subdomain"),
    by_host("own", "x.b.test", "/own"),
    by_host("short", "shop", "//"),
    by_host("passed", "p.test", termination="passthrough"),
    by_host("plain", "p.test", "/plain"),
    by_host("denied", "www.denied.test"),
    by_host("denied-path", "www.denied.test", "/path"),
    by_host("denied-wild", "any.sub.denied.test", policy="Subdomain"),
    replace(by_host("denied-subdomain", ""), subdomain="www"),
    by_host("denied-made", ""),
    by_host("with-port", "Port.test:8080"),
    by_host("younger", "a.test", "/cart", created_seconds=9e9),
    route("web.v1", 30000),
)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("a.test", "root"),
        ("http://A.Test:8081/x?y=/cart", "root"),
        ("HTTP://a.test./", "root"),
        ("a.test/cart", "cart"),
        ("a.test/cart?x#y", "cart"),
        ("a.test/cart/", "below"),
        ("a.test/cart/x", "below"),
        ("a.test/carts", "root"),
        ("a.test/Cart", "root"),
        ("x.b.test/own/1", "own"),
        ("x.b.test/other", "wild"),
        ("y.b.test", "wild"),
        ("z.y.b.test", None),
        ("b.test", None),
        ("http://shop/x", "short"),
        # What has no dot is a name, unless it is a URL.
        ("shop", None),
        ("p.test", "passed"),
        ("https://p.test/plain", "passed"),
        ("http://p.test/plain", "plain"),
        ("p.test/plain", "plain"),
        ("http://p.test/", None),
        ("https://a.test", None),
        # Who is refused is who is asked about, where nobody else has it.
        ("www.denied.test/x", "denied"),
        ("www.denied.test/path/x", "denied-path"),
        ("https://other.sub.denied.test/x", None),
        ("http://other.sub.denied.test/x", "denied-wild"),
        ("www.apps.test", "denied-subdomain"),
        ("denied-made-demo.made.test", "denied-made"),
        ("port.test", "with-port"),
        ("port.test:8080/x", "with-port"),
        ("unknown.test", None),
        ("demo/root", None),
        ("web.v1", None),
        ("", None),
        ("://", None),
    ],
)
def test_whose_a_url_is(subject: str, name: str | None) -> None:
    key = route_by_url(subject, ALL)
    assert (key.name if key else None) == name


#: Where more than one Route could be meant.
BESIDE = routing_of(
    by_host("slashes", "h", "//////"),
    by_host("a", "h", "/a"),
    by_host("passed", "any.s.test", termination="passthrough", policy="Subdomain"),
    by_host("edge", "x.s.test", termination="edge"),
    by_host("clear", "x.s.test", "/clear"),
    by_host("exact", "y.t.test", termination="passthrough"),
    by_host("wild", "any.t.test", policy="Subdomain"),
    replace(
        by_host("redirected", "r.test", "/r"), tls=RouteTLS("Edge", insecure_policy="Redirect")
    ),
    # What the router takes for None.
    replace(by_host("none", "n.test"), tls=RouteTLS("edge", insecure_policy="allow")),
    replace(
        by_host("never", "v.test", termination="passthrough"),
        tls=RouteTLS("passthrough", insecure_policy="Allow"),
    ),
    replace(by_host("closed", "c.test"), wishes=(("ip_allowlist", "nonsense"),)),
    by_host("odd", "o.test", termination="odd"),
    units={
        "http": [web_backend_name("http", number) for number in range(1, 20)],
        "passthrough": [web_backend_name("passthrough", number) for number in range(1, 5)],
    },
)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("http://h/a", "a"),
        ("http://h/a/b", "a"),
        ("http://h/b", "slashes"),
        ("http://h//////x", "slashes"),
        # Its SNI is looked up first, a wildcard's too.
        ("https://x.s.test/", "passed"),
        ("http://x.s.test/", None),
        ("http://x.s.test/clear", "clear"),
        ("https://x.s.test/clear", "passed"),
        ("x.s.test", "edge"),
        ("x.s.test/clear", "clear"),
        ("y.t.test", "exact"),
        ("https://y.t.test/x", "exact"),
        ("http://y.t.test/x", "wild"),
        ("http://r.test/r/1", "redirected"),
        ("https://r.test/r", "redirected"),
        ("http://r.test/", None),
        ("http://n.test", None),
        ("https://n.test", "none"),
        ("http://v.test", None),
        ("v.test", "never"),
        ("c.test/x", "closed"),
        ("http://o.test", "odd"),
        ("https://o.test", "odd"),
    ],
)
def test_whose_a_url_is_where_several_could_be_meant(subject: str, name: str | None) -> None:
    key = route_by_url(subject, BESIDE)
    assert (key.name if key else None) == name


def test_without_listeners_nothing_is_a_url() -> None:
    routing = routing_for(TCPPorts(POOL), denied=DENIED)
    assert route_by_url("a.test", routing) is None


def seen(unit: Unit, ip: str = "10.0.0.1", *keys: str, state: str = "ready") -> ObservedUnit:
    slot = ObservedServer("s1", Address(ip, 9000), state, 256, True, 5)  # type: ignore[arg-type]
    return ObservedUnit(unit, frozenset(ClaimKey(HOSTS, key) for key in keys), {"s1": slot})


def why(routing: Routing, subject: str, *observed: ObservedUnit, **world: Any) -> Why:
    units = {item.unit: item for item in observed}
    return explain(subject, World(ROUTER, POOL, routing, units, **world))


def broken(found: Why) -> Sequence[Link]:
    return [link for link in found.links if link.mark == "bad"]


GOOD = (by_host("web"), service("web"), slice_("web", ["10.0.0.1"]))
ONE = UNITS["http"][0]


def test_a_route_that_works() -> None:
    routing = routing_of(*GOOD)
    found = why(routing, "a.test/x", seen(ONE, "10.0.0.1", "0a.test?", "0a.test/"))
    assert found.works
    assert found.port is None
    texts = [f"{link.name}: {link.text}" for link in found.links]
    assert f"backend: it has {ONE}, found by 0a.test/, 0a.test?" in texts
    assert f"HAProxy: backend {ONE} has its entries; 1 of 1 servers take connections" in texts


@pytest.mark.parametrize(
    ("objects", "name", "words"),
    [
        ((by_host("web", "www.denied.test"),), "host", "RouteNotAdmitted: host in list of denied"),
        ((by_host("web", path="/a;b"),), "host", "InvalidPath: spec.path: '/a;b'"),
        ((by_host("web", termination="reencrypt"), *GOOD[1:]), "backend", "web.service_ca"),
        (GOOD[:1], "Service", "ServiceNotFound"),
        (GOOD[:2], "endpoints", "0 of 0"),
    ],
)
def test_what_breaks(*, objects: tuple[Any, ...], name: str, words: str) -> None:
    first = broken(why(routing_of(*objects), "demo/web", seen(ONE)))[0]
    assert first.name == name
    assert words in f"{first.text} {first.remedy}"


def test_there_is_no_backend_left() -> None:
    others = [by_host(f"x{n}", f"x{n}.test", created_seconds=n) for n in range(6)]
    routing = routing_of(*others, by_host("web", created_seconds=9), *GOOD[1:])
    (link,) = (item for item in broken(why(routing, "a.test")) if item.name == "backend")
    assert "web.backends.http" in link.remedy


def test_haproxy_has_not_what_it_should() -> None:
    routing = routing_of(*GOOD)
    assert [item.name for item in broken(why(routing, "a.test"))] == ["HAProxy"]
    (link,) = broken(why(routing, "a.test", seen(ONE)))
    assert "no entry yet" in link.text
    (link,) = broken(why(routing, "a.test", seen(ONE, "10.0.0.1", "0a.test?", state="maint")))
    assert "0 of 1 servers" in link.text


def test_what_is_nobodys() -> None:
    with pytest.raises(UsageError, match="the host of one"):
        why(routing_of(*GOOD), "unknown.test")


# status


def report_of(routing: Routing, *observed: ObservedUnit, **facts: Any) -> Report:
    return build_report(
        Facts(
            router_name=ROUTER,
            asked="sidecar",
            socket="/s",
            pool=POOL,
            source=SourceReport("directory", "examples/", (), None),
            claims=routing.claimed,
            verdicts=routing.verdicts(),
            observed={item.unit: item for item in observed},
            problems=(),
            held=frozenset(),
            failures={},
            changed_seconds_ago={},
            web=routing.by_host,
            **facts,
        )
    )


def test_hosts_in_the_status() -> None:
    port = route("db", 30000)
    wild = by_host("wild", "any.b.test", policy="Subdomain")
    routing = routing_of(*GOOD, wild, port, by_host("bad", "www.denied.test"))
    report = report_of(routing, seen(ONE, "10.0.0.1", "0a.test?"), left_out={ONE: 2})
    shown = report_json(report)["hosts"]
    assert [(item["host"], item["state"], item["reason"]) for item in shown] == [
        ("*.b.test", "unknown", "ServiceNotFound"),
        ("a.test", "open", "Admitted"),
    ]
    item = shown[1]
    assert item["servers"][0].pop("seconds_since_change") == 5
    assert {name: value for name, value in item.items() if name != "servers"} == {
        "host": "a.test",
        "path": "",
        "listener": "http",
        "backend": ONE,
        "state": "open",
        "route": "demo/web",
        "reason": "Admitted",
        "message": "",
        "left_out": 2,
        "balance": None,
        "failure": "",
        "changed_seconds_ago": None,
        "port": None,
        "traffic": None,
        "certificate": None,
        "ca": None,
    }
    assert report.ports_claimed == 1
    assert report.ports_open == 0
    assert {item.route for item in report.waiting} == {"demo/bad"}


@pytest.mark.parametrize(
    ("namespace", "names", "hosts"),
    [
        (None, [], ["a.test", "b.test", "b.test"]),
        ("demo", [], ["a.test", "b.test"]),
        (None, ["b.test"], ["b.test", "b.test"]),
        (None, ["b.*"], ["b.test", "b.test"]),
        (None, ["demo/b"], ["b.test"]),
        (None, ["a"], ["a.test"]),
        (None, ["30000"], []),
        ("team", ["a"], []),
    ],
)
def test_a_part_of_the_status(namespace: str | None, names: list[str], hosts: list[str]) -> None:
    items = [by_host("a", "a.test"), by_host("b", "b.test")]
    others = by_host("c", "b.test", "/c")
    report = report_of(routing_of(*items, others))
    moved: list[HostReport] = [
        replace(item, route="team/c") if item.route == "demo/c" else item for item in report.hosts
    ]
    found = narrowed(replace(report, hosts=tuple(moved)), namespace, names)
    assert [item.host for item in found.hosts] == hosts


@pytest.mark.parametrize(
    ("names", "routes"),
    [
        (["www.denied.test"], ["demo/denied", "demo/denied-path"]),
        (["www.apps.test"], ["demo/denied-subdomain"]),
        ([r"*.sub.denied.test"], ["demo/denied-wild"]),
        (["port.test:8080"], ["demo/with-port"]),
        (["a.test"], ["demo/younger"]),
    ],
)
def test_who_is_refused_is_found_by_the_host_that_it_names(
    names: list[str], routes: list[str]
) -> None:
    found = narrowed(report_of(ALL), None, names)
    assert [item.route for item in found.waiting] == routes


def test_a_refused_host_is_shown_on_one_line() -> None:
    (item,) = report_of(routing_of(by_host("odd", "a\x1b[31m\nb.test", "/x\ty"))).waiting
    assert (item.host, item.path) == ("a?[31m b.test", "/x y")


def test_where_a_certificate_is_from() -> None:
    made = self_signed("a.test", 0.0)
    text = SecretText(made.pem.decode())
    secret = Secret("demo", "web-tls", TLS_SECRET, text, text)
    edge = by_host("web", termination="edge")
    named = replace(edge, tls=RouteTLS("edge", external_certificate="web-tls"))
    routing = routing_of(named, secret, *GOOD[1:])
    (found,) = (item for item in why(routing, "a.test").links if item.name == "certificate")
    assert f"{made.title} (Secret demo/web-tls of demo/web)" in found.text
    web = routing.web
    assert web
    (host,) = report_of(routing, tls=TLSFacts.of(web, 0.0)).hosts
    assert host.certificate
    assert host.certificate.source == "Secret demo/web-tls of demo/web"


def test_which_certificate_clients_are_shown() -> None:
    made = self_signed("a.test", 0.0)
    tls = RouteTLS("edge", certificate=SecretText(made.pem.decode()))
    edge = replace(by_host("web", termination="edge"), tls=tls)
    routing = routing_of(edge, by_host("plain", "b.test", termination="edge"), *GOOD[1:])
    web = routing.web
    assert web

    def link(host: str) -> Link:
        (found,) = (item for item in why(routing, host).links if item.name == "certificate")
        return found

    # Where no HAProxy was looked at, it is what they should be shown.
    unseen = (
        "should be shown; not compared with what HAProxy serves, which the running sidecar does"
    )
    assert (link("b.test").mark, link("b.test").text) == ("info", f"the default one {unseen}")
    title = f"{made.title} (spec.tls.certificate of demo/web)"
    assert (link("a.test").mark, link("a.test").text) == ("info", f"{title} {unseen}")
    assert "CN=a.test, signed by itself, valid until 1980-" in made.title
    routing.serve(Shown({}, {"a.test": "HAProxy refuses it"}))
    assert link("a.test").mark == "bad"
    assert link("a.test").remedy == "HAProxy refuses it"
    routing.serve(Shown({"a.test": made.name}))
    assert (link("a.test").mark, link("a.test").text) == ("ok", title)
    assert (link("b.test").mark, link("b.test").text) == ("ok", "the default one")


def test_who_is_refused_by_an_annotation_finds_it() -> None:
    wishes = (("ip_allowlist", "192.0.2.0/24"), ("timeout", "5 s"), ("balance", "leastconn"))
    routing = routing_of(
        replace(by_host("web"), wishes=wishes), replace(route("db", 30000), wishes=wishes[:2])
    )
    for subject, held in (
        ("a.test", ["ip_allowlist: '192.0.2.0/24'", "balance: 'leastconn'"]),
        ("30000", ["ip_allowlist: '192.0.2.0/24'"]),
    ):
        links = explain(subject, World(ROUTER, POOL, routing, None)).links
        warned, named = (link for link in links if link.name == "annotations")
        assert "not a duration" in warned.text or "without effect" in warned.text
        assert [line.text for line in named.lines] == held
