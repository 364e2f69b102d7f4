"""What OpenShift's router heeds of a Route and this one does not: its author must not believe that
it holds, and so is told. Pure.

Who makes a policy of one takes its name from here.
"""

from collections.abc import Collection

from sidecar.policies.base import OTHER_PREFIX, PREFIX

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
    return tuple(key for key in WITHOUT_EFFECT if key not in used)
