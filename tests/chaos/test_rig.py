"""What a chaos run leans on, where it once gave way."""

from collections.abc import Callable

from rig import Promise
from stand import Stand
from test_chaos import Run
from world import PORTS


def test_somebodys_commands_pass_while_others_take_all_connections(
    make_stand: Callable[..., Stand],
) -> None:
    """Also of those who had a connection to a HAProxy that is gone."""
    run = Run(make_stand(pools=[{"ports": [*PORTS]}]), {})
    try:
        run.kill_haproxy(gently=False)
        run.relay.fault("full")
        run.drift(PORTS[0], f"enable frontend tcp-{PORTS[0]}")
    finally:
        run.close()


def test_a_haproxy_that_comes_back_may_be_as_somebody_made_it() -> None:
    """Its state was saved after somebody changed it, and before the sidecar repaired it."""
    for then, tampered in ((5.0, False), (15.0, True), (25.0, False)):
        promise = Promise()
        promise.tamper(10.0)
        promise.be_right(20.0)
        assert not promise.tampered
        promise.go_back(then)
        assert promise.tampered == tampered, then
