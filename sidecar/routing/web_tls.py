"""What each Route by host needs for its TLS, or why it cannot be had: from its own fields, or from
a Secret that it refers to. Pure.

Owns which Routes have to be judged anew when a Secret changes, and the words for a Secret that does
not do. Must not know how Secrets are read (`sidecar.sources`), nor who has a host.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from sidecar.common.text import shown
from sidecar.haproxy.pem import fault
from sidecar.model.certificate_rules import GoodTLS, certificate_field, judge_tls
from sidecar.model.objects import TLS_SECRET, Cause, Key, Route, RouteTLS, Secret, secret_key
from sidecar.model.verdicts import Reason, Refusal

#: Which Routes without a port are ours, if they name no router.
WebRoutes = Literal["all", "annotated"]

_EXTERNAL = "spec.tls.externalCertificate"

_NOT_READ = (
    f"{_EXTERNAL}: this router reads no Secrets; set web.external_certificates of the router, and"
    " let it list and watch this one, or use spec.tls.certificate and spec.tls.key"
)


def is_ours_by_host(route: Route, router_name: str, web_routes: WebRoutes) -> bool:
    """Whether a router with listeners for them is for it."""
    unnamed = route.router_name is None and web_routes == "all"
    return route.by_host and (unnamed or route.router_name == router_name)


def secret_of(route: Route) -> Key | None:
    """The Secret that a Route refers to; passthrough has no use for any."""
    tls = route.tls
    if tls is None or not tls.external_certificate or tls.termination.lower() == "passthrough":
        return None
    return secret_key(route.namespace, tls.external_certificate)


def secret_wanted(router_name: str, web_routes: WebRoutes, route: Route) -> Key | None:
    """The Secret that this router has to read for a Route."""
    return secret_of(route) if is_ours_by_host(route, router_name, web_routes) else None


class _Judged(NamedTuple):
    """``secret``: the one that it refers to, and what of that there was."""

    tls: RouteTLS
    secret: tuple[Key, Secret | None] | None
    found: GoodTLS | Refusal


class WebTLS:
    """``reads_secrets``: whether this router reads those that Routes refer to."""

    def __init__(self, *, reads_secrets: bool) -> None:
        self._reads_secrets = reads_secrets
        #: By namespace and name, as it is now.
        self.secret: Callable[[str, str], Secret | None] = lambda *_: None
        self._judged: dict[Key, _Judged] = {}
        # Secret -> the Routes that refer to it
        self._users: dict[Key, set[Key]] = {}

    def judge(self, key: Key, route: Route | None) -> None:
        """Take a Route, or what it refers to, as it is now; None: it is none of ours."""
        before = self._judged.pop(key, None)
        if before and before.secret:
            users = self._users[before.secret[0]]
            users.discard(key)
            if not users:
                del self._users[before.secret[0]]
        if route is None or route.tls is None:
            return
        secret = None
        if self._reads_secrets and (of := secret_of(route)):
            secret = of, self.secret(of.namespace, of.name)
            self._users.setdefault(of, set()).add(key)
        if before and before[:2] == (route.tls, secret):
            self._judged[key] = before
        else:
            self._judged[key] = _Judged(route.tls, secret, _judge(route.tls, secret))

    def found(self, route: Key) -> GoodTLS | Refusal:
        """What HAProxy needs for it, or why it is not to be had."""
        judged = self._judged.get(route)
        return judged.found if judged else GoodTLS()

    def touched(self, dirty: Mapping[Key, Cause]) -> dict[Key, Cause]:
        """The Routes that refer to one of what changed, each with that."""
        found = ((user, cause) for key, cause in dirty.items() for user in self._users.get(key, ()))
        return dict(found)

    @property
    def origins(self) -> dict[Key, str]:
        """Route -> ``Secret demo/web-tls``, of those whose own certificate comes from one, or
        would. A new one at each call."""
        found = ((user, str(key)) for key, users in self._users.items() for user in users)
        return dict(found)


def _judge(tls: RouteTLS, secret: tuple[Key, Secret | None] | None) -> GoodTLS | Refusal:
    own = judge_tls(tls)
    if isinstance(own, Refusal) or not tls.external_certificate:
        return own if isinstance(own, Refusal) else _told_to_haproxy(own, None)
    if secret is None:
        return Refusal(Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED, _NOT_READ)
    of, there = secret
    if there is None or (refused := _refusal(there)):
        return refused if there and refused else _missing(of)
    found = judge_tls(tls, there)
    return found if isinstance(found, Refusal) else _told_to_haproxy(found, there)


def _told_to_haproxy(good: GoodTLS, secret: Secret | None) -> GoodTLS | Refusal:
    """``good``, if HAProxy can be told of it while it runs."""
    given = (
        (certificate_field(secret), good.certificate),
        ("spec.tls.destinationCACertificate", good.destination_ca),
    )
    for name, item in given:
        if item and (problem := fault(name, item.pem)):
            return Refusal(Reason.EXTENDED_VALIDATION_FAILED, problem)
    return good


def _missing(of: Key) -> Refusal:
    return Refusal(
        Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED,
        f"{_EXTERNAL}: Secret {of.name} does not exist in namespace {of.namespace}; create it, with"
        f" type {TLS_SECRET}",
    )


def _refusal(secret: Secret) -> Refusal | None:
    """Why nobody could be served with it, whatever the certificate is like."""
    reason = Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED
    title = f"{_EXTERNAL}: Secret {secret.name}"
    if secret.problem:
        if secret.unread:
            reason = Reason.EXTERNAL_CERTIFICATE_GET_FAILED
        return Refusal(reason, f"{title} {secret.problem}")
    if secret.type != TLS_SECRET:
        wanted = f"has type {shown(secret.type)}; use one with type {TLS_SECRET}"
        return Refusal(reason, f"{title} {wanted}")
    entries = (("tls.crt", secret.certificate), ("tls.key", secret.private_key))
    if empty := [name for name, text in entries if not text.text.strip()]:
        needs = "the PEM of the certificate into tls.crt and of its private key into tls.key"
        return Refusal(reason, f"{title} has no {' and no '.join(empty)}; write {needs}")
    return None
