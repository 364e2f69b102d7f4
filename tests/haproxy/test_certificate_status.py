"""What the status, the metrics and the commands say of each host's certificate, with a real HAProxy
that serves it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from by_host import MakeNamed, NamedServer, WebStand, host_app
from cli import one_line, run_cli
from pki import CA, Issued
from stand import MakeStand, await_, converged, running
from test_route_certificates import app, await_shown
from web import get

from sidecar.haproxy.certificates import AddListEntry, Commit, ListEntry, New, Set
from sidecar.haproxy.pem import Pem
from sidecar.haproxy.web_files import WebFiles

ROOT = CA.root()
DAY = 86400


def certificate(web: WebStand, host: str) -> Any:
    hosts = get(web.stand, "/api/status").json["hosts"]
    return next((item["certificate"] for item in hosts if item["host"] == host), None)


def metrics(web: WebStand) -> dict[str, float]:
    """All about certificates, without ``haproxy_sidecar_``."""
    found = {}
    for line in get(web.stand, "/metrics").body.splitlines():
        name, _, value = line.removeprefix("haproxy_sidecar_").rpartition(" ")
        if "certificate" in name and not line.startswith("#") and "_created" not in name:
            found[name] = float(value)
    return found


def end(issued: Issued) -> datetime:
    return issued.certificate.not_valid_after_utc


def until(issued: Issued) -> float:
    return (end(issued) - datetime.now(UTC)).total_seconds()


def test_each_host_has_its_own_or_the_default_one(
    make_stand: MakeStand, named: MakeNamed, tmp_path: Path
) -> None:
    default, own, next_own = (
        ROOT.leaf("*.example", days=(-1, 100)),
        ROOT.leaf("own.example", days=(-1, 10)),
        ROOT.leaf("own.example", days=(-1, 60)),
    )
    file = tmp_path / "default.pem"
    file.write_text(default.pem + default.key_pem)
    web = WebStand.make(make_stand, default_certificate=str(file))
    server, inner = named("server"), ROOT.leaf("inner.example")
    secured = NamedServer("secured", issued=inner)

    def write(issued: Issued) -> None:
        web.stand.write(
            "web.yaml",
            *app("own", "own.example", server, issued),
            *app("path", "own.example", server, path="/cart"),
            *app("none", "none.example", server),
            *host_app("clear", "clear.example", [server]),
            *host_app(
                "inner",
                "inner.example",
                [secured],
                termination="reencrypt",
                tls={"destinationCACertificate": ROOT.pem},
            ),
        )

    write(own)
    try:
        with running(web.stand.daemon()) as daemon:
            await_shown(web, "own.example", own)
            converged(daemon)
            await_(lambda: certificate(web, "own.example")["served"], "it is seen")
            found = certificate(web, "own.example")
            assert 0 <= found.pop("served_seconds_ago") < 60
            assert abs(found.pop("seconds_left") - until(own)) < 60
            assert found == {
                "subject": "CN=own.example",
                "issuer": "CN=root",
                "not_after": f"{end(own):%Y-%m-%dT%H:%M:%SZ}",
                "source": "spec.tls.certificate of demo/own",
                "served": True,
                "failure": "",
            }
            status = get(web.stand, "/api/status").json
            hosts = {item["host"] + item["path"]: item for item in status["hosts"]}
            path = hosts["own.example/cart"]["certificate"]
            assert path["source"] == "spec.tls.certificate of demo/own"
            assert hosts["clear.example"]["certificate"] is None
            none, told = hosts["none.example"]["certificate"], status["default_certificate"]
            for item in (none, told):
                assert (item["subject"], item["source"]) == ("CN=*.example", "default certificate")
                assert item["served"] is True
                assert abs(item["seconds_left"] - until(default)) < 60
            assert hosts["own.example"]["ca"] is None
            assert hosts["inner.example"]["ca"] == {
                "subjects": ["CN=root"],
                "subjects_total": 1,
                "server_name": "",
                "source": "spec.tls.destinationCACertificate",
            }

            screen = run_cli("status", "-c", web.stand.settings_file).out
            rows = {line.split()[0]: line.split() for line in screen.splitlines() if line}
            assert "9d" in rows["own.example"]
            assert "default" in rows["none.example"]
            title = f"CN=own.example, signed by CN=root, valid until {end(own).date()}"
            assert f"own.example: certificate ends in 9 days: {title}" in one_line(screen)
            shown = one_line(run_cli("status", "*.example", "-c", web.stand.settings_file).out)
            assert f"own.example: {title} (9 days), spec.tls.certificate of demo/own; serv" in shown
            assert "none.example: CN=*.example, signed by CN=root, " in shown
            assert "servers need a certificate by CN=root (spec.tls.destinationCA" in shown

            numbers = metrics(web)
            host = 'certificate_remaining_seconds{host="own.example"}'
            assert [name for name in numbers if name.startswith("certificate_rem")] == [host]
            assert abs(numbers[host] - until(own)) < 60
            assert abs(numbers["default_certificate_remaining_seconds"] - until(default)) < 60
            assert numbers["hosts_without_certificate"] == 0
            assert numbers["certificates_changed_total"] == 1
            assert numbers["certificate_served_seconds_count"] == 1
            assert 0 < numbers["certificate_served_seconds_sum"] < 30
            loaded = numbers["certificates_loaded_total"]
            assert loaded >= 1

            write(next_own)
            await_shown(web, "own.example", next_own)
            wanted = f"{end(next_own):%Y-%m-%dT%H:%M:%SZ}"

            def renewed() -> bool:
                now = certificate(web, "own.example")
                return bool(now["not_after"] == wanted and now["served"])

            await_(renewed, "the new one is seen")
            await_(lambda: abs(metrics(web)[host] - until(next_own)) < 60, "in the metrics, too")
            numbers = metrics(web)
            assert numbers["certificates_loaded_total"] == loaded + 1
            assert numbers["certificates_changed_total"] == 2
            assert numbers["certificate_served_seconds_count"] == 2
            assert numbers["certificates_refused_total"] == 0
        # A sidecar that comes later finds them served.
        with running(web.stand.daemon()) as daemon:
            converged(daemon)
            await_(lambda: certificate(web, "own.example")["served"], "it is seen again")
            await_(lambda: host in metrics(web), "in the metrics, too")
            numbers = metrics(web)
            names = ("certificates_loaded", "certificates_changed", "certificates_refused")
            assert [numbers[f"{name}_total"] for name in names] == [0, 0, 0]
            assert numbers["certificate_served_seconds_count"] == 0
        # Without a sidecar nobody knows what HAProxy serves.
        shown = one_line(run_cli("status", "own.example", "-c", web.stand.settings_file).out)
        assert "whether it is served, a running sidecar knows" in shown
    finally:
        secured.close()


def test_the_self_signed_default_one(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *app("none", "none.example", named("none")))
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: certificate(web, "none.example"), "it is seen")
        found = certificate(web, "none.example")
        assert found["subject"] == found["issuer"] != ""
        assert found["seconds_left"] > 3650 * DAY
        default = metrics(web)["default_certificate_remaining_seconds"]
        assert abs(default - found["seconds_left"]) < 60


def test_a_host_without_its_certificate(make_stand: MakeStand, named: MakeNamed) -> None:
    """Somebody else's entry serves the host instead."""
    web, host = WebStand.make(make_stand), "a.example"
    theirs, own = ROOT.leaf(host), ROOT.leaf(host)
    files = WebFiles.beside(web.stand.settings.haproxy.state_file)
    foreign = "/elsewhere/f.pem"
    pem = Pem.of(foreign, f"{theirs.pem}{theirs.key_pem}".encode())
    web.stand.client.apply(
        [
            New("cert", foreign),
            Set("cert", foreign, pem.payload),
            Commit("cert", foreign),
            AddListEntry(str(files.certificate_list), ListEntry(foreign, "", (host,))),
        ]
    )
    web.stand.write("web.yaml", *app("a", host, named("a"), own))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: host in daemon.ready(), "it is found out")
        await_(lambda: (certificate(web, host) or {}).get("failure"), "it is said")
        found = certificate(web, host)
        assert (found["served"], found["served_seconds_ago"]) == (False, None)
        assert "somebody else has the entry" in found["failure"]
        await_(lambda: metrics(web).get("hosts_without_certificate") == 1, "in the metrics, too")
        assert not any("remaining_seconds{" in name for name in metrics(web))
        shown = run_cli("status", host, "-c", web.stand.settings_file).out
        row = next(line for line in shown.splitlines() if line.startswith(host))
        assert "missing" in row
        assert f"{host}: CN={host}, signed by CN=root" in shown
        assert own.key_pem.splitlines()[1] not in shown
