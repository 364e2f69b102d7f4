"""Follows one collection of the Kubernetes API: list, watch, repeat, like client-go.

Owns when to ask, what to do when a request fails, and the version to resume from; runs in one
thread. `sidecar.sources.kubernetes.collection` decides what answers mean, and
`sidecar.sources.kubernetes` who is notified. No failure here removes an object: only a complete
list or an event does.

Three generators, one concern each: `_forever` survives, `_until_lost` lists once and keeps a watch
open, `_watch` reads one.
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sidecar.common.backoff import API_FIRST_SECONDS, Backoff
from sidecar.common.errors import ApiError, APIServerError, ApiUnreachableError
from sidecar.kube.client import KubeClient, LineStream
from sidecar.model.change import Change, Problem
from sidecar.sources.kubernetes.collection import Bookmark, Collection, Lost, read_event

log = logging.getLogger(__name__)

#: client-go's: some megabytes at most at a time, for us and for the server.
PAGE_LIMIT = 500

#: For one page; client-go's own limit, and what a busy API server may take.
LIST_TIMEOUT_SECONDS = 60.0

#: How long the server is asked to keep a watch (client-go's 5 to 10 minutes, at random, so that
#: not all come back at once).
WATCH_SECONDS = (300.0, 600.0)

#: A watch that ends sooner than this, with nothing told, is not resumed at once.
SHORT_WATCH_SECONDS = 1.0

#: After a watch that lived for so long all is well: the next mishap counts as the first.
STEADY_SECONDS = 5.0

#: A server that forgot to tell an event is found out by a list, at the latest after this long.
RELIST_SECONDS = 3600.0

#: HTTP's word for "that version is too long ago".
GONE = 410

#: HTTP's word for "you may not".
FORBIDDEN = 403

#: No list has more; a server that never ends one shall not keep us for ever.
PAGES_MAX = 10_000

#: Of a publication: what changed, and all that is wrong now.
Publish = Callable[[list[Change], list[Problem]], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """``silence_seconds``: after so long without a byte nobody is there. A server sends a bookmark
    about once a minute; one that knows none is asked a little more often than it needs.
    ``retry_seconds``: before the first retry, then doubling (`Backoff`). client-go goes up to 30 s,
    and more: it follows for controllers whose work can wait. ``refused_seconds``: at least so long,
    and up to as much again, after a 403, where many may be refused.
    """

    silence_seconds: float = 150.0
    retry_seconds: float = API_FIRST_SECONDS
    refused_seconds: float = 0.0


class _LostError(Exception):
    """The watch cannot go on from where it was."""


class Tally(Protocol):
    """Counts, by the resource's origin, what reflectors do: complete lists, watches that began, and
    lines of those (events and bookmarks)."""

    def listed(self, origin: str) -> None: ...
    def watched(self, origin: str) -> None: ...
    def heard(self, origin: str) -> None: ...


class Uncounted:
    """Where nobody counts."""

    def listed(self, origin: str) -> None: ...
    def watched(self, origin: str) -> None: ...
    def heard(self, origin: str) -> None: ...


class _PagesExpiredError(Exception):
    """The next page of a list cannot be had any more."""


class Reflector:
    """Follows ``collection`` on ``client``. The first call of ``publish`` holds all objects; none
    comes before.
    """

    def __init__(
        self,
        client: KubeClient,
        collection: Collection,
        publish: Publish,
        patience: Patience,
        tally: Tally,
        failed: Callable[[APIServerError], None] | None = None,
    ) -> None:
        """``failed``: told, instead of the log, why nothing could be published yet."""
        self.collection = collection
        self._failed = failed
        #: The watch that is being read.
        self._stream: LineStream | None = None
        self._tally = tally
        self._client = client
        self._publish = publish
        self._silence_seconds = patience.silence_seconds
        self._refused_seconds = patience.refused_seconds
        self._backoff = Backoff(patience.retry_seconds)
        self._synced = False
        #: What keeps us from the server, since when.
        self._trouble: Problem | None = None
        self._trouble_since = ""
        # The last version that we know all of; "" before the first list.
        self._version = ""

    def load(self) -> None:
        """List once and publish. Raises APIServerError."""
        self._publish(self._list(), self.collection.problems)

    def run(self, stop: threading.Event) -> None:
        """Publish all there is, then what changes, until ``stop`` is set; survives all errors.

        A read that blocks is ended by `close`, or by closing the client.
        """
        for changes in self._forever(stop):
            if stop.is_set():
                return
            self._synced = True
            trouble = [self._trouble] if self._trouble else []
            self._publish(changes, trouble + self.collection.problems)

    def close(self) -> None:
        """After ``stop`` of `run` was set, from any thread: end a read that blocks."""
        if stream := self._stream:
            stream.close()

    def explain(self, error: APIServerError) -> str:
        """``error``, with what a person can do about it."""
        resource = self.collection.resource
        match error:
            case ApiError(status=401 | 403):
                return f"{error}; {resource.rule}"
            case ApiError(status=404):
                return (
                    f"{error}; the cluster does not serve {resource.group}: install it (for"
                    " Routes on plain Kubernetes: apply their CustomResourceDefinition)"
                )
        return str(error)

    def _forever(self, stop: threading.Event) -> Iterator[list[Change]]:
        """List and watch again after whatever happened, without haste."""
        while not stop.is_set():
            try:
                yield from self._until_lost(stop)
            except _LostError as exc:
                log.info("%s: listing again: %s", self.collection.resource.path, exc)
                # The server is there, and a list is all that is missing: at once, unless it was
                # lost only now.
                pause = self._backoff.next_seconds()
                stop.wait(pause if self._backoff.attempts > 1 else 0.0)
            except APIServerError as exc:
                yield from self._troubled(exc, stop)
                refused = isinstance(exc, ApiError) and exc.status == FORBIDDEN
                least = self._refused_seconds * random.uniform(1, 2) if refused else 0.0  # noqa: S311
                self._rest(stop, max(least, _retry_after_seconds(exc)))
            except Exception:
                # A thread that ended would leave the router with this view for ever, unnoticed.
                log.exception("%s: cannot be watched for now", self.collection.resource.path)
                self._rest(stop)

    def _until_lost(self, stop: threading.Event) -> Iterator[list[Change]]:
        """List, then watch; resume the watch for as long as the server knows where it was."""
        changes = self._list()
        self._trouble = None
        yield changes
        relist_at = time.monotonic() + RELIST_SECONDS
        while not stop.is_set() and time.monotonic() < relist_at:
            began = time.monotonic()
            try:
                yield from self._watch(stop)
            except (ApiError, ApiUnreachableError) as exc:
                if isinstance(exc, ApiError) and exc.status == GONE:
                    raise _LostError(exc.message) from exc
                if isinstance(exc, ApiError) and exc.status < 500 and exc.status != 429:
                    raise
                yield from self._troubled(exc, stop)
                self._rest(stop, _retry_after_seconds(exc))
            else:
                if time.monotonic() - began < SHORT_WATCH_SECONDS:
                    self._rest(stop)

    def _watch(self, stop: threading.Event) -> Iterator[list[Change]]:
        """Read one watch from the last version until it ends, in whatever way. Raises
        APIServerError if it cannot begin, `_LostError` if it cannot go on from there."""
        resource = self.collection.resource
        query = {
            **resource.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(round(random.uniform(*WATCH_SECONDS))),  # noqa: S311
        }
        stream = self._client.stream(
            resource.path, query=query, read_timeout_seconds=self._silence_seconds
        )
        self._stream = stream
        with stream, self._living():
            if stop.is_set():
                return  # which `close` was too early for
            self._tally.watched(resource.origin)
            if self._trouble is not None:
                self._trouble = None
                yield []
            lines = iter(stream)
            while True:
                try:
                    line = next(lines, None)
                except ApiUnreachableError as exc:
                    log.debug("%s: resuming: %s", resource.path, exc)
                    return
                if line is None:
                    return
                self._tally.heard(resource.origin)
                match read_event(line, is_secret=resource.is_secret):
                    case Lost(problem=problem):
                        raise _LostError(problem)
                    case Bookmark(version):
                        self._version = version
                    case event:
                        news = self.collection.happened(event)
                        self._version = event.data["metadata"]["resourceVersion"]
                        if news is not None:
                            yield news

    @contextlib.contextmanager
    def _living(self) -> Iterator[None]:
        """For as long as a watch is open, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            if time.monotonic() - began >= STEADY_SECONDS:
                self._backoff.reset()

    def _list(self) -> list[Change]:
        """All there is; what that changes. Raises APIServerError."""
        # Pages are those of one moment, and the server may have forgotten it when we ask for the
        # next. Without pages nothing can be forgotten, but all comes at once.
        for limit in (PAGE_LIMIT, PAGE_LIMIT, None):
            try:
                return self._list_by(limit)
            except _PagesExpiredError:
                log.info("%s: its pages expired: listing again", self.collection.resource.path)
        raise self._no_list("its only page is one of several")

    def _list_by(self, limit: int | None) -> list[Change]:
        """The list in pages of ``limit``. Raises APIServerError, `_PagesExpiredError`."""
        resource = self.collection.resource
        paging = {} if limit is None else {"limit": str(limit)}
        self.collection.begin()
        token: dict[str, str] = {}
        for _ in range(PAGES_MAX):
            query = {**resource.query, **paging, **token}
            try:
                page = self._client.request(
                    "GET", resource.path, query=query, timeout_seconds=LIST_TIMEOUT_SECONDS
                )
            except ApiError as exc:
                if exc.status == GONE and token:
                    raise _PagesExpiredError from exc
                raise
            items, version, following = self._read_page(page)
            self.collection.page(items)
            if not following:
                self._version = version
                self._tally.listed(resource.origin)
                return self.collection.complete()
            token = {"continue": following}
        raise self._no_list("it never ends")

    def _read_page(self, page: Mapping[str, Any]) -> tuple[list[Any], str, str]:
        """Items, version, and the token of the page that follows ("" for none)."""
        items = page.get("items") or []
        match page.get("metadata"):
            case {"resourceVersion": str(version), **others} if isinstance(items, list):
                return items, version, str(others.get("continue") or "")
        raise self._no_list("it has no items, or no resourceVersion")

    def _no_list(self, problem: str) -> ApiUnreachableError:
        asked = f"GET {self.collection.resource.path}"
        return ApiUnreachableError(self._client.host, asked, f"the answer is not a list: {problem}")

    def _troubled(self, error: APIServerError, stop: threading.Event) -> Iterator[list[Change]]:
        """Say what keeps us from the server: to the sink, once it has all objects."""
        if stop.is_set():
            return
        if self._trouble is None:
            self._trouble_since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        before = self._trouble
        self._trouble = Problem(
            self.collection.resource.path,
            None,
            "",
            f"cannot be watched since {self._trouble_since}: {self.explain(error)};"
            " keeping the last known state",
        )
        if self._trouble == before:
            return
        if self._synced:
            yield []
        elif self._failed:
            self._failed(error)
        else:
            # A publication would say that all objects are known; the log is the only place.
            log.warning("waiting for %s: %s", self.collection.resource.path, self.explain(error))

    def _rest(self, stop: threading.Event, at_least_seconds: float = 0.0) -> None:
        stop.wait(max(at_least_seconds, self._backoff.next_seconds()))


def _retry_after_seconds(error: APIServerError) -> float:
    return (error.retry_after_seconds or 0.0) if isinstance(error, ApiError) else 0.0
