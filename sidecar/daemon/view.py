"""The running sidecar as reports see it: what is so now, for the page, `status`, `why`, probes.

Owns no state, and decides nothing. All but the probes is for the loop's thread, which others ask
(`sidecar.control.loop_calls`).
"""

import time
from collections.abc import Callable, Mapping

from sidecar.admin.answers import Health
from sidecar.common.text import few
from sidecar.control.certificate_keeper import CertificateKeeper
from sidecar.control.reconciler import Reconciler
from sidecar.haproxy.naming import port_of_backend
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.desired import Unit
from sidecar.model.hold import Hold
from sidecar.model.pool import format_ports
from sidecar.reporting.explain_parts import World
from sidecar.reporting.problem_log import ProblemLog
from sidecar.reporting.reports import SourceReport
from sidecar.reporting.status import Facts
from sidecar.reporting.tls_facts import TLSFacts
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings
from sidecar.sources.inbox import Inbox

#: Of the hosts that lack something, so many are named.
_HOSTS_SAID = 5


class View:
    """``watching``: what the source watches, for a person. ``ending``: whether the sidecar is about
    to stop. ``heard_at``: when the source last handed something over, monotonic.
    ``certificates``: None where no TLS ends. ``certificate_problems``: what is wrong with the
    router's own, a line each. ``holds``: who holds which ports, and why."""

    def __init__(
        self,
        settings: Settings,
        ports: TCPPorts,
        inbox: Inbox,
        routing: Routing,
        reconciler: Reconciler,
        problems: ProblemLog,
        watching: str,
        ending: Callable[[], bool],
        heard_at: Callable[[], float | None],
        certificates: CertificateKeeper | None = None,
        certificate_problems: Callable[[], tuple[str, ...]] = tuple,
        holds: Callable[[], Mapping[Unit, Hold]] = dict,
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._inbox = inbox
        self._routing = routing
        self._reconciler = reconciler
        self._problems = problems
        self._watching = watching
        self._ending = ending
        self._heard_at = heard_at
        self._certificates = certificates
        self._certificate_problems = certificate_problems
        self._holds = holds

    def serving(self) -> bool:
        """Whether /readyz succeeds: clients may come. That depends on what serves them, so neither
        a port that fails nor a source that is away takes the others out of the Service, nor does
        a sidecar that has just replaced another one."""
        return self._reconciler.known.serving and not self._ending()

    def readyz(self) -> Health:
        """Whether `serving`, and what `unready` says; or which ports are full, which is no reason
        to send their clients to the other replicas, that would be full next."""
        text = self.unready()
        if not text and (full := self._reconciler.sampler.full):
            text = f"ok; ports at their connection limit: {format_ports(full)}"
        if (problems := self._certificate_problems()) and self.serving():
            text = "; ".join((text or "ok", *problems))
        return Health(self.serving(), text)

    def unready(self) -> str:
        """Why HAProxy does not yet do what the source says, or ""."""
        known = self._reconciler.known
        if self._ending():
            return "stopping"
        if missing := self._inbox.missing():
            return f"not synced yet: {', '.join(sorted(missing))}"
        if error := known.connection_error:
            return str(error)
        # First: once it is so, what waits for certificates is not converged.
        has_shown = self._routing.has_shown_certificates
        if not known.converged:
            units = sorted(known.failures)
            ports = [port for unit in units if (port := port_of_backend(unit)) is not None]
            others = [str(unit) for unit in units if port_of_backend(unit) is None]
            text = "not converged"
            text += f"; failing ports: {ports}" if ports else ""
            text += f"; failing backends: {others}" if others else ""
            lacking = few(list(known.lacking), _HOSTS_SAID)
            return text + (f"; hosts without their certificate: {lacking}" if lacking else "")
        if not has_shown:
            return "not converged: certificates are being loaded"
        return ""

    def facts(self) -> Facts:
        """How everything is now."""
        settings, reconciler, known = self._settings, self._reconciler, self._reconciler.known
        unready, bases, heard_at = self.unready(), reconciler.sampler.bases(), self._heard_at()
        return Facts(
            router_name=settings.router_name,
            asked="sidecar",
            socket=settings.haproxy.absolute_socket,
            pool=self._ports.pool,
            source=SourceReport(
                settings.source.kind,
                self._watching,
                tuple(sorted(self._inbox.missing())),
                None if heard_at is None else time.monotonic() - heard_at,
            ),
            claims=self._routing.claimed,
            verdicts=self._routing.verdicts(),
            observed=dict(known.observed),
            problems=(
                *self._problems.lines,
                *known.pool_problems,
                *self._certificate_problems(),
            ),
            held=known.held,
            holds=dict(self._holds()),
            failures={unit: item.message for unit, item in known.failures.items()},
            changed_seconds_ago=reconciler.history.changed_seconds_ago(),
            converged=not unready,
            unready=unready,
            changes=reconciler.history.total,
            left_out=dict(known.left_out),
            verified=frozenset(filter(known.verified, known.observed)),
            connections=reconciler.sampler.connections,
            attempts=reconciler.sampler.attempts(bases),
            bases=bases,
            reachable=known.connection_error is None,
            web=self._routing.by_host,
            counts=reconciler.sampler.web,
            leases=reconciler.sampler.leases,
            at=time.monotonic(),
            tls=self._tls(),
        )

    def _tls(self) -> TLSFacts:
        web, keeper = self._routing.web, self._certificates
        if keeper is None:
            return TLSFacts.of(web, time.time())
        since = keeper.times.since
        return TLSFacts.of(web, time.time(), keeper.default_certificate, since, time.monotonic())

    def world(self) -> World:
        """What an explanation looks at."""
        known, missing = self._reconciler.known, ", ".join(sorted(self._inbox.missing()))
        faults = [str(known.connection_error)] if known.connection_error else []
        faults += [f"nothing is programmed: not synced yet: {missing}"] if missing else []
        return World(
            self._settings.router_name,
            self._ports.pool,
            self._routing,
            known.observed if known.process else None,
            known.held,
            {unit: item.message for unit, item in known.failures.items()},
            (*faults, *known.pool_problems),
            dict(self._holds()),
        )
