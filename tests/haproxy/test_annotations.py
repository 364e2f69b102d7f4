"""What annotations of OpenShift's router do to requests, as they change on one HAProxy."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from by_host import MakeNamed, WebStand, ask, ask_over, fields, host_app
from handshake import shake_hands
from stand import MakeServer, MakeStand, await_, converged, fresh_ip, running

from sidecar.haproxy.web_files import WebFiles
from sidecar.model.pool import Address
from sidecar.policies.allowed_sources import IP_ALLOWLIST

H, R = "haproxy.router.openshift.io/", "router.openshift.io/"
HOST = "a.example"


def write(web: WebStand, server: Any, annotations: dict[str, str], **rest: Any) -> None:
    web.stand.write("web.yaml", *host_app("web", HOST, [server], annotations=annotations, **rest))


def files_of(web: WebStand) -> WebFiles:
    return WebFiles.beside(web.stand.settings.haproxy.state_file)


def ended(web: WebStand) -> dict[str, list[str]]:
    """The headers of an answer over TLS."""
    with shake_hands(web.tls, HOST) as connection:
        return fields(ask_over(connection, f"GET / HTTP/1.1\r\nHost: {HOST}").head)


class Silent:
    """A server that never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server((fresh_ip(), 9000))
        self.address = Address(*self._socket.getsockname())

    def close(self) -> None:
        self._socket.close()


def test_how_long_a_server_may_be_silent(
    make_stand: MakeStand, files: contextlib.ExitStack
) -> None:
    web, silent = WebStand.make(make_stand, timeouts={"server": "20s"}), Silent()
    files.callback(silent.close)

    def told() -> str:
        shown = web.stand.client.ask(f"show map {files_of(web).timeouts_map}")
        return shown.strip().rpartition(" ")[2]

    with running(web.stand.daemon()) as daemon:
        for text, milliseconds in (("200ms", 200), ("600", 600)):
            write(web, silent, {f"{H}timeout": text})
            await_(lambda wanted=str(milliseconds): told() == wanted, "it is told")
            converged(daemon)
            begun = time.monotonic()
            assert ask(web.http, HOST).status == 504
            assert milliseconds / 1000 <= time.monotonic() - begun < 10
        write(web, silent, {f"{H}timeout": "never"})
        await_(lambda: told() == "", "and not any more")


def test_browsers_are_told_to_use_tls(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    key = "strict-transport-security"
    with running(web.stand.daemon()) as daemon:
        for text, value in (
            ("max-age=9", ["max-age=9"]),
            ("max-age=9 ; includesubdomains", ["max-age=9;includeSubDomains"]),
            ("max-age=9;preload", ["max-age=9;preload"]),
            ("nonsense", None),
            ("max-age=0", ["max-age=0"]),
        ):
            write(web, server, {f"{H}hsts_header": text}, termination="edge", insecure="Allow")
            await_(lambda value=value: ended(web).get(key) == value, f"{text}: {value}")
            converged(daemon)
            assert web.served(HOST) == "web"
            assert key not in fields(ask(web.http, HOST).head)


@pytest.mark.parametrize(
    ("insecure", "same_site", "wanted"),
    [
        ("None", None, "; Secure; SameSite=None"),
        ("Redirect", "Lax", "; Secure; SameSite=Lax"),
        ("", "Strict", "; Secure; SameSite=Strict"),
        ("Allow", "Lax", ""),
    ],
)
def test_what_the_session_cookie_is_for(
    make_stand: MakeStand, named: MakeNamed, insecure: str, same_site: str | None, wanted: str
) -> None:
    web, server = WebStand.make(make_stand), named("web")
    wish = {f"{R}cookie-same-site": same_site} if same_site else {}
    write(web, server, wish, termination="edge", insecure=insecure)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        (cookie,) = ended(web)["set-cookie"]
        assert re.fullmatch(rf"haproxy-sidecar=[0-9a-f]+; path=/; HttpOnly{wanted}", cookie)


def test_what_cannot_be_used_is_told(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    wish = {f"{H}timeout": "soon", f"{H}hsts_header": "max-age=1", f"{H}h1-adjust-case": "x"}
    write(web, server, wish)
    with running(web.stand.daemon()) as daemon:
        web.await_served(HOST, "web")
        converged(daemon)
        (verdict,) = daemon._routing.verdicts()
        assert "timeout 'soon': not a duration" in verdict.message
        assert f"without effect here: {H}h1-adjust-case (names of headers" in verdict.message
        assert f", {H}hsts_header" in verdict.message


#: Clients of tests are at any address of this network.
MINE, OTHERS = "127.0.0.0/8", "192.0.2.0/24 2001:db8::/32"


def outcome(ask: Callable[[], str]) -> str:
    """Who answers; "" where the connection is closed without an answer."""
    try:
        return ask()
    except (OSError, IndexError):
        return ""


@pytest.mark.parametrize("termination", [None, "edge", "passthrough"])
def test_only_some_clients_may_connect(
    make_stand: MakeStand, named: MakeNamed, make_server: MakeServer, termination: str | None
) -> None:
    web = WebStand.make(make_stand)
    server = make_server("web") if termination == "passthrough" else named("web")

    def asked() -> str:
        match termination:
            case "passthrough":
                return outcome(lambda: web.passed_to(HOST))
            case "edge":
                return outcome(lambda: web.ended(HOST))
            case _:
                return outcome(lambda: web.served(HOST))

    def write_list(text: str | None) -> None:
        wish = {} if text is None else {f"{H}ip_allowlist": text}
        write(web, server, wish, termination=termination)

    with running(web.stand.daemon()) as daemon:
        write_list(OTHERS)
        await_(lambda: routes(web), "the Route has its backend")
        converged(daemon)
        assert asked() == ""
        for text, who in ((MINE, "web"), (OTHERS, ""), (None, "web"), (f"{MINE} ::1", "web")):
            write_list(text)
            await_(lambda who=who: asked() == who, f"{text}: {who!r}")
            converged(daemon)
        # With each change of the list clients that it has before and after are served all the time.
        answers: list[str] = []
        with contextlib.ExitStack() as ending:
            stop = threading.Event()

            def keep_asking() -> None:
                while not stop.is_set():
                    answers.append(asked())

            thread = threading.Thread(target=keep_asking)
            thread.start()
            ending.callback(thread.join, 20)
            ending.callback(stop.set)
            for text in (f"{MINE} {OTHERS}", "127.0.0.0/9 127.128.0.0/9", None, MINE):
                write_list(text)
                await_(lambda text=text: shown_list(web) == expected(text), "it is told")
                converged(daemon)
        assert set(answers) == {"web"}
        file, unit = files_of(web).allowed_sources_map, routes(web).split(" ")[1]
        for command in (
            f"del map {file} #{first_id(web)}",
            # Each lets everybody in.
            f"add map {file} {unit} 1",
            f"add map {file} {unit}/ 1",
            f"add map {file} be_ 1",
            f"add map {file} {unit}/4/ 1",
        ):
            total = daemon.reconciler.history.total
            before = web.stand.client.ask(f"show map {file}").split("\n")
            web.stand.client.ask(command)
            await_(lambda total=total: daemon.reconciler.history.total > total, command)
            await_(lambda: shown_list(web) == expected(MINE), "it is repaired")
            converged(daemon)
            assert len(web.stand.client.ask(f"show map {file}").split("\n")) == len(before)
        await_(lambda: len(file.read_text().splitlines()) == len(expected(MINE)), "it is saved")
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0
        web.stand.write("web.yaml")
        await_(lambda: shown_list(web) == set(), "it goes with its Route")


def routes(web: WebStand) -> str:
    return web.stand.client.ask(f"show map {files_of(web).routes_map}").strip()


def shown_list(web: WebStand) -> set[str]:
    text = web.stand.client.ask(f"show map {files_of(web).allowed_sources_map}").strip()
    return {line.split(" ")[1].partition("/")[2] for line in text.splitlines()}


def first_id(web: WebStand) -> str:
    text = web.stand.client.ask(f"show map {files_of(web).allowed_sources_map}")
    return text.split(" ")[0]


def expected(text: str | None) -> set[str]:
    return set() if text is None else set(IP_ALLOWLIST.parse(text))


def test_a_haproxy_that_lost_the_list_lets_nobody_in(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, server = WebStand.make(make_stand), named("web")
    write(web, server, {f"{H}ip_allowlist": MINE})
    with running(web.stand.daemon()) as daemon:
        web.await_served(HOST, "web")
        converged(daemon)
    web.stand.client.ask(f"clear map {files_of(web).allowed_sources_map}")
    assert outcome(lambda: web.served(HOST)) == ""


@pytest.mark.parametrize("termination", ["edge", "passthrough"])
def test_a_haproxy_that_lost_the_letter_lets_nobody_in(
    make_stand: MakeStand, named: MakeNamed, make_server: MakeServer, termination: str
) -> None:
    web = WebStand.make(make_stand)
    passes = termination == "passthrough"
    write(
        web,
        make_server("web") if passes else named("web"),
        {f"{H}ip_allowlist": MINE},
        termination=termination,
    )

    def asked() -> str:
        return outcome(lambda: web.passed_to(HOST) if passes else web.ended(HOST))

    with running(web.stand.daemon()) as daemon:
        await_(lambda: asked() == "web", "it is served")
        converged(daemon)
    web.stand.client.ask(f"clear map {files_of(web).flags_map}")
    assert asked() == ("" if passes else "503")
    with running(web.stand.daemon()):
        await_(lambda: asked() == "web", "it is told again")


def test_a_haproxy_that_cannot_be_told_of_a_list_serves_nobody(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """As one on an older haproxy.cfg, which led clients there before."""
    web, server = WebStand.make(make_stand), named("web")
    config = web.stand.settings.haproxy.config
    web.stand.stop_haproxy()
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "source" not in line))
    web.stand.start_haproxy()
    with running(web.stand.daemon()):
        write(web, server, {})
        web.await_served(HOST, "web")
        write(web, server, {f"{H}ip_allowlist": OTHERS})
        web.await_served(HOST, "503")
        write(web, server, {})
        web.await_served(HOST, "web")


def test_what_others_put_into_a_map_ends_nothing(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    write(web, server, {f"{H}timeout": "5s"})
    with running(web.stand.daemon()) as daemon:
        web.await_served(HOST, "web")
        converged(daemon)
        for file in files_of(web).attribute_maps:
            with socket.socket(socket.AF_UNIX) as by_hand:
                by_hand.connect(web.stand.settings.haproxy.socket)
                by_hand.sendall(f'add map {file} be_h\\"\u00e9 1\n'.encode())
                assert by_hand.recv(100).strip() == b""
        total = daemon.reconciler.history.total
        write(web, server, {f"{H}timeout": "6s"})
        await_(lambda: daemon.reconciler.history.total > total, "it goes on")
        file = files_of(web).timeouts_map
        await_(lambda: "6000" in file.read_text(), "and saves")
        assert web.served(HOST) == "web"
