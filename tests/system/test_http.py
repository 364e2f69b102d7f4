"""/healthz, /readyz and /metrics of a running sidecar."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families
from relay import Relay
from stand import EchoServer, Stand, app, await_, changes, route, running

from sidecar.common.errors import SettingsError
from sidecar.common.hostport import split_host_port
from sidecar.control.connection import ALIVE_SECONDS
from sidecar.model.change import Change, Sink

MakeStand = Callable[..., Stand]
MakeServer = Callable[..., EchoServer]


class Answer(NamedTuple):
    status: int
    body: str
    content_type: str


@pytest.fixture
def files() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def get(stand: Stand, path: str, method: str = "GET") -> Answer:
    host, port = split_host_port(stand.settings.http.listen or "")
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode()
        return Answer(answer.status, body, answer.headers.get("Content-Type", ""))


def await_ready(stand: Stand, status: int = 200) -> None:
    def says() -> bool:
        try:
            return get(stand, "/readyz").status == status
        except ConnectionRefusedError:
            return False  # it has just been started

    await_(says, f"/readyz says {status}", 5)


def metrics(stand: Stand) -> dict[str, float]:
    """``name{label=value}`` -> value, as Prometheus would read it."""
    answer = get(stand, "/metrics")
    assert answer.status == 200
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.body)
        for sample in family.samples
    }


class LateSource:
    """Two origins, each of which syncs when it is told to."""

    origins = ("first", "second")

    def __init__(self, objects: Sequence[Change]) -> None:
        self.may_sync = {name: threading.Event() for name in self.origins}
        self._objects = objects

    def load(self, sink: Sink) -> None:
        raise NotImplementedError

    def run(self, sink: Sink, stop: threading.Event) -> None:
        for name in self.origins:
            while not (self.may_sync[name].wait(0.02) or stop.is_set()):
                pass
            sink.publish(name, self._objects if name == "first" else (), ())


def test_ready_only_after_every_source_has_synced(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.client.ask("enable frontend tcp-30005")  # as it is before the sidecar closed it
    source = LateSource(changes(route("web", 30000)))
    with running(stand.daemon(source)):
        await_ready(stand, 503)
        assert get(stand, "/readyz").body == "not synced yet: first, second\n"
        assert get(stand, "/healthz")[:2] == (200, "ok\n")
        source.may_sync["first"].set()
        await_(lambda: get(stand, "/readyz").body == "not synced yet: second\n", "half")
        assert stand.port(30005).open, "nothing is programmed on half of the truth"
        source.may_sync["second"].set()
        await_ready(stand)
        assert get(stand, "/readyz").body == "ok\n"
        assert stand.is_refused(30005)


def test_who_waits_for_its_source_costs_haproxy_nothing(
    make_stand: MakeStand, files: contextlib.ExitStack
) -> None:
    stand = make_stand()
    relay = Relay(stand.folder / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    began = time.monotonic()
    files.enter_context(running(stand.daemon(LateSource(()), socket=str(relay.path))))
    await_(lambda: len(relay.commands) > 3, "HAProxy is asked who it is")
    assert set(relay.commands) == {"prompt", "show info"}
    assert len(relay.commands) <= 3 + (time.monotonic() - began) / ALIVE_SECONDS


def test_unready_while_haproxy_is_away(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(start=False)
    stand.write("web.yaml", *app("web", 30000, [make_server()]))
    files.enter_context(running(stand.daemon()))
    await_ready(stand, 503)
    await_(lambda: "Runtime API at" in get(stand, "/readyz").body, "it says what is wrong")
    assert get(stand, "/healthz/ready").body == get(stand, "/readyz").body
    assert get(stand, "/healthz").status == 200, "a restart of the sidecar would not help"

    stand.start()
    await_ready(stand)
    stand.stop_haproxy()
    await_ready(stand, 503)
    assert metrics(stand)["haproxy_sidecar_converged"] == 0
    stand.start_haproxy()
    await_ready(stand)
    # It is ready a moment before its step ends, which says so.
    await_(lambda: metrics(stand)["haproxy_sidecar_converged"] == 1, "it says so")
    seen = metrics(stand)
    assert seen["haproxy_sidecar_haproxy_restarts_total"] == 1
    assert seen["haproxy_sidecar_connection_errors_total"] >= 2


def test_a_port_that_fails_takes_no_other_out_of_the_service(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, server = make_stand(), make_server()
    with running(stand.daemon()):
        await_ready(stand)
        # Nothing opens this frontend again: HAProxy refuses for ever.
        stand.client.ask("shutdown frontend tcp-30001")
        stand.write("web.yaml", *app("web", 30001, [server]), *app("other", 30000, [server]))
        await_(lambda: "[30001]" in get(stand, "/readyz").body, "it names the port")
        answer = get(stand, "/readyz")
        assert (answer.status, answer.body) == (200, "not converged; failing ports: [30001]\n")
        await_(lambda: stand.ready(30000) == [server.address], "the other one works")
        # The gauge is set a moment after /readyz knows it.
        await_(lambda: metrics(stand)["haproxy_sidecar_converged"] == 0, "metrics say so")
        seen = metrics(stand)
        assert seen["haproxy_sidecar_ports{state=failing}"] == 1
        assert seen["haproxy_sidecar_refused_operations_total{kind=OpenPort}"] >= 1
        stand.remove("web.yaml")
        stand.write("other.yaml", *app("other", 30000, [server]))
        await_ready(stand)


def test_metrics(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    stand.write("waits.yaml", *app("waits", 30001), *app("younger", 30001), *app("bad", "x"))
    with running(stand.daemon()):
        await_ready(stand)
        first = metrics(stand)
        assert first["haproxy_sidecar_ports{state=open}"] == 1
        assert first["haproxy_sidecar_ports{state=closed}"] == 9
        assert first["haproxy_sidecar_ports{state=failing}"] == 0
        assert first["haproxy_sidecar_operations_total{kind=SetAddress}"] == 1
        assert first["haproxy_sidecar_operations_total{kind=SetState}"] == 1
        assert first["haproxy_sidecar_operations_total{kind=ClosePort}"] == 9
        assert first["haproxy_sidecar_verified_seconds_count"] == 10
        stand.write("web.yaml", *app("web", 30000, [a, b]))
        await_(lambda: len(stand.ready(30000)) == 2, "b is served")
        await_(lambda: metrics(stand)["haproxy_sidecar_verified_seconds_count"] == 11, "counted")
        then = metrics(stand)
        assert then["haproxy_sidecar_operations_total{kind=SetAddress}"] == 2
        assert then["haproxy_sidecar_verified_seconds_sum"] < 5
        assert then.keys() >= first.keys()
        await_(
            lambda: metrics(stand)["haproxy_sidecar_pool_slots{pool=p0}{state=used}"] == 2, "used"
        )
        then = metrics(stand)
        slots = [name for name in then if name.startswith("haproxy_sidecar_slot_info")]
        assert len(slots) == 2, "of used slots only"
        assert "{proxy=be_tcp-30000}{route=web}{route_namespace=demo}{server=s1}" in slots[0]
        assert then["haproxy_sidecar_pool_slots{pool=p0}{state=free}"] == 38
        assert then["haproxy_sidecar_pool_ports{pool=p0}{state=claimed}"] == 2
        assert then["haproxy_sidecar_pool_ports{pool=p0}{state=free}"] == 8
        claims = {
            state: then[f"haproxy_sidecar_claims{{state={state}}}"]
            for state in ("serving", "empty", "waiting", "refused")
        }
        assert claims == {"serving": 1, "empty": 1, "waiting": 1, "refused": 1}
        assert then["haproxy_sidecar_source_changed_age_seconds"] >= 0
        assert then["haproxy_sidecar_applied_seconds_count"] >= 10
    # Beside those of slots and ports in use.
    mine = ("haproxy_sidecar_slot_info", "haproxy_sidecar_port_")
    others = [name for name in then if "30000" in name and not name.startswith(mine)]
    assert not others, "labels are bounded"


def test_other_requests(make_stand: MakeStand) -> None:
    stand = make_stand()
    with running(stand.daemon()):
        await_ready(stand)
        missing = get(stand, "/nothing")
        assert missing.status == 404
        known = "/healthz, /readyz, /healthz/ready, /metrics, /, "
        assert missing.body.startswith(f"not found; available: {known}")
        assert get(stand, "/healthz/ready") == get(stand, "/readyz")
        assert get(stand, "/readyz?verbose=1").status == 200
        assert get(stand, "/metrics").content_type.startswith("text/plain; version=")
        assert get(stand, "/readyz", method="POST").status == 405
        host, port = split_host_port(stand.settings.http.listen or "")
        with socket.create_connection((host, port), 5) as rude:
            rude.sendall(b"\x00\xff nonsense\r\n\r\n")
            rude.recv(4096)
        # One that says nothing keeps nobody else waiting.
        with socket.create_connection((host, port), 5):
            assert get(stand, "/healthz").status == 200


def test_the_port_is_taken(make_stand: MakeStand) -> None:
    stand = make_stand()
    listen = stand.settings.http.listen
    with socket.create_server(split_host_port(listen or "")):
        daemon = stand.daemon()
        with pytest.raises(SettingsError) as caught:
            daemon.run()
    assert daemon._wakeup._read.fileno() == -1, "it left a socket open"
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        "settings http.listen:\n"
        f"  {listen!r} cannot be used (Address already in use); choose another, or null to disable"
    )


def test_no_port_is_wanted(make_stand: MakeStand) -> None:
    stand = make_stand(http={"listen": None})
    with running(stand.daemon()) as daemon:
        await_(lambda: not daemon.ready(), "converged")


def test_ipv6(make_stand: MakeStand) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
        port = probe.getsockname()[1]
    stand = make_stand(http={"listen": f"[::1]:{port}"})
    with running(stand.daemon()):
        await_ready(stand)


def test_nothing_listens_after_the_end(make_stand: MakeStand) -> None:
    stand = make_stand()
    with running(stand.daemon()) as daemon:
        await_ready(stand)
    assert daemon.ready() == "stopping"
    with pytest.raises(ConnectionRefusedError):
        get(stand, "/healthz")
