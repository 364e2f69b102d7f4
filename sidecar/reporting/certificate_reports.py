"""Certificates of hosts, and CAs of their servers, as reports have them: the fields are the JSON's.

Loads nothing that reads certificates, so that whoever only shows a report is quick. Pure.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from sidecar.common.durations import format_span
from sidecar.common.text import counted
from sidecar.model.certificate_title import title

if TYPE_CHECKING:
    from sidecar.routing.web_places import Trust

_DAY_SECONDS = 86400

#: A certificate that ends sooner is something to look after.
ENDS_SOON_DAYS = 14

#: One that ends sooner is no longer a matter of routine.
ENDS_VERY_SOON_DAYS = 3

#: Of the CAs of one file, so many are named: a bundle has hundreds.
_SUBJECTS_SHOWN = 5

DEFAULT = "default certificate"

#: Of a certificate that HAProxy does not show yet, and has not refused.
LOADING = "it is being loaded"


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """What clients of a host should be shown. ``not_after``: its end, in UTC, and ``seconds_left``
    until then, below 0 once it is over; of the default certificate "" and None where nobody knows.
    ``source``: where it comes from. ``served``: whether clients are shown it; None: not known.
    ``served_seconds_ago``: since when, as far as the sidecar has seen it. ``failure``: why it is
    not served, or ""."""

    subject: str
    issuer: str
    not_after: str
    seconds_left: int | None
    source: str
    served: bool | None
    served_seconds_ago: float | None = None
    failure: str = ""

    @property
    def days_left(self) -> int | None:
        """Whole days."""
        return None if self.seconds_left is None else self.seconds_left // _DAY_SECONDS

    @property
    def title(self) -> str:
        """For a person: whose it is, by whom, and until when."""
        if not self.not_after:
            return DEFAULT
        return title(self.subject, self.issuer, self.not_after)

    @property
    def ending(self) -> str:
        """Its end in words, if that is soon, or over; else ""."""
        days = self.days_left
        if days is None or days >= ENDS_SOON_DAYS:
            return ""
        return f"ends in {counted(days, 'day')}" if days >= 0 else f"expired on {self.not_after}"

    @property
    def is_default(self) -> bool:
        return self.source == DEFAULT

    @property
    def text(self) -> str:
        """All of it in a line, for a person."""
        days = self.days_left
        left = "" if days is None else f" ({counted(days, 'day')})" if days >= 0 else " (expired)"
        source = "" if self.title == DEFAULT else f", {self.source}"
        return f"{self.title}{left}{source}; {self._when}"

    @property
    def _when(self) -> str:
        if self.served is None:
            return "whether it is served, a running sidecar knows"
        if not self.served:
            return f"not served: {self.failure or LOADING}"
        if self.served_seconds_ago is None:
            return "served"
        return f"served for {format_span(int(self.served_seconds_ago))}"


@dataclass(frozen=True, slots=True)
class AuthorityReport:
    """By whom the servers of a Route are verified. ``subjects``: of the first CAs of
    ``subjects_total``. ``server_name``: that their certificates must be for; "": any."""

    subjects: tuple[str, ...]
    subjects_total: int
    server_name: str
    source: str

    @classmethod
    def of(cls, trust: "Trust") -> Self:
        subjects = trust.authority.subjects
        return cls(subjects[:_SUBJECTS_SHOWN], len(subjects), trust.server_name, trust.source)

    @property
    def text(self) -> str:
        """In a line, for a person."""
        of = " + ".join(self.subjects)
        if more := self.subjects_total - len(self.subjects):
            of += f" and {more} more"
        name = f"the name {self.server_name}" if self.server_name else "any name"
        return f"servers need a certificate by {of} ({self.source}), for {name}"
