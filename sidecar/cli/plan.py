"""``plan``: what would be sent to HAProxy now, and what later."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.text import Text

from sidecar.cli.config import load_settings
from sidecar.cli.context import haproxy_at, read_source
from sidecar.cli.screen import make_console
from sidecar.common.durations import format_duration
from sidecar.common.errors import LocalProtocolError, UsageError
from sidecar.control.certificate_keeper import Prospect
from sidecar.control.holds import held_units, holds_file
from sidecar.daemon.assembly import make_certificates, make_client_trust
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.naming import balance_of
from sidecar.haproxy.operations import ClosePort, EndSessions
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.tcp import ports_of
from sidecar.model.desired import Unit
from sidecar.model.pool import WebPool, format_ports
from sidecar.planning.diff import after, difference
from sidecar.planning.planner import PHASES, Plan
from sidecar.planning.planner import plan as plan_unit
from sidecar.planning.schedule import Schedule
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings


def plan(config: Path | None, *, as_diff: bool, as_json: bool) -> None:
    """Print the commands of the first round, in their order, or, ``as_diff``, what they change by
    port; nothing when all is as desired. What a running sidecar would do later is told apart from
    it, with what it waits for."""
    if as_diff and as_json:
        raise UsageError("--diff is for people: write either --diff or --json")
    settings = load_settings(config)
    snapshot = read_source(settings)
    with haproxy_at(settings) as client:
        process, observed = snapshot.look(client)
        keeper = make_certificates(
            settings,
            snapshot.listeners,
            snapshot.routing,
            client,
            lambda _: {},
            lambda: process,
            lambda unit: unit in observed,
        )
        prospect = keeper.prospect() if keeper else Prospect()
        trust = make_client_trust(settings, client, snapshot.listeners.marks)
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
    schedule.meet(observed)
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
    lines, refused = _commands(plans)
    lines += filter(None, map(_ending_line, plans))
    loads = [f"# {what} is loaded" for what in loads]
    lines = [*loads, *map(_certificate_line, prospect.changes), *lines]
    faults = (*faults, *refused)
    problems = (*snapshot.problems, *prospect.problems, *faults)
    if as_json:
        found = {
            "now": lines,
            "later": waits,
            "held_ports": sorted(ports_of(held)),
            "problems": list(problems),
        }
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    if as_diff:
        sys.stdout.writelines(f"{line}\n" for line in loads)
        _print_diff(prospect, plans, observed, snapshot.routing, settings.pool().web)
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    notes = [f"later: {line}" for line in waits]
    if not lines:
        is_done = not waits and not (*prospect.problems, *faults)
        notes.insert(0, f"nothing to do{': HAProxy has converged' if is_done else ' now'}")
    notes += [f"skipped (held): {format_ports(ports_of(held))}"] if held else []
    notes += [f"problem: {problem}" for problem in problems]
    sys.stderr.writelines(f"{note}\n" for note in notes)


def _commands(plans: Sequence[Plan]) -> tuple[list[str], list[str]]:
    """Those that would be sent, and why others would not."""
    lines: list[str] = []
    refused: list[str] = []
    for operation in (part for phase in PHASES for item in plans for part in phase(item)):
        try:
            lines.append(str(operation.command()))
        except LocalProtocolError as exc:
            refused.append(str(exc))
    return lines, refused


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
    web: WebPool | None,
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
        if claimed and (balance := balance_of(item.unit, web)):
            title += f", {balance}"
        console.print(Text(title, "bold"))
        lines = list(difference(seen, after(seen, item)))
        for line in lines or ["(ends sessions or cleans up)"]:
            colour = {"-": "red", "+": "green"}.get(line[0], "dim")
            console.print(Text(line, colour, overflow="fold"))


def _waits(settings: Settings, now: Plan, later: Plan) -> Iterator[str]:
    """What only the time brings, a line each."""
    soon = set(now.operations)
    if now.waits and not later.waits:
        title = "when clients that its former Route has let in cannot be on their way any more"
        yield from (f"{item.command()}, {title}" for item in later.operations if item not in soon)
        return
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
