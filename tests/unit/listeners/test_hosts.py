"""`sidecar.listeners.hosts`: which Route has which host and path, as in OpenShift's router."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import host_rules
from stand import route

from sidecar.listeners.host_rules import HostRules, WebClaim, judge
from sidecar.listeners.hosts import HostIndex
from sidecar.model.objects import AGE_UNKNOWN, Key, Route, RouteTLS
from sidecar.model.verdicts import Reason, Refusal

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "hosts.yaml").read_text())

WILD = host_rules(wildcards=True)


def web(name: str = "web", host: str = "www.test", path: str = "", **rest: Any) -> Route:
    """A Route by host. ``policy``: its wildcardPolicy; ``subdomain``; the rest as for `route`."""
    subdomain, policy = rest.pop("subdomain", ""), rest.pop("policy", "")
    item = route(name, None, **rest)
    return replace(item, host=host, path=path, subdomain=subdomain, wildcard_policy=policy)


def fed(*routes: Route, rules: HostRules = WILD) -> HostIndex:
    index = HostIndex(rules)
    index.update({item.key: item for item in routes})
    return index


def refusal(item: Route, rules: HostRules | None = None) -> Refusal:
    judged = judge(item, rules or host_rules())
    assert isinstance(judged, Refusal)
    return judged


# One Route alone


@pytest.mark.parametrize(
    ("item", "rules", "claim"),
    [
        (web(), host_rules(), WebClaim("www.test", "", False, "http")),
        (web(host="WWW.Test", path="/P"), host_rules(), WebClaim("www.test", "/P", False, "http")),
        (web(policy="None"), host_rules(), WebClaim("www.test", "", False, "http")),
        (web(policy="Subdomain"), WILD, WebClaim("www.test", "", True, "http")),
        (web(termination=""), host_rules(), WebClaim("www.test", "", False, "edge")),
        (web(termination="Edge"), host_rules(), WebClaim("www.test", "", False, "edge")),
        (web(termination="reencrypt"), WILD, WebClaim("www.test", "", False, "reencrypt")),
        (web(termination="passthrough"), WILD, WebClaim("www.test", "", False, "passthrough")),
        (web(host="a" * 63), host_rules(), WebClaim("a" * 63, "", False, "http")),
    ],
)
def test_what_a_route_asks_for(*, item: Route, rules: HostRules, claim: WebClaim) -> None:
    assert judge(item, rules) == claim


@pytest.mark.parametrize(
    ("item", "rules", "host"),
    [
        (web(host="", subdomain="a.b"), host_rules(domain="apps.test"), "a.b.apps.test"),
        (web(host="", subdomain="a"), host_rules(domain=".apps.test"), "a.apps.test"),
        (web(subdomain="a"), host_rules(domain="apps.test"), "www.test"),
        (
            web("x.y", host=""),
            host_rules(hostname_template="${name}-${namespace}.test"),
            "x-y-demo.test",
        ),
        (web(), host_rules(hostname_template="${name}.test"), "www.test"),
        (
            web(host="", subdomain="a"),
            host_rules(domain="apps.test", hostname_template="${name}.test"),
            "a.apps.test",
        ),
        (web(host="", subdomain="a"), host_rules(hostname_template="${name}.test"), "web.test"),
    ],
)
def test_a_route_without_host_gets_that_of_its_subdomain_or_of_the_template(
    item: Route, rules: HostRules, host: str
) -> None:
    claim = judge(item, rules)
    assert isinstance(claim, WebClaim)
    assert claim.host == host


def test_a_wildcard_stands_for_the_domain_of_its_host() -> None:
    claim = judge(web(policy="Subdomain"), WILD)
    assert isinstance(claim, WebClaim)
    assert (claim.pattern, claim.domain) == ("*.test", "test")


@pytest.mark.parametrize(
    ("item", "rules"),
    [
        (web(host=""), host_rules()),
        (web(host="", subdomain="a"), host_rules()),
        (web(host=""), host_rules(domain="apps.test")),
        (web(host=""), host_rules(hostname_template="${nam}.test")),
        (web(host=""), host_rules(hostname_template="${name.test")),
        (web(host=""), host_rules(allowed_domains=("test",))),
    ],
)
def test_a_route_without_host_is_refused(item: Route, rules: HostRules) -> None:
    assert refusal(item, rules) == (
        Reason.NO_HOST_VALUE,
        "no host value was defined for the route",
    )


@pytest.mark.parametrize(
    "host",
    [
        *(
            "a..b",
            ".a",
            "a.",
            "-a.test",
            "a-.test",
            "a_b.test",
            "*.test",
            "a b",
            "a.test\n",
            "a:80",
        ),
        *("a" * 64 + ".test", ".".join(["a" * 63] * 4), "\u212aelvin.test", "\u0663.test", "a/b"),
    ],
)
def test_what_is_no_host_name_is_refused(host: str) -> None:
    reason, message = refusal(web(host=host))
    assert reason == Reason.INVALID_HOST
    assert message.startswith(f"host name validation errors: spec.host: {host[:3]!r}"[:-1])
    assert message.isprintable()
    assert len(message) < 400


def test_a_wildcard_needs_a_domain() -> None:
    reason, message = refusal(web(host="www", policy="Subdomain"), WILD)
    assert reason == Reason.INVALID_HOST
    assert "needs a host with a domain" in message


@pytest.mark.parametrize(
    ("path", "termination", "words"),
    [
        ("foo", None, "path must begin with /"),
        ("/a b", None, "cannot contain"),
        ("/a#b", "edge", "cannot contain"),
        ("/a\nb", None, "cannot contain"),
        ("/\ud800", None, "cannot contain"),
        ("/" + "x" * 1700, None, "cannot be longer than 1700 bytes"),
        ("/\u00e4", None, "percent-encoded"),
        ("/a?b", None, "percent-encoded"),
        ("/a;b", None, "HAProxy cannot be told"),
        ("/a<<b", None, "HAProxy cannot be told"),
        ("/a\x27b", None, "HAProxy cannot be told"),
        ("/", "passthrough", "passthrough termination does not support paths"),
    ],
)
def test_what_is_no_path_is_refused(path: str, termination: str | None, words: str) -> None:
    reason, message = refusal(web(path=path, termination=termination))
    assert reason == Reason.INVALID_PATH
    assert message.startswith(("spec.path: '", 'spec.path: "'))
    assert words in message
    assert len(message) < 200


def test_an_unknown_termination_is_refused() -> None:
    reason, message = refusal(web(termination="edgy"))
    assert reason == Reason.UNSUPPORTED_TERMINATION
    assert "'edgy'" in message


@pytest.mark.parametrize(
    ("host", "allowed", "denied", "message"),
    [
        ("a.test", (), (), None),
        ("a.test", ("test",), (), None),
        ("test", ("test",), (), None),
        ("a.TEST", (".Test.",), (), None),
        ("a.test", ("other", "test"), ("b.test",), None),
        ("a.test", ("other",), (), "host not in the allowed list of domains"),
        ("atest", ("test",), (), "host not in the allowed list of domains"),
        ("a.test", (), ("test",), "host in list of denied domains"),
        ("a.test", (), ("a.test",), "host in list of denied domains"),
        ("b.a.test", ("a.test",), ("a.test",), "host in list of denied domains"),
        ("A.test", (), ("a.test",), "host in list of denied domains"),
        ("-.test", (), ("test",), "host in list of denied domains"),
    ],
)
def test_domains_are_allowed_and_denied(
    host: str, allowed: tuple[str, ...], denied: tuple[str, ...], message: str | None
) -> None:
    judged = judge(web(host=host), host_rules(allowed_domains=allowed, denied_domains=denied))
    assert (judged if isinstance(judged, Refusal) else None) == (
        message and (Reason.ROUTE_NOT_ADMITTED, message)
    )


@pytest.mark.parametrize(
    ("policy", "rules", "message"),
    [
        ("Subdomain", host_rules(), "wildcard routes are not allowed"),
        ("subdomain", WILD, "unknown wildcard policy 'subdomain'; use None or Subdomain"),
    ],
)
def test_wildcard_policies_that_are_not_admitted(
    policy: str, rules: HostRules, message: str
) -> None:
    assert refusal(web(policy=policy), rules) == (Reason.ROUTE_NOT_ADMITTED, message)


# Several Routes


def of_case(given: Mapping[str, Any]) -> Route:
    namespace, name = given["route"].split("/")
    return web(
        name,
        given["host"],
        given.get("path", ""),
        namespace=namespace,
        policy=given.get("policy", ""),
        termination=given.get("tls"),
        created_seconds=given["minute"] * 60.0,
        uid=given.get("uid"),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
def test_the_case_table(*, case: Mapping[str, Any], at_once: bool) -> None:
    index = HostIndex(host_rules(**case.get("rules", {})))
    known: dict[Key, Route] = {}
    for step in case["steps"]:
        came = [of_case({**case.get("each", {}), **item}) for item in step.get("add", ())]
        went = [Key("Route", *title.split("/")) for title in step.get("remove", ())]
        known = {key: item for key, item in known.items() if key not in went}
        known |= {item.key: item for item in came}
        changes: dict[Key, Route | None] = {**{item.key: item for item in came}}
        changes |= dict.fromkeys(went)
        if at_once:
            index.update(changes)
        else:
            for key, item in reversed(changes.items()):
                index.update({key: item})
        assert [key.title for key in sorted(known) if index.active(key)] == sorted(step["active"])
        for title, words in step.get("says", {}).items():
            verdict = index.verdict(Key("Route", *title.split("/")))
            assert isinstance(verdict, Refusal)
            assert words in verdict.message


def test_an_update_returns_those_of_whom_something_else_is_so() -> None:
    index = HostIndex(host_rules())
    old, new, foreign = (
        web("old", created_seconds=2),
        web("new", created_seconds=3),
        web("foreign", namespace="other", created_seconds=1),
    )
    assert index.update({new.key: new}) == {new.key}
    assert index.update({new.key: new}) == set()
    assert index.update({new.key: replace(new, targets=())}) == set()
    assert index.update({old.key: old}) == {old.key, new.key}
    assert index.update({foreign.key: foreign}) == {old.key, foreign.key}
    assert index.update({old.key: None}) == {old.key, new.key}
    assert index.update({foreign.key: None}) == {new.key, foreign.key}
    assert index.update({new.key: replace(new, host="")}) == {new.key}
    assert index.update({new.key: None}) == {new.key}
    assert index.verdict(new.key) is None
    assert index.update({new.key: None}) == set()


def test_two_routes_may_swap_their_hosts_in_one_update() -> None:
    index = fed(one := web("one", "one.test"), two := web("two", "two.test"))
    swapped = [replace(one, host="two.test"), replace(two, host="one.test")]
    assert index.update({item.key: item for item in swapped}) == {one.key, two.key}
    assert index.active(one.key) == WebClaim("two.test", "", False, "http")
    assert index.active(two.key) == WebClaim("one.test", "", False, "http")


# Any sequence of events

NAMESPACES = ("red-team", "blue-team", "green-team")

RULES = [WILD, host_rules(wildcards=True, namespace_ownership=False), host_rules()]

routes = st.builds(
    lambda name, life, **rest: web(name, uid=f"{life}/{rest['namespace']}/{name}", **rest),
    name=st.sampled_from(["n-one", "n-two", "n-three", "n-four"]),
    life=st.sampled_from("12"),
    namespace=st.sampled_from(NAMESPACES),
    host=st.sampled_from(["a.d.test", "a.d.test", "b.d.test", "A.d.test", "d.test", "-"]),
    path=st.sampled_from(["", "/", "/p", "/q"]),
    policy=st.sampled_from(["", "", "", "Subdomain"]),
    termination=st.sampled_from([None, None, "edge", "passthrough"]),
    created_seconds=st.sampled_from([1.0, 2.0, 3.0, 4.0, AGE_UNKNOWN]),
).map(lambda item: replace(item, path="") if item.tls == RouteTLS("passthrough") else item)

#: Updates as an index takes them: some Routes as they are now, some gone.
histories = st.lists(
    st.lists(st.tuples(routes, st.sampled_from([True, True, True, False])), max_size=8).map(
        lambda events: {item.key: item if alive else None for item, alive in events}
    ),
    max_size=6,
)


def age(item: Route) -> tuple[float, str, Key]:
    return item.created_seconds, item.uid, item.key


def in_the_way(one: WebClaim, other: WebClaim, *, foreign: bool) -> bool:
    """Whether two Routes, of two namespaces that own hosts if ``foreign``, exclude each other."""
    if one.pattern != other.pattern:
        covers = one.domain == other.domain and one.wildcard != other.wildcard
        return foreign and covers
    kinds = {one.termination, other.termination}
    return (
        foreign
        or (one.path or "/") == (other.path or "/")
        or ("passthrough" in kinds and "http" not in kinds)
    )


def from_scratch(now: Iterable[Route], rules: HostRules) -> dict[Key, WebClaim]:
    """Those that are active, by looking at everything: from the oldest to the youngest, each that
    no active one is in the way of."""
    active: dict[Key, WebClaim] = {}
    for item in sorted(now, key=age):
        claim = judge(item, rules)
        if isinstance(claim, WebClaim) and not any(
            in_the_way(
                claim,
                other,
                foreign=rules.namespace_ownership and key.namespace != item.namespace,
            )
            for key, other in active.items()
        ):
            active[item.key] = claim
    return active


def said(index: HostIndex, keys: Iterable[Key]) -> dict[Key, object]:
    return {key: verdict for key in keys if (verdict := index.verdict(key)) is not None}


@settings(max_examples=400)
@given(st.sampled_from(RULES), histories)
def test_any_history_ends_as_from_scratch(
    rules: HostRules, history: Sequence[dict[Key, Route | None]]
) -> None:
    index = HostIndex(rules)
    now: dict[Key, Route] = {}
    keys = {key for update in history for key in update}
    for update in history:
        before = said(index, keys)
        changed = index.update(update)
        for key, item in update.items():
            now.pop(key, None)
            if item is not None:
                now[key] = item
        after = said(index, keys)
        assert changed == {key for key in keys if before.get(key) != after.get(key)}
        assert after.keys() == now.keys()
        assert {key: claim for key in keys if (claim := index.active(key))} == from_scratch(
            now.values(), rules
        )
    assert said(fed(*reversed(now.values()), rules=rules), keys) == said(index, keys)


@given(st.sampled_from(RULES), st.lists(routes, max_size=12))
def test_no_message_names_another_namespace_or_its_routes(
    rules: HostRules, items: Sequence[Route]
) -> None:
    items = list({item.key: item for item in items}.values())
    index = fed(*items, rules=rules)
    for item in items:
        verdict = index.verdict(item.key)
        if isinstance(verdict, Refusal):
            words = set(verdict.message.replace("/", " ").split())
            assert not words & {*NAMESPACES, *(other.name for other in items)} - {item.name}
            assert (" in another namespace " in verdict.message) <= rules.namespace_ownership


# What an update costs


class Watched(str):
    """A UID that counts how often anybody compares one."""

    __slots__ = ()
    looks = 0

    def __eq__(self, other: object) -> bool:
        Watched.looks += 1
        return super().__eq__(other)

    def __lt__(self, other: str) -> bool:
        Watched.looks += 1
        return super().__lt__(other)

    __hash__ = str.__hash__


def crowd(kind: str, number: int) -> Route:
    """One of thousands."""
    name, uid = f"r{number}", Watched(number)
    if kind == "one path":
        return web(name, uid=uid)
    if kind == "own paths":
        return web(name, path=f"/{number}", uid=uid)
    if kind == "own namespaces":
        return web(name, namespace=f"n{number}", uid=uid)
    if kind == "two namespaces":
        return web(name, namespace=f"n{number % 2}", uid=uid)
    if kind == "own hosts":
        return web(name, f"h{number}.test", uid=uid)
    return web(name, "w.test", policy="Subdomain", namespace=f"n{number}", uid=uid)


@pytest.mark.parametrize(
    "change",
    [
        lambda kind: {web("new").key: replace(crowd(kind, 0), name="new", uid=Watched("new"))},
        lambda kind: {crowd(kind, 7).key: replace(crowd(kind, 7), uid=Watched("7b"))},
        lambda kind: {crowd(kind, 7).key: None},
        lambda kind: {crowd(kind, 0).key: None},
        lambda _: {web("old").key: web("old", created_seconds=1, uid=Watched("old"))},
        lambda _: {web("far").key: web("far", "far.away", uid=Watched("far"))},
    ],
    ids=["one comes", "one is made anew", "one goes", "the oldest goes", "an older one comes",
         "somewhere else"],
)  # fmt: skip
@pytest.mark.parametrize(
    "kind",
    ["one path", "own paths", "own namespaces", "two namespaces", "own hosts", "wildcards"],
)
def test_a_change_among_thousands_looks_at_few_of_them(
    kind: str, change: Callable[[str], dict[Key, Route | None]]
) -> None:
    """As many as it takes to find a place among them in order."""
    looks, said = [], []
    for count in (100, 5_000):
        index = fed(*(crowd(kind, number) for number in range(count)))
        Watched.looks = 0
        said.append(len(index.update(change(kind))))
        looks.append(Watched.looks)
    assert looks[1] <= 2 * looks[0] + 100
    assert looks[1] < 400
    assert said[1] == said[0] <= 3
