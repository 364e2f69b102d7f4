"""Which clients a port is for: the list of its Route, live, and of no other Route."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cli import run_cli
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_leads_to,
    await_refused,
    converged,
    fresh_ip,
    running,
)
from web import get

from sidecar.cli.render import write_files
from sidecar.haproxy.web_files import WebFiles
from sidecar.model.verdicts import Reason

LIST = "haproxy.router.openshift.io/ip_allowlist"
PORT = 30000
ONE, TWO, THREE = "127.0.0.11", "127.0.0.12", "127.0.0.13"

#: A pool of ports of one Route each, and one of such that Routes may share.
POOLS: dict[str, dict[str, Any]] = {
    "own": {"ports": ["30000-30009"], "slots": 4},
    "shared": {"ports": ["30000-30009"], "slots": 4, "shared_by_sni": True},
}


def stand_of(make_stand: MakeStand, pool: str = "own", **more: Any) -> Stand:
    web = {"web": {"backends": {"passthrough": 2}, "slots": 3}} if pool == "shared" else {}
    return make_stand(pools=[{**POOLS[pool], **more}], timing={"resync": "1s"}, **web)


def write(
    stand: Stand, server: EchoServer, clients: str | None, *, created: str | None = None
) -> None:
    """The Route of ``server``, for these ``clients``; None: for all."""
    more = {} if created is None else {"created": created}
    objects = app(server.name, PORT, [server.address.ip], **more)
    if clients is not None:
        objects[0]["metadata"]["annotations"][LIST] = clients
    stand.write(f"{server.name}.yaml", *objects)


def greeted(stand: Stand, source: str, first: bytes = b"") -> str:
    """The server that a client gets to; "" for none."""
    with contextlib.suppress(OSError):
        address = (stand.ip, PORT)
        with socket.create_connection(address, 5, source_address=(source, 0)) as client:
            client.sendall(first)
            return client.makefile("rb").readline().decode().strip()
    return ""


def await_greeted(stand: Stand, source: str, by: str) -> None:
    await_(lambda: greeted(stand, source) == by, f"{source} gets to {by or 'nobody'}")


def files_of(stand: Stand) -> WebFiles:
    return WebFiles.beside(stand.settings.haproxy.state_file)


def told(stand: Stand) -> list[str]:
    """All that HAProxy is told of ports."""
    shown = (stand.client.ask(f"show map {file}") for file in files_of(stand).port_maps)
    return [line.partition(" ")[2] for text in shown for line in text.splitlines() if line]


def waiting(stand: Stand) -> int:
    """How many connections the port has."""
    head, row = stand.client.ask(f"show stat tcp-{PORT} 1 -1").splitlines()[:2]
    return int(dict(zip(head.split(","), row.split(","), strict=True))["scur"])


@contextlib.contextmanager
def asking(stand: Stand, *sources: str) -> Iterator[dict[str, list[str]]]:
    """Clients from ``sources`` come all the time: by whom each was served, "" for nobody."""
    stop = threading.Event()
    found: dict[str, list[str]] = {source: [] for source in sources}

    def keep_asking(source: str) -> None:
        while not stop.is_set():
            found[source].append(greeted(stand, source))

    threads = [threading.Thread(target=keep_asking, args=[source]) for source in sources]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


@pytest.mark.parametrize("pool", POOLS)
def test_it_changes_live(make_stand: MakeStand, make_server: MakeServer, pool: str) -> None:
    stand, server = stand_of(make_stand, pool), make_server("web")
    with running(stand.daemon()) as daemon:
        write(stand, server, None)
        await_leads_to(stand, PORT, server)
        assert told(stand) == []
        with asking(stand, ONE) as by:
            for _ in range(5):
                write(stand, server, f"{ONE} 192.0.2.0/24")
                await_greeted(stand, TWO, "")
                write(stand, server, "127.0.0.8/29")
                await_greeted(stand, TWO, "web")
                assert greeted(stand, "127.0.0.1") == ""
                write(stand, server, None)
                await_greeted(stand, "127.0.0.1", "web")
                await_(lambda: told(stand) == [], "nothing is left")
        assert set(by[ONE]) == {"web"}
        converged(daemon)
        rows = stand.client.ask("show stat tcp-30000 1 -1").splitlines()
        row = dict(zip(rows[0].removeprefix("# ").split(","), rows[1].split(","), strict=False))
        counted = row["dcon" if pool == "own" else "dreq"]
        assert int(counted) >= 10


def test_a_plan_is_what_is_done(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, server, next_one = stand_of(make_stand), make_server("web"), make_server("zz-next")
    ours = ("-c", stand.settings_file)
    write(stand, server, ONE)
    first = run_cli("plan", *ours).out
    assert f"port_allowed_sources.map be_tcp-{PORT}/" in first
    with running(stand.daemon()) as daemon:
        await_greeted(stand, ONE, "web")
        converged(daemon)
        told_haproxy = {entry.command for entry in daemon.reconciler.history.entries()}
        assert set(first.splitlines()) <= told_haproxy
    # Another Route's clients wait for those of this one to be gone.
    stand.remove("web.yaml")
    write(stand, next_one, TWO)
    found = run_cli("plan", *ours)
    assert "port_allowed_sources" not in found.out
    with running(stand.daemon()) as daemon:
        await_greeted(stand, TWO, "zz-next")
        converged(daemon)


@pytest.mark.parametrize("pool", POOLS)
def test_who_looks_sees_it_as_it_should_be(
    make_stand: MakeStand, make_server: MakeServer, pool: str
) -> None:
    stand, server = stand_of(make_stand, pool), make_server("web")
    with running(stand.daemon()) as daemon:
        write(stand, server, ONE)
        await_greeted(stand, ONE, "web")
        converged(daemon)
        report = get(stand, "/api/status").json
        assert (report["converged"], report["unready"]) == (True, "")
        assert not report["ports"][0]["drift"]
        why = run_cli("why", PORT, "-c", stand.settings_file)
        assert why.code == 0, why.out
        assert f"ip_allowlist: '{ONE}'" in why.out


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("first", "second"), [(ONE, TWO), (None, TWO), (ONE, None)], ids=["both", "second", "first"]
)
def test_nobody_gets_in_by_the_list_of_another_route(
    make_stand: MakeStand,
    make_server: MakeServer,
    pool: str,
    first: str | None,
    second: str | None,
) -> None:
    """A port changes hands, again and again, under load."""
    stand, a, b = stand_of(make_stand, pool), make_server("a"), make_server("b")
    write(stand, a, first, created="2026-01-01T00:02:00Z")
    with running(stand.daemon()) as daemon, asking(stand, ONE, TWO, THREE) as by:
        for _ in range(3):
            await_(lambda: "a" in (by[ONE][-1:]), "a serves")
            write(stand, b, second, created="2026-01-01T00:01:00Z")
            await_(lambda: "b" in (by[TWO][-1:]), "b serves")
            stand.remove("b.yaml")
        await_(lambda: "a" in (by[ONE][-1:]), "a serves")
        converged(daemon)
    assert "a" in by[ONE]
    assert "b" in by[TWO]
    assert "a" not in ({*by[TWO], *by[THREE]} if first else ())
    assert "b" not in ({*by[ONE], *by[THREE]} if second else ())


def test_a_client_on_its_way_does_not_get_to_another_route(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    """The former Route's server refuses, so that HAProxy tries another one; which is not that of
    the Route that has the port meanwhile."""
    stand, b = stand_of(make_stand, timeouts={"connect": "1s"}), make_server("b")
    gone = make_server("a")
    gone.close()
    write(stand, gone, None, created="2026-01-01T00:02:00Z")
    with running(stand.daemon()) as daemon:
        await_(lambda: not stand.is_refused(PORT), "it is open")
        with asking(stand, *(f"127.0.1.{number}" for number in range(1, 17))) as by:
            await_(lambda: all(by.values()), "all came")
            write(stand, b, TWO, created="2026-01-01T00:01:00Z")
            await_greeted(stand, TWO, "b")
            converged(daemon)
        assert {name for found in by.values() for name in found} == {""}


def test_a_client_whose_attempt_fails_late_does_not_get_to_another_route(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    """The former Route's server answers nothing for a while, then refuses: HAProxy pauses before it
    tries another one, and that is not the one of the Route that has the port meanwhile."""
    stand, b = stand_of(make_stand, timeouts={"connect": "1500ms"}), make_server("b")
    clients = [f"127.0.1.{number}" for number in range(1, 9)]
    with contextlib.ExitStack() as files:
        silent = files.enter_context(socket.socket())
        silent.bind(at := (fresh_ip(), b.address.port))
        silent.listen(0)
        # It has room for one that waits; the kernel drops what comes beyond, and asks again in 1 s.
        files.enter_context(socket.create_connection(at, 5))
        stand.write("a.yaml", *app("a", PORT, [at[0]], created="2026-01-01T00:02:00Z"))
        with running(stand.daemon()) as daemon:
            await_(lambda: not stand.is_refused(PORT), "it is open")
            with asking(stand, *clients) as by:
                await_(lambda: waiting(stand) >= len(clients), "they are being connected")
                write(stand, b, TWO, created="2026-01-01T00:01:00Z")
                await_(lambda: not stand.slots(PORT, "ready"), "its servers are gone")
                silent.close()
                await_greeted(stand, TWO, "b")
                converged(daemon)
            assert {name for found in by.values() for name in found} == {""}


def test_one_that_cannot_be_used_closes_the_port(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, a, b = stand_of(make_stand), make_server("a"), make_server("b")
    write(stand, a, "nonsense", created="2026-01-01T00:01:00Z")
    write(stand, b, None, created="2026-01-01T00:02:00Z")

    def verdicts() -> dict[str, tuple[Reason, int | None, str]]:
        found = daemon._routing.verdicts()
        return {item.route.name: (item.reason, item.port, item.message) for item in found}

    with running(stand.daemon()) as daemon:
        converged(daemon)
        await_refused(stand, PORT)
        reason, port, message = verdicts()["a"]
        assert (reason, port) == (Reason.INVALID_ANNOTATION, PORT)
        assert "'nonsense' is no address" in message
        assert verdicts()["b"][0] == Reason.PORT_ALREADY_CLAIMED
        write(stand, a, ONE, created="2026-01-01T00:01:00Z")
        await_greeted(stand, ONE, "a")
        assert greeted(stand, TWO) == ""
        write(stand, a, "", created="2026-01-01T00:01:00Z")
        await_refused(stand, PORT)
        stand.remove("a.yaml")
        await_greeted(stand, ONE, "b")


def test_it_outlives_a_restart_and_is_repaired(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, server = stand_of(make_stand), make_server("web")
    files = files_of(stand)
    write(stand, server, ONE)
    with running(stand.daemon()) as daemon:
        await_greeted(stand, ONE, "web")
        converged(daemon)
        whole = told(stand)
        assert whole
        (key,) = (entry.split(" ")[0] for entry in whole if "/4/" in entry)
        for command in (
            f"del map {files.port_guards_map} be_tcp-{PORT}",
            f"set map {files.port_guards_map} be_tcp-{PORT} other",
            f"del map {files.port_sources_map} {key}",
            f"add map {files.port_sources_map} {key[:-8]} 1",
        ):
            total = daemon.reconciler.history.total
            stand.client.ask(command)
            await_(lambda total=total: daemon.reconciler.history.total > total, command)
            await_(lambda: sorted(told(stand)) == sorted(whole), f"repaired after {command}")
            # By another mark it had another Route, and so was closed for a moment.
            await_greeted(stand, ONE, "web")
            assert greeted(stand, TWO) == ""
        converged(daemon)
        await_(lambda: f"be_tcp-{PORT} " in files.port_guards_map.read_text(), "saved")
        state = stand.settings.haproxy.state_file
        await_(lambda: server.address.ip in state.read_text(), "the state is saved")
    stand.stop_haproxy()
    stand.start_haproxy()
    assert greeted(stand, ONE) == "web"
    assert greeted(stand, TWO) == ""


def test_a_haproxy_without_the_maps_keeps_the_port_closed(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, web, other = stand_of(make_stand), make_server("web"), make_server("other")
    stand.stop_haproxy()
    config = stand.settings.haproxy.config
    lines = config.read_text().splitlines(keepends=True)
    config.write_text(
        "".join(line for line in lines if "tcp-request" not in line or "map" not in line)
    )
    stand.start_haproxy()
    write(stand, web, ONE)
    stand.write("other.yaml", *app("other", 30001, [other.address.ip]))
    with running(stand.daemon()) as daemon:
        await_(lambda: daemon.reconciler.known.failures, "it is said")
        await_leads_to(stand, 30001, other)
        (failure,) = daemon.reconciler.known.failures.values()
        assert "render it from these settings and restart HAProxy" in failure.message
        assert stand.is_refused(PORT)
        write_files(stand.settings, config)
        stand.stop_haproxy()
        stand.start_haproxy()
        await_greeted(stand, ONE, "web")
        assert greeted(stand, TWO) == ""


@pytest.mark.parametrize(
    ("clients", "source", "served"),
    [
        ("192.0.2.7", "TCP4 192.0.2.7 192.0.2.1", True),
        ("192.0.2.7", "TCP4 192.0.2.8 192.0.2.1", False),
        ("192.0.2.7", "TCP6 ::ffff:192.0.2.7 ::1", True),
        ("192.0.2.7", "TCP6 ::ffff:192.0.2.8 ::1", False),
        ("2001:db8::/32", "TCP6 2001:db8::9 ::1", True),
        ("2001:db8::/32", "TCP6 2001:db9::9 ::1", False),
        ("127.0.0.0/8", "TCP4 192.0.2.7 192.0.2.1", False),
    ],
)
def test_clients_behind_a_load_balancer(
    make_stand: MakeStand, make_server: MakeServer, clients: str, source: str, *, served: bool
) -> None:
    stand, server = stand_of(make_stand, accept_proxy=True), make_server("web")
    write(stand, server, clients)
    with running(stand.daemon()) as daemon:
        await_(lambda: not stand.is_refused(PORT), "it is open")
        converged(daemon)
        head = f"PROXY {source} 1024 80\r\n".encode()
        assert greeted(stand, ONE, head) == ("web" if served else "")
