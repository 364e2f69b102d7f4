"""What of a source cannot be used, as the log has it: a line when it begins and when it is over."""

import logging
from collections.abc import Mapping

from sidecar.model.change import Problem
from sidecar.reporting.status import problem_lines

log = logging.getLogger(__name__)

#: Of the problems that a source has at once, so many have a line in the log.
_LOGGED = 50


class ProblemLog:
    """Says each once. ``lines``: what is wrong now, for reports."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] = ()
        self._found: Mapping[str, tuple[Problem, ...]] = {}

    def report(self, found: Mapping[str, tuple[Problem, ...]]) -> None:
        """``found``: origin -> its problems; the same object for as long as they are the same."""
        if found is self._found:
            return
        self._found = found
        before, self.lines = self.lines, problem_lines(found)
        known, now = set(before), set(self.lines)
        new = [line for line in self.lines if line not in known]
        for line in new[:_LOGGED]:
            log.error("%s", line)
        if len(new) > _LOGGED:
            more = len(new) - _LOGGED
            log.error("%d more problems; `haproxy-sidecar status` shows all", more)
        resolved = [line for line in before if line not in now]
        for line in resolved[:_LOGGED]:
            log.info("resolved: %s", line.split(": ", 1)[0])
        if len(resolved) > _LOGGED:
            log.info("resolved: %d more", len(resolved) - _LOGGED)
