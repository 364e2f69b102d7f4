"""Settings from text: parses YAML, and reports each mistake as key, value and remedy.

Must not know what a key means (`sidecar.settings.schema`), nor read files or the environment.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sidecar.common.documents import DocumentError, read_entries
from sidecar.common.errors import SettingsError
from sidecar.common.text import shown
from sidecar.settings.pools import PoolSettings
from sidecar.settings.schema import Settings
from sidecar.settings.section import Section
from sidecar.settings.types import control_characters
from sidecar.settings.web import ListenerSettings
from sidecar.settings.whereabouts import ROUTER_NAME_VARIABLE


def parse_settings(text: str, environment: Mapping[str, str], origin: str) -> Settings:
    """The settings from YAML ``text`` (may be empty), with the router's name from
    ``environment`` where it is set there. ``origin`` names the text in errors.

    Raises SettingsError with one line per problem.
    """
    try:
        documents = [entry.data for entry in read_entries(text.encode(), is_json=False)]
    except DocumentError as exc:
        raise SettingsError(origin, [str(exc)]) from exc
    if len(documents) > 1:
        raise SettingsError(origin, ["must be one YAML document; remove the lines '---'"])
    data = documents[0] if documents else {}
    if not isinstance(data, dict):
        raise SettingsError(origin, [f"must be a mapping of keys, not {shown(data)}"])
    if name := environment.get(ROUTER_NAME_VARIABLE):
        data = {**data, "router_name": name}
    unfit = dict(control_characters(data))
    problems = [
        f"{_written(at)}: {shown(text)}: has a control character; remove it"
        for at, text in unfit.items()
    ]
    try:
        settings = Settings.model_validate(data)
    except ValidationError as exc:
        errors = [error for error in exc.errors() if error["loc"] not in unfit]
        raise SettingsError(origin, [*problems, *map(_problem, errors)]) from exc
    if problems:
        raise SettingsError(origin, problems)
    return settings


def _problem(error: Any) -> str:
    """One line from one pydantic error: key, value, remedy."""
    location = error["loc"]
    key = _written(location)
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: no such key; {_suggestion(location)}"
        case "missing":
            return f"{key}: missing; it has no default"
        case "value_error":
            remedy = str(error["ctx"]["error"])
        case "model_type":
            remedy = f"write keys below it; valid keys: {', '.join(_known_keys(location))}"
        case "tuple_type":
            value = error["input"]
            remedy = f"write a list, like {[value] if isinstance(value, str) else '[a, b]'}"
        case kind:
            rule = _REMEDIES.get(kind, error["msg"])
            remedy = rule.format_map(error.get("ctx", {}))
    return f"{key}: {_as_yaml(error['input'])}: {remedy}" if key else remedy


#: pydantic's type of an error -> what would be right, in the words of somebody who writes YAML.
_REMEDIES: Mapping[str, str] = {
    "string_type": "write a string; quote what YAML would read as a number or boolean",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "write letters, digits, '.', '_' and '-', a letter or digit first",
    "int_type": "write a whole number, without quotes",
    "float_type": "write a number, without quotes",
    "bool_type": "write true or false, without quotes",
    "literal_error": "choose {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


def _as_yaml(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else shown(value)


def _written(location: Sequence[int | str]) -> str:
    """``pools[0].ports``"""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_word(part)}" for part in location)
    return "".join(parts).removeprefix(".")


def _word(key: str) -> str:
    """A key that a user made up, so that it is one word of one line."""
    return key if re.fullmatch(r"[\w-]{1,40}", key) else shown(key)


def _suggestion(location: Sequence[int | str]) -> str:
    known = _known_keys(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}valid keys: {', '.join(known)}"


#: Lists of sections -> what their items are.
_ITEMS: Mapping[str, type[Section]] = {"pools": PoolSettings, "listeners": ListenerSettings}


def _known_keys(section: Sequence[int | str]) -> list[str]:
    model: Any = Settings
    for part in section:
        if not isinstance(part, int):
            model = _ITEMS.get(str(part)) or model.model_fields[part].annotation
    return list(model.model_fields)
