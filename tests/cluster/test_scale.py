"""1,000 Routes with 10 endpoints each, on a real API server."""

import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from plane import ControlPlane
from planes import MakePod
from pod import Pod
from stand import EchoServer, app, await_, slice_manifest

from sidecar.kube.client import KubeClient

ROUTES, ENDPOINTS = 1000, 10
FIRST_PORT = 30000
WAIT_SECONDS = 300.0

#: Of the sidecar with all of this: it keeps what it uses, and not what an API server sends.
MEMORY_MAX_BYTES = 150_000_000

_COLLECTIONS = {
    "Route": "/apis/route.openshift.io/v1/namespaces/{}/routes",
    "Service": "/api/v1/namespaces/{}/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
}


def addresses(number: int, generation: int = 0) -> list[str]:
    """The endpoints of one Route, which no other has; one server, on all addresses, answers."""
    first = (generation * ROUTES + number) * ENDPOINTS
    return [f"198.19.{n // 250}.{1 + n % 250}" for n in range(first, first + ENDPOINTS)]


def ports_by_state(pod: Pod) -> dict[str, int]:
    """What the sidecar's own metrics say."""
    with urllib.request.urlopen(f"http://{pod.settings.http.listen}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    name = "haproxy_sidecar_ports{state="
    found = (line.removeprefix(name).split("} ") for line in lines if line.startswith(name))
    return {state.strip('"'): int(float(value)) for state, value in found}


def memory_bytes(pod: Pod) -> int:
    """The sidecar's resident memory."""
    with open(f"/proc/{pod.sidecar_pid}/status") as status:  # noqa: PTH123
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


@pytest.mark.timeout(900)
def test_a_thousand_routes_with_ten_endpoints_each(
    plane: ControlPlane, make_pod: MakePod, namespace: str
) -> None:
    client = KubeClient.from_environment(plane.folder / "admin.kubeconfig")

    def create(data: dict[str, Any]) -> None:
        client.request("POST", _COLLECTIONS[data["kind"]].format(namespace), body=data)

    def replace(data: dict[str, Any]) -> None:
        path = f"{_COLLECTIONS[data['kind']].format(namespace)}/{data['metadata']['name']}"
        client.request("PUT", path, body=data)

    def send(how: Callable[[dict[str, Any]], None], objects: list[dict[str, Any]]) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(how, objects))

    server = EchoServer("any", "0.0.0.0")
    try:
        send(
            create,
            [
                item
                for n in range(ROUTES)
                for item in app(
                    f"app-{n}", FIRST_PORT + n, addresses(n), namespace=namespace, created=None
                )
            ],
        )
        ports = f"{FIRST_PORT}-{FIRST_PORT + ROUTES - 1}"
        pod = make_pod(
            pools=[{"name": "large", "ports": [ports], "bind": ["0.0.0.0"], "slots": ENDPOINTS}],
            kubernetes={"writes_per_second": 200, "lease": {"name": "haproxy-sidecar"}},
        )
        pod.await_ready(WAIT_SECONDS)
        assert ports_by_state(pod) == {"open": ROUTES, "closed": 0, "failing": 0}
        for n in (0, 499, 999):
            pod.await_leads_to(FIRST_PORT + n, "any")

        def admitted() -> int:
            routes = plane.get("routes", "-n", namespace)["items"]
            conditions = [
                condition
                for route in routes
                for entry in route.get("status", {}).get("ingress", [])
                for condition in entry["conditions"]
            ]
            return sum(condition["reason"] == "Admitted" for condition in conditions)

        await_(
            lambda: admitted() == ROUTES,
            "all Routes are told",
            WAIT_SECONDS,
            every_seconds=1,
        )

        # Every hundredth deploys: all its endpoints are others.
        changed = range(0, ROUTES, 100)
        send(
            replace,
            [
                slice_manifest(f"app-{n}", addresses(n, generation=1), namespace=namespace)
                for n in changed
            ],
        )
        for n in changed:
            pod.await_servers(FIRST_PORT + n, addresses(n, generation=1), WAIT_SECONDS)
        assert memory_bytes(pod) < MEMORY_MAX_BYTES
        plane.delete_routes(namespace)
        await_(
            lambda: ports_by_state(pod)["open"] == 0,
            "all ports are closed",
            WAIT_SECONDS,
            every_seconds=0.5,
        )
    finally:
        server.close()
