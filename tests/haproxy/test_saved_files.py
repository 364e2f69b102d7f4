"""What HAProxy starts from: in which order it is saved, so that HAProxy may restart at any moment,
and what a process leaves that is killed while it saves.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from by_host import MakeNamed, NamedServer, WebStand, host_app
from pki import CA
from stand import MakeStand, await_, await_told, converged, running
from test_route_certificates import asked, await_shown, fingerprint, tls_of

from sidecar.cli.render import write_files
from sidecar.haproxy.naming import own_backend, web_backend_name
from sidecar.haproxy.web_files import WebFiles

SERVICES = CA.root("services")
HOST = "a.example"
UNIT = web_backend_name("reencrypt", 1)


@pytest.fixture
def web(make_stand: MakeStand, tmp_path: Path) -> WebStand:
    """Its Routes' servers are trusted by the name of their Service."""
    file = tmp_path / "service.crt"
    file.write_text(SERVICES.pem)
    return WebStand.make(make_stand, service_ca=str(file))


@pytest.fixture
def server(files: contextlib.ExitStack) -> NamedServer:
    """One of another Service."""
    made = NamedServer("wrong", issued=SERVICES.leaf("another.other.svc"))
    files.callback(made.close)
    return made


def files_of(web: WebStand) -> WebFiles:
    return WebFiles.beside(web.stand.settings.haproxy.state_file)


@contextlib.contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """It cannot be replaced; then it is as before."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.mkdir()
    yield
    path.rmdir()
    aside.rename(path)


def test_no_entry_is_saved_without_what_guards_it(
    web: WebStand, server: NamedServer, caplog: pytest.LogCaptureFixture
) -> None:
    maps = files_of(web)
    web.stand.write("web.yaml", *host_app("a", HOST, [server], termination="reencrypt"))
    with unwritable(maps.server_names_map), running(web.stand.daemon()) as daemon:
        converged(daemon)
        await_told(caplog, f"cannot write {maps.server_names_map}")
        assert web.ended(HOST) == "503"
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert web.ended(HOST) == "503", "nobody verified its name"
    with running(web.stand.daemon()):
        await_(maps.server_names_map.read_text, "it is saved")
        await_(lambda: HOST in maps.hosts_map.read_text(), "so is the entry")


def test_the_state_file_has_what_haproxy_has(web: WebStand, named: MakeNamed) -> None:
    """It is made of what was read back, and HAProxy is not asked for it."""
    file = web.stand.settings.haproxy.state_file
    servers = [named(name) for name in ("one", "two")]

    def rows(text: str) -> set[tuple[str, ...]]:
        """Of our backends, without the times since changes, and what only HAProxy counts."""
        lines = (line.split(" ") for line in text.splitlines()[2:] if line)
        return {(*row[:7], row[18]) for row in lines if own_backend(row[1])}

    with running(web.stand.daemon()) as daemon:
        for number in range(6):
            apps = [host_app(f"r{n}", f"r{n}.example", servers[: 1 + n % 2]) for n in range(number)]
            web.stand.write("web.yaml", *(item for app in apps for item in app))
            converged(daemon)
            await_(
                lambda: rows(file.read_text()) == rows(web.stand.client.ask("show servers state")),
                "it is saved",
            )


def test_what_guards_an_entry_stays_saved_as_long_as_it(
    web: WebStand, server: NamedServer, caplog: pytest.LogCaptureFixture
) -> None:
    maps = files_of(web)
    web.stand.write("web.yaml", *host_app("a", HOST, [server], termination="reencrypt"))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: HOST in maps.hosts_map.read_text(), "it is saved")
        with unwritable(maps.hosts_map):
            web.stand.remove("web.yaml")
            await_told(caplog, f"cannot write {maps.hosts_map}")
            assert UNIT in maps.server_names_map.read_text()
        await_(lambda: maps.hosts_map.read_text() == "", "the entry is gone")
        await_(lambda: maps.server_names_map.read_text() == "", "then its guard")
        converged(daemon)


def test_a_certificate_goes_after_the_saved_entries_of_its_host(
    web: WebStand, named: MakeNamed, caplog: pytest.LogCaptureFixture
) -> None:
    maps, issued = files_of(web), SERVICES.leaf(HOST)
    route = host_app("a", HOST, [named("web")], termination="edge", tls=tls_of(issued))
    web.stand.write("web.yaml", *route)
    with contextlib.ExitStack() as afterwards, running(web.stand.daemon()) as daemon:
        await_(lambda: HOST in maps.hosts_map.read_text(), "it is saved")
        await_shown(web, HOST, issued)
        afterwards.enter_context(unwritable(maps.hosts_map))
        web.stand.remove("web.yaml")
        await_(lambda: web.ended(HOST) == "503", "it leads nowhere")
        await_told(caplog, f"cannot write {maps.hosts_map}")
        for _ in range(2):
            seen, known = daemon.reconciler.known.observed[UNIT], daemon.reconciler.known
            await_(
                lambda known=known, seen=seen: known.observed[UNIT] is not seen,
                "HAProxy was compared again",
            )
        assert HOST in maps.certificate_list.read_text()
    # As its entry is there still, clients are shown the certificate with whatever is answered.
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert asked(web, HOST).fingerprint == fingerprint(issued)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: HOST not in maps.certificate_list.read_text(), "it is gone")
        assert HOST not in maps.hosts_map.read_text()
        converged(daemon)


def test_what_was_left_half_written_goes_at_the_next_start(
    web: WebStand, server: NamedServer
) -> None:
    """It may be a private key."""
    files = files_of(web)
    rendered = [files.client_certificate, files.no_authority]
    driven = [files.authority(UNIT), files.default_certificate, files.certificate_list]

    def left(path: Path) -> Path:
        partial = path.with_name(f".{path.name}.abc_1234")
        partial.write_text("-----BEGIN PRIVATE KEY-----")
        return partial

    leftovers = [left(path) for path in rendered]
    write_files(web.stand.settings, web.stand.settings.haproxy.config)
    assert not any(path.exists() for path in leftovers)
    leftovers = [left(path) for path in driven]
    web.stand.write("web.yaml", *host_app("a", HOST, [server], termination="reencrypt"))
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: not any(path.exists() for path in leftovers), "they are gone")
