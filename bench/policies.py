"""What the annotations of Routes cost HAProxy for a request, beside the same in haproxy.cfg.

    python bench/policies.py [--requests 20000] [--smoke] [--markdown]

In turns, requests for a Route without annotations, with one, and with all that HTTP has; and
through a static haproxy.cfg that has the rules for just that. What no Route can be without (the
headers that tell servers of the client, the session cookie, the log) is in both. Another HAProxy is
the server.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from asker import PIPELINED, Asker
from by_host import host_app
from figures import haproxy_version, machine, show, spread, wait_until_idle
from proc import cpu_seconds
from rich.console import Console
from rich.progress import track
from stand import Stand, converged, fresh_ip, running
from static import HEAD, LISTENER_PORT, Reloading, Servers, fresh_ips, host_of
from ways import SERVER_PORT

PREFIX = "haproxy.router.openshift.io/"
CONNECTIONS = 10


class Case(NamedTuple):
    """``frontend``, ``backend``: lines of haproxy.cfg that do what ``annotations`` and ``headers``
    say."""

    annotations: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    frontend: Sequence[str] = ()
    backend: Sequence[str] = ()


ALLOWLIST = Case(
    {f"{PREFIX}ip_allowlist": "127.0.0.0/8 192.0.2.0/24"},
    frontend=["http-request reject if !{ src 127.0.0.0/8 192.0.2.0/24 }"],
)
ALL = Case(
    {
        **ALLOWLIST.annotations,
        f"{PREFIX}timeout": "20s",
        f"{PREFIX}timeout-tunnel": "2h",
        f"{PREFIX}rewrite-target": "/b",
        f"{PREFIX}rate-limit-connections": "true",
        f"{PREFIX}rate-limit-connections.concurrent-tcp": "100000",
        f"{PREFIX}rate-limit-connections.rate-tcp": "100000000",
        f"{PREFIX}rate-limit-connections.rate-http": "100000000",
        "router.openshift.io/cookie_name": "mine",
    },
    {"X-Frame-Options": "DENY"},
    [
        *ALLOWLIST.frontend,
        "http-request track-sc1 src table rates",
        "http-request reject if { sc1_conn_cur gt 100000 }",
        "http-request reject if { sc1_conn_rate gt 100000000 }",
        "http-request reject if { sc1_http_req_rate gt 100000000 }",
    ],
    [
        "timeout server 20s",
        "timeout tunnel 2h",
        "http-request replace-path /a(.*) /b\\1",
        "http-response set-header X-Frame-Options DENY",
    ],
)
CASES = {"none": Case(), "ip_allowlist": ALLOWLIST, "all of them": ALL}

_STATIC = (
    HEAD
    + """
backend rates
    stick-table type ip size 100k expire 30s store conn_cur,conn_rate(3s),http_req_rate(10s)

frontend web
    bind {ip}:{port}
    log global
    option httplog
    http-request del-header Proxy
    http-request add-header X-Forwarded-For %[src]
    http-request add-header X-Forwarded-Host %[req.hdr(host)]
    http-request add-header X-Forwarded-Port %[dst_port]
    http-request add-header X-Forwarded-Proto http
    http-request add-header Forwarded for=%[src];host=%[req.hdr(host)];proto=http
    {frontend}
    use_backend r0 if {{ req.hdr(host) -i {host} }} {{ path_beg /a }}

backend r0
    cookie {cookie} insert indirect nocache httponly dynamic
    dynamic-cookie-key x
    {backend}
    server e {server}:{server_port}
"""
)


class StaticRules(Reloading):
    """A haproxy.cfg with one Route, and the rules of a case."""

    def __init__(self, folder: Path, host: str, case: Case, server: str) -> None:
        super().__init__(folder)
        self.address = (fresh_ip(), LISTENER_PORT)
        self._host, self._case, self._server = host, case, server
        self.load()

    def config(self) -> str:
        return _STATIC.format(
            socket=self.socket,
            ip=self.address[0],
            port=LISTENER_PORT,
            host=self._host,
            cookie="mine" if self._case is ALL else "haproxy-sidecar",
            frontend="\n    ".join(self._case.frontend),
            backend="\n    ".join(self._case.backend),
            server=self._server,
            server_port=SERVER_PORT,
        )


def manifests(number: int, case: Case, server: str) -> tuple[dict[str, Any], ...]:
    ends = [SimpleNamespace(address=SimpleNamespace(ip=server))]
    made = host_app(
        f"r{number}", host_of(number), ends, path="/a", annotations=dict(case.annotations)
    )
    if case.headers:
        actions = [
            {"name": name, "action": {"type": "Set", "set": {"value": value}}}
            for name, value in case.headers.items()
        ]
        made[0]["spec"]["httpHeaders"] = {"actions": {"response": actions}}
    return made


def measure(requests: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Case -> ours and static -> microseconds of HAProxy for a request, in each turn."""
    found: dict[str, dict[str, list[float]]] = {name: {"ours": [], "static": []} for name in CASES}
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        servers = ending.enter_context(contextlib.closing(Servers(folder, fresh_ips(1))))
        address = (fresh_ip(), LISTENER_PORT)
        listener = {"name": "http", "kind": "http", "bind": [f"{address[0]}:{address[1]}"]}
        pools = [{"ports": ["30000"], "slots": 1}]
        stand = Stand(folder, pools, listeners=[listener], web={"slots": 1})
        ending.enter_context(contextlib.closing(stand))
        stand.start()
        apps = [manifests(n, case, servers.ips[0]) for n, case in enumerate(CASES.values())]
        stand.write("routes.yaml", *(item for made in apps for item in made))
        converged(ending.enter_context(running(stand.daemon())))
        turns: list[tuple[str, str, int, str, Asker]] = []
        for number, (name, case) in enumerate(CASES.items()):
            own = folder / f"static{number}"
            own.mkdir()
            static = StaticRules(own, host_of(number), case, servers.ips[0])
            ending.callback(static.close)
            ways = {
                "ours": (stand.info().pid, address),
                "static": (static.pid, static.address),
            }
            for way, (pid, where) in ways.items():
                asker = ending.enter_context(contextlib.closing(Asker(where)))
                turns.append((name, way, pid, host_of(number), asker))
        for number in track(range(repeats + 1), "rounds", console=Console(stderr=True)):
            for name, way, pid, host, asker in turns:
                before = cpu_seconds(pid)
                if asker.flood([host] * CONNECTIONS, requests) != requests:
                    raise SystemExit("bench: not every request was answered by 200")
                if number:  # the first round warms up
                    microseconds = (cpu_seconds(pid) - before) / requests * 1e6
                    found[name][way].append(microseconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000, help="of each turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if args.smoke:
        args.requests, args.repeats = CONNECTIONS * PIPELINED, 1
    else:
        wait_until_idle(60)
    where = machine()
    found = measure(args.requests, args.repeats)
    show(
        f"HAProxy {haproxy_version()}; {where}; {args.repeats} turns of {args.requests:,} requests,"
        f" {PIPELINED} at a time over each of {CONNECTIONS} connections",
        ["HAProxy's CPU time for a request, with", "ours", "static rules"],
        [
            [name, *(spread(ways[way], lambda value: f"{value:.1f} µs") for way in ways)]
            for name, ways in found.items()
        ],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
