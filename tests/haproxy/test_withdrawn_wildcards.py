"""A wildcard Route that loses its hosts: its certificate is not for who has one of them then."""

import contextlib
import hashlib
import threading
import time
from typing import Any

import pytest
from by_host import MakeNamed, WebStand, ask_over, host_app
from handshake import shake_hands
from pki import CA, Issued
from stand import MakeStand, await_, converged, running
from test_route_certificates import app, fingerprint

#: How often the host changes hands.
TURNS = 8

#: From what is shown to who is led there it takes longer: files are written in between.
AT_ONCE_SECONDS = 0.004

HOST = "a.example"

#: Manifests.
Objects = tuple[dict[str, Any], ...]


def asked(web: WebStand) -> tuple[str, str]:
    """The certificate that is shown, and who answers."""
    with shake_hands(web.tls, HOST, ["http/1.1"]) as secured:
        der = secured.getpeercert(binary_form=True) or b""
        reply = ask_over(secured, f"GET / HTTP/1.1\r\nHost: {HOST}")
    return hashlib.sha256(der).hexdigest(), reply.body if reply.status == 200 else "nobody"


def wildcard_app(
    named: MakeNamed, issued: Issued, created: str, namespace: str = "demo"
) -> Objects:
    """A Route for all hosts of .example; "wide" answers."""
    return app(
        "wide",
        "x.example",
        named(f"wide{namespace}".removesuffix("demo")),
        issued,
        wildcard=True,
        created=created,
        namespace=namespace,
    )


def seen_while(
    web: WebStand, before: Objects, after: Objects, then: tuple[str, str], back: str
) -> set[tuple[str, str]]:
    """What quick clients got while ``after`` came to ``before`` and went, again and again.
    ``then``: what they get once it is there; ``back``: what they are shown without it."""
    seen: set[tuple[str, str]] = set()
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            began = time.monotonic()
            with contextlib.suppress(OSError):
                answer = asked(web)
                # One who is slow may ask after the host changed hands, by an older connection.
                if time.monotonic() - began < AT_ONCE_SECONDS:
                    seen.add(answer)

    web.stand.write("before.yaml", *before)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: asked(web)[0] == back, "the former one has it", 20)
        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        try:
            for _ in range(TURNS):
                converged(daemon)
                web.stand.write("after.yaml", *after)
                await_(lambda: asked(web) == then, "the new Route has the host", 20)
                converged(daemon)
                web.stand.remove("after.yaml")
                await_(lambda: asked(web)[0] == back, "the former one has it", 20)
        finally:
            stop.set()
            thread.join(20)
    return seen


@pytest.mark.parametrize("had", [True, False])
def test_no_client_of_the_new_route_is_shown_it(
    make_stand: MakeStand, named: MakeNamed, *, had: bool
) -> None:
    """An older Route of another namespace takes the host, and by that all of the wildcard. ``had``:
    the former namespace had a Route and a certificate for just that host."""
    web, root = WebStand.make(make_stand, wildcards=True), CA.root()
    wide, own = root.leaf("*.example"), root.leaf(HOST)
    default, _ = asked(web)
    before = wildcard_app(named, wide, "2026-02-01T00:00:00Z")
    if had:
        before += app("own", HOST, named("own"), own, created="2026-03-01T00:00:00Z")
    after = host_app(
        "new",
        HOST,
        [named("new")],
        namespace="other",
        termination="edge",
        created="2026-01-01T00:00:00Z",
    )
    former = fingerprint(own if had else wide)
    seen = seen_while(web, before, after, (default, "new"), former)
    names = {default: "default", fingerprint(wide): "wide", fingerprint(own): "own"}
    found = {(names[shown], by) for shown, by in seen}
    assert found <= {
        ("default", "new"),
        ("own", "own"),
        ("wide", "wide"),
        # Of one namespace, that of the wildcard is there first, and each does for both.
        ("wide", "own"),
        ("own", "wide"),
        *((name, "nobody") for name in names.values()),
    }


def test_a_host_that_goes_with_its_wildcard_is_not_shown_that_either(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """An older wildcard of another namespace, for clients in clear, takes it all."""
    web, root = WebStand.make(make_stand, wildcards=True), CA.root()
    wide, own = root.leaf("*.example"), root.leaf(HOST)
    default, _ = asked(web)
    before = wildcard_app(named, wide, "2026-02-01T00:00:00Z")
    before += app("own", HOST, named("own"), own, created="2026-03-01T00:00:00Z")
    after = host_app(
        "new",
        "y.example",
        [named("new")],
        namespace="other",
        wildcard=True,
        created="2026-01-01T00:00:00Z",
    )
    seen = seen_while(web, before, after, (default, "nobody"), fingerprint(own))
    assert {shown for shown, _ in seen} == {default, fingerprint(own)}


def test_a_host_waits_for_the_wildcard_that_it_comes_with(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """A wildcard changes hands, and with it comes a host that goes by its certificate."""
    web, root = WebStand.make(make_stand, wildcards=True), CA.root()
    wide, new_wide = root.leaf("*.example"), root.leaf("*.example")
    before = wildcard_app(named, wide, "2026-02-01T00:00:00Z")
    after = wildcard_app(named, new_wide, "2026-01-01T00:00:00Z", "other")
    after += host_app(
        "new",
        HOST,
        [named("new")],
        namespace="other",
        termination="edge",
        created="2026-01-02T00:00:00Z",
    )
    then = fingerprint(new_wide), "new"
    seen = seen_while(web, before, after, then, fingerprint(wide))
    names = {fingerprint(wide): "wide", fingerprint(new_wide): "new wide"}
    found = {(names.get(shown, "default"), by) for shown, by in seen}
    assert found <= {
        ("wide", "wide"),
        ("new wide", "new"),
        *((name, "nobody") for name in ("wide", "new wide", "default")),
    }
