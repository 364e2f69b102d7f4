"""What the benches of a cluster keep in its API server: applications with Routes, by number."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from plane import ControlPlane

from sidecar.kube.client import KubeClient

NAMESPACE = "bench"

_WRITERS = 8

_PATHS = {
    "Route": f"/apis/route.openshift.io/v1/namespaces/{NAMESPACE}/routes",
    "Ingress": f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses",
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "EndpointSlice": f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices",
}

#: Where `replace` writes.
SLICES = _PATHS["EndpointSlice"]

#: Of a number and the IPs of its endpoints: the objects, in the order in which they are created.
Manifests = Callable[[int, Sequence[str]], Sequence[Mapping[str, Any]]]

#: Of a number and how often one of its endpoints was replaced: the IPs of its endpoints.
Addresses = Callable[[int, int], Sequence[str]]


def name_of(number: int) -> str:
    """Of an application, its Route and its Service."""
    return f"web-{number}"


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """One that knows Routes, and that lets a router of the shipped manifests in. What was started
    ends with a SIGTERM, too. Raises SystemExit where there is nothing to start it from."""
    if "CLUSTER_BINARIES" not in os.environ:
        raise SystemExit("no API server: run this by tests/cluster/within, or make bench-cluster")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.closing(ControlPlane(folder)) as plane:
        plane.start()
        plane.apply(*plane.overlay("kubernetes"))
        established = "--for=condition=Established"
        plane.kubectl("wait", established, "crd/routes.route.openshift.io", "--timeout=60s")
        yield plane


class Applications:
    """``first``: the number of the first one."""

    def __init__(
        self, plane: ControlPlane, manifests: Manifests, addresses: Addresses, first: int = 0
    ) -> None:
        self.client = KubeClient.from_environment(plane.folder / "admin.kubeconfig")
        #: number -> how often one of its endpoints was replaced.
        self.generations: dict[int, int] = {}
        self._manifests, self._addresses, self._first = manifests, addresses, first
        body = {"metadata": {"name": NAMESPACE}}
        self.client.request("POST", "/api/v1/namespaces", body=body)

    def grow(self, count: int) -> None:
        """Until there are ``count``."""
        numbers = range(self._first + len(self.generations), self._first + count)
        with ThreadPoolExecutor(_WRITERS) as writers:
            list(writers.map(self._create, numbers))
        self.generations |= dict.fromkeys(numbers, 0)

    def shrink(self, count: int) -> None:
        """Until there are only ``count``."""
        for number in range(self._first + count, self._first + len(self.generations)):
            for body in self._manifests(number, ()):
                path = f"{_PATHS[body['kind']]}/{body['metadata']['name']}"
                self.client.request("DELETE", path)
            del self.generations[number]

    def replace(self, number: int) -> tuple[Sequence[str], str]:
        """Replace one endpoint; all that there are now, and the version that the slice is."""
        ips = self.next_ips(number)
        self.generations[number] += 1
        answer = self.client.request(
            "PATCH",
            f"{SLICES}/{name_of(number)}-1",
            body={"endpoints": [{"addresses": [ip]} for ip in ips]},
            content_type="application/merge-patch+json",
        )
        return ips, answer["metadata"]["resourceVersion"]

    def next_ips(self, number: int) -> Sequence[str]:
        """What its endpoints will be once one is replaced."""
        return self._addresses(number, self.generations[number] + 1)

    def _create(self, number: int) -> None:
        for body in self._manifests(number, self._addresses(number, 0)):
            self.client.request("POST", _PATHS[body["kind"]], body=body)
