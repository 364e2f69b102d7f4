"""One value inside an API-shaped mapping (JSON, YAML), with the path that leads to it.

Owns how such a value is taken as text, number, name, port, … and how an error names the place,
the value and what would be right. Must not know any kind of object. Pure.

null counts as absent everywhere, as it does for the API server.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidecar.common.errors import ObjectError
from sidecar.common.secret_text import SecretText
from sidecar.common.text import shown

#: A DNS-1123 subdomain, as Kubernetes has it. Also what keeps a name that a user chose from being
#: more than one word in a command to HAProxy or more than one line in a log.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_MAX = 253
_NAME_RULE = f"a name is lower-case letters, digits, '-' and '.', at most {_NAME_MAX}"

_PROTOCOLS = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True, slots=True)
class Field:
    """A value and its path in the object, so that every message can name the place.

    ``secret``: no message shows the value, nor any that is within it.
    """

    path: str
    value: Any
    secret: bool = False

    def wrong(self, remedy: str, fault: str | None = None) -> ObjectError:
        """The error to raise: the value, what is at fault (by default its type), the remedy."""
        if self.value is None:
            return ObjectError(self.path, f"missing; {remedy}")
        fault = fault or f"is {type_name(self.value)}"
        value = "the value" if self.secret else shown(self.value)
        return ObjectError(self.path, f"{value} {fault}; {remedy}")

    def at(self, name: str) -> "Field":
        """A field of this mapping; what is absent has only absent fields."""
        # Keys of labels and annotations have dots of their own.
        step = f'["{name}"]' if "." in name else f".{name}" if self.path else name
        if self.value is None:
            return replace(self, path=self.path + step, value=None)
        if not isinstance(self.value, Mapping):
            raise self.wrong("write a mapping")
        return replace(self, path=self.path + step, value=self.value.get(name))

    def each(self) -> Iterator["Field"]:
        """The items of this list; none when it is absent."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.wrong("write a list")
        for index, value in enumerate(self.value):
            yield replace(self, path=f"{self.path}[{index}]", value=value)

    def text(self, rule: str) -> str:
        """Text, possibly empty; ``rule`` says in an error what belongs here."""
        if isinstance(self.value, str):
            return self.value
        if isinstance(self.value, bool | int | float) and not self.secret:
            rule = f'{rule}, write "{json.dumps(self.value)}"'
        raise self.wrong(rule)

    def optional_text(self, rule: str) -> str | None:
        return None if self.value is None else self.text(rule)

    def hidden(self) -> "Field":
        """The same place, of whose value no message shows any."""
        return replace(self, secret=True)

    def secret_text(self, rule: str) -> SecretText:
        """Text that may be a private key; empty when it is absent."""
        return SecretText(self.hidden().optional_text(rule) or "")

    def word(self, rule: str) -> str:
        """Text that is not empty."""
        if self.value == "":
            raise self.wrong(rule, "is empty")
        return self.text(rule)

    def name(self) -> str:
        """A name of an object or namespace."""
        text = self.text(_NAME_RULE)
        if not _is_name(text):
            raise self.wrong(_NAME_RULE, "is not a valid name")
        return text

    def host_name(self) -> str:
        """A name in DNS, always an absolute one: a dot at its end changes nothing."""
        text = self.text(_NAME_RULE).removesuffix(".")
        if not _is_name(text):
            raise self.wrong(_NAME_RULE, "is not a valid name")
        return text

    def label(self) -> str | None:
        """A name that is only ever shown: one that cannot be is left out, never a reason to
        refuse the endpoint that it belongs to."""
        return self.value if isinstance(self.value, str) and _is_name(self.value) else None

    def number(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""
        remedy = f"write a whole number from {low} to {high}"
        # In Python a bool is an int; in YAML `yes` where a number belongs is a mistake.
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.wrong(remedy)
        if not low <= self.value <= high:
            raise self.wrong(remedy, "is out of range")
        return self.value

    def port(self) -> int:
        return self.number(1, 65535)

    def port_or_name(self) -> str | None:
        """A port by number or name (IntOrString) as text; None when absent."""
        if self.value is None or (isinstance(self.value, str) and self.value):
            return self.value
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return str(self.port())
        raise self.wrong("write a port's number or name")

    def protocol(self) -> str:
        rule = f"a protocol is one of {', '.join(_PROTOCOLS)}"
        text = self.optional_text(rule) or "TCP"
        if text not in _PROTOCOLS:
            raise self.wrong(rule, "is not a valid protocol")
        return text

    def flag(self) -> bool | None:
        if self.value is None or isinstance(self.value, bool):
            return self.value
        raise self.wrong("write true or false")


def _is_name(text: str) -> bool:
    return len(text) <= _NAME_MAX and _NAME.fullmatch(text) is not None


def type_name(value: object) -> str:
    """What a person calls the type of ``value``."""
    match value:
        case None:
            return "empty"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"
