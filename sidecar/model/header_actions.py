"""``spec.httpHeaders.actions`` of a Route: what its author wants of the headers of requests and
responses, read as route.openshift.io/v1 has it.

Owns the fields, what each may hold, and the kind of names that HAProxy can be told of. One that
cannot be used is kept with its problem: it must hide neither the others nor the Route. Must not
know what a value means to HAProxy (`sidecar.policies.headers`). Pure.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

from sidecar.common.errors import ObjectError
from sidecar.common.text import counted
from sidecar.model.fields import Field

#: Of which messages.
Messages = Literal["request", "response"]

MESSAGES: tuple[Messages, ...] = get_args(Messages)

#: OpenShift's limits: of each kind of messages, and of a value.
_ACTIONS_MAX, _VALUE_MAX = 20, 16384

_NAME = re.compile(r"[-!#$%&'*+.0-9A-Z^_`a-z|~]{1,255}")
_NAME_RULE = "write a header's name, like X-Frame-Options"

_TYPES = ("Set", "Delete")
_TYPE_RULE = "write Set or Delete"


class HeaderAction(NamedTuple):
    """One of them. ``where``: its path in the Route. ``value``: as it is written; None: the header
    is deleted. ``problem``: why it cannot be used, with the path; "" where it can."""

    messages: Messages
    where: str
    name: str
    value: str | None
    problem: str = ""


class HeaderNames(NamedTuple):
    """The headers that Routes may set and delete, as the settings spell them."""

    request: tuple[str, ...] = ()
    response: tuple[str, ...] = ()

    def of(self, messages: Messages) -> tuple[str, ...]:
        return self.request if messages == "request" else self.response


#: Where there are none.
NO_HEADER_NAMES = HeaderNames()


def header_actions(headers: Field) -> tuple[HeaderAction, ...]:
    """All that ``spec.httpHeaders`` says, in its order."""
    return tuple(action for messages in MESSAGES for action in _actions(headers, messages))


def _actions(headers: Field, messages: Messages) -> Iterator[HeaderAction]:
    try:
        field = headers.at("actions").at(messages)
        fields = list(field.each())
    except ObjectError as exc:
        # What is no mapping is said once.
        if messages == MESSAGES[0] or str(exc).startswith(f"{headers.path}.actions.{messages}"):
            yield HeaderAction(messages, headers.path, "", None, str(exc))
        return
    for item in fields[:_ACTIONS_MAX]:
        try:
            yield _action(item, messages)
        except ObjectError as exc:
            yield HeaderAction(messages, item.path, "", None, str(exc))
    if more := fields[_ACTIONS_MAX:]:
        fault = f"{more[0].path}: {counted(len(more), 'action')} too many"
        problem = f"{fault}; {_ACTIONS_MAX} of {messages}s at most"
        yield HeaderAction(messages, more[0].path, "", None, problem)


def _action(field: Field, messages: Messages) -> HeaderAction:
    name = field.at("name")
    if not _NAME.fullmatch(name.word(_NAME_RULE)):
        raise name.wrong(_NAME_RULE, "is not a valid name of a header")
    action = field.at("action")
    of = action.at("type")
    if of.word(_TYPE_RULE) not in _TYPES:
        raise of.wrong(_TYPE_RULE, "is not a valid type")
    value = action.at("set").at("value")
    if of.value == "Delete":
        if action.at("set").value is not None:
            raise action.at("set").wrong("leave it out with type: Delete", "is of no use")
        return HeaderAction(messages, field.path, name.value, None)
    text = value.word("write the header's value")
    if len(text) > _VALUE_MAX:
        raise value.wrong(f"write {_VALUE_MAX} characters at most", f"has {len(text)}")
    return HeaderAction(messages, field.path, name.value, text)
