"""`sidecar.listeners.kinds`: each unit and each key is answered for by its own kind."""

from core import PORTS
from pki import CA

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.attributes import AttributeMap
from sidecar.listeners.kinds import Kinds
from sidecar.listeners.mapped import EntryMap, MappedBackends
from sidecar.listeners.port_maps import PORT_GUARDS, PORT_LIMITS, PORT_SOURCES, PortMaps
from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.listeners.trust import TrustFiles
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.pool import WebClass

HTTP, PASS = web_backend_name("http", 1), web_backend_name("passthrough", 1)
HOSTS = MappedBackends(
    [EntryMap("hosts", "hosts.map", "host {}".format)], {HTTP: WebClass("http", 1, 2, 1.0, 1.0)}
)
SNI = MappedBackends(
    [EntryMap("sni", "sni.map", "SNI {}".format)], {PASS: WebClass("passthrough", 1, 2, 1.0, 1.0)}
)
KINDS = Kinds(PORTS, HOSTS, SNI)
PORT = unit_of(30000)
HOST_KEY, SNI_KEY = ClaimKey("hosts", "0a?"), ClaimKey("sni", "a")


def seen(*units: Unit) -> dict[Unit, ObservedUnit]:
    return {unit: ObservedUnit(unit, frozenset(), {}) for unit in units}


def test_they_have_all_units_in_their_order() -> None:
    assert list(KINDS.classes) == [*PORTS.classes, HTTP, PASS]


def test_each_has_its_own_rules_and_words() -> None:
    for unit, kind in ((PORT, PORTS), (HTTP, HOSTS), (PASS, SNI)):
        assert KINDS.rules(unit) == kind.rules(unit)
        assert KINDS.title(unit) == kind.title(unit)
        assert KINDS.port(unit) == kind.port(unit)
        assert KINDS.log_fields(unit) == kind.log_fields(unit)
        assert KINDS.absence(unit) == kind.absence(unit)


def test_each_changes_its_own_keys() -> None:
    for unit, key, kind in (
        (PORT, key_of(30000), PORTS),
        (HTTP, HOST_KEY, HOSTS),
        (PASS, SNI_KEY, SNI),
    ):
        assert KINDS.expose(key, unit) == kind.expose(key, unit)
        assert KINDS.conceal(key, unit) == kind.conceal(key, unit)


def test_only_whose_units_or_keys_are_looked_at_is_asked_for() -> None:
    ports = PORTS.questions([PORT], [])
    assert KINDS.questions([PORT], []) == ports
    assert KINDS.questions([HTTP], [HOST_KEY]) == ["get map hosts.map 0a?"]
    assert KINDS.questions([PORT, PASS], [SNI_KEY]) == [*ports, "get map sni.map a"]
    # A key that leads to the unit of another Route now.
    assert KINDS.questions([PORT], [HOST_KEY]) == [*ports, "get map hosts.map 0a?"]
    assert KINDS.questions(None, []) == [
        *PORTS.questions(None, []),
        "show map hosts.map",
        "show map sni.map",
    ]


def test_each_reads_its_own_answers() -> None:
    answers = {"show map hosts.map": f"0x1 0a? {HTTP}", "show map sni.map": f"0x1 a {PASS}"}
    assert KINDS.parse(answers, [HTTP, PASS]) == {
        HTTP: frozenset({HOST_KEY}),
        PASS: frozenset({SNI_KEY}),
    }


def test_problems_are_said_by_kind() -> None:
    all_seen = seen(*KINDS.classes)
    of_ports = list(PORTS.problems(seen(*PORTS.classes)))
    assert list(KINDS.problems(all_seen)) == of_ports
    del all_seen[PASS]
    assert list(KINDS.problems(all_seen)) == [*of_ports, *SNI.problems({})]


def test_of_an_attribute_they_know_what_its_own_kind_does() -> None:
    flags = AttributeMap("flags", "flags.map", needed=True)
    flags.exists = False
    nobody = CertificateAuthority.of([CA.root("nobody").own.certificate])
    ports = TCPPorts(PORTS.pool, maps=PortMaps([PORT], "s.map", "g.map", "l.map", is_known=True))
    hosts = MappedBackends(HOSTS.maps, HOSTS.classes, [flags], TrustFiles("trust", {}, nobody))
    kinds = Kinds(ports, hosts, SNI)
    names = (PORT_SOURCES, PORT_GUARDS, PORT_LIMITS, "flags", "trust", "unknown")
    assert [name for name in names if kinds.judges(name)] == [PORT_SOURCES, PORT_GUARDS]
    assert [name for name in names if kinds.guards(name)] == ["trust"]
    assert [name for name in names if kinds.takes(name, "x")] == list(names[:-1])
    assert [name for name in names if kinds.lacks(name, "x")] == ["flags"]
    assert kinds.judged_by({"flags": "x", PORT_GUARDS: "a"}) == "a"
    assert kinds.judged_by({"flags": "x"}) == ""
