"""How soon a change is seen after the API server forgot, broke off or was away: with the waits that
are shipped, by the clock."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from follow import World
from kube import FakeAPI, Fault
from stand import app, await_, route_manifest, service_manifest

from sidecar.common.backoff import API_MOST_SECONDS
from sidecar.sources.kubernetes.reflector import STEADY_SECONDS, Patience

#: Two for the longest wait, one for a busy machine.
SEEN_WITHIN_SECONDS = 3.0


@pytest.fixture
def world() -> Iterator[World]:
    with FakeAPI() as api:
        api.apply(*app("web", 30000, []))
        world = World(api, Patience().retry_seconds)
        yield world.start().synced()
        world.close()


def await_seen(world: World, port: int) -> None:
    """The change of the Route to ``port``, which was just made."""

    def is_seen() -> bool:
        route = world.sink.route("web")
        return route is not None and route.port == str(port)

    await_(is_seen, f"port {port} is seen", SEEN_WITHIN_SECONDS)


def forget(world: World) -> None:
    """What was told until now, and break off: the watch cannot go on from where it was."""
    world.api.apply(service_manifest("elsewhere"))
    world.api.compact()
    world.api.end_watches("routes", "break")


@pytest.mark.parametrize("pause_seconds", [0.0, 1.5])
def test_each_change_of_a_storm_of_410(world: World, pause_seconds: float) -> None:
    for number in range(8):
        forget(world)
        world.api.apply(route_manifest("web", 30001 + number))
        await_seen(world, 30001 + number)
        time.sleep(pause_seconds)


def test_after_a_steady_watch_a_410_means_a_list_at_once() -> None:
    with FakeAPI() as api:
        api.apply(*app("web", 30000, []))
        # One second at least where it waits at all.
        world = World(api, API_MOST_SECONDS)
        api.fault(Fault(status=500), verb="watch", plural="routes")
        world.start().synced()
        time.sleep(STEADY_SECONDS + 0.5)
        forget(world)
        await_(lambda: len(api.asked("list", "routes")) == 2, "it lists", API_MOST_SECONDS * 0.9)
        world.close()


def test_a_change_after_an_outage(world: World) -> None:
    world.api.stop()
    time.sleep(15.0)
    world.api.apply(route_manifest("web", 30001))
    world.api.start()
    await_seen(world, 30001)
    # And after a short one, soon after.
    world.api.stop()
    time.sleep(3.0)
    world.api.apply(route_manifest("web", 30002))
    world.api.start()
    await_seen(world, 30002)


@contextlib.contextmanager
def swallowing(host: str) -> Iterator[None]:
    """Who connects there hears nothing, as where a firewall or a dead node swallows all."""
    ip, _, port = host.removeprefix("http://").partition(":")
    with contextlib.ExitStack() as ending:
        full = ending.enter_context(socket.socket())
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind((ip, int(port)))
        full.listen(0)
        while True:
            waiting = ending.enter_context(socket.socket())
            waiting.settimeout(0.5)
            try:
                waiting.connect((ip, int(port)))
            except TimeoutError:
                break
        yield


def test_a_change_after_a_network_that_swallowed_everything(world: World) -> None:
    world.api.stop()
    with swallowing(world.api.host):
        time.sleep(8.0)
    world.api.apply(route_manifest("web", 30001))
    world.api.start()
    await_seen(world, 30001)


def test_an_api_server_that_is_away_is_asked_in_moderation(world: World) -> None:
    busy = Fault(status=503)
    world.api.fault(busy, plural="routes", times=1000)
    before = len(world.api.asked(plural="routes"))
    world.api.end_watches("routes")
    time.sleep(10.0)
    # At first a few in a second, then one in one to two seconds.
    assert 4 <= len(world.api.asked(plural="routes")) - before <= 13
