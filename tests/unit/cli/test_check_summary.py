"""``check --summary``: Routes by what is said of them."""

import pytest

from sidecar.cli.check_summary import Checked, summary
from sidecar.model.objects import Key
from sidecar.model.verdicts import Reason, Verdict


def checked(name: str, *notes: str, reason: Reason = Reason.ADMITTED, message: str = "") -> Checked:
    text = "; ".join(filter(None, [message, *notes]))
    host = f"{name}.example"
    return Checked(Verdict(Key("Route", "demo", name), None, reason, text, host, "/x"), notes)


def test_equal_remarks_are_counted_together() -> None:
    refused = Reason.HOST_ALREADY_CLAIMED
    routes = [
        checked("a"),
        checked("b", "without effect here: k/balance, k/h1"),
        checked("c", "without effect here: k/balance", "timeout 'x': not a duration"),
        checked("d", "timeout 'y': not a duration"),
        checked("e", reason=refused, message="an older route already claims e.example/x"),
        checked("f", reason=refused, message="an older route already claims f.example/x"),
        checked("g", reason=refused, message="a route holds g.example and is older than g"),
        checked("h", reason=Reason.NO_ENDPOINTS, message="no ready endpoint in Service 'h'"),
        checked("i", message="spec.to[1]: 2 endpoints skipped"),
        *(checked(f"n{number}", f"spec.x[{number}] is wrong") for number in range(9)),
    ]
    assert list(summary(routes)) == [
        "18 Routes: 1 without a remark, 3 refused",
        "2  refused, HostAlreadyClaimed: an older route already claims its host (e.g. demo/e)",
        "1  refused, HostAlreadyClaimed: a route holds its host and is older (e.g. demo/g)",
        "9  spec.x[…] is wrong (e.g. demo/n0)",
        "2  timeout '…': not a duration (e.g. demo/c)",
        "2  without effect here: k/balance (e.g. demo/b)",
        "1  NoEndpoints (e.g. demo/h)",
        "1  spec.to[…]: 2 endpoints skipped (e.g. demo/i)",
        "1  without effect here: k/h1 (e.g. demo/b)",
    ]


def test_what_a_refused_route_asks_for_in_vain_is_a_remark_of_its_own() -> None:
    missing = Reason.SERVICE_NOT_FOUND
    routes = [
        checked("d", "timeout 'z': wrong"),
        checked("a", "without effect here: k/h1", reason=missing, message="no Service 'a'"),
        checked("b", "timeout 'x': wrong", reason=missing, message="no Service 'b'"),
        checked("c", "timeout 'y': wrong", reason=missing),
    ]
    assert list(summary(routes)) == [
        "4 Routes: 0 without a remark, 3 refused",
        "2  refused, ServiceNotFound: no Service '…' (e.g. demo/a)",
        "1  refused, ServiceNotFound (e.g. demo/c)",
        "3  timeout '…': wrong (e.g. demo/d)",
        "1  without effect here: k/h1 (e.g. demo/a)",
    ]


@pytest.mark.parametrize(
    ("host", "message", "general"),
    [
        ("timeout", "using web.timeouts.server", "using web.timeouts.server"),
        ("timeouts", "using web.timeouts.server", "using web.timeouts.server"),
        ("a.b", "x.a.b, a.b.c and a.b-c are not a.b.", "x.a.b, a.b.c and a.b-c are not its host."),
        ("a.b", "a.b/x has it, and so has a.b/xy", "its host has it, and so has its host/xy"),
        ("*.a.b", "*.a.b: not allowed", "its host: not allowed"),
        ("", "a.b: not allowed", "a.b: not allowed"),
    ],
)
def test_its_host_is_no_part_of_another_word(host: str, message: str, general: str) -> None:
    path = "/x" if host else ""
    verdict = Verdict(Key("Route", "demo", "r"), None, Reason.ADMITTED, message, host, path)
    assert list(summary([Checked(verdict, ())]))[1] == f"1  {general} (e.g. demo/r)"


def test_no_routes() -> None:
    assert list(summary([])) == ["0 Routes: 0 without a remark, 0 refused"]
