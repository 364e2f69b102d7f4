"""For how long a Route's servers may be silent, and upgraded connections both sides. Pure.

HAProxy can be told while it runs only of Routes that it speaks HTTP for; passthrough Routes have
what the settings say.
"""

import re
from collections.abc import Mapping

from sidecar.policies.base import HTTP, Policy

#: The attributes: milliseconds.
SERVER, TUNNEL = "timeouts", "tunnel_timeouts"

_FORM = re.compile(r"([1-9][0-9]*)(us|ms|s|m|h|d)?")
_MILLISECONDS = {"us": 0.001, None: 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}

#: HAProxy has no longer ones.
_MAX_MILLISECONDS = 2**31 - 1

#: Of a number's digits: far beyond that, whatever the unit.
_DIGITS_MAX = 20


def _parse(text: str) -> int:
    """Milliseconds, as OpenShift's router reads them."""
    found = _FORM.fullmatch(text)
    if not found or len(found[1]) > _DIGITS_MAX:
        raise ValueError("not a duration; write a number, and us, ms, s, m, h or d, like 30s")
    milliseconds = int(found[1]) * _MILLISECONDS.get(found[2], 86_400_000)
    return min(max(1, round(milliseconds)), _MAX_MILLISECONDS)


def _policy(name: str, title: str, attribute: str, setting: str) -> Policy[int]:
    def tells(milliseconds: int) -> Mapping[str, str]:
        return {attribute: str(milliseconds)}

    return Policy(name, title, _parse, f"using {setting} until fixed", HTTP, tells)


TIMEOUT = _policy("timeout", "timeout", SERVER, "web.timeouts.server")
TIMEOUT_TUNNEL = _policy("timeout-tunnel", "tunnel timeout", TUNNEL, "web.timeouts.tunnel")
