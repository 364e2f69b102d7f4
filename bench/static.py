"""Routes by host in a static haproxy.cfg, which is reloaded for each change; and their servers."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from stand import HAPROXY, await_, fresh_ip
from ways import SERVER_PORT

from sidecar.haproxy.process import answering
from sidecar.model.pool import WEIGHT_MAX

LISTENER_PORT = 8081

#: What a change may take, a reload or a restore included.
WAIT_SECONDS = 120.0

#: A haproxy.cfg begins with it.
HEAD = """\
global
    stats socket {socket} level admin expose-fd listeners
    log stdout format raw local0
    maxconn 4000

defaults
    mode http
    balance roundrobin
    http-reuse safe
    timeout connect 500ms
    timeout client 30s
    timeout server 30s
    timeout http-request 10s
    timeout http-keep-alive 300s
"""


def host_of(number: int) -> str:
    """Of the Route of that number."""
    return f"r{number}.apps.example"


def fresh_ips(count: int) -> list[str]:
    """Loopback addresses that nobody else has."""
    return [fresh_ip() for _ in range(count)]


class Servers:
    """``ips``, all of one HAProxy, which answers with the one that was asked."""

    def __init__(self, folder: Path, ips: Sequence[str]) -> None:
        self.ips = tuple(ips)
        binds = "".join(f"    bind {ip}:{SERVER_PORT}\n" for ip in self.ips)
        config = folder / "servers.cfg"
        config.write_text(
            f"{HEAD.format(socket=folder / 'servers.sock')}\nfrontend servers\n{binds}"
            '    http-request return status 200 content-type text/plain lf-string "%[dst]"\n'
        )
        self._process = subprocess.Popen([HAPROXY, "-db", "-f", str(config)])
        await_(lambda: answering(str(folder / "servers.sock")), "the servers answer", 30)

    def of(self, endpoints: int, generation: int = 0) -> tuple[str, ...]:
        """Of a Route. Each generation has one other than the one before."""
        others = self.ips[endpoints - 1 :]
        return (*self.ips[: endpoints - 1], others[generation % len(others)])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Reloading:
    """A HAProxy that is reloaded for every change."""

    #: How often a new one is asked whether it answers.
    asked_every_seconds = 0.005

    def __init__(self, folder: Path) -> None:
        self.socket, self._config = folder / "static.sock", folder / "static.cfg"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "static.log").open("ab")

    @property
    def pid(self) -> int:
        return self._processes[-1].pid

    def config(self) -> str:
        """What to run on now."""
        raise NotImplementedError

    def load(self) -> None:
        """Returns when a process that runs on `config` answers."""
        self._config.write_text(self.config())
        command = [HAPROXY, "-db", "-f", str(self._config)]
        # Waits for none, but takes leave of those that have ended.
        self._processes = [process for process in self._processes if process.poll() is None]
        if self._processes:
            command += ["-x", str(self.socket), "-sf", str(self.pid)]
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._processes.append(process)
        await_(
            lambda: self._answers(process.pid),
            "the new HAProxy answers",
            WAIT_SECONDS,
            every_seconds=self.asked_every_seconds,
        )

    def settle(self) -> None:
        """Wait until only the newest process is left."""
        for process in self._processes[:-1]:
            process.wait(WAIT_SECONDS)
        del self._processes[:-1]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()

    def _answers(self, pid: int) -> bool:
        info = answering(str(self.socket))
        return info is not None and info.pid == pid


class Static(Reloading):
    """A haproxy.cfg with a backend for each Route and plain servers. ``routes``: host -> IPs of the
    servers. One is found by an ACL; several by a map from the host, as is usual where there are
    many. ``ip``: where it listens, or a loopback address of its own."""

    def __init__(
        self, folder: Path, routes: Mapping[str, Sequence[str]], ip: str | None = None
    ) -> None:
        super().__init__(folder)
        self.address = (ip or fresh_ip(), LISTENER_PORT)
        self.routes = dict(routes)
        self._map = folder / "static.map"
        self.load()

    def config(self) -> str:
        numbered = list(enumerate(self.routes.items()))
        self._map.write_text("".join(f"{host} r{number}\n" for number, (host, _) in numbered))
        choice = f"%[req.hdr(host),lower,map_str({self._map})]"
        if len(numbered) == 1:
            choice = f"r0 if {{ req.hdr(host) -i {next(iter(self.routes))} }}"
        lines = [
            HEAD.format(socket=self.socket),
            f"frontend web\n    bind {self.address[0]}:{LISTENER_PORT}",
            f"    log global\n    option httplog\n    use_backend {choice}",
        ]
        for number, (_, ips) in numbered:
            lines.append(f"backend r{number}")
            lines += [
                f"    server e{place} {ip}:{SERVER_PORT} weight {WEIGHT_MAX}"
                for place, ip in enumerate(ips)
            ]
        return "\n".join(lines) + "\n"
