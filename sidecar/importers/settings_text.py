"""Writes settings as YAML, with where each comes from beside it.

Must not know what a key means. Pure.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

#: What needs no quotes, and is text for every reader of YAML.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_/-]*(?:\.[A-Za-z0-9_/-]+)*")
_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")

#: The places of values: their keys.
Path = tuple[str, ...]


def settings_text(tree: Mapping[str, Any], origins: Mapping[Path, str]) -> str:
    """``tree`` in its order; ``origins``: what stands beside the value of a path, or of an item of
    its list, whose number is then the last part."""
    return "".join(f"{line}\n" for line in _mapping(tree, origins, ()))


def _mapping(tree: Mapping[str, Any], origins: Mapping[Path, str], at: Path) -> Iterator[str]:
    indent = "  " * len(at)
    for key, value in tree.items():
        path = (*at, key)
        # A key is text for the settings, whatever it looks like.
        name = key if re.fullmatch("[0-9]+", key) else _scalar(key)
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _mapping(value, origins, path)
        elif isinstance(value, list):
            yield f"{indent}{name}:"
            for number, item in enumerate(value):
                yield f"{indent}  - {_flow(item)}{_beside(origins, (*path, str(number)))}"
        else:
            yield f"{indent}{name}: {_scalar(value)}{_beside(origins, path)}"


def _beside(origins: Mapping[Path, str], path: Path) -> str:
    origin = origins.get(path)
    return f"  # {origin}" if origin else ""


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        # JSON's strings are YAML's, but for what it would write as two halves.
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
