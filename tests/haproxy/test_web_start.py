"""What clients of Routes by host get from HAProxy alone, before a sidecar has told it anything."""

from by_host import MakeNamed, WebStand, ask, host_app
from stand import MakeStand, await_, converged, running

HOST = "a.example"
HEALTH = "/_______internal_router_healthz"


def test_listeners_serve_what_was_saved_from_the_start(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    objects = host_app("web", HOST, [named("web")], termination="edge", insecure="Allow")
    web.stand.write("web.yaml", *objects)
    assert ask(web.http, HOST).status == 503
    assert web.ended(HOST) == "503"
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
    # Both processes start anew, and HAProxy is first: it has what the other one saved.
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert ask(web.http, HOST).body == "web"
    assert web.ended(HOST) == "web"


def test_the_health_check_of_openshifts_router(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    assert ask(web.http, "any.example", HEALTH).status == 200
    web.stand.write("web.yaml", *host_app("web", HOST, [server]))
    with running(web.stand.daemon()):
        await_(lambda: ask(web.http, HOST).body == "web", "it is served")
        count = len(server.heads)
        assert ask(web.http, HOST, HEALTH).status == 200
        assert len(server.heads) == count
        # It is this path alone.
        assert ask(web.http, HOST, f"{HEALTH}/x").body == "web"
        assert ask(web.http, HOST, f"/x{HEALTH}").body == "web"
