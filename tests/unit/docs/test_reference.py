"""docs/reference.md has every setting, annotation, command and option, and no other."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from book import rows, words
from cli import ROOT
from setting_keys import leaves, sections

from sidecar.policies.base import Way
from sidecar.policies.registry import POLICIES
from sidecar.policies.unsupported import WITHOUT_EFFECT
from sidecar.settings.schema import AnnotationSettings

REFERENCE = "docs/reference.md"

#: What the table says of the ways that a Route can be served.
WAYS: dict[str, set[Way]] = {
    "all": set(get_args(Way)),
    "by host": {"http", "edge", "reencrypt", "passthrough"},
    "HTTP": {"http", "edge", "reencrypt"},
    "HTTPS": {"edge", "reencrypt"},
}


def cells(heading: str) -> Iterator[list[str]]:
    return rows(REFERENCE, heading)


def settings_in_the_table() -> set[str]:
    """With what a row says in short: `web.tls.min_version`, `max_version`."""
    found = set()
    for row in cells("Settings"):
        first, *others = words(row[0]) or [""]
        found |= {first, *others, *(f"{first.rpartition('.')[0]}.{other}" for other in others)}
    return found


def test_every_setting_is_explained() -> None:
    """By a row of its own, or of the setting that it is a part of."""
    explained = settings_in_the_table()
    missing = [
        key
        for key in leaves()
        if key not in explained
        and not (key.count(".") > 1 and key.rpartition(".")[0] in explained)
        and not (key.count(".") > 2 and key.rpartition(".")[0].rpartition(".")[0] in explained)
    ]
    assert missing == []


def test_every_row_is_of_a_setting() -> None:
    known = {*leaves(), *sections()}
    firsts = {found[1] for row in cells("Settings") if (found := re.match(r"`([^`]+)`", row[0]))}
    assert firsts - known == set()


def annotations() -> dict[str, list[str]]:
    return {row[0].strip("`"): row for row in cells("Annotations")}


def test_every_annotation_is_explained_and_exists() -> None:
    of_settings = set(AnnotationSettings().model_dump().values())
    policies = {policy.annotation for policy in POLICIES}
    assert set(annotations()) == of_settings | policies | set(WITHOUT_EFFECT)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_the_table_says_for_which_routes_an_annotation_is(policy: Any) -> None:
    of = annotations()[policy.annotation][1]
    assert WAYS[of] == policy.ways


def test_the_commands_in_the_reference_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "docs/tables.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
