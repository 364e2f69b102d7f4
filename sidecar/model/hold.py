"""Who holds a port, since when and why. Pure values."""

from datetime import UTC, datetime
from typing import NamedTuple


class Hold(NamedTuple):
    """``by``: user@host, or "" where it is not known. ``at_seconds``: Unix time; None likewise.
    ``reason``: in the operator's words, or ""."""

    by: str = ""
    at_seconds: float | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """For a person: `` by root@node since 2026-02-24 12:00 UTC (REASON)``; begins with a blank,
        if there is anything."""
        by = f" by {self.by}" if self.by else ""
        since = ""
        if self.at_seconds is not None:
            at = datetime.fromtimestamp(self.at_seconds, UTC)
            since = f" since {at:%Y-%m-%d %H:%M} UTC"
        return by + since + (f" ({self.reason})" if self.reason else "")
