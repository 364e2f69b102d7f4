"""``plan``: what would be sent to HAProxy now, and what later."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rich.text import Text

from sidecar.cli.context import load_settings, read_haproxy, read_source
from sidecar.cli.screen import make_console
from sidecar.common.durations import format_duration
from sidecar.control.holds import holds_file, read_holds
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.operations import ClosePort, EndSessions, Operation
from sidecar.haproxy.state import ObservedPort
from sidecar.model.pool import format_ports
from sidecar.planning.diff import after, difference
from sidecar.planning.planner import PortPlan
from sidecar.planning.planner import plan as plan_port
from sidecar.planning.schedule import Agenda
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings


def plan(config: Path | None, *, as_diff: bool) -> None:
    """Print the commands of the first round, in their order, or, ``as_diff``, what they change by
    port; nothing when all is as desired. What a running sidecar would do later is told apart from
    it, with what it waits for."""
    settings = load_settings(config)
    snapshot = read_source(settings)
    process, observed = read_haproxy(settings, snapshot.pool)
    held = read_holds(holds_file(settings.haproxy.state_file))
    # Of the past it knows what HAProxy does: how long a slot has been left, not how long a port
    # has had no server.
    agenda = Agenda(
        snapshot.pool, settings.pace(), lambda address: address in snapshot.routing.denied.own
    )
    can_add = Dialect(process.version_tuple).adds_servers
    plans: list[PortPlan] = []
    waits: list[str] = []
    for port, seen in observed.items():
        if port in held:
            continue
        claimed = snapshot.routing.claim(port)
        now, later = (
            plan_port(
                agenda.desired(claimed, seen, at),
                seen,
                snapshot.pool.by_port[port],
                can_add=can_add,
            )
            for at in (0.0, float("inf"))
        )
        plans.append(now)
        waits += _waits(settings, now.operations, later.operations)
    lines = [
        _line(operation)
        for part in ("prepare", "activate", "tidy")
        for item in plans
        for operation in getattr(item, part)
    ]
    if as_diff:
        _print_diff(plans, observed, snapshot.routing)
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    if not lines and not waits:
        sys.stderr.write("nothing to do: HAProxy has converged\n")
    elif not lines:
        sys.stderr.write("nothing to do now\n")
    sys.stderr.writelines(f"later: {line}\n" for line in waits)
    if held:
        sys.stderr.write(f"skipped (held): {format_ports(held)}\n")
    for problem in snapshot.problems:
        sys.stderr.write(f"problem: {problem}\n")


def _print_diff(
    plans: Iterable[PortPlan], observed: Mapping[int, ObservedPort], routing: Routing
) -> None:
    """Each port's difference under its name, as in a patch; red and green on a terminal."""
    console = make_console()
    for item in filter(None, plans):
        seen, claimed = observed[item.port], routing.claim(item.port)
        title = f"port {item.port}  {claimed.route.title if claimed else 'unclaimed'}"
        console.print(Text(title, "bold"))
        lines = list(difference(seen, after(seen, item.operations)))
        for line in lines or ["(ends sessions or cleans up)"]:
            colour = {"-": "red", "+": "green"}.get(line[0], "dim")
            console.print(Text(line, colour, overflow="fold"))


def _waits(
    settings: Settings, now: Iterable[Operation], later: Iterable[Operation]
) -> Iterator[str]:
    """What only the time brings, a line each."""
    soon = set(now)
    for operation in later:
        if operation in soon:
            continue
        match operation:
            case ClosePort():
                after = format_duration(settings.timing.close_after)
                yield f"{_line(operation)}, after {after} without a server (timing.close_after)"
            case EndSessions():
                yield f"{_line(operation)}, when the drain deadline has passed"


def _line(operation: Operation) -> str:
    if isinstance(operation, EndSessions) and not operation.all:
        # The sidecar ends them one by one, by HAProxy's names for them.
        return f"{operation.line()}  # {operation.count} of them first"
    return operation.line()
