"""A cluster's source at work: a fake API server, and what a source makes of it."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from kube import FakeAPI
from kubernetes.client import Configuration
from shapes import KEYS
from stand import await_

from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.model.change import Change, Problem
from sidecar.model.objects import Key, Object, Refers, Route
from sidecar.sources.kubernetes.reflector import Patience
from sidecar.sources.kubernetes.source import KubernetesSource, Scope

#: Enough for some rounds of backoff on a busy machine.
PATIENCE_SECONDS = 40.0


class Recorder:
    """A `Sink` that applies what it is told. ``objects``: as they are now."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.problems: dict[str, Sequence[Problem]] = {}
        self.changes = 0
        self.removed: list[Key] = []
        self._lock = threading.Lock()

    def publish(self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
        with self._lock:
            for key, new in changes:
                if new is None:
                    self.removed.append(key)
                    self.objects.pop(key, None)
                else:
                    self.objects[key] = new
            self.changes += len(changes)
            self.problems = {**self.problems, origin: list(problems)}

    def names(self, kind: str) -> set[str]:
        with self._lock:
            return {key.name for key in self.objects if key.kind == kind}

    def route(self, name: str) -> Route | None:
        found = self.objects.get(Key("Route", "demo", name))
        return found if isinstance(found, Route) else None

    def told(self, origin: str) -> str:
        return "\n".join(str(problem) for problem in self.problems.get(origin, ()))


class World:
    """A fake API server and what a source makes of it. ``retry_seconds``: see `Patience`;
    ``refers``: see `KubernetesSource`."""

    def __init__(
        self, api: FakeAPI, retry_seconds: float = 0.02, refers: Refers | None = None
    ) -> None:
        self._refers = refers
        self.api = api
        self._retry_seconds = retry_seconds
        self.sink = Recorder()
        self.metrics = Metrics()
        self._files = contextlib.ExitStack()

    def source(self, silence_seconds: float = 30.0, **scope: Any) -> KubernetesSource:
        client = KubeClient(Configuration(host=self.api.host))
        self._files.callback(client.close)
        patience = Patience(silence_seconds, self._retry_seconds)
        scopes = Scope(**scope)
        return KubernetesSource(client, KEYS, scopes, patience, self.metrics, self._refers)

    def counted(self, name: str, resource: str = "routes") -> float:
        """A metric's value now."""
        return self.metrics.registry.get_sample_value(name, {"resource": resource}) or 0.0

    def start(self, silence_seconds: float = 30.0, **scope: Any) -> "World":
        """Follow, in a thread, until the test ends."""
        source = self.source(silence_seconds, **scope)
        stop = threading.Event()
        thread = threading.Thread(target=source.run, args=(self.sink, stop), daemon=True)
        thread.start()
        self._files.callback(thread.join, 10)
        self._files.callback(stop.set)
        return self

    def synced(self, *origins: str) -> "World":
        """Started, and all collections are known and watched."""
        wanted = set(origins or ("routes", "services", "endpointslices"))
        await_(lambda: wanted <= set(self.sink.problems), "synced", PATIENCE_SECONDS)
        await_(lambda: self.api.watching() >= len(wanted), "watching", PATIENCE_SECONDS)
        return self

    def await_names(self, *names: str, kind: str = "Route") -> None:
        await_(lambda: self.sink.names(kind) == set(names), f"{kind} {names}", PATIENCE_SECONDS)

    def await_port(self, port: int, name: str = "web") -> None:
        def has_it() -> bool:
            route = self.sink.route(name)
            return route is not None and route.port == str(port)

        await_(has_it, f"{name} wants {port}", PATIENCE_SECONDS)

    def await_told(self, text: str) -> None:
        """A problem with Routes."""
        await_(lambda: text in self.sink.told("routes"), text, PATIENCE_SECONDS)

    def close(self) -> None:
        self._files.close()
