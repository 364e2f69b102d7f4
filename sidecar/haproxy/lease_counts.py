"""What HAProxy counts of a backend for Routes by host, told of the one Route that has it now.

HAProxy counts since it started, whoever had the backend, and nothing may clear its counters: others
read them, too. So somebody keeps what they were before anything of a Route was programmed
(`sidecar.control.sampler`), and what is told is the difference. Of figures that are no sums, only
what is this Route's for certain: an average once the former Route's share of it is gone, a maximum
once it is higher than the former one. Source: management.txt 9.1, "hrsp_*", "qtime" and others.
Pure.
"""

from typing import NamedTuple, Self

from sidecar.model.objects import Key

#: HAProxy's averages are moving ones: each request has a 512th of the weight, and what was before
#: keeps the rest. After so many requests, less than a thousandth is left of it.
AVERAGED = 4096

#: How far back HAProxy looks for its rates, in seconds.
_RATE_SECONDS = 2.0


class Counters(NamedTuple):
    """Sums since HAProxy started, or since an earlier instant. ``sessions``: of clients that wanted
    a server: requests, or connections of TLS passthrough, which has no ``requests`` and responses.
    ``connection_errors``: those that no server accepted. ``response_errors``: those whose response
    broke off. ``retries``, ``redispatches``: attempts that failed and were made again, on the same
    server or on another one."""

    sessions: int
    requests: int
    responses_1xx: int
    responses_2xx: int
    responses_3xx: int
    responses_4xx: int
    responses_5xx: int
    responses_other: int
    bytes_in: int
    bytes_out: int
    connection_errors: int
    response_errors: int
    retries: int
    redispatches: int


class Times(NamedTuple):
    """In milliseconds: in the queue, until the server was connected, until it answered, and in all.
    None: not known, or there is no such thing."""

    queue: int | None
    connect: int | None
    response: int | None
    total: int | None


class BackendCounts(NamedTuple):
    """One backend's row, whoever had it. ``sessions``: now. ``average``, ``most``: of what came
    lately, and since HAProxy started."""

    http: bool
    sessions: int
    sessions_per_second: int
    counters: Counters
    average: Times
    most: Times


class LeaseBase(NamedTuple):
    """What a backend's figures were before anything of ``route`` was programmed there, or when the
    sidecar met it; ``at``: seconds, monotonic."""

    route: Key
    at: float
    counters: Counters
    most: Times


class LeaseCounts(NamedTuple):
    """What is counted of one Route. ``seconds``: since when. ``sessions_per_second``: None while a
    former Route's may be among them. The rest as in `BackendCounts`."""

    route: Key
    http: bool
    seconds: float
    sessions: int
    sessions_per_second: int | None
    counters: Counters
    average: Times
    most: Times

    @classmethod
    def since(cls, base: LeaseBase, found: BackendCounts, now: float) -> Self | None:
        """Of the Route of ``base``; None if ``found`` was read before that began."""
        if any(later < sooner for later, sooner in zip(found.counters, base.counters, strict=True)):
            return None
        counters = Counters(
            *(later - sooner for later, sooner in zip(found.counters, base.counters, strict=True))
        )
        seconds = now - base.at
        is_first = base.counters.sessions == 0
        averaged = counters.sessions >= (1 if is_first else AVERAGED)
        return cls(
            base.route,
            found.http,
            seconds,
            found.sessions,
            found.sessions_per_second if is_first or seconds >= _RATE_SECONDS else None,
            counters,
            found.average if averaged else _UNKNOWN,
            Times(*map(_own, found.most, base.most)) if counters.sessions else _UNKNOWN,
        )


_UNKNOWN = Times(None, None, None, None)


def _own(now: int | None, before: int | None) -> int | None:
    """A maximum, if it is higher than ``before``, which may be another Route's."""
    return now if now is not None and (not before or now > before) else None
