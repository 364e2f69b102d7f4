"""An entry that somebody else has put into HAProxy's crt-list, for a host of ours."""

import logging

import pytest
from by_host import MakeNamed, WebStand
from cli import one_line, run_cli
from pki import CA
from stand import MakeStand, await_, await_told, converged, running
from test_route_certificates import app, asked, fingerprint
from web import get

from sidecar.haproxy.certificates import AddListEntry, Commit, ListEntry, New, Set
from sidecar.haproxy.pem import Pem
from sidecar.haproxy.web_files import WebFiles

ROOT = CA.root()
HOST, FILE = "a.example", "/elsewhere/f.pem"


def test_it_is_said_with_what_to_do(
    make_stand: MakeStand, named: MakeNamed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    web, theirs, own = WebStand.make(make_stand), ROOT.leaf(HOST), ROOT.leaf(HOST)
    crt_list = str(WebFiles.beside(web.stand.settings.haproxy.state_file).certificate_list)
    pem = Pem.of(FILE, f"{theirs.pem}{theirs.key_pem}".encode())
    web.stand.client.apply(
        [
            New("cert", FILE),
            Set("cert", FILE, pem.payload),
            Commit("cert", FILE),
            AddListEntry(crt_list, ListEntry(FILE, "", (HOST,))),
        ]
    )
    web.stand.write("web.yaml", *app("a", HOST, named("a"), own))
    with running(web.stand.daemon()) as daemon:
        said = f"in HAProxy's crt-list {crt_list} somebody else has the entry {FILE} {HOST}"
        await_told(caplog, f"host {HOST}: {said}")

        def message() -> str:
            (found,) = daemon._routing.verdicts()
            return str(found.message)

        await_(lambda: said in message(), "the Route is told")
        assert web.ended(HOST) == "503"
        unready = f"not converged; hosts without their certificate: {HOST}"
        await_(lambda: daemon.ready() == unready, "it is not as desired")
        told = (200, f"{unready}\n")
        await_(lambda: get(web.stand, "/readyz")[:2] == told, "clients may come all the same")
        assert not daemon.view.facts().converged
        await_(
            lambda: "\nhaproxy_sidecar_converged 0.0\n" in get(web.stand, "/metrics").body,
            "the metric says so",
        )
        for command in ("why", "status"):
            shown = one_line(run_cli(command, HOST, "-c", web.stand.settings_file).out)
            assert f"somebody else has the entry {FILE} {HOST}" in shown
        told_too = run_cli("plan", "-c", web.stand.settings_file)
        assert f"problem: {HOST}: {message()}\n" in told_too.err
        assert "converged" not in told_too.err
        web.stand.client.ask(message().partition("; remove it: ")[2])
        await_(lambda: web.ended(HOST) == "a", "it is served")
        assert asked(web, HOST).fingerprint == fingerprint(own)
        converged(daemon)
        assert message() == ""
        assert "\nhaproxy_sidecar_converged 1.0\n" in get(web.stand, "/metrics").body
        nothing = run_cli("plan", "-c", web.stand.settings_file)
        assert (nothing.code, nothing.out) == (0, "")
        assert nothing.err == "nothing to do: HAProxy has converged\n"
