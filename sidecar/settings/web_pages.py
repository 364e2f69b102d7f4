"""The settings of what HAProxy does to answers: pages of its own ones, and compression.

Owns these defaults. Whether a page is one is seen when it is read (`sidecar.haproxy.error_pages`).
"""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from sidecar.common.text import shown
from sidecar.settings.section import Section
from sidecar.settings.types import FilePath

#: No Route is for a request, or none of its servers is ready; no Route is for it.
_STATUSES = (503, 404)

_PAGES_RULE = "write statuses with files, like {503: /etc/pages/503.http}"


def _pages(value: object) -> object:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(_PAGES_RULE)  # noqa: TRY004  pydantic wants this one
    if unknown := [key for key in value if str(key) not in map(str, _STATUSES)]:
        raise ValueError(f"{shown(unknown[0])} has no page; there are 503 and 404")
    return {int(key): file for key, file in value.items()}


ErrorPages = Annotated[dict[int, FilePath], BeforeValidator(_pages)]


def _type(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9.+-]{0,62}", value):
        raise ValueError("write a media type, like text/html")
    return value


def _types(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(" ".join(values)) > 1500:
        raise ValueError("too many for a line of HAProxy; 1500 characters at most")
    if twice := [value for value in values if values.count(value) > 1]:
        raise ValueError(f"repeats {twice[0]}; list each once")
    return values


class CompressionSettings(Section):
    """Of answers, with gzip, for clients that accept it. It costs HAProxy CPU, and pods may have
    compressed already."""

    #: None: no answer.
    types: Annotated[tuple[Annotated[str, AfterValidator(_type)], ...], AfterValidator(_types)] = ()
