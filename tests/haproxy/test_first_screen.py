"""Eleven faults at once, on a real HAProxy: whoever looks for the first time is told of each.

The first screen is `status`; `top` and the page have the same words, `reporting.problems`.
"""

import contextlib

from by_host import MakeNamed, WebStand
from cli import run_cli
from pki import CA
from stand import MakeServer, MakeStand, app, await_, fresh_ip, running
from test_route_certificates import app as edge_app

ROOT = CA.root()

#: What the first screen says of each, and the row that it is about.
FAULTS = {
    "a port that another Route has": "demo/late: PortAlreadyClaimed: port 30000 ",
    "a port that no pool has": "demo/outside: PortNotInPool: ",
    "a port that is none": "demo/typo: InvalidPort: 'http' is not a valid port",
    "no Service of that name": "30002 demo/lost: ServiceNotFound: ",
    "no pod is ready": "30003 demo/waits: NoEndpoints: no ready endpoint in Service 'waits'",
    "servers refuse connections": "no server accepted them",
    "more endpoints than slots": "30005 demo/many: 1 endpoint skipped; see limits.max_servers and",
    "somebody holds a port": "30006 demo/held: held",
    "a file that is no YAML": "broken.yaml",
    "a certificate that ends": "ends.example: certificate ends in 1 day",
    "a key of another certificate": "demo/mixed: ExtendedValidationFailed: spec.tls.key: ",
}


def test_each_is_on_the_first_screen(
    make_stand: MakeStand, make_server: MakeServer, named: MakeNamed
) -> None:
    pools = [{"ports": ["30000-30009"], "slots": 2}]
    web = WebStand.make(make_stand, {"pools": pools, "limits": {"max_servers": 2}})
    stand, server, host = web.stand, make_server(), named("host")
    ours = ("-c", stand.settings_file)
    ends, other = ROOT.leaf("ends.example", days=(-1, 2)), ROOT.leaf("mixed.example")
    mixed = edge_app("mixed", "mixed.example", host, ROOT.leaf("mixed.example"))
    mixed[0]["spec"]["tls"]["key"] = other.key_pem
    stand.write(
        "faults.yaml",
        *app("first", 30000, [server], created="2026-01-01T00:00:00Z"),
        *app("late", 30000, [server], created="2026-01-02T00:00:00Z"),
        *app("outside", 31000, [server]),
        *app("typo", "http", [server]),
        app("lost", 30002)[0],
        *app("waits", 30003, []),
        *app("crashed", 30004, [fresh_ip()]),
        *app("many", 30005, [server.address.ip, fresh_ip(), fresh_ip()]),
        *app("held", 30006, [server]),
        *edge_app("ends", "ends.example", host, ends),
        *mixed,
    )
    (stand.manifests / "broken.yaml").write_text("kind: [Route\n")
    with running(stand.daemon()):
        await_(lambda: stand.port(30004).open and stand.port(30006).open, "ports are open")
        assert run_cli("hold", *ours, 30006, "--reason", "a fault").code == 0

        def shows(fault: str) -> bool:
            return FAULTS[fault] in run_cli("status", *ours).out

        def refuse() -> bool:
            with contextlib.suppress(OSError):
                stand.connect(30004)
            return shows("servers refuse connections")

        await_(refuse, "what no server accepted is counted", 20)
        for fault in FAULTS:
            await_(lambda fault=fault: shows(fault), f"{fault} is shown")
