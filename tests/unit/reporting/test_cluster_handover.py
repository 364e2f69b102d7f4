"""Who writes when the writer leaves, restarts, was cut off, or is rewritten by somebody else."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from kube import FakeAPI, Fault
from kubernetes.client import Configuration
from replica import (
    ADMITTED,
    LEASE,
    Replica,
    foreign,
    open_on,
    says,
    status_writes,
    with_status,
)
from stand import ROUTER, await_, route_manifest

from sidecar.cli.reporting import identity
from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.kube.leader import Leader
from sidecar.kube.lease import LEASE_SECONDS, RENEW_DEADLINE_SECONDS

#: A candidate looks every 2 to 2.4 s; the rest is for a busy machine.
TAKEN_OVER_WITHIN_SECONDS = 4.0


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as server:
        server.apply(route_manifest())
        yield server


@pytest.fixture
def make(api: FakeAPI) -> Iterator[Callable[..., Replica]]:
    """Makes replicas, to be entered."""
    clients: list[KubeClient] = []

    def made(name: str = "one", **wishes: Any) -> Replica:
        clients.append(KubeClient(Configuration(host=api.host)))
        return Replica(api, clients[-1], name, **wishes)

    yield made
    for client in clients:
        client.close()


def holder(api: FakeAPI) -> str:
    found: str = api.get(LEASE)["spec"]["holderIdentity"]
    return found


def test_who_leaves_lets_go_and_another_writes(api: FakeAPI, make: Callable[..., Replica]) -> None:
    with make("one") as one:
        await_(one.leader.leads, "the first leads")
        with make("two") as two:
            one.writer.leave()
            await_(lambda: not one.leader.leads(), "it leads no more")
            # It drives on, and hears what happens.
            for each in (one, two):
                each.tell(open_on())
            await_(lambda: says(api) == ADMITTED, "the second writes", TAKEN_OVER_WITHIN_SECONDS)
            assert holder(api) == "two"
            assert one.result("status", "written") == 0
        # Nobody has it now, and still it is not for who leaves.
        one.tell(open_on(port=30001))
        time.sleep(3.0)
        assert holder(api) == ""
        assert says(api) == ADMITTED


def test_what_is_under_way_ends_before_the_lease_is_let_go(
    api: FakeAPI, make: Callable[..., Replica]
) -> None:
    slow = Fault(slow_seconds=0.015)
    held = []

    def is_status(request: Any) -> bool:
        return bool(request.path.endswith("/status"))

    api.fault(slow, when=is_status)
    with make() as one:
        one.tell(open_on())
        await_(lambda: status_writes(api) == 1, "a status is under way")
        one.writer.leave()
        while holder(api):
            held.append(one.result("status", "written"))
            time.sleep(0.01)
        assert held, "it keeps the Lease meanwhile"
        assert one.result("status", "written") == 1


def test_a_lease_is_let_go_of_after_a_renewal_that_failed(
    api: FakeAPI, make: Callable[..., Replica]
) -> None:
    with make() as one:
        await_(one.leader.leads, "it leads")
        api.fault(Fault(drop=True), verb="update", plural="leases")
        renewed = len(api.asked("update", "leases"))
        await_(lambda: len(api.asked("update", "leases")) > renewed, "a renewal fails")
        one.writer.leave()
        await_(lambda: not holder(api), "it is let go of")


def test_a_restarted_container_has_its_lease_still(api: FakeAPI) -> None:
    pod = {"POD_NAME": "router-0", "POD_UID": "1-2-3"}
    spec = {"holderIdentity": identity(pod), "leaseDurationSeconds": LEASE_SECONDS}
    # Its predecessor was killed.
    api.apply({**LEASE, "spec": spec})
    client = KubeClient(Configuration(host=api.host))
    with Leader(client, "ingress", "router", identity(pod), Metrics()) as leader:
        await_(leader.leads, "it leads", TAKEN_OVER_WITHIN_SECONDS)
    client.close()


def test_a_pod_is_not_another_of_its_name() -> None:
    first, second = ({"POD_NAME": "router-0", "POD_UID": uid} for uid in ("1", "2"))
    assert identity(first) == identity(first) == "router-0_1"
    assert identity(first) != identity(second)
    # Where nobody says, no two are the same.
    assert identity({"HOSTNAME": "here"}).startswith("here_")
    assert identity({"HOSTNAME": "here"}) != identity({"HOSTNAME": "here"})


def test_a_status_is_written_soon_after_an_outage(
    api: FakeAPI, make: Callable[..., Replica]
) -> None:
    with make(events=False) as one:
        await_(one.leader.leads, "it leads")
        api.stop()
        one.sees.clear()
        one.tell(open_on())
        # Longer than a Lease is kept without renewal.
        time.sleep(RENEW_DEADLINE_SECONDS + 2.0)
        assert not one.leader.leads()
        api.start()
        await_(lambda: says(api) == ADMITTED, "it is written", TAKEN_OVER_WITHIN_SECONDS)


def test_a_lease_survives_an_api_server_that_asks_for_long_patience(
    api: FakeAPI, make: Callable[..., Replica]
) -> None:
    busy = Fault(status=429, headers={"Retry-After": "60"})
    with make() as one:
        await_(one.leader.leads, "it leads")
        api.fault(busy, plural="leases")
        asked = len(api.asked(plural="leases"))
        await_(lambda: len(api.asked(plural="leases")) > asked, "it is told so")
        renewed = len(api.asked("update", "leases"))
        await_(lambda: len(api.asked("update", "leases")) > renewed, "it is renewed", 15)
        assert one.leader.leads()


class Rival:
    """Another router of our name: rewrites each of ``names`` as soon as we have written it."""

    def __init__(self, api: FakeAPI, names: list[str]) -> None:
        self._api, self._names = api, names
        self.rewritten: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for name in self._names:
                if says(self._api, name) == ADMITTED:
                    self._api.apply(with_status(name, foreign(ROUTER)))
                    self.rewritten.add(name)


def test_many_contended_routes_do_not_delay_another(
    api: FakeAPI, make: Callable[..., Replica]
) -> None:
    names = [f"r{number:02d}" for number in range(80)]
    api.apply(*map(route_manifest, names))
    with Rival(api, names) as rival, make(events=False, writes_per_second=10) as one:
        for name in names:
            one.tell(open_on(name))
        await_(lambda: len(rival.rewritten) == len(names), "each is rewritten", 30)
        written = status_writes(api)
        await_(lambda: status_writes(api) > written, "they are written again", 15)
        # Dozens are due, and ten may be written in a second.
        one.tell(open_on())
        await_(lambda: says(api) == ADMITTED, "it is written", 1.5)


def test_statuses_that_were_lost_once_come_back_soon(
    api: FakeAPI, make: Callable[..., Replica]
) -> None:
    names = [f"r{number}" for number in range(12)]
    api.apply(*map(route_manifest, names))

    def all_told() -> bool:
        return all(says(api, name) == ADMITTED for name in names)

    with make(events=False) as one:
        for name in names:
            one.tell(open_on(name))
        await_(all_told, "all are admitted")
        # As when all are restored from a backup.
        api.apply(*(with_status(name, foreign(ROUTER)) for name in names))
        await_(all_told, "and again", 15)
