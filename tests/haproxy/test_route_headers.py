"""Headers that Routes set and delete (spec.httpHeaders), as they change on one HAProxy."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from by_host import (
    Asking,
    MakeNamed,
    NamedServer,
    Reply,
    WebStand,
    ask_over,
    ask_raw,
    fields,
    host_app,
)
from handshake import shake_hands
from stand import MakeServer, MakeStand, await_, converged, running

from sidecar.haproxy.web_files import WebFiles
from sidecar.model.header_actions import MESSAGES

HOST = "a.example"

#: Of requests and responses, name -> value; None: it is deleted.
Headers = Mapping[str, Mapping[str, str | None]]

#: What the client says of itself, and the server.
CLIENTS, SERVERS = {"X-One": "client's", "X-Two": "client's"}, {"X-Three": "server's"}

#: Of what a blank, a quote, a semicolon, … do to it on its way through commands, maps and files.
VALUES = [
    "DENY",
    "a b  c",
    "default-src 'self'; img-src *; report-uri /csp?a=1+2&b=%%20",
    "\"double\" 'single' \\backslash\\ \\\\n",
    "# no comment",
    "<<",
    "${HOME} $HOME %%[src] 100%% %%%%",
    "delete",
    "=",
    "a,b:c",
    "gr\u00fcn",
    "x" * 1900,
    "\u00fc" * 900,
    "\u00f6" * 900,
]


def files_of(web: WebStand) -> WebFiles:
    return WebFiles.beside(web.stand.settings.haproxy.state_file)


def actions(of: Headers) -> dict[str, Any]:
    """``httpHeaders`` of a spec; a name without a value is deleted."""
    made: dict[str, Any] = {
        messages: [
            {
                "name": name,
                "action": {"type": "Delete"}
                if value is None
                else {"type": "Set", "set": {"value": value}},
            }
            for name, value in headers.items()
        ]
        for messages, headers in of.items()
    }
    return {"httpHeaders": {"actions": made}}


def write(web: WebStand, server: NamedServer, of: Headers, **rest: Any) -> None:
    further = actions(of) if of else {}
    web.stand.write("web.yaml", *host_app("web", HOST, [server], further=further, **rest))


def made(make_stand: MakeStand, **settings: Any) -> WebStand:
    names = {"request": ["X-One", "X-Two"], "response": ["X-Three", "X-Four"]}
    return WebStand.make(make_stand, route_headers=names, **settings)


def serving(named: MakeNamed) -> NamedServer:
    lines = "".join(f"\r\n{name}: {value}" for name, value in SERVERS.items())
    return named("web", status=f"200 OK{lines}")


def asked(web: WebStand, *, secured: bool = False, body: str = "") -> Reply:
    lines = "".join(f"\r\n{name}: {value}" for name, value in CLIENTS.items())
    head = f"GET / HTTP/1.1\r\nHost: {HOST}{lines}{body}"
    if not secured:
        return ask_raw(web.http, head)
    with shake_hands(web.tls, HOST) as connection:
        return ask_over(connection, head)


def exchanged(
    web: WebStand, server: NamedServer, *, secured: bool = False
) -> dict[str, Sequence[str]]:
    """What the server gets of X-One and X-Two, and the client of X-Three and X-Four."""
    reply = asked(web, secured=secured)
    assert reply.status == 200
    got = fields(server.heads[-1]), fields(reply.head)
    return {
        name: got[of].get(name, [])
        for name, of in (("x-one", 0), ("x-two", 0), ("x-three", 1), ("x-four", 1))
    }


UNTOUCHED: dict[str, Sequence[str]] = {
    "x-one": ["client's"],
    "x-two": ["client's"],
    "x-three": ["server's"],
    "x-four": [],
}


@pytest.mark.parametrize("secured", [False, True])
def test_they_are_set_and_deleted(
    make_stand: MakeStand, named: MakeNamed, *, secured: bool
) -> None:
    steps: list[tuple[Headers, dict[str, list[str]]]] = [
        ({}, {}),
        ({"request": {"X-One": "1"}}, {"x-one": ["1"]}),
        ({"request": {"x-one": "2", "X-Two": None}}, {"x-one": ["2"], "x-two": []}),
        ({"response": {"X-Three": "3", "X-Four": "4"}}, {"x-three": ["3"], "x-four": ["4"]}),
        (
            {"request": {"X-Two": "2"}, "response": {"X-Three": None}},
            {"x-two": ["2"], "x-three": []},
        ),
        ({}, {}),
    ]
    web, server = made(make_stand), serving(named)
    with running(web.stand.daemon()) as daemon:
        for of, wanted in steps:
            write(web, server, of, termination="edge", insecure="Allow")
            await_(lambda: web.ended(HOST) == "web", "it is served")
            await_(
                lambda wanted=wanted: exchanged(web, server, secured=secured) == UNTOUCHED | wanted,
                f"{of}",
            )
            converged(daemon)


def test_each_value_arrives_as_it_is_written(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = made(make_stand), serving(named)

    def arrives(value: str) -> bool:
        got = exchanged(web, server)
        return got["x-one"] == got["x-four"] == [value]

    with running(web.stand.daemon()) as daemon:
        for text in VALUES:
            write(web, server, {"request": {"X-One": text}, "response": {"X-Four": text}})
            web.await_served(HOST, "web")
            await_(lambda text=text: arrives(text.replace("%%", "%")), repr(text[:80]))
            converged(daemon)
            (verdict,) = daemon._routing.verdicts()
            assert verdict.message == ""
        # All from the files, after HAProxy restarted alone.
        text = VALUES[2]
        write(web, server, {"request": {"X-One": text}, "response": {"X-Four": text}})
        value = text.replace("%%", "%")
        await_(lambda: arrives(value), "the last change")
        converged(daemon)
        for messages in MESSAGES:
            file = files_of(web).headers_map(messages)
            await_(lambda file=file: "default-src" in file.read_text(), "it is saved")
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert arrives(value)
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        web.stand.write("web.yaml")
        for messages in MESSAGES:
            asked = f"show map {files_of(web).headers_map(messages)}"
            await_(lambda asked=asked: not web.stand.client.ask(asked).strip(), "it goes")


def test_no_request_fails_or_misses_a_header_while_others_change(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, server = made(make_stand), serving(named)
    with running(web.stand.daemon()) as daemon:
        write(web, server, {"response": {"X-Four": "0; a b"}}, termination="edge")
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        with Asking(web, HOST) as asking:
            for number in range(1, 6):
                request: dict[str, str | None] = {"X-One": "x"} if number % 2 else {}
                of: Headers = {"response": {"X-Four": f"{number}; a b"}, "request": request}
                write(web, server, of, termination="edge")
                wanted = [f"{number}; a b"]
                # None is without: the value is replaced in one step.
                got: list[Sequence[str]] = []

                def is_there(got: list[Sequence[str]] = got, wanted: list[str] = wanted) -> bool:
                    got.append(exchanged(web, server, secured=True)["x-four"])
                    return got[-1] == wanted

                await_(is_there, f"change {number}")
                assert all(got)
                converged(daemon)
        assert set(asking.answers) == {"web"}


def test_a_large_header_fits_beside_a_large_answer_and_request(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = made(make_stand)
    server = named("web" * 100_000)
    large = "x" * 2026
    with running(web.stand.daemon()) as daemon:
        write(web, server, {"request": {"X-One": large}, "response": {"X-Four": large}})
        await_(lambda: asked(web).status == 200, "it is served")
        converged(daemon)
        await_(lambda: fields(asked(web).head).get("x-four") == [large], "it is told")
        filler = "\r\nX-Fill: " + "y" * 7000
        for head in (filler, filler * 2):
            reply = asked(web, body=head)
            assert reply.status == 200
            assert fields(server.heads[-1])["x-one"] == [large]


def test_what_others_change_is_repaired(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = made(make_stand), serving(named)
    of: Headers = {"request": {"X-One": "a b"}, "response": {"X-Three": None}}
    wanted = UNTOUCHED | {"x-one": ["a b"], "x-three": []}
    with running(web.stand.daemon()) as daemon:
        write(web, server, of)
        web.await_served(HOST, "web")
        await_(lambda: exchanged(web, server) == wanted, "it is told")
        converged(daemon)
        ask = web.stand.client.ask
        unit = ask(f"show map {files_of(web).routes_map}").strip().split(" ")[1]
        requests, responses = map(files_of(web).headers_map, MESSAGES)
        for command in (
            f"set map {requests} {unit}/x-one =other",
            f"clear map {requests}",
            f"add map {responses} {unit}/x-four =9",
            f"set map {responses} {unit}/x-three =%",
            f"del map {responses} {unit}/x-three",
        ):
            total = daemon.reconciler.history.total
            ask(command)
            await_(lambda total=total: daemon.reconciler.history.total > total, command)
            await_(lambda: exchanged(web, server) == wanted, "it is repaired")
            converged(daemon)
        # By hand, and with what no command of ours would have.
        with socket.socket(socket.AF_UNIX) as by_hand:
            by_hand.connect(web.stand.settings.haproxy.socket)
            by_hand.sendall(f'add map {requests} <<\n{unit}/x-two =a b\u00e9 "c\n\n'.encode())
            assert by_hand.recv(100).strip(b"+ \n") == b""
        total = daemon.reconciler.history.total
        write(web, server, {**of, "request": {"X-One": "c"}})
        await_(lambda: daemon.reconciler.history.total > total, "it goes on")
        await_(lambda: exchanged(web, server)["x-one"] == ["c"], "it is told")


def test_what_cannot_be_set_is_told_and_the_rest_holds(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, server = made(make_stand), serving(named)
    of: Headers = {
        "request": {"X-One": "1", "X-Two": "%[ssl_c_der,base64]", "Cookie": "a=b"},
        "response": {"X-Frame-Options": "DENY", "X-Four": "4"},
    }
    with running(web.stand.daemon()) as daemon:
        write(web, server, of)
        web.await_served(HOST, "web")
        await_(
            lambda: exchanged(web, server) == UNTOUCHED | {"x-one": ["1"], "x-four": ["4"]},
            "the rest holds",
        )
        converged(daemon)
        (verdict,) = daemon._routing.verdicts()
        request, response = (f"spec.httpHeaders.actions.{messages}" for messages in MESSAGES)
        for part in (
            f"{request}[1].action.set.value: '%[ssl_c_der,base64]' is an expression",
            f"{request}[2].name: 'Cookie' is not for Routes",
            f"{response}[0].name: 'X-Frame-Options' is not in web.route_headers.response of this",
        ):
            assert part in verdict.message


def test_passthrough_routes_are_told_that_they_have_none(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    web, server = made(make_stand), make_server("web")
    further = actions({"request": {"X-One": "1"}})
    objects = host_app("web", HOST, [server], termination="passthrough", further=further)
    web.stand.write("web.yaml", *objects)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.passed_to(HOST) == "web", "it is served")
        (verdict,) = daemon._routing.verdicts()
        assert verdict.message == "without effect here: spec.httpHeaders"


def test_a_router_without_names_has_no_rules(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, route_headers={"request": [], "response": []})
    config = web.stand.settings.haproxy.config.read_text()
    assert "txn.names" not in config
    assert "tune.maxrewrite" not in config
    write(web, serving(named), {"request": {"X-One": "1"}})
    with running(web.stand.daemon()):
        web.await_served(HOST, "web")
