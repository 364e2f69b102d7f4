"""Which Route has which backend of a class, where a Route may want another balance than the class
has, for which there are further backends. Pure.

Who wants one waits for a backend of it, and as long as it has none is served by one of the class:
better that than not at all. So the oldest Routes have the balance that they want, and nobody is
refused for what it wants.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import Key
from sidecar.model.pool import WebBalance, WebClassName
from sidecar.routing.claims import Claim
from sidecar.routing.leases import Leases


class Backends(NamedTuple):
    """Those of a class, with its ``balance``; ``further``: those with others."""

    units: Sequence[Unit]
    balance: WebBalance
    further: Mapping[WebBalance, Sequence[Unit]] = {}


class BalancedLeases:
    """The parameters, and what is not said here, are as of `Leases`."""

    def __init__(
        self, of: WebClassName, backends: Backends, is_clean: Callable[[Unit], bool | None]
    ) -> None:
        #: Those with the balance of the class.
        self.common = Leases(backends.units, is_clean)
        self._of = of
        self._balance = backends.balance
        self._further = {
            balance: Leases(units, is_clean) for balance, units in backends.further.items()
        }
        self._own_leases = {
            unit: self._further[balance]
            for balance, units in backends.further.items()
            for unit in units
        }
        # what Routes want that is not the class's balance; those whom there are backends for
        # stand in its queue, and as long as they have none, in the common one, too
        self._wanted: dict[Key, WebBalance] = {}
        # who came since the last `settle`
        self._new: set[Key] = set()

    @property
    def adopted(self) -> bool:
        return self.common.adopted

    def adopt(self, leads: Mapping[ClaimKey, Unit]) -> None:
        for leases in (self.common, *self._further.values()):
            leases.adopt(leads)

    def enter(
        self, claim: Claim, entries: Sequence[ClaimKey], balance: WebBalance | None = None
    ) -> None:
        """``balance``: None where it does not matter to the Route."""
        self._want(claim.route, balance)
        if own := self._own(claim.route):
            own.enter(claim, entries)
            self._new.add(claim.route)
        else:
            self.common.enter(claim, entries)

    def leave(self, route: Key) -> None:
        if own := self._own(route):
            own.leave(route)
        if route in self.common:
            self.common.leave(route)
        self._wanted.pop(route, None)
        self._new.discard(route)

    def renew(
        self,
        claim: Claim,
        entries: Sequence[ClaimKey],
        balance: WebBalance | None = None,
        *,
        moves: bool = False,
    ) -> set[Unit]:
        route = claim.route
        before, unit = self._own(route), self.unit(route)
        self._want(route, balance)
        now = self._own(route)
        touched: set[Unit] = set()
        if route in self.common:
            touched |= self.common.renew(claim, entries, moves=moves)
        if before is now:
            return touched | (now.renew(claim, entries, moves=moves) if now else set())
        if before:
            before.leave(route)
        if now:
            now.enter(claim, entries)
            self._new.add(route)
        elif route not in self.common:
            self.common.enter(claim, entries)
        # What it has in common with others it keeps until it has its own.
        return touched | ({unit} if unit and self.unit(route) != unit else set())

    def settle(self) -> dict[Unit, Key]:
        if not self.adopted:
            return {}
        changed: dict[Unit, Key] = {}
        for leases in self._further.values():
            changed |= leases.settle()
        for route in self._new | set(changed.values()):
            own = self._own(route)
            if own is None:
                continue
            if own.unit(route) is None and route not in self.common:
                self.common.enter(*own.claim(route))
            elif own.unit(route) is not None and route in self.common:
                if unit := self.common.unit(route):
                    changed[unit] = route
                self.common.leave(route)
        self._new = set()
        return changed | self.common.settle()

    def unit(self, route: Key) -> Unit | None:
        own = self._own(route)
        return (own and own.unit(route)) or self.common.unit(route)

    def holder(self, unit: Unit) -> Key | None:
        return self._own_leases.get(unit, self.common).holder(unit)

    def unmet(self, route: Key) -> str:
        """That a Route, which has a backend, has not the balance that it wants, and why; "" where
        it has."""
        wanted, own = self._wanted.get(route), self._own(route)
        if wanted is None or self.unit(route) is None or (own and own.unit(route)):
            return ""
        setting = f"web.further_backends.{self._of}.{wanted}"
        why = f"none of the {own.total} backends for it is free" if own else "no backend is for it"
        return (
            f"balance {wanted}: {why} ({setting}); using {self._balance} until one is, or raise"
            f" {setting} and restart HAProxy"
        )

    def _want(self, route: Key, balance: WebBalance | None) -> None:
        if balance in (None, self._balance):
            self._wanted.pop(route, None)
        elif balance:
            self._wanted[route] = balance

    def _own(self, route: Key) -> Leases | None:
        """Of the balance that the Route wants; None where that has no backends of its own."""
        wanted = self._wanted.get(route)
        return self._further.get(wanted) if wanted else None
