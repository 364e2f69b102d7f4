"""How long to wait before trying again. Imports no I/O; `random` is for jitter only."""

import random

#: Towards an API server: whoever waits for longer is blind for that much longer once it is back.
#: With the jitter it is two seconds at most.
API_FIRST_SECONDS = 0.25
API_MOST_SECONDS = 1.0


def backoff_seconds(attempts: int, first: float = 0.8, most: float = 30.0) -> float:
    """client-go's numbers: doubling from 0.8 s to 30 s, with up to as much again of jitter."""
    delay = min(most, first * 2.0 ** min(attempts - 1, 16))
    return delay * random.uniform(1.0, 2.0)  # noqa: S311  no secret


class Backoff:
    """Counts what goes wrong with an API server, in a row. ``attempts``: so far."""

    def __init__(self, first_seconds: float = API_FIRST_SECONDS) -> None:
        self._first_seconds = first_seconds
        self.attempts = 0

    def next_seconds(self) -> float:
        """After one more mishap: how long to wait."""
        self.attempts += 1
        return backoff_seconds(self.attempts, self._first_seconds, API_MOST_SECONDS)

    def reset(self) -> None:
        """It works: the next mishap is the first."""
        self.attempts = 0
