"""One port's endpoints change a thousand times under load: nobody who should stay notices.

A published endpoint may be dead already, as when a node went: a retry elsewhere hides it.
"""

import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence

import pytest
from drive import PORT, ByHand, Feed, Load
from stand import EchoServer, Stand, await_, changes, fresh_ip, route, running, service, slice_

from sidecar.model.change import Change
from sidecar.model.pool import Address
from sidecar.planning.schedule import TIDY_SECONDS

pytestmark = pytest.mark.serial

CHANGES = 1000


def endpoints(addresses: Sequence[Address]) -> list[Change]:
    return changes(slice_("web", sorted(address.ip for address in addresses)))


def await_ready(stand: Stand, addresses: Sequence[Address]) -> None:
    """Until HAProxy itself shows just these as ready."""
    wanted = sorted(addresses)
    await_(lambda: stand.ready(PORT) == wanted, f"{wanted} on port {PORT}")


def test_a_thousand_changes_under_load(
    make_stand: Callable[..., Stand],
    make_server: Callable[..., EchoServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "sidecar")
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 8}])
    before = stand.info().identity
    stay = [make_server(f"stay-{number}") for number in range(2)]
    come_and_go = [make_server(f"flap-{number}") for number in range(4)]
    dead = Address(fresh_ip(), 9000)
    always = [server.address for server in stay]
    some = [server.address for server in come_and_go]
    dice = random.Random(18)

    feed = Feed([*changes(route("web", PORT), service("web")), *endpoints([*always, *some])])
    with contextlib.ExitStack() as files:
        daemon = files.enter_context(running(stand.daemon(feed)))
        await_ready(stand, [*always, *some])
        slots = stand.slots(PORT)
        # On those that stay, and on those that will go, whose sessions end by themselves.
        long_lived = [stand.connect(PORT) for _ in range(20)]
        for client in long_lived:
            files.callback(client.close)
        assert len({client.server for client in long_lived}) == len(stay) + len(come_and_go)
        load = Load(stand, threads=3)
        files.callback(load.stop)

        former = set(some)
        started = time.monotonic()
        for number in range(CHANGES):
            chosen = {one for one in some if dice.random() < 0.5}
            if number % 20 == 0:
                chosen.add(dead)
            if chosen == former:
                chosen ^= {some[0]}
            former = chosen
            feed.push(endpoints([*always, *chosen]))
            await_ready(stand, [*always, *chosen])
            if number % 100 == 0:
                for client in long_lived:
                    client.echo()
        took = time.monotonic() - started
        load.stop()

        assert load.failures == []
        for client in long_lived:
            client.echo()
        await_(lambda: not daemon.ready(), "converged")
        after = stand.slots(PORT)
        assert {address: after[address] for address in always} == {
            address: slots[address] for address in always
        }
        assert stand.info().identity == before
        assert sum(load.served.values()) > CHANGES, f"hardly any load in {took:.1f} s"
        assert load.served.keys() == {server.name for server in (*stay, *come_and_go)}
        assert daemon.metrics.restarts._value.get() == 0
        assert daemon.metrics.drift._value.get() == 0
        assert caplog.messages == []


@pytest.mark.parametrize("slots", [2, 3])
def test_all_servers_are_replaced_in_a_full_backend(
    slots: int, make_stand: Callable[..., Stand], make_server: Callable[..., EchoServer]
) -> None:
    """There is no room for old and new ones at once, and still nobody finds the port empty."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": slots}])
    blue, green = ([make_server(f"{name}-{n}").address for n in (1, 2)] for name in ("b", "g"))
    feed = Feed([*changes(route("web", PORT), service("web")), *endpoints(blue)])
    with running(stand.daemon(feed)):
        await_ready(stand, blue)
        load = Load(stand, threads=3)
        try:
            for _ in range(25):
                for now in (green, blue):
                    feed.push(endpoints(now))
                    await_ready(stand, now)
        finally:
            load.stop()
        assert load.failures == []
        assert len(load.served) == 4


def test_a_slot_is_put_away_a_second_after_its_endpoint_left(
    make_stand: Callable[..., Stand],
) -> None:
    """Nobody waits for that, and who comes back meanwhile is back at one command."""
    stand, (blue, green) = make_stand(), (Address(fresh_ip(), 9000) for _ in range(2))
    hand = ByHand(stand)
    hand.step(route("web", PORT), service("web"), slice_("web", [blue.ip]))
    assert hand.step(slice_("web", [green.ip])) == 3  # address, ready, and maint for the other
    assert stand.slots(PORT, "maint") == {blue: "s1"}
    assert hand.step(slice_("web", [blue.ip])) == 2  # ready, and maint
    assert stand.slots(PORT, "ready") == {blue: "s1"}
    assert stand.slots(PORT, "maint") == {green: "s2"}
    assert hand.step(after_seconds=TIDY_SECONDS) == 1
    assert stand.slots(PORT) == {blue: "s1"}
    assert hand.step(after_seconds=2 * TIDY_SECONDS) == 0


def test_a_thousand_changes_in_one_go_end_at_the_last(
    make_stand: Callable[..., Stand], make_server: Callable[..., EchoServer]
) -> None:
    stand, server = make_stand(), make_server("last")
    feed = Feed(changes(route("web", PORT), service("web")))
    with running(stand.daemon(feed)) as daemon:
        await_(lambda: not daemon.ready(), "converged")
        for number in range(CHANGES):
            feed.push(endpoints([Address(f"10.1.{number // 250}.{1 + number % 250}", 9000)]))
        feed.push(endpoints([server.address]))
        await_ready(stand, [server.address])
        client = stand.connect(PORT)
        client.close()
        assert client.server == "last"
