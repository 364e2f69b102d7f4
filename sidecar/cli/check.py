"""``check``: what manifests would get, without HAProxy."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.markup import escape
from typer import Exit

from sidecar.cli.context import Snapshot, load_settings, read_source
from sidecar.cli.screen import make_console, make_table, print_section
from sidecar.model.verdicts import Verdict


def check(config: Path | None, manifests: list[Path]) -> None:
    """Print a row per Route, then why, then the problems; exit with 1 if any Route is refused or
    any file cannot be used."""
    settings = load_settings(config)
    snapshot = read_source(settings, manifests)
    # As a HAProxy that just started would have it.
    snapshot.routing.adopt({})
    verdicts = snapshot.routing.verdicts()
    console = make_console()
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
    print_section(console, "why", why)
    print_section(console, "problems", snapshot.problems, "red")
    if snapshot.problems or any(not verdict.admitted for verdict in verdicts):
        raise Exit(1)


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


def _notes(verdict: Verdict, servers: int | None, servers_max: int) -> list[str]:
    """What does not go without saying."""
    notes = [verdict.message] if verdict.message else []
    if servers and servers > servers_max:
        notes.append(
            f"{servers - servers_max} endpoints skipped, limits.max_servers is {servers_max}"
        )
    return notes
