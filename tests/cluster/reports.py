"""What the router reported to the API server, and awaiting it."""

from typing import Any

from plane import ControlPlane
from pod import PATIENCE_SECONDS
from stand import ROUTER, await_


def admission(
    plane: ControlPlane, namespace: str, name: str, router_name: str = ROUTER
) -> dict[str, Any]:
    """The router's condition on a Route; empty while there is none."""
    route = plane.get("route", name, "-n", namespace)
    for entry in route.get("status", {}).get("ingress", []):
        if entry["routerName"] == router_name:
            (condition,) = entry["conditions"]
            return dict(condition)
    return {}


def await_admission(
    plane: ControlPlane,
    namespace: str,
    name: str,
    reason: str,
    status: str = "True",
    *,
    router_name: str = ROUTER,
) -> dict[str, Any]:
    """Until the condition has ``reason`` and ``status``."""
    seen: dict[str, Any] = {}

    def look() -> bool:
        nonlocal seen
        seen = admission(plane, namespace, name, router_name)
        return (seen.get("reason"), seen.get("status")) == (reason, status)

    try:
        await_(look, f"{namespace}/{name} is {reason}", PATIENCE_SECONDS, every_seconds=0.2)
    except AssertionError as exc:
        exc.add_note(f"it is {seen}")
        raise
    return seen


def await_no_admission(plane: ControlPlane, namespace: str, name: str) -> None:
    await_(
        lambda: not admission(plane, namespace, name),
        f"nothing of ours is said of {namespace}/{name}",
        PATIENCE_SECONDS,
        every_seconds=0.2,
    )


def await_event(plane: ControlPlane, namespace: str, name: str, reason: str) -> None:
    """Until there is an Event with ``reason`` on a Route."""
    chosen = f"--field-selector=involvedObject.kind=Route,involvedObject.name={name}"

    def reasons() -> list[str]:
        return [item["reason"] for item in plane.get("events", "-n", namespace, chosen)["items"]]

    await_(
        lambda: reason in reasons(),
        f"an Event {reason} on {namespace}/{name}, beside {reasons()}",
        PATIENCE_SECONDS,
        every_seconds=0.2,
    )


def await_published(plane: ControlPlane, namespace: str, service: str, *ports: int) -> None:
    """Until that Service has just these ports."""

    def look() -> set[int]:
        spec = plane.get("service", service, "-n", namespace)["spec"]
        return {entry["port"] for entry in spec["ports"]}

    await_(
        lambda: look() == set(ports),
        f"{namespace}/{service} has {ports}, not {look()}",
        PATIENCE_SECONDS,
        every_seconds=0.5,
    )


def holder(plane: ControlPlane) -> str:
    """Who has the Lease: the name of a pod; "" for nobody."""
    leases = plane.get("leases", "-n", "haproxy-sidecar")["items"]
    assert len(leases) <= 1
    identity = leases[0]["spec"].get("holderIdentity") or "" if leases else ""
    # A pod's name has no "_"; what follows is its UID.
    return str(identity.partition("_")[0])
