"""Who holds a port, since when and why: wherever somebody may look."""

import getpass
import json
import platform
import re
import socket
import time
import urllib.request

from cli import one_line, run_cli
from stand import MakeServer, MakeStand, app, await_, converged, running

from sidecar import __version__


def test_who_and_why_is_shown(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand = make_stand()
    ours = ("-c", stand.settings_file)
    stand.write("web.yaml", *app("web", 30000, [make_server("a")]))

    def metrics() -> str:
        url = f"http://{stand.settings.http.listen}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    def held() -> dict[str, object]:
        (item,) = json.loads(run_cli("status", *ours, "--json").out)["ports"]
        return {key: item[key] for key in item if key.startswith("held")}

    nobody = {"held": False, "held_by": "", "held_at_seconds": None, "held_reason": ""}
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert held() == nobody
        assert "haproxy_sidecar_held{" not in metrics()
        build = re.search(r"haproxy_sidecar_build_info\{(.*)\} 1\.0", metrics())
        assert build
        assert dict(re.findall(r'(\w+)="([^"]*)"', build[1])) == {
            "version": __version__,
            "python_version": platform.python_version(),
            "haproxy_version": stand.info().version,
        }
        before = time.time()
        assert run_cli("hold", *ours, 30000, "--reason", "moved by\nhand").code == 0
        await_(lambda: held()["held"] is True, "it is held")
        found = held()
        assert (found["held_by"], found["held_reason"]) == (by, "moved by hand")
        assert before <= float(str(found["held_at_seconds"])) <= time.time()
        await_(lambda: 'haproxy_sidecar_held{port="30000"} 1.0' in metrics(), "it is counted")
        told = rf"held by {re.escape(by)} since [0-9: -]+ UTC \(moved by hand\)"
        for arguments in (["status"], ["why", "30000"]):
            assert re.search(told, one_line(run_cli(*arguments, *ours).out)), arguments
    # Without a sidecar, too.
    for arguments in (["status"], ["why", "30000"]):
        assert re.search(told, one_line(run_cli(*arguments, *ours).out)), arguments
    assert run_cli("release", *ours, 30000).code == 0
    assert held() == nobody
