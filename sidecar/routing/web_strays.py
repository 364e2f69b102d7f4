"""Which hosts have an entry of a map that leads to none of their Routes. Pure.

A certificate waits for it: clients who are led elsewhere are shown it, too.
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from sidecar.listeners.web_keys import ended_host
from sidecar.model.certificates import wildcard_over
from sidecar.model.desired import Unit


def strays(
    hosts: AbstractSet[str],
    entries: Iterable[tuple[str, Unit | None]],
    host_of: Callable[[Unit | None], str | None],
    is_there: Callable[[Unit], bool],
) -> set[str]:
    """Those of ``hosts`` (or ``*.domain``) that have one, and wildcards above such ones.

    ``entries``: of hosts.map, and the unit that each leads to, None for none of ours; only those
    for requests whose TLS ended here count. ``host_of``: of a unit's Route, if its TLS ends here.
    ``is_there``: whether HAProxy has a unit: who is led to one that it lacks gets to nobody.
    """
    wildcards = {host for host in hosts if host.startswith("*.")}
    found: set[str] = set()
    for entry, unit in entries:
        host = ended_host(entry)
        above = wildcard_over(host) if wildcards else ""
        if host not in hosts and above not in wildcards:
            continue
        if host_of(unit) != host and (unit is None or is_there(unit)):
            found |= hosts & {host, above}
    return found
