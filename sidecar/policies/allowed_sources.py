"""Which clients may connect, by their addresses. Pure.

Unlike any other annotation one that cannot be used refuses the Route: without it, it would be open
to all. OpenShift's router ignores what it cannot read, and all of it if nothing is left.
"""

import ipaddress
from collections.abc import Iterator, Mapping

from sidecar.common.text import shown
from sidecar.model.objects import Route
from sidecar.model.verdicts import Reason, Refusal
from sidecar.policies.base import EVERY_WAY, GUARDING_FLAGS, Policy

#: The attribute: beginnings of addresses that HAProxy looks up, see `_beginnings`.
ALLOWED_SOURCES = "allowed_sources"

#: Among the letters: others are not served.
_RESTRICTED = "w"

#: One is up to sixteen entries of a map.
_NETWORKS_MAX = 500

#: How IPv6 writes an address of IPv4 (RFC 4291, 2.5.5.2).
_MAPPED = "00000000000000000000FFFF"


def _parse(text: str) -> tuple[str, ...]:
    words = text.split()
    if not words:
        raise ValueError("empty; write addresses or networks, with blanks between them")
    if len(words) > _NETWORKS_MAX:
        raise ValueError(f"{len(words)} of them; at most {_NETWORKS_MAX} can be told to HAProxy")
    found: set[str] = set()
    for word in words:
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError(
                f"{shown(word)} is no address and no network; write such as 192.0.2.7 or"
                " 2001:db8::/32"
            ) from None
        found.update(_beginnings(network))
    return tuple(sorted(found))


def _beginnings(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Iterator[str]:
    """The version, and how the addresses begin in hex: as many as the last digit has values."""
    digits = f"{int(network.network_address):0{network.max_prefixlen // 4}X}"
    whole, bits = divmod(network.prefixlen, 4)
    last = [""]
    if bits:
        first = int(digits[whole], 16)
        last = [f"{digit:X}" for digit in range(first, first + 2 ** (4 - bits))]
    for digit in last:
        yield f"{network.version}/{digits[:whole]}{digit}"
        if network.version == 4:
            # A listener for both has clients of IPv4 by addresses of IPv6.
            yield f"6/{_MAPPED}{digits[:whole]}{digit}"


def _tells(beginnings: tuple[str, ...]) -> Mapping[str, str]:
    return {ALLOWED_SOURCES: ",".join(beginnings), GUARDING_FLAGS: _RESTRICTED}


def _policy(name: str) -> Policy[tuple[str, ...]]:
    return Policy(name, name, _parse, "the Route is refused until fixed", EVERY_WAY, _tells)


#: The former counts where a Route has both.
IP_ALLOWLIST, IP_WHITELIST = _policy("ip_allowlist"), _policy("ip_whitelist")


def refusal(route: Route) -> Refusal | None:
    """Why ``route`` must not be served at all."""
    wishes = dict(route.wishes)
    policy = next((item for item in (IP_ALLOWLIST, IP_WHITELIST) if item.name in wishes), None)
    if policy is None:
        return None
    try:
        policy.parse(wishes[policy.name])
    except ValueError as exc:
        message = f"{policy.annotation}: {exc}; until then the Route would be open to all"
        return Refusal(Reason.INVALID_ANNOTATION, message)
    return None
