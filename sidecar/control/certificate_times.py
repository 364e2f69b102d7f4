"""Since when each host's certificate is served, and how that went, in numbers.

Owns the times and the metrics of certificates. Must not decide which certificate is whose, nor when
HAProxy is looked at (`sidecar.control.certificate_keeper`). For the loop's thread.
"""

from collections.abc import Callable, Collection, Mapping

from sidecar.common.metrics import Metrics


class CertificateTimes:
    """``clock``: monotonic. Certificates are known by their names."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        #: host, or ``*.domain`` -> when its certificate was first seen to be served, by this
        #: sidecar and of this HAProxy.
        self.since: dict[str, float] = {}
        self._metrics = metrics
        self._clock = clock
        # when the first change was picked up that no step has taken yet
        self._picked_up_at: float | None = None
        self._wanted: dict[str, str] = {}
        self._served: dict[str, str] = {}
        # host -> when it was picked up that it is to have another one, which is not served yet
        self._awaited: dict[str, float] = {}

    def picked_up(self) -> None:
        """What is wanted is another now."""
        if self._picked_up_at is None:
            self._picked_up_at = self._clock()

    def want(self, wanted: Mapping[str, str], patterns: Collection[str] | None = None) -> None:
        """Hosts are to have these, from this step on. ``patterns``: those of which that is new;
        None: all."""
        began = self._clock() if self._picked_up_at is None else self._picked_up_at
        self._picked_up_at = None
        for pattern in {*self._wanted, *wanted} if patterns is None else patterns:
            name = wanted.get(pattern)
            if name is None:
                self._awaited.pop(pattern, None)
                self._wanted.pop(pattern, None)
            elif self._wanted.get(pattern) != name:
                self._awaited[pattern] = began
                self._wanted[pattern] = name

    def serve(
        self,
        served: Mapping[str, str],
        loaded: Collection[str],
        patterns: Collection[str] | None = None,
        *,
        first: bool,
    ) -> None:
        """HAProxy was looked at, and serves these; of them it has ``loaded`` some only now.
        ``patterns``: see `want`. ``first``: nothing was known of it before, so the others have been
        there."""
        now = self._clock()
        if first:
            self.since.clear()
        for pattern in {*self._served, *served} if patterns is None else patterns:
            name, before = served.get(pattern), self._served.pop(pattern, None)
            if name is None:
                self.since.pop(pattern, None)
                if before and not first:
                    self._metrics.certificates_changed.inc()
                continue
            self._served[pattern] = name
            if before != name and (name in loaded or not first):
                self._metrics.certificates_changed.inc()
            if before != name or pattern not in self.since:
                self.since[pattern] = now
            if self._wanted.get(pattern) == name and pattern in self._awaited:
                began = self._awaited.pop(pattern)
                if name in loaded or not first:
                    self._metrics.certificate_served_seconds.observe(now - began)

    def tried(self, loaded: int, refused: int) -> None:
        """HAProxy was given certificates."""
        self._metrics.certificates_loaded.inc(loaded)
        self._metrics.certificates_refused.inc(refused)
