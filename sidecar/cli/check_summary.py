"""What `check --summary` says: how many Routes there are without a remark, and with which.

Must not decide what is said of a Route. Pure.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sidecar.common.text import counted, cut
from sidecar.model.verdicts import Reason, Verdict

_WITHOUT_EFFECT = "without effect here: "

#: Most of a remark that a line shows; `check` without it has all of each Route.
_REMARK_MAX = 240


class Checked(NamedTuple):
    """A Route. ``notes``: what of its wishes cannot be used, each by itself."""

    verdict: Verdict
    notes: tuple[str, ...]


def summary(routes: Iterable[Checked]) -> Iterator[str]:
    """First how many, then a line for each remark: those of refused Routes before others."""
    routes = list(routes)
    groups: dict[tuple[bool, str], list[str]] = {}
    plain = refused = 0
    for route in routes:
        remarks = list(dict.fromkeys(_remarks(route)))
        plain += not remarks
        refused += not route.verdict.admitted
        for remark in remarks:
            groups.setdefault(remark, []).append(route.verdict.route.title)
    yield f"{counted(len(routes), 'Route')}: {plain} without a remark, {refused} refused"
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1]))
    width = max((len(str(len(titles))) for _, titles in ordered), default=0)
    for (served, what), titles in ordered:
        word = "" if served else "refused, "
        yield f"{len(titles):>{width}}  {word}{cut(what, _REMARK_MAX)} (e.g. {titles[0]})"


def _remarks(route: Checked) -> Iterator[tuple[bool, str]]:
    """What is said, without what is of this Route alone; each with whether it is served for all
    that: no note is why a Route is refused."""
    verdict = route.verdict
    # What is not a note is why it is refused, or of its servers.
    rest = verdict.message.removesuffix("; ".join(route.notes)).removesuffix("; ")
    if not verdict.admitted:
        yield False, ": ".join(filter(None, (str(verdict.reason), _general(verdict, rest))))
    elif verdict.reason is not Reason.ADMITTED:
        yield True, str(verdict.reason)
    elif rest:
        yield True, _general(verdict, rest)
    for note in route.notes:
        if note.startswith(_WITHOUT_EFFECT):
            keys = note.removeprefix(_WITHOUT_EFFECT).split(", ")
            yield from ((True, f"{_WITHOUT_EFFECT}{key}") for key in keys)
        else:
            yield True, _general(verdict, note)


def _general(verdict: Verdict, message: str) -> str:
    for own in filter(None, (verdict.host + verdict.path, verdict.host)):
        # Nowhere within a word or a longer name: a host may be called as a setting is.
        message = re.sub(rf"(?<![\w.-]){re.escape(own)}(?![\w-]|\.\w)", "its host", message)
    message = message.replace(f" older than {verdict.route.name}", " older")
    return re.sub(r"\[[0-9]+\]", "[…]", re.sub(r"'[^']*'", "'…'", message))
