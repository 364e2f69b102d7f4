"""What a chaos run leans on, where it once gave way."""

from collections.abc import Callable

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
