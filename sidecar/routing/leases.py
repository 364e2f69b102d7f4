"""Which Route has which backend of a class, of which there are only so many. Pure.

A Route keeps its backend for as long as it lives. HAProxy's own maps are the memory: a backend that
a Route's entries lead to already is the Route's again after a restart. One that a Route gave back
is another's only once no entry leads to it and none of its servers is used. Where there are too
few, the oldest Routes have them.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence

from sidecar.common.queues import take_out
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import Key
from sidecar.routing.claims import Claim


class Leases:
    """``units``: all backends of the class. ``is_clean``: whether no entry leads to one, and none
    of its servers is used; None where HAProxy lacks it. Nobody gets any before `adopt`."""

    def __init__(self, units: Sequence[Unit], is_clean: Callable[[Unit], bool | None]) -> None:
        self._units = tuple(units)
        self._known = frozenset(units)
        self._is_clean = is_clean
        self._adopted = False
        # those that nobody holds, the one that was given back last at the end: on HAProxy 2.6 a
        # client's own connection to a former server (NTLM) outlives what shows it
        self._unheld = dict.fromkeys(self._units)
        # entry -> the backend that it led to when HAProxy was met, and the other way round, until
        # the next `settle`: later it may lead elsewhere, and the backend be another's
        self._led: dict[ClaimKey, Unit] = {}
        self._leading: dict[Unit, set[ClaimKey]] = {}
        self._unit: dict[Key, Unit] = {}
        self._holder: dict[Unit, Key] = {}
        # the oldest first
        self._holding: list[Claim] = []
        self._waiting: list[Claim] = []
        self._claims: dict[Key, tuple[Claim, Sequence[ClaimKey]]] = {}

    def __contains__(self, route: Key) -> bool:
        """Whether the Route has a backend, or waits for one."""
        return route in self._claims

    def claim(self, route: Key) -> tuple[Claim, Sequence[ClaimKey]]:
        """What the Route entered with last, or was renewed to."""
        return self._claims[route]

    @property
    def adopted(self) -> bool:
        """Whether it is known what HAProxy has."""
        return self._adopted

    def adopt(self, leads: Mapping[ClaimKey, Unit]) -> None:
        """HAProxy was met: which entry leads where. Those who have a backend keep it."""
        self._adopted = True
        self._led = {entry: unit for entry, unit in leads.items() if unit in self._known}
        self._leading = {}
        for entry, unit in self._led.items():
            self._leading.setdefault(unit, set()).add(entry)

    def enter(self, claim: Claim, entries: Sequence[ClaimKey]) -> None:
        """A Route wants a backend, to which these entries will lead."""
        self._claims[claim.route] = claim, entries
        bisect.insort(self._waiting, claim)

    def leave(self, route: Key) -> None:
        claim, _ = self._claims.pop(route)
        unit = self._unit.pop(route, None)
        if unit is None:
            take_out(self._waiting, claim)
        else:
            self._give_back(unit)
            take_out(self._holding, claim)

    def renew(self, claim: Claim, entries: Sequence[ClaimKey], *, moves: bool = False) -> set[Unit]:
        """A Route's age or entries are others now; the backends that change hands by it.
        ``moves``: it is to have another backend, if one is free."""
        former, had = self._claims[claim.route]
        unit = self._unit.get(claim.route)
        ordered = self._waiting if unit is None else self._holding
        take_out(ordered, former)
        bisect.insort(ordered, claim)
        self._claims[claim.route] = claim, entries
        stays = set(had) <= set(entries) and not moves
        if unit is None or stays or (other := self._free()) is None:
            return set()
        self._give_back(unit)
        self._take(claim, other)
        return {unit, other}

    @property
    def total(self) -> int:
        return len(self._units)

    @property
    def unclean(self) -> int:
        """How many nobody has, and nobody may have yet."""
        return sum(self._is_clean(unit) is False for unit in self._unheld)

    @property
    def missing(self) -> int:
        """How many HAProxy lacks."""
        return sum(self._is_clean(unit) is None for unit in self._units)

    def unit(self, route: Key) -> Unit | None:
        """The backend that the Route has."""
        return self._unit.get(route)

    def holder(self, unit: Unit) -> Key | None:
        return self._holder.get(unit)

    def settle(self) -> dict[Unit, Key]:
        """Give backends to those who wait, as far as there are any; those that changed hands, with
        the Route that got or lost it."""
        if not self._adopted:
            return {}
        # First those whose entries alone lead to one already: it is theirs.
        changed = self._give_former(alone=True)
        while self._waiting and (unit := self._free()):
            changed[unit] = self._waiting[0].route
            self._give(self._waiting[0], unit)
        changed |= self._give_former(alone=False)
        self._led, self._leading = {}, {}
        # Who is older than the youngest that has any takes its place, once it is clean; as many as
        # are not clean yet have one to come.
        coming = self.unclean if self._waiting else 0
        while (
            self._holding and self._waiting[coming:] and self._waiting[coming] < self._holding[-1]
        ):
            youngest = self._holding.pop()
            unit = self._unit.pop(youngest.route)
            self._give_back(unit)
            bisect.insort(self._waiting, youngest)
            changed[unit] = youngest.route
            coming += 1
        return changed

    def _free(self) -> Unit | None:
        """The first that may be given."""
        return next((unit for unit in self._unheld if self._is_clean(unit)), None)

    def _give_former(self, *, alone: bool) -> dict[Unit, Key]:
        """Give those who wait what their entries lead to, of which nobody has it. ``alone``: if no
        other entries do. An entry that two have in common is that one's who has no other."""
        changed: dict[Unit, Key] = {}
        if not self._led:
            return changed
        for claim in sorted(self._waiting, key=lambda claim: len(self._claims[claim.route][1])):
            entries = self._claims[claim.route][1]
            units = (unit for entry in entries if (unit := self._led.get(entry)))
            free = (unit for unit in units if unit not in self._holder)
            fit = (unit for unit in free if not alone or self._leading[unit] <= set(entries))
            if (unit := next(fit, None)) is not None:
                self._give(claim, unit)
                changed[unit] = claim.route
        return changed

    def _give(self, claim: Claim, unit: Unit) -> None:
        take_out(self._waiting, claim)
        bisect.insort(self._holding, claim)
        self._take(claim, unit)

    def _take(self, claim: Claim, unit: Unit) -> None:
        self._unit[claim.route] = unit
        self._holder[unit] = claim.route
        del self._unheld[unit]

    def _give_back(self, unit: Unit) -> None:
        del self._holder[unit]
        self._unheld[unit] = None
