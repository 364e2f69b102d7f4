"""What OpenShift's router heeds of a Route and this one does not: its author must not believe that
it holds, and so is told, and why. Pure.

Who makes a policy of one takes its name from here.
"""

from collections.abc import Collection, Mapping

from sidecar.policies.base import OTHER_PREFIX, PREFIX

#: Of how a Route is served: the reason. HAProxy fixes these when it starts.
WITHOUT_EFFECT: Mapping[str, str] = {
    f"{PREFIX}h1-adjust-case": "names of headers are sent in lower case, as HTTP allows",
    f"{OTHER_PREFIX}haproxy.health.check.interval": (
        "pools[].check of the router's settings is for Routes with a port; of others it checks no"
        " pods, since Kubernetes says which are ready"
    ),
}


def unsupported_keys(used: Collection[str] = ()) -> tuple[str, ...]:
    """The annotations to look for. ``used``: those to which a setting gives another meaning."""
    return tuple(key for key in WITHOUT_EFFECT if key not in used)


def with_reason(key: str) -> str:
    """One of these, for the author of its Route."""
    return f"{key} ({WITHOUT_EFFECT[key]})"
