"""What the sidecar writes to the API server, against one that misbehaves on demand."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kube import FakeAPI, Fault, Request
from replica import (
    ADMITTED,
    KEPT_PORT,
    LEASE,
    Replica,
    events,
    foreign,
    ingress,
    open_on,
    refused,
    says,
    status_writes,
    with_status,
)
from stand import ROUTER, await_, await_told, route_manifest, service_manifest

from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.kube.leader import Leader
from sidecar.model.objects import Key
from sidecar.model.verdicts import Reason, Verdict
from sidecar.reporting.outcome import Outcome


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as server:
        yield server


@pytest.fixture
def client(api: FakeAPI, tmp_path: Path) -> Iterator[KubeClient]:
    made = KubeClient.from_environment(api.kubeconfig(tmp_path / "kubeconfig"))
    yield made
    made.close()


@pytest.fixture
def replica(api: FakeAPI, client: KubeClient) -> Callable[..., Any]:
    def make(name: str = "one", **wishes: Any) -> Replica:
        return Replica(api, client, name, **wishes)

    return make


def test_status_is_written_once_and_nobody_elses_is_touched(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    other = foreign()
    api.apply(with_status("web", other), route_manifest("bad", "x"))
    with replica() as one:
        one.tell({**open_on(), **refused("bad")})
        await_(lambda: says(api) == ADMITTED, "web is admitted")
        await_(
            lambda: says(api, "bad") == ("False", "InvalidPort", "'x' is not a valid port"),
            "bad is not",
        )
        assert ingress(api)[0] == other
        await_(lambda: events(api) == ["InvalidPort", "PortOpened"], "both have their Event")
        # Told again, and again by the watch of what we wrote: nothing is to be written.
        for port in (30000, 30000, 30001):
            one.tell({**open_on(port=port), **refused("bad")})
        await_(lambda: says(api) == ("True", "Admitted", "port 30001"), "the newest is written")
    assert status_writes(api) == 3


def test_status_is_cleared_when_the_route_is_not_ours_any_more(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    api.apply(with_status("web", foreign("a"), foreign(ROUTER), foreign("b")))
    with replica() as one:
        one.tell({Key("Route", "demo", "web"): None})
        await_(lambda: says(api) is None, "our entry is gone")
    assert ingress(api) == [foreign("a"), foreign("b")]


def test_a_route_made_anew_is_not_told_what_became_of_the_last_one(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    api.apply(route_manifest(), route_manifest("other"))
    with replica() as one:
        one.tell(open_on())
        await_(lambda: says(api) == ADMITTED, "it is admitted")
        one.sees.clear()
        api.delete(route_manifest())
        api.apply(route_manifest())
        # The watch has both, deletion and addition, as one change. Who drives HAProxy has not
        # come to it yet.
        one.look()
        one.tell(open_on("other", 30001))
        # Events go out when there is nothing left to write.
        await_(lambda: len(events(api)) > 1, "the other's Event")
        assert says(api) is None
        one.tell(open_on(port=30002))
        one.sees.set()
        await_(lambda: says(api) == ("True", "Admitted", "port 30002"), "and it, once it is known")


def test_a_status_that_changed_meanwhile_is_looked_at_again(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    api.apply(route_manifest())
    with replica() as one:
        await_(one.leader.leads, "it leads")
        one.sees.clear()
        api.apply(with_status("web", foreign()))
        one.tell(open_on())
        await_(lambda: one.result("status", "conflict"), "a conflict")
        assert ingress(api) == [foreign()]
        one.sees.set()
        await_(lambda: says(api) == ADMITTED, "it is written on the newer one")
    assert says(api, of="other") == ("False", "Theirs", "")


def test_what_is_not_permitted_is_said_once_and_the_rest_goes_on(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.apply(route_manifest(), route_manifest("second"), service_manifest("edge"))
    api.forbidden = {("patch", "routes"), ("create", "events")}
    with replica(publish_service=("demo", "edge")) as one:
        one.tell({**open_on(), **open_on("second", 30001)})
        await_told(caplog, "missing permission to patch routes/status; without it")
        await_told(caplog, "missing permission to create events; without it")
        await_(lambda: len(service_ports(api)) == 3, "the Service is still kept in sync")
        one.tell(refused())
        one.tell({Key("Route", "demo", "second"): None})
    assert caplog.text.count("patch routes/status") == 1
    assert status_writes(api) == 1


def test_an_api_server_that_wants_less_is_left_alone_for_as_long_as_it_says(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    api.apply(*(route_manifest(f"r{n}") for n in range(5)))
    busy = Fault(status=429, reason="TooManyRequests", headers={"Retry-After": "1"})
    with replica() as one:
        await_(one.leader.leads, "it leads")
        asked_at: list[float] = []

        def is_write(request: Request) -> bool:
            if request.verb == "patch":
                asked_at.append(time.monotonic())
            return request.verb == "patch"

        api.fault(busy, times=2, when=is_write)
        for number in range(5):
            one.tell(open_on(f"r{number}"))
        await_(lambda: all(says(api, f"r{n}") == ADMITTED for n in range(5)), "all are written")
    assert one.result("status", "throttled") == 2
    assert asked_at[1] - asked_at[0] > 0.9, "the second that it says, but for the clocks' grain"
    assert status_writes(api) == 7


def test_nothing_is_lost_while_the_api_server_is_away(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.apply(route_manifest(), route_manifest("second"))
    with replica(events=False) as one:
        await_(one.leader.leads, "it leads")
        api.stop()
        one.sees.clear()
        one.tell({**refused(), **refused("second")})
        await_told(caplog, "pending writes are kept")
        one.tell({**open_on(), **open_on("second")})
        api.start()
        await_(lambda: says(api) == says(api, "second") == ADMITTED, "the newest is written", 30)
    assert status_writes(api) == 2


def test_a_route_that_cannot_be_written_does_not_stop_the_others(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.apply(route_manifest(), route_manifest("second"))
    broken = Fault(status=500, message="etcd is unhappy")
    api.fault(broken, verb="patch", times=2, when=lambda r: "/routes/web/" in r.path)
    with replica() as one:
        one.tell({**open_on(), **open_on("second")})
        await_(lambda: says(api, "second") == ADMITTED, "the other is written")
        await_(lambda: says(api) == ADMITTED, "it is tried again", 20)
    assert caplog.text.count("etcd is unhappy") == 1


def test_another_router_of_our_name_makes_us_give_way(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.apply(route_manifest())
    stop = threading.Event()

    def rival() -> None:
        while not stop.wait(0.01):
            if says(api) == ADMITTED:
                api.apply(with_status("web", foreign(ROUTER)))

    thread = threading.Thread(target=rival, daemon=True)
    thread.start()
    try:
        with replica(events=False) as one:
            one.tell(open_on())
            await_told_late(caplog, "another client keeps overwriting")
            assert says(api) == ("False", "Theirs", "")
            assert status_writes(api) == 2
    finally:
        stop.set()
        thread.join(10)
    assert caplog.text.count("another client keeps overwriting") == 1


def await_told_late(caplog: pytest.LogCaptureFixture, text: str) -> None:
    await_(lambda: text in caplog.text, f"the log says {text!r}: {caplog.text}", 40)


def test_one_of_two_replicas_writes_and_the_other_takes_over(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    api.apply(route_manifest())
    with contextlib.ExitStack() as first_life, replica("two") as two:
        await_(two.leader.leads, "the second leads")
        one = first_life.enter_context(replica("one"))
        await_told(caplog, "two is the leader: it writes")
        for each in (one, two):
            each.tell(open_on())
        await_(lambda: says(api) == ADMITTED, "it is written")
        await_(lambda: events(api) == ["PortOpened"], "and told")
        assert not one.leader.leads()
        two.writer.__exit__(None, None, None)
        assert api.get(LEASE)["spec"]["holderIdentity"] == ""
        await_(one.leader.leads, "the first takes over")
        one.tell(open_on(port=30001))
        await_(lambda: says(api) == ("True", "Admitted", "port 30001"), "and writes")
        # What the other said before is not said again, what is new is.
        await_(lambda: events(api) == ["PortOpened"] * 2, "the new port is told")
        assert api.get(LEASE)["spec"]["leaseTransitions"] == 1
        assert one.result("status", "written") == two.result("status", "written") == 1


def test_whoever_loses_the_lease_writes_no_more(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.apply(route_manifest())
    with replica("one") as one:
        await_(one.leader.leads, "it leads")
        lease = api.get(LEASE)
        api.apply({**lease, "spec": {**lease["spec"], "holderIdentity": "thief"}})
        await_(lambda: not one.leader.leads(), "it noticed", 20)
        await_told(caplog, "lost leadership")
        one.tell(open_on())
        one.look()
        looks = len(api.asked("get", "leases"))
        await_(lambda: len(api.asked("get", "leases")) > looks + 1, "some time goes by", 40)
    assert api.get(LEASE)["spec"]["holderIdentity"] == "thief"
    assert status_writes(api) == 0


def test_a_lease_that_lapsed_and_was_got_back_at_once_is_told(client: KubeClient) -> None:
    told: list[bool] = []
    slept = threading.Event()

    def clock() -> float:
        return time.monotonic() + 11.0 * slept.is_set()

    leader = Leader(client, "ingress", "router", "one", Metrics(), clock)
    leader.changed = lambda: told.append(leader.leads())
    with leader:
        await_(lambda: told == [True], "it leads")
        # As if the API server had been away for so long. Nobody else took the Lease.
        slept.set()
        assert not leader.leads()
        # Who writes saw that it does not lead, and waits to be told.
        await_(lambda: told == [True, False, True], "it was told", 20)


def test_nothing_ends_the_thread_of_the_lease(api: FakeAPI, client: KubeClient) -> None:
    api.apply({**LEASE, "spec": "no API server says this"})
    with Leader(client, "ingress", "router", "one", Metrics()) as leader:
        await_(lambda: len(api.asked("get", "leases")) > 1, "it goes on looking")
        api.apply({**LEASE, "spec": {}})
        await_(leader.leads, "it leads", 30)


def test_a_lease_that_may_not_be_written_is_said_and_routing_goes_on(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.apply(route_manifest())
    api.forbidden = {("create", "leases")}
    with replica() as one:
        one.tell(open_on())
        await_told(caplog, "nothing is written until this is fixed")
        assert not one.leader.leads()
        api.forbidden = set()
        await_(lambda: says(api) == ADMITTED, "it works once it is permitted")


def test_an_auto_route_gets_its_port_by_annotation(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    api.apply(with_status("web", foreign()))
    web = Key("Route", "demo", "web")
    pending = Outcome(Verdict(web, None, Reason.PORT_PENDING, "in a moment"))
    with replica() as one:
        one.tell({web: pending}, {web: 30007})
        await_(lambda: kept(api) == "30007", "the port is kept")
        assert ingress(api) == [foreign()]
        one.tell(open_on(port=30007))
        await_(lambda: says(api) == ("True", "Admitted", "port 30007"), "and admitted")
    annotations = api.get(route_manifest())["metadata"]["annotations"]
    assert annotations == {**route_manifest()["metadata"]["annotations"], KEPT_PORT: "30007"}


def test_an_auto_route_that_may_not_get_its_port_is_told(
    api: FakeAPI, replica: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    api.apply(route_manifest())
    status_only = Fault(status=403, reason="Forbidden", message="no")
    api.fault(status_only, verb="patch", times=9, when=lambda r: not r.path.endswith("/status"))
    web = Key("Route", "demo", "web")
    pending = Outcome(Verdict(web, None, Reason.PORT_PENDING, "in a moment"))
    with replica() as one:
        one.tell({web: pending}, {web: 30007})
        await_(lambda: says(api), "it is told")
        status, reason, message = says(api) or ("", "", "")
        assert (status, reason) == ("False", "PortPending")
        assert "forbidden to patch routes" in message
        assert "component auto-ports" in message
    assert caplog.text.count('"auto" Routes get no port') == 1
    assert kept(api) is None


def test_a_leader_that_comes_back_says_nothing_again(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    api.apply(route_manifest())
    with replica("one") as one:
        one.tell(open_on())
        await_(lambda: events(api) == ["PortOpened"], "it is told")
        thief = api.get(LEASE)
        thief["spec"] = {**thief["spec"], "holderIdentity": "thief", "leaseDurationSeconds": 3}
        api.apply(thief)
        await_(lambda: not one.leader.leads(), "it noticed", 20)
        # The other leader's work.
        api.apply(with_status("web", written_by_another("no")))
        one.tell(refused(message="no"))
        await_(one.leader.leads, "it leads again", 20)
        one.tell(open_on("web", 30001))
        await_(lambda: says(api) == ("True", "Admitted", "port 30001"), "it writes again")
        await_(lambda: events(api) == ["PortOpened"] * 2, "and tells only that")


def written_by_another(message: str) -> dict[str, Any]:
    """What a leader of the same router writes of a refused Route."""
    condition = {
        "type": "Admitted",
        "status": "False",
        "reason": "InvalidPort",
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {
        "host": "",
        "routerName": ROUTER,
        "wildcardPolicy": "None",
        "conditions": [condition],
    }


def kept(api: FakeAPI) -> str | None:
    found: str | None = api.get(route_manifest())["metadata"]["annotations"].get(KEPT_PORT)
    return found


def test_a_service_gets_the_open_ports_and_keeps_its_own(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    edge = service_manifest("edge")
    edge["spec"]["ports"] = [
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "tcp-30000", "port": 30000, "nodePort": 31000, "protocol": "TCP"},
        {"name": "tcp-30009", "port": 30009, "nodePort": 31009, "protocol": "TCP"},
    ]
    api.apply(edge)
    with replica(publish_service=("demo", "edge"), write_status=False, events=False) as one:
        one.tell({**open_on(), **open_on("second", 30001)})
        await_(lambda: list(service_ports(api)) == [80, 30000, 30001], "the Service follows")
        assert service_ports(api)[30000]["nodePort"] == 31000
        assert service_ports(api)[30001]["targetPort"] == 30001
        one.tell({Key("Route", "demo", "second"): None})
        await_(lambda: list(service_ports(api)) == [80, 30000], "the port leaves with its Route")
    assert not api.asked("patch", "routes")


def test_the_port_of_a_deleted_route_leaves_the_service(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    api.apply(service_manifest("edge"), route_manifest(), route_manifest("second"))
    with replica(publish_service=("demo", "edge"), write_status=False, events=False) as one:
        one.tell({**open_on(), **open_on("second", 30001)})
        await_(lambda: list(service_ports(api)) == [80, 30000, 30001], "the Service follows")
        # The watch tells of it together with what becomes of its claim, or before.
        api.delete(route_manifest("second"))
        await_(lambda: list(service_ports(api)) == [80, 30000], "the port leaves with its Route")


def test_no_port_leaves_the_service_before_all_routes_are_known(
    api: FakeAPI, replica: Callable[..., Any]
) -> None:
    edge = service_manifest("edge")
    edge["spec"]["ports"] = [
        {"name": f"tcp-{port}", "port": port, "nodePort": port + 1000, "protocol": "TCP"}
        for port in (30000, 30001, 30002)
    ]
    api.apply(edge, route_manifest(), route_manifest("second"))
    with replica(publish_service=("demo", "edge"), events=False) as one:
        # Of thousands of Routes some are told at a time.
        one.tell(open_on())
        await_(lambda: says(api) == ADMITTED, "it leads and writes")
        # The Service would have been looked at by the time that this one is due.
        time.sleep(1.5)
        assert list(service_ports(api)) == [30000, 30001, 30002]
        one.tell(open_on("second", 30001))
        await_(lambda: list(service_ports(api)) == [30000, 30001], "nobody's port leaves")


def service_ports(api: FakeAPI) -> dict[int, dict[str, Any]]:
    return {item["port"]: item for item in api.get(service_manifest("edge"))["spec"]["ports"]}
