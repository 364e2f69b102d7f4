"""Edge Routes with certificates of their own, end to end: what TLS clients are shown, and when."""

import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from by_host import Asking, MakeNamed, NamedServer, WebStand, ask_over, host_app
from cli import Result, run_cli
from cryptography import x509
from cryptography.x509.oid import NameOID
from handshake import shake_hands
from pki import CA, Issued, ecdsa_key, ed25519_key, rsa_key
from stand import MakeStand, await_, converged, running

from sidecar.cli.render import write_files

ROOT = CA.root()

#: Sooner a host does not get from one certificate to the other Route: it takes 15 ms or more.
AT_ONCE_SECONDS = 0.01


def tls_of(issued: Issued) -> Mapping[str, str]:
    return {"certificate": issued.pem, "key": issued.key_pem}


def app(
    name: str, host: str, server: NamedServer, issued: Issued | None = None, **rest: Any
) -> tuple[dict[str, Any], ...]:
    tls = tls_of(issued) if issued else {}
    return host_app(name, host, [server], termination="edge", tls=tls, **rest)


class Answered(NamedTuple):
    """``fingerprint``: of the certificate that was shown; ``by``: who answered, or the status;
    ``seconds``: how long it all took."""

    fingerprint: str
    by: str
    protocol: str | None
    seconds: float = 0.0


def fingerprint(issued: Issued) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.pem)).hexdigest()


def asked(web: WebStand, host: str, target: str = "/", sni: str | None = None) -> Answered:
    began = time.monotonic()
    with shake_hands(web.tls, sni or host, ["h2", "http/1.1"]) as secured:
        der = secured.getpeercert(binary_form=True) or b""
        protocol = secured.selected_alpn_protocol()
        if protocol == "h2":
            return Answered(hashlib.sha256(der).hexdigest(), "", protocol)
        reply = ask_over(secured, f"GET {target} HTTP/1.1\r\nHost: {host}")
    by = reply.body if reply.status == 200 else str(reply.status)
    seconds = time.monotonic() - began
    return Answered(hashlib.sha256(der).hexdigest(), by, protocol, seconds)


def await_shown(web: WebStand, host: str, issued: Issued) -> None:
    wanted = fingerprint(issued)
    await_(lambda: asked(web, host).fingerprint == wanted, f"{host} has its certificate")


def test_each_host_has_its_certificate(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, wildcards=True)
    one, two, any_ = ROOT.leaf("one.example"), ROOT.leaf("two.example"), ROOT.leaf("*.w.example")
    web.stand.write(
        "web.yaml",
        *app("one", "one.example", named("one"), one),
        *app("two", "two.example", named("two"), two),
        *app("any", "x.w.example", named("any"), any_, wildcard=True),
        *app("none", "none.example", named("none")),
    )
    with running(web.stand.daemon()) as daemon:
        for host, issued in (("one.example", one), ("two.example", two), ("y.w.example", any_)):
            await_shown(web, host, issued)
        converged(daemon)
        await_(lambda: web.ended("none.example") == "none", "it has the default certificate")
        assert web.ended("one.example") == "one"
        assert web.ended("y.w.example") == "any"
        # HTTP/2 for who has a certificate to itself.
        assert asked(web, "one.example").protocol == "h2"
        assert asked(web, "none.example").protocol == "http/1.1"
        shown = {asked(web, host).fingerprint for host in ("none.example", "unknown.example")}
        assert len(shown) == 1
        assert shown.isdisjoint(map(fingerprint, (one, two, any_)))
    # What a sidecar that comes later finds is right.
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0
        assert asked(web, "one.example").fingerprint == fingerprint(one)
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert asked(web, "two.example").fingerprint == fingerprint(two)
    assert web.ended("two.example") == "two"


def test_a_certificate_is_renewed_without_a_gap(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    first, second = ROOT.leaf("a.example"), ROOT.leaf("a.example")
    seen: list[str] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                seen.append(asked(web, "a.example").fingerprint)
            except OSError as exc:
                seen.append(repr(exc))

    web.stand.write("web.yaml", *app("web", "a.example", server, first))
    with running(web.stand.daemon()) as daemon:
        pid = web.stand.info().pid
        await_shown(web, "a.example", first)
        await_(lambda: web.ended("a.example") == "web", "it is served")
        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        try:
            for issued in (second, first, second):
                web.stand.write("web.yaml", *app("web", "a.example", server, issued))
                await_shown(web, "a.example", issued)
                assert web.ended("a.example") == "web"
        finally:
            stop.set()
            thread.join(20)
        converged(daemon)
        assert set(seen) == {fingerprint(first), fingerprint(second)}
        assert web.stand.info().pid == pid
        folder = web.stand.settings.haproxy.state_file.parent / "certificates"
        await_(lambda: len(list(folder.glob("*.pem"))) == 2, "the former one's file is gone")
        assert {path.stat().st_mode & 0o777 for path in folder.glob("*.pem")} == {0o640}
        web.stand.remove("web.yaml")
        await_(lambda: web.ended("a.example") == "503", "the Route is gone")
        await_(lambda: len(list(folder.glob("*.pem"))) == 1, "and its certificate")


def test_a_route_that_becomes_another_with_its_certificate_is_served_meanwhile(
    make_stand: MakeStand, named: MakeNamed, files: contextlib.ExitStack
) -> None:
    """By another backend, as its servers speak TLS now, and without what is in clear."""
    web = WebStand.make(make_stand)
    ca, server = CA.root(), named("web")
    secured = NamedServer("web", issued=ca.leaf("x.test"))
    files.callback(secured.close)
    edge: dict[str, Any] = {"termination": "edge", "insecure": "Allow"}
    reencrypt: dict[str, Any] = {"termination": "reencrypt", "insecure": "None"}
    web.stand.write(
        "web.yaml",
        *host_app("web", "a.example", [server], tls=tls_of(ROOT.leaf("a.example")), **edge),
    )
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended("a.example") == "web", "it is served")
        converged(daemon)
        with Asking(web, "a.example") as asking:
            for number in range(6):
                issued = ROOT.leaf("a.example")
                of, at = (edge, server) if number % 2 else (reencrypt, secured)
                tls = {
                    **tls_of(issued),
                    **({} if number % 2 else {"destinationCACertificate": ca.pem}),
                }
                web.stand.write("web.yaml", *host_app("web", "a.example", [at], tls=tls, **of))
                await_shown(web, "a.example", issued)
                converged(daemon)
        assert set(asking.answers) == {"web"}


def test_a_route_without_its_certificate_has_the_default_one(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, server, issued = WebStand.make(make_stand), named("web"), ROOT.leaf("a.example")
    default = asked(web, "unknown.example").fingerprint
    with running(web.stand.daemon()) as daemon:
        for _ in range(2):
            web.stand.write("web.yaml", *app("web", "a.example", server, issued))
            await_shown(web, "a.example", issued)
            await_(lambda: web.ended("a.example") == "web", "it is served")
            web.stand.write("web.yaml", *app("web", "a.example", server))
            await_(lambda: asked(web, "a.example").fingerprint == default, "the default one")
            assert web.ended("a.example") == "web"
        converged(daemon)


def test_a_bad_certificate_is_refused_and_nobody_else_notices(
    make_stand: MakeStand, named: MakeNamed, caplog: pytest.LogCaptureFixture
) -> None:
    web, good = WebStand.make(make_stand), ROOT.leaf("good.example")
    other = ROOT.leaf("bad.example")
    bad = host_app(
        "bad",
        "bad.example",
        [named("bad")],
        termination="edge",
        tls={"certificate": good.pem, "key": other.key_pem},
    )
    web.stand.write("web.yaml", *bad, *app("good", "good.example", named("good"), good))
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "good.example", good)
        await_(lambda: web.ended("good.example") == "good", "it is served")
        converged(daemon)
        (verdict,) = (item for item in daemon._routing.verdicts() if item.route.name == "bad")
        assert verdict.reason == "ExtendedValidationFailed"
        assert "spec.tls.key" in verdict.message
        assert web.ended("bad.example") == "503"
    secret = other.key_pem.splitlines()[1]
    assert secret not in caplog.text
    assert secret not in verdict.message


def test_a_host_that_changes_hands_has_the_new_ones_certificate_first(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    issued = {name: ROOT.leaf("a.example") for name in ("one", "two")}
    of = {fingerprint(item): name for name, item in issued.items()}
    servers = {name: named(name) for name in issued}
    judged: list[Answered] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                answer = asked(web, "a.example")
                # One who is slow may ask after the host changed hands, by an older connection.
                if answer.seconds < AT_ONCE_SECONDS:
                    judged.append(answer)

    # Both have the certificate of the other as well, so neither has HTTP/2.
    def apps(name: str) -> None:
        own = app(name, "a.example", servers[name], issued[name], namespace=name)
        web.stand.write("web.yaml", *own, *app("b", "b.example", servers[name], issued[name]))

    with running(web.stand.daemon()) as daemon:
        apps("one")
        await_(lambda: web.ended("a.example") == "one", "the first has it")
        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        try:
            for name in ("two", "one", "two", "one"):
                apps(name)
                await_(lambda name=name: web.ended("a.example") == name, f"{name} has it")
                assert of[asked(web, "a.example").fingerprint] == name
        finally:
            stop.set()
            thread.join(20)
        converged(daemon)
    assert [item for item in judged if item.by not in ("", "503", of[item.fingerprint])] == []
    assert {item.by for item in judged} >= {"one", "two"}


def test_a_haproxy_on_an_older_configuration_serves_what_it_can(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    config = web.stand.settings.haproxy.config
    web.stand.stop_haproxy()
    list_file = web.stand.settings.haproxy.state_file.parent / "certificates" / "crt-list"
    config.write_text(config.read_text().replace(f'crt-list "{list_file}"', ""))
    web.stand.start_haproxy()
    issued = ROOT.leaf("a.example")
    web.stand.write(
        "web.yaml",
        *app("a", "a.example", named("a"), issued),
        *app("none", "none.example", named("none")),
        *host_app("plain", "plain.example", [named("plain")]),
    )
    with running(web.stand.daemon()) as daemon:
        web.await_served("plain.example", "plain")
        await_(lambda: web.ended("none.example") == "none", "what needs no certificate is served")

        def verdict() -> tuple[str, str]:
            (found,) = (item for item in daemon._routing.verdicts() if item.route.name == "a")
            return found.reason, found.message

        await_(lambda: verdict()[0] == "ExtendedValidationFailed", "the Route is told")
        assert "render haproxy.cfg" in verdict()[1]
        assert web.ended("a.example") == "503"


def test_whoever_meddles_with_certificates_is_put_right(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    issued, other = ROOT.leaf("a.example"), ROOT.leaf("a.example")
    web.stand.write("web.yaml", *app("a", "a.example", named("a"), issued))
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "a.example", issued)
        await_(lambda: web.ended("a.example") == "a", "it is served")
        converged(daemon)
        folder = web.stand.settings.haproxy.state_file.parent / "certificates"
        (name,) = (path for path in folder.glob("*.pem") if path.name != "default.pem")
        client = web.stand.client
        pem = f"{other.pem}{other.key_pem}".replace("\n\n", "\n").strip()
        for commands in (
            [f"set ssl cert {name} <<\n{pem}\n", f"commit ssl cert {name}"],
            [f"set ssl cert {name} <<\n{pem}\n"],
            [f"del ssl crt-list {folder / 'crt-list'} {name}"],
        ):
            with socket.socket(socket.AF_UNIX) as by_hand:
                by_hand.connect(web.stand.settings.haproxy.socket)
                by_hand.sendall(f"{commands[0]}\n".encode())
                by_hand.recv(4096)
            for command in commands[1:]:
                client.ask(command)
            await_shown(web, "a.example", issued)
            await_(lambda: "# transaction" not in client.ask("show ssl cert"), "none is left open")
            assert web.ended("a.example") == "a"


def test_a_certificate_whose_name_would_end_a_reply_is_refused(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, server = WebStand.make(make_stand), named("web")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x\n> y")])
    bad, good = ROOT.leaf("bad.example", subject=name), ROOT.leaf("good.example")
    shared = ROOT.leaf("shared.example")
    web.stand.write(
        "web.yaml",
        *app("bad", "bad.example", server, bad),
        *app("good", "good.example", server, good),
        # The oldest with a certificate decides for the host, and that of this one is no good.
        *app("first", "shared.example", server, bad, created="2020-01-01T00:00:00Z"),
        *app("second", "shared.example", server, shared, path="/a"),
    )
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "good.example", good)

        def message() -> str:
            (found,) = (item for item in daemon._routing.verdicts() if item.route.name == "bad")
            return str(found.message)

        await_(lambda: "control character" in message(), "its author is told")
        await_shown(web, "shared.example", shared)
        assert web.ended("bad.example") == "503"
        await_(lambda: web.ended("good.example") == "web", "nobody else notices")


def test_a_sidecar_is_not_ready_before_its_certificates_are_served(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    count = 40
    web, server = (
        WebStand.make(make_stand, backends={"http": count, "passthrough": 1}),
        named("web"),
    )
    hosts = [f"h{number}.example" for number in range(count)]
    apps = [item for host in hosts for item in app(host[:-8], host, server, ROOT.leaf(host))]
    web.stand.write("all.yaml", *apps)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: not daemon.ready(), "it is ready", every_seconds=0.0002)
        assert [web.ended(host) for host in hosts] == ["web"] * count


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "{file} a.example"),
        ("", "{file} a.example"),
        ("garbage", "{file} a.example"),
        ("key", "{file} a.example"),
        ("good", "{file} [nonsense x] a.example"),
        ("good", "{file} [alpn h2 a.example"),
        ("good", "{file}"),
        ("good", "nonsense"),
        ("good", "\xff\x00"),
    ],
)
def test_a_line_that_would_keep_haproxy_from_starting_goes_when_it_is_rendered(
    make_stand: MakeStand, named: MakeNamed, content: str | None, line: str
) -> None:
    web, good, bad = WebStand.make(make_stand), ROOT.leaf("good.example"), ROOT.leaf("a.example")
    web.stand.write("web.yaml", *app("good", "good.example", named("good"), good))
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "good.example", good)
        await_(lambda: web.ended("good.example") == "good", "it is served")
        converged(daemon)
        folder = web.stand.settings.haproxy.state_file.parent / "certificates"
        await_(lambda: "good.example" in (folder / "crt-list").read_text(), "it is saved")
    web.stand.stop_haproxy()
    file = folder / "bad.pem"
    texts = {"garbage": "garbage", "key": bad.key_pem, "good": bad.pem + bad.key_pem, "": ""}
    if content is not None:
        file.write_text(texts[content])
    with (folder / "crt-list").open("a", encoding="latin-1") as crt_list:
        crt_list.write(line.format(file=file))
    write_files(web.stand.settings, web.stand.settings.haproxy.config)
    web.stand.start_haproxy()
    assert asked(web, "good.example").fingerprint == fingerprint(good)
    assert web.ended("good.example") == "good"


def test_plan_tells_of_certificates(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    ours = ("-c", web.stand.settings_file)
    first, second, other = (ROOT.leaf(host) for host in ("a.example", "a.example", "b.example"))

    def plan(*more: str) -> Result:
        found = run_cli("plan", *more, *ours)
        assert "PRIVATE" not in f"{found.out}{found.err}"
        assert not any(line in found.out for line in first.key_pem.splitlines()[1:-1])
        return found

    web.stand.write("web.yaml", *app("web", "a.example", server, first))
    # The servers come at once, the entries with the certificate.
    told = plan()
    assert told.code == 0
    (line, *commands) = told.out.splitlines()
    assert line.startswith("# certificate for a.example: CN=")
    assert line.endswith(" is loaded")
    assert not [command for command in commands if "1a.example" in command]
    waits = [item for item in told.err.splitlines() if item.startswith("later: add map ")]
    assert len(waits) == 2
    assert all("1a.example" in item for item in waits)
    assert all(item.endswith(", when HAProxy serves the certificate") for item in waits)
    assert plan() == told, "it changes nothing"
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "a.example", first)
        converged(daemon)
        assert plan() == (0, "", "nothing to do: HAProxy has converged\n")
        # Why its entries came.
        entries = daemon.reconciler.history.entries()
        causes = {item.causes for item in entries if "1a.example" in item.command}
        assert causes == {("HAProxy serves the certificate of a.example",)}
        for subject in ("a.example", "demo/web"):
            listed = run_cli("history", subject, *ours).out
            assert "1a.example/" in listed
            assert "HAProxy serves the certificate of a.example" in listed
        whole = json.loads(run_cli("history", "a.example", "--json", *ours).out)
        times = [item["at_seconds"] for item in whole["entries"]]
        assert times == sorted(times, reverse=True)
        assert whole["operations_total"] == daemon.reconciler.history.total
        for subject in ("b.example", "http://a.example", "70000000", "-1", ""):
            nobody = run_cli("history", *ours, "--", subject)
            assert nobody.code == 2
            assert "is not served; write a port, NAMESPACE/ROUTE or a host" in nobody.err
    web.stand.write(
        "web.yaml", *app("web", "a.example", server, second), *app("b", "b.example", server, other)
    )
    out = plan().out.splitlines()
    assert out[0].startswith("# certificate for a.example: CN=")
    assert f" replaces the one with serial number {serial(first)}" in out[0]
    assert out[1].startswith("# certificate for b.example: CN=")
    shown = plan("--diff").out
    assert shown.startswith(f"certificate for a.example\n- serial number {serial(first)}\n+ CN=")
    web.stand.remove("web.yaml")
    told = plan()
    assert f"# certificate for a.example: serial number {serial(first)} goes\n" in told.out
    assert asked(web, "a.example").fingerprint == fingerprint(first), "it changes nothing"


def serial(issued: Issued) -> str:
    """As HAProxy has it."""
    number = f"{x509.load_pem_x509_certificate(issued.pem.encode()).serial_number:X}"
    return number.zfill(len(number) + len(number) % 2)


@pytest.mark.parametrize("kinds", ["RSA below ECDSA", "ECDSA below RSA", "Ed25519 below RSA"])
def test_a_host_has_its_certificate_whatever_its_wildcard_has(
    make_stand: MakeStand, named: MakeNamed, kinds: str
) -> None:
    keys: dict[str, Any] = {"RSA": rsa_key(), "ECDSA": ecdsa_key(), "Ed25519": ed25519_key()}
    own_key, its_key = (keys[name] for name in kinds.split(" below "))
    web, server = WebStand.make(make_stand, wildcards=True), named("web")
    of_all = [ROOT.leaf("*.w.example", key=its_key) for _ in range(2)]
    own = [ROOT.leaf("b.w.example", key=own_key), ROOT.leaf("b.w.example", key=ecdsa_key())]

    def write(wildcard: Issued, host: Issued | None) -> None:
        web.stand.write(
            "web.yaml",
            *app("any", "x.w.example", server, wildcard, wildcard=True),
            *(app("b", "b.w.example", server, host) if host else ()),
        )

    write(of_all[0], None)
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "b.w.example", of_all[0])
        for wildcard, host in [
            (of_all[0], own[0]),
            (of_all[1], own[0]),
            (of_all[1], own[1]),
            (of_all[0], own[0]),
        ]:
            write(wildcard, host)
            await_shown(web, "b.w.example", host)
            await_shown(web, "c.w.example", wildcard)
            await_(lambda: web.ended("b.w.example") == "web", "it is served")
            converged(daemon)
    web.stand.stop_haproxy()
    write_files(web.stand.settings, web.stand.settings.haproxy.config)
    web.stand.start_haproxy()
    assert asked(web, "b.w.example").fingerprint == fingerprint(own[0])
    assert asked(web, "c.w.example").fingerprint == fingerprint(of_all[0])
