"""Where the sidecar of a chaos run has its objects from: a feed of our own, or an API server that
has bad days. Both are told the world's facts; what these look like as objects is said here.
"""

import contextlib
import pickle
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import stand
from kube import GONE, GONE_EVENT, FakeAPI, Fault
from kube_objects import RefusedError
from shapes import KEYS
from world import DEAD, MARK_PORT, Fact, Route, Slice

from sidecar.model.change import Change
from sidecar.model.objects import Key, Object
from sidecar.model.parsing import project

#: A storm comes in gusts.
_STORM_SECONDS = 0.1

_CONDITIONS: dict[str, dict[str, bool]] = {
    "ready": {},
    "leaving": {"ready": False, "serving": True, "terminating": True},
    "unready": {"ready": False, "serving": False},
}


def manifest(fact: Fact, ips: Mapping[str, str]) -> dict[str, Any]:
    """A fact as the API has it. ``ips``: of servers; a name that has none stands for itself."""
    if isinstance(fact, Slice):
        ends = [
            {"addresses": [ips.get(name, name)], "conditions": _CONDITIONS[state]}
            for name, state in fact.ends or ()
        ]
        data = stand.slice_manifest(fact.service, ends, port=fact.port)
        data["metadata"]["name"] = f"{fact.service}-{fact.part}"
    elif isinstance(fact, Route):
        (first, weight), *also = fact.targets
        data = stand.route_manifest(
            fact.name,
            fact.port,
            first,
            weight=weight,
            also=also,
            created=f"2024-01-01T00:{fact.born // 60:02d}:{fact.born % 60:02d}Z",
            router_name=stand.ROUTER if fact.ours else "another",
        )
        data["metadata"]["uid"] = fact.uid
    else:
        data = stand.service_manifest(fact.name)
    return data


def mark_manifests(number: int, ip: str) -> Sequence[dict[str, Any]]:
    """A Route, a Service and an EndpointSlice, of which none means anything without the others:
    they lead `MARK_PORT` to ``ip:number``."""
    name = f"p{number}"
    service = stand.service_manifest("mark")
    service["spec"]["ports"][0] |= {"name": name, "targetPort": number}
    return (
        stand.slice_manifest("mark", [ip], port=number, port_name=name),
        service,
        stand.route_manifest("mark", MARK_PORT, target_port=name),
    )


class Origin(ABC):
    """``settings``: of the sidecar's section ``source``. ``arguments``: of `fed`, beside.
    ``in_order``: what is published together is seen together, and all else one after the other."""

    settings: Mapping[str, Any]
    arguments: Sequence[str]
    in_order: bool

    def __init__(self, ips: Mapping[str, str]) -> None:
        self._ips = ips

    def publish(self, facts: Sequence[Fact]) -> None:
        self._put([(manifest(fact, self._ips), fact.exists) for fact in facts])

    def mark(self, number: int) -> None:
        """What HAProxy shows when it shows all that was published before; see `mark_manifests`."""
        self._put([(data, True) for data in mark_manifests(number, self._ips[DEAD])])

    @abstractmethod
    def _put(self, objects: Sequence[tuple[dict[str, Any], bool]]) -> None:
        """Objects as they are now, and whether they exist."""

    def storm(self, kind: str) -> None:  # noqa: B027  it befalls an API server only
        """One of `world.STORMS`."""

    def calm(self) -> None:  # noqa: B027
        """All is well again."""

    def unfollowed(self) -> str:
        """What the sidecar does not follow just now; "" if all is."""
        return ""

    @abstractmethod
    def close(self) -> None: ...


class Feed(Origin):
    """Pickled changes on a unix socket: each sidecar that connects is told everything first."""

    in_order = True

    def __init__(self, folder: Path, ips: Mapping[str, str]) -> None:
        super().__init__(ips)
        self._objects: dict[Key, Object] = {}
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = str(folder / "feed.sock")
        self._listener.bind(path)
        self._listener.listen()
        self.settings: Mapping[str, Any] = {}
        self.arguments: Sequence[str] = (path,)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _put(self, objects: Sequence[tuple[dict[str, Any], bool]]) -> None:
        changes = []
        for data, exists in objects:
            item = project(data, KEYS)
            changes.append(Change(item.key, item if exists else None))
        with self._lock:
            for key, new in changes:
                if new is None:
                    self._objects.pop(key, None)
                else:
                    self._objects[key] = new
            self._connections = [one for one in self._connections if _sent(one, changes)]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for one in self._connections:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if _sent(connection, [Change(*item) for item in self._objects.items()]):
                    self._connections.append(connection)


def _sent(connection: socket.socket, changes: Sequence[Change]) -> bool:
    """Whether there is still somebody who may take it."""
    try:
        connection.sendall(pickle.dumps(changes))
    except OSError:
        connection.close()
        return False
    return True


class Cluster(Origin):
    """A fake API server, followed by the sidecar's own source, which has a watch for each kind of
    object."""

    in_order = False

    def __init__(self, folder: Path, ips: Mapping[str, str]) -> None:
        super().__init__(ips)
        self._api = FakeAPI()
        self._away = False
        self._storm: threading.Thread | None = None
        self._calm = threading.Event()
        self._api.start()
        kubeconfig = self._api.kubeconfig(folder / "kubeconfig")
        self.settings: Mapping[str, Any] = {"kind": "kubernetes", "kubeconfig": str(kubeconfig)}
        self.arguments: Sequence[str] = ()

    def _put(self, objects: Sequence[tuple[dict[str, Any], bool]]) -> None:
        for data, exists in objects:
            with contextlib.suppress(RefusedError):  # it is not there
                uid = data["metadata"].get("uid")
                if not exists or (uid and uid != self._api.get(data)["metadata"]["uid"]):
                    self._api.delete(data)
            if exists:
                self._api.apply(data)

    def storm(self, kind: str) -> None:
        """From now on, until it is calm again or another storm comes."""
        self.calm()
        self._calm.clear()
        self._storm = threading.Thread(target=self._rage, args=(kind,), daemon=True)
        self._storm.start()

    def calm(self) -> None:
        self._calm.set()
        if self._storm is not None:
            self._storm.join()
        if self._away:
            self._api.start()
            self._away = False
        self._api.mend()

    def unfollowed(self) -> str:
        plurals = ("routes", "services", "endpointslices")
        return ", ".join(plural for plural in plurals if not self._api.watching(plural))

    def close(self) -> None:
        self.calm()
        self._api.stop()

    def _rage(self, kind: str) -> None:
        while True:
            self._befall(kind)
            if self._calm.wait(_STORM_SECONDS):
                return

    def _befall(self, kind: str) -> None:
        match kind:
            case "410" | "410 event":
                self._api.gone_in_stream = kind == "410 event"
                self._api.compact()
                gone = GONE_EVENT if self._api.gone_in_stream else GONE
                self._api.fault(gone, verb="watch", times=3)
                self._api.end_watches(how="break")
            case "break" | "end":
                self._api.end_watches(how="break" if kind == "break" else "eof")
            case "500" | "drop":
                self._api.fault(Fault(drop=True) if kind == "drop" else Fault(status=500), times=6)
                self._api.end_watches()
            case "slow list":
                self._api.fault(Fault(slow_seconds=0.005), verb="list", times=3)
                self._api.fault(GONE, verb="watch", times=3)
                self._api.end_watches()
            case _ if not self._away:
                self._api.stop()
                self._away = True
