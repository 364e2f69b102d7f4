"""A node: kubelet and containerd, and the controllers by which a Deployment becomes pods on it.

Lives in the namespaces that tests/kubelet/run makes, with the API server of tests/cluster. Pods
have addresses on a bridge of that network. There is no kube-proxy: HAProxy leads from the address
of the API server's Service to it, and clients dial the pods' own, as a load balancer does.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from plane import ControlPlane
from stand import HAPROXY, await_

NAME = "node"

#: Where the API server is for pods: the first address of its range of Services.
_KUBERNETES = "10.96.0.1"

#: Of the bridge, and of all pods.
_GATEWAY, _PODS = "10.88.0.1", "10.88.0.0/16"

_CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "endpointslice-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "node-lifecycle-controller",
    "garbage-collector-controller",
)

#: Until a pod that fails is tried again, a container starts, an image is there.
PATIENCE_SECONDS = 120.0


def is_ready(item: Mapping[str, Any]) -> bool:
    """Of a node, or a pod."""
    found = item["status"].get("conditions", ())
    return any((part["type"], part["status"]) == ("Ready", "True") for part in found)


class Node:
    """``folder``: where all of it is, on a disk. Images are those of ``KUBELET_FOLDER``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._containerd_binaries = Path(os.environ["CONTAINERD_BINARIES"])
        self._kubelet_binaries = Path(os.environ["KUBELET_BINARIES"])
        self._cgroup = os.environ["KUBELET_CGROUP"]
        # A path to a socket is short.
        self._socket = Path("/run/node/containerd.sock")
        self._ending = contextlib.ExitStack()
        self.plane = ControlPlane(folder)

    def start(self) -> "Node":
        with contextlib.ExitStack() as ending:
            ending.callback(self._ending.close)
            self._start_plane()
            self._start_containerd()
            self._start_kubelet()
            await_(self._is_ready, "the node is ready", PATIENCE_SECONDS, every_seconds=0.5)
            ending.pop_all()
        return self

    def close(self) -> None:
        self._ending.close()

    def pids(self) -> dict[tuple[str, str], int]:
        """(pod, container) -> the first PID of what runs in it, as this machine counts."""
        found = {}
        for line in self._ctr("tasks", "ls").splitlines()[1:]:
            identifier, pid, status = line.split()
            labels = json.loads(self._ctr("containers", "info", identifier))["Labels"]
            container = labels.get("io.kubernetes.container.name")
            if container and status == "RUNNING":
                found[labels["io.kubernetes.pod.name"], container] = int(pid)
        return found

    def _start_plane(self) -> None:
        self._ending.callback(self.plane.close)
        key, certificate = self._folder / "accounts.key", "certificates/apiserver.crt"
        subprocess.run(
            ["ip", "address", "add", f"{_KUBERNETES}/32", "dev", "lo"], check=True, timeout=10
        )
        self.plane.start("--kubelet-preferred-address-types=InternalIP")
        admin = f"--kubeconfig={self._folder / 'admin.kubeconfig'}"
        self._spawn(
            self._kubelet_binaries / "kube-controller-manager",
            admin,
            "--leader-elect=false",
            f"--controllers={','.join(_CONTROLLERS)}",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={self._folder / certificate}",
        )
        self._spawn(self._kubelet_binaries / "kube-scheduler", admin, "--leader-elect=false")
        config = self._folder / "service.cfg"
        config.write_text(
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n"
            f"    timeout server 1h\nlisten kubernetes\n    bind {_KUBERNETES}:443\n"
            "    server api 127.0.0.1:6443\n"
        )
        self._spawn(Path(HAPROXY), "-db", "-f", str(config))

    def _start_containerd(self) -> None:
        self._socket.parent.mkdir(exist_ok=True)
        networks = self._folder / "networks"
        networks.mkdir()
        (networks / "10-bridge.conflist").write_text(
            json.dumps(
                {
                    "cniVersion": "1.0.0",
                    "name": "pods",
                    "plugins": [
                        {
                            "type": "bridge",
                            "bridge": "pods",
                            "isDefaultGateway": True,
                            "ipam": {
                                "type": "host-local",
                                "ranges": [[{"subnet": _PODS}]],
                                "dataDir": str(self._folder / "addresses"),
                            },
                        }
                    ],
                }
            )
        )
        config = self._folder / "containerd.toml"
        config.write_text(
            f"""\
version = 3
root = "{self._folder / "containerd"}"
state = "{self._socket.parent / "containerd"}"
[grpc]
  address = "{self._socket}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/pause:trixie"
[plugins."io.containerd.cri.v1.runtime"]
  netns_mounts_under_state_dir = true
  # Where root lacks CAP_SYS_RESOURCE, as in some sandboxes.
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{networks}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""
        )
        binaries = self._containerd_binaries
        self._spawn(
            binaries / "containerd",
            f"--config={config}",
            environment={"PATH": f"{binaries}:{os.environ['PATH']}:/usr/sbin:/sbin"},
        )
        await_(self._socket.exists, "containerd listens", 60)
        for image in sorted(Path(os.environ["KUBELET_FOLDER"], "images").iterdir()):
            self._ctr("images", "import", str(image))

    def _start_kubelet(self) -> None:
        for controller in Path("/sys/fs/cgroup").iterdir():
            # Of version 1 there is a tree for each; of version 2 one for all.
            if (controller / "cgroup.procs").exists():
                (controller / self._cgroup.strip("/")).mkdir(exist_ok=True)
        config = self._folder / "kubelet.yaml"
        settings: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self._cgroup,
            "enforceNodeAllocatable": ["pods"],
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": "",
            "podLogsDir": str(self._folder / "logs"),
            "evictionHard": {"memory.available": "1Mi"},
            "imageGCHighThresholdPercent": 100,
            "address": "198.18.0.1",
        }
        config.write_text(yaml.safe_dump(settings))
        self._spawn(
            self._kubelet_binaries / "kubelet",
            f"--config={config}",
            f"--kubeconfig={self._folder / 'admin.kubeconfig'}",
            f"--root-dir={self._folder / 'kubelet'}",
            f"--hostname-override={NAME}",
            "--node-ip=198.18.0.1",
        )

    def _is_ready(self) -> bool:
        return any(map(is_ready, self.plane.get("nodes")["items"]))

    def _ctr(self, *arguments: str) -> str:
        ctr = str(self._containerd_binaries / "ctr")
        done = subprocess.run(
            [ctr, "--address", str(self._socket), "-n", "k8s.io", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.stdout

    def _spawn(
        self, program: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> None:
        with (self._folder / f"{program.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [program, *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        self._ending.callback(process.wait, 30)
        self._ending.callback(process.terminate)
