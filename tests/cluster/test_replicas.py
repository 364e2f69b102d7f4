"""Several replicas of one router: all drive, one writes, all agree on ports."""

import pytest
from plane import ControlPlane
from planes import MakePod, Serve
from pod import NAMESPACE, PATIENCE_SECONDS
from reports import await_admission, await_published, holder
from stand import app, await_

KEPT_PORT = "haproxy-sidecar/port"


def given_port(plane: ControlPlane, namespace: str, name: str) -> int:
    """The port of an ``auto`` Route, as soon as it has one."""

    def look() -> str | None:
        metadata = plane.get("route", name, "-n", namespace)["metadata"]
        port: str | None = metadata["annotations"].get(KEPT_PORT)
        return port

    return int(await_(look, f"{name} is given a port", PATIENCE_SECONDS, every_seconds=0.2))


def writers(plane: ControlPlane) -> list[str]:
    """Whose credential wrote each status, oldest first; each pod has its own."""
    return [
        event["user"]["extra"]["authentication.kubernetes.io/credential-id"][0]
        for event in plane.audit()
        if event["verb"] == "patch" and event["objectRef"].get("subresource") == "status"
    ]


@pytest.mark.usefixtures("auto_ports")
def test_two_replicas_agree_and_one_writes(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    server = serve("web-0")
    written = len(writers(plane))
    plane.apply(
        *app("web", 30030, [server], namespace=namespace),
        *app("any", "auto", [server], namespace=namespace),
    )
    pods = {name: make_pod(name) for name in ("router-a", "router-b")}
    for pod in pods.values():
        pod.await_ready()
        pod.await_leads_to(30030, "web-0")
    port = given_port(plane, namespace, "any")
    for pod in pods.values():
        pod.await_leads_to(port, "web-0")
    await_admission(plane, namespace, "any", "Admitted")
    leader = holder(plane)
    assert leader in pods
    assert len(set(writers(plane)[written:])) == 1

    # The leader dies: the other takes over, and nothing that was right is written again.
    before = plane.get("route", "web", "-n", namespace)["metadata"]["resourceVersion"]
    pods[leader].kill_sidecar()
    (other,) = set(pods) - {leader}
    await_(
        lambda: holder(plane) == other,
        f"{other} has the Lease",
        PATIENCE_SECONDS,
        every_seconds=0.5,
    )
    plane.apply(*app("next", 30031, [server], namespace=namespace))
    await_admission(plane, namespace, "next", "Admitted")
    assert plane.get("route", "web", "-n", namespace)["metadata"]["resourceVersion"] == before
    assert len(set(writers(plane)[written:])) == 2
    assert given_port(plane, namespace, "any") == port

    # And it comes back, with all that happened meanwhile.
    pods[leader].start_sidecar()
    pods[leader].await_ready()
    pods[leader].await_leads_to(30031, "web-0")
    assert pods[leader].leads_to(port, "web-0")


def test_the_service_has_the_ports_that_are_open(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    server = serve("web-0")
    plane.apply(
        *app("stays", 30032, [server], namespace=namespace),
        *app("goes", 30033, [server], namespace=namespace),
    )
    make_pod().await_ready()

    def await_ports(*wanted: int) -> None:
        await_published(plane, NAMESPACE, "haproxy-sidecar", *wanted)

    await_ports(30032, 30033)
    # Applied again, the Service keeps what the router wrote into it, beside its own first port,
    # which goes as soon as something changes.
    plane.apply(*plane.overlay("kubernetes"))
    await_ports(6620, 30032, 30033)
    plane.kubectl("delete", "route", "goes", "-n", namespace)
    await_ports(30032)
