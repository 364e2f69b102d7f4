"""Which API server to use, and with which credentials: from a kubeconfig, or a pod's account.

Owns that choice. The official client reads the contents (`kubernetes.config`), whenever asked to:
tokens and certificates are rotated while the sidecar runs. Must not know what is sent.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import Configuration

#: Where a pod finds its token, and the CA of the API server.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Place:
    """``name``: for a message. ``read``: what stands there now; raises whatever it likes."""

    name: str
    read: Callable[[], "Configuration"]


def place_of(kubeconfig: Path | None, context: str | None, account: Path) -> Place:
    """``kubeconfig``, or that of the environment's KUBECONFIG; else ``account``, if we are in a pod
    and no ``context`` is named; else ``~/.kube/config``."""
    named = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG")
    if not (named or context) and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Place("the pod's service account", partial(_of_pod, account))
    path = named or "~/.kube/config"
    return Place(path, partial(_of_kubeconfig, path, context))


def _of_pod(account: Path) -> "Configuration":
    from kubernetes.client import Configuration
    from kubernetes.config.incluster_config import InClusterConfigLoader

    configuration = Configuration()
    loader = InClusterConfigLoader(account / "token", account / "ca.crt")  # type: ignore[no-untyped-call]
    loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    return configuration


def _of_kubeconfig(path: str, context: str | None) -> "Configuration":
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config

    configuration = Configuration()
    load_kube_config(path, context, configuration, persist_config=False)  # type: ignore[no-untyped-call]
    return configuration
