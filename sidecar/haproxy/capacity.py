"""How many connections HAProxy takes, and how many of them each port may have.

Decides from the settings and the limit of open files; what a template needs is in `Capacity`.
Imports no I/O: `sidecar.cli.render` knows the limit.
"""

from dataclasses import dataclass, replace

from sidecar.common.errors import SettingsError
from sidecar.model.pool import Pool, PortPool

#: Where the settings do not say. A session takes HAProxy 4 kB while it is idle, and 45 kB at worst,
#: which is 0.9 GB for all: what follows a node's limit of open files instead ends out of memory.
MAXCONN_DEFAULT = 20_000

#: Ports that share HAProxy's connections evenly by default; where there are more, each has as much
#: as one of these, but no less than `_PORT_LEAST` while that is at most half of all.
_SHARES = 10
_PORT_LEAST = 100

#: Connections that no port gets, of which three quarters are for the metrics. The others are for
#: those that are accepted only to be closed.
_RESERVE = 32

#: Files of HAProxy's own: 20, and 3 for each of its threads, which are 64 at most; some are spare.
_OWN_FILES = 256

#: Fewer connections than these are not worth starting for, if more were wanted.
_LEAST = 64


@dataclass(frozen=True, slots=True)
class Capacity:
    """Numbers of connections at the same time.

    ``maxconn``: of HAProxy. ``ports_maxconn``: of all ports together. ``metrics_maxconn``: of the
    listener of HAProxy's metrics, and ``metrics_source_maxconn`` of them from one address.
    ``reason``: why HAProxy has so many. ``lowered``: what the settings ask for and cannot have, a
    sentence each. ``pools``: the classes of ports, each with a number as its ``maxconn``.
    """

    maxconn: int
    ports_maxconn: int
    metrics_maxconn: int
    metrics_source_maxconn: int
    reason: str
    lowered: tuple[str, ...]
    pools: tuple[PortPool, ...]


def share_out(pool: Pool, maxconn: int | None, open_files_max: int | None) -> Capacity:
    """``maxconn``: HAProxy's by the settings. ``open_files_max``: the most that HAProxy may have
    open, None for no limit.

    Raises SettingsError if these are too few for the pool.
    """
    wanted = granted = maxconn or MAXCONN_DEFAULT
    reason = "set by haproxy.maxconn" if maxconn else "the default"
    lowered: list[str] = []
    if open_files_max is not None and open_files_max < files_for(pool, wanted):
        granted = _room(pool, wanted, open_files_max)
        reason = f"the most that a limit of {open_files_max} open files allows"
        if maxconn:
            lowered.append(
                f"haproxy.maxconn: lowered from {maxconn} to {granted}, {reason}; raise the limit"
                f" to {files_for(pool, maxconn)}, or lower the setting"
            )
    reserve = min(_RESERVE, granted // 4)
    ports_maxconn = granted - reserve
    metrics_maxconn = max(1, reserve * 3 // 4)
    lowered += (
        f"pools: maxconn of {item.name!r}: lowered from {item.maxconn} to {ports_maxconn}, the"
        f" share that HAProxy's {granted} leave to ports; raise haproxy.maxconn, or lower this one"
        for item in pool.classes
        if item.maxconn and item.maxconn > ports_maxconn
    )
    share = max(
        granted // min(len(pool.by_port), _SHARES), min(_PORT_LEAST, (ports_maxconn + 1) // 2)
    )
    return Capacity(
        maxconn=granted,
        ports_maxconn=ports_maxconn,
        metrics_maxconn=metrics_maxconn,
        metrics_source_maxconn=max(2, metrics_maxconn // 4),
        reason=reason,
        lowered=tuple(lowered),
        pools=tuple(
            replace(item, maxconn=min(item.maxconn or share, ports_maxconn))
            for item in pool.classes
        ),
    )


def _room(pool: Pool, wanted: int, open_files_max: int) -> int:
    """The connections that so many files have room for. Raises SettingsError if they are none."""
    least = min(wanted, _LEAST)
    if open_files_max < files_for(pool, least):
        problem = (
            f"a limit of {open_files_max} open files is too low for {len(pool.by_port)} ports"
            f" and connections; raise it to {files_for(pool, wanted)} (at least"
            f" {files_for(pool, least)}), or remove ports"
        )
        raise SettingsError("pools", [problem])
    return (open_files_max - files_for(pool, 0)) // 2


def files_for(pool: Pool, maxconn: int) -> int:
    """Files that HAProxy needs open for so many connections: it refuses to start with fewer."""
    listeners = sum(1 for _ in pool.binds())
    checks = sum(len(item.ports) * item.slots for item in pool.classes if item.check)
    return 2 * maxconn + listeners + checks + _OWN_FILES
