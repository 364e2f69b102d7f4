"""`status`: the table of ports."""

import io

import pytest
from reported import port, report, server
from rich.console import Console

from sidecar.cli.look import Look
from sidecar.cli.status import screen
from sidecar.model.objects import Key
from sidecar.model.verdicts import Reason, Verdict
from sidecar.reporting.reports import WaitingReport


@pytest.mark.parametrize("width", [80, 1000])
def test_an_ipv6_address_is_shown_whole(width: int) -> None:
    """In brackets, which a terminal's colours have, too."""
    addresses = ("[fd00::1]:5432", "[2001:db8::1]:5432")
    servers = tuple(server(number, address=address) for number, address in enumerate(addresses))
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    console.print(screen(Look(report(port(30000, servers=servers)), ""), console))
    for address in addresses:
        assert address in text.getvalue()


@pytest.mark.parametrize(
    ("converged", "unready", "said"),
    [
        (True, "", "converged"),
        (False, "not synced yet: Route", "not converged: not synced yet: Route"),
        (False, "not converged; failing ports: [30000]", "not converged; failing ports: [30000]"),
        (None, "", "not converged"),
    ],
)
def test_it_is_said_once_that_it_has_not_converged(
    converged: bool | None,
    unready: str,
    said: str,
) -> None:
    assert report(converged=converged, unready=unready).convergence == said


def test_a_route_that_waits_for_haproxy_says_so() -> None:
    verdict = Verdict(Key("Route", "demo", "api"), None, Reason.ADMITTED, "")
    assert WaitingReport.of(verdict).message == "it is being assigned one"
