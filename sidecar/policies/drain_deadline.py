"""After how many seconds the sessions of a removed endpoint are ended; 0 means never. Pure."""

from sidecar.common.durations import parse_duration
from sidecar.policies.base import Policy

DRAIN_DEADLINE: Policy[float] = Policy(
    name="drain-deadline",
    title="drain deadline",
    parse=parse_duration,
    otherwise="using the router's own until fixed",
)
