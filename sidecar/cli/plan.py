"""``plan``: what would be sent to HAProxy now."""

import sys
from pathlib import Path

from sidecar.cli.context import load_settings, read_haproxy, read_source
from sidecar.planner import DesiredPort
from sidecar.planner import plan as plan_port


def plan(config: Path | None) -> None:
    """Print the commands of the first round, in their order; nothing when all is as desired."""
    settings = load_settings(config)
    snapshot = read_source(settings)
    _, observed = read_haproxy(settings, snapshot.pool, with_sessions=False)
    prepare, activate = [], []
    for port, seen in observed.items():
        claimed = snapshot.routing.claimed.get(port)
        servers = claimed.resolution.servers if claimed else ()
        usable = any(server.state == "ready" for server in servers)
        item = plan_port(DesiredPort(port, usable, servers), seen)
        prepare += [operation.line() for operation in item.prepare]
        activate += [operation.line() for operation in item.activate]
    for line in prepare + activate:
        sys.stdout.write(line + "\n")
    if not prepare + activate:
        sys.stderr.write("nothing to do: HAProxy is as desired\n")
    for problem in snapshot.problems:
        sys.stderr.write(f"problem: {problem}\n")
