"""The end of a router: SIGTERM, the grace time, HAProxy's soft stop, and a rolling update of two
routers behind a load balancer that goes by /readyz."""

import contextlib
import http.client
import itertools
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence

import pytest
from cli import Process, Start, command
from drive import PORT, Intercept, Load
from stand import (
    Client,
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_leads_to,
    await_refused,
    fresh_ip,
    held,
    running,
)


class Router:
    """HAProxy and a sidecar beside it, as two containers of a pod."""

    def __init__(self, stand: Stand, start: Start) -> None:
        self.stand = stand
        self._start = start
        self.sidecar = self.start_sidecar()

    def start_sidecar(self) -> Process:
        self.sidecar = self._start(command("run", "-c", self.stand.settings_file))
        return self.sidecar

    @property
    def haproxy(self) -> "subprocess.Popen[bytes]":
        assert self.stand._process is not None
        return self.stand._process

    def probe(self) -> str:
        """What /readyz says: "ok", or why not; "" when nobody answers."""
        connection = http.client.HTTPConnection(self.stand.ip, 8405, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().read().decode().strip()
        except (OSError, http.client.HTTPException):
            return ""  # it is not there, or ended while it spoke
        finally:
            connection.close()

    def await_ready(self) -> None:
        await_(lambda: self.probe() == "ok", f"ready, not: {self.sidecar.said}", 30)

    def soft_stop(self) -> None:
        """What a container runtime does with the stock image, whose STOPSIGNAL it is."""
        self.stand.client.close()
        self.haproxy.send_signal(signal.SIGUSR1)

    def await_no_haproxy(self) -> None:
        await_(lambda: self.haproxy.poll() is not None, "HAProxy ends with its last session", 20)

    def errors(self) -> list[str]:
        return [line for line in self.sidecar.said.splitlines() if '"error"' in line.lower()]


@pytest.fixture
def router(make_stand: MakeStand, make_server: MakeServer, start: Start) -> Router:
    """One that is ready, and leads PORT to a server named a."""
    stand = make_stand(timing={"resync": "1h"})
    stand.write("web.yaml", *app("web", PORT, [make_server("a")]))
    made = Router(stand, start)
    made.await_ready()
    return made


def test_unready_at_once_and_driving_on(router: Router, make_server: MakeServer) -> None:
    router.sidecar.send(signal.SIGTERM)
    await_(lambda: router.probe() == "stopping", "/readyz fails")
    b = make_server("b")
    router.stand.write("web.yaml", *app("web", PORT, [b]))
    await_leads_to(router.stand, PORT, b)
    assert not router.sidecar.ended
    # What Kubernetes sends when the main container has ended, if it did not end with it.
    router.sidecar.send(signal.SIGTERM)
    assert router.sidecar.wait() == 0
    await_leads_to(router.stand, PORT, b)


def test_ctrl_c_needs_no_grace(router: Router) -> None:
    router.sidecar.ctrl_c()
    assert router.sidecar.wait() == 0
    assert not router.stand.is_refused(PORT)


def test_the_grace_time_ends(make_stand: MakeStand, make_server: MakeServer, start: Start) -> None:
    stand = make_stand(timing={"grace": "500ms"})
    stand.write("web.yaml", *app("web", PORT, [make_server("a")]))
    router = Router(stand, start)
    router.await_ready()
    router.sidecar.send(signal.SIGTERM)
    assert router.sidecar.wait() == 0
    assert not stand.is_refused(PORT)


def test_without_haproxy_there_is_no_grace(router: Router) -> None:
    """A native sidecar gets SIGTERM when HAProxy's container has ended."""
    router.stand.stop_haproxy()
    router.sidecar.send(signal.SIGTERM)
    assert router.sidecar.wait() == 0


def test_before_the_source_is_there_there_is_no_grace(make_stand: MakeStand, start: Start) -> None:
    stand = make_stand()
    stand.manifests.rmdir()
    router = Router(stand, start)
    await_(lambda: "not synced" in router.probe(), "it waits for the source", 30)
    router.sidecar.send(signal.SIGTERM)
    assert router.sidecar.wait() == 0


def test_a_stopping_haproxy_is_watched_to_its_end(
    router: Router, files: contextlib.ExitStack
) -> None:
    """It ends with its last session, and the sidecar with it: no error, no state file spoilt."""
    stand = router.stand
    state_file = stand.settings.haproxy.state_file
    a = stand.ready(PORT)[0]
    await_(lambda: a.ip in state_file.read_text(), "the state is saved")
    session = held(files, stand, PORT)
    router.sidecar.send(signal.SIGTERM)
    await_(lambda: router.probe() == "stopping", "/readyz fails")
    router.soft_stop()
    await_refused(stand, PORT)
    router.sidecar.await_said("remaining sessions: 1")
    stand.write("web.yaml", *app("web", PORT + 1, ["10.0.0.1"]))
    session.echo()
    assert not router.sidecar.ended
    assert router.haproxy.poll() is None
    session.close()
    router.await_no_haproxy()
    assert router.sidecar.wait() == 0
    assert router.errors() == []
    assert a.ip in state_file.read_text()


def test_a_haproxy_that_begins_to_stop_in_the_middle_of_a_change(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its half-done ports are nobody's to save, and nothing is planned on what it shows."""
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    state_file = stand.settings.haproxy.state_file
    stand.write("web.yaml", *app("web", PORT, [a]))
    haproxy = stand._process
    assert haproxy is not None
    changing, stopped = threading.Event(), threading.Event()

    def soft_stop(line: str) -> None:
        if changing.is_set() and not stopped.is_set() and line.endswith("state ready"):
            stand.client.close()
            haproxy.send_signal(signal.SIGUSR1)
            await_refused(stand, PORT)
            stopped.set()

    relay = Intercept(stand.folder / "relay.sock", stand.settings.haproxy.socket, soft_stop)
    files.callback(relay.close)
    files.enter_context(running(stand.daemon(socket=relay.path)))
    await_leads_to(stand, PORT, a)
    await_(lambda: a.address.ip in state_file.read_text(), "the state is saved")
    session = held(files, stand, PORT)
    saves_at = time.monotonic() + 1.5
    await_(lambda: time.monotonic() > saves_at, "it may save at once again")
    sent = len(relay.commands)
    changing.set()
    stand.write("web.yaml", *app("web", PORT, [b]))
    await_(lambda: "is stopping" in caplog.text, "it is noticed")
    assert stopped.is_set()
    session.echo()
    session.close()
    await_(lambda: haproxy.poll() is not None, "HAProxy ends with its last session", 20)
    assert b.address.ip not in state_file.read_text()
    assert not [line for line in relay.commands[sent:] if line.startswith("enable")]


def test_a_connection_of_ours_does_not_hold_haproxy_up(router: Router) -> None:
    """HAProxy's soft stop waits for the Runtime API's connections, too; nobody told the sidecar."""
    router.soft_stop()
    router.await_no_haproxy()
    assert not router.sidecar.ended


class Balancer:
    """A TCP load balancer as in front of a cluster: new connections go in turn to the routers
    whose /readyz says ok. ``failures``: connections that a router did not take."""

    def __init__(self, ip: str, routers: Sequence[Router]) -> None:
        self.ip = ip
        self.failures: list[str] = []
        #: Those that get new connections.
        self.ready: set[Router] = set()
        # router -> connections that it has not answered yet
        self._coming = dict.fromkeys(routers, 0)
        self._turn = itertools.count()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._listener = socket.create_server((ip, PORT), backlog=1024)
        self._threads = [
            threading.Thread(target=self._follow, args=(router,), daemon=True) for router in routers
        ]
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        for thread in self._threads:
            thread.start()

    def connect(self, port: int) -> Client:
        return Client((self.ip, port), 20)

    def is_without(self, router: Router) -> bool:
        """No connection is on its way to ``router``, and none will be."""
        with self._lock:
            return router not in self.ready and not self._coming[router]

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def _follow(self, router: Router) -> None:
        while not self._stop.wait(0.05):
            answer = router.probe()
            with self._lock:
                (self.ready.add if answer == "ok" else self.ready.discard)(router)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _choose(self) -> Router | None:
        with self._lock:
            able = [router for router in self._coming if router in self.ready]
            if not able:
                return None
            router = able[next(self._turn) % len(able)]
            self._coming[router] += 1
            return router

    def _serve(self, client: socket.socket) -> None:
        router = self._choose()
        with client:
            if router is None:
                self.failures.append("no router is ready")
                return
            try:
                greeted = False
                try:
                    server = socket.create_connection((router.stand.ip, PORT), 20)
                    server.settimeout(None)
                    first = server.recv(4096)
                    client.sendall(first)
                    greeted = bool(first)
                finally:
                    with self._lock:
                        self._coming[router] -= 1
                    if not greeted:
                        self.failures.append(f"{router.stand.folder.name} did not answer")
                with server:
                    back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                    back.start()
                    _copy(client, server)
                    back.join()
            except OSError:
                pass  # one of the two is gone


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_rolling_update_of_the_router_loses_no_connection(
    make_stand: MakeStand, make_server: MakeServer, start: Start, files: contextlib.ExitStack
) -> None:
    servers = [make_server(name) for name in "ab"]
    routers = [_router(make_stand, start, servers) for _ in range(2)]
    balancer = Balancer(fresh_ip(), routers)
    files.callback(balancer.close)
    await_(lambda: len(balancer.ready) == 2, "both are ready", 30)
    load = Load(balancer, threads=3)
    files.callback(load.stop)
    for router in routers:
        long = held(files, router.stand, PORT)
        served = load.served.total()
        # The pod is deleted: the sidecar's preStop hook tells it, HAProxy's hook sleeps meanwhile.
        router.sidecar.send(signal.SIGTERM)
        await_(lambda r=router: balancer.is_without(r), "the balancer looks elsewhere", 30)
        router.soft_stop()
        await_refused(router.stand, PORT)
        await_(lambda n=served: load.served.total() > n + 50, "the other one serves", 30)
        long.echo()
        assert not router.sidecar.ended
        long.close()
        router.await_no_haproxy()
        assert router.sidecar.wait() == 0
        assert router.errors() == []
        # And its successor comes.
        router.stand.start_haproxy()
        router.start_sidecar()
        await_(lambda: len(balancer.ready) == 2, "both are ready again", 30)
    load.stop()
    assert load.failures == []
    assert balancer.failures == []
    assert load.served.keys() == {"a", "b"}


def _router(make_stand: MakeStand, start: Start, servers: Sequence[EchoServer]) -> Router:
    stand = make_stand()
    stand.write("web.yaml", *app("web", PORT, servers))
    return Router(stand, start)
