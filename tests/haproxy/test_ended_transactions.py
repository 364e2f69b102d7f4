"""A client that goes away in the middle of a transaction, and the next one, which finds it.

HAProxy frees what a commit was about whose client is gone before it is done, and remembers it all
the same: to abort that, or for CA files to show it, kills it. `sidecar.haproxy.protocol` and
`sidecar.control.commit_mark` say how that is avoided.
"""

import contextlib
import random
import socket
import threading

import pytest
from by_host import MakeNamed, NamedServer, WebStand, host_app
from cli import run_cli
from pki import CA, issue
from relay import Relay
from stand import MakeStand, Stand, await_, await_told, converged, running
from terminating import Terminating

from sidecar.common.errors import RuntimeAPIError
from sidecar.control.commit_mark import REMEDY, CommitMark
from sidecar.haproxy.certificates import Set, ask_begun, is_locked, parse_begun
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.web_files import WebFiles

ROUNDS = 100


def test_no_client_that_goes_away_takes_haproxy_with_it(tls: Terminating) -> None:
    relay = Relay(tls.stand.folder / "relay.sock", tls.stand.settings.haproxy.socket)
    dice, before = random.Random(1), tls.stand.info().identity
    made = [issue(f"h{number}.test") for number in range(12)]
    hosts = {f"h{number}.test": item for number, item in enumerate(made)}

    def write() -> None:
        with RuntimeClient(relay.path) as client, contextlib.suppress(RuntimeAPIError):
            tls.write(tls.writer(client), hosts)

    with contextlib.closing(relay):
        for _ in range(ROUNDS):
            passed = len(relay.commands) + dice.randrange(1, 50)
            writing = threading.Thread(target=write)
            writing.start()
            await_(lambda: len(relay.commands) >= passed or not writing.is_alive(), "some")  # noqa: B023
            relay.set_mode("pass")
            writing.join(10)
            # Commands of the one before may still be under way.
            await_(lambda: not tls.write(tls.writer(), {}).failures, "all is taken away")
            assert tls.stand.info().identity == before


ROOT = CA.root()
HOST = "a.example"


def unlocked(client: RuntimeClient) -> str:
    """What HAProxy says of its transaction; "" while it carries one out."""
    reply = client.ask(ask_begun("ca-file"))
    return "" if is_locked(reply) else reply


def interrupted(stand: Stand, file: str, marks: CommitMark) -> None:
    """A sidecar died while HAProxy carried out its commit."""
    with RuntimeClient(stand.settings.haproxy.socket) as client:
        for number in range(200):
            client.apply([Set("ca-file", file, CA.root(f"x{number}").pem.encode().rstrip())])
            marks.begin("ca-file")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(stand.settings.haproxy.socket)
                connection.sendall(f"commit ssl ca-file {file}\n".encode())
            if parse_begun(await_(lambda: unlocked(client), "HAProxy is done with it")):
                return
    raise AssertionError("every commit was carried out")


def test_a_long_commit_that_was_interrupted_is_not_touched(
    make_stand: MakeStand,
    named: MakeNamed,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backends = {"http": 2, "reencrypt": 1, "passthrough": 1}
    web = WebStand.make(make_stand, backends=backends, slots=200)
    state_file = web.stand.settings.haproxy.state_file
    file = str(WebFiles.beside(state_file).authority(web_backend_name("reencrypt", 1)))
    before = web.stand.info().identity
    interrupted(web.stand, file, CommitMark(state_file))
    secured = NamedServer("secured", issued=ROOT.leaf("x.test"))
    files.callback(secured.close)
    tls = {"destinationCACertificate": ROOT.pem}
    web.stand.write("re.yaml", *host_app("re", HOST, [secured], termination="reencrypt", tls=tls))
    web.stand.write("web.yaml", *host_app("web", "b.example", [named("web")]))
    planned = run_cli("plan", "-c", web.stand.settings_file)
    assert f"problem: CA file {file}: {REMEDY}" in planned.err
    assert "ssl ca-file" not in planned.out
    assert list(state_file.parent.glob("committing-*")), "who looks changes nothing"
    with running(web.stand.daemon()) as daemon:
        web.await_served("b.example", "web")
        await_told(caplog, REMEDY)
        assert web.ended(HOST) == "503"
        assert web.stand.info().identity == before
        # What somebody restarts has none.
        web.stand.stop_haproxy()
        web.stand.start_haproxy()
        await_(lambda: web.ended(HOST) == "secured", "it is served")
        converged(daemon)
    assert not list(state_file.parent.glob("committing-*"))
