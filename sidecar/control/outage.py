"""The times that HAProxy cannot be reached: how often it was tried, when to try again, and what is
said of it. Owns no connection.
"""

import logging

from sidecar.common.backoff import backoff_seconds
from sidecar.common.errors import DisconnectedError, RuntimeAPIError
from sidecar.haproxy.client import CONNECTING

log = logging.getLogger(__name__)

#: How long HAProxy may take to start after us before that is an error.
START_SECONDS = 10.0


class Outage:
    """The one that lasts, if any. ``attempts``: failures since it began."""

    def __init__(self) -> None:
        self.attempts = 0
        self._since = 0.0
        self._said = ""

    def failed(self, error: RuntimeAPIError, now: float, *, met: bool, leaving: bool) -> float:
        """One more attempt failed; in how many seconds to try again. ``met``: HAProxy was there
        before. ``leaving``: it is expected to go, and not waited for."""
        self.attempts += 1
        if self.attempts == 1:
            self._since = now
        text, level = f"{error}; retrying until it answers", logging.ERROR
        if leaving:
            text, level = str(error), logging.INFO
        elif (
            isinstance(error, DisconnectedError)
            and error.doing == CONNECTING
            and not met
            and now - self._since < START_SECONDS
        ):
            # In a pod it starts after us.
            text = (
                f"waiting for HAProxy at {error.address} ({error.doing}: {error.problem});"
                " retrying until it answers"
            )
            level = logging.INFO
        if text != self._said:
            log.log(level, "%s", text)
        self._said = text
        # Soon at first, so that a restarted HAProxy has its servers back within a second.
        return backoff_seconds(self.attempts, first=0.05, most=0.4)

    def over(self) -> None:
        """HAProxy answers."""
        self.attempts, self._said = 0, ""
