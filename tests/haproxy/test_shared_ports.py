"""A port that several Routes share by SNI: manifests in a folder, a daemon, the real HAProxy, and
servers that end TLS themselves, each with its own certificate."""

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from by_host import WebStand, client_hello, host_app, is_tls
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
    held,
    leads_to,
    running,
)
from tls import TLSServer, greeted

from sidecar.cli.render import haproxy_cfg
from sidecar.model.verdicts import Reason

MakeTLS = Callable[[str], TLSServer]

SHARED, BESIDE, PLAIN = 30000, 30001, 31000


@pytest.fixture
def make_tls(files: contextlib.ExitStack, tmp_path: Path) -> MakeTLS:
    folder = tmp_path / "ca"
    folder.mkdir()
    authority = Authority(folder)

    def make(name: str) -> TLSServer:
        server = TLSServer(name, authority)
        files.callback(server.close)
        return server

    return make


def shared_stand(make_stand: MakeStand, **web: Any) -> Stand:
    """Two ports that may be shared, and one that may not."""
    pools = [
        {"ports": [f"{SHARED}-{BESIDE}"], "slots": 3, "shared_by_sni": True},
        {"ports": [str(PLAIN)], "slots": 3},
    ]
    section = {"backends": {"passthrough": 4}, "slots": 3, "timeouts": {"inspect": "1s"}, **web}
    return make_stand(pools=pools, web=section, timing={"resync": "1s"})


def minute(number: int) -> str:
    return f"2026-01-01T00:{number:02}:00Z"


def host_claim(
    server: TLSServer, host: str, *, port: int = SHARED, age: int = 1, **more: Any
) -> tuple[dict[str, Any], ...]:
    """A Route that claims a port for ``host``, called as its server."""
    return app(
        server.name,
        port,
        [server.address.ip],
        created=minute(age),
        host=host,
        tls={"termination": "passthrough"},
        **more,
    )


def passed(stand: Stand, sni: str | None, port: int = SHARED) -> str:
    """The name of the server that a TLS client gets to; "" if its connection is closed."""
    found = greeted((stand.ip, port), sni)
    return found.name if found else ""


def await_passed(stand: Stand, sni: str, by: str, port: int = SHARED) -> None:
    await_(lambda: passed(stand, sni, port) == by, f"{sni}:{port} is served by {by or 'nobody'}")


def reasons(daemon: Any) -> dict[str, Reason]:
    return {item.route.name: item.reason for item in daemon._routing.verdicts()}


def entries(stand: Stand) -> list[str]:
    file = stand.settings.haproxy.state_file.parent / "maps" / "ports.map"
    lines = stand.client.ask(f"show map {file}").splitlines()
    return sorted(line.partition(" ")[2] for line in lines if line)


def sent(address: tuple[str, int], data: bytes) -> bytes:
    """What a client gets that sends this and then waits for the end."""
    with socket.create_connection(address, 10) as connection:
        connection.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            return connection.recv(4096)
    return b""


def test_two_servers_behind_one_port_by_sni(
    make_stand: MakeStand, make_tls: MakeTLS, make_server: MakeServer
) -> None:
    stand = shared_stand(make_stand, wildcards=True)
    one, two, any_ = make_tls("one"), make_tls("two"), make_tls("any")
    whole, plain = make_server("whole"), make_server("plain")
    wildcard = host_claim(any_, "www.apps.example", wildcardPolicy="Subdomain")
    stand.write("shared.yaml", *host_claim(one, "one.example"), *host_claim(two, "two.example"))
    stand.write("wildcard.yaml", *wildcard)
    stand.write("whole.yaml", *app("whole", BESIDE, [whole]), *app("plain", PLAIN, [plain]))
    with running(stand.daemon()) as daemon:
        for server, sni in ((one, "one.example"), (two, "TWO.example"), (any_, "x.apps.example")):
            await_passed(stand, sni, server.name)
            found = greeted((stand.ip, SHARED), sni)
            assert found == (server.name, server.der)
        # Servers of these speak first: nobody waits for a ClientHello there.
        await_leads_to(stand, BESIDE, whole)
        await_leads_to(stand, PLAIN, plain)
        converged(daemon)
        assert passed(stand, "three.example") == ""
        assert passed(stand, "a.b.apps.example") == ""
        assert passed(stand, None) == ""
        assert passed(stand, "one.example", BESIDE) == ""
        assert set(reasons(daemon).values()) == {Reason.ADMITTED}
        # The port closes with the last of them.
        stand.remove("wildcard.yaml")
        await_passed(stand, "x.apps.example", "")
        assert passed(stand, "one.example") == "one"
        stand.remove("shared.yaml")
        await_refused(stand, SHARED)
        assert leads_to(stand, BESIDE, whole)


def test_only_some_clients_may_connect(make_stand: MakeStand, make_tls: MakeTLS) -> None:
    """Also where there are no listeners."""
    stand = shared_stand(make_stand)
    one, two = make_tls("one"), make_tls("two")
    key = "haproxy.router.openshift.io/ip_allowlist"

    def write(text: str) -> None:
        only = host_claim(one, "one.example")
        only[0]["metadata"]["annotations"][key] = text
        stand.write("shared.yaml", *only, *host_claim(two, "two.example", age=2))

    with running(stand.daemon()) as daemon:
        for text, by in (
            ("192.0.2.0/24", ""),
            ("127.0.0.0/8", "one"),
            ("nonsense", ""),
            ("127.0.0.0/8", "one"),
            ("192.0.2.0/24", ""),
        ):
            write(text)
            await_passed(stand, "two.example", "two")
            await_passed(stand, "one.example", by)
            converged(daemon)
            assert passed(stand, "one.example") == by
            refused = reasons(daemon)["one"] == Reason.INVALID_ANNOTATION
            assert refused is (text == "nonsense")


def test_clients_that_do_not_say_who_they_want(make_stand: MakeStand, make_tls: MakeTLS) -> None:
    stand, one = shared_stand(make_stand), make_tls("one")
    stand.write("one.yaml", *host_claim(one, "one.example"))
    address, hello = (stand.ip, SHARED), client_hello("one.example")
    with running(stand.daemon()):
        await_passed(stand, "one.example", "one")
        assert sent(address, b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n") == b""
        assert sent(address, b"\x00" * 64) == b""
        # It is closed when the time for a ClientHello is over,
        assert sent(address, hello[: len(hello) // 2]) == b""
        # and one that comes bit by bit is waited for.
        with socket.create_connection(address, 5) as connection:
            for start in range(0, len(hello), 100):
                connection.sendall(hello[start : start + 100])
            assert connection.recv(5)[:1] == b"\x16"


def test_the_oldest_claim_says_what_the_port_is_for(
    make_stand: MakeStand, make_tls: MakeTLS, make_server: MakeServer
) -> None:
    stand = shared_stand(make_stand)
    one, two, whole = make_tls("one"), make_tls("two"), make_server("whole")
    stand.write("one.yaml", *host_claim(one, "one.example", age=5))
    stand.write("two.yaml", *host_claim(two, "two.example", age=15))
    with running(stand.daemon()) as daemon:
        pid = stand.info().pid
        for _ in range(2):
            await_passed(stand, "one.example", "one")
            await_passed(stand, "two.example", "two")
            # A younger one waits for all of the port,
            stand.write("whole.yaml", *app("whole", SHARED, [whole], created=minute(10)))
            await_(lambda: reasons(daemon).get("whole") == Reason.PORT_ALREADY_CLAIMED, "it waits")
            assert passed(stand, "two.example") == "two"
            # has it when the oldest goes, and those who are younger wait;
            stand.remove("one.yaml")
            await_leads_to(stand, SHARED, whole)
            assert passed(stand, "two.example") == ""
            assert reasons(daemon) == {
                "whole": Reason.ADMITTED,
                "two": Reason.PORT_ALREADY_CLAIMED,
            }
            assert entries(stand) == []
            # an older one displaces it.
            stand.write("one.yaml", *host_claim(one, "one.example", age=5))
            await_passed(stand, "two.example", "two")
            assert not leads_to(stand, SHARED, whole)
            # Without it nothing changes.
            stand.remove("whole.yaml")
            await_(lambda: "whole" not in reasons(daemon), "it is gone")
            converged(daemon)
        assert stand.info().pid == pid


def test_a_route_takes_its_whole_port_for_one_host_and_back(
    make_stand: MakeStand, make_tls: MakeTLS
) -> None:
    stand, one = shared_stand(make_stand), make_tls("one")
    with running(stand.daemon()) as daemon:
        for _ in range(2):
            stand.write("one.yaml", *app("one", SHARED, [one.address.ip]))
            await_passed(stand, "any.example", "one")
            converged(daemon)
            stand.write("one.yaml", *host_claim(one, "one.example"))
            await_passed(stand, "any.example", "")
            await_passed(stand, "one.example", "one")
            converged(daemon)
        # A host that the API server made up is nobody's wish.
        route, *rest = host_claim(one, "one.example")
        route["metadata"]["annotations"]["openshift.io/host.generated"] = "true"
        stand.write("one.yaml", route, *rest)
        await_passed(stand, "any.example", "one")


def test_a_host_of_the_port_belongs_to_one_namespace(
    make_stand: MakeStand, make_tls: MakeTLS
) -> None:
    stand = shared_stand(make_stand)
    old, young = make_tls("old"), make_tls("young")
    stand.write("young.yaml", *host_claim(young, "a.example", age=2, namespace="y"))
    # The same host on another port is another's to have.
    stand.write("beside.yaml", *host_claim(make_tls("beside"), "a.example", port=BESIDE, age=3))
    with running(stand.daemon()) as daemon:
        await_passed(stand, "a.example", "young")
        await_passed(stand, "a.example", "beside", BESIDE)
        stand.write("old.yaml", *host_claim(old, "a.example", age=1, namespace="o"))
        await_passed(stand, "a.example", "old")
        (said,) = (item for item in daemon._routing.verdicts() if item.route.name == "young")
        assert (said.reason, said.port) == (Reason.HOST_ALREADY_CLAIMED, SHARED)
        assert "o/" not in said.message
        stand.remove("old.yaml")
        await_passed(stand, "a.example", "young")
        assert passed(stand, "a.example", BESIDE) == "beside"


def test_a_restarted_sidecar_changes_nothing(
    make_stand: MakeStand, make_tls: MakeTLS, make_server: MakeServer
) -> None:
    stand = shared_stand(make_stand)
    servers = [make_tls(name) for name in ("one", "two", "three")]
    for server in servers:
        stand.write(f"{server.name}.yaml", *host_claim(server, f"{server.name}.example"))
    stand.write("whole.yaml", *app("whole", BESIDE, [make_server("whole")]))
    with running(stand.daemon()) as daemon:
        await_passed(stand, "three.example", "three")
        stand.remove("one.yaml")
        await_passed(stand, "one.example", "")
        converged(daemon)
        first = daemon._listeners.web.classes
        await_(
            lambda: all(
                daemon.reconciler.known.is_clean(unit) is not False or daemon._routing.owners(unit)
                for unit in first
            ),
            "what it left is tidied",
        )
        converged(daemon)
    before = entries(stand)
    assert len(before) == 2
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert entries(stand) == before
        assert daemon.reconciler.history.total == 0
        assert [passed(stand, f"{server.name}.example") for server in servers] == [
            "",
            "two",
            "three",
        ]


def test_haproxy_restarts_alone(make_stand: MakeStand, make_tls: MakeTLS) -> None:
    stand, one = shared_stand(make_stand), make_tls("one")
    stand.write("one.yaml", *host_claim(one, "one.example"))
    with running(stand.daemon()) as daemon:
        await_passed(stand, "one.example", "one")
        converged(daemon)
        saved = stand.settings.haproxy.state_file.parent / "maps" / "ports.map"
        await_(lambda: "one.example" in saved.read_text(), "the map is saved")
    stand.stop_haproxy()
    stand.start_haproxy()
    assert passed(stand, "one.example") == "one"
    assert passed(stand, "one.example", BESIDE) == ""


def test_a_name_at_a_listener_is_no_shared_ports(
    make_stand: MakeStand, make_tls: MakeTLS, make_server: MakeServer
) -> None:
    pools = [{"ports": [str(SHARED)], "slots": 3, "shared_by_sni": True}]
    web = WebStand.make(make_stand, {"pools": pools})
    stand, port_side, listener_side = web.stand, make_tls("port"), make_server("listener")
    stand.write("port.yaml", *host_claim(port_side, "a.example"))
    stand.write(
        "web.yaml", *host_app("web", "a.example", [listener_side], termination="passthrough")
    )
    with running(stand.daemon()) as daemon:
        await_passed(stand, "a.example", "port")
        await_(lambda: web.passed_to("a.example") == "listener", "the listener serves it")
        converged(daemon)
        assert len(entries(stand)) == 1
        for name in (f"{SHARED}/a.example", f"{SHARED}/b.example"):
            # Python's ssl takes no such names; this one has the same length.
            hello = client_hello("x" * len(name)).replace(b"x" * len(name), name.encode())
            assert name.encode() in hello
            assert is_tls(sent(web.tls, hello)), "HAProxy answers itself"


def test_without_listeners_only_routes_with_a_port_are_ours(
    make_stand: MakeStand, make_tls: MakeTLS, make_server: MakeServer
) -> None:
    stand, one = shared_stand(make_stand), make_tls("one")
    stand.write("one.yaml", *host_claim(one, "one.example"))
    web = host_app("web", "web.example", [make_server("web")], termination="passthrough")
    stand.write("web.yaml", *web, *host_app("http", "http.example", []))
    with running(stand.daemon()) as daemon:
        await_passed(stand, "one.example", "one")
        assert reasons(daemon) == {"one": Reason.ADMITTED}


def test_what_is_left_over_waits_for_a_backend(make_stand: MakeStand, make_tls: MakeTLS) -> None:
    stand = shared_stand(make_stand, backends={"passthrough": 1})
    one, two = make_tls("one"), make_tls("two")
    stand.write("one.yaml", *host_claim(one, "one.example", age=1))
    stand.write("two.yaml", *host_claim(two, "two.example", age=2))
    with running(stand.daemon()) as daemon:
        await_passed(stand, "one.example", "one")
        await_(lambda: reasons(daemon)["two"] == Reason.POOL_EXHAUSTED, "no backend is left")
        assert passed(stand, "two.example") == ""
        stand.remove("one.yaml")
        await_passed(stand, "two.example", "two")


def test_ports_that_are_not_shared_are_configured_as_ever(make_stand: MakeStand) -> None:
    def cfg(shared: bool) -> str:
        pools = [{"ports": ["30000-30001"]}, {"ports": ["31000"], "shared_by_sni": shared}]
        stand = make_stand(start=False, pools=pools)
        text = haproxy_cfg(stand.settings).replace(str(stand.folder), "")
        _, start, rest = text.partition("# Pool p0:")
        return start + rest.partition("# Pool p1:")[0]

    with_ip = [cfg(shared) for shared in (False, True)]
    plain, beside = ([line for line in text.splitlines() if "bind" not in line] for text in with_ip)
    assert plain == beside


def test_an_echo_server_of_the_whole_port_is_greeted_by(make_stand: MakeStand) -> None:
    """No ClientHello is waited for, however long it would be."""
    stand = shared_stand(make_stand, timeouts={"inspect": "1h"})
    server = EchoServer("first")
    with contextlib.closing(server):
        stand.write("whole.yaml", *app("whole", SHARED, [server]))
        with running(stand.daemon()):
            await_leads_to(stand, SHARED, server)


def test_sessions_and_kick_mean_all_who_share_the_port(
    make_stand: MakeStand, make_tls: MakeTLS, files: contextlib.ExitStack
) -> None:
    stand = shared_stand(make_stand)
    servers = [make_tls(name) for name in ("one", "two")]
    for server in servers:
        stand.write(f"{server.name}.yaml", *host_claim(server, f"{server.name}.example"))
    with running(stand.daemon()) as daemon:
        for server in servers:
            await_passed(stand, f"{server.name}.example", server.name)
        converged(daemon)
        await_(lambda: not sessions_of(stand), "those of the clients above are over")
        for server in servers:
            client = files.enter_context(socket.create_connection((stand.ip, SHARED), 5))
            client.sendall(client_hello(f"{server.name}.example"))
            assert client.recv(1)
        found = sessions_of(stand)
        slots = {item["address"].partition(":")[0]: item["slot"] for item in found}
        assert slots.keys() == {server.address.ip for server in servers}
        one = slots[servers[0].address.ip]
        assert one.startswith("be_pass_")
        assert one.endswith("/s1")
        settings = ("-c", str(stand.settings_file), "--yes")
        assert run_cli("kick", str(SHARED), "--server", one, *settings).code == 0
        await_(lambda: len(sessions_of(stand)) == 1, "one is over")
        named = run_cli("kick", "demo/two", *settings)
        assert named.code != 0
        assert f"shares port {SHARED} by SNI" in named.err
        assert run_cli("kick", str(SHARED), *settings).code == 0
        await_(lambda: not sessions_of(stand), "all are over")


def sessions_of(stand: Stand) -> list[dict[str, Any]]:
    done = run_cli("sessions", str(SHARED), "--json", "-c", str(stand.settings_file))
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)["sessions"]
    return found


def test_nobody_gets_to_anothers_server_while_the_port_changes_over(
    make_stand: MakeStand, make_tls: MakeTLS
) -> None:
    stand = shared_stand(make_stand)
    one, two, whole = make_tls("one"), make_tls("two"), make_tls("whole")
    stand.write("one.yaml", *host_claim(one, "one.example", age=5))
    stand.write("two.yaml", *host_claim(two, "two.example", age=6))
    over, got = threading.Event(), {"one": Counter[str](), "two": Counter[str]()}

    def ask(name: str) -> None:
        while not over.is_set():
            got[name][passed(stand, f"{name}.example")] += 1

    with running(stand.daemon()):
        await_passed(stand, "two.example", "two")
        clients = [threading.Thread(target=ask, args=(name,)) for name in got]
        for client in clients:
            client.start()
        try:
            for _ in range(10):
                claim = app("whole", SHARED, [whole.address.ip], created=minute(1))
                stand.write("whole.yaml", *claim)
                await_passed(stand, "any.example", "whole")
                stand.remove("whole.yaml")
                await_passed(stand, "one.example", "one")
        finally:
            over.set()
            for client in clients:
                client.join()
    for name, counts in got.items():
        # Nobody, while the port changes over; or who has all of it.
        assert counts.keys() <= {name, "whole", ""}
        assert counts[name] > 10
        assert counts["whole"] > 10


def test_a_probe_of_a_shared_port_asks_for_nobody(make_stand: MakeStand, make_tls: MakeTLS) -> None:
    stand, one = shared_stand(make_stand), make_tls("one")
    stand.write("one.yaml", *host_claim(one, "one.example"))
    with running(stand.daemon()):
        await_passed(stand, "one.example", "one")
        done = run_cli("why", str(SHARED), "--probe", "-c", str(stand.settings_file))
        assert done.code == 0, done.out
        assert "no name was asked for" in done.out
        done = run_cli("why", "demo/one", "--probe", "-c", str(stand.settings_file))
        assert f"one.example at {stand.ip}:{SHARED}: certificate " in done.out


def test_a_shared_port_has_its_pools_limit(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """On HAProxy 2.6 too, which skips rules of defaults where a frontend has none of that kind."""
    pools = [{"ports": [str(SHARED)], "slots": 1, "shared_by_sni": True, "maxconn": 2}]
    stand, server = make_stand(pools=pools), make_server()
    stand.write("web.yaml", *app("web", SHARED, [server]))
    with running(stand.daemon()) as daemon:
        await_leads_to(stand, SHARED, server)
        converged(daemon)

        def room() -> bool:
            """HAProxy has noticed that the client before is gone."""
            rows = stand.client.ask(f"show stat tcp-{SHARED} 1 -1").splitlines()
            return rows[1].split(",")[4] == "0"

        await_(room, "nobody is connected")
        for _ in range(2):
            held(files, stand, SHARED)
        with pytest.raises(OSError):  # noqa: PT011  in which way is HAProxy's
            stand.connect(SHARED)
