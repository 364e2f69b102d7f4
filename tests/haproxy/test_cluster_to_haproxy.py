"""From a (fake) API server through the source `kubernetes` to a stock HAProxy, and real bytes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import Process, command, one_line, run_cli
from kube import FakeAPI, Fault
from relay import Relay
from stand import (
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_leads_to,
    await_ready,
    await_refused,
    await_told,
    converged,
    held,
    route_manifest,
    running,
    slice_manifest,
)

from sidecar.cli.context import make_source

PATIENCE_SECONDS = 40.0

#: Of those who write a status; outside a pod its namespace must be said.
LEASE = {"lease": {"namespace": "router"}}


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as api:
        yield api


@pytest.fixture
def stand(make_stand: MakeStand, api: FakeAPI, tmp_path: Path) -> Stand:
    kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
    source = {"kind": "kubernetes", "kubeconfig": str(kubeconfig)}
    return make_stand(source=source, kubernetes=LEASE, timing={"resync": "1h"})


def sidecar(stand: Stand, **haproxy: Any) -> contextlib.AbstractContextManager[Any]:
    return running(stand.daemon(make_source(stand.settings), **haproxy))


def test_a_cluster_drives_the_ports_and_its_absence_does_not(
    stand: Stand,
    api: FakeAPI,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = make_server("a"), make_server("b")
    api.apply(*app("web", 30000, [a]))
    daemon = files.enter_context(sidecar(stand))
    await_leads_to(stand, 30000, a, PATIENCE_SECONDS)
    converged(daemon)
    api.apply(slice_manifest("web", [a, b]))
    await_ready(stand, 30000, a, b)
    session = held(files, stand, 30000)

    api.stop()
    # The very moment at which the last endpoint would seem to be gone, were errors believed.
    # (Few: with each the pause until the next try doubles.)
    api.fault(Fault(status=500), times=2)
    api.fault(Fault(status=404, body=b"404 page not found"), plural="routes", times=1)
    api.delete(slice_manifest("web"))
    api.apply(slice_manifest("web", [b]), *app("other", 30001, [a]))
    api.compact()
    await_told(caplog, f"{api.host}: ")
    await_told(caplog, "keeping the last known state")
    session.echo()
    stand.connect(30000).close()
    api.start()
    await_leads_to(stand, 30001, a, PATIENCE_SECONDS)
    await_ready(stand, 30000, b)
    session.echo()
    api.delete(route_manifest("other", 30001))
    await_refused(stand, 30001)


def test_a_status_that_is_written_costs_no_look_at_haproxy(
    stand: Stand,
    api: FakeAPI,
    make_server: MakeServer,
    tmp_path: Path,
    files: contextlib.ExitStack,
) -> None:
    relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    a = make_server("a")
    api.apply(*app("web", 30000, [a]))
    daemon = files.enter_context(sidecar(stand, socket=relay.path))
    await_leads_to(stand, 30000, a, PATIENCE_SECONDS)
    converged(daemon)

    def looks() -> int:
        return sum(line.startswith(("show stat", "show servers")) for line in relay.commands)

    def rounds() -> int:
        return sum(line.startswith("show info") for line in relay.commands)

    # What is opened is followed by looks for a while: until a second has passed without one.
    before = -1
    while before != looks():
        before, start = looks(), rounds()
        await_(lambda start=start: rounds() >= start + 3, "an idle while", 30)
    for number in range(5):
        status = {"ingress": [{"routerName": "wzh-router-1", "host": str(number)}]}
        api.apply(route_manifest("web", 30000) | {"status": status})
    start = rounds()
    await_(lambda: rounds() >= start + 3, "another while", 30)
    assert looks() == before


def test_commands_read_the_cluster_once(
    stand: Stand, api: FakeAPI, make_server: MakeServer
) -> None:
    a = make_server("a")
    api.apply(*app("web", 30000, [a]), *app("also", 30000, [a], created="2030-01-01T00:00:00Z"))
    plan = run_cli("plan", "-c", stand.settings_file)
    assert plan.code == 0
    assert f"addr {a.address.ip}" in plan.out
    status = run_cli("status", "-c", stand.settings_file)
    assert "demo/web" in status.out
    assert api.asked("watch") == []
    api.forbidden.add(("list", "routes"))
    for name in ("plan", "status"):
        refused = run_cli(name, "-c", stand.settings_file)
        assert refused.code == 3
        assert 'apiGroups ["route.openshift.io"]' in one_line(refused.err + refused.out)
    api.stop()
    assert run_cli("plan", "-c", stand.settings_file).code == 3


def test_run_as_a_process_stops_at_once(
    stand: Stand, api: FakeAPI, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    a = make_server("a")
    api.apply(*app("web", 30000, [a]))
    process = Process(command("run", "-c", stand.settings_file), stand.folder)
    files.callback(process.close)
    await_leads_to(stand, 30000, a, PATIENCE_SECONDS)
    process.ctrl_c()
    assert process.wait(30) in {0, 130}, process.said
    assert "Traceback" not in process.said


def test_no_cluster_is_told_with_a_remedy(make_stand: MakeStand, tmp_path: Path) -> None:
    source = {"kind": "kubernetes", "kubeconfig": str(tmp_path / "absent")}
    stand = make_stand(start=False, source=source, kubernetes=LEASE)
    failed = run_cli("run", "-c", stand.settings_file)
    assert failed.code == 3
    assert "source.kubeconfig" in failed.err + failed.out
