"""The fixtures of these tests: one node with two replicas of the router as shipped, an application
of two pods behind ten Routes, and clients.
"""

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from node import PATIENCE_SECONDS, Node, is_ready
from stand import Client, await_, route_manifest

NAMESPACE = ROUTER = "haproxy-sidecar"
APPLICATION = "shop"

#: Each has a Route.
PORTS = range(30000, 30010)

#: Of HAProxy; a port has a tenth of it. As shipped it is 20,000, which takes the clients too long.
MAXCONN = 400

_IMAGES = {"haproxy": "localhost/haproxy:trixie", "haproxy-sidecar": os.environ["KUBELET_IMAGE"]}

#: What an application's pod runs: says the pod's name, then echoes.
_SERVER = """
import socket, socketserver, time

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(socket.gethostname().encode() + b"\\n")
        while data := self.request.recv(4096):
            self.request.sendall(data)

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1024

Server(("", 9000), Handler).serve_forever()
"""


class Router:
    """The router on ``node``."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.kubectl = node.plane.kubectl

    def pods(self) -> list[dict[str, Any]]:
        """Those that are not being deleted."""
        return self._pods(ROUTER)

    def count(self) -> int:
        """Of its pods, those that are being deleted, too."""
        return len(self.node.plane.get("pods", "-n", NAMESPACE)["items"])

    def named(self, name: str) -> dict[str, Any]:
        return next(pod for pod in self.pods() if pod["metadata"]["name"] == name)

    def is_ready(self, name: str) -> bool:
        return is_ready(self.named(name))

    def restarts(self, name: str) -> dict[str, int]:
        """container -> how often it was started anew."""
        status = self.named(name)["status"]
        found = [*status["containerStatuses"], *status["initContainerStatuses"]]
        return {item["name"]: item["restartCount"] for item in found}

    def addresses(self) -> list[str]:
        """Where a load balancer sends clients: to the pods that the Service has as ready."""
        label = f"kubernetes.io/service-name={ROUTER}"
        slices = self.node.plane.get("endpointslices", "-n", NAMESPACE, "-l", label)["items"]
        return [
            address
            for item in slices
            for endpoint in item["endpoints"] or ()
            if endpoint["conditions"]["ready"]
            for address in endpoint["addresses"]
        ]

    def await_ready(self, replicas: int = 2) -> list[str]:
        """The names of the pods, once all are ready and no others are there."""

        def ready() -> list[str]:
            found = self.pods()
            whole = len(found) == replicas and all(map(is_ready, found))
            return [pod["metadata"]["name"] for pod in found] if whole else []

        try:
            names: list[str] = await_(
                ready, "the router is ready", PATIENCE_SECONDS, every_seconds=0.5
            )
        except AssertionError as exc:
            said = [
                self.kubectl("get", "pods", "-A", "-o", "wide"),
                self.kubectl("get", "events", "-A"),
                *(
                    self.kubectl(
                        *("logs", "-n", NAMESPACE, pod["metadata"]["name"], "-c", name), check=False
                    )
                    for pod in self.pods()
                    for name in ("render", "sidecar", "haproxy")
                ),
            ]
            raise AssertionError("\n".join([str(exc), *said])) from None
        return names

    def application(self) -> set[str]:
        """The names of its pods."""
        return {pod["metadata"]["name"] for pod in self._pods(APPLICATION)}

    def _pods(self, namespace: str) -> list[dict[str, Any]]:
        items = self.node.plane.get("pods", "-n", namespace)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


class Load:
    """Clients, ``rate`` connections a second, each to one of those pods that are ready, as a load
    balancer finds out twice a second. Counts what became of them until it is left."""

    def __init__(self, router: Router, rate: float = 100.0) -> None:
        self.served: Counter[str] = Counter()
        self.failed: list[str] = []
        self._router, self._rate = router, rate
        self._addresses: Sequence[str] = router.addresses()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._balance, self._connect)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        return self.served.total() + len(self.failed)

    def _balance(self) -> None:
        while not self._stop.wait(0.5):
            self._addresses = self._router.addresses() or self._addresses

    def _connect(self) -> None:
        began = time.monotonic()
        for number in itertools.count():
            if self._stop.wait(max(0.0, began + number / self._rate - time.monotonic())):
                return
            address = self._addresses[number % len(self._addresses)]
            try:
                client = Client((address, PORTS[number % len(PORTS)]))
                client.echo()
                client.close()
            except OSError as exc:
                self.failed.append(f"{time.monotonic() - began:.1f} s: {address}: {exc!r}")
            else:
                self.served[client.server] += 1


def greeting(address: str, port: int = PORTS[0]) -> str:
    """The pod that answers there; "" for nobody."""
    try:
        client = Client((address, port))
    except OSError:
        return ""
    client.close()
    return client.server


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    node = Node(Path(os.environ["KUBELET_FOLDER"]) / "node")
    try:
        yield node.start()
    finally:
        node.close()


@pytest.fixture(scope="session")
def deployed(node: Node) -> Router:
    objects = node.plane.overlay("kubernetes")
    for item in objects:
        if item["kind"] == "Deployment":
            spec = item["spec"]["template"]["spec"]
            for container in (*spec["initContainers"], *spec["containers"]):
                container["image"] = _IMAGES[container["image"].partition(":")[0]]
        if item["kind"] == "ConfigMap":
            settings = yaml.safe_load(item["data"]["sidecar.yaml"])
            settings["haproxy"]["maxconn"] = MAXCONN
            item["data"]["sidecar.yaml"] = yaml.safe_dump(settings)
    router, began = Router(node), time.monotonic()
    node.plane.apply(*objects)
    node.plane.kubectl(
        "wait", "--for=condition=Established", "crd/routes.route.openshift.io", "--timeout=60s"
    )
    node.plane.apply(*_application())
    await_(
        lambda: any(greeting(address) for address in router.addresses()),
        "the first connection is served",
        PATIENCE_SECONDS,
    )
    print(f"\nfrom nothing to the first connection: {time.monotonic() - began:.1f} s")
    return router


@pytest.fixture
def router(deployed: Router) -> Router:
    """As the test before may have left it, but whole."""
    deployed.await_ready()
    await_(
        lambda: all(greeting(address) for address in deployed.addresses()),
        "all answer",
        PATIENCE_SECONDS,
        every_seconds=0.5,
    )
    return deployed


def _application() -> list[dict[str, Any]]:
    labels = {"app": APPLICATION}
    container = {
        "name": "server",
        "image": _IMAGES["haproxy-sidecar"],
        "command": ["python3", "-c", _SERVER],
        "ports": [{"containerPort": 9000}],
        "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
        # Whoever has chosen it already is still served.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 10},
    }
    deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    name = {"name": APPLICATION, "namespace": APPLICATION}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": APPLICATION}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": name, "spec": deployment},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"selector": labels, "ports": [{"name": "echo", "port": 9000}]},
        },
        *(
            route_manifest(f"{APPLICATION}-{port}", port, APPLICATION, namespace=APPLICATION)
            for port in PORTS
        ),
    ]
