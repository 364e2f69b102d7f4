"""A pod of the router, run as the kubelet would: the containers of the shipped Deployment.

Its commands, arguments, environment and settings are those of manifests/base, or of other objects
that deploy a router, with a folder for its shared volume and a loopback address for its network. It
talks to the API server as the ServiceAccount that these make.
"""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from plane import MANIFESTS, ControlPlane
from stand import HAPROXY, Client, await_, fresh_ip, worker_of

from sidecar.control.observer import Observer
from sidecar.daemon.assembly import make_ports
from sidecar.haproxy.client import RuntimeClient
from sidecar.listeners.tcp import unit_of
from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import Settings

NAMESPACE = "haproxy-sidecar"
ACCOUNT = "haproxy-sidecar"

#: Under load of other things on the machine.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Deployed:
    """What a pod is made from: of a Deployment or DaemonSet, and the text of its settings file."""

    namespace: str
    pod_spec: Mapping[str, Any]
    settings: str

    @property
    def account(self) -> str:
        return str(self.pod_spec["serviceAccountName"])

    @classmethod
    def by(cls, objects: Sequence[Mapping[str, Any]]) -> "Deployed":
        """As kustomize or helm made ``objects``, of one router."""
        (workload,) = (item for item in objects if item["kind"] in ("Deployment", "DaemonSet"))
        spec = workload["spec"]["template"]["spec"]
        volumes = {item["name"]: item for item in spec["volumes"]}
        mounted = volumes["settings"]["configMap"]["name"]
        (settings,) = (
            item["data"]["sidecar.yaml"]
            for item in objects
            if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", mounted)
        )
        return cls(workload["metadata"]["namespace"], spec, settings)

    @classmethod
    def base(cls) -> "Deployed":
        """As manifests/base has it."""
        (deployment,) = yaml.safe_load_all((MANIFESTS / "base/deployment.yaml").read_text())
        spec = deployment["spec"]["template"]["spec"]
        return cls(NAMESPACE, spec, (MANIFESTS / "base/sidecar.yaml").read_text())


class Pod:
    """One replica. ``settings``: top-level keys that differ from those of ``deployed``."""

    def __init__(
        self,
        plane: ControlPlane,
        folder: Path,
        name: str,
        deployed: Deployed | None = None,
        **settings: Any,
    ) -> None:
        self._deployed = deployed = deployed or Deployed.base()
        self.name = name
        self.folder = folder
        self.ip = fresh_ip()
        self._uid = str(uuid.uuid4())
        self.log = folder / "sidecar.log"
        folder.mkdir()
        spec = deployed.pod_spec
        self._containers = {
            item["name"]: item for item in (*spec["initContainers"], *spec["containers"])
        }
        here = deployed.settings.replace("/run/haproxy", str(folder)).replace("0.0.0.0", self.ip)
        data = {**yaml.safe_load(here), **settings}
        # A node lets a container have more open files than this machine may let us.
        data["haproxy"]["maxconn"] = 2000
        self._config = folder / "sidecar.yaml"
        self._config.write_text(yaml.safe_dump(data))
        self.settings: Settings = parse_settings(self._config.read_text(), {}, "test")
        self._kubeconfig = plane.kubeconfig_of(
            deployed.account, deployed.namespace, folder / "kubeconfig"
        )
        self._sidecar: subprocess.Popen[bytes] | None = None
        self._haproxy: subprocess.Popen[bytes] | None = None

    def start(self) -> "Pod":
        """The init container, the native sidecar, HAProxy, in this order."""
        self.render()
        self.start_sidecar()
        self.start_haproxy()
        return self

    def render(self) -> None:
        subprocess.run(
            self._command("render"), env=self._environment("render"), check=True, timeout=60
        )

    def start_haproxy(self) -> None:
        arguments = self._containers["haproxy"]["args"]
        here = [text.replace("/run/haproxy", str(self.folder)) for text in arguments]
        with (self.folder / "haproxy.log").open("ab") as log:
            # What the official image's entrypoint makes of arguments.
            self._haproxy = subprocess.Popen([HAPROXY, "-W", "-db", *here], stdout=log, stderr=log)

    def start_sidecar(self) -> None:
        with self.log.open("ab") as log:
            self._sidecar = subprocess.Popen(
                self._command("sidecar"), env=self._environment("sidecar"), stdout=log, stderr=log
            )

    def kill_sidecar(self) -> None:
        """As the kernel does when memory is short."""
        assert self._sidecar
        self._sidecar.kill()
        self._sidecar.wait(30)

    @contextlib.contextmanager
    def frozen_sidecar(self) -> Iterator[None]:
        """It hears nothing for as long as the context lasts."""
        worker = self.sidecar_pid
        os.kill(worker, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(worker, signal.SIGCONT)

    def close(self) -> None:
        # SIGINT, and not the kill of a test: so the sidecar lets go of the Lease, and the next
        # test need not wait for it.
        for process, number in ((self._sidecar, signal.SIGINT), (self._haproxy, signal.SIGTERM)):
            if process is not None:
                process.send_signal(number)
                process.wait(30)

    def _command(self, container: str) -> list[str]:
        return [sys.executable, "-m", "sidecar", *self._containers[container]["args"]]

    def _environment(self, container: str) -> dict[str, str]:
        """The container's, with what the downward API says."""
        given = {
            "metadata.name": self.name,
            "metadata.namespace": self._deployed.namespace,
            "metadata.uid": self._uid,
        }
        named = {
            entry["name"]: entry.get("value") or given[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            for entry in self._containers[container]["env"]
        }
        assert named["SIDECAR_CONFIG"] == "/etc/haproxy-sidecar/sidecar.yaml"
        named["SIDECAR_CONFIG"] = str(self._config)
        # In place of the mounted token, whose path cannot be made here.
        named["KUBECONFIG"] = str(self._kubeconfig)
        return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **named}

    def not_ready(self) -> str:
        """What /readyz says; "" when all is as desired."""
        assert self._sidecar
        if self._sidecar.poll() is not None:
            raise AssertionError(f"the sidecar ended by itself:\n{self.said()[-3000:]}")
        try:
            where = f"http://{self.settings.http.listen}/readyz"
            with urllib.request.urlopen(where, timeout=10) as answer:
                said: str = answer.read().decode().strip()
                return "" if said == "ok" else said
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.read().decode().strip()
        except OSError as exc:
            return str(exc)

    def stays_in_its_service(self) -> bool:
        """What the readiness probe goes by."""
        try:
            with urllib.request.urlopen(f"http://{self.settings.http.listen}/readyz", timeout=10):
                return True
        except OSError:
            return False

    def await_ready(self, seconds: float = PATIENCE_SECONDS) -> "Pod":
        with self._explained():
            await_(lambda: not self.not_ready(), "the pod is ready", seconds, every_seconds=0.05)
        return self

    def said(self) -> str:
        """The sidecar's log."""
        return self.log.read_text()

    def connect(self, port: int) -> Client:
        return Client((self.ip, port))

    def leads_to(self, port: int, server: str) -> bool:
        """Whether a new connection on ``port`` gets to the server of that name."""
        try:
            client = self.connect(port)
        except OSError:
            return False
        client.close()
        return client.server == server

    def is_refused(self, port: int) -> bool:
        try:
            self.connect(port).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    @property
    def sidecar_pid(self) -> int:
        assert self._sidecar
        return worker_of(self._sidecar.pid)

    def await_servers(self, port: int, ips: Sequence[str], seconds: float) -> None:
        """Until HAProxy itself shows just these as ready."""

        def shown() -> list[str]:
            with RuntimeClient(self.settings.haproxy.socket, timeout_seconds=10) as client:
                _, observed = Observer(client, make_ports(self.settings)).look([unit_of(port)])
            servers = observed[unit_of(port)].servers.values()
            return sorted(server.address.ip for server in servers if server.state == "ready")

        with self._explained():
            await_(lambda: shown() == sorted(ips), f"port {port} has {ips}", seconds)

    def await_leads_to(self, port: int, server: str, seconds: float = PATIENCE_SECONDS) -> None:
        with self._explained():
            await_(
                lambda: self.leads_to(port, server),
                f"port {port} leads to {server}",
                seconds,
                every_seconds=0.05,
            )

    def await_refused(self, port: int) -> None:
        with self._explained():
            await_(lambda: self.is_refused(port), f"port {port} is closed", PATIENCE_SECONDS)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as exc:
            logged = (self.folder / "haproxy.log").read_text()
            exc.add_note(f"{self.not_ready() or 'ready'}\n{self.said()[-3000:]}\n{logged[-1000:]}")
            raise
