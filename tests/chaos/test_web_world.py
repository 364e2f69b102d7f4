"""The truth of a chaos run of Routes by host must be true itself, here that about ports."""

from web_world import NONE, PORTS, Question, WebRoute, WebWorld

PORT, OTHER = PORTS


def world(*routes: WebRoute, passthrough: int = 9) -> WebWorld:
    """``passthrough``: how many of these have a backend."""
    made = WebWorld({}, {"http": 9, "passthrough": passthrough}, lambda _: {})
    ips = {
        f"r{name}a{number}": f"127.9.{name}.{number}" for name in range(9) for number in range(2)
    }
    made.ips = ips
    ends = {route.service: {f"{route.service}0": "ready"} for route in routes}
    made.manifests({route.name: route for route in routes}, ends)
    return made


def route(
    born: int,
    host: str = "one.example",
    *,
    port: str = PORT,
    termination: str = "passthrough",
    namespace: str = "n1",
    wildcard: bool = False,
) -> WebRoute:
    return WebRoute(f"r{born}", namespace, host, "", wildcard, termination, born, "a", 0, port)


def served(by: WebWorld, host: str, port: str = PORT) -> str:
    """Who serves it."""
    found = by.served[Question(host, None, port=port)].route
    return found.name if found else ""


def test_the_oldest_says_whether_a_port_is_shared() -> None:
    one, two, whole = route(1), route(2, "two.example"), route(3, termination="")
    shared = world(one, two, whole)
    assert served(shared, "one.example") == "r1"
    assert served(shared, "two.example") == "r2"
    assert served(shared, "zero.example") == served(shared, "") == ""
    assert served(shared, "one.example", OTHER) == ""
    assert shared.entries("ports") == {f"{PORT}/one.example": one, f"{PORT}/two.example": two}
    assert shared.served[Question("", None, port=PORT)].otherwise == NONE
    for first in (route(0, termination=""), route(0, "")):
        owned = world(first, one, two, whole)
        for host in ("one.example", "zero.example", ""):
            assert served(owned, host) == "r0"
        assert owned.entries("ports") == {}


def test_a_host_of_a_port_is_one_namespaces_and_nobodys_elsewhere() -> None:
    made = world(
        route(1, "w.apps.example", wildcard=True),
        route(2, "x.apps.example", namespace="n2"),
        route(3, "x.apps.example", namespace="n2", port=OTHER),
        route(4, "x.apps.example", namespace="n3", port=""),
    )
    assert served(made, "x.apps.example") == served(made, "y.apps.example") == "r1"
    assert served(made, "x.apps.example", OTHER) == "r3"
    assert served(made, "y.apps.example", OTHER) == ""
    assert served(made, "x.apps.example", "") == "r4"


def test_ports_and_listener_share_backends_of_which_the_oldest_have_some() -> None:
    made = world(route(1, port=""), route(2), route(3, port=OTHER), passthrough=2)
    assert served(made, "one.example", "") == "r1"
    assert served(made, "one.example") == "r2"
    assert served(made, "one.example", OTHER) == ""
    # Who has a whole port needs none of them.
    assert served(world(route(1, ""), passthrough=0), "one.example") == "r1"


def test_one_that_is_to_end_tls_has_no_port() -> None:
    made = world(route(1, termination="edge"), route(2, "two.example"))
    assert served(made, "two.example") == "r2"
    assert served(made, "one.example") == ""


def test_who_has_no_pods_is_wanted_still() -> None:
    made = world(route(1, port=""), route(2, "two.example"))
    made.manifests({}, {"r1a": {}, "r2a": {}})
    for host, port in (("one.example", ""), ("two.example", PORT)):
        found = made.served[Question(host, None, port=port)]
        assert found.is_wanted
        assert not found.ready
    assert not made.served[Question("two.example", None)].is_wanted
