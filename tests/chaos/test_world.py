"""The truth of a chaos run must be true itself."""

from world import AUTO, ITSELF, LOOP, NEAR, NEAR_PORT, PORTS, Route, Service, Slice, World

TARGETS = (("a", 1),)


def test_an_auto_route_that_lost_its_port_does_not_get_it_back() -> None:
    """It has another one by the time that the older claim goes."""
    world, older = World(), Route("r1", 0, True, True, "30002", 10, TARGETS)
    world.take([Service("a", exists=True), Slice("a", 0, (("e1", "ready"),))])
    world.take([Route("r0", 0, True, True, AUTO, 50, TARGETS)])
    world.given = {"r0-0": 30002}
    assert world.serves(30002)
    world.take([older])
    assert world.owner(30002) == older
    world.take([older._replace(exists=False)])
    assert not world.serves(30002)


def test_an_auto_route_that_names_its_port_is_no_auto_route_any_more() -> None:
    world, auto = World(), Route("r0", 0, True, True, AUTO, 50, TARGETS)
    world.take([auto])
    world.given = {"r0-0": 30002}
    world.take([auto._replace(port="30002")])
    assert world.given == {}


def test_the_router_is_no_server_but_what_has_its_port_elsewhere_is() -> None:
    world = World()
    ends = tuple((name, "ready") for name in (*ITSELF, NEAR))
    world.take([Service("a", exists=True), Slice("a", LOOP, ends, NEAR_PORT)])  # type: ignore[arg-type]
    world.take([Route("r0", 0, True, True, "30002", 10, TARGETS)])
    assert set(world.wanted(30002)) == {NEAR}


def test_which_ports_a_fact_may_change() -> None:
    world, route = World(), Route("r0", 0, True, True, "30002", 10, TARGETS)
    slice_ = Slice("a", 0, (("e1", "ready"),))
    world.take([route, Slice("b", 0, (("e1", "ready"),))])
    assert world.touched([slice_]) == {30002}
    assert world.touched([slice_._replace(service="b"), route]) == set()
    assert world.touched([route._replace(port="31000")]) == {30002, 31000}
    assert world.touched([route._replace(port=AUTO), slice_]) >= {30002, PORTS[0]}
