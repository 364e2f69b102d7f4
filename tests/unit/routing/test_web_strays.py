"""`sidecar.routing.web_strays`: whose certificate waits for an entry that leads to others."""

import pytest

from sidecar.model.desired import BackendName, Unit
from sidecar.routing.web_strays import strays

A, B, WIDE, LACKING = map(BackendName, ("be_http_1", "be_http_2", "be_http_3", "be_http_4"))
OF: dict[Unit | None, str] = {A: "a.b.test", WIDE: "*.b.test"}


@pytest.mark.parametrize(
    ("entries", "hosts", "found"),
    [
        # The host's own Route has the backend.
        ([("1a.b.test/", A)], {"a.b.test", "*.b.test"}, set()),
        ([("1*.b.test/", WIDE)], {"a.b.test", "*.b.test"}, set()),
        # Another host's has it, or nobody, or it is none of ours.
        ([("1c.b.test/", A)], {"c.b.test"}, {"c.b.test"}),
        ([("1c.b.test/", B)], {"c.b.test"}, {"c.b.test"}),
        ([("1c.b.test?", None)], {"c.b.test"}, {"c.b.test"}),
        ([("1*.b.test/", A)], {"*.b.test"}, {"*.b.test"}),
        # What a wildcard brings is for hosts below it, too.
        ([("1c.b.test/", B)], {"*.b.test"}, {"*.b.test"}),
        ([("1c.b.test/", B)], {"*.b.test", "c.b.test"}, {"*.b.test", "c.b.test"}),
        ([("1d.c.b.test/", B)], {"*.b.test"}, set()),
        # Requests in clear are shown none; nor is who is led to what HAProxy lacks.
        ([("0c.b.test/", B)], {"*.b.test", "c.b.test"}, set()),
        ([("1c.b.test/", LACKING)], {"*.b.test", "c.b.test"}, set()),
        ([("1other.test/", B)], {"*.b.test", "c.b.test"}, set()),
    ],
)
def test_strays(entries: list[tuple[str, Unit | None]], hosts: set[str], found: set[str]) -> None:
    assert strays(hosts, entries, OF.get, lambda unit: unit != LACKING) == found
