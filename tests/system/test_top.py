"""`top` on a terminal: with a real sidecar and HAProxy, and with reports that were made up."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from by_host import WebStand, host_app
from cli import ROOT, clean_environment, command, spawn_cli
from reported import Told, calm, crowded, page_of, refused, report
from stand import (
    Client,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    converged,
    fresh_ip,
    running,
)
from terminal import Terminal


@contextlib.contextmanager
def top(
    *before: object,
    columns: int = 120,
    rows: int = 30,
    environment: Mapping[str, str] = {},
) -> Iterator[Terminal]:
    arguments = command(*before, "top")
    with Terminal(arguments, {**clean_environment(), **environment}, columns, rows) as terminal:
        yield terminal


def leave(terminal: Terminal, keys: str = "q") -> None:
    """It is as it was, the cursor and the first screen included."""
    terminal.type(keys)
    assert terminal.wait() == 0
    assert terminal.now == terminal.before
    assert terminal.display.modes == {
        7: True,
        25: True,
        1: False,
        12: False,
        2004: False,
        1049: False,
    }


def row(terminal: Terminal, text: str) -> list[str]:
    return terminal.line_of(text).split()


def bottom(terminal: Terminal) -> str:
    """The question there."""
    lines = terminal.display.lines
    first = max(place for place, line in enumerate(lines) if line.startswith("end "))
    return " ".join(line.strip() for line in lines[first:])


def ended(client: Client) -> bool:
    client.socket.settimeout(0.01)
    try:
        return client.socket.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture
def stand(make_stand: MakeStand, make_server: MakeServer) -> Iterator[Stand]:
    """One whose sidecar runs, with a port that has two servers, and a host."""
    found = WebStand.make(make_stand).stand
    servers = [make_server("a"), make_server("b")]
    pods = [
        {"addresses": [one.address.ip], "targetRef": {"kind": "Pod", "name": f"web-{one.name}"}}
        for one in servers
    ]
    found.write("web.yaml", *app("web", 30000, pods))
    found.write("shop.yaml", *host_app("shop", "shop.test", [servers[0]], namespace="lab"))
    with running(found.daemon()) as daemon:
        converged(daemon)
        yield found


def test_a_visit(stand: Stand) -> None:
    """What is there, a change that appears, a filter, servers, why, and the way out."""
    with top("-c", stand.settings_file) as terminal:
        terminal.expect("router   wzh-router-1  converged")
        terminal.expect("HAProxy  ")
        assert row(terminal, "demo/web")[:4] == ["30000", "open", "demo/web", "2/0/0"]
        assert row(terminal, "lab/shop")[:4] == ["shop.test", "open", "lab/shop", "1/0/0"]
        client = stand.connect(30000)
        terminal.until(lambda _: row(terminal, "demo/web")[4] == "1", "its session is counted")
        stand.write("api.yaml", *app("api", 30001, ["10.1.1.2"]), *app("zz-late", 30000, []))
        assert row(terminal, "demo/api")[:4] == ["30001", "open", "demo/api", "1/0/0"]
        terminal.expect("demo/zz-late: PortAlreadyClaimed")
        terminal.type("p")
        terminal.expect_gone("demo/api")
        terminal.type("p/LATE")
        terminal.expect_gone("demo/web ")
        terminal.type("\x1b")
        terminal.expect("demo/api")
        terminal.type("/30000 web-a\r \x1b[B")
        terminal.expect("web-a")
        assert re.search(r"s[0-9] +127\.\S+:9000 +ready +[01] sess", terminal.line_of("web-a"))
        terminal.type("w")
        terminal.expect("why 30000: it works")
        terminal.expect("frontend tcp-30000 listens; 2 of 2 servers take connections")
        terminal.type("q")
        terminal.expect("NAME")
        terminal.type("s")
        terminal.expect("port 30000 (demo/web): 1 session")
        assert f"127.0.0.1:{client.socket.getsockname()[1]}" in terminal.display.text
        client.echo()
        client.close()
        terminal.type("q")
        leave(terminal)


def test_kick_asks_and_ends_just_those(stand: Stand) -> None:
    with (
        contextlib.closing(stand.connect(30000)) as one,
        contextlib.closing(stand.connect(30000)) as other,
        top("-c", stand.settings_file) as terminal,
    ):
        terminal.until(lambda _: row(terminal, "demo/web")[4] == "2", "both are counted")
        terminal.type("K")
        terminal.expect("end 2 sessions on port 30000 (demo/web): 1 on s")
        asked = bottom(terminal)
        servers = re.findall(r" 1 on s[0-9] [0-9.]+:9000 (web-\w)[,;]", asked)
        assert sorted(servers) == sorted([f"web-{one.server}", f"web-{other.server}"])
        assert asked.endswith("; at most 100 per second? [y/N]")
        terminal.type("n")
        terminal.expect("no session was ended")
        one.echo()
        # One server's.
        terminal.type(" ")
        slot = terminal.line_of(f"web-{other.server}").split()[0]
        slots = [line.split()[0] for line in terminal.display.lines if line.startswith("    s")]
        terminal.type("j" * (1 + slots.index(slot)) + "K")
        terminal.expect(f"end 1 session on port 30000 (demo/web), server {slot}: 1 on {slot} ")
        assert f" web-{other.server}; at most 100 per second? [y/N]" in bottom(terminal)
        terminal.type("y")
        terminal.expect(f"ended 1 session on port 30000 (demo/web), server {slot}: 1 on {slot}")
        await_(lambda: ended(other), "its session is ended")
        one.echo()
        terminal.until(lambda _: row(terminal, "demo/web")[4] == "1", "one is left")
        terminal.type("K")
        terminal.expect(f"no sessions on port 30000 (demo/web), server {slot}")
        leave(terminal)


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_who_leaves_meanwhile_is_told_how_far_it_was(
    make_stand: MakeStand, make_server: MakeServer, number: int | None
) -> None:
    stand = make_stand(
        pools=[{"name": "p0", "ports": ["30000"], "slots": 2}], drain={"sessions_per_second": 1}
    )
    stand.write("web.yaml", *app("web", 30000, [make_server("a").address.ip]))
    with running(stand.daemon()) as daemon, contextlib.ExitStack() as clients:
        converged(daemon)
        there = [clients.enter_context(contextlib.closing(stand.connect(30000))) for _ in range(20)]
        with top("-c", stand.settings_file) as terminal:
            terminal.until(lambda _: row(terminal, "demo/web")[4] == "20", "all are counted")
            terminal.type("K")
            terminal.expect("end 20 sessions on port 30000 (demo/web): 20 on s1 ")
            assert bottom(terminal).endswith("; at most 1 per second? [y/N]")
            terminal.type("y")
            terminal.expect("ended 1 of 20")
            # The table goes on, and one is ended after the other.
            terminal.type("K")
            terminal.expect("still being ended")
            terminal.type("j")
            terminal.expect("ended 2 of 20")
            if number is not None:
                terminal.process.send_signal(number)
            leave(terminal, "q" if number is None else "")
            terminal.expect("left before all were; ended ")
        assert 2 <= sum(map(ended, there)) < 20


def test_haproxy_is_away(stand: Stand) -> None:
    with top("-c", stand.settings_file) as terminal:
        terminal.expect("demo/web")
        stand.stop_haproxy()
        terminal.expect("HAProxy  away")
        terminal.type("K")
        terminal.until(lambda display: display.text.endswith("refused"), "why not")
        stand.start_haproxy()
        terminal.expect("wzh-router-1  converged")
        terminal.type("K")
        terminal.expect("no sessions on port 30000 (demo/web)")
        leave(terminal)


def test_a_terminal_of_another_size() -> None:
    with page_of(Told(crowded(300))) as url, top("--url", url, columns=80, rows=24) as terminal:
        terminal.expect("NAME")
        terminal.resize(140, 40)
        terminal.expect("OUT/S")
        terminal.until(lambda display: "?help" in display.lines[-1], "its last line is used")
        leave(terminal)


def test_a_host_has_no_sessions_of_its_own(stand: Stand) -> None:
    with top("-c", stand.settings_file) as terminal:
        terminal.expect("lab/shop")
        terminal.type("GK")
        terminal.expect("sessions are known by port; choose a port")
        terminal.type("w")
        terminal.expect("why lab/shop: it works")
        leave(terminal, "\x03")


def test_it_goes_on_when_the_sidecar_is_back() -> None:
    listen = f"{fresh_ip()}:8405"
    told = Told(calm())
    with top("--url", f"http://{listen}") as terminal:
        terminal.expect(f"no answer, asking again: nothing answers at http://{listen}: Conn")
        with page_of(told, listen):
            terminal.expect("team-b/kafka")
            terminal.expect_gone("no answer")
        terminal.expect(f"asking again: nothing answers at http://{listen}: Connection refused")
        assert re.search(r"no answer for [0-9]+s, asking again", terminal.display.text)
        terminal.expect("team-b/kafka")
        # Another run of it, which numbers anew.
        with page_of(Told(report(waiting=(refused("demo/bad", "R", "m"),))), listen):
            terminal.expect("demo/bad")
            terminal.expect_gone("team-b/kafka")
        leave(terminal)


def test_elsewhere_it_ends_no_sessions() -> None:
    with page_of(Told(calm())) as url, top("--url", url) as terminal:
        terminal.expect("team-b/kafka")
        terminal.type("K")
        terminal.expect(
            "sessions are read from HAProxy's socket, which is where the sidecar of --url"
        )
        terminal.type("w")
        terminal.expect("endpoints 1 of 2 endpoints is ready")
        terminal.type("qq")
        assert terminal.wait() == 0


@pytest.mark.serial
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 60)])
def test_5000_rows(columns: int, rows: int) -> None:
    with page_of(Told(crowded())) as url, top("--url", url, columns=columns, rows=rows) as terminal:
        terminal.expect("team-b/kafka")
        terminal.type("G")
        terminal.expect("www.example/cart")
        assert all(len(line) <= columns for line in terminal.display.lines)
        terminal.type("g")
        terminal.expect("team-b/kafka")
        terminal.type("j" * 1000)
        terminal.expect("service-994 ")
        terminal.type("/service-4321")
        terminal.until(lambda display: display.text.count("service-") == 2, "one is left")
        leave(terminal, "\rq")


def test_a_terminal_without_colours() -> None:
    with page_of(Told(calm())) as url:
        with top("--url", url) as terminal:
            terminal.expect("team-b/kafka")
            leave(terminal)
            assert terminal.display.coloured
        with top("--url", url, environment={"NO_COLOR": "1"}) as terminal:
            terminal.expect("team-b/kafka")
            leave(terminal)
            assert not terminal.display.coloured


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminal_is_left_as_it_was_when_it_is_ended(number: int) -> None:
    with page_of(Told(calm())) as url, top("--url", url) as terminal:
        terminal.expect("team-b/kafka")
        terminal.process.send_signal(number)
        leave(terminal, "")


def test_without_a_terminal() -> None:
    done = spawn_cli("top")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "haproxy-sidecar: top needs a terminal; `haproxy-sidecar status` shows the same in a pipe\n"
    )


def test_a_terminal_that_cannot_be_drawn_on() -> None:
    with top(environment={"TERM": "dumb"}) as terminal:
        terminal.expect("TERM is dumb")
        assert terminal.wait() == 2


def test_only_top_loads_what_draws() -> None:
    code = "import sys, sidecar.cli.app, sidecar.cli.top, sidecar.cli.status, sidecar.cli.why;"
    code += "sys.exit('prompt_toolkit' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=30, check=True)
