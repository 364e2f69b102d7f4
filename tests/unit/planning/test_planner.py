"""The planner and the slots, against a small model of HAProxy that obeys each operation."""

from dataclasses import dataclass, field, replace

import pytest
from core import closing, opening
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.haproxy.operations import (
    AddServer,
    ClosePort,
    DeleteServer,
    EnableHealth,
    EndSessions,
    OpenPort,
    Operation,
    SetAddress,
    SetHealth,
    SetState,
    SetWeight,
)
from sidecar.haproxy.state import Checks, ObservedServer, ObservedUnit
from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.model.desired import DesiredServer
from sidecar.model.pool import PARKED, Address, HealthCheck, Pool, PortPool
from sidecar.planning.planner import DesiredUnit, Plan, SomeSessions
from sidecar.planning.planner import plan as plan_port
from sidecar.planning.slots import assign

PORT = 30000
CHECK = HealthCheck(interval_seconds=2, rise=1, fall=3)


def pool(slots: int = 9, check: HealthCheck | None = None) -> PortPool:
    return PortPool(
        name="default",
        ports=(PORT,),
        bind=("127.0.0.1",),
        slots=slots,
        balance="leastconn",
        namespaces=("*",),
        auto_ports_per_namespace=1,
        connect_timeout_seconds=0.5,
        client_timeout_seconds=3600,
        server_timeout_seconds=3600,
        check=check,
        accept_proxy=False,
        send_proxy="none",
    )


#: Without and with health checks.
KINDS = {check: TCPPorts(Pool((pool(check=check),))) for check in (None, CHECK)}
UNIT, KEYS = unit_of(PORT), frozenset({key_of(PORT)})


def plan(
    wanted: DesiredUnit,
    seen: ObservedUnit,
    *,
    can_add: bool = False,
    check: HealthCheck | None = None,
) -> Plan:
    return plan_port(wanted, seen, KINDS[check], can_add=can_add)


def address(number: int) -> Address:
    return Address(f"10.0.0.{number}", 9000)


def server(number: int, state: str = "ready", weight: int | None = 256) -> DesiredServer:
    assert state in ("ready", "drain")
    kept = weight if state == "ready" else None
    return DesiredServer(address(number), state, kept, "web", None, None)  # type: ignore[arg-type]


def desired(*servers: DesiredServer, is_open: bool | None = None) -> DesiredUnit:
    usable = any(item.state == "ready" for item in servers)
    is_open = usable if is_open is None else is_open
    return DesiredUnit(UNIT, KEYS if is_open else frozenset(), tuple(sorted(servers)))


@dataclass
class Model:
    """What HAProxy would be after the operations that it was given."""

    slots: dict[str, ObservedServer]
    open: bool = True
    log: list[Operation] = field(default_factory=list)

    @classmethod
    def fresh(cls, slots: int, checks: Checks = "none") -> "Model":
        names = [f"s{number}" for number in range(1, slots + 1)]
        return cls(
            {
                name: ObservedServer(name, PARKED, "maint", 256, False, 0, 0, checks)
                for name in names
            }
        )

    def look(self) -> ObservedUnit:
        return ObservedUnit(UNIT, KEYS if self.open else frozenset(), dict(self.slots))

    def apply(self, operation: Operation) -> None:
        self.log.append(operation)
        match operation:
            case OpenPort() | ClosePort():
                self.open = isinstance(operation, OpenPort)
            case SetAddress():
                slot = self.slots[operation.server]
                assert slot.state == "maint", "an address may only change in maint"
                self.slots[slot.name] = slot._replace(address=operation.address)
            case AddServer():
                assert operation.server not in self.slots, "a name that is taken"
                name = operation.server
                checks: Checks = "off" if "check" in operation.options else "none"
                self.slots[name] = ObservedServer(
                    name, PARKED, "maint", operation.weight, False, 0, 0, checks
                )
            case DeleteServer():
                slot = self.slots.pop(operation.server)
                assert slot.state == "maint", "only a server in maint can be deleted"
                assert not slot.sessions, "one with sessions cannot be deleted"
            case EndSessions():
                self.slots[operation.server] = self.slots[operation.server]._replace(sessions=0)
            case EnableHealth():
                slot = self.slots[operation.server]
                assert slot.checks != "none", "HAProxy refuses that"
                self.slots[slot.name] = slot._replace(checks="on")
            case SetHealth():
                slot = self.slots[operation.server]
                if operation.health == "down":
                    assert slot.state == "drain", "it would have traffic, or forget it on leaving"
                    assert slot.checks == "on", "it would never come back"
                self.slots[slot.name] = slot._replace(up=operation.health == "up")
            case SetWeight():
                slot = self.slots[operation.server]
                self.slots[slot.name] = slot._replace(weight=operation.weight)
            case SetState():
                slot = self.slots[operation.server]
                up = slot.up if slot.state != "maint" else operation.state != "maint"
                self.slots[slot.name] = slot._replace(state=operation.state, up=up)

    def usable(self) -> set[Address]:
        return {slot.address for slot in self.slots.values() if slot.state == "ready"}

    def converge(
        self,
        wanted: DesiredUnit,
        rounds: int = 6,
        *,
        can_add: bool = False,
        check: HealthCheck | None = None,
    ) -> list[Plan]:
        """Plan and apply until nothing is left to do."""
        plans: list[Plan] = []
        for _ in range(rounds):
            item = plan(wanted, self.look(), can_add=can_add, check=check)
            if not item:
                return plans
            plans.append(item)
            for operation in item.operations:
                self.apply(operation)
        raise AssertionError(f"no end in {rounds} rounds: {self.log}")


numbers = st.integers(1, 9)
servers_lists = st.lists(
    st.builds(server, numbers, st.sampled_from(["ready", "drain"]), st.integers(1, 256)),
    max_size=8,
    unique_by=lambda item: item.address,
)
slot_states = st.builds(
    lambda number, state, weight, sessions: (
        PARKED if number is None else address(number),
        state,
        weight,
        sessions if number is not None else 0,
    ),
    st.none() | numbers,
    st.sampled_from(["ready", "drain", "maint"]),
    st.sampled_from([1, 128, 256]),
    st.integers(0, 2),
)
models = st.builds(
    lambda slots, is_open: Model(
        {
            f"s{index}": ObservedServer(
                f"s{index}", where, state, weight, state != "maint", 0, sessions
            )
            for index, (where, state, weight, sessions) in enumerate(slots, 1)
        },
        is_open,
    ),
    st.lists(slot_states, min_size=1, max_size=6),
    st.booleans(),
)


@given(models, servers_lists)
@example(
    Model({"s1": ObservedServer("s1", address(1), "ready", 256, True, 0, 0)}),
    [server(1, "drain"), server(2)],
)
def test_whatever_haproxy_had_it_ends_as_desired(
    model: Model, servers: list[DesiredServer]
) -> None:
    wanted = desired(*servers)
    model.converge(wanted)
    ready = {item.address: item.weight for item in servers if item.state == "ready"}
    shown = {slot.address: slot.weight for slot in model.slots.values() if slot.state == "ready"}
    assert model.open is bool(wanted.exposed)
    if ready and not shown.keys() & ready.keys():
        # No slot comes free: one that should drain serves, until it is gone.
        assert all(slot.state != "maint" or slot.sessions for slot in model.slots.values())
        assert shown.keys() <= {item.address for item in servers}
        assert len(shown) <= 1
        return
    assert shown.items() <= ready.items()
    # Only the lack of slots leaves a server out.
    assert len(shown) == min(len(ready), len(model.slots)) or any(
        slot.state == "drain" for slot in model.slots.values()
    )
    for slot in model.slots.values():
        assert slot.address in ready or slot.state != "ready"
        assert slot.state == "maint" or slot.address in {item.address for item in servers}
        assert (
            slot.address == PARKED
            or slot.state != "maint"
            or slot.sessions
            or (slot.address in {item.address for item in servers})
        )


@given(models, servers_lists)
def test_nothing_is_planned_for_what_is_as_desired(
    model: Model, servers: list[DesiredServer]
) -> None:
    model.converge(desired(*servers))
    assert not plan(desired(*servers), model.look())


@given(models, servers_lists)
def test_a_port_that_has_a_usable_server_keeps_one(
    model: Model, servers: list[DesiredServer]
) -> None:
    """At every instant, as long as some server is wanted and there is more than one slot."""
    wanted = desired(*servers)
    if not wanted.exposed or not model.usable() or len(model.slots) < 2:
        return
    draining = {item.address for item in servers if item.state == "drain"}
    if all(
        slot.state == "ready" or slot.sessions or slot.address in draining
        for slot in model.slots.values()
    ):
        return  # every slot is taken: one must be emptied first
    for _ in range(6):
        for operation in plan(wanted, model.look()).operations:
            model.apply(operation)
            assert model.usable(), model.log


@given(models, servers_lists)
def test_an_open_port_leads_only_to_what_is_or_was_wanted(
    model: Model, servers: list[DesiredServer]
) -> None:
    former = model.usable()
    wanted = {item.address for item in servers}
    for _ in range(6):
        for operation in plan(desired(*servers), model.look()).operations:
            model.apply(operation)
            assert model.usable() <= former | wanted


@given(st.lists(servers_lists, min_size=2, max_size=6))
def test_an_endpoint_keeps_its_slot_for_as_long_as_it_lives(
    history: list[list[DesiredServer]],
) -> None:
    model = Model.fresh(8)
    homes: dict[Address, str] = {}
    for servers in history:
        model.converge(desired(*servers))
        now = {slot.address: slot.name for slot in model.slots.values() if slot.state != "maint"}
        for where, name in now.items():
            assert homes.get(where, name) == name
        homes = now


@given(st.lists(servers_lists, min_size=1, max_size=4), servers_lists)
def test_no_history_changes_which_servers_are_there(
    history: list[list[DesiredServer]], last: list[DesiredServer]
) -> None:
    travelled, fresh = Model.fresh(9), Model.fresh(9)
    for servers in history:
        travelled.converge(desired(*servers))
    travelled.converge(desired(*last))
    fresh.converge(desired(*last))
    assert travelled.usable() == fresh.usable()
    assert travelled.open == fresh.open


@given(models, servers_lists)
def test_addresses_are_read_back_before_their_servers_are_ready(
    model: Model, servers: list[DesiredServer]
) -> None:
    item = plan(desired(*servers), model.look())
    addressed = {op.server: op.address for op in item.prepare if isinstance(op, SetAddress)}
    assert addressed == dict(item.readback)
    assert not any(isinstance(op, SetState) and op.state == "ready" for op in item.prepare)


@given(models, servers_lists, st.booleans())
def test_each_phase_does_its_own_work_alone(
    model: Model, servers: list[DesiredServer], can_add: bool
) -> None:
    seen, wanted = model.look(), desired(*servers)
    item = plan(wanted, seen, can_add=can_add)
    # Never on a guess: what leads somewhere is not exposed again, nor what leads nowhere concealed.
    assert {operation.key for operation in item.conceal} == seen.exposed - wanted.exposed
    assert {operation.key for operation in item.expose} == wanted.exposed - seen.exposed
    for operation in item.prepare:
        assert not isinstance(operation, SetState) or operation.state == "maint"
        assert isinstance(operation, SetState | SetAddress | SetWeight)
    for operation in item.activate:
        assert not isinstance(operation, SetState) or operation.state == "ready"
        assert isinstance(operation, SetState | SetWeight | SetHealth | EnableHealth)
    for operation in item.retire:
        assert isinstance(operation, SetState)
        assert operation.state != "ready"
    for operation in item.tidy:
        assert isinstance(operation, SetAddress | DeleteServer)
        assert seen.servers[operation.server].state == "maint"
        assert not seen.servers[operation.server].sessions


@given(models, servers_lists)
def test_no_key_leads_to_a_unit_before_its_servers_were_read_back(
    model: Model, servers: list[DesiredServer]
) -> None:
    """What HAProxy accepts is sent to servers that are there already, or that it has shown."""
    model.open = False
    before = model.look()
    item = plan(desired(*servers), before)
    shown = {name: slot.address for name, slot in before.servers.items()} | dict(item.readback)
    for operation in (*item.prepare, *item.activate, *item.expose):
        model.apply(operation)
    for name, slot in model.slots.items():
        assert slot.state == "maint" or slot.address == shown[name]


def test_new_servers_come_in_before_old_ones_go_and_the_port_opens_in_between() -> None:
    model = Model.fresh(4)
    model.open = False
    first = model.converge(desired(server(1)))[0]
    assert first.prepare == (SetAddress(UNIT, "s1", address(1)),)
    assert (first.activate, first.expose) == (
        (SetState(UNIT, "s1", "ready"),),
        (opening(PORT),),
    )
    second = model.converge(desired(server(2)))[0]
    assert (second.activate, second.retire) == (
        (SetState(UNIT, "s2", "ready"),),
        (SetState(UNIT, "s1", "maint"),),
    )


def test_a_port_opens_when_the_servers_of_others_have_left() -> None:
    model = Model({"s1": ObservedServer("s1", address(1), "ready", 256, True, 0, 0)})
    model.slots["s2"] = ObservedServer("s2", PARKED, "maint", 1, False, 0, 0)
    model.open = False
    model.converge(desired(server(2)))
    assert model.log.index(SetState(UNIT, "s1", "maint")) < model.log.index(opening(PORT))


def test_a_port_that_nobody_claims_closes_before_its_servers_go() -> None:
    model = Model.fresh(2)
    model.converge(desired(server(1)))
    model.log.clear()
    model.converge(desired())
    assert model.log == [
        closing(PORT),
        SetState(UNIT, "s1", "maint"),
        SetAddress(UNIT, "s1", PARKED),
    ]


def test_a_slot_with_sessions_is_left_alone_until_they_end() -> None:
    model = Model.fresh(3)
    model.converge(desired(server(1)))
    model.slots["s1"] = model.slots["s1"]._replace(sessions=5)
    model.converge(desired(server(2)))
    assert model.slots["s1"].address == address(1)
    model.converge(desired(server(2), server(3)))
    assert model.slots["s3"].address == address(3), "the third slot, not the one with sessions"
    model.slots["s1"] = model.slots["s1"]._replace(sessions=0)
    model.converge(desired(server(2), server(3)))
    assert model.slots["s1"].address == PARKED


def test_a_slot_whose_sessions_nobody_counted_is_left_alone() -> None:
    model = Model.fresh(2)
    model.converge(desired(server(1)))
    model.slots["s1"] = model.slots["s1"]._replace(sessions=None)
    (item,) = model.converge(desired(server(2), server(3)))
    assert item.assignment.left_out == (server(3),)
    assert model.slots["s1"].address == address(1)
    model.slots["s1"] = model.slots["s1"]._replace(sessions=0)
    model.converge(desired(server(2), server(3)))
    assert model.slots["s1"].address == address(3)


def test_an_endpoint_that_comes_back_gets_its_slot_back() -> None:
    model = Model.fresh(3)
    model.converge(desired(server(1), server(2)))
    model.slots["s1"] = model.slots["s1"]._replace(sessions=1)
    model.converge(desired(server(2)))
    model.log.clear()
    model.converge(desired(server(1), server(2)))
    assert model.log == [SetState(UNIT, "s1", "ready")]


def test_a_slot_has_its_new_weight_before_anybody_gets_to_it() -> None:
    model = Model.fresh(2)
    model.slots["s1"] = model.slots["s1"]._replace(weight=7)
    first = plan(desired(server(1, weight=256)), model.look())
    assert first.prepare == (SetAddress(UNIT, "s1", address(1)), SetWeight(UNIT, "s1", 256))
    assert first.activate == (SetState(UNIT, "s1", "ready"),)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_all_servers_of_a_full_backend_are_replaced(slots: int) -> None:
    model = Model.fresh(slots)
    model.converge(desired(*(server(number) for number in range(1, slots + 1))))
    for name, slot in model.slots.items():
        model.slots[name] = slot._replace(sessions=1)
    new = [server(number) for number in range(5, 5 + slots)]
    plans = model.converge(desired(*new))
    assert model.usable() == {item.address for item in new}
    assert {name for item in plans for name in item.assignment.taken_busy} == set(model.slots)


def test_more_endpoints_than_slots_are_left_out_and_counted() -> None:
    slots = Model.fresh(4).slots
    many = [server(number) for number in range(1, 10)]
    assignment = assign(many, slots, reusable=list(slots), at_most=100, can_add=False, unfit=())
    assert len(assignment.placed) == 4
    assert len(assignment.left_out) == 5


def test_a_draining_server_without_a_slot_takes_none() -> None:
    drained = [server(1, "drain")]
    slots = Model.fresh(1).slots
    assert not assign(drained, slots, reusable=["s1"], at_most=9, can_add=False, unfit=()).placed


def test_of_two_slots_with_one_address_the_serving_one_stays() -> None:
    model = Model.fresh(2)
    for name, state in (("s1", "maint"), ("s2", "ready")):
        slot = model.slots[name]
        model.slots[name] = slot._replace(address=address(1), state=state)  # type: ignore[arg-type]
    model.open = True
    model.converge(desired(server(1)))
    assert model.slots["s2"].state == "ready"
    assert model.slots["s1"].address == PARKED


def test_more_endpoints_than_slots_are_added_and_deleted_when_they_are_gone() -> None:
    model = Model.fresh(2)
    model.converge(desired(*(server(number) for number in range(1, 6))), can_add=True)
    assert model.usable() == {address(number) for number in range(1, 6)}
    assert set(model.slots) == {"s1", "s2", "x1", "x2", "x3"}
    model.slots["x1"] = model.slots["x1"]._replace(sessions=1)
    model.converge(desired(server(1)), can_add=True)
    assert set(model.slots) == {"s1", "s2", "x1"}, "one with sessions is not deleted"
    model.converge(desired(server(1), server(7), server(8)), can_add=True)
    assert set(model.slots) == {"s1", "s2", "x1", "x2"}, "names do not clash"


@given(models, servers_lists)
def test_where_servers_can_be_added_none_is_left_out_and_no_slot_is_taken_by_force(
    model: Model, servers: list[DesiredServer]
) -> None:
    busy = {name: slot for name, slot in model.slots.items() if slot.sessions}
    plans = model.converge(desired(*servers), can_add=True)
    assert model.usable() == {item.address for item in servers if item.state == "ready"}
    assert not any(item.assignment.taken_busy for item in plans)
    for name, slot in busy.items():
        assert model.slots[name].address == slot.address
        assert model.slots[name].sessions == slot.sessions


@given(models, servers_lists, st.integers(1, 4))
def test_no_more_than_the_limit_serve_and_those_that_do_stay(
    model: Model, servers: list[DesiredServer], limit: int
) -> None:
    before = model.usable()
    wanted = desired(*servers)
    wanted = replace(wanted, servers_max=limit)
    model.converge(wanted, can_add=True)
    ready = {item.address for item in servers if item.state == "ready"}
    assert len(model.usable()) == min(limit, len(ready))
    assert len(model.usable() & before) == min(limit, len(ready & before))


def overdue(
    model: Model, *, deadline: float, budget: int
) -> tuple[tuple[Operation, ...], SomeSessions | None]:
    wanted = DesiredUnit(UNIT, frozenset(), (), 9, deadline, {"s1": 9.0}, budget)
    item = plan(wanted, model.look(), can_add=True)
    return item.tidy, item.ending


def test_sessions_end_after_the_deadline_and_not_before() -> None:
    model = Model.fresh(2)
    model.open = False
    left = model.slots["s1"]._replace(address=address(1), sessions=30)
    model.slots["s1"] = left
    assert overdue(model, deadline=10, budget=100) == ((), None)
    assert overdue(model, deadline=0, budget=100) == ((), None), "0 means never"
    assert overdue(model, deadline=9, budget=0) == ((), None), "not yet again"
    assert overdue(model, deadline=9, budget=100) == ((EndSessions(UNIT, "s1"),), None)
    assert overdue(model, deadline=9, budget=20) == ((), SomeSessions("s1", 20))


def test_sessions_of_a_serving_or_draining_endpoint_never_end() -> None:
    model = Model.fresh(3)
    model.converge(desired(server(1), server(2)))
    for name in ("s1", "s2"):
        model.slots[name] = model.slots[name]._replace(sessions=5)
    servers = (server(1), server(2, "drain"))
    wanted = DesiredUnit(UNIT, KEYS, servers, 9, 1.0, {"s1": 9.0, "s2": 9.0}, 100)
    assert plan(wanted, model.look()).operations == (SetState(UNIT, "s2", "drain"),)


def test_a_checked_server_waits_for_its_first_good_check_while_others_serve() -> None:
    model = Model.fresh(3, "on")
    first = plan(desired(server(1)), model.look(), check=CHECK)
    assert SetHealth(UNIT, "s1", "down") not in first.activate, "there is no other server"
    for operation in first.operations:
        model.apply(operation)
    second = plan(desired(server(1), server(2)), model.look(), check=CHECK)
    assert second.activate == (
        SetState(UNIT, "s2", "drain"),
        SetHealth(UNIT, "s2", "down"),
        SetState(UNIT, "s2", "ready"),
    )
    replaced = plan(desired(server(2)), model.look(), check=CHECK)
    assert SetHealth(UNIT, "s2", "down") not in replaced.activate, "the other one does not stay"


def test_a_server_that_is_down_is_not_fought_over() -> None:
    model = Model.fresh(2, "on")
    model.converge(desired(server(1), server(2)))
    model.slots["s1"] = model.slots["s1"]._replace(up=False)
    assert not plan(desired(server(1), server(2)), model.look(), check=CHECK)


def test_where_no_check_says_otherwise_a_server_is_up() -> None:
    model = Model.fresh(2)
    model.converge(desired(server(1), server(2)))
    model.slots["s1"] = model.slots["s1"]._replace(up=False)
    item = plan(desired(server(1), server(2)), model.look())
    assert item.operations == (SetHealth(UNIT, "s1", "up"),)


touched = st.tuples(
    st.none() | numbers,
    st.sampled_from(["ready", "drain", "maint"]),
    st.booleans(),
    st.sampled_from(["none", "off", "on"]),
)


@given(st.fixed_dictionaries(dict.fromkeys(("s1", "s2", "s3", "x1", "x2"), touched)), servers_lists)
def test_in_a_pool_with_checks_no_server_goes_unchecked(
    slots: dict[str, tuple[int | None, str, bool, Checks]], servers: list[DesiredServer]
) -> None:
    """Whatever somebody added, turned off or called unhealthy: a port of three slots."""
    model = Model.fresh(3, "on")
    for name, (number, state, up, checks) in slots.items():
        if name in model.slots and checks == "none":
            continue  # haproxy.cfg gives checks to each slot
        where = PARKED if number is None else address(number)
        model.slots[name] = ObservedServer(name, where, state, 256, up, 0, 0, checks)  # type: ignore[arg-type]
    model.converge(desired(*servers), can_add=True, check=CHECK)
    ready = {item.address for item in servers if item.state == "ready"}
    assert model.usable() == ready
    assert {slot.checks for slot in model.slots.values() if slot.state == "ready"} <= {"on"}


def test_an_added_server_has_every_option_of_the_slots() -> None:
    item = plan(desired(server(1)), Model({}).look(), can_add=True, check=CHECK)
    assert [str(operation.command()) for operation in (*item.add, *item.prepare)] == [
        f"add server be_tcp-{PORT}/x1 127.0.0.1:1 weight 256 check inter 2s rise 1 fall 3",
        f"set server be_tcp-{PORT}/x1 addr 10.0.0.1 port 9000",
    ]
    assert item.activate[0] == EnableHealth(unit_of(PORT), "x1")


def speaking(number: int, proto: str) -> DesiredServer:
    return server(number)._replace(proto=proto)  # type: ignore[arg-type]


def test_what_speaks_another_protocol_than_the_slots_is_added() -> None:
    model = Model.fresh(2)
    model.converge(desired(speaking(1, ""), speaking(2, "h2")), can_add=True)
    assert model.slots["s1"].address == address(1)
    assert model.slots["h2-1"].address == address(2)
    assert model.slots["s2"].address == PARKED
    commands = [str(op.command()) for op in model.log if isinstance(op, AddServer)]
    assert commands == [f"add server be_tcp-{PORT}/h2-1 127.0.0.1:1 weight 256 proto h2"]
    # Who speaks otherwise from now on is another server, ready before the former one goes.
    model.log.clear()
    model.converge(desired(speaking(1, "h2"), speaking(2, "")), can_add=True)
    ready = {name: slot.address for name, slot in model.slots.items() if slot.state == "ready"}
    assert ready == {"s2": address(2), "h2-2": address(1)}
    states = [op for op in model.log if isinstance(op, SetState)]
    assert {op.server for op in states[:2]} == {"s2", "h2-2"}
    assert {op.server for op in states[2:]} == {"s1", "h2-1"}
    assert set(model.slots) == {"s1", "s2", "h2-2"}, "the other is deleted"


def test_where_none_can_be_added_what_speaks_another_protocol_is_left_out() -> None:
    item = plan(desired(speaking(1, "h2"), speaking(2, "")), Model.fresh(2).look(), can_add=False)
    assert item.assignment.left_out == (speaking(1, "h2"),)
    assert list(item.assignment.placed.values()) == [speaking(2, "")]


def test_those_that_wait_for_a_check_are_trusted_when_the_last_that_is_up_leaves() -> None:
    model = Model.fresh(3, "on")
    model.converge(desired(server(1), server(2), server(3)))
    for name in ("s1", "s2"):
        model.slots[name] = model.slots[name]._replace(up=False)
    last_leaves = plan(desired(server(1), server(2)), model.look(), check=CHECK)
    assert last_leaves.activate == (
        SetHealth(UNIT, "s1", "up"),
        SetHealth(UNIT, "s2", "up"),
    )
    assert last_leaves.retire == (SetState(UNIT, "s3", "maint"),)
    one_down_leaves = plan(desired(server(2), server(3)), model.look(), check=CHECK)
    assert one_down_leaves.operations == (SetState(UNIT, "s1", "maint"),)
    new_one_comes = plan(desired(server(1), server(4)), model.look(), can_add=True, check=CHECK)
    assert not any(isinstance(op, SetHealth) for op in new_one_comes.activate)


def test_no_server_is_trusted_while_another_one_that_is_up_stays_or_none_leaves() -> None:
    model = Model.fresh(3, "on")
    model.converge(desired(server(1), server(2), server(3)))
    model.slots["s1"] = model.slots["s1"]._replace(up=False)
    one_up_leaves = plan(desired(server(1), server(2)), model.look(), check=CHECK)
    assert one_up_leaves.operations == (SetState(UNIT, "s3", "maint"),)
    for name, slot in model.slots.items():
        model.slots[name] = slot._replace(up=False)
    assert not plan(desired(server(1), server(2), server(3)), model.look(), check=CHECK)


def test_a_unit_whose_key_is_handed_on_serves_until_it_leads_elsewhere() -> None:
    model = Model.fresh(2)
    model.converge(desired(server(1)))
    handing = replace(desired(), handed=KEYS)
    assert not plan(handing, model.look())
    # One that goes on serving its other keys leads to nobody's server meanwhile.
    shrunk = replace(desired(server(2)), handed=KEYS)
    assert SetState(UNIT, "s1", "maint") in plan(shrunk, model.look()).retire
    model.open = False  # it leads to the other unit
    assert plan(desired(), model.look()).retire == (SetState(UNIT, "s1", "maint"),)
