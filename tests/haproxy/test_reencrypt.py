"""Routes whose servers speak TLS: by which CAs and name they are verified, as these change."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from by_host import Asking, NamedServer, WebStand, answer, host_app
from handshake import shake_hands
from pki import CA, Issued
from stand import MakeStand, await_, converged, running

from sidecar.cli.render import write_files
from sidecar.haproxy.certificates import Commit, Set
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.web_files import WebFiles
from sidecar.model.verdicts import Verdict

MakeTLS = Callable[..., NamedServer]

ONE, TWO = CA.root("one"), CA.root("two")
HOST = "a.example"


@pytest.fixture
def secured(files: contextlib.ExitStack) -> MakeTLS:
    """``secured(name, issued)``: a server that speaks TLS; in clear without ``issued``."""

    def make(name: str, issued: Issued | None, ip: str | None = None, **rest: Any) -> NamedServer:
        server = NamedServer(name, ip, issued=issued, **rest)
        files.callback(server.close)
        return server

    return make


def app(name: str, host: str, servers: list[NamedServer], ca: CA | None, **rest: Any) -> Any:
    tls = {"destinationCACertificate": ca.pem} if ca else {}
    return host_app(name, host, servers, termination="reencrypt", tls=tls, **rest)


def files_of(web: WebStand) -> WebFiles:
    return WebFiles.beside(web.stand.settings.haproxy.state_file)


def verdict_of(daemon: Any, name: str) -> Verdict:
    (found,) = (item for item in daemon._routing.verdicts() if item.route.name == name)
    assert isinstance(found, Verdict)
    return found


def test_servers_are_verified_by_the_routes_own_ca(make_stand: MakeStand, secured: MakeTLS) -> None:
    web = WebStand.make(make_stand)
    good, other = secured("good", ONE.leaf("x.test")), secured("other", TWO.leaf("y.test"))
    web.stand.write(
        "web.yaml",
        *app("good", HOST, [good], ONE),
        *app("wrong", "wrong.example", [other], ONE),
        *app("clear", "clear.example", [secured("clear", None)], ONE),
        *host_app("edge", "edge.example", [secured("edge", None)], termination="edge"),
    )
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "good", "it is served")
        converged(daemon)
        assert web.ended("wrong.example") == "503"
        assert web.ended("clear.example") == "503"
        assert web.ended("edge.example") == "edge"
        assert web.ended(HOST) == "good"
        # In clear nobody is, and any name is good: no SNI is sent.
        assert web.served(HOST) == "503"
        assert set(good.names) == {None}
        assert other.heads == []
        total = daemon.reconciler.history.total
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0 < total
        assert web.ended(HOST) == "good"


def test_servers_are_spoken_to_in_http_2_where_they_have_it(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    web = WebStand.make(make_stand, backends={"http": 1, "reencrypt": 1, "passthrough": 1})
    issued = ONE.leaf("x.test")
    one, two = (secured(name, issued, alpn=["h2", "http/1.1"]) for name in ("one", "two"))
    old = secured("old", issued, alpn=["http/1.1"])
    web.stand.write("web.yaml", *app("web", HOST, [one], ONE))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "one", "it is served")
        assert set(one.protos) == {"h2"}
        for servers in ([two, one], [old], [one]) * 3:
            with Asking(web, HOST) as asking:
                web.stand.write("web.yaml", *app("web", HOST, servers, ONE))
                names = {server.name for server in servers}
                await_(
                    lambda: set(asking.answers[-4:]) == names,  # noqa: B023
                    f"{names} answer",
                )
            assert set(asking.answers) <= {"one", "two", "old"}
            converged(daemon)
        assert {*one.protos, *two.protos} == {"h2"}
        assert set(old.protos) == {"h1"}
        # A WebSocket asks for HTTP/1.1.
        head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade"
        with shake_hands(web.tls, HOST) as connection:
            connection.sendall(
                f"{head}\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            await_(lambda: one.heads, "it is passed on in HTTP/1.1")
        assert "upgrade: websocket" in one.heads[-1].lower()
        # The backend is the next Route's.
        web.stand.write("web.yaml", *app("other", "b.example", [two], ONE))
        await_(lambda: web.ended("b.example") == "two", "it is the other's")
        assert {web.ended("b.example") for _ in range(20)} == {"two"}


def test_haproxy_restarts_alone_with_the_cas_that_it_had(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    web = WebStand.make(make_stand)
    server = secured("web", ONE.leaf("x.test"))
    file = files_of(web).authority(web_backend_name("reencrypt", 1))
    nobody = file.read_text()
    web.stand.write("web.yaml", *app("web", HOST, [server], ONE))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        await_(lambda: file.read_text() == ONE.pem, "the CA is saved")
        assert file.stat().st_mode & 0o777 == 0o644
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert web.ended(HOST) == "web"
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        # A HAProxy that starts has all ports open.
        done = [entry.command for entry in daemon.reconciler.history.entries()]
        assert [line for line in done if not line.startswith("disable frontend tcp-")] == []
        web.stand.write("web.yaml")
        await_(lambda: web.ended(HOST) == "503", "the Route is gone")
        await_(lambda: file.read_text() == nobody, "and whom it trusted")


def test_a_ca_changes_under_requests(make_stand: MakeStand, secured: MakeTLS) -> None:
    """As with a CA that is renewed: for a while both are trusted."""
    web = WebStand.make(make_stand, backends={"http": 1, "reencrypt": 5, "passthrough": 1})
    server = secured("web", ONE.leaf("x.test"))
    both = CA.root("other")
    renewed = {"destinationCACertificate": ONE.pem + both.pem}

    def written(tls: dict[str, str]) -> None:
        own = host_app("web", HOST, [server], termination="reencrypt", tls=tls)
        web.stand.write("web.yaml", *own)

    def backends(daemon: Any) -> set[str]:
        return set(daemon._routing.by_host)

    written({"destinationCACertificate": ONE.pem})
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        with Asking(web, HOST) as asking:
            for tls in (renewed, {"destinationCACertificate": ONE.pem}, renewed):
                before = backends(daemon)
                written(tls)
                await_(lambda before=before: backends(daemon) != before, "it has another backend")
                converged(daemon)
        assert set(asking.answers) == {"web"}


@pytest.mark.parametrize("backends", [1, 3])
def test_no_request_is_served_by_who_is_not_trusted_any_more(
    make_stand: MakeStand, secured: MakeTLS, backends: int
) -> None:
    """Connections to servers are kept for further requests, whatever CA they were made with; with
    one backend it changes where it is, and with more another one is taken."""
    web = WebStand.make(make_stand, backends={"http": 1, "reencrypt": backends, "passthrough": 1})
    server = secured("web", ONE.leaf("x.test"))
    web.stand.write("web.yaml", *app("web", HOST, [server], ONE))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        for _ in range(5):
            assert web.ended(HOST) == "web"
        with Asking(web, HOST):
            web.stand.write("web.yaml", *app("web", HOST, [server], TWO))
            await_(lambda: answer(web, HOST) == "503", "it is not trusted")
            converged(daemon)
            asked = len(server.heads)
            assert [web.ended(HOST) for _ in range(3)] == ["503"] * 3
        assert len(server.heads) == asked
        web.stand.write("web.yaml", *app("web", HOST, [server], ONE))
        await_(lambda: answer(web, HOST) == "web", "it is trusted again")
        converged(daemon)


def test_what_others_change_is_put_right_and_their_connections_end(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    web = WebStand.make(make_stand)
    server = secured("web", ONE.leaf("x.test"))
    file = files_of(web).authority(web_backend_name("reencrypt", 1))
    web.stand.write("web.yaml", *app("web", HOST, [server], TWO))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: daemon._routing.by_host, "it has a backend")
        converged(daemon)
        assert web.ended(HOST) == "503"
        client = web.stand.client
        payload = ONE.pem.rstrip("\n")
        _change(client, str(file), payload)
        await_(lambda: answer(web, HOST) == "503", "it is put right")
        converged(daemon)
        asked = len(server.heads)
        assert web.ended(HOST) == "503"
        assert len(server.heads) == asked


def _change(client: Any, file: str, pem: str) -> None:
    outcomes = client.apply([Set("ca-file", file, pem.encode()), Commit("ca-file", file)])
    assert all(isinstance(item, str) for item in outcomes), outcomes


def test_what_another_client_left_open_is_not_in_the_way(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    web = WebStand.make(make_stand)
    server = secured("web", ONE.leaf("x.test"))
    file = str(files_of(web).authority(web_backend_name("reencrypt", 3)))
    web.stand.client.apply([Set("ca-file", file, TWO.pem.rstrip("\n").encode())])
    web.stand.write("web.yaml", *app("web", HOST, [server], ONE))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)


@pytest.fixture
def service_ca(tmp_path: Path) -> Path:
    path = tmp_path / "service-ca.crt"
    path.write_text(ONE.pem)
    return path


def test_servers_are_verified_by_the_name_of_their_service(
    make_stand: MakeStand, secured: MakeTLS, service_ca: Path
) -> None:
    web = WebStand.make(make_stand, service_ca=str(service_ca))
    right = secured("right", ONE.leaf("right.demo.svc", "right.demo.svc.cluster.local"))
    wrong = secured("wrong", ONE.leaf("right.demo.svc"))
    own = secured("own", TWO.leaf("any.test"))
    web.stand.write(
        "web.yaml",
        *app("right", HOST, [right], None),
        *app("wrong", "wrong.example", [wrong], None),
        *app("own", "own.example", [own], TWO),
    )
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "right", "it is served")
        await_(lambda: web.ended("own.example") == "own", "by its own CA, too")
        converged(daemon)
        assert web.ended("wrong.example") == "503"
        assert set(right.names) == {"right.demo.svc"}
        assert (set(own.names), wrong.heads) == ({None}, [])
        # With a CA of its own it need not have the name.
        web.stand.write("web.yaml", *app("wrong", "wrong.example", [wrong], ONE))
        await_(lambda: web.ended("wrong.example") == "wrong", "any name is good")
        converged(daemon)
        maps = files_of(web).server_names_map
        await_(lambda: set(maps.read_text().split()[1::2]) == {"*"}, "no name is left")


def test_a_route_without_a_ca_is_refused(make_stand: MakeStand, secured: MakeTLS) -> None:
    web = WebStand.make(make_stand)
    server = secured("web", ONE.leaf("web.demo.svc"))
    web.stand.write("web.yaml", *app("web", HOST, [server], None))
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        await_(daemon._routing.verdicts, "it is judged")
        verdict = verdict_of(daemon, "web")
        assert verdict.reason == "ExtendedValidationFailed"
        assert "destinationCACertificate" in verdict.message
        assert "web.service_ca" in verdict.message
        web.stand.write("web.yaml", *app("web", HOST, [server], ONE))
        await_(lambda: web.ended(HOST) == "web", "it is served")


def test_a_backend_is_another_routes_with_its_ca_only(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    """One backend for two Routes in turn, of which each has servers that the other would not
    trust."""
    web = WebStand.make(make_stand, backends={"http": 1, "reencrypt": 1, "passthrough": 1})
    one, two = secured("one", ONE.leaf("x.test")), secured("two", TWO.leaf("x.test"))
    with running(web.stand.daemon()) as daemon, contextlib.ExitStack() as stack:
        asking = stack.enter_context(Asking(web, "one.example"))
        for _ in range(2):
            web.stand.write("web.yaml", *app("one", "one.example", [one], ONE))
            await_(lambda: web.ended("one.example") == "one", "the first has it")
            web.stand.write("web.yaml", *app("two", "two.example", [two], TWO))
            await_(lambda: web.ended("two.example") == "two", "the second has it")
        converged(daemon)
    assert set(asking.answers) <= {"one", "503"}


def test_more_servers_than_slots_are_verified_alike(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    web = WebStand.make(make_stand, slots=1)
    good = [secured(f"good{number}", ONE.leaf("x.test")) for number in range(3)]
    web.stand.write("web.yaml", *app("web", HOST, good, ONE))
    with running(web.stand.daemon()) as daemon:
        names = {server.name for server in good}
        await_(lambda: {web.ended(HOST) for _ in range(6)} == names, "all serve")
        converged(daemon)
        web.stand.write("web.yaml", *app("web", HOST, good, TWO))
        await_(lambda: answer(web, HOST) == "503", "none is trusted")
        converged(daemon)
        assert {web.ended(HOST) for _ in range(3)} == {"503"}


def test_a_bad_file_of_a_ca_does_not_stop_haproxy(make_stand: MakeStand) -> None:
    web = WebStand.make(make_stand)
    files = files_of(web)
    web.stand.stop_haproxy()
    bad = [files.authority(web_backend_name("reencrypt", number)) for number in (1, 2)]
    bad[0].write_text("garbage")
    bad[1].unlink()
    write_files(web.stand.settings, web.stand.settings.haproxy.config)
    assert {path.read_text() for path in bad} == {files.no_authority.read_text()}
    web.stand.start_haproxy()


def test_a_ca_that_cannot_be_given_to_haproxy_is_refused(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    """Its name would end HAProxy's reply, were it shown."""
    bad = CA.root("x\n> y")
    web = WebStand.make(make_stand)
    web.stand.write(
        "web.yaml",
        *app("bad", "bad.example", [secured("bad", bad.leaf("x.test"))], bad),
        *app("good", HOST, [secured("good", ONE.leaf("x.test"))], ONE),
    )
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "good", "the other one is served")
        verdict = verdict_of(daemon, "bad")
        assert verdict.reason == "ExtendedValidationFailed"
        assert "destinationCACertificate" in verdict.message
        assert web.ended("bad.example") == "503"
        converged(daemon)


def test_while_others_change_cas_nobody_else_notices(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    """HAProxy has one transaction: with another client's in the way, none of ours can begin."""
    web = WebStand.make(make_stand)
    other = str(files_of(web).authority(web_backend_name("reencrypt", 3)))
    stop = threading.Event()

    def meddle() -> None:
        with contextlib.closing(RuntimeClient(web.stand.settings.haproxy.socket, 5.0)) as client:
            while not stop.is_set():
                client.apply([Set("ca-file", other, TWO.pem.rstrip("\n").encode())])

    thread = threading.Thread(target=meddle, daemon=True)
    thread.start()
    web.stand.write(
        "web.yaml",
        *app("web", HOST, [secured("web", ONE.leaf("x.test"))], ONE),
        *host_app("edge", "edge.example", [secured("edge", None)], termination="edge"),
    )
    with running(web.stand.daemon()) as daemon:
        try:
            await_(lambda: web.ended("edge.example") == "edge", "the other one is served")
        finally:
            stop.set()
            thread.join(10)
        await_(lambda: web.ended(HOST) == "web", "it is served, once it can be")
        converged(daemon)


def test_no_server_gets_a_request_before_it_is_known_which_name_it_must_have(
    make_stand: MakeStand, secured: MakeTLS
) -> None:
    """Whatever becomes of the map that says so."""
    web = WebStand.make(make_stand)
    server = secured("web", ONE.leaf("x.test"))
    web.stand.write("web.yaml", *app("web", HOST, [server], ONE))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
    unit = web_backend_name("reencrypt", 1)
    web.stand.client.ask(f"del map {files_of(web).server_names_map} {unit}")
    assert web.ended(HOST) == "503"
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is repaired")
