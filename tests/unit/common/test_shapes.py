"""Dataclasses from JSON: what is taken, and what is refused."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest

from sidecar.common.shapes import ShapeError, read_as


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    share: float
    mark: Literal["ok", "bad"] = "ok"


@dataclass(frozen=True, slots=True)
class Outer:
    number: int
    yes: bool
    maybe: int | None
    inner: tuple[Inner, ...]
    best: Inner | None = None
    counts: Mapping[str, int] | None = None


GOOD = Outer(1, True, None, (Inner("a", 0.5), Inner("b", 2.0, "bad")), Inner("c", 0.0), {"x": 1})


def test_there_and_back() -> None:
    assert read_as(Outer, json.loads(json.dumps(asdict(GOOD)))) == GOOD
    assert read_as(list[Inner], [{"name": "a", "share": 1}]) == [Inner("a", 1.0)]


def test_what_is_new_is_left_out_and_what_is_old_has_its_default() -> None:
    data: dict[str, Any] = {"number": 1, "yes": False, "maybe": 2, "inner": [], "newer": {"x": 1}}
    assert read_as(Outer, data) == Outer(1, False, 2, ())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"number": "1"}, "'1' is no int"),
        ({"number": True}, "True is no int"),
        ({"number": None}, "None is no int"),
        ({"yes": 1}, "1 is no bool"),
        ({"maybe": "x"}, "'x' is no int"),
        ({"inner": {}}, "{} is no list"),
        ({"inner": [1]}, "1 is no dict"),
        ({"inner": [{"name": "a"}]}, "Inner without share"),
        ({"inner": [{"name": "a", "share": 1, "mark": "odd"}]}, "'odd' is none of ok, bad"),
        ({"inner": [{"name": "a", "share": 1, "mark": []}]}, "is none of ok, bad"),
        ({"counts": {"x": "y"}}, "'y' is no int"),
        ({"counts": []}, "is no dict"),
    ],
)
def test_what_is_wrong(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ShapeError, match=told):
        read_as(Outer, {**asdict(GOOD), "inner": [], **changed})


@pytest.mark.parametrize("data", [None, [], "text", 1])
def test_what_is_no_record(data: object) -> None:
    with pytest.raises(ShapeError):
        read_as(Outer, data)
