"""Following a name in DNS: which addresses are valid after a lookup, and when to repeat it.

While DNS fails, the last good addresses are kept, for as long as that lasts. That a name has none
is accepted only after a while: a zone that is being reloaded says so, too. Pure:
`sidecar.sources.dns.following` does the lookups.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

#: A name is looked at again when its TTL is over, but neither sooner nor later than this.
LOOK_MIN_SECONDS = 1.0
LOOK_MAX_SECONDS = 300.0

#: The longest wait after a look that found nothing; it doubles up to this.
_RETRY_MAX_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was found of a name in one of the two families.

    ``ttl_seconds``: of ``addresses``. ``failed``: DNS did not answer, so that no addresses means
    nothing. ``problem``: why there are none, "" if there are; the same words for the same cause.
    """

    addresses: tuple[str, ...]
    ttl_seconds: float
    problem: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Followed:
    """A name as it is gone by.

    ``families``: the addresses of each family. ``problem``: as in `DNSAnswer`. ``absent_since``:
    since when DNS says that the name has no address, in monotonic seconds. ``attempts``: looks
    since DNS last had an address. ``wait_seconds``: until the next look.
    """

    families: tuple[tuple[str, ...], ...]
    problem: str = ""
    absent_since: float | None = None
    attempts: int = 0
    wait_seconds: float = 0.0

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(sorted(address for family in self.families for address in family))


def follow(former: Followed, looks: Sequence[Look], now: float, keep_seconds: float) -> Followed:
    """Take one look, in each of ``former``'s families, at ``now`` (monotonic seconds).

    ``keep_seconds``: how long the last addresses stay when DNS says that there are none.
    """
    problems = [look.problem for look in looks if look.failed]
    if any(look.addresses for look in looks):
        # The name lives: a family that has none now has none, one that failed keeps what it had.
        return Followed(
            tuple(
                had if look.failed else look.addresses
                for had, look in zip(former.families, looks, strict=True)
            ),
            "; ".join(problems),
            wait_seconds=_within(min(look.ttl_seconds for look in looks if look.addresses)),
        )
    attempts = former.attempts + 1
    wait = min(LOOK_MIN_SECONDS * 2.0 ** min(attempts - 1, 16), _RETRY_MAX_SECONDS)
    if problems:
        return replace(
            former,
            problem="; ".join(dict.fromkeys(problems)),
            absent_since=None,
            attempts=attempts,
            wait_seconds=wait,
        )
    since = now if former.absent_since is None else former.absent_since
    gone = now - since >= keep_seconds
    return Followed(
        tuple(() for _ in looks) if gone else former.families,
        looks[0].problem,
        absent_since=since,
        attempts=attempts,
        wait_seconds=wait if gone else min(wait, max(LOOK_MIN_SECONDS, since + keep_seconds - now)),
    )


def _within(ttl_seconds: float) -> float:
    return min(max(ttl_seconds, LOOK_MIN_SECONDS), LOOK_MAX_SECONDS)
