"""The Secrets that Routes of a cluster refer to, each asked for by its name, never all of them.

Owns which are followed, and that a Route is handed over once it is known what its Secret holds:
before, it would seem to have none, and be refused. Must not judge what is in a Secret, nor know how
one is followed (`sidecar.sources.kubernetes.reflector`).

A Secret that the API server refuses costs only the Routes that refer to it. One that cannot be read
for other reasons is waited for, but not for long: the other Routes wait with it at the start.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from sidecar.common.errors import ApiError, APIServerError
from sidecar.kube.client import KubeClient
from sidecar.model.change import Change, Problem, Sink
from sidecar.model.objects import Key, Object, Refers, Route, Secret
from sidecar.model.parsing import API_VERSIONS, AnnotationKeys, identify, project
from sidecar.sources.kubernetes.collection import Collection, Resource
from sidecar.sources.kubernetes.reflector import FORBIDDEN, Patience, Reflector, Tally

ORIGIN = "secrets"

#: Most Secrets that are followed: each takes a thread and a connection, here and at the server.
SECRETS_MAX = 500

#: So long a Route waits for its Secret.
WAIT_SECONDS = 10.0

#: After a refusal a Secret is asked for again so many times later than after any other failure:
#: somebody has to grant it, and there may be hundreds.
_REFUSED_FACTOR = 40.0


class Follower(Protocol):
    """Follows one Secret. It tells who made it, from a thread of its own."""

    def start(self) -> None: ...
    def load(self) -> None:
        """Tell once, in this thread."""

    def end(self) -> None:
        """Tell nothing more; does not wait."""


#: What a follower tells: the Secret (None: there is none), and all that is wrong.
Tell = Callable[[Secret | None, Sequence[Problem]], None]

#: Makes a follower: of which Secret, and whom to tell what it holds, or (the latter) that it cannot
#: be read so far.
MakeFollower = Callable[[Key, Tell, Tell], Follower]


class NamedSecret:
    """A `Follower` on ``client``: a list and a watch of the one name."""

    def __init__(
        self,
        client: KubeClient,
        keys: AnnotationKeys,
        patience: Patience,
        tally: Tally,
        key: Key,
        tell: Tell,
        tell_unread: Tell,
    ) -> None:
        self._key = key
        self._tell, self._tell_unread = tell, tell_unread
        self._secret: Secret | None = None
        self._stop = threading.Event()
        by_name = f"metadata.name={key.name}"
        kind = key.kind
        self._resource = Resource(
            API_VERSIONS[kind], kind, "secrets", key.namespace, fields=by_name
        )
        self._reflector = Reflector(
            client,
            Collection(self._resource, partial(_only, key, keys)),
            self._publish,
            replace(patience, refused_seconds=patience.retry_seconds * _REFUSED_FACTOR),
            tally,
            self._failed,
        )
        self._thread = threading.Thread(
            target=self._reflector.run, args=(self._stop,), name=f"source {key}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def load(self) -> None:
        try:
            self._reflector.load()
        except APIServerError as exc:
            self._failed(exc)

    def end(self) -> None:
        self._stop.set()
        self._reflector.close()

    def _publish(self, changes: list[Change], problems: list[Problem]) -> None:
        for change in changes:
            self._secret = change.object if isinstance(change.object, Secret) else None
        secret = self._secret
        own = [problem for problem in problems if problem.key == self._key]
        if secret is None and own:
            told = ": ".join(filter(None, (own[0].field, own[0].message)))
            secret = self._without(f"cannot be used: {told}")
        self._tell(secret, problems)

    def _failed(self, error: APIServerError) -> None:
        """Before anything is known of it."""
        refused = isinstance(error, ApiError) and error.status == FORBIDDEN
        problem = f"cannot be read: {error}"
        if isinstance(error, ApiError) and refused:
            # What would help comes first: a Route's status has no room for long messages.
            told = f"{self._resource.rule} ({error.message})"
            problem = f"may not be read by this router; {told}"
        path = f"{self._resource.path}/{self._key.name}"
        said = (Problem(path, self._key, "", f"{problem}; its Routes are not served"),)
        tell = self._tell if refused else self._tell_unread
        tell(self._without(problem, unread=not refused), said)

    def _without(self, problem: str, *, unread: bool = False) -> Secret:
        key = self._key
        return Secret(key.namespace, key.name, problem=problem, unread=unread)


class SecretGate:
    """A `Sink` in front of ``sink``: Routes that refer to a Secret, by ``refers``, come out of it
    behind that. Several threads publish here."""

    def __init__(
        self,
        sink: Sink,
        refers: Refers,
        make: MakeFollower,
        *,
        most: int = SECRETS_MAX,
        wait_seconds: float = WAIT_SECONDS,
        reads_once: bool = False,
    ) -> None:
        """``reads_once``: nothing happens before `load`."""
        self._sink, self._refers, self._make = sink, refers, make
        self._reads_once = reads_once
        self._most, self._wait_seconds = most, wait_seconds
        # Held while publishing: the sink must get changes in the order in which they came.
        self._lock = threading.RLock()
        self._secret_of: dict[Key, Key] = {}
        # Secret -> the Routes that refer to it; the first ones are followed
        self._users: dict[Key, set[Key]] = {}
        self._followers: dict[Key, Follower] = {}
        self._too_many: set[Key] = set()
        # Secret that nothing is known of yet -> when that is over, and what is said then
        self._awaited: dict[Key, tuple[float, Secret]] = {}
        self._problems: dict[Key, tuple[Problem, ...]] = {}
        # origin -> what of it was not handed over yet; its problems; those that were, once
        self._waiting: dict[str, dict[Key, Change]] = {}
        self._others: dict[str, Sequence[Problem]] = {}
        self._synced: set[str] = set()
        self._timer: threading.Timer | None = None

    def publish(self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
        with self._lock:
            others = {
                key: self._refers(new) if isinstance(new, Route) else None
                for key, new in changes
                if key.kind == "Route"
            }
            others = {key: of for key, of in others.items() if of != self._secret_of.get(key)}
            for key, secret in others.items():
                self._refer(key, secret)
            if others:
                self._adjust()
            self._others[origin] = problems
            # What waits is out of date, wherever it came from: a Namespace may come between.
            outdated = [found for found in self._waiting.values() if found]
            for change in changes:
                for found in outdated:
                    found.pop(change.key, None)
            self._waiting.setdefault(origin, {}).update((change.key, change) for change in changes)
            self._hand_over(origin, always=True)
            self._hand_over_all()

    def load(self) -> None:
        """Read each Secret once, and hand over all that waits."""
        with self._lock:
            for follower in list(self._followers.values()):
                follower.load()
            self._give_up(everything=True)

    def close(self) -> None:
        """Follow none any more."""
        with self._lock:
            for follower in self._followers.values():
                follower.end()
            if self._timer:
                self._timer.cancel()

    def _start(self, key: Key) -> None:
        follower = self._make(key, partial(self._told, key), partial(self._unread, key))
        self._followers[key] = follower
        unread = Secret(key.namespace, key.name, problem="has not been read yet", unread=True)
        self._awaited[key] = time.monotonic() + self._wait_seconds, unread
        if not self._reads_once:
            follower.start()

    def _refer(self, route: Key, secret: Key | None) -> None:
        before = self._secret_of.pop(route, None)
        if before:
            self._users[before].discard(route)
            if not self._users[before]:
                del self._users[before]
        if secret:
            self._secret_of[route] = secret
            self._users.setdefault(secret, set()).add(route)

    def _adjust(self) -> None:
        """Follow what is referred to, and forget what is not any more."""
        gone = [key for key in (*self._followers, *self._too_many) if key not in self._users]
        for key in gone:
            if follower := self._followers.pop(key, None):
                follower.end()
            self._too_many.discard(key)
            self._awaited.pop(key, None)
            self._problems.pop(key, None)
        if gone:
            self._publish_secrets([Change(key, None) for key in gone])
        too_many = {}
        for key in [key for key in self._users if key not in self._followers]:
            if len(self._followers) < self._most:
                self._too_many.discard(key)
                self._start(key)
            elif key not in self._too_many:
                problem = (
                    f"is not read: this router reads {self._most} at most; let Routes share them,"
                    " or use spec.tls.certificate and spec.tls.key"
                )
                too_many[key] = Secret(key.namespace, key.name, problem=problem)
        if too_many:
            self._too_many |= too_many.keys()
            self._publish_secrets([Change(key, secret) for key, secret in too_many.items()])
        self._set_timer()

    def _told(self, key: Key, secret: Secret | None, problems: Sequence[Problem]) -> None:
        """By a follower."""
        with self._lock:
            if key not in self._followers:
                return
            self._awaited.pop(key, None)
            self._problems[key] = tuple(problems)
            self._publish_secrets([Change(key, secret)])
            self._hand_over_all()

    def _unread(self, key: Key, secret: Secret | None, problems: Sequence[Problem]) -> None:
        """By a follower."""
        with self._lock:
            if key not in self._followers or secret is None:
                return
            if awaited := self._awaited.get(key):
                self._awaited[key] = awaited[0], secret
                self._problems[key] = tuple(problems)
                self._publish_secrets([])
            else:
                self._told(key, secret, problems)

    def _publish_secrets(self, changes: list[Change]) -> None:
        problems = [problem for found in self._problems.values() for problem in found]
        self._sink.publish(ORIGIN, changes, problems)

    def _hand_over_all(self) -> None:
        for origin in self._waiting:
            self._hand_over(origin)

    def _hand_over(self, origin: str, *, always: bool = False) -> None:
        """What waits for no Secret; ``always``: be it nothing. The first time, all or nothing: a
        part would be taken for the whole."""
        waiting = self._waiting[origin]
        if origin not in self._synced and any(map(self._waits, waiting)):
            return
        passed = [change for key, change in waiting.items() if not self._waits(key)]
        if passed or always or origin not in self._synced:
            self._synced.add(origin)
            self._waiting[origin] = {
                key: change for key, change in waiting.items() if self._waits(key)
            }
            self._sink.publish(origin, passed, self._others[origin])

    def _waits(self, key: Key) -> bool:
        """Whether it is a Route, or the status of one, whose Secret nothing is known of yet."""
        if not self._awaited or key.kind not in ("Route", "RouteStatus"):
            return False
        return self._secret_of.get(key._replace(kind="Route")) in self._awaited

    def _set_timer(self) -> None:
        if self._awaited and self._timer is None and not self._reads_once:
            first = min(until for until, _ in self._awaited.values())
            self._timer = threading.Timer(max(0.0, first - time.monotonic()), self._time_is_over)
            self._timer.daemon = True
            self._timer.start()

    def _time_is_over(self) -> None:
        with self._lock:
            self._timer = None
            self._give_up()
            self._set_timer()

    def _give_up(self, *, everything: bool = False) -> None:
        """Wait no longer for what has had its time."""
        now = time.monotonic()
        for key, (until, secret) in list(self._awaited.items()):
            if everything or until <= now:
                self._told(key, secret, self._problems.get(key, ()))


def _only(wanted: Key, keys: AnnotationKeys, data: Mapping[str, Any]) -> tuple[Object, ...]:
    """Nothing of another one, whatever a server sends."""
    return (project(data, keys),) if identify(data) == wanted else ()
