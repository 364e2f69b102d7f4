"""What servers are told of the client: by the settings, and by Routes that say otherwise."""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

import pytest
from by_host import MakeNamed, NamedServer, WebStand, ask_over, ask_raw, fields, host_app
from handshake import shake_hands
from pki import CA
from stand import MakeStand, await_, converged, running

from sidecar.haproxy.web_files import WebFiles

ANNOTATION = "haproxy.router.openshift.io/set-forwarded-headers"
WAYS = ("append", "replace", "if-none", "never")
HOST = "a.example"
ONE = CA.root("one")

#: What a client says of itself.
OWN = {
    "X-Forwarded-For": "9.9.9.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "7",
    "X-Forwarded-Proto": "gopher",
    "Forwarded": "for=x",
}

#: What CGI takes for the same, and what the router says of HTTP/2 alone.
ALIKE = (
    *("X_Forwarded_For", "X-Forwarded_For", "X_Forwarded-For", "X-Forwarded_Proto"),
    *("X_Forwarded-Proto-Version", "X-Forwarded-Proto-Version", "x-forwarded-proto_version"),
)


def sent(
    web: WebStand,
    server: NamedServer,
    own: Mapping[str, str],
    *,
    secured: bool = False,
    host: str = HOST,
) -> dict[str, list[str]]:
    """The headers that the server gets of a client with its ``own``."""
    lines = "".join(f"\r\n{name}: {value}" for name, value in own.items())
    head = f"GET / HTTP/1.1\r\nHost: {host}:81{lines}"
    if secured:
        with shake_hands(web.tls, host) as connection:
            assert ask_over(connection, head).status == 200
    else:
        assert ask_raw(web.http, head).status == 200
    return fields(server.heads[-1])


def write(web: WebStand, server: NamedServer, way: str | None, termination: str = "") -> None:
    wish = {ANNOTATION: way} if way else {}
    app = host_app("web", HOST, [server], annotations=wish, termination=termination)
    web.stand.write("web.yaml", *app)


@pytest.mark.parametrize("setting", WAYS)
def test_servers_are_told_of_the_client(
    make_stand: MakeStand, named: MakeNamed, setting: str
) -> None:
    """Every annotation, with another one beside it and without, where TLS goes on and where not."""
    web = WebStand.make(
        make_stand,
        forwarded_headers=setting,
        backends={"http": 6, "reencrypt": 6},
        route_headers={"request": ["X-One"], "response": []},
    )
    servers = {"edge": named("edge"), "reencrypt": named("reencrypt", issued=ONE.leaf("x.test"))}
    actions = [{"name": "X-One", "action": {"type": "Set", "set": {"value": "1"}}}]
    hosts = {
        f"{way or 'none'}.{termination}.example": (way, termination)
        for way in (None, *WAYS)
        for termination in servers
    }
    objects: list[dict[str, Any]] = []
    for host, (way, termination) in hosts.items():
        app = host_app(
            host.replace(".", "-"),
            host,
            [servers[termination]],
            termination=termination,
            insecure="Allow",
            tls={"destinationCACertificate": ONE.pem} if termination == "reencrypt" else {},
            annotations={ANNOTATION: way} if way else {},
        )
        if termination == "reencrypt":
            app[0]["spec"]["httpHeaders"] = {"actions": {"request": actions}}
        objects += app
    web.stand.write("web.yaml", *objects)
    with running(web.stand.daemon()) as daemon:
        for host, (_, termination) in hosts.items():
            await_(lambda h=host, t=termination: web.ended(h) == t, f"{host} is served")
        converged(daemon)
        for host, (way, termination) in hosts.items():
            for own in (OWN, {}):
                for secured in (False, True):
                    got = sent(web, servers[termination], own, secured=secured, host=host)
                    found = {name: got[name] for name in map(str.lower, OWN) if name in got}
                    at = web.tls if secured else web.http
                    wanted = told(way or setting, own, host, at, secured=secured)
                    assert found == wanted, (host, own, secured)


def told(
    way: str, own: Mapping[str, str], host: str, at: tuple[str, int], *, secured: bool
) -> dict[str, list[str]]:
    """What a server is to get. ``at``: where the client connected to."""
    proto = "https" if secured else "http"
    client = "127.0.0.1"
    ours = {
        "x-forwarded-for": [client],
        "x-forwarded-host": [f"{host}:81"],
        "x-forwarded-port": [str(at[1])],
        "x-forwarded-proto": [proto],
        "forwarded": [f"for={client};host={host}:81;proto={proto}"],
    }
    theirs = {name.lower(): [value] for name, value in own.items()}
    if way == "append":
        return {name: theirs.get(name, []) + value for name, value in ours.items()}
    return {"replace": ours, "if-none": ours | theirs, "never": theirs}[way]


def test_the_settings_say_what_a_route_does_not(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand, forwarded_headers="never"), named("web")

    def is_told() -> bool:
        return "x-forwarded-for" in sent(web, server, {})

    with running(web.stand.daemon()) as daemon:
        write(web, server, None)
        web.await_served(HOST, "web")
        converged(daemon)
        assert not is_told()
        write(web, server, "append")
        await_(is_told, "the Route says it")
        write(web, server, None)
        await_(lambda: not is_told(), "it does not any more")


def test_an_ipv6_address_is_quoted_where_it_has_to_be(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, server = WebStand.make(make_stand), named("web")
    write(web, server, None, termination="edge")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(
                str(WebFiles.beside(web.stand.settings.haproxy.state_file).termination)
            )
            connection.sendall(b"PROXY TCP6 2001:db8::1 2001:db8::2 1024 443\r\n")
            with context.wrap_socket(connection, server_hostname=HOST) as secured:
                assert ask_over(secured, f"GET / HTTP/1.1\r\nHost: {HOST}").status == 200
    got = fields(server.heads[-1])
    assert got["x-forwarded-for"] == ["2001:db8::1"]
    assert got["forwarded"] == [f'for="[2001:db8::1]";host={HOST};proto=https']
    assert got["x-forwarded-port"] == ["443"]


def test_a_host_does_not_say_what_the_router_says(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    write(web, server, "replace")
    with running(web.stand.daemon()) as daemon:
        web.await_served(HOST, "web")
        converged(daemon)
        asked = len(server.heads)
        for host in (f"{HOST}:80;for=192.0.2.1", f'{HOST}:80";proto=https'):
            assert ask_raw(web.http, f"GET / HTTP/1.1\r\nHost: {host}").status == 400
        assert len(server.heads) == asked
        got = sent(web, server, dict.fromkeys(ALIKE, "192.0.2.1"))
        assert not got.keys() & set(map(str.lower, ALIKE))
