"""`sidecar.routing.web_tls`: Routes whose certificate is in a Secret."""

from dataclasses import replace

import pytest
from core import PORTS
from parts import routing_for, web_for
from pki import CA, Issued
from stand import ROUTER, changes, route

from sidecar.common.secret_text import NO_TEXT, SecretText
from sidecar.haproxy.naming import web_backend_name
from sidecar.model.change import Change
from sidecar.model.objects import TLS_SECRET, Cause, Key, Route, RouteTLS, Secret
from sidecar.model.verdicts import Reason, Verdict
from sidecar.routing.host_certificates import Shown
from sidecar.routing.table import Routing
from sidecar.routing.web_tls import secret_wanted

ROOT = CA.root()
ONE, TWO = ROOT.leaf("a.test"), ROOT.leaf("a.test")
UNIT = web_backend_name("http", 1)


def by_host(name: str = "web", *, secret: str = "web-tls", **tls: str | SecretText) -> Route:
    item = route(name, None, router_name=None)
    made = RouteTLS(**{"termination": "edge", "external_certificate": secret} | tls)  # type: ignore[arg-type]
    return replace(item, host=f"{name}.test", tls=made)


def secret_of(issued: Issued = ONE, name: str = "web-tls") -> Secret:
    texts = SecretText(issued.pem), SecretText(issued.key_pem)
    return Secret("demo", name, TLS_SECRET, *texts)


def new_routing(*, reads_secrets: bool = True) -> Routing:
    web = web_for({"http": [UNIT, web_backend_name("http", 2)]}, reads_secrets=reads_secrets)
    routing = routing_for(PORTS, web=web)
    routing.adopt({})
    return routing


def verdict(routing: Routing, item: Route) -> Verdict:
    """Of the host alone: no Service is there."""
    found = routing.web.verdict(item.key) if routing.web else None
    assert found
    return found


def serial(routing: Routing, item: Route) -> int | None:
    """Of the certificate that its clients should be shown."""
    assert routing.web
    found = routing.web.certificates.of(item.key)
    return int(found.serial, 16) if found else None


def test_a_route_has_the_certificate_of_its_secret() -> None:
    routing, item = new_routing(), by_host()
    routing.apply(changes(item, secret_of()))
    assert verdict(routing, item).admitted
    assert serial(routing, item) == ONE.certificate.serial_number
    assert routing.web
    assert routing.web.tls.origins == {item.key: "Secret demo/web-tls"}


def test_another_version_of_the_secret_is_taken_live() -> None:
    routing, item = new_routing(), by_host()
    routing.apply(changes(item, secret_of()))
    assert routing.web
    first = routing.web.certificates.of(item.key)
    assert first
    routing.serve(Shown({"web.test": first.name}))
    changed = routing.apply(changes(secret_of(TWO)))
    assert changed.routes == {item.key}
    assert changed.causes == {UNIT: Cause(secret_of().key, "changed")}
    assert serial(routing, item) == TWO.certificate.serial_number
    # The former one serves until HAProxy has the new one.
    assert routing.web.certificates.goes_on(item.key)


def test_a_secret_that_comes_late_or_goes() -> None:
    routing, item, other = new_routing(), by_host(), by_host("other", secret="")
    routing.apply(changes(item, other))
    missing = verdict(routing, item)
    assert missing.reason == Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED
    assert missing.message == (
        "spec.tls.externalCertificate: Secret web-tls does not exist in namespace demo; create it,"
        " with type kubernetes.io/tls"
    )
    assert routing.owned(item.key) is None
    assert verdict(routing, other).admitted
    routing.apply(changes(secret_of()))
    assert verdict(routing, item).admitted
    changed = routing.apply([Change(secret_of().key, None)])
    assert changed.routes >= {item.key}
    assert not verdict(routing, item).admitted
    assert routing.owned(item.key) is None


def test_it_keeps_its_host_meanwhile() -> None:
    """A slip in a Secret gives no other namespace the host."""
    routing, item = new_routing(), replace(by_host(), created_seconds=1.0)
    other = replace(by_host(secret=""), namespace="else", uid="else", created_seconds=2.0)
    routing.apply(changes(item, other))
    assert verdict(routing, other).reason == Reason.HOST_ALREADY_CLAIMED


EXTERNAL = "spec.tls.externalCertificate: Secret web-tls"


@pytest.mark.parametrize(
    ("secret", "reason", "message"),
    [
        (
            replace(secret_of(), type="Opaque"),
            Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED,
            f"{EXTERNAL} has type 'Opaque'; use one with type kubernetes.io/tls",
        ),
        (
            replace(secret_of(), private_key=NO_TEXT),
            Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED,
            f"{EXTERNAL} has no tls.key; write the PEM of the certificate into tls.crt",
        ),
        (
            replace(secret_of(), private_key=SecretText("\n"), certificate=NO_TEXT),
            Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED,
            f"{EXTERNAL} has no tls.crt and no tls.key; write",
        ),
        (
            Secret("demo", "web-tls", problem="may not be read"),
            Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED,
            f"{EXTERNAL} may not be read",
        ),
        (
            Secret("demo", "web-tls", problem="cannot be read", unread=True),
            Reason.EXTERNAL_CERTIFICATE_GET_FAILED,
            f"{EXTERNAL} cannot be read",
        ),
        (
            replace(secret_of(), private_key=SecretText(TWO.key_pem)),
            Reason.EXTENDED_VALIDATION_FAILED,
            "Secret web-tls: tls.key: the private key does not belong to the certificate;",
        ),
        (
            replace(secret_of(), certificate=SecretText("garbage")),
            Reason.EXTENDED_VALIDATION_FAILED,
            "Secret web-tls: tls.crt: ",
        ),
    ],
)
def test_why_a_secret_does_not_do(secret: Secret, reason: Reason, message: str) -> None:
    routing, item = new_routing(), by_host()
    routing.apply(changes(item, secret))
    found = verdict(routing, item)
    assert (found.reason, found.admitted) == (reason, False)
    assert found.message.startswith(message)


def test_fields_beside_it_are_judged_as_ever() -> None:
    routing = new_routing()
    both = by_host("both", certificate=SecretText(ONE.pem), key=SecretText(ONE.key_pem))
    passed = by_host("passed", termination="passthrough")
    rooted = by_host("rooted", ca_certificate=SecretText(ROOT.pem))
    strange = by_host("strange", ca_certificate=SecretText(CA.root().pem))
    routing.apply(changes(both, passed, rooted, strange, secret_of()))
    for item in (both, passed, strange):
        assert verdict(routing, item).reason == Reason.EXTENDED_VALIDATION_FAILED
    assert "cannot stand beside spec.tls.certificate" in verdict(routing, both).message
    assert "does not support certificates" in verdict(routing, passed).message
    assert "Secret web-tls: tls.crt: the first certificate" in verdict(routing, strange).message
    assert verdict(routing, rooted).admitted


def test_a_router_that_reads_none_says_so() -> None:
    routing, item = new_routing(reads_secrets=False), by_host()
    routing.apply(changes(item, secret_of()))
    found = verdict(routing, item)
    assert found.reason == Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED
    assert "this router reads no Secrets; set web.external_certificates" in found.message


def test_whose_secrets_are_read() -> None:
    ours, named = by_host(), replace(by_host(), router_name=ROUTER)
    other = replace(by_host(), router_name="another")
    key = Key("Secret", "demo", "web-tls")
    assert [secret_wanted(ROUTER, "all", item) for item in (ours, named, other)] == [key, key, None]
    assert secret_wanted(ROUTER, "annotated", ours) is None
    assert secret_wanted(ROUTER, "annotated", named) == key
    for item in (
        replace(ours, port="30000"),
        replace(ours, tls=None),
        by_host(secret=""),
        by_host(termination="Passthrough"),
    ):
        assert secret_wanted(ROUTER, "all", item) is None
