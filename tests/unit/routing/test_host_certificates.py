"""`sidecar.routing.host_certificates`: which certificate a host has, and of whom it is said."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy.own_certificates import self_signed
from sidecar.model.certificates import ServerCertificate
from sidecar.model.objects import Key
from sidecar.routing.claims import Claim
from sidecar.routing.host_certificates import HostCertificates, HostFacts, Shown

HOST, OTHER = "a.test", "b.test"


@cache
def certificate(name: str) -> ServerCertificate:
    return self_signed(f"{name}.test", 0.0)


def claim(name: str, age: int = 0) -> Claim:
    """The lower ``age``, the older."""
    return Claim(float(age), name, Key("Route", "demo", name))


def wanted(hosts: HostCertificates) -> dict[str, tuple[str, bool]]:
    return {pattern: (item.certificate.subject, item.own) for pattern, item in hosts.wanted.items()}


def subject(name: str) -> str:
    return certificate(name).subject


def test_the_oldest_that_brings_one_decides() -> None:
    hosts = HostCertificates()
    hosts.put(claim("none", 1), HOST, None)
    assert wanted(hosts) == {}
    hosts.put(claim("young", 3), HOST, certificate("x"))
    hosts.put(claim("old", 2), HOST, certificate("y"))
    assert wanted(hosts) == {HOST: (subject("y"), True)}
    hosts.remove(claim("old").route)
    assert wanted(hosts) == {HOST: (subject("x"), True)}
    hosts.remove(claim("young").route)
    assert wanted(hosts) == {}


def test_one_that_two_routes_bring_is_nobodys_own() -> None:
    hosts = HostCertificates()
    hosts.put(claim("one"), HOST, certificate("x"))
    hosts.put(claim("two"), OTHER, certificate("x"))
    assert wanted(hosts) == {HOST: (subject("x"), False), OTHER: (subject("x"), False)}
    hosts.put(claim("two"), OTHER, certificate("y"))
    assert wanted(hosts) == {HOST: (subject("x"), True), OTHER: (subject("y"), True)}


def test_only_what_changes_something_counts() -> None:
    hosts = HostCertificates()
    hosts.put(claim("none"), HOST, None)
    assert hosts.changes == 0
    hosts.put(claim("one"), HOST, certificate("x"))
    before = hosts.changes
    hosts.put(claim("one"), HOST, certificate("x"))
    assert hosts.changes == before
    hosts.put(claim("one"), OTHER, certificate("x"))
    assert hosts.changes > before
    hosts.remove(claim("nobody").route)


@pytest.mark.parametrize(
    ("brings", "shown", "served"),
    [
        ("x", None, False),
        ("x", "x", True),
        ("x", "y", False),
        (None, None, True),
        (None, "x", False),
    ],
)
def test_whether_it_is_served(brings: str | None, shown: str | None, served: bool) -> None:
    hosts = HostCertificates()
    hosts.put(claim("one"), HOST, certificate(brings) if brings else None)
    hosts.show(Shown({HOST: certificate(shown).name} if shown else {}))
    assert hosts.is_served(claim("one").route) == served
    assert list(hosts.missing) == ([] if served else [HOST])


def test_of_whom_something_else_is_so() -> None:
    hosts, x = HostCertificates(), certificate("x").name
    for name, host in (("one", HOST), ("path", HOST), ("two", OTHER)):
        hosts.put(claim(name), host, certificate("x"))
    both = {claim("one").route, claim("path").route}
    assert hosts.show(Shown({HOST: x})) == both
    assert hosts.show(Shown({HOST: x})) == set()
    assert hosts.show(Shown({HOST: x}, {OTHER: "it is bad"})) == {claim("two").route}
    assert hosts.failure(claim("two").route) == "it is bad"
    assert hosts.failure(claim("one").route) == ""
    assert hosts.show(Shown({OTHER: x})) == both | {claim("two").route}


STEPS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from([HOST, OTHER, None]),
        st.sampled_from(["x", "y", None]),
    ),
    max_size=12,
)


@given(STEPS)
def test_any_history_ends_as_from_scratch(
    steps: list[tuple[int, str | None, str | None]],
) -> None:
    hosts, now = HostCertificates(), dict[int, tuple[str, str | None]]()
    for number, host, brings in steps:
        before, changes = wanted(hosts), hosts.changes
        now.pop(number, None)
        if host is None:
            hosts.remove(claim(str(number), number).route)
        else:
            now[number] = host, brings
            hosts.put(claim(str(number), number), host, certificate(brings) if brings else None)
        assert hosts.changes != changes or wanted(hosts) == before
        assert {
            pattern: facts.certificate.subject
            for pattern, facts in hosts.facts.items()
            if facts.certificate
        } == {pattern: name for pattern, (name, _) in wanted(hosts).items()}
        assert hosts.facts.keys() == hosts.hosts
    scratch = HostCertificates()
    for number, (host, brings) in now.items():
        scratch.put(claim(str(number), number), host, certificate(brings) if brings else None)
    assert wanted(hosts) == wanted(scratch)


def renew(
    hosts: HostCertificates, own: Claim, pattern: str, made: ServerCertificate | None
) -> None:
    hosts.remember([own.route], [pattern])
    hosts.put(own, pattern, made)


def test_a_route_goes_on_with_the_certificate_that_its_host_had() -> None:
    hosts = HostCertificates()
    one, late = claim("one"), claim("late", 1)
    x, y, z = (certificate(name) for name in "xyz")
    hosts.put(one, HOST, x)
    assert not hosts.goes_on(one.route)
    hosts.show(Shown({HOST: x.name}))
    # It is renewed twice before HAProxy has it; who comes meanwhile did not have the former one.
    renew(hosts, one, HOST, y)
    renew(hosts, late, HOST, None)
    renew(hosts, one, HOST, z)
    assert hosts.goes_on(one.route)
    assert not hosts.goes_on(late.route)
    hosts.show(Shown({HOST: z.name}))
    assert hosts.is_served(late.route)
    # And what is not served any more is not gone back to.
    hosts.show(Shown({HOST: x.name}))
    assert not hosts.goes_on(one.route)


def test_only_with_its_host_a_route_goes_on() -> None:
    hosts = HostCertificates()
    one, x, y = claim("one"), certificate("x"), certificate("y")
    hosts.put(one, HOST, x)
    hosts.show(Shown({HOST: x.name, OTHER: x.name}))
    renew(hosts, one, OTHER, y)
    assert not hosts.goes_on(one.route)
    renew(hosts, one, HOST, y)
    assert not hosts.goes_on(one.route)
    hosts.remove(one.route)
    assert not hosts.goes_on(one.route)


def test_the_default_certificate_is_gone_on_with_too_but_not_once_it_was_another() -> None:
    hosts = HostCertificates()
    one, x = claim("one"), certificate("x")
    hosts.put(one, HOST, None)
    renew(hosts, one, HOST, x)
    assert hosts.goes_on(one.route)
    hosts.show(Shown({HOST: x.name}))
    hosts.show(Shown())
    assert not hosts.goes_on(one.route)


def test_who_comes_as_another_goes_did_not_have_its_certificate() -> None:
    hosts = HostCertificates()
    one, two = claim("one"), claim("two", 1)
    x, y = certificate("x"), certificate("y")
    hosts.put(one, HOST, x)
    hosts.show(Shown({HOST: x.name}))
    hosts.remember([one.route, two.route], [HOST])
    hosts.put(two, HOST, y)
    hosts.remove(one.route)
    assert not hosts.goes_on(two.route)


def test_what_is_known_of_each_host() -> None:
    hosts, x, y = HostCertificates(), certificate("x"), certificate("y")
    old, young, other = claim("old"), claim("young", 1), claim("other")
    hosts.put(young, HOST, y)
    hosts.put(old, HOST, x)
    hosts.put(other, OTHER, None)
    assert hosts.facts == {
        HOST: HostFacts(x, old.route, None, ""),
        OTHER: HostFacts(None, None, None, ""),
    }
    hosts.show(Shown({HOST: y.name}, {HOST: "it is bad"}))
    before = hosts.facts
    assert before == {
        HOST: HostFacts(x, old.route, False, "it is bad"),
        OTHER: HostFacts(None, None, True, ""),
    }
    # What was told does not change, and is not made again where nothing did.
    assert hosts.facts is before
    hosts.remove(old.route)
    hosts.remove(other.route)
    assert before.keys() == {HOST, OTHER}
    hosts.show(Shown({HOST: y.name}))
    assert hosts.facts == {HOST: HostFacts(y, young.route, True, "")}
    hosts.forget()
    assert hosts.facts == {HOST: HostFacts(y, young.route, None, "")}


def test_of_another_haproxy_nothing_is_known() -> None:
    hosts, x = HostCertificates(), certificate("x").name
    one = claim("one")

    def known() -> tuple[bool, bool, bool]:
        return hosts.is_known, hosts.is_shown, hosts.is_served(one.route)

    hosts.put(one, HOST, certificate("x"))
    hosts.show(Shown({HOST: x}, {OTHER: "it is bad"}))
    # Who asks now would not know yet of the Routes that were waiting for it.
    assert known() == (True, False, True)
    hosts.noted()
    assert known() == (True, True, True)
    hosts.forget()
    assert known() == (False, False, False)
    assert hosts.show(Shown({HOST: x})) == {one.route}
    hosts.noted()
    assert known() == (True, True, True)


def test_a_host_waits_until_the_wildcard_of_a_former_route_is_not_for_it() -> None:
    hosts, x = HostCertificates(), certificate("x")
    wide, stays, comes = claim("wide"), claim("stays"), claim("comes")
    hosts.put(wide, "*.b.test", x)
    hosts.put(stays, "s.b.test", None)
    hosts.put(claim("far"), "s.a.b.test", None)
    hosts.show(Shown({"*.b.test": x.name}))
    # It has no certificate of its own, and the Routes of a wildcard and below it are of one owner.
    assert hosts.is_served(stays.route)
    hosts.remember([wide.route, comes.route], {"c.b.test"})
    hosts.remove(wide.route)
    hosts.put(comes, "c.b.test", None)
    assert hosts.apart({"*.b.test", "*.other.test", "s.b.test"}) == {
        "*.b.test": {"s.b.test", "c.b.test"},
        "*.other.test": set(),
    }
    # Clients of who was there go on, those of who comes would be shown the former one's.
    assert (hosts.goes_on(stays.route), hosts.goes_on(comes.route)) == (True, False)
    assert not hosts.is_served(comes.route)
    assert "c.b.test" in hosts.missing
    both = {stays.route, comes.route}
    apart = frozenset({"s.b.test", "c.b.test"})
    assert hosts.show(Shown({"*.b.test": x.name}, apart=apart)) >= both
    assert hosts.is_served(comes.route)
    assert hosts.is_served(stays.route)
    assert not hosts.missing
    hosts.show(Shown())
    assert hosts.is_served(comes.route)
    assert not hosts.missing


def test_a_host_that_was_not_excluded_is_served_once_the_wildcard_is_gone() -> None:
    hosts, x = HostCertificates(), certificate("x")
    wide, comes = claim("wide"), claim("comes")
    hosts.put(wide, "*.b.test", x)
    hosts.show(Shown({"*.b.test": x.name}))
    hosts.remove(wide.route)
    hosts.put(comes, "c.b.test", None)
    assert "c.b.test" in hosts.missing
    assert hosts.show(Shown()) == {comes.route}
    assert hosts.is_served(comes.route)
    assert not hosts.missing


def test_a_wildcard_waits_until_it_is_for_all_hosts_below_it() -> None:
    hosts, x = HostCertificates(), certificate("x")
    hosts.show(Shown({"*.b.test": x.name}, apart=frozenset({"c.b.test"})))
    wide = claim("wide")
    hosts.put(wide, "*.b.test", x)
    assert not hosts.is_served(wide.route)
    assert hosts.apart(frozenset({"*.b.test"})) == {}
    assert hosts.show(Shown({"*.b.test": x.name})) == {wide.route}
    assert hosts.is_served(wide.route)


def test_a_host_waits_for_the_certificate_that_the_wildcard_above_it_is_to_have() -> None:
    hosts, x, y = HostCertificates(), certificate("x"), certificate("y")
    wide, stays, comes = claim("wide"), claim("stays"), claim("comes")
    hosts.put(wide, "*.b.test", x)
    hosts.put(stays, "s.b.test", None)
    before = Shown({"*.b.test": x.name})
    hosts.show(before)
    hosts.remember([wide.route, comes.route], {"c.b.test"})
    hosts.put(wide, "*.b.test", y)
    hosts.put(comes, "c.b.test", None)
    assert not hosts.is_served(comes.route)
    assert (hosts.goes_on(stays.route), hosts.goes_on(comes.route)) == (True, False)
    assert hosts.missing == {"*.b.test", "s.b.test", "c.b.test"}
    # What HAProxy refuses may never come.
    refused = {"*.b.test": "refused"}
    assert hosts.show(Shown(before.served, refused)) >= {stays.route, comes.route}
    assert hosts.is_served(comes.route)
    hosts.show(before)
    assert not hosts.is_served(comes.route)
    # It comes, but not yet for the host, whose entry leads to somebody else.
    hosts.show(Shown({"*.b.test": y.name}, apart=frozenset({"c.b.test"})))
    assert (hosts.is_served(stays.route), hosts.is_served(comes.route)) == (True, False)
    assert hosts.show(Shown({"*.b.test": y.name})) >= {comes.route}
    assert hosts.is_served(comes.route)
    assert not hosts.missing


def test_a_host_is_judged_anew_where_the_wildcard_above_it_is_to_have_what_it_has() -> None:
    hosts, x = HostCertificates(), certificate("x")
    wide, comes = claim("wide"), claim("comes")
    hosts.put(wide, "*.b.test", x)
    hosts.show(Shown({"*.b.test": x.name}))
    hosts.put(wide, "*.b.test", certificate("y"))
    hosts.put(comes, "c.b.test", None)
    assert "c.b.test" in hosts.missing
    hosts.put(wide, "*.b.test", x)
    assert not hosts.missing
    assert comes.route in hosts.show(Shown({"*.b.test": x.name}))


def test_a_host_keeps_its_own_while_a_wildcard_that_is_not_for_it_is_there() -> None:
    hosts, x = HostCertificates(), certificate("x")
    hosts.put(claim("comes"), "c.b.test", None)
    leaving = {"c.b.test", "d.b.test", "d.other.test"}
    # Of c.b.test, which has a Route, the wildcard is taken out instead.
    assert hosts.covered(leaving, {"*.b.test", "e.b.test"}) == {"d.b.test"}
    hosts.put(claim("wide"), "*.b.test", x)
    assert hosts.covered(leaving, {"*.b.test"}) == {"c.b.test", "d.b.test"}
    assert hosts.covered(leaving, frozenset()) == set()


def test_hosts_below_a_wildcard_that_an_older_route_joins_go_on() -> None:
    hosts, x = HostCertificates(), certificate("x")
    wide, older, stays = claim("wide", 2), claim("older", 1), claim("stays")
    hosts.put(wide, "*.b.test", x)
    hosts.put(stays, "s.b.test", None)
    hosts.show(Shown({"*.b.test": x.name}))
    hosts.remember([older.route], {"*.b.test"})
    hosts.put(older, "*.b.test", certificate("y"))
    assert (hosts.is_served(stays.route), hosts.goes_on(stays.route)) == (False, True)


def test_of_a_wildcard_whose_next_route_brings_none_all_hosts_below_are_apart() -> None:
    hosts = HostCertificates()
    for name, pattern in (("wide", "*.b.test"), ("one", "c.b.test"), ("far", "e.d.b.test")):
        hosts.put(claim(name), pattern, None)
    hosts.put(claim("own"), "own.b.test", certificate("x"))
    assert hosts.apart({"*.b.test"}) == {"*.b.test": {"c.b.test"}}
