"""Which keys the settings have, from their schema, for tests that compare documents with it."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from sidecar.settings.schema import Settings


def leaves(model: type[BaseModel] = Settings, path: str = "") -> Iterator[str]:
    """The keys that have no keys of their own; those of a list's items as ``list[].key``."""
    for name, field in model.model_fields.items():
        inner, item = field.annotation, ""
        for found in get_args(field.annotation):
            if isinstance(found, type) and issubclass(found, BaseModel):
                inner, item = found, "[]"
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, f"{path}{name}{item}.")
        else:
            yield f"{path}{name}"


@cache
def sections() -> frozenset[str]:
    """The keys that have keys: a list, ``list``, as well as its items, ``list[]``."""
    return frozenset(
        key[: found.start()] for key in leaves() for found in re.finditer(r"\.|\[\]", key)
    )


def unknown_keys(value: Any, path: str = "") -> Iterator[str]:
    """Those in a part of a settings file, of the section ``path``, that no settings have."""
    if isinstance(value, list):
        for item in value if f"{path}[]" in sections() else ():
            yield from unknown_keys(item, f"{path}[]")
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = f"{path}.{key}" if path else str(key)
            if inner in sections():
                yield from unknown_keys(item, inner)
            elif inner not in set(leaves()):
                yield inner
