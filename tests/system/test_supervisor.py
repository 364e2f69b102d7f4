"""`run` as a parent and a worker: who dies, who is told, and what the pod's probes see of it."""

import contextlib
import http.client
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from cli import Process, Start, command
from drive import PORT, Load
from stand import MakeServer, MakeStand, Stand, app, await_, await_leads_to, held, worker_of

from sidecar.common.supervisor import pause_seconds

pytestmark = pytest.mark.serial

#: A command that does as its first argument says, in place of the sidecar.
SCRIPT = """
import os, signal, sys, time
from sidecar.common.supervisor import supervise

before = supervise()
print("worker", before.count, before.last, flush=True)
{}
"""


@pytest.fixture
def stand(make_stand: MakeStand, make_server: MakeServer) -> Stand:
    """One with a Route."""
    found = make_stand(timing={"resync": "1h"})
    found.write("web.yaml", *app("web", PORT, [make_server("a")]))
    return found


def readyz(stand: Stand) -> tuple[int, str]:
    """Status and text; (0, "") when nobody answers."""
    connection = http.client.HTTPConnection(stand.ip, 8405, timeout=1)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def run(stand: Stand, start: Start) -> Process:
    process = start(command("run", "-c", stand.settings_file))
    await_(lambda: readyz(stand) == (200, "ok"), f"ready, not: {process.said}", 30)
    return process


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Probe:
    """The kubelet's readiness probe: unready after so many failures in a row. ``worst``: the most
    there were."""

    def __init__(self, stand: Stand, period_seconds: float) -> None:
        self.worst = 0
        self._stand = stand
        self._period_seconds = period_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        failures = 0
        while not self._stop.wait(self._period_seconds):
            failures = 0 if readyz(self._stand)[0] == 200 else failures + 1
            self.worst = max(self.worst, failures)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)


def test_ten_dead_workers_lose_no_connection_and_the_pod_stays_ready(
    stand: Stand, start: Start, files: contextlib.ExitStack
) -> None:
    process = run(stand, start)
    haproxy = stand.info().identity
    session = held(files, stand, PORT)
    load = Load(stand, threads=2)
    files.callback(load.stop)
    # That of manifests/base/deployment.yaml.
    probe = Probe(stand, 2.0)
    files.callback(probe.close)
    for number in range(1, 11):
        os.kill(worker_of(process.pid), signal.SIGKILL)
        process.await_said(f"restarted ({number})", 30)
        await_(lambda: readyz(stand) == (200, "ok"), "the successor is ready", 30)
        # So long that a probe finds it, however late it was ready.
        lives_until = time.monotonic() + 3.0
        await_(lambda t=lives_until: time.monotonic() > t, "it lives for a while")
    load.stop()
    probe.close()
    assert probe.worst < 3
    assert load.failures == []
    session.echo()
    assert process.said.count("the sidecar was killed by SIGKILL after ") == 10
    assert stand.info().identity == haproxy
    connection = http.client.HTTPConnection(stand.ip, 8405, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        said = connection.getresponse().read().decode()
    assert "\nhaproxy_sidecar_worker_restarts_total 10.0\n" in said


def test_a_successor_is_ready_before_its_source_is(
    stand: Stand, start: Start, make_server: MakeServer
) -> None:
    """The API server may be away just then: HAProxy serves as before."""
    process = run(stand, start)
    await_((stand.folder / "programmed.json").exists, "it is known which HAProxy serves")
    away = stand.folder / "away"
    stand.manifests.rename(away)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    process.await_said("waiting for manifests", 30)
    await_(lambda: readyz(stand) == (200, "not synced yet: manifests"), "ready", 30)
    # Another HAProxy is not what the predecessor knew.
    stand.stop_haproxy()
    await_(lambda: readyz(stand)[0] == 503, "HAProxy is away", 10)
    stand.start_haproxy()
    await_(lambda: readyz(stand) == (503, "not synced yet: manifests"), "it may lack anything")
    away.rename(stand.manifests)
    await_(lambda: readyz(stand) == (200, "ok"), "it was brought to what is desired")
    b = make_server("b")
    stand.write("web.yaml", *app("web", PORT, [b]))
    await_leads_to(stand, PORT, b)


def test_the_worker_dies_with_its_parent(stand: Stand, start: Start) -> None:
    process = run(stand, start)
    worker = worker_of(process.pid)
    process.send(signal.SIGKILL)
    await_(lambda: gone(worker), "no two drive one HAProxy", 5)
    assert not stand.is_refused(PORT)


def test_ctrl_c_is_heard_once_and_ends_both(stand: Stand, start: Start) -> None:
    process = run(stand, start)
    worker = worker_of(process.pid)
    process.ctrl_c()
    assert process.wait() == 0
    assert gone(worker)
    assert "Traceback" not in process.said


def test_the_parent_is_small(stand: Stand, start: Start) -> None:
    process = run(stand, start)
    status = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    (own,) = [int(line.split()[1]) for line in status.splitlines() if "Private_Dirty" in line]
    assert own < 6000, "kB"


def test_wrong_settings_and_usage_end_the_parent(stand: Stand, start: Start) -> None:
    wrong = stand.folder / "wrong.yaml"
    wrong.write_text("nonsense: 1\n")
    process = start(command("run", "-c", wrong))
    assert process.wait() == 2
    assert process.said.count("nonsense") == 1, process.said
    assert start(command("run", "--nonsense")).wait() == 2
    assert start(command("run", "--help")).wait() == 0


def scripted(start: Start, body: str) -> Process:
    return start([sys.executable, "-c", SCRIPT.format(body)])


@pytest.mark.parametrize("code", [0, 2, 3])
def test_what_ends_on_purpose_is_passed_on(start: Start, code: int) -> None:
    process = scripted(start, f"sys.exit({code})")
    assert process.wait() == code
    assert process.said.count("worker") == 1


def test_a_crash_is_named_and_followed_by_another_worker(start: Start) -> None:
    process = scripted(
        start,
        "if before.count == 0: sys.exit(1)\n"
        "if before.count == 1: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.exit(2)",
    )
    assert process.wait() == 2
    first, second, third = process.said.splitlines()
    assert first.split() == ["worker", "0"]
    assert second.startswith("worker 1 exited with code 1 after 0.")
    assert third.startswith("worker 2 was killed by SIGSEGV after 0.")


def test_the_end_of_a_worker_that_was_told_is_the_parents(start: Start) -> None:
    process = scripted(start, "time.sleep(60)")
    process.await_said("worker 0")
    process.send(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert process.said.count("worker") == 1


@pytest.mark.parametrize(
    ("early", "seconds"),
    [(0, 0.0), (1, 0.1), (2, 0.2), (4, 0.8), (6, 2.0), (100_000, 2.0)],
)
def test_the_pause_before_the_next_worker(early: int, seconds: float) -> None:
    assert pause_seconds(early) == pytest.approx(seconds)


def test_told_between_two_workers(start: Start) -> None:
    process = scripted(start, "sys.exit(1)")
    process.await_said("worker 6")  # the next ones come after two seconds each
    process.send(signal.SIGTERM)
    assert process.wait() in (0, 1, 128 + signal.SIGTERM)


def test_pid_1_reaps_what_others_left(start: Start) -> None:
    """As PID 1 of a container would; here the kernel is told to hand orphans over."""
    process = start(
        [
            sys.executable,
            "-c",
            "import ctypes; ctypes.CDLL(None).prctl(36, 1)"  # PR_SET_CHILD_SUBREAPER
            + SCRIPT.format(
                "import subprocess\n"
                "subprocess.run(['sh', '-c', 'sleep 0.2 & echo orphan $!'])\n"
                "time.sleep(60)"
            ),
        ]
    )
    process.await_said("orphan ")
    orphan = int(process.said.split("orphan ")[1].split()[0])
    await_(lambda: not Path(f"/proc/{orphan}").exists(), "no zombie is left")
    process.send(signal.SIGTERM)
    process.wait()
