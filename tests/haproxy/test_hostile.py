"""Routes that mean harm, or are broken: no other port may notice, and HAProxy sees none of it."""

import contextlib
import gc
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import run_cli
from drive import PORT, World, app, await_parked, operations, served_by
from relay import Relay
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    await_,
    await_leads_to,
    await_ready,
    await_refused,
    converged,
    endpoint,
    fresh_ip,
    leads_to,
    route,
    running,
    service,
    slice_,
)
from stand import app as manifests

from sidecar.listeners.tcp import unit_of
from sidecar.model.objects import Endpoint, Key
from sidecar.model.pool import Address

pytestmark = pytest.mark.serial

#: What a change of another port may take while somebody is hostile; alone it takes some 5 ms.
NOTICEABLE_SECONDS = 1.0


def change_seconds(world: World, port: int, ends: list[EchoServer], times: int) -> list[float]:
    """How long each of some changes of ``port`` takes until HAProxy shows it."""
    took = []
    for number in range(times):
        end = ends[number % len(ends)]
        started = time.monotonic()
        world.serve(end, service=f"web-{port}")
        await_(lambda end=end: end.address in world.stand.ready(port), f"{port}: change {number}")
        took.append(time.monotonic() - started)
    return took


def test_thousands_of_routes_on_one_port(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, (a, b, c, d) = make_stand(), [make_server(name) for name in "abcd"]
    other = PORT + 1
    world = World(stand, *app(f"web-{other}", other, a))
    daemon = files.enter_context(world.sidecar())
    quiet = change_seconds(world, other, [b, a], 10)

    crowd = [
        route(
            f"crowd-{number:04}",
            PORT,
            service="others" if number else "oldest",
            created_seconds=1000.0 + number,
        )
        for number in range(5000)
    ]
    world.put(*app("oldest", PORT, c)[1:], *app("others", PORT, d)[1:], *reversed(crowd))
    busy = change_seconds(world, other, [b, a], 10)
    await_leads_to(stand, PORT, c)
    world.settle()
    assert max(busy) < NOTICEABLE_SECONDS, f"{busy}, alone {quiet}"
    verdicts = [daemon._routing.verdict(item.key) for item in crowd]
    assert [verdict.admitted for verdict in verdicts if verdict] == [True] + [False] * 4999
    assert {verdict.reason for verdict in verdicts[1:] if verdict} == {"PortAlreadyClaimed"}

    # Who has it goes: the next oldest follows, again and again.
    for number in range(3):
        world.remove(crowd[number].key)
        owner = crowd[number + 1].key
        await_(lambda key=owner: daemon._routing.owned(key) == unit_of(PORT), "the next one has it")
        await_leads_to(stand, PORT, d)
    after = change_seconds(world, other, [b, a], 10)
    assert max(after) < NOTICEABLE_SECONDS, f"{after}, alone {quiet}"
    # All of them at one stroke.
    world.remove(*(item.key for item in crowd[3:]))
    await_refused(stand, PORT)
    assert served_by(stand, 2, other) <= {"a", "b"}


class Flapping:
    """Something done again and again, some hundred times a second. ``count``: how often."""

    def __init__(self, *do: Callable[[], None]) -> None:
        self.count = 0
        self.seconds = 0.0
        self._do = do
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(10)
            self.seconds = time.monotonic() - self._started

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            self._do[self.count % len(self._do)]()
            self.count += 1


def test_a_route_that_comes_and_goes_hundreds_of_times_a_second(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, (a, b, c) = make_stand(), [make_server(name) for name in "abc"]
    other = PORT + 1
    flapper, to, ends = app("web", PORT, c)
    world = World(stand, flapper, to, ends, *app(f"web-{other}", other, a))
    daemon = files.enter_context(world.sidecar())
    quiet = change_seconds(world, other, [b, a], 20)
    before = operations(daemon)

    flapping = Flapping(lambda: world.remove(flapper.key), lambda: world.put(flapper))
    files.callback(flapping.stop)
    busy: list[float] = []
    while flapping.count <= 600 and len(busy) < 1000:
        busy += change_seconds(world, other, [b, a], 4)
    assert flapping.count > 600
    flapping.stop()
    assert flapping.count / flapping.seconds > 100, "hardly a flap"
    assert max(busy) < NOTICEABLE_SECONDS, f"{busy}, alone {quiet}"
    done = operations(daemon) - before
    toggles = done["OpenPort"] + done["ClosePort"]
    assert toggles <= flapping.seconds + 2, f"{toggles} times in {flapping.seconds:.1f} s"
    # It ends as it was last, and quietly.
    world.put(flapper)
    await_leads_to(stand, PORT, c)
    world.remove(flapper.key)
    await_refused(stand, PORT)
    await_parked(stand, *stand.slots(PORT).values())


def test_endpoints_that_flap_hundreds_of_times_a_second(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """Of one Route, some or all: its port stays open, and HAProxy is not asked for each flap."""
    stand, (a, b, c) = make_stand(), [make_server(name) for name in "abc"]
    other, partly = PORT + 1, PORT + 2
    world = World(
        stand,
        *app("web", PORT, c),
        *app("partly", partly, a, c),
        *app(f"web-{other}", other, a),
    )
    daemon = files.enter_context(world.sidecar())
    session = stand.connect(partly)
    files.callback(session.close)
    before = operations(daemon)

    def flap(*ends: EchoServer) -> Callable[[], None]:
        def do() -> None:
            world.put(
                slice_("web", [end.address.ip for end in ends]),
                slice_("partly", [end.address.ip for end in (a, *ends)]),
            )

        return do

    flapping = Flapping(flap(), flap(c))
    files.callback(flapping.stop)
    busy: list[float] = []

    def enough() -> bool:
        busy.extend(change_seconds(world, other, [b, a], 4))
        # Whoever stays serves all the time.
        assert served_by(stand, 1, partly) <= {"a", "c"}
        return flapping.count > 600

    await_(enough, "600 flaps", 20)
    flapping.stop()
    done = operations(daemon) - before
    assert max(busy) < NOTICEABLE_SECONDS, busy
    assert done["OpenPort"] + done["ClosePort"] == 0, "it never was without servers for long"
    # Two ports that rest 20 ms after each change, some commands for each.
    assert done["SetState"] < flapping.seconds * 50 * 2 * 3 + len(busy) * 4
    session.echo()


#: What would be commands of their own, or end one, wherever it got to the Runtime API.
EVIL = {
    "semicolon": "evil;disable frontend tcp-30005",
    "newline": "evil\ndisable frontend tcp-30005",
    "payload": "evil <<\nset server be_tcp-30005/s1 state maint\n\n",
    "space": "evil state maint",
    "escape": "evil\\;disable frontend tcp-30005",
    "control": "evil\x1b[2J\x00",
    "quotes": "evil\"'`$(reboot)",
    "unicode": "evil\u2028ev\u0130l",
}

Objects = tuple[dict[str, Any], ...]
Make = Callable[[int, str], Objects]


def _set(which: int, *path: str | int) -> Make:
    """An application on a port, with a value at ``path`` of its Route, Service or slice."""

    def make(port: int, value: str) -> Objects:
        objects = manifests("evil", port, ["10.1.2.3"], target_port=9000, namespace=f"evil-{port}")
        place: Any = objects[which]
        for step in path[:-1]:
            place = place[step] if isinstance(step, int) else place.setdefault(step, {})
        place[path[-1]] = value
        return objects

    return make


_ANNOTATION = "haproxy.router.openshift.io/"
#: Every field that could get near HAProxy -> what makes an application with the value there.
FIELDS: dict[str, Make] = {
    "Route name": _set(0, "metadata", "name"),
    "Route namespace": _set(0, "metadata", "namespace"),
    "Route uid": _set(0, "metadata", "uid"),
    "Route creationTimestamp": _set(0, "metadata", "creationTimestamp"),
    "port annotation": _set(0, "metadata", "annotations", f"{_ANNOTATION}external-tcp-port"),
    "router annotation": _set(0, "metadata", "annotations", f"{_ANNOTATION}wzh-router-name"),
    "drain deadline": _set(0, "metadata", "annotations", f"{_ANNOTATION}drain-deadline"),
    "target kind": _set(0, "spec", "to", "kind"),
    "target name": _set(0, "spec", "to", "name"),
    "target weight": _set(0, "spec", "to", "weight"),
    "targetPort": _set(0, "spec", "port", "targetPort"),
    "termination": _set(0, "spec", "tls", "termination"),
    "Service name": _set(1, "metadata", "name"),
    "Service port name": _set(1, "spec", "ports", 0, "name"),
    "Service port": _set(1, "spec", "ports", 0, "port"),
    "Service targetPort": _set(1, "spec", "ports", 0, "targetPort"),
    "Service protocol": _set(1, "spec", "ports", 0, "protocol"),
    "slice name": _set(2, "metadata", "name"),
    "slice label": _set(2, "metadata", "labels", "kubernetes.io/service-name"),
    "slice port": _set(2, "ports", 0, "port"),
    "slice port name": _set(2, "ports", 0, "name"),
    "slice protocol": _set(2, "ports", 0, "protocol"),
    "address": _set(2, "endpoints", 0, "addresses", 0),
    "ready": _set(2, "endpoints", 0, "conditions", "ready"),
    "pod": _set(2, "endpoints", 0, "targetRef", "name"),
    "node": _set(2, "endpoints", 0, "nodeName"),
}

EVIL_PORT = 31000

#: Fields in which any text is fine, since it is only compared or shown, or left out.
HARMLESS = {
    "Route uid",
    "router annotation",
    "Service port name",
    "Service targetPort",
    "slice port name",
    "slice label",
    "pod",
    "node",
}

#: Every command that the sidecar may ever send.
_SERVER = r"be_tcp-3\d{4}/[sx]\d+"
ALLOWED = re.compile(
    rf"prompt|show info|show servers state be_tcp-3\d{{4}}|show stat (1?be_tcp-3\d{{4}}|"
    rf"(be_)?tcp-3\d{{4}}|-1) [1346] -1|set server {_SERVER} (addr [0-9a-f.:]+ port \d+|weight \d+|"
    rf"state (ready|drain|maint))|add server {_SERVER} [0-9a-f.:\[\]]+ weight \d+|"
    rf"del server {_SERVER}|(enable|disable) frontend tcp-3\d{{4}}|"
    r"show map [A-Za-z0-9_/.-]+/maps/port_(allowed_sources|guards|limits)\.map"
)


@pytest.fixture
def spied(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> Iterator[tuple[Stand, Relay]]:
    """A daemon on manifests behind a relay, with a good Route on 30005 beside the evil one."""
    ports = ["30005", "30009", f"{EVIL_PORT}-{EVIL_PORT + len(FIELDS)}"]
    stand, good = make_stand(pools=[{"ports": ports, "slots": 4}]), make_server("good")
    relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    stand.write("good.yaml", *manifests("good", 30005, [good]))
    with running(stand.daemon(socket=relay.path)) as daemon:
        await_leads_to(stand, 30005, good)
        converged(daemon)
        yield stand, relay
        assert leads_to(stand, 30005, good)
    assert relay.commands
    for line in relay.commands:
        assert ALLOWED.fullmatch(line), line


@pytest.mark.parametrize("evil", EVIL)
def test_no_evil_value_reaches_haproxy(spied: tuple[Stand, Relay], evil: str) -> None:
    """In every field, each on a port and in a file of its own, and each told with a reason."""
    stand, relay = spied
    fields = dict(enumerate(FIELDS, EVIL_PORT))
    for port, field in fields.items():
        stand.write(f"evil-{port}.yaml", *FIELDS[field](port, EVIL[evil]))
    # One more change follows them all.
    marker = fresh_ip()
    stand.write("marker.yaml", *manifests("marker", 30009, [marker]))
    await_ready(stand, 30009, Address(marker, 9000))

    report = report_of(stand)
    problems = report["problems"]
    told = {item["port"]: item["message"] for item in report["ports"] if item["reason"]}
    waiting = {item["route"].split("/")[0]: item["message"] for item in report["waiting"]}
    untold = {
        field
        for port, field in fields.items()
        if not any(f"evil-{port}.yaml" in text for text in problems)
        and f"evil-{port}" not in waiting
        and told.get(port, "") in ("", f"owns port {port}")
    }
    assert untold <= HARMLESS, f"nothing is said of {untold - HARMLESS}"
    # Nothing of it is in a command, whatever it was called.
    told_haproxy = [line.replace(str(stand.folder), "").lower() for line in relay.commands]
    assert not [line for line in told_haproxy if "evil" in line]
    # What is said of it is said in one line.
    for text in (*problems, *told.values(), *waiting.values()):
        assert text.isprintable(), repr(text)


def report_of(stand: Stand) -> dict[str, Any]:
    status = run_cli("status", "-c", stand.settings_file, "--json")
    assert status.code == 0
    report: dict[str, Any] = json.loads(status.out)
    return report


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_source_lets_through_does_not_reach_haproxy_either(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    tmp_path: Path,
    evil: str,
) -> None:
    """The objects of the model themselves, past all checks of the source."""
    value = EVIL[evil]
    stand, good = make_stand(), make_server("good")
    relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    world = World(stand, *app("good", PORT + 5, good))
    daemon = files.enter_context(world.sidecar(socket=relay.path))
    world.put(
        # The name of everything.
        route(value, PORT, service=value, namespace=value, uid=value, target_port=value),
        service(value, namespace=value),
        slice_(value, [good.address.ip], namespace=value, port_name=value, name=value),
        # Addresses, beside a good one.
        *app("web", PORT + 1, good),
    )
    world.put(slice_("web", [Endpoint((value,), True, True, False, value, value),
                             endpoint(good.address.ip)]))  # fmt: skip
    world.put(route("port", f"30002{value}", service="good"))
    world.put(route("deadline", PORT + 3, service="good", drain_deadline=value))
    world.settle()
    assert leads_to(stand, PORT + 1, good)
    assert leads_to(stand, PORT + 5, good)
    assert leads_to(stand, PORT + 3, good)
    assert not daemon.reconciler.known.failures
    verdict = daemon._routing.verdict(route("web").key)
    assert verdict is not None
    assert "is not a valid IP address" in verdict.message
    assert not [line for line in relay.commands if "evil" in line.lower()]
    for line in relay.commands:
        assert ALLOWED.fullmatch(line), line


def test_no_full_garbage_collection_holds_the_loop_up(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    """However many objects come: what we make goes when nobody has it."""
    stand, a = make_stand(), make_server("a")
    world = World(stand, *app("web", PORT, a))
    thresholds = gc.get_threshold()
    with world.sidecar() as daemon:
        full = gc.get_stats()[2]["collections"]
        for generation in range(20):
            world.put(
                *(
                    slice_("web", [f"10.{generation}.{number}.{host}" for host in range(100)],
                           name=f"web-{number}")
                    for number in range(20)
                ),
                *(route(f"r{number}", PORT, created_seconds=1e9 - generation)
                  for number in range(500)),
            )  # fmt: skip
            verdict = daemon._routing.verdict
            youngest = Key("Route", "demo", "r0")
            await_(lambda v=verdict, k=youngest: v(k) is not None, "they are taken")
        assert gc.get_stats()[2]["collections"] == full
    assert gc.get_threshold() == thresholds
