"""``plan``: what would be sent to HAProxy now, and what later."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rich.text import Text

from sidecar.cli.context import haproxy_at, load_settings, read_source
from sidecar.cli.screen import make_console
from sidecar.common.durations import format_duration
from sidecar.control.certificate_keeper import Prospect
from sidecar.control.holds import held_units, holds_file
from sidecar.daemon.assembly import make_certificates, make_client_trust
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.operations import ClosePort, EndSessions
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.tcp import ports_of
from sidecar.model.desired import Unit
from sidecar.model.pool import format_ports
from sidecar.planning.diff import after, difference
from sidecar.planning.planner import PHASES, Plan
from sidecar.planning.planner import plan as plan_unit
from sidecar.planning.schedule import Schedule
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings


def plan(config: Path | None, *, as_diff: bool) -> None:
    """Print the commands of the first round, in their order, or, ``as_diff``, what they change by
    port; nothing when all is as desired. What a running sidecar would do later is told apart from
    it, with what it waits for."""
    settings = load_settings(config)
    snapshot = read_source(settings)
    with haproxy_at(settings) as client:
        process, observed = snapshot.look(client)
        keeper = make_certificates(
            settings, snapshot.listeners, snapshot.routing, client, lambda _: {}, lambda: process
        )
        prospect = keeper.prospect() if keeper else Prospect()
        trust = make_client_trust(settings, client)
        loads, faults = trust.prospect() if trust else ((), ())
    snapshot.routing.serve(prospect.now)
    held = held_units(holds_file(settings.haproxy.state_file))
    # Of the past it knows what HAProxy does: how long a slot has been left, not how long a port
    # has had no server.
    kind = snapshot.listeners.kind
    schedule = Schedule(
        kind,
        settings.schedule(),
        lambda address: address in snapshot.routing.denied.own,
        snapshot.routing.is_handed,
    )
    can_add = Dialect(process.version_tuple).adds_servers
    plans: list[Plan] = []
    waits: list[str] = []
    for unit, seen in observed.items():
        if unit in held:
            continue
        claimed = snapshot.routing.claim(unit)
        now, later = (
            plan_unit(schedule.desired(claimed, seen, at), seen, kind, can_add=can_add)
            for at in (0.0, float("inf"))
        )
        plans.append(now)
        waits += _waits(settings, now, later)
    # What comes once HAProxy serves the certificates that it does not serve yet.
    begun = {item.unit: set(item.operations) for item in plans}
    for unit in snapshot.routing.serve(prospect.then).units & begun.keys():
        seen, claimed = observed[unit], snapshot.routing.claim(unit)
        then = plan_unit(schedule.desired(claimed, seen, 0.0), seen, kind, can_add=can_add)
        waits += [
            f"{operation.command()}, when HAProxy serves the certificate"
            for operation in then.expose
            if operation not in begun[unit]
        ]
    lines = [
        str(operation.command()) for phase in PHASES for item in plans for operation in phase(item)
    ]
    lines += filter(None, map(_ending_line, plans))
    loads = [f"# {what} is loaded" for what in loads]
    lines = [*loads, *map(_certificate_line, prospect.changes), *lines]
    if as_diff:
        sys.stdout.writelines(f"{line}\n" for line in loads)
        _print_diff(prospect, plans, observed, snapshot.routing)
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    problems = (*snapshot.problems, *prospect.problems, *faults)
    if not lines and not waits and not (*prospect.problems, *faults):
        sys.stderr.write("nothing to do: HAProxy has converged\n")
    elif not lines:
        sys.stderr.write("nothing to do now\n")
    sys.stderr.writelines(f"later: {line}\n" for line in waits)
    if held:
        sys.stderr.write(f"skipped (held): {format_ports(ports_of(held))}\n")
    for problem in problems:
        sys.stderr.write(f"problem: {problem}\n")


def _certificate_line(change: tuple[str, str, str]) -> str:
    """Not as commands: they are several, with a look at HAProxy between them, and have a key."""
    what, before, after = change
    if before and after:
        return f"# certificate for {what}: {after} replaces the one with {before}"
    return f"# certificate for {what}: " + (f"{after} is loaded" if after else f"{before} goes")


def _print_diff(
    prospect: Prospect,
    plans: Iterable[Plan],
    observed: Mapping[Unit, ObservedUnit],
    routing: Routing,
) -> None:
    """Each port's difference under its name, as in a patch; red and green on a terminal."""
    console = make_console()
    for what, *texts in prospect.changes:
        console.print(Text(f"certificate for {what}", "bold"))
        for sign, colour, text in zip("-+", ("red", "green"), texts, strict=True):
            if text:
                console.print(Text(f"{sign} {text}", colour, overflow="fold"))
    for item in filter(None, plans):
        seen, claimed = observed[item.unit], routing.claim(item.unit)
        owner = claimed.route.title if claimed else "unclaimed"
        owner = "shared by SNI" if claimed and claimed.shared else owner
        title = f"{routing.subject(item.unit)}  {owner}"
        console.print(Text(title, "bold"))
        lines = list(difference(seen, after(seen, item)))
        for line in lines or ["(ends sessions or cleans up)"]:
            colour = {"-": "red", "+": "green"}.get(line[0], "dim")
            console.print(Text(line, colour, overflow="fold"))


def _waits(settings: Settings, now: Plan, later: Plan) -> Iterator[str]:
    """What only the time brings, a line each."""
    soon = set(now.operations)
    for operation in later.operations:
        if operation in soon:
            continue
        match operation:
            case ClosePort():
                over = format_duration(settings.timing.close_after)
                yield (f"{operation.command()}, after {over} without a server (timing.close_after)")
            case EndSessions():
                yield f"{operation.command()}, when the drain deadline has passed"
    if later.ending and not now.ending:
        yield f"{_ending_line(later)}, when the drain deadline has passed"


def _ending_line(item: Plan) -> str:
    """The sidecar ends them one by one, by HAProxy's names for them."""
    if item.ending is None:
        return ""
    command = EndSessions(item.unit, item.ending.server).command()
    return f"{command}  # {item.ending.count} of them first"
