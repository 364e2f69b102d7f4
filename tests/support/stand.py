"""The test stand: a real HAProxy on a loopback address of its own, real servers behind it.

Every HAProxy and every server listens on its own 127.x.y.z, so tests never meet on a port. What a
test waits for it awaits by condition, with a deadline; nothing sleeps a fixed time.
"""

import atexit
import contextlib
import functools
import itertools
import os
import random
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.cli.render import write_files
from sidecar.control.observer import Observer
from sidecar.daemon.assembly import make_ports
from sidecar.daemon.loop import Daemon
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.process import answering, find_haproxy
from sidecar.haproxy.state import ObservedUnit, ProcessInfo
from sidecar.listeners.tcp import port_of
from sidecar.model.change import Change, Source
from sidecar.model.objects import (
    AGE_UNKNOWN,
    Endpoint,
    EndpointGroup,
    EndpointPort,
    EndpointSet,
    Object,
    Route,
    RouteTarget,
    RouteTLS,
    Service,
    ServicePort,
)
from sidecar.model.pool import PARKED, Address, Pool
from sidecar.policies.drain_deadline import DRAIN_DEADLINE
from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import Settings
from sidecar.sources.manifests.source import ManifestSource

#: The fixtures `make_stand` and `make_server`.
MakeStand = Callable[..., "Stand"]
MakeServer = Callable[..., "EchoServer"]

HAPROXY = find_haproxy(os.environ)
ROUTER = "wzh-router-1"

_ips = itertools.count(1)


def fresh_ip() -> str:
    """A loopback address that no other test of this or a parallel run uses. As texts, by which
    servers are sorted, they are in the order in which they were made."""
    block, number = divmod(next(_ips), 100)
    return f"127.{_network()[0]}.{100 + block}.{100 + number}"


def free_port(ip: str) -> int:
    """A port of ``ip``, which other tests share, that nobody has."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    for _ in range(100):
        # Of those that the kernel gives to nobody who connects, as it does with a port 0.
        port = random.randrange(14_000, 20_000)
        with (
            contextlib.suppress(OSError),
            socket.create_server((ip, port), family=family, dualstack_ipv6=ip == "::"),
        ):
            return port
    raise AssertionError(f"no port of {ip} is free")


@functools.cache
def _network() -> tuple[int, socket.socket]:
    """The second part of our addresses, and what keeps parallel runs off them: a socket that is
    bound for as long as this process lives."""
    for offset in range(200):
        number, claim = 10 + (os.getpid() + offset) % 200, socket.socket()
        try:
            claim.bind((f"127.{number}.255.254", 65000))
        except OSError:
            claim.close()
        else:
            atexit.register(claim.close)
            return number, claim
    raise AssertionError("200 test runs at once, or something else has 127.*.255.254:65000")


def await_(
    condition: Callable[..., Any], what: str, seconds: float = 10.0, *, every_seconds: float = 0.005
) -> Any:
    """The first true value of ``condition``; fails the test with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every_seconds)


def worker_of(parent: int) -> int:
    """The PID of the sidecar itself, whose parent `haproxy-sidecar run` is."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, ppid = status.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                return int(status.parent.name)
    raise AssertionError(f"{parent} has no child now")


class EchoServer:
    """A TCP server that says its name on connecting, then echoes. ``sessions``: open now."""

    def __init__(self, name: str, ip: str | None = None, port: int = 9000) -> None:
        self.name = name
        self.sessions = 0
        self.accepted = 0
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer.sessions += 1
                outer.accepted += 1
                try:
                    self.request.sendall(f"{outer.name}\n".encode())
                    while data := self.request.recv(4096):
                        self.request.sendall(data)
                except OSError:
                    pass  # the test closed its end
                finally:
                    outer.sessions -= 1

        class Server(socketserver.ThreadingTCPServer):
            address_family = socket.AF_INET6 if ip and ":" in ip else socket.AF_INET
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 1024

        self._server = Server((ip or fresh_ip(), port), Handler)
        bound, number, *_ = self._server.socket.getsockname()
        self.address = Address(bound, number)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Client:
    """A client's TCP connection, opened at once. ``server``: the name that greeted it."""

    def __init__(self, address: tuple[str, int], timeout_seconds: float = 5.0) -> None:
        self.socket = socket.create_connection(address, timeout_seconds)
        try:
            greeting = self.socket.makefile("rb").readline()
        except BaseException:
            self.socket.close()
            raise
        if not greeting:
            self.socket.close()
            raise ConnectionResetError("closed before the greeting")
        self.server = greeting.decode().strip()

    def echo(self, data: bytes = b"ping") -> None:
        """Raises if the connection does not carry bytes both ways any more."""
        self.socket.sendall(data)
        received = b""
        while len(received) < len(data):
            chunk = self.socket.recv(4096)
            if not chunk:
                raise ConnectionResetError("closed instead of an echo")
            received += chunk
        assert received == data

    def close(self) -> None:
        self.socket.close()


class Stand:
    """A HAProxy of its own, rendered from settings of its own, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        pools: Sequence[dict[str, Any]] | None = None,
        haproxy: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.ip = fresh_ip()
        pools = pools or [{"ports": ["30000-30009"], "slots": 4}]
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self.settings_data: dict[str, Any] = {
            "router_name": ROUTER,
            "haproxy": {
                "socket": str(folder / "admin.sock"),
                "config": str(folder / "haproxy.cfg"),
                "state_file": str(folder / "servers.state"),
                "timeout": "2s",
                **(haproxy or {}),
            },
            "source": {"kind": "directory", "path": str(self.manifests)},
            "pools": [{"bind": [self.ip], "name": f"p{n}", **p} for n, p in enumerate(pools)],
            "endpoints": {"deny": []},
            "http": {"listen": f"{self.ip}:8405"},
            **settings,
        }
        self.settings_file = folder / "sidecar.yaml"
        self.settings_file.write_text(yaml.safe_dump(self.settings_data))
        self.settings: Settings = parse_settings(self.settings_file.read_text(), {}, "test")
        self.ports = make_ports(self.settings)
        self.pool = self.ports.pool
        self.client = RuntimeClient(self.settings.haproxy.socket, timeout_seconds=5.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._files = contextlib.ExitStack()

    def start(self) -> "Stand":
        write_files(self.settings, self.settings.haproxy.config)
        self.start_haproxy()
        return self

    def start_haproxy(self, *prefix: str) -> ProcessInfo:
        """``prefix``: a command that executes the one after it, as ``nice`` does."""
        log = self._files.enter_context((self.folder / "haproxy.log").open("ab"))
        process = subprocess.Popen(
            [*prefix, HAPROXY, "-db", "-f", str(self.settings.haproxy.config)],
            stdout=log,
            stderr=log,
        )
        self._process = process

        def look() -> ProcessInfo | None:
            if process.poll() is not None:
                raise AssertionError((self.folder / "haproxy.log").read_text()[-2000:])
            info = answering(self.settings.haproxy.socket)
            return info if info and info.pid == process.pid else None

        info: ProcessInfo = await_(look, "HAProxy answers", 30)
        return info

    def stop_haproxy(self, number: int = signal.SIGKILL) -> None:
        self.client.close()
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.client.close()
        self.stop_haproxy(signal.SIGTERM)
        self._files.close()

    def write(self, file: str, *objects: dict[str, Any]) -> None:
        """Make ``file`` of the manifests folder hold just ``objects``, at one stroke."""
        hidden = self.manifests / f".{file}"
        hidden.write_text(yaml.safe_dump_all(objects))
        hidden.replace(self.manifests / file)

    def remove(self, file: str) -> None:
        (self.manifests / file).unlink()

    def daemon(self, source: Source | None = None, **haproxy: Any) -> Daemon:
        """A sidecar of this stand, on its manifests folder (looked at often) unless told
        otherwise. ``haproxy``: settings of that section that differ from HAProxy's own."""
        section = self.settings.haproxy.model_copy(update=haproxy)
        settings = self.settings.model_copy(update={"haproxy": section})
        return Daemon(
            settings,
            source
            or ManifestSource(
                [self.manifests],
                settings.annotations.keys(),
                poll_seconds=0.05,
                refers=settings.refers(),
            ),
        )

    def info(self) -> ProcessInfo:
        return self.observer().info()

    def observer(self, client: RuntimeClient | None = None) -> Observer:
        return Observer(client or self.client, self.ports)

    def observed(self) -> dict[int, ObservedUnit]:
        """Everything by port, read back from HAProxy, with sessions."""
        _, observed = self.observer().look(self.ports.classes, with_sessions=True)
        return {port_of(unit): seen for unit, seen in observed.items()}

    def port(self, port: int) -> ObservedUnit:
        return self.observed()[port]

    def slots(self, port: int, state: str | None = None) -> dict[Address, str]:
        """Address -> slot, of the used slots of ``port`` that are in ``state``, if one is given."""
        return {
            server.address: server.name
            for server in self.port(port).servers.values()
            if server.address != PARKED and state in (None, server.state)
        }

    def ready(self, port: int) -> list[Address]:
        """The addresses that take connections on ``port``, sorted."""
        servers = self.port(port).servers.values()
        return sorted(server.address for server in servers if server.state == "ready")

    def connect(self, port: int) -> Client:
        return Client((self.ip, port))

    def is_refused(self, port: int) -> bool:
        try:
            socket.create_connection((self.ip, port), 2).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # it listens, and the guard was faster than we
        return False


def pool_of(*classes: dict[str, Any]) -> Pool:
    """A pool of classes given as in the settings, named p0, p1, … unless told otherwise."""
    pools = [{"name": f"p{number}", **given} for number, given in enumerate(classes)]
    return Settings.model_validate({"pools": pools}).pool()


def route(
    name: str = "web",
    port: object = 30000,
    service: str | None = None,
    *,
    namespace: str = "demo",
    target_port: str | None = None,
    created_seconds: float = AGE_UNKNOWN,
    weight: int = 100,
    also: Sequence[tuple[str, int]] = (),
    router_name: str | None = ROUTER,
    termination: str | None = None,
    uid: str | None = None,
    drain_deadline: str | None = None,
    kept_port: str | None = None,
) -> Route:
    """A Route of the model; its Service has its own name unless told otherwise."""
    targets = [RouteTarget("Service", service or name, weight)]
    targets += [RouteTarget("Service", other, share) for other, share in also]
    return Route(
        namespace=namespace,
        name=name,
        uid=uid or f"{namespace}/{name}",
        created_seconds=created_seconds,
        router_name=router_name,
        port=None if port is None else str(port),
        kept_port=kept_port,
        target_port=target_port,
        targets=tuple(targets),
        tls=None if termination is None else RouteTLS(termination),
        wishes=() if drain_deadline is None else ((DRAIN_DEADLINE.name, drain_deadline),),
    )


def service(name: str = "web", *ports: ServicePort, namespace: str = "demo") -> Service:
    """A Service of the model, with one unnamed TCP port unless told otherwise."""
    return Service(namespace, name, ports or (ServicePort("", 80, "TCP", "9000"),), None)


def external(
    name: str = "web", to: str = "db.example", *ports: ServicePort, namespace: str = "demo"
) -> Service:
    """A Service of the model, ``type: ExternalName``, with port 9000 unless told otherwise."""
    return Service(namespace, name, ports or (ServicePort("", 9000, "TCP", "9000"),), to)


def endpoint(
    ip: str, *, ready: bool = True, serving: bool | None = None, terminating: bool = False
) -> Endpoint:
    return Endpoint(
        (ip,), ready, ready if serving is None else serving, terminating, f"pod-{ip}", None
    )


def slice_(
    service_name: str = "web",
    endpoints: Sequence[Endpoint | str] = (),
    *,
    port: int = 9000,
    port_name: str = "",
    name: str | None = None,
    namespace: str = "demo",
    protocol: str = "TCP",
    legacy: bool = False,
) -> EndpointSet:
    """An EndpointSlice of the model (or v1 Endpoints, ``legacy``); a text among ``endpoints`` is
    a ready one's IP."""
    ends = tuple(endpoint(item) if isinstance(item, str) else item for item in endpoints)
    group = EndpointGroup((EndpointPort(port_name, port, protocol),), ends)
    return EndpointSet(namespace, name or f"{service_name}-1", service_name, (group,), legacy)


def route_manifest(
    name: str = "web",
    port: object = 30000,
    service: str | None = None,
    *,
    namespace: str = "demo",
    created: str | None = None,
    weight: int | None = None,
    also: Sequence[tuple[str, int]] = (),
    target_port: object = None,
    router_name: str = ROUTER,
    **spec: Any,
) -> dict[str, Any]:
    """A Route as its author writes it; its Service has its own name unless told otherwise.
    ``also``: alternateBackends, with their weights."""
    annotations = {
        "haproxy.router.openshift.io/external-tcp-port": str(port),
        "haproxy.router.openshift.io/wzh-router-name": router_name,
    }
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "annotations": annotations}
    if created is not None:
        metadata["creationTimestamp"] = created
    to: dict[str, Any] = {"kind": "Service", "name": service or name}
    if weight is not None:
        to["weight"] = weight
    spec = {"to": to, **spec}
    if also:
        spec["alternateBackends"] = [
            {"kind": "Service", "name": other, "weight": share} for other, share in also
        ]
    if target_port is not None:
        spec["port"] = {"targetPort": target_port}
    return {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": metadata,
        "spec": spec,
    }


def service_manifest(name: str = "web", *, namespace: str = "demo") -> dict[str, Any]:
    """A Service with one TCP port."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"port": 80, "targetPort": 9000}]},
    }


def slice_manifest(
    service: str = "web",
    endpoints: Sequence[Any] = (),
    *,
    namespace: str = "demo",
    port: int = 9000,
    port_name: str = "",
) -> dict[str, Any]:
    """An EndpointSlice; each of ``endpoints`` is an IP, something with an `Address`, or a mapping
    as the API has it."""
    items = []
    for item in endpoints:
        if isinstance(item, EchoServer):
            items.append({"addresses": [item.address.ip]})
        else:
            items.append(item if isinstance(item, dict) else {"addresses": [item]})
    ips = [address for item in items for address in item["addresses"]]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv6" if ips and ":" in ips[0] else "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": items,
    }


def app(
    name: str = "web", port: object = 30000, endpoints: Sequence[Any] = (), **route_: Any
) -> tuple[dict[str, Any], ...]:
    """A Route with its Service and EndpointSlice, as an application's team writes them."""
    namespace = route_.get("namespace", "demo")
    return (
        route_manifest(name, port, **route_),
        service_manifest(name, namespace=namespace),
        slice_manifest(name, endpoints, namespace=namespace),
    )


def changes(*objects: Object) -> list[Change]:
    return [Change(item.key, item) for item in objects]


@contextlib.contextmanager
def running(daemon: Any) -> Iterator[Any]:
    """A daemon in a thread, stopped at the end; what it raised is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except BaseException as exc:  # noqa: BLE001
            raised.append(exc)

    thread = threading.Thread(target=run, name="daemon", daemon=True)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(20)
        assert not thread.is_alive(), "the daemon did not stop"
        if raised:
            raise raised[0]


def converged(daemon: Daemon) -> None:
    await_(lambda: not daemon.ready(), f"converged, not: {daemon.ready()}")


def leads_to(stand: Stand, port: int, server: EchoServer) -> bool:
    """Whether a new connection on ``port`` gets to ``server``."""
    try:
        client = stand.connect(port)
    except OSError:
        return False
    client.close()
    return client.server == server.name


def await_leads_to(stand: Stand, port: int, server: EchoServer, seconds: float = 10.0) -> None:
    await_(lambda: leads_to(stand, port, server), f"port {port} leads to {server.name}", seconds)


def await_ready(stand: Stand, port: int, *servers: EchoServer | Address) -> None:
    """Until HAProxy itself shows just these as ready."""
    wanted = sorted(item if isinstance(item, Address) else item.address for item in servers)
    await_(lambda: stand.ready(port) == wanted, f"port {port} has {wanted}, not more or less")


def await_refused(stand: Stand, port: int) -> None:
    await_(lambda: stand.is_refused(port), f"port {port} is closed")


def await_told(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Until the log, which comes after the deed, says ``text``."""
    await_(lambda: text in caplog.text, f"the log says {text!r}: {caplog.text}")


def held(files: contextlib.ExitStack, stand: Stand, port: int) -> Client:
    """A connection that stays until the test ends, or closes it."""
    client = stand.connect(port)
    files.callback(client.close)
    return client


def fill(files: contextlib.ExitStack, stand: Stand, port: int, count: int) -> None:
    """``count`` idle clients of ``port``, each with a session.

    The last one may need to come again: while one thread of HAProxy looks whether there is one
    more to accept, that one counts in ``fe_conn`` as another thread judges by it.
    """

    def is_in() -> bool:
        try:
            held(files, stand, port)
        except ConnectionResetError:
            return False
        return True

    for number in range(count - 1):
        assert is_in(), f"client {number + 1} of {count}"
    if count:
        await_(is_in, f"client {count} of {count}")
