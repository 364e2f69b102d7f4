"""`haproxy-sidecar up`, `run` and `make run`'s command line, as processes of their own: what they
say, what they start, and that nothing of it is left behind.
"""

import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli import ROOT, Start, command
from stand import EchoServer, Stand, app, await_, fresh_ip

from sidecar.haproxy.process import answering

MakeStand = Callable[..., Stand]
MakeServer = Callable[..., EchoServer]


@pytest.fixture
def laptop(make_stand: MakeStand) -> Stand:
    """Settings with ports of their own, and nothing running."""
    return make_stand(start=False, pools=[{"ports": ["30000-30003"], "slots": 4}])


def up(stand: Stand) -> list[str]:
    return command("up", "-c", stand.settings_file)


def haproxy_pid(stand: Stand) -> int:
    info = answering(stand.settings.haproxy.socket)
    assert info, "no HAProxy answers"
    return info.pid


def is_gone(pid: int) -> bool:
    """Whether no such process runs (a zombie that waits for its parent does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def await_leads_to(stand: Stand, port: int, server: EchoServer) -> None:
    def leads() -> bool:
        try:
            client = stand.connect(port)
        except OSError:
            return False
        client.close()
        return client.server == server.name

    await_(leads, f"port {port} leads to {server.name}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up(number: signal.Signals, laptop: Stand, make_server: MakeServer, start: Start) -> None:
    server = make_server()
    laptop.write("web.yaml", *app("web", 30000, [server]))
    process = start(up(laptop))
    await_leads_to(laptop, 30000, server)
    await_(lambda: laptop.is_refused(30001), "unclaimed ports are closed")
    haproxy, config = haproxy_pid(laptop), laptop.settings.haproxy.config
    for line in (
        f"✓ rendered {config}: 4 ports, 4 server slots each\n",
        f"✓ started HAProxy {laptop.info().version}, PID {haproxy};",
        f"its log, with every connection: {config.with_name('haproxy.log')}\n",
        f"✓ watching {laptop.manifests}; edit, add or delete a manifest there\n",
        f"    status:  {sys.executable} -m sidecar status -c {laptop.settings_file}\n",
        f"    page:    http://{laptop.ip}:8405/\n",
        "    Ctrl-C stops all of it\n",
    ):
        process.await_said(line)
    process.await_said("port 30000: open -> Route demo/web")
    # It follows edits.
    laptop.write("web.yaml", *app("web", 30002, [server]))
    await_leads_to(laptop, 30002, server)
    await_(lambda: laptop.is_refused(30000), "closed")
    assert haproxy_pid(laptop) == haproxy

    process.send(number)
    assert process.wait() == 0
    assert process.said.endswith("stopped HAProxy; nothing is left running\n")
    assert "Traceback" not in process.said
    assert is_gone(haproxy)
    assert answering(laptop.settings.haproxy.socket) is None


def test_up_with_manifests_of_its_own(laptop: Stand, make_server: MakeServer, start: Start) -> None:
    server = make_server()
    laptop.write("web.yaml", *app("web", 30000, [server]))
    (laptop.manifests / "web.yaml").rename(laptop.folder / "other.yaml")
    laptop.write("web.yaml", *app("web", 30001, [server]))
    process = start([*up(laptop), "other.yaml"], cwd=laptop.folder)
    await_leads_to(laptop, 30000, server)
    assert laptop.is_refused(30001)
    process.await_said("watching other.yaml;")
    process.await_said("Ctrl-C stops all of it")
    assert "    status:" not in process.said, "it reads source.path"


def test_a_second_up_says_what_is_wrong(
    laptop: Stand, make_server: MakeServer, start: Start
) -> None:
    server = make_server()
    laptop.write("web.yaml", *app("web", 30000, [server]))
    first = start(up(laptop))
    await_leads_to(laptop, 30000, server)
    haproxy = haproxy_pid(laptop)
    second = start(up(laptop))
    assert second.wait() == 3
    where = laptop.settings.haproxy.socket
    assert f"(PID {haproxy}) answers at {where} already: is `up` running" in second.said
    assert "rendered" not in second.said
    # Nor with another socket: a port is taken.
    data = {**laptop.settings_data}
    data["haproxy"] = {
        name: str(laptop.folder / "other" / name) for name in ("socket", "config", "state_file")
    }
    other = laptop.folder / "other.yaml"
    other.write_text(yaml.safe_dump(data))
    third = start(command("up", "-c", other))
    assert third.wait() == 3
    assert f"{laptop.ip} port 30000: Address already in use" in third.said
    # The first did not notice.
    assert haproxy_pid(laptop) == haproxy
    await_leads_to(laptop, 30000, server)
    first.ctrl_c()
    assert first.wait() == 0


def test_a_busy_port_is_named(laptop: Stand, start: Start) -> None:
    with socket.create_server((laptop.ip, 30002)):
        process = start(up(laptop))
        assert process.wait() == 3
    assert process.said == (
        "haproxy-sidecar: HAProxy cannot listen on all ports of the pool:\n"
        f"  {laptop.ip} port 30002: Address already in use\n"
        "stop the processes using them (ss -ltnp shows which), or remove the ports from"
        " pools.ports\n"
    )
    assert not laptop.settings.haproxy.config.exists()


def test_a_busy_address_of_a_listener_is_named(make_stand: MakeStand, start: Start) -> None:
    ip = fresh_ip()
    listener = {"name": "http", "kind": "http", "bind": [f"{ip}:8080"]}
    stand = make_stand(start=False, listeners=[listener])
    with socket.create_server((ip, 8080)):
        process = start(up(stand))
        assert process.wait() == 3
    assert f"  {ip} port 8080: Address already in use\n" in process.said
    assert process.said.endswith("or remove the ports from pools.ports or listeners\n")


def test_the_http_port_is_busy(laptop: Stand, start: Start) -> None:
    with socket.create_server((laptop.ip, 8405)):
        process = start(up(laptop))
        assert process.wait() == 2
    assert f"'{laptop.ip}:8405' cannot be used (Address already in use)" in process.said
    assert "Traceback" not in process.said
    assert answering(laptop.settings.haproxy.socket) is None


def test_no_haproxy_here(laptop: Stand, start: Start) -> None:
    process = start(up(laptop), HAPROXY="/nonexistent")
    assert process.wait() == 3
    assert process.said.startswith("haproxy-sidecar: '/nonexistent' not found; install")
    assert not laptop.settings.haproxy.config.exists()


def test_a_haproxy_that_cannot_start(laptop: Stand, start: Start) -> None:
    template = laptop.folder / "own.j2"
    template.write_text("global\n    nonsense on line two\n")
    laptop.settings_data["haproxy"]["template"] = str(template)
    laptop.settings_file.write_text(yaml.safe_dump(laptop.settings_data))
    process = start(up(laptop))
    assert process.wait() == 3
    assert "HAProxy stopped at once (exit code 1)" in process.said
    assert "unknown keyword 'nonsense'" in process.said


def test_broken_settings(laptop: Stand, start: Start) -> None:
    laptop.settings_file.write_text("pools: [{ports: ['30000'], slotz: 3}]")
    process = start(up(laptop))
    assert process.wait() == 2
    assert "pools[0].slotz: no such key; did you mean slots?" in process.said


def test_a_killed_haproxy_is_started_again(
    laptop: Stand, make_server: MakeServer, start: Start
) -> None:
    server = make_server()
    laptop.write("web.yaml", *app("web", 30000, [server]))
    process = start(up(laptop))
    await_leads_to(laptop, 30000, server)
    before = haproxy_pid(laptop)
    os.kill(before, signal.SIGKILL)
    await_(lambda: is_gone(before), "it is gone")
    await_leads_to(laptop, 30000, server)
    await_(lambda: laptop.is_refused(30001), "unclaimed ports are closed again")
    assert haproxy_pid(laptop) != before
    process.await_said(f"HAProxy (PID {before}) exited with code -9; restarting it")
    process.await_said("restoring its state")
    after = haproxy_pid(laptop)
    process.ctrl_c()
    assert process.wait() == 0
    assert is_gone(after)


def test_a_killed_sidecar_leaves_no_haproxy(
    laptop: Stand, make_server: MakeServer, start: Start
) -> None:
    server = make_server()
    laptop.write("web.yaml", *app("web", 30000, [server]))
    process = start(up(laptop))
    await_leads_to(laptop, 30000, server)
    haproxy = haproxy_pid(laptop)
    process.send(signal.SIGKILL)
    process.wait()
    await_(lambda: is_gone(haproxy), "HAProxy ends with it")
    # And nothing that is left over hinders the next one.
    again = start(up(laptop))
    await_leads_to(laptop, 30000, server)
    again.ctrl_c()
    assert again.wait() == 0


def test_ctrl_c_while_it_loads(laptop: Stand, start: Start) -> None:
    process = start(up(laptop))
    await_(lambda: b"sidecar" in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "it began")
    process.ctrl_c()
    process.wait()
    await_(lambda: answering(laptop.settings.haproxy.socket) is None, "no HAProxy is left")


def test_ctrl_c_at_once(laptop: Stand, start: Start) -> None:
    """Whenever it comes, no HAProxy stays and no traceback is shown."""
    process = start(up(laptop))
    process.await_said("rendered")
    process.ctrl_c()
    assert process.wait() == 0
    assert "Traceback" not in process.said
    assert process.said.endswith("stopped HAProxy; nothing is left running\n")
    await_(lambda: answering(laptop.settings.haproxy.socket) is None, "no HAProxy is left")


def test_run_leaves_haproxy_as_it_is(
    make_stand: MakeStand, make_server: MakeServer, start: Start
) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    before = stand.info().identity
    process = start(command("run", "-c", stand.settings_file))
    await_leads_to(stand, 30000, server)
    process.await_said("port 30000: open -> Route demo/web")
    process.send(signal.SIGINT)
    assert process.wait() == 0
    assert stand.info().identity == before
    await_leads_to(stand, 30000, server)
    # Not on a terminal, each line is JSON.
    lines = [yaml.safe_load(line) for line in process.said.splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)


class Moved:
    """A file's text with this test's own addresses in place of those of the demo."""

    def __init__(self) -> None:
        self.ips = [fresh_ip() for _ in range(3)]

    def __call__(self, path: Path) -> str:
        text = path.read_text()
        for number, ip in enumerate(self.ips, 1):
            text = text.replace(f"127.0.0.{number}", ip)
        return text


def test_the_demo_of_make_run(tmp_path: Path, start: Start) -> None:
    """examples/ with the settings and servers of `make run`, on addresses of this test's own."""
    moved = Moved()
    ip = moved.ips[0]
    (tmp_path / "examples").mkdir()
    for path in (ROOT / "examples").iterdir():
        if path.is_file() and path.stem != "made-tls":
            (tmp_path / "examples" / path.name).write_text(moved(path))
    listen = f"http: {{listen: '{ip}:8405'}}\n"
    (tmp_path / "sidecar.yaml").write_text(moved(ROOT / "manifests/laptop/sidecar.yaml") + listen)
    demo = [sys.executable, "examples/servers.py", *command("up", "-c", "sidecar.yaml")]
    process = start(demo, cwd=tmp_path)
    process.await_said("Ctrl-C stops all of it")
    process.await_said("demo servers: ")
    process.await_said("curl ")

    def page(port: int, path: str = "/") -> str:
        try:
            with socket.create_connection((ip, port), 5) as client:
                client.sendall(f"GET {path} HTTP/1.0\r\nHost: shop.example\r\n\r\n".encode())
                return client.makefile().read()
        except OSError:
            return ""

    await_(lambda: "hello from web-" in page(18080), "the web server answers on 18080")
    await_(lambda: "hello from web-" in page(18081), "it does by its host")
    await_(lambda: "hello from cart-0" in page(18081, "/cart"), "another one has a path")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "run/demo-ca.pem"))

    def secured(host: str, port: int = 18443) -> str:
        try:
            with (
                socket.create_connection((ip, port), 5) as plain,
                trusting.wrap_socket(plain, server_hostname=host) as client,
            ):
                client.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                return client.makefile().read()
        except OSError:
            return ""

    await_(lambda: "hello from web-" in secured("pay.example"), "edge")
    await_(lambda: "hello from secure-0" in secured("api.example"), "reencrypt")
    await_(lambda: "hello from secure-0" in secured("secure.example"), "passthrough")
    for host in ("www.partner.example", "api.partner.example"):
        await_(lambda: f"hello from {host}" in secured(host, 30443), f"{host} by a shared port")  # noqa: B023
    assert secured("evil.example", 30443) == "", "no Route allows it"
    with socket.create_connection((ip, 13306), 5) as client, client.makefile("rw") as lines:
        assert lines.readline() == "mysql-0: say something, it comes back\n"
        lines.write("hello\n")
        lines.flush()
        assert lines.readline() == "mysql-0: hello\n"

    twice = start(demo, cwd=tmp_path)
    assert twice.wait() == 3
    assert "is the demo running in another terminal?" in twice.said

    info = answering(str(tmp_path / "run" / "admin.sock"))
    assert info
    process.ctrl_c()
    assert process.wait() == 0
    assert process.said.endswith("stopped HAProxy; nothing is left running\n")
    assert "Traceback" not in process.said
    assert is_gone(info.pid)
    assert not (tmp_path / "examples/made-tls.yaml").exists()


def test_the_demo_servers_end_with_their_command(tmp_path: Path, start: Start) -> None:
    (tmp_path / "servers.py").write_text(Moved()(ROOT / "examples" / "servers.py"))
    shutil.copy(ROOT / "examples" / "demo_certificates.py", tmp_path)
    assert start([sys.executable, "servers.py", "false"], cwd=tmp_path).wait() == 1
    missing = start([sys.executable, "servers.py", "/nonexistent"], cwd=tmp_path)
    assert missing.wait() == 2
    assert missing.said.endswith("/nonexistent cannot be run: No such file or directory\n")
    stopped = start([sys.executable, "servers.py", "sleep", "60"], cwd=tmp_path)
    stopped.await_said("demo servers: ")
    stopped.send(signal.SIGTERM)
    assert stopped.wait() != 0
    alone = start([sys.executable, "servers.py"], cwd=tmp_path)
    alone.await_said("demo servers: ")
    alone.ctrl_c()
    assert alone.wait() == 0
    assert "Traceback" not in alone.said
