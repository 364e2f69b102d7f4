"""Where the outcome of Routes is reported: in a cluster, to the API server."""

import hashlib
import re
import uuid
from collections.abc import Mapping
from pathlib import Path

from sidecar.common.errors import SettingsError
from sidecar.common.metrics import Metrics
from sidecar.reporting.outcome import Reporter
from sidecar.settings.schema import Settings

#: Where a pod finds the name of its namespace.
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

#: The downward API's, in our manifests.
_POD_NAME, _POD_NAMESPACE, _POD_UID = "POD_NAME", "POD_NAMESPACE", "POD_UID"

_LEASE_PREFIX = "haproxy-sidecar-"
_NAME_MAX = 253


def make_reporter(
    settings: Settings, metrics: Metrics, environment: Mapping[str, str]
) -> Reporter | None:
    """The one that the settings ask for; None where nobody is to be told.

    Raises SettingsError if it cannot tell the Lease's namespace, SourceError without a cluster.
    """
    if settings.source.kind != "kubernetes":
        return None
    # What only they need who have a cluster.
    from sidecar.kube.client import KubeClient
    from sidecar.kube.leader import Leader
    from sidecar.reporting.cluster.writer import Wishes, Writer

    kubernetes = settings.kubernetes
    namespace = kubernetes.lease.namespace or _own_namespace(environment)
    client = KubeClient.from_environment(settings.source.kubeconfig, settings.source.context)
    leader = Leader(
        client,
        namespace,
        kubernetes.lease.name or lease_name(settings.router_name),
        identity(environment),
        metrics,
    )
    service = kubernetes.publish_service
    wishes = Wishes(
        settings.router_name,
        settings.annotations.kept_port,
        kubernetes.canonical_hostname,
        write_status=kubernetes.write_status,
        events=kubernetes.events,
        publish_service=_pair(service) if service else None,
        writes_per_second=kubernetes.writes_per_second,
    )
    return Writer(client, leader, wishes, metrics)


def identity(environment: Mapping[str, str]) -> str:
    """Who holds the Lease: a pod, for as long as it lives.

    A name alone may come again, as a StatefulSet's pod; a UID does not, and outlives the container:
    a sidecar that is restarted has its Lease still, and need not wait until it expires. Two of one
    identity never write at a time, since the next one starts when the last one has ended. What
    that one had sent and may land still bears the resourceVersion that it was made from.
    """
    name = environment.get(_POD_NAME) or environment.get("HOSTNAME", "sidecar")
    return f"{name}_{environment.get(_POD_UID) or uuid.uuid4()}"


def lease_name(router_name: str) -> str:
    """What a router's Lease is called. A name that is no object's is told apart by its hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", router_name.lower()).strip("-")
    if plain != router_name or len(plain) > _NAME_MAX - len(_LEASE_PREFIX):
        plain = plain[:100].rstrip("-.") + "-" if plain else ""
        plain += hashlib.sha256(router_name.encode()).hexdigest()[:12]
    return _LEASE_PREFIX + plain


def _own_namespace(environment: Mapping[str, str]) -> str:
    if given := environment.get(_POD_NAMESPACE):
        return given
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        missing = (
            "required outside a pod: write the namespace of the Lease by which the replicas elect"
            f" a leader, or set {_POD_NAMESPACE}"
        )
        raise SettingsError("kubernetes.lease.namespace", [missing]) from None


def _pair(text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    return namespace, name
