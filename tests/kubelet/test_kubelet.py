"""The shipped manifests on a real kubelet: what happens to clients when the router's pods are
replaced, killed, frozen and full. What the tests print is the table in docs/deploy.md.
"""

import contextlib
import os
import signal
import socket
import time

import pytest
from node import PATIENCE_SECONDS
from nodes import APPLICATION, MAXCONN, NAMESPACE, PORTS, ROUTER, Load, Router, greeting
from stand import Client, await_, worker_of

pytestmark = pytest.mark.timeout(400)


def test_it_becomes_ready_and_says_so(router: Router) -> None:
    assert {greeting(address, port) for address in router.addresses() for port in PORTS} <= (
        router.application()
    )
    name = router.await_ready()[0]
    said = router.kubectl("exec", "-n", NAMESPACE, name, "--", "haproxy-sidecar", "status")
    assert f"{APPLICATION}/{APPLICATION}-30000" in said
    assert sum(router.restarts(name).values()) == 0
    # The Service has the open ports, for the load balancer.
    await_(
        lambda: (
            {
                item["port"]
                for item in router.node.plane.get("service", ROUTER, "-n", NAMESPACE)["spec"][
                    "ports"
                ]
            }
            >= set(PORTS)
        ),
        "the Service has all ports",
        30,
    )


def test_replacing_all_pods_loses_no_connection(router: Router) -> None:
    before, served_before = set(router.await_ready()), router.application()
    with Load(router) as load:
        for namespace, name in ((NAMESPACE, ROUTER), (APPLICATION, APPLICATION)):
            router.kubectl("rollout", "restart", "-n", namespace, f"deployment/{name}")
        for namespace, name in ((NAMESPACE, ROUTER), (APPLICATION, APPLICATION)):
            waits = "--timeout=240s"
            router.kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", waits)
        await_(lambda: router.count() == 2, "the old pods are gone", 120, every_seconds=0.5)
    assert load.failed == []
    print(f"\nrolling update: {load.served.total():,} of {load.count:,} connections served")
    assert not before & set(router.await_ready())
    assert not served_before & router.application()
    assert load.served.keys() >= router.application()


def test_a_pod_that_is_deleted_stays_for_who_is_connected(router: Router) -> None:
    name = router.await_ready()[0]
    address = router.named(name)["status"]["podIP"]
    with contextlib.closing(Client((address, PORTS[0]))) as client:
        router.kubectl("delete", "pod", "-n", NAMESPACE, name, "--wait=false")
        await_(lambda: not greeting(address), "HAProxy was told to stop", 60, every_seconds=0.5)
        client.echo()
    assert name not in router.await_ready()
    await_(lambda: router.count() == 2, "the old pod is gone", 60, every_seconds=0.5)


def test_a_killed_sidecar_is_replaced_and_nobody_notices(router: Router) -> None:
    name = router.await_ready()[0]
    sidecar, haproxy = (router.node.pids()[name, item] for item in ("sidecar", "haproxy"))
    restarts = router.restarts(name)["sidecar"]
    with Load(router) as load:
        os.kill(sidecar, signal.SIGKILL)
        await_(lambda: router.restarts(name)["sidecar"] > restarts, "it is started anew", 60)
        await_(lambda: router.is_ready(name), "the pod is ready", 60)
    assert load.failed == []
    assert router.node.pids()[name, "haproxy"] == haproxy


def test_a_killed_haproxy_is_restarted_and_serves_again(router: Router) -> None:
    name = router.await_ready()[0]
    address = router.named(name)["status"]["podIP"]
    restarts = router.restarts(name)
    os.kill(router.node.pids()[name, "haproxy"], signal.SIGKILL)
    began = time.monotonic()
    await_(lambda: not greeting(address), "it is gone", 10)
    await_(lambda: greeting(address), "it serves again", 60)
    print(f"\nkilled HAProxy: away for {time.monotonic() - began:.1f} s")
    assert router.restarts(name) == {**restarts, "haproxy": restarts["haproxy"] + 1}


def test_a_frozen_haproxy_leaves_the_service_and_is_replaced(router: Router) -> None:
    name = router.await_ready()[0]
    address = router.named(name)["status"]["podIP"]
    restarts = router.restarts(name)["haproxy"]
    master = router.node.pids()[name, "haproxy"]
    os.kill(worker_of(master), signal.SIGSTOP)
    began = time.monotonic()
    await_(lambda: address not in router.addresses(), "it gets no more clients", 60)
    left = time.monotonic() - began
    with Load(router) as load:
        await_(lambda: router.restarts(name)["haproxy"] > restarts, "it is replaced", 200)
        await_(lambda: greeting(address), "it serves again", 60)
    back = time.monotonic() - began
    print(f"\nfrozen HAProxy: out of the Service after {left:.1f} s, back after {back:.0f} s")
    assert load.failed == []


def connect(clients: contextlib.ExitStack, address: str, port: int) -> None:
    """One more of ``clients``, which HAProxy may have yet to accept, or refuse."""
    clients.enter_context(socket.create_connection((address, port), 5))


def test_a_full_haproxy_stays_ready(router: Router) -> None:
    name = router.await_ready()[0]
    address = router.named(name)["status"]["podIP"]
    restarts = router.restarts(name)
    with contextlib.ExitStack() as clients:
        for number in range(MAXCONN):
            connect(clients, address, PORTS[number % len(PORTS)])

        def is_full() -> bool:
            # Who asks has had a place that others were refused.
            connect(clients, address, PORTS[0])
            return not greeting(address)

        await_(is_full, "it takes nobody any more", 30)
        # Longer than any probe may fail.
        deadline = time.monotonic() + 75
        while time.monotonic() < deadline:
            assert router.is_ready(name)
            time.sleep(1)
        assert router.restarts(name) == restarts
        assert not greeting(address)
    await_(lambda: greeting(address), "it serves again", PATIENCE_SECONDS)
