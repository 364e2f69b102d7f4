"""What OpenShift's router heeds of a Route and this one does not: its author must not believe that
it holds. Pure.

What restricts who may connect refuses a Route by host, since without it the Route would be open to
all; of the rest its author is told. Who makes a policy of one takes its name from here.
"""

from collections.abc import Collection

from sidecar.model.objects import Route
from sidecar.model.verdicts import Reason, Refusal
from sidecar.policies.base import OTHER_PREFIX, PREFIX

#: Only these clients may connect.
RESTRICTING = (f"{PREFIX}ip_allowlist", f"{PREFIX}ip_whitelist")

#: How it is served.
WITHOUT_EFFECT = (
    f"{PREFIX}balance",
    f"{PREFIX}disable_cookies",
    f"{PREFIX}h1-adjust-case",
    f"{PREFIX}pod-concurrent-connections",
    f"{PREFIX}rate-limit-connections",
    f"{PREFIX}rate-limit-connections.concurrent-tcp",
    f"{PREFIX}rate-limit-connections.rate-http",
    f"{PREFIX}rate-limit-connections.rate-tcp",
    f"{PREFIX}rewrite-target",
    f"{OTHER_PREFIX}cookie_name",
    f"{OTHER_PREFIX}haproxy.health.check.interval",
)


def unsupported_keys(used: Collection[str] = ()) -> tuple[str, ...]:
    """The annotations to look for. ``used``: those to which a setting gives another meaning."""
    return (*RESTRICTING, *(key for key in WITHOUT_EFFECT if key not in used))


def refusal(route: Route) -> Refusal | None:
    """Why ``route``, one by host, must not be served at all."""
    found = [key for key in RESTRICTING if key in route.unsupported]
    if not found or not route.by_host:
        return None
    return Refusal(
        Reason.UNSUPPORTED_ANNOTATION,
        f"{' and '.join(found)}: this router cannot restrict which clients connect, and would open"
        " the Route to all; use another router, or remove the annotation if all may connect",
    )
