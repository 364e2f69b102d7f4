"""`sidecar.listeners.tcp`: which ports HAProxy is asked about, and what is known of them."""

from stand import pool_of

from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.model.desired import ClaimKey

POOL = pool_of({"ports": ["30000-30002"], "slots": 2})
UNITS = ONE, TWO, THREE = tuple(map(unit_of, POOL.ports))
ALL = "show stat -1 1 -1"
NOTHING: frozenset[ClaimKey] = frozenset()


def ask(port: int) -> str:
    return f"show stat tcp-{port} 1 -1"


def shown(*ports: tuple[int, str]) -> str:
    rows = [f"tcp-{port},FRONTEND,{status}," for port, status in ports]
    return "\n".join(["# pxname,svname,status,", *rows])


def test_a_port_is_asked_for_once_and_when_it_was_touched() -> None:
    kind = TCPPorts(POOL)
    assert kind.questions([ONE, TWO], ()) == [ask(30000), ask(30001)]
    both = {ask(30000): shown((30000, "OPEN")), ask(30001): shown((30001, "STOP"))}
    assert kind.parse(both, [ONE, TWO]) == {ONE: frozenset({key_of(30000)}), TWO: NOTHING}
    assert kind.questions([ONE, TWO, THREE], ()) == [ask(30002)]
    assert kind.questions([ONE], [key_of(30000), key_of(30001)]) == [ask(30000), ask(30001)]
    assert kind.parse({ask(30000): shown((30000, "STOP"))}, [ONE, TWO]) == {
        ONE: NOTHING,
        TWO: NOTHING,
    }


def test_a_look_at_all_begins_anew() -> None:
    kind = TCPPorts(POOL)
    kind.parse({ALL: shown((30000, "OPEN"), (30001, "OPEN"))}, [])
    assert kind.questions(UNITS, ()) == [ask(30002)]
    assert kind.parse({ALL: shown((30001, "STOP"))}, UNITS) == {TWO: NOTHING}
    assert kind.questions(UNITS, ()) == [ask(30000), ask(30002)]


def test_a_port_that_haproxy_lacks_stops_no_other() -> None:
    kind = TCPPorts(POOL)
    answers = {ask(30000): "No such proxy.", ask(30001): shown((30001, "OPEN"))}
    assert kind.parse(answers, UNITS) == {TWO: frozenset({key_of(30001)})}
