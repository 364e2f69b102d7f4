"""status.ingress: our entry and nobody else's, and only when it differs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.objects import Key
from sidecar.model.verdicts import ADMITTED_REASONS, Reason, Verdict
from sidecar.reporting.cluster.events import Discretion, Notice, event_body, notices
from sidecar.reporting.cluster.status import (
    KEEP,
    MESSAGE_MAX,
    NOT_PROGRAMMED,
    OVER_CAPACITY,
    Admitted,
    admitted,
    our_entry,
    said,
    updated,
)
from sidecar.reporting.outcome import Outcome

WEB = Key("Route", "demo", "web")
THEN, NOW = "2026-01-01T00:00:00Z", "2026-06-01T12:00:00Z"
OURS = "wzh-router-1"

TRUE = Admitted("True", "Admitted", "port 30000", "port 30000")
FALSE = Admitted("False", "PortAlreadyClaimed", "port 30000 is claimed by the older Route 'old'")


def outcome(reason: Reason = Reason.ADMITTED, message: str = "", **rest: Any) -> Outcome:
    return Outcome(Verdict(WEB, 30000, reason, message), subject="port 30000", **rest)


def written(wanted: Admitted | None, *ingress: Any, host: str = "", now: str = NOW) -> Any:
    return updated(ingress, OURS, host, wanted, now)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (outcome(), KEEP),
        (outcome(verified=True, open=True), TRUE),
        (
            outcome(verified=True, open=True, left_out=2),
            Admitted(
                "True",
                OVER_CAPACITY,
                "port 30000: 2 endpoints skipped: over the router's capacity",
            ),
        ),
        (
            outcome(Reason.NO_ENDPOINTS, "no endpoint is ready", verified=True),
            Admitted("True", "NoEndpoints", "port 30000: no endpoint is ready"),
        ),
        (
            outcome(failure="HAProxy answered 'no'"),
            Admitted(
                "False",
                NOT_PROGRAMMED,
                "port 30000: not yet programmed in HAProxy: HAProxy answered 'no'",
            ),
        ),
        (
            outcome(Reason.INVALID_PORT, "'x' is not a valid port"),
            Admitted("False", "InvalidPort", "'x' is not a valid port"),
        ),
        (outcome(Reason.PORT_PENDING, "in a moment"), KEEP),
        (None, None),
    ],
)
def test_what_is_said(given_: Outcome | None, expected: Admitted | None) -> None:
    assert admitted(given_) == expected


@given(
    st.sampled_from(Reason),
    st.text(max_size=2000),
    st.booleans(),
    st.booleans(),
    st.text(max_size=5),
)
def test_admitted_is_true_only_after_read_back(
    reason: Reason, message: str, verified: bool, opened: bool, failure: str
) -> None:
    told = admitted(outcome(reason, message, verified=verified, open=opened, failure=failure))
    assert told is not None
    if told == KEEP:
        return
    assert len(told.message) <= MESSAGE_MAX
    assert "\n" not in told.message
    if told.status == "True":
        assert verified
        assert not failure
        assert reason in ADMITTED_REASONS


def test_a_new_entry_says_since_when() -> None:
    assert written(TRUE, host="web.example.com") == [
        {
            "host": "web.example.com",
            "routerName": OURS,
            "wildcardPolicy": "None",
            "conditions": [
                {
                    "type": "Admitted",
                    "status": "True",
                    "reason": "Admitted",
                    "message": "port 30000",
                    "lastTransitionTime": NOW,
                }
            ],
        }
    ]


def test_a_route_without_a_host_settles_where_the_api_leaves_out_what_is_empty() -> None:
    # As OpenShift's API server does it: in Go it is `omitempty`.
    kept = [{name: value for name, value in written(TRUE)[0].items() if value}]
    assert written(TRUE, *kept) is None


def test_the_routers_own_host_name_is_told_beside_the_routes() -> None:
    (former,) = written(TRUE, host="web.example.com")
    told = [{**former, "routerCanonicalHostname": "r.example.com"}]
    host, name = "web.example.com", "r.example.com"
    assert updated([former], OURS, host, TRUE, NOW, canonical_hostname=name) == told
    assert updated(told, OURS, host, TRUE, NOW, canonical_hostname=name) is None
    # What a former settings file said of it goes.
    assert written(TRUE, *told, host=host) == [former]


def test_the_time_turns_only_when_the_status_does() -> None:
    before = written(TRUE, now=THEN)[0]
    moved = written(Admitted("True", "Admitted", "port 30001"), before)[0]
    refused = written(FALSE, before)[0]
    assert moved["conditions"][0]["lastTransitionTime"] == THEN
    assert refused["conditions"][0]["lastTransitionTime"] == NOW


ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"routerName": st.sampled_from([OURS, "other", "third"]), "host": st.text(max_size=3)},
        optional={
            "conditions": st.one_of(
                st.none(),
                st.text(max_size=2),
                st.lists(
                    st.one_of(
                        st.integers(),
                        st.fixed_dictionaries(
                            {"type": st.sampled_from(["Admitted", "Other"])},
                            optional={"status": st.sampled_from(["True", "False", "Unknown", 1])},
                        ),
                    ),
                    max_size=3,
                ),
            )
        },
    ),
    max_size=5,
)


@pytest.mark.parametrize(
    "served",
    [
        outcome(verified=True, open=True),
        outcome(message="a note: of ours", verified=True, open=True),
        outcome(verified=True, open=True, left_out=1),
        outcome(Reason.NO_ENDPOINTS, "no endpoint is ready", verified=True),
    ],
)
def test_what_is_open_is_known_of_what_a_former_leader_wrote_too(served: Outcome) -> None:
    wanted = admitted(served)
    assert isinstance(wanted, Admitted)
    stands = said(our_entry(written(wanted), OURS))
    assert stands is not None
    assert stands.subject == wanted.subject == "port 30000"


@given(ENTRIES, st.sampled_from([TRUE, FALSE, None]))
def test_writing_settles_and_touches_nobody_else(
    ingress: list[dict[str, Any]], wanted: Admitted | None
) -> None:
    after = written(wanted, *ingress)
    settled = ingress if after is None else after
    assert [e for e in settled if e["routerName"] != OURS] == [
        e for e in ingress if e["routerName"] != OURS
    ]
    assert said(our_entry(settled, OURS)) == wanted
    assert sum(entry["routerName"] == OURS for entry in settled) == (wanted is not None)
    assert written(wanted, *settled, now="2027-01-01T00:00:00Z") is None


CLOSED = Admitted("True", "NoEndpoints", "port 30000: no endpoint is ready", "port 30000")
CROWDED = Admitted("True", OVER_CAPACITY, "port 30000: 2 endpoints skipped", "port 30000")
ELSEWHERE = Admitted("True", "Admitted", "port 30001", "port 30001")
POOR = Admitted("False", "InvalidPort", "'x' is not a valid port")


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (None, TRUE, ["PortOpened"]),
        (TRUE, TRUE, []),
        (TRUE, CLOSED, []),
        (CLOSED, TRUE, ["PortOpened"]),
        (TRUE, ELSEWHERE, ["PortOpened"]),
        (TRUE, CROWDED, [OVER_CAPACITY]),
        (None, CROWDED, ["PortOpened", OVER_CAPACITY]),
        (CROWDED, TRUE, []),
        (None, FALSE, ["PortAlreadyClaimed"]),
        (TRUE, FALSE, ["PortDisplaced"]),
        (FALSE, FALSE, []),
        (FALSE, POOR, ["InvalidPort"]),
        (POOR, TRUE, ["PortOpened"]),
        (TRUE, None, []),
    ],
)
def test_what_deserves_an_event(
    before: Admitted | None, after: Admitted | None, reasons: list[str]
) -> None:
    assert [notice.reason for notice in notices(before, after)] == reasons


def test_a_repetition_is_no_event() -> None:
    discretion = Discretion()
    opened = Notice("Normal", "PortOpened", "port 30000 is open")
    assert discretion.allows("u", opened, 0.0)
    assert not discretion.allows("u", opened, 599.0)
    assert discretion.allows("other", opened, 1.0)
    assert discretion.allows("u", opened, 600.0)


def test_a_route_has_so_many_events_and_then_one_in_five_minutes() -> None:
    discretion = Discretion()

    def sent(now: float) -> int:
        return sum(
            discretion.allows("u", Notice("Normal", "PortOpened", f"{now} {n}"), now)
            for n in range(100)
        )

    assert [sent(0.0), sent(299.0), sent(301.0), sent(602.0)] == [25, 0, 1, 1]
    assert discretion.allows("quiet", Notice("Normal", "PortOpened", ""), 900.0)


def test_an_event_has_a_name_of_its_own_however_long_the_routes_is() -> None:
    long = Key("Route", "demo", "a" * 236 + "." + "b" * 16)
    made = [
        event_body(long, "u", notices(None, TRUE)[0], reporter="pod", timestamp=NOW, unique=one)
        for one in ("1", "2")
    ]
    names = [body["metadata"]["name"] for body in made]
    assert len(set(names)) == 2
    assert all(len(name) <= 253 and ".." not in name for name in names)
    assert made[0]["involvedObject"]["uid"] == "u"
