"""What a sidecar that stays knows of the certificates of a HAProxy that was replaced."""

from pathlib import Path

from by_host import MakeNamed, WebStand
from pki import CA
from stand import MakeStand, await_, converged, running
from test_route_certificates import app, await_shown

ROOT = CA.root()
HOST = "a.example"


def certificates(web: WebStand) -> Path:
    return web.stand.settings.haproxy.state_file.parent / "certificates"


def test_nothing_is_believed_of_a_haproxy_that_another_one_showed(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, issued = WebStand.make(make_stand, {"timing": {"resync": "1h"}}), ROOT.leaf(HOST)
    web.stand.write("web.yaml", *app("web", HOST, named("web"), issued))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        for _ in range(2):
            web.stand.stop_haproxy()
            (certificates(web) / "crt-list").write_text("")
            web.stand.start_haproxy()
            await_shown(web, HOST, issued)
            await_(lambda: web.ended(HOST) == "web", "it is served")
            converged(daemon)
