"""A control plane of one's own: etcd and kube-apiserver, RBAC and audit on, nothing else.

There is no controller and no kubelet: tests write what those would, EndpointSlices above all. It
lives in the network that `tests/cluster/run` makes, so all its ports are fixed.
"""

import base64
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from stand import await_

HERE = Path(__file__).parent
MANIFESTS = HERE.parent.parent / "manifests"

_ETCD = "http://127.0.0.1:2379"
_SERVER = "https://127.0.0.1:6443"
_ADMIN_TOKEN = "admin"

#: Every answered request of a ServiceAccount, and of nobody else.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


class ControlPlane:
    """etcd, kube-apiserver and an admin's kubectl, with all their files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._binaries = Path(os.environ["CLUSTER_BINARIES"])
        #: An admin's kubectl, as a command.
        self.command = [str(self._binaries / "kubectl"), f"--kubeconfig={folder}/admin.kubeconfig"]
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._options: Sequence[str] = ()
        (folder / "audit.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))
        (folder / "tokens.csv").write_text(f'{_ADMIN_TOKEN},admin,admin,"system:masters"\n')
        subprocess.run(
            ["openssl", "genrsa", "-out", folder / "accounts.key", "2048"],
            check=True,
            capture_output=True,
        )

    def start(self, *options: str) -> "ControlPlane":
        """``options``: more of the API server's, which win."""
        self._options = options
        self._etcd = self._spawn(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        )
        self.start_server()
        return self

    def start_server(self) -> None:
        """The API server, until it is ready."""
        self._server = self._spawn(
            "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--cert-dir={self.folder / 'certificates'}",
            "--bind-address=127.0.0.1",
            "--advertise-address=198.18.0.1",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.key'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            f"--audit-policy-file={self.folder / 'audit.yaml'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-mode=blocking",
            *self._options,
        )
        # It is written after the certificate, which is whole by then.
        key = self.folder / "certificates" / "apiserver.key"
        await_(key.exists, "the API server's key", 60)
        self._write_kubeconfig(self.folder / "admin.kubeconfig", _ADMIN_TOKEN)
        await_(self._ready, "the API server is ready", 120, every_seconds=0.1)

    def stop_server(self) -> None:
        """As a crash does: no farewell to those who watch."""
        _end(self._server)
        self._server = None

    def restart_server(self) -> None:
        self.stop_server()
        self.start_server()

    def close(self) -> None:
        self.stop_server()
        _end(self._etcd)

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([self._binaries / name, *arguments], stdout=log, stderr=log)

    def _ready(self) -> bool:
        assert self._server
        if self._server.poll() is not None:
            raise AssertionError((self.folder / "kube-apiserver.log").read_text()[-4000:])
        return self.kubectl("get", "--raw", "/readyz", check=False) == "ok"

    def _write_kubeconfig(self, path: Path, token: str) -> None:
        certificate = (self.folder / "certificates" / "apiserver.crt").read_bytes()
        cluster = {
            "server": _SERVER,
            "certificate-authority-data": base64.b64encode(certificate).decode(),
        }
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "test", "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "current-context": "test",
                }
            )
        )

    def kubeconfig_of(self, account: str, namespace: str, path: Path) -> Path:
        """A kubeconfig at ``path`` with a token of that ServiceAccount, as a pod would have."""
        self._write_kubeconfig(path, self.kubectl("create", "token", account, "-n", namespace))
        return path

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints, as admin; what it complains of is the test's failure."""
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            # Its cache of what kinds there are goes below HOME.
            env={"HOME": str(self.folder), "PATH": os.environ["PATH"]},
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def apply(self, *objects: Mapping[str, Any], options: Sequence[str] = ()) -> str:
        """Server-side, so that the API server itself finds unknown and doubled fields."""
        return self.kubectl(
            *("apply", "--server-side", "--validate=strict", *options, "-f", "-"),
            stdin=yaml.safe_dump_all(objects),
        )

    def overlay(self, name: str, *components: str) -> list[dict[str, Any]]:
        """The objects of that overlay with those components, as kustomize makes them."""
        here = Path(os.path.relpath(MANIFESTS, self.folder / "kustomize"))
        kustomization = {
            "resources": [str(here / "overlays" / name)],
            "components": [str(here / "components" / component) for component in components],
        }
        (self.folder / "kustomize").mkdir(exist_ok=True)
        (self.folder / "kustomize/kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return list(yaml.safe_load_all(self.kubectl("kustomize", str(self.folder / "kustomize"))))

    def version(self) -> str:
        """Of the API server."""
        version: str = json.loads(self.kubectl("get", "--raw", "/version"))["gitVersion"]
        return version

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", "-o", "json", *arguments))

    def delete_routes(self, namespace: str) -> None:
        """All of them, in one request; kubectl's own `--all` sends one for each."""
        path = f"/apis/route.openshift.io/v1/namespaces/{namespace}/routes"
        self.kubectl("delete", "--raw", path)

    def compact(self) -> None:
        """Make etcd forget every revision but the newest."""
        status = _post("/v3/maintenance/status", {})
        _post("/v3/kv/compaction", {"revision": status["header"]["revision"], "physical": True})

    def audit(self) -> Iterator[dict[str, Any]]:
        """What ServiceAccounts asked for and were answered, oldest first."""
        with (self.folder / "audit.log").open() as lines:
            for line in lines:
                # The last one may be half written.
                if line.endswith("\n"):
                    yield json.loads(line)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait(30)


def _post(path: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(f"{_ETCD}{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
