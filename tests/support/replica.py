"""A replica of the router as far as the API server knows it, and what it reads there."""

import threading
from collections.abc import Mapping
from typing import Any, Self

from kube import FakeAPI
from stand import ROUTER, route, route_manifest

from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.kube.leader import Leader
from sidecar.model.change import Change
from sidecar.model.objects import Key
from sidecar.model.parsing import project_status
from sidecar.model.verdicts import Reason, Verdict
from sidecar.reporting.cluster.writer import Wishes, Writer
from sidecar.reporting.outcome import Outcome

KEPT_PORT = "haproxy.router.openshift.io/kept-port"
ROUTES = ("/apis/route.openshift.io/v1", "routes")
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "router", "namespace": "ingress"},
}


def open_on(name: str = "web", port: int = 30000, **more: Any) -> Mapping[Key, Outcome | None]:
    key = Key("Route", "demo", name)
    verdict = Verdict(key, port, Reason.ADMITTED, "")
    return {key: Outcome(verdict, port, verified=True, open=True, subject=f"port {port}", **more)}


def refused(
    name: str = "web", message: str = "'x' is not a valid port"
) -> Mapping[Key, Outcome | None]:
    key = Key("Route", "demo", name)
    return {key: Outcome(Verdict(key, None, Reason.INVALID_PORT, message))}


class Replica:
    """A writer with a Lease, and what a watch would bring it: ``sees`` lets it through."""

    def __init__(self, api: FakeAPI, client: KubeClient, name: str, **wishes: Any) -> None:
        self.api = api
        self.metrics = Metrics()
        self.leader = Leader(client, "ingress", "router", name, self.metrics)
        self.writer = Writer(client, self.leader, Wishes(ROUTER, KEPT_PORT, **wishes), self.metrics)
        self.sees = threading.Event()
        self.sees.set()
        self._known: dict[Key, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._mirror, daemon=True)

    def tell(
        self,
        outcomes: Mapping[Key, Outcome | None],
        proposed: Mapping[Key, int] | None = None,
    ) -> None:
        self.writer.tell([], outcomes, proposed or {})

    def result(self, kind: str, result: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "haproxy_sidecar_api_writes_total", {"kind": kind, "result": result}
        )
        return value or 0.0

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        self.writer.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.writer.__exit__(*exc_info)
        self._stop.set()
        self._thread.join(10)

    def look(self) -> None:
        """Tell the writer what is new in the cluster."""
        found = {}
        for data in self.api.all(*ROUTES):
            status = project_status(data)
            found[status.key] = status
        changes: list[Change] = []
        for key, status in found.items():
            if self._known.get(key) != status.resource_version:
                self._known[key] = status.resource_version
                data = self.api.get(route_manifest(key.name, namespace=key.namespace))
                kept = data["metadata"]["annotations"].get(KEPT_PORT)
                changes.append(Change(key, status))
                changes.append(
                    Change(Key("Route", key.namespace, key.name), route(key.name, kept_port=kept))
                )
        for key in self._known.keys() - found.keys():
            del self._known[key]
            changes.append(Change(key, None))
        if changes:
            self.writer.tell(changes, {}, {})

    def _mirror(self) -> None:
        while not self._stop.wait(0.02):
            if self.sees.is_set():
                self.look()


def ingress(api: FakeAPI, name: str = "web") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(route_manifest(name)).get("status", {}).get("ingress", [])
    return found


def says(api: FakeAPI, name: str = "web", of: str = ROUTER) -> tuple[str, str, str] | None:
    """Status, reason and message of a router's entry."""
    for entry in ingress(api, name):
        if entry["routerName"] == of:
            condition = entry["conditions"][0]
            return condition["status"], condition["reason"], condition["message"]
    return None


def events(api: FakeAPI) -> list[str]:
    return sorted(item["reason"] for item in api.all("/api/v1", "events"))


def status_writes(api: FakeAPI) -> int:
    return sum(request.path.endswith("/status") for request in api.asked("patch", "routes"))


ADMITTED = ("True", "Admitted", "port 30000")


def foreign(of: str = "other", message: str = "") -> dict[str, Any]:
    return {
        "host": "",
        "routerName": of,
        "conditions": [
            {"type": "Admitted", "status": "False", "reason": "Theirs", "message": message}
        ],
        "theirs": {"kept": [1, None]},
    }


def with_status(name: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {**route_manifest(name), "status": {"ingress": list(entries)}}
