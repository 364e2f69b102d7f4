"""The fixtures of these tests: one control plane for all, with the router and the demo applied, and
what a test needs of its own in it.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plane import ControlPlane
from pod import ACCOUNT, NAMESPACE, Deployed, Pod
from stand import EchoServer, await_

#: The fixtures `make_pod` and `serve`.
MakePod = Callable[..., Pod]
Serve = Callable[..., EchoServer]

#: Of the network that `tests/cluster/run` makes. The API server itself has the first.
_outside = itertools.count(2)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    control_plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    try:
        control_plane.start()
        control_plane.apply(*control_plane.overlay("kubernetes"))
        control_plane.kubectl(
            "wait", "--for=condition=Established", "crd/routes.route.openshift.io", "--timeout=60s"
        )
        control_plane.apply(*control_plane.overlay("demo"))
        yield control_plane
    finally:
        control_plane.close()


def apply_router(plane: ControlPlane, *components: str) -> None:
    """Plain Kubernetes' overlay with these components, until the API server goes by its Roles."""
    plane.apply(*plane.overlay("kubernetes", *components))
    account = f"--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    wanted = "yes" if "auto-ports" in components else "no"

    def goes_by_it() -> bool:
        asked = "auth", "can-i", "patch", "routes.route.openshift.io", "-A", account
        return plane.kubectl(*asked, check=False) == wanted

    await_(goes_by_it, f"may the router patch Routes: {wanted}", 60, every_seconds=0.1)


@pytest.fixture
def auto_ports(plane: ControlPlane) -> None:
    """Routes may ask for the port `auto`."""
    apply_router(plane, "auto-ports")


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """One of the test's own; its Routes end with it."""
    name = request.node.originalname.replace("_", "-")[:60].strip("-")
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    # The rest of a namespace is a controller's to remove, which is not here.
    plane.delete_routes(name)


@pytest.fixture
def make_pod(plane: ControlPlane, tmp_path: Path) -> Iterator[MakePod]:
    """Makes pods of the router and starts them; ``make_pod(name, drain={...})`` takes the
    settings' keys."""
    pods: list[Pod] = []

    def make(name: str = "router-a", deployed: Deployed | None = None, **settings: Any) -> Pod:
        pods.append(Pod(plane, tmp_path / f"pod-{name}", name, deployed, **settings))
        return pods[-1].start()

    yield make
    for pod in pods:
        pod.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes echo servers on addresses that an API server takes for endpoints."""
    servers: list[EchoServer] = []

    def make(name: str, port: int = 9000) -> EchoServer:
        number = next(_outside)
        servers.append(EchoServer(name, f"198.18.{number // 250}.{1 + number % 250}", port))
        return servers[-1]

    yield make
    for server in servers:
        server.close()
