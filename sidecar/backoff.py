"""How long to wait before trying again. Imports no I/O; `random` is for jitter only."""

import random

#: After this long without a mishap the next one counts as the first.
RESET_SECONDS = 120.0


def backoff_seconds(attempts: int, first: float = 0.8, most: float = 30.0) -> float:
    """client-go's numbers: doubling from 0.8 s to 30 s, with up to as much again of jitter."""
    delay = min(most, first * 2.0 ** min(attempts - 1, 16))
    return delay * random.uniform(1.0, 2.0)  # noqa: S311  no secret


class Backoff:
    """Counts the mishaps of one thing; client-go's rules. ``now``: monotonic seconds."""

    def __init__(self, first_seconds: float = 0.8) -> None:
        self._first_seconds = first_seconds
        self._attempts = 0
        self._last_at = float("-inf")

    def next_seconds(self, now: float) -> float:
        """After one more mishap: how long to wait."""
        if now - self._last_at > RESET_SECONDS:
            self._attempts = 0
        self._attempts += 1
        self._last_at = now
        return backoff_seconds(self._attempts, self._first_seconds)
