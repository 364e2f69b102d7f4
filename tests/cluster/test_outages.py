"""The API server ends, comes back, and has forgotten what happened: the ports stay as they were."""

from plane import ControlPlane
from planes import MakePod, Serve
from pod import PATIENCE_SECONDS
from reports import await_admission
from stand import app, await_, slice_manifest


def test_a_restart_of_the_api_server_in_mid_watch(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    before, after = serve("before"), serve("after")
    plane.apply(*app("web", 30010, [before], namespace=namespace))
    pod = make_pod().await_ready()
    pod.await_leads_to(30010, "before")
    client = pod.connect(30010)

    plane.stop_server()
    # Nothing is removed while nobody can be asked.
    for _ in range(20):
        assert pod.leads_to(30010, "before")
    plane.start_server()
    client.echo()
    client.close()

    plane.apply(slice_manifest("web", [after], namespace=namespace))
    pod.await_leads_to(30010, "after")
    pod.await_ready()


def test_what_changed_in_a_compacted_past_is_found(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    stays, goes, comes = serve("stays"), serve("goes"), serve("comes")
    plane.apply(
        *app("stays", 30011, [stays], namespace=namespace),
        *app("goes", 30012, [goes], namespace=namespace),
    )
    pod = make_pod().await_ready()
    pod.await_leads_to(30011, "stays")
    pod.await_leads_to(30012, "goes")
    listed = len(lists_of_routes(plane))

    with pod.frozen_sidecar():
        # Ends the watch: what happens now is in no socket's buffer.
        plane.restart_server()
        plane.kubectl("delete", "route", "goes", "-n", namespace)
        plane.apply(*app("comes", 30013, [comes], namespace=namespace))
        plane.compact()
        # A new API server has no events of before its start either: 410 is all that it can say.
        plane.restart_server()
        assert pod.leads_to(30011, "stays")
    pod.await_refused(30012)
    pod.await_leads_to(30013, "comes")
    assert pod.leads_to(30011, "stays")
    assert len(lists_of_routes(plane)) > listed
    await_admission(plane, namespace, "comes", "Admitted")


def test_a_sidecar_that_starts_without_an_api_server_waits_for_it(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    server = serve("web-0")
    plane.apply(*app("web", 30014, [server], namespace=namespace))
    pod = make_pod().await_ready()
    pod.await_leads_to(30014, "web-0")
    plane.stop_server()
    pod.kill_sidecar()
    pod.start_sidecar()
    await_(
        lambda: "not synced" in pod.not_ready(),
        f"nothing is known: {pod.not_ready()}",
        PATIENCE_SECONDS,
    )
    await_(pod.stays_in_its_service, "the last sidecar programmed this HAProxy")
    # HAProxy goes on as the last sidecar left it.
    assert pod.leads_to(30014, "web-0")
    plane.start_server()
    pod.await_ready()
    assert pod.leads_to(30014, "web-0")


def lists_of_routes(plane: ControlPlane) -> list[str]:
    """The times of all lists of Routes that routers asked for."""
    return [
        event["requestReceivedTimestamp"]
        for event in plane.audit()
        if event["verb"] == "list" and event.get("objectRef", {}).get("resource") == "routes"
    ]
