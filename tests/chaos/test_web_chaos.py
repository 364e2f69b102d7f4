"""A seeded random run of Routes by host, on the real HAProxy with real pods and clients.

    CHAOS_STEPS=20000 CHAOS_SEED=7 python -m pytest tests/chaos/test_web_chaos.py

At all times: an answer comes from a pod of a Route that has the host and path, or had them since
HAProxy was last seen to be right; an unchanged Route with a ready pod answers; downloads and
connections end only by their clients, or with HAProxy. At quiet points each host and path is
served by exactly whom `web_world` says, and HAProxy's maps, and their files, have its entries.
A certificate that a client is shown is its host's, or was since then; HAProxy's crt-list, what it
stores, and the files, have those and no others.

At ports that are shared by SNI, or one Route's, a client sees by a pod's certificate who serves it;
one whose name nobody has there gets to nobody.

Meanwhile workers and sidecars are killed, in the middle of a batch, too, HAProxy is killed, and
somebody changes its maps, servers and certificates by hand.
"""

import contextlib
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import stand
import web_ports
import web_tamper
from by_host import WebStand
from pods import Pod
from processes import Sidecar
from rig import Tripwire
from sources import Feed
from stand import Stand
from web_certificates import handshake, problems_of, tamper, tls_of
from web_dice import Step, WebDice
from web_ports import PortClients
from web_rig import HTTPLine
from web_world import (
    HOSTS,
    NAMES,
    PODS,
    PORT_QUESTIONS,
    PORTS,
    QUESTIONS,
    VERSIONS,
    Ends,
    Question,
    WebRoute,
    WebWorld,
)
from world import DEAD, MARK_PORT

from sidecar.common.errors import RuntimeAPIError
from sidecar.haproxy.maps import parse_map, parse_map_file
from sidecar.haproxy.naming import backend_name, web_backend
from sidecar.haproxy.state import ObservedServer, parse_servers_state
from sidecar.haproxy.web_files import WebFiles
from sidecar.model.desired import BackendName

pytestmark = pytest.mark.serial

STEPS = int(os.environ.get("CHAOS_STEPS") or 120)
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))


class WebFeed(Feed):
    def tell(self, objects: list[tuple[dict[str, Any], bool]]) -> None:
        """Objects as they are now, together."""
        self._put(objects)


class Run:
    """One run: does the steps, and compares."""

    def __init__(self, web: WebStand, ips: dict[str, str], backends: Mapping[str, int]) -> None:
        self.web, self.stand = web, web.stand
        self.ips = ips
        self.pod_of = {ip: pod for pod, ip in ips.items()}
        self.files = WebFiles.beside(self.stand.settings.haproxy.state_file)
        self.maps = {
            "http": self.files.hosts_map,
            "passthrough": self.files.sni_map,
            "ports": self.files.ports_map,
        }
        self.feed = WebFeed(self.stand.folder, {**ips, DEAD: stand.fresh_ip()})
        self.world = WebWorld(ips, backends, tls_of)
        self.relay = Tripwire(self.stand.folder / "relay.sock", self.stand.settings.haproxy.socket)
        self.sidecar = Sidecar(self.stand, self.relay.path, self.feed)
        self.clients = PortClients(web.http, web.tls, self.stand.ip, SEED)
        self.mark = 10_000
        self.last: deque[str] = deque(maxlen=25)

    def close(self) -> None:
        for part in (self.clients, self.sidecar, self.relay, self.feed):
            part.close()

    # Steps.

    def do(self, step: Step) -> None:
        self.note(f"{step.action} {step.arguments}")
        attrgetter(step.action)(self)(*step.arguments)
        assert not self.clients.faults

    def note(self, text: str) -> None:
        """For who looks for a fault's cause."""
        self.last.append(f"{time.time():.3f} {text}\n")
        with (self.stand.folder / "steps.log").open("a") as file:
            file.write(self.last[-1])

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def tell(self, routes: Mapping[str, WebRoute | None], ends: Mapping[str, Ends]) -> None:
        told = self.world.manifests(routes, ends)
        self.clients.promise(self.world)
        self.feed.tell(told)

    def trip(self, after: int, what: str) -> None:
        deeds = {"worker": self.sidecar.kill_worker, "sidecar": self.sidecar.kill}
        self.relay.trip(after, deeds.get(what))

    def kill_haproxy(self) -> None:
        """And start it again, on its files."""
        self.relay.trip(0)
        state = self.stand.settings.haproxy.state_file
        self.clients.die()
        self.stand.client.close()
        self.stand.stop_haproxy()
        self.clients.go_back(state.stat().st_mtime if state.exists() else 0.0)
        self.stand.start_haproxy()
        self.clients.promise(self.world)
        self.clients.die()

    def restart_alone(self) -> None:
        """After a quiet point both die, and HAProxy alone serves as before."""
        self.be_quiet(thorough=True)
        self.sidecar.kill()
        state = parse_servers_state(self.stand.settings.haproxy.state_file.read_text())
        self.kill_haproxy()
        for question in (*QUESTIONS, *PORT_QUESTIONS):
            served = self.world.served[question]
            if not question.port and (question.target is None or not served.ready):
                continue
            slots = state[self.unit_of(question)].values() if served.route else ()
            usable = [item for item in slots if item.name[0] == "s" and item.state == "ready"]
            answer = self.answer(question)
            right = answer in served.ready or (answer == served.otherwise and not usable)
            assert right, f"alone, {question}: {answer}, not {served}"
        for host in self.ended_hosts():
            label = self.shown_certificate(host)
            assert label == self.world.certificate(host), f"alone, {host} has {label!r}"
        self.be_quiet(thorough=False)

    def tamper_certificates(self, roll: float, then: Mapping[str, WebRoute | None]) -> None:
        """Somebody else's commands about certificates: all is put right."""
        self.be_quiet(thorough=False)
        self.clients.tamper()
        self.note(f"by hand: {tamper(self.stand.client, self.files, random.Random(roll))}")
        if then:
            self.tell(then, {})
        # A list and names that look right may have other contents, or a transaction that is open:
        # only the full look, each second, sees that.
        self.until_no(lambda: next(self.problems(thorough=True), ""))
        self.be_quiet(thorough=False)

    def unit_of(self, question: Question) -> BackendName:
        """The backend of the Route that serves it, as HAProxy has it."""
        served = self.world.served[question].route
        if question.port and served == self.world.whole(question.port):
            return backend_name(int(question.port))
        kind = "ports" if question.port else "http"
        entries = self.world.entries(kind).items()
        return BackendName(self.shown_map(kind)[next(key for key, of in entries if of == served)])

    def ended_hosts(self) -> Iterator[str]:
        """Whose TLS no pod ends."""
        for host in HOSTS:
            if self.world.served[Question(host, None)].route is None:
                yield host

    def shown_certificate(self, host: str) -> str:
        try:
            return handshake(self.web.tls, host)
        except OSError as exc:
            return f"({exc!r})"

    def tamper(self, roll: float, then: Mapping[str, WebRoute | None]) -> None:
        """Somebody else's commands to HAProxy, and maybe a change at once: all is put right."""
        self.be_quiet(thorough=False)
        self.clients.tamper()
        unit, commands = web_tamper.commands(
            random.Random(roll), self.maps, self.shown_map, self.servers(), self.world
        )
        self.note(f"by hand: {commands}")
        self.stand.client.ask_all(commands)
        if then:
            self.tell(then, {})
        if unit in commands[0]:
            # An entry that leads to a backend of nobody looks right, until somebody gets it: only
            # the slow compare, each second, sees that.
            time.sleep(1.5)
        self.be_quiet(thorough=False)

    def be_quiet(self, thorough: bool) -> None:
        """Await that HAProxy is as the world says; ``thorough``: and saved."""
        self.relay.trip(0)
        self.relay.fault("pass")
        self.sidecar.start()
        self.mark += 1
        self.feed.mark(self.mark)
        self.until_no(lambda: next(self.problems(thorough=thorough), ""))
        self.clients.promise(self.world)
        self.clients.be_quiet(time.time())

    # What is compared.

    def until_no(self, problem: Callable[[], str], seconds: float = 40.0) -> None:
        deadline = time.monotonic() + seconds
        while text := problem():
            assert not self.clients.faults
            assert time.monotonic() < deadline, f"not converged: {text}"
            time.sleep(0.02)

    def servers(self) -> Mapping[BackendName, Mapping[str, ObservedServer]]:
        return parse_servers_state(self.stand.client.ask("show servers state"))

    def shown_map(self, kind: str) -> Mapping[str, str]:
        return parse_map(self.stand.client.ask(f"show map {self.maps[kind]}"))

    def problems(self, *, thorough: bool) -> Iterator[str]:
        if said := self.sidecar.not_ready():
            yield f"/readyz: {said}"
        observed = self.servers()
        marks = [
            item.address.port
            for item in observed[backend_name(MARK_PORT)].values()
            if item.state == "ready"
        ]
        if marks != [self.mark]:
            yield f"it is not as far as {self.mark}, but {marks}"
        backends: dict[WebRoute, BackendName] = {}
        for kind, file in self.maps.items():
            seen = parse_map(self.stand.client.ask(f"show map {file}"))
            wanted = self.world.entries(kind)
            if seen.keys() != wanted.keys():
                yield f"{kind}: entries {seen}, wanted are {wanted}"
                return
            for entry, route in wanted.items():
                unit = backends.setdefault(route, BackendName(seen[entry]))
                if unit != seen[entry]:
                    yield f"{kind}: {route} has two backends: {seen}"
            if thorough and parse_map_file(file.read_text()) != seen:
                yield f"{file} is not what HAProxy shows: {seen}"
        used = set(backends.values())
        if len(used) != len(backends):
            yield f"Routes share a backend: {backends}"
        for route, unit in backends.items():
            ready = sorted(
                self.pod_of.get(item.address.ip, str(item.address))
                for item in observed.get(unit, {}).values()
                if item.state == "ready"
            )
            if ready != sorted(self.world.ready(route)):
                yield f"{unit}: ready {ready}, wanted {self.world.ready(route)} of {route}"
        for unit, slots in observed.items():
            if web_backend(unit) and unit not in used:
                left = [item for item in slots.values() if item.state != "maint"]
                if left:
                    yield f"nobody has {unit}, and it has {left}"
        yield from web_ports.problems_of(self.stand.client, self.world, observed, self.pod_of)
        yield from problems_of(self.stand.client, self.files, self.world, thorough=thorough)
        for host in self.ended_hosts():
            shown, right = self.shown_certificate(host), self.world.certificate(host)
            if shown != right:
                yield f"{host} has certificate {shown!r}, not {right!r}"
        for question in (*QUESTIONS, *PORT_QUESTIONS):
            served = self.world.served[question]
            if question.target is not None or question.port:
                answer = self.answer(question)
                if answer not in (served.ready or {served.otherwise}):
                    yield f"{question}: {answer}, not {served}"
        if thorough:
            saved = parse_servers_state(self.stand.settings.haproxy.state_file.read_text())
            for unit in (*used, *(backend_name(int(port)) for port in PORTS)):
                was, now = (
                    {(s.name, s.address) for s in of[unit].values() if s.state == "ready"}
                    for of in (saved, observed)
                )
                if was != now:
                    yield f"{unit} is saved with {was}, has {now}"

    def answer(self, question: Question) -> str:
        if question.port:
            return web_ports.ask(self.stand.ip, question)
        try:
            address = self.web.tls if question.secured else self.web.http
            with contextlib.closing(HTTPLine(address, secured=question.secured)) as line:
                return line.ask(question)
        except OSError as exc:
            return f"({exc!r})"


# Python's ssl leaves a socket to the garbage collector that was reset before its handshake.
@pytest.mark.filterwarnings("default:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(120 + 3 * STEPS)
@pytest.mark.parametrize(
    "backends",
    [{"http": 24, "passthrough": 12}, {"http": 3, "passthrough": 2}],
    ids=["plenty", "scarce"],
)
def test_web_chaos(
    backends: dict[str, int],
    tmp_path: Path,
    make_stand: Callable[..., Stand],
    files: contextlib.ExitStack,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():
        sys.stderr.write(f"\nweb chaos: seed {SEED}, {STEPS} steps, {backends}\n")
    web = WebStand.make(
        lambda **more: make_stand(
            pools=[
                {"ports": [MARK_PORT]},
                {"name": "shared", "ports": [*map(int, PORTS)], "slots": 3, "shared_by_sni": True},
            ],
            **more,
        ),
        backends=backends,
        wildcards=True,
    )
    ips = {name: stand.fresh_ip() for name in PODS}
    for name, ip in ips.items():
        files.callback(Pod(name, ip).close)
    run, dice = Run(web, ips, backends), WebDice(SEED)
    try:
        run.tell({}, {f"{name}{version}": {} for name in NAMES for version in VERSIONS})
        run.be_quiet(thorough=False)
        run.clients.start()
        for _ in range(STEPS):
            run.do(dice.step(run.world))
        run.do(Step("restart_alone"))
        assert run.clients.served > 0
        # The worker of a sidecar that was killed may have its HTTP port for a moment longer.
        traces = run.sidecar.log.read_text().split("Traceback")[1:]
        assert not [trace[:3000] for trace in traces if "in use" not in trace]
        with capsys.disabled():
            sys.stderr.write(f"{run.clients.counts}; gaps: {len(run.clients.gaps)}\n")
    except BaseException as exc:
        shown, log = tmp_path / "haproxy.txt", web.stand.folder / "haproxy.log"
        questions = ["show servers state", *(f"show map {file}" for file in run.maps.values())]
        try:
            shown.write_text("\n".join(web.stand.client.ask_all(questions)))
        except RuntimeAPIError:
            # It may have died, and its last words say why.
            shown.write_text(log.read_text(errors="replace")[-20_000:])
        raise AssertionError(
            "\n".join([f"{exc!s:.600}", *run.clients.faults[:3]])
            + f"\nCHAOS_SEED={SEED}, {stand.HAPROXY}; all steps: {web.stand.folder / 'steps.log'};"
            f" the sidecar's log: {run.sidecar.log}; what HAProxy showed: {shown}"
            f"\nlast steps:\n{''.join(run.last)}"
            "last commands:\n" + "\n".join(run.relay.changing[-45:])
        ) from exc
    finally:
        run.close()
