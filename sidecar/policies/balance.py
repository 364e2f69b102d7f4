"""How the servers of a Route are chosen. Pure.

haproxy.cfg fixes it per backend, so a Route that wishes another one than its class has is served by
a backend of its own kind (`sidecar.routing.balanced_leases`), if there is one.
"""

from typing import get_args

from sidecar.model.objects import Route
from sidecar.model.pool import WebBalance
from sidecar.policies.base import EVERY_WAY, Policy, Way

_BALANCES: tuple[WebBalance, ...] = get_args(WebBalance)

_WAYS: frozenset[Way] = EVERY_WAY - {"port"}


def _parse(text: str) -> WebBalance:
    if text not in _BALANCES:
        raise ValueError(f"not one of {', '.join(_BALANCES)}")
    return text


BALANCE = Policy("balance", "balance", _parse, "not heeded until fixed", _WAYS)


def wished_balance(route: Route) -> WebBalance | None:
    """What a Route by host says, or is to have because of its Services; None for that of its
    class."""
    text = dict(route.wishes).get(BALANCE.name)
    if text in _BALANCES:
        return text
    # As OpenShift's router: only this one gives each of several Services exactly its share.
    return "roundrobin" if sum(target.weight > 0 for target in route.targets) > 1 else None
