"""Dataclasses from parsed JSON, checked field by field: what another process of ours has sent.

Unknown fields are left out, as a newer one may send some; wrong ones are a ShapeError. (pydantic
does the same, and takes longer to load than all else that shows a report.) Pure.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from sidecar.common.errors import SidecarError
from sidecar.common.text import shown

T = TypeVar("T")

_Read = Callable[[Any], Any]


class ShapeError(SidecarError):
    """Data has not the shape that was asked for."""


def read_as(kind: type[T], data: Any) -> T:
    """``data`` as a value of ``kind``: a dataclass, a list or tuple of them, and so on. Raises
    ShapeError."""
    found: T = _reader(cast("Hashable", kind))(data)
    return found


@cache
def _reader(kind: Any) -> _Read:
    if dataclasses.is_dataclass(kind):
        return _record(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union) and len(arguments) == 2 and type(None) in arguments:
        (inner,) = (_reader(item) for item in arguments if item is not type(None))
        return lambda data: None if data is None else inner(data)
    if origin in (tuple, list):
        each = _reader(arguments[0])
        return lambda data: origin(map(each, _checked(list, data)))
    if origin is Mapping and arguments[0] is str:
        value = _reader(arguments[1])
        return lambda data: {key: value(item) for key, item in _checked(dict, data).items()}
    if origin is Literal:
        return lambda data: _one_of(arguments, data)
    if kind is float:
        return lambda data: float(data) if type(data) is int else _checked(float, data)
    if kind in (str, int, bool):
        return lambda data: _checked(kind, data)
    raise TypeError(f"no reader for {kind}")


def _record(kind: Any) -> _Read:
    hints = get_type_hints(kind)
    fields = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}
    missing = dataclasses.MISSING
    needed = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is missing and field.default_factory is missing
    }

    def read(data: Any) -> Any:
        given = _checked(dict, data)
        if lacks := needed - given.keys():
            raise ShapeError(f"{kind.__name__} without {min(lacks)}")
        return kind(**{name: item(given[name]) for name, item in fields.items() if name in given})

    return read


def _checked(kind: type, data: Any) -> Any:
    # JSON has no other types than these, so true is no number here.
    if type(data) is not kind:
        raise ShapeError(f"{shown(data)} is no {kind.__name__}")
    return data


def _one_of(values: tuple[Any, ...], data: Any) -> Any:
    if data not in values:
        raise ShapeError(f"{shown(data)} is none of {', '.join(map(str, values))}")
    return data
