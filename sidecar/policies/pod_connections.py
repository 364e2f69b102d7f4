"""How many requests, or connections of passthrough, a pod of a Route gets at a time. Pure.

More of them wait in HAProxy's queue for as long as `timeout queue` says.
"""

from collections.abc import Mapping

from sidecar.model.desired import MAXCONN
from sidecar.policies.base import EVERY_WAY, Policy, Way, parse_number

_WAYS: frozenset[Way] = EVERY_WAY - {"port"}


def _tells(number: int) -> Mapping[str, str]:
    return {MAXCONN: str(number)}


POD_CONCURRENT_CONNECTIONS = Policy(
    "pod-concurrent-connections",
    "limit of connections to a pod",
    parse_number,
    "without a limit until fixed",
    _WAYS,
    _tells,
)
