"""A rolling deploy under load, as Kubernetes does it: nobody who connects may notice."""

import contextlib
import itertools

import pytest
from drive import PORT, Load, World, app, await_state, leaving, served_by
from stand import (
    Client,
    EchoServer,
    MakeServer,
    MakeStand,
    await_,
    await_ready,
    held,
)

pytestmark = pytest.mark.serial

ENDPOINTS = 10


def accepted_all(server: EchoServer) -> None:
    """Until ``server`` took all that was on its way: what a pod's grace period is for."""
    Client((server.address.ip, server.address.port)).close()


@pytest.mark.parametrize("slots", [16, 4])
def test_ten_endpoints_are_replaced_one_after_another(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, slots: int
) -> None:
    """Each new one is ready before its predecessor terminates; with less slots than endpoints,
    servers are added and deleted meanwhile."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": slots}], drain={"deadline": "1h"})
    old = [make_server(f"old-{number}") for number in range(ENDPOINTS)]
    new = [make_server(f"new-{number}") for number in range(ENDPOINTS)]
    before = stand.info().identity
    world = World(stand, *app("web", PORT, *old))
    files.enter_context(world.sidecar())
    await_ready(stand, PORT, *old)
    long_lived = [held(files, stand, PORT) for _ in range(3 * ENDPOINTS)]
    assert {client.server for client in long_lived} == {server.name for server in old}
    load = Load(stand, threads=3)
    files.callback(load.stop)

    for number, (goes, comes) in enumerate(zip(old, new, strict=True)):
        rest = [*old[number + 1 :], *new[:number]]
        world.serve(goes, *rest, comes)
        await_ready(stand, PORT, goes, *rest, comes)
        # Nobody waits for the router between these two, but the pod before it closes its port.
        world.serve(leaving(goes), *rest, comes)
        world.serve(*rest, comes)
        await_ready(stand, PORT, *rest, comes)
        accepted_all(goes)
        goes.close()
        # Some who came meanwhile stay, too.
        long_lived.append(held(files, stand, PORT))
        enough = sum(load.served.values()) + 50
        await_(lambda n=enough: sum(load.served.values()) >= n, "load between two steps")

    load.stop()
    assert load.failures == []
    assert load.served.keys() >= {server.name for server in new}
    for client in long_lived:
        client.echo()
    assert served_by(stand, 2 * ENDPOINTS) <= {server.name for server in new}
    # When the last sessions end, nothing of the old ones is left.
    for client in long_lived:
        client.close()
    fresh = {server.address for server in new}
    await_(lambda: stand.slots(PORT).keys() == fresh, "the old ones' slots are free", 15)
    assert stand.info().identity == before


def test_an_endpoint_that_comes_and_goes_while_others_deploy(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """Draining is taken back when an endpoint that terminated is ready again (its node was only
    slow): its sessions and its slot are the same all the time."""
    stand, (a, b) = make_stand(), [make_server(name) for name in "ab"]
    world = World(stand, *app("web", PORT, a, b))
    files.enter_context(world.sidecar())
    slots = stand.slots(PORT)
    sessions = [held(files, stand, PORT) for _ in range(4)]
    load = Load(stand, threads=2)
    files.callback(load.stop)
    for _ in range(5):
        for state, end in itertools.product(("drain", "maint"), (a, b)):
            other = b if end is a else a
            world.serve(*((leaving(end), other) if state == "drain" else (other,)))
            await_state(stand, end, state)
            world.serve(a, b)
            await_ready(stand, PORT, a, b)
    load.stop()
    assert load.failures == []
    assert stand.slots(PORT) == slots
    for session in sessions:
        session.echo()
