"""Two ways to bring changes of endpoints to HAProxy: the sidecar, and reloads."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from probe import Effects, Feed
from proc import cpu_seconds
from stand import HAPROXY, Stand, await_, changes, route, running, service, slice_

from sidecar.cli.render import write_files
from sidecar.common.errors import RuntimeAPIError
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.process import answering
from sidecar.haproxy.state import parse_info
from sidecar.model.pool import WEIGHT_MAX

#: Where all servers listen.
SERVER_PORT = 9000

#: The IPs of a port's servers.
Servers = tuple[str, ...]


class Way(Protocol):
    """One way to bring changes to HAProxy. ``seconds``: from each change until it has effect."""

    ip: str
    seconds: list[float]
    reloads: int

    def change(self, port: int, servers: Servers) -> None: ...
    def settled(self) -> bool: ...
    def pids(self) -> list[int]: ...

    def haproxy_cpu_seconds(self) -> float:
        """Of all processes so far."""

    def own_cpu_seconds(self) -> float:
        """Of the thread that decides."""

    def serving(self) -> int:
        """Client connections that the newest process has."""

    def close(self) -> None: ...


class Sidecar:
    """The daemon, with a source of ours."""

    def __init__(self, folder: Path, first: Mapping[int, Servers], slots: int) -> None:
        self.reloads = 0
        self._stand = Stand(folder, [_pool(first, slots)])
        self.ip = self._stand.ip
        self._effects = Effects(SERVER_PORT)
        self.seconds = self._effects.seconds
        self._feed = Feed(
            [
                change
                for port, servers in first.items()
                for change in changes(
                    route(f"r{port}", port), service(f"r{port}"), slice_(f"r{port}", servers)
                )
            ]
        )
        with contextlib.ExitStack() as files:
            files.callback(self._stand.close)
            self._stand.start()
            self._daemon = self._stand.daemon(self._feed)
            self._daemon.reconciler.known.observed = self._effects
            files.enter_context(running(self._daemon))
            await_(lambda: not self._daemon.ready(), "the sidecar has converged")
            self._clock = clock_of("daemon")
            self._pid = self._stand.info().pid
            self._files = files.pop_all()

    def change(self, port: int, servers: Servers) -> None:
        self._effects.expect(port, servers)
        self._feed.push(changes(slice_(f"r{port}", servers)))

    def settled(self) -> bool:
        return not self._effects.waiting and not self._daemon.ready()

    def pids(self) -> list[int]:
        return [self._pid]

    def haproxy_cpu_seconds(self) -> float:
        return cpu_seconds(self._pid)

    def own_cpu_seconds(self) -> float:
        return time.clock_gettime(self._clock)

    def serving(self) -> int:
        return _serving(self._stand.client)

    def close(self) -> None:
        self._files.close()


class Reloads:
    """Rewrites haproxy.cfg and starts a new HAProxy that takes the listeners over; changes that
    come meanwhile wait for the next one. ``hard_stop``: value of hard-stop-after, or ""."""

    def __init__(
        self, folder: Path, first: Mapping[int, Servers], interval: float, hard_stop: str
    ) -> None:
        self._stand = Stand(folder, [_pool(first, 1)])  # for its settings and address
        self.ip, self.seconds, self.reloads = self._stand.ip, list[float](), 0
        self._address = self._stand.settings.haproxy.socket
        config = self._stand.settings.haproxy.config
        write_files(self._stand.settings, config)
        self._lines = _reloadable(config.read_text(), hard_stop)
        self._interval = interval
        self._log = (folder / "haproxy.log").open("ab")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended_cpu_seconds = 0.0
        self._client: RuntimeClient | None = None
        self._servers = dict(first)
        self._lock = threading.RLock()
        self._changed: list[float] = []  # when, of each change that has no effect yet
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="reloads", daemon=True)
        try:
            self._reload()
            self.reloads = 0
            self._thread.start()
            self._clock = clock_of("reloads")
        except BaseException:
            self.close()
            raise

    def change(self, port: int, servers: Servers) -> None:
        with self._lock:
            self._servers[port] = servers
            self._changed.append(time.perf_counter())
        self._wake.set()

    def settled(self) -> bool:
        if not self._thread.is_alive():
            raise SystemExit("the reloads failed")
        return not self._changed

    def pids(self) -> list[int]:
        """Of the processes that live; takes leave of the others."""
        with self._lock:
            for process in list(self._processes):
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    self._ended_cpu_seconds += usage.ru_utime + usage.ru_stime
                    self._processes.remove(process)
            return [process.pid for process in self._processes]

    def haproxy_cpu_seconds(self) -> float:
        with self._lock:
            live = sum(map(cpu_seconds, self.pids()))
            return live + self._ended_cpu_seconds

    def own_cpu_seconds(self) -> float:
        return time.clock_gettime(self._clock)

    def serving(self) -> int:
        return _serving(self._client) if self._client else 0

    def close(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.ident:
            self._thread.join(20)
        if self._client:
            self._client.close()
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()

    def _run(self) -> None:
        started = time.monotonic() - self._interval
        while not self._stopping:
            self._wake.wait()
            time.sleep(max(0.0, started + self._interval - time.monotonic()))
            self._wake.clear()
            if self._changed and not self._stopping:
                started = time.monotonic()
                self._reload()

    def _reload(self) -> None:
        with self._lock:
            servers, changed = dict(self._servers), len(self._changed)
            old = self.pids()
        self._stand.settings.haproxy.config.write_text(_with_servers(self._lines, servers))
        command = [HAPROXY, "-db", "-f", str(self._stand.settings.haproxy.config)]
        if old:
            command += ["-x", self._address, "-sf", *map(str, old)]
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        with self._lock:
            self._processes.append(process)
        await_(lambda: _answers(self._address, process.pid), "the new HAProxy answers", 120)
        if self._client:
            # A connection that is open goes on leading to the old process.
            await_(lambda: _stops(self._client), "the old HAProxy has stopped listening", 120)
            self._client.close()
        self._client = RuntimeClient(self._address)
        self._client.ask("show info")
        self.reloads += 1
        with self._lock:
            now = time.perf_counter()
            self.seconds += [now - since for since in self._changed[:changed]]
            del self._changed[:changed]


def _pool(ports: Iterable[int], slots: int) -> dict[str, object]:
    return {"ports": list(map(str, ports)), "slots": slots}


def _reloadable(text: str, hard_stop: str) -> list[str]:
    """The sidecar's haproxy.cfg, to be reloaded: the listeners can be handed over, no state comes
    from a file, and no guard resets what a stopping process (it counts no servers) still accepts.
    """
    lines = []
    unfit = ("server-state-file", "load-server-state", "nbsrv(")
    for line in text.splitlines():
        if line.startswith("    stats socket"):
            lines.append(f"{line} expose-fd listeners")
            if hard_stop:
                lines.append(f"    hard-stop-after {hard_stop}")
        elif not any(word in line for word in unfit):
            lines.append(line)
    return lines


def _with_servers(lines: Sequence[str], servers: Mapping[int, Servers]) -> str:
    """haproxy.cfg with plain server lines where the slots were."""
    text, port = [], 0
    for line in lines:
        if line.startswith("backend be_tcp-"):
            port = int(line.split()[1].rpartition("-")[2])
        if line.startswith("    server-template"):
            text += [
                f"    server e{number} {ip}:{SERVER_PORT} weight {WEIGHT_MAX}"
                for number, ip in enumerate(servers[port])
            ]
        else:
            text.append(line)
    return "\n".join(text) + "\n"


def _answers(address: str, pid: int) -> bool:
    info = answering(address)
    return info is not None and info.pid == pid


def _stops(client: RuntimeClient | None) -> bool:
    try:
        return client is None or parse_info(client.ask("show info")).stopping
    except RuntimeAPIError:
        return True  # it has ended


def _serving(client: RuntimeClient) -> int:
    rows = [row.split(",") for row in client.ask("show stat -1 1 -1").splitlines()]
    column = rows[0].index("scur")
    return sum(int(row[column]) for row in rows if row[0].startswith("tcp-"))


def clock_of(thread: str) -> int:
    """The CPU clock of the thread of that name."""
    found = next(item for item in threading.enumerate() if item.name == thread)
    return time.pthread_getcpuclockid(found.ident or 0)
