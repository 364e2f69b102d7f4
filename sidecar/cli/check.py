"""``check``: what manifests would get, without HAProxy."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from typer import Exit

from sidecar.cli.check_summary import Checked, summary
from sidecar.cli.config import load_settings
from sidecar.cli.context import Snapshot, read_source
from sidecar.cli.screen import make_console, make_table, print_section
from sidecar.common.errors import UsageError
from sidecar.haproxy.naming import web_backend
from sidecar.model.verdicts import Verdict
from sidecar.settings.schema import Settings


def check(config: Path | None, manifests: list[Path], *, summarized: bool, as_json: bool) -> None:
    """Print a row per Route, then why, then the problems; exit with 1 if any Route is refused or
    any file cannot be used. ``summarized``: how many Routes there are of each kind instead.
    The shape of the JSON is documented in docs/reference.md."""
    if summarized and as_json:
        raise UsageError("--summary is for people: write either --summary or --json")
    settings = load_settings(config)
    snapshot = read_source(settings, manifests)
    # As a HAProxy that just started would have it.
    snapshot.routing.adopt({})
    verdicts = snapshot.routing.verdicts()
    if as_json:
        _print_json(settings, snapshot, verdicts)
    else:
        _print(settings, snapshot, verdicts, summarized=summarized)
    if snapshot.problems or any(not verdict.admitted for verdict in verdicts):
        raise Exit(1)


def _print_json(settings: Settings, snapshot: Snapshot, verdicts: Sequence[Verdict]) -> None:
    routes = [
        {
            "route": verdict.route.title,
            "admitted": verdict.admitted,
            "reason": verdict.reason.value,
            "port": verdict.port,
            "host": verdict.host,
            "path": verdict.path,
            "servers": servers,
            "notes": _notes(verdict, servers, settings.limits.max_servers),
        }
        for verdict in verdicts
        for servers in [_servers(snapshot, verdict)]
    ]
    found = {
        "router_name": settings.router_name,
        "routes": routes,
        "certificates": list(_certificates(snapshot, verdicts)),
        "problems": list(snapshot.problems),
    }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def _print(
    settings: Settings, snapshot: Snapshot, verdicts: Sequence[Verdict], *, summarized: bool
) -> None:
    console = make_console()
    if summarized:
        checked = [Checked(verdict, _policy_notes(snapshot, verdict)) for verdict in verdicts]
        for line in summary(checked):
            console.print(line, markup=False)
    else:
        _print_each(console, settings, snapshot, verdicts)
    print_section(console, "problems", snapshot.problems, "red")


def _print_each(
    console: Console, settings: Settings, snapshot: Snapshot, verdicts: Sequence[Verdict]
) -> None:
    what = ">PORT OR HOST" if snapshot.routing.web else ">PORT"
    table = make_table(what, "ROUTE", "VERDICT", ">SERVERS")
    why = []
    for verdict in verdicts:
        title = verdict.route.title
        servers = _servers(snapshot, verdict)
        colour = "red" if not verdict.admitted else "green" if servers else "yellow"
        table.add_row(
            escape(_has(verdict)),
            escape(title),
            f"[{colour}]{verdict.reason}[/]",
            "-" if servers is None else str(servers),
        )
        why += [
            f"{title}: {note}" for note in _notes(verdict, servers, settings.limits.max_servers)
        ]
    if verdicts:
        console.print(table)
    else:
        console.print(
            f"no Route names this router: none has the annotation"
            f" {settings.annotations.router_name}: {settings.router_name}",
            markup=False,
        )
    print_section(console, "certificates", list(_certificates(snapshot, verdicts)))
    print_section(console, "balance", list(_balances(snapshot, verdicts)))
    print_section(console, "why", why)


def _policy_notes(snapshot: Snapshot, verdict: Verdict) -> tuple[str, ...]:
    """What of the Route's wishes cannot be used."""
    unit = snapshot.routing.owned(verdict.route)
    claimed = None if unit is None else snapshot.routing.claim(unit)
    return claimed.policies.notes if claimed else ()


def _has(verdict: Verdict) -> str:
    """Its port, or its host and path, be they refused; both where it shares the port."""
    if not verdict.host:
        return str(verdict.port or "-")
    return verdict.host + (f":{verdict.port}" if verdict.port else "") + verdict.path


def _servers(snapshot: Snapshot, verdict: Verdict) -> int | None:
    """How many endpoints the Route has for its port; None while it has no port."""
    unit = snapshot.routing.owned(verdict.route)
    claimed = None if unit is None else snapshot.routing.claim(unit)
    return len(claimed.resolution.servers) if claimed else None


def _certificates(snapshot: Snapshot, verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Of the Routes whose own certificate is not in their own fields: where it comes from."""
    origins = snapshot.routing.web.tls.origins if snapshot.routing.web else {}
    for route in (verdict.route for verdict in verdicts if verdict.admitted):
        if origin := origins.get(route):
            yield f"{route.title}: from {origin}"


def _balances(snapshot: Snapshot, verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Of the Routes that have another one than their class."""
    web = snapshot.routing.web
    for route in (verdict.route for verdict in verdicts if verdict.admitted and web):
        unit = snapshot.routing.owned(route)
        backend = web_backend(unit) if unit else None
        if backend and backend.balance:
            yield f"{route.title}: {backend.balance}"


def _notes(verdict: Verdict, servers: int | None, servers_max: int) -> list[str]:
    """What does not go without saying."""
    notes = [verdict.message] if verdict.message else []
    if servers and servers > servers_max:
        notes.append(
            f"{servers - servers_max} endpoints skipped, limits.max_servers is {servers_max}"
        )
    return notes
