"""`why --probe` of a Route by host: what its clients get, asked for as they do."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from by_host import MakeNamed, NamedServer, WebStand, host_app
from cli import run_cli
from pki import CA
from stand import MakeStand, converged, running

ROOT = CA.root()


class Told(NamedTuple):
    """``lines``: of the probe; ``works``: all in all."""

    works: bool
    mark: str
    lines: list[str]


def probed(web: WebStand, subject: str) -> Told:
    done = run_cli("why", subject, "--probe", "--json", "-c", web.stand.settings_file)
    why = json.loads(done.out)["why"]
    assert done.code == (0 if why["works"] else 1)
    (link,) = (link for link in why["links"] if link["name"] == "probe")
    return Told(
        why["works"], link["mark"], [line["text"] for line in link["lines"]] or [link["text"]]
    )


def test_what_clients_of_a_route_get(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, wildcards=True)
    issued, inner = ROOT.leaf("edge.example"), ROOT.leaf("inner.example")
    plain, passed = named("plain"), NamedServer("passed", issued=inner)
    tls: dict[str, Any] = {"certificate": issued.pem, "key": issued.key_pem}
    web.stand.write(
        "web.yaml",
        *host_app("plain", "plain.example", [plain], path="/cart", created="2020-01-01T00:00:00Z"),
        *host_app("wild", "any.w.example", [plain], wildcard=True),
        *host_app("edge", "edge.example", [plain], termination="edge", tls=tls),
        *host_app("passed", "passed.example", [passed], termination="passthrough"),
        # Its server does not speak TLS.
        *host_app("deaf", "deaf.example", [plain], termination="passthrough"),
        *host_app("empty", "empty.example", []),
        *host_app(
            "younger", "plain.example", [plain], path="/cart", created="2021-01-01T00:00:00Z"
        ),
    )
    http, secure = (f"{ip}:{port}" for ip, port in (web.http, web.tls))
    try:
        with running(web.stand.daemon()) as daemon:
            converged(daemon)
            found = probed(web, "http://plain.example/cart")
            assert (found.works, found.mark, len(found.lines)) == (True, "ok", 2)
            assert found.lines[0].startswith(f"s1 {plain.address}: connected in ")
            assert found.lines[1].startswith(f"plain.example at {http}: HTTP status 200, in ")
            assert plain.heads[-1].startswith("GET /cart HTTP/1.1\r\nhost: plain.example\r\n")
            found = probed(web, "demo/wild")
            assert found.lines[1].startswith(f"probe.w.example at {http}: HTTP status 200, in ")
            found = probed(web, "demo/edge")
            shown = "certificate CN=edge.example, signed by CN=root, valid until 20"
            assert found.lines[1].startswith(f"edge.example at {secure}: {shown}")
            assert "; HTTP status 200, in " in found.lines[1]
            # In the words in which `status` and the step `certificate` have it.
            end = issued.certificate.not_valid_after_utc.date()
            title = f"CN=edge.example, signed by CN=root, valid until {end}"
            assert f"certificate {title}; " in found.lines[1]
            status = run_cli("status", "edge.example", "-c", web.stand.settings_file).out
            assert f"edge.example: {title} (" in status
            assert (
                f"{title} (spec.tls"
                in run_cli("why", "edge.example", "-c", web.stand.settings_file).out
            )
            found = probed(web, "demo/passed")
            shown = "certificate CN=inner.example, signed by CN=root, valid until 20"
            assert found.lines[1].startswith(f"passed.example at {secure}: {shown}")
            assert "HTTP" not in found.lines[1]
            assert passed.names[-1] == "passed.example"
            found = probed(web, "demo/deaf")
            assert (found.works, found.mark) == (False, "bad")
            assert found.lines[1].startswith(f"deaf.example at {secure}: ")
            found = probed(web, "demo/empty")
            assert found.mark == "bad"
            assert found.lines[0].startswith(f"empty.example at {http}: HTTP status 503, in ")
            # Who is not served has nothing to be connected to.
            found = probed(web, "demo/younger")
            assert found == (False, "info", ["nothing to connect to: it is not served"])
        # Without a sidecar it is the same: HAProxy is asked.
        assert probed(web, "demo/edge").lines[1].startswith(f"edge.example at {secure}: certif")
    finally:
        passed.close()


def test_that_a_certificate_is_asked_for_is_no_fault(
    make_stand: MakeStand, named: MakeNamed, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text(ROOT.pem)
    asks = {"mode": "required", "ca": str(tmp_path / "ca.pem")}
    web = WebStand.make(make_stand, client_certificates=asks)
    web.stand.write(
        "web.yaml", *host_app("edge", "edge.example", [named("edge")], termination="edge")
    )
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        found = probed(web, "demo/edge")
        assert (found.works, found.mark) == (True, "ok")
        assert "; asks for a client's, of which the probe has none, in " in found.lines[1]
