"""``plan``: what would be sent to HAProxy now."""

import sys
from pathlib import Path

from sidecar.cli.context import load_settings, read_haproxy, read_source
from sidecar.dialect import Dialect
from sidecar.holds import holds_file, read_holds
from sidecar.planner import DesiredPort, PortPlan
from sidecar.planner import plan as plan_port


def plan(config: Path | None) -> None:
    """Print the commands of the first round, in their order; nothing when all is as desired."""
    settings = load_settings(config)
    snapshot = read_source(settings)
    process, observed = read_haproxy(settings, snapshot.pool, with_sessions=False)
    held = read_holds(holds_file(settings))
    plans: list[PortPlan] = []
    for port, seen in observed.items():
        if port in held:
            continue
        claimed = snapshot.routing.claim(port)
        servers = claimed.resolution.servers if claimed else ()
        usable = any(server.state == "ready" for server in servers)
        plans.append(
            plan_port(
                DesiredPort(port, usable, servers, settings.limits.max_servers),
                seen,
                snapshot.pool.by_port[port],
                can_add=Dialect(process.version_tuple).adds_servers,
            )
        )
    lines = [
        operation.line()
        for part in ("prepare", "activate", "tidy")
        for item in plans
        for operation in getattr(item, part)
    ]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    if not lines:
        sys.stderr.write("nothing to do: HAProxy is as desired\n")
    if held:
        sys.stderr.write(f"left out, since they are held: {sorted(held)}\n")
    for problem in snapshot.problems:
        sys.stderr.write(f"problem: {problem}\n")
