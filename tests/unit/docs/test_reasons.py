"""The reasons in a Route's status: README explains each, and what others say of them is true."""

from book import rows, words

from sidecar.model.verdicts import ADMITTED_REASONS, Reason
from sidecar.reporting.cluster.status import NOT_PROGRAMMED, OVER_CAPACITY

#: Those that HAProxy gives rise to.
LATER = {NOT_PROGRAMMED, OVER_CAPACITY}


def test_the_readme_explains_each_reason() -> None:
    told = [word for row in rows("README.md", "Route status reasons") for word in words(row[0])]
    assert sorted(told) == sorted({*Reason, *LATER})


def test_the_reference_says_with_which_status_a_reason_comes() -> None:
    told = {
        (word, status)
        for status, reasons, _ in rows("docs/reference.md", "What a Route's author sees")
        for word in words(reasons)
    }
    true = {*ADMITTED_REASONS, OVER_CAPACITY}
    assert {word for word, status in told if status == "True"} == true
    # "any other" is False, too.
    assert {word for word, status in told if status == "False"} <= {*Reason, *LATER} - true
