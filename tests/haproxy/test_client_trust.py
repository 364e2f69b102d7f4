"""CAs and revocation lists of clients, changed while HAProxy runs: who is let in, and when."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from by_host import MakeNamed, WebStand
from cli import run_cli
from mutual import REFUSED, MutualClient
from pki import CA, Issued
from stand import MakeStand, await_, await_told, converged, running
from test_client_certificates import HOST, ROOT, Clients, served
from test_default_certificate import put
from test_route_certificates import asked, fingerprint

from sidecar.cli.render import write_files
from sidecar.haproxy.certificates import Set
from sidecar.haproxy.pem import Pem
from sidecar.haproxy.process import answering
from sidecar.haproxy.web_files import WebFiles


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients.make(tmp_path)


@pytest.fixture
def web(make_stand: MakeStand, named: MakeNamed, clients: Clients) -> WebStand:
    made = WebStand.make(make_stand, client_certificates=clients.settings("required"))
    served(made, named("a"), named("b"))
    return made


def answer(web: WebStand, issued: Issued | None) -> str:
    return MutualClient(web.tls, issued).ask(HOST)


def await_answer(web: WebStand, issued: Issued | None, wanted: str) -> None:
    await_(lambda: answer(web, issued) == wanted, f"it is {wanted}")


@contextlib.contextmanager
def asking(web: WebStand, issued: Issued) -> Iterator[list[str]]:
    """Over and over; what was answered."""
    answers: list[str] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                answers.append(answer(web, issued))
            except OSError as exc:
                answers.append(repr(exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        await_(lambda: answers, "the first answer")
        yield answers
    finally:
        stop.set()
        thread.join(20)


def saved(web: WebStand) -> tuple[str, str]:
    files = WebFiles.beside(web.stand.settings.haproxy.state_file)
    return files.client_authorities.read_text(), files.client_revocations.read_text()


def replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_who_is_revoked_is_refused_at_once_and_nobody_else(web: WebStand, clients: Clients) -> None:
    victim = clients.ca.leaf("victim.test")
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        pid = web.stand.info().pid
        remembers = MutualClient(web.tls, victim)
        assert remembers.ask(HOST) == "a"
        with asking(web, clients.good) as answers:
            for _ in range(3):
                replace(clients.crl_file, clients.ca.revocations(victim))
                await_answer(web, victim, REFUSED)
                assert remembers.ask(HOST) == REFUSED
                replace(clients.crl_file, clients.ca.revocations(clients.revoked))
                await_answer(web, victim, "a")
        assert set(answers) == {"a"}
        assert answer(web, clients.revoked) == REFUSED
        assert web.stand.info().pid == pid
        await_(lambda: saved(web)[1] == clients.crl_file.read_text(), "it is saved")
        assert not daemon.view.facts().problems


def test_certificates_of_hosts_are_served_as_before(web: WebStand, clients: Clients) -> None:
    """Before 3.2 HAProxy shows them as unused after such a change."""
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        replace(clients.crl_file, clients.ca.revocations(clients.ca.leaf("victim.test")))
        await_(lambda: saved(web)[1] == clients.crl_file.read_text(), "it is in effect")
        looks = daemon._certificates.seconds
        await_(lambda: daemon._certificates.seconds > looks, "a full look later")
        converged(daemon)
        assert not daemon.view.facts().problems
        assert daemon.view.readyz().text == ""
        for certificate in daemon._routing.web.certificates.wanted:
            assert certificate in daemon._routing.web.certificates._shown.served


def test_cas_come_and_go(web: WebStand, clients: Clients) -> None:
    """Each with its list, which HAProxy gets first."""
    second = CA.root("second")
    newcomer = second.leaf("newcomer.test")
    lists = clients.ca.revocations(clients.revoked), second.revocations()
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        pid = web.stand.info().pid
        assert answer(web, newcomer) == REFUSED
        with asking(web, clients.good) as answers:
            replace(clients.crl_file, "".join(lists))
            replace(clients.ca_file, clients.ca.pem + second.pem)
            await_answer(web, newcomer, "a")
            replace(clients.ca_file, clients.ca.pem)
            await_answer(web, newcomer, REFUSED)
        assert set(answers) == {"a"}
        # Only the other one, with a list that looks as the former one does but for its issuer.
        empty, other = clients.ca.revocations(), second.revocations()
        replace(clients.crl_file, empty)
        await_(lambda: saved(web)[1] == empty, "it is saved")
        replace(clients.ca_file, second.pem)
        replace(clients.crl_file, other)
        await_answer(web, newcomer, "a")
        assert answer(web, clients.good) == REFUSED
        assert web.stand.info().pid == pid


def test_a_bad_file_changes_nothing_but_a_message(
    web: WebStand, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    key = clients.good.key_pem
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        for file, name in ((clients.ca_file, "ca"), (clients.crl_file, "crl")):
            before = file.read_text()
            for bad in (key, "", before[:-30]):
                replace(file, bad)
                await_told(caplog, f"web.client_certificates.{name}: {file}: ")
                await_(lambda: daemon.view.facts().problems, "the problem is known")
                assert answer(web, clients.good) == "a"
                assert answer(web, clients.unknown) == REFUSED
                assert answer(web, clients.revoked) == REFUSED
                converged(daemon)
                assert "; the former one is in effect" in daemon.view.readyz().text
                replace(file, before)
                await_(lambda: not daemon.view.facts().problems, "the problem is over")
                caplog.clear()
    assert key.splitlines()[1] not in caplog.text


def test_a_haproxy_that_restarts_alone_has_the_last_good_ones(
    web: WebStand, clients: Clients
) -> None:
    second, victim = CA.root("second"), clients.ca.leaf("victim.test")
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        replace(clients.crl_file, clients.ca.revocations(victim) + second.revocations())
        replace(clients.ca_file, clients.ca.pem + second.pem)
        await_answer(web, second.leaf("x.test"), "a")
        await_answer(web, victim, REFUSED)
        wanted = clients.ca_file.read_text(), clients.crl_file.read_text()
        await_(lambda: saved(web) == wanted, "it is saved")
        clients.crl_file.write_text("")
        clients.ca_file.write_text("")
        await_(lambda: len(daemon.view.facts().problems) == 2, "the problems are known")
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert answer(web, second.leaf("x.test")) == "a"
    assert answer(web, victim) == REFUSED
    # A sidecar that comes then finds what the files of the settings say by then.
    clients.ca_file.write_text(clients.ca.pem)
    clients.crl_file.write_text(clients.ca.revocations())
    with running(web.stand.daemon()) as daemon:
        await_answer(web, victim, "a")
        await_answer(web, second.leaf("x.test"), REFUSED)
        await_(lambda: saved(web)[0] == clients.ca.pem, "it is saved")
        # One that starts with older files, while the sidecar runs.
        files = WebFiles.beside(web.stand.settings.haproxy.state_file)
        web.stand.stop_haproxy()
        files.client_revocations.write_text(clients.ca.revocations(victim))
        web.stand.start_haproxy()
        await_answer(web, victim, "a")
        converged(daemon)


def test_what_others_change_or_leave_open_is_mended(web: WebStand, clients: Clients) -> None:
    files, others = WebFiles.beside(web.stand.settings.haproxy.state_file), CA.root("others")
    name = str(files.client_authorities)
    begin = Set("ca-file", name, Pem.of(name, others.pem.encode()).payload)
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        web.stand.client.apply([begin])
        web.stand.client.ask(f"commit ssl ca-file {name}")
        await_answer(web, clients.good, REFUSED)
        await_answer(web, clients.good, "a")
        web.stand.client.apply([begin])
        second = CA.root("second")
        replace(clients.crl_file, clients.ca.revocations() + second.revocations())
        replace(clients.ca_file, clients.ca.pem + second.pem)
        await_answer(web, second.leaf("x.test"), "a")
        assert answer(web, clients.good) == "a"


def test_plan_says_what_would_be_loaded(web: WebStand, clients: Clients) -> None:
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
    replace(clients.ca_file, clients.ca.pem + CA.root("second").pem)
    # As a sidecar has it that writes just now.
    saved = WebFiles.beside(web.stand.settings.haproxy.state_file).client_authorities
    half = saved.with_name(f".{saved.name}.abcdefg1")
    half.write_text("half")
    done = run_cli("plan", "-c", str(web.stand.settings_file))
    assert half.exists()
    assert "# web.client_certificates.ca: CN=clients; CN=second is loaded" in done.out
    assert "crl" not in done.out
    clients.crl_file.write_text("")
    done = run_cli("plan", "-c", str(web.stand.settings_file))
    assert f"problem: web.client_certificates.crl: {clients.crl_file}: no revocation" in done.err


def test_a_haproxy_of_other_settings_is_told(
    make_stand: MakeStand, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    plain = WebStand.make(make_stand)
    wanted = plain.stand.settings.web.client_certificates.model_copy(
        update={"mode": "required", "ca": clients.ca_file}
    )
    section = plain.stand.settings.web.model_copy(update={"client_certificates": wanted})
    plain.stand.settings = plain.stand.settings.model_copy(update={"web": section})
    with running(plain.stand.daemon()) as daemon:
        await_told(caplog, "render haproxy.cfg from these settings and restart HAProxy")
        converged(daemon)
        assert "web.client_certificates.ca: HAProxy has no" in daemon.view.readyz().text


def test_the_default_certificate_waits_where_haproxy_would_not_survive_it(
    make_stand: MakeStand, clients: Clients, tmp_path: Path
) -> None:
    folder, first, second = tmp_path / "tls", *(ROOT.leaf("*.example") for _ in range(2))
    put(folder, 1, first, first)
    web = WebStand.make(
        make_stand,
        client_certificates=clients.settings("optional"),
        default_certificate=str(folder),
    )
    info = answering(web.stand.settings.haproxy.socket)
    assert info
    waits = info.version_tuple < (3, 2)
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        for number in range(3):
            replace(clients.crl_file, clients.ca.revocations(clients.ca.leaf()))
            wanted = clients.crl_file.read_text()
            await_(lambda wanted=wanted: saved(web)[1] == wanted, "it is saved")
            if number == 1:
                put(folder, 2, second, second)
                if waits:
                    await_(lambda: daemon.view.facts().problems, "it is told")
                else:
                    await_(
                        lambda: asked(web, "x.example").fingerprint == fingerprint(second),
                        "it is shown",
                    )
        assert web.stand.info().pid == info.pid
        if waits:
            assert asked(web, "x.example").fingerprint == fingerprint(first)
            (problem,) = daemon.view.facts().problems
            assert problem.startswith("web.default_certificate: before 3.2 HAProxy would crash")
            write_files(web.stand.settings, web.stand.settings.haproxy.config)
            web.stand.stop_haproxy()
            web.stand.start_haproxy()
            assert asked(web, "x.example").fingerprint == fingerprint(second)
            await_(lambda: not daemon.view.facts().problems, "it is over")
