"""Routes and EndpointSlices of a real API server become ports that carry bytes."""

from plane import ControlPlane
from planes import MakePod, Serve
from pod import NAMESPACE
from reports import await_admission, await_event, await_no_admission
from stand import app, route_manifest, service_manifest, slice_manifest

DEMO = "haproxy-sidecar-demo"


def test_the_demo_gets_its_ports(plane: ControlPlane, make_pod: MakePod, serve: Serve) -> None:
    web, database = serve("web-0"), serve("mysql-0")
    plane.apply(
        slice_manifest("web", [web], namespace=DEMO, port_name="http"),
        slice_manifest("mysql", [database], namespace=DEMO, port_name="mysql"),
    )
    pod = make_pod().await_ready()
    pod.await_leads_to(18080, "web-0")
    pod.await_leads_to(13306, "mysql-0")
    assert pod.is_refused(6620)

    await_admission(plane, DEMO, "web", "Admitted")
    await_admission(plane, DEMO, "mysql", "Admitted")
    await_event(plane, DEMO, "web", "PortOpened")
    shown = plane.kubectl("get", "route", "web", "-n", DEMO, "--no-headers").split()
    assert shown[:5] == ["web", "18080", "web", "True", "Admitted"]

    # As a scale to zero does: the port closes, and stays the Route's.
    plane.kubectl("delete", "endpointslice", "--all", "-n", DEMO)
    pod.await_refused(18080)
    await_admission(plane, DEMO, "web", "NoEndpoints")


def test_a_deploy_of_the_application_keeps_connections(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    old, new = serve("old"), serve("new")
    plane.apply(*app("web", 30000, [old], namespace=namespace))
    pod = make_pod().await_ready()
    pod.await_leads_to(30000, "old")
    client = pod.connect(30000)
    leaving = {
        "addresses": [old.address.ip],
        "conditions": {"ready": False, "serving": True, "terminating": True},
    }
    plane.apply(slice_manifest("web", [new, leaving], namespace=namespace))
    pod.await_leads_to(30000, "new")
    plane.apply(slice_manifest("web", [new], namespace=namespace))
    client.echo(b"still here")
    client.close()


def test_who_came_first_has_the_port_and_the_next_gets_it_after(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    first, second = serve("first"), serve("second")
    plane.apply(*app("first", 30001, [first], namespace=namespace))
    # The API server's times have whole seconds; within one the UID decides.
    created = plane.get("route", "first", "-n", namespace)["metadata"]["creationTimestamp"]
    for attempt in range(100):
        name = f"second-{attempt}"
        plane.apply(*app(name, 30001, [second], namespace=namespace))
        metadata = plane.get("route", name, "-n", namespace)["metadata"]
        if metadata["creationTimestamp"] > created:
            break
        plane.kubectl("delete", "route", name, "-n", namespace)
    pod = make_pod().await_ready()
    pod.await_leads_to(30001, "first")
    await_admission(plane, namespace, name, "PortAlreadyClaimed", "False")
    await_event(plane, namespace, name, "PortAlreadyClaimed")

    plane.kubectl("delete", "route", "first", "-n", namespace)
    pod.await_leads_to(30001, "second")
    await_admission(plane, namespace, name, "Admitted")


def test_a_route_that_names_another_router_is_not_ours_any_more(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    server = serve("web-0")
    plane.apply(*app("web", 30002, [server], namespace=namespace))
    pod = make_pod().await_ready()
    pod.await_leads_to(30002, "web-0")
    await_admission(plane, namespace, "web", "Admitted")
    plane.apply(route_manifest("web", 30002, namespace=namespace, router_name="another"))
    pod.await_refused(30002)
    await_no_admission(plane, namespace, "web")


def test_one_bad_route_touches_no_other(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    server = serve("web-0")
    plane.apply(
        *app("web", 30003, [server], namespace=namespace),
        route_manifest("outside", 99, namespace=namespace),
        route_manifest("words", "http", namespace=namespace),
        route_manifest("homeless", 30004, namespace=namespace),
    )
    pod = make_pod().await_ready()
    pod.await_leads_to(30003, "web-0")
    await_admission(plane, namespace, "outside", "PortNotInPool", "False")
    await_admission(plane, namespace, "words", "InvalidPort", "False")
    await_admission(plane, namespace, "homeless", "ServiceNotFound", "False")


def test_the_router_is_no_server_of_its_own(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    front = plane.get("service", "haproxy-sidecar", "-n", NAMESPACE)["spec"]["clusterIP"]
    plane.apply(
        route_manifest("self", 30005, namespace=namespace),
        service_manifest("self", namespace=namespace),
        slice_manifest("self", [front], namespace=namespace, port=6620),
        *app("twin", 30006, [twin := serve("twin")], namespace=namespace),
    )
    pod = make_pod().await_ready()
    told = await_admission(plane, namespace, "self", "EndpointsDenied")
    assert told["message"] == f"port 30005: 1 endpoint skipped: {front}:6620 is this router itself"
    pod.await_leads_to(30006, "twin")
    # A replica has that address now, and a controller says so.
    replicas = slice_manifest("haproxy-sidecar", [twin], namespace=NAMESPACE)
    plane.apply(replicas)
    try:
        await_admission(plane, namespace, "twin", "EndpointsDenied")
        pod.await_refused(30006)
    finally:
        plane.kubectl("delete", "endpointslice", replicas["metadata"]["name"], "-n", NAMESPACE)
    pod.await_leads_to(30006, "twin")
