"""`sidecar.planning.limits`: which servers have a limit of connections, and who remembers it."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.haproxy.maps import AddEntry, DeleteEntry, SetEntry
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.operations import Operation, SetAddress, SetMaxconn, SetState
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.attributes import AttributeMap
from sidecar.listeners.mapped import EntryMap, MappedBackends
from sidecar.model.desired import MAXCONN, DesiredServer
from sidecar.model.pool import PARKED, Address, WebClass
from sidecar.planning.diff import after
from sidecar.planning.planner import DesiredUnit, Plan, plan

UNIT = web_backend_name("http", 1)
MANY = 2**31 - 1
A, B, C = (Address(f"10.0.0.{n}", 80) for n in (1, 2, 3))


def kind(told: dict[str, str], *, exists: bool = True) -> MappedBackends:
    attribute = AttributeMap(MAXCONN, "/maps/pod_connections.map", needed=False)
    attribute.exists = exists
    attribute.values = {UNIT: told[MAXCONN]} if told else {}
    classes = {UNIT: WebClass("http", 1, 2, 1.0, 1.0)}
    return MappedBackends([EntryMap("hosts", "/maps/hosts.map", str)], classes, [attribute])


def seen(marked: str = "", **limits: int | None) -> ObservedUnit:
    """``limits``: of the servers, of which the first one has an endpoint."""
    servers = {
        name: ObservedServer(name, PARKED, "maint", 256, up=False, seconds_since_change=5)
        for name in ("s1", "s2")
    }
    servers["s1"] = servers["s1"]._replace(address=A, state="ready", up=True)
    for name, maxconn in limits.items():
        servers[name] = servers[name]._replace(maxconn=maxconn)
    return ObservedUnit(UNIT, frozenset(), servers, {MAXCONN: marked} if marked else {})


def planned(observed: ObservedUnit, limit: str, *addresses: Address, **of: bool) -> Plan:
    servers = tuple(DesiredServer(address, "ready", 256, "", None, None) for address in addresses)
    desired = DesiredUnit(UNIT, frozenset(), servers, attributes={MAXCONN: limit} if limit else {})
    return plan(desired, observed, kind(dict(observed.attributes), **of), can_add=True)


def limits(item: Plan) -> list[tuple[str, int]]:
    return [(part.server, part.maxconn) for part in item.operations if isinstance(part, SetMaxconn)]


def kinds(item: Plan) -> list[type[Operation]]:
    return [type(part) for part in item.operations]


def test_it_is_noted_before_and_set_before_anybody_comes() -> None:
    # Before it is noted nobody asks who has one, and so none is taken from anybody.
    assert limits(planned(seen(), "5", A)) == [("s1", 5)]
    assert limits(planned(seen(s1=5, s2=5), "5", A)) == [("s1", 5)]
    # A server that is added has its own before it is ready, too.
    item = planned(seen(), "5", A, B, C)
    assert sorted(limits(item)) == [("s1", 5), ("s2", 5), ("x1", 5)]
    order = kinds(item)
    assert order.index(AddEntry) < order.index(SetMaxconn)
    assert order.index(SetAddress) < order.index(SetState)
    assert max(n for n, what in enumerate(order) if what is SetMaxconn) < order.index(SetState)


def test_where_it_is_as_it_should_be_nothing_is_done() -> None:
    assert not planned(seen("5", s1=5, s2=0), "5", A)
    assert not planned(seen(), "", A)
    # Nobody asked, as nobody noted that there may be any.
    assert not planned(seen(s1=7), "", A)


def test_what_is_not_is_put_right() -> None:
    assert limits(planned(seen("5", s1=4, s2=0), "5", A)) == [("s1", 5)]
    # Another one's limit, on a slot that nobody has.
    assert limits(planned(seen("5", s1=5, s2=5), "5", A)) == [("s2", MANY)]
    assert limits(planned(seen("5", s1=5, s2=MANY), "5", A)) == [("s2", 0)]
    item = planned(seen("5", s1=5, s2=0), "6", A)
    assert kinds(item) == [SetEntry, SetMaxconn]


def test_it_is_forgotten_once_no_server_has_any() -> None:
    item = planned(seen("5", s1=5, s2=0), "", A)
    assert kinds(item) == [SetMaxconn]
    assert limits(item) == [("s1", MANY)]
    assert limits(planned(seen("5", s1=MANY, s2=0), "", A)) == [("s1", 0)]
    assert kinds(planned(seen("5", s1=0, s2=0), "", A)) == [DeleteEntry]


def test_a_haproxy_without_the_map_has_no_limits() -> None:
    assert limits(planned(seen(), "5", A, exists=False)) == []


@settings(max_examples=200)
@given(
    st.sampled_from(["", "1", "5"]),
    st.sampled_from(["", "1", "5"]),
    st.lists(st.sampled_from([0, 1, 5]), min_size=2, max_size=2),
    st.lists(st.sampled_from([A, B]), max_size=2, unique=True),
)
def test_whatever_there_is_it_ends_as_it_should_be(
    marked: str, limit: str, has: list[int], addresses: list[Address]
) -> None:
    observed = seen(marked, s1=has[0] if marked else None, s2=has[1] if marked else None)
    for _ in range(5):
        item = planned(observed, limit, *addresses)
        observed = after(observed, item)
        if MAXCONN in observed.attributes:
            # As it is shown then; without a note nobody asks.
            known = {
                name: slot._replace(maxconn=slot.maxconn or 0, sessions=0)
                for name, slot in observed.servers.items()
            }
            observed = replace(observed, servers=known)
    assert not planned(observed, limit, *addresses)
    used = {name for name, slot in observed.servers.items() if slot.address != PARKED}
    assert observed.attributes == ({MAXCONN: limit} if limit else {})
    for name, slot in observed.servers.items():
        assert (slot.maxconn or 0) == (int(limit or 0) if name in used else 0)
