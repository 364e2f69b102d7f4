"""The fixtures of these tests: one control plane for all, with the router and the demo applied, and
what a test needs of its own in it.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plane import ControlPlane
from pod import Pod
from stand import EchoServer

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
        control_plane.apply(*control_plane.overlay("kubernetes", "auto-ports"))
        control_plane.kubectl(
            "wait", "--for=condition=Established", "crd/routes.route.openshift.io", "--timeout=60s"
        )
        control_plane.apply(*control_plane.overlay("demo"))
        yield control_plane
    finally:
        control_plane.close()


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

    def make(name: str = "router-a", **settings: Any) -> Pod:
        pods.append(Pod(plane, tmp_path / name, name, **settings))
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
