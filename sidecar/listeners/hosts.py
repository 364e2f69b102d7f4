"""Who owns which host and path: the claims of Routes by host, as OpenShift's router admits them.

The rule, from the oldest Route to the youngest (creationTimestamp, then UID): one is active unless
an older active one is in its way. In each other's way are

- Routes of two namespaces for one host, or for a host and a wildcard that covers it;
- Routes for one path of one host, or of one wildcard;
- a passthrough Route and another Route with TLS for one host, whatever the path.

A Route that is not active waits, and becomes active when what is in its way is gone. Whether a
Route has servers plays no part. Nobody walks through all Routes to find out: see `HostIndex`.
Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sidecar.common.queues import Queues, replace
from sidecar.common.text import cut
from sidecar.listeners.host_rules import HostRules, WebClaim, judge
from sidecar.listeners.seniority import Age, Seniority
from sidecar.model.objects import Key, Route
from sidecar.model.verdicts import Reason, Refusal

__all__ = ["HostIndex", "Refusal", "WebClaim"]

#: Most of a path that a message shows, in characters.
_PATH_SHOWN_MAX = 80


class _Entry(NamedTuple):
    age: Age
    claim: WebClaim

    @property
    def path(self) -> str:
        """Where it stands: no path and ``/``, or several, match the same."""
        return self.claim.path if self.claim.path.strip("/") else "/"

    @property
    def spot(self) -> "_Spot":
        return _Spot(self.claim.pattern, self.age.owner, self.path)


class _Spot(NamedTuple):
    """What a Route's coming or going may change."""

    pattern: str
    owner: str
    path: str


class _Share:
    """One owner's Routes for one pattern; which of them are active if it may have the pattern."""

    __slots__ = ("_passthrough", "_plain", "_tls", "_tls_firsts")

    def __init__(self) -> None:
        #: By path: those without TLS, and those with it but passthrough.
        self._plain = Queues[str, Age]()
        self._tls = Queues[str, Age]()
        self._passthrough: list[Age] = []
        #: Those of `_tls` that are the oldest of their path, passthrough left aside.
        self._tls_firsts: list[Age] = []

    def change(self, entry: _Entry, *, enters: bool) -> None:
        """Let ``entry`` enter or leave."""
        age, path, termination = entry.age, entry.path, entry.claim.termination
        if termination == "passthrough":
            former, latter = (None, age) if enters else (age, None)
            replace(self._passthrough, former, latter)
            return
        before = self._tls_first(path)
        queues = self._plain if termination == "http" else self._tls
        (queues.add if enters else queues.remove)(path, age)
        replace(self._tls_firsts, before, self._tls_first(path))

    def _first(self, path: str) -> Age | None:
        """The oldest of ``path``, passthrough left aside."""
        return self._tls_first(path) or self._plain.first(path)

    def _tls_first(self, path: str) -> Age | None:
        """The same, if it has TLS."""
        tls, plain = self._tls.first(path), self._plain.first(path)
        return None if tls and plain and plain < tls else tls

    @property
    def passthrough(self) -> Age | None:
        """The active passthrough Route: at most one, since it is in the way of all others."""
        if not self._passthrough:
            return None
        oldest = self._passthrough[0]
        rivals = (self._first("/"), self._tls_firsts[0] if self._tls_firsts else None)
        return None if any(rival and rival < oldest for rival in rivals) else oldest

    def active(self, path: str) -> Age | None:
        """The active Route of ``path``."""
        passthrough = self.passthrough
        if passthrough is None:
            return self._first(path)
        # Who has TLS and is the oldest of a path is younger, or it would not be active.
        return passthrough if path == "/" else self._plain.first(path)

    def all_active(self) -> Iterator[Age]:
        for path in {"/", *self._plain.keys, *self._tls.keys}:
            if active := self.active(path):
                yield active

    def beside_passthrough(self) -> Iterator[Age]:
        """Those of whom something else may be said if another passthrough Route is active, or
        none; that one left aside."""
        for path in {"/", *self._tls.keys}:
            yield from self._tls.at(path)
            if plain := self._plain.first(path):
                yield plain


class _Site:
    """All Routes for one pattern."""

    __slots__ = ("ages", "shares")

    def __init__(self) -> None:
        self.ages = Seniority()
        self.shares: dict[str, _Share] = {}

    def change(self, entry: _Entry, *, enters: bool) -> None:
        """Let ``entry`` enter or leave."""
        owner = entry.age.owner
        (self.ages.add if enters else self.ages.remove)(entry.age)
        self.shares.setdefault(owner, _Share()).change(entry, enters=enters)
        if not self.ages.of(owner):
            del self.shares[owner]


class _Look(NamedTuple):
    """What holds at some spots: who may have wildcards of a domain, and a pattern, the active
    passthrough Route of a pattern and an owner, and the active one of a path there."""

    wildcards: dict[str, str | None]
    owners: dict[str, str | None]
    passthrough: dict[tuple[str, str], Age | None]
    active: dict[_Spot, Age | None]


class HostIndex:
    """Who owns which host and path, kept up to date change by change.

    An owner is a namespace; where namespaces do not own hosts, there is one owner for all, ``""``.

    If any wildcard of a domain is active, all active Routes for it and for the hosts in it are of
    one owner, since two owners would be in each other's way: it is the owner of the oldest Route of
    them all, if its oldest wildcard is older than the oldest Route that may have its host and is of
    another owner. Otherwise, each host belongs to the owner of its oldest Route. So a change looks
    at the oldest of a few queues, not at those who wait.
    """

    def __init__(self, rules: HostRules) -> None:
        self._rules = rules
        self._asked: dict[Key, _Entry | Refusal] = {}
        self._sites: dict[str, _Site] = {}
        #: Of each domain, the oldest Route of each host in it.
        self._heads: dict[str, Seniority] = {}
        self._verdicts: dict[Key, WebClaim | Refusal] = {}

    def update(self, changed: Mapping[Key, Route | None]) -> set[Key]:
        """Take Routes as they are now (None: gone). The Routes of whom something else is so, or
        said, than before: of ``changed`` and of all others."""
        moved: list[tuple[_Entry | None, _Entry | None]] = []
        for key, route in changed.items():
            former, latter = self._asked.get(key), self._asks(route)
            if latter is None:
                self._asked.pop(key, None)
            else:
                self._asked[key] = latter
            if former != latter:
                moved.append((_entry(former), _entry(latter)))
        spots = {entry.spot for pair in moved for entry in pair if entry}
        before = self._look(spots)
        for former, _ in moved:
            if former:
                self._change(former, enters=False)
        for _, latter in moved:
            if latter:
                self._change(latter, enters=True)
        affected = {*changed, *self._affected(before, self._look(spots))}
        return {key for key in affected if self._restate(key)}

    def verdict(self, key: Key) -> WebClaim | Refusal | None:
        """What the Route has, or why it has nothing; None when it is unknown. A message does not
        name who is in the way: thousands may wait, and nothing of theirs is to change whenever that
        one does; nor would another namespace's Route be theirs to know."""
        return self._verdicts.get(key)

    def active(self, key: Key) -> WebClaim | None:
        """What the Route has."""
        verdict = self._verdicts.get(key)
        return verdict if isinstance(verdict, WebClaim) else None

    def _asks(self, route: Route | None) -> _Entry | Refusal | None:
        if route is None:
            return None
        judged = judge(route, self._rules)
        if isinstance(judged, Refusal):
            return judged
        owner = route.namespace if self._rules.namespace_ownership else ""
        return _Entry(Age(route.created_seconds, route.uid, route.key, owner), judged)

    def _change(self, entry: _Entry, *, enters: bool) -> None:
        """Let ``entry`` enter or leave."""
        pattern, domain = entry.claim.pattern, entry.claim.domain
        site = self._sites.setdefault(pattern, _Site())
        former = site.ages.oldest
        site.change(entry, enters=enters)
        latter = site.ages.oldest
        if latter is None:
            del self._sites[pattern]
        if entry.claim.wildcard or former is latter:
            return
        heads = self._heads.setdefault(domain, Seniority())
        if former is not None:
            heads.remove(former)
        if latter is not None:
            heads.add(latter)
        if not heads:
            del self._heads[domain]

    def _wildcard_owner(self, domain: str) -> str | None:
        """Who has the active wildcards of ``domain``, and so all that is active there."""
        wildcards = self._sites.get(f"*.{domain}")
        if wildcards is None or (oldest := wildcards.ages.oldest) is None:
            return None
        heads = self._heads.get(domain)
        if heads is None:
            return oldest.owner
        if (head := heads.oldest) and head < oldest:
            oldest = head
        wildcard, rival = wildcards.ages.oldest_of(oldest.owner), heads.oldest_but(oldest.owner)
        return oldest.owner if wildcard and not (rival and rival < wildcard) else None

    def _owner(self, pattern: str) -> str | None:
        """Whose Routes for ``pattern`` may be active."""
        first, _, domain = pattern.partition(".")
        owner = self._wildcard_owner(domain)
        if owner is not None or first == "*":
            return owner
        site = self._sites.get(pattern)
        return site.ages.oldest.owner if site and site.ages.oldest else None

    def _share(self, pattern: str, owner: str) -> _Share | None:
        site = self._sites.get(pattern)
        return site.shares.get(owner) if site else None

    def _look(self, spots: Iterable[_Spot]) -> _Look:
        look = _Look({}, {}, {}, {})
        for spot in spots:
            pattern, owner, path = spot
            domain = pattern.partition(".")[2]
            share = self._share(pattern, owner)
            look.active[spot] = share.active(path) if share else None
            look.passthrough[pattern, owner] = share.passthrough if share else None
            if domain not in look.wildcards:
                look.wildcards[domain] = self._wildcard_owner(domain)
                look.owners[f"*.{domain}"] = look.wildcards[domain]
            if pattern not in look.owners:
                look.owners[pattern] = self._owner(pattern)
        return look

    def _affected(self, before: _Look, after: _Look) -> Iterator[Key]:
        """The Routes of whom something else may be said."""
        for spot, active in before.active.items():
            for age in (active, after.active[spot]):
                if age is not None:
                    yield age.route
        for (pattern, owner), passthrough in before.passthrough.items():
            now = after.passthrough[pattern, owner]
            if passthrough != now:
                share = self._share(pattern, owner)
                ages = share.beside_passthrough() if share else ()
                yield from (age.route for age in (passthrough, now, *ages) if age is not None)
        for pattern, former in before.owners.items():
            latter = after.owners[pattern]
            if former != latter:
                yield from self._contenders(pattern, {former, latter})
        for domain, former in before.wildcards.items():
            latter = after.wildcards[domain]
            if former != latter and domain in self._heads:
                yield from self._affected_below(self._heads[domain], former, latter)

    def _affected_below(
        self, heads: Seniority, former: str | None, latter: str | None
    ) -> Iterator[Key]:
        """Of the hosts of a domain whose wildcards had one owner and have another."""
        # Without a wildcard a host is its head's owner's: the same one loses and wins nothing.
        same = former if latter is None else latter if former is None else None
        for owner in heads:
            if owner != same:
                for head in heads.of(owner):
                    if entry := _entry(self._asked.get(head.route)):
                        yield from self._contenders(entry.claim.pattern, {owner, former, latter})

    def _contenders(self, pattern: str, owners: Iterable[str | None]) -> Iterator[Key]:
        """The Routes of ``owners`` that are active if ``pattern`` is theirs."""
        for owner in owners:
            share = None if owner is None else self._share(pattern, owner)
            if share:
                yield from (age.route for age in share.all_active())

    def _restate(self, key: Key) -> bool:
        """Say of a Route what is so now; whether that is something else."""
        asked = self._asked.get(key)
        now = self._judged(asked) if isinstance(asked, _Entry) else asked
        former = self._verdicts.pop(key, None)
        if now is not None:
            self._verdicts[key] = now
        return former != now

    def _judged(self, entry: _Entry) -> WebClaim | Refusal:
        age, claim = entry
        share = self._share(claim.pattern, age.owner)
        if share is None:
            raise ValueError(f"{age.route} stands nowhere")
        if share.active(entry.path) != age:
            # Whether or not the older one may have it: thousands may wait for the same, and nothing
            # of theirs is to change whenever the host gets another owner.
            return Refusal(Reason.HOST_ALREADY_CLAIMED, _behind(entry, share.passthrough))
        if self._owner(claim.pattern) == age.owner:
            return claim
        held = f"a host of {claim.pattern}" if claim.wildcard else claim.pattern
        return Refusal(
            Reason.HOST_ALREADY_CLAIMED,
            f"a route in another namespace holds {held} and is older than {age.route.name}",
        )


def _behind(entry: _Entry, passthrough: Age | None) -> str:
    """What is said of a Route that is not active whoever has the host."""
    age, claim = entry
    if claim.termination == "passthrough":
        return (
            f"an older route already claims {claim.pattern}, which a passthrough route shares with"
            " no route of the same path and no other route with TLS"
        )
    if claim.termination != "http" and passthrough and passthrough < age:
        return (
            f"an older passthrough route already claims {claim.pattern}, and shares it with no"
            " other route with TLS"
        )
    return f"an older route already claims {claim.pattern}{cut(claim.path, _PATH_SHOWN_MAX)}"


def _entry(asked: _Entry | Refusal | None) -> _Entry | None:
    return asked if isinstance(asked, _Entry) else None
