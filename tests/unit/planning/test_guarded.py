"""What guards a backend's servers, as the CAs that they are verified by, comes before they do."""

from dataclasses import replace

from pki import CA

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.operations import EndSessions, SetAddress, SetState
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.mapped import EntryMap, MappedBackends
from sidecar.listeners.trust import TrustFiles
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import ClaimKey, DesiredServer
from sidecar.model.pool import PARKED, Address, TLSBackend
from sidecar.planning.diff import after, difference
from sidecar.planning.planner import DesiredUnit, Plan, plan

UNIT = web_backend_name("reencrypt", 1)
NOBODY, ONE, TWO = (
    CertificateAuthority.of([CA.root(name).own.certificate]) for name in ("nobody", "one", "two")
)
POD = Address("10.0.0.1", 8443)
ENTRY = ClaimKey("hosts", "1a.example/")


def kind() -> MappedBackends:
    trust = TrustFiles("authority", {UNIT: "/run/authorities/be_re_1.pem"}, NOBODY)
    trust.wanted = {UNIT: ONE}.get
    maps = [EntryMap("hosts", "/run/maps/hosts.map", str)]
    return MappedBackends(maps, {UNIT: TLSBackend(2, ("ssl",))}, (), trust)


def desired(*servers: DesiredServer, authority: CertificateAuthority | None = ONE) -> DesiredUnit:
    exposed = frozenset({ENTRY}) if servers else frozenset[ClaimKey]()
    attributes = {"authority": authority.mark} if authority else {}
    return DesiredUnit(UNIT, exposed, servers, attributes=attributes)


def observed(
    *slots: tuple[Address, str], authority: CertificateAuthority | None = None, led: bool = False
) -> ObservedUnit:
    servers = {
        f"s{n}": ObservedServer(f"s{n}", address, state, 256, state != "maint", 0, 0)  # type: ignore[arg-type]
        for n, (address, state) in enumerate(slots, 1)
    }
    exposed = frozenset({ENTRY}) if led else frozenset[ClaimKey]()
    attributes = {"authority": authority.mark} if authority else {}
    return ObservedUnit(UNIT, exposed, servers, attributes)


def planned(wanted: DesiredUnit, seen: ObservedUnit) -> Plan:
    return plan(wanted, seen, kind(), can_add=False)


def words(item: Plan) -> list[str]:
    return [" ".join(str(part.command()).split()[:3]) for part in item.operations]


SERVER = DesiredServer(POD, "ready", 256, "web", None, None)
FREE = (PARKED, "maint")
SET = ["set ssl ca-file", "commit ssl ca-file", "abort ssl ca-file"]


def test_no_server_comes_before_the_cas_are_shown() -> None:
    first = planned(desired(SERVER), observed(FREE, FREE))
    assert words(first) == SET
    second = planned(desired(SERVER), observed(FREE, FREE, authority=ONE))
    assert second.activate
    assert second.expose
    assert not second.describe


def test_servers_with_other_cas_rest_and_nothing_of_them_is_kept() -> None:
    seen = observed((POD, "ready"), (Address("10.0.0.2", 8443), "maint"), authority=TWO, led=True)
    first = planned(desired(SERVER), seen)
    assert first.operations == (SetState(UNIT, "s1", "maint"), EndSessions(UNIT, "s1"))
    # Whoever still uses them is waited for.
    left = after(seen, first)
    used = {**left.servers, "s1": left.servers["s1"]._replace(sessions=1)}
    still = planned(desired(SERVER), replace(left, servers=used))
    assert still.operations == (EndSessions(UNIT, "s1"),)
    second = planned(desired(SERVER), left)
    assert second.rest == (SetAddress(UNIT, "s1", PARKED), SetAddress(UNIT, "s2", PARKED))
    assert second.readback == {"s1": PARKED, "s2": PARKED}
    assert words(second)[2:] == SET
    assert not any((second.activate, second.expose, second.conceal))
    # And then they come again.
    trusted = after(left, second)
    third = planned(desired(SERVER), trusted)
    assert SetState(UNIT, "s1", "ready") in third.activate
    assert third.readback == {"s1": POD}
    lines = list(difference(left, trusted))
    assert f"- authority {TWO.mark}" in lines
    assert f"+ authority {ONE.mark}" in lines


def test_what_is_as_desired_stays() -> None:
    seen = observed((POD, "ready"), FREE, authority=ONE, led=True)
    assert not planned(desired(SERVER), seen)


def test_a_backend_without_a_route_trusts_nobody_once_its_servers_rest() -> None:
    seen = observed((POD, "ready"), FREE, authority=ONE, led=True)
    item = planned(desired(authority=None), seen)
    assert words(item)[-3:] == SET
    assert [part for part in item.operations if part in item.retire] == list(item.retire)
    assert item.operations.index(item.retire[0]) < item.operations.index(item.forget[0])
    assert not planned(desired(authority=None), observed(FREE, FREE))
