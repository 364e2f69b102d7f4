"""A wildcard Route that loses its hosts: its certificate is not for who has one of them then."""

import contextlib
import hashlib
import threading
import time

import pytest
from by_host import MakeNamed, WebStand, ask_over, host_app
from handshake import shake_hands
from pki import CA
from stand import MakeStand, await_, converged, running
from test_route_certificates import app, await_shown, fingerprint

#: How often the host changes hands.
TURNS = 8

#: From what is shown to who is led there it takes longer: files are written in between.
AT_ONCE_SECONDS = 0.004

HOST = "a.example"


def asked(web: WebStand) -> tuple[str, str]:
    """The certificate that is shown, and who answers."""
    with shake_hands(web.tls, HOST, ["http/1.1"]) as secured:
        der = secured.getpeercert(binary_form=True) or b""
        reply = ask_over(secured, f"GET / HTTP/1.1\r\nHost: {HOST}")
    return hashlib.sha256(der).hexdigest(), reply.body if reply.status == 200 else "nobody"


@pytest.mark.parametrize("had", [True, False])
def test_no_client_of_the_new_route_is_shown_it(
    make_stand: MakeStand, named: MakeNamed, *, had: bool
) -> None:
    """An older Route of another namespace takes the host, and by that all of the wildcard. ``had``:
    the former namespace had a Route and a certificate for just that host."""
    web, root = WebStand.make(make_stand, wildcards=True), CA.root()
    wide, own = root.leaf("*.example"), root.leaf(HOST)
    default, _ = asked(web)
    wide_server, own_server, new_server = named("wide"), named("own"), named("new")
    before = [
        *app("wide", "x.example", wide_server, wide, wildcard=True, created="2026-02-01T00:00:00Z")
    ]
    if had:
        before += app("own", HOST, own_server, own, created="2026-03-01T00:00:00Z")
    after = host_app(
        "new",
        HOST,
        [new_server],
        namespace="other",
        termination="edge",
        created="2026-01-01T00:00:00Z",
    )
    former = own if had else wide
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
        await_shown(web, HOST, former)
        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        try:
            for _ in range(TURNS):
                converged(daemon)
                web.stand.write("after.yaml", *after)
                await_(lambda: asked(web) == (default, "new"), "the new Route has the host", 20)
                converged(daemon)
                web.stand.remove("after.yaml")
                await_(lambda: asked(web)[0] == fingerprint(former), "the former one has it", 20)
        finally:
            stop.set()
            thread.join(20)
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
