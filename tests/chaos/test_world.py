"""The truth of a chaos run must be true itself."""

from world import AUTO, Route, Service, Slice, World

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
